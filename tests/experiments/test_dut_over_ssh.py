"""The board behind a real ssh connection: runs, a sweep, and connections that are cut in the middle of a cell."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import pytest

from experiments import agent_archive
from experiments.traces import TraceReader
from instruments import marker_frame
from instruments.dut import Dut
from instruments.errors import DutError
from instruments.marker_line import GATE_BIT, WORK_BIT, RingReader, create_ring
from tests.sshd import Sshd
from tests.sweeps import ROOT, rows, served_bench

LOCAL = 'command: ["{python}", "-m", "experiments.dut_agent", "--marker", "{marker}"]'


@pytest.fixture(scope="module")
def board(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sshd]:
    """A server, and the agent's one file in its folder."""
    try:
        sshd = Sshd(tmp_path_factory.mktemp("ssh") / "sshd")
    except (OSError, RuntimeError, subprocess.CalledProcessError) as error:
        if os.environ.get("CI", "").lower() in ("1", "true"):
            pytest.fail(f"no ssh server of our own: {error}")
        pytest.skip(f"no ssh server of our own: {error}")
    agent_archive.build(sshd.folder / "agent.pyz")
    yield sshd
    sshd.close()


def agent(board: Sshd, marker: str) -> list[str]:
    return [*board.command, f"{sys.executable} {board.folder / 'agent.pyz'} --marker {marker}"]


def test_the_agent_answers_and_runs_through_ssh(board: Sshd, tmp_path: Path) -> None:
    create_ring(str(tmp_path / "ring"))
    with Dut.start(agent(board, f"simulated:{tmp_path / 'ring'}")) as dut:
        hello = dut.hello()
        data = (board.folder / "agent.pyz").read_bytes()
        assert hello.facts["archive_sha256"] == hashlib.sha256(data).hexdigest()
        clock = dut.clock_bound(30)
        assert abs(clock.offset_s) <= clock.bound_s < 0.05
        dut.prepare("busy:2", 2, run_s=0.1, warmup_s=0.05)
        dut.go("r", record=(4e-6, 0.4))
        done = dut.wait_done(20)
        assert done.images == 2 * done.batches > 0
        assert done.start_frame is not None
    with RingReader(str(tmp_path / "ring")) as ring:
        lines = [lines for _, lines in ring.read_new()]
    assert sum(a & GATE_BIT < b & GATE_BIT for a, b in pairwise(lines)) == 1
    assert lines[-1] == 0


def test_the_agent_is_sent_through_ssh(board: Sshd) -> None:
    send = [sys.executable, "-m", "experiments.send_agent", "--python", sys.executable, *board.command]
    with Dut.start([*send, "--", "--marker", "none"], {"PYTHONPATH": str(ROOT)}) as dut:
        assert dut.hello().facts["archive_sha256"] == hashlib.sha256(agent_archive.archive()).hexdigest()
        assert dut.prepare("busy:1", 1, run_s=0.05, warmup_s=0.02).batches > 0
    with pytest.raises(DutError, match=r"exit code 2.*\n.*marker line 'led' is not understood"):
        Dut.start([*send, "--", "--marker", "led"], {"PYTHONPATH": str(ROOT)})


def test_a_server_that_lets_us_not_in_is_reported_in_its_words(board: Sshd, tmp_path: Path) -> None:
    config = (board.folder / "ssh_config").read_text().replace(str(board.folder / "user_key"), str(tmp_path / "none"))
    (tmp_path / "config").write_text(config)
    with pytest.raises(DutError, match=r"ended where 'hello' was due.*exit code 255(.|\n)*Permission denied"):
        Dut.start(["ssh", "-F", str(tmp_path / "config"), "board", "true"])


