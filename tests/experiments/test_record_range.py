"""A calibration record used where it does not hold: at the run's own comparison, and at single cells."""

from __future__ import annotations

import argparse
import re
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from subprocess import CompletedProcess

import pytest

from calibration.records import Span, load, save
from experiments import power_sweep, replay, sweep_options
from experiments.reduction import reduce_run
from experiments.traces import TraceReader
from instruments import lab as lab_yaml
from tests.calibration.events import probe, voltage
from tests.sweeps import rows, run_undrawn, virtual_lab_file

PLAN = ["--networks", "AlexNet", "--batches", "1,16", "--repeats", "1", "--window", "0.5", "--quiet"]
FLAG, REFUSED = "calibration-range", "beyond-calibration"


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return virtual_lab_file(tmp_path_factory.mktemp("bench"))


def record(path: Path, lab: Path, high_a: float, low_a: float = -0.1, gain: float = 1.0, age_d: float = 0.0) -> str:
    """A record of this bench's clamp that holds from one current to another, and for a week."""
    made = datetime.now(UTC).replace(microsecond=0) - timedelta(days=age_d)
    about, holds = lab_yaml.load(lab), Span(low=low_a, high=high_a)
    save(probe(about, gain=gain, made=made, expires=made + timedelta(days=7), valid_a=holds), path)
    return str(path)


@pytest.fixture(scope="module")
def short(lab: Path) -> str:
    """A record of currents below those of this board."""
    return record(lab.parent / "short.yaml", lab, 0.05)


@pytest.fixture(scope="module")
def done(lab: Path, short: str) -> tuple[Path, CompletedProcess[str]]:
    """A run with that record, which no one required."""
    out = lab.parent / "run"
    return out, run_undrawn("experiments.power_sweep", "--lab", lab, *PLAN, "--calibration", short, "--out", out)


def test_a_record_that_does_not_reach_the_comparison_is_told_and_not_used(
    lab: Path, done: tuple[Path, CompletedProcess[str]], tmp_path: Path
) -> None:
    out, said = done
    assert said.returncode == 0, said.stderr
    assert "warning: calibration record short.yaml (probe) holds from -0.1 to 0.05 A, and here are" in said.stderr
    assert FLAG in said.stdout
    assert FLAG in (out / "report.html").read_text()
    expired = record(tmp_path / "expired.yaml", lab, 2.0, age_d=8.0)
    asked = [str(out / "trace.h5"), "--results-only", "--quiet", "--out", str(tmp_path / "without")]
    assert replay.main([*asked, "--calibration", expired]) == 0
    for row, without in zip(rows(out / "results.csv"), rows(tmp_path / "without" / "results.csv"), strict=True):
        assert (row["flags"], without["flags"]) == (FLAG, "")
        assert (row["power_w"], row["power_w_u"]) == (without["power_w"], without["power_w_u"])
    assert replay.main([*asked, "--require-calibration"]) == 2


def test_a_required_record_that_does_not_reach_the_comparison_ends_the_sweep_there(
    lab: Path, short: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    asked = ["--lab", str(lab), *PLAN, "--calibration", short, "--require-calibration", "--out", str(tmp_path / "run")]
    assert power_sweep.main(asked) == 2
    said = capsys.readouterr().err
    for part in ("--require-calibration: ", "short.yaml", "0.05 A", "calibration.probe --currents"):
        assert part in said
    with TraceReader(tmp_path / "run" / "trace.h5") as reader:
        assert [row["kind"] for row in reader.captures()] == ["zero", "idle", "gain"]


def notes(run: Path, named: str, *, required: bool = False) -> str:
    """What is said of a run that is reduced with a record."""
    with TraceReader(run / "trace.h5") as reader:
        reader.calibrations, reader.calibration_required = [load(named)], required
        return "\n".join(reduce_run(reader).notes)


def test_cells_beyond_a_record_are_flagged_or_refused_by_themselves(
    lab: Path, done: tuple[Path, CompletedProcess[str]], tmp_path: Path
) -> None:
    """The comparison is made with the heaviest load, so that a record may hold there and not for a lighter one."""
    bare, _ = done
    volts = lab_yaml.load(lab).supply.voltage_v
    middle_a = sum(float(row["power_w"]) / volts for row in rows(bare / "results.csv")) / 2
    with TraceReader(bare / "trace.h5") as reader:
        calibration = reduce_run(reader).calibration
    assert calibration is not None
    upper = record(tmp_path / "upper.yaml", lab, 2.0, low_a=middle_a, gain=calibration.current.gain.value)
    asked = [str(bare / "trace.h5"), "--results-only", "--quiet", "--calibration", upper, "--out"]
    assert replay.main([*asked, str(tmp_path / "flagged")]) == 0
    light, heavy = rows(tmp_path / "flagged" / "results.csv")
    assert (light["flags"], heavy["flags"]) == (FLAG, "")
    without = rows(bare / "results.csv")[1]
    assert float(heavy["power_w_u"]) < float(without["power_w_u"])
    said = notes(bare, upper)
    assert "1 of 2 cells lie where upper.yaml does not hold (calibration-range); the farthest: " in said
    here = re.search(r"and here are ([\d.]+) A; make a record that reaches so far", said)
    assert here
    assert float(here[1]) == pytest.approx(float(light["power_w"]) / volts, rel=0.01)
    assert FLAG not in notes(bare, upper, required=True)  # what says so was refused, each with its own reason
    assert replay.main([*asked, str(tmp_path / "refused"), "--require-calibration"]) == 1
    light, heavy_again = rows(tmp_path / "refused" / "results.csv")
    assert (light["power_w"], light["flags"]) == ("", REFUSED)
    assert heavy_again == heavy


@pytest.mark.parametrize("parser", [sweep_options.parser, replay.parser])
def test_help_says_that_a_required_record_is_held_to_its_range(parser: Callable[[], argparse.ArgumentParser]) -> None:
    (said,) = (a.help for a in parser()._actions if "--require-calibration" in a.option_strings)
    assert said is not None
    for part in ("disagrees with", "comparison with the supply or does not reach it", "the cells beyond its range"):
        assert part in said


def test_a_voltage_beyond_a_record_is_known_before_anything_is_switched_on(
    lab: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    now = datetime.now(UTC).replace(microsecond=0)
    low = voltage(lab_yaml.load(lab), made=now, expires=now + timedelta(days=7))
    save(low.model_copy(update={"valid_v": Span(low=0.0, high=5.0)}), tmp_path / "low.yaml")
    asked = ["--lab", str(lab), *PLAN, "--dry-run", "--calibration", str(tmp_path / "low.yaml")]
    assert power_sweep.main(asked) == 0
    assert "low.yaml (voltage) is not used: out of range: it holds from 0 to 5 V, and here" in capsys.readouterr().err
    assert power_sweep.main([*asked, "--require-calibration"]) == 2
