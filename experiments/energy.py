"""Records x calibration x windows -> energy, power and their budgets. Pure: no file, clock or instrument.

Two steps. `measure` reads one capture and keeps exact sums over its codes; `results` applies the
calibration of the whole run to those sums. The live sweep and the replay of its file call the same
two functions with the same codes, so their results are the same to the last bit.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from calibration.budget import Budget
from calibration.model import Calibration, Channel, Delay
from calibration.statistics import BLOCKS, MeanOfRecord, mean_of_record
from experiments.code_sums import LARGEST_BLOCK, code_sums
from experiments.components import QUANTITIES as QUANTITIES
from experiments.components import CellValues, Change, budget, rounding_limit
from instruments import markers
from instruments.lab import Lab
from instruments.waveform import Capture, Codes, Record

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


SAMPLED = 4096
"""Samples of a stretch from which the distance of codes is judged, and how well noise spreads them."""


class ReductionError(ValueError):
    """A capture that cannot become a number; the text is the reason of its rejection, `code` sorts it (flags.md)."""

    def __init__(self, reason: str, code: str = "rejected") -> None:
        super().__init__(reason)
        self.code = code


@dataclass(frozen=True)
class Scale:
    """Affine scale of integer codes: reading = slope x code + intercept."""

    slope: float
    intercept: float


@dataclass(frozen=True)
class Moments:
    """Exact sums over the codes of one stretch of a capture: n, sum i, sum v, sum v i; distances of codes.

    `ripple_i`, `ripple_v` say how much codes scatter from sample to sample (standard deviation, codes); `highest_i`
    is the current's highest code.
    """

    n: int
    sum_i: int
    sum_v: int
    sum_vi: int
    dt_s: float
    scale_i: Scale
    scale_v: Scale
    step_i: int
    step_v: int
    ripple_i: float = 0.0
    ripple_v: float = 0.0
    highest_i: int = 0

    @property
    def duration_s(self) -> float:
        """Length of the stretch."""
        return self.n * self.dt_s

    @property
    def mean_i(self) -> float:
        """Mean current reading, A, uncorrected."""
        return self.scale_i.slope * (self.sum_i / self.n) + self.scale_i.intercept

    @property
    def mean_v(self) -> float:
        """Mean voltage reading, V, uncorrected."""
        return self.scale_v.slope * (self.sum_v / self.n) + self.scale_v.intercept

    @property
    def mean_vi(self) -> float:
        """Mean of the product of both readings, V A, uncorrected."""
        i, v, vi = self.sum_i / self.n, self.sum_v / self.n, self.sum_vi / self.n
        a, b = self.scale_i.slope, self.scale_i.intercept
        c, d = self.scale_v.slope, self.scale_v.intercept
        return a * c * vi + a * d * i + b * c * v + b * d


@dataclass(frozen=True)
class CaptureData:
    """One capture with what the reduction needs to know about it; times are the host's monotonic clock.

    `batches` and `images` are what the device logged for the measured loop, None where none ran. `start_frame` is the
    run's number that the record must show before the gate, None where none was sent, with its count of edges;
    `device_busy_s` says how long before the gate's rise the device was no longer idle; `session` counts the starts of
    the bench in one run, each with a zero and a gain of its own. Where the window is not that of the marker lines
    (`windows`), `flags` say so, `edge_s` limits the error of each edge (None: half a sample), and `problem` is the
    reason why there is none. Where no single record holds the measured loop, `method` says how the captures of the run
    `run_id` are put together (`parts`), `part` counts them, `gap_before_s` is what lies between, and the loop lasted
    `device_s` by the device's clock, whose moves of the gate took `gate_moving_s` and scatter by `gate_jitter_s`.
    After the gate's fall the device did nothing for `quiet_after_s`; 0 where it did not say.
    """

    index: int
    kind: str
    network: str
    batch: int
    repeat: int
    at_s: float
    capture: Capture
    batches: int | None
    images: int | None
    true_energy_j: float = math.nan
    true_idle_power_w: float = math.nan
    start_frame: int | None = None
    start_frame_edges: int = 0
    device_busy_s: float = 0.0
    session: int = 0
    flags: tuple[str, ...] = ()
    edge_s: float | None = None
    problem: str | None = None
    run_id: str = ""
    method: str = ""
    part: int = 0
    gap_before_s: float = math.nan
    device_s: float = math.nan
    gate_moving_s: float = math.nan
    gate_jitter_s: float = math.nan
    quiet_after_s: float = 0.0


@dataclass(frozen=True)
class Wires:
    """Which records hold current, voltage and markers, and which bits the marker lines are."""

    current: str
    voltage: str
    markers: str
    gate_bit: int
    batch_bit: int


def wires(lab: Lab) -> Wires:
    """Say which stored record plays which role, and which bits are the marker lines."""
    return Wires("current", "voltage", "markers", lab.wiring.gate.digital, lab.wiring.batch.digital)


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
    `without_codes`."""
    idle_after: IdleAfter | None = None

    @property
    def whole_s(self) -> float | None:
        """How long the whole run was, where its captures hold a part of it only."""
        return None

    def values(self, calibration: Calibration) -> CellValues:
        """Apply a calibration. Raises ReductionError where a mean lies outside the range of its gain."""
        return _cell(self, calibration)


