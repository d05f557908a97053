"""What a fault at the bench does to a sweep: the cell is rejected with the reason or tried again; the file opens."""

from __future__ import annotations

import json
import re
import subprocess
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from ruamel.yaml import YAML

from experiments import power_sweep, session
from experiments.traces import ENDED, TraceReader, TraceWriter
from tests.sweeps import ROOT, rows, run_undrawn

VIRTUAL = ROOT / "docs" / "benches" / "simulated-tx1.yaml"
ONE_CELL = ["--networks", "busy:4", "--batches", "2", "--repeats", "1", "--window", "0.4"]
BEFORE = 9
"""Records that are read before the cell's: three sources each at zero, idle and gain."""


@dataclass
class Case:
    """A fault, and what becomes of a sweep of one cell: exit code, and what is said."""

    code: int
    said: str
    faults: str = ""
    flag: str = ""
    changes: dict[str, Any] = field(default_factory=dict)


CASES = {
    "the supply in constant current": Case(
        1, r"the supply .* raise current_limit_a", flag="supply-limited", changes={"supply": {"current_limit_a": 0.4}}
    ),
    "an over-voltage trip": Case(
        3,
        r"error: the supply's output has tripped, and the board has no power: find .*; busy:4 .* is still open",
        'supply: [{kind: panel, matching: EVEN, skip: 2, commands: "VOLT:PROT 9"}]',
        "supply-limited",
    ),
    "a scope that forgets its settings": Case(
        0,
        "tried again, since the gate line never rose",
        'scope: [{kind: panel, matching: AER, skip: 30, commands: "*RST"}]',
    ),
    "clipped": Case(
        1, "samples of the current are clipped", flag="clipped", changes={"wiring": {"current": {"high_a": 0.4}}}
    ),
    "a trigger that never comes": Case(
        2,
        "error: gain .* markers-missing: the gate line never rose although the device ran",
        "markers: [{kind: lose, line: gate, times: 0}]",
        "markers-missing",
    ),
    "a line that always bounces": Case(
        2,
        r"error: gain .* markers-bounce: the gate has \d+ edges .*crosstalk, and at wiring.marker_threshold_v",
        "seed: 3\nmarkers: [{kind: bounce, line: gate, times: 0}]",
        "markers-bounce",
    ),
    "a gate edge that is lost once": Case(
        0, "gain: tried again, since the gate line never rose", "markers: [{kind: lose, line: gate, times: 1}]"
    ),
    "a gate that bounces from the first cell on": Case(
        1,
        r"the gate has \d+ edges where 2 were expected",
        "seed: 3\nmarkers: [{kind: bounce, line: gate, skip: 2, times: 0}]",
    ),
    "batch edges that are not seen": Case(
        1, r"batch edges", "markers: [{kind: lose, line: batch, skip: 450, times: 0}]", "markers-missing"
    ),
    "holes": Case(3, "samples of the current are holes", "scope: [{kind: holes, share: 0.01}]", "no-zero"),
    "the scope's connection reset in a block": Case(
        0,
        "tried again, since scope .*the link is broken",
        f"scope: [{{kind: reset, matching: WAV.*DATA, skip: {BEFORE}, at_byte: 50}}]",
    ),
    "the adapter's connection reset": Case(
        0, "tried again, since supply .*the link is broken", "supply: [{kind: reset, matching: MEAS.*CURR}]"
    ),
    "the record of the capture before": Case(
        0,
        r"tried again, since scope .*the very codes of acquisition \d",
        f"scope: [{{kind: stale, matching: WAV.*DATA, back: 3, skip: {BEFORE}, times: 3}}]",
    ),
    "fewer points than announced": Case(
        0,
        r"tried again, since scope .*announces \d+ points = \d+ bytes, the block has 200;",
        f'scope: [{{kind: panel, matching: "WAV.*PREamble", skip: {BEFORE // 3}, commands: ":WAV:POIN 100"}}]',
    ),
}


@dataclass
class Outcome:
    """What is left of a sweep."""

    done: subprocess.CompletedProcess[str]
    out: Path
    transcript: Path


def lab_with(case: Case, path: Path) -> Path:
    """Write the lab file of a bench with this fault."""
    yaml = YAML(typ="safe")
    tree = yaml.load(VIRTUAL)
    for section, change in case.changes.items():
        for key, value in change.items():
            tree[section][key] = {**tree[section][key], **value} if isinstance(value, dict) else value
    tree["simulation"]["faults"] = yaml.load(case.faults) or {}
    yaml.dump(tree, path)
    return path


def sweep(case: Case, folder: Path, *more: str) -> Outcome:
    """One sweep of one cell at a bench with this fault, or with more options."""
    out, transcript = folder / "run", folder / "transcript.jsonl"
    lab = lab_with(case, folder / "lab.yaml")
    options = ("--lab", lab, *ONE_CELL, *more, "--out", out, "--transcript", transcript)
    return Outcome(run_undrawn("experiments.power_sweep", *options), out, transcript)


