"""A calibration record that fits the bench and contradicts the run's own comparison with the supply."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from calibration import probe as calibration_of_probe
from calibration.records import save
from experiments import power_sweep, replay
from experiments.gain_check import DRIFTED
from experiments.traces import TraceReader
from instruments import lab as lab_yaml
from tests.calibration.events import probe
from tests.sweeps import rows, virtual_lab_file

CELL = ["--networks", "AlexNet", "--batches", "4", "--repeats", "1", "--window", "0.5"]
DISAGREES = "calibration-disagrees"


def record_of_gain(folder: Path, lab: Path, gain: float, name: str = "moved.yaml") -> Path:
    """A record of this bench's clamp, made today, with the gain that a clamp had before it moved."""
    now = datetime.now(UTC).replace(microsecond=0)
    save(probe(lab_yaml.load(lab), gain=gain, made=now, expires=now + timedelta(days=7)), folder / name)
    return folder / name


def test_a_record_that_the_run_contradicts_flags_its_rows_live_and_replayed(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    lab = virtual_lab_file(tmp_path)
    record = record_of_gain(tmp_path, lab, 1.1)
    out, again = tmp_path / "run", tmp_path / "again"
    assert power_sweep.main(["--lab", str(lab), *CELL, "--calibration", str(record), "--out", str(out)]) == 0
    said = capsys.readouterr()
    assert "warning: calibration record moved.yaml (probe) does not agree with this run: gain 1.10000" in said.err
    assert DISAGREES in said.out
    (row,) = rows(out / "results.csv")
    assert row["flags"].split() == [DISAGREES]
    assert DISAGREES in (out / "report.html").read_text()
    trace = str(out / "trace.h5")
    assert replay.main([trace, "--out", str(again), "--results-only", "--quiet"]) == 0
    assert rows(again / "results.csv")[0]["flags"].split() == [DISAGREES]
    assert replay.main([trace, "--out", str(again), "--results-only", "--require-calibration"]) == 2
    said = capsys.readouterr()
    for part in ("--require-calibration", "moved.yaml", "1.10000", "E_n =", "python -m calibration.probe"):
        assert part in said.err + said.out, said
    own = re.search(r"and (\d\.\d+) by this run's own comparison", said.err)
    assert own
    good = record_of_gain(tmp_path, lab, float(own[1]), "good.yaml")
    asked = [trace, "--out", str(again), "--results-only", "--quiet", "--require-calibration", "--calibration"]
    assert replay.main([*asked, str(good)]) == 0
    assert rows(again / "results.csv")[0]["flags"] == ""


MOVES = "  seed: 1\n  world: {probe_gain_change: [[7.5, 0], [8, 0.04]]}\n"
"""A clamp that moves after the run's first comparison with the supply, and before its cell."""


def test_a_clamp_that_moves_between_a_runs_comparisons_is_told_and_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    lab = virtual_lab_file(tmp_path)
    record = tmp_path / "record.yaml"
    assert calibration_of_probe.main(["--lab", str(lab), "--out", str(record), "--unattended", "--quiet"]) == 0
    lab.write_text(lab.read_text().replace("  seed: 1\n", MOVES))
    out, again = tmp_path / "run", tmp_path / "again"
    asked = ["--lab", str(lab), *CELL, "--calibration", str(record), "--require-calibration", "--out", str(out)]
    assert power_sweep.main(asked) == 2
    said = capsys.readouterr()
    for part in ("--require-calibration", "record.yaml", "(2 of 2)", "E_n ="):
        assert part in said.err
    with TraceReader(out / "trace.h5") as reader:
        assert [row["kind"] for row in reader.captures()] == ["zero", "idle", "gain", "cell", "gain", "idle", "zero"]
        assert reader.complete
    (row,) = rows(out / "results.csv")
    assert row["flags"].split() == [DRIFTED, DISAGREES]
    assert_holds(row)
    trace = str(out / "trace.h5")
    assert replay.main([trace, "--out", str(again), "--results-only", "--quiet", "--require-calibration"]) == 2
    assert replay.main([trace, "--out", str(again), "--results-only", "--quiet"]) == 0
    assert rows(again / "results.csv")[0]["flags"] == row["flags"]
    assert power_sweep.main(["--resume", str(out), "--quiet"]) == 2


def test_comparisons_that_contradict_each_other_are_told_without_any_record(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    lab = virtual_lab_file(tmp_path)
    lab.write_text(lab.read_text().replace("  seed: 1\n", MOVES))
    assert power_sweep.main(["--lab", str(lab), *CELL, "--out", str(tmp_path / "run")]) == 0
    (row,) = rows(tmp_path / "run/results.csv")
    assert row["flags"].split() == [DRIFTED]
    assert_holds(row)
    assert "between this run's own comparisons with the supply: gain-drifted" in capsys.readouterr().out


def assert_holds(row: dict[str, str]) -> None:
    """The energy's interval holds the simulated bench's truth."""
    value, u = float(row["energy_per_image_j"]), float(row["energy_per_image_j_u"])
    truth = float(row["true_energy_per_image_j"])
    assert abs(value - truth) <= u
    assert abs(value / truth - 1) > 0.01


def test_with_require_calibration_the_sweep_ends_before_its_first_cell(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    lab = virtual_lab_file(tmp_path)
    record = record_of_gain(tmp_path, lab, 1.1)
    out = tmp_path / "run"
    asked = ["--lab", str(lab), *CELL, "--calibration", str(record), "--require-calibration", "--out", str(out)]
    assert power_sweep.main(asked) == 2
    said = capsys.readouterr().err
    for part in ("moved.yaml", "gain 1.10000", "E_n =", "calibration.probe", "--resume"):
        assert part in said
    assert power_sweep.main(["--resume", str(out)]) == 2  # the run was begun with the option
    assert "moved.yaml" in capsys.readouterr().err
    with TraceReader(out / "trace.h5") as reader:
        assert [row["kind"] for row in reader.captures()] == ["zero", "idle", "gain"] * 2
        assert {cell["state"] for cell in reader.cells()} == {"planned"}
