"""The agent and its lines: start frames asked for and told of, lines that another program still has, sensors."""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from instruments.dut import Dut, DutRefusedError
from instruments.errors import DutError
from instruments.marker_line import BATCH_BIT, GATE_BIT, RingReader, RingWriter, create_ring

ROOT = Path(__file__).resolve().parents[2]
ENV = {"PYTHONPATH": str(ROOT)}
RECORD = (4e-6, 0.04)


def agent(marker: str, code: str = "") -> list[str]:
    """A command that runs the agent after some code of the test's."""
    script = (
        f"from experiments import dut_agent, dut_sensors\nfrom instruments import marker_frame\nimport sys\n{code}\n"
    )
    return [sys.executable, "-c", script + "sys.exit(dut_agent.main())", "--marker", marker]


@pytest.fixture
def marker(tmp_path: Path) -> str:
    create_ring(str(tmp_path / "ring"))
    return f"simulated:{tmp_path / 'ring'}"


@pytest.fixture
def ring(marker: str) -> Iterator[RingReader]:
    with RingReader(marker.partition(":")[2]) as reader:
        yield reader


def go(dut: Dut, record: tuple[float, float] | None = RECORD) -> None:
    dut.prepare("busy:2", 1, run_s=0.05, warmup_s=0.02)
    dut.go("r", 5, record=record)


def test_a_frame_is_sent_where_the_record_has_room_and_the_lines_can(marker: str, ring: RingReader) -> None:
    with Dut.start(agent(marker), ENV) as dut:
        assert dut.hello().marker["start_frames"] is True
        for record, framed in ((RECORD, True), (None, False), ((1e-3, 0.01), False)):
            ring.read_new()
            go(dut, record)
            assert (dut.wait_done(100).start_frame is not None) == framed
            records = ring.read_new()
            rise_ns = next(t_ns for t_ns, lines in records if lines & GATE_BIT)
            batch = [lines & BATCH_BIT for t_ns, lines in records if t_ns < rise_ns]
            assert (len(set(batch)) == 2) == framed
    with Dut.start(agent("none"), ENV) as dut:
        assert dut.hello().marker["start_frames"] is False
        go(dut)
        assert dut.wait_done(100).start_frame is None


def test_a_board_too_busy_for_a_frame_runs_without_and_says_so(marker: str) -> None:
    never = "marker_frame._send_once = lambda toggle, *rest: toggle() or False"
    with Dut.start(agent(marker, never), ENV) as dut:
        go(dut)
        done = dut.wait_done(100)
    assert (done.start_frame, done.start_frame_edges, done.batches) == (None, 0, 5)
    assert done.facts["frame"]["tries"] == 10
    assert done.busy_s < 0.02  # since the last pause


def test_a_frame_of_another_number_is_not_taken(marker: str) -> None:
    other = "send = marker_frame.send\nmarker_frame.send = lambda line, number, **more: send(line, number ^ 1, **more)"
    with Dut.start(agent(marker, other), ENV) as dut:
        go(dut)
        with pytest.raises(DutError, match=r"was to tell run number \d+ on its lines and told \d+"):
            dut.wait_done(100)
        assert not dut.alive


@pytest.mark.parametrize(
    "change", [{"number": 65536}, {"number": 1.5}, {"unit_s": 0}, {"tries": 0}, {"tries": None}, {"pause_s": 1e9}]
)
def test_a_frame_that_makes_no_sense_is_refused(
    change: dict[str, object], monkeypatch: pytest.MonkeyPatch, marker: str
) -> None:
    from instruments import marker_frame

    plan = {"unit_s": 5e-5, "pause_s": 0.1, "tries": 3, **change}
    monkeypatch.setattr(marker_frame, "plan", lambda *_: plan)
    if "number" in change:
        monkeypatch.setattr("instruments.dut_protocol.check", lambda *_: None)
        monkeypatch.setattr(marker_frame, "number_of", lambda _: change["number"])
    with Dut.start(agent(marker), ENV) as dut:
        go(dut)
        with pytest.raises(DutRefusedError, match=r"frame\.\w+ .* is not within"):
            dut.wait_done(100)
        assert dut.prepare("busy:1", 1, warmup_s=0.01).batches > 0


def test_lines_that_an_old_agent_still_has_are_waited_for(marker: str, tmp_path: Path) -> None:
    old = RingWriter(str(tmp_path / "ring"))
    start_s = time.monotonic()
    threading.Timer(1.0, old.close).start()
    with Dut.start(agent(marker), ENV):
        assert time.monotonic() - start_s >= 1.0


def test_lines_that_are_never_free_end_the_agent(marker: str, tmp_path: Path) -> None:
    old = RingWriter(str(tmp_path / "ring"))
    with pytest.raises(DutError, match=r"exit code 2(.|\n)*another process is moving the lines"):
        Dut.start(agent(marker, "dut_agent._LINES_FREE_S = 0.3"), ENV)
    old.close()


def test_sensors_are_read_before_and_after_the_gate_and_never_while_it_is_high(marker: str, ring: RingReader) -> None:
    """Each reading writes its time to a place where the test finds it: the sensors' own."""
    code = (
        "n = iter(range(1, 100))\n"
        "def stamp(**more): import time; return {'time': {'quantity': 'time', 'value': time.monotonic(), 'unit': 's', "
        "'source': str(next(n))}}\n"
        "dut_sensors.read = dut_sensors.counters = stamp"
    )
    with Dut.start(agent(marker, code), ENV) as dut:
        for run, (first, last) in enumerate(((2, 3), (5, 6))):
            if run == 0:
                go(dut)
            else:
                dut.go("again", 5)
            done = dut.wait_done(100)
            before, after = (done.facts[f"sensors_{when}"]["time"] for when in ("before", "after"))
            # The first reading was at PREPARE, the fourth after the rest.
            assert (before["source"], after["source"]) == (str(first), str(last))
            assert before["value"] <= done.gate_ns[0] * 1e-9
            assert after["value"] >= done.gate_ns[3] * 1e-9
