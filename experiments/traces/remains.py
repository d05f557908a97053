"""What is left of a trace file that may be damaged: its tables piece by piece, and the codes of each capture.

Nothing here is taken for good that a checksum denies. What a damaged row lacks is filled up where the file tells it
elsewhere, and left out where it does not.
"""

from __future__ import annotations

import contextlib
import math
import os
import shutil
import tempfile
import zlib
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray

from experiments.plan import Method, Plan
from experiments.traces import schema
from experiments.traces.agreement import may_have_log
from experiments.traces.damage import DAMAGE, DamageError
from experiments.traces.reader import TraceReader
from experiments.traces.schema import CHECKSUM, PREAMBLE, ROLES
from experiments.traces.seal import HEAD, Seal, set_length, stated_length, tells_no_length
from experiments.traces.unsealed import strangers
from instruments.errors import TraceError
from instruments.waveform import Capture, Preamble, Record

GIVEN_UP = "they cannot be followed further; what h5dump can read is still good"

SOURCES = ("simulated", "measured", "imported")

ESSENTIAL = (
    "kind", "state", "cell", "network", "batch", "repeat", "method", "part", "batches", "images", "session", "host_s",
    "edge_limit_s",
)  # fmt: skip
"""Columns of /captures without which a capture means nothing, or something else."""

_OF_THE_FIRST = {"kind", "state", "cell", "network", "batch", "repeat", "batches", "images", "session", "host_s"}
"""Columns that every file had from the first release on."""

_NOT_NEEDED = {"format": 1, "type": 0, "count": 1}
"""What stands for the columns of a preamble that no result needs, where they are lost."""


@dataclass(frozen=True)
class Problem:
    """One thing that is wrong: where (group, dataset, row) and what."""

    place: str
    what: str

    def __str__(self) -> str:
        return f"{self.place}: {self.what}"


@dataclass
class Found:
    """The file that is looked at: how many bytes of it are there (None: all), and what was wrong so far."""

    path: Path
    there_bytes: int | None = None
    problems: list[Problem] = field(default_factory=list)

    def tell(self, place: str, what: str) -> None:
        """Note a problem."""
        self.problems.append(Problem(place, what))


def missing_bytes(path: Path) -> int:
    """How many bytes a file lacks of the length that its own superblock states; 0 where it is not known.

    None where a seal stands at its end: that is cut off first.
    """
    try:
        size = path.stat().st_size
        if not path.is_file():  # a pipe would be waited for
            return 0
        with path.open("rb") as file:
            lacking = stated_length(file.read(HEAD)) - size
    except OSError as error:
        raise TraceError(f"{path}: cannot be read ({error.strerror})") from error
    return lacking if lacking > 0 and Seal.of(path) is None else 0


@contextlib.contextmanager
def opened(path: Path) -> Iterator[TraceReader]:
    """Open a trace file, a damaged one as a copy in which what can be is set right.

    A file that was cut off is filled up with zeros, which the checksums then tell. Structure of HDF5 that is not what
    was written is taken from the seal; without one, a length that is none is that of the file. Raises TraceError as
    TraceReader does.
    """
    lacking, seal = missing_bytes(path), Seal.of(path) if path.is_file() else None
    endless = path.is_file() and seal is None and tells_no_length(path)
    with contextlib.ExitStack() as stack:
        copy = path
        if lacking or endless or (seal and seal.altered):
            folder = stack.enter_context(tempfile.TemporaryDirectory(prefix="joulebench-", dir=_roomy(path)))
            copy = Path(folder) / path.name
            try:
                shutil.copyfile(path, copy)
                if lacking:
                    os.truncate(copy, path.stat().st_size + lacking)
                elif seal:
                    seal.mend(copy)
                else:
                    set_length(copy)
            except OSError as error:
                done = "is cut off" if lacking else "is damaged"
                raise TraceError(
                    f"{path}: {done}, and {folder} has no room for the copy in which that is set right "
                    f"({error.strerror}); TMPDIR names another folder"
                ) from error
        try:
            reader = stack.enter_context(TraceReader(copy))
        except DamageError as error:
            raise TraceError(f"{path}: its tables are damaged ({str(error.__cause__)[:160]}): {GIVEN_UP}") from error
        reader.path = path
        yield reader


def _roomy(path: Path) -> str | None:
    """The file's own folder where it can be written and has room, else the system's for temporary files."""
    room = shutil.disk_usage(path.parent).free > 2 * path.stat().st_size
    return str(path.parent) if room and os.access(path.parent, os.W_OK) else None


