"""The interval of a sum of independent errors by propagating distributions (GUM Supplement 1, JCGM 101). Pure.

Every error here is symmetric about zero with a single peak or plateau, so the shortest interval that holds a
probability is the symmetric one. The distribution of the sum comes from the product of characteristic functions,
inverted by quadrature (Gil-Pelaez): nothing is drawn, so the same budget gives the same interval to the last bit.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

Part = tuple[str, float, float]
"""One error: its kind ("normal", "t" or "rectangular"), standard uncertainty u and degrees of freedom.

A normal error whose u rests on finitely many degrees of freedom is a scaled Student's t (JCGM 101, 6.4.9).
"""

NEARLY_NORMAL = 1e-4
"""Excess kurtosis that an error may bring to the sum and still count as normal: it moves a 95 % interval by 1e-5."""

_NEGLIGIBLE = 1e-9
_FARTHEST = 4096.0
_NODES, _WEIGHTS = np.polynomial.legendre.leggauss(8)
_NEAR = 1e-6
_STEPS = 60
_MANY = 100.0
_FAR = 1000.0


def half_width(parts: Sequence[Part], probability: float) -> float:
    """Half-width of the symmetric interval that holds `probability` of the sum of the errors, in their unit.

    0 where no error is above 0. Raises ValueError for a probability outside (0, 1), a kind that is not known, a u
    that is no finite number or fewer than one degree of freedom.
    """
    if not 0 < probability < 1:
        raise ValueError(f"a coverage probability lies between 0 and 1, got {probability:g}")
    for kind, u, dof in parts:
        if kind not in ("normal", "t", "rectangular"):
            raise ValueError(f"an error is normal, t or rectangular, not {kind!r}")
        if not 0 <= u < math.inf:
            raise ValueError(f"a standard uncertainty is a number of at least 0, got {u:g}")
        if not dof >= 1:
            raise ValueError(f"an error needs at least one degree of freedom, got {dof:g}")
    scale = math.sqrt(math.fsum(u * u for _, u, _ in parts))
    if scale == 0:
        return 0.0
    relative = tuple((kind, u / scale, dof) for kind, u, dof in parts if u > 0)
    return scale * _quantile(relative, probability)


def probability(parts: Sequence[Part], within: float) -> float:
    """Probability that the sum of the errors lies within +-`within`: the inverse of `half_width`.

    Good to 1e-8; beyond `_FAR` standard uncertainties it is that of `_FAR`.
    """
    if within <= 0:
        return 0.0
    scale = math.sqrt(math.fsum(u * u for _, u, _ in parts))
    if scale == 0:
        return 1.0
    variance, limits, scattered = _sorted(tuple((kind, u / scale, dof) for kind, u, dof in parts if u > 0))
    x = min(within / scale, _FAR)
    if not limits and not scattered:
        from scipy.special import ndtr

        return float(2 * ndtr(x / math.sqrt(variance)) - 1)
    if not scattered and variance == 0 and len(limits) == 1:
        return min(1.0, x / limits[0])
    t, weights = _transform(variance, limits, scattered, max(4.0, x))
    return min(1.0, max(0.0, float(np.sum(weights / t * np.sin(t * x)))))


@functools.lru_cache(maxsize=8192)
def _quantile(parts: tuple[Part, ...], probability: float) -> float:
    """The same for errors whose squared u add up to 1."""
    variance, limits, scattered = _sorted(parts)
    if not limits and not scattered:
        return math.sqrt(variance) * _normal_quantile(probability)
    if not scattered and variance == 0 and len(limits) == 1:
        return limits[0] * probability
    reach = 4.0
    while True:
        t, weights = _transform(variance, limits, scattered, reach)
        x = _solve(t, weights, probability, reach)
        if x is not None:
            return x
        reach *= 4.0


def _sorted(parts: tuple[Part, ...]) -> tuple[float, list[float], list[tuple[float, float]]]:
    """Variance of what is as good as normal, half-widths of the limits that count, (u, dof) of what scatters."""
    variance, limits, scattered = 0.0, [], []
    for kind, u, dof in parts:
        if kind == "rectangular":
            if 1.2 * u**4 < NEARLY_NORMAL:
                variance += u * u
            else:
                limits.append(u * math.sqrt(3.0))
        elif math.isinf(dof):
            variance += u * u
        elif dof > 6 and 6 / (dof - 4) * u**4 < NEARLY_NORMAL:
            variance += u * u * dof / (dof - 2)
        else:
            scattered.append((u, dof))
    return variance, limits, scattered


def _normal_quantile(probability: float) -> float:
    from scipy.special import ndtri

    return float(ndtri((1 + probability) / 2))


def _log_student(t: Floats, u: float, dof: float) -> Floats:
    """Logarithm of the characteristic function of u times Student's t, at t > 0."""
    from scipy.special import gammaln, kve

    order, argument = dof / 2, math.sqrt(dof) * u * t
    if dof == 1:
        return np.asarray(-argument)
    if dof >= _MANY:
        return _log_bessel(argument, order) - _log_bessel(np.full(1, 1e-6), order)
    with np.errstate(divide="ignore", over="ignore", invalid="ignore"):
        logarithm = order * np.log(argument) + np.log(kve(order, argument)) - argument
    logarithm -= gammaln(order) + (order - 1) * math.log(2.0)
    # At small arguments the Bessel function overflows: there only the variance counts.
    near = -((u * t) ** 2) / 2 * (dof / (dof - 2) if dof > 2 else 1.0)
    return np.asarray(np.where(np.isfinite(logarithm), logarithm, near))


