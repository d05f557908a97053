"""Type A evaluation of sampled records whose noise is correlated from sample to sample. Pure."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

BLOCKS = 40
"""Blocks into which a record is cut to judge its noise: of a 2 s record, 50 ms each."""


@dataclass(frozen=True)
class MeanOfRecord:
    """Mean of a record, its standard uncertainty with autocorrelation, and the dof behind that.

    `rounding` limits what rounding to codes leaves in the mean, of which a record without noise shows nothing.
    """

    mean: float
    u: float
    dof: float
    duration_s: float
    rounding: float = 0.0

    @property
    def density(self) -> float:
        """Variance of a mean times its duration, unit^2 s: scales to a mean over another duration."""
        return self.u**2 * self.duration_s


def mean_of_record(samples: NDArray[np.float64], dt_s: float, blocks: int = BLOCKS) -> MeanOfRecord:
    """Average a stationary record; its uncertainty from the scatter of the means of `blocks` blocks.

    Blocks much longer than the noise's correlation time are independent, whatever the noise's
    colour below it (batch means).

    `samples` has shape (n,); raises ValueError when n is below two samples a block.
    """
    n = len(samples)
    if n < 2 * blocks:
        raise ValueError(f"{n} samples are too few for {blocks} blocks")
    size = n // blocks
    means = samples[: size * blocks].reshape(blocks, size).mean(axis=1)
    u = float(means.std(ddof=1)) / math.sqrt(blocks)
    return MeanOfRecord(float(samples.mean()), u, float(blocks - 1), n * dt_s)


def mean(values: NDArray[np.float64] | NDArray[np.int64]) -> float:
    """Mean of a few numbers, as `np.mean` gives it, which takes longer to prepare for it."""
    return float(np.add.reduce(values)) / len(values)


def median(values: NDArray[np.float64]) -> float:
    """Median of a few numbers, none of them NaN: `np.median` gives the same, and takes longer to prepare for it."""
    ranked = np.sort(values)
    n = len(ranked)
    return float(ranked[(n - 1) // 2] + ranked[n // 2]) / 2


def lower_quartile(values: Sequence[float]) -> float:
    """Lower quartile of a few numbers, as `np.percentile` gives it."""
    ranked = sorted(values)
    whole, part = divmod((len(ranked) - 1) * 0.25, 1)
    low, high = ranked[int(whole)], ranked[min(int(whole) + 1, len(ranked) - 1)]
    return low + (high - low) * part if part < 0.5 else high - (high - low) * (1 - part)


def deviation(values: NDArray[np.float64], ddof: int = 0) -> float:
    """Standard deviation of a few numbers, as `np.std` gives it."""
    about = values - mean(values)
    return math.sqrt(float(np.add.reduce(about * about)) / (len(values) - ddof))


def mean_of_repeats(values: NDArray[np.float64]) -> tuple[float, float, float]:
    """Mean of independent repeats, its standard uncertainty s/sqrt(n), and n - 1.

    One repeat has no scatter to judge by: uncertainty and dof are NaN then.
    """
    n = len(values)
    if n == 0:
        raise ValueError("no repeats to average")
    if n == 1:
        return float(values[0]), math.nan, math.nan
    return float(values.mean()), float(values.std(ddof=1)) / math.sqrt(n), float(n - 1)


def mean_of_stages(values: NDArray[np.float64], first: int) -> tuple[float, float, float]:
    """Mean of repeats whose number was chosen by their own scatter, its standard uncertainty and degrees of freedom.

    Stein (Ann. Math. Statist. 16, 243, 1945): with the scatter of the `first` ones alone, Student's t of `first` - 1
    holds exactly whatever rule their scatter ends by, since the mean of normal values does not depend on it. The
    scatter of all of them is too small where a rule ended them because it was small.
    """
    if len(values) <= first:
        return mean_of_repeats(values)
    _, u, dof = mean_of_repeats(values[:first])
    return float(values.mean()), u * math.sqrt(first / len(values)), dof
