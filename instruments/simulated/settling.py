"""Levels that change in steps at known times and follow them through a first-order lag. Pure."""

from __future__ import annotations

import bisect
import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

_GONE = 700.0
"""Time constants after which nothing is left of where a level came from."""


class Settling:
    """A level that follows its target through a first-order lag; piecewise exponential, so exact."""

    def __init__(self, level: float, tau_s: float) -> None:
        self._tau_s = tau_s
        self._t = [-math.inf]
        self._target = [level]
        self._start = [level]

    def to(self, t_s: float, target: float) -> None:
        """Set a new target from t_s on; targets planned for later than that are overtaken."""
        while self._t[-1] >= t_s:
            del self._t[-1], self._target[-1], self._start[-1]
        self._start.append(self.level(t_s))
        self._t.append(t_s)
        self._target.append(target)

    def level(self, t_s: float) -> float:
        """Level at one time."""
        k = max(bisect.bisect_right(self._t, t_s) - 1, 0)
        target, start = self._target[k], self._start[k]
        if math.isinf(self._t[k]):
            return start
        return target + (start - target) * math.exp(-min((t_s - self._t[k]) / self._tau_s, _GONE))

    def at(self, t_s: Floats) -> Floats:
        """Level at each of rising times; (n,) in, (n,) out."""
        if t_s.size == 0:
            return np.zeros(0)
        first = max(bisect.bisect_right(self._t, float(t_s[0])) - 1, 0)
        last = max(bisect.bisect_right(self._t, float(t_s[-1])), first + 1)
        if last - first == 1 and float(t_s[0]) - self._t[first] > _GONE * self._tau_s:
            return np.full(t_s.size, (self._start if math.isinf(self._t[first]) else self._target)[first])
        times = np.array(self._t[first:last])
        target, start = np.array(self._target[first:last]), np.array(self._start[first:last])
        begin = np.searchsorted(t_s, times[1:], side="left")
        lengths = np.diff(np.concatenate(([0], begin, [t_s.size])))
        if math.isinf(times[0]):
            times[0], target[0] = float(t_s[0]), start[0]
        decay = t_s - np.repeat(times, lengths)
        decay /= -self._tau_s
        np.maximum(decay, -_GONE, out=decay)
        np.exp(decay, out=decay)
        decay *= np.repeat(start - target, lengths)
        decay += np.repeat(target, lengths)
        return np.asarray(decay)

    def kinks(self, from_s: float, to_s: float) -> list[float]:
        """Times inside (from_s, to_s) at which the target changes."""
        return [
            t for t in self._t[bisect.bisect_right(self._t, from_s) : bisect.bisect_left(self._t, to_s)] if t > from_s
        ]


def stretch(times: Sequence[float], t_s: Floats) -> tuple[int, Floats]:
    """Those of rising times that matter from t_s[0] to t_s[-1]: index of the first, and the times."""
    if t_s.size == 0:
        return 0, np.array(times[:1])
    first = max(bisect.bisect_right(times, float(t_s[0])) - 1, 0)
    last = max(bisect.bisect_right(times, float(t_s[-1])), first + 1)
    return first, np.array(times[first:last])
