"""Power and energy net of idle, where the idle power changes while a run goes on."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest

from calibration import in_situ
from calibration.model import Calibration
from experiments.components import CellValues, Change, budget
from experiments.energy import RowResult, results
from experiments.measure import Measured
from instruments.simulated.world import WORK
from instruments.waveform import Capture
from tests.worlds import Bench, zero

BATCHES, BATCH_S = 90, 0.016
RUN_S = BATCHES * BATCH_S
PERIOD_S = 30.0
"""Of the wander; runs so far apart see the idle power rise alike."""


def bench_of(seed: int, **physics: float) -> tuple[Bench, Calibration]:
    """A bench whose clamp is right, so that only the baseline is at fault, and its calibration."""
    bench = Bench.make(
        seed, probe_gain_sd=0.0, voltage_gain_sd=0.0, probe_wander_a=0.0, probe_drift_sd_a_per_s=0.0,
        idle_wander_period_s=PERIOD_S, **physics,
    )  # fmt: skip
    zeros = [zero(bench.steady("zero", t)) for t in (1.0, 3.0)]
    bench.power(4.0, True)
    run = bench.run("gain", 7.0, 100, 0.016)
    return bench, in_situ.calibrate(zeros, [bench.comparison(run, 7.0)], bench.terms())


def row_of(bench: Bench, calibration: Calibration, quiet_s: float, repeats: int = 3) -> tuple[RowResult, float]:
    """A row of runs that see the same stretch of the wander, and its true net energy per image."""
    at_s = [PERIOD_S * (k + 1) - RUN_S / 2 for k in range(repeats)]
    cells = [bench.run("cell", t, BATCHES, BATCH_S, repeat=k, quiet_s=quiet_s) for k, t in enumerate(at_s)]
    (row,) = results(cells, calibration)
    return row, float(np.mean([net_j(c) for c in cells]))


def net_j(cell: Measured) -> float:
    """True net energy per image of one run."""
    return (cell.data.true_energy_j - cell.data.true_idle_power_w * RUN_S) / (cell.data.images or 1)


def part(row: RowResult, quantity: str, name: str) -> float:
    """u of a component; 0 where it is not there."""
    return next((c.u for c in getattr(row, quantity).components if c.name == name), 0.0)


def test_a_drift_of_the_idle_power_is_corrected_by_what_is_seen_after_the_run() -> None:
    rising, calibration = bench_of(4, idle_wander_a=0.03)
    after, truth = row_of(rising, calibration, quiet_s=0.3)
    alone, same = row_of(*bench_of(4, idle_wander_a=0.03), quiet_s=0.0)
    steady, still = row_of(*bench_of(4), quiet_s=0.3)
    assert same == truth
    usual = steady.net_energy_per_image_j.value / still  # of a bench whose idle power stays what it is
    assert abs(usual - 1) < 3e-3
    assert abs(alone.net_energy_per_image_j.value / truth - usual) > 4e-3  # 6 mA/s, 0.8 s from the run's middle
    assert abs(after.net_energy_per_image_j.value / truth - usual) < 4e-4
    assert after.idle_power_w.value > alone.idle_power_w.value
    assert abs(after.net_energy_per_image_j.value - truth) < after.net_energy_per_image_j.expanded()
    limit = part(after, "net_power_w", "idle baseline, drift")
    seen = after.idle_power_w.value - alone.idle_power_w.value  # half of the change, as far as it is straight
    assert limit == pytest.approx(seen / math.sqrt(3), rel=0.1)
    assert part(steady, "net_power_w", "idle baseline, drift") < 0.2 * limit


def test_gross_energy_does_not_depend_on_what_was_seen_of_idle() -> None:
    after, _ = row_of(*bench_of(5, idle_wander_a=0.03), quiet_s=0.3)
    alone, _ = row_of(*bench_of(5, idle_wander_a=0.03), quiet_s=0.0)
    for quantity in ("time_per_image_s", "power_w", "energy_per_image_j"):
        a, b = getattr(after, quantity), getattr(alone, quantity)
        assert a.value == b.value
        assert "idle baseline, drift" not in {c.name for c in a.components}


def test_the_intervals_of_net_energy_hold_the_truth_while_idle_drifts() -> None:
    held = 0
    for seed in range(20):
        bench, calibration = bench_of(100 + seed, idle_wander_a=0.02)
        row, truth = row_of(bench, calibration, quiet_s=0.3, repeats=1)
        held += abs(row.net_energy_per_image_j.value - truth) <= row.net_energy_per_image_j.expanded()
    assert held >= 18


@pytest.mark.parametrize("quiet_s", [0.0, 0.1, 0.15])
def test_a_rest_too_short_to_know_more_by_is_left_out(quiet_s: float) -> None:
    bench, _ = bench_of(6)
    assert bench.run("cell", 20.0, BATCHES, BATCH_S, quiet_s=quiet_s).idle_after is None


def test_a_rest_told_longer_than_the_record_ends_with_it() -> None:
    bench, _ = bench_of(6)
    told, ends = (bench.run("cell", t, BATCHES, BATCH_S, quiet_s=s) for t, s in ((20.0, 5.0), (40.0, 0.36)))
    for measured in (told, ends):
        assert measured.idle_after is not None
    assert sum(m.n for m in told.idle_after.halves) == pytest.approx(sum(m.n for m in ends.idle_after.halves), abs=1100)


def test_a_board_that_goes_on_working_after_its_run_is_not_taken_for_idle() -> None:
    def net_w(quiet_s: float, works: bool) -> float:
        bench, calibration = bench_of(7)
        fall_s = 20.0 + RUN_S
        run, t = [(20.0, 1)], 20.0
        for k in range(BATCHES):
            t += BATCH_S
            run.append((t, 1 | (2 if k % 2 == 0 else 0)))
        for at_s, lines in [*run, (fall_s + 5e-6, WORK if works else 0), (fall_s + 0.25, 0)]:
            bench.world.mark(at_s, lines)
        bench.world.mark = lambda t_s, lines: None  # type: ignore[method-assign]
        (row,) = results([bench.run("cell", 20.0, BATCHES, BATCH_S, quiet_s=quiet_s)], calibration)
        return row.net_power_w.value

    rested, alone = net_w(0.3, works=False), net_w(0.0, works=True)
    assert net_w(0.3, works=True) == alone  # half of its rest was none: the stretch before stands
    assert alone == pytest.approx(rested, rel=2e-3)


def test_where_nothing_is_seen_after_runs_their_neighbours_limit_the_baseline() -> None:
    bench, calibration = bench_of(8, idle_wander_a=0.02)
    # A quarter of a period apart: up, back, down.
    cells = [bench.run("cell", 30.0 + k * PERIOD_S / 4, BATCHES, BATCH_S, repeat=k) for k in range(4)]
    (row,) = results(cells, calibration)
    volts = 12.0
    limit = part(row, "net_power_w", "idle baseline, drift") * math.sqrt(3)
    assert limit == pytest.approx(0.02 * volts / 2, rel=0.2)  # neighbours differ by 20 mA
    assert part(row, "power_w", "idle baseline, drift") == 0
    still, _ = row_of(*bench_of(8), quiet_s=0.0)
    assert part(still, "net_power_w", "idle baseline, drift") * math.sqrt(3) < 0.05 * limit


def test_a_change_that_noise_explains_is_no_limit_and_one_that_does_not_repeat_is_scatter() -> None:
    _, calibration = bench_of(9)

    def limit_w(*changes: tuple[float, float]) -> float:
        cells = [
            CellValues(100, 1.0, 0.2, 2e-5, 12.0, 1.0, 0.1, 12.0, 1.2, 0, 0, 0, calibration, idle_change=Change(*c))
            for c in changes
        ]
        found = budget("net_power_w", cells).components
        return math.sqrt(3) * next((c.u for c in found if c.name == "idle baseline, drift"), 0.0)

    assert limit_w((0.004, 0.005)) == 0
    assert limit_w((0.03, 0.0), (-0.03, 0.0)) == 0
    assert limit_w((0.03, 0.0), (0.03, 0.0)) == pytest.approx(0.015)
    assert limit_w((0.05, 0.03)) == pytest.approx(0.02)


FLAT = {"probe_noise_a": 0.0, "probe_slow_noise_a": 0.0, "voltage_noise_v": 0.0, "ripple_relative": 0.0}
WORD = 256
"""What an 8-bit converter's codes are apart in a word."""


