"""Records x calibration x windows -> energy, power and their budgets. Pure: no file, clock or instrument.

Two steps. `measure` reads one capture and keeps exact sums over its codes; `results` applies the
calibration of the whole run to those sums. The live sweep and the replay of its file call the same
two functions with the same codes, so their results are the same to the last bit.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from calibration.budget import Budget, Component, limit, without_zero
from calibration.model import Calibration, Channel
from calibration.statistics import BLOCKS, MeanOfRecord, mean_of_record, mean_of_repeats
from instruments import markers
from instruments.waveform import Capture, Codes, Record

GUARD_S = 0.02
"""Time kept clear of the gate's rise when the idle stretch before it is averaged; a quarter of a short one."""

MIN_IDLE_SAMPLES = 100
"""The shortest idle stretch before the gate that is worth averaging."""


class ReductionError(ValueError):
    """A capture that cannot become a number; the text is the reason of its rejection."""


@dataclass(frozen=True)
class Scale:
    """Affine scale of integer codes: reading = slope x code + intercept."""

    slope: float
    intercept: float


@dataclass(frozen=True)
class Moments:
    """Exact sums over the codes of one stretch of a capture: n, sum i, sum v, sum v i; distances of codes."""

    n: int
    sum_i: int
    sum_v: int
    sum_vi: int
    dt_s: float
    scale_i: Scale
    scale_v: Scale
    step_i: int
    step_v: int

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

    `batches` and `images` are what the device logged for the measured loop, None where none ran.
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


@dataclass(frozen=True)
class Wires:
    """Which records hold current, voltage and markers, and which bits the marker lines are."""

    current: str
    voltage: str
    markers: str
    gate_bit: int
    batch_bit: int


@dataclass(frozen=True)
class Measured:
    """One capture reduced: means of the steady stretch for zero, idle and gain, sums for a cell."""

    data: CaptureData
    mean_i: MeanOfRecord | None
    mean_v: MeanOfRecord | None
    window: Moments | None
    idle: Moments | None


def moments(current: Record, voltage: Record, start: int, stop: int) -> Moments:
    """Sum the codes of samples [start, stop) exactly.

    Products of 16-bit codes summed over 100 000 samples stay below 2^53, where float64 holds every
    integer; longer stretches are summed in pieces. Raises ReductionError on holes or clipped codes.
    """
    if stop <= start:
        raise ReductionError("the window holds no samples")
    for name, record in (("current", current), ("voltage", voltage)):
        codes = record.codes[start:stop]
        if _all_inside(codes):
            continue
        holes = int(record.holes()[start:stop].sum())
        clipped = int(record.clipped()[start:stop].sum())
        if holes:
            raise ReductionError(f"{holes} samples of the {name} are holes that the oscilloscope did not fill")
        if clipped:
            raise ReductionError(
                f"{clipped} samples of the {name} are clipped: widen its span in lab.yaml (wiring.{name})"
            )
    sum_i = sum_v = sum_vi = 0
    for at in range(start, stop, 100_000):
        piece = slice(at, min(at + 100_000, stop))
        i = current.codes[piece].astype(np.float64)
        v = voltage.codes[piece].astype(np.float64)
        sum_i += int(i.sum())
        sum_v += int(v.sum())
        sum_vi += int(np.dot(i, v))
    return Moments(
        stop - start,
        sum_i,
        sum_v,
        sum_vi,
        current.preamble.x_increment_s,
        scale(current),
        scale(voltage),
        code_step(current.codes[start:stop]),
        code_step(voltage.codes[start:stop]),
    )


def _all_inside(codes: Codes) -> bool:
    """Whether no code can be a hole or clipped: two fast passes instead of several masks."""
    unit = 0x100 if codes.dtype == np.uint16 else 1
    return int(codes.min()) > unit and int(codes.max()) < 0xFF * unit


def code_step(codes: Codes) -> int:
    """Distance of neighbouring codes: HRES and 8-bit data leave low bits of a word at zero.

    The largest power of two of which all differences are multiples; 1 for a flat line.
    """
    varied = int(np.bitwise_or.reduce(codes ^ codes[0]))
    return varied & -varied or 1


def scale(record: Record) -> Scale:
    """Give the affine scale of a record's codes from its preamble."""
    p = record.preamble
    return Scale(p.y_increment, p.y_origin - p.y_reference * p.y_increment)


