"""The mean batch: batches of a run laid upon each other by phase. Pure."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from experiments.shape.pieces import Sums
from experiments.shape.settling import Settling

Floats = NDArray[np.float64]
Indices = NDArray[np.int64]

LEVELS = (128, 64, 32, 16, 8, 4)
"""Numbers of phase bins, the finest first; each bin of a coarser one is two of the finer."""

LEAST_SAMPLES = 2
"""Samples in each bin of every batch."""


@dataclass(frozen=True)
class Profile:
    """The mean batch: `mean_w` and its standard deviation from batch to batch `sd_w`, by phase; (bins,).

    The first batch of a run begins at rest and is left out.
    """

    mean_w: Floats
    sd_w: Floats
    batches: int
    batch_s: float

    @property
    def phase(self) -> Floats:
        """Middle of each bin, 0 to 1."""
        return (np.arange(self.mean_w.size) + 0.5) / self.mean_w.size


@dataclass(frozen=True)
class Fold:
    """The `n` batches of one run by phase: `mean` of power at the finest bins, and the sums of squares about it at
    these and all coarser ones, which do not follow from each other."""

    n: int
    mean: Floats
    squares: Mapping[int, Floats]

    def at(self, bins: int) -> tuple[int, Floats, Floats]:
        """Number, mean and sum of squares at coarser bins."""
        return self.n, self.mean.reshape(bins, -1).mean(axis=1), self.squares[bins]


@dataclass(frozen=True)
class Folded:
    """A fold before it is calibrated: by bin the means of i v, i and v, and of i v the sums of squares.

    In single precision, which is a thousand times finer than what is shown: there is one for every capture of a file.
    """

    n: int
    vi: NDArray[np.float32]
    i: NDArray[np.float32]
    v: NDArray[np.float32]
    squares: Mapping[int, NDArray[np.float32]]


@dataclass(frozen=True)
class Cuts:
    """Where the bins of the batches after the first begin, and their lengths by batch, (batches, bins)."""

    flat: Indices
    counts: Indices

    @property
    def bins(self) -> int:
        """Number of bins."""
        return int(self.counts.shape[1])


def fold_rows(values: Floats, edges: Indices, bins: int) -> Floats:
    """Mean of values, (n,), in equal parts of the stretch between each two edges, (k,): shape (k - 1, bins)."""
    cuts = cut(edges, bins)
    return np.asarray(np.add.reduceat(values[: edges[-1]], cuts.flat[:-1]).reshape(cuts.counts.shape) / cuts.counts)


def cut(edges: Indices, bins: int) -> Cuts:
    """Cut the stretch between each two edges, (k,), into equal parts; the last edge comes last."""
    cuts = edges[:-1, None] + np.arange(bins) * np.diff(edges)[:, None] // bins
    flat = np.append(cuts.ravel(), edges[-1])
    return Cuts(flat, np.diff(flat).reshape(cuts.shape))


def bins_of(edges: Indices, dt_s: float, settling: Settling) -> tuple[Cuts | None, str]:
    """Cut the batches after the first, as finely as samples and settling allow; or why they cannot be."""
    later = edges[1:]
    if len(later) < 3:
        return None, f"{max(len(later) - 1, 0)} batches that follow another are too few to average"
    lengths = np.diff(later)
    shortest = int(lengths.min())
    if shortest < LEAST_SAMPLES * LEVELS[-1]:
        return None, f"the shortest batch has {shortest} samples: too few to see anything in"
    batch_s = float(lengths.mean()) * dt_s
    most = shortest / LEAST_SAMPLES
    if math.isfinite(settling.tau_s):
        if batch_s < LEVELS[-1] * settling.tau_s:
            return None, (
                f"a batch lasts {batch_s * 1e3:.3g} ms and the board's current settles with "
                f"{settling.tau_s * 1e3:.3g} ms: what is within a batch is smeared over several"
            )
        most = min(most, batch_s / settling.tau_s)
    return cut(later, next(bins for bins in LEVELS if bins <= most)), ""


def fold(cuts: Cuts, sums: Sums) -> Folded:
    """Fold what was summed between the cuts."""
    shape, counts, bins = cuts.counts.shape, cuts.counts, cuts.bins
    vi, i, v = (x.reshape(shape) for x in sums.between(cuts.flat))
    mean_vi, mean_i, mean_v = ((x / counts).mean(axis=0).astype(np.float32) for x in (vi, i, v))
    squares = {}
    while bins >= LEVELS[-1]:
        rows = vi / counts
        rows -= rows.mean(axis=0)
        squares[bins] = np.einsum("ij,ij->j", rows, rows).astype(np.float32)
        vi, counts = (vi[:, ::2] + vi[:, 1::2]), (counts[:, ::2] + counts[:, 1::2])
        bins //= 2
    return Folded(shape[0], mean_vi, mean_i, mean_v, squares)
