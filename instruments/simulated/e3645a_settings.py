"""Ranges, limits, states and errors of the simulated supply. Pure; sources are in `e3645a`."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

IDENTITY = "Agilent Technologies,E3645A,0,1.4-5.0-1.0"
RANGES = {"P35V": (35.0, 2.2), "P60V": (60.0, 1.3)}
OVER_RANGE = 1.03
OVP_MIN_V, OVP_MAX_V = 1.0, 66.0
OFF_A = 0.02
CC_BIT, CV_BIT, OVP_BIT = 1, 2, 512


@dataclass(frozen=True)
class Settings:
    """Everything that *SAV keeps."""

    range: str = "P35V"
    voltage_v: float = 0.0
    current_a: float = 2.2
    triggered_v: float | None = None
    triggered_a: float | None = None
    """None: never programmed, and then the immediate level counts."""
    ovp_v: float = OVP_MAX_V
    ovp_on: bool = True
    output: bool = False

    @property
    def max_v(self) -> float:
        """Highest programmable voltage in this range (103 %)."""
        return round(RANGES[self.range][0] * OVER_RANGE, 6)

    @property
    def max_a(self) -> float:
        """Highest programmable current in this range (103 %)."""
        return round(RANGES[self.range][1] * OVER_RANGE, 6)


def nr3(value: float) -> str:
    """A number as the supply writes it."""
    return f"{value + 0.0:+.8E}"


def draw_errors(rng: np.random.Generator, share: float) -> dict[str, float]:
    """Errors of one unit within the 12-month specification (UG364); gains relative, offsets in V or A."""
    limits = {
        "set_gain_v": 5e-4, "set_offset_v": 0.010, "set_gain_a": 2e-3, "set_offset_a": 0.010,
        "read_gain_v": 5e-4, "read_offset_v": 0.005, "read_gain_a": 1.5e-3, "read_offset_a": 0.005,
    }  # fmt: skip
    return {name: share * limit * float(rng.uniform(-1, 1)) for name, limit in limits.items()}
