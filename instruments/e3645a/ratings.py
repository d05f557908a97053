"""What the E3645A can do and how well: ranges, accuracies, and what a bench allows. Pure.

Sources: UG364 p.196 and the accuracy table of the family; the 103 % limits are a public driver's.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Literal

from instruments.errors import ConfigError, LimitError
from instruments.readback import Limits, ReadBack

Range = Literal["P35V", "P60V"]

#: What each range can be programmed to, about 103 % of its rating (public driver; volts, amperes).
RANGE_LIMITS: dict[Range, tuple[float, float]] = {"P35V": (36.05, 2.266), "P60V": (61.8, 1.339)}
OVP_LIMIT_V = 66.0
#: Models of the family whose read-back is known.
FAMILY = re.compile(r"E364\dA")
#: Steps of set-points and read-back, in volts and amperes (second-hand, unconfirmed).
RESOLUTION = (0.005, 0.001)
#: Accuracy of ``MEAS:VOLT?`` and ``MEAS:CURR?``, 12 months, 25 +-5 C (UG364 p.196; the figures are those of the dual
#: models of the family, the E3645A's own row is unconfirmed).
READ_BACK = ReadBack(Limits(0.0005, 0.005, RESOLUTION[0]), Limits(0.0015, 0.005, RESOLUTION[1]))


def programming_tolerance_v(voltage_v: float) -> float:
    """Give the programming accuracy in volts: 0.05 % + 10 mV (12 months, UG364)."""
    return 0.0005 * abs(voltage_v) + 0.010


def programming_tolerance_a(current_a: float) -> float:
    """Give the programming accuracy in amperes: 0.2 % + 10 mA (UG364 p.196)."""
    return 0.002 * abs(current_a) + 0.010


def readback_tolerance_v(voltage_v: float) -> float:
    """Give the accuracy of ``MEAS:VOLT?`` in volts: 0.05 % + 5 mV (UG364)."""
    return READ_BACK.voltage.of(voltage_v)


def readback_tolerance_a(current_a: float) -> float:
    """Give the accuracy of ``MEAS:CURR?`` in amperes: 0.15 % + 5 mA (UG364 p.196)."""
    return READ_BACK.current.of(current_a)


@dataclass(frozen=True)
class SupplyLimits:
    """What this bench allows, whatever the supply could do: volts, amperes, OVP volts."""

    voltage_v: float
    current_a: float
    ovp_v: float = OVP_LIMIT_V

    def __post_init__(self) -> None:
        for name in ("voltage_v", "current_a", "ovp_v"):
            value = getattr(self, name)
            if not (isinstance(value, int | float) and value > 0):
                raise ConfigError(f"supply limit {name} = {value!r}: a positive number is expected")


def check_set_points(
    name: str,
    range_name: Range,
    limits: SupplyLimits,
    voltage_v: float | None,
    current_a: float | None,
    read_back: bool = False,
) -> None:
    """Raise LimitError for a voltage (V) or current limit (A) beyond the range or the limits of the bench.

    A set-point that was read back may be one step of the converter higher than what was sent.
    """
    step_v, step_a = RESOLUTION if read_back else (0.0, 0.0)
    most_v, most_a = RANGE_LIMITS[range_name]
    for what, value, unit, of_range, of_bench, step in (
        ("voltage", voltage_v, "V", most_v, limits.voltage_v, step_v),
        ("current limit", current_a, "A", most_a, limits.current_a, step_a),
    ):
        if value is not None and not 0 <= value <= min(of_range, of_bench) + step:
            raise LimitError(
                f"{name}: {what} {value:g} {unit} is outside 0 to {min(of_range, of_bench):g} {unit} (range "
                f"{range_name} {of_range:g} {unit}, this bench {of_bench:g} {unit}); nothing was sent"
            )
