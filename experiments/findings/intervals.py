"""Intervals and tests of relations between networks, by scipy; the network is the unit that is drawn. Pure."""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from experiments.findings.verdict import ALPHA

Floats = NDArray[np.float64]

RESAMPLES = 999
"""Bootstrap samples for an interval that is shown or decides: its ends are then good to a percent in coverage."""


@dataclass(frozen=True)
class Share:
    """Share of variance (r²) of one number that follows the other upwards, with one-sided bounds at ALPHA.

    A falling relation counts as none.
    """

    r: float
    r2: float
    low: float
    high: float


def share(x: Floats, y: Floats, alpha: float = ALPHA) -> Share:
    """Judge a rising linear relation by Pearson's r and Fisher's interval; (n,) each, n of 4 or more."""
    from scipy.stats import pearsonr

    if np.ptp(x) == 0 or np.ptp(y) == 0:
        return Share(math.nan, 0.0, 0.0, 1.0)
    found = pearsonr(x, y)
    interval = found.confidence_interval(1 - 2 * alpha)
    r = float(found.statistic)
    return Share(r, max(r, 0.0) ** 2, max(float(interval.low), 0.0) ** 2, max(float(interval.high), 0.0) ** 2)


@dataclass(frozen=True)
class Interval:
    """A number with the ends of its 95 % interval; NaN where there is none."""

    value: float
    low: float = math.nan
    high: float = math.nan

    def tree(self) -> dict[str, float]:
        """For JSON."""
        return {"value": self.value, "low": self.low, "high": self.high}

    def text(self, form: str = ".3g") -> str:
        """Write it, such as `1.30 [1.21, 1.38]`."""
        if not math.isfinite(self.value):
            return "unknown"
        known = math.isfinite(self.low) and math.isfinite(self.high)
        ends = f" [{self.low:{form}}, {self.high:{form}}]" if known else ""
        return f"{self.value:{form}}{ends}"


def draws(
    statistic: Callable[[NDArray[np.intp]], float | Floats], n: int, seed: int, resamples: int = RESAMPLES
) -> Floats:
    """Bootstrap over n networks: a statistic, told which of them to take, for each draw; draws on the last axis."""
    from scipy.stats import bootstrap

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of draws in which the statistic does not exist or is always the same
        found = bootstrap(
            (np.arange(n),),
            lambda chosen: statistic(np.asarray(chosen, dtype=np.intp)),
            n_resamples=resamples,
            vectorized=False,
            method="percentile",
            rng=np.random.default_rng(seed),
        )
    return np.asarray(found.bootstrap_distribution)


def over_networks(
    statistic: Callable[[NDArray[np.intp]], float], n: int, seed: int, resamples: int = RESAMPLES
) -> Interval:
    """Give a statistic of n networks its bootstrap interval (percentiles).

    Draws in which the statistic does not exist (NaN) are left out; with more than a tenth of those there is none.
    """
    value = statistic(np.arange(n))
    drawn = draws(statistic, n, seed, resamples)
    good = drawn[np.isfinite(drawn)]
    if len(good) < 0.9 * resamples or not math.isfinite(value):
        return Interval(value)
    low, high = np.percentile(good, (2.5, 97.5))
    return Interval(value, float(low), float(high))


def spearman(x: Floats, y: Floats, seed: int) -> Interval:
    """Spearman's rank correlation of (n,) with (n,), with its bootstrap interval."""
    from scipy.stats import spearmanr

    def rho(chosen: NDArray[np.intp]) -> float:
        a, b = x[chosen], y[chosen]
        return float(spearmanr(a, b).statistic) if np.ptp(a) > 0 and np.ptp(b) > 0 else math.nan

    return over_networks(rho, len(x), seed)


@dataclass(frozen=True)
class MeanBounds:
    """A mean over networks with one-sided bounds, each with a chance of ALPHA to lie on the wrong side."""

    mean: float
    low: float
    high: float


def mean_bounds(values: Floats, seed: int, alpha: float = ALPHA) -> MeanBounds:
    """Bound a mean by the bias-corrected and accelerated bootstrap, which allows for skew; (n,)."""
    from scipy.stats import bootstrap

    mean = float(values.mean())
    if len(values) < 2 or np.ptp(values) == 0:
        return MeanBounds(mean, mean, mean)
    interval = bootstrap(
        (values,),
        np.mean,
        n_resamples=5 * RESAMPLES,
        confidence_level=1 - 2 * alpha,
        method="BCa",
        rng=np.random.default_rng(seed),
    ).confidence_interval
    return MeanBounds(mean, float(interval.low), float(interval.high))
