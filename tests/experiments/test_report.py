"""Text of results: as many digits as the uncertainty allows, and nothing that looks known when it is not."""

from __future__ import annotations

import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from experiments.figures.style import LEAST_TICKS, log_ticks
from experiments.report import plain_table, with_uncertainty


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
