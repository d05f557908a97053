"""How far rows of two runs differ, with what uncertainty, and what that proves. Pure.

The difference is B minus A. An error that both runs have in common, such as that of the supply's read-back against
which both were calibrated, enters with the difference of the two sensitivities: between like powers it cancels.
Everything else is independent. The distribution of the difference comes from propagating those of its components (GUM
Supplement 1), and so do both tests: that of no difference, and the two one-sided ones (TOST) of a difference beyond
the margin. Over the rows of one quantity their p-values are corrected by Holm's method, which needs no independence.

Three repeats of a row say little about their own scatter. Where the rows' relative scatters are alike (Bartlett's
test), all rows of both runs are taken together for it (GUM 4.2.4), else each row stands for itself; so does a row whose
repeats are flagged for their scatter, since they would tell of a disturbance and not of the others.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

from calibration import propagation
from calibration.budget import COVERAGE_PROBABILITY, Budget, Component, independent_errors, student_t
from calibration.model import Calibration, Gain
from experiments.comparison.context import Shared
from experiments.comparison.sides import QUANTITIES, TABLE, Key, Row, Side

Verdict = Literal["equivalent", "different", "inconclusive"]

LEVEL = 0.05
"""Chance at which a row may be called equivalent or different by mistake, in the whole table."""

REPEATABILITY = "repeatability"
OF_BOTH = "A and B: repeatability"
"""The scatter of a difference's repeats where all rows are taken together for it."""
SPREAD = "spread"
"""The flag of a row whose repeats scatter by more than a cause that held still explains."""

ALIKE = 0.05
"""p of Bartlett's test below which the rows' scatters are not alike."""

COMMON = {
    "current at output off": "board",
    "current linearity": "probe",
    "timebase": "scope",
    "marker delay at the rise": "board",
    "marker delay at the fall": "board",
    "current gain, reference of its calibration": "records",
    "voltage gain, reference of its calibration": "records",
}
"""Components that are one unknown constant, not a new error in each run, and what two runs must share for that."""

REFERENCES = ("current gain, reference", "voltage gain, reference")
"""Components from the limits of the supply's read-back."""


@dataclass(frozen=True)
class Welch:
    """Welch's test of the repeats alone: t, its degrees of freedom, p, and p after Holm's correction."""

    t: float
    dof: float
    p: float
    p_holm: float = math.nan


@dataclass(frozen=True)
class Scatter:
    """Relative standard deviation of repeats over many rows, with its degrees of freedom."""

    relative: float
    dof: float

    def of(self, row: Row, budget: Budget) -> Budget:
        """The budget of a row with this for the scatter of its repeats."""
        u = self.relative * abs(budget.value) / math.sqrt(max(row.repeats, 1))
        others = [c for c in budget.components if c.name != REPEATABILITY]
        own = Component(REPEATABILITY, u, 1.0, budget.unit, self.dof, "t")
        return replace(budget, components=(*others, own))

    def once(self, difference: Budget) -> Budget:
        """The budget of a difference with this as the one estimate that it is for both sides.

        As two errors they would count for twice the degrees of freedom (GUM G.4.1 is of independent ones).
        """
        both = [c for c in difference.components if c.name in (f"A: {REPEATABILITY}", f"B: {REPEATABILITY}")]
        u = math.hypot(*(c.u for c in both))
        own = Component(OF_BOTH, u, 1.0, difference.unit, self.dof, "t")
        others = [c for c in difference.components if c not in both]
        return replace(difference, components=(*others, own) if u > 0 else tuple(others))


@dataclass(frozen=True)
class Compared:
    """One quantity of one row: the difference B minus A with its budget, the tests, and the verdict.

    `p_different` is that of no difference, `p_equivalent` that of one beyond the margin, both after Holm's correction.
    """

    a: Budget
    b: Budget
    difference: Budget
    margin: float
    p_different: float
    p_equivalent: float
    welch: Welch | None
    scatter: Scatter | None = None
    verdict: Verdict = "inconclusive"

    @property
    def relative(self) -> float:
        """Difference relative to A."""
        return self.difference.value / self.a.value

    def as_dict(self) -> dict[str, Any]:
        """Plain values."""
        d = self.difference
        return {
            "a": self.a.value,
            "a_u": self.a.expanded(),
            "b": self.b.value,
            "b_u": self.b.expanded(),
            "difference": d.value,
            "difference_u": d.expanded(),
            "relative": self.relative,
            "relative_u": d.expanded() / abs(self.a.value),
            "unit": d.unit,
            "p_different": self.p_different,
            "p_equivalent": self.p_equivalent,
            "welch": vars(self.welch) if self.welch else None,
            "scatter_of_all_rows": vars(self.scatter) if self.scatter else None,
            "verdict": self.verdict,
            "components": d.as_dict()["components"],
        }