def _log_bessel(x: Floats, order: float) -> Floats:
    """Logarithm of x^order K_order(x) but for a constant, for a large order (Debye's expansion, DLMF 10.41.4)."""
    z = x / order
    root = np.sqrt(1 + z * z)
    p = 1 / root
    series = 1 - (3 * p - 5 * p**3) / 24 / order + (81 * p**2 - 462 * p**4 + 385 * p**6) / 1152 / order**2
    return np.asarray(order * (np.log1p(root) - root) - np.log(root) / 2 + np.log(series))


def _characteristic(
    t: Floats, variance: float, limits: list[float], scattered: list[tuple[float, float]], *, envelope: bool = False
) -> Floats:
    logarithm = -variance / 2 * t * t
    for u, dof in scattered:
        logarithm = logarithm + _log_student(t, u, dof)
    value = np.exp(logarithm)
    for half in limits:
        value *= np.minimum(1.0, 1 / (half * t)) if envelope else np.sinc(half * t / math.pi)
    return np.asarray(value)


def _transform(
    variance: float, limits: list[float], scattered: list[tuple[float, float]], reach: float
) -> tuple[Floats, Floats]:
    """Nodes t and weights w with P(|X| <= x) = sum of w sin(t x) / t, for x up to `reach`."""
    ends = np.exp2(np.arange(0.0, math.log2(_FARTHEST) + 0.125, 0.25))
    still = _characteristic(ends, variance, limits, scattered, envelope=True) > _NEGLIGIBLE
    end = float(ends[min(int(still.sum()), len(ends) - 1)])
    count = 4 + math.ceil(end * (reach + sum(limits)) / (2 * math.pi))
    even = np.linspace(0.0, end, count + 1)
    # Where t rests on few observations it has a kink at 0, and finer steps towards it.
    edges = np.concatenate(([0.0], even[1] * np.exp2(np.arange(-10.0, 0.0)), even[1:]))
    half = np.diff(edges) / 2
    t = ((edges[:-1] + half)[:, None] + half[:, None] * _NODES).ravel()
    weights = (half[:, None] * (_WEIGHTS * (2 / math.pi))).ravel()
    return t, np.asarray(weights * _characteristic(t, variance, limits, scattered))


def _solve(t: Floats, weights: Floats, probability: float, reach: float) -> float | None:
    """Where the probability is reached; None beyond `reach`.

    Newton's method: the probability is concave in x, so that from the second step on it comes from below. Sums, not
    dot products, which a library may share out among threads and then round differently.
    """
    over_t = weights / t
    x = probability * math.sqrt(3.0)
    for _ in range(_STEPS):
        density = float(np.sum(weights * np.cos(t * x)))
        if density <= 0:
            break
        step = (probability - float(np.sum(over_t * np.sin(t * x)))) / density
        x += step
        if x > reach:
            return None
        if abs(step) <= _NEAR * x:  # the next step would be that small squared
            break
    return x