@dataclass
class Lines:
    """What the board did with its lines so far."""

    ring: RingReader
    levels: int = 0
    rises: int = 0
    rests: int = 0
    fell_s: float = 0.0

    def look(self) -> None:
        for t_ns, lines in self.ring.read_new():
            rose, fell = lines & ~self.levels, self.levels & ~lines
            self.rises += bool(rose & GATE_BIT)
            self.rests += bool(fell & WORK_BIT)
            self.fell_s = t_ns * 1e-9 if fell & GATE_BIT else self.fell_s
            self.levels = lines


def test_a_connection_that_is_cut_costs_its_cell_alone(board: Sshd, tmp_path: Path) -> None:
    """Cut in the first cell's run, and while the board rests before the second cell's."""
    command = f"command: {json.dumps(agent(board, '{marker}'))}"
    rest = ("  threads: 0", "  rest_s: 1.0\n  threads: 0")
    logins = board.logins
    with served_bench(tmp_path, (LOCAL, command), rest) as (lab, _):
        args = ["--networks", "busy:4", "--batches", "1,2,3", "--repeats", "1", "--window", "0.6", "--quiet"]
        args += ["--lab", str(lab), "--out", str(tmp_path / "run"), "--transcript", str(tmp_path / "log")]
        with (
            RingReader(str(tmp_path / "state" / "markers.ring")) as ring,
            (tmp_path / "said").open("w") as said,
            subprocess.Popen(
                [sys.executable, "-m", "experiments.power_sweep", *args], cwd=ROOT, stdout=said, stderr=said
            ) as sweep,
        ):
            lines, rests_before = Lines(ring), [10**9]
            while sweep.poll() is None:
                lines.look()
                in_a_run = len(rests_before) == 1 and lines.rises == 2  # the first is the gain's
                at_rest = len(rests_before) == 2 and lines.rests > rests_before[1]
                if in_a_run or at_rest:
                    time.sleep(0.05)
                    board.cut()
                    lines.look()
                    rests_before.append(lines.rests)
                time.sleep(0.005)
            lines.look()
    assert sweep.returncode == 1, (tmp_path / "said").read_text()
    with TraceReader(tmp_path / "run" / "trace.h5") as reader:
        assert reader.complete
        cells, captures = reader.cells(), reader.captures()
        (kept,) = reader.data(states=("rejected",))
    assert [cell["state"] for cell in cells] == ["rejected", "rejected", "committed"]
    for cell in cells[:2]:
        for part in ("exit code 255", "closed by remote host", "agent.pyz --marker simulated:"):
            assert part in cell["reason"]
    assert (kept.kind, kept.index) == ("cell", cells[0]["capture"])  # what was captured before the end was known
    assert kept.capture.points >= 100_000
    assert cells[1]["capture"] == -1
    assert sorted(row["repeats"] for row in rows(tmp_path / "run" / "results.csv")) == ["0", "0", "1"]
    measured = captures[cells[2]["capture"]]
    assert measured["start_frame"] == marker_frame.number_of(measured["run_id"])
    for when in ("", "_after"):  # one machine has one clock, and no drift
        assert abs(measured[f"clock_offset{when}_s"]) <= measured[f"clock_bound{when}_s"] < 0.1
    # Each run once, the cut ones too: two gains and two cells. A new connection for the next cell alone.
    assert lines.rises == 4
    assert board.logins == logins + 3
    switched = _switching(tmp_path / "log")
    on = next(k for k, (_, what) in enumerate(switched) if what == "OUTPut ON")
    assert [what for _, what in switched[on + 1 :]] == ["OUTPut OFF"] * len(switched[on + 1 :])
    assert switched[on + 1][0] > lines.fell_s


def _switching(transcript: Path) -> list[tuple[float, str]]:
    """When the supply's output was told to be on or off: (monotonic s, command)."""
    head, *entries = map(json.loads, transcript.read_text().splitlines())
    start_s = head["utc_s"] - time.time() + time.monotonic()
    texts = [(start_s + entry["t_s"], entry.get("text", "")) for entry in entries if entry["dir"] == "out"]
    return [(t, text) for t, text in texts if text in ("OUTPut ON", "OUTPut OFF")]
