"""What usual ways to poll power would have made of a record of ours: energy of a window, by phase. Pure.

Each poller runs freely: where its instants lie with respect to the window is chance, so that each is asked for many
phases of its own period. How they work is told by the field's tools: see docs/meter-check.md.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

PHASES = 40
"""Phases of its own period at which each poller is asked."""


class Power:
    """A record of power: `watts` (n,) from `start_s` on, each the mean over `dt_s`; constant beyond its ends."""

    def __init__(self, watts: Floats, dt_s: float, start_s: float) -> None:
        self.watts, self.dt_s, self.start_s = watts, dt_s, start_s
        self._sums = np.concatenate(([0.0], np.cumsum(watts) * dt_s))
        self._edges = start_s + dt_s * np.arange(len(watts) + 1)

    @property
    def end_s(self) -> float:
        """Where the record ends."""
        return float(self._edges[-1])

    def energy_to(self, t_s: Floats | float) -> Floats:
        """Energy since the record's start, J."""
        t = np.asarray(t_s, dtype=np.float64)
        inside = np.interp(t, self._edges, self._sums)
        before, after = np.minimum(t - self.start_s, 0.0), np.maximum(t - self.end_s, 0.0)
        return np.asarray(inside + before * self.watts[0] + after * self.watts[-1])

    def mean(self, from_s: Floats | float, to_s: Floats | float) -> Floats:
        """Mean power from one time to another, W; the second must be later."""
        spans_s = np.asarray(to_s, np.float64) - np.asarray(from_s, np.float64)
        return np.asarray((self.energy_to(to_s) - self.energy_to(from_s)) / spans_s)

    def at(self, t_s: Floats) -> Floats:
        """Power at instants, W: that of the sample in which they lie."""
        index = np.floor((t_s - self.start_s) / self.dt_s).astype(np.int64)
        return np.asarray(self.watts[np.clip(index, 0, len(self.watts) - 1)])


Poller = Callable[[Power, float, float, float], float]
"""Energy (J) that it tells of a window from one time to another; the last argument is its phase, 0 to 1."""


def read_now(power: Power, from_s: float, to_s: float, phase: float, every_s: float = 0.1) -> float:
    """Poll at 10 Hz; the newest reading counts for the whole interval that has passed."""
    t = _ticks(from_s, to_s, every_s, phase)
    return float(power.at(t).sum() * every_s)


def counter(power: Power, from_s: float, to_s: float, phase: float, every_s: float = 0.1) -> float:
    """Read an energy counter at both ends that is renewed every 100 ms: each reading is as old as its renewal."""
    ends = np.array([from_s, to_s])
    offset = phase * every_s
    return float(np.diff(power.energy_to(np.floor((ends - offset) / every_s) * every_s + offset))[0])


def log(power: Power, from_s: float, to_s: float, phase: float, every_s: float = 1.0) -> float:
    """Log the power once a second and multiply the mean of the lines in the window by its length.

    Where no line falls into the window, the last before it stands for it.
    """
    t = _ticks(from_s, to_s, every_s, phase)
    if not t.size:
        t = np.array([math.floor((from_s - phase * every_s) / every_s) * every_s + phase * every_s])
    return float(power.at(t).mean() * (to_s - from_s))


def part_time(
    power: Power, from_s: float, to_s: float, phase: float, every_s: float = 0.1, share: float = 0.25
) -> float:
    """Poll a sensor that looks at a quarter of the time: each 100 ms it tells the mean of the last 25 ms."""
    first = from_s - every_s
    t = _ticks(first, to_s, every_s, phase)
    told = power.mean(t - share * every_s, t)
    holds = np.clip(np.append(t[1:], to_s), from_s, to_s) - np.clip(t, from_s, to_s)
    return float((told * holds).sum())


def _ticks(from_s: float, to_s: float, every_s: float, phase: float) -> Floats:
    """Its instants in (from_s, to_s]."""
    offset = phase * every_s
    first = math.floor((from_s - offset) / every_s) + 1
    last = math.floor((to_s - offset) / every_s)
    return np.asarray(np.arange(first, last + 1, dtype=np.float64) * every_s + offset)


POLLERS: Mapping[str, Poller] = {
    "10 Hz read-now": read_now,
    "100 ms counter": counter,
    "1 Hz log": log,
    "25 % sampling": part_time,
}


@dataclass(frozen=True)
class Errors:
    """Relative errors of one way to measure over all phases: mean, root mean square and the largest, with its sign."""

    mean: float
    rms: float
    worst: float


def errors(poller: Poller, power: Power, from_s: float, to_s: float, energy_j: float) -> Errors:
    """Ask a poller for a window whose energy is known, at every phase."""
    found = np.array([poller(power, from_s, to_s, (k + 0.5) / PHASES) for k in range(PHASES)]) / energy_j - 1.0
    return Errors(float(found.mean()), float(np.sqrt(np.mean(found**2))), float(found[np.argmax(np.abs(found))]))
