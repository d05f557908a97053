"""Who measures into a folder, and what: on the disk before any instrument is opened.

Killed before its trace file is there, `--resume` begins the same sweep from it: the same plan, seed and bench.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from experiments.plan import Plan
from instruments.errors import ConfigError
from instruments.whole_file import write_whole

BEGUN = "begun.json"
"""Its file in the folder of the run; gone once the trace file is there."""


@dataclass(frozen=True)
class Begun:
    """A plan (JSON), the bench's text and where it was read, calibration records named, and whether they must fit."""

    plan: str
    lab_yaml: str
    lab: str
    calibration: Sequence[str]
    require_calibration: bool

    def write(self, folder: Path) -> None:
        """Write it, whole or not at all. Raises TraceError."""
        text = json.dumps(asdict(self), indent=1)
        write_whole(folder / BEGUN, text.encode("utf-8"), "name another folder with --out")

    @staticmethod
    def read(folder: Path) -> tuple[Begun, Plan]:
        """Read it, with the plan. Raises ConfigError where there is none, or it is damaged."""
        path = folder / BEGUN
        try:
            begun = Begun(**json.loads(path.read_text(encoding="utf-8")))
            return begun, Plan.from_json(begun.plan)
        except FileNotFoundError as error:
            raise ConfigError(
                f"--resume {folder}: holds neither trace.h5 nor {BEGUN}: nothing was measured, start the sweep anew"
            ) from error
        except (OSError, ValueError, TypeError, KeyError, AttributeError) as error:
            raise ConfigError(f"{path}: cannot be used ({str(error)[:160]}); start the sweep anew") from error


def forget(folder: Path) -> None:
    """Take it away: the run's trace file tells all of it, or nothing was begun."""
    with contextlib.suppress(OSError):
        (folder / BEGUN).unlink(missing_ok=True)


@contextlib.contextmanager
def alone(folder: Path) -> Iterator[None]:
    """Keep other sweeps from a folder; raises ConfigError where one is at work there.

    The system lifts the lock whatever becomes of this process, and nothing is left in the folder.
    """
    with contextlib.ExitStack() as stack:
        with contextlib.suppress(OSError):  # a folder that may not be read, a file system without locks
            lock = os.open(folder, os.O_RDONLY)
            stack.callback(os.close, lock)
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise ConfigError(
                    f"{folder}: another sweep is measuring into this folder: wait for it, or name another folder"
                ) from None
        yield
