"""Columns of numbers in text files: fast where all is well, with the line where it is not."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from decimal import Decimal, InvalidOperation
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from instruments.errors import TraceError
from instruments.wording import counted

LARGEST = 50
"""Numbers of each column whose digits are looked at: the largest, which are known least."""

PATIENCE = 4000
"""Lines that end with a delimiter until it is believed that all do."""

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Table:
    """Columns of a text file, from line `first` (counted from 1) on, and by how much each is known."""

    path: Path
    first: int
    columns: Sequence[Floats]
    resolutions: Sequence[float]

    def where(self, row: int) -> str:
        """Name the line of a row."""
        return f"{self.path}:{self.first + row}"


def head(path: Path, lines: int) -> list[str]:
    """The first lines without their ends. Raises TraceError when the file cannot be read as text."""
    try:
        with path.open(encoding="utf-8-sig", newline=None) as file:
            return [line.rstrip("\n") for line in itertools.islice(file, lines)]
    except OSError as error:
        raise TraceError(f"{path}: cannot be read ({error.strerror})") from error
    except UnicodeDecodeError as error:
        raise TraceError(f"{path}: is no text file (byte {error.start})") from error


def read_table(path: Path, first: int, count: int, delimiter: str, wanted: Sequence[int]) -> Table:
    """Read columns (by number) of `count`, from line `first` on; empty cells are NaN, blank lines at the end dropped.

    Raises TraceError with the line of what is no number, or of a line with too many cells.
    """
    _refuse_long_lines(path, first, count, delimiter)
    try:
        frame = pd.read_csv(
            path,
            sep=delimiter,
            header=None,
            names=list(range(count)),
            usecols=list(wanted),
            skiprows=first - 1,
            dtype=np.float64,
            skip_blank_lines=False,
            encoding="utf-8-sig",
            index_col=False,
            na_values=[" "],
        )
    except (ValueError, OverflowError) as error:
        _complain(path, first, wanted, delimiter)
        raise TraceError(
            f"{path}: is not a table of plain numbers, such as -1.5e-3, with {counted(count, 'column')} from line "
            f"{first} on ({str(error)[:120]})"
        ) from error
    values = frame[list(wanted)].to_numpy()
    blank = np.isnan(values).all(axis=1)
    if blank.all():
        raise TraceError(f"{path}:{first}: there are no samples")
    rows = len(values) - int(np.argmin(blank[::-1]))
    columns = [np.ascontiguousarray(values[:rows, k]) for k in range(values.shape[1])]
    return Table(path, first, columns, _resolutions(path, first, delimiter, wanted, columns))


def _resolutions(
    path: Path, first: int, delimiter: str, wanted: Sequence[int], columns: Sequence[Floats]
) -> list[float]:
    """Half of the last digit with which the largest numbers of each column are written: zeros there may be missing."""
    most = min(LARGEST, len(columns[0]))
    rows = [np.argpartition(-np.nan_to_num(np.abs(column)), most - 1)[:most] for column in columns]
    asked = {first + int(row) for column in rows for row in column}
    with path.open(encoding="utf-8-sig") as file:
        lines = {number: line.rstrip("\n") for number, line in enumerate(file, 1) if number in asked}
    found = []
    for number, column in zip(wanted, rows, strict=True):
        texts = [lines[first + int(row)].split(delimiter)[number] for row in column]
        places = [place for text in texts if (place := _last_place(text)) is not None]
        found.append(0.5 * 10.0 ** min(places) if places else 0.0)
    return found


def _last_place(text: str) -> int | None:
    """Decimal place of the last digit; None for zero and what is no number."""
    try:
        number = Decimal(text.strip())
    except InvalidOperation:
        return None
    place = number.as_tuple().exponent
    return place if number and isinstance(place, int) else None


def _refuse_long_lines(path: Path, first: int, count: int, delimiter: str) -> None:
    """Find the first line with more cells than the header, which would be cut silently; an empty last one may be."""
    line_number, left = 1, b""
    with path.open("rb") as file:
        while data := file.read(1 << 24):
            data = left + data
            cut = data.rfind(b"\n") + 1
            left, data = data[cut:], data[:cut]
            values = np.frombuffer(data, np.uint8)
            ends = np.flatnonzero(values == ord("\n"))
            before = np.cumsum(values == ord(delimiter))[ends]
            cells = np.diff(before, prepend=0)
            for k in np.flatnonzero(cells >= count):
                number = line_number + int(k)
                text = data[int(ends[k - 1]) + 1 if k else 0 : int(ends[k])].decode("utf-8", "replace").rstrip("\r")
                if number >= first and text.rstrip().rstrip(delimiter).count(delimiter) >= count:
                    raise TraceError(f"{path}:{number}: has more than the {counted(count, 'cell')} of the header")
                if number >= first + PATIENCE:
                    break  # every line has an empty last cell
            line_number += len(ends)


def _complain(path: Path, first: int, wanted: Sequence[int], delimiter: str) -> None:
    """Find the first line that holds what is no number."""
    with path.open(encoding="utf-8-sig", errors="replace") as file:
        for line_number, line in enumerate(itertools.islice(file, first - 1, None), first):
            parts = line.rstrip("\n").split(delimiter)
            for part in (parts[k].strip() for k in wanted if k < len(parts)):
                try:
                    float(part or "nan")
                except ValueError:
                    raise TraceError(f"{path}:{line_number}: {part[:40]!r} is no number") from None
