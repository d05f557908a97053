"""What the programs that look after trace files do where they cannot write: folders, full disks, standard output."""

from __future__ import annotations

import contextlib
import json
import os
import pty
import resource
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from experiments.traces.__main__ import main
from tests.sweeps import ROOT
from tests.trace_files import write_run


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_run(tmp_path_factory.mktemp("run") / "trace.h5", dt_s=100e-6)


def shell(line: str) -> subprocess.CompletedProcess[str]:
    """Run a line of bash from the project's root; `PY` stands for this Python."""
    return subprocess.run(
        ["bash", "-c", line], cwd=ROOT, capture_output=True, text=True, timeout=100.0,
        env={**os.environ, "PY": sys.executable},
    )  # fmt: skip


@pytest.mark.parametrize("command", ["recover", "export", "transcript"])
@pytest.mark.parametrize("folder", ["missing", "a file", "/proc"])
def test_a_file_that_cannot_be_made_is_named_with_what_the_system_says(
    run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], command: str, folder: str
) -> None:
    (tmp_path / "a file").write_text("x")
    out = (Path(folder) if folder == "/proc" else tmp_path / folder) / "x.nc"
    trace = run
    if command == "transcript":
        trace = tmp_path / "said.h5"
        shutil.copy(run, trace)
        with_transcript(trace)
    code = main([command, str(trace), "--out", str(out)])
    told = capsys.readouterr()
    assert (code, told.out) == (2 if command == "transcript" else 3, "")
    assert told.err.startswith(f"error: {out}: cannot be written (")
    assert told.err.count("\n") == 1
    assert not any(word in told.err for word in ("synchronously", "errno", "flags", "Errno"))


def with_transcript(path: Path) -> None:
    from experiments.traces import TraceWriter

    pieces = iter(['{"transcript": 1}\n'])
    with TraceWriter.resume(path) as writer:
        writer.keep_transcript(lambda: next(pieces, ""))


@contextlib.contextmanager
def files_up_to(kilobytes: int) -> Iterator[None]:
    """A disk that is full, as far as a file goes that grows beyond this."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (kilobytes * 1024, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


@pytest.mark.parametrize("ending", ["csv", "parquet", "nc", "npz"])
def test_an_export_that_does_not_fit_leaves_nothing_and_says_so(
    run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], ending: str
) -> None:
    out = tmp_path / f"x.{ending}"
    with files_up_to(200):
        assert main(["export", str(run), "--out", str(out)]) == 3
    assert (
        capsys.readouterr().err == f"error: {out}: cannot be written (File too large); name another file with --out\n"
    )
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("kilobytes", [100, 2300])
def test_a_recovery_that_does_not_fit_leaves_nothing_and_says_so(
    run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], kilobytes: int
) -> None:
    out = tmp_path / "x.h5"
    with files_up_to(kilobytes):
        assert main(["recover", str(run), "--out", str(out)]) == 3
    told = capsys.readouterr().err
    assert told.startswith(f"error: {out}: cannot be written (the disk is full (")
    assert told.endswith("name another file with --out\n")
    assert told.count("\n") == 1
    assert list(tmp_path.iterdir()) == []


def test_an_import_that_does_not_fit_leaves_nothing_and_says_so(
    run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    table, out = tmp_path / "x.csv", tmp_path / "y.h5"
    assert main(["export", str(run), "--out", str(table), "--captures", "0,2", "--mean-of", "10"]) == 0
    lab = ROOT / "docs/benches/imported.yaml"
    with files_up_to(2100):
        assert main(["import", str(table), "--lab", str(lab), "--out", str(out)]) == 3
    told = capsys.readouterr().err
    assert told.startswith(f"error: {out}: cannot be written (the disk is full (")
    assert told.endswith("name another file with --out\n")
    assert [path.name for path in tmp_path.iterdir()] == ["x.csv"]


@pytest.mark.parametrize("command", ["check", "check --json", "info", "info --json"])
def test_what_cannot_be_told_is_an_error(run: Path, command: str) -> None:
    done = shell(f"$PY -m experiments.traces {command} {run} >/dev/full")
    assert done.returncode == 3
    assert done.stderr == "error: standard output cannot be written (No space left on device)\n"


def test_a_reader_that_has_seen_enough_is_none(run: Path) -> None:
    done = shell(f"set -o pipefail; $PY -m experiments.traces info {run} {run} {run} | true")
    assert done.returncode == 0
    assert done.stderr == ""


@pytest.mark.parametrize(
    ("command", "expected"),
    [
        ("traces check {run}", "checking every byte of {run}"),
        ("replay {run} --out {out} --results-only", "reducing {run}"),
    ],
)
def test_a_terminal_is_told_what_goes_on_and_a_file_is_not(
    run: Path, tmp_path: Path, command: str, expected: str
) -> None:
    words = command.format(run=run, out=tmp_path / "x").split()
    main_end, terminal = pty.openpty()
    environment = {**os.environ, "COLUMNS": "400", "TERM": "xterm"}
    with subprocess.Popen(
        [sys.executable, "-m", f"experiments.{words[0]}", *words[1:]],
        cwd=ROOT, stdout=subprocess.PIPE, stderr=terminal, text=True, env=environment,
    ) as process:  # fmt: skip
        os.close(terminal)
        shown = b""
        with contextlib.suppress(OSError):  # the other end is closed
            while data := os.read(main_end, 4096):
                shown += data
        assert process.stdout is not None
        told = process.stdout.read()
    os.close(main_end)
    assert process.returncode == 0
    assert expected.format(run=run) in shown.decode()
    assert expected.format(run=run) not in told
    assert "\x1b" not in told
    assert str(run) in told


def test_info_lists_the_captures_of_a_run_that_is_named_by_its_folder(
    run: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from experiments.traces import TraceReader

    with TraceReader(run) as reader:
        rows = reader.captures()
    assert main(["info", "--captures", str(run.parent)]) == 0
    _, _, table = capsys.readouterr().out.partition("\n\n")
    assert [line.split()[:2] for line in table.splitlines()[1:]] == [
        [str(k), row["kind"]] for k, row in enumerate(rows)
    ]
    assert main(["info", "--captures", "--json", str(run)]) == 0
    listed = json.loads(capsys.readouterr().out)["listed"]
    assert [(one["capture"], one["network"], one["state"]) for one in listed] == [
        (k, row["network"], row["state"]) for k, row in enumerate(rows)
    ]
