"""Ctrl-C, SIGTERM and SIGHUP as one orderly interruption, and code that they must not cut in two."""

from __future__ import annotations

import contextlib
import signal
import sys
import threading
from collections.abc import Iterator
from types import FrameType

_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)

_depth = 0
_held = False
_stopping = False
_over = False


class Interrupted(BaseException):
    """The user or the system wants the program to end.

    Not a KeyboardInterrupt: from within an import that one makes Python end by a signal, whatever is
    returned.
    """


def stop_on_signals() -> None:
    """Turn the first of the signals into Interrupted; later ones change nothing while the program ends.

    Python drops what is raised in some places (`__del__`, callbacks), and some libraries do. The program then still
    runs: the next signal, or the end of the next `undisturbed` block, raises Interrupted again.
    """
    for number in _SIGNALS:
        signal.signal(number, _stop)
    if sys.unraisablehook is sys.__unraisablehook__:
        sys.unraisablehook = _say_dropped


def _say_dropped(dropped: sys.UnraisableHookArgs) -> None:
    """Say what Python drops, but not that it dropped Interrupted: that comes again."""
    if not isinstance(dropped.exc_value, Interrupted):
        sys.__unraisablehook__(dropped)


def stopping() -> bool:
    """Whether a signal has come."""
    return _stopping


def stopped() -> None:
    """Note that the interruption has arrived where the program ends: from here on signals change nothing."""
    global _over
    _over = True


def _stop(number: int, frame: FrameType | None) -> None:
    global _held, _stopping
    if _stopping and _on_its_way():
        return
    _stopping = True
    if _depth:
        _held = True
    else:
        raise Interrupted


def _on_its_way() -> bool:
    """Whether Interrupted is in flight here, maybe behind another error, or has arrived."""
    error = sys.exception()
    while error is not None and not isinstance(error, Interrupted):
        error = error.__context__
    return _over or error is not None


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
        if not _depth and (_held or (_stopping and not _on_its_way())):
            _held = False
            raise Interrupted
