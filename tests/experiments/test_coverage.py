"""The stated intervals against many simulated sweeps with errors from their stated distributions, in short.

`python -m benchmarks.coverage` is the long form. Seeds are fixed: these tests give the same figures every time.
"""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

from benchmarks.coverage import check

SWEEPS = 80

pytestmark = pytest.mark.timeout(600)  # a loaded machine is slow


def test_the_intervals_hold_the_truth_as_often_as_they_say_and_every_component_is_as_large() -> None:
    found = check(SWEEPS, 1, by_source=15, processes=1)
    # 95 % of 80 sweeps scatter by 2.4 %; far above is wrong too.
    for coverage in (found["coverage"], found["coverage_net"]):
        assert 0.90 <= coverage <= 0.995
    assert abs(found["bias"]) < 1e-3 + 3 * 0.004 / SWEEPS**0.5
    assert found["relative_u_of_power_at_0.8_a"]["largest"] < 0.01
    assert found["median_relative_u"] < 0.01
    for source, sides in found["by_component"].items():
        for side in sides.values():
            if side["ratio"] is not None and "quantisation" not in source:  # a limit, not what rounding did
                assert 0.55 < side["ratio"] < 1.5, source
                assert side["coverage"] >= 0.8, source


def test_without_calibration_the_budget_says_three_percent_and_still_covers() -> None:
    found = check(20, 2, calibrated=False, by_source=0, processes=1)
    assert found["median_relative_u"] > 0.03
    assert min(found["coverage"], found["coverage_net"]) >= 0.85


def test_the_command_gives_the_same_for_any_number_of_processes() -> None:
    command = [
        sys.executable,
        "-m",
        "benchmarks.coverage",
        "--sweeps",
        "3",
        "--seed",
        "3",
        "--by-source",
        "1",
        "--json",
    ]
    answer = subprocess.run([*command, "--processes", "2"], capture_output=True, check=True).stdout
    found = json.loads(answer)
    assert found == check(3, 3, by_source=1, processes=1)
    assert {"coverage", "coverage_net", "bias", "median_relative_u", "sweeps"} <= set(found)
