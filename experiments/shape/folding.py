"""The mean batch: batches of a run laid upon each other by phase. Pure."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from calibration.model import Channel
from calibration.statistics import mean
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

    In single precision, which is a thousand times finer than what is shown, and in one array, since there is one for
    every capture of a file: the means, (bins,) each, then the sums of squares at these and all coarser bins.
    """

    n: int
    bins: int
    packed: NDArray[np.float32]

    @classmethod
    def of(cls, n: int, vi: Floats, i: Floats, v: Floats, squares: Mapping[int, Floats]) -> Folded:
        """Pack what is known of `n` batches."""
        parts = [vi, i, v, *(squares[bins] for bins in LEVELS if bins <= len(vi))]
        return cls(n, len(vi), np.concatenate(parts).astype(np.float32))

    @property
    def means(self) -> tuple[Floats, Floats, Floats]:
        """Means of i v, i and v by bin."""
        vi, i, v = self.packed[: 3 * self.bins].reshape(3, self.bins).astype(np.float64)
        return vi, i, v

    @property
    def squares(self) -> dict[int, Floats]:
        """Sums of squares of i v about its mean, by number of bins."""
        levels = [bins for bins in LEVELS if bins <= self.bins]
        parts = np.split(self.packed[3 * self.bins :].astype(np.float64), np.cumsum(levels[:-1]))
        return dict(zip(levels, parts, strict=True))


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
    k = len(edges) - 1
    flat = np.empty(k * bins + 1, np.int64)
    parts = np.arange(bins) * (edges[1:] - edges[:-1])[:, None] // bins
    np.add(edges[:-1, None], parts, out=flat[:-1].reshape(k, bins))
    flat[-1] = edges[-1]
    return Cuts(flat, (flat[1:] - flat[:-1]).reshape(k, bins))


def bins_of(edges: Indices, dt_s: float, settling: Settling) -> tuple[Cuts | None, str]:
    """Cut the batches after the first, as finely as samples and settling allow; or why they cannot be."""
    later = edges[1:]
    lengths = later[1:] - later[:-1]
    many = lengths.size > 0
    shortest, mean_s = (int(np.minimum.reduce(lengths)), mean(lengths) * dt_s) if many else (0, math.nan)
    most, why = bins_within(lengths.size, shortest, mean_s, settling)
    return (None, why) if most is None else (cut(later, most), "")


def bins_within(batches: int, shortest: int, batch_s: float, settling: Settling) -> tuple[int | None, str]:
    """The most bins that so many batches allow, the shortest of so many samples and all of a mean length; or why none.

    `batches` does not count the first of a run.
    """
    if batches < 2:
        return None, f"{batches} batches that follow another are too few to average"
    if shortest < LEAST_SAMPLES * LEVELS[-1]:
        return None, f"the shortest batch has {shortest} samples: too few to see anything in"
    most = shortest / LEAST_SAMPLES
    if math.isfinite(settling.tau_s):
        if batch_s < LEVELS[-1] * settling.tau_s:
            return None, (
                f"a batch lasts {batch_s * 1e3:.3g} ms and the board's current settles with "
                f"{settling.tau_s * 1e3:.3g} ms: what is within a batch is smeared over several"
            )
        most = min(most, batch_s / settling.tau_s)
    return next(bins for bins in LEVELS if bins <= most), ""


def calibrated(found: Folded, current: Channel, voltage: Channel, at_s: float) -> Fold:
    """Apply a calibration to a fold."""
    zi, zv = current.offset.at(at_s), voltage.offset.at(at_s)
    gain = current.gain.value * voltage.gain.value
    vi, i, v = found.means
    squares = {bins: s / gain**2 for bins, s in found.squares.items()}
    return Fold(found.n, (vi - zi * v - zv * i + zi * zv) / gain, squares)


def fold(cuts: Cuts, vi: Floats, i: Floats, v: Floats) -> Folded:
    """Fold the sums of i v, i and v between the cuts."""
    shape, counts, bins = cuts.counts.shape, cuts.counts, cuts.bins
    vi, i, v = (x.reshape(shape) for x in (vi, i, v))
    mean_i, mean_v = (np.add.reduce(x / counts) / len(x) for x in (i, v))
    means, squares = [], {}
    while True:
        rows = vi / counts
        means.append(np.add.reduce(rows) / len(rows))
        rows -= means[-1]
        squares[bins] = np.einsum("ij,ij->j", rows, rows)
        if bins == LEVELS[-1]:
            return Folded.of(shape[0], means[0], mean_i, mean_v, squares)
        vi, counts = (vi[:, ::2] + vi[:, 1::2]), (counts[:, ::2] + counts[:, 1::2])
        bins //= 2
