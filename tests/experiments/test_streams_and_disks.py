"""What surrounds a sweep may fail: closed streams, full disks, damaged files. Nothing that was measured is lost."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import h5py
import numpy as np
import pytest

from calibration.list import main as list_main
from experiments.figures.__main__ import main as figures_main
from experiments.findings.__main__ import main as findings_main
from experiments.networks.__main__ import main as networks_main
from experiments.replay import main as replay_main
from experiments.report.__main__ import main as report_main
from experiments.traces import TraceReader
from experiments.traces.__main__ import main as traces_main
from instruments.mso_x2024a.__main__ import main as mso_main
from tests.sweeps import QUICK as QUICK_PLAN
from tests.sweeps import ROOT, lab_file, output_is_on, rows, run, served_bench

QUICK = [*QUICK_PLAN, "--lab", str(ROOT / "docs/benches/simulated-tx1.yaml")]


@pytest.fixture(scope="module")
def trace(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The trace of one small sweep."""
    out = tmp_path_factory.mktemp("small") / "run"
    done = run("experiments.power_sweep", *QUICK, "--out", out)
    assert done.returncode == 0, done.stderr
    return out / "trace.h5"


def shell(line: str, timeout_s: float = 200.0) -> subprocess.CompletedProcess[str]:
    """Run a line of bash from the project's root; `PY` stands for this Python."""
    return subprocess.run(
        ["bash", "-c", line], cwd=ROOT, capture_output=True, text=True, timeout=timeout_s,
        env={**os.environ, "PY": sys.executable},
    )  # fmt: skip


FULL = (
    "error: standard output cannot be written (No space left on device): what was told there is lost, files are not\n"
)


@pytest.mark.parametrize("streams", [">&- 2>&-", ">/dev/full", "2>/dev/full"])
def test_streams_that_are_closed_or_full_stop_nothing(tmp_path: Path, streams: str) -> None:
    done = shell(f"$PY -m experiments.power_sweep {' '.join(QUICK)} --out {tmp_path / 'run'} {streams}")
    full = streams == ">/dev/full"
    assert done.returncode == (3 if full else 0), done.stderr
    assert done.stderr.endswith(FULL) == full
    assert "Traceback" not in done.stderr
    assert rows(tmp_path / "run" / "results.csv")[0]["repeats"] == "1"


MAINS = {
    "replay": replay_main,
    "report": report_main,
    "findings": findings_main,
    "figures": figures_main,
    "networks": networks_main,
    "list": list_main,
    "mso": mso_main,
}


@pytest.mark.parametrize(
    "command",
    [
        "replay {trace} --out {out} --budget",
        "replay {trace} --out {out} --results-only",
        "report {trace} --out {out}/r.html",
        "figures {trace} --out {out} --only time_vs_batch",
        "findings {trace}",
        "networks --json",
        "list {out}",
        "mso --window 2",
    ],
)
def test_what_cannot_be_told_is_an_error_of_every_program(
    trace: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], command: str
) -> None:
    words = command.format(trace=trace, out=tmp_path).split()
    with open("/dev/full", "w") as full:
        monkeypatch.setattr(sys, "stdout", full)
        assert MAINS[words[0]](words[1:]) == 3
    assert capsys.readouterr().err.endswith(FULL)
    monkeypatch.undo()
    if "--out" in words:
        assert list(tmp_path.iterdir())  # what it writes is there


@pytest.mark.parametrize(
    "command", ["replay {trace} --out {out} --results-only", "networks --json", "mso --points 50000"]
)
def test_a_reader_that_has_gone_stops_no_program(
    trace: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], command: str
) -> None:
    words = command.format(trace=trace, out=tmp_path).split()
    read, write = os.pipe()
    os.close(read)
    with open(write, "w") as gone, monkeypatch.context() as patch:
        patch.setattr(sys, "stdout", gone)
        assert MAINS[words[0]](words[1:]) == 0
    assert capsys.readouterr().err == ""


