"""Propagated intervals against closed forms, the examples of GUM Supplement 1, GTC and brute-force drawing."""

from __future__ import annotations

import math
import time

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from calibration.budget import Budget, Component, limit
from calibration.propagation import Part, half_width

INF = math.inf
NORMAL: Part = ("normal", 1.0, INF)
LIMIT: Part = ("rectangular", 1.0, INF)


@pytest.mark.parametrize(
    ("parts", "half"),
    [
        ([NORMAL] * 4, 3.92),  # JCGM 101:2008, 9.2.2, table 2
        ([LIMIT] * 4, 3.88),  # 9.2.3, table 3: where the interval of first order says 3.92
        ([LIMIT] * 3 + [("rectangular", 10.0, INF)], 17.0),  # 9.2.4, table 4: first order says 19.9
    ],
)
def test_the_additive_examples_of_jcgm_101(parts: list[Part], half: float) -> None:
    assert half_width(parts, 0.95) == pytest.approx(half, abs=0.02)


def test_the_gauge_block_of_jcgm_101() -> None:
    # JCGM 101:2008, 9.5.4, table 11: 99 % interval 745 nm to 932 nm (first order: 746 to 931). Second-order terms of
    # the products enter as inputs of their own: u(theta) of 0.41 deg C times delta alpha, and the other way about.
    nm = (
        ("t", 25.0, 18.0),
        ("t", 6.0, 24.0),
        ("t", 4.0, 5.0),
        ("t", 7.0, 8.0),
        ("normal", 0.05 * 0.42 * 0.58e-6 * 1e9, INF),
        ("rectangular", 0.05 * 11.5e-6 * 0.029 * 1e9, INF),
    )
    assert half_width(nm, 0.99) == pytest.approx((932 - 745) / 2, rel=0.02)


@pytest.mark.parametrize("share", [0.01, 0.1, 0.3, 0.999])
@pytest.mark.parametrize("probability", [0.9, 0.95, 0.99])
def test_two_limits_make_a_trapezoid(share: float, probability: float) -> None:
    top = 1 + share
    exact = top - math.sqrt(4 * share * (1 - probability))
    if exact < 1 - share:
        exact = probability  # on the trapezoid's flat top, of height 1/2
    parts: list[Part] = [("rectangular", a / math.sqrt(3), INF) for a in (1.0, share)]
    assert half_width(parts, probability) == pytest.approx(exact, rel=2e-5 if share > 0.1 else 2e-4)


@pytest.mark.parametrize("dof", [1, 1.5, 2, 3, 4.7, 12, 60, 99.9, 100.1, 400, 1e5])
@pytest.mark.parametrize("probability", [0.5, 0.95, 0.997])
def test_one_t_is_students(dof: float, probability: float) -> None:
    exact = float(stats.t.ppf((1 + probability) / 2, dof))
    for kind in ("t", "normal"):  # a normal error of few observations is a t
        assert half_width([(kind, 2.0, dof)], probability) == pytest.approx(2 * exact, rel=3e-5)


def test_two_cauchys_add_their_widths() -> None:
    assert half_width([("t", 1.0, 1.0), ("t", 3.0, 1.0)], 0.95) == pytest.approx(4 * 12.7062, rel=1e-5)


def kinds() -> st.SearchStrategy[Part]:
    u = st.floats(1e-3, 1e3)
    dof = st.one_of(st.just(INF), st.floats(1, 200))
    return st.one_of(
        st.tuples(st.just("rectangular"), u, st.just(INF)), st.tuples(st.sampled_from(["normal", "t"]), u, dof)
    )


@settings(max_examples=40, deadline=None)
@given(st.lists(kinds(), min_size=1, max_size=6), st.floats(1e-6, 1e6))
def test_order_and_unit_do_not_matter_and_more_is_never_less(parts: list[Part], unit: float) -> None:
    half = half_width(parts, 0.95)
    assert half_width(parts[::-1], 0.95) == pytest.approx(half, rel=1e-5)
    assert half_width([(k, u * unit, d) for k, u, d in parts], 0.95) == pytest.approx(half * unit, rel=1e-5)
    assert half_width([*parts, LIMIT], 0.95) >= half * (1 - 2e-5)
    assert half <= sum(half_width([p], 0.9999) for p in parts)
    assert half >= max(half_width([p], 0.95) for p in parts) * (1 - 1e-4)


