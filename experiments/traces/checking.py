"""Is a trace file whole? And where it is not: what of it is still good, saved into a new file.

Every byte that counts is read against its checksums. Nothing here changes the file it looks at.
"""

from __future__ import annotations

import contextlib
import math
import os
import shutil
import struct
import tempfile
import zlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray

from experiments.journal import NOT_NEEDED, UNMEASURED, CaptureRow, Reading
from experiments.traces import schema
from experiments.traces.damage import DAMAGE, DamageError, damage_told
from experiments.traces.overview import BLOCKS, name_of
from experiments.traces.reader import TraceReader
from experiments.traces.schema import CAPTURE, CHECKSUM, PREAMBLE, ROLES
from experiments.traces.writer import TraceWriter
from instruments.errors import TraceError
from instruments.waveform import Capture, Preamble, Record

HDF5_SIGNATURE = b"\x89HDF\r\n\x1a\n"
_END_OF_FILE = 40
"""Where a superblock of version 0 (HDF5 file format specification, II.A) keeps the length of the file."""


_GIVEN_UP = "they cannot be followed further; what h5dump can read is still good"

ESSENTIAL = ("kind", "state", "network", "batch", "repeat", "batches", "images", "host_s")
"""Columns of /captures without which a capture means nothing."""


@dataclass(frozen=True)
class Problem:
    """One thing that is wrong: where (group, dataset, row) and what."""

    place: str
    what: str

    def __str__(self) -> str:
        return f"{self.place}: {self.what}"


@dataclass
class Check:
    """What a check found. `good` are the committed captures whose codes are as they were written."""

    path: Path
    problems: list[Problem] = field(default_factory=list)
    good: list[int] = field(default_factory=list)
    damaged: list[int] = field(default_factory=list)
    in_flight: list[int] = field(default_factory=list)
    rejected: int = 0
    missing_bytes: int = 0
    complete: bool = False

    @property
    def sound(self) -> bool:
        """Whether nothing is damaged. A sweep that ended early is sound."""
        return not self.problems


def check(path: Path) -> Check:
    """Read the whole file against its checksums.

    Raises TraceError when it cannot be opened at all: no HDF5, no trace, or of a newer schema.
    """
    found = Check(path, missing_bytes=missing_bytes(path))
    if found.missing_bytes:
        found.problems.append(Problem("file", f"is cut off: its last {found.missing_bytes} bytes are missing"))
    with opened(path) as reader, damage_told(path, _GIVEN_UP):
        found.complete = reader.complete
        _check_provenance(reader, found)
        tables = {group: Table(reader.file[group], group, found) for group in schema.GROUPS}
        captures = tables["captures"]
        states = captures.texts("state")
        for row, state in enumerate(states):
            if state == "":
                found.in_flight.append(row)
            elif state == "rejected":
                found.rejected += 1
            try:
                _check_codes(reader.file["captures"], captures, row)
            except TraceError as error:
                if state != "":
                    found.problems.append(Problem(f"/captures row {row}", str(error)))
                    found.damaged.append(row)
                continue
            if state == "committed":
                found.good.append(row)
        _check_journal(tables["cells"], states, found)
        _check_overview(reader.file, len(states), found)
    return found


def missing_bytes(path: Path) -> int:
    """How many bytes a file lacks of the length that its own superblock states; 0 where it is not known."""
    try:
        size = path.stat().st_size
        if not path.is_file():  # a pipe would be waited for
            return 0
        with path.open("rb") as file:
            head = file.read(_END_OF_FILE + 8)
    except OSError as error:
        raise TraceError(f"{path}: cannot be read ({error.strerror})") from error
    if not head.startswith(HDF5_SIGNATURE) or len(head) < _END_OF_FILE + 8 or head[8] != 0:
        return 0
    (stated,) = struct.unpack_from("<Q", head, _END_OF_FILE)
    return max(0, int(stated) - size) if stated < 1 << 50 else 0


@contextlib.contextmanager
def opened(path: Path) -> Iterator[TraceReader]:
    """Open a trace file; one that was cut off is filled up with zeros in a copy, which the checksums then tell.

    Raises TraceError as TraceReader does.
    """
    lacking = missing_bytes(path)
    with contextlib.ExitStack() as stack:
        copy = path
        if lacking:
            folder = stack.enter_context(tempfile.TemporaryDirectory(prefix="joulebench-", dir=_roomy(path)))
            copy = Path(folder) / path.name
            shutil.copyfile(path, copy)
            os.truncate(copy, path.stat().st_size + lacking)
        try:
            reader = stack.enter_context(TraceReader(copy))
        except DamageError as error:
            raise TraceError(f"{path}: its tables are damaged ({str(error.__cause__)[:160]}): {_GIVEN_UP}") from error
        reader.path = path
        yield reader


