"""pymeasure's DSOX1102G digitizes CHAN1 and downloads it: ADDRESS OUT.npz POINTS."""

import json
import sys

import numpy as np
from pymeasure.instruments.keysight import KeysightDSOX1102G

address, out, points = sys.argv[1:]
scope = KeysightDSOX1102G(address, visa_library="@py", read_termination="\n", write_termination="\n")
scope.digitize("channel1")
values, preamble = scope.download_data("channel1", int(points))
np.savez(out, values=values)
print(json.dumps({"preamble": preamble, "channel": scope.ch1.current_configuration, "timebase": scope.timebase}))
scope.adapter.close()
