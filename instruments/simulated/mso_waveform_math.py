"""Parametric measurements of a waveform, as the oscilloscope defines them (PG2000, :MEASure). Pure.

Levels, edges and pulses of IEEE 181: top and base are the most frequent levels of the upper and the lower half, or else
the extremes; thresholds are parts of the way from base to top, or absolute. Of several cycles the one nearest to the
trigger counts. What cannot be measured is None.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from instruments.simulated.interfaces import Floats

BINS = 256
FREQUENT = 0.05
"""Part of the points that a level needs to be base or top."""


@dataclass(frozen=True)
class Thresholds:
    """Upper, middle and lower level: in per cent between base and top, or absolute."""

    upper: float = 90.0
    middle: float = 50.0
    lower: float = 10.0
    absolute: bool = False


@dataclass(frozen=True)
class Edge:
    """A transition: when it crosses the lower, middle and upper threshold."""

    rising: bool
    lower_s: float
    middle_s: float
    upper_s: float


class Waveform:
    """Times and values of one source, (n,) each."""

    def __init__(self, t: Floats, v: Floats, thresholds: Thresholds) -> None:
        self.t, self.v = t, v
        self.low, self.high = float(v.min()), float(v.max())
        self.base, self.top = self._levels()
        span = self.top - self.base
        marks = (thresholds.upper, thresholds.middle, thresholds.lower)
        self.upper, self.middle, self.lower = (
            marks if thresholds.absolute else tuple(self.base + span * m / 100 for m in marks)
        )
        self.edges = self._edges()

    def _levels(self) -> tuple[float, float]:
        if self.high <= self.low:
            return self.low, self.high
        counts, marks = np.histogram(self.v, bins=BINS, range=(self.low, self.high))
        half = BINS // 2
        below, above = int(np.argmax(counts[:half])), half + int(np.argmax(counts[half:]))
        centres, least = (marks[1:] + marks[:-1]) / 2, FREQUENT * self.v.size
        return (
            float(centres[below]) if counts[below] >= least else self.low,
            float(centres[above]) if counts[above] >= least else self.high,
        )

    def _edges(self) -> list[Edge]:
        """Transitions through all three thresholds, oldest first."""
        if not self.lower < self.middle < self.upper:
            return []
        states = np.where(self.v >= self.upper, 1, np.where(self.v <= self.lower, -1, 0))
        sure = np.flatnonzero(states)
        turns = np.flatnonzero(states[sure[1:]] != states[sure[:-1]])
        edges = []
        for turn in turns.tolist():
            first, last = int(sure[turn]), int(sure[turn + 1])
            rising = bool(states[last] > 0)
            lower_s, middle_s, upper_s = (self._crossing(first, last, m) for m in (self.lower, self.middle, self.upper))
            edges.append(Edge(rising, lower_s, middle_s, upper_s))
        return edges

    def _crossing(self, first: int, last: int, level: float) -> float:
        """When the values from `first` to `last` pass a level, interpolated."""
        part = self.v[first : last + 1]
        rising = part[-1] > part[0]
        reached = np.flatnonzero(part >= level if rising else part <= level)
        k = first + (int(reached[0]) if reached.size else last - first)
        if k == first or self.v[k] == self.v[k - 1]:
            return float(self.t[k])
        share = (level - self.v[k - 1]) / (self.v[k] - self.v[k - 1])
        return float(self.t[k - 1] + share * (self.t[k] - self.t[k - 1]))

    # --- time -----------------------------------------------------------------------------------

    def cycle(self) -> tuple[Edge, Edge] | None:
        """Two edges of the same direction in a row: those nearest to the trigger."""
        pairs = [(a, b) for a, b in zip(self.edges, self.edges[2:], strict=False)]
        return min(pairs, key=lambda pair: abs(pair[0].middle_s), default=None)

    def pulse(self, rising: bool) -> tuple[Edge, Edge] | None:
        """An edge and the next one against it, nearest to the trigger."""
        pairs = [(a, b) for a, b in zip(self.edges, self.edges[1:], strict=False) if a.rising is rising]
        return min(pairs, key=lambda pair: abs(pair[0].middle_s), default=None)

    def edge(self, rising: bool) -> Edge | None:
        """The edge nearest to the trigger."""
        return min((e for e in self.edges if e.rising is rising), key=lambda e: abs(e.middle_s), default=None)

    def period_s(self) -> float | None:
        """Of one cycle."""
        cycle = self.cycle()
        return cycle[1].middle_s - cycle[0].middle_s if cycle else None

    def frequency_hz(self) -> float | None:
        """1 over the period."""
        period_s = self.period_s()
        return 1 / period_s if period_s else None

    def counted_hz(self) -> float | None:
        """Of all cycles on the screen, as a counter sees them."""
        rises = [e.middle_s for e in self.edges if e.rising]
        return (len(rises) - 1) / (rises[-1] - rises[0]) if len(rises) > 1 else None

    def width_s(self, rising: bool) -> float | None:
        """Of a positive or negative pulse."""
        pulse = self.pulse(rising)
        return pulse[1].middle_s - pulse[0].middle_s if pulse else None

    def duty_percent(self, rising: bool) -> float | None:
        """Pulse width over period."""
        width_s, period_s = self.width_s(rising), self.period_s()
        return 100 * width_s / period_s if width_s is not None and period_s else None

    def transition_s(self, rising: bool) -> float | None:
        """Rise or fall time between lower and upper threshold."""
        edge = self.edge(rising)
        return abs(edge.upper_s - edge.lower_s) if edge else None

    def burst_s(self) -> float | None:
        """From the first edge to the last."""
        return self.edges[-1].middle_s - self.edges[0].middle_s if len(self.edges) > 1 else None

    def nth_edge_s(self, slope: int, occurrence: int) -> float | None:
        """When the nth edge comes: 1 rising, -1 falling, 0 either."""
        times = [e.middle_s for e in self.edges if slope == 0 or e.rising == (slope > 0)]
        return times[occurrence - 1] if 0 < occurrence <= len(times) else None

    def crosses_s(self, level: float, slope: int, occurrence: int) -> float | None:
        """When the values pass a level for the nth time."""
        above = self.v >= level
        turns = np.flatnonzero(above[1:] != above[:-1])
        if slope:
            turns = turns[above[turns + 1] == (slope > 0)]
        if not 0 < occurrence <= turns.size:
            return None
        k = int(turns[occurrence - 1])
        return self._crossing(k, k + 1, level)

    # --- values ---------------------------------------------------------------------------------

    def part(self, cycle: bool) -> tuple[Floats, Floats] | None:
        """(time, value) of one cycle, or of the whole screen."""
        if not cycle:
            return self.t, self.v
        edges = self.cycle()
        if edges is None:
            return None
        inside = (self.t >= edges[0].middle_s) & (self.t < edges[1].middle_s)
        return (self.t[inside], self.v[inside]) if inside.any() else None

    def mean(self, cycle: bool = False) -> float | None:
        """Average."""
        part = self.part(cycle)
        return float(part[1].mean()) if part else None

    def rms(self, cycle: bool = False, ac: bool = False) -> float | None:
        """Root of the mean square, or standard deviation."""
        part = self.part(cycle)
        if part is None:
            return None
        return float(part[1].std()) if ac else float(np.sqrt(np.mean(part[1] ** 2)))

    def area(self, cycle: bool = False) -> float | None:
        """Integral over time."""
        part = self.part(cycle)
        return float(np.trapezoid(part[1], part[0])) if part else None

    def overshoot_percent(self) -> float | None:
        """How far the extreme after an edge is beyond the level, of the amplitude."""
        edge = min(self.edges, key=lambda e: abs(e.middle_s), default=None)
        if edge is None:
            return None
        beyond = self.high - self.top if edge.rising else self.base - self.low
        return 100 * beyond / (self.top - self.base)

    def preshoot_percent(self) -> float | None:
        """How far the extreme before an edge is beyond the level, of the amplitude."""
        edge = min(self.edges, key=lambda e: abs(e.middle_s), default=None)
        if edge is None:
            return None
        beyond = self.base - self.low if edge.rising else self.high - self.top
        return 100 * beyond / (self.top - self.base)

    def value_at(self, t_s: float) -> float | None:
        """Value at a time on the screen, interpolated."""
        return float(np.interp(t_s, self.t, self.v)) if self.t[0] <= t_s <= self.t[-1] else None