@dataclass(frozen=True)
class ComparedRow:
    """One network and batch of both runs."""

    network: str
    batch: int
    repeats: tuple[int, int]
    quantities: dict[str, Compared]
    flags: tuple[str, ...]

    @property
    def verdict(self) -> Verdict:
        """That of the energy per image."""
        return self.quantities["energy_per_image_j"].verdict


def compare(a: Side, b: Side, shared: Shared, margin: float) -> list[ComparedRow]:
    """Compare every row that both have a result for; `margin` is relative to A."""
    keys = [key for key in a.rows if key in b.rows]
    columns = {name: _column(name, keys, a, b, shared, margin) for name in QUANTITIES}
    return [
        ComparedRow(
            *key,
            (a.rows[key].repeats, b.rows[key].repeats),
            {name: column[k] for name, column in columns.items()},
            tuple(dict.fromkeys((*a.rows[key].flags, *b.rows[key].flags))),
        )
        for k, key in enumerate(keys)
    ]


def _column(name: str, keys: Sequence[Key], a: Side, b: Side, shared: Shared, margin: float) -> list[Compared]:
    """Compare one quantity in all rows, and correct for their number."""
    found = []
    pooled = scatter(name, [row for side in (a, b) for key in keys if SPREAD not in (row := side.rows[key]).flags])
    for key in keys:
        left, right = a.rows[key], b.rows[key]
        together = None if SPREAD in {*left.flags, *right.flags} else pooled
        if together is not None:
            left, right = _scattered(name, left, together), _scattered(name, right, together)
        d = difference(name, left, right, (a.calibration, b.calibration), shared)
        if together is not None:
            d = together.once(d)
        limit = margin * abs(left.budgets[name].value)
        may_be = _may_be(d)
        d = max(may_be[:2], key=Budget.expanded)
        within = min(probability_within(one, abs(d.value)) for one in may_be)
        p_equivalent = max(_p_equivalent(one, limit) for one in may_be)
        welch = _welch(left.values.get(name, ()), right.values.get(name, ()))
        of_both = left.budgets[name], right.budgets[name]
        found.append(Compared(*of_both, d, margin, 1 - within, p_equivalent, welch, together))
    differ, equal = _holm([c.p_different for c in found]), _holm([c.p_equivalent for c in found])
    tested = iter(_holm([c.welch.p for c in found if c.welch]))
    return [
        replace(
            c,
            p_different=p,
            p_equivalent=q,
            welch=replace(c.welch, p_holm=next(tested)) if c.welch else None,
            verdict=_verdict(p, q, min(a.rows[key].repeats, b.rows[key].repeats)),
        )
        for key, c, p, q in zip(keys, found, differ, equal, strict=True)
    ]


def _p_equivalent(difference: Budget, limit: float) -> float:
    """p of the larger of two one-sided tests that a difference lies beyond a limit."""
    beyond = probability_within(difference, abs(limit - abs(difference.value)))
    return (1 - beyond) / 2 if abs(difference.value) < limit else (1 + beyond) / 2


def _may_be(difference: Budget) -> list[Budget]:
    """The budgets that a difference may have; those of the widest 95 % interval are among the first two.

    Of a table alone the 95 % interval is known, not what it is an interval of. A limit holds 90 % of its errors within
    0.95 of it, a normal error within 0.84, a t of few degrees of freedom within less, and beyond 95 % it is the other
    way round. So errors of tables are taken as limits, as normal, and one of them as a t beside normal others (two
    would become one t, of more degrees of freedom); of all these counts the one that proves least.
    """
    open_ones = [c for c in difference.components if c.name.endswith(TABLE)]
    if not open_ones:
        return [difference]

    def of(kind: Literal["normal", "rectangular"], but: Component | None = None) -> Budget:
        parts = (c if c is but or c not in open_ones else _as(kind, c) for c in difference.components)
        return replace(difference, components=tuple(parts))

    return [of("rectangular"), of("normal"), *(of("normal", one) for one in open_ones)]


def _as(kind: Literal["normal", "rectangular"], component: Component) -> Component:
    """An error of another distribution with the same 95 % interval."""
    half_width = component.u * student_t(COVERAGE_PROBABILITY, component.dof)
    u = half_width / student_t(COVERAGE_PROBABILITY, math.inf)
    if kind == "rectangular":
        u = half_width / COVERAGE_PROBABILITY / math.sqrt(3.0)
    return replace(component, u_input=u, sensitivity=1.0, dof=math.inf, distribution=kind)


def scatter(name: str, rows: Sequence[Row]) -> Scatter | None:
    """The relative scatter of one quantity's repeats, all rows together; None where rows are unlike or too few."""
    groups = [[v / row.budgets[name].value for v in row.values.get(name, ())] for row in rows]
    if len(groups) < 2 or any(len(group) < 2 or len(set(group)) == 1 for group in groups):
        return None
    from scipy.stats import bartlett

    if bartlett(*groups).pvalue < ALIKE:
        return None
    dof = sum(len(group) - 1 for group in groups)
    squares = math.fsum((len(group) - 1) * statistics.variance(group) for group in groups)
    return Scatter(math.sqrt(squares / dof), float(dof))


