"""A small world for tests of the simulated instruments: ramps and steps whose value at any time is known."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Reading:
    """What the supply's terminals truly carry."""

    volts: float
    amps: float
    mode: str


@dataclass
class StandIn:
    """CHAN1: a current step that follows D0, in volts; CHAN3: a ramp of 1 V/s from 0; the rest 0 V."""

    edges: list[tuple[float, int, int]] = field(default_factory=list)
    """(time, bit, new level), oldest first."""
    load_ohm: float = 10.0
    low_v: float = 0.05
    high_v: float = 0.25
    set_to: list[tuple[float, float, float, bool]] = field(default_factory=list)
    apertures: list[float] = field(default_factory=list)
    points: int = 0
    now_s: float = 0.0

    def advance(self, now_s: float) -> None:
        """Remember the latest time."""
        self.now_s = max(self.now_s, now_s)

    def digital(self, t_s: Floats) -> NDArray[np.uint8]:
        """Levels of all bits at each time."""
        out = np.zeros(t_s.size, dtype=np.uint8)
        for bit in range(8):
            mine = [(t, level) for t, b, level in self.edges if b == bit]
            times = np.array([-np.inf] + [t for t, _ in mine])
            levels = np.array([0] + [level for _, level in mine], dtype=np.uint8)
            out |= levels[np.searchsorted(times, t_s, side="right") - 1] << np.uint8(bit)
        return out

    def digital_edges(self, bit: int, after_s: float, until_s: float) -> list[tuple[float, int]]:
        """Edges of one bit in (after, until]."""
        return [(t, level) for t, b, level in self.edges if b == bit and after_s < t <= until_s]

    def analog_v(self, channel: int, t_s: Floats, aperture_s: float) -> Floats:
        """See the class."""
        self.apertures.append(aperture_s)
        self.points += t_s.size
        if channel == 1:
            return np.where(self.digital(t_s) & 1, self.high_v, self.low_v)
        return t_s + aperture_s / 2 if channel == 3 else np.zeros(t_s.size)

    def set_supply(self, now_s: float, volts: float, amps: float, on: bool) -> None:
        """Keep what the supply drives."""
        self.set_to.append((now_s, volts, amps, on))

    def supply(self, from_s: float, to_s: float) -> Reading:
        """A resistor on the output."""
        _, volts, amps, on = self.set_to[-1]
        current = volts / self.load_ohm
        if current > amps:
            return Reading(amps * self.load_ohm, amps, "CC" if on else "OFF")
        return Reading(volts, current, "CV" if on else "OFF")
