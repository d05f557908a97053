"""A sweep over networks of the user's own, on the simulated bench: mode stored, wrong ones refused, others measured."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from experiments.plan import RunOptions
from experiments.traces import TraceReader
from instruments.dut_protocol import Mode
from tests.sweeps import ROOT, rows

torch = pytest.importorskip("torch")

OWN = """
from torch import nn


def make():
    layers = [nn.Conv2d(3, 32, 3), nn.ReLU(), nn.Conv2d(32, 32, 3), nn.Flatten(), nn.Linear(32 * 28 * 28, 10)]
    return nn.Sequential(*layers)
"""
PROGRAM = "while read -r word number; do [ $word = run ] && sleep 0.004; echo ok; done"


@pytest.fixture(scope="module")
def sweep(tmp_path_factory: pytest.TempPathFactory) -> tuple[subprocess.CompletedProcess[str], Path]:
    folder = tmp_path_factory.mktemp("own")
    (folder / "own.py").write_text(OWN)
    (folder / "program").write_text(PROGRAM)
    out = folder / "out"
    asked = f"own:missing,own:make@3x32x32,ResNet-50@3x32x32,command:sh {folder}/program"
    options = ["--batches", "2", "--repeats", "1", "--window", "0.4", "--quiet"]
    how = ["--device", "cpu", "--threads", "1", "--channels-last"]
    done = subprocess.run(
        [sys.executable, "-m", "experiments.power_sweep", "--networks", asked, "--out", str(out), *options, *how],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(folder)},
        capture_output=True,
        text=True,
        timeout=200,
    )
    return done, out


def test_the_other_cells_go_on(sweep: tuple[subprocess.CompletedProcess[str], Path]) -> None:
    done, out = sweep
    assert done.returncode == 1, done.stderr
    missing, own, misfit, program = rows(out / "results.csv")
    assert float(own["energy_per_image_j"]) > 0
    assert (own["device"], own["dtype"], own["mode"]) == ("cpu", "fp32", "channels_last")
    macs = 30 * 30 * 32 * 27 + 28 * 28 * 32 * 32 * 9 + 10 * 32 * 28 * 28
    assert (own["macs"], own["operations"]) == (str(macs), str(2 * macs))
    for row in (missing, misfit, program):
        assert (row["outcome"], row["energy_per_image_j"]) == ("refused", "")
    for reason in ("own has no missing", "does not run on an input of 1x3x32x32", "a program takes no mode"):
        assert len([line for line in done.stdout.splitlines() if reason in line]) == 1, reason
    assert "Traceback" not in done.stderr


def test_what_was_asked_for_and_done_is_stored(sweep: tuple[subprocess.CompletedProcess[str], Path]) -> None:
    _, out = sweep
    with TraceReader(out / "trace.h5") as reader:
        assert reader.plan.run == RunOptions("cpu", 1, Mode(channels_last=True), "random")
        stored = next(k for k, row in enumerate(reader.captures()) if row["kind"] == "cell")
        facts = json.loads(reader.long_text("ready_facts", stored))
    assert (facts["network"], facts["mode"], facts["weights"]) == (
        "own:make@3x32x32",
        Mode(channels_last=True).as_json(),
        "random",
    )
    assert "fp32 channels_last, threads: 1" in (out / "report.html").read_text()
