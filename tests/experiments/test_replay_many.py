"""Many files at once: each gives what it gives alone, and none costs another its results."""

from __future__ import annotations

import csv
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from experiments.replay import main
from experiments.replay_jobs import Job, Options
from experiments.replay_many import batches_of, find_files, replay_many
from experiments.replay_workers import Dask, Processes
from experiments.traces import CaptureRow, TraceWriter
from instruments.errors import ConfigError
from tests.experiments import deadly_work
from tests.sweeps import rows, run, start
from tests.trace_files import PLAN, SOURCES
from tests.worlds import LAB, Bench


def small_run(path: Path, seed: int, cells: int = 2) -> Path:
    """A run of short records."""
    bench = Bench.make(seed)
    bench.points = 10_000
    path.parent.mkdir(parents=True, exist_ok=True)
    with TraceWriter.create(path, PLAN, source="simulated", texts={"lab_yaml": LAB.read_text()}, points=10_000) as w:
        w.settle(w.add(CaptureRow("zero", host_s=1.0), bench.steady("zero", 1.0).data.capture, SOURCES))
        bench.power(2.0, True)
        for k in range(cells):
            data = bench.run("cell", 10.0 * (k + 1), 10, 0.01).data
            row = CaptureRow("cell", k, "net", 4, k, batches=10, images=40, host_s=10.0 * (k + 1),
                             true_energy_j=data.true_energy_j)  # fmt: skip
            index = w.add(row, data.capture, SOURCES)
            w.settle(index)
            w.cell(k, "committed", capture=index)
        w.complete()
    return path


