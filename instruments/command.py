"""What every command line program here has in common: signals, errors, streams and exit codes."""

from __future__ import annotations

import contextlib
import io
import os
import sys
from collections.abc import Callable
from typing import NoReturn

from instruments.plain_text import visible

INTERRUPTED = 130

_UNTOLD: list[str] = []
"""What the system said when standard output took a text no longer, since the program began."""


def run(action: Callable[[], int]) -> int:
    """Do a program's work and give its exit code.

    0 good, 1 a measurement without a result, 2 usage or configuration, 3 instrument or file (standard output is one),
    130 interrupted by Ctrl-C, SIGTERM or a terminal that went away. Errors are printed, each as one message.
    """
    from instruments.interrupts import Interrupted, stop_on_signals, stopped, stopping

    _UNTOLD.clear()
    try:
        stop_on_signals()
        _ready_streams()
        from instruments.errors import BenchError

        try:
            return _unless_untold(action())
        except BenchError as error:
            complain(f"error: {error}")
            return error.exit_code
    except Interrupted:
        stopped()
        complain("interrupted")
        return INTERRUPTED
    except Exception:
        if stopping():  # a library took the interruption for a failure of its own
            stopped()
            complain("interrupted")
            return INTERRUPTED
        raise
    finally:
        if stopping():
            stopped()


def _unless_untold(code: int) -> int:
    """The exit code of a program that did its work: nobody may take what it could not tell for told."""
    if not _UNTOLD:
        return code
    complain(f"error: {_UNTOLD[0]}: what was told there is lost, files are not")
    from instruments.errors import OutputError

    return max(code, OutputError.exit_code)


def leave(code: int) -> NoReturn:
    """End the program with its exit code, at once.

    Everything is closed by now. While Python takes itself down it answers signals by dying of them, and a
    second Ctrl-C would turn the exit code into another.
    """
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(OSError, ValueError, AttributeError):
            stream.flush()
    os._exit(code)


def say(text: str) -> None:
    """Print a text; a reader that has gone, as that of `head`, stops nothing, nor does a full disk behind it.

    The disk is told by `run` when the work is done. Control characters, which names and reasons from elsewhere may
    hold, are shown and not obeyed.
    """
    from instruments.errors import OutputError

    try:
        tell(text)
    except OutputError as error:
        _UNTOLD.append(str(error))


def tell(text: str) -> None:
    """Print, as `say` does, what a program is there for and goes on in vain without.

    Raises OutputError where it cannot be written, as on a full disk.
    """
    from instruments.errors import OutputError

    try:
        print(visible(text), flush=True)
    except BrokenPipeError:
        _to_nowhere(sys.stdout)
    except OSError as error:
        _to_nowhere(sys.stdout)
        raise OutputError(f"standard output cannot be written ({error.strerror})") from error


def complain(text: str) -> None:
    """Print a text on standard error, in the same manner."""
    try:
        print(visible(text), file=sys.stderr, flush=True)
    except OSError:
        _to_nowhere(sys.stderr)


def _to_nowhere(stream: object) -> None:
    """Keep the interpreter from tripping over a broken stream once more when it ends."""
    with contextlib.suppress(OSError, AttributeError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())  # type: ignore[attr-defined]


def _ready_streams() -> None:
    """Make both streams take any text, also where they were closed or know ASCII alone."""
    for name in ("stdout", "stderr"):
        stream = getattr(sys, name)
        if stream is None:
            setattr(sys, name, open(os.devnull, "w", encoding="utf-8"))  # noqa: SIM115
        elif isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")