def test_a_terminal_that_knows_ascii_alone(trace: Path, tmp_path: Path) -> None:
    done = shell(f"PYTHONIOENCODING=ascii $PY -m experiments.replay {trace} --out {tmp_path / 'x'}")
    assert done.returncode == 0, done.stderr
    assert "? is the half-width" in done.stdout


def test_a_plotting_backend_that_does_not_exist(trace: Path, tmp_path: Path) -> None:
    done = shell(f"MPLBACKEND=nonsense $PY -m experiments.replay {trace} --out {tmp_path / 'x'}")
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("kilobytes", [2400, 2800, 3200])
def test_a_disk_that_fills_costs_only_what_does_not_fit(tmp_path: Path, kilobytes: int) -> None:
    with served_bench(tmp_path) as (lab, addresses):
        out = tmp_path / "run"
        args = f"--lab {lab} --networks busy:4 --batches 1,2,4 --repeats 3 --window 0.3 --out {out}"
        done = shell(f"ulimit -f {kilobytes}; exec $PY -m experiments.power_sweep {args}")
        assert not output_is_on(addresses)
    assert done.returncode == 3, done.stderr
    assert "the disk is full" in done.stderr
    assert "Traceback" not in done.stderr
    with TraceReader(out / "trace.h5") as reader:
        assert sum(c["state"] == "committed" for c in reader.captures()) >= done.stderr.count("mJ/image")


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 80 MiB; skipped where none may be mounted."""
    disk = tmp_path / "disk"
    disk.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=80m", "tmpfs", disk], capture_output=True).returncode:
        pytest.skip("no file system may be mounted here")
    yield disk
    subprocess.run(["umount", "--lazy", disk], check=True)


FILLS = """
import os, pathlib, shutil, sys
from experiments.power_sweep import leave, main
from experiments.traces import room, writer
from tests.kills import PLACES, act_at
filler, place, left = pathlib.Path(sys.argv[1]), sys.argv[2], int(sys.argv[3])
def fill():
    filler.write_bytes(bytes(shutil.disk_usage(filler.parent).free - left))
room._AHEAD = 0
writer.require_room = lambda *_: None  # a quota: the disk itself has room
if place == "codes being compressed":
    writer.reserve = lambda *_: None  # a file system that sets nothing aside
