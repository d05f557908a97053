"""Type A evaluation: the stated uncertainty of a mean is the scatter that means really have."""

from __future__ import annotations

import numpy as np
import pytest

from calibration.statistics import mean_of_record, mean_of_repeats


def coloured(rng: np.random.Generator, n: int, rho: float) -> np.ndarray:
    """First-order autoregressive noise of unit variance."""
    from scipy.signal import lfilter

    return lfilter([np.sqrt(1 - rho * rho)], [1, -rho], rng.standard_normal(n + 2000))[2000:]


@pytest.mark.parametrize("rho", [0.0, 0.9, 0.99])
def test_the_uncertainty_of_a_mean_is_right_whatever_the_colour(rho: float) -> None:
    rng = np.random.default_rng(3)
    found = [mean_of_record(coloured(rng, 40_000, rho), 1e-4) for _ in range(200)]
    scatter = np.std([m.mean for m in found])
    stated = np.sqrt(np.mean([m.u**2 for m in found]))
    assert stated == pytest.approx(scatter, rel=0.2)
    if rho == 0.99:  # what a white-noise formula would state is seven to fourteen times too small
        assert stated > 7 / np.sqrt(40_000)


def test_density_scales_to_other_durations() -> None:
    rng = np.random.default_rng(4)
    long = mean_of_record(coloured(rng, 400_000, 0.9), 1e-4)
    short = [mean_of_record(coloured(rng, 20_000, 0.9), 1e-4) for _ in range(100)]
    predicted = np.sqrt(long.density / short[0].duration_s)
    assert predicted == pytest.approx(np.std([m.mean for m in short]), rel=0.4)


def test_too_few_samples_are_refused() -> None:
    with pytest.raises(ValueError, match="too few"):
        mean_of_record(np.zeros(79), 1.0)


def test_repeats() -> None:
    mean, u, dof = mean_of_repeats(np.array([1.0, 2.0, 3.0]))
    assert (mean, dof) == (2.0, 2.0)
    assert u == pytest.approx(1 / np.sqrt(3))
    mean, u, dof = mean_of_repeats(np.array([5.0]))
    assert mean == 5.0
    assert np.isnan(u)
    assert np.isnan(dof)
    with pytest.raises(ValueError, match="no repeats"):
        mean_of_repeats(np.array([]))
