"""Whether the current follows the lines, over simulated worlds: right lines are never refused, wrong ones are told."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pytest

from experiments.related import Relation, relate
from tests.worlds import Bench

DT_S, POINTS = 1e-4, 20_000
QUIET = 2000


@dataclass
class Seen:
    """One record of a run: the current, and the gate's samples."""

    amps: np.ndarray
    start: int
    stop: int
    batches: int

    def relation(self, moved_s: float = 0.0) -> Relation:
        """With the gate moved by some time."""
        by = round(moved_s / DT_S)
        start, stop = max(self.start + by, 1), min(self.stop + by, POINTS)
        return relate(self.amps, DT_S, start, stop, self.batches, 0.0, quiet_after_s=0.2)


def seen(seed: int, idle_a: float | None = None, active_a: float | None = None) -> Seen:
    """A run in a world drawn from the seed: its load, its capacitors, its noise, its batches."""
    rng = np.random.default_rng([seed, 5])
    idle_a = float(rng.uniform(0.05, 0.5)) if idle_a is None else idle_a
    active_a = idle_a + float(rng.uniform(0.2, 0.8)) if active_a is None else active_a
    bench = Bench.make(
        seed,
        idle_a=idle_a,
        active_a=active_a,
        launch_a=float(rng.uniform(idle_a, active_a)),
        launch_s=float(rng.uniform(1e-4, 5e-3)),
        settling_s=float(np.exp(rng.uniform(np.log(2e-4), np.log(1e-2)))),
        tail_a=0.1 * (active_a - idle_a) * float(rng.uniform(0, 1)),
        tail_s=float(rng.uniform(0.01, 0.1)),
        ripple_relative=float(rng.uniform(0, 0.1)),
        probe_noise_a=float(rng.uniform(0.003, 0.06)),
        probe_slow_noise_a=float(rng.uniform(0, 6e-3)),
    )
    bench.power(0.0, True)
    batches = int(rng.integers(1, 300))
    whole_s = float(rng.uniform(0.9, 1.6))
    lines, at_s = 1, 5.0
    bench.world.mark(at_s, lines)
    for k in range(batches):
        lines ^= 2
        bench.world.mark(at_s + whole_s * (k + 1) / batches, lines)
    bench.world.mark(at_s + whole_s + 1e-5, lines & 2)
    t_s = at_s + DT_S * (np.arange(POINTS) - QUIET)
    return Seen(bench.world.analog_v(1, t_s, DT_S) / 0.1, QUIET, QUIET + round(whole_s / DT_S), batches)


def test_right_lines_are_never_refused_and_wrong_ones_always_told() -> None:
    for seed in range(200):
        run = seen(seed)
        found = run.relation()
        assert found.checkable, (seed, found)
        assert not found.problem, (seed, found)
        assert found.correlation > 0.3, (seed, found)
        assert not found.late, (seed, found)
        assert not found.early, (seed, found)
        # Lines of something that does the same later.
        wrong = run.relation(0.03 + 0.15 * seed / 200)
        assert "before the gate" in wrong.problem, (seed, wrong)


def test_lines_that_lag_behind_the_work_are_told_where_capacitors_do_not_hide_it() -> None:
    told = 0
    for seed in range(200):
        late = seen(seed).relation(0.012)
        assert not late.problem, (seed, late)
        told += late.late
    assert told > 150  # a current that takes 10 ms to settle hides 7 of 12 ms


@pytest.mark.parametrize("seed", range(20))
def test_lines_of_a_board_that_works_at_another_time_are_told(seed: int) -> None:
    run, rng = seen(seed), np.random.default_rng(seed)
    for start, stop in ((9_000, 19_500), (15_000, 19_000), (4_000, 8_000), (14_000, 17_000)):
        # The work of this board lies in [QUIET, run.stop), the gate elsewhere.
        overlap = max(0, min(stop, run.stop) - max(start, QUIET)) / (stop - start)
        if abs(overlap - 1) < 0.1 and (stop - start) > 0.6 * (run.stop - QUIET):
            continue
        found = relate(run.amps, DT_S, start, stop, int(rng.integers(1, 50)), 0.0)
        assert found.problem or not found.checkable, found


@pytest.mark.parametrize("seed", range(20))
def test_a_load_hardly_above_idle_cannot_be_checked_and_is_not_refused(seed: int) -> None:
    for more_a in (0.0, 1e-3, 3e-3, 1e-2):
        found = seen(seed, idle_a=0.3, active_a=0.3 + more_a).relation()
        assert not found.problem, (more_a, found)
    assert not seen(seed, idle_a=0.3, active_a=0.3).relation().checkable


def test_a_device_that_pauses_for_most_of_each_batch_is_seen_to_follow() -> None:
    rng = np.random.default_rng(4)
    amps = np.full(POINTS, 0.2)
    for k in range(100):
        at = QUIET + 150 * k
        amps[at : at + 20] = 1.0
    found = relate(amps + 0.01 * rng.standard_normal(POINTS), DT_S, QUIET, QUIET + 15_000, 100, 0.0)
    assert found.checkable
    assert not found.problem


def test_what_the_device_said_before_the_gate_and_a_known_delay_are_no_lead() -> None:
    run = seen(3)
    moved = round(0.05 / DT_S)
    start, stop = run.start + moved, min(run.stop + moved, POINTS)
    assert relate(run.amps, DT_S, start, stop, run.batches, 0.0).problem
    assert not relate(run.amps, DT_S, start, stop, run.batches, 0.05).problem
    assert not relate(run.amps, DT_S, start, stop, run.batches, 0.0, delay_s=0.05).problem


def test_lines_that_move_before_the_work_are_told() -> None:
    told = 0
    for seed in range(200):
        early = seen(seed).relation(-0.03)
        assert not early.late, (seed, early)
        told += early.early
    assert told > 80  # long tails, and loads that ripple at the fall, hide it
    run = seen(3)
    start, stop = run.start - 300, run.stop - 300
    assert relate(run.amps, DT_S, start, stop, run.batches, 0.0, quiet_after_s=0.2).early
    assert not relate(run.amps, DT_S, start, stop, run.batches, 0.0).early  # the device may have been at work still


def test_a_known_delay_is_no_lag_and_a_device_that_pauses_does_not_fall_early() -> None:
    run = seen(3)
    start, stop = run.start + 150, run.stop + 150
    assert relate(run.amps, DT_S, start, stop, run.batches, 0.05).late
    assert not relate(run.amps, DT_S, start, stop, run.batches, 0.05, delay_s=0.015).late
    amps = np.full(POINTS, 0.2)
    amps[QUIET - 100 : QUIET] = 1.0  # busy before
    for k in range(20):
        amps[QUIET + 700 * k : QUIET + 700 * k + 550] = 1.0
    assert not relate(amps, DT_S, QUIET, QUIET + 14_000, 20, 0.01).late