def moments(current: Record, voltage: Record, start: int, stop: int, block: int = LARGEST_BLOCK) -> Moments:
    """Sum the codes of samples [start, stop) exactly, in pieces of at most `block` samples.

    The sums are whole numbers, so that they are the same for any block. Raises ReductionError on holes or clipped
    codes, and ValueError for a block outside 1 .. 131 072.
    """
    if stop <= start:
        raise ReductionError("the window holds no samples")
    i, v = current.codes[start:stop], voltage.codes[start:stop]
    sums = code_sums(i, v, block)
    for name, record, lowest, highest in (
        ("current", current, sums.lowest_i, sums.highest_i),
        ("voltage", voltage, sums.lowest_v, sums.highest_v),
    ):
        unit = 0x100 if record.codes.dtype == np.uint16 else 1
        if unit < lowest and highest < 0xFF * unit:
            continue
        holes = int(record.holes()[start:stop].sum())
        clipped = int(record.clipped()[start:stop].sum())
        if holes:
            raise ReductionError(f"{holes} samples of the {name} are holes that the oscilloscope did not fill", "holes")
        if clipped:
            raise ReductionError(
                f"{clipped} samples of the {name} are clipped: widen its span in lab.yaml (wiring.{name})", "clipped"
            )
    return Moments(
        stop - start,
        sums.sum_i,
        sums.sum_v,
        sums.sum_vi,
        current.preamble.x_increment_s,
        scale(current),
        scale(voltage),
        _step(i),
        _step(v),
        _ripple(i),
        _ripple(v),
        sums.highest_i,
    )


def joined(stretches: Sequence[Moments]) -> Moments:
    """Add the sums of stretches on one scale: whole numbers, so that nothing is lost."""
    first = stretches[0]
    return replace(
        first,
        n=sum(m.n for m in stretches),
        sum_i=sum(m.sum_i for m in stretches),
        sum_v=sum(m.sum_v for m in stretches),
        sum_vi=sum(m.sum_vi for m in stretches),
        highest_i=max(m.highest_i for m in stretches),
    )


def _step(codes: Codes) -> int:
    """Distance of neighbouring codes, by a stretch's start; by all of it where that does not move."""
    return _lowest_bit(codes[:SAMPLED]) or code_step(codes)


def _ripple(codes: Codes) -> float:
    """Scatter of codes from sample to sample at a stretch's start, where slower changes of the signal count little."""
    start = codes[:SAMPLED]
    if len(start) < 2:
        return 0.0
    differences = np.subtract(start[1:], start[:-1], dtype=np.float64)  # exact, and so is the sum of their squares
    return math.sqrt(int(np.dot(differences, differences)) / len(differences) / 2)


