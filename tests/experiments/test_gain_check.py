"""The running gain check of a sweep: a clamp whose gain strays in mid-sweep and comes back before its end."""

from __future__ import annotations

import csv
from pathlib import Path

import pytest

from experiments.gain_check import DRIFTED, table
from experiments.reduction import reduce_run
from experiments.traces import TraceReader
from tests.sweeps import run, run_undrawn, virtual_lab_file

STRAYS_S, RETURNS_S = 20.0, 34.0
"""When, after the bench was opened, the gain gets 1 % too high, and when it is right again."""

WORLD = "  world: {probe_gain_change: [[20, 0], [20.01, 0.01], [34, 0.01], [34.01, 0]]}\n"
RUN_S = 2.5
"""A cell takes no longer from being armed to its record's end."""


@pytest.fixture(scope="module")
def sweep(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """A sweep with the check: its folder, and what it printed."""
    folder = tmp_path_factory.mktemp("gain")
    lab = virtual_lab_file(folder)
    lab.write_text(lab.read_text().replace("  seed: 1\n", "  seed: 1\n" + WORLD))
    options = ["--networks", "AlexNet,ENet", "--batches", "4", "--repeats", "4", "--gain-check"]
    done = run_undrawn("experiments.power_sweep", "--lab", lab, *options, "--out", folder / "run")
    assert done.returncode == 0, done.stderr
    return folder / "run", done.stdout + done.stderr


def test_cells_under_a_strayed_gain_are_flagged_and_others_are_not(sweep: tuple[Path, str]) -> None:
    out, said = sweep
    with TraceReader(out / "trace.h5") as reader:
        found = reduce_run(reader)
        begun_s = 1000.0  # the virtual clock's
        times_s = {index: row["host_s"] - begun_s for index, row in enumerate(reader.captures())}
    checks = found.gain_checks
    assert len(checks) == len(found.plan.cells) == 8
    for check in checks:
        at_s = times_s[check.index]
        if any(at_s < moved_s < at_s + RUN_S for moved_s in (STRAYS_S, RETURNS_S)):
            continue  # the gain moved in its very record
        strayed = STRAYS_S < at_s < RETURNS_S
        assert check.drifted is strayed
        assert check.found.departs == pytest.approx(0.01 if strayed else 0.0, abs=2 * check.found.u)
    assert 2 <= sum(c.drifted for c in checks) <= 6
    assert any(DRIFTED in row.flags for row in found.device)
    with (out / "results.csv").open() as file:
        assert any(DRIFTED in row["flags"] for row in csv.DictReader(file))
    assert said.count("running gain check: 8 of 8 cells") == 1
    assert DRIFTED in said
    assert len(table(checks)) == 1 + len(checks)
    report = (out / "report.html").read_text()
    assert "The running gain check of each cell" in report
    assert all(cell in report for row in table(checks) for cell in row if cell)


def test_a_replay_finds_the_same(sweep: tuple[Path, str], tmp_path: Path) -> None:
    out, _ = sweep
    done = run_undrawn("experiments.replay", out / "trace.h5", "--out", tmp_path / "again")
    assert done.returncode == 0, done.stderr
    first, again = ((folder / "results.csv").read_text() for folder in (out, tmp_path / "again"))
    assert again.replace("simulated (replayed)", "simulated") == first


def test_what_was_not_asked_for_is_not_done_and_not_kept(tmp_path: Path) -> None:
    lab = virtual_lab_file(tmp_path)
    options = ["--networks", "AlexNet", "--batches", "4", "--repeats", "1"]
    done = run_undrawn("experiments.power_sweep", "--lab", lab, *options, "--out", tmp_path / "run")
    assert done.returncode == 0, done.stderr
    assert "running gain check" not in done.stdout + done.stderr
    with TraceReader(tmp_path / "run/trace.h5") as reader:
        assert "transcript" not in reader.file["provenance"]
        kinds = {reader.captures()[k]["kind"] for k, _ in enumerate(reader.captures()) if reader.readings(k)}
        assert kinds == {"idle", "gain"}


def test_times_of_a_simulated_drift_must_rise(tmp_path: Path) -> None:
    lab = virtual_lab_file(tmp_path)
    wrong = "  world: {probe_gain_change: [[9, 0], [5, 0.1]]}\n"
    lab.write_text(lab.read_text().replace("  seed: 1\n", "  seed: 1\n" + wrong))
    done = run("experiments.power_sweep", "--lab", lab, "--networks", "AlexNet", "--dry-run")
    assert done.returncode == 2
    assert "probe_gain_change: its times must rise" in done.stderr
