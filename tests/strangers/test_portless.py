"""Public VXI-11 programs that are told no port: the portmapper at port 111 tells them, where it can be bound."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from instruments import lab as lab_yaml
from instruments.dialogue import Dialogue
from instruments.link import Link
from instruments.mso_x2024a import ChannelSettings, MsoX2024A
from instruments.mso_x2024a.transfer import TransferOptions, fetch_record
from instruments.simulated.station import Station
from tests.simulated.wire import await_port_111, port_111
from tests.sweeps import lab_file

from .conftest import QUIET, Client, needs

ADDRESS = "TCPIP::127.0.0.1::inst0::INSTR"


@pytest.fixture
def station(tmp_path: Path) -> Iterator[Station]:
    """The simulated bench, found at port 111, with 12 V on its supply."""
    with port_111() as port, contextlib.ExitStack() as stack:
        while True:
            station = Station(lab_yaml.load(lab_file(tmp_path, QUIET)), seed=5, portmapper=port)
            if "vxi11-portmapper" in station.addresses["scope"]:
                break
            station.stop()
            await_port_111()
        stack.enter_context(station)
        assert station.addresses["scope"]["vxi11-portmapper"] == [ADDRESS]
        with station.changed:
            station.world.set_supply(time.monotonic() - 1.0, 12.0, 2.0, True)
        yield station


@pytest.fixture
def scope(station: Station) -> Iterator[MsoX2024A]:
    with Link.open("scope", station.addresses["scope"]["socket"]) as link:
        scope = MsoX2024A(link)
        scope.stop()
        scope.configure_channel(1, ChannelSettings(4.0, 0.5, units="A", probe_ratio=10.0))
        scope.configure_timebase(0.05)
        yield scope


def test_python_ivi_drives_the_scope_by_its_model(
    station: Station, scope: MsoX2024A, client: Client, tmp_path: Path
) -> None:
    needs("ivi")
    said = client("python_ivi_scope", ADDRESS, tmp_path / "wave.npz")
    measured, setup = said.pop("measured"), said.pop("setup")
    assert setup == len(scope.setup())
    assert said == {
        "range": station.scope.settings.channels["CHAN1"].range,
        "probe": 10.0,
        "window_s": 0.05,
        "type": "high_resolution",
        "picture": b"\x89PNG\r\n\x1a\n".hex(),
        "error": 0,
    }
    assert station.scope.settings.channels["CHAN1"].bwlimit
    ours = fetch_record(Dialogue(scope.link), "CHAN1", 1000, TransferOptions(), time.monotonic() + 60)
    with np.load(tmp_path / "wave.npz") as theirs:
        assert theirs["values"].shape == (len(ours),)
        assert theirs["values"] == pytest.approx(ours.values(), abs=1e-9)
        # Measurements look at more points of the same record than were fetched.
        assert measured["voltage_average"] == pytest.approx(theirs["values"].mean(), abs=0.005)
        assert measured["voltage_max"] >= theirs["values"].max() - 1e-6
        assert measured["voltage_min"] <= theirs["values"].min() + 1e-6
        span = measured["voltage_max"] - measured["voltage_min"]
        assert measured["voltage_peak_to_peak"] == pytest.approx(span, abs=2e-5)
    assert scope.errors() == []


def test_python_vxi11_reads_locks_aborts_and_clears(
    station: Station, scope: MsoX2024A, client: Client, tmp_path: Path
) -> None:
    needs("vxi11")
    scope.arm()
    scope.force_trigger()
    scope.wait_done(30.0)
    ours = scope.fetch(["CHAN1"], points=None)["CHAN1"]
    said = client("python_vxi11_record", "127.0.0.1", tmp_path / "codes.npz")
    assert said["identity"].startswith("AGILENT TECHNOLOGIES,MSO-X 2024A,MY00000001,")
    assert float(said["preamble"].split(",")[2]) == len(ours)
    assert said["header"] == f"#8{2 * len(ours):08d}"
    assert (said["available"], said["locked"], said["aborted"]) == (16, 11, 23)
    assert (said["state"], said["found"]) == ("STOP", True)
    with np.load(tmp_path / "codes.npz") as theirs:
        assert np.array_equal(theirs["codes"], ours.codes)
    assert scope.errors() == []
