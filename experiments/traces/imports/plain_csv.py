"""Plain tables of numbers: a header with names, then one line for each sample.

Units stand in the header, in brackets: `current [mA]`. Without any, seconds, amperes and volts are taken. The
delimiter is a comma, semicolon, tab or blank, whichever the header has.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np

from experiments.traces.imports.recording import Recording, Series, uniform, unit_of
from experiments.traces.imports.text import head, read_table
from instruments.errors import ConfigError, TraceError

FORMAT = "csv"
_TITLE = re.compile(r"\s*\"?(?P<name>[^\[\]()\"]*?)\s*(?:[\[(]\s*(?P<unit>[^\[\]()]*?)\s*[\])])?\"?\s*$")
DEFAULT_UNITS = {"time": "s", "current": "A", "voltage": "V"}


def read(path: Path, columns: Mapping[str, str], dt_s: float | None) -> Iterator[Recording]:
    """Give the one recording with the columns that are named, role -> name in the header.

    Without a column for the time `dt_s` is the sampling period. Raises ConfigError for a column that is not there,
    TraceError with file and line for what is no table of numbers.
    """
    lines = head(path, 1)
    delimiter = next((d for d in (",", ";", "\t", " ") if lines and d in lines[0]), None)
    if delimiter is None:
        raise TraceError(f"{path}:1: a header with the names of at least two columns was expected")
    titles = [_TITLE.match(cell) for cell in lines[0].split(delimiter)]
    while titles and (titles[-1] is None or not titles[-1]["name"]):
        titles.pop()
    names = [title["name"] if title else "" for title in titles]
    place: dict[str, int] = {}
    for role, name in columns.items():
        if role == "time" and dt_s is not None and name not in names:
            continue
        if names.count(name) != 1:
            what = "is not" if name not in names else "is more than once"
            raise ConfigError(
                f"{path}:1: column {name!r} ({role}) {what} in the header ({_short(names)}); "
                f"name it with --columns {role}=NAME"
            )
        place[role] = names.index(name)
    wanted = sorted(set(place.values()))
    table = read_table(path, 2, len(names), delimiter, wanted)
    series: dict[str, Series] = {}
    start_s = 0.0
    for role, number in place.items():
        title, column = titles[number], wanted.index(number)
        told = title["unit"] if title else None
        unit, factor = (unit_of(told) or (told, 1.0)) if told else (DEFAULT_UNITS.get(role, ""), 1.0)
        values, digits = table.columns[column] * factor, table.resolutions[column] * factor
        if role != "time":
            series[columns[role]] = Series(values, unit, digits)
            continue
        if unit != "s":
            raise TraceError(f"{path}:1: the time's unit is {told!r}; s, ms, us or ns were expected")
        start_s, dt_s = uniform(np.asarray(values, dtype=np.float64), digits, table.where)
    if dt_s is None:
        raise ConfigError(f"{path}: no column holds the time: give the sampling period with --dt SECONDS")
    return iter([Recording(path, FORMAT, start_s, dt_s, series, table.where).checked()])


def _short(names: Sequence[str]) -> str:
    """The names of a header, no longer than a line can hold."""
    text = ", ".join(names)
    return text if len(text) <= 200 else f"{text[:200]}..."
