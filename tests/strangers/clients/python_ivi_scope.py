"""python-ivi's driver of the model sets CHAN1 up, forces a capture and fetches it over VXI-11: ADDRESS OUT.npz.

It is given no port: python-vxi11 asks the portmapper at port 111.
"""

import json
import sys
import time

import numpy as np
from ivi.agilent.agilentMSOX2024A import agilentMSOX2024A

address, out = sys.argv[1:]
scope = agilentMSOX2024A(address, id_query=True)
channel = scope.channels["channel1"]
channel.coupling, channel.bw_limit, channel.invert = "dc", True, False
scope.trigger.type, scope.trigger.source = "edge", "channel1"
scope.trigger.edge.slope, scope.trigger.coupling = "positive", "dc"
scope.acquisition.type = "high_resolution"
scope.measurement.initiate()  # a digitize: the sweep is automatic
time.sleep(0.3)
wave = np.array(channel.measurement.fetch_waveform())
names = ("voltage_average", "voltage_peak_to_peak", "voltage_max", "voltage_min")
said = {
    "range": channel.range,
    "probe": channel.probe_attenuation,
    "window_s": scope.timebase.range,
    "type": scope.acquisition.type,
    "setup": len(scope.system.fetch_setup()),
    "measured": {name: channel.measurement.fetch_waveform_measurement(name) for name in names},
    "picture": scope.display.fetch_screenshot("png")[:8].hex(),
    "error": scope.utility.error_query()[0],
}
np.savez(out, time=wave[:, 0], values=wave[:, 1])
scope.close()
print(json.dumps(said))
