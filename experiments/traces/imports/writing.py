"""Recordings of others become one trace file: a capture for each measured loop, time 0 at its begin."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import platform
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from experiments.journal import CaptureRow
from experiments.plan import Cell, Plan
from experiments.traces.imports.asked import Wanted
from experiments.traces.imports.reading import read
from experiments.traces.imports.roles import Picked, marker_preamble, pick, preamble
from experiments.traces.imports.runs import Run, runs_of
from experiments.traces.room import CannotWriteError
from experiments.traces.schema import ROLES
from experiments.traces.writer import TraceWriter
from instruments.errors import ConfigError, TraceError
from instruments.lab import Lab
from instruments.waveform import Capture, Record

SOURCES = {role: role for role in ROLES}


def import_files(
    files: Sequence[Path],
    out: Path,
    lab: Lab,
    lab_text: str,
    wanted: Wanted,
    zeros: Sequence[Path] = (),
    say: Callable[[str], None] = lambda _: None,
) -> int:
    """Write the recordings of `files` into the new trace file `out`; gives the number of captures.

    `zeros` are recordings without current and voltage, as a bench's zero. Raises ConfigError for what is asked
    wrongly, TraceError with file and line for data that cannot be taken; there is no `out` then.
    """
    if out.exists():
        raise ConfigError(f"{out} exists: name another file")
    if lab.dut.simulated is not None:
        raise ConfigError("dut.simulated stands for the device: name the bench that was measured with --lab FILE")
    if lab.simulation is not None:
        say(
            f"note: {lab.bench!r} is a simulated bench: --lab FILE names the one that was measured "
            "(docs/benches/imported.yaml is one to begin with)"
        )
    unused = sorted(set(wanted.of_files) - {path.name for path in files})
    if not isinstance(wanted.windows, str):
        unused += [f"{w.file} ({w.place})" for w in wanted.windows if not any(w.of(path) for path in files)]
    if unused:
        raise ConfigError(f"something is said of {unused[0]}, which is not imported")
    runs: list[Run] = []
    rested: list[Picked] = []
    for path in files:
        for recording in read(path, wanted.format, wanted.choice, lab):
            picked = pick(recording, wanted.choice, lab)
            if recording.kind == "zero":
                rested.append(picked)
                continue
            for role, grid in picked.grids.items():
                how = (
                    "the grid on which the readings lie" if grid.exact else "16 bits over the range: no grid was found"
                )
                say(f"{path}: {role} in steps of {grid.increment:.4g}, {how}")
            for note in picked.notes:
                say(f"{path}: {note}")
            runs += runs_of(picked, wanted, lab, say)
    at_rest = wanted.choice
    if at_rest.constant_v is not None:
        at_rest = replace(at_rest, constant_v=0.0)
    rested += [pick(recording, at_rest, lab) for path in zeros for recording in read(path, wanted.format, at_rest, lab)]
    if len({run.picked.analogue for run in runs if not run.flag}) > 1:
        raise ConfigError("the marker lines of these files were recorded in different ways: import them one by one")
    partial = out.with_name(f"{out.stem}.importing{out.suffix}")
    try:
        partial.unlink(missing_ok=True)
        _write(partial, runs, rested, lab_text, [*files, *zeros])
        os.replace(partial, out)
    except (CannotWriteError, OSError) as error:
        why = error.why if isinstance(error, CannotWriteError) else error.strerror or error
        raise TraceError(f"{out}: cannot be written ({why}); name another file with --out") from error
    finally:
        with contextlib.suppress(OSError):
            partial.unlink(missing_ok=True)
    return len(runs) + len(rested)


def _write(out: Path, runs: Sequence[Run], zeros: Sequence[Picked], lab_text: str, files: Sequence[Path]) -> None:
    plan = _plan(runs)
    points = max([run.last - run.first for run in runs] + [zero.recording.points for zero in zeros])
    texts = {"lab_yaml": lab_text, **_provenance(runs, zeros, files)}
    with TraceWriter.create(out, plan, source="imported", texts=texts, points=min(points, 100_000)) as writer:
        at_s = 0.0
        for zero in zeros:
            n = zero.recording.points
            capture = _capture(zero, (0, n), 0, np.zeros(n, np.uint8), analogue=False)
            writer.settle(writer.add(CaptureRow("zero", host_s=at_s), capture, SOURCES))
            at_s += capture.duration_s
        for cell, run in zip(plan.cells, runs, strict=True):
            picked, start = run.picked, run.span[0] if run.span is not None else 0
            analogue = picked.analogue is not None and not run.flag
            capture = _capture(picked, (run.first, run.last), start, run.lines, analogue=analogue)
            row = CaptureRow(
                "cell",
                cell.position,
                cell.network,
                cell.batch,
                cell.repeat,
                picked.recording.path.name,
                batches=run.logged,
                images=run.counts.images or -1,
                host_s=at_s,
                utc_s=picked.recording.path.stat().st_mtime,
                window_asked_s=capture.duration_s,
                start_frame=run.frame[0],
                start_frame_edges=run.frame[1],
                flags=run.flag,
                edge_limit_s=run.edge_s,
            )
            index = writer.add(row, capture, SOURCES)
            writer.settle(index)
            writer.cell(cell.position, "committed", capture=index)
            at_s += capture.duration_s
        writer.complete()


def _plan(runs: Sequence[Run]) -> Plan:
    """A plan of what ran already: every further run of one network and batch is a repeat."""
    cells: list[Cell] = []
    seen: dict[tuple[str, int], int] = {}
    for run in runs:
        key = (run.counts.network, run.counts.batch or 0)
        cells.append(Cell(len(cells), *key, seen.get(key, 0)))
        seen[key] = seen.get(key, 0) + 1
    longest_s = max(((run.last - run.first) * run.picked.recording.dt_s for run in runs), default=0.0)
    networks = tuple(dict.fromkeys(network for network, _ in seen))
    batches = tuple(sorted({batch for _, batch in seen}))
    return Plan(networks, batches, max(seen.values(), default=0), longest_s, 0, tuple(cells))


def _capture(
    picked: Picked, around: tuple[int, int], start: int, lines: NDArray[np.uint8], *, analogue: bool
) -> Capture:
    """The samples of one run; time 0 is half a sample before `start`, where the gate's edge is placed."""
    here, n = slice(*around), around[1] - around[0]
    time = (n, picked.recording.dt_s, -(start - around[0] - 0.5) * picked.recording.dt_s)
    grid = picked.marker_grid if analogue else None
    codes = picked.markers if analogue and picked.markers is not None else lines
    return Capture(
        {
            "current": Record("current", preamble(picked.grids["current"], *time), picked.current[here], "A"),
            "voltage": Record("voltage", preamble(picked.grids["voltage"], *time), picked.voltage[here], "V"),
            "markers": Record("markers", marker_preamble(grid, *time), codes[here], "bits"),
        }
    )