act_at(PLACES[place], 4 if left == 0 else 1, fill)
leave(main(sys.argv[4:]))
"""
"""A sweep on whose disk only so much is left once it has come to a place; what the disk says of its room is no help."""


@pytest.mark.parametrize(
    ("place", "left", "told"),
    [("committed", 1 << 18, "the disk is full (No"), ("codes being compressed", 0, "cannot be written (No")],
)
def test_a_disk_that_somebody_else_fills_stops_the_sweep_which_goes_on_later(
    small_disk: Path, tmp_path: Path, place: str, left: int, told: str
) -> None:
    out, filler = small_disk / "run", small_disk / "filler"
    lab = str(ROOT / "docs/benches/simulated-tx1.yaml")
    plan = ["--networks", "AlexNet", "--batches", "1,2", "--repeats", "3", "--out", str(out)]
    command = [sys.executable, "-c", FILLS, str(filler), place, str(left), "--lab", lab, *plan]
    sweep = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=200)
    said = sweep.stderr
    assert sweep.returncode == 3, said
    assert f"error: {out / 'trace.h5'}: {told} space left on device)" in said
    assert f"--resume {out}" in said
    assert "Traceback" not in said
    with TraceReader(out / "trace.h5") as reader:
        committed = [row["cell"] for row in reader.captures() if row["state"] == "committed" and row["kind"] == "cell"]
    assert said.count("mJ/image") <= len(committed) < 6
    filler.unlink()
    done = run("experiments.power_sweep", "--resume", out)
    assert done.returncode == 0, done.stderr
    assert rows(out / "results.csv")[0]["repeats"] == rows(out / "results.csv")[1]["repeats"] == "3"


def test_a_folder_that_cannot_be_written_is_refused_before_an_instrument_is_opened(tmp_path: Path) -> None:
    folder, transcript = tmp_path / "folder", tmp_path / "said.jsonl"
    folder.mkdir()
    folder.chmod(0o555)
    if os.access(folder, os.W_OK):  # nothing keeps root from writing there
        folder = Path("/proc")
    out = folder / "run"
    done = run("experiments.power_sweep", *QUICK, "--out", out, "--transcript", transcript)
    assert done.returncode == 3
    assert f"{out}: cannot be written" in done.stderr
    assert "--out" in done.stderr
    assert done.stderr.count("\n") == 1
    assert not transcript.exists()


@pytest.mark.parametrize("program", ["traces check", "traces info", "replay"])
@pytest.mark.parametrize(
    ("attribute", "expected"), [(99, "has trace schema 99.*upgrade joulebench"), (None, "not a joulebench trace")]
)
def test_a_newer_and_a_foreign_file_are_named(
    tmp_path: Path, program: str, attribute: int | None, expected: str, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "their.h5"
    with h5py.File(path, "w") as f:
        f["data"] = np.arange(10)
        if attribute is not None:
            f.attrs["joulebench_schema"] = attribute
    main = {"traces": traces_main, "replay": replay_main}[program.split()[0]]
    out = ["--out", str(tmp_path / "x")] if program == "replay" else []
    assert main([*program.split()[1:], str(path), *out]) == 3
    told = capsys.readouterr()
    assert told.out == ""
    assert re.fullmatch(rf"error: {re.escape(str(path))}: .*{expected}.*\n", told.err)
    assert not (tmp_path / "x").exists()


def test_a_rejection_is_told_even_when_quiet(tmp_path: Path) -> None:
    lab = lab_file(tmp_path, ('"-m", "experiments.dut_agent"', '"-c", "import sys; sys.exit(\'no board\')"'))
    done = run("experiments.power_sweep", *QUICK_PLAN, "--lab", lab, "--out", tmp_path / "run", "--quiet")
    assert done.returncode == 1
    assert "busy:4 batch 2 repeat 1: rejected: the device does not start" in done.stdout


def test_a_replay_never_writes_over_its_run(trace: Path) -> None:
    before = {p.name: p.read_bytes() for p in trace.parent.iterdir()}
    done = run("experiments.replay", trace, "--out", trace.parent)
    assert done.returncode == 2
    assert {p.name: p.read_bytes() for p in trace.parent.iterdir()} == before


@pytest.mark.parametrize(
    ("damage", "expected"),
    [
        (lambda f: f["captures/images"].__setitem__(slice(None), 7), "7 images are not|its images is 7"),
        (lambda f: f.__delitem__("captures/points"), "damaged"),
        (lambda f: f.attrs.__setitem__("joulebench_schema", "abc"), "damaged|trace"),
        (lambda f: f.attrs.__delitem__("source"), "damaged"),
        (lambda f: f["provenance/plan"].__setitem__(slice(None), np.bytes_(b"x")), "damaged"),
    ],
)
def test_a_damaged_file_is_told_without_a_traceback(trace: Path, tmp_path: Path, damage, expected: str) -> None:
    copy = tmp_path / "trace.h5"
    shutil.copy(trace, copy)
    with h5py.File(copy, "r+") as f:
        damage(f)
    done = run("experiments.replay", copy, "--out", tmp_path / "x")
    assert done.returncode == 3, done.stdout + done.stderr
    assert "Traceback" not in done.stderr
    assert any(word in done.stderr for word in expected.split("|"))


def test_a_flipped_bit_in_a_column_is_noticed(trace: Path, tmp_path: Path) -> None:
    copy = tmp_path / "trace.h5"
    with h5py.File(trace) as f:
        chunk = f["captures/images"].id.get_chunk_info_by_coord((0,))
    raw = bytearray(trace.read_bytes())
    raw[chunk.byte_offset + 12] ^= 1
    copy.write_bytes(raw)
    done = run("experiments.replay", copy, "--out", tmp_path / "x")
    assert done.returncode == 3, done.stdout + done.stderr
    assert "Traceback" not in done.stderr
