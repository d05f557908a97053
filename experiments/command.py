"""What every command line program here has in common: signals, errors and exit codes."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable

INTERRUPTED = 130


def run(action: Callable[[], int]) -> int:
    """Do a program's work and give its exit code.

    0 good, 1 a measurement without a result, 2 usage or configuration, 3 instrument or file, 130
    interrupted by Ctrl-C, SIGTERM or a terminal that went away. Errors are printed, each as one message.
    """
    from instruments.interrupts import stop_on_signals

    try:
        stop_on_signals()
        from instruments.errors import BenchError

        try:
            code = action()
            sys.stdout.flush()
            return code
        except BenchError as error:
            print(f"error: {error}", file=sys.stderr)
            return error.exit_code
        except BrokenPipeError:
            # Whoever read our output has gone, as `head` does; the interpreter must not trip over it again.
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            return 0
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return INTERRUPTED