@pytest.fixture(scope="module")
def collection(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Five runs, one of them incomplete, and one file that is none."""
    folder = tmp_path_factory.mktemp("collection")
    for seed in (1, 2, 3):
        small_run(folder / "day1" / f"run{seed}" / "trace.h5", seed)
    small_run(folder / "day2" / "half.h5", 4, cells=1)
    shutil.copy(folder / "day1/run1/trace.h5", folder / "day2" / "other.h5")
    (folder / "day2" / "broken.h5").write_bytes((folder / "day2" / "other.h5").read_bytes()[:5000])
    (folder / "day2" / "notes.txt").write_text("not a trace")
    return folder


NAMES = ["day1/run1", "day1/run2", "day1/run3", "day2/half", "day2/other"]


def table(path: Path) -> list[tuple[str, dict[str, str]]]:
    """The rows of a combined table: file, and the rest."""
    with path.open(newline="") as file:
        return [(row.pop("file"), row) for row in csv.DictReader(file)]


def test_many_files_give_what_each_gives_alone(collection: Path, tmp_path: Path) -> None:
    done = run("experiments.replay", collection, "--out", tmp_path / "out", "--results-only", "--jobs", "2")
    assert done.returncode == 1
    (error,) = (line for line in done.stderr.splitlines() if "error" in line)
    assert "broken.h5: cannot be opened as a trace file: it is cut off" in error
    assert "6 files: 4 whole, 1 with results missing, 1 not replayed" in done.stdout
    found = table(tmp_path / "out" / "results.csv")
    # In the order of the files, whoever was ready first.
    files = [collection / f"{name}/trace.h5" if "run" in name else collection / f"{name}.h5" for name in NAMES]
    assert [file for file, _ in found] == [str(file) for file in files]
    for name, file, (_, row) in zip(NAMES, files, found, strict=True):
        # One of them with everything that a replay of one file writes.
        options, code = ([] if name.endswith("run1") else ["--results-only"]), 1 if "half" in name else 0
        assert main([str(file), "--out", str(tmp_path / "alone" / name), "--quiet", *options]) == code
        alone = (tmp_path / "alone" / name / "results.csv").read_bytes()
        assert (tmp_path / "out" / name / "results.csv").read_bytes() == alone
        assert rows(tmp_path / "alone" / name / "results.csv") == [row]
    assert not (tmp_path / "out" / "day2" / "broken").exists()


def test_every_output_is_written_beside_the_table(collection: Path, tmp_path: Path, capsys) -> None:
    files = [str(collection / name) for name in ("day1/run1/trace.h5", "day2/other.h5")]
    assert main([*files, "--out", str(tmp_path), "--jobs", "1", "--quiet"]) == 0
    said = capsys.readouterr()
    assert said.err == ""  # of progress nothing
    assert said.out.startswith("2 files: 2 whole, ")
    assert f"written to {tmp_path}: " in said.out
    for name in ("run1", "other"):
        assert {p.name for p in (tmp_path / name).iterdir()} >= {"results.csv", "report.html", "power_vs_batch.png"}
    pictures = [(tmp_path / name / "power_vs_batch.png").read_bytes() for name in ("run1", "other")]
    assert pictures[0] == pictures[1]


def test_an_interruption_ends_all_workers(collection: Path, tmp_path: Path) -> None:
    for k in range(900):
        folder = tmp_path / "in" / f"r{k:03d}"
        folder.mkdir(parents=True)
        os.link(collection / "day1/run1/trace.h5", folder / "trace.h5")
    process = start("experiments.replay", tmp_path / "in", "--out", tmp_path / "out", "--jobs", "2", "--results-only")
    assert process.stderr is not None
    assert "/900]" in process.stderr.readline()
    children = subprocess.run(["ps", "-o", "pid=", "--ppid", str(process.pid)], capture_output=True, text=True)
    process.send_signal(signal.SIGINT)
    _, said = process.communicate(timeout=200)
    assert process.returncode == 130
    assert said.endswith("interrupted\n")
    until_s = time.monotonic() + 20
    while any(Path(f"/proc/{pid}").exists() for pid in children.stdout.split()) and time.monotonic() < until_s:
        time.sleep(0.05)
    assert not any(Path(f"/proc/{pid}").exists() for pid in children.stdout.split())
    assert table(tmp_path / "out" / "results.csv")


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["IN"], "name a folder for their results with --out"),
        (["IN", "--out", "o", "--jobs", "0"], "--jobs 0: give 1"),
        (["IN", "--out", "o", "--budget"], "--budget is of one file"),
        (["IN", "--out", "o", "--through-scope"], "--through-scope is of one file"),
        (["IN/day1/run1/trace.h5", "IN/day1/run1/trace.h5", "--out", "o"], "is named twice"),
        (["EMPTY", "--out", "o"], "holds no .h5 file"),
        (["IN", "--out", "o", "--dask", "tcp://127.0.0.1:9", "--jobs", "2"], "give one"),
        (["IN/day1/run1/trace.h5", "--capture", "1"], "give both"),
    ],
)
def test_what_makes_no_sense_is_refused(
    collection: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys, arguments: list[str], expected: str
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("empty").mkdir()
    code = main([text.replace("IN", str(collection)).replace("EMPTY", "empty") for text in arguments])
    assert (code, expected in capsys.readouterr().err) == (2, True)
    assert not Path("o").exists()


def test_folders_of_results_have_names_of_their_own(tmp_path: Path) -> None:
    for name in ("a/trace.h5", "a.h5", "b/trace.h5", "c/deep/trace.h5", "trace.h5"):
        (tmp_path / "x" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "x" / name).touch()
    found = {str(file.relative_to(tmp_path)): str(folder) for file, folder in find_files([tmp_path / "x"])}
    assert found == {
        "x/a/trace.h5": "a",
        "x/a.h5": "a-2",
        "x/b/trace.h5": "b",
        "x/c/deep/trace.h5": "c/deep",
        "x/trace.h5": "x",
    }


# --- workers that die ---------------------------------------------------------------------------


def jobs_of(folder: Path, *names: str) -> list[Job]:
    """Jobs without files: the work of these tests looks at names alone."""
    return [Job(number, folder / name, folder) for number, name in enumerate(names)]


NAMED = [
    *(f"good{k}" for k in range(9)),
    "once",
    *(f"fine{k}" for k in range(5)),
    "deadly",
    *(f"late{k}" for k in range(5)),
]


def test_a_process_that_dies_costs_its_own_file_alone(tmp_path: Path) -> None:
    jobs = jobs_of(tmp_path, *NAMED)
    batches = batches_of(jobs, 1, results_only=True)
    assert max(map(len, batches)) > 1
    found = {d.path.name: d for batch in Processes(2, deadly_work.work)(batches, Options(results_only=True))
             for d in batch}  # fmt: skip
    assert set(found) == set(NAMED)
    assert [name for name, done in found.items() if done.code] == ["deadly"]
    assert "the process that replayed it died" in found["deadly"].said


@pytest.fixture(scope="module")
def cluster() -> Iterator[str]:
    """A Dask cluster of two processes on this computer, in a process of its own."""
    script = (
        "import logging, sys, distributed, dask\n"
        "dask.config.set({'distributed.scheduler.allowed-failures': 1})\n"
        "patience = {'connect': '200s', 'tcp': '200s'}  # a worker that died is started again, on a busy machine too\n"
        "dask.config.set({'distributed.comm.timeouts': patience})\n"
        "if __name__ == '__main__':\n"
        "    with distributed.LocalCluster(n_workers=2, threads_per_worker=1, dashboard_address=None,\n"
        "                                  silence_logs=logging.CRITICAL) as c:\n"
        "        print(c.scheduler_address, flush=True)\n"
        "        sys.stdin.read()\n"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", script], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
        text=True, cwd=LAB.parent,
    )  # fmt: skip
    assert process.stdout is not None
    assert process.stdin is not None
    yield process.stdout.readline().strip()
    process.stdin.close()
    process.wait(200)
    process.stdout.close()


@pytest.mark.filterwarnings("default")
def test_a_dask_cluster_gives_the_same_table(cluster: str, collection: Path, tmp_path: Path) -> None:
    options = ["--results-only", "--quiet"]
    assert main([str(collection), "--out", str(tmp_path / "one"), "--jobs", "1", *options]) == 1
    assert main([str(collection), "--out", str(tmp_path / "dask"), "--dask", cluster, *options]) == 1
    assert (tmp_path / "dask/results.csv").read_bytes() == (tmp_path / "one/results.csv").read_bytes()


@pytest.mark.filterwarnings("default")
def test_a_worker_that_is_lost_costs_its_own_file_alone(cluster: str, tmp_path: Path) -> None:
    batches = batches_of(jobs_of(tmp_path, *NAMED), 1, results_only=True)
    done = [d for batch in Dask(cluster, deadly_work.work)(batches, Options(results_only=True)) for d in batch]
    assert {d.path.name for d in done} == set(NAMED)
    assert len(done) == len(NAMED)
    assert [d.path.name for d in done if d.code] == ["deadly"]


FRAIL_CLUSTER = """
import logging, sys, distributed
if __name__ == "__main__":
    with distributed.LocalCluster(n_workers=int(sys.argv[1]), threads_per_worker=1, dashboard_address=None,
                                  processes=False, protocol="tcp://", silence_logs=logging.CRITICAL) as c:
        print(c.scheduler_address, flush=True)
        sys.stdin.read()
"""
"""A cluster that is one process: a file that kills its worker ends all of it."""


@pytest.mark.filterwarnings("default")
@pytest.mark.parametrize(
    ("workers", "expected"), [(0, "has no worker, and none came for 0.5 s: 34 of 34"), (1, "is gone: ")]
)
def test_a_cluster_that_is_lost_ends_the_replay_and_keeps_what_came(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], workers: int, expected: str
) -> None:
    names = [*(f"good{k}" for k in range(20)), "deadly", *(f"late{k}" for k in range(13))]
    files = [(tmp_path / name, Path(name)) for name in names]
    with subprocess.Popen(
        [sys.executable, "-c", FRAIL_CLUSTER, str(workers)], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL, text=True, cwd=LAB.parent,
    ) as process:  # fmt: skip
        assert process.stdout is not None
        cluster = Dask(process.stdout.readline().strip(), deadly_work.work, patience_s=0.5)
        code = replay_many(files, tmp_path / "out", Options(results_only=True), 1, cluster, quiet=False)
        assert process.stdin is not None
        process.stdin.close()
    told = capsys.readouterr()
    assert code == 1
    assert expected in told.err
    came = [file for file, _ in table(tmp_path / "out" / "results.csv")]
    assert len(came) >= 4 * workers  # what a worker had not yet handed over is lost with it
    assert came == [str(path) for path, _ in files[: len(came)]]
    assert f"{34 - len(came)} of 34 files are not replayed" in told.err
    assert f"34 files: {len(came)} whole, 0 with results missing, {34 - len(came)} not replayed" in told.out


@pytest.mark.filterwarnings("default")
def test_where_no_cluster_answers_it_says_so() -> None:
    with pytest.raises(ConfigError, match="no cluster answers there"):
        Dask("tcp://127.0.0.1:9", timeout_s=0.5)
