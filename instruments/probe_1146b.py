"""The 1146B Hall current clamp: what to set on the scope's channel, and what may be believed.

Pure. The probe is not programmable: its range switch, the turns through its jaw and the direction
of its arrow are facts of the bench. Sources: 1146B manual p.18, 21 (verification limits, 10-turn
coil); the data-sheet numbers (current limits, noise, bandwidth) are quoted second-hand and were
not confirmed: they are limits for checks, never corrections.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from .errors import ConfigError
from .wording import counted

#: Zero offset that the maker allows, in amperes at the jaw, after zeroing (data sheet, unconfirmed).
OFFSET_LIMIT_A = 0.05
#: -3 dB bandwidth in hertz (data sheet, unconfirmed); the probe does not anti-alias.
BANDWIDTH_HZ = 100e3
#: Resistance that one turn inserts, in ohms (data sheet, unconfirmed).
INSERTION_OHM = 0.01


@dataclass(frozen=True)
class _Range:
    peak_a: float
    least_a: float
    gain_fraction: float
    noise_v: float


# V/A -> peak and least current at the jaw, gain limit, noise (rms or peak is not said: taken as rms).
_RANGES = {0.1: _Range(10.0, 0.1, 0.03, 3e-3), 0.01: _Range(40.0, 0.5, 0.04, 0.5e-3)}


@dataclass(frozen=True)
class ProbeLimits:
    """The maker's limits at one current: half-widths in amperes of the conductor."""

    gain_a: float
    offset_a: float

    @property
    def total_a(self) -> float:
        """Sum of both half-widths, in amperes."""
        return self.gain_a + self.offset_a


