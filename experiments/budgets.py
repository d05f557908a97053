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


def budget_lines(budget: Budget, factor: float = 1.0, unit: str | None = None) -> list[list[str]]:
    """One budget as rows of text: component, input's u, sensitivity, contribution, dof, distribution, share.

    The last rows are the combined u, the half-width U of the interval by propagating distributions, and beside it
    that of first order.
    """
    shown = unit or budget.unit
    lines = [["component", "u of the input", "sensitivity", f"contribution [{shown}]", "dof", "distribution", "share"]]
    for c in sorted(budget.components, key=lambda c: -c.u):
        lines.append(
            [
                c.name,
                f"{c.u_input:.3g} {'' if c.unit == '1' else c.unit}".strip(),
                f"{c.sensitivity:.3g}",
                f"{c.u * factor:.3g}",
                _dof(c.dof, 0),
                c.distribution,
                f"{budget.share(c) * 100:.1f} %",
            ]
        )
    lines.append(["combined", "", "", f"{budget.u * factor:.3g}", _dof(budget.dof, 1), "", "100 %"])
    lines.append(["U (95 %), distributions propagated", "", "", f"{budget.expanded() * factor:.4g}", "", "", ""])
    k = f"U (95 %), first order, k = {budget.coverage_factor():.3g}"
    lines.append([k, "", "", f"{budget.first_order() * factor:.4g}", "", "", ""])
    return lines


def _dof(dof: float, digits: int) -> str:
    return "∞" if math.isinf(dof) else f"{dof:.{digits}f}"


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
