"""The running check of the gain, against draws from what the limits say, and loads that cannot be compared."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest

from calibration.model import Calibration, Channel, Gain, GainTerm, Noise, Offset, ZeroPoint
from calibration.running import LEAST_READINGS, Stretch, departure
from instruments.e3645a.ratings import READ_BACK


def calibration(gain: float, at_a: float, u_drift: float = 3e-4, noise: float = 3e-4) -> Calibration:
    """A gain found against the supply's read-back at a load."""
    relative, absolute, _ = READ_BACK.current
    u = (relative * at_a + absolute) / math.sqrt(3.0) / at_a
    offset = Offset((ZeroPoint(0.0, 0.01, 1e-4), ZeroPoint(100.0, 0.01, 1e-4)), u_drift, u_drift)
    terms = (GainTerm("drift of the zero", u_drift / at_a, distribution="normal"),)
    found = Gain(gain, u, noise, 9.0, at_a, -at_a, 3 * at_a, "supply read-back", terms, READ_BACK.current)
    volts = Gain(1.0, 5e-4, 1e-5, 9.0, 12.0, 10.8, 13.2, "supply read-back", (), READ_BACK.voltage)
    channels = Channel("current", "A", offset, found), Channel("voltage", "V", offset, volts)
    return Calibration(*channels, Noise(4e-8, 0.0, 39.0), 1e-3, 5e-5, 5e-4)


def stretch(mean_a: float, readings: tuple[float, ...], swing_a: float = 1e-3) -> Stretch:
    return Stretch(50.0, 1.2, mean_a, swing_a, readings)


@pytest.mark.parametrize("load_a", [0.3, 0.8, 1.2])
def test_a_gain_that_did_not_move_departs_by_no_more_than_is_claimed(load_a: float) -> None:
    """Errors drawn as the limits say: at most 1 in 20 passes 1, and the common errors of the read-back cancel."""
    rng, found = np.random.default_rng(2), []
    relative, absolute, _ = READ_BACK.current
    for _ in range(600):
        a, b, truth, at_a = relative * rng.uniform(-1, 1), absolute * rng.uniform(-1, 1), 1.012, 0.8

        def seen(amps: float, a: float = a, b: float = b, n: int = 6) -> tuple[float, ...]:
            return tuple(np.round((1 + a) * amps + b + 5e-4 * rng.standard_normal(n), 3))

        drift = 3e-4 * rng.standard_normal(2)
        gain = (truth * at_a + drift[0]) / np.mean(seen(at_a, n=10)) * (1 + 3e-4 * rng.standard_normal())
        here = stretch(truth * load_a + 0.01 + drift[1], seen(load_a))
        found.append(departure(here, calibration(gain, at_a), READ_BACK.current, by_readback=True))
    assert np.mean([d.e_n > 1 for d in found]) < 0.05
    scatter, claimed = np.std([d.departs for d in found]), np.mean([d.u for d in found])
    assert 0.4 * claimed < scatter < 1.2 * claimed
    if load_a == 0.8:
        assert claimed < 0.002  # the read-back's own limits would make it 0.006


def test_a_gain_that_moved_is_seen_by_what_it_moved() -> None:
    for moved in (-0.02, 0.01):
        here = stretch(1.012 * (1 + moved) * 0.8 + 0.01, (0.8, 0.8005, 0.7995, 0.8))
        found = departure(here, calibration(1.012, 0.8), READ_BACK.current, by_readback=True)
        assert found.departs == pytest.approx(moved, abs=2e-4)
        assert found.e_n > 1


def test_a_gain_within_the_makers_limits_does_not_contradict_them() -> None:
    """Where nothing was compared, the whole limit of the read-back and that of the maker stand between the two."""
    bare = calibration(1.0, 0.8)
    unknown = Gain(1.0, 0.03 / math.sqrt(3.0), 0.0, math.inf, math.inf, -math.inf, math.inf, "makers' limits")
    bare = replace(bare, current=replace(bare.current, gain=unknown))
    here = stretch(1.025 * 0.8 + 0.01, (0.8, 0.8005, 0.7995, 0.8))
    found = departure(here, bare, READ_BACK.current, by_readback=False)
    assert found.e_n < 1
    assert found.u > 0.017


@pytest.mark.parametrize(
    ("here", "why"),
    [
        (stretch(0.8, (0.8,) * (LEAST_READINGS - 1)), "too few"),
        (stretch(0.8, ()), "too few"),
        (stretch(0.8, (0.8, 0.9, 0.7, 0.8), swing_a=0.1), "swings by 12.7 %"),
        (stretch(0.005, (0.0, 0.0, 0.0)), "no current"),
    ],
)
def test_what_cannot_be_compared_is_not(here: Stretch, why: str) -> None:
    found = departure(here, calibration(1.0, 0.8), READ_BACK.current, by_readback=True)
    assert why in found.reason
    assert math.isnan(found.e_n)
