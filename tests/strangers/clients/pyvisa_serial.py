"""pyvisa alone talks to the supply on its serial line: ADDRESS."""

import json
import sys
import time

import pyvisa
from pyvisa import constants

manager = pyvisa.ResourceManager()
answers = {}
with manager.open_resource(
    sys.argv[1],
    baud_rate=9600,
    stop_bits=constants.StopBits.two,
    flow_control=constants.ControlFlow.dtr_dsr,
    read_termination="\r\n",
    write_termination="\n",
    timeout=60000,
) as supply:
    supply.write("VOLT 3")
    answers["local"] = supply.query("SYST:ERR?")
    supply.write("SYST:REM")
    supply.write("APPL 9.5,1.25")
    supply.write("OUTP ON")
    time.sleep(0.3)
    for name, query in (("idn", "*IDN?"), ("applied", "APPL?"), ("measured_v", "MEAS:VOLT?"), ("on", "OUTP?")):
        answers[name] = supply.query(query)
    supply.write("SYST:LOC")
    answers["error"] = supply.query("SYST:ERR?")
manager.close()
print(json.dumps(answers))
