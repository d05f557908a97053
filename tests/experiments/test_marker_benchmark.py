"""The benchmark of marker lines: its figures come out whole, and its verdict follows from its own controls."""

from __future__ import annotations

import json

import pytest

from benchmarks import markers
from benchmarks.markers import DELAY_S, Difference


def test_the_figures_are_told_with_their_verdict(capsys: pytest.CaptureFixture[str]) -> None:
    code = markers.main(["--json", "--quadruples", "6", "--batches", "20"])
    found = json.loads(capsys.readouterr().out)
    assert [pair["line"] for pair in found["pairs"]] == ["simulated", "shared memory"]
    assert all(0 < pair["least_s"] <= pair["median_s"] < 1e-3 for pair in found["pairs"])
    assert [d["name"] for d in found["differences"]] == ["A with A", "markers", "100 µs"]
    assert all(d["low_s"] <= d["median_s"] <= d["high_s"] for d in found["differences"])
    assert code == (0 if found["good"] else 1)
    assert markers.main(["--marker", "led"]) == 2
    assert "is not understood" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("low_s", "high_s", "expected_s", "good"),
    [
        (-2e-6, 3e-6, 0.0, True),
        (5e-6, 9e-6, 0.0, False),  # a null that is not one
        (90e-6, 120e-6, DELAY_S, True),
        (100.4e-6, 101e-6, DELAY_S, True),  # the delay's own calls
        (-50e-6, 300e-6, DELAY_S, False),  # cannot tell it from nothing
        (10e-6, 60e-6, DELAY_S, False),
        (-1.0, 1.0, None, True),
    ],
)
def test_a_control_holds_its_answer_and_no_other(
    low_s: float, high_s: float, expected_s: float | None, good: bool
) -> None:
    assert Difference("d", (low_s + high_s) / 2, low_s, high_s, 40, expected_s).good is good
