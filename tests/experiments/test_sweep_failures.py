"""What the main job does with bad input, foreign instruments and devices that fail."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from experiments.traces import TraceReader
from tests.sweeps import QUICK, agent_with, lab_file, rows, run, run_undrawn

# --- bad input --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("args", "expected"),
    [
        (
            ["--networks", "AlexNet,ResNet-19"],
            r"unknown network 'ResNet-19'; did you mean .*known: AlexNet, BN-AlexNet",
        ),
        (["--batches", "1,two"], "whole numbers"),
        (["--batches", "0"], "batch 0"),
        (["--repeats", "0"], "repeats 0"),
        (["--window", "0"], "window 0 s"),
        (["--lab", "nowhere.yaml"], r"nowhere\.yaml: cannot be read"),
        (["--networks", "busy:soon"], "busy:MILLISECONDS"),
    ],
)
def test_wrong_usage_is_refused_before_anything_is_opened(args: list[str], expected: str, tmp_path: Path) -> None:
    done = run("experiments.power_sweep", *args, "--out", tmp_path / "run")
    assert done.returncode == 2
    assert re.search(expected, done.stderr), done.stderr
    assert "Traceback" not in done.stderr
    assert not (tmp_path / "run").exists()


def test_a_mistake_in_the_lab_file_is_named(tmp_path: Path) -> None:
    lab = lab_file(tmp_path, ("ovp_v: 13.5", "ovp: 13.5"))
    done = run("experiments.power_sweep", "--lab", lab)
    assert done.returncode == 2
    assert re.search(r"lab\.yaml:\d+: supply\.ovp: unknown key, did you mean ovp_v\?", done.stderr)


@pytest.mark.parametrize(
    ("old", "new", "named"),
    [
        ("serial: MY00000001", "serial: MY99999999", ["scope", "MY99999999", "MY00000001"]),
        ("model: E3645A", "model: E3646A", ["supply", "E3646A", "E3645A"]),
    ],
)
def test_a_foreign_instrument_is_refused_naming_both(tmp_path: Path, old: str, new: str, named: list[str]) -> None:
    done = run("experiments.power_sweep", "--lab", lab_file(tmp_path, (old, new)), *QUICK, "--out", tmp_path / "run")
    assert done.returncode == 3
    assert all(text in done.stderr for text in named), done.stderr
    assert "Traceback" not in done.stderr


def test_an_instrument_that_does_not_answer_is_named(tmp_path: Path) -> None:
    lab = lab_file(
        tmp_path,
        ("resource: sim:socket", "resource: TCPIP::127.0.0.1::9::SOCKET"),
        ("open_timeout_s: 12.0", "open_timeout_s: 1.0"),
    )
    done = run("experiments.power_sweep", "--lab", lab, *QUICK, "--out", tmp_path / "run")
    assert done.returncode == 3
    for text in ("scope", "TCPIP::127.0.0.1::9::SOCKET"):
        assert text in done.stderr
    assert re.search(r"\d s", done.stderr)
    assert "Traceback" not in done.stderr


def agent_that(folder: Path, deed: str) -> tuple[str, str]:
    """A change of the lab file: an agent that does a deed in its third measured loop."""
    return agent_with(
        folder,
        "count = os.path.join(folder, 'count')\n"
        "real = dut_loop.run_measured\n"
        "def run_measured(run, gate, toggle, log, limit_s, *rest):\n"
        "    n = os.path.getsize(count) if os.path.exists(count) else 0\n"
        "    open(count, 'a').write('x')\n"
        "    if n == 2:\n"
        f"        {deed}\n"
        "    return real(run, gate, toggle, log, limit_s, *rest)\n"
        "dut_loop.run_measured = run_measured\n",
    )


@pytest.mark.parametrize(
    ("deed", "reason"),
    [
        ("os.kill(os.getpid(), signal.SIGKILL)", "killed by SIGKILL"),
        ("gate(True); time.sleep(0.01); os.kill(os.getpid(), signal.SIGKILL)", "killed by SIGKILL"),
        ("gate = lambda level: None", "gate line never rose"),
        ("toggle = lambda: None", "missing batch edges"),
        ("raise ValueError('no such luck')", "no such luck"),
    ],
)
def test_a_device_that_fails_costs_its_cell_alone(tmp_path: Path, deed: str, reason: str) -> None:
    lab = lab_file(tmp_path, agent_that(tmp_path, deed))
    done = run_undrawn(
        "experiments.power_sweep",
        "--lab",
        lab,
        "--networks",
        "busy:4",
        "--batches",
        "1,2",  # the second loop of cells is the third of all
        "--repeats",
        "1",
        "--window",
        "0.4",
        "--out",
        tmp_path / "run",
    )
    with TraceReader(tmp_path / "run" / "trace.h5") as reader:
        cells = reader.cells()
        assert reader.complete
    rejected = [c for c in cells if c["state"] == "rejected"]
    if reason in ("missing batch edges", "gate line never rose"):  # the record was at fault
        assert done.returncode == 0
        assert "tried again" in done.stderr
        assert rejected == []
        return
    assert done.returncode == 1, done.stderr
    assert len(rejected) == 1
    assert reason in rejected[0]["reason"]
    assert sum(c["state"] == "committed" for c in cells) == 1
    table = rows(tmp_path / "run" / "results.csv")
    assert sorted(r["repeats"] for r in table) == ["0", "1"]
    assert reason in done.stdout


def test_a_device_that_cannot_be_started_costs_every_cell(tmp_path: Path) -> None:
    lab = lab_file(tmp_path, ('"-m", "experiments.dut_agent"', '"-c", "import sys; sys.exit(\'no board\')"'))
    done = run("experiments.power_sweep", "--lab", lab, *QUICK, "--out", tmp_path / "run")
    assert done.returncode == 1, done.stderr
    assert "no board" in done.stdout
    assert rows(tmp_path / "run" / "results.csv")[0]["repeats"] == "0"
    with TraceReader(tmp_path / "run" / "trace.h5") as reader:
        assert [c["kind"] for c in reader.captures()][:2] == ["zero", "idle"]


def test_a_board_that_boots_is_waited_for(tmp_path: Path) -> None:
    late = (
        "import os, sys\n"
        "tries = open(sys.argv[1], 'a+')\n"
        "tries.write('x')\n"
        "tries.flush()\n"
        "if tries.seek(0, 2) < 3:\n"
        "    sys.exit('connection refused')\n"
        "os.execv(sys.executable, [sys.executable, *sys.argv[2:]])\n"
    )
    script = tmp_path / "late.py"
    script.write_text(late)
    lab = lab_file(
        tmp_path,
        (
            '"{python}", "-m", "experiments.dut_agent"',
            f'"{{python}}", "{script}", "{tmp_path / "tries"}", "-m", "experiments.dut_agent"',
        ),
        ("  threads: 0", "  boot_s: 30\n  threads: 0"),
    )
    done = run("experiments.power_sweep", "--lab", lab, *QUICK, "--out", tmp_path / "run")
    assert done.returncode == 0, done.stdout + done.stderr
    assert len((tmp_path / "tries").read_text()) >= 3


def test_a_current_limit_reached_only_during_the_runs_is_seen(tmp_path: Path) -> None:
    lab = lab_file(tmp_path, ("current_limit_a: 2.0", "current_limit_a: 0.9"))
    done = run("experiments.power_sweep", "--lab", lab, *QUICK, "--out", tmp_path / "run")
    assert done.returncode == 1, done.stdout + done.stderr
    assert "constant voltage" in done.stdout
