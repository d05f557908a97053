"""Ctrl-C, SIGTERM and SIGHUP as one orderly interruption, and code that they must not cut in two."""

from __future__ import annotations

import contextlib
import signal
import threading
from collections.abc import Iterator
from types import FrameType

_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)

_depth = 0
_held = False
_stopping = False


class Interrupted(BaseException):
    """The user or the system wants the program to end.

    Not a KeyboardInterrupt: from within an import that one makes Python end by a signal, whatever is
    returned.
    """


def stop_on_signals() -> None:
    """Turn the first of the signals into Interrupted; later ones change nothing while the program ends."""
    for number in _SIGNALS:
        signal.signal(number, _stop)


def stopping() -> bool:
    """Whether a signal has come."""
    return _stopping


def _stop(number: int, frame: FrameType | None) -> None:
    global _held, _stopping
    if _stopping:
        return
    _stopping = True
    if _depth:
        _held = True
    else:
        raise Interrupted


@contextlib.contextmanager
def undisturbed() -> Iterator[None]:
    """Hold the signals back until the block has ended; nests.

    The handler itself waits, because a mask of the main thread would not do: the kernel gives a signal to
    any thread that takes it, such as one of a numerical library, and Python then interrupts the main thread.
    """
    global _depth, _held
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    _depth += 1
    try:
        yield
    finally:
        _depth -= 1
        if _held and not _depth:
            _held = False
            raise Interrupted