def coarse(capture: Capture) -> Capture:
    """The same record from a converter of 8 bits."""
    rough = {
        role: replace(r, codes=((r.codes.astype(np.int64) + WORD // 2) // WORD * WORD).astype(np.uint16))
        for role, r in capture.records.items()
        if role != "markers"
    }
    return Capture({**capture.records, **rough})


def exact(calibration: Calibration) -> Calibration:
    """The same of a bench whose reference and zero are known, as those of these tests are."""
    channels = (
        replace(c, gain=replace(c.gain, u_reference=0.0, others=()), offset=replace(c.offset, drift_u=0.0))
        for c in (calibration.current, calibration.voltage)
    )
    return replace(calibration, current=next(channels), voltage=next(channels), linearity=0.0, residual_a=1e-9)


@pytest.mark.parametrize("quiet_s", [0.0, 0.3])
def test_an_idle_record_of_one_code_does_not_pass_for_exact(quiet_s: float) -> None:
    """6 mA of the current's span are one code of 8 bits: idle and net power may be off by half of that, and say so."""
    name, off_w = "idle baseline, quantisation", []
    for idle_a in np.linspace(0.100, 0.106, 5):
        bench, calibration = bench_of(11, idle_a=float(idle_a), tail_a=0.0, **FLAT)
        fine = bench.capture
        bench.capture = lambda at_s, fine=fine: coarse(fine(at_s))  # type: ignore[method-assign]
        cell = bench.run("cell", 20.0, BATCHES, BATCH_S, quiet_s=quiet_s)
        idle = cell.data.capture["current"].codes[:2000]
        assert len(set(idle.tolist())) == 1
        (row,) = results([cell], exact(calibration))
        off_w.append(row.idle_power_w.value - cell.data.true_idle_power_w)
        assert abs(off_w[-1]) <= row.idle_power_w.expanded()
        assert abs(net_j(cell) * (cell.data.images or 1) / RUN_S - row.net_power_w.value) <= row.net_power_w.expanded()
        half_w = 12.0 * 1.6 / WORD / 2
        assert part(row, "net_power_w", name) * math.sqrt(3) == pytest.approx(half_w, rel=0.05)
        assert part(row, "power_w", name) == 0
    assert max(off_w) - min(off_w) > 0.04


def test_a_zero_of_one_code_does_not_pass_for_exact() -> None:
    """The zero of a quiet clamp may be off by half a code of the converter, and what is measured with it says so."""
    half_a, off_a = 1.6 / WORD / 2, []
    for offset_a in np.linspace(0.010, 0.016, 5):
        bench = Bench.make(11, tail_a=0.0, probe_wander_a=0.0, probe_drift_sd_a_per_s=0.0, output_off_sd_a=0.0, **FLAT)
        bench.world.probe_offset_a = float(offset_a)
        fine = bench.capture
        bench.capture = lambda at_s, fine=fine: coarse(fine(at_s))  # type: ignore[method-assign]
        quiet = bench.steady("zero", 1.0)
        bench.capture = fine  # type: ignore[method-assign]
        assert quiet.mean_i is not None
        assert quiet.mean_i.u == 0
        assert quiet.mean_i.rounding == pytest.approx(half_a, rel=1e-6)
        off_a.append(quiet.mean_i.mean - offset_a)
        assert abs(off_a[-1]) <= quiet.mean_i.rounding
        bench.power(4.0, True)
        cell = bench.run("cell", 20.0, BATCHES, BATCH_S, quiet_s=0.3)
        plain = in_situ.calibrate([zero(quiet)], [], bench.terms())  # gains at 1: no zero cancels
        bench.world.probe_gain = bench.world.voltage_gain = 1.0
        (row,) = results([cell], exact(plain))
        volts = row.power_w.value / 0.8
        assert part(row, "power_w", "current zero, quantisation") * math.sqrt(3) == pytest.approx(
            half_a * volts, rel=0.3
        )
    assert max(off_a) - min(off_a) > 1.5 * half_a
