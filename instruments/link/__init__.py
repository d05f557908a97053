"""One VISA conversation: deadline, lock, transcript, recovery; the only importer of pyvisa.

``Link.open`` opens a real (or simulated) instrument by its VISA resource strings; ``ReplayLink``
serves a recorded transcript through the same methods. Drivers know only ``Conversation``.
"""

from .conversation import Link
from .discovery import may_be_asked, visible_resources
from .interface import Conversation
from .replay import ReplayLink
from .transcript import Transcript
from .visa import SerialOptions, check_library

__all__ = [
    "Conversation",
    "Link",
    "ReplayLink",
    "SerialOptions",
    "Transcript",
    "check_library",
    "may_be_asked",
    "visible_resources",
]
