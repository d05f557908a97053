"""Driver of the MSO-X 2024A oscilloscope, its 2000 X sisters and, as far as known, the 3000 X and 3000T X.

``MsoX2024A`` composes a link; connecting sends nothing. Settings are frozen values that are written,
read back and returned as they really are. ``python -m instruments.mso_x2024a`` plans a window.
"""

from .acquisition import ScopeState
from .capabilities import MSO_X_2024A, Capabilities
from .driver import MsoX2024A
from .plan import AcquisitionPlan, Choice, plan_acquisition
from .settings import (
    AcquisitionSettings,
    ChannelSettings,
    DigitalSettings,
    TimebaseSettings,
    next_full_scale,
)
from .trigger import EdgeTrigger

__all__ = [
    "MSO_X_2024A",
    "AcquisitionPlan",
    "AcquisitionSettings",
    "Capabilities",
    "ChannelSettings",
    "Choice",
    "DigitalSettings",
    "EdgeTrigger",
    "MsoX2024A",
    "ScopeState",
    "TimebaseSettings",
    "next_full_scale",
    "plan_acquisition",
]
