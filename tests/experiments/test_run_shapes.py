"""The shape of power of runs of several captures, against worlds whose profile, settling and steps are known."""

from __future__ import annotations

import itertools
import math
import pickle
from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np
import pytest

from experiments.capture_data import CaptureData
from experiments.checked import Checks
from experiments.long_runs import MeasuredRun, RunCollector
from experiments.moments import scale
from experiments.parts import CONSECUTIVE, LONG, STEADY, measure_part
from experiments.shape import LEVELS, Shape, of_row
from instruments.waveform import Capture, Record
from tests.runs import GAP_S, Taken, taken
from tests.worlds import WIRES

WINDOW_S = 1.0
LOAD = {"settling_s": 5e-3, "launch_a": 0.4, "launch_s": 0.04, "tail_a": 0.0}
BATCH_S = 0.1


def put_together(run: Taken, parts: Sequence[CaptureData]) -> MeasuredRun:
    collector = RunCollector(Checks(run.bench.lab), WIRES, shape=True)
    for data in parts:
        collector.add(data)
    return collector.finish(run.log_s)


def shape_of(*runs: Taken, change: Callable[[CaptureData], CaptureData] = lambda data: data) -> Shape:
    """The shape of a row of these runs, each capture changed before."""
    found = []
    for run in runs:
        measured = put_together(run, [change(data) for data in [*run.parts, run.after]])
        assert measured.look is not None
        found.append(measured.look.shape(run.calibration.current, run.calibration.voltage, measured.data.at_s))
    row = of_row(found)
    assert row is not None
    return row


def batches(seed: int, total_s: float) -> np.ndarray:
    """Batches whose lengths scatter, so that records begin at any phase; the run ends inside a record."""
    rng = np.random.default_rng(seed)
    return BATCH_S * np.exp(0.02 * rng.standard_normal(round(total_s / BATCH_S)))


WITH_FALL = taken(3, batches(3, 9.3), **LOAD)  # the eighth record lasts from 8.72 to 9.72 s
IN_A_GAP = taken(4, batches(4, 9.86), **LOAD)


def whole(run: Taken) -> int:
    """How many batches but the first lie whole within a record."""
    ends = run.log_s
    begins = [-0.1 * WINDOW_S + k * (WINDOW_S + GAP_S) for k in range(len(run.parts))]
    return sum(any(a <= start and stop < a + WINDOW_S for a in begins) for start, stop in itertools.pairwise(ends[1:]))


def test_settling_steady_state_and_mean_batch_are_those_of_the_load() -> None:
    row = shape_of(WITH_FALL)
    assert row.settling.tau_s == pytest.approx(LOAD["settling_s"], rel=0.1)
    assert row.unsettled == ""
    assert row.steady_from_s < 2 * BATCH_S  # the tail is none: steady at once, or after the first group
    profile = row.profile
    assert profile is not None
    assert abs(profile.batches - whole(WITH_FALL)) <= 2
    assert profile.batch_s == pytest.approx(BATCH_S, rel=0.02)
    assert profile.mean_w.size == 16  # of 6.25 ms: the finest that are not shorter than it settles
    supply_v = 12.003
    early = profile.mean_w[(profile.phase > 0.2) & (profile.phase < 0.38)].mean() / supply_v
    late = profile.mean_w[profile.phase > 0.75].mean() / supply_v
    assert early == pytest.approx(0.4, abs=0.05)
    assert late == pytest.approx(1.0, abs=0.03)
    assert np.all(profile.sd_w < 0.15 * profile.mean_w.mean())
    mean_w = 0.4 * 0.4 * supply_v + 0.6 * supply_v
    assert float(profile.mean_w.mean()) == pytest.approx(mean_w, rel=0.02)
    assert 1.0 < row.crest == pytest.approx(row.peak_w / mean_w, rel=0.03)
    assert supply_v < row.peak_w < 1.15 * supply_v


def test_settling_is_unknown_with_a_reason_where_no_record_holds_the_fall() -> None:
    row = shape_of(IN_A_GAP)
    assert not row.settling.known
    assert row.unsettled == "no record of the run holds the gate's fall"
    assert row.profile is None
    assert row.unsettled in row.why
    # A repeat whose record holds it speaks for the board.
    both = shape_of(IN_A_GAP, WITH_FALL)
    assert both.settling.tau_s == shape_of(WITH_FALL).settling.tau_s
    assert both.unsettled == ""
    assert both.profile is not None
    assert abs(both.profile.batches - whole(WITH_FALL) - whole(IN_A_GAP)) <= 4


