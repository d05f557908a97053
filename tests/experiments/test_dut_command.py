"""Programs that speak the marker protocol: those of the guide as they stand there, and those that do not behave."""

from __future__ import annotations

import itertools
import re
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from instruments.dut import Dut, DutRefusedError
from instruments.errors import DutError
from instruments.marker_line import BATCH_BIT, GATE_BIT, RingReader, create_ring

ROOT = Path(__file__).resolve().parents[2]
GUIDE = (ROOT / "docs/any-network.md").read_text()

WELL = """
import os, sys, time
open("pid", "w").write(str(os.getpid()))
open("group", "w").write("%d %s" % (os.getpgrp(), os.environ.get("OMP_NUM_THREADS")))
for line in sys.stdin:
    if line.startswith("batch"):
        print("ok parameters=7 macs=40 device=npu colour=", flush=True)
        continue
    if line.startswith("run"):
        time.sleep(0.003)
    print("ok", flush=True)
open("ended", "w").write("by itself")
"""

STUBBORN = """
import os, signal, subprocess, sys, time
signal.signal(signal.SIGTERM, signal.SIG_IGN)
child = subprocess.Popen([sys.executable, "-c", "import signal, time; signal.signal(15, 1); time.sleep(600)"])
open("pid", "w").write(str(child.pid))
for line in sys.stdin:
    print("ok", flush=True)
time.sleep(600)
"""

FAILS_LATER = """
import os, sys
runs = 0
for line in sys.stdin:
    runs += line.startswith("run")
    if runs > 4:
        what = sys.argv[1]
        if what == "dies":
            os.kill(os.getpid(), 9)
        print(what, flush=True)
    else:
        print("ok", flush=True)
"""


SAYS_TWO_LATE = """
import sys, time
for line in sys.stdin:
    print("ok", flush=True)
    time.sleep(0.02)
    print("ok", flush=True)
"""


