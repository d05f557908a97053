"""The line through points that are unsure, and its bow, against draws from known truths."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.optimize import curve_fit

from calibration.line import bow, fit_line, u_of_line

X = np.array([0.13, 0.39, 0.65, 0.98, 1.3, 1.14, 0.81, 0.52, 0.26])


def test_without_errors_in_x_it_is_the_usual_weighted_fit() -> None:
    rng = np.random.default_rng(1)
    u_y = rng.uniform(1e-4, 1e-3, X.size)
    y = 0.002 + 1.013 * X + u_y * rng.standard_normal(X.size)
    line = fit_line(X, y, np.zeros(X.size), u_y)
    best, covariance = curve_fit(lambda x, a, b: a + b * x, X, y, sigma=u_y, absolute_sigma=True)
    np.testing.assert_allclose([line.intercept, line.slope], best, rtol=1e-5)
    np.testing.assert_allclose(line.covariance, covariance, rtol=1e-4)
    assert line.dof == X.size - 2
    np.testing.assert_allclose(line.residuals, y - best[0] - best[1] * X, atol=1e-8)


def test_errors_in_both_directions_are_as_large_as_it_says() -> None:
    """Draws around a line: the pulls of slope and intercept have mean 0 and spread 1."""
    rng = np.random.default_rng(2)
    u_x, u_y = np.full(X.size, 4e-4), np.full(X.size, 3e-4)
    pulls, crossings = [], []
    for _ in range(400):
        x = X + u_x * rng.standard_normal(X.size)
        y = 0.002 + 1.013 * X + u_y * rng.standard_normal(X.size)
        line = fit_line(x, y, u_x, u_y)
        u_intercept, u_slope = np.sqrt(np.diag(line.covariance))
        at_heart = line.intercept + 0.7 * line.slope - (0.002 + 0.7 * 1.013)
        u_heart = u_of_line(0.7, u_intercept, u_slope, line.covariance[0, 1])
        pulls.append([(line.slope - 1.013) / u_slope, (line.intercept - 0.002) / u_intercept, at_heart / u_heart])
        crossings.append([(line.crossing + 0.002 / 1.013) / (line.u_crossing / line.birge)])
    assert np.abs(np.mean(pulls, axis=0)).max() < 0.2
    assert np.std(pulls, axis=0) == pytest.approx([1, 1, 1], abs=0.1)
    assert np.std(crossings) == pytest.approx(1, abs=0.1)
    assert line.shared < 0
    assert u_heart < 0.5 * np.hypot(u_intercept, 0.7 * u_slope)  # which their covariance makes so small


def test_points_that_scatter_more_than_they_say_widen_it() -> None:
    rng = np.random.default_rng(3)
    y = X + 5e-3 * rng.standard_normal(X.size)
    line = fit_line(X, y, np.zeros(X.size), np.full(X.size, 1e-3))
    assert line.birge > 2
    assert line.u_slope == pytest.approx(line.birge * np.sqrt(line.covariance[1, 1]))


@pytest.mark.parametrize("height", [0.0, 1e-3, -2e-3])
def test_a_bow_is_found_within_its_uncertainty(height: float) -> None:
    rng = np.random.default_rng(4)
    u = np.full(X.size, 2e-4)
    found = [
        bow(X, X - 4 * height * X / 1.3 * (1 - X / 1.3) + 2e-4 * rng.standard_normal(X.size), 0 * u, u, 1.3)
        for _ in range(50)
    ]
    heights, us = np.array(found).T
    assert np.mean(heights) == pytest.approx(height, abs=3 * np.mean(us) / np.sqrt(50))
    assert np.mean(np.abs(heights - height) < 2 * us) > 0.85


@pytest.mark.parametrize(
    ("x", "u", "complaint"),
    [([1.0, 2.0], 1.0, "too few"), ([1.0, 1.0, 1.0], 1.0, "one value"), ([1.0, 2.0, 3.0], 0.0, "exact")],
)
def test_what_no_line_can_go_through(x: list[float], u: float, complaint: str) -> None:
    values = np.array(x)
    with pytest.raises(ValueError, match=complaint):
        fit_line(values, values, np.full(values.size, u), np.full(values.size, u))


def test_three_points_cannot_tell_a_bow() -> None:
    assert bow(X[:3], X[:3], 0 * X[:3], 0 * X[:3] + 1, 1.0) == (0.0, np.inf)
