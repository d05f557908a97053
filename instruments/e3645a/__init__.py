"""Driver of the E3645A DC supply: ``E3645A`` composes a link; connecting sends nothing."""

from .driver import E3645A, Mode
from .ratings import (
    OVP_LIMIT_V,
    RANGE_LIMITS,
    READ_BACK,
    Range,
    SupplyLimits,
    check_set_points,
    programming_tolerance_a,
    programming_tolerance_v,
    readback_tolerance_a,
    readback_tolerance_v,
)

__all__ = [
    "E3645A",
    "OVP_LIMIT_V",
    "RANGE_LIMITS",
    "READ_BACK",
    "Mode",
    "Range",
    "SupplyLimits",
    "check_set_points",
    "programming_tolerance_a",
    "programming_tolerance_v",
    "readback_tolerance_a",
    "readback_tolerance_v",
]
