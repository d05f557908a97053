"""python-vxi11 alone reads CHAN1 as it stands, in pieces, with status byte, lock, abort and clear: HOST OUT.npz."""

import json
import sys
import threading

import numpy as np
import vxi11

host, out = sys.argv[1:]
scope = vxi11.Instrument(host)
scope.timeout = 20
identity = scope.ask("*IDN?")
for command in ("SOUR CHAN1", "FORM WORD", "BYT MSBF", "UNS 1", "POIN:MODE RAW", "POIN MAX"):
    scope.write(f":WAV:{command}")
preamble = scope.ask(":WAV:PRE?")
scope.write(":WAV:DATA?")
available = scope.read_stb() & 16
block = scope.read_raw()
codes = np.frombuffer(block[10:-1], ">u2")

other = vxi11.Instrument(host)
other.lock_timeout = 0
scope.lock()
try:
    other.ask("*OPC?")
    locked = 0
except vxi11.vxi11.Vxi11Exception as error:
    locked = error.err
scope.unlock()

scope.write(":TRIG:SWE NORM;:DIG;*OPC?")
threading.Timer(0.1, scope.abort).start()
try:
    scope.read_raw()
    aborted = 0
except vxi11.vxi11.Vxi11Exception as error:
    aborted = error.err
scope.clear()
state = scope.ask(":RST?")
np.savez(out, codes=codes)
print(
    json.dumps(
        {
            "identity": identity,
            "preamble": preamble,
            "available": available,
            "header": block[:10].decode(),
            "locked": locked,
            "aborted": aborted,
            "state": state,
            "found": host in vxi11.list_devices(host),
        }
    )
)
