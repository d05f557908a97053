"""A file that is written whole or not at all."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path

from instruments.errors import TraceError

AGAIN = "python -m experiments.replay makes it anew from the trace file, with --out elsewhere"


def write_whole(path: Path, data: bytes, then: str = AGAIN) -> None:
    """Write a file whole or not at all: a program that dies meanwhile leaves what was there before.

    Raises TraceError where it cannot be written, such as on a full disk; `then` is what to do about it.
    """
    partial = path.with_name(path.name + ".unfinished")
    try:
        partial.write_bytes(data)
        os.replace(partial, path)
    except OSError as error:
        with contextlib.suppress(OSError):
            partial.unlink(missing_ok=True)
        raise TraceError(f"{path}: cannot be written ({error.strerror}); {then}") from error
