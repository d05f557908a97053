"""VISA libraries other than pyvisa-py: how one is chosen, one that is missing, and one that behaves as vendors' do."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from instruments.e3645a import E3645A, SupplyLimits
from instruments.errors import ConfigError, LinkError, LinkTimeout, ProtocolError
from instruments.ieee488 import write_block
from instruments.link import Link, check_library, prologix
from instruments.link.message_port import MessagePort
from instruments.simulated.station import Station
from tests.sweeps import ROOT, lab_file
from tests.worlds import shipped_lab

from . import vendor_visa
from .scripted_instruments import SPOKEN_TO, serving, standard

MISSING = "/no/such/libvisa.so.7"


def checked(*args: str | Path, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "experiments.check_bench", "--no-power", *map(str, args)],
        cwd=ROOT, capture_output=True, text=True, timeout=200, env={**os.environ, **environment},
    )  # fmt: skip


@pytest.fixture
def vendor(monkeypatch: pytest.MonkeyPatch) -> None:
    """`@vendor` names the library of vendor_visa."""
    monkeypatch.setitem(sys.modules, "pyvisa_vendor", vendor_visa)
    monkeypatch.delenv("PYVISA_LIBRARY", raising=False)


@pytest.mark.parametrize("where", ["lab.yaml", "environment"])
def test_a_library_that_is_missing_is_one_clear_line_before_anything_is_opened(tmp_path: Path, where: str) -> None:
    if where == "lab.yaml":
        done = checked("--lab", lab_file(tmp_path, ('visa: "@py"', f"visa: {MISSING}")))
    else:
        done = checked("--lab", lab_file(tmp_path), PYVISA_LIBRARY=MISSING)
    assert done.returncode == 2
    (line,) = (done.stdout + done.stderr).strip().splitlines()
    assert MISSING in line
    assert "cannot be used" in line
    assert "write @py" in line


def test_the_environment_wins_over_lab_yaml(vendor: None, monkeypatch: pytest.MonkeyPatch) -> None:
    with serving(standard) as server:
        with Link.open("scope", [server.resource], visa="@vendor") as link:
            assert link.backend == "@vendor"
            assert link.query("*IDN?").startswith("MAKER")
        monkeypatch.setenv("PYVISA_LIBRARY", "@py")
        with Link.open("scope", [server.resource], visa=MISSING) as link:
            assert link.backend == "@py"
        monkeypatch.setenv("PYVISA_LIBRARY", MISSING)
        for visa in ("@py", "@vendor"):
            with pytest.raises(ConfigError, match="no/such"):
                Link.open("scope", [server.resource], visa=visa)
            with pytest.raises(ConfigError, match="no/such"):
                check_library(visa)


@pytest.mark.parametrize("data", [b"", b"\n" * 5000, bytes(range(256)) * 300], ids=len)
def test_blocks_over_a_vendors_socket_are_exact(vendor: None, data: bytes) -> None:
    def handle(line: bytes) -> bytes | None:
        return write_block(data) + b"\n" if line == b"D?" else standard(line)

    with serving(handle) as server, Link.open("scope", [server.resource], visa="@vendor") as link:
        assert link.query_block("D?", 60.0) == data
        assert link.query("*IDN?") == "MAKER,MODEL,SERIAL,1.0"
        assert link.query_block("D?", 60.0) == data


def test_failures_over_a_vendors_socket(vendor: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(MessagePort, "recovery_s", 20.0)
    answers = {b"STALE?": b"1\n2\n", b"TEXT?": b"+0\n", b"CUT?": b"#15ab", b"SLOW?": [SPOKEN_TO, b"late\n"]}

    def handle(line: bytes):
        return answers.get(line) or standard(line)

    with serving(handle) as server, Link.open("scope", [server.resource], visa="@vendor") as link:
        for command in ("CUT?", "SLOW?", "SILENT?"):
            with pytest.raises(LinkTimeout, match="in step again"):
                link.query(command, 0.1)
            assert link.query("*IDN?") == "MAKER,MODEL,SERIAL,1.0"
        with pytest.raises(ProtocolError, match="starts with '#'"):
            link.query_block("TEXT?", 0.2)
        assert link.query("STALE?") == "1"  # the second line has not been looked at, but nobody is given it
        assert link.query("*IDN?") == "MAKER,MODEL,SERIAL,1.0"
        server.close()
        with pytest.raises(LinkError, match="broken"):
            link.query("*IDN?")


@pytest.mark.parametrize("transport", ["prologix", "serial"])
def test_the_supply_through_a_vendors_library(vendor: None, monkeypatch: pytest.MonkeyPatch, transport: str) -> None:
    """An adapter needs no pyvisa-py: to VISA it is a socket."""
    monkeypatch.setattr(prologix, "READ_TMO_S", 0.3)
    with (
        Station(shipped_lab(), seed=3) as station,
        Link.open("supply", station.addresses["supply"][transport], visa="@vendor") as link,
    ):
        supply = E3645A(link, SupplyLimits(13.0, 2.2, 14.0))
        supply.remote()
        supply.set_ovp(13.5)
        assert supply.apply(12.0, 2.0) == (12.0, 2.0)
        supply.output(True)
        assert supply.wait_settled() == pytest.approx(12.0, abs=0.03)
        with pytest.raises(LinkTimeout):
            link.query("NONSENSE?", 0.1)
        supply.safe_off()
        assert supply.errors() == []
