"""What can stand in the board's place in the simulated world, and marker edges seen later than work changes."""

from __future__ import annotations

import json
import math
import socket
import tempfile
from pathlib import Path

import numpy as np
import pytest

from instruments.errors import BenchError
from instruments.simulated.station import Station
from instruments.simulated_bench import SimulatedBench
from tests.worlds import Bench, shipped_lab

T = np.array([5.0, 5.5, 6.0])


def fed(volts: float, amps: float, load: float | None) -> Bench:
    bench = Bench.make(1)
    bench.world.connect(1.0, load)
    bench.world.set_supply(2.0, volts, amps, True)
    return bench


@pytest.mark.parametrize(("volts", "amps", "mode"), [(12.0, 2.0, "CV"), (12.0, 0.7, "CC"), (3.0, 2.0, "CV")])
def test_a_resistor_obeys_ohm_and_the_limit(volts: float, amps: float, mode: str) -> None:
    world = fed(volts, amps, 8.0).world
    at_load, through = world.board(T)
    np.testing.assert_allclose(at_load, 8.0 * through, rtol=1e-12)
    expected = min(volts / (8.0 + world.facts.source_resistance_ohm), amps)
    np.testing.assert_allclose(through, expected, rtol=1e-9)
    truth = world.supply(5.0, 6.0)
    assert (truth.amps, truth.mode) == (pytest.approx(expected, rel=1e-9), mode)


def test_nothing_draws_nothing_and_the_board_comes_back() -> None:
    world = fed(12.0, 2.0, math.inf).world
    volts, amps = world.board(T)
    np.testing.assert_allclose(volts, 12.0, rtol=1e-9)
    assert not amps.any()
    world.connect(5.4, 8.0)
    world.connect(5.7, None)
    _, amps = world.board(np.array([5.3, 5.5, 5.65, 6.0]))
    assert amps[0] == 0
    assert amps[1] == amps[2] == pytest.approx(1.5, rel=1e-3)
    assert amps[3] == pytest.approx(world.facts.idle_a, rel=0.03)


def test_off_lets_no_more_through_a_resistor_than_through_the_board() -> None:
    bench = fed(12.0, 2.0, 8.0)
    bench.world.set_supply(3.0, 0.0, 2.0, False)
    _, amps = bench.world.board(T)
    np.testing.assert_allclose(amps, bench.world.output_off_a)


@pytest.mark.parametrize("delay_s", [0.0, 4e-4, -4e-4])
def test_a_marker_delay_moves_the_edges_against_the_work(delay_s: float) -> None:
    """Lines are seen later than the work (or the work follows later); the truth is that of the work."""
    quiet = {"launch_s": 0.0, "tail_a": 0.0, "settling_s": 1e-6, "ripple_relative": 0.0}
    bench = Bench.make(1, marker_delay_s=delay_s, **quiet)
    bench.power(0.0, True)
    bench.world.mark(5.0, 1)
    bench.world.mark(5.1, 0)
    work_s = 5.0 + max(0.0, -delay_s)
    (rise, fall) = (t for t, _ in bench.world.digital_edges(0, 4.0, 6.0))
    assert rise - work_s == pytest.approx(delay_s)
    assert fall - rise == pytest.approx(0.1)
    _, amps = bench.world.board(np.array([work_s - 1e-5, work_s + 1e-5]))
    assert amps[0] == pytest.approx(bench.world.facts.idle_a)
    assert amps[1] == pytest.approx(bench.world.facts.active_a, rel=1e-3)
    (window,) = bench.world.true_windows(4.0)
    assert (window.rise_s, window.fall_s) == (pytest.approx(work_s), pytest.approx(work_s + 0.1))
    assert window.energy_j == pytest.approx(12.003 * bench.world.facts.active_a * 0.1, rel=2e-3)


def test_jitter_scatters_edges_and_never_before_the_board_moved_them() -> None:
    bench = Bench.make(1, marker_delay_s=2e-4, marker_jitter_s=5e-5)
    late = []
    for k in range(400):
        at = 5.0 + 0.1 * k
        bench.world.mark(at, k % 2 ^ 1)
        late.append(bench.world.digital_edges(0, at - 1e-9, at + 0.05)[0][0] - at)
    assert np.mean(late) == pytest.approx(2e-4, rel=0.05)
    assert np.std(late) == pytest.approx(5e-5, rel=0.15)
    assert min(late) >= 0


def test_hands_reach_a_served_bench() -> None:
    with tempfile.TemporaryDirectory() as folder, Station(shipped_lab(), state_dir=Path(folder), seed=1) as station:
        bench = SimulatedBench.attach(Path(folder))
        for load, ohm in ((7.5, 7.5), ("open", math.inf), ("board", None)):
            bench.connect(load)  # type: ignore[arg-type]
            assert station.world._load_ohm[-1] == ohm
        for nonsense in (0.0, -1.0, True, "wire", None):
            with pytest.raises(BenchError, match="ohms above 0"):
                bench.connect(nonsense)  # type: ignore[arg-type]
        now_s = station.world._load_s[-1]
        assert bench.mean_current_a(now_s, now_s + 1) == pytest.approx(station.world.output_off_a)
        with socket.socket(socket.AF_UNIX) as s:
            s.connect(str(Path(folder) / "truth.sock"))
            s.sendall(b'{"current": [1]}\n')
            assert "error" in json.loads(s.recv(4096))
