"""What linux-gpib's module `gpib` offers pyvisa-py, for a bus that is a simulated supply in this process."""

from __future__ import annotations


class GpibError(Exception):
    """Raised by every function that fails; ``ibsta`` then says why."""


def version() -> str:
    return "4.3.6"


def ask(handle: int, option: int) -> int:
    return 0


def listener(board: int, pad: int, sad: int = 0) -> bool:
    return pad == 5
