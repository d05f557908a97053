"""Budgets as a reader sees them: nothing is shown as 0, nothing with more digits than it has."""

from __future__ import annotations

import math

import pytest

from calibration.budget import Budget, Component
from experiments.budgets import budget_lines


def budget(*contributions: tuple[float, float]) -> Budget:
    """Components of a contribution and degrees of freedom each."""
    parts = [Component(f"part {k}", u, 1.0, "J", dof, "t") for k, (u, dof) in enumerate(contributions)]
    return Budget("energy_per_image_j", 1.0, "J", tuple(parts))


def test_components_too_small_to_show_share_a_row_and_are_still_counted() -> None:
    told = budget((1.0, math.inf), (0.01, 3.0), (0.008, 4.0), (0.0, math.inf))
    rows = budget_lines(told)
    assert [row[0] for row in rows[1:3]] == ["part 0", "3 others"]
    assert float(rows[2][3]) == pytest.approx(math.hypot(0.01, 0.008), rel=0.01)
    assert rows[2][-1] == "< 0.1 %"
    assert not any(row[-1] == "0.0 %" for row in rows)
    alone = budget_lines(budget((1.0, math.inf), (0.01, 3.0)))
    assert [row[0] for row in alone[1:3]] == ["part 0", "part 1"]  # a single one keeps its name
    assert alone[2][-1] == "< 0.1 %"


@pytest.mark.parametrize(
    ("dof", "shown"),
    [(math.inf, "∞"), (2.0, "2"), (57.26, "57.3"), (237.1, "237"), (4321.4, "4321"), (152597.0, "1.5e5")],
)
def test_degrees_of_freedom_have_the_digits_that_count(dof: float, shown: str) -> None:
    assert budget_lines(budget((1.0, dof)))[1][4] == shown