@settings(max_examples=6, deadline=None)
@given(st.lists(kinds(), min_size=2, max_size=5), st.integers(0, 1000))
def test_drawing_the_errors_gives_the_same(parts: list[Part], seed: int) -> None:
    rng, n = np.random.default_rng(seed), 200_000
    total = np.zeros(n)
    for kind, u, dof in parts:
        if kind == "rectangular":
            total += u * math.sqrt(3) * rng.uniform(-1, 1, n)
        else:
            total += u * (rng.standard_normal(n) if math.isinf(dof) else rng.standard_t(dof, n))
    inside = float(np.mean(np.abs(total) <= half_width(parts, 0.95)))
    assert inside == pytest.approx(0.95, abs=5 * math.sqrt(0.95 * 0.05 / n))


def test_the_same_budget_gives_the_same_bits_and_costs_little() -> None:
    from calibration import propagation

    parts: list[Part] = [
        ("rectangular", 3.7e-3, INF), ("t", 2e-4, 4.0), ("rectangular", 6e-4, INF), ("normal", 7e-4, INF),
        ("t", 1e-3, 2.0), ("t", 1e-4, 78.0), ("rectangular", 1e-4, INF),
    ]  # fmt: skip
    first = half_width(parts, 0.95)
    begun_s = time.thread_time()
    for _ in range(50):
        propagation._quantile.cache_clear()
        assert half_width(parts, 0.95) == first
    assert (time.thread_time() - begun_s) / 50 < 2e-3


@pytest.mark.parametrize(
    ("parts", "probability", "reason"),
    [
        ([NORMAL], 1.0, "between 0 and 1"),
        ([("round", 1.0, INF)], 0.95, "not 'round'"),
        ([("normal", math.nan, INF)], 0.95, "a number of at least 0"),
        ([("t", 1.0, 0.5)], 0.95, "one degree of freedom"),
    ],
)
def test_what_makes_no_sense_is_refused(parts: list[Part], probability: float, reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        half_width(parts, probability)


def test_nothing_unknown_is_no_interval() -> None:
    assert half_width([], 0.95) == 0.0
    assert half_width([("normal", 0.0, INF)], 0.95) == 0.0


def test_a_limit_that_dominates_has_a_narrower_interval_than_first_order_claims() -> None:
    budget = Budget("q", 1.0, "1", (limit("specification", 1.0, 1.0, "1"), Component("noise", 0.01, 1.0, "1")))
    assert budget.expanded() == pytest.approx(0.95, abs=1e-3)
    assert budget.first_order() == pytest.approx(1.13, abs=0.01)
    assert sum(budget.share(c) for c in budget.components) == pytest.approx(1.0)


def test_first_order_agrees_with_gtc() -> None:
    gtc = pytest.importorskip("GTC")
    lines = [(2.0, 0.03, 4.0, 3.0), (5.0, 0.1, INF, -1.5), (1.0, 0.02, 9.0, 7.0), (3.0, 0.2, 2.0, 0.4)]
    inputs = [gtc.ureal(x, u, df=dof) for x, u, dof, _ in lines]
    total = sum(c * x for x, (*_, c) in zip(inputs, lines, strict=True))
    budget = Budget("q", total.x, "1", tuple(Component(str(k), u, c, "1", d) for k, (_, u, d, c) in enumerate(lines)))
    assert budget.u == pytest.approx(total.u, rel=1e-12)
    assert budget.dof == pytest.approx(total.df, rel=1e-12)
    assert budget.first_order() == pytest.approx(gtc.reporting.k_factor(total.df) * total.u, rel=1e-5)


def test_correlated_inputs_of_gum_h2_as_one_component_each() -> None:
    # JCGM 100:2008, H.2: five simultaneous readings of V, I and phi; correlated inputs become one component when the
    # sensitivities are applied to each set first (H.2.4, approach 2): R = 127.732 +- 0.071, X = 219.847 +- 0.295.
    gtc = pytest.importorskip("GTC")
    volts = np.array([5.007, 4.994, 5.005, 4.990, 4.999])
    amps = np.array([19.663, 19.639, 19.640, 19.685, 19.678]) * 1e-3
    phi = np.array([1.0456, 1.0438, 1.0468, 1.0428, 1.0433])
    v, i, p = gtc.type_a.multi_estimate_real([volts, amps, phi])
    for function, published in ((np.cos, (127.732, 0.071)), (np.sin, (219.847, 0.295))):
        each = volts / amps * function(phi)
        budget = Budget("R", float(each.mean()), "ohm", (Component("all", each.std(ddof=1) / 5**0.5, 1.0, "ohm", 4),))
        assert (budget.value, budget.u) == pytest.approx(published, abs=2e-3)
        whole = v / i * (gtc.cos(p) if function is np.cos else gtc.sin(p))
        assert budget.u == pytest.approx(whole.u, rel=0.01)
        assert budget.first_order() == pytest.approx(2.776 * whole.u, rel=0.01)
