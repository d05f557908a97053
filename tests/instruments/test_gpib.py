"""GPIB without an adapter: pyvisa-py over a stand-in for linux-gpib's modules, and what is said when there are none.

pyvisa-py looks for linux-gpib once, when it is imported: each program here is one of its own.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
ROOT = HERE.parents[1]

DRIVE = """
import json, sys
from instruments.e3645a import E3645A, SupplyLimits
from instruments.errors import LinkError, LinkTimeout
from instruments.link import Link

link = Link.open("supply", ["GPIB0::5::INSTR"])
supply = E3645A(link, SupplyLimits(13.0, 2.2, 14.0))
said = {"identity": str(supply.expect_identity(serial="0")), "serial": supply.is_serial}
supply.set_ovp(13.5)
supply.set_range("P35V")
said["applied"] = supply.apply(12.0, 2.0)
supply.output(True)
said["settled"] = supply.wait_settled()
said["mode"] = supply.mode()
supply.set_relay(True)
try:
    link.query("NONSENSE?", 0.1)
except LinkTimeout as error:
    said["queue"] = error.queue
said["again"] = str(supply.identity())
supply.safe_off()
said["local"] = supply.local()
said["errors"] = [str(e) for e in supply.errors()]
link.close()
try:
    Link.open("other", ["GPIB0::6::INSTR"]).query("*IDN?", 0.1)
except LinkError as error:
    said["nobody"] = str(error)
print(json.dumps(said))
"""


def program(code: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run a program of its own at the project's root."""
    return subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=200,
        env={**os.environ, **environment},
    )  # fmt: skip


def test_the_supply_on_a_gpib_board(tmp_path: Path) -> None:
    log = tmp_path / "bus"
    path = os.pathsep.join([str(HERE / "gpib_board"), str(ROOT)])
    done = program(DRIVE, PYTHONPATH=path, GPIB_LOG=str(log))
    assert done.returncode == 0, done.stderr
    said: dict[str, Any] = json.loads(done.stdout)
    assert said["identity"] == "Agilent Technologies,E3645A,0,1.4-5.0-1.0"
    assert said["serial"] is False
    assert said["applied"] == [12.0, 2.0]
    assert abs(said["settled"] - 12.0) < 0.03
    assert said["mode"] == "CV"
    assert said["queue"]
    assert said["queue"][0].startswith("-113")
    assert said["again"] == said["identity"]
    assert said["local"] is True
    assert said["errors"] == []
    assert "nobody" in said
    happened = [json.loads(line) for line in log.read_text().splitlines()]
    assert happened[0] == "*IDN?\n", "opening sends nothing"
    assert "<SDC>" in happened
    assert "<GTL>" in happened
    assert not any("SYST" in what.upper() and "REM" in what.upper() for what in happened)
    assert not any(what.startswith("<command") for what in happened)


def test_a_board_without_its_library_is_one_clear_line() -> None:
    code = "from instruments.link import Link; Link.open('supply', ['GPIB0::5::INSTR'])"
    done = program(code)
    (line,) = done.stderr.strip().splitlines()[-1:]
    for part in ("supply (GPIB0::5::INSTR)", "could not connect", "INTFC", "linux-gpib", "vendor's VISA library"):
        assert part in line
