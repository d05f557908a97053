"""A running check of the current's gain: what the supply reads during the work itself, beside its record. Pure.

A run's gain comes from a few comparisons at its ends, or from a record; what the clamp does between nobody sees. But
the board's own current passes clamp and supply at the same time, in every cell. Where it is steady, the channel's mean
over the supply's mean is a gain of that minute, and how far it departs from the gain that was used tells of a clamp
that moved, warmed or was touched.

Only what the two do not share decides (E_n, ISO/IEC 17043): where the gain used rests on the same supply's read-back,
the relative part of its limit is in both, and the constant part cancels as far as both loads are alike. A mean of
readings and the mean of the stretch in which they were taken are means over different instants: the scatter of the
readings, with Student's factor for their number, and the swing of the load between tenths of a second stand for that.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from calibration.budget import student_t
from calibration.in_situ import ZERO_OF_READBACK
from calibration.model import Calibration
from instruments.readback import Limits

STEADY = 0.02
"""Half the range of a load's means over a tenth of a second, relative to its mean, above which it is not steady."""

LEAST_READINGS = 3
"""Readings below which their scatter says nothing."""

COVERAGE, PROBABILITY = 2.0, 0.9545
"""Factor of the expanded uncertainties in E_n, and the probability that it stands for."""


@dataclass(frozen=True)
class Stretch:
    """Work during which the supply was read, at host time t_s.

    `mean_a` is the current's channel over `duration_s`, uncorrected, `swing_a` half the range of its means over as long
    as one reading takes, and `reference_a` what the supply read.
    """

    t_s: float
    duration_s: float
    mean_a: float
    swing_a: float
    reference_a: tuple[float, ...]


@dataclass(frozen=True)
class Departure:
    """How far a stretch's gain is from the one used, relative, with its standard uncertainty; NaN where `reason`."""

    amps: float
    departs: float
    u: float
    reason: str = ""

    @property
    def e_n(self) -> float:
        """Departure over the expanded uncertainty of the difference; above 1 the two contradict each other."""
        return abs(self.departs) / (COVERAGE * self.u) if self.u > 0 else math.nan


def departure(stretch: Stretch, calibration: Calibration, read_back: Limits, *, by_readback: bool) -> Departure:
    """Compare a stretch's gain with the one used.

    `read_back` are the limits of the supply's current, and `by_readback` says that the gain used rests on it too.
    """
    channel = calibration.current
    gain, n = channel.gain, len(stretch.reference_a)
    readings = np.array(stretch.reference_a)
    amps = float(readings.mean()) if n else math.nan
    seen_a = stretch.mean_a - channel.offset.at(stretch.t_s)
    if n < LEAST_READINGS:
        return Departure(amps, math.nan, math.nan, f"{n} readings of the supply are too few")
    if amps <= 0 or seen_a <= 0:
        return Departure(amps, math.nan, math.nan, "no current to compare")
    if stretch.swing_a > STEADY * seen_a:
        return Departure(amps, math.nan, math.nan, f"the load swings by {stretch.swing_a / seen_a * 100:.1f} %")
    relative, absolute = read_back.relative / math.sqrt(3.0), read_back.absolute / math.sqrt(3.0)
    scatter_a = float(readings.std(ddof=1)) / math.sqrt(n) * student_t(PROBABILITY, n - 1) / COVERAGE
    shared = min(gain.u_reference, relative) if by_readback else 0.0
    u = math.hypot(
        scatter_a / amps,
        read_back.step / math.sqrt(12.0) / amps,
        stretch.swing_a / seen_a / math.sqrt(3.0 * n),
        math.sqrt(calibration.noise.current_a2s / stretch.duration_s) / amps,
        channel.offset.u_drift / amps,
        absolute * abs(1 / amps - (1 / gain.at if by_readback else 0.0)),
        relative - shared,
        0.0 if by_readback else gain.u_reference,
        calibration.bow_a(amps) / amps / math.sqrt(3.0),
        gain.u_noise,
        *(term.u for term in gain.others if term.name != ZERO_OF_READBACK),
    )
    return Departure(amps, seen_a / amps / gain.value - 1, u)
