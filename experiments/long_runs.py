"""Runs that no single record holds: their captures put together, with what is not known of the rest. Pure.

Long: whole batches of many captures, energy over images. Consecutive: captures that tile a run of batches longer than
the record, mean power times the time by the device's clock. Steady: one record that sees the run begin, and its steady
power for the rest of that time. docs/long-runs.md says when which is right, and derives the components.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from calibration.model import Calibration, Delay
from experiments.checked import Checks
from experiments.components import CellValues, Unseen, rounding_limit
from experiments.energy import CaptureData, Measured, Moments, ReductionError, Wires, corrected_power_w, moments
from experiments.parts import CONSECUTIVE, LONG, STEADY, Part, against_log, joined, measure_part
from experiments.plausible import check_sign
from instruments import markers

NOT_STEADY = "not-steady"
"""Code of a record whose power goes up and down, so that it says nothing of the time outside it."""

BETWEEN, OUTSIDE = "power between captures", "power outside the record"

CLOCK_RATE_LIMIT = 100e-6
"""Limit of the error of the rate of a device's quartz: usual parts state 20 to 50 ppm, and age and warm up."""

LEAST_UNSEEN = 5e-3
"""Least limit of the relative difference between the power that was not recorded and that which was: the mean power of
a board at one and the same work differs by some tenths of a percent from one second to the next run."""

UNSTEADY = 0.05
"""Relative half-range of a steady power's pieces beyond which it is none."""

MOST_SETTLING = 0.5
"""Share of the record's work that may pass before the power is steady."""

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class MeasuredRun(Measured):
    """A run put together from `parts`, those that count; `before` and `after` show the idle board around it."""

    parts: tuple[Part, ...] = ()
    before: Part | None = None
    after: Part | None = None
    unused: tuple[str, ...] = ()
    """Why captures of the run do not count."""

    @property
    def whole_s(self) -> float | None:
        """See `Measured`."""
        if self.timed_by_scope and self.data.method != LONG:
            return None
        return self.run_s

    @property
    def timed_by_scope(self) -> bool:
        """Whether the time is that of the oscilloscope, not of the device's clock."""
        return self.data.method == LONG or (len(self.parts) == 1 and self.parts[0].rise and self.parts[0].fall)

    @property
    def captured_s(self) -> float:
        """How much of the run was recorded, s."""
        return math.fsum(p.seconds for p in self.parts)

    @property
    def run_s(self) -> float:
        """From the gate's rise to its fall, s: by the captured batches, or by the device's clock."""
        if self.data.method == LONG:
            return self.captured_s * (self.data.batches or 0) / sum(p.batches for p in self.parts)
        if self.timed_by_scope:
            return self.captured_s
        return self.data.device_s + self.data.gate_moving_s / 2

    @property
    def clock_limit_s(self) -> float | None:
        """By how much the device's clock may be wrong on the length of the run; None where it does not count."""
        if self.timed_by_scope:
            return None
        return CLOCK_RATE_LIMIT * self.run_s + self.data.gate_moving_s / 2

    def values(self, calibration: Calibration) -> CellValues:
        """See `Measured`."""
        return _values(self, calibration)


class RunCollector:
    """Takes the captures of one run, one after another, and keeps their sums. Live sweeps and replays use the same."""

    def __init__(self, checks: Checks, wires: Wires, delay: Delay | None = None) -> None:
        self._checks, self._wires, self._delay = checks, wires, delay
        self.parts: list[Part] = []
        self.after: Part | None = None
        self.problems: dict[int, ReductionError] = {}
        """What is wrong with a capture, by its row."""

    def add(self, data: CaptureData) -> None:
        """Reduce one capture of the run, or the record of the idle board after it."""
        try:
            self._checks.before(data, self._wires)
            if data.kind == "idle":
                self.after = _idle_part(data, self._wires)
                return
            part = measure_part(data, self._wires, self._delay)
            if part.window is not None:
                check_sign(self._checks.lab, part.window)
            self.parts.append(part)
        except ReductionError as error:
            self.problems[data.index] = error

    def finish(self, log_s: Floats) -> MeasuredRun:
        """Put the run together. `log_s` holds the gate's rise and the ends of batches by the device's clock, s.

        Captures that do not fit the log are added to `problems`; the others count. Raises ReductionError where none
        is left, or they cannot be put together.
        """
        usable: list[Part] = []
        for part in self.parts:
            if len(log_s) > 1 and (problem := against_log(part, log_s)) is not None:
                self.problems[part.data.index] = problem
            else:
                usable.append(part)
        seen = sum(len(p.marks) - p.rise for p in usable)
        if len(log_s) > 1 and seen > len(log_s) - 1:
            raise ReductionError(
                f"extra batch edges: all records together show {seen} batches, the device logged {len(log_s) - 1}",
                "markers-extra",
            )
        return put_together(usable, self.after, self._wires, tuple(str(p) for p in self.problems.values()))