@pytest.fixture(scope="module")
def outcomes(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Future[Outcome]]]:
    """All sweeps, a few at a time."""
    with ThreadPoolExecutor(2) as pool:
        yield {name: pool.submit(sweep, case, tmp_path_factory.mktemp("sweep")) for name, case in CASES.items()}


@pytest.mark.parametrize("name", CASES)
def test_a_sweep_at_a_bench_with_a_fault(outcomes: dict[str, Future[Outcome]], name: str) -> None:
    case, outcome = CASES[name], outcomes[name].result()
    done = outcome.done
    assert done.returncode == case.code, done.stderr
    assert "Traceback" not in done.stderr
    assert re.search(case.said, done.stderr, re.DOTALL), done.stderr
    assert output_ended_off(outcome.transcript)
    with TraceReader(outcome.out / "trace.h5") as reader:
        (cell,) = reader.cells()
        captures = reader.captures()
        data = list(reader.data())
    assert captures[0]["kind"] == "zero"
    (row,) = rows(outcome.out / "results.csv")
    assert not case.flag or row["flags"].split() == [case.flag]
    if case.code == 2:
        assert cell["state"] == "planned"
        assert captures[-1]["flags"].split() == [case.flag]
        assert "--resume" in done.stderr
        return
    if case.flag == "supply-limited" and case.code == 3:
        assert cell["state"] not in ENDED  # the cell is measured when the sweep goes on
        assert captures[-1]["flags"] == case.flag
        assert "over-voltage protection at 21 V" in captures[-1]["reason"]
        return
    if case.code == 3:
        assert captures[0]["flags"] == "holes"
        assert cell["state"] == "planned"
        assert re.search(case.said, captures[0]["reason"])
        return
    assert cell["state"] == ("committed" if case.code == 0 else "rejected")
    assert not case.flag or cell["flags"] == case.flag
    assert re.search(case.said, cell["reason"]) or case.code == 0
    assert row["repeats"] == ("1" if case.code == 0 else "0")
    assert all(d.capture.points > 0 for d in data)


def test_a_supply_that_trips_after_the_last_cell_leaves_it_its_zero(tmp_path: Path) -> None:
    trip = 'supply: [{kind: panel, matching: EVEN, skip: 4, commands: "VOLT:PROT 9"}]'
    outcome = sweep(Case(3, "", trip), tmp_path)
    assert outcome.done.returncode == 3, outcome.done.stderr
    assert "error: the supply's output has tripped, and the board has no power" in outcome.done.stderr
    assert not re.search("still open|--resume|Traceback", outcome.done.stderr)
    assert output_ended_off(outcome.transcript)
    with TraceReader(outcome.out / "trace.h5") as reader:
        assert reader.complete
        assert [row["state"] for row in reader.cells()] == ["committed"]
        kinds = [(row["kind"], row["state"]) for row in reader.captures()]
    assert kinds[-3:] == [("cell", "committed"), ("gain", "rejected"), ("zero", "committed")]
    assert rows(outcome.out / "results.csv")[0]["repeats"] == "1"


def test_going_on_at_a_bench_that_is_no_longer_wired_right_says_that_cells_are_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    trip = 'supply: [{kind: panel, matching: EVEN, skip: 4, commands: "VOLT:PROT 9"}]'
    out = sweep(Case(3, "", trip), tmp_path, "--repeats", "2").out
    unwired = lab_with(Case(2, "", "markers: [{kind: lose, line: gate, times: 0}]"), tmp_path / "unwired.yaml")
    with TraceWriter.resume(out / "trace.h5") as writer:
        writer.text("lab_yaml", unwired.read_text())
    monkeypatch.setattr(session, "VirtualClock", type(None))  # a bench in real time takes its comparisons anew
    assert power_sweep.main(["--resume", str(out)]) == 2
    told = capsys.readouterr().err
    assert "markers-missing" in told
    assert "no further cell was measured" in told
    assert rows(out / "results.csv")[0]["repeats"] == "1"


def output_ended_off(transcript: Path) -> bool:
    """Whether the last that the supply was told about its output was off, and it said so."""
    messages = [json.loads(line) for line in transcript.read_text().splitlines()]
    said = [m["text"] for m in messages if m.get("link") == "supply" and m["dir"] in ("out", "in") and "of" not in m]
    told = [k for k, text in enumerate(said) if text.startswith("OUTPut O")]
    asked = [k for k, text in enumerate(said) if text == "OUTPut?"]
    return said[told[-1]] == "OUTPut OFF" and asked[-1] > told[-1] and said[asked[-1] + 1] == "0"
