"""Running the programs as a user would, on lab files made from the shipped one."""

from __future__ import annotations

import contextlib
import csv
import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

from tests import forked
from tests.worlds import LAB

ROOT = LAB.parent
QUICK = ["--networks", "busy:4", "--batches", "2", "--repeats", "1", "--window", "0.4"]


def lab_file(folder: Path, *changes: tuple[str, str], name: str = "lab.yaml") -> Path:
    """Write a lab file: the shipped one with each old text replaced, which must be in it, by the new."""
    text = LAB.read_text()
    for old, new in changes:
        assert old in text, old
        text = text.replace(old, new)
    path = folder / name
    path.write_text(text)
    return path


def virtual_lab_file(folder: Path, *changes: tuple[str, str], name: str = "lab.yaml") -> Path:
    """Write a lab file whose board is a model in virtual time: as the shipped one, many times faster."""
    path = lab_file(folder, *changes, name=name)
    text, count = re.subn(r"^dut:\n(?:  .*\n)+", "dut:\n  simulated: tx1\n", path.read_text(), flags=re.M)
    assert count == 1
    path.write_text(text)
    return path


def agent_with(folder: Path, code: str) -> tuple[str, str]:
    """A change of the lab file: the agent, with some of it replaced by `code`, which is kept in the folder."""
    script = folder / "agent.py"
    script.write_text(
        "import os, signal, sys, time\n"
        "from experiments import dut_agent, dut_condition, dut_host, dut_loop, dut_runner\n"
        f"folder = {str(folder)!r}\n"
        f"{code}\n"
        "sys.exit(dut_agent.main(sys.argv[1:]))\n"
    )
    return (
        '"-m", "experiments.dut_agent"',
        f'"-c", "import runpy, sys; sys.path.insert(0, sys.argv[1]); '
        f'sys.argv = sys.argv[1:]; runpy.run_path({str(script)!r}, run_name=\'__main__\')", "."',
    )


def run(module: str, *args: str | Path, timeout_s: float = 200.0) -> subprocess.CompletedProcess[str]:
    """Run `python -m module` to its end from the project's root, in a process that need not load the libraries."""
    return forked.run(["-m", module, *map(str, args)], timeout_s, {"PYTHONWARNINGS": "error"})


def run_undrawn(module: str, *args: str | Path, timeout_s: float = 200.0) -> subprocess.CompletedProcess[str]:
    """As `run`, without the pictures of results: for sweeps and replays whose numbers and words are looked at."""
    return forked.run(
        ["-m", module, *map(str, args)], timeout_s, {"PYTHONWARNINGS": "error"}, forked.leave_pictures_out
    )


def run_afresh(module: str, *args: str | Path, timeout_s: float = 200.0) -> subprocess.CompletedProcess[str]:
    """As `run`, in a Python of its own with its own order of sets: for what must be the same in any."""
    return subprocess.run(
        [sys.executable, "-m", module, *map(str, args)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=timeout_s,
        env={**os.environ, "PYTHONWARNINGS": "error"},
    )


def start(module: str, *args: str | Path) -> subprocess.Popen[str]:
    """Start `python -m module`; its standard error is a pipe."""
    return subprocess.Popen(
        [sys.executable, "-m", module, *map(str, args)],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def rows(path: Path) -> list[dict[str, str]]:
    """The rows of a results.csv."""
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


@contextlib.contextmanager
def served_bench(folder: Path, *changes: tuple[str, str]) -> Iterator[tuple[Path, dict]]:
    """A simulated bench in a process of its own, and a lab file that reaches it by its addresses."""
    state = folder / "state"
    process = subprocess.Popen(
        [
            sys.executable,
            "-m",
            "instruments.simulated",
            "--lab",
            str(LAB),
            "--state-dir",
            str(state),
            "--portmapper",
            "0",
        ],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        assert process.stdout is not None
        addresses = json.loads(process.stdout.readline())
        lab = lab_file(
            folder,
            ("resource: sim:socket", f"resource: {json.dumps(addresses['scope']['socket'])}"),
            ("resource: sim:prologix", f"resource: {json.dumps(addresses['supply']['prologix'])}"),
            ("simulation:\n", f"simulation:\n  state_dir: {json.dumps(str(state))}\n"),
            *changes,
        )
        yield lab, addresses
    finally:
        process.terminate()
        process.wait(200)
        assert process.stdout is not None
        process.stdout.close()


def output_is_on(addresses: dict) -> bool:
    """Ask the simulated supply itself, over its serial line, whether its output is on."""
    import serial

    path = addresses["supply"]["serial"][0].removeprefix("ASRL").removesuffix("::INSTR")
    with serial.Serial(path, 9600, timeout=60) as port:
        port.write(b"SYST:REM\nOUTP?\n")
        return port.readline().strip() == b"1"