def code_step(codes: Codes) -> int:
    """Distance of neighbouring codes: HRES and 8-bit data leave low bits of a word at zero.

    The largest power of two of which all differences are multiples; 1 for a flat line.
    """
    return _lowest_bit(codes) or 1


def _lowest_bit(codes: Codes) -> int:
    """Lowest bit in which codes differ; 0 where none does."""
    varied = int(np.bitwise_or.reduce(codes ^ codes[0]))
    return varied & -varied


def scale(record: Record) -> Scale:
    """Give the affine scale of a record's codes from its preamble."""
    p = record.preamble
    return Scale(p.y_increment, p.y_origin - p.y_reference * p.y_increment)


def measure(data: CaptureData, wires: Wires) -> Measured:
    """Reduce one capture to sums.

    Raises ReductionError with the reason when it cannot be used: no whole gate window, batch edges
    that disagree with the device's log, the start frame of another run, holes, clipping, or no idle stretch
    before the gate.
    """
    if data.problem is not None:
        raise ReductionError(data.problem)
    current, voltage = data.capture.records[wires.current], data.capture.records[wires.voltage]
    dt_s = current.preamble.x_increment_s
    if data.kind in ("zero", "idle"):
        n = len(current.codes)
        moments(current, voltage, 0, n)
        return Measured(data, *_means(current, voltage, 0, n), None, None)
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
    return IdleAfter(start, (moments(current, voltage, start, middle), moments(current, voltage, middle, stop)))


def without_codes(measured: Measured, delay: Delay | None = None) -> Measured:
    """Drop the codes of a capture whose sums are known: a long run does not fit into memory with all of them.

    `delay` is that of the calibration with which it will be reduced. Raises ReductionError as `results` does.
    """
    moved = None if measured.window is None else _undelayed(measured, measured.window, delay)
    return replace(measured, data=facts_of(measured.data), undelayed=moved)


def facts_of(data: CaptureData) -> CaptureData:
    """A capture's facts, with records that hold no codes."""
    records = {
        name: Record(name, replace(r.preamble, points=0), np.empty(0, r.codes.dtype), r.units)
        for name, r in data.capture.records.items()
    }
    return replace(data, capture=Capture(records))


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
    bits = data.capture.records[wires.markers].codes
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
    bits = data.capture.records[wires.markers].codes
    frame = frame_of(data, wires)
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


def _means(current: Record, voltage: Record, start: int, stop: int) -> tuple[MeanOfRecord, MeanOfRecord]:
    dt_s = current.preamble.x_increment_s
    if stop - start < 2 * BLOCKS:
        raise ReductionError(f"{stop - start} samples are too few to average")
    return (
        mean_of_record(current.values()[start:stop], dt_s),
        mean_of_record(voltage.values()[start:stop], dt_s),
    )


def corrected_power_w(m: Moments, current: Channel, voltage: Channel, at_s: float) -> float:
    """Mean power over a stretch with both channels corrected, W."""
    zi, zv = current.offset.at(at_s), voltage.offset.at(at_s)
    product = m.mean_vi - zi * m.mean_v - zv * m.mean_i + zi * zv
    return product / (current.gain.value * voltage.gain.value)


@dataclass(frozen=True)
class RowResult:
    """One network at one batch size: budgets of the six quantities over its repeats."""

    network: str
    batch: int
    repeats: int
    time_per_image_s: Budget
    power_w: Budget
    idle_power_w: Budget
    net_power_w: Budget
    energy_per_image_j: Budget
    net_energy_per_image_j: Budget
    true_energy_per_image_j: float
    energy_per_run_j: float = math.nan
    """Mean over the repeats, which may have worked through different numbers of images."""


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
    baseline = _baseline(measured, idle, calibration)
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
    )


