"""What a dry run promises of time, captures and size, held against whole sweeps on the model of the board."""

from __future__ import annotations

from pathlib import Path

import pytest

from experiments import power_sweep
from experiments.forecast import forecast, plan_text, size_text
from experiments.progress import Progress
from experiments.traces import TraceReader
from instruments import lab as lab_yaml
from instruments.wording import duration_text
from tests.sweeps import ROOT


def assert_foretold(run: Path, lab: Path) -> None:
    """Hold a finished run on the model of a board against what its dry run would have promised."""
    file = run / "trace.h5"
    with TraceReader(file) as reader:
        plan, captures = reader.plan, reader.captures()
    told = forecast(plan, lab_yaml.load(lab)).most
    took_s = max(c["settled_s"] for c in captures) - min(c["host_s"] for c in captures)
    assert told.seconds == pytest.approx(took_s, rel=0.2)
    assert told.stored == pytest.approx(file.stat().st_size, rel=0.2)
    assert told.captures == pytest.approx(len(captures), rel=0.1)


def test_what_nobody_can_know_is_said() -> None:
    lab = lab_yaml.load(ROOT / "docs" / "benches" / "real.yaml")
    args = power_sweep.parser().parse_args(["--networks", "AlexNet,mine.nets:small", "--batches", "1"])
    text = plan_text(power_sweep.plan_of(args, lab), lab)
    assert "rests on a model of the paper's Jetson TX1" in text
    assert "of unknown size, and taken for short: mine.nets:small" in text
    assert "virtual time" not in text


def test_a_duration_is_told_in_the_unit_that_suits_it() -> None:
    assert [duration_text(s) for s in (6.3, 89, 630, 7200, 4.4e6)] == ["6 s", "89 s", "10.5 min", "2 h", "51 days"]


def test_what_comes_once_before_the_first_cell_does_not_count_for_others(
    capsys: pytest.CaptureFixture[str],
) -> None:
    times_s = iter((0.0, 26.0, 32.0, 38.0))
    progress = Progress(36, clock=lambda: next(times_s))
    for number in (1, 2):
        progress.cell_begins(f"cell {number}")
        progress.cell_done(f"cell {number}")
    assert [line.partition("(")[2] for line in capsys.readouterr().err.splitlines()] == [
        "3.5 min left)",
        "3.4 min left)",
    ]
    assert [size_text(b) for b in (1.234e6, 999.6e6, 7.45e9, 2e12)] == ["1.23 MB", "1 GB", "7.45 GB", "2 TB"]
