"""CSV as `python -m experiments.traces export` writes it: one capture under another, and what ran beside each sample.

    capture,kind,network,batch,repeat,time [s],current [A],voltage [V],power [W],gate,batch line

Behind the units of the readings stands, in brackets, whether they are corrected; earlier releases did not say it.

Zeros and cells are taken. Idle records and comparisons with the supply are not: the supply's readings do not stand in
the table.
"""

from __future__ import annotations

import csv
import re
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from experiments.traces.imports.recording import Recording, Series, uniform
from experiments.traces.imports.text import Table, head, read_table
from instruments.errors import TraceError
from instruments.plain_text import of_table_cell

FORMAT = "joulebench-csv"
HEADER = "capture,kind,network,batch,repeat,time [s],current [A],voltage [V],power [W],gate,batch line"
TAKEN = ("zero", "cell")

_SCALED = re.compile(r"(?<=\[[AVW]\]) \(([^,()]*)\)")

_CAPTURE, _BATCH, _TIME, _CURRENT, _VOLTAGE, _GATE, _BATCH_LINE = 0, 3, 5, 6, 7, 9, 10


def looks_like(first: bytes) -> bool:
    """Whether a file's first bytes are those of this format."""
    return first.startswith(HEADER[: len("capture,kind,network,batch,repeat,")].encode())


def read(path: Path) -> Iterator[Recording]:
    """Give a recording for each zero and each cell. Raises TraceError with file and line."""
    first = (head(path, 1) or [""])[0]
    if _SCALED.sub("", first) != HEADER:
        raise TraceError(f"{path}:1: is not the header of an export: {HEADER}")
    wanted = [_CAPTURE, _BATCH, _TIME, _CURRENT, _VOLTAGE, _GATE, _BATCH_LINE]
    table = read_table(path, 2, HEADER.count(",") + 1, ",", wanted)
    columns = dict(zip(wanted, table.columns, strict=True))
    resolutions = dict(zip(wanted, table.resolutions, strict=True))
    if bad := np.flatnonzero(~np.isfinite(columns[_CAPTURE])).tolist():
        raise TraceError(f"{table.where(bad[0])}: has no number of a capture")
    starts = np.flatnonzero(np.diff(columns[_CAPTURE], prepend=np.nan) != 0).tolist()
    texts = _texts(path, [table.first + start for start in starts])
    for start, stop, (kind, network) in zip(starts, [*starts[1:], len(columns[_CAPTURE])], texts, strict=True):
        if kind in TAKEN:
            recording = _recording(table, resolutions, columns, start, stop, kind, network)
            yield replace(recording, facts={"readings": scaled[1]}) if (scaled := _SCALED.search(first)) else recording


def _recording(
    table: Table,
    resolutions: dict[int, float],
    columns: dict[int, NDArray[np.float64]],
    start: int,
    stop: int,
    kind: str,
    network: str,
) -> Recording:
    here = slice(start, stop)

    def where(k: int) -> str:
        return table.where(start + k)

    start_s, dt_s = uniform(columns[_TIME][here], resolutions[_TIME], where)
    batch = columns[_BATCH][start]
    series = {
        name: Series(columns[number][here], unit, resolutions[number])
        for name, number, unit in (("current", _CURRENT, "A"), ("voltage", _VOLTAGE, "V"))
    }
    lines = {}
    for name, number in (("gate", _GATE), ("batch line", _BATCH_LINE)):
        levels = columns[number][here]
        if (bad := np.flatnonzero((levels != 0) & (levels != 1))).size:
            raise TraceError(f"{where(int(bad[0]))}: the {name} is {levels[bad[0]]:g}, 0 or 1 was expected")
        lines[name] = levels.astype(np.uint8)
    ran = {"network": network, "batch": int(batch)} if kind == "cell" and batch >= 1 else {}
    return Recording(table.path, FORMAT, start_s, dt_s, series, where, lines, kind=kind, ran=ran).checked()


def _texts(path: Path, numbers: list[int]) -> list[tuple[str, str]]:
    """Kind and network in some lines of the file, counted from 1, in rising order."""
    found = []
    asked = set(numbers)
    with path.open(encoding="utf-8-sig", newline="") as file:
        for number, line in enumerate(file, 1):
            if number in asked:
                cells = next(csv.reader([line]))
                found.append((cells[1], of_table_cell(cells[2])))
    return found
