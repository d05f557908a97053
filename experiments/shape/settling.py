"""How fast power falls after the gate: what the capacitors of a board make of a step. Pure."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from calibration.statistics import deviation, mean

Floats = NDArray[np.float64]

BEFORE_S = 0.05
"""Stretches before and after the gate's fall from which its step is known, at most."""

FIT_TIMES = 5.0
"""Settling times over which the fall is fitted; slower tails are then part of the level that it falls to."""

LEAST_SETTLING = 1.5
"""Sampling periods below which no settling is seen, only that it is faster."""

LEAST_SCORE = 10.0
"""Noise of one sample that the step must be above before its settling is fitted."""

STEPS, SAME = 40, 1e-8
"""Most steps of a fit, and the relative change of the time constant that ends it."""

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
    What does not settle on a time constant is unknown.
    """
    first_before, end = near_fall(start, stop, len(power), dt_s)
    before, after = power[first_before:stop], power[stop:end]
    if before.size < 10 or after.size < 20:
        return UNKNOWN
    rest = after[-(after.size // 4) :]
    low, high, noise = mean(rest), mean(before), deviation(rest[1:] - rest[:-1]) / 2**0.5
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
    """Time constant of y, (n,), about `first`, and its standard uncertainty, in samples; NaN where it has none.

    Gauss and Newton's steps for its logarithm, the height and the level always the best ones for it (Kaufman 1975).
    """
    n = y.size
    k, log_tau = np.arange(n, dtype=np.float64), math.log(first)
    known, moving = np.ones((2, n)), np.empty((2, n))
    about, (decay, slope) = np.subtract(y, mean(y), out=known[0]), moving
    least, most, last = math.log(first / 4), math.log(first * 4), 0.0
    for _ in range(STEPS):
        tau = math.exp(log_tau)
        np.exp(np.multiply(k, -1 / tau, out=decay), out=decay)
        np.multiply(k, decay, out=slope)  # of the decay by the logarithm, times the time constant
        (with_y, sum_d), (slope_y, sum_s) = (moving @ known.T).tolist()
        (square, across), (_, own) = (moving @ moving.T).tolist()
        square -= sum_d**2 / n
        across -= sum_d * sum_s / n
        own -= sum_s**2 / n + across**2 / square
        scale = with_y / square
        step = (slope_y - across / square * with_y) * tau / (scale * own)
        if not math.isfinite(step):
            return tau, math.nan
        step = min(max(step, -1.0), 1.0) * (0.5 if step * last < 0 else 1.0)  # to and fro: the middle
        before, log_tau, last = log_tau, min(max(log_tau + step, least), most), step
        if abs(log_tau - before) < SAME:
            break
    else:
        return tau, math.nan
    left = about - scale * (decay - sum_d / n)
    rest = float(left @ left)
    variance = rest / max(n - 3, 1)
    together = min(max(float(left[1:] @ left[:-1]) / max(rest, 1e-300), 0.0), 0.99)
    return tau, tau**2 / abs(scale) * math.sqrt(variance / own * (1 + together) / (1 - together))
