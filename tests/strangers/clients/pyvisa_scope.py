"""pyvisa alone reads CHAN1 in WORD as it stands on the scope: OUT.npz ADDRESS..."""

import json
import sys

import numpy as np
import pyvisa

out, *addresses = sys.argv[1:]
manager = pyvisa.ResourceManager()
found, codes = [], []
for address in addresses:
    with manager.open_resource(address, open_timeout=60000, timeout=60000) as scope:
        identity = scope.query("*IDN?").strip()
        for command in ("SOUR CHAN1", "FORM WORD", "BYT MSBF", "UNS 1", "POIN:MODE RAW", "POIN MAX"):
            scope.write(f":WAV:{command}")
        preamble = scope.query(":WAV:PRE?").strip()
        codes.append(scope.query_binary_values(":WAV:DATA?", "H", is_big_endian=True, container=np.array))
        scope.write(":NONSENSE")
        found.append({"identity": identity, "preamble": preamble, "error": scope.query(":SYST:ERR?").strip()})
        scope.clear()
        assert scope.query("*OPC?").strip() == "1"
manager.close()
np.savez(out, codes=np.array(codes))
print(json.dumps(found))
