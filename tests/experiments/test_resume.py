"""A sweep that is killed, at whatever moment, goes on where it was and ends as if nothing had happened."""

from __future__ import annotations

import random
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import h5py
import pytest

from experiments.power_sweep import main
from experiments.traces import TraceReader
from experiments.traces.checking import check
from experiments.traces.recovery import recover
from experiments.traces.schema import CAPTURE, CHECKSUM, COPY, HOST_LOG, PREAMBLE, READINGS
from tests.sweeps import ROOT, run, run_undrawn

LAB = ROOT / "docs" / "benches" / "simulated-tx1.yaml"
PLAN = ["--networks", "AlexNet,VGG-16", "--batches", "1,64", "--repeats", "2", "--window", "0.5"]
"""VGG-16 at batch 64 does not fit the model's memory: an outcome that must survive as well."""

ROUNDS = {
    "to the first cell": [
        ("opening the instruments", 1),
        ("plan being laid out", 1),
        ("plan written", 1),
        ("zero stored, not committed", 1),
        ("output on", 1),
        ("preparing a network", 1),
    ],
    "in a cell": [
        ("preparing a network", 2),
        ("prepared", 1),
        ("armed", 2),
        ("running", 1),
        ("fetching", 1),
        ("fetched", 1),
        ("codes being compressed", 1),
        ("stored, not committed", 2),
        ("committed, not in the journal", 1),
        ("committed", 1),
    ],
    "after the last cell": [
        ("arming", 9),
        ("every cell visited, not marked", 1),
        ("marked complete", 1),
        ("sealing", 1),
        ("reducing", 1),
        ("results being written", 2),
        ("report", 1),
        ("outputs written", 1),
    ],
}
"""Where one sweep is killed, gone on with, killed again (tests.kills), the how many times that it comes there."""

COMPLETE = ("marked complete", "sealing", "reducing", "results being written", "report", "outputs written")
"""Places where every cell has been visited."""


BEFORE_THE_FILE = ("opening the instruments", "plan being laid out")
"""Places where there is no trace file yet."""


def sweep(*options: str) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "experiments.power_sweep", *options]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=ROOT)


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("undisturbed") / "run"
    done = run_undrawn("experiments.power_sweep", "--lab", LAB, *PLAN, "--out", out, "--quiet")
    assert done.returncode == 0  # VGG-16 at batch 64 is out of memory: an outcome, no failure
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


def committed(out: Path) -> list[tuple[str, str, int]]:
    """The captures that a run holds and that count: what they are of, and when they were taken."""
    with TraceReader(out / "trace.h5") as reader:
        captures = [row for row in reader.captures() if row["state"] == "committed"]
    return [(row["kind"], row["run_id"], row["host_s"]) for row in captures]


@pytest.mark.timeout(400)
@pytest.mark.parametrize("places", ROUNDS.values(), ids=ROUNDS)
def test_a_sweep_that_is_killed_at_each_place_goes_on_to_the_same_result(
    undisturbed: Path, tmp_path: Path, places: list[tuple[str, int]]
) -> None:
    out = tmp_path / "run"
    anew = ["--lab", str(LAB), *PLAN, "--out", str(out)]
    kept: list[tuple[str, str, int]] = []
    for place, number in places:
        begun = out.exists()
        done = run_undrawn("tests.kills", place, str(number), *(["--resume", out] if begun else anew))
        assert done.returncode == -signal.SIGKILL, f"{place}: never came there: {done.stderr}"
        if not (out / "trace.h5").exists():  # nothing was measured, and the next begins the same sweep
            assert place in BEFORE_THE_FILE
            continue
        found = check(out / "trace.h5")
        assert found.sound, (place, found.problems)
        before, kept = kept, committed(out)
        assert kept[: len(before)] == before, place  # what was committed stays
        with TraceReader(out / "trace.h5") as reader:
            assert reader.complete == (place in COMPLETE), place
    done = run_undrawn("experiments.power_sweep", "--resume", out)
    told, said = done.stdout, done.stderr
    assert done.returncode == 0, said
    assert not re.search(r": measured$", said, re.M)  # every cell with its numbers
    assert "not compared" not in told + said  # a session that ended before its comparison measured no cell
    assert (out / "results.csv").read_bytes() == (undisturbed / "results.csv").read_bytes()
    assert not (out / "begun.json").exists()
    with TraceReader(out / "trace.h5") as reader:
        assert reader.complete
        assert reader.sealed
        # What was committed before is still there, and nothing was measured twice.
        kept = [row["cell"] for row in reader.captures() if row["kind"] == "cell" and row["state"] == "committed"]
        assert sorted(kept) == sorted(set(kept))