@pytest.mark.parametrize("method", [LONG, CONSECUTIVE])
def test_the_order_of_captures_does_not_change_a_bit(method: str) -> None:
    run = WITH_FALL if method == LONG else taken(3, np.full(3, 3.2), method, batch=16, **LOAD)
    captures = [*run.parts, run.after]
    expected = put_together(run, captures)
    for seed in range(3):
        shuffled = [captures[k] for k in np.random.default_rng(seed).permutation(len(captures))]
        again = put_together(run, shuffled)
        assert pickle.dumps(again.look) == pickle.dumps(expected.look)
        assert again.values(run.calibration).values == expected.values(run.calibration).values


def test_what_is_kept_of_a_capture_does_not_grow_with_its_samples() -> None:
    run, sizes = WITH_FALL, []
    for times in (1, 8):
        records = {
            name: Record(
                name,
                replace(r.preamble, points=len(r.codes) * times, x_increment_s=r.preamble.x_increment_s / times),
                np.repeat(r.codes, times),
                r.units,
            )
            for name, r in run.parts[2].capture.records.items()
        }
        part = measure_part(replace(run.parts[2], capture=Capture(records)), WIRES, shape=True)
        assert part.look is not None
        sizes.append(len(pickle.dumps(part.look)))
    assert max(sizes) < 1.3 * min(sizes) < 15_000  # finer bins, up to a limit
    kept = put_together(run, [*run.parts, run.after])
    assert all(p.look is None and p.marks.size == 0 for p in kept.parts)


def raised(until_s: float) -> Callable[[CaptureData], CaptureData]:
    """A load that takes 0.1 A more in the first seconds of the run."""

    def change(data: CaptureData) -> CaptureData:
        if data.kind != "cell":
            return data
        records = dict(data.capture.records)
        old = records["current"]
        begun_s = -0.1 * WINDOW_S + data.part * (WINDOW_S + GAP_S)
        at_s = begun_s + np.arange(len(old.codes)) * data.capture.dt_s
        more = np.where((at_s > 0) & (at_s < until_s), round(0.1 / scale(old).slope / 16) * 16, 0)
        records["current"] = Record("current", old.preamble, (old.codes + more).astype(np.uint16), old.units)
        return replace(data, capture=Capture(records))

    return change


@pytest.mark.parametrize("until_s", [0.5, 1.9, 2.3])  # in the first record, in the second, in the gap after that
def test_the_beginning_that_is_higher_is_not_steady(until_s: float) -> None:
    row = shape_of(WITH_FALL, change=raised(until_s))
    next_s = 2 * (WINDOW_S + GAP_S) - 0.1 * WINDOW_S if until_s > 2.16 else until_s
    assert row.steady_from_s == pytest.approx(next_s, abs=1.1 * BATCH_S)


def test_without_the_first_capture_nothing_is_said_of_the_steady_state() -> None:
    measured = put_together(WITH_FALL, [*WITH_FALL.parts[1:], WITH_FALL.after])
    assert measured.look is not None
    assert math.isnan(measured.look.steady_from_s)
    assert measured.look.settling.known


def test_batches_longer_than_the_records_are_laid_upon_each_other_by_the_log() -> None:
    load = {**LOAD, "launch_s": 1.2}
    run = taken(5, np.full(8, 3.1), CONSECUTIVE, batch=16, **load)
    row = shape_of(run)
    profile = row.profile
    assert profile is not None
    assert 3 <= profile.batches <= 7  # a phase falls into some of the gaps
    assert profile.batch_s == pytest.approx(3.1, rel=1e-3)
    assert profile.mean_w.size >= 32
    expected = np.where(profile.phase < 1.2 / 3.1, 0.4, 1.0) * 12.003
    off = np.abs(profile.mean_w - expected) / 12.003
    assert np.median(off) < 0.01
    assert np.sort(off)[-3] < 0.05  # all but where it steps
    assert row.settling.known


def test_a_run_of_one_batch_or_one_record_says_why_it_has_no_mean_batch() -> None:
    one = shape_of(taken(1, np.array([3.2]), CONSECUTIVE, batch=16, **LOAD))
    assert one.profile is None
    assert one.why == "0 batches that follow another are too few to average"
    steady = shape_of(taken(2, np.array([3.2]), STEADY, batch=16, launch_a=0.4, launch_s=0.001, tail_a=0.0))
    assert steady.profile is None
    assert steady.why == "no record of the run holds a whole batch that follows another"
    assert steady.unsettled == "no record of the run holds the gate's fall"
    assert steady.steady_from_s < 0.05
    assert steady.crest > 1


def test_bins_are_no_finer_than_every_capture_has_samples_for() -> None:
    run = taken(6, np.full(744, 0.0125), **{**LOAD, "settling_s": 2e-4, "launch_s": 0.004})
    row = shape_of(run)
    assert row.profile is not None
    assert row.profile.mean_w.size == 32  # 125 samples a batch, 2 a bin: 62; its settling of 0.2 ms allows 62 too
    assert row.profile.mean_w.size in LEVELS
