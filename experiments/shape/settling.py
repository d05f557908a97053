"""How fast power falls after the gate: what the capacitors of a board make of a step. Pure."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

BEFORE_S = 0.05
"""Stretches before and after the gate's fall from which its step is known, at most."""

FIT_TIMES = 5.0
"""Settling times over which the fall is fitted; slower tails are then part of the level that it falls to."""

LEAST_SETTLING = 1.5
"""Sampling periods below which no settling is seen, only that it is faster."""

LEAST_SCORE = 10.0
"""Noise of one sample that the step must be above before its settling is fitted."""

UNSURE = 0.5
"""Relative standard uncertainty of a settling time beyond which it is unknown."""


@dataclass(frozen=True)
class Settling:
    """Time constant `tau_s` and its standard uncertainty `u_s`; both NaN where there is none to tell.

    It is then faster than `below_s`, or, where that is NaN too, unknown.
    """

    tau_s: float = math.nan
    u_s: float = math.nan
    below_s: float = math.nan

    @property
    def known(self) -> bool:
        """Whether anything is known of it, be it only that it is fast."""
        return math.isfinite(self.tau_s) or math.isfinite(self.below_s)


UNKNOWN = Settling()


def near_fall(start: int, stop: int, samples: int, dt_s: float) -> tuple[int, int]:
    """Samples [first, last) that say how power settles after sample `stop`, of a loop from `start` on."""
    n = min(int(BEFORE_S / dt_s), stop - start)
    return stop - n, min(samples, stop + 2 * max(n, 1))


def settling(power: Floats, start: int, stop: int, dt_s: float) -> Settling:
    """Time constant of the fall of power, (n,), after sample `stop`, of a loop that began at `start`.

    An exponential and a level, by least squares over five time constants; the time constant alone is not linear
    (variable projection, Golub and Pereyra 1973). Neighbouring residuals that belong together widen the uncertainty.
    """
    first_before, end = near_fall(start, stop, len(power), dt_s)
    before, after = power[first_before:stop], power[stop:end]
    if before.size < 10 or after.size < 20:
        return UNKNOWN
    rest = after[-(after.size // 4) :]
    low, high, noise = float(rest.mean()), float(before.mean()), float(np.std(np.diff(rest))) / 2**0.5
    if not high - low > LEAST_SCORE * noise:
        return UNKNOWN
    below = np.flatnonzero(after < low + (high - low) / math.e)
    if not below.size:
        return UNKNOWN
    fast = Settling(below_s=LEAST_SETTLING * dt_s)
    if below[0] < LEAST_SETTLING:
        return fast
    first = float(below[0])
    y = after[: max(20, math.ceil(FIT_TIMES * first))]
    if y.size < 3 * first:
        return UNKNOWN
    tau, u = _fitted(y, first)
    if tau < LEAST_SETTLING:
        return fast
    return Settling(tau * dt_s, u * dt_s) if u < UNSURE * tau else UNKNOWN


def _fitted(y: Floats, first: float) -> tuple[float, float]:
    """Time constant of y, (n,), about `first`, and its standard uncertainty, in samples; NaN where it has none."""
    from scipy.optimize import minimize_scalar  # takes longer to import than most programs that never look at a shape

    k = np.arange(y.size, dtype=np.float64)
    about = y - y.mean()

    def rest_of(log_tau: float) -> float:
        left = _linear(k, about, math.exp(log_tau))[1]
        return float(left @ left)

    found = minimize_scalar(rest_of, bounds=(math.log(first / 4), math.log(first * 4)), method="bounded")
    tau = math.exp(float(found.x))
    scale, left = _linear(k, about, tau)
    decay = np.exp(-k / tau)
    slopes = np.column_stack((np.ones_like(k), decay, scale * decay * k / tau**2))
    try:
        inverse = np.linalg.inv(slopes.T @ slopes)
    except np.linalg.LinAlgError:
        return tau, math.nan
    rest = float(left @ left)
    variance = rest / max(y.size - 3, 1)
    together = min(max(float(left[1:] @ left[:-1]) / max(rest, 1e-300), 0.0), 0.99)
    return tau, math.sqrt(variance * float(inverse[2, 2]) * (1 + together) / (1 - together))


def _linear(k: Floats, y: Floats, tau: float) -> tuple[float, Floats]:
    """Best height of an exponential of one time constant above any level, for y about its mean; what is left of y."""
    about = np.exp(-k / tau)
    about -= np.add.reduce(about) / about.size
    scale = float(about @ y) / max(float(about @ about), 1e-300)
    return scale, y - scale * about
