"""Text dumps of PowerSensor3 (its host library's `dump`, `psrun -f`).

From the host library's source (PowerSensor.cc) and user guide:

    marker time dt_micro device_timestamp current0 voltage0 power0 ... power_total
    S 0.0123 50 512 0.51 12.02 6.13 ... 6.13

One line for each sample (20 kSa/s), cells apart by a blank. `marker` is S, or the letter of a mark. `time` and
`dt_micro` are those of the host that received the sample, in bursts, and no time base; `device_timestamp` is the
device's own clock in µs modulo 1024, which is. A gap of just 1024 µs, or a multiple, would not show in it, and is
looked for in the host's time. Dumps without it are refused.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from experiments.traces.imports.recording import Recording, Series
from experiments.traces.imports.text import Table, head, read_table
from instruments.errors import TraceError

FORMAT = "powersensor"
NO_MARK = "S"
WRAP_US = 1024
JITTER_US = 2.0
"""How far a time stamp may be off: whole microseconds, and how late an interrupt may be."""

_COLUMNS = ["marker", "time", "dt_micro", "device_timestamp"]


def looks_like(first: bytes) -> bool:
    """Whether a file's first bytes are those of this format."""
    return first.startswith(b"marker time dt_micro")


def read(path: Path) -> Iterator[Recording]:
    """Give the one recording; channels are named as in the dump. Raises TraceError with file and line."""
    lines = head(path, 1)
    names = lines[0].split() if lines else []
    if names[:3] != _COLUMNS[:3]:
        raise TraceError(f"{path}:1: '{' '.join(_COLUMNS)} ...' was expected, as PowerSensor3 writes it")
    if names[3:4] != _COLUMNS[3:]:
        raise TraceError(
            f"{path}:1: has no device_timestamp: the host's times alone are no time base; dump again with a newer "
            "version of PowerSensor3's host library"
        )
    table = read_table(path, 2, len(names), " ", range(1, len(names)))
    columns = dict(zip(names[1:], table.columns, strict=True))
    dt_s = _period_s(table, columns["device_timestamp"], columns["time"])
    series = {
        name: Series(columns[name], _unit(name), table.resolutions[k])
        for k, name in enumerate(names[1:])
        if name not in _COLUMNS
    }
    marks = _marks(path, len(table.columns[0]))
    return iter([Recording(path, FORMAT, 0.0, dt_s, series, table.where, marks=marks).checked()])


def _unit(name: str) -> str:
    return {"c": "A", "v": "V", "p": "W"}.get(name[:1], "")


def _period_s(table: Table, stamps: NDArray[np.float64], host_s: NDArray[np.float64]) -> float:
    """The device's sampling period. Raises TraceError with the line of the first gap."""
    if len(stamps) < 3:
        raise TraceError(f"{table.where(0)}: there are fewer than three samples")
    steps = np.mod(np.diff(stamps), WRAP_US)
    usual = float(np.median(steps))
    bad = np.flatnonzero(~(np.abs(steps - usual) <= JITTER_US))
    if usual <= 0 or len(bad):
        k = int(bad[0]) if len(bad) else 0
        raise TraceError(
            f"{table.where(k + 1)}: the device's time steps by {steps[k]:g} µs where {usual:g} µs is usual: samples "
            "are missing"
        )
    lasted_s = float(steps.sum()) * 1e-6
    missing_s = float(host_s[-1] - host_s[0]) - lasted_s
    # Bursts shift the host's times by some milliseconds at either end, and its clock has a rate of its own.
    if missing_s > 0.02 + 1e-3 * lasted_s:
        k = int(np.argmax(np.diff(host_s)))
        raise TraceError(
            f"{table.where(k + 1)}: the host's time grew by {missing_s:.3g} s more than the device's, most of all "
            "here: samples are missing"
        )
    return lasted_s / len(steps)


def _marks(path: Path, rows: int) -> list[tuple[int, str]]:
    with path.open(encoding="utf-8-sig") as file:
        next(file)
        return [(k, line[0]) for k, line in zip(range(rows), file, strict=False) if line[:1] != NO_MARK]
