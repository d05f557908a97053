"""Files that are written whole or not at all."""

from __future__ import annotations

import contextlib
import os
import secrets
from pathlib import Path

from instruments.errors import TraceError


def write_whole(path: Path, data: bytes, then: str) -> None:
    """Write a file whole or not at all: a program that dies meanwhile leaves what was there before.

    Raises TraceError where it cannot be written, such as on a full disk; `then` is what to do about it.
    """
    partial = path.with_name(f"{path.name}.unfinished")
    try:
        partial.write_bytes(data)
        os.replace(partial, path)
    except OSError as error:
        _remove(partial)
        raise TraceError(f"{path}: cannot be written ({error.strerror}); {then}") from error


def write_once(path: Path, data: bytes) -> None:
    """Write a file whole or not at all, and never over another, also of a program that writes the same meanwhile.

    Raises FileExistsError where there is one, OSError where it cannot be written.
    """
    partial = path.with_name(f"{path.name}.{secrets.token_hex(4)}.unfinished")
    try:
        _write_new(partial, data)
        try:
            os.link(partial, path)
        except FileExistsError:
            raise
        except OSError:  # a file system without links, such as FAT: never over another all the same
            _write_new(path, data)
    finally:
        _remove(partial)


def _write_new(path: Path, data: bytes) -> None:
    with path.open("xb") as file:
        try:
            file.write(data)
            file.flush()
        except OSError:
            _remove(path)
            raise


def _remove(path: Path) -> None:
    with contextlib.suppress(OSError):
        path.unlink(missing_ok=True)
