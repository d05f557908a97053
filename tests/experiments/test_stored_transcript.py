"""The transcript that a trace file keeps: all of it but the data of blocks, by sessions, as far as a kill lets it."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import h5py
import pytest

from experiments.traces import CaptureRow, TraceReader, TraceWriter
from experiments.traces.said import Said
from instruments.errors import TraceError
from tests.sweeps import ROOT, run, run_undrawn, virtual_lab_file
from tests.trace_files import PLAN, SOURCES
from tests.worlds import LAB, Bench

OPTIONS = ["--networks", "AlexNet", "--batches", "4", "--repeats", "3"]


def without_data(path: Path) -> list[dict[str, Any]]:
    """The lines of a transcript's file, each block without its data."""
    whole = path.read_text()
    lines = [json.loads(line) for line in whole[: whole.rfind("\n") + 1].splitlines()]
    for line in lines:
        line.get("block", {}).pop("zlib", None)
    return lines


@pytest.fixture(scope="module")
def killed(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path, Path]:
    """A sweep that was killed after its first cells and gone on with: its folder and both transcripts."""
    folder = tmp_path_factory.mktemp("said")
    lab, first, second = virtual_lab_file(folder), folder / "first.jsonl", folder / "second.jsonl"
    command = [sys.executable, "-m", "experiments.power_sweep", "--lab", str(lab), *OPTIONS, "--out"]
    command += [str(folder / "run"), "--transcript", str(first)]
    with subprocess.Popen(command, cwd=ROOT, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True) as sweep:
        assert sweep.stderr is not None
        for line in sweep.stderr:
            if line.startswith("[1/3]"):
                sweep.send_signal(signal.SIGKILL)
                break
    with TraceReader(folder / "run/trace.h5") as reader:
        kept = [json.loads(line) for line in reader.transcript().splitlines()]
        # Killed, it holds what was said up to the last capture that was settled: the beginning of what the file has.
        assert kept == without_data(first)[: len(kept)]
        assert any("SING" in entry.get("text", "") for entry in kept)
        assert sum("block" in entry for entry in kept) >= 3 * sum(row["state"] != "" for row in reader.captures())
    done = run_undrawn("experiments.power_sweep", "--resume", folder / "run", "--transcript", second)
    assert done.returncode == 0, done.stderr
    return folder / "run/trace.h5", first, second


def test_each_session_is_kept_after_the_other(killed: tuple[Path, Path, Path]) -> None:
    trace, _, second = killed
    done = run("experiments.traces", "transcript", trace, "--session", "2")
    assert done.returncode == 0, done.stderr
    # To the very end: how the bench was left is said when everything was measured.
    assert [json.loads(line) for line in done.stdout.splitlines()] == without_data(second)
    whole = run("experiments.traces", "transcript", trace).stdout
    assert whole.count('{"transcript":') == 2
    assert whole.endswith(done.stdout)
    assert "zlib" not in whole


def test_it_can_be_written_into_a_new_file_alone(killed: tuple[Path, Path, Path], tmp_path: Path) -> None:
    trace, *_ = killed
    out = tmp_path / "said.jsonl"
    assert run("experiments.traces", "transcript", trace, "--out", out).returncode == 0
    assert len(out.read_text().splitlines()) > 100
    again = run("experiments.traces", "transcript", trace, "--out", out)
    assert (again.returncode, "exists" in again.stderr) == (2, True)
    missing = run("experiments.traces", "transcript", trace, "--session", "3")
    assert (missing.returncode, "2 sessions" in missing.stderr) == (2, True)


def test_info_check_and_recover_know_of_it(killed: tuple[Path, Path, Path], tmp_path: Path) -> None:
    trace, *_ = killed
    facts = json.loads(run("experiments.traces", "info", "--json", trace).stdout)
    assert facts["transcript"].endswith("lines in 2 sessions")
    assert run("experiments.traces", "check", trace).returncode == 0
    assert run("experiments.traces", "recover", trace, "--out", tmp_path / "new.h5").returncode in (0, 1)
    with TraceReader(trace) as reader, TraceReader(tmp_path / "new.h5") as saved:
        assert saved.transcript() == reader.transcript() != ""


def test_a_run_that_was_not_asked_for_one_has_none() -> None:
    trace = ROOT / "tests/golden/schema-1.h5"
    done = run("experiments.traces", "transcript", trace)
    assert (done.returncode, done.stdout) == (2, "")
    assert "measured without --transcript" in done.stderr
    assert "transcript: none" in run("experiments.traces", "info", trace).stdout


def test_a_line_that_is_half_written_waits_for_its_end(tmp_path: Path) -> None:
    path = tmp_path / "said"
    said = Said(path)
    assert said() == ""
    path.write_text('{"transcript":1}\n{"dir":"in","block":{"bytes":1,"sha256":"0","zlib":"AA')
    assert said() == '{"transcript":1}\n'
    with path.open("a") as file:
        file.write('=="}}\n')
    assert said() == '{"dir":"in","block":{"bytes":1,"sha256":"0"}}\n'
    assert said() == ""


def test_a_transcript_that_no_longer_fits_costs_no_capture(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The disk fills between a capture's codes and its commit: it is committed, and what was said follows later."""
    path, said = tmp_path / "trace.h5", iter(["", "first\n", "second\n", "third\n"])
    room = os.statvfs(tmp_path)
    zero = Bench.make(3).steady("zero", 1.0).data.capture
    with TraceWriter.create(path, PLAN, source="simulated", texts={"lab_yaml": LAB.read_text()}) as writer:
        writer.keep_transcript(lambda: next(said, ""))
        index = writer.add(CaptureRow("zero", host_s=1.0), zero, SOURCES)
        full = os.statvfs_result((*room[:3], 0, 0, *room[5:10]))
        monkeypatch.setattr(os, "statvfs", lambda _path: full)
        writer.settle(index)
        with h5py.File(shutil.copy(path, tmp_path / "killed.h5")) as file:
            assert file["captures/state"][index].tobytes().rstrip(b"\0") == b"committed"
        with pytest.raises(TraceError, match="the disk is full"):
            writer.add(CaptureRow("zero", host_s=2.0), zero, SOURCES)
        monkeypatch.setattr(os, "statvfs", lambda _path: room)
        writer.settle(writer.add(CaptureRow("zero", host_s=2.0), zero, SOURCES))
        monkeypatch.setattr(os, "statvfs", lambda _path: full)
        with pytest.raises(TraceError, match="the disk is full"):
            writer.complete()
        monkeypatch.setattr(os, "statvfs", lambda _path: room)
    with TraceReader(path) as reader:
        assert reader.complete
        assert [row["state"] for row in reader.captures()] == ["committed", "committed"]
        assert reader.transcript() == "first\nsecond\nthird\n"
