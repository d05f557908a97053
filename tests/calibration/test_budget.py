"""The budget against published figures: GUM H.1 (end gauge) and G.4.1."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from calibration.budget import Budget, Component, limit, student_t, without_zero


def test_the_end_gauge_of_gum_h1() -> None:
    # JCGM 100:2008, table H.1 and H.1.6: u_c = 32 nm, 16 effective dof, U99 = 93 nm.
    nm = 1e-9
    budget = Budget(
        "length",
        0.05,
        "m",
        (
            Component("calibration of the standard", 25 * nm, 1.0, "m", 18),
            Component("difference, repeats", 5.8 * nm, 1.0, "m", 24),
            Component("comparator, random", 3.9 * nm, 1.0, "m", 5),
            Component("comparator, systematic", 6.7 * nm, 1.0, "m", 8),
            Component("difference of expansion coefficients", 0.58e-6, 0.05 * 0.1, "1/K", 50),
            Component("difference of temperatures", 0.029, 0.05 * 11.5e-6, "K", 2),
        ),
    )
    assert budget.u / nm == pytest.approx(31.7, abs=0.1)
    assert math.floor(budget.dof) == 16
    assert budget.first_order(0.99) / nm == pytest.approx(93, abs=1)


@pytest.mark.parametrize(
    ("dof", "t"), [(1, 12.706), (2, 4.303), (4, 2.776), (10, 2.228), (50, 2.009), (math.inf, 1.960)]
)
def test_student_t_of_gum_table_g2(dof: float, t: float) -> None:
    assert student_t(0.95, dof) == pytest.approx(t, abs=0.001)


@pytest.mark.parametrize(("probability", "dof"), [(0.0, 5), (1.0, 5), (0.95, 0.5)])
def test_a_meaningless_interval_is_refused(probability: float, dof: float) -> None:
    with pytest.raises(ValueError, match=r"needs|lies"):
        student_t(probability, dof)


def test_a_limit_is_rectangular() -> None:
    c = limit("spec", 3.0, -2.0, "V")
    assert c.u == pytest.approx(2 * 3 / math.sqrt(3))
    assert c.distribution == "rectangular"


@given(st.lists(st.tuples(st.floats(0, 1e3), st.floats(-1e3, 1e3), st.integers(1, 100)), min_size=1, max_size=8))
def test_dof_lie_between_the_least_and_the_sum(lines: list[tuple[float, float, int]]) -> None:
    parts = without_zero(Component("x", u, c, "1", n) for u, c, n in lines)
    budget = Budget("q", 1.0, "1", parts)
    if budget.u > 1e-100:
        assert budget.dof >= min(c.dof for c in parts) * (1 - 1e-9)
        assert budget.dof <= sum(c.dof for c in parts) * (1 + 1e-9)
        assert budget.u >= max(c.u for c in parts) * (1 - 1e-12)


def test_one_dominant_component_keeps_its_degrees_of_freedom() -> None:
    for scale in (1.0, 1e-9, 3.7e5):
        budget = Budget(
            "q", 1.0, "1", (Component("repeats", scale, 1.0, "1", 1.0), Component("x", 1e-12 * scale, 1.0, "1"))
        )
        assert budget.dof == pytest.approx(1.0)
        assert budget.expanded() == pytest.approx(12.706 * scale, rel=1e-3)
