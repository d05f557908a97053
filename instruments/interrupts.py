"""Ctrl-C, SIGTERM and SIGHUP as one orderly KeyboardInterrupt, and code that they must not cut in two."""

from __future__ import annotations

import contextlib
import signal
import threading
from collections.abc import Iterator
from types import FrameType

_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)

_depth = 0
_held = False


def stop_on_signals() -> None:
    """Turn the first of the signals into KeyboardInterrupt; later ones are ignored while the program ends."""
    for number in _SIGNALS:
        signal.signal(number, _stop)


def _stop(number: int, frame: FrameType | None) -> None:
    global _held
    for other in _SIGNALS:
        signal.signal(other, signal.SIG_IGN)
    if _depth:
        _held = True
    else:
        raise KeyboardInterrupt


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
            raise KeyboardInterrupt
