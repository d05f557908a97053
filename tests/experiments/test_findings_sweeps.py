"""Findings of whole sweeps in virtual time, by the command that a user gives."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from experiments.findings import sample, section
from tests.sweeps import ROOT, run, run_undrawn

SWEEP = ["--networks", "paper", "--batches", "1,16", "--repeats", "2", "--window", "0.3", "--seed", "5", "--quiet"]
KEYS = ("H1", "H2", "H3", "H4")


def swept(board: str, out: Path) -> Path:
    """The paper's networks at its two batch sizes on one of the simulated boards."""
    lab = ROOT / "docs" / "benches" / f"simulated-{board}.yaml"
    done = run_undrawn("experiments.power_sweep", "--lab", lab, "--out", out, *SWEEP)
    assert done.returncode == 0, done.stderr
    return out


@pytest.fixture(scope="module")
def tx1(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return swept("tx1", tmp_path_factory.mktemp("tx1") / "run")


@pytest.fixture(scope="module")
def counter(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return swept("counter", tmp_path_factory.mktemp("counter") / "run")


def test_the_papers_board_shows_the_papers_findings(tx1: Path) -> None:
    done = run("experiments.findings", tx1, "--json")
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert {key: found[key]["verdict"] for key in KEYS} == dict.fromkeys(KEYS, "supported")
    for key in KEYS:
        assert "on this device, with these networks, n and margin: simulated Jetson TX1" in found[key]["sentence"]
        assert found[key]["n"]["networks"] == 14
        assert found[key]["batches"] == [1, 16]
        assert found[key]["numbers"]
        assert found[key]["margin"]
    assert found["H1"]["n"]["runs"] == 56
    assert found["H1"]["margin"]["relative"] == 0.06
    assert found["H1"]["numbers"]["mean_w"] == pytest.approx(11.7, abs=0.3)
    assert found["source"] == "simulated"
    assert any("from a model of a board" in note for note in found["notes"])
    knee = found["memory"]["by_weights"]
    assert knee["floor_mb"]["value"] == pytest.approx(200, abs=5)
    assert knee["slope"]["value"] == pytest.approx(1.3, abs=0.05)
    assert found["gain"]["AlexNet"]["gain"]["value"] == pytest.approx(2.8, abs=0.2)


def test_the_counter_example_shows_none_of_them(counter: Path) -> None:
    done = run("experiments.findings", counter)
    assert done.returncode == 0, done.stderr
    headings = [line for line in done.stdout.splitlines() if line.startswith(KEYS)]
    assert len(headings) == 4
    assert all(line.endswith(": NOT SUPPORTED") for line in headings), headings
    assert "farthest: AlexNet +" in done.stdout


def test_a_margin_decides_what_counts_as_the_same(tx1: Path) -> None:
    found = section.judge(sample.load([tx1]), margin=0.01)
    assert [f.verdict for f in found.findings] == ["not supported", "supported", "supported", "supported"]
    assert "margin ±1 % of the mean net power" in found.findings[0].sentence


def test_runs_of_one_device_are_judged_together_and_of_two_refused(tx1: Path, counter: Path, tmp_path: Path) -> None:
    again = tmp_path / "again.h5"
    shutil.copy(tx1 / "trace.h5", again)
    both = sample.load([tx1, again])
    assert len(both.runs) == 112
    assert both.runs["session"].nunique() == 2
    done = run("experiments.findings", tx1, counter)
    assert done.returncode == 2
    assert str(tx1) in done.stderr
    assert str(counter) in done.stderr
    assert "one at a time" in done.stderr
    assert "Traceback" not in done.stderr


def test_a_report_gets_the_verdicts_as_data(tx1: Path) -> None:
    found = section.judge(sample.load([tx1]))
    content = section.section(found)
    assert content.table[0] == ("finding", "claim", "verdict")
    assert [row[0] for row in content.table[1:]] == list(KEYS)
    assert [part.sentences[0] for part in content.parts[:4]] == [f.sentence for f in found.findings]
    assert "Memory: floor and slope" in [part.heading for part in content.parts]


@pytest.mark.parametrize(
    ("args", "code", "said"),
    [
        (["nowhere"], 2, "nowhere: there is no trace file"),
        (["."], 2, "name run folders or the trace.h5"),
        (["bad.h5"], 3, "bad.h5"),
        (["bad.h5", "bad.h5"], 2, "named twice"),
        (["bad.h5", "--margin", "0"], 2, "no percentage between 0 and 100"),
        (["bad.h5", "--margin", "six"], 2, "--margin"),
        (["bad.h5", "--seed", "-1"], 2, "no seed"),
        ([], 2, "RUN"),
    ],
)
def test_what_cannot_be_judged_is_told(args: list[str], code: int, said: str, tmp_path: Path) -> None:
    (tmp_path / "bad.h5").write_bytes(b"no such file at all")
    named = [str(tmp_path / arg) if arg in ("nowhere", ".", "bad.h5") else arg for arg in args]
    done = run("experiments.findings", *named)
    assert done.returncode == code, done.stderr
    assert said in done.stderr
    assert "Traceback" not in done.stderr
