"""A record tells which run it shows, and what the board did before the gate is not taken for its idle power."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from experiments.capture_data import CaptureData, ReductionError
from experiments.measure import Measured, measure
from instruments import marker_frame
from instruments.marker_line import MarkerLine
from tests.worlds import WIRES, Bench

NUMBER = 47_110
RISE_S = 20.0
WORK = 4


class Line(MarkerLine):
    """Moves the lines of a simulated world, in its time."""

    def __init__(self, bench: Bench, at_s: float) -> None:
        self.bench, self.now_ns, self.lines = bench, int(at_s * 1e9), 0

    def batch(self) -> None:
        self.lines ^= 2
        self.bench.world.mark(self.now_ns * 1e-9, self.lines)

    def working(self, level: bool) -> None:
        self.lines = self.lines | WORK if level else self.lines & ~WORK
        self.bench.world.mark(self.now_ns * 1e-9, self.lines)

    def clock_ns(self) -> int:
        self.now_ns += 1000
        return self.now_ns

    def sleep(self, seconds: float) -> None:
        self.now_ns += int(seconds * 1e9)


def framed(number: int | None = NUMBER, awake_s: float = 0.0) -> CaptureData:
    """A record of a run whose board sent a frame, after working for `awake_s` before it."""
    bench = Bench.make(5)
    bench.power(1.0, True)
    plan = marker_frame.plan(bench.dt_s, 0.1 * bench.points * bench.dt_s, 1e-6)
    assert plan is not None
    line = Line(bench, RISE_S - marker_frame.LONGEST_UNITS * plan["unit_s"] - awake_s)
    began_ns = line.now_ns
    if awake_s:
        line.working(True)
        line.sleep(awake_s)
        line.working(False)
    edges = 0
    if number is not None:
        edges = marker_frame.send(line, number, clock_ns=line.clock_ns, sleep=line.sleep, **plan)["edges"]
    rise_s = line.now_ns * 1e-9
    assert rise_s <= RISE_S + 1e-3
    busy_s = rise_s - began_ns * 1e-9
    return replace(_run(bench, rise_s), start_frame=number, start_frame_edges=edges, device_busy_s=busy_s)


def _run(bench: Bench, rise_s: float) -> CaptureData:
    lines = 1
    bench.world.mark(rise_s, lines)
    for k in range(1, 41):
        lines ^= 2
        bench.world.mark(rise_s + 0.03 * k, lines)
    bench.world.mark(rise_s + 1.2 + 5e-6, lines & 2)
    (true,) = bench.world.true_windows(rise_s - 0.01)[-1:]
    return CaptureData(1, "cell", "net", 4, 0, rise_s, bench.capture(rise_s), 40, 160, true.energy_j, true.idle_power_w)


def idle_w(measured: Measured) -> float:
    assert measured.idle is not None
    return measured.idle.mean_vi


def test_the_record_of_the_run_is_taken_and_that_of_another_is_not() -> None:
    data = framed()
    assert measure(data, WIRES).window is not None
    with pytest.raises(ReductionError, match=f"record of another run: its start frame says {NUMBER}, .* is 47111"):
        measure(replace(data, start_frame=NUMBER + 1), WIRES)


def test_a_frame_that_was_announced_and_is_not_there_rejects_the_record() -> None:
    data = framed()
    bits = data.capture["markers"].codes
    gate = np.flatnonzero(bits & 1)[0]
    silent = bits.copy()
    silent[:gate] = 0
    silent[gate:] ^= bits[gate] & 2  # no edge at the gate either
    with pytest.raises(ReductionError, match="no start frame: 0 edges"):
        measure(_with_markers(data, silent), WIRES)
    damaged = bits.copy()
    first, second = np.flatnonzero(np.diff(bits[:gate] & 2))[[5, 6]]
    damaged[first + 1 : second + 1] ^= 2  # one pulse less
    with pytest.raises(ReductionError, match="start frame"):
        measure(_with_markers(data, damaged), WIRES)


def test_edges_that_the_board_did_not_make_reject_the_record() -> None:
    data = framed()
    bits = data.capture["markers"].codes.copy()
    bits[1000:1010] ^= 2
    with pytest.raises(ReductionError, match="24 batch edges lie before the gate, where the device made 22"):
        measure(_with_markers(data, bits), WIRES)


def test_a_record_without_an_announced_frame_must_have_none() -> None:
    with pytest.raises(ReductionError, match="22 batch edges lie outside the gate"):
        measure(replace(framed(), start_frame=None), WIRES)


@pytest.mark.parametrize("awake_s", [0.0, 0.05])
def test_the_idle_power_is_that_of_the_idle_board(awake_s: float) -> None:
    quiet = idle_w(measure(framed(None), WIRES))
    data = framed(awake_s=awake_s)
    busy = measure(data, WIRES)
    assert idle_w(busy) == pytest.approx(quiet, rel=0.02)
    if awake_s:
        unknown = measure(replace(data, device_busy_s=0.0), WIRES)  # what it would be if nobody told
        assert idle_w(unknown) > 1.5 * quiet


def _with_markers(data: CaptureData, bits: np.ndarray) -> CaptureData:
    record = replace(data.capture["markers"], codes=bits)
    return replace(data, capture=replace(data.capture, records={**data.capture.records, "markers": record}))
