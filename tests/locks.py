"""What one test at a time may have on this machine, however many processes run tests."""

from __future__ import annotations

import contextlib
import fcntl
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path


@contextlib.contextmanager
def alone(what: str) -> Iterator[None]:
    """Wait until no other test has this."""
    with (Path(tempfile.gettempdir()) / f"joulebench-tests-{os.getuid()}-{what}").open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield
