"""Lines through and over clouds of networks: hinge, upper bound, trend, Pareto front. Pure."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

MIN_HINGE = 5
"""Points below which three numbers of a hinge say nothing."""


@dataclass(frozen=True)
class Hinge:
    """y = floor up to x = knee, then rising with `slope`: least squares over n points; `rms` is what it leaves."""

    floor: float
    knee: float
    slope: float
    rms: float
    n: int

    def at(self, x: Floats) -> Floats:
        """Values (n,) at x (n,)."""
        return self.floor + self.slope * np.maximum(x - self.knee, 0.0)


def hinge(x: Sequence[float], y: Sequence[float]) -> Hinge | None:
    """Fit a hinge with free floor, knee and slope; None below five points, or where x or y does not vary."""
    xs, ys = np.asarray(x, dtype=np.float64), np.asarray(y, dtype=np.float64)
    if xs.size < MIN_HINGE or np.ptp(xs) == 0 or np.ptp(ys) == 0:
        return None
    from scipy.optimize import least_squares

    # In units of the spans, from a start in each gap: the sum of squares has a dent in every one.
    x0, x1, y0, y1 = xs.min(), np.ptp(xs), ys.min(), np.ptp(ys)
    u, v = (xs - x0) / x1, (ys - y0) / y1
    knots = np.unique(u)
    starts = (knots[1:] + knots[:-1]) / 2
    found = [
        least_squares(
            lambda p: p[0] + p[2] * np.maximum(u - p[1], 0.0) - v, (v[u <= s].mean(), s, 1.0), bounds=_HINGE_BOUNDS
        )
        for s in starts
    ]
    best = min(found, key=lambda fit: float(fit.cost))
    floor, knee, slope = (float(p) for p in best.x)
    rms = math.sqrt(2 * float(best.cost) / len(u)) * y1
    return Hinge(y0 + floor * y1, x0 + knee * x1, slope * y1 / x1, rms, len(u))


_HINGE_BOUNDS = ((-math.inf, 0.0, 0.0), (math.inf, 1.0, math.inf))


@dataclass(frozen=True)
class Line:
    """y = at_zero + slope x; `r2` is NaN where the line is not a fit."""

    at_zero: float
    slope: float
    n: int
    r2: float = math.nan


def upper_bound(x: Sequence[float], y: Sequence[float]) -> Line | None:
    """Give the falling line on or above all points that lies nearest to them in the mean (a linear program).

    None below two points of different x.
    """
    xs, ys = np.asarray(x, dtype=np.float64), np.asarray(y, dtype=np.float64)
    if np.unique(xs).size < 2:
        return None
    from scipy.optimize import linprog

    scale = xs.max()
    answer = linprog(
        (xs.size, -float((xs / scale).sum())),
        A_ub=np.stack([-np.ones_like(xs), xs / scale], axis=1),
        b_ub=-ys,
        bounds=((None, None), (0, None)),
        method="highs",
    )
    return Line(float(answer.x[0]), -float(answer.x[1]) / scale, xs.size) if answer.success else None


def trend(x: Sequence[float], y: Sequence[float]) -> Line | None:
    """Ordinary least squares of y on x; None below three points, or where x does not vary."""
    if len(x) < 3 or np.ptp(np.asarray(x)) == 0:
        return None
    from scipy.stats import linregress

    fit = linregress(x, y)
    return Line(float(fit.intercept), float(fit.slope), len(x), float(fit.rvalue) ** 2)


Place = Literal["front", "within U", "behind"]


def front(cost: Sequence[float], half: Sequence[float], gain: Sequence[float]) -> list[Place]:
    """Say of each point whether any other has at least its gain at less cost.

    `half` is the half-width of the interval of each cost: where another is better, but only by less than the
    half-widths of both together, the point is "within U" of the front.
    """
    places: list[Place] = []
    for k in range(len(cost)):
        ahead = [j for j in range(len(cost)) if _better(j, k, cost, gain)]
        clearly = any(cost[k] - cost[j] > math.hypot(half[k], half[j]) for j in ahead)
        places.append("behind" if clearly else "within U" if ahead else "front")
    return places


def _better(j: int, k: int, cost: Sequence[float], gain: Sequence[float]) -> bool:
    as_good = cost[j] <= cost[k] and gain[j] >= gain[k]
    return as_good and (cost[j] < cost[k] or gain[j] > gain[k])