def _scattered(name: str, row: Row, together: Scatter) -> Row:
    return replace(row, budgets={**row.budgets, name: together.of(row, row.budgets[name])})


def _verdict(p_different: float, p_equivalent: float, repeats: int) -> Verdict:
    if repeats < 2:  # nothing is known of the scatter
        return "inconclusive"
    if p_equivalent < LEVEL:
        return "equivalent"
    return "different" if p_different < LEVEL else "inconclusive"


def _holm(p: Sequence[float]) -> list[float]:
    """p-values for the whole family by Holm's method."""
    from statsmodels.stats.multitest import multipletests

    return [float(value) for value in multipletests(p, method="holm")[1]] if p else []


def _welch(a: Sequence[float], b: Sequence[float]) -> Welch | None:
    """Welch's test; None below two repeats, or where repeats do not scatter at all."""
    if min(len(a), len(b)) < 2 or (len(set(a)) == 1 and len(set(b)) == 1):
        return None
    from scipy.stats import ttest_ind

    found = ttest_ind(b, a, equal_var=False)
    return Welch(float(found.statistic), float(found.df), float(found.pvalue))


def probability_within(budget: Budget, half_width: float) -> float:
    """Probability that the errors of a budget add up to no more than `half_width`, either way."""
    return propagation.probability(independent_errors(budget.components), half_width)


def difference(
    name: str, a: Row, b: Row, calibrations: tuple[Calibration | None, Calibration | None], shared: Shared
) -> Budget:
    """The difference B minus A of one quantity, with the components of its uncertainty."""
    parts: list[Component] = []
    left, right = ({c.name: c for c in row.budgets[name].components} for row in (a, b))
    unit = QUANTITIES[name]
    for part in dict.fromkeys((*left, *right)):
        mine, others = left.get(part), right.get(part)
        if part in REFERENCES and shared.supply and mine and others and all(calibrations):
            gains = [getattr(c, part.partition(" ")[0]).gain for c in calibrations if c]
            if all(gain.limits is not None for gain in gains):
                parts += _of_reference(part, (mine, others), (gains[0], gains[1]), unit)
                continue
        if part in COMMON and getattr(shared, COMMON[part]):
            at = [
                _sign(part, row, c) * _signed(x) for row, c, x in zip((a, b), calibrations, (mine, others), strict=True)
            ]
            one = mine or others
            assert one is not None
            parts.append(Component(part, abs(at[1] - at[0]), 1.0, unit, one.dof, one.distribution))
            continue
        parts += [
            Component(f"{side}: {part}", abs(_signed(c)), 1.0, unit, c.dof, c.distribution)
            for side, c in (("A", mine), ("B", others))
            if c
        ]
    value = b.budgets[name].value - a.budgets[name].value
    return Budget(f"difference of {name}", value, unit, tuple(c for c in parts if c.u > 0))


def _signed(component: Component | None) -> float:
    return component.sensitivity * component.u_input if component else 0.0


def _of_reference(
    name: str, components: tuple[Component, Component], gains: tuple[Gain, Gain], unit: str
) -> Iterable[Component]:
    """What is left of the limits of one and the same read-back: its slope is one error, its offset another.

    Where both runs were compared at the same current, each acts on both results in proportion to these.
    """
    slopes, offsets, rests = [], [], []
    for component, gain in zip(components, gains, strict=True):
        whole, u = _signed(component), max(gain.u_reference, 1e-300)
        assert gain.limits is not None
        relative, absolute, _ = gain.limits
        slope = min(relative / math.sqrt(3.0), u)
        offset = min(absolute / math.sqrt(3.0) / gain.at, u - slope)
        rest = math.sqrt(max(0.0, 1.0 - ((slope + offset) / u) ** 2))
        slopes.append(whole * slope / u)
        offsets.append(whole * offset / u)
        rests.append(whole * rest)
    for what, (mine, others) in (("slope", slopes), ("offset", offsets)):
        yield Component(f"{name}, {what}", abs(others - mine), 1.0, unit, distribution="rectangular")
    for side, rest in zip("AB", rests, strict=True):
        yield Component(f"{side}: {name}, rest", abs(rest), 1.0, unit)


def _sign(name: str, row: Row, calibration: Calibration | None) -> float:
    """Which way a bow of the probe acts: up between its zero and the point of comparison, down beyond."""
    if name != "current linearity" or calibration is None:
        return 1.0
    top_a = calibration.linear_to_a or calibration.current.gain.at
    return -1.0 if row.net_amps[0] > top_a else 1.0