class Table:
    """The columns of a group, read piece by piece so that a damaged chunk costs its own rows alone."""

    def __init__(self, file: h5py.File, name: str, found: Found) -> None:
        self.name, self.columns = name, {}
        self.lost: dict[str, NDArray[np.bool_]] = {}
        _, variables = schema.GROUPS[name]
        self.specs = {**variables, **({**PREAMBLE, **CHECKSUM} if name == "captures" else {})}
        lengths = []
        group = _group(file, name, found)
        unwritten = _unwritten(group, set(variables)) if group is not None else set()
        for column in self.specs:
            if column in unwritten or group is None:
                continue
            try:
                values, lost = read_pieces(group[column], found.there_bytes)
            except DAMAGE as error:
                found.tell(f"/{name}/{column}", f"is lost ({str(error)[:120]})")
                continue
            if lost.any():
                rows = np.flatnonzero(lost)
                found.tell(f"/{name}/{column}", f"rows {rows[0]} to {rows[-1]} are damaged")
            self.columns[column], self.lost[column] = values, lost
            lengths.append(len(values))
        self.length = min(lengths, default=0)
        self.plan: Plan | None = None
        self.cell_of: dict[int, int] = {}
        self.logged: Mapping[int, int] | None = None
        self.filled: dict[str, set[str]] = {}
        self.usual: dict[str, Any] = {name: schema.unwritten(name, self.specs[name]) for name in sorted(unwritten)}

    def row(self, index: int) -> dict[str, Any]:
        """What is left of one row; of a capture filled up with what the file tells elsewhere.

        `filled` notes which columns were, and from what.
        """
        out: dict[str, Any] = {}
        for name, values in self.columns.items():
            if not self.lost[name][index]:
                cell = values[index]
                out[name] = schema.text_of(cell) if self.specs[name].width else cell.tolist()
        lacking = self.specs.keys() - out.keys() - self.usual.keys()
        if self.name == "captures" and lacking:
            copy = self._copy(out, lacking)
            out = {**copy, **out}
            known = _planned(out, self.plan, self.cell_of.get(index)) if self.plan is not None else {}
            told = {**known, **_implied({**self.usual, **known, **out}, index, self.logged)}
            self._note("the second copy of each row", copy)
            self._note("the file's other tables", (told.keys() & lacking) - copy.keys())
            return {**self.usual, **told, **out}
        known = _planned(out, self.plan, self.cell_of.get(index)) if self.plan is not None else {}
        return {**self.usual, **known, **out}

    def _copy(self, row: dict[str, Any], lacking: set[str]) -> dict[str, Any]:
        """What the row's second copy has of the columns that are lacking."""
        try:
            copied = schema.from_copy(row.get(schema.ROW_COPY, ""))
        except ValueError:
            return {}
        return {name: copied[name] for name in lacking & copied.keys()}

    def _note(self, source: str, names: Iterable[str]) -> None:
        for name in names:
            self.filled.setdefault(source, set()).add(name)


def _group(file: h5py.File, name: str, found: Found) -> h5py.Group | None:
    try:
        return file[name]
    except DAMAGE as error:
        found.tell(f"/{name}", f"is lost ({str(error)[:120]})")
        return None


def _unwritten(group: h5py.Group, variables: set[str]) -> set[str]:
    """Variables that the program of an earlier release did not write; one that has another name now was damaged."""
    return set() if strangers(group) else variables - set(group) - _OF_THE_FIRST


def tables_of(file: h5py.File, found: Found, plan: Plan | None, source: str) -> dict[str, Table]:
    """Every table of a file; rows of captures are filled up by what journal, plan and source of the data tell."""
    tables = {group: Table(file, group, found) for group in schema.GROUPS}
    captures, cells = tables["captures"], tables["cells"]
    if plan is not None:
        captures.plan = plan
    for position in range(cells.length):
        row = cells.row(position)
        if row.get("state") == "committed" and row.get("capture", -1) >= 0:
            captures.cell_of[row["capture"]] = position
    captures.logged = log_lengths(tables["host_log"])
    if tables["sessions"].length <= 1:
        captures.usual["session"] = 0
    if plan is not None and plan.method == Method(target_u=plan.method.target_u, gain_check=plan.method.gain_check):
        captures.usual |= {"method": "", "part": 0}
    if source in ("simulated", "measured"):
        captures.usual["edge_limit_s"] = math.nan
    return tables


def log_lengths(log: Table) -> Mapping[int, int] | None:
    """How many batches the log has of each capture; None where some of it is damaged: the rest tells too little."""
    values, lost = log.columns.get("capture"), log.lost.get("capture")
    if values is None or lost is None or lost.any():
        return None
    return Counter(values[: log.length].tolist())


def _implied(row: Mapping[str, Any], index: int, logged: Mapping[int, int] | None) -> dict[str, Any]:
    """What a capture's row lacks and no result needs, or its other facts and the log tell."""
    out: dict[str, Any] = {name: [value] * len(ROLES) for name, value in _NOT_NEEDED.items() if name not in row}
    if "host_s" not in row and math.isfinite(row.get("settled_s", math.nan)):
        out["host_s"] = row["settled_s"]  # the same clock, a record and its transfer later
    batches = row.get("batches")
    if batches is None and "kind" in row and logged is not None:
        batches = out["batches"] = (may_have_log(row) and logged.get(index)) or -1
    if "images" not in row and batches is not None and (batches < 0 or "batch" in row):
        out["images"] = batches * row["batch"] if batches >= 0 else -1
    return out