def _roomy(path: Path) -> str | None:
    """The file's own folder where it can be written, else the system's for temporary files."""
    return str(path.parent) if os.access(path.parent, os.W_OK) else None


class Table:
    """The columns of a group, read piece by piece so that a damaged chunk costs its own rows alone."""

    def __init__(self, group: h5py.Group, name: str, found: Check) -> None:
        self.name, self.columns = name, {}
        self.lost: dict[str, NDArray[np.bool_]] = {}
        _, variables = schema.GROUPS[name]
        self.specs = {**variables, **({**PREAMBLE, **CHECKSUM} if name == "captures" else {})}
        lengths = []
        for column in self.specs:
            try:
                values, lost = _read_pieces(group[column])
            except DAMAGE as error:
                found.problems.append(Problem(f"/{name}/{column}", f"is lost ({str(error)[:120]})"))
                continue
            if lost.any():
                rows = np.flatnonzero(lost)
                found.problems.append(Problem(f"/{name}/{column}", f"rows {rows[0]} to {rows[-1]} are damaged"))
            self.columns[column], self.lost[column] = values, lost
            lengths.append(len(values))
        self.length = min(lengths, default=0)

    def texts(self, column: str) -> list[str]:
        """A column of texts; empty where it is lost."""
        rows = self.columns.get(column)
        if rows is None:
            return [""] * self.length
        return [schema.text_of(row) for row in rows[: self.length]]

    def row(self, index: int) -> dict[str, Any]:
        """What is left of one row."""
        out: dict[str, Any] = {}
        for name, values in self.columns.items():
            if not self.lost[name][index]:
                cell = values[index]
                out[name] = schema.text_of(cell) if self.specs[name].width else cell.tolist()
        return out


def _read_pieces(dataset: h5py.Dataset) -> tuple[NDArray[Any], NDArray[np.bool_]]:
    n = dataset.shape[0]
    if dataset.size * dataset.dtype.itemsize > (1 << 24) + 2000 * Path(dataset.file.filename).stat().st_size:
        raise ValueError(f"a size of {dataset.shape} is more than the file can hold")
    lost = np.zeros(n, dtype=bool)
    try:
        return dataset[:], lost
    except OSError:
        values = np.zeros(dataset.shape, dataset.dtype)
        step = dataset.chunks[0] if dataset.chunks else max(n, 1)
        for at in range(0, n, step):
            piece = slice(at, min(at + step, n))
            try:
                values[piece] = dataset[piece]
            except OSError:
                lost[piece] = True
        return values, lost


def _preamble(table: Table, row: int, role: str) -> Preamble:
    column = ROLES.index(role)
    return Preamble(**{name: table.columns[name][row, column].item() for name in PREAMBLE})


def _check_codes(group: h5py.Group, table: Table, row: int) -> Capture:
    """Read a capture's codes against their checksum. Raises TraceError naming the record."""
    left = table.row(row)
    gone = [name for name in (*PREAMBLE, *CHECKSUM, *ESSENTIAL) if name not in left]
    if gone:
        raise TraceError(f"its row is lost ({', '.join(gone)})")
    records = {}
    for role in ROLES:
        try:
            preamble = _preamble(table, row, role)
            dataset = group[f"{role}_codes"]
            if preamble.points > dataset.shape[1] or row >= dataset.shape[0]:
                raise TraceError(f"the {role} has {preamble.points} points, fewer are there")
            codes = dataset[row, : preamble.points]
            if zlib.crc32(schema.stored(role, codes).data) != table.columns["crc32"][row, ROLES.index(role)]:
                raise TraceError(f"the codes of the {role} are not those that were written (CRC-32)")
            records[role] = Record(role, preamble, codes, schema.RECORD_UNITS[role])
        except DAMAGE as error:
            raise TraceError(f"the codes of the {role} cannot be read ({str(error)[:160]})") from error
    try:
        return Capture(records)
    except ValueError as error:
        raise TraceError(f"its records do not fit together ({error})") from error


def _check_provenance(reader: TraceReader, found: Check) -> None:
    for name in (*schema.TEXTS, schema.TRANSCRIPT):
        try:
            text = reader.text(name)
            if "\x00" in text:
                found.problems.append(Problem(f"/provenance/{name}", "holds zero bytes where text belongs"))
        except DamageError as error:
            found.problems.append(Problem(f"/provenance/{name}", f"cannot be read ({str(error.__cause__)[:120]})"))
        except TraceError as error:
            if name in ("plan", "lab_yaml"):
                found.problems.append(Problem(f"/provenance/{name}", str(error).rpartition(": ")[2]))
    try:
        _ = reader.plan
    except TraceError as error:
        found.problems.append(Problem("/provenance/plan", f"is no plan ({type(error.__cause__ or error).__name__})"))