def _idle_part(data: CaptureData, wires: Wires) -> Part:
    """The record of the idle board after a run, whose gate line must be low throughout."""
    current, voltage = data.capture.records[wires.current], data.capture.records[wires.voltage]
    bits = data.capture.records[wires.markers].codes
    if np.any((bits >> wires.gate_bit) & 1):
        raise ReductionError("the gate is high in the record of the idle board after the run", "markers-extra")
    part = measure_part(replace(data, method=STEADY, part=1), wires)  # low throughout: nothing of it counts as work
    return replace(part, idle=moments(current, voltage, 0, len(current.codes)))


def put_together(parts: Sequence[Part], after: Part | None, wires: Wires, unused: tuple[str, ...] = ()) -> MeasuredRun:
    """Make one measurement of the usable captures of a run; raises ReductionError where that cannot be done."""
    held = [p for p in parts if p.window is not None]
    if not held:
        why = "; ".join(dict.fromkeys(unused)) or "no whole batch lies in any of its records: choose a longer --window"
        raise ReductionError(f"no capture of the run is usable: {why}")
    first = held[0]
    data = first.data
    if data.method != LONG and not math.isfinite(data.device_s + data.gate_moving_s):
        raise ReductionError("the device's clock does not tell how long the run lasted, and no single record does")
    if data.method == STEADY:
        if not first.rise:
            raise ReductionError("the record does not show the gate's rise")
        if not first.fall:
            steady_from(first.pieces)  # refuses what is not steady
    before = next((p for p in parts if p.idle is not None), None)
    baseline = next((p.idle for p in (before, after) if p is not None), None)
    if baseline is None:
        raise ReductionError("neither the record before the run nor one after it shows the idle power")
    scales = {(p.window.scale_i, p.window.scale_v) for p in held if p.window is not None}
    windows = [p.window for p in held if p.window is not None]
    # Edges of the first record that counts, for the scatter of batches.
    marks = np.rint(first.marks / data.capture.dt_s).astype(int)
    loop = markers.Window(int(marks[0]), int(marks[-1]), tuple(int(m) for m in marks[1:])) if len(marks) > 1 else None
    return MeasuredRun(
        data,
        None,
        None,
        joined(windows) if len(scales) == 1 else windows[0],
        baseline,
        loop or markers.Window(0, 0, ()),
        wires,
        parts=tuple(held),
        before=before,
        after=after,
        unused=unused,
    )


def steady_from(pieces: Sequence[Moments]) -> int:
    """From which piece of a record's work on the power is steady; raises ReductionError where it is nowhere.

    The later half must agree with the earlier one to `LEAST_UNSEEN`, and no piece may lie off by more than `UNSTEADY`.
    """
    power = np.array([m.mean_vi for m in pieces])
    for start in range(math.floor(MOST_SETTLING * len(power)) + 1):
        rest = power[start:]
        half = len(rest) // 2
        mean = float(rest.mean())
        if (
            abs(float(rest[:half].mean() - rest[half:].mean())) <= LEAST_UNSEEN * abs(mean)
            and half_range(rest) <= UNSTEADY
        ):
            return start
    raise ReductionError(
        f"the power is not steady in the record: its pieces go from {power.min():.3g} to {power.max():.3g} V A "
        "(uncorrected), so that nothing is said of the time outside it: choose --long-batch consecutive or "
        "longer-record",
        NOT_STEADY,
    )


def half_range(values: Floats) -> float:
    """Half of the distance between the smallest and the largest value, relative to their mean."""
    return float(np.ptp(values)) / 2 / abs(float(values.mean()))


# --- values ----------------------------------------------------------------------------------------


