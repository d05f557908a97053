"""The uncertainty budgets of a run's results: as rows of text for a reader, and as budgets.json for programs."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from typing import Any

from calibration.budget import Budget
from experiments.components import QUANTITIES
from experiments.outcome import Outcome, source_text
from instruments.plain_text import one_line

FILE = "budgets.json"

LEAST_SHARE = 0.0005
"""Of the variance: below it a component has no row of its own in a table, as it has in budgets.json."""


def budget_lines(budget: Budget, factor: float = 1.0, unit: str | None = None) -> list[list[str]]:
    """One budget as rows of text: component, input's u, sensitivity, contribution, dof, distribution, share.

    Components of less than 0.05 % of the variance share a row: no share is shown as 0. The last rows are the combined
    u, the half-width U of the interval by propagating distributions, and beside it that of first order.
    """
    shown = unit or budget.unit
    lines = [["component", "u of the input", "sensitivity", f"contribution [{shown}]", "dof", "distribution", "share"]]
    small = [c for c in budget.components if budget.share(c) < LEAST_SHARE]
    small = small if len(small) > 1 else []
    for c in sorted((c for c in budget.components if c not in small), key=lambda c: -c.u):
        lines.append(
            [
                c.name,
                f"{c.u_input:.3g} {'' if c.unit == '1' else c.unit}".strip(),
                f"{c.sensitivity:.3g}",
                f"{c.u * factor:.3g}",
                _dof(c.dof),
                c.distribution,
                _share(budget.share(c)),
            ]
        )
    if small:
        together = math.sqrt(math.fsum(c.u**2 for c in small))
        share = math.fsum(budget.share(c) for c in small)
        lines.append([f"{len(small)} others", "", "", f"{together * factor:.3g}", "", "", _share(share)])
    lines.append(["combined", "", "", f"{budget.u * factor:.3g}", _dof(budget.dof), "", "100 %"])
    lines.append(["U (95 %), distributions propagated", "", "", f"{budget.expanded() * factor:.4g}", "", "", ""])
    k = f"U (95 %), first order, k = {budget.coverage_factor():.3g}"
    lines.append([k, "", "", f"{budget.first_order() * factor:.4g}", "", "", ""])
    return lines


def _share(share: float) -> str:
    return f"{share * 100:.1f} %" if share >= LEAST_SHARE else "< 0.1 %"


def _dof(dof: float) -> str:
    """Degrees of freedom to three digits, or the whole number; those of long records as 1.5e5."""
    if math.isinf(dof):
        return "∞"
    if dof < 9999.5:
        return f"{dof:.3g}" if dof < 999.5 else f"{dof:.0f}"
    mantissa, _, exponent = f"{dof:.1e}".partition("e")
    return f"{mantissa}e{int(exponent)}"


def budgets_text(outcome: Outcome, align: Any) -> str:
    """Every quantity's budget of every row, each under a line with its value; `align` makes rows a table."""
    parts = []
    for row in outcome.rows:
        if row is None:
            continue
        for quantity in QUANTITIES:
            b: Budget = getattr(row, quantity)
            title = (
                f"{one_line(row.network)}, batch {row.batch}: {quantity} = {b.value:.6g} ± {b.expanded():.2g} {b.unit}"
            )
            lines: Sequence[Sequence[str]] = budget_lines(b)
            parts.append(f"{title}\n{align(lines)}\n")
    return "\n".join(parts)


def budgets_json(outcome: Outcome, *, replayed: bool = False) -> str:
    """budgets.json: a list with one object for each row and quantity; what is infinite is null."""
    source = source_text(outcome, replayed)
    found = [
        {"network": row.network, "batch": row.batch, "repeats": row.repeats, "source": source}
        | getattr(row, quantity).as_dict()
        for row in outcome.rows
        if row is not None
        for quantity in QUANTITIES
    ]
    return json.dumps(found, indent=1, allow_nan=False) + "\n"
