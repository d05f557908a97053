"""keyoscacquire takes traces of some channels and saves them: ADDRESS OUT.npz CHANNEL..."""

import json
import sys

import keyoscacquire
import numpy as np

address, out, *channels = sys.argv[1:]
with keyoscacquire.Oscilloscope(address, timeout=60000, verbose=False) as scope:
    time, values, taken = scope.get_trace([int(channel) for channel in channels])
    np.savez(out, time=time[:, 0], values=values.T)
    print(json.dumps({"model": scope._model, "serial": scope._serial, "channels": taken}))