def test_what_was_written_of_a_capture_whose_row_was_not_is_dropped(undisturbed: Path, tmp_path: Path) -> None:
    """Which of its tables reached the disk, when a program dies within one flush, is for HDF5 to choose."""
    out = tmp_path / "run"
    run_undrawn("tests.kills", "stored, not committed", "2", "--lab", str(LAB), *PLAN, "--out", str(out))
    with h5py.File(out / "trace.h5", "r+") as file:
        group, log, readings = file["captures"], file["host_log"], file["readings"]
        index = group["capture"].shape[0] - 1
        batches = int((log["capture"][:] == index).sum())
        assert batches > 0
        for name in (*CAPTURE, *COPY, *PREAMBLE, *CHECKSUM, "capture"):
            group[name].resize(index, axis=0)
        for name in READINGS:
            readings[name].resize(readings[name].shape[0] + 1, axis=0)
        readings["capture"][-1], readings["quantity"][-1, 0] = index, b"A"
        for name in HOST_LOG:  # a chunk that was not reached: its rows read as zeros
            log[name].resize(log[name].shape[0] + 3, axis=0)
    found = check(out / "trace.h5")
    assert found.sound, found.problems
    with TraceReader(out / "trace.h5") as reader:
        assert {0, index}.isdisjoint(reader.host_log())
        assert reader.readings(index) == []
    saved = recover(out / "trace.h5", tmp_path / "saved.h5")
    assert (saved.lost, saved.rejected) == (0, 0)
    with TraceReader(tmp_path / "saved.h5") as reader:
        assert {0, index}.isdisjoint(reader.host_log())
    done = run_undrawn("experiments.power_sweep", "--resume", str(out), "--quiet")
    assert done.returncode == 0, done.stderr
    assert check(out / "trace.h5").sound
    assert (out / "results.csv").read_bytes() == (undisturbed / "results.csv").read_bytes()
    with TraceReader(out / "trace.h5") as reader:
        row = reader.captures()[index]
        assert row["state"] == "committed"
        assert len(reader.host_log()[index]) == row["batches"]
        assert reader.readings(index) == []


@pytest.mark.parametrize("variable", ["captures/state", "captures/crc32", "overview/blocks_of_256", "cells/state"])
def test_a_chunk_of_a_table_that_was_half_written_is_made_good(
    undisturbed: Path, tmp_path: Path, variable: str
) -> None:
    """A chunk that is written again where it is goes across pages of the disk: a kill can come between two of them."""
    out = tmp_path / "run"
    run_undrawn("tests.kills", "stored, not committed", "3", "--lab", str(LAB), *PLAN, "--out", str(out))
    before = committed(out)
    with h5py.File(out / "trace.h5") as file:
        data = file[variable]
        chunk = data.id.get_chunk_info_by_coord((0,) * data.ndim)
    with (out / "trace.h5").open("r+b") as raw:
        raw.seek(chunk.byte_offset + chunk.size - 8)
        raw.write(b"torn")
    (out / "trace.mending.h5").write_bytes(b"of a recovery that was killed itself")
    torn = (out / "trace.h5").read_bytes()
    assert not check(out / "trace.h5").sound
    done = run_undrawn("experiments.power_sweep", "--resume", str(out), "--quiet")
    assert done.returncode == 0, done.stderr
    lost = int(variable == "captures/state")  # of the one in flight it is not known then that it was never committed
    said = rf"trace\.h5: was damaged .* {lost} lost, 0 rejected; what it was is in .*damaged-1\.h5"
    assert re.search(said, done.stderr)
    assert (out / "trace.damaged-1.h5").read_bytes()[: len(torn)] == torn
    assert sorted(path.name for path in out.glob("*.h5")) == ["trace.damaged-1.h5", "trace.h5"]
    assert check(out / "trace.h5").sound
    assert committed(out)[: len(before)] == before
    assert (out / "results.csv").read_bytes() == (undisturbed / "results.csv").read_bytes()


def test_killed_again_and_again(undisturbed: Path, tmp_path: Path) -> None:
    out, rng = tmp_path / "run", random.Random(7)
    command = ["--lab", str(LAB), *PLAN, "--out", str(out)]
    for _ in range(4):
        with sweep(*command) as process:
            killed(process, rng.choice(["output on", "repeat", "gain of both"]), rng.uniform(0.0, 0.5))
        if out.exists():
            command = ["--resume", str(out)]
    run_undrawn("experiments.power_sweep", *command)
    assert (out / "results.csv").read_bytes() == (undisturbed / "results.csv").read_bytes()


def test_a_folder_in_which_nothing_was_begun_is_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--resume", str(tmp_path)]) == 2
    assert f"--resume {tmp_path}: holds neither trace.h5 nor begun.json" in capsys.readouterr().err
    (tmp_path / "begun.json").write_text('{"plan": 1}')
    assert main(["--resume", str(tmp_path)]) == 2
    assert f"{tmp_path / 'begun.json'}: cannot be used" in capsys.readouterr().err


def test_resuming_keeps_to_the_plan_of_the_run(undisturbed: Path) -> None:
    done = run("experiments.power_sweep", "--resume", undisturbed, "--repeats", "9")
    assert "leave out --repeats" in done.stderr
    assert done.returncode == 2


def test_resuming_a_complete_run_reports_it_again(undisturbed: Path) -> None:
    before = (undisturbed / "results.csv").read_bytes()
    (undisturbed / "results.csv").unlink()
    assert run("experiments.power_sweep", "--resume", undisturbed, "--quiet").returncode == 0
    assert (undisturbed / "results.csv").read_bytes() == before
