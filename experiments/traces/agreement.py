"""Whether the tables of a trace file agree with each other: captures with journal and plan, counts with the log. Pure.

Checksums tell that a table is as it was written; these tell that what was written belongs together. A file that was
edited, or put together of two, has good checksums and fails here.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from experiments.journal import ENDED
from experiments.plan import Plan
from experiments.traces.schema import CAPTURE, PREAMBLE, ROW_COPY, characters, from_copy, text_of
from instruments.errors import TraceError
from instruments.wording import counted

if TYPE_CHECKING:
    from experiments.traces.reader import TraceReader

KINDS = ("zero", "idle", "gain", "cell", "load", "marker")
"""Kinds of capture, those of calibrations among them."""

STATES = ("", "committed", "rejected")
UNDER_WAY = ("planned", "prepared", "armed", "running", "fetched")

Row = Mapping[str, Any]

_COPIED = {**CAPTURE, **PREAMBLE}


@dataclass(frozen=True)
class Disagreement:
    """A row that contradicts another table; a `decisive` one would change, or give, a wrong result."""

    place: str
    what: str
    decisive: bool = True

    def __str__(self) -> str:
        return f"{self.place}: {self.what}"


@dataclass(frozen=True)
class Tables:
    """The tables of a file, rows in their order; a row may lack columns that are damaged, which then are not judged.

    `log` has the rows' `capture` of /host_log with how many there are, `readings` those of /readings.
    """

    captures: Sequence[Row]
    cells: Sequence[Row]
    plan: Plan | None
    log: Mapping[int, int]
    readings: Collection[int]
    sessions: int

    def disagreements(self) -> Iterator[Disagreement]:
        """Everything that does not agree, by table and row."""
        yield from self._of_captures()
        yield from self._of_cells()
        for name, rows in (("host_log", self.log), ("readings", self.readings)):
            # A program that died while it added a capture may have written the log of a row that was not.
            if strangers := sorted(row for row in rows if not 0 <= row <= len(self.captures)):
                yield Disagreement(f"/{name}", f"has rows of capture {strangers[0]}, which is not there", False)

    def _of_captures(self) -> Iterator[Disagreement]:
        for index, row in enumerate(self.captures):
            state = row.get("state", "")
            place = f"/captures row {index}"
            if state not in STATES:
                yield Disagreement(place, f"its state is {_short(state)}: committed, rejected or none was expected")
            if state != "committed":
                continue
            found = [self._kind(row), self._cell(row), self._counts(index, row)]
            if self.sessions and not 0 <= row.get("session", 0) < self.sessions:
                found.append(f"its session {row['session']} is none of the {self.sessions} of the file")
            found = [what for what in found if what] or [what for what in [_unlike_copy(row)] if what]
            yield from (Disagreement(place, what) for what in found)

    @staticmethod
    def _kind(row: Row) -> str:
        kind = row.get("kind", "cell")
        return "" if kind in KINDS else f"its kind is {_short(kind)}: one of {', '.join(KINDS)} was expected"

    def _cell(self, row: Row) -> str:
        """What is wrong with the cell that a committed capture names; empty where it is right."""
        kind, cell = row.get("kind"), row.get("cell")
        if kind is None or cell is None:
            return ""
        if kind != "cell" and not (kind == "idle" and row.get("method")):
            return f"a {kind} capture belongs to no cell, and this names cell {cell}" if cell != -1 else ""
        if not 0 <= cell < len(self.cells):
            return f"its cell {cell} lies outside the journal, which has {len(self.cells)}"
        for name in ("network", "batch", "repeat"):
            planned = self._planned(cell, name)
            if name in row and planned is not None and row[name] != planned:
                return f"its {name} is {_short(row[name])}, that of its cell {cell} {_short(planned)}"
        return ""

    def _planned(self, cell: int, name: str) -> Any:
        """What a cell was to be, by the plan, or by the journal where there is none."""
        if self.plan is not None and cell < len(self.plan.cells):
            return getattr(self.plan.cells[cell], name)
        return self.cells[cell].get(name)

    def _counts(self, index: int, row: Row) -> str:
        """What is wrong with how much a committed capture says that ran; empty where it is right."""
        batches, images, batch = (row.get(name) for name in ("batches", "images", "batch"))
        if batches is None:
            return ""
        if images is not None and batch is not None and min(batches, images) >= 0 and images != batches * batch:
            return f"{images} images are not {batches} batches of {batch}"
        logged = self.log.get(index, 0) if may_have_log(row) else 0
        return f"{batches} batches are not the {logged} of its log" if logged and logged != batches else ""

    def _of_cells(self) -> Iterator[Disagreement]:
        planned = self.plan.cells if self.plan is not None else None
        if planned is not None and len(planned) != len(self.cells):
            yield Disagreement(
                "/cells", f"has {counted(len(self.cells), 'row')}, the plan {counted(len(planned), 'cell')}"
            )
        for position, row in enumerate(self.cells):
            place = f"/cells row {position}"
            if planned is not None and position < len(planned):
                for name in ("network", "batch", "repeat"):
                    asked = getattr(planned[position], name)
                    if name in row and row[name] != asked:
                        yield Disagreement(
                            place, f"its {name} is {_short(row[name])}, that of the plan {_short(asked)}"
                        )
            if "state" not in row:
                continue
            if row["state"] not in (*ENDED, *UNDER_WAY):
                yield Disagreement(place, f"its state is {_short(row['state'])}, which is none")
            elif row["state"] == "committed" and (what := self._capture_of(position, row)):
                yield Disagreement(place, what, decisive=False)
        yield from self._twice()

    def _capture_of(self, position: int, row: Row) -> str:
        """What is wrong with the capture that a committed cell names; empty where it is right."""
        index = row.get("capture", -1)
        if not 0 <= index < len(self.captures):
            return f"is committed, its capture {index} is not"
        capture = self.captures[index]
        if "state" in capture and capture["state"] != "committed":
            return f"is committed, its capture {index} is not"
        if capture.get("cell", position) != position:
            return f"is committed by capture {index}, which is of cell {capture['cell']}"
        return ""

    def _twice(self) -> Iterator[Disagreement]:
        """Cells that two records claim; runs of several captures are not meant."""
        committed = [row for row in self.captures if row.get("state") == "committed" and row.get("kind") == "cell"]
        counts = Counter(row["cell"] for row in committed if "cell" in row and row.get("method") == "")
        for cell, count in counts.items():
            if count > 1 and 0 <= cell < len(self.cells):
                yield Disagreement(f"/cells row {cell}", f"{count} captures are committed for it, one was expected")


def _unlike_copy(row: Row) -> str:
    """Where a row of /captures and its own copy differ; empty where they do not, or there is none.

    Check sums tell of a changed bit within a column, and nothing of one in what HDF5 knows of it.
    """
    try:
        copied = from_copy(row.get(ROW_COPY, ""))
    except ValueError:
        return "its copy cannot be read"
    for name, value in copied.items():
        if name not in row or name not in _COPIED:
            continue
        if isinstance(value, str):
            value = text_of(characters(value, _COPIED[name].width))
        found = row[name]
        if found != value and (found == found or value == value):
            return f"its {name} is {_short(found)}, and {_short(value)} in its copy"
    return ""


def may_have_log(row: Row) -> bool:
    """Whether a device can have logged batches for a capture.

    What a program that died had not yet written of a log reads as zeros, and so as a log of the first capture: a zero.
    """
    return row.get("kind") not in ("zero", "idle")


class _WithCopies(Sequence[Row]):
    """The rows of /captures with their preambles and copies, each made when it is asked for."""

    def __init__(self, reader: TraceReader) -> None:
        self._rows, self._preambles, self._reader = reader.captures(), reader.preambles(), reader

    def __len__(self) -> int:
        return len(self._rows)

    def __getitem__(self, index: Any) -> Any:
        preambles = {name: column[index].tolist() for name, column in self._preambles.items()}
        return {**self._rows[index], **preambles, ROW_COPY: self._reader.long_text(ROW_COPY, index)}


def require_agreement(reader: TraceReader) -> None:
    """Raise TraceError where the tables of an open file contradict each other so that its results would be wrong."""
    log = reader.host_log().lengths()
    captures: Sequence[Row] = reader.captures()
    if not reader.sealed:
        captures = _WithCopies(reader)
        reader.readings(0)  # which looks whether all of them are there
    tables = Tables(captures, reader.cells(), reader.plan, log, (), len(reader.sessions()))
    for found in tables.disagreements():
        if found.decisive:
            raise TraceError(
                f"{reader.path}: {found}: its tables contradict each other, as in a file that was edited; "
                f"python -m experiments.traces check {reader.path} tells all, and recover saves what agrees"
            )


def _short(value: object) -> str:
    """A value as it is told: what a damaged file holds may be long, and no text for a terminal."""
    return f"{str(value)[:40]!r}" if isinstance(value, str) else str(value)
