"""Sweeps over the simulated boards in virtual time, as a user runs them."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from experiments.traces import TraceReader
from tests.sweeps import ROOT, rows, run_afresh, run_undrawn, start

TX1 = ROOT / "docs" / "benches" / "simulated-tx1.yaml"
COUNTER = ROOT / "docs" / "benches" / "simulated-counter.yaml"


def sweep(out: Path, *args: str | Path, lab: Path = TX1) -> subprocess.CompletedProcess[str]:
    return run_undrawn("experiments.power_sweep", "--lab", lab, "--out", out, "--quiet", *args)


def inside(out: Path) -> list[float]:
    """For each row, how far the truth is from the result, in units of its U."""
    return [
        (float(r["energy_per_image_j"]) - float(r["true_energy_per_image_j"])) / float(r["energy_per_image_j_u"])
        for r in rows(out / "results.csv")
    ]


def test_the_same_seed_gives_the_same_codes_and_the_same_table(tmp_path: Path) -> None:
    one, two = tmp_path / "one", tmp_path / "two"
    asked = ["--networks", "AlexNet,ENet", "--batches", "1,16", "--repeats", "2", "--seed", "7"]
    began_s = time.monotonic()
    for out, way in ((one, run_undrawn), (two, run_afresh)):
        done = way("experiments.power_sweep", "--lab", TX1, "--out", out, "--quiet", *asked)
        assert done.returncode == 0, done.stderr
    assert time.monotonic() - began_s < 200
    assert (one / "results.csv").read_bytes() == (two / "results.csv").read_bytes()
    with TraceReader(one / "trace.h5") as a, TraceReader(two / "trace.h5") as b:
        for left, right in zip(a.data(), b.data(), strict=True):
            assert left.at_s == right.at_s
            for role, record in left.capture.records.items():
                np.testing.assert_array_equal(record.codes, right.capture.records[role].codes)
    assert all(abs(share) < 1 for share in inside(one))
    table = {(r["network"], r["batch"]): r for r in rows(one / "results.csv")}
    assert {r["source"] for r in table.values()} == {"simulated"}
    assert "(model)" in (one / "report.html").read_text()
    # The paper's board: AlexNet nearly three times faster an image, at about 11.8 W above rest.
    time_s = {key: float(r["time_per_image_s"]) for key, r in table.items()}
    assert time_s["AlexNet", "1"] / time_s["AlexNet", "16"] == pytest.approx(2.8, abs=0.2)
    for row in table.values():
        assert float(row["net_power_w"]) == pytest.approx(11.8, abs=0.7)
        assert float(row["idle_power_w"]) == pytest.approx(1.30, abs=0.05)
    again = run_afresh("experiments.replay", one / "trace.h5", "--out", tmp_path / "again", "--results-only")
    assert again.returncode == 0
    assert (tmp_path / "again" / "results.csv").read_text().replace(" (replayed)", "") == (
        one / "results.csv"
    ).read_text()


@pytest.mark.parametrize(("lab", "seed"), [(TX1, "2"), (TX1, "3"), (COUNTER, "4")])
def test_the_truth_is_inside_the_interval(tmp_path: Path, lab: Path, seed: str) -> None:
    done = sweep(
        tmp_path / "run",
        "--networks",
        "BN-NIN,ResNet-50",
        "--batches",
        "1,8",
        "--repeats",
        "2",
        "--seed",
        seed,
        lab=lab,
    )
    assert done.returncode == 0, done.stderr
    found = inside(tmp_path / "run")
    assert len(found) == 4
    assert all(abs(share) < 1 for share in found), found


def test_a_batch_longer_than_the_record_gets_a_longer_one_and_too_large_a_one_is_told(tmp_path: Path) -> None:
    out = tmp_path / "run"
    sweep(out, "--networks", "ENet,VGG-19", "--batches", "16,64", "--repeats", "1")
    with TraceReader(out / "trace.h5") as reader:
        captures = [c for c in reader.captures() if c["kind"] == "cell"]
        states = {(c["network"], c["batch"]): c["state"] for c in reader.cells()}
    lengths = {(c["network"], c["batch"]): c["window_asked_s"] for c in captures if c["state"] == "committed"}
    assert lengths["ENet", 16] == 2.0
    assert lengths["VGG-19", 16] >= 5.0
    assert states["VGG-19", 64] != "committed"
    assert states["ENet", 64] == "committed"
    reasons = {(r["network"], r["batch"]): r for r in rows(out / "results.csv")}
    assert reasons["VGG-19", "64"]["outcome"] == "out of memory"
    assert reasons["VGG-19", "64"]["energy_per_image_j"] == ""


def test_the_two_boards_differ_in_what_the_paper_found(tmp_path: Path) -> None:
    """Power against batch and network, and time against operations: one board has the findings, the other not."""
    powers, speeds = {}, {}
    for lab in (TX1, COUNTER):
        out = tmp_path / lab.stem
        done = sweep(out, "--networks", "GoogLeNet,VGG-16,AlexNet", "--batches", "1,16", "--repeats", "1", lab=lab)
        assert done.returncode == 0, done.stderr
        table = rows(out / "results.csv")
        powers[lab] = np.array([float(r["net_power_w"]) for r in table])
        speeds[lab] = np.array([float(r["operations"]) / float(r["time_per_image_s"]) for r in table])
    assert np.ptp(powers[TX1]) < 0.1 * powers[TX1].mean()
    assert np.ptp(powers[COUNTER]) > 0.5 * powers[COUNTER].mean()
    assert speeds[TX1].max() / speeds[TX1].min() < 5
    assert speeds[COUNTER].max() / speeds[COUNTER].min() > 10


def test_torch_is_not_needed(tmp_path: Path) -> None:
    program = (
        "import sys\n"
        "sys.modules['torch'] = None\n"
        "from experiments.power_sweep import main\n"
        "sys.exit(main(sys.argv[1:]))\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program, "--lab", str(TX1), "--networks", "ENet", "--batches", "1", "--repeats", "1",
         "--window", "0.5", "--out", str(tmp_path / "run"), "--quiet"],
        cwd=ROOT, capture_output=True, text=True, timeout=200,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize(
    ("args", "said"),
    [
        (["--networks", "somebody.networks:tiny"], "somebody.networks:tiny"),
        (["--networks", "ENet", "--dtype", "fp16"], "fp16"),
        (["--networks", "ENet", "--weights", "here.pt"], "here.pt"),
        (["--networks", "ENet", "--device", "cpu"], "cpu"),
    ],
)
def test_what_a_model_cannot_do_is_refused_before_anything(tmp_path: Path, args: list[str], said: str) -> None:
    done = sweep(tmp_path / "run", *args)
    assert done.returncode == 2
    (line,) = done.stderr.splitlines()
    assert said in line
    assert "is a model" in line
    assert not (tmp_path / "run").exists()


def test_a_simulated_bench_that_dies_is_told_and_the_file_opens(tmp_path: Path) -> None:
    out = tmp_path / "run"
    process = start(
        "experiments.power_sweep", "--lab", TX1, "--networks", "ENet,AlexNet", "--batches", "1,2,4,8", "--repeats",
        "20", "--out", out,
    )  # fmt: skip
    assert process.stderr is not None
    seen = ""
    while "[  3/160]" not in seen:
        line = process.stderr.readline()
        assert line, seen
        seen += line
    os.kill(child_of(process.pid), signal.SIGKILL)
    _, rest = process.communicate(timeout=200)
    assert process.returncode == 3, seen + rest
    assert "Traceback" not in rest
    assert "COULD NOT BE VERIFIED TO BE OFF" in rest
    with TraceReader(out / "trace.h5") as reader:
        assert [c["state"] for c in reader.cells()].count("committed") >= 3


def test_an_interrupted_sweep_ends_in_order(tmp_path: Path) -> None:
    out = tmp_path / "run"
    process = start("experiments.power_sweep", "--lab", TX1, "--networks", "busy:20", "--repeats", "200", "--out", out)
    assert process.stderr is not None
    while "[  2/800]" not in (line := process.stderr.readline()):
        assert line
    bench = child_of(process.pid)
    process.send_signal(signal.SIGINT)
    _, rest = process.communicate(timeout=200)
    assert process.returncode == 130
    assert "Traceback" not in rest
    assert "VERIFIED" not in rest
    until_s = time.monotonic() + 60
    while Path(f"/proc/{bench}").exists():
        assert time.monotonic() < until_s
        time.sleep(0.02)


def child_of(pid: int) -> int:
    """The simulated bench that a sweep has started."""
    (child,) = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    return int(child)
