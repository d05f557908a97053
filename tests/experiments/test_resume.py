"""A sweep that is killed, at whatever moment, goes on where it was and ends as if nothing had happened."""

from __future__ import annotations

import random
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from experiments.traces import TraceReader
from experiments.traces.checking import check
from tests.sweeps import ROOT

LAB = ROOT / "docs" / "benches" / "simulated-tx1.yaml"
PLAN = ["--networks", "AlexNet,VGG-16", "--batches", "1,64", "--repeats", "2", "--window", "0.5"]
"""VGG-16 at batch 64 does not fit the model's memory: an outcome that must survive as well."""

PHASES = [
    ("opening the instruments", 0.3),
    ("zero of both channels", 0.1),
    ("output on", 0.05),
    ("gain of both channels", 0.1),
    (r"repeat 1: .*mJ", 0.0),
    (r"repeat 1: .*mJ", 0.2),
    (r"repeat 2: .*mJ", 0.1),
    ("gain again", 0.05),
    ("idle again", 0.05),
    ("zero again", 0.1),
    ("zero again", 0.4),
]


def sweep(*options: str) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "experiments.power_sweep", *options]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=ROOT)


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("undisturbed") / "run"
    with sweep("--lab", str(LAB), *PLAN, "--out", str(out), "--quiet") as process:
        process.communicate()
    assert process.returncode == 0  # VGG-16 at batch 64 is out of memory: an outcome, no failure
    return out


def killed(process: subprocess.Popen[str], at: str, delay_s: float) -> None:
    """Kill a sweep some time after a line that it prints."""
    assert process.stderr is not None
    for line in process.stderr:
        if re.search(at, line):
            break
    time.sleep(delay_s)
    process.send_signal(signal.SIGKILL)
    process.communicate()


@pytest.mark.parametrize(("phase", "delay_s"), PHASES)
def test_a_killed_sweep_goes_on_to_the_same_result(
    undisturbed: Path, tmp_path: Path, phase: str, delay_s: float
) -> None:
    out = tmp_path / "run"
    with sweep("--lab", str(LAB), *PLAN, "--out", str(out)) as process:
        killed(process, phase, delay_s)
    if not (out / "trace.h5").exists():
        with sweep("--resume", str(out)) as process:
            assert "start the sweep anew" in process.communicate()[1]
        assert process.returncode == 2
        return
    found = check(out / "trace.h5")
    assert found.sound, found.problems
    assert len(found.in_flight) <= 1
    with sweep("--resume", str(out)) as process:
        told, said = process.communicate()
    assert process.returncode == 0, said
    assert not re.search(r": measured$", said, re.M)  # every cell with its numbers
    assert "not compared" not in told + said  # a session that ended before its comparison measured no cell
    assert (out / "results.csv").read_bytes() == (undisturbed / "results.csv").read_bytes()
    with TraceReader(out / "trace.h5") as reader:
        assert reader.complete
        # What was committed before is still there, and nothing was measured twice.
        kept = [row["cell"] for row in reader.captures() if row["kind"] == "cell" and row["state"] == "committed"]
        assert sorted(kept) == sorted(set(kept))


def test_killed_again_and_again(undisturbed: Path, tmp_path: Path) -> None:
    out, rng = tmp_path / "run", random.Random(7)
    command = ["--lab", str(LAB), *PLAN, "--out", str(out)]
    for _ in range(6):
        with sweep(*command) as process:
            killed(process, rng.choice(["output on", "repeat", "gain of both"]), rng.uniform(0.0, 0.5))
        if (out / "trace.h5").exists():
            command = ["--resume", str(out)]
    with sweep(*command) as process:
        process.communicate()
    assert (out / "results.csv").read_bytes() == (undisturbed / "results.csv").read_bytes()


def test_resuming_keeps_to_the_plan_of_the_run(undisturbed: Path) -> None:
    with sweep("--resume", str(undisturbed), "--repeats", "9") as process:
        assert "leave out --repeats" in process.communicate()[1]
    assert process.returncode == 2


def test_resuming_a_complete_run_reports_it_again(undisturbed: Path) -> None:
    before = (undisturbed / "results.csv").read_bytes()
    (undisturbed / "results.csv").unlink()
    with sweep("--resume", str(undisturbed), "--quiet") as process:
        process.communicate()
    assert (undisturbed / "results.csv").read_bytes() == before
