"""What other programs and instruments recorded, before it is a trace: numbers on one uniform time base."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from instruments.errors import TraceError

Floats = NDArray[np.floating]

UNITS: Mapping[str, tuple[str, float]] = {
    unit: (base, factor)
    for base, factor, units in (
        ("s", 1.0, ("s", "sec", "second", "seconds")),
        ("s", 1e-3, ("ms",)),
        ("s", 1e-6, ("us", "µs", "μs")),
        ("s", 1e-9, ("ns",)),
        ("A", 1.0, ("a", "amp", "amps", "ampere", "amperes")),
        ("A", 1e-3, ("ma",)),
        ("A", 1e-6, ("ua", "µa", "μa")),
        ("V", 1.0, ("v", "volt", "volts")),
        ("V", 1e-3, ("mv",)),
    )
    for unit in units
}
"""Names of units, in lower case -> the unit that is stored, and how many of it they are."""


@dataclass(frozen=True)
class Series:
    """One channel: `values` (n,) in `unit` (empty: not told), each known to `resolution` by how it was written."""

    values: Floats
    unit: str
    resolution: float


@dataclass(frozen=True)
class Recording:
    """All channels of one recording: sample k is at `start_s` + k `dt_s`.

    `lines` are levels 0 and 1 of digital inputs; `marks` are letters that a program put beside samples; `facts` go
    into the trace as they are. `left_out` says why a channel that is in the file is not here, `where` names the place
    of a sample in the file. A `kind` of "zero" has neither current nor voltage; `ran` is what the file itself says of
    network and batch.
    """

    path: Path
    format: str
    start_s: float
    dt_s: float
    series: Mapping[str, Series]
    where: Callable[[int], str]
    lines: Mapping[str, NDArray[np.uint8]] = field(default_factory=dict)
    marks: Sequence[tuple[int, str]] = ()
    facts: Mapping[str, str] = field(default_factory=dict)
    left_out: Mapping[str, str] = field(default_factory=dict)
    kind: str = "cell"
    ran: Mapping[str, Any] = field(default_factory=dict)

    @property
    def points(self) -> int:
        """Samples of each channel."""
        return len(next(iter(self.series.values())).values)

    @property
    def names(self) -> list[str]:
        """What can be named as a column."""
        return [*self.series, *self.lines]

    def checked(self) -> Recording:
        """Itself, once every value is a number and every channel of one length. Raises TraceError with the place."""
        if not LEAST_DT_S <= self.dt_s <= LARGEST_DT_S:
            raise TraceError(
                f"{self.path}: a sampling period of {self.dt_s:g} s: between {LEAST_DT_S:g} and {LARGEST_DT_S:g} s is "
                "expected; is the time in seconds?"
            )
        for name, series in self.series.items():
            if len(series.values) != self.points:
                raise TraceError(
                    f"{self.path}: {name} has {len(series.values)} samples, {next(iter(self.series))} has "
                    f"{self.points}: they are not of one time base"
                )
            bad = np.flatnonzero(~(np.abs(series.values) < NO_VALUE))
            if len(bad):
                raise TraceError(
                    f"{self.where(int(bad[0]))}: {name} has no value there ({series.values[bad[0]]}; {len(bad)} such "
                    "samples in all; not-a-number): a recording with holes is not imported; cut it to a whole stretch"
                )
        for name, line in self.lines.items():
            if len(line) != self.points:
                raise TraceError(f"{self.path}: {name} has {len(line)} samples, the channels have {self.points}")
        return self


LEAST_DT_S, LARGEST_DT_S = 1e-12, 1e4
"""Sampling periods of instruments that show a waveform, with room."""

NO_VALUE = 9e36
"""From here on a number stands for none (IEEE 488.2 has 9.9E+37); NaN is none either."""


def unit_of(text: str) -> tuple[str, float] | None:
    """What a unit's name stands for; None where it is not known."""
    return UNITS.get(text.strip().lower())


def uniform(time_s: NDArray[np.float64], resolution_s: float, where: Callable[[int], str]) -> tuple[float, float]:
    """Give start and period of a time axis, (n,), each known to `resolution_s` by how it was written.

    Raises TraceError with the first place at which it is not uniform: a gap, a repeated or a lost sample.
    """
    if len(time_s) < 2:
        raise TraceError(f"{where(0)}: there are fewer than two samples")
    bad = np.flatnonzero(~np.isfinite(time_s))
    if len(bad):
        raise TraceError(f"{where(int(bad[0]))}: there is no time")
    dt_s = _period(time_s)
    if not dt_s > 0:
        raise TraceError(f"{where(1)}: time does not go forward")
    off = np.abs(time_s - (time_s[0] + dt_s * np.arange(len(time_s))))
    if off.max() > 0.25 * dt_s + 1.5 * resolution_s:
        steps = np.diff(time_s)
        k = int(np.argmax(np.abs(steps - dt_s)))
        raise TraceError(
            f"{where(k + 1)}: the time steps by {steps[k]:.6g} s where {dt_s:.6g} s is usual: a gap, or a clock that "
            "is not uniform; only recordings of one sampling period are imported"
        )
    return float(time_s[0]), dt_s


def _period(time_s: NDArray[np.float64]) -> float:
    """Sampling period of times that are rounded to some digits and may have gaps, which are counted as samples."""
    period = float(np.median(np.diff(time_s[:200])))
    last = 1
    while period > 0 and last < len(time_s) - 1:
        last = min(2 * last, len(time_s) - 1)
        span = float(time_s[last] - time_s[0])
        period = span / max(1, round(span / period))
    return period
