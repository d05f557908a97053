"""Bad days of the oscilloscope: never a capture that is not what it says, and the next one is right."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from instruments.errors import CaptureError, LinkTimeout, ProtocolError, ScpiError
from instruments.link import Link
from instruments.mso_x2024a import ChannelSettings, MsoX2024A, next_full_scale, transfer
from instruments.simulated.faults import Fault, leave_errors
from instruments.simulated.mso_acquisition import Options
from instruments.simulated.mso_record import FrontEnd
from instruments.simulated.mso_waveform import TransferQuirks

from .benches import WINDOW_S, FaultyBench, capture, faulty_bench, says, set_up

SOURCES = ["CHAN1", "CHAN3", "POD1"]


@pytest.fixture
def scope(hurt: FaultyBench) -> Iterator[MsoX2024A]:
    """The driver over a raw socket, ready for a capture."""
    with driver(hurt) as scope:
        yield scope


class driver:
    """The driver on a bench, set up; closed at the end."""

    def __init__(self, bench: FaultyBench) -> None:
        self._link = Link.open("scope", bench.resources("scope"))

    def __enter__(self) -> MsoX2024A:
        scope = MsoX2024A(self._link)
        set_up(scope)
        return scope

    def __exit__(self, *_: object) -> None:
        self._link.close()


def is_right(hurt: FaultyBench, scope: MsoX2024A, points: int = 1000) -> bool:
    """Whether the next capture is good: the gate rises at its trigger, and nothing is left in the queue."""
    found = capture(hurt, scope, SOURCES, points)
    rise = int(np.argmax(found["POD1"].bit(0)))
    return found.points == points and abs(found.time_s()[rise]) <= 2 * found.dt_s and scope.errors() == []


# --- the queue --------------------------------------------------------------------------------------


def test_errors_that_somebody_left_stop_the_first_setting_alone(hurt: FaultyBench) -> None:
    left = [(-113, "Undefined header"), (-222, "Data out of range")]
    with hurt.station.changed:
        leave_errors(hurt.station.scope, left)
    with Link.open("scope", hurt.resources("scope")) as link:
        scope = MsoX2024A(link)
        with pytest.raises(ScpiError) as caught:
            scope.configure_timebase(WINDOW_S)
        assert (caught.value.code, len(caught.value.rest)) == (-113, 1)
        set_up(scope)
        assert is_right(hurt, scope)


def test_errors_that_come_from_elsewhere_stop_an_arm(hurt: FaultyBench, scope: MsoX2024A) -> None:
    with hurt.station.changed:
        leave_errors(hurt.station.scope, [(-113, "Undefined header")])
    with pytest.raises(ScpiError, match=r"scope .*-113.*found before :SINGle"):
        scope.arm()
    assert is_right(hurt, scope)


# --- the trigger ------------------------------------------------------------------------------------


def test_a_trigger_that_never_comes(hurt: FaultyBench, scope: MsoX2024A) -> None:
    before = capture(hurt, scope)
    hurt.gate(False)
    scope.arm()
    with pytest.raises(CaptureError, match=r"scope .*no trigger within 0\.05 s; check the marker line") as caught:
        scope.wait_done(0.05)
    assert caught.value.reason == "no-trigger"
    with pytest.raises(CaptureError, match="no finished acquisition"):
        scope.fetch(["CHAN1"], points=1000)
    assert is_right(hurt, scope)
    assert capture(hurt, scope).number > before.number


@pytest.mark.parametrize("off_s", [-0.06, -0.03, -0.021, -0.01, -0.002, 0.0, 0.002, 0.02])
def test_a_trigger_at_the_deadline(hurt: FaultyBench, scope: MsoX2024A, off_s: float) -> None:
    """The window is 20 ms: earlier than that before the deadline there is a capture, later one of two refusals."""
    hurt.gate(False)
    scope.arm()
    edge_s = hurt.gate(True, in_s=0.1 + off_s)
    started_s = time.monotonic()
    reason = ""
    try:
        scope.wait_done(0.1)
    except CaptureError as error:
        reason = error.reason
    ended_s = time.monotonic()
    if ended_s < edge_s:
        assert reason == "no-trigger"
    if reason:
        assert {"no-trigger": edge_s, "not-finished": edge_s + WINDOW_S}[reason] >= started_s + 0.1
        with pytest.raises(CaptureError, match="no finished acquisition"):
            scope.fetch(["CHAN1"], points=1000)
    else:
        found = scope.fetch(SOURCES, points=1000)
        assert abs(found.time_s()[np.argmax(found["POD1"].bit(0))]) <= 2 * found.dt_s
    assert ended_s - started_s < 10.0
    with hurt.station.changed:  # the edge to come belongs to nobody any more
        hurt.station.world.advance(time.monotonic())
    time.sleep(max(0.0, edge_s - time.monotonic()))
    assert is_right(hurt, scope)


# --- the record -------------------------------------------------------------------------------------


def test_the_first_preamble_may_be_short(tmp_path: Path) -> None:
    with faulty_bench(tmp_path, scope={"transfer": TransferQuirks(short_preambles=2)}) as hurt, driver(hurt) as scope:
        assert is_right(hurt, scope)
        assert is_right(hurt, scope)


@pytest.mark.parametrize(
    "fault", [Fault("drop", "PREamble"), Fault("replace", "PREamble", data=b"+0\n"), Fault("short", "PREamble")]
)
def test_a_preamble_may_be_missing_once_but_not_twice(
    hurt: FaultyBench, scope: MsoX2024A, fault: Fault, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as hurried:
        hurried.setattr(transfer, "PREAMBLE_DEADLINE_S", 0.4)
        script = hurt.hurt("scope", fault)
        assert is_right(hurt, scope)
        assert len(script.log) == 1
        hurt.hurt("scope", Fault(fault.kind, fault.matching, times=2, data=fault.data))
        with pytest.raises((LinkTimeout, ProtocolError)) as caught:
            capture(hurt, scope)
        assert says(caught.value, "scope", ":WAVeform:PREamble?")
    assert is_right(hurt, scope)


@pytest.mark.parametrize("matching", ["WAVeform:DATA", "PREamble"])
def test_an_older_answer_of_another_length_is_refused(hurt: FaultyBench, scope: MsoX2024A, matching: str) -> None:
    hurt.hurt("scope", Fault("stale", matching, skip=1))
    capture(hurt, scope, ["CHAN1"], points=500)
    with pytest.raises(CaptureError, match=r"announces \d+ points = \d+ bytes, the block has \d+") as caught:
        capture(hurt, scope, ["CHAN1"], points=1000)
    assert caught.value.reason == "mismatch"
    assert str(caught.value).startswith("scope (TCPIP")
    assert str(caught.value).endswith("[command: :WAVeform:DATA?]")
    assert is_right(hurt, scope)


@pytest.mark.parametrize("untriggered", ["empty", "stale", "zeros"])
def test_a_record_of_the_previous_capture_is_never_given(tmp_path: Path, untriggered: str) -> None:
    """STOP at the front panel after arming: some firmware leaves the old record, some none, some zeros."""
    options = Options(arm_s=1e-3, process_s=1e-3, untriggered=untriggered)  # type: ignore[arg-type]
    with faulty_bench(tmp_path, scope={"acquisition": options}) as hurt, driver(hurt) as scope:
        capture(hurt, scope)
        hurt.gate(False)
        scope.arm()
        hurt.feed("scope", b":STOP\n")
        with pytest.raises(CaptureError, match="stopped without a trigger") as caught:
            scope.wait_done(20.0)
        assert caught.value.reason == "stopped"
        with pytest.raises(CaptureError, match="no finished acquisition"):
            scope.fetch(["CHAN1"], points=1000)
        assert is_right(hurt, scope)


@pytest.mark.parametrize("pressed", [b":RUN\n", b":SINGle\n", b":SINGle;:TRIGger:FORCe\n"])
def test_a_new_acquisition_behind_our_back(hurt: FaultyBench, scope: MsoX2024A, pressed: bytes) -> None:
    scope.arm()
    hurt.gate(True)
    scope.wait_done(20.0)
    hurt.feed("scope", pressed)
    time.sleep(2 * WINDOW_S)
    with pytest.raises(CaptureError, match=r"is running|triggered again") as caught:
        scope.fetch(["CHAN1"], points=1000)
    assert caught.value.reason == "stale"
    hurt.feed("scope", b":STOP\n")
    assert is_right(hurt, scope)


def test_fewer_points_than_asked_for_are_told_or_refused(tmp_path: Path) -> None:
    """On the small memory the pod halves what there is."""
    change = ("simulation:\n", "simulation:\n  scope: {memory_points: 100000}\n")
    options = Options(memory_points=100_000, arm_s=1e-3, process_s=1e-3)
    with faulty_bench(tmp_path, change, scope={"acquisition": options}) as hurt, driver(hurt) as scope:
        found = capture(hurt, scope, points=100_000)
        assert (found.requested_points, found.points) == (100_000, 50_000)
        assert found.duration_s == pytest.approx(WINDOW_S)
        with pytest.raises(CaptureError, match="50000 points came, at least 90000 are needed") as caught:
            scope.fetch(["CHAN1"], points=100_000, min_points=90_000)
        assert caught.value.reason == "short"
        assert is_right(hurt, scope)


def test_clipped_samples_are_marked_where_they_are(hurt: FaultyBench, scope: MsoX2024A) -> None:
    hurt.feed("supply", b"VOLT 12;CURR 2;OUTP ON\n")
    time.sleep(0.1)
    scope.configure_channel(1, ChannelSettings(next_full_scale(0.5, 10.0), 0.2, units="A", probe_ratio=10.0))
    record = capture(hurt, scope)["CHAN1"]
    busy, idle = slice(500, None), slice(0, 80)
    assert record.clipped_high()[busy].mean() > 0.9
    assert not record.clipped()[idle].any()
    assert not record.clipped_low().any()
    set_up(scope)
    assert not capture(hurt, scope)["CHAN1"].clipped().any()


def test_holes_are_marked_and_have_no_value(tmp_path: Path) -> None:
    with faulty_bench(tmp_path, scope={"front": FrontEnd(hole_fraction=0.05)}) as hurt, driver(hurt) as scope:
        found = capture(hurt, scope, SOURCES)
        holes = found["CHAN1"].holes()
        assert 0.02 < holes.mean() < 0.1
        assert np.array_equal(np.isnan(found["CHAN1"].values()), holes)
        assert not found["POD1"].holes().any()
