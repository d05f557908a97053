"""What is good of a damaged trace file, saved into a new one that can be replayed and gone on with."""

from __future__ import annotations

import contextlib
import itertools
import math
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import h5py
import numpy as np

from experiments.journal import NOT_NEEDED, UNMEASURED, CaptureRow, Reading
from experiments.plan import Plan
from experiments.traces import schema
from experiments.traces.agreement import require_agreement
from experiments.traces.checking import agreement, source_of
from experiments.traces.damage import DAMAGE, DamageError, damage_told
from experiments.traces.reader import TraceReader
from experiments.traces.remains import GIVEN_UP, Found, Table, missing_bytes, opened, read_capture, tables_of
from experiments.traces.room import CannotWriteError
from experiments.traces.schema import CAPTURE, ROLES
from experiments.traces.writer import TraceWriter
from instruments.errors import TraceError
from instruments.wording import counted


class Recovered(NamedTuple):
    """How many captures a recovery saved, how many were lost, and how many of those saved it had to reject.

    `in_flight` were never committed, since the program ended before, and so are not lost: they count nowhere else.
    """

    saved: int
    lost: int
    rejected: int
    in_flight: int


def recover(path: Path, out: Path, say: Callable[[str], None] = lambda _: None) -> Recovered:
    """Save every sound capture of a damaged file into a new one; `say` is told what was filled up, and from what.

    Captures whose row contradicts the other tables are kept as rejected. What was in flight when the program ended is
    left out. Cells whose capture is lost, in flight or so rejected are planned again, so that a sweep can be resumed.
    Raises TraceError when the file cannot be opened, its plan is lost, `out` exists or cannot be written.
    """
    if out.exists():
        raise TraceError(f"{out} exists: name another file with --out")
    try:
        return _written(path, out, say)
    except (CannotWriteError, OSError) as error:
        raise TraceError(f"{out}: cannot be written ({_why(error)}); name another file with --out") from error


def _written(path: Path, out: Path, say: Callable[[str], None]) -> Recovered:
    """Write the new file, all of it or nothing. Raises OSError and CannotWriteError too."""
    partial = out.with_name(f"{out.stem}.recovering{out.suffix}")
    try:
        partial.unlink(missing_ok=True)
        found = _recover(path, partial, say)
        os.replace(partial, out)
    finally:
        with contextlib.suppress(OSError):
            partial.unlink(missing_ok=True)
    return found


def _why(error: CannotWriteError | OSError) -> str:
    return error.why if isinstance(error, CannotWriteError) else error.strerror or str(error)


def mend(path: Path, say: Callable[[str], None] = lambda _: None) -> bool:
    """Recover a file that is damaged in place; gives whether it was. What it was is kept under another name.

    A kill in the middle of a write can leave a chunk of a table half written. `say` is told what was done. Raises
    TraceError as `recover` and `agreement.require_agreement` do.
    """
    try:
        with TraceReader(path) as reader, damage_told(path):
            require_agreement(reader)
            _read_tables(reader.file)
            return False
    except DamageError as error:
        damage = str(error.__cause__ or error)[:160]
    new = path.with_name(f"{path.stem}.mending{path.suffix}")
    others = (path.with_name(f"{path.stem}.damaged-{number}{path.suffix}") for number in itertools.count(1))
    kept = next(other for other in others if not other.exists() or other.samefile(path))
    try:
        found = _written(path, new, say)
        _keep(path, kept)
        os.replace(new, path)
    except (CannotWriteError, OSError) as error:
        raise TraceError(
            f"{path}: is damaged ({damage}), and what is good of it cannot be written there ({_why(error)}): "
            f"python -m experiments.traces recover {path} --out FILE writes it elsewhere"
        ) from error
    finally:
        with contextlib.suppress(OSError):
            new.unlink(missing_ok=True)
    say(
        f"{path}: was damaged ({damage}): {counted(found.saved, 'capture')} saved, {found.lost} lost, "
        f"{found.rejected} rejected; what it was is in {kept}"
    )
    return True


def _read_tables(file: h5py.File) -> None:
    """Read all that has a checksum but the codes, whose chunks are written once: who goes on with a file adds to it."""

    def read(_name: str, thing: Any) -> None:
        if isinstance(thing, h5py.Dataset) and thing.fletcher32 and thing.size:
            for chunk in thing.iter_chunks():
                thing[chunk]

    file.visititems(read)


def _keep(path: Path, kept: Path) -> None:
    """Give a file a second name, or a copy where the file system has no such thing: it has its own at any moment."""
    if kept.exists():
        return
    try:
        os.link(path, kept)
    except OSError:
        partial = kept.with_name(f"{kept.name}.part")
        shutil.copyfile(path, partial)
        os.replace(partial, kept)


