"""Floating-point readings as integer codes: on the grid on which they lie, else on one of 16 bits. Pure.

What a converter gave lies on a grid, and was only written as floats. Found again, that grid makes the codes exact and
the budget's quantisation that of the converter. Where none is found the readings were filtered, averaged or scaled, and
a grid over their range loses at most half of one 65 000th of it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from experiments.traces.imports.recording import Floats

LOWEST, HIGHEST, MIDDLE = 0x0101, 0xFEFF, 0x8000
"""Codes that are neither holes nor clipped, and the one at `Grid.origin`."""

STEPS = HIGHEST - LOWEST

_SURE = 50
"""Steps over which a line through the values knows the step better than the mean of its closest neighbours."""


@dataclass(frozen=True)
class Grid:
    """reading = (code - MIDDLE) x increment + origin; `exact` where every reading lies on it as far as it is known."""

    increment: float
    origin: float
    exact: bool

    def codes(self, values: Floats) -> NDArray[np.uint16]:
        """The nearest codes, (n,)."""
        return np.asarray(np.rint((values - self.origin) / self.increment) + MIDDLE).astype(np.uint16)


def grid_of(values: Floats, resolution: float) -> Grid:
    """Choose the grid of a channel whose readings, (n,), are each known to `resolution`."""
    few = _few(values)
    if few is not None and len(few) == 1:
        value = float(few[0])
        return Grid(max(2 * resolution, 1e-9 * abs(value), 1e-12), value, True)
    if few is not None:
        for step in _steps(few, resolution):
            if found := _fits(few, step, resolution):
                return found
    low, high = float(values.min()), float(values.max())
    increment = (high - low) / STEPS
    return Grid(increment, low + (MIDDLE - LOWEST) * increment, False)


def _few(values: Floats) -> NDArray[np.float64] | None:
    """The different values in order; None where they are more than there are codes."""
    found: NDArray[Any] = np.empty(0)
    for at in range(0, len(values), 1 << 20):
        found = np.union1d(found, values[at : at + (1 << 20)])
        if len(found) > STEPS:
            return None
    return found.astype(np.float64)


def _steps(few: NDArray[np.float64], resolution: float) -> list[float]:
    """What the step may be: that of the closest neighbours, parts of it, and that of the last written digit."""
    apart = np.diff(few)
    least = float(apart.min())
    closest = float(apart[apart <= 1.5 * least].mean())
    parts = [closest / k for k in (1, 2, 3, 5) if closest / k > 4 * resolution]
    return [*parts, 2 * resolution] if resolution > 0 else parts


def _fits(few: NDArray[np.float64], step: float, resolution: float) -> Grid | None:
    """The grid of nearly that step on which all values lie; its step is refined from the closest values outwards."""
    from_first = few - few[0]
    if step <= 0 or from_first[-1] / step > 1.01 * STEPS:
        return None
    slack = 1.5 * resolution + 1e-12 * float(np.abs(few[[0, -1]]).max())
    count, offset = 2, 0.0
    while True:
        count = min(count, len(few))
        part = from_first[:count]
        k = np.rint((part - offset) / step)
        if np.abs(part - offset - k * step).max() > slack + 0.25 * step:
            return None
        if k[-1] >= _SURE or count == len(few):
            around = k - k.mean()
            step = float(np.dot(around, part) / np.dot(around, around))
            offset = float(part.mean() - step * k.mean())
        if count == len(few):
            break
        count = int(1.5 * count) + 1
    k = np.rint((from_first - offset) / step)
    if np.abs(from_first - offset - k * step).max() > slack or k[-1] - k[0] > STEPS:
        return None
    middle = int(k[0] + k[-1]) // 2
    return Grid(step, float(few[0]) + offset + middle * step, True)
