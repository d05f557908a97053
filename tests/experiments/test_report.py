"""Text of results: as many digits as the uncertainty allows, and nothing that looks known when it is not."""

from __future__ import annotations

import math
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from experiments.figures.style import LEAST_TICKS, log_ticks
from experiments.outcome import Rejected
from experiments.report import plain_table, with_uncertainty
from experiments.report.text import truth, without_result


@pytest.mark.parametrize(
    ("value", "half", "text"),
    [
        (12.3456, 0.567, "12.35 ± 0.57"),
        (0.0123456, 0.00012, "0.01235 ± 0.00012"),
        (1803.2, 14.2, "1803 ± 14"),
        (829.0, 2226.0, "829 ± 2226"),
        (11.951, 0.0951, "11.951 ± 0.095"),
        (1.0, 0.0, "1"),
        (math.nan, 1.0, "unknown"),
        (1.0, math.nan, "unknown"),
    ],
)
def test_digits_follow_the_uncertainty(value: float, half: float, text: str) -> None:
    assert with_uncertainty(value, half) == text


@pytest.mark.parametrize(
    ("half_j", "truth_j", "said"),
    [(10.426, 10.06123, "10061"), (0.0022, 0.32186, "321.9"), (0.0, 0.01234, "12.34"), (math.inf, 0.01234, "12.34")],
)
def test_the_truth_is_written_like_the_result_beside_it(half_j: float, truth_j: float, said: str) -> None:
    row: Any = SimpleNamespace(
        energy_per_image_j=SimpleNamespace(expanded=lambda: half_j), true_energy_per_image_j=truth_j
    )
    assert truth(row) == said


def test_columns_line_up() -> None:
    lines = plain_table([["a", "bb"], ["ccc", "d"]]).splitlines()
    assert lines == ["a    bb", "ccc  d"]


@settings(deadline=None)
@given(st.floats(1e-6, 1e6), st.floats(1.02, 1e6))
def test_a_logarithmic_axis_can_be_read_however_short_it_is(low: float, ratio: float) -> None:
    ticks = log_ticks(low, low * ratio)
    assert LEAST_TICKS - 1 <= len(ticks) <= 24
    assert ticks == sorted(set(ticks))
    assert low * 0.999 <= ticks[0] < ticks[-1] <= low * ratio * 1.001


def test_repeats_of_a_cell_that_failed_alike_share_a_line_which_says_it_once() -> None:
    full = [("a batch 64 repeat 1", "9 GB"), ("b batch 2 repeat 1", "8 GB"), ("a batch 64 repeat 3", "9 GB")]
    rejected: list[Any] = [Rejected(k, f"the DUT refuses it: out of memory: {v}", "out of memory") for k, v in full]
    rejected += [Rejected("c batch 1 repeat 2", "no gate"), Rejected("c batch 1 repeat 3", "two gates")]
    outcome: Any = SimpleNamespace(rejected=tuple(rejected))
    assert without_result(outcome) == [
        "a batch 64 repeats 1, 3: the DUT refuses it: out of memory: 9 GB",
        "b batch 2 repeat 1: the DUT refuses it: out of memory: 8 GB",
        "c batch 1 repeat 2: rejected: no gate",
        "c batch 1 repeat 3: rejected: two gates",
    ]
