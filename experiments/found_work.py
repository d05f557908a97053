"""Where a device worked, found in its current alone: for recordings without marker lines. Pure.

The current of short blocks falls into two levels, idle and work, which must lie well apart. A stretch of work begins
and ends where the samples pass half-way between both; how long the current takes from one to the other is the limit
of what is known of that instant.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from calibration.statistics import median
from instruments import markers
from instruments.wording import counted

Floats = NDArray[np.float64]

BLOCK_S = 1e-3
"""Length of a block where the sampling allows it: shorter than any run, longer than a switching regulator's ripple."""

LEAST_BLOCKS = 500
BRIDGE_S = 0.01
"""A dip of the current that lasts less belongs to the work: devices pause between batches."""

APART = 6.0
"""Scatters of the idle current that must lie between idle and work."""


class NoWorkError(ValueError):
    """No stretch of work can be found; the text says why."""


@dataclass(frozen=True)
class Stretch:
    """Samples [start, stop) of work; either edge may be off by `edge_s` (limit)."""

    start: int
    stop: int
    edge_s: float


def find_work(values: Floats, dt_s: float) -> list[Stretch]:
    """Find the stretches of work in a current, (n,), in order.

    Work that has begun before the first sample or goes on beyond the last is left out. Raises NoWorkError where idle
    and work cannot be told apart, or nothing else is found.
    """
    size = max(1, min(round(BLOCK_S / dt_s), len(values) // LEAST_BLOCKS))
    whole = len(values) // size
    if whole < LEAST_BLOCKS:
        raise NoWorkError(f"{counted(len(values), 'sample')}: too few to tell work from idle")
    blocks = values[: whole * size].reshape(-1, size).mean(axis=1)
    low, high, scatter = two_levels(blocks)
    if high - low <= APART * scatter:
        raise NoWorkError(
            f"idle and work cannot be told apart: two levels of the current, {low:.4g} and {high:.4g} A, "
            f"lie only {(high - low) / max(scatter, 1e-300):.1f} times the scatter apart"
        )
    middle = (low + high) / 2
    working = markers.levels(blocks, [middle], 0.4 * (high - low))
    at = np.flatnonzero(working[1:] != working[:-1]) + 1
    runs = _bridged(working, at, max(1, round(BRIDGE_S / (size * dt_s))))
    found = [
        Stretch(
            _edge(values - middle, start * size, size),
            _edge(middle - values, stop * size, size),
            max(_passage(blocks, start, low, high), _passage(blocks[::-1], whole - stop, low, high)) * size * dt_s,
        )
        for start, stop in runs
        if start > 0 and stop < whole
    ]
    if not found:
        raise NoWorkError("work has begun before the record, or goes on beyond its end")
    return found


def two_levels(blocks: Floats) -> tuple[float, float, float]:
    """Medians of both classes at the split with the most variance between them (Otsu); scatter of the lower."""
    ranked = np.sort(blocks)
    n = np.arange(1.0, len(ranked))
    rest = len(ranked) - n
    below = np.add.accumulate(ranked[:-1])
    between = (np.add.reduce(ranked) - below) / rest - below / n
    split = int((n * rest * (between * between)).argmax()) + 1
    low, high = _middle(ranked[:split]), _middle(ranked[split:])
    scatter = 1.4826 * median(np.abs(ranked[:split] - low))
    return low, high, scatter


def _middle(ranked: Floats) -> float:
    """Median of what is in order already."""
    n = len(ranked)
    return float(ranked[(n - 1) // 2] + ranked[n // 2]) / 2


def _bridged(working: NDArray[np.uint8], at: NDArray[np.intp], bridge: int) -> list[tuple[int, int]]:
    """Blocks [start, stop) of work, short dips filled."""
    cuts = [0, *at.tolist(), len(working)]
    runs = [(a, b) for a, b in itertools.pairwise(cuts) if working[a]]
    joined: list[tuple[int, int]] = []
    for start, stop in runs:
        if joined and start - joined[-1][1] < bridge:
            joined[-1] = (joined[-1][0], stop)
        else:
            joined.append((start, stop))
    return joined


def _edge(above: Floats, near: int, size: int) -> int:
    """Sample from which on the values are above 0 rather than below, within two blocks of `near`."""
    first = max(0, near - 2 * size)
    return first + int(np.argmin(np.cumsum(above[first : near + 2 * size]))) + 1


def _passage(blocks: Floats, start: int, low: float, high: float) -> int:
    """Blocks that the current takes from a tenth of the step to nine tenths, around block `start`."""
    step = high - low
    before = np.flatnonzero(blocks[:start] < low + 0.1 * step)
    after = np.flatnonzero(blocks[start:] > low + 0.9 * step)
    first = int(before[-1]) if before.size else 0
    last = start + int(after[0]) if after.size else len(blocks) - 1
    return max(1, last - first)
