"""Is a trace file whole? Every byte that counts is read against its checksums, and every table against the others.

Nothing here changes the file it looks at. What is good of a damaged one, `recovery` saves.
"""

from __future__ import annotations

import contextlib
from dataclasses import dataclass, field
from pathlib import Path

import h5py
import numpy as np

from experiments.calibrations import stored_records
from experiments.plan import Plan
from experiments.traces import schema
from experiments.traces.agreement import Tables
from experiments.traces.damage import DAMAGE, DamageError, damage_told
from experiments.traces.overview import BLOCKS, name_of, summarise
from experiments.traces.reader import TraceReader
from experiments.traces.remains import (
    GIVEN_UP,
    SOURCES,
    Found,
    Problem,
    Table,
    log_lengths,
    missing_bytes,
    opened,
    read_capture,
    read_pieces,
    tables_of,
)
from experiments.traces.schema import ROLES
from experiments.traces.seal import Seal, is_spoilt
from instruments.errors import ConfigError, TraceError
from instruments.waveform import Capture
from instruments.wording import counted


@dataclass
class Check:
    """What a check found.

    `good` are the committed captures whose codes are as they were written and whose row agrees with the other tables;
    `contradicted` are those whose row does not.
    """

    path: Path
    problems: list[Problem] = field(default_factory=list)
    good: list[int] = field(default_factory=list)
    damaged: list[int] = field(default_factory=list)
    contradicted: list[int] = field(default_factory=list)
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
    lacking = missing_bytes(path)
    found = Found(path, path.stat().st_size if lacking else None)
    result = Check(path, found.problems, missing_bytes=lacking)
    if lacking:
        found.tell("file", f"is cut off: {counted(lacking, 'byte')} at its end missing")
    elif path.is_file():
        _seal(path, found)
    with opened(path) as reader, damage_told(path, GIVEN_UP):
        result.complete = _attributes(reader, found)
        plan = _provenance(reader, found)
        tables = tables_of(reader.file, found, plan, source_of(reader))
        contradicted = agreement(tables, plan, found)
        _stored(reader, found)
        _captures(reader, tables["captures"], contradicted, found, result)
    return result


def _seal(path: Path, found: Found) -> None:
    """See whether HDF5's structure is what was written; what follows is checked as it would be with that put back."""
    seal = Seal.of(path)
    if seal is not None and seal.altered:
        found.tell("file", f"{seal}; recover puts back what belongs there")
    elif is_spoilt(path):
        found.tell("seal", "the copy of HDF5's structure, behind the file's end, is damaged; recover makes it anew")


def _captures(reader: TraceReader, captures: Table, contradicted: dict[int, str], found: Found, result: Check) -> None:
    """Read every capture's codes, and its row of the overview."""
    unlike: dict[int, int] = {}
    for row in range(captures.length):
        state = captures.row(row).get("state")
        if state == "":
            result.in_flight.append(row)
            continue
        result.rejected += state == "rejected"
        try:
            capture = read_capture(reader.file["captures"], captures, row)
        except TraceError as error:
            found.tell(f"/captures row {row}", str(error))
            result.damaged.append(row)
            continue
        if state == "committed":
            (result.contradicted if row in contradicted else result.good).append(row)
            for block in BLOCKS:
                if not _summarised(reader.file, block, row, capture):
                    unlike.setdefault(block, row)
    _overview(reader.file, captures.length, unlike, found)


def _stored(reader: TraceReader, found: Found) -> None:
    """Look whether the rows of every table are in the file, which HDF5 would read as zeros without a word."""
    if found.problems:
        return  # what is damaged is told already
    for table in (reader.cells, reader.captures, reader.sessions, reader.host_log, lambda: reader.readings(0)):
        try:
            table()
        except DamageError as error:
            place = next(iter(getattr(error.__cause__, "__notes__", ())), "a table")
            found.tell(place, str(error.__cause__)[:120])
            return


def source_of(reader: TraceReader) -> str:
    """Kind of the data; "" where that is lost."""
    with contextlib.suppress(DamageError):
        if reader.source in SOURCES:
            return reader.source
    return ""


