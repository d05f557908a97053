"""What a sweep is about to do, on the disk before its instruments are opened.

Killed before its trace file is there, `--resume` begins the same sweep from it: the same plan, seed and bench.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Sequence
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
