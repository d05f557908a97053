"""Driver of the MSO-X 2024A oscilloscope (and, as far as known, its 2000 X sisters).

``MsoX2024A`` composes a link; connecting sends nothing. Settings are frozen values that are written,
read back and returned as they really are.
"""

from .acquisition import ScopeState
from .driver import MsoX2024A
from .plan import AcquisitionPlan, Capabilities, plan_acquisition
from .settings import (
    AcquisitionSettings,
    ChannelSettings,
    DigitalSettings,
    EdgeTrigger,
    TimebaseSettings,
    next_full_scale,
)

__all__ = [
    "AcquisitionPlan",
    "AcquisitionSettings",
    "Capabilities",
    "ChannelSettings",
    "DigitalSettings",
    "EdgeTrigger",
    "MsoX2024A",
    "ScopeState",
    "TimebaseSettings",
    "next_full_scale",
    "plan_acquisition",
]