def _planned(row: Mapping[str, Any], plan: Plan, journalled: int | None) -> dict[str, Any]:
    """What ran during a capture and what became of it, as its other facts and the journal tell; `row` goes first."""
    out: dict[str, Any] = {}
    if journalled is not None:
        out |= {"kind": "cell", "state": "committed", "cell": journalled}
    elif row.get("reason"):
        out["state"] = "rejected"
    elif "reason" in row and math.isfinite(row.get("settled_s", math.nan)):
        out["state"] = "committed"
    kind, cell = ({**out, **row}.get(name) for name in ("kind", "cell"))
    if kind == "cell" and cell is None:
        ran = tuple(row.get(name) for name in ("network", "batch", "repeat"))
        cell = next((c.position for c in plan.cells if (c.network, c.batch, c.repeat) == ran), None)
        if cell is not None:
            out["cell"] = cell
    if kind in ("zero", "gain"):
        out["cell"] = cell = -1
    if kind == "gain":  # its name is for people alone, its batch is that of its images
        out |= {"network": "", "repeat": 0}
        if row.get("batches", 0) > 0 and row.get("images", 0) > 0:
            out["batch"] = row["images"] // row["batches"]
    if kind == "idle" and cell is None and row.get("method") == "":
        out["cell"] = cell = -1
    if kind in ("zero", "idle") and cell == -1:
        out |= {"network": "", "batch": 0, "repeat": 0}
    if kind in ("cell", "idle") and cell is not None and 0 <= cell < len(plan.cells):
        asked = plan.cells[cell]
        out |= {"network": asked.network, "batch": asked.batch, "repeat": asked.repeat}
    return out


def read_pieces(dataset: h5py.Dataset, there_bytes: int | None = None) -> tuple[NDArray[Any], NDArray[np.bool_]]:
    """Values of a column and which rows are lost: chunks that fail their checksum, or lie beyond the bytes there are.

    What a file that was cut off lacks reads as zeros, and HDF5's checksum of zeros is right.
    """
    n = dataset.shape[0]
    there = there_bytes if there_bytes is not None else Path(dataset.file.filename).stat().st_size
    if dataset.size * dataset.dtype.itemsize > (1 << 24) + 2000 * there:
        raise ValueError(f"a size of {dataset.shape} is more than the file can hold")
    lost = np.zeros(n, dtype=bool)
    step = dataset.chunks[0] if dataset.chunks else max(n, 1)
    if there_bytes is not None:
        for at in _beyond(dataset, there_bytes):
            lost[at : at + step] = True
    with contextlib.suppress(OSError):
        return dataset[:], lost
    values = np.zeros(dataset.shape, dataset.dtype)
    for at in range(0, n, step):
        piece = slice(at, min(at + step, n))
        try:
            values[piece] = dataset[piece]
        except OSError:
            lost[piece] = True
    return values, lost


def _beyond(dataset: h5py.Dataset, there_bytes: int) -> list[int]:
    """First rows of the chunks that do not lie within the first so many bytes of the file."""
    found: list[int] = []

    def look(chunk: Any) -> None:
        if chunk.byte_offset + chunk.size > there_bytes:
            found.append(int(chunk.chunk_offset[0]))

    if dataset.chunks:
        dataset.id.chunk_iter(look)
    return found


def _preamble(left: Mapping[str, Any], role: str) -> Preamble:
    column = ROLES.index(role)
    return Preamble(**{name: left[name][column] for name in PREAMBLE})


def read_capture(group: h5py.Group, table: Table, row: int) -> Capture:
    """Read a capture's codes against their checksum. Raises TraceError naming the record.

    Where the CRC-32 of the codes is lost, the checksum of their compression vouches for them.
    """
    left = table.row(row)
    gone = [name for name in (*PREAMBLE, *ESSENTIAL) if name not in left]
    if gone:
        raise TraceError(f"its row is lost ({', '.join(gone)})")
    records = {}
    for role in ROLES:
        try:
            preamble = _preamble(left, role)
            dataset = group[f"{role}_codes"]
            if preamble.points > dataset.shape[1] or row >= dataset.shape[0]:
                raise TraceError(f"the {role} has {preamble.points} points, fewer are there")
            codes = dataset[row, : preamble.points]
            if "crc32" in left and zlib.crc32(schema.stored(role, codes).data) != left["crc32"][ROLES.index(role)]:
                raise TraceError(f"the codes of the {role} are not those that were written (CRC-32)")
            records[role] = Record(role, preamble, codes, schema.RECORD_UNITS[role])
        except DAMAGE as error:
            raise TraceError(f"the codes of the {role} cannot be read ({str(error)[:160]})") from error
    try:
        return Capture(records)
    except ValueError as error:
        raise TraceError(f"its records do not fit together ({error})") from error