@pytest.fixture
def board(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[tuple[Dut, Path, RingReader]]:
    """An agent in a folder with programs, and its lines; a parameter is the time [s] it leaves a program to end."""
    for name, code in (("well", WELL), ("stubborn", STUBBORN), ("later", FAILS_LATER), ("twice", SAYS_TWO_LATE)):
        (tmp_path / f"{name}.py").write_text(code)
    create_ring(str(tmp_path / "ring"))
    code = (
        f"import os, sys; os.chdir({str(tmp_path)!r}); from experiments import dut_agent, dut_command\n"
        f"dut_command._GRACE_S = {getattr(request, 'param', 0.2)}\n"
        "sys.exit(dut_agent.main(['--marker', 'simulated:ring']))"
    )
    with (
        RingReader(str(tmp_path / "ring")) as ring,
        Dut.start([sys.executable, "-P", "-c", code], {"PYTHONPATH": str(ROOT)}) as dut,
    ):
        yield dut, tmp_path, ring


def _example(language: str) -> str:
    found = re.search(rf"```{language}\n(.*?)```", GUIDE, re.DOTALL)
    assert found
    return found.group(1)


def _gone(pid: int) -> bool:
    try:
        return "State:\tZ" in Path(f"/proc/{pid}/status").read_text()
    except (FileNotFoundError, ProcessLookupError):  # the latter while it goes
        return True


def _goes(pid: int) -> bool:
    until = time.monotonic() + 60
    while not _gone(pid) and time.monotonic() < until:
        time.sleep(0.01)
    return _gone(pid)


@pytest.mark.parametrize(("language", "starts"), [("python", sys.executable), ("sh", "sh")])
def test_the_guides_programs_run(board: tuple[Dut, Path, RingReader], language: str, starts: str) -> None:
    dut, folder, ring = board
    if language == "python":
        pytest.importorskip("torch")
    example = _example(language)
    assert len([line for line in example.splitlines() if line.strip()]) <= 12
    (folder / "program").write_text(example)
    ready = dut.prepare(f"command:{starts} program", 4, run_s=0.1, warmup_s=0.1)
    ring.read_new()
    dut.go("r", 5)
    done = dut.wait_done(60)
    assert (done.images, ready.device) == (20, "program")
    assert len(done.batch_ns) == 5
    assert len([lines for _, lines in ring.read_new() if lines & GATE_BIT]) == 6


@pytest.mark.parametrize("board", [60.0], indirect=True)
def test_a_program_is_timed_and_moves_no_line_itself(board: tuple[Dut, Path, RingReader]) -> None:
    dut, folder, ring = board
    ready = dut.prepare(f"command:{sys.executable} 'well.py'", 2, run_s=0.1, warmup_s=0.1, threads=1)
    assert ready.network == f"command:{sys.executable} 'well.py'"
    assert (ready.device, ready.mode, ready.weights) == ("npu", None, None)
    assert ready.size == {"parameters": 7, "macs": 40, "operations": 80}
    assert 0 < ready.facts["command_round_trip_s"] < ready.batch_time_s + 0.5
    assert ready.batch_time_s >= 0.003
    group, threads = (folder / "group").read_text().split()
    assert group == (folder / "pid").read_text()  # a group of its own
    assert threads == "1"
    ring.read_new()
    dut.go("r", 4)
    done = dut.wait_done(60)
    assert all(seconds >= 0.003 for seconds in done.batch_times_s)
    assert done.facts["memory"]["process_peak_rss"] > 1 << 20
    edges = [lines & BATCH_BIT for _, lines in ring.read_new()]
    assert sum(a != b for a, b in itertools.pairwise(edges)) == 4
    dut.prepare("busy:1", 1, warmup_s=0)
    assert (folder / "ended").read_text() == "by itself"
    assert _gone(int(group))


def test_a_program_and_its_children_are_ended(board: tuple[Dut, Path, RingReader]) -> None:
    dut, folder, _ = board
    dut.prepare(f"command:{sys.executable} stubborn.py", 1, run_s=0.01, warmup_s=0)
    pid = int((folder / "pid").read_text())
    assert not _gone(pid)
    dut.prepare("busy:1", 1, warmup_s=0)
    assert _goes(pid)


def test_a_program_ends_with_the_agent(board: tuple[Dut, Path, RingReader]) -> None:
    dut, folder, _ = board
    dut.prepare(f"command:{sys.executable} well.py", 1, run_s=0.01, warmup_s=0)
    pid = int((folder / "pid").read_text())
    dut.close()
    assert _goes(pid)


def test_a_program_that_hangs_costs_its_cell_and_is_ended(board: tuple[Dut, Path, RingReader]) -> None:
    dut, folder, _ = board
    (folder / "hang").write_text("echo $$ > pid; exec sleep 600")
    with pytest.raises(DutError, match=r"said no 'ready/refused' within 1\.5 s"):
        dut.prepare("command:sh hang", 1, deadline_s=1.5)
    pid = int((folder / "pid").read_text())
    dut.close()
    assert _goes(pid)


@pytest.mark.parametrize(
    ("command", "code", "said"),
    [
        ("no-such-program", "unknown_network", "cannot be started: [Errno 2] No such file"),
        ("./ring", "unknown_network", "cannot be started: [Errno 13] Permission denied"),
        ("sh 'unclosed", "bad_request", "cannot be split into arguments: No closing quotation"),
        ("false", "failed", "the program ended (exit code 1) where an answer to 'batch 2' was due"),
        ("sh -c 'kill -9 $$'", "failed", "the program ended by signal 9 where"),
        ("cat", "failed", "the program answers 'batch 2' with 'batch 2', not a line of ok"),
        ("sh -c 'read l; echo ok; sleep 0.1; echo ok; read l'", "failed", "was due"),
        ("sh -c 'while read l; do echo ok; echo ok; done'", "failed", "'ok"),
        (f"{sys.executable} -S twice.py", "failed", "'ok"),
        ("sh -c 'read l; echo error no licence; read l'", "failed", "the program answers 'batch 2': no licence"),
        ("sh -c 'read l; echo error CUDA out of memory'", "out_of_memory", "CUDA out of memory"),
        ("yes", "failed", "'y"),
        ("sh -c 'read l; echo ok macs=\u00b2; read l'", "failed", "says macs=\u00b2: give a whole number per image"),
        ("sh -c 'read l; echo ok macs=9999999999999999999; read l'", "failed", "says macs=9999999999999999999: give"),
        ("echo ok; touch shell", "failed", "'ok; touch shell'"),
    ],
)
def test_programs_that_do_not_speak_are_refused(
    board: tuple[Dut, Path, RingReader], command: str, code: str, said: str
) -> None:
    dut, folder, _ = board
    with pytest.raises(DutRefusedError) as error:
        dut.prepare("command:" + command, 2, run_s=0.01, warmup_s=0)
    assert said in str(error.value)
    assert "\n" not in str(error.value)
    assert error.value.code == code
    assert not (folder / "shell").exists()
    assert dut.prepare("busy:1", 1, warmup_s=0).batches > 0


@pytest.mark.parametrize(
    ("what", "said"),
    [
        ("dies", "ended by signal 9 where an answer to 'run' was due"),
        ("error", "answers 'run': error, and no reason"),
        ("error too hot", "answers 'run': too hot"),
        ("okay", "answers 'run' with 'okay', not a line of ok"),
    ],
)
def test_a_program_that_fails_in_the_run_fails_the_run_only(
    board: tuple[Dut, Path, RingReader], what: str, said: str
) -> None:
    dut, _, ring = board
    dut.prepare(f"command:{sys.executable} later.py '{what}'", 1, run_s=0.01, warmup_s=0)
    dut.go("r", 50)
    with pytest.raises(DutRefusedError, match=re.escape(said)):
        dut.wait_done(60)
    assert not ring.read_new()[-1][1] & GATE_BIT
    assert dut.prepare("busy:1", 1, warmup_s=0).batches > 0
