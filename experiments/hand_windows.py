"""Windows that a person gives: a CSV file with one measured loop in each line.

    file,capture,start_s,stop_s,network,images,batches,batch
    run1.csv,,0.2504,1.8731,AlexNet,64,16,

`start_s` and `stop_s` are on the recording's own time axis, and known to half of their last digit. `capture` is a row
of a trace file, for replays; `file` tells several files apart; the rest is for imports, where it differs.
"""

from __future__ import annotations

import csv
from collections.abc import Mapping
from dataclasses import dataclass
from decimal import Decimal, InvalidOperation
from pathlib import Path
from typing import Any

from instruments.errors import ConfigError

COUNTS = ("network", "images", "batches", "batch")
LONGEST_S = 1e9
"""Beyond any record."""

_KNOWN = ("file", "capture", "start_s", "stop_s", *COUNTS)


@dataclass(frozen=True)
class HandWindow:
    """One measured loop; `file` is the end of a path ("": any), `capture` -1 without one, `place` file:line."""

    file: str
    capture: int
    start_s: float
    stop_s: float
    edge_s: float
    counts: Mapping[str, Any]
    place: str

    def of(self, path: Path) -> bool:
        """Whether it is of this file."""
        named = Path(self.file).parts
        return not named or path.resolve().parts[-len(named) :] == named


def read_windows(path: Path) -> list[HandWindow]:
    """Read such a file. Raises ConfigError with file and line."""
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            rows = csv.DictReader(file)
            unknown = [name for name in rows.fieldnames or () if name not in _KNOWN]
            if not {"start_s", "stop_s"} <= set(rows.fieldnames or ()) or unknown:
                said = f"{unknown[0]!r} is not known" if unknown else "start_s and stop_s are missing"
                raise ConfigError(f"{path}:1: {said}; a header with some of {','.join(_KNOWN)} was expected")
            found = [_window(row, f"{path}:{rows.line_num}") for row in rows]
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: cannot be read ({error})") from error
    if not found:
        raise ConfigError(f"{path}: holds no window")
    return found


def _window(row: Mapping[str, str | None], place: str) -> HandWindow:
    start, stop = (_seconds(row["start_s"], place), _seconds(row["stop_s"], place))
    if not start < stop:
        raise ConfigError(f"{place}: start_s {start} is not before stop_s {stop}")
    if row.get(None):  # type: ignore[call-overload]
        raise ConfigError(f"{place}: has more cells than the header has names: a decimal is written with a point")
    digits = max(int(value.as_tuple().exponent) for value in (start, stop))
    counts = {name: text if name == "network" else _whole(text, place) for name in COUNTS if (text := row.get(name))}
    capture = row.get("capture")
    return HandWindow(
        (row.get("file") or "").strip(),
        -1 if not capture else _whole(capture, place),
        float(start),
        float(stop),
        0.5 * 10.0**digits,
        counts,
        place,
    )


def _seconds(text: str | None, place: str) -> Decimal:
    try:
        value = Decimal((text or "").strip())
        if abs(value) <= LONGEST_S:
            return value
    except InvalidOperation:
        pass
    raise ConfigError(f"{place}: {text!r} is no number of seconds on the axis of a record")


def _whole(text: str, place: str) -> int:
    try:
        return int(text)
    except ValueError as error:
        raise ConfigError(f"{place}: {text!r} is no whole number") from error