@dataclass(frozen=True)
class Probe1146B:
    """One clamp as it sits on the bench.

    Args:
        range_v_per_a: 0.1 (100 mV/A, to 10 A) or 0.01 (10 mV/A, to 40 A): the switch on the probe.
        turns: turns of the conductor through the jaw, 1 to 100.
        direction: +1 when the arrow points along the positive current, -1 when against it.

    Raises:
        ConfigError: for a range, a number of turns or a direction that the probe cannot have.
    """

    range_v_per_a: float = 0.1
    turns: int = 1
    direction: Literal[1, -1] = 1

    def __post_init__(self) -> None:
        if self.range_v_per_a not in _RANGES:
            raise ConfigError(
                f"probe range {self.range_v_per_a!r} V/A: the 1146B has 0.1 (100 mV/A) and 0.01 (10 mV/A)"
            )
        if isinstance(self.turns, bool) or not isinstance(self.turns, int) or not 1 <= self.turns <= 100:
            raise ConfigError(f"probe turns {self.turns!r}: a whole number from 1 to 100 is expected")
        if self.direction not in (1, -1):
            raise ConfigError(f"probe direction {self.direction!r}: +1 (along the arrow) or -1 is expected")

    @property
    def _spec(self) -> _Range:
        return _RANGES[self.range_v_per_a]

    @property
    def volts_per_ampere(self) -> float:
        """Volts at the BNC per ampere in the conductor, with the sign of the direction."""
        return self.direction * self.range_v_per_a * self.turns

    @property
    def probe_ratio(self) -> float:
        """What to set as ``PROBe`` so that the scope reads amperes of the conductor (10 for 100 mV/A)."""
        return 1.0 / (self.range_v_per_a * self.turns)

    @property
    def units(self) -> Literal["A"]:
        """The channel's unit, as ``ChannelSettings`` takes it."""
        return "A"

    @property
    def invert(self) -> bool:
        """What to set as ``INVert`` so that positive current reads positive."""
        return self.direction < 0

    @property
    def peak_current_a(self) -> float:
        """Largest current of the conductor within the range, in amperes."""
        return self._spec.peak_a / self.turns

    @property
    def least_current_a(self) -> float:
        """Smallest current that the maker specifies, in amperes of the conductor."""
        return self._spec.least_a / self.turns

    @property
    def noise_a(self) -> float:
        """Noise of the probe over its whole bandwidth, in amperes of the conductor (unconfirmed)."""
        return self._spec.noise_v / self.range_v_per_a / self.turns

    @property
    def offset_limit_a(self) -> float:
        """Zero offset that the maker allows after zeroing, in amperes of the conductor (unconfirmed)."""
        return OFFSET_LIMIT_A / self.turns

    @property
    def insertion_ohm(self) -> float:
        """Resistance that all turns insert, in ohms (unconfirmed)."""
        return INSERTION_OHM * self.turns

    def spec_limits(self, current_a: float) -> ProbeLimits:
        """Give the maker's limits at a current of the conductor.

        Raises ConfigError beyond 10 A (100 mV/A) or 100 A (10 mV/A) at the jaw. Between 40 and 100 A
        the 10 mV/A range may be off by 15 %.
        """
        at_jaw_a = abs(current_a) * self.turns
        beyond = at_jaw_a > self._spec.peak_a
        if beyond and (self.range_v_per_a == 0.1 or at_jaw_a > 100):
            raise ConfigError(
                f"{current_a:g} A through {counted(self.turns, 'turn')} is beyond the probe's range of "
                f"{self._spec.peak_a:g} A at {self.range_v_per_a:g} V/A; use fewer turns or 10 mV/A"
            )
        fraction = 0.15 if beyond else self._spec.gain_fraction
        return ProbeLimits(fraction * abs(current_a), self.offset_limit_a)

    def clip_limits_a(self, full_scale_a: float, offset_a: float = 0.0) -> tuple[float, float]:
        """Give the lowest and highest current that a channel can record, in amperes.

        Args:
            full_scale_a: ``RANGe`` of the channel, 8 divisions, in amperes of the conductor.
            offset_a: ``OFFSet`` of the channel, the value at mid-screen.

        The probe's own range limits it too.
        """
        if not full_scale_a > 0:
            raise ConfigError(f"a channel's full scale of {full_scale_a!r} A is not positive")
        return (
            max(-self.peak_current_a, offset_a - full_scale_a / 2),
            min(self.peak_current_a, offset_a + full_scale_a / 2),
        )

    def over_range(self, current_a: NDArray[np.float64]) -> NDArray[np.bool_]:
        """Mark samples (n,) beyond the range: the channel may still show what the probe no longer follows."""
        return np.asarray(np.abs(current_a) > self.peak_current_a)

    @staticmethod
    def passed(frequency_hz: float) -> float:
        """Give the share of a sine that the probe passes, 0.71 at its bandwidth: one pole (assumed)."""
        if frequency_hz < 0:
            raise ConfigError(f"a frequency of {frequency_hz!r} Hz is below 0")
        return 1.0 / math.hypot(1.0, frequency_hz / BANDWIDTH_HZ)

    @staticmethod
    def rise_time_s() -> float:
        """Give the 10-90 % rise time that the bandwidth allows, in seconds; shorter events are smeared."""
        return math.log(9.0) / (2 * math.pi * BANDWIDTH_HZ)

    def before_zero(self) -> tuple[str, ...]:
        """What a person does at the clamp before its zero is taken, one step each.

        From the maker's manual and notes on clamps: there is no degauss button, and the zero holds for one place.
        """
        millivolts = self.range_v_per_a * 1e3
        way = "along" if self.direction > 0 else "against"
        turns = "once" if self.turns == 1 else f"{self.turns} times in the same direction"
        return (
            f"switch the clamp on at {millivolts:g} mV/A; its light must say that the battery is good; let it warm up",
            f"lead the supply wire, and no other, {turns} through the jaw, the arrow {way} the current; close the jaws",
            f"leave it where it will stay, away from transformers: nothing may flow now, and later at most "
            f"{self.peak_current_a:g} A",
            "degauss it by hand if it has seen more than its range or a magnet: a current to and fro that dies away",
            f"turn its zero wheel until the channel shows 0, within {self.offset_limit_a * 1e3:g} mA",
        )
