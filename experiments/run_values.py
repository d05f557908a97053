"""The values of a run that no single record holds, with what is not known of the rest of it. Pure.

docs/long-runs.md derives the components.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from calibration.budget import COVERAGE_PROBABILITY, student_t
from calibration.model import Calibration
from experiments.capture_data import ReductionError
from experiments.components import BETWEEN, EDGES, CellValues, Unseen, rounding_limit
from experiments.measure import rounding_of
from experiments.moments import corrected_power_w, joined
from experiments.parts import CONSECUTIVE, LONG
from experiments.run_cuts import Cuts, cuts_of, in_step, watts_of
from experiments.steady_power import LEAST_UNSEEN, half_range, steady_mean_w

if TYPE_CHECKING:
    from experiments.long_runs import MeasuredRun

OUTSIDE, CUT = "power outside the record", "batches cut by records"

Floats = NDArray[np.float64]


def values_of(run: MeasuredRun, calibration: Calibration) -> CellValues:
    """Apply a calibration to a run. Raises ReductionError where a mean lies outside the range of its gain."""
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
    cuts = cuts_of(run, calibration)
    watts = watts - cuts.of_parts / seconds
    images, duration_s, power_w = data.images or 0, run.run_s, _of_all(run, calibration, cuts, watts)
    if not images:
        raise ReductionError("the device logged no images")
    if data.method == LONG:
        unseen = _unseen_of_long(run, calibration, cuts, watts, idle.watts, power_w)
        unseen = _together(unseen, _of_power(_of_limit(CUT, cuts.limit_w), duration_s / images))
        if seen := sum(p.batches for p in run.parts) * data.batch:  # whose ends are each known to half a sample
            images, duration_s = seen, duration_s * seen / images
    elif data.method == CONSECUTIVE or run.timed_by_scope:
        unseen = {} if run.timed_by_scope else _unseen_of_tiles(run, calibration)
    else:
        power_w, unseen = _steady(run, calibration, float(watts[0]))
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
        idle_error_a=abs(a_per_code) * idle.error_i,
        idle_error_v=abs(v_per_code) * idle.error_v,
        run_images=data.images,
    )


@dataclass(frozen=True)
class _Idle:
    """Idle current and power at the middle of a run; `effective_s` is the length of a record with as much noise.

    `error_i` and `error_v` limit what rounding leaves in the means, in codes.
    """

    amps: float
    watts: float
    effective_s: float
    limit_w: float
    error_i: float
    error_v: float


def _idle(run: MeasuredRun, calibration: Calibration) -> _Idle:
    """The idle power straight between before and after the run.

    A change that came at once, at any moment of the run, would leave its mean anywhere between the two: that is the
    limit. Where one of them is missing, it may have changed by as much as between any idle records of the session.
    """
    current, voltage = calibration.current, calibration.voltage
    known = [(p.data.at_s, p.idle) for p in (run.before, run.after) if p is not None and p.idle is not None]
    values = [
        (at_s, current.correct(m.mean_i, at_s), corrected_power_w(m, current, voltage, at_s), m) for at_s, m in known
    ]
    loop = next(p.window for p in run.parts if p.window is not None)
    rounding = [rounding_of(m, loop) for _, m in known]
    if len(values) == 1:
        _, amps, watts, m = values[0]
        others = [
            current.correct(r.mean_i.mean, r.data.at_s) * voltage.correct(r.mean_v.mean, r.data.at_s)
            for r in run.idle_records
            if r.mean_i is not None and r.mean_v is not None
        ]
        spread_w = max(watts, *others) - min(watts, *others) if others else 0.0
        return _Idle(amps, watts, m.duration_s, max(spread_w, LEAST_UNSEEN * abs(watts)), *rounding[0])
    (t0, a0, w0, m0), (t1, a1, w1, m1) = values
    # The run begins where the stretch before it ends; stretches count at their middles.
    from_s, to_s = t0 + m0.duration_s / 2, t1 + m1.duration_s / 2
    share = min(1.0, ((m0.duration_s + run.run_s) / 2) / (to_s - from_s)) if to_s > from_s else 0.5
    noise = (1 - share) ** 2 / m0.duration_s + share**2 / m1.duration_s
    error_i, error_v = ((1 - share) * e0 + share * e1 for e0, e1 in zip(*rounding, strict=True))  # may lie alike
    amps, watts = (1 - share) * a0 + share * a1, (1 - share) * w0 + share * w1
    return _Idle(amps, watts, 1 / noise, abs(w1 - w0) / 2, error_i, error_v)


# --- what was not recorded ---------------------------------------------------------------------------


def _unseen_of_long(
    run: MeasuredRun, calibration: Calibration, cuts: Cuts, watts: Floats, idle_w: float, power_w: float
) -> dict[str, tuple[Unseen, ...]]:
    """The scatter of the parts' power, or, of a single one, a limit from how steady it is; and how well the log's time
    is known by the oscilloscope."""
    time_s = run.run_s / (run.data.images or 1)
    found = _of_time(run, time_s, power_w, idle_w)
    left = max(0.0, 1.0 - run.captured_s / run.run_s)
    if not left:
        return found
    if len(run.parts) == 1:
        limit = left * max(half_range(watts_of(run.parts[0], calibration)), LEAST_UNSEEN) * abs(power_w)
        between = _of_limit(BETWEEN, limit)
    else:
        u, dof = mean_of_parts(watts, np.array([p.seconds for p in run.parts]))
        u_step, dof_step = in_step(run, calibration, cuts)
        between = Unseen(BETWEEN, *wider((u * math.sqrt(left), dof), (left * u_step, dof_step)), "t")
    return _together(found, _of_power(between, time_s))


def _of_time(run: MeasuredRun, time_s: float, power_w: float, idle_w: float) -> dict[str, tuple[Unseen, ...]]:
    """What the latencies of edges do to the rate of the log's clock: each part has two, the log of all of it too."""
    seen = [fit for fit in run.fits if fit is not None and fit.logged_s > 0]
    dof = sum(fit.dof for fit in seen)
    if not run.timed_by_scope or dof < 1:
        return {}
    scatter_s = math.sqrt(math.fsum(fit.left_s2 for fit in seen) / dof)
    share = scatter_s * math.sqrt(2 * len(seen) + 2) / math.fsum(fit.logged_s for fit in seen)
    per = {"time_per_image_s": 1.0, "energy_per_image_j": power_w, "net_energy_per_image_j": power_w - idle_w}
    return {quantity: (Unseen(EDGES, share * time_s * abs(by), dof, "t"),) for quantity, by in per.items()}


