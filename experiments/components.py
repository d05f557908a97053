"""The components of a row's uncertainty: what is not known of its inputs times how much it matters. Pure.

Correlations sit in the sensitivities: one gain serves gross and idle power, and an error of the zero cancels at the
current at which the gain was found. Components that a run adds anew (noise, edges) are those of the mean of repeats.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from calibration.budget import Budget, Component, Distribution, limit, without_zero
from calibration.model import Calibration, Channel
from calibration.statistics import mean_of_repeats, mean_of_stages

QUANTITIES = (
    "time_per_image_s",
    "power_w",
    "idle_power_w",
    "net_power_w",
    "energy_per_image_j",
    "net_energy_per_image_j",
)

BETWEEN, EDGES = "power between captures", "edges against the device's log"

SCATTERING = (
    "current noise",
    "voltage noise",
    "idle baseline, noise",
    "marker jitter at the rise",
    "marker jitter at the fall",
    BETWEEN,
    EDGES,
)
"""Components that every run draws anew, so that they are part of the scatter of repeats; a limit never is."""

STILL = 0.06
"""Variance of the noise, in steps of the codes squared, below which it does not spread the codes."""


@dataclass(frozen=True)
class Unseen:
    """Error of one quantity of one run from what was not recorded of it: found by scatter (t), or a limit."""

    name: str
    u: float
    dof: float
    distribution: Distribution


@dataclass(frozen=True)
class Change:
    """How much the idle power was higher after a run than before it, W, and the standard uncertainty from noise."""

    watts: float
    u: float


@dataclass(frozen=True)
class CellValues:
    """Corrected values of one run and the figures that its uncertainty needs.

    `amps`, `volts` and `power_w` are means over the loop, `idle_amps` and `idle_w` of the idle board, straight between
    before and after it where both were seen, with `idle_change` between them; `error_a` and `error_v`
    limit what rounding to codes leaves in a mean, `idle_error_a` and `idle_error_v` in those of the idle board (None:
    as much as in the loop's), `edge_s` how far off the loop's ends may be (None: half a sample).
    Of a run that no single record holds: `run_images` are all that it worked through where `images` are those of the
    batches that were recorded; `pieces` are the stretches that were recorded, `captured_s` long together,
    `clock_limit_s` limits the error of a `duration_s` by the device's clock, `unseen` is what its quantities may be
    off since not all of it was recorded. `idle_limit_w` limits what the idle power did meanwhile, where no
    `idle_change` tells (None: not known yet).
    """

    images: int
    duration_s: float
    idle_s: float
    dt_s: float
    volts: float
    amps: float
    idle_amps: float
    power_w: float
    idle_w: float
    error_a: float
    error_v: float
    true_j: float
    calibration: Calibration
    edge_s: float | None = None
    pieces: int = 1
    captured_s: float | None = None
    clock_limit_s: float | None = None
    unseen: Mapping[str, tuple[Unseen, ...]] = field(default_factory=dict)
    idle_limit_w: float | None = None
    idle_change: Change | None = None
    idle_error_a: float | None = None
    idle_error_v: float | None = None
    run_images: int | None = None

    @property
    def idle_unknown(self) -> bool:
        """Whether nothing limits yet what the idle power did during the run."""
        return self.idle_change is None and self.idle_limit_w is None

    @property
    def run_j(self) -> float:
        """Energy of the whole run, J."""
        return self.power_w * self.time_s * (self.run_images or self.images)

    @property
    def time_s(self) -> float:
        """Time per image, s."""
        return self.duration_s / self.images

    @property
    def values(self) -> dict[str, float]:
        """Every quantity."""
        net = self.power_w - self.idle_w
        return {
            "time_per_image_s": self.time_s,
            "power_w": self.power_w,
            "idle_power_w": self.idle_w,
            "net_power_w": net,
            "energy_per_image_j": self.power_w * self.time_s,
            "net_energy_per_image_j": net * self.time_s,
        }


def rounding_limit(step: float, ripple: float) -> float:
    """Limit of the error that rounding to multiples of `step` leaves in the mean of many samples.

    `ripple` is the scatter of the rounded samples, in the unit of `step`. Noise spreads the codes, so that errors of
    single samples average out; what is left in the mean is the sum of the harmonics of the rounding's sawtooth,
    1/(pi k) exp(-2 pi^2 k^2 sigma^2 / step^2) (Widrow and Kollar, Quantization Noise, ch. 4). Without noise: half a
    step.
    """
    if step <= 0:
        return 0.0
    variance = (ripple / step) ** 2 - 1 / 12
    if variance < STILL:
        return step / 2
    return step * min(0.5, sum(math.exp(-2 * (math.pi * k) ** 2 * variance) / (math.pi * k) for k in (1, 2, 3)))


def budget(quantity: str, cells: list[CellValues], first: int | None = None) -> Budget:
    """The mean of a row's repeats with its components.

    Where repeats went on until they agreed, `first` is the number after which that was looked at: the scatter is that
    of so many (`mean_of_stages`).
    """
    values: NDArray[np.float64] = np.array([c.values[quantity] for c in cells])
    mean, u_repeat, dof_repeat = mean_of_repeats(values) if first is None else mean_of_stages(values, first)
    unit = {"s": "s", "w": "W", "j": "J"}[quantity[-1]]
    sessions: dict[int, list[CellValues]] = {}
    for cell in cells:
        sessions.setdefault(id(cell.calibration), []).append(cell)
    shares = [(len(group) / len(cells), _components(quantity, group)) for group in sessions.values()]
    parts = shares[0][1] if len(shares) == 1 else _of_sessions(shares, unit)
    if len(cells) > 1:
        # Noise and jitter scatter the repeats as well: what they explain is not counted again.
        explained = math.fsum(c.u**2 for c in parts if c.name in SCATTERING and c.distribution != "rectangular")
        excess = math.sqrt(max(0.0, u_repeat**2 - explained))
        parts.append(Component("repeatability", excess, 1.0, unit, dof_repeat, "t"))
    return Budget(quantity, mean, unit, without_zero(parts))


def _of_sessions(shares: list[tuple[float, list[Component]]], unit: str) -> list[Component]:
    """Components of the weighted mean of several sessions' results.

    Limits belong to instruments that were there each time: they add up. What was found anew in each session (noise,
    drift) is independent.
    """
    found: dict[tuple[str, bool], list[tuple[float, Component]]] = {}
    for weight, components in shares:
        for component in components:
            key = component.name, component.distribution == "rectangular"
            found.setdefault(key, []).append((weight * component.u, component))
    merged = []
    for (name, _), parts in found.items():
        kind = parts[0][1].distribution
        u = sum(u for u, _ in parts) if kind == "rectangular" else math.sqrt(sum(u * u for u, _ in parts))
        spread = sum(u**4 / c.dof for u, c in parts)
        merged.append(Component(name, u, 1.0, unit, u**4 / spread if spread > 0 else math.inf, kind))
    return merged


def _components(quantity: str, cells: list[CellValues]) -> list[Component]:
    """Components that a row's repeats under one calibration have in common, and noise and edges that they average."""
    parts: list[Component] = []
    if quantity != "time_per_image_s":
        parts += _of_power(quantity, cells)
    if quantity.endswith(("per_image_s", "per_image_j")):
        parts += _of_time(quantity, cells)
    elif quantity in ("power_w", "net_power_w"):
        parts += _of_ends(cells)
    return parts + _of_unseen(quantity, cells)


def _of_unseen(quantity: str, cells: list[CellValues]) -> list[Component]:
    """What was not recorded: scatter is drawn anew by every run, a limit is that of the network and stays."""
    unit = {"s": "s", "w": "W", "j": "J"}[quantity[-1]]
    found: dict[tuple[str, Distribution], list[Unseen]] = {}
    for cell in cells:
        for one in cell.unseen.get(quantity, ()):
            found.setdefault((one.name, one.distribution), []).append(one)
    parts = []
    for (name, kind), each in found.items():
        if kind == "rectangular":
            parts.append(Component(name, sum(e.u for e in each) / len(cells), 1.0, unit, distribution=kind))
            continue
        u = math.sqrt(math.fsum(e.u**2 for e in each))
        spread = math.fsum(e.u**4 / e.dof for e in each)
        parts.append(_found(name, u / len(cells), 1.0, unit, u**4 / spread if spread > 0 else math.inf))
    return parts


def _of_power(quantity: str, cells: list[CellValues]) -> list[Component]:
    calibration = cells[0].calibration
    current, voltage = calibration.current, calibration.voltage
    net, idle_only = quantity.startswith("net"), quantity == "idle_power_w"
    value = _mean(c.values[quantity] for c in cells)
    volts = _mean(c.volts for c in cells)
    idle_amps = _mean(c.idle_amps for c in cells)
    amps = idle_amps if idle_only else _mean(c.amps for c in cells)
    # Of an energy per image every sensitivity is that of the power times the time.
    per = _mean(c.time_s for c in cells) if quantity.endswith("per_image_j") else 1.0
    volts_per, amps_per = volts * per, (amps - idle_amps if net else amps) * per
    # The gain was found through the same zero, so an error of the zero cancels where the gain was found and grows
    # with the distance from there.
    to_zero = volts_per * ((amps - idle_amps) / current.gain.at if net else 1.0 - amps / current.gain.at)
    parts = [
        *_of_gain(current, value),
        *_of_gain(voltage, value),
        limit("current linearity", calibration.bow_a(amps, idle_amps if net else None), volts_per, "A"),
        Component("current zero, noise", current.offset.u_noise, to_zero, "A"),
        limit("current zero, quantisation", current.offset.rounding, to_zero, "A"),
        limit("current at output off", calibration.residual_a, to_zero, "A"),
    ]
    if not net:
        to_zero_v = amps_per * (1.0 - volts / voltage.gain.at)
        parts.append(Component("voltage zero, noise", voltage.offset.u_noise, to_zero_v, "V"))
        parts.append(limit("voltage zero, quantisation", voltage.offset.rounding, to_zero_v, "V"))
        parts.append(Component("current zero, drift", current.offset.u_drift, volts_per, "A"))
    noise = calibration.noise
    loops, idles = _mean_of(1 / (c.captured_s or c.duration_s) for c in cells), _mean_of(1 / c.idle_s for c in cells)
    own = idles if idle_only else loops
    parts += [
        _found("current noise", math.sqrt(noise.current_a2s * own), volts_per, "A", noise.dof),
        _found("voltage noise", math.sqrt(noise.voltage_v2s * own), amps_per, "V", noise.dof),
    ]
    if net:
        u_idle = math.sqrt(noise.current_a2s * idles)
        parts.append(_found("idle baseline, noise", u_idle, -volts_per, "A", noise.dof))
    if net or idle_only:
        parts.append(limit("idle baseline, drift", _idle_limit_w(cells), per, "W"))
    error_a, error_v = _mean(c.error_a for c in cells), _mean(c.error_v for c in cells)
    idle_a = _mean(c.error_a if c.idle_error_a is None else c.idle_error_a for c in cells)
    idle_v = _mean(c.error_v if c.idle_error_v is None else c.idle_error_v for c in cells)
    if idle_only:
        error_a, error_v = idle_a, idle_v
    # Where the codes lie in their steps is another place for the idle board than for the loop: independent.
    parts += [
        limit("current quantisation", error_a, volts_per, "A"),
        limit("voltage quantisation", error_v, amps * per, "V"),
    ]
    if net:
        parts += [
            limit("idle baseline, quantisation", idle_a, -volts_per, "A"),
            limit("idle baseline, quantisation of the voltage", idle_v, -idle_amps * per, "V"),
        ]
    return parts


def _idle_limit_w(cells: list[CellValues]) -> float:
    """Limit of what a row's idle power may have done between before and after.

    A change at once, at any moment of a run, would leave its mean anywhere between the two: half of it is the limit.
    Only what repeats counts, and what noise does not explain; what differs from run to run is in their scatter.
    """
    changes = [c.idle_change for c in cells if c.idle_change is not None]
    others_w = sum(c.idle_limit_w or 0.0 for c in cells if c.idle_change is None)
    if not changes:
        return others_w / len(cells)
    n = len(changes)
    mean_w, variance = sum(c.watts for c in changes) / n, sum(c.u**2 for c in changes) / n**2
    return (n * math.sqrt(max(0.0, mean_w**2 - variance)) / 2 + others_w) / len(cells)


def _mean(values: Iterable[float]) -> float:
    """Of a few numbers, for which an array takes longer."""
    few = list(values)
    return sum(few) / len(few)


def _mean_of(inverse_s: Iterable[float]) -> float:
    """Sum of 1/duration over the square of their number: times a density, the variance of the mean of repeats."""
    values = list(inverse_s)
    return float(sum(values)) / len(values) ** 2


def _found(name: str, u: float, sensitivity: float, unit: str, dof: float) -> Component:
    """A component whose u was found by observing: Student's t where that was over few observations."""
    return Component(name, u, sensitivity, unit, dof, "normal" if math.isinf(dof) else "t")


def _of_gain(channel: Channel, value: float) -> list[Component]:
    gain, name = channel.gain, channel.name
    return [
        Component(f"{name} gain, reference", gain.u_reference, value, "1", distribution="rectangular"),
        _found(f"{name} gain, noise", gain.u_noise, value, "1", gain.dof),
        *(
            Component(f"{name} gain, {t.name}", t.u, value, "1", t.dof, t.distribution)
            if t.distribution == "rectangular"
            else _found(f"{name} gain, {t.name}", t.u, value, "1", t.dof)
            for t in gain.others
        ),
    ]


def _of_ends(cells: list[CellValues]) -> list[Component]:
    """What idle power a mean over the loop may hold where its ends were not told by a line, beyond half a sample."""
    step_w = _mean(c.power_w - c.idle_w for c in cells)
    beyond = (0.0 if c.edge_s is None else max(0.0, c.edge_s - c.dt_s / 2) / c.duration_s for c in cells)
    share = math.sqrt(math.fsum(one**2 for one in beyond)) / len(cells)
    if share == 0:
        return []
    return [limit(f"idle power at the loop's {end}", share, step_w, "1") for end in ("rise", "fall")]


def _of_time(quantity: str, cells: list[CellValues]) -> list[Component]:
    """What is not known of the gate's edges and of the oscilloscope's clock."""
    calibration, n = cells[0].calibration, len(cells)
    value = _mean(c.values[quantity] for c in cells)
    # At the rise the current is still idle, at the fall that of work.
    rise, fall = -1.0, 1.0
    if quantity.endswith("_j"):
        rise, fall = (_mean(getattr(c, name) for c in cells) for name in ("idle_w", "power_w"))
        rise, fall = (0.0, fall - rise) if quantity.startswith("net") else (-rise, fall)
    if any(c.edge_s is not None or c.pieces > 1 for c in cells):  # the current may be that of work at either end
        rise = -fall
    # Each piece has two ends of its own, but none where the device's clock tells how long the run was.
    by_scope = [c.clock_limit_s is None for c in cells]
    counts = [c.pieces if scope else 0 for c, scope in zip(cells, by_scope, strict=True)]
    each = math.sqrt(sum(k / c.images**2 for c, k in zip(cells, counts, strict=True))) / n
    ends = [c.dt_s / 2 if c.edge_s is None else c.edge_s for c in cells]
    squares = [k * (end_s / c.images) ** 2 for c, k, end_s in zip(cells, counts, ends, strict=True)]
    sampled_s = math.sqrt(sum(squares)) / n
    clock_s = _mean((c.clock_limit_s or 0.0) / c.images for c in cells)
    parts = [
        limit("edge at the gate's rise", sampled_s, rise, "s"),
        limit("edge at the gate's fall", sampled_s, fall, "s"),
        limit("timebase", calibration.timebase_limit, value * sum(by_scope) / n, "1"),
        limit("time by the device's clock", clock_s, fall, "s"),
    ]
    delay = calibration.delay
    if delay is not None:
        all_runs = _mean(scope / c.images for c, scope in zip(cells, by_scope, strict=True))
        parts += [
            _found("marker jitter at the rise", delay.jitter_s * each, rise, "s", delay.dof),
            _found("marker jitter at the fall", delay.jitter_s * each, fall, "s", delay.dof),
            _found("marker delay at the rise", delay.u_s * all_runs, rise, "s", delay.dof),
            _found("marker delay at the fall", delay.u_s * all_runs, fall, "s", delay.dof),
        ]
    return parts
