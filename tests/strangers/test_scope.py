"""Public programs on the simulated oscilloscope: they work unmodified, and their numbers are ours."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from instruments.dialogue import Dialogue
from instruments.link import Link
from instruments.mso_x2024a import ChannelSettings, EdgeTrigger, MsoX2024A, next_full_scale
from instruments.mso_x2024a.transfer import TransferOptions, fetch_ascii, fetch_record
from instruments.simulated.station import Station

from .conftest import Client, needs

POINTS = 100_000


@pytest.fixture
def scope(station: Station) -> Iterator[MsoX2024A]:
    """Our driver, with current on CHAN1 and voltage on CHAN3; the pod is off, so that nothing halves the memory."""
    with station.changed:
        station.world.set_supply(time.monotonic() - 1.0, 12.0, 2.0, True)
    with Link.open("scope", station.addresses["scope"]["socket"]) as link:
        scope = MsoX2024A(link)
        scope.stop()
        scope.configure_channel(1, ChannelSettings(next_full_scale(2.0, 10.0), 0.5, units="A", probe_ratio=10.0))
        scope.configure_channel(3, ChannelSettings(next_full_scale(14.0, 10.0), 6.0, probe_ratio=10.0))
        scope.switch_off_channel(2)
        scope.switch_off_channel(4)
        scope.switch_off_digital()
        scope.configure_timebase(0.05)
        scope.configure_acquisition("HRES")
        scope.configure_trigger(EdgeTrigger("DIG0", "POS"))
        yield scope


def capture(scope: MsoX2024A) -> None:
    scope.arm()
    scope.force_trigger()
    scope.wait_done(30.0)


def address(station: Station, transport: str = "socket") -> str:
    (resource,) = station.addresses["scope"][transport]
    return resource


def test_keyoscacquire_reads_the_stopped_record_as_we_do(
    station: Station, scope: MsoX2024A, client: Client, tmp_path: Path
) -> None:
    needs("keyoscacquire")
    capture(scope)
    ours = scope.fetch(["CHAN1", "CHAN3"], points=None)
    said = client("keyoscacquire_trace", address(station), tmp_path / "trace.npz", "1", "3")
    assert said == {"model": "MSO-X 2024A", "serial": "MY00000001", "channels": [1, 3]}
    with np.load(tmp_path / "trace.npz") as theirs:
        assert theirs["values"].shape == (2, POINTS)
        assert np.array_equal(theirs["time"], ours.time_s())
        assert np.array_equal(theirs["values"][0], ours["CHAN1"].values())
        assert np.array_equal(theirs["values"][1], ours["CHAN3"].values())
    assert scope.state().running  # it leaves the scope running
    assert scope.errors() == []


def test_keyoscacquire_digitizes_a_running_scope(
    station: Station, scope: MsoX2024A, client: Client, tmp_path: Path
) -> None:
    """The gate rises once the digitize waits; that record stays readable, since no other trigger comes."""
    needs("keyoscacquire")
    scope.run()
    ended = threading.Event()

    def raise_the_gate() -> None:
        while not ended.wait(0.01):
            with station.changed:
                acquisition = station.scope.acquisition
                if (acquisition.mode, acquisition.phase) == ("DIG", "WAIT"):
                    station.world.mark(time.monotonic(), 1)
                    return

    thread = threading.Thread(target=raise_the_gate)
    thread.start()
    try:
        client("keyoscacquire_trace", address(station), tmp_path / "trace.npz", "1")
    finally:
        ended.set()
        thread.join()
    scope.stop()
    # It sets the points while the scope runs, which is known to log an error.
    assert [error.code for error in scope.errors()] == [-222]
    ours = fetch_record(Dialogue(scope.link), "CHAN1", None, TransferOptions(), time.monotonic() + 60)
    with np.load(tmp_path / "trace.npz") as theirs:
        assert np.array_equal(theirs["values"][0], ours.values())
    assert ours.values()[: POINTS // 20].mean() < 0.5 < ours.values()[POINTS // 5 :].mean()
    assert scope.errors() == []


def test_pymeasure_digitizes_and_downloads_what_we_read(
    station: Station, scope: MsoX2024A, client: Client, tmp_path: Path
) -> None:
    needs("pymeasure")
    scope.configure_trigger(EdgeTrigger("DIG0", "POS", sweep="AUTO"))
    said = client("pymeasure_download", address(station), tmp_path / "data.npz", 50_000)
    assert scope.errors() == []
    dialogue, until_s = Dialogue(scope.link), time.monotonic() + 60
    preamble, ours = fetch_ascii(dialogue, "CHAN1", 50_000, until_s)
    words = fetch_record(dialogue, "CHAN1", 50_000, TransferOptions(), until_s)
    with np.load(tmp_path / "data.npz") as data:
        theirs = data["values"]
    assert theirs.size == 50_000
    assert np.array_equal(theirs, ours)
    assert theirs == pytest.approx(words.values(), rel=6e-6, abs=1e-9)
    assert said["preamble"]["points"] == 50_000
    assert said["preamble"]["type"] == "HRES"
    assert said["preamble"]["xincrement"] == preamble.x_increment_s
    assert said["preamble"]["xorigin"] == preamble.x_origin_s
    channel = said["channel"]
    assert (channel["UNIT"], channel["PROB"], channel["OFFS"]) == ("AMP", 10.0, 0.5)
    assert channel["RANG"] == pytest.approx(next_full_scale(2.0, 10.0))
    assert (channel["DISP"], channel["INV"], channel["COUP"]) == (True, False, "DC")
    assert said["timebase"]["MAIN:RANG"] == 0.05


@pytest.mark.parametrize("memory", [100_000, 1_000_000])
def test_pyvisa_alone_reads_the_same_codes_over_every_message_transport(
    station: Station, scope: MsoX2024A, client: Client, tmp_path: Path, memory: int
) -> None:
    station.scope.acquisition.options = type(station.scope.acquisition.options)(memory_points=memory)
    capture(scope)
    ours = scope.fetch(["CHAN1"], points=None)["CHAN1"]
    said = client(
        "pyvisa_scope", tmp_path / "codes.npz", *(address(station, transport) for transport in ("vxi11", "hislip"))
    )
    with np.load(tmp_path / "codes.npz") as theirs:
        assert theirs["codes"].shape == (2, len(ours))
        assert (theirs["codes"] == ours.codes).all()
    for one in said:
        assert one["identity"].startswith("AGILENT TECHNOLOGIES,MSO-X 2024A,MY00000001,")
        assert one["preamble"] == said[0]["preamble"]
        assert one["error"].startswith("-113,")
    assert scope.errors() == []
