"""Runs put together from several captures, against worlds whose true energy is known."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
from scipy.signal import lfilter

from calibration.budget import Budget, student_t
from experiments.capture_data import CaptureData, ReductionError
from experiments.checked import Checks
from experiments.components import Unseen, budget
from experiments.energy import results
from experiments.long_runs import CLOCK_RATE_LIMIT, RunCollector, with_idle_records
from experiments.measure import measure
from experiments.moments import corrected_power_w, joined, moments
from experiments.parts import CONSECUTIVE, LONG, STEADY, in_pieces
from experiments.run_values import mean_of_parts, wider
from experiments.steady_power import LEAST_UNSEEN, steady_from
from instruments.waveform import Capture, Record
from tests.runs import CLOCK, GAP_S, RUN_AT_S, batches_of, long_run, taken
from tests.worlds import WIRES


@pytest.mark.parametrize("drift", [0.0, 0.03])
def test_a_long_run_gives_the_energy_of_all_of_it(drift: float) -> None:
    off, times, held = [], [], 0
    for seed in range(5):
        run = long_run(seed, drift=drift)
        (row,) = results([run.measured()], run.calibration)
        truth_j = run.true_j / run.images
        assert row.true_energy_per_image_j == pytest.approx(truth_j, rel=1e-12)
        energy, time = row.energy_per_image_j, row.time_per_image_s
        assert abs(energy.value - truth_j) < energy.expanded()
        assert energy.expanded() < 0.02 * truth_j
        off.append(energy.value / truth_j - 1)
        assert row.energy_per_run_j == pytest.approx(
            energy.value * run.images
        )  # of all of it, not of what was recorded
        time_s = run.log_s[-1] / CLOCK / run.images
        held += abs(time.value - time_s) < time.expanded()
        times.append(time.value / time_s - 1)
    assert held >= 4  # of 150 runs, 98 % hold it
    assert abs(float(np.mean(times))) < 3e-4
    assert abs(float(np.mean(off))) < 1e-3


RUN = long_run(7, total_s=8.0)


def test_what_was_not_recorded_is_in_the_budget_and_counts_the_less_the_more_was_seen() -> None:
    run = long_run(3, drift=0.05)
    (whole,) = results([run.measured()], run.calibration)
    collector = RunCollector(Checks(run.bench.lab), WIRES)
    for data in [*run.parts[::3], run.after]:
        collector.add(data)
    (third,) = results([collector.finish(run.log_s)], run.calibration)
    found = [{c.name: c.u for c in row.energy_per_image_j.components} for row in (whole, third)]
    assert 0 < 1.5 * found[0]["power between captures"] < found[1]["power between captures"]
    # The log tells the time of what was not recorded.
    time_s = run.log_s[-1] / CLOCK / run.images
    for row in (whole, third):
        assert "power between captures" not in {c.name for c in row.time_per_image_s.components}
        assert abs(row.time_per_image_s.value - time_s) < row.time_per_image_s.expanded() < 2e-4 * time_s
    measured = run.measured()
    share = measured.captured_s / measured.run_s
    assert 0.7 < share < 1 / (1 + GAP_S) + 0.02


@pytest.mark.parametrize("per_record", [5, 33])
def test_long_batches_count_as_often_as_short_ones(per_record: int) -> None:
    """One batch in fifty takes four times as long: records hold it whole less often, the run does not."""
    for seed in range(2):
        rng = np.random.default_rng(seed)
        times_s = np.where(rng.random(14 * per_record) < 0.02, 4.0, 1.0) / per_record
        times_s[6] = 4.0 / per_record
        run = taken(seed, times_s * np.exp(0.005 * rng.standard_normal(len(times_s))))
        measured = run.measured()
        (row,) = results([measured], run.calibration)
        time_s = run.log_s[-1] / CLOCK / run.images
        assert row.time_per_image_s.value == pytest.approx(time_s, rel=2e-4)
        assert abs(row.time_per_image_s.value - time_s) < row.time_per_image_s.expanded()
        assert row.energy_per_image_j.value == pytest.approx(run.true_j / run.images, rel=4e-3)


def test_edges_of_a_line_behind_usb_come_late_and_each_capture_counts() -> None:
    run = taken(5, batches_of(np.random.default_rng(5), 0.03, 12.0), late_s=1e-3)
    measured, collector = run.collected(lambda data: data)
    assert not collector.problems
    assert len(measured.parts) == len(run.parts)
    (row,) = results([measured], run.calibration)
    time, time_s = row.time_per_image_s, run.log_s[-1] / CLOCK / run.images
    assert abs(time.value - time_s) < time.expanded()
    edges = {c.name: c for c in time.components}["edges against the device's log"]
    # The scatter of an edge is 1 ms / sqrt(12); two ends of each part, and of the run.
    expected = 1e-3 / math.sqrt(12) * math.sqrt(2 * len(run.parts) + 2) / measured.captured_s * time_s
    assert edges.u == pytest.approx(expected, rel=0.2)
    assert edges.dof > 100


def test_one_late_edge_does_not_cost_a_capture() -> None:
    def late(codes: np.ndarray) -> np.ndarray:
        at = np.flatnonzero(np.diff(codes >> 1 & 1)) + 1
        codes[at[4] : at[4] + 120] ^= 2  # 12 ms
        return codes

    measured, collector = RUN.collected(changed(2, "markers", late))
    assert not collector.problems
    (row,) = results([measured], RUN.calibration)
    assert row.time_per_image_s.value == pytest.approx(RUN.log_s[-1] / CLOCK / RUN.images, rel=1e-4)


@pytest.mark.parametrize(("batches_a_round", "in_step"), [(4.0, True), (4.5, True), (4.37, False)])
def test_batches_cut_by_records_in_step_with_them_do_not_move_the_power(batches_a_round: float, in_step: bool) -> None:
    """Where each record, or every other, begins at the same phase of a batch, what is cut does not average out."""
    batch_s = (1.0 + GAP_S) / batches_a_round
    run = taken(3, np.full(60, batch_s), launch_a=0.3, launch_s=0.4 * batch_s, settling_s=2e-3, tail_a=0.0)
    measured = run.measured()
    (row,) = results([measured], run.calibration)
    truth_w = run.true_j / (run.log_s[-1] / CLOCK)
    current, voltage = run.calibration.current, run.calibration.voltage
    plain_w = np.average(
        [corrected_power_w(p.window, current, voltage, p.data.at_s) for p in measured.parts if p.window is not None],
        weights=[p.seconds for p in measured.parts],
    )
    gain = {c.name: c.u for c in row.power_w.components if "gain" in c.name}
    assert abs(row.power_w.value - truth_w) < 2e-3 * truth_w + max(gain.values())
    cut = {c.name: c for c in row.power_w.components}.get("batches cut by records")
    if in_step:
        assert abs(plain_w - row.power_w.value) > 2e-3 * truth_w  # of which the limit is a half
        assert cut is not None
        assert cut.distribution == "rectangular"
        assert cut.u * math.sqrt(3) == pytest.approx(abs(plain_w - row.power_w.value) / 2, rel=0.1)
    else:
        assert cut is None or cut.u < 1e-3 * truth_w


@pytest.mark.parametrize("batches", [40, 41, 43])
def test_batches_as_long_as_each_other_do_not_put_a_record_beyond_the_end_of_the_run(batches: int) -> None:
    """They fit anywhere in the log; what is taken off goes by the phases at which the record begins and ends."""
    batch_s = (1.0 + GAP_S) / 4.5
    for seed in range(4):
        run = taken(seed, batch_s * np.exp(1e-4 * np.random.default_rng(seed).standard_normal(batches)))
        for k, fit in enumerate(run.measured().fits):
            assert fit is not None
            ends_s = min(k * (1.0 + GAP_S) + 0.9, run.log_s[-1])
            assert (fit.cuts[-1, 0] - ends_s / batch_s + 0.5) % 1.0 == pytest.approx(0.5, abs=0.03)


def test_a_change_in_step_with_the_records_is_in_the_budget() -> None:
    """Its phase in the gaps is never seen, and is the same in each record: parts alike say nothing of it."""
    run = long_run(3, total_s=15.0)
    period_s, amps = 1.0 + GAP_S, 0.03

    def swung(data: CaptureData) -> CaptureData:
        if data.kind != "cell":
            return data
        records = dict(data.capture.records)
        old = records["current"]
        at_s = data.at_s - RUN_AT_S + np.arange(len(old.codes)) * data.capture.dt_s
        more = np.rint(amps / old.preamble.y_increment * np.sin(2 * np.pi * at_s / period_s - 0.42) / 16) * 16
        more[(records["markers"].codes & 1) == 0] = 0
        records["current"] = Record("current", old.preamble, (old.codes + more).astype(np.uint16), old.units)
        return replace(data, capture=Capture(records))

    (plain,), (row,) = (results([m], run.calibration) for m in (run.measured(), run.measured(swung)))
    moved_w = abs(row.power_w.value - plain.power_w.value)
    between = [{c.name: c for c in r.power_w.components}["power between captures"] for r in (plain, row)]
    assert moved_w > 3 * between[0].u  # the swing averages to nothing over the run, not over what was recorded
    assert student_t(0.95, between[1].dof) * between[1].u > moved_w
    assert between[1].u < 5 * moved_w


def test_without_an_idle_record_after_it_a_run_has_the_drift_of_its_session() -> None:
    run = RUN
    collector = RunCollector(Checks(run.bench.lab), WIRES)
    for data in run.parts:
        collector.add(data)
    alone = collector.finish(run.log_s)
    idle = [measure(replace(run.after, method="", at_s=t), WIRES) for t in (15.0, 35.0)]
    moved = replace(idle[1], mean_i=replace(idle[1].mean_i, mean=idle[1].mean_i.mean + 0.01))
    known = with_idle_records([alone], [idle[0], moved])
    limits = []
    for measured in ([run.measured()], [alone], known):
        (row,) = results(measured, run.calibration)
        limits.append({c.name: c.u for c in row.net_power_w.components}.get("idle baseline, drift", 0.0))
    idle_w = row.idle_power_w.value
    assert limits[1] == pytest.approx(LEAST_UNSEEN * idle_w / math.sqrt(3))  # nothing is known: not 0
    assert limits[2] > 0.8 * 0.01 * 12 / math.sqrt(3) > limits[1]


def test_the_idle_stretch_of_a_run_is_rounded_by_itself() -> None:
    """The work spreads the codes and the quiet idle board does not: what rounding leaves in each is its own."""

    def rounded(data: CaptureData) -> CaptureData:
        records = {
            role: r if role == "markers" else replace(r, codes=((r.codes.astype(int) + 128) // 256 * 256).astype("u2"))
            for role, r in data.capture.records.items()
        }
        return replace(data, capture=Capture(records))

    flat = {"probe_noise_a": 0.0, "probe_slow_noise_a": 0.0, "voltage_noise_v": 0.0, "ripple_relative": 0.0}
    run = taken(3, np.full(100, 0.03), LONG, **flat)
    (row,) = results([run.measured(rounded)], run.calibration)
    (idle,) = [c for c in row.net_power_w.components if c.name == "idle baseline, quantisation"]
    loop = [c for c in row.power_w.components if c.name == "current quantisation"]
    assert idle.u * math.sqrt(3) == pytest.approx(12.0 * 1.6 / 256 / 2, rel=0.05)
    assert sum(c.u for c in loop) < 0.9 * idle.u


def test_the_jitter_of_a_line_widens_the_time_of_the_device_and_does_not_move_it() -> None:
    run = taken(1, np.array([3.2]), CONSECUTIVE, batch=16)
    plain = run.measured()
    jittery = run.measured(lambda data: replace(data, gate_jitter_s=1e-3))
    assert jittery.run_s == plain.run_s
    assert plain.clock_limit_s is not None
    assert jittery.clock_limit_s == pytest.approx(plain.clock_limit_s + 1e-3)


def test_a_single_usable_capture_is_a_limit_and_no_scatter() -> None:
    run = long_run(4, total_s=1.5)
    collector = RunCollector(Checks(run.bench.lab), WIRES)
    collector.add(run.parts[0])
    collector.add(run.after)
    (row,) = results([collector.finish(run.log_s)], run.calibration)
    (unseen,) = [c for c in row.energy_per_image_j.components if c.name == "power between captures"]
    assert unseen.distribution == "rectangular"
    left = 1 - run.measured().parts[0].seconds / (run.log_s[-1] / CLOCK)
    assert unseen.u > left * LEAST_UNSEEN * row.energy_per_image_j.value / math.sqrt(3)
    assert abs(row.energy_per_image_j.value - run.true_j / run.images) < row.energy_per_image_j.expanded()


def test_a_drift_of_the_idle_power_is_taken_off_half_way() -> None:
    # A zero that wanders by tens of milliamperes during a minute: gross energy has it, net energy has not.
    wander = {"probe_wander_a": 0.03, "probe_wander_period_s": 120.0, "probe_slow_noise_a": 0.0}
    better, worse = [], []
    for seed in range(4):
        run = long_run(seed, total_s=25.0, **wander)
        truth_j = (run.true_j - run.true_idle_w * run.log_s[-1]) / run.images
        (row,) = results([run.measured()], run.calibration)
        net = row.net_energy_per_image_j
        assert "idle baseline, drift" in {c.name for c in net.components}
        better.append(abs(net.value / truth_j - 1))
        assert abs(net.value - truth_j) < net.expanded()
        collector = RunCollector(Checks(run.bench.lab), WIRES)
        for data in run.parts:
            collector.add(data)
        (before_only,) = results([collector.finish(run.log_s)], run.calibration)
        worse.append(abs(before_only.net_energy_per_image_j.value / truth_j - 1))
    assert np.mean(better) < 0.7 * np.mean(worse)


# --- captures that do not fit -------------------------------------------------------------------


def changed(number: int, role: str, change: Callable[[np.ndarray], np.ndarray]) -> Callable[[CaptureData], CaptureData]:
    """Change the codes of one record of one capture."""

    def apply(data: CaptureData) -> CaptureData:
        if data.index != number:
            return data
        records = dict(data.capture.records)
        old = records[role]
        records[role] = Record(role, old.preamble, change(old.codes.copy()), old.units)
        return replace(data, capture=Capture(records))

    return apply


def clipped(codes: np.ndarray) -> np.ndarray:
    codes[5000:5010] = 0xFF00
    return codes


def without_edge(codes: np.ndarray) -> np.ndarray:
    """Two toggles of the batch line are not seen: one batch of three times the length."""
    at = np.flatnonzero(np.diff(codes >> 1 & 1)) + 1
    codes[at[4] : at[5]] ^= 2
    return codes


def glitch(codes: np.ndarray) -> np.ndarray:
    codes[6000:6002] ^= 2
    return codes


def gate_drops(codes: np.ndarray) -> np.ndarray:
    codes[6000:6050] &= 2
    return codes


def gate_low(codes: np.ndarray) -> np.ndarray:
    return codes & 2


@pytest.mark.parametrize(
    ("number", "role", "change", "reason"),
    [
        (2, "current", clipped, "clipped"),
        (0, "current", clipped, "clipped"),
        (2, "markers", without_edge, "do not fit the device's log"),
        (3, "markers", glitch, "do not fit the device's log"),
        (2, "markers", gate_drops, "gate has 2 edges"),
        (2, "markers", gate_low, "outside the gate"),
        (0, "markers", gate_low, "never moves"),
    ],
)
def test_a_capture_that_does_not_fit_is_left_out_and_the_others_count(
    number: int, role: str, change: Callable[[np.ndarray], np.ndarray], reason: str
) -> None:
    run = RUN
    measured, collector = run.collected(changed(number, role, change))
    assert set(collector.problems) == {number}
    assert reason in str(collector.problems[number])
    assert collector.problems[number].code != "rejected"
    assert [p.data.part for p in measured.parts] == [p.index for p in run.parts if p.index != number]
    (row,) = results([measured], run.calibration)
    energy = row.energy_per_image_j
    assert abs(energy.value - run.true_j / run.images) < energy.expanded()


def test_a_run_of_which_no_capture_is_usable_says_why() -> None:
    def apply(data: CaptureData) -> CaptureData:
        return changed(data.index, "current", clipped)(data)

    with pytest.raises(ReductionError, match=r"no capture of the run is usable: 10 samples of the current are clipped"):
        RUN.measured(apply)


def test_a_record_of_another_run_is_noticed_by_its_intervals() -> None:
    other = taken(8, batches_of(np.random.default_rng(8), 0.032, 8.0))
    middle = other.parts[3]
    collector = RunCollector(Checks(RUN.bench.lab), WIRES)
    for data in [*RUN.parts[:3], replace(middle, index=3), *RUN.parts[4:], RUN.after]:
        collector.add(data)
    collector.finish(RUN.log_s)
    assert set(collector.problems) == {3}


def test_sums_of_pieces_are_those_of_the_whole() -> None:
    records = RUN.parts[1].capture.records
    current, voltage = records["current"], records["voltage"]
    whole = moments(current, voltage, 17, 9_876)
    for count in (1, 7, 16):
        pieces = joined(in_pieces(current, voltage, 17, 9_876, count))
        assert (pieces.n, pieces.sum_i, pieces.sum_v, pieces.sum_vi) == (
            whole.n, whole.sum_i, whole.sum_v, whole.sum_vi,
        )  # fmt: skip


# --- a batch longer than the record ---------------------------------------------------------------


@pytest.mark.parametrize("method", [CONSECUTIVE, STEADY])
def test_a_batch_longer_than_the_record_is_known_without_a_record_that_holds_it(method: str) -> None:
    for seed in range(4):
        run = taken(seed, np.array([3.2]), method, batch=16)
        measured = run.measured()
        (row,) = results([measured], run.calibration)
        energy, time = row.energy_per_image_j, row.time_per_image_s
        assert abs(energy.value - run.true_j / 16) < energy.expanded()
        assert time.value == pytest.approx(3.2 / 16, rel=1.1 * CLOCK_RATE_LIMIT)
        assert abs(time.value - 3.2 / 16) < time.expanded()
        assert time.expanded() > 0.9 * CLOCK_RATE_LIMIT * time.value  # the clock's rate is not known better
        names = {c.name for c in energy.components}
        assert "time by the device's clock" in names
        assert "timebase" not in names
        assert ("power between captures" if method == CONSECUTIVE else "power outside the record") in names


def test_one_record_with_both_marks_is_timed_by_the_oscilloscope() -> None:
    run = taken(1, np.array([0.7]), STEADY, batch=16)
    measured = run.measured()
    (row,) = results([measured], run.calibration)
    names = {c.name for c in row.energy_per_image_j.components}
    assert "timebase" in names
    assert not names & {"time by the device's clock", "power outside the record", "power between captures"}
    assert row.time_per_image_s.value == pytest.approx(0.7 / 16, rel=3e-4)


def test_a_power_that_goes_up_and_down_is_not_called_steady() -> None:
    run = taken(2, np.array([3.2]), STEADY, batch=16)
    records = run.parts[0].capture.records
    steady = in_pieces(records["current"], records["voltage"], 2_000, 10_000, 16)
    late = in_pieces(records["current"], records["voltage"], 500, 10_000, 16)
    assert steady_from(steady, 3.2) == 0
    assert steady_from(late, 3.2) in (1, 2)  # the gate rises at sample 1000
    assert steady_from([piece for pair in zip(steady, late[:1] * 16, strict=True) for piece in pair], 3.2) is None


# --- the scatter of parts ---------------------------------------------------------------------------


@pytest.mark.parametrize(("alike", "drift"), [(0.0, 0.0), (0.9, 0.0), (0.99, 0.0), (0.9, 0.01)])
def test_what_a_whole_run_did_is_held_by_the_interval_of_its_parts(alike: float, drift: float) -> None:
    """Twenty parts of 20 steps with gaps of 5, of a power whose neighbouring steps are alike, and that may drift."""
    rng = np.random.default_rng(5)
    held, wide = 0, []
    for _ in range(400):
        whole = lfilter([math.sqrt(1 - alike**2)], [1, -alike], rng.standard_normal(700))[200:]
        whole += drift * np.arange(500)
        parts = whole.reshape(20, 25)[:, :20].mean(axis=1)
        u, dof = mean_of_parts(parts, np.ones(20))
        half = student_t(0.95, dof) * u * math.sqrt(0.2)
        held += abs(parts.mean() - whole.mean()) <= half
        wide.append(half / np.abs(whole - whole.mean()).max())
    assert held / 400 > 0.93
    assert np.mean(wide) < 0.2


def test_of_few_parts_the_wider_interval_counts_and_not_the_larger_u() -> None:
    """Four parts have 2.25 degrees of freedom, the eight places within them 7."""
    _, dof = mean_of_parts(np.array([1.0, 2.0, 1.0, 2.0]), np.ones(4))
    assert dof == pytest.approx(2.25)
    few = (1.0, dof)
    assert wider(few, (1.3, 7.0)) == few  # 3.9 against 3.1
    assert wider(few, (2.0, 7.0)) == (2.0, 7.0)
    assert wider((0.0, 1.0), (1e-9, 7.0)) == (1e-9, 7.0)


def test_weights_of_parts_count() -> None:
    values = np.array([1.0, 2.0, 4.0])
    plain = mean_of_parts(values, np.ones(3))
    assert plain[0] == pytest.approx(math.sqrt((1 + 4) / 2 / 2 / 3))
    assert mean_of_parts(values, np.array([1.0, 1.0, 0.0]))[0] == pytest.approx(plain[0] * math.sqrt(3 / 2))


# --- rows of several runs ---------------------------------------------------------------------------


def row_of(unseen: list[Unseen], powers: list[float], sessions: int = 1) -> Budget:
    """The budget of the power of runs that have no other component worth the name."""
    base = RUN.measured().values(RUN.calibration)
    still = [replace(base.calibration, residual_a=0.001 * k) for k in range(sessions)]
    cells = [
        replace(base, power_w=power, unseen={"power_w": (one,)}, calibration=still[k % sessions])
        for k, (one, power) in enumerate(zip(unseen, powers, strict=True))
    ]
    return budget("power_w", cells)


def test_a_limit_of_what_was_not_recorded_is_not_taken_off_the_scatter_of_repeats() -> None:
    powers, name = [9.0, 10.0, 11.0], "power between captures"
    scattered = row_of([Unseen(name, 0.5, 9.0, "t")] * 3, powers)
    limited = row_of([Unseen(name, 0.5, math.inf, "rectangular")] * 3, powers)
    u = {kind: {c.name: c.u for c in b.components}["repeatability"] for kind, b in (("t", scattered), ("r", limited))}
    assert u["t"] ** 2 == pytest.approx(1 / 3 - 0.25 / 3, rel=0.02)
    assert u["r"] ** 2 == pytest.approx(1 / 3, rel=0.02)


def test_a_limit_and_a_scatter_of_one_name_stay_apart_in_two_sessions() -> None:
    name = "power between captures"
    unseen = [Unseen(name, 0.5, math.inf, "rectangular"), Unseen(name, 0.3, 9.0, "t")]
    found = [c for c in row_of(unseen, [10.0, 10.0], sessions=2).components if c.name == name]
    assert sorted((c.distribution, round(c.u, 6)) for c in found) == [("rectangular", 0.25), ("t", 0.15)]
