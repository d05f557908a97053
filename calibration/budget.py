"""The uncertainty budget of one result after the GUM (JCGM 100:2008): pure, no clock, no file.

A component is an input's standard uncertainty times the sensitivity of the result to that input.
Components of one budget are independent; what is shared (one gain in gross and idle, say) enters as
one component whose sensitivity already holds the correlation. The interval comes from propagating their
distributions (GUM Supplement 1); the interval of first order, by Student's t, is kept beside it.

One thing is not done as Supplement 1 has it. It gives each input that was observed a few times a Student's t of its
own, and a sum of several such t holds the truth more often than it says: two of two degrees of freedom each in 99 % of
cases instead of 95 %. So all that have finite degrees of freedom become one t first, by Welch-Satterthwaite
(GUM G.4.1), and that one is propagated with the rest.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Literal

from calibration import propagation

COVERAGE_PROBABILITY = 0.95

Distribution = Literal["normal", "rectangular", "t"]


@dataclass(frozen=True)
class Component:
    """One line of a budget.

    `u_input` is the standard uncertainty of the input in `unit`, `sensitivity` the derivative of the
    result with respect to it, `dof` the degrees of freedom behind `u_input` (inf for a limit that is
    taken as known, GUM G.4.2). Finite ones make a normal component a Student's t (GUM Supplement 1, 6.4.9).
    """

    name: str
    u_input: float
    sensitivity: float
    unit: str
    dof: float = math.inf
    distribution: Distribution = "normal"

    @property
    def u(self) -> float:
        """Contribution to the result's standard uncertainty, in the result's unit."""
        return abs(self.sensitivity * self.u_input)


def limit(name: str, half_width: float, sensitivity: float, unit: str) -> Component:
    """Make the component of a limit +-half_width within which any value is as likely (GUM 4.3.7)."""
    return Component(name, half_width / math.sqrt(3.0), sensitivity, unit, distribution="rectangular")


@dataclass(frozen=True)
class Budget:
    """A result, its unit and the components of its uncertainty."""

    quantity: str
    value: float
    unit: str
    components: tuple[Component, ...]

    @property
    def u(self) -> float:
        """Combined standard uncertainty: root of the sum of squares (GUM 5.1.2)."""
        return math.sqrt(math.fsum(c.u**2 for c in self.components))

    @property
    def dof(self) -> float:
        """Effective degrees of freedom by Welch-Satterthwaite (GUM G.4.1)."""
        return effective_dof(self.components)

    def coverage_factor(self, probability: float = COVERAGE_PROBABILITY) -> float:
        """Factor k of the interval of first order: Student's t for the effective dof."""
        return student_t(probability, self.dof)

    def first_order(self, probability: float = COVERAGE_PROBABILITY) -> float:
        """Half-width k u of the interval of first order, which takes the sum for a t (GUM G.4)."""
        return self.coverage_factor(probability) * self.u

    def expanded(self, probability: float = COVERAGE_PROBABILITY) -> float:
        """Half-width U of the interval that holds `probability`, in the result's unit, by propagating distributions."""
        return self.interval_of(self.components, probability)

    @staticmethod
    def interval_of(components: Iterable[Component], probability: float = COVERAGE_PROBABILITY) -> float:
        """Half-width of the interval of the sum of some components alone."""
        return propagation.half_width(independent_errors(components), probability)

    def share(self, component: Component) -> float:
        """Share of one component in the combined variance, 0 to 1."""
        return (component.u / self.u) ** 2 if self.u > 0 else 0.0

    def as_dict(self) -> dict[str, Any]:
        """The whole budget as plain values; infinite degrees of freedom are None."""
        return {
            "quantity": self.quantity,
            "value": self.value,
            "unit": self.unit,
            "u": self.u,
            "dof": _finite(self.dof),
            "coverage_probability": COVERAGE_PROBABILITY,
            "expanded_u": self.expanded(),
            "first_order": {"k": self.coverage_factor(), "expanded_u": self.first_order()},
            "components": [
                {
                    "name": c.name,
                    "u_input": c.u_input,
                    "unit": c.unit,
                    "sensitivity": c.sensitivity,
                    "u": c.u,
                    "dof": _finite(c.dof),
                    "distribution": c.distribution,
                    "share": self.share(c),
                }
                for c in sorted(self.components, key=lambda c: -c.u)
            ],
        }


def _finite(dof: float) -> float | None:
    return None if math.isinf(dof) else dof


def student_t(probability: float, dof: float) -> float:
    """Two-sided quantile of Student's t; dof may be fractional or infinite, at least 1."""
    if not 0 < probability < 1:
        raise ValueError(f"a coverage probability lies between 0 and 1, got {probability:g}")
    if dof < 1:
        raise ValueError(f"a t interval needs at least one degree of freedom, got {dof:g}")
    from scipy.special import ndtri, stdtrit

    tail = (1 + probability) / 2
    return float(ndtri(tail) if math.isinf(dof) else stdtrit(dof, tail))


def effective_dof(components: Iterable[Component]) -> float:
    """Degrees of freedom of a sum by Welch-Satterthwaite (GUM G.4.1)."""
    components = tuple(components)
    u = math.sqrt(math.fsum(c.u**2 for c in components))
    finite = [c for c in components if c.u > 0 and math.isfinite(c.dof)]
    spread = math.fsum((c.u / u) ** 4 / c.dof for c in finite)
    # Rounding must not take the result below its least component, where no t interval exists.
    return math.inf if spread == 0 else max(1 / spread, min(c.dof for c in finite))


def independent_errors(components: Iterable[Component]) -> list[propagation.Part]:
    """What is propagated: limits and normal errors as they are, those of finite degrees of freedom as one t."""
    components = tuple(c for c in components if c.u > 0)
    kept: list[propagation.Part] = [(c.distribution, c.u, c.dof) for c in components if not _is_t(c)]
    few = [c for c in components if _is_t(c)]
    if not few:
        return kept
    return [*kept, ("t", math.sqrt(math.fsum(c.u**2 for c in few)), effective_dof(few))]


def _is_t(component: Component) -> bool:
    return component.distribution != "rectangular" and math.isfinite(component.dof)


def without_zero(components: Iterable[Component]) -> tuple[Component, ...]:
    """Drop components that contribute nothing, so that a table shows only what matters."""
    return tuple(c for c in components if c.u > 0)