def _attributes(reader: TraceReader, found: Found) -> bool:
    """Read every attribute: those of the file say what it is, those of variables what they mean to other programs.

    Says whether the file is marked as complete.
    """
    for name, known in (("source", SOURCES), ("complete", ("0", "1"))):
        try:
            if schema.attribute(reader.file, name) not in known:
                found.tell(f"attribute {name} of the file", f"is none of {', '.join(known)}")
        except DAMAGE as error:
            found.tell(f"attribute {name} of the file", f"cannot be read ({str(error)[:80]})")
    things: list[h5py.Group | h5py.Dataset] = []
    for name in reader.file:
        with contextlib.suppress(*DAMAGE):  # told where its tables are read
            things.append(reader.file[name])
            things += [reader.file[name][inside] for inside in reader.file[name]]
    for thing in things:
        try:
            for name in thing.attrs:
                thing.attrs[name]
        except DAMAGE as error:
            found.tell(thing.name, f"its attributes cannot be read ({str(error)[:80]})")
    with contextlib.suppress(DamageError):
        return reader.complete
    return False


def _provenance(reader: TraceReader, found: Found) -> Plan | None:
    """Read every text; gives the plan, None where it is lost."""
    texts: dict[str, str] = {}
    for name in (*schema.TEXTS, *(f"{name}_copy" for name in schema.COPIED), schema.TRANSCRIPT):
        try:
            text = texts[name] = reader.text(name)
            if "\x00" in text:
                found.tell(f"/provenance/{name}", "holds zero bytes where text belongs")
        except DamageError as error:
            found.tell(f"/provenance/{name}", f"cannot be read ({str(error.__cause__)[:120]})")
        except TraceError as error:
            if name in ("plan", "lab_yaml"):
                found.tell(f"/provenance/{name}", str(error).rpartition(": ")[2])
    for name in schema.COPIED:
        if texts.get(name) != texts.get(f"{name}_copy", texts.get(name)) and name in texts:
            found.tell(f"/provenance/{name}", f"is not what its second copy, {name}_copy, says")
    for name in schema.BLOBS:
        try:
            reader.blob(name)
        except DamageError as error:
            found.tell(f"/provenance/{name}", f"cannot be read ({str(error.__cause__)[:120]})")
    try:
        stored_records(reader)
    except DamageError:
        pass  # told above
    except (TraceError, ConfigError) as error:
        found.tell("/provenance/calibrations", str(error).rpartition("/provenance/calibrations/")[2][:160])
    try:
        reader.lab()
    except ConfigError as error:
        found.tell("/provenance/lab_yaml", f"cannot be used ({str(error).rpartition('lab_yaml:')[2][:160]})")
    except TraceError:
        pass  # told above
    try:
        return reader.plan
    except TraceError as error:
        found.tell("/provenance/plan", f"is no plan ({type(error.__cause__ or error).__name__})")
        return None


def agreement(tables: dict[str, Table], plan: Plan | None, found: Found) -> dict[int, str]:
    """Hold the tables against each other; gives the rows of /captures that contradict the others, and how."""
    rows: dict[int, str] = {}
    for one in _tables(tables, plan).disagreements():
        found.tell(one.place, one.what)
        table, _, number = one.place.partition(" row ")
        if table == "/captures":
            rows.setdefault(int(number), f"its row contradicts the file's other tables: {one.what}")
    return rows


def _tables(tables: dict[str, Table], plan: Plan | None) -> Tables:
    return Tables(
        [tables["captures"].row(index) for index in range(tables["captures"].length)],
        [tables["cells"].row(position) for position in range(tables["cells"].length)],
        plan,
        log_lengths(tables["host_log"]) or {},
        set(_whole(tables["readings"], "capture")),
        tables["sessions"].length,
    )


def _whole(table: Table, column: str) -> list[int]:
    """A column of numbers; nothing where some of it is damaged, since what is left of it tells less than it seems."""
    values, lost = table.columns.get(column), table.lost.get(column)
    return [] if values is None or lost is None or lost.any() else values[: table.length].tolist()


def _summarised(file: h5py.File, block: int, row: int, capture: Capture) -> bool:
    """Whether what the overview holds of a capture is that of its codes; what cannot be read is not judged here."""
    try:
        stored = file[f"/overview/{name_of(block)}"][row]
    except DAMAGE:
        return True
    for k, role in enumerate(ROLES):
        made = summarise(capture[role].codes, block, bits=role == "markers")
        there = stored[k, :, : made.shape[1]]
        if there.shape != made.shape or not np.array_equal(there, made) or stored[k, :, made.shape[1] :].any():
            return False
    return True


def _overview(file: h5py.File, captures: int, unlike: dict[int, int], found: Found) -> None:
    for block in BLOCKS:
        place = f"/overview/{name_of(block)}"
        try:
            values, lost = read_pieces(file[place], found.there_bytes)
            whole = not lost.any() and len(values) >= captures - 1
        except DAMAGE:
            whole = False
        what = "is damaged" if not whole else f"row {unlike[block]} is not that of its codes" if block in unlike else ""
        if what:
            found.tell(place, f"{what}; recover makes it again from the codes")
