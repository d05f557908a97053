"""Noise that belongs to the instant: asked for again, or among others, an instant has the same value. Pure."""

from __future__ import annotations

import functools
import itertools
import math

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]


def white(seed: int, channel: int, t_s: Floats, rms: float, aperture_s: float) -> Floats:
    """White noise of `rms` in the probe's 100 kHz, averaged over the aperture.

    Each instant has its own value, whichever others are asked for with it.
    """
    correlation_s = 1 / (math.pi * 100e3)
    mixed = np.ascontiguousarray(t_s).view(np.uint64) * np.uint64(0x9E3779B97F4A7C15)
    mixed ^= np.uint64(seed * 64 + channel)
    mixed ^= mixed >> np.uint64(30)
    mixed *= np.uint64(0xBF58476D1CE4E5B9)
    mixed ^= mixed >> np.uint64(27)
    mixed *= np.uint64(0x94D049BB133111EB)
    table = _normal_table()
    return np.asarray(
        table[(mixed >> np.uint64(44)).astype(np.int64)] * (rms / math.sqrt(1 + aperture_s / correlation_s))
    )


@functools.cache
def _normal_table() -> Floats:
    """2^20 normal deviates, from which instants draw."""
    return np.random.default_rng(0x1146B).standard_normal(1 << 20)


def slow(rng: np.random.Generator, t_s: Floats, rms: float, correlation_s: float) -> Floats:
    """Noise with an exponential autocorrelation, drawn on a grid of a fifth of its correlation time."""
    if rms == 0 or t_s.size == 0:
        return np.zeros(t_s.size)
    step_s = correlation_s / 5
    count = int((t_s[-1] - t_s[0]) / step_s) + 2
    rho = math.exp(-step_s / correlation_s)
    fresh = math.sqrt(1 - rho * rho)
    first, *others = rng.standard_normal(count).tolist()
    level = list(itertools.accumulate(others, lambda last, draw: rho * last + fresh * draw, initial=first))
    return np.asarray(rms * np.interp(t_s - t_s[0], step_s * np.arange(count), level))
