"""One capture -> exact sums over its stretches (`measure`), and with a calibration one run's values. Pure.

The sums are kept until the calibration of the whole run is known: the zero is taken again at its end.
"""

from __future__ import annotations

import math
from array import array
from dataclasses import dataclass, replace

from calibration.model import Calibration, Delay
from calibration.statistics import BLOCKS, MeanOfRecord, mean_of_record
from experiments.capture_data import CaptureData, ReductionError, Wires, changed, facts_of
from experiments.clock_fit import ClockFit
from experiments.components import CellValues, Change, rounding_limit
from experiments.moments import Moments, corrected_power_w, joined, moments
from instruments import markers
from instruments.waveform import Record

GUARD_S = 0.02
"""Time kept clear of the gate's rise, or of the start frame before it, when the idle stretch before is averaged; a
quarter of a short one."""

MIN_IDLE_SAMPLES = 100
"""The shortest idle stretch before the gate that is worth averaging."""

AFTER_GUARD_S = 0.1
"""Time kept clear after the gate's fall, when the idle stretch after is averaged: eight times what a board's capacitors
and converters take to settle (`shape.settling` finds 2 ms, of slow ones 12), and the agent has come to rest by then."""

AFTER_SHARE = 0.25
"""The stretch after must be this share of that before: of a shorter one the straight line would be noisier."""

UNSETTLED_U, UNSETTLED_SHARE = 4.0, 0.01
"""Differences of the halves of the stretch after, in standard uncertainties and relative to the idle power, above which
both the board has not come to rest in it."""


@dataclass(frozen=True)
class IdleAfter:
    """Sums over both halves of the idle stretch after the gate's fall; `start` is its first sample."""

    start: int
    halves: tuple[Moments, Moments]


@dataclass(frozen=True)
class Measured:
    """One capture reduced: means of the steady stretch for zero, idle and gain, sums and batch ends for a cell."""

    data: CaptureData
    mean_i: MeanOfRecord | None
    mean_v: MeanOfRecord | None
    window: Moments | None
    idle: Moments | None
    loop: markers.Window | None = None
    wires: Wires | None = None
    undelayed: tuple[Moments, float, float] | None = None
    """The stretch of the work under the marker delay for which it was summed, and what is left of that; see
    `summed`."""
    idle_after: IdleAfter | None = None
    clock: ClockFit | None = None
    """How the batch edges follow the device's log, where that was looked at (`checked.Checks`)."""

    @property
    def whole_s(self) -> float | None:
        """How long the whole run was, where its captures hold a part of it only."""
        return None

    def values(self, calibration: Calibration) -> CellValues:
        """Apply a calibration. Raises ReductionError where a mean lies outside the range of its gain."""
        return _cell(self, calibration)


def measure(data: CaptureData, wires: Wires) -> Measured:
    """Reduce one capture to sums.

    Raises ReductionError with the reason when it cannot be used: no whole gate window, batch edges
    that disagree with the device's log, the start frame of another run, holes, clipping, or no idle stretch
    before the gate.
    """
    if data.problem is not None:
        raise ReductionError(data.problem, data.problem_code)
    current, voltage = data.capture.records[wires.current], data.capture.records[wires.voltage]
    dt_s = current.preamble.x_increment_s
    if data.kind in ("zero", "idle"):
        n = len(current.codes)
        sums = moments(current, voltage, 0, n)
        return Measured(data, *_rounded(_means(current, voltage, 0, n), sums), None, None)
    window, quiet = _window(data, wires)
    require_trigger(data, window.start, dt_s)
    guard = idle_guard(quiet, dt_s)
    if data.kind == "gain":
        if window.samples < 20 * max(guard, 10):
            raise ReductionError("the reference run is too short to compare with the supply")
        steady = _means(current, voltage, window.start + guard, window.stop)
        return Measured(data, *steady, moments(current, voltage, window.start, window.stop), None)
    require_idle(quiet, guard, dt_s)
    return Measured(
        data,
        None,
        None,
        moments(current, voltage, window.start, window.stop),
        moments(current, voltage, 0, quiet - guard),
        window,
        wires,
        idle_after=_idle_after(data, current, voltage, window.stop, quiet - guard),
    )