def measure(data: CaptureData, wires: Wires) -> Measured:
    """Reduce one capture to sums.

    Raises ReductionError with the reason when it cannot be used: no whole gate window, batch edges
    that disagree with the device's log, holes, clipping, or no idle stretch before the gate.
    """
    current, voltage = data.capture.records[wires.current], data.capture.records[wires.voltage]
    dt_s = current.preamble.x_increment_s
    if data.kind in ("zero", "idle"):
        n = len(current.codes)
        moments(current, voltage, 0, n)
        return Measured(data, *_means(current, voltage, 0, n), None, None)
    decoded = markers.decode(data.capture.records[wires.markers].codes, wires.gate_bit, wires.batch_bit)
    if decoded.window is None:
        raise ReductionError("; ".join(decoded.problems))
    window = decoded.window
    disagreement = markers.check_against_log(window, data.batches or 0)
    if disagreement:
        raise ReductionError(disagreement)
    rise_s = data.capture.start_s + (window.start - 0.5) * dt_s
    if abs(rise_s) > max(5 * dt_s, 1e-3):
        raise ReductionError(f"the gate rises {rise_s * 1e3:.3f} ms from the trigger: this record is not of this run")
    guard = min(math.ceil(GUARD_S / dt_s), window.start // 4)
    if data.kind == "gain":
        if window.samples < 20 * max(guard, 10):
            raise ReductionError("the reference run is too short to compare with the supply")
        steady = _means(current, voltage, window.start + guard, window.stop)
        return Measured(data, *steady, moments(current, voltage, window.start, window.stop), None)
    if window.start - guard < MIN_IDLE_SAMPLES:
        raise ReductionError(
            f"only {window.start * dt_s * 1e3:.0f} ms were recorded before the gate, too little to know the idle power"
        )
    return Measured(
        data,
        None,
        None,
        moments(current, voltage, window.start, window.stop),
        moments(current, voltage, 0, window.start - guard),
    )


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


QUANTITIES = (
    "time_per_image_s",
    "power_w",
    "idle_power_w",
    "net_power_w",
    "energy_per_image_j",
    "net_energy_per_image_j",
)


@dataclass(frozen=True)
class _Cell:
    """Corrected values of one capture and the figures that its uncertainty needs."""

    images: int
    duration_s: float
    idle_s: float
    dt_s: float
    volts: float
    amps: float
    idle_amps: float
    power_w: float
    idle_w: float
    step_a: float
    step_v: float
    true_j: float

    @property
    def time_s(self) -> float:
        return self.duration_s / self.images

    @property
    def values(self) -> dict[str, float]:
        net = self.power_w - self.idle_w
        return {
            "time_per_image_s": self.time_s,
            "power_w": self.power_w,
            "idle_power_w": self.idle_w,
            "net_power_w": net,
            "energy_per_image_j": self.power_w * self.time_s,
            "net_energy_per_image_j": net * self.time_s,
        }


def _cell(measured: Measured, calibration: Calibration) -> _Cell:
    window, idle, data = measured.window, measured.idle, measured.data
    if window is None or idle is None or not data.images:
        raise ReductionError("the capture holds no measured loop")
    current, voltage = calibration.current, calibration.voltage
    amps = current.correct(window.mean_i, data.at_s)
    volts = voltage.correct(window.mean_v, data.at_s)
    try:
        current.gain.check(amps, "a mean current")
        voltage.gain.check(volts, "a mean voltage")
    except ValueError as error:
        raise ReductionError(str(error)) from error
    return _Cell(
        images=data.images,
        duration_s=window.duration_s,
        idle_s=idle.duration_s,
        dt_s=window.dt_s,
        volts=volts,
        amps=amps,
        idle_amps=current.correct(idle.mean_i, data.at_s),
        power_w=corrected_power_w(window, current, voltage, data.at_s),
        idle_w=corrected_power_w(idle, current, voltage, data.at_s),
        step_a=abs(window.step_i * window.scale_i.slope / current.gain.value),
        step_v=abs(window.step_v * window.scale_v.slope / voltage.gain.value),
        true_j=data.true_energy_j,
    )


def results(cells: Sequence[Measured], calibration: Calibration) -> list[RowResult]:
    """Combine the committed cells of a run into one row per network and batch, in order of first appearance.

    Raises ReductionError when a capture lies outside the range of the calibration.
    """
    groups: dict[tuple[str, int], list[Measured]] = {}
    for cell in cells:
        groups.setdefault((cell.data.network, cell.data.batch), []).append(cell)
    return [_row(key, [_cell(m, calibration) for m in group], calibration) for key, group in groups.items()]


def _row(key: tuple[str, int], cells: list[_Cell], calibration: Calibration) -> RowResult:
    budgets = {q: _budget(q, cells, calibration) for q in QUANTITIES}
    truth = float(np.mean([c.true_j / c.images for c in cells]))
    return RowResult(key[0], key[1], len(cells), **budgets, true_energy_per_image_j=truth)


def _budget(quantity: str, cells: list[_Cell], calibration: Calibration) -> Budget:
    values: NDArray[np.float64] = np.array([c.values[quantity] for c in cells])
    mean, u_repeat, dof_repeat = mean_of_repeats(values)
    unit = {"s": "s", "w": "W", "j": "J"}[quantity[-1]]
    parts = _shared_components(quantity, cells, mean, unit, calibration)
    if len(cells) > 1:
        parts.append(Component("repeatability", u_repeat, 1.0, unit, dof_repeat, "t"))
    return Budget(quantity, mean, unit, without_zero(parts))


def _shared_components(
    quantity: str, cells: list[_Cell], value: float, unit: str, calibration: Calibration
) -> list[Component]:
    """Components that a row's repeats have in common, and the noise and edges that they average."""
    n = len(cells)
    time_s = float(np.mean([c.time_s for c in cells]))
    per = {"time_per_image_s": 0.0, "energy_per_image_j": time_s, "net_energy_per_image_j": time_s}.get(quantity, 1.0)
    net = quantity.startswith("net")
    idle_only = quantity == "idle_power_w"
    volts = float(np.mean([c.volts for c in cells]))
    parts: list[Component] = []
    if quantity != "time_per_image_s":
        current, voltage = calibration.current, calibration.voltage
        volts_per = volts * per
        idle_amps = float(np.mean([c.idle_amps for c in cells]))
        amps = idle_amps if idle_only else float(np.mean([c.amps for c in cells]))
        # The gain was found through the same zero, so an error of the zero cancels where the gain
        # was found and grows with the distance from there.
        share = amps / current.gain.at
        to_zero = volts_per * ((amps - idle_amps) / current.gain.at if net else 1.0 - share)
        parts += [
            Component("current gain, reference", current.gain.u_reference, value, "1", distribution="rectangular"),
            Component("current gain, noise", current.gain.u_noise, value, "1", current.gain.dof),
            Component("voltage gain, reference", voltage.gain.u_reference, value, "1", distribution="rectangular"),
            Component("voltage gain, noise", voltage.gain.u_noise, value, "1", voltage.gain.dof),
            limit("current linearity", calibration.bow_a(amps, None if not net else idle_amps), volts_per, "A"),
            Component("current zero, noise", current.offset.u_noise, to_zero, "A"),
            limit("current at output off", calibration.residual_a, to_zero, "A"),
        ]
        if not net:
            parts.append(Component("current zero, drift", current.offset.u_drift, volts_per, "A"))
        noise = calibration.noise
        stretches = [c.idle_s for c in cells] if idle_only else [c.duration_s for c in cells]
        inverse_s = sum(1 / s for s in stretches) + (sum(1 / c.idle_s for c in cells) if net else 0.0)
        parts += [
            Component("current noise", math.sqrt(noise.current_a2s * inverse_s) / n, volts_per, "A", noise.dof),
            Component("voltage noise", math.sqrt(noise.voltage_v2s * inverse_s) / n, amps * per, "V", noise.dof),
            limit("current quantisation", float(np.mean([c.step_a for c in cells])) / 2, volts_per, "A"),
            limit("voltage quantisation", float(np.mean([c.step_v for c in cells])) / 2, amps * per, "V"),
        ]
    if quantity.endswith(("per_image_s", "per_image_j")):
        # Both edges are known to half a sample; at the rise the current is still idle, at the fall active.
        rise, fall = (
            (1.0, 1.0)
            if quantity.endswith("_s")
            else (float(np.mean([c.idle_w for c in cells])), float(np.mean([c.power_w for c in cells])))
        )
        if net:
            rise, fall = 0.0, fall - rise
        half_s = math.sqrt(sum((c.dt_s / 2 / c.images) ** 2 for c in cells)) / n
        parts += [
            limit("edge at the gate's rise", half_s, rise, "s"),
            limit("edge at the gate's fall", half_s, fall, "s"),
            limit("timebase", calibration.timebase_limit, value, "1"),
        ]
    return parts
