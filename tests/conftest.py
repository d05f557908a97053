"""For all tests: the same examples on every machine, and the longest files first.

`HYPOTHESIS_PROFILE=default` looks for examples that nobody has tried.
"""

from __future__ import annotations

import os

import pytest
from hypothesis import settings

settings.register_profile("same", derandomize=True, database=None, deadline=None, print_blob=True)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "same"))

LONG = (
    "experiments/test_sweep_failures.py",
    "docs/test_commands.py",
    "experiments/test_resume.py",
    "experiments/test_power_sweep.py",
    "experiments/test_long_sweeps.py",
    "experiments/test_sweep_ways_out.py",
    "experiments/test_other_benches.py",
    "experiments/test_coverage.py",
    "experiments/test_simulated_sweep.py",
    "experiments/test_findings_sweeps.py",
    "experiments/test_figures.py",
    "experiments/test_scope_in_a_sweep.py",
    "experiments/test_streams_and_disks.py",
    "calibration/test_commands.py",
    "experiments/test_compare.py",
    "experiments/test_check_bench.py",
    "faults/test_sweeps.py",
    "experiments/test_dut_over_ssh.py",
    "experiments/test_outcomes.py",
    "experiments/test_gain_check.py",
    "strangers/test_scope.py",
    "strangers/test_supply.py",
)
"""The files that take longest, by `pytest --durations=0`."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Sort the files, so that no worker is left alone with a long one at the end; leave the order within each."""
    place = {name: k for k, name in enumerate(LONG)}
    items.sort(key=lambda item: place.get(item.nodeid.partition("::")[0].removeprefix("tests/"), len(LONG)))