@dataclass(frozen=True)
class _Baseline:
    """Idle current and power at the middle of the loop; `effective_s` is the length of a record with as much noise."""

    amps: float
    watts: float
    effective_s: float
    change: Change | None


def _baseline(measured: Measured, before: Moments, calibration: Calibration) -> _Baseline:
    """The idle power straight between the stretches before and after the loop; of one alone where it is the only one.

    The stretch after does not count where the board has not come to rest in it.
    """
    data, loop, after = measured.data, measured.loop, measured.idle_after
    current, voltage, noise = calibration.current, calibration.voltage, calibration.noise
    amps = current.correct(before.mean_i, data.at_s)
    watts = corrected_power_w(before, current, voltage, data.at_s)
    volts = voltage.correct(before.mean_v, data.at_s)
    alone = _Baseline(amps, watts, before.duration_s, None)
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
    return _Baseline(
        amps + share * (current.correct(whole.mean_i, data.at_s) - amps),
        watts + share * (after_w - watts),
        1 / ((1 - share) ** 2 / before.duration_s + share**2 / whole.duration_s),
        Change(after_w - watts, volts * math.sqrt(of_change)),
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


def results(
    cells: Sequence[Measured], calibration: Calibration | Mapping[int, Calibration], first: int | None = None
) -> list[RowResult]:
    """Combine the committed cells of a run into one row per network and batch, in order of first appearance.

    `first` is the least number of repeats where their scatter decided how many there are (None: it did not).
    `calibration` holds for the whole run, or is given for each session of the bench. Raises ReductionError when a
    capture lies outside the range of its calibration.
    """
    values = []
    for cell in cells:
        holds = calibration if isinstance(calibration, Calibration) else calibration[cell.data.session]
        values.append(cell.values(holds))
    groups: dict[tuple[str, int], list[CellValues]] = {}
    for cell, one in zip(cells, _with_neighbours(cells, values), strict=True):
        groups.setdefault((cell.data.network, cell.data.batch), []).append(one)
    return [_row(key, group, first) for key, group in groups.items()]


def _with_neighbours(cells: Sequence[Measured], values: list[CellValues]) -> list[CellValues]:
    """Where nothing was seen of the idle board after a run, limit what its idle power did meanwhile.

    By what it did between neighbouring runs, beyond the noise: they lie further apart than a run is long.
    """
    alone = [not cell.data.method and one.idle_change is None for cell, one in zip(cells, values, strict=True)]
    if not any(alone):
        return values
    sessions: dict[int, list[tuple[float, CellValues]]] = {}
    for cell, one in zip(cells, values, strict=True):
        sessions.setdefault(cell.data.session, []).append((cell.data.at_s, one))
    limits_w = {session: _half_change_w(each) for session, each in sessions.items()}
    return [
        replace(one, idle_limit_w=limits_w[cell.data.session]) if lacks else one
        for cell, one, lacks in zip(cells, values, alone, strict=True)
    ]


def _half_change_w(runs: list[tuple[float, CellValues]]) -> float:
    """Half of what the idle power changes from one run to the next, root mean square without its noise, W."""
    ordered = [one for _, one in sorted(runs, key=lambda run: run[0])]
    excess = 0.0
    for a, b in itertools.pairwise(ordered):
        noise_w2 = a.volts**2 * a.calibration.noise.current_a2s * (1 / a.idle_s + 1 / b.idle_s)
        excess += (b.idle_w - a.idle_w) ** 2 - noise_w2
    return math.sqrt(max(0.0, excess / max(1, len(ordered) - 1))) / 2


def _row(key: tuple[str, int], cells: list[CellValues], first: int | None) -> RowResult:
    budgets = {q: budget(q, cells, first) for q in QUANTITIES}
    truth = float(np.mean([c.true_j / c.images for c in cells]))
    run_j = float(np.mean([c.power_w * c.time_s * c.images for c in cells]))
    return RowResult(key[0], key[1], len(cells), **budgets, true_energy_per_image_j=truth, energy_per_run_j=run_j)