def _provenance(runs: Sequence[Run], zeros: Sequence[Picked], files: Sequence[Path]) -> Mapping[str, str]:
    first = runs[0].picked if runs else zeros[0]
    recording = first.recording
    settings: dict[str, Any] = {
        "import": {
            "format": recording.format,
            "files": [_file(path) for path in files],
            "grids": {role: "exact" if grid.exact else "16 bits over the range" for role, grid in first.grids.items()},
        }
    }
    analogue = next((run.picked.analogue for run in runs if not run.flag), None)
    if analogue is not None:
        settings["analogue_markers"] = {
            "thresholds": list(analogue.thresholds),
            "hysteresis": analogue.hysteresis,
            "named": analogue.named,
        }
    environment = {"python": platform.python_version()}
    for name in ("joulebench", "numpy", "h5py", "pyjls"):
        try:
            environment[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return {
        "instruments": json.dumps({"recorded by": {"format": recording.format, **recording.facts}}),
        "environment": json.dumps(environment),
        "settings": json.dumps(settings),
        "summary": json.dumps(
            {
                "started_utc": _stamp(recording.path.stat().st_mtime),
                "imported_utc": _stamp(datetime.now(UTC).timestamp()),
            }
        ),
    }


def _stamp(utc_s: float) -> str:
    return datetime.fromtimestamp(utc_s, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def _file(path: Path) -> dict[str, str]:
    with path.open("rb") as file:
        return {"name": path.name, "sha256": hashlib.file_digest(file, "sha256").hexdigest()}
