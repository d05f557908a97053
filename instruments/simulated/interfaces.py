"""What the simulated instruments need from the world around them. Types only."""

from __future__ import annotations

from typing import Protocol

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]


class SupplyReading(Protocol):
    """True means at the supply's terminals."""

    @property
    def volts(self) -> float: ...

    @property
    def amps(self) -> float: ...

    @property
    def mode(self) -> str: ...


class Surroundings(Protocol):
    """The physics that scope and supply share; times are seconds of one monotonic clock."""

    def advance(self, now_s: float) -> None:
        """Take in what has happened up to now."""

    def digital(self, t_s: Floats) -> NDArray[np.uint8]:
        """POD1 at each time, bit k = Dk; (n,)."""
        ...

    def digital_edges(self, bit: int, after_s: float, until_s: float) -> list[tuple[float, int]]:
        """Edges of D<bit>: (time, new level), oldest first."""
        ...

    def analog_v(self, channel: int, t_s: Floats, aperture_s: float) -> Floats:
        """Volts at the BNC, each the mean over [t, t + aperture_s); (n,)."""
        ...

    def set_supply(self, now_s: float, volts: float, amps: float, on: bool) -> None:
        """What the supply drives from now on; off is 0 V with a 20 mA limit."""

    def supply(self, from_s: float, to_s: float) -> SupplyReading:
        """True means at the supply's terminals over a stretch of time."""
        ...
