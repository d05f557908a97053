"""A straight line through points that are unsure in both directions, with covariance; and how far they bow. Pure.

Generalised least squares: York's effective variance, u_y^2 + slope^2 u_x^2, iterated to convergence.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

_ROUNDS = 20


@dataclass(frozen=True)
class Line:
    """y = intercept + slope x.

    `covariance` (2, 2) is of intercept and slope by the points' own uncertainties; `birge` the root of chi square over
    `dof`, by which it is to be widened where the points scatter more than they say. `residuals` (n,).
    """

    intercept: float
    slope: float
    covariance: Floats
    residuals: Floats
    chi_square: float
    dof: int

    @property
    def birge(self) -> float:
        """How much wider than stated the points scatter; 1 where they do not."""
        return max(1.0, math.sqrt(self.chi_square / self.dof)) if self.dof else 1.0

    @property
    def u_slope(self) -> float:
        """Standard uncertainty of the slope."""
        return self.birge * math.sqrt(self.covariance[1, 1])

    @property
    def u_intercept(self) -> float:
        """Standard uncertainty of the intercept."""
        return self.birge * math.sqrt(self.covariance[0, 0])

    @property
    def shared(self) -> float:
        """Covariance of intercept and slope, widened as they are: below 0 where all points lie on one side of x = 0."""
        return self.birge**2 * float(self.covariance[0, 1])

    @property
    def crossing(self) -> float:
        """Where the line passes y = 0."""
        return -self.intercept / self.slope

    @property
    def u_crossing(self) -> float:
        """Standard uncertainty of that, of intercept and slope together."""
        return u_of_line(self.crossing, self.u_intercept, self.u_slope, self.shared) / abs(self.slope)


def u_of_line(x: float, u_intercept: float, u_slope: float, shared: float) -> float:
    """Standard uncertainty of a line at x, of both of its parameters and their covariance (GUM 5.2.2)."""
    return math.sqrt(max(0.0, u_intercept**2 + (x * u_slope) ** 2 + 2 * x * shared))


def fit_line(x: Floats, y: Floats, u_x: Floats, u_y: Floats) -> Line:
    """Fit a line to n points; all arrays have shape (n,).

    Raises ValueError for fewer than three points, all at one x, or one that is said to be exact in both directions.
    """
    parameters, covariance, residuals, chi_square = _fit(x, y, u_x, u_y, degree=1)
    return Line(float(parameters[0]), float(parameters[1]), covariance, residuals, chi_square, len(x) - len(parameters))


def bow(x: Floats, y: Floats, u_x: Floats, u_y: Floats, top: float) -> tuple[float, float]:
    """Give how far a parabola through the points leaves its chord from 0 to `top`, at half-way, and its u.

    Fewer than four points cannot tell: the bow is 0, its u infinite.
    """
    if len(x) < 4 or len(np.unique(x)) < 3:
        return 0.0, math.inf
    parameters, covariance, _, chi_square = _fit(x, y, u_x, u_y, degree=2)
    birge = max(1.0, math.sqrt(chi_square / (len(x) - 3)))
    to_bow = top * top / 4
    return float(parameters[2]) * to_bow, birge * math.sqrt(covariance[2, 2]) * to_bow


def _fit(x: Floats, y: Floats, u_x: Floats, u_y: Floats, degree: int) -> tuple[Floats, Floats, Floats, float]:
    if len(x) < degree + 2:
        raise ValueError(f"{len(x)} points are too few for a fit: {degree + 2} are needed")
    if np.ptp(x) <= 0:
        raise ValueError("all points are at one value: the slope is not known")
    powers = np.vander(x, degree + 1, increasing=True)
    slope: Any = np.full(len(x), float(np.polyfit(x, y, 1)[0]))
    parameters: Any = np.zeros(degree + 1)
    for _ in range(_ROUNDS):
        sigma = np.sqrt(u_y**2 + (slope * u_x) ** 2)
        if not np.all(sigma > 0):
            raise ValueError("a point is said to be exact: nothing can be weighted against it")
        before = parameters
        parameters, *_ = np.linalg.lstsq(powers / sigma[:, None], y / sigma, rcond=None)
        slope = np.asarray(np.polynomial.polynomial.polyval(x, np.polynomial.polynomial.polyder(parameters)))
        if np.allclose(parameters, before, rtol=1e-12, atol=0):
            break
    weighted = powers / sigma[:, None]
    covariance: Floats = np.linalg.inv(weighted.T @ weighted)
    residuals = y - powers @ parameters
    return parameters, covariance, residuals, float(np.sum((residuals / sigma) ** 2))
