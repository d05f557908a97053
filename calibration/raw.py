"""Where a calibration's captures go, and where those of runs are read: trace files, known here by their door alone.

The trace file belongs to `experiments`, above this package. Whoever stands behind the door is named as drivers are
in lab.yaml, module:name, and imported when it is needed.
"""

from __future__ import annotations

import hashlib
import importlib
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol, cast

from instruments.dut import Done
from instruments.waveform import Capture

STORE = "experiments.traces.for_calibration:CalibrationTrace.create"
USES = "experiments.traces.for_calibration:uses"


class RawStore(Protocol):
    """A trace file that is being written; every capture is flushed."""

    def add(
        self,
        kind: str,
        capture: Capture,
        sources: Mapping[str, str],
        *,
        host_s: float,
        utc_s: float,
        window_s: float,
        readings: Sequence[tuple[str, float, float]] = (),
        done: Done | None = None,
    ) -> None:
        """Store a capture; readings are (A or V, value, seconds after the trigger at which it had ended)."""

    def close(self, whole: bool) -> None:
        """Close the file, as a whole one or as what there was when something went wrong."""


def create(
    path: Path, *, source: str, lab_text: str, instruments: Mapping[str, Any], what: str, window_s: float, seed: int
) -> RawStore:
    """Start the trace file of a calibration; raises TraceError where it cannot be written."""
    made = _behind(STORE)(path, source, lab_text, instruments, what, window_s, seed)
    return cast(RawStore, made)


def uses(path: Path) -> dict[str, Any]:
    """Say of a trace file: `when` it was made, its `lab`, `what` calibration it is of, `has_zero`, its `records`.

    Raises TraceError for what is no trace file.
    """
    return cast(dict[str, Any], _behind(USES)(path))


def sha256(path: Path) -> str:
    """Of a file's bytes."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


def _behind(door: str) -> Callable[..., Any]:
    module, _, name = door.partition(":")
    found: Any = importlib.import_module(module)
    for part in name.split("."):
        found = getattr(found, part)
    return cast(Callable[..., Any], found)
