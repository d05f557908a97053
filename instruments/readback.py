"""What a supply promises of its own readings: the reference of a bench. Pure."""

from __future__ import annotations

from typing import NamedTuple


class Limits(NamedTuple):
    """Limits of a reading: a share of it, and a constant, with one step of the display; V or A."""

    relative: float
    absolute: float
    step: float

    def of(self, reading: float) -> float:
        """By how much a reading may be off."""
        return self.relative * abs(reading) + self.absolute


class ReadBack(NamedTuple):
    """Both quantities that a supply reads at its output."""

    voltage: Limits
    current: Limits