def _values(run: MeasuredRun, calibration: Calibration) -> CellValues:
    current, voltage = calibration.current, calibration.voltage
    data, seconds = run.data, np.array([p.seconds for p in run.parts])
    windows = [p.window for p in run.parts if p.window is not None]
    at_s = [p.data.at_s for p in run.parts]
    share = seconds / seconds.sum()
    amps = float(np.dot(share, [current.correct(m.mean_i, t) for m, t in zip(windows, at_s, strict=True)]))
    volts = float(np.dot(share, [voltage.correct(m.mean_v, t) for m, t in zip(windows, at_s, strict=True)]))
    try:
        current.gain.check(amps, "a mean current")
        voltage.gain.check(volts, "a mean voltage")
    except ValueError as error:
        raise ReductionError(str(error)) from error
    watts = np.array([corrected_power_w(m, current, voltage, t) for m, t in zip(windows, at_s, strict=True)])
    idle = _idle(run, calibration)
    whole_s, images = run.run_s, data.images or 0
    if data.method == LONG:
        images = sum(p.batches for p in run.parts) * data.batch
        duration_s, power_w = float(seconds.sum()), float(np.dot(share, watts))
        unseen = _unseen_of_long(run, calibration, watts, idle.watts)
    elif data.method == CONSECUTIVE or run.timed_by_scope:
        duration_s, power_w = whole_s, float(np.dot(share, watts))
        unseen = {} if run.timed_by_scope else _unseen_of_tiles(run, calibration)
    else:
        duration_s = whole_s
        power_w, unseen = _steady(run, calibration, float(watts[0]))
    if not images:
        raise ReductionError("the device logged no images")
    first = windows[0]
    a_per_code, v_per_code = first.scale_i.slope / current.gain.value, first.scale_v.slope / voltage.gain.value
    return CellValues(
        images=images,
        duration_s=duration_s,
        idle_s=idle.effective_s,
        dt_s=first.dt_s,
        volts=volts,
        amps=amps,
        idle_amps=idle.amps,
        power_w=power_w,
        idle_w=idle.watts,
        error_a=abs(a_per_code) * rounding_limit(first.step_i, first.ripple_i),
        error_v=abs(v_per_code) * rounding_limit(first.step_v, first.ripple_v),
        true_j=data.true_energy_j * images / (data.images or 1),
        calibration=calibration,
        pieces=len(run.parts),
        captured_s=float(seconds.sum()),
        clock_limit_s=run.clock_limit_s,
        unseen=unseen,
        idle_limit_w=idle.limit_w,
    )


@dataclass(frozen=True)
class _Idle:
    """Idle current and power at the middle of a run; `effective_s` is the length of a record with as much noise."""

    amps: float
    watts: float
    effective_s: float
    limit_w: float


def _idle(run: MeasuredRun, calibration: Calibration) -> _Idle:
    """The idle power straight between before and after the run.

    A change that came at once, at any moment of the run, would leave its mean anywhere between the two: that is the
    limit.
    """
    current, voltage = calibration.current, calibration.voltage
    known = [(p.data.at_s, p.idle) for p in (run.before, run.after) if p is not None and p.idle is not None]
    values = [
        (at_s, current.correct(m.mean_i, at_s), corrected_power_w(m, current, voltage, at_s), m) for at_s, m in known
    ]
    if len(values) == 1:
        _, amps, watts, m = values[0]
        return _Idle(amps, watts, m.duration_s, 0.0)
    (t0, a0, w0, m0), (t1, a1, w1, m1) = values
    # The run begins where the stretch before it ends; stretches count at their middles.
    from_s, to_s = t0 + m0.duration_s / 2, t1 + m1.duration_s / 2
    share = min(1.0, ((m0.duration_s + run.run_s) / 2) / (to_s - from_s)) if to_s > from_s else 0.5
    noise = (1 - share) ** 2 / m0.duration_s + share**2 / m1.duration_s
    return _Idle((1 - share) * a0 + share * a1, (1 - share) * w0 + share * w1, 1 / noise, abs(w1 - w0) / 2)


# --- what was not recorded ---------------------------------------------------------------------------


def _unseen_of_long(run: MeasuredRun, calibration: Calibration, watts: Floats, idle_w: float) -> dict[str, Unseen]:
    """The scatter of the parts, or, of a single one, a limit from how steady it is."""
    left = max(0.0, 1.0 - run.captured_s / run.run_s)
    if not left:
        return {}
    images = np.array([p.batches for p in run.parts]) * run.data.batch
    times_s = np.array([p.seconds for p in run.parts]) / images
    if len(run.parts) == 1:
        part = run.parts[0]
        power = half_range(_watts(part, calibration))
        time = half_range(_in_groups(np.diff(part.marks), len(part.pieces))) if len(part.marks) > 2 else 0.0
        power, time = max(power, LEAST_UNSEEN) * left, max(time, LEAST_UNSEEN) * left
        return _limits(float(watts[0]), idle_w, float(times_s[0]), power, time, BETWEEN)
    values = {
        "time_per_image_s": times_s,
        "power_w": watts,
        "net_power_w": watts - idle_w,
        "energy_per_image_j": watts * times_s,
        "net_energy_per_image_j": (watts - idle_w) * times_s,
    }
    found = {}
    for quantity, each in values.items():
        u, dof = mean_of_parts(each, images.astype(np.float64))
        found[quantity] = Unseen(BETWEEN, u * math.sqrt(left), dof, "t")
    return found


