"""The mean of power by phase over the batches of a cell, and how fast the board's current settles. Pure."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from calibration.budget import COVERAGE_PROBABILITY, student_t
from experiments.figures.captures import Waveform
from experiments.figures.rows import NothingToDrawError, Run
from experiments.shape import fold_rows

Floats = NDArray[np.float64]

BINS = 200
MIN_SAMPLES = 20
"""Samples that a batch must have on average before it is folded."""

USUAL_BATCHES = 50
"""A cell of about so many batches a record is shown where none is asked for: enough to average, each long enough."""

SETTLED_BEFORE_S = 0.05
"""Stretches before and after the gate's fall from which its step is known, at most."""


@dataclass(frozen=True)
class Folded:
    """Mean power by phase over the batches of a cell: arrays of shape (bins,).

    `sd` is the standard deviation from batch to batch, `half` the half-width of the mean's 95 % interval. The first
    batch of each run begins at rest: `first` is the mean of those, which are in none of the others; NaN without one.
    """

    mean: Floats
    sd: Floats
    half: Floats
    first: Floats
    batches: int
    batch_s: float

    @property
    def phase(self) -> Floats:
        """Middle of each bin, 0 to 1."""
        return (np.arange(self.mean.size) + 0.5) / self.mean.size


def fold(found: Sequence[Waveform]) -> Folded:
    """Average batches by phase, each stretched to the same length.

    Raises NothingToDrawError where a batch has too few samples, or where there are fewer than two.
    """
    spans = [(w, a, b) for w in found for a, b in zip(w.edges, w.edges[1:], strict=False)]
    later = [not w.rise or a != w.loop.start for w, a, _ in spans]
    if sum(later) < 2:
        raise NothingToDrawError(
            f"{sum(later)} batches that follow another are too few: choose a smaller batch with --cell"
        )
    samples = float(np.mean([b - a for _, a, b in spans]))
    if samples < MIN_SAMPLES:
        raise NothingToDrawError(
            f"a batch has {samples:.0f} samples, too few to see anything in: choose another --cell"
        )
    bins = min(BINS, int(min(b - a for _, a, b in spans)))
    rows = np.concatenate([fold_rows(w.power_w, np.array(w.edges), bins) for w in found if len(w.edges) > 1])
    kept, first = rows[later], rows[np.invert(later)]
    of_first = first.mean(axis=0) if len(first) else np.full(bins, np.nan)
    sd = kept.std(axis=0, ddof=1)
    half = student_t(COVERAGE_PROBABILITY, len(kept) - 1) * sd / math.sqrt(len(kept))
    batch_s = float(np.mean([(b - a) * w.dt_s for w, a, b in spans]))
    return Folded(kept.mean(axis=0), sd, half, of_first, len(kept), batch_s)


def settling_s(found: Sequence[Waveform]) -> float:
    """Time in which power falls to 1/e of its step after the gate's fall, the mean of all records.

    NaN where nothing was recorded after the gate, or where power does not fall.
    """
    found = [w for w in found if w.fall]
    dt_s = min((w.dt_s for w in found), default=math.nan)
    steps = []
    for w in found:
        n = int(SETTLED_BEFORE_S / w.dt_s)
        rise = w.loop.start if w.rise else 0
        before, after = w.power_w[max(rise, w.loop.stop - n) : w.loop.stop], w.power_w[w.loop.stop :]
        if w.dt_s > dt_s or after.size < n or not before.size:
            continue
        low, high = after[-max(after.size // 4, 1) :].mean(), before.mean()
        steps.append((after[:n] - low) / (high - low) if high > low else np.full(n, np.nan))
    if not steps:
        return math.nan
    fall = np.mean(steps, axis=0)
    below = np.flatnonzero(fall < math.exp(-1))
    return (int(below[0]) + 0.5) * dt_s if below.size else math.nan


def chosen_cell(run: Run) -> tuple[str, int]:
    """The network and batch whose records hold about `USUAL_BATCHES`; raises NothingToDrawError without a result."""
    counts = {
        (p.network, p.batch): np.mean([r.batches.counts.size for r in p.device.runs])
        for p in run.points
        if p.result is not None and p.device.runs
    }
    counts = {cell: n for cell, n in counts.items() if n >= 1}
    if not counts:
        raise NothingToDrawError(f"{run.label}: no cell has a result")
    return min(counts, key=lambda cell: abs(math.log(counts[cell] / USUAL_BATCHES)))