def _recover(path: Path, out: Path, say: Callable[[str], None]) -> Recovered:
    found = Found(path, path.stat().st_size if missing_bytes(path) else None)
    with opened(path) as reader, damage_told(path, GIVEN_UP):
        try:
            plan, lab_text = _plan(reader), _text(reader, "lab_yaml")
            if not lab_text:
                raise TraceError("empty")
        except TraceError as error:
            raise TraceError(f"{path}: the plan or lab.yaml is lost, nothing can be told of its captures") from error
        texts = {name: _text(reader, name) for name in schema.TEXTS if name not in ("plan", "lab_yaml")}
        source = _source(reader)
        tables = tables_of(reader.file, found, plan, source)
        captures, group = tables["captures"], reader.file["captures"]
        contradicted = agreement(tables, plan, found)
        places: dict[int, int] = {}
        lost = in_flight = 0
        with TraceWriter.create(
            out, plan, source=source, texts={"lab_yaml": lab_text, **texts}, points=_usual_points(group)
        ) as writer:
            if said := _text(reader, schema.TRANSCRIPT):
                pieces = iter([said])
                writer.keep_transcript(lambda: next(pieces, ""))
            for name in schema.BLOBS:
                with contextlib.suppress(DamageError):
                    writer.blob(name, reader.blob(name))
            for index in range(tables["sessions"].length):
                row = tables["sessions"].row(index)
                writer.session(row.get("began_utc_s", math.nan), row.get("instruments", ""), row.get("environment", ""))
            for index in range(captures.length):
                row = captures.row(index)
                if row.get("state") == "" and index not in captures.cell_of:  # which the journal calls committed
                    in_flight += 1
                    continue
                try:
                    if row.get("state") not in ("committed", "rejected"):
                        raise TraceError("its row is lost")
                    capture = read_capture(group, captures, index)
                except TraceError:
                    lost += 1
                    continue
                facts = {
                    name: row[name] for name in CAPTURE if name in row and name not in ("state", "reason", "settled_s")
                }
                ends = _host_log(tables["host_log"], index)
                if len(ends) != row.get("batches"):  # of a log with gaps nothing can be said
                    ends = ()
                places[index] = writer.add(CaptureRow(**facts, batch_end_ns=ends), capture, {r: r for r in ROLES})
                writer.readings(places[index], _readings(tables["readings"], index))
                reason = (row.get("reason") or "not known") if row["state"] == "rejected" else ""
                writer.settle(places[index], contradicted.get(index, reason), row.get("settled_s", math.nan))
            good = {index: place for index, place in places.items() if index not in contradicted}
            for kind, names in sorted(captures.filled.items()):
                say(f"/captures: {', '.join(sorted(names))} where damaged: from {kind}")
            whole = _recover_journal(writer, tables["cells"], good)
            with contextlib.suppress(DamageError):
                if reader.complete and whole and not lost and not contradicted:
                    writer.complete()
    return Recovered(len(places), lost, len(places) - len(good), in_flight)


def _source(reader: TraceReader) -> str:
    """Kind of the data; where that is lost, as those who write files have it from the bench."""
    if known := source_of(reader):
        return known
    if '"import"' in _text(reader, "settings"):
        return "imported"
    lab = reader.lab()
    return "simulated" if lab.simulation is not None or lab.dut.simulated is not None else "measured"


def _plan(reader: TraceReader) -> Plan:
    """The plan, from its second copy where the first is damaged. Raises TraceError where both are."""
    try:
        return reader.plan
    except TraceError:
        with damage_told(reader.path):
            return Plan.from_json(reader.text("plan_copy"))


def _text(reader: TraceReader, name: str) -> str:
    """A text of /provenance, from its second copy where the first is damaged; empty where it is lost."""
    for each in (name, f"{name}_copy"):
        with contextlib.suppress(TraceError, *DAMAGE):
            if "\0" not in (text := reader.text(each)):
                return text
    return ""


def _usual_points(group: h5py.Group) -> int:
    codes = group["current_codes"]
    return int((codes.chunks or codes.shape)[1])


def _host_log(table: Table, capture: int) -> tuple[int, ...]:
    rows = [row for row in _rows_of(table, capture) if {"batch_index", "end_ns"} <= row.keys()]
    return tuple(int(row["end_ns"]) for row in sorted(rows, key=lambda row: int(row["batch_index"])))


def _readings(table: Table, capture: int) -> list[Reading]:
    fields = ("quantity", "value", "done_after_trigger_s")
    return [Reading(*(r[f] for f in fields)) for r in _rows_of(table, capture) if set(fields) <= r.keys()]


def _rows_of(table: Table, capture: int) -> list[dict[str, Any]]:
    column, lost = table.columns.get("capture"), table.lost.get("capture")
    if column is None or lost is None:
        return []
    mine = (column == capture) & ~lost
    return [table.row(int(k)) for k in np.flatnonzero(mine[: table.length])]


def _recover_journal(writer: TraceWriter, cells: Table, places: dict[int, int]) -> bool:
    """Carry the journal over; cells without their capture stay planned. Says whether every cell was carried."""
    whole = True
    for position in range(cells.length):
        row = cells.row(position)
        capture = places.get(row.get("capture", -1), -1)
        state = row.get("state", "")
        if state in (NOT_NEEDED, *UNMEASURED) or (state == "committed" and capture >= 0):
            ended_s, flags = row.get("ended_s", math.nan), row.get("flags", "")
            writer.cell(position, state, row.get("reason", ""), capture, at_s=ended_s, flags=flags)
        else:
            whole = False
    return whole