def _check_journal(cells: Table, states: list[str], found: Check) -> None:
    for position, state in enumerate(cells.texts("state")):
        row = cells.row(position).get("capture", -1)
        if state != "committed":
            continue
        if not (0 <= row < len(states) and states[row] == "committed"):
            found.problems.append(Problem(f"/cells row {position}", f"is committed, its capture {row} is not"))


def _check_overview(file: h5py.File, captures: int, found: Check) -> None:
    for block in BLOCKS:
        place = f"/overview/{name_of(block)}"
        try:
            values, lost = _read_pieces(file[place])
            whole = not lost.any() and len(values) >= captures - 1
        except DAMAGE:
            whole = False
        if not whole:
            found.problems.append(Problem(place, "is damaged; recover makes it again from the codes"))


def recover(path: Path, out: Path) -> tuple[int, int]:
    """Save every sound capture of a damaged file into a new one; gives how many were saved, and lost.

    Cells whose capture was lost are planned again, so that a sweep can be resumed. Raises TraceError when the file
    cannot be opened, its plan is lost, or `out` exists.
    """
    found = Check(path)
    with opened(path) as reader, damage_told(path, _GIVEN_UP):
        try:
            plan, lab_text = reader.plan, reader.text("lab_yaml")
        except TraceError as error:
            raise TraceError(f"{path}: the plan or lab.yaml is lost, nothing can be told of its captures") from error
        texts = {name: _text(reader, name) for name in schema.TEXTS if name not in ("plan", "lab_yaml")}
        tables = {group: Table(reader.file[group], group, found) for group in schema.GROUPS}
        captures, group = tables["captures"], reader.file["captures"]
        places: dict[int, int] = {}
        lost = 0
        with TraceWriter.create(
            out, plan, source=reader.source, texts={"lab_yaml": lab_text, **texts}, points=_usual_points(group)
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
                try:
                    if row.get("state") not in ("committed", "rejected"):
                        raise TraceError("its row is lost")
                    capture = _check_codes(group, captures, index)
                except TraceError:
                    lost += 1
                    continue
                facts = {
                    name: row[name] for name in CAPTURE if name in row and name not in ("state", "reason", "settled_s")
                }
                ends = _host_log(tables["host_log"], index)
                places[index] = writer.add(CaptureRow(**facts, batch_end_ns=ends), capture, {r: r for r in ROLES})
                writer.readings(places[index], _readings(tables["readings"], index))
                reason = (row.get("reason") or "not known") if row["state"] == "rejected" else ""
                writer.settle(places[index], reason, row.get("settled_s", math.nan))
            whole = _recover_journal(writer, tables["cells"], places)
            if reader.complete and whole and not lost:
                writer.complete()
    return len(places), lost


def _text(reader: TraceReader, name: str) -> str:
    try:
        return reader.text(name)
    except (TraceError, *DAMAGE):
        return ""


def _usual_points(group: h5py.Group) -> int:
    return int(group["current_codes"].chunks[1])


def _host_log(table: Table, capture: int) -> tuple[int, ...]:
    rows = [row for row in _rows_of(table, capture) if {"batch_index", "end_ns"} <= row.keys()]
    return tuple(int(row["end_ns"]) for row in sorted(rows, key=lambda row: int(row["batch_index"])))


def _readings(table: Table, capture: int) -> list[Reading]:
    fields = ("quantity", "value", "done_after_trigger_s")
    return [Reading(*(r[f] for f in fields)) for r in _rows_of(table, capture) if set(fields) <= r.keys()]


def _rows_of(table: Table, capture: int) -> list[dict[str, Any]]:
    column = table.columns.get("capture", np.zeros(0))[: table.length]
    return [table.row(int(k)) for k in np.flatnonzero(column == capture)]


def _recover_journal(writer: TraceWriter, cells: Table, places: dict[int, int]) -> bool:
    """Carry the journal over; cells without their capture stay planned. Says whether every cell was carried."""
    whole = True
    for position in range(cells.length):
        row = cells.row(position)
        capture = places.get(row.get("capture", -1), -1)
        state = row.get("state", "")
        if state in (NOT_NEEDED, *UNMEASURED) or (state == "committed" and capture >= 0):
            writer.cell(position, state, row.get("reason", ""), capture, at_s=row.get("ended_s", math.nan))
        else:
            whole = False
    return whole
