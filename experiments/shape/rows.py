"""The shape of power in one run, and in the repeats of a row together. Pure."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from experiments.shape.folding import LEVELS, Fold, Profile
from experiments.shape.settling import UNKNOWN, Settling

UNSETTLED = (
    "how fast the board's current settles cannot be told from its fall after the gate, and so not what of a batch "
    "is its own"
)


@dataclass(frozen=True)
class Shape:
    """The shape of power in the repeats of a row; what is unknown is NaN, or None with a reason `why`.

    Of each repeat, the peak is the highest sample of v x i in the measured loop, `crest` that over the mean power: the
    peak-to-average ratio. (The crest factor of an alternating quantity is its peak over its r.m.s. value; that of a
    power means nothing.) `peak_w` and `crest` are means over the repeats, `peak_sd_w` the peaks' standard deviation
    (NaN for one), `highest_w` the highest of all, which grows with the number of repeats. From `steady_from_s` after
    the gate's rise on, power is steady. `settling` is that with which it falls after the gate.
    """

    peak_w: float
    peak_sd_w: float
    highest_w: float
    crest: float
    steady_from_s: float
    settling: Settling
    profile: Profile | None
    why: str
    unsettled: str = ""
    """Why the settling is not known, where more than its fall itself can be said of that."""


@dataclass(frozen=True)
class RunShape:
    """The calibrated shape of one run, W and s."""

    peak_w: float
    mean_w: float
    steady_from_s: float
    settling: Settling
    fold: Fold | None
    batch_s: float
    why: str
    unsettled: str = ""


def of_row(runs: Sequence[RunShape]) -> Shape | None:
    """Put the repeats of a row together: means of peak, crest and settling, the latest begin of what is steady, all
    batches in one profile. None without a run; steady from where it is known of every repeat."""
    if not runs:
        return None
    peaks = np.array([r.peak_w for r in runs])
    crests = [r.peak_w / r.mean_w if r.mean_w > 0 else math.nan for r in runs]
    profile, why = _profile(runs)
    settling = _settling([r.settling for r in runs])
    return Shape(
        float(peaks.mean()),
        float(np.std(peaks, ddof=1)) if len(runs) > 1 else math.nan,
        float(peaks.max()),
        float(np.mean(crests)),
        float(np.max([r.steady_from_s for r in runs])),
        settling,
        profile,
        why,
        "" if settling.known else "; ".join(dict.fromkeys(r.unsettled for r in runs if r.unsettled)),
    )


def _settling(found: Sequence[Settling]) -> Settling:
    """The mean of the times that are known; where none is, the limit below which they are."""
    timed = [s for s in found if math.isfinite(s.tau_s)]
    if not timed:
        limits_s = [s.below_s for s in found if s.known]
        return Settling(below_s=max(limits_s)) if limits_s else UNKNOWN
    x = np.array([s.tau_s for s in timed])
    scatter = float(np.var(x, ddof=1)) if len(x) > 1 else 0.0
    own = float(np.mean([s.u_s**2 for s in timed]))
    return Settling(float(x.mean()), math.sqrt(max(scatter, own) / len(x)))


def _profile(runs: Sequence[RunShape]) -> tuple[Profile | None, str]:
    """All batches of all runs at the finest bins that each of them resolves; one that knows the board's settling is
    enough, and its bins hold for all."""
    folds = [r.fold for r in runs if r.fold is not None]
    if len(folds) < len(runs):
        return None, next(r.why for r in runs if r.fold is None)
    if not any(r.settling.known for r in runs):
        return None, next((f"{r.unsettled}: {UNSETTLED}" for r in runs if r.unsettled), UNSETTLED)
    bins = next(bins for bins in LEVELS if all(bins in f.squares for f in folds))
    n, mean, squares = folds[0].at(bins)
    for one in folds[1:]:
        more, other, about = one.at(bins)
        squares = squares + about + (other - mean) ** 2 * (n * more / (n + more))
        mean = mean + (other - mean) * (more / (n + more))
        n += more
    batch_s = float(np.mean([r.batch_s for r in runs]))
    return Profile(mean, np.sqrt(squares / (n - 1)), n, batch_s), ""