def _of_all(run: MeasuredRun, calibration: Calibration, cuts: Cuts, watts: Floats) -> float:
    """Mean power of a run from that of its parts without their cuts: what was recorded, and the same for what was not.

    The beginning, in which the board comes up, was recorded, and does not stand for anything else: the mean without it
    does.
    """
    seconds = np.array([p.seconds for p in run.parts])
    seen_w = float(np.dot(seconds, watts)) / float(seconds.sum())
    left, first = max(0.0, 1.0 - float(seconds.sum()) / run.run_s), run.parts[0]
    if not left or not first.rise or len(first.pieces) == len(run.parts) == 1:
        return seen_w
    begin = first.pieces[0]
    begin_w = corrected_power_w(begin, calibration.current, calibration.voltage, first.data.at_s)
    begin_j = begin_w * begin.duration_s - float(cuts.excess_j[0][0])  # it, too, may end in the middle of a batch
    rest_w = (seen_w * float(seconds.sum()) - begin_j) / (float(seconds.sum()) - begin.duration_s)
    return (1 - left) * seen_w + left * rest_w


def _of_limit(name: str, half_width: float) -> Unseen:
    return Unseen(name, half_width / math.sqrt(3.0), math.inf, "rectangular")


def _together(*found: Mapping[str, tuple[Unseen, ...]]) -> dict[str, tuple[Unseen, ...]]:
    names = dict.fromkeys(name for one in found for name in one)
    return {name: tuple(u for one in found for u in one.get(name, ())) for name in names}


def wider(*found: tuple[float, float]) -> tuple[float, float]:
    """That of several (u, degrees of freedom) whose interval is the widest: a smaller u of fewer may say less."""
    return max(found, key=lambda one: one[0] * student_t(COVERAGE_PROBABILITY, one[1]))


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


def _unseen_of_tiles(run: MeasuredRun, calibration: Calibration) -> dict[str, tuple[Unseen, ...]]:
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
        pieces = np.concatenate([watts_of(part, calibration) for part in run.parts])
        limit_w = left * max(half_range(pieces), LEAST_UNSEEN) * float(pieces.mean())
        return _of_power(_of_limit(BETWEEN, limit_w), time_s)
    u, dof = mean_of_parts(np.array(watts), np.array(lengths_s))
    return _of_power(Unseen(BETWEEN, u * math.sqrt(left), dof, "t"), time_s)


def _steady(run: MeasuredRun, calibration: Calibration, seen_w: float) -> tuple[float, dict[str, tuple[Unseen, ...]]]:
    """Mean power of a run: what was recorded, and the steady power for the rest of its time."""
    (part,) = run.parts[:1]
    outside = max(0.0, 1.0 - part.seconds / run.run_s)
    steady_w, limit_w = steady_mean_w(part, run.of_row, calibration)
    power_w = seen_w * (1 - outside) + steady_w * outside
    time_s = run.run_s / (run.data.images or 1)
    return power_w, _of_power(_of_limit(OUTSIDE, outside * limit_w), time_s)


def _of_power(error: Unseen, time_s: float) -> dict[str, tuple[Unseen, ...]]:
    """An error of the mean power in every quantity that holds it."""
    per_image = (replace(error, u=error.u * time_s),)
    return {
        "power_w": (error,),
        "net_power_w": (error,),
        "energy_per_image_j": per_image,
        "net_energy_per_image_j": per_image,
    }