def _idle_after(data: CaptureData, current: Record, voltage: Record, fall: int, before: int) -> IdleAfter | None:
    """Sum the stretch after the gate's fall at sample `fall` in which the device did nothing; None where it is short.

    `before` counts the samples of the stretch before.
    """
    dt_s = current.preamble.x_increment_s
    start = fall + math.ceil(AFTER_GUARD_S / dt_s)
    # The marks may lag behind the work, so that its rest ends earlier than they tell.
    stop = min(fall + math.floor((data.quiet_after_s - GUARD_S) / dt_s), len(current.codes))
    if stop - start < max(MIN_IDLE_SAMPLES, AFTER_SHARE * before):
        return None
    middle = (start + stop) // 2
    first = moments(current, voltage, start, middle)
    return IdleAfter(start, (first, moments(current, voltage, middle, stop, rounded=False)))


def summed(measured: Measured, delay: Delay | None = None) -> Measured:
    """Sum what else needs the codes of a capture, whose other sums are known.

    `delay` is that of the calibration with which it will be reduced. Raises ReductionError as `results` does.
    """
    moved = None if measured.window is None else _undelayed(measured, measured.window, delay)
    loop = measured.loop and replace(measured.loop, batch_ends=array("I", measured.loop.batch_ends))
    return changed(measured, loop=loop, undelayed=moved)


def without_codes(measured: Measured, delay: Delay | None = None) -> Measured:
    """Drop the codes of a capture once it is `summed`: a long run does not fit into memory with all of them."""
    return changed(summed(measured, delay), data=facts_of(measured.data))


def require_trigger(data: CaptureData, start: int, dt_s: float) -> None:
    """Raise ReductionError where the gate does not rise, at sample `start`, when the record was triggered."""
    rise_s = data.capture.start_s + (start - 0.5) * dt_s
    if abs(rise_s) > max(5 * dt_s, 1e-3):
        raise ReductionError(
            f"the gate rises {rise_s * 1e3:.3f} ms from the trigger: this record is not of this run", "stale-record"
        )


