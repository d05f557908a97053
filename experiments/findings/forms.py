"""Curves of accuracy over time, each with its own two coefficients at every batch size, compared as one. Pure.

The networks are the same at every batch size, so more batch sizes are not more evidence: likelihoods are those of one
batch size, with the mean residual sum of squares over all.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from experiments.findings.intervals import Floats, Interval, over_networks
from experiments.findings.verdict import Tree

LINEAR = {"hyperbola": 1.0, "logarithm": 0.0}
"""Exponents p of c - m x^-p; the logarithm is its limit at 0."""

POWER = "power law"
EXPONENTS = (-1.0, 4.0)
"""Where the power law's exponent is looked for: from a straight line to a step."""


@dataclass(frozen=True)
class Group:
    """The networks of one batch size: names, time (or operations) above 0, and accuracy; (n,) each."""

    names: tuple[str, ...]
    x: Floats
    y: Floats

    def only(self, chosen: NDArray[np.intp]) -> Group:
        """Those networks, in that order."""
        return Group(tuple(self.names[k] for k in chosen), self.x[chosen], self.y[chosen])


@dataclass(frozen=True)
class Fit:
    """One form fitted to all groups.

    `q2` is the share of variance that it predicts for networks left out; `coefficients` are c and m of
    y = c - m x^-p, or a and b of y = a + b ln x, for each group.
    """

    form: str
    exponent: float
    r2: float
    aicc: float
    loo_rmse: float
    q2: float
    coefficients: tuple[tuple[float, float], ...]

    def tree(self) -> Tree:
        """For JSON."""
        return {
            "exponent": self.exponent,
            "r2": self.r2,
            "aicc": self.aicc,
            "loo_rmse": self.loo_rmse,
            "q2": self.q2,
            "coefficients": [list(pair) for pair in self.coefficients],
        }


def bent(x: Floats, exponent: float | Floats) -> Floats:
    """A rising function of x that is linear in -x^-p, and ln x at p = 0."""
    from scipy.special import boxcox

    return np.asarray(boxcox(x, -np.asarray(exponent)))


def fit_all(groups: Sequence[Group]) -> dict[str, Fit]:
    """Fit hyperbola, logarithm and power law to the same groups."""
    found = {form: _fit(groups, form, exponent) for form, exponent in LINEAR.items()}
    found[POWER] = _fit(groups, POWER, best_exponent(groups))
    return found


def best_exponent(groups: Sequence[Group]) -> float:
    """The power law's exponent by least squares over all groups."""
    from scipy.optimize import minimize_scalar

    answer = minimize_scalar(
        lambda p: sum(_left(bent(_scaled(g.x), p), g.y) for g in groups), bounds=EXPONENTS, method="bounded"
    )
    return float(answer.x)


def exponent_interval(groups: Sequence[Group], seed: int) -> Interval:
    """Its bootstrap interval over networks, to 0.05; the groups must hold the same networks in the same order."""
    grid = np.arange(EXPONENTS[0], EXPONENTS[1] + 0.01, 0.05)
    curves = [bent(_scaled(g.x), grid[:, None]) for g in groups]

    def best(chosen: NDArray[np.intp]) -> float:
        if len(set(chosen.tolist())) < 4:
            return math.nan
        left = sum(_left(c[:, chosen], g.y[chosen]) for c, g in zip(curves, groups, strict=True))
        return float(grid[np.argmin(left)])

    return over_networks(best, len(groups[0].x), seed)


def _scaled(x: Floats) -> Floats:
    """In units of its geometric mean, which changes no fit and keeps powers of it near 1."""
    return np.asarray(x / np.exp(np.mean(np.log(x))))


def _left(u: Floats, y: Floats) -> Floats:
    """Residual sum of squares of y on u along the last axis."""
    du, dy = u - u.mean(axis=-1, keepdims=True), y - y.mean()
    spread = (du**2).sum(axis=-1)
    explained = np.divide((du @ dy) ** 2, spread, out=np.zeros_like(spread), where=spread > 0)
    return np.asarray((dy**2).sum() - explained)


def _fit(groups: Sequence[Group], form: str, exponent: float) -> Fit:
    from statsmodels.regression.linear_model import OLS
    from statsmodels.tools.eval_measures import aicc

    rss, tss, press, tossed, coefficients = 0.0, 0.0, 0.0, 0.0, []
    refitted = _exponents_without(groups) if form == POWER else {}
    for group in groups:
        u = bent(group.x, exponent)
        fit = OLS(group.y, np.stack([np.ones_like(u), u], axis=1)).fit()
        rss, tss = rss + float(fit.ssr), tss + float(fit.centered_tss)
        left_out = _errors_without(group, refitted) if refitted else fit.get_influence().resid_press
        press += float((left_out**2).sum())
        n = len(u)
        tossed += float((((group.y - group.y.mean()) * n / (n - 1)) ** 2).sum())
        a, b = (float(v) for v in fit.params)
        coefficients.append((a + b / exponent, b / exponent) if exponent else (a, b))
    n_mean = sum(len(g.x) for g in groups) / len(groups)
    variance = max(rss / len(groups) / n_mean, np.finfo(float).tiny)
    log_likelihood = -n_mean / 2 * (math.log(2 * math.pi * variance) + 1)
    free = 3 + (form == POWER)  # two coefficients, the scatter, the exponent
    return Fit(
        form,
        exponent,
        1 - rss / tss,
        float(aicc(log_likelihood, n_mean, free)),
        math.sqrt(press / sum(len(g.x) for g in groups)),
        1 - press / tossed,
        tuple(coefficients),
    )


def _exponents_without(groups: Sequence[Group]) -> dict[str, float]:
    """The power law's exponent with each network left out of all groups."""
    names = dict.fromkeys(name for g in groups for name in g.names)
    return {name: best_exponent([_without(g, name) for g in groups]) for name in names}


def _without(group: Group, name: str) -> Group:
    return group.only(np.flatnonzero(np.array(group.names) != name))


def _errors_without(group: Group, exponents: Mapping[str, float]) -> Floats:
    """Errors for the networks of one group, each left out when its exponent and the coefficients are found; (n,)."""
    errors = []
    for name, x, y in zip(group.names, group.x, group.y, strict=True):
        rest, p = _without(group, name), exponents[name]
        u = bent(rest.x, p)
        slope, middle = np.polyfit(u - u.mean(), rest.y, 1)
        errors.append(y - middle - slope * (float(bent(np.array([x]), p)[0]) - u.mean()))
    return np.array(errors)


def front_of(group: Group) -> Group:
    """The networks that no other beats in both, by time: the Pareto front."""
    from experiments.figures.fits import front

    places = front(group.x.tolist(), [0.0] * len(group.x), group.y.tolist())
    on = np.flatnonzero(np.array(places) == "front")
    return group.only(on[np.argsort(group.x[on])])
