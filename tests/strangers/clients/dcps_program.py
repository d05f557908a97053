"""dcps sets the supply, switches it on and measures, as its own example does: ADDRESS."""

import contextlib
import io
import json
import sys

from dcps import KeysightE364xA

supply = KeysightE364xA(sys.argv[1], gaddr=5)
with contextlib.redirect_stdout(io.StringIO()) as greeting:
    supply.open()
supply.setVoltageProtection(13.5)
supply.setCurrent(1.5)
supply.setVoltage(11.25)
supply.outputOn()
answers = {
    "greeting": greeting.getvalue().strip(),
    "idn": supply.idn(),
    "on": supply.isOutputOn(1),
    "voltage_v": supply.queryVoltage(),
    "current_a": supply.queryCurrent(),
    "measured_v": supply.measureVoltage(),
    "measured_a": supply.measureCurrent(),
}
supply.setLocal()
supply.close()
print(json.dumps(answers))
