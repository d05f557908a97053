"""Corrections of one measuring channel, each a value with what is known about it. Pure.

A channel reads x where the truth is y: y = (x - offset(t)) / gain. Reading a correction outside the
range for which it was found is an error, not an extrapolation.
"""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass
from typing import Literal

from instruments.readback import Limits


@dataclass(frozen=True)
class ZeroPoint:
    """What the channel read at no input: value and standard uncertainty in its unit, at host time t_s.

    `rounding` limits what rounding to codes left in it, which its noise does not show.
    """

    t_s: float
    value: float
    u: float
    rounding: float = 0.0


@dataclass(frozen=True)
class Offset:
    """The channel's zero over time: straight between the zeros that were taken, constant beyond them.

    `drift_u` is the standard uncertainty of what the zero may have done between two points, and
    `unbracketed_u` of where it may have gone after the last, in the channel's unit.
    """

    points: tuple[ZeroPoint, ...]
    drift_u: float
    unbracketed_u: float

    def __post_init__(self) -> None:
        if not self.points:
            raise ValueError("an offset needs at least one zero")

    @property
    def bracketed(self) -> bool:
        """Whether a zero was taken both before and after."""
        return len(self.points) > 1

    def at(self, t_s: float) -> float:
        """Offset at host time t_s, in the channel's unit."""
        points = sorted(self.points, key=lambda p: p.t_s)
        if t_s <= points[0].t_s:
            return points[0].value
        for a, b in itertools.pairwise(points):
            if t_s <= b.t_s:
                return a.value + (b.value - a.value) * (t_s - a.t_s) / (b.t_s - a.t_s)
        return points[-1].value

    @property
    def u_drift(self) -> float:
        """Standard uncertainty of the drift: a third of the spread of zeros seen, and never below `drift_u`.

        The path between two zeros is unknown; half their difference taken as a rectangular limit
        gives (difference / 2) / sqrt(3).
        """
        values = [p.value for p in self.points]
        seen = (max(values) - min(values)) / 2 / math.sqrt(3.0)
        floor = self.drift_u if self.bracketed else self.unbracketed_u
        return math.hypot(seen, floor)

    @property
    def u_noise(self) -> float:
        """Standard uncertainty that the zeros' own noise leaves, the largest of the points."""
        return max(p.u for p in self.points)

    @property
    def rounding(self) -> float:
        """Limit of what rounding to codes leaves in the zeros, the largest of the points: they may all lie alike."""
        return max(p.rounding for p in self.points)


@dataclass(frozen=True)
class GainTerm:
    """One more reason why a gain is not known: relative standard uncertainty u, and what it is distributed like."""

    name: str
    u: float
    dof: float = math.inf
    distribution: Literal["normal", "rectangular"] = "rectangular"


@dataclass(frozen=True)
class Gain:
    """Slope of a channel: reading over truth, found against a reference.

    `u_reference` (relative, rectangular limit / sqrt 3) is the reference's specification, `u_noise`
    (relative, `dof` degrees of freedom) the scatter of the comparison, `others` what else makes it unsure. `at` is
    the true value at which an error of this channel's zero cancels, since the gain was found through that zero
    (inf: it was not), `low`..`high` the range in which it may be used. `limits` are those of the reading that it was
    compared with in the run, None where it was not; `each` are the comparisons of the run that it is the mean of.
    """

    value: float
    u_reference: float
    u_noise: float
    dof: float
    at: float
    low: float
    high: float
    source: str
    others: tuple[GainTerm, ...] = ()
    limits: Limits | None = None
    each: tuple[Gain, ...] = ()

    def check(self, true_value: float, what: str) -> None:
        """Raise ValueError when a value lies outside the range that this gain was found for."""
        if not self.low <= true_value <= self.high:
            raise ValueError(
                f"{what} of {true_value:.4g} lies outside {self.low:.4g} .. {self.high:.4g}, "
                f"for which the gain was found ({self.source}); calibrate there first"
            )


@dataclass(frozen=True)
class Channel:
    """The corrections of one channel."""

    name: str
    unit: str
    offset: Offset
    gain: Gain

    def correct(self, reading: float, t_s: float) -> float:
        """Turn a reading into the true value."""
        return (reading - self.offset.at(t_s)) / self.gain.value


@dataclass(frozen=True)
class Noise:
    """Variance of a mean times its duration, from the zero records: A^2 s and V^2 s."""

    current_a2s: float
    voltage_v2s: float
    dof: float


@dataclass(frozen=True)
class Delay:
    """How much later than the work the gate's edges are seen, s; below 0: earlier.

    `u_s` is the standard uncertainty (`dof` degrees of freedom) of either, common to all runs; `jitter_s` the
    standard deviation of one edge.
    """

    rise_s: float
    fall_s: float
    u_s: float
    jitter_s: float
    dof: float = math.inf


@dataclass(frozen=True)
class Calibration:
    """Everything that turns a run's readings into true values, and what is known about each.

    `residual_a` limits the current that may still flow with the supply's output off, while the zero is
    taken; `timebase_limit` is the relative limit of the oscilloscope's timebase; `linearity` limits how far the
    current's channel bows between its zero and `linear_to_a` (None: the gain's `at`), relative to the latter.
    `delay` is that of the marker lines, None where it was never measured.
    """

    current: Channel
    voltage: Channel
    noise: Noise
    residual_a: float
    timebase_limit: float
    linearity: float
    linear_to_a: float | None = None
    delay: Delay | None = None

    def bow_a(self, amps: float, less: float | None = None) -> float:
        """Limit of the error that a bow leaves in a current, or in the difference of two, A.

        A parabola through zero and point of comparison, highest half-way; it goes on beyond.
        """
        top_a = self.current.gain.at if self.linear_to_a is None else self.linear_to_a
        if math.isinf(top_a):
            return 0.0  # the makers' limits hold for every current

        def bow(current_a: float) -> float:
            share = current_a / top_a
            return 4 * self.linearity * top_a * share * (1 - share)

        return abs(bow(amps) - (bow(less) if less is not None else 0.0))
