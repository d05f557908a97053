"""When the current of a step of load begins to move, and by how much repeats of it scatter. Pure.

A board's capacitors smear a step over milliseconds, but they cannot move its beginning. Repeats are shifted onto their
mean first, which uses the whole slope; the mean's beginning is then found by following its first slope back to where
nothing had happened yet.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

SHARES = (0.07, 0.12)
"""Parts of the step within which its first slope is followed; what they differ by is the method's own error."""

CURVED = 0.03
"""Share of the ramp's length by which its beginning may be off since it is not quite straight, as a limit."""

_ROUNDS = 8
_LEAST_SAMPLES = 8
_MOST_SAMPLES = 400
_GRID = 241
_LOOK_BACK = 5.0


@dataclass(frozen=True)
class Onset:
    """Where a step begins on the common time axis of its repeats, s; `scatter_s` of one repeat, less the noise's part.

    `u_s` is the standard uncertainty of the mean, with `dof`.
    """

    at_s: float
    u_s: float
    scatter_s: float
    dof: float


def onset(t_s: Floats, repeats: Floats) -> Onset:
    """Find the beginning of a step near t = 0 in n repeats of it.

    `t_s` has shape (samples,) with as much before the step as the step takes, `repeats` (n, samples) in A.
    Raises ValueError where there is no step that stands out of the noise.
    """
    n = len(repeats)
    if n < 2:
        raise ValueError(f"{n} repeats tell nothing of their scatter")
    shifts, noise_s = _align(t_s, repeats)
    begins, ramp_s = _beginning(t_s, _shifted_mean(t_s, repeats, shifts))
    # Each repeat left out once: what the beginning of the mean owes to any one of them.
    without = np.array(
        [
            _beginning(t_s, _shifted_mean(t_s, np.delete(repeats, k, 0), np.delete(shifts, k)))[0].mean()
            for k in range(n)
        ]
    )
    u_bend = math.sqrt((n - 1) / n * float(np.sum((without - without.mean()) ** 2)))
    scatter = math.sqrt(max(0.0, float(shifts.var(ddof=1)) - noise_s**2))
    method = math.hypot(abs(float(begins[1] - begins[0])) / 2, CURVED * ramp_s) / math.sqrt(3.0)
    return Onset(float(begins.mean()), math.hypot(u_bend, method), scatter, n - 1.0)


def _shifted_mean(t_s: Floats, repeats: Floats, shifts_s: Floats) -> Floats:
    """Mean of repeats that are moved by their shift less the mean shift."""
    centre = float(shifts_s.mean())
    moved = [np.interp(t_s + shift - centre, t_s, row) for row, shift in zip(repeats, shifts_s, strict=True)]
    return np.asarray(np.mean(moved, axis=0))


def _align(t_s: Floats, repeats: Floats) -> tuple[Floats, float]:
    """By how much each repeat is later than their mean, s, and the standard deviation that noise alone gives that."""
    shifts: Floats = np.zeros(len(repeats))
    dt_s = float(t_s[1] - t_s[0])
    noise_s = 0.0
    for _ in range(_ROUNDS):
        mean = _shifted_mean(t_s, repeats, shifts)
        smooth = _smooth(mean, max(3, len(t_s) // 100))
        slope = np.gradient(smooth, dt_s)
        weight = float(np.sum(slope**2))
        change = np.array(
            [
                -float(np.sum(slope * (np.interp(t_s + shift, t_s, row) - smooth))) / weight
                for row, shift in zip(repeats, shifts, strict=True)
            ]
        )
        change -= change.mean()
        shifts = np.clip(shifts + change, t_s[0] / 2, t_s[-1] / 2)
        before = t_s < 0.25 * t_s[0]
        quiet = repeats[:, before] - repeats[:, before].mean(axis=1, keepdims=True)
        noise_s = _noise_of_shift(quiet, slope, weight)
        if float(np.abs(change).max()) < dt_s / 100:
            break
    return shifts, noise_s


def _noise_of_shift(quiet: Floats, slope: Floats, weight: float) -> float:
    """Standard deviation that the noise before the step would give a shift: the slope's shape slid over it."""
    kernel = slope[np.abs(slope) > 0.02 * np.abs(slope).max()]
    size = min(len(kernel), quiet.shape[1] - 1)
    found = [float(np.dot(row[k : k + size], kernel[:size])) for row in quiet for k in range(0, row.size - size, size)]
    return float(np.std(found)) / weight if len(found) > 1 else 0.0


def _smooth(values: Floats, width: int) -> Floats:
    padded = np.pad(values, (width // 2, width - 1 - width // 2), mode="edge")
    return np.asarray(np.convolve(padded, np.full(width, 1 / width), mode="valid"))


def _beginning(t_s: Floats, mean: Floats) -> tuple[Floats, float]:
    """Where the mean of a step leaves its level: a level and a straight ramp up to each of `SHARES` of the step; (2,).

    And how long the longer of the ramps is.

    A first-order lag bends away from its first slope by so little there that the bias is a thousandth of its time.
    """
    before = mean[t_s < 0.25 * t_s[0]]
    level, noise = float(before.mean()), float(before.std())
    step = float(mean[-max(3, len(mean) // 10) :].mean()) - level
    if abs(step) < 6 * noise or step == 0:
        raise ValueError(f"a step of {step * 1e3:.3g} mA does not stand out of {noise * 1e3:.3g} mA of noise")
    height = (mean - level) / step
    smooth = _smooth(height, max(3, len(t_s) // 200))
    half = int(np.flatnonzero(smooth > 0.5)[0])
    begins = np.array([_hinge(t_s, height, smooth, half, share) for share in SHARES])
    return begins, max(0.0, float(t_s[_last_below(smooth, half, SHARES[-1])] - begins[-1]))


def _hinge(t_s: Floats, height: Floats, smooth: Floats, half: int, share: float) -> float:
    """Best corner of level and ramp among a grid of corners, up to where the share is passed on the way to the half."""
    top = _last_below(smooth, half, share)
    rising_s = max(float(t_s[top] - t_s[_last_below(smooth, half, share / 4)]), _LEAST_SAMPLES * float(t_s[1] - t_s[0]))
    first = int(np.searchsorted(t_s, t_s[top] - _LOOK_BACK * rising_s))
    every = max(1, (top - first) // _MOST_SAMPLES)
    usable = (top + 1 - first) // every * every
    x = t_s[first : first + usable].reshape(-1, every).mean(axis=1)
    y = height[first : first + usable].reshape(-1, every).mean(axis=1)
    corners = np.linspace(x[2], x[-3], _GRID)
    ramps = np.maximum(0.0, x[None, :] - corners[:, None])
    ramps -= ramps.mean(axis=1, keepdims=True)
    explained = (ramps @ y) ** 2 / np.sum(ramps**2, axis=1)
    best = int(np.argmax(explained))
    if not 0 < best < _GRID - 1:
        return float(corners[best])
    a, b, c = explained[best - 1 : best + 2]
    return float(corners[best] + (a - c) / (2 * (a - 2 * b + c)) * (corners[1] - corners[0]))


def _last_below(smooth: Floats, half: int, share: float) -> int:
    below = np.flatnonzero(smooth[:half] < share)
    return int(below[-1]) if below.size else 0
