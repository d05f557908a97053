"""CSV files that the oscilloscope saved: InfiniiVision 2000 X to 3000T X.

The guides (2000 X, 3000 X User's Guide, "CSV and ASCII XY file structure") describe the segments; the two header rows
were taken from files that others published, and no file of a 2000 X A of our own was at hand:

    x-axis,1,2                  a column for each channel, D0-D7 for a pod as one number, decimal or 0x..
    second,Volt,Ampere          units as words
    -1.00000E-03,+2.0E-03,...   time since the trigger, for segments since the first one's

With several segments a line `points/segment = N` stands above. Rows at the start and the end may lack values.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from experiments.traces.imports.recording import Recording, Series, uniform, unit_of
from experiments.traces.imports.text import Table, head, read_table
from instruments.errors import TraceError

FORMAT = "scope-csv"
_SEGMENTS = re.compile(r"points/segment\s*=\s*(\d+)\s*$", re.IGNORECASE)
_PACKED = re.compile(r"D(\d+)-D(\d+)$", re.IGNORECASE)
_LINE = re.compile(r"D(\d+)$", re.IGNORECASE)


def looks_like(first: bytes) -> bool:
    """Whether a file's first bytes are those of this format."""
    text = first.decode("utf-8", "replace").lstrip("\ufeff").lower()
    return text.startswith(("x-axis,", "points/segment"))


def read(path: Path) -> Iterator[Recording]:
    """Give the recording, or that of each segment. Raises TraceError with file and line."""
    lines = head(path, 3)
    segment = _SEGMENTS.match(lines[0].strip(", ")) if lines else None
    above = 1 if segment else 0
    if len(lines) < above + 2 or not lines[above].lower().startswith("x-axis"):
        raise TraceError(f"{path}:{above + 1}: 'x-axis,1,2...' was expected, as the oscilloscope writes it")
    names = [name.strip() for name in lines[above].split(",")]
    units = [unit.strip() for unit in lines[above + 1].split(",")]
    while names and not names[-1]:
        names.pop()
    time = unit_of(units[0]) if units else None
    if time is None or time[0] != "s":
        raise TraceError(f"{path}:{above + 2}: the time's unit is {units[0]!r}, seconds were expected")
    _refuse_hexadecimal(path, names, above + 3)
    table = read_table(path, above + 3, len(names), ",", range(len(names)))
    rows = len(table.columns[0])
    size = int(segment.group(1)) if segment else rows
    if size < 2 or rows % size:
        raise TraceError(f"{table.where(rows - 1)}: {rows} rows are no whole number of segments of {size} points")
    for at in range(0, rows, size):
        yield _recording(path, names, units, table, at, at + size, time[1])


def _recording(
    path: Path, names: list[str], units: list[str], table: Table, start: int, stop: int, seconds: float
) -> Recording:
    columns = [column[start:stop] for column in table.columns]
    complete = np.flatnonzero(np.all([~np.isnan(c) for c in columns[1:]], axis=0))
    if not len(complete):
        raise TraceError(f"{table.where(start)}: no row has values of all channels")
    first, last = int(complete[0]), int(complete[-1]) + 1

    def where(k: int) -> str:
        return table.where(start + first + k)

    start_s, dt_s = uniform(columns[0][first:last] * seconds, table.resolutions[0] * seconds, where)
    series: dict[str, Series] = {}
    lines: dict[str, NDArray[np.uint8]] = {}
    for k, name in itertools.islice(enumerate(names), 1, None):
        values = columns[k][first:last]
        packed, single = _PACKED.match(name), _LINE.match(name)
        if packed or single:
            low = int((packed or single).group(1))  # type: ignore[union-attr]
            high = int(packed.group(2)) if packed else low
            bits = np.where(np.isnan(values), 0, values).astype(np.int64)
            lines |= {f"D{low + j}": ((bits >> j) & 1).astype(np.uint8) for j in range(high - low + 1)}
            continue
        unit = unit_of(units[k]) if k < len(units) else None
        told, factor = unit or (units[k] if k < len(units) else "", 1.0)
        series[name] = Series(values * factor, told, table.resolutions[k] * factor)
    if not series:
        raise TraceError(f"{path}: holds digital lines alone, no channel")
    return Recording(path, FORMAT, start_s, dt_s, series, where, lines).checked()


def _refuse_hexadecimal(path: Path, names: list[str], first: int) -> None:
    packed = [k for k, name in enumerate(names) if _PACKED.match(name)]
    for line in head(path, first)[first - 1 :]:
        cells = line.split(",")
        if any(k < len(cells) and cells[k].strip().lower().startswith("0x") for k in packed):
            raise TraceError(
                f"{path}:{first}: the digital lines are hexadecimal; set the oscilloscope's save format to decimal, "
                "or save as binary (.bin)"
            )