def mean_of_parts(values: Floats, weights: Floats) -> tuple[float, float]:
    """Standard uncertainty of the weighted mean of parts taken at even distances, and its degrees of freedom.

    From the differences of neighbours (Wolter, Introduction to Variance Estimation, ch. 8: systematic samples; von
    Neumann, Ann. Math. Statist. 12, 367): independent parts scatter as much as from their mean. Where neighbours are
    alike, so is what lies between them, and a slow drift, which even distances average, does not count as scatter.
    """
    share = weights / weights.sum()
    n = len(values)
    variance = float(np.mean(np.diff(values) ** 2)) / 2
    return math.sqrt(variance * float(np.sum(share**2))), max(1.0, 2 * (n - 1) ** 2 / (3 * n - 4))


def _unseen_of_tiles(run: MeasuredRun, calibration: Calibration) -> dict[str, Unseen]:
    """The scatter of pieces as long as the gaps between captures; of too few of them a limit."""
    left = max(0.0, 1.0 - run.captured_s / run.run_s)
    if not left:
        return {}
    gap_s = left * run.run_s / len(run.parts)
    watts, lengths_s = [], []
    for part in run.parts:
        together = max(1, round(gap_s / part.pieces[0].duration_s))
        for at in range(0, len(part.pieces) - together + 1, together):
            piece = joined(part.pieces[at : at + together])
            watts.append(corrected_power_w(piece, calibration.current, calibration.voltage, part.data.at_s))
            lengths_s.append(piece.duration_s)
    time_s = run.run_s / (run.data.images or 1)
    if len(watts) < 2:
        pieces = np.concatenate([_watts(part, calibration) for part in run.parts])
        u_w = left * max(half_range(pieces), LEAST_UNSEEN) * float(pieces.mean()) / math.sqrt(3.0)
        return _same_for_all(lambda per: Unseen(BETWEEN, u_w * per, math.inf, "rectangular"), time_s)
    u, dof = mean_of_parts(np.array(watts), np.array(lengths_s))
    return _same_for_all(lambda per: Unseen(BETWEEN, u * math.sqrt(left) * per, dof, "t"), time_s)


def _steady(run: MeasuredRun, calibration: Calibration, seen_w: float) -> tuple[float, dict[str, Unseen]]:
    """Mean power of a run: what was recorded, and the steady power for the rest of its time."""
    (part,) = run.parts[:1]
    pieces = _watts(part, calibration)[steady_from(part.pieces) :]
    outside = max(0.0, 1.0 - part.seconds / run.run_s)
    power_w = seen_w * (1 - outside) + float(pieces.mean()) * outside
    off_w = outside * max(half_range(pieces), LEAST_UNSEEN) * float(pieces.mean())
    time_s = run.run_s / (run.data.images or 1)
    u_w = off_w / math.sqrt(3.0)
    return power_w, _same_for_all(lambda per: Unseen(OUTSIDE, u_w * per, math.inf, "rectangular"), time_s)


def _same_for_all(unseen: Callable[[float], Unseen], time_s: float) -> dict[str, Unseen]:
    """An error of the mean power in every quantity that holds it."""
    return {
        "power_w": unseen(1.0),
        "net_power_w": unseen(1.0),
        "energy_per_image_j": unseen(time_s),
        "net_energy_per_image_j": unseen(time_s),
    }


def _limits(watts: float, idle_w: float, time_s: float, power: float, time: float, name: str) -> dict[str, Unseen]:
    """Relative limits of power and time as errors of every quantity."""
    net_w = watts - idle_w
    sizes = {
        "time_per_image_s": time * time_s,
        "power_w": power * watts,
        "net_power_w": power * watts,
        "energy_per_image_j": math.hypot(power * watts, time * watts) * time_s,
        "net_energy_per_image_j": math.hypot(power * watts, time * net_w) * time_s,
    }
    return {q: Unseen(name, abs(size) / math.sqrt(3.0), math.inf, "rectangular") for q, size in sizes.items()}


def _watts(part: Part, calibration: Calibration) -> Floats:
    at_s = part.data.at_s
    return np.array([corrected_power_w(m, calibration.current, calibration.voltage, at_s) for m in part.pieces])


def _in_groups(values: Floats, count: int) -> Floats:
    """Means of up to `count` groups of consecutive values."""
    return np.array([g.mean() for g in np.array_split(values, min(count, len(values)))])
