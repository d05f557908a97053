"""Trace files of calibrations: their raw captures in the usual form, and which records a file rests on.

`calibration.raw` finds this module by its name; what it calls must keep its signature.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from experiments.journal import CaptureRow, Reading
from experiments.plan import Plan
from experiments.traces.reader import TraceReader
from experiments.traces.room import check_writable
from experiments.traces.writer import TraceWriter
from instruments.dut import Done
from instruments.interrupts import undisturbed
from instruments.waveform import Capture


class CalibrationTrace:
    """Writes the captures of one calibration; its plan has no cells."""

    def __init__(self, writer: TraceWriter) -> None:
        self._writer = writer

    @classmethod
    def create(
        cls,
        path: Path,
        source: str,
        lab_text: str,
        instruments: Mapping[str, Any],
        what: str,
        window_s: float,
        seed: int,
    ) -> CalibrationTrace:
        """Start a file; raises TraceError where it cannot be written or is there already."""
        check_writable(path.parent)
        began_s = datetime.now(UTC)
        texts = {
            "lab_yaml": lab_text,
            "instruments": json.dumps(dict(instruments), indent=1),
            "summary": json.dumps({"started_utc": f"{began_s:%Y-%m-%d %H:%M:%S UTC}", "calibration": what}),
        }
        plan = Plan((), (), 0, window_s, seed, ())
        writer = TraceWriter.create(path, plan, source=source, texts=texts)
        writer.session(began_s.timestamp(), texts["instruments"], "{}")
        return cls(writer)

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
        """Store and commit one capture with the supply's readings or the device's log."""
        row = CaptureRow(kind, host_s=host_s, utc_s=utc_s, window_asked_s=window_s)
        if done is not None:
            row = replace(row, run_id=done.run_id, batch=done.batch).with_log(done)
        with undisturbed():
            index = self._writer.add(row, capture, sources)
            self._writer.readings(index, [Reading(*reading) for reading in readings])
            self._writer.settle(index)

    def close(self, whole: bool) -> None:
        """Close the file, marked as whole or not."""
        with undisturbed():
            if whole:
                self._writer.complete()
            self._writer.close()


def uses(path: Path) -> dict[str, Any]:
    """When a run was made (UTC seconds), its lab.yaml as read, whether it has a zero, and the records stored in it."""
    with TraceReader(path) as reader:
        captures = reader.captures()
        times = [row["utc_s"] for row in captures if row["utc_s"] == row["utc_s"]]
        stored = reader.json("calibrations")
        return {
            "when": min(times, default=None),
            "lab": reader.text("lab_yaml"),
            "has_zero": any(row["kind"] == "zero" and row["state"] == "committed" for row in captures),
            "what": reader.json("summary").get("calibration", ""),
            "records": stored if isinstance(stored, list) else [],
        }