def idle_guard(quiet: int, dt_s: float) -> int:
    """Samples kept clear at the end of the idle stretch of `quiet` samples; see `GUARD_S`."""
    return min(math.ceil(GUARD_S / dt_s), quiet // 4)


def require_idle(quiet: int, guard: int, dt_s: float) -> None:
    """Raise ReductionError where the idle stretch before the gate is too short to average."""
    if quiet - guard < MIN_IDLE_SAMPLES:
        raise ReductionError(
            f"only {quiet * dt_s * 1e3:.0f} ms were recorded before the gate, too little to know the idle power"
        )


def frame_of(data: CaptureData, wires: Wires) -> markers.StartFrame | None:
    """Read the start frame where one was sent; raises ReductionError when it is that of another run."""
    return _frame_of(data, wires, markers.changes(data.capture.records[wires.markers].codes))


def _frame_of(data: CaptureData, wires: Wires, bits: markers.Changes) -> markers.StartFrame | None:
    frame = markers.start_frame(bits, wires.gate_bit, wires.batch_bit) if data.start_frame is not None else None
    if frame is not None and frame.number is not None and frame.number != data.start_frame:
        raise ReductionError(
            f"record of another run: its start frame says {frame.number}, this run's number is {data.start_frame}",
            "wrong-run",
        )
    return frame


def require_frame(data: CaptureData, frame: markers.StartFrame | None) -> None:
    """Raise ReductionError where a start frame was sent and is not whole."""
    if frame is not None and frame.problem is not None:
        raise ReductionError(frame.problem, frame.problem.code)
    if frame is not None and frame.edges != data.start_frame_edges:
        raise ReductionError(
            f"{frame.edges} batch edges lie before the gate, where the device made {data.start_frame_edges}",
            "markers-extra" if frame.edges > data.start_frame_edges else "markers-missing",
        )


def _window(data: CaptureData, wires: Wires) -> tuple[markers.Window, int]:
    """Find the measured loop, and the sample up to which the device was idle; check whose record it is."""
    bits = markers.changes(data.capture.records[wires.markers].codes)
    frame = _frame_of(data, wires, bits)
    decoded = markers.decode(bits, wires.gate_bit, wires.batch_bit, framed=frame is not None)
    if decoded.window is None:
        raise ReductionError("; ".join(decoded.problems), decoded.problems[0].code)
    disagreement = markers.check_against_log(decoded.window, data.batches or 0)
    if disagreement:
        raise ReductionError(disagreement, disagreement.code)
    require_frame(data, frame)
    dt_s = data.capture[wires.markers].preamble.x_increment_s
    woken = decoded.window.start - math.ceil(data.device_busy_s / dt_s)
    return decoded.window, max(0, min(woken, frame.start if frame is not None else woken))


def _rounded(means: tuple[MeanOfRecord, MeanOfRecord], sums: Moments) -> tuple[MeanOfRecord, MeanOfRecord]:
    """Both means of a record with what rounding leaves in them: without noise, up to half a step that does not show."""
    i, v = means
    return (
        replace(i, rounding=abs(sums.scale_i.slope) * rounding_limit(sums.step_i, sums.ripple_i)),
        replace(v, rounding=abs(sums.scale_v.slope) * rounding_limit(sums.step_v, sums.ripple_v)),
    )


def _means(current: Record, voltage: Record, start: int, stop: int) -> tuple[MeanOfRecord, MeanOfRecord]:
    dt_s = current.preamble.x_increment_s
    if stop - start < 2 * BLOCKS:
        raise ReductionError(f"{stop - start} samples are too few to average")
    return (
        mean_of_record(current.values()[start:stop], dt_s),
        mean_of_record(voltage.values()[start:stop], dt_s),
    )


def _cell(measured: Measured, calibration: Calibration) -> CellValues:
    window, idle, data = measured.window, measured.idle, measured.data
    if window is None or idle is None or not data.images:
        raise ReductionError("the capture holds no measured loop")
    window, rise_s, fall_s = measured.undelayed or _undelayed(measured, window, calibration.delay)
    current, voltage = calibration.current, calibration.voltage
    amps = current.correct(window.mean_i, data.at_s)
    volts = voltage.correct(window.mean_v, data.at_s)
    try:
        current.gain.check(amps, "a mean current")
        voltage.gain.check(volts, "a mean voltage")
    except ValueError as error:
        raise ReductionError(str(error)) from error
    power_w = corrected_power_w(window, current, voltage, data.at_s)
    baseline = _baseline(measured, idle, window, calibration)
    idle_w = baseline.watts
    duration_s = window.duration_s + rise_s - fall_s
    a_per_code, v_per_code = window.scale_i.slope / current.gain.value, window.scale_v.slope / voltage.gain.value
    return CellValues(
        images=data.images,
        duration_s=duration_s,
        idle_s=baseline.effective_s,
        dt_s=window.dt_s,
        volts=volts,
        amps=amps,
        idle_amps=baseline.amps,
        power_w=(power_w * (window.duration_s - fall_s) + idle_w * rise_s) / duration_s,
        idle_w=idle_w,
        error_a=abs(a_per_code) * rounding_limit(window.step_i, window.ripple_i),
        error_v=abs(v_per_code) * rounding_limit(window.step_v, window.ripple_v),
        true_j=data.true_energy_j,
        calibration=calibration,
        edge_s=data.edge_s,
        idle_change=baseline.change,
        idle_error_a=abs(a_per_code) * baseline.error_i,
        idle_error_v=abs(v_per_code) * baseline.error_v,
    )


@dataclass(frozen=True)
class _Baseline:
    """Idle current and power at the middle of the loop; `effective_s` is the length of a record with as much noise.

    `error_i` and `error_v` limit what rounding leaves in the means, in codes.
    """

    amps: float
    watts: float
    effective_s: float
    change: Change | None
    error_i: float
    error_v: float


def rounding_of(idle: Moments, loop: Moments) -> tuple[float, float]:
    """What rounding leaves in the means of an idle stretch, codes; one without any ripple has the steps of the loop."""
    return (
        rounding_limit(loop.step_i if idle.ripple_i == 0 else max(idle.step_i, loop.step_i), idle.ripple_i),
        rounding_limit(loop.step_v if idle.ripple_v == 0 else max(idle.step_v, loop.step_v), idle.ripple_v),
    )


def _baseline(measured: Measured, before: Moments, window: Moments, calibration: Calibration) -> _Baseline:
    """The idle power straight between the stretches before and after the loop; of one alone where it is the only one.

    The stretch after does not count where the board has not come to rest in it.
    """
    data, loop, after = measured.data, measured.loop, measured.idle_after
    current, voltage, noise = calibration.current, calibration.voltage, calibration.noise
    amps = current.correct(before.mean_i, data.at_s)
    watts = corrected_power_w(before, current, voltage, data.at_s)
    volts = voltage.correct(before.mean_v, data.at_s)
    error_i, error_v = rounding_of(before, window)
    alone = _Baseline(amps, watts, before.duration_s, None, error_i, error_v)
    if after is None or loop is None:
        return alone
    first, second = (corrected_power_w(m, current, voltage, data.at_s) for m in after.halves)
    of_halves = noise.current_a2s * sum(1 / m.duration_s for m in after.halves)
    if abs(first - second) > max(UNSETTLED_U * volts * math.sqrt(of_halves), UNSETTLED_SHARE * abs(watts)):
        return alone
    whole = joined(after.halves)
    share = ((loop.start + loop.stop) - before.n) / (2 * after.start + whole.n - before.n)  # middles, in samples
    of_change = noise.current_a2s * (1 / before.duration_s + 1 / whole.duration_s)
    after_w = corrected_power_w(whole, current, voltage, data.at_s)
    after_i, after_v = rounding_of(after.halves[0], window)
    return _Baseline(
        amps + share * (current.correct(whole.mean_i, data.at_s) - amps),
        watts + share * (after_w - watts),
        1 / ((1 - share) ** 2 / before.duration_s + share**2 / whole.duration_s),
        Change(after_w - watts, volts * math.sqrt(of_change)),
        (1 - share) * error_i + share * after_i,  # both may lie at the same place in a step
        (1 - share) * error_v + share * after_v,
    )


def _undelayed(measured: Measured, window: Moments, delay: Delay | None) -> tuple[Moments, float, float]:
    """The stretch in which the work was done, where the gate was seen later or earlier than that.

    To whole samples; what is left of the delays at rise and fall, at most half a sample each, comes beside it.
    """
    loop, wires = measured.loop, measured.wires
    if delay is None or loop is None or wires is None or delay.rise_s == delay.fall_s == 0:
        return window, 0.0, 0.0
    rise, fall = round(delay.rise_s / window.dt_s), round(delay.fall_s / window.dt_s)
    left = delay.rise_s - rise * window.dt_s, delay.fall_s - fall * window.dt_s
    if rise or fall:
        records = measured.data.capture.records
        current, voltage = records[wires.current], records[wires.voltage]
        start, stop = loop.start - rise, loop.stop - fall
        if start < 0 or stop > len(current.codes):
            raise ReductionError(
                f"the work, {delay.rise_s * 1e3:.3g} ms and {delay.fall_s * 1e3:.3g} ms before its marks, lies "
                "outside the record: choose a longer --window"
            )
        window = moments(current, voltage, start, stop)
    return window, *left
