"""From when on power is steady. Pure.

MSER (White, Simulation 69, 1997, p.323): what to leave out of a series of block means is what makes the standard error
of the rest the least, as if these were independent; a choice in the second half means that none was found, and the
last quarter, too short to judge by, is never left alone. What is left out ends with the last block unlike the rest.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from calibration.statistics import deviation, mean

Floats = NDArray[np.float64]
Indices = NDArray[np.int64]

STEADY_BATCHES = 20
"""Batches from which the steady state is looked for in the means of whole batches, so that their own ups and downs do
not count; below, in `STEADY_BLOCKS` equal blocks."""

STEADY_BLOCKS = 200
SAME_SHARE, SAME_SCORE = 2e-3, 4.0
"""A beginning, or a block, that differs by less is steady too: share of the mean, standard uncertainties."""

LEAST_BLOCKS = 4


def blocks_of(start: int, stop: int, edges: Indices) -> Indices:
    """The samples at which blocks begin and the last ends; `edges` are those of the batches of the loop."""
    if len(edges) > STEADY_BATCHES:
        return edges
    return np.unique(np.linspace(start, stop, STEADY_BLOCKS + 1).astype(np.int64))


def steady_from(power: Floats, start: int, stop: int, edges: Indices) -> float:
    """Samples after `start` from which power, (n,), is steady until `stop`; NaN where that is not in the first half.

    `edges` are the samples at which batches begin and the last ends.
    """
    cuts = blocks_of(start, stop, edges)
    if len(cuts) <= LEAST_BLOCKS:
        return math.nan
    return steady_since(np.add.reduceat(power[: cuts[-1]], cuts[:-1]) / np.diff(cuts), cuts)


def steady_since(means: Floats, cuts: Indices) -> float:
    """The same from the means of the blocks, (k,), between `cuts`, (k + 1,)."""
    m = len(means)
    if m < LEAST_BLOCKS:
        return math.nan
    left = np.arange(m, 0, -1, dtype=np.float64)
    backwards = means[::-1] - mean(means)
    total, square = np.add.accumulate(backwards)[::-1], np.add.accumulate(backwards * backwards)[::-1]
    score = (square - total * total / left) / (left * left)
    cut = int(score[: m - m // 4].argmin())
    if cut == 0:
        return 0.0
    early, late = means[:cut], means[cut:]
    level, scatter = mean(late), deviation(late, ddof=1)
    u = scatter * math.sqrt(1 / cut + 1 / len(late))
    if abs(mean(early) - level) <= max(SAME_SHARE * abs(level), SAME_SCORE * u):
        return 0.0
    if cut > m // 2:
        return math.nan
    unlike = np.flatnonzero(np.abs(early - level) > max(SAME_SHARE * abs(level), SAME_SCORE * scatter))
    return float(cuts[int(unlike[-1]) + 1] - cuts[0]) if len(unlike) else float(cuts[cut] - cuts[0])
