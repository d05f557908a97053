"""The marker lines and the ring that carries them to the simulated bench, across processes too."""

from __future__ import annotations

import os
import struct
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from instruments import marker_line
from instruments.marker_line import (
    BATCH_BIT,
    GATE_BIT,
    MarkerBusyError,
    MarkerError,
    RingOverrunError,
    RingReader,
    RingWriter,
    create_ring,
    open_line,
)

ROOT = Path(__file__).resolve().parents[2]
BOTH = GATE_BIT | BATCH_BIT


def _ring(tmp_path: Path, capacity: int = 16) -> str:
    path = str(tmp_path / "ring")
    create_ring(path, capacity)
    return path


def test_a_run_is_seen_as_it_was_made(tmp_path: Path) -> None:
    path = _ring(tmp_path)
    with RingReader(path) as reader:
        before = time.monotonic_ns()
        line = open_line("simulated:" + path)
        line.gate(True)
        line.batch()
        line.batch()
        line.gate(False)
        line.close()
        line.close()
        records = reader.read_new()
        assert [lines for _, lines in records] == [GATE_BIT, BOTH, GATE_BIT, 0]
        times = [t_ns for t_ns, _ in records]
        assert times == sorted(times)
        assert before <= times[0]
        assert times[-1] <= time.monotonic_ns()
        assert reader.read_new() == []


def test_the_file_is_laid_out_as_agreed(tmp_path: Path) -> None:
    path = _ring(tmp_path, 4)
    writer = RingWriter(path, clock_ns=iter(range(100, 200)).__next__)
    for lines in (1, 3, 1, 0, 1):  # one more than the capacity: the fifth lies in slot 0
        writer.put(lines)
    writer.close()
    data = Path(path).read_bytes()
    assert len(data) == 64 + 4 * 16
    assert struct.unpack_from("<8sQQ", data) == (b"JBRING01", 4, 5)
    assert data[24:64] == bytes(40)
    records = [struct.unpack_from("<qII", data, 64 + 16 * slot) for slot in range(4)]
    assert records == [(104, 1, 0), (101, 3, 0), (102, 1, 0), (103, 0, 0)]


def test_a_line_left_high_is_lowered_by_the_next_owner_and_on_close(tmp_path: Path) -> None:
    path = _ring(tmp_path)
    writer = RingWriter(path)
    writer.put(BOTH)  # and killed here
    writer.close()
    line = open_line("simulated:" + path)
    line.gate(True)
    line.batch()
    line.close()
    with RingReader(path) as reader:
        assert [lines for _, lines in reader.read_new()] == [BOTH, 0, GATE_BIT, BOTH, 0]


def test_a_ring_that_is_not_there_is_made(tmp_path: Path) -> None:
    path = str(tmp_path / "new")
    open_line("simulated:" + path).close()
    assert os.path.getsize(path) == 64 + 65536 * 16


def test_one_writer_at_a_time(tmp_path: Path) -> None:
    path = _ring(tmp_path)
    line = open_line("simulated:" + path)
    with pytest.raises(MarkerBusyError, match="another process"):
        open_line("simulated:" + path)
    line.close()
    open_line("simulated:" + path).close()


def test_too_many_records_are_an_error_and_reading_goes_on(tmp_path: Path) -> None:
    path = _ring(tmp_path, 8)
    writer = RingWriter(path)
    with RingReader(path) as reader:
        for index in range(7):
            writer.put(index)
        assert [lines for _, lines in reader.read_new()] == list(range(7))
        for index in range(8):
            writer.put(index)
        with pytest.raises(RingOverrunError, match="8 marker records came but the ring holds 8"):
            reader.read_new()
        writer.put(42)
        assert [lines for _, lines in reader.read_new()] == [42]
    writer.close()


def test_a_late_reader_gets_the_records_still_there_or_only_new_ones(tmp_path: Path) -> None:
    path = _ring(tmp_path, 8)
    writer = RingWriter(path)
    for index in range(20):
        writer.put(index)
    with RingReader(path) as old, RingReader(path, from_start=False) as new:
        assert [lines for _, lines in old.read_new()] == list(range(13, 20))
        assert new.read_new() == []
    writer.close()


@settings(max_examples=60, deadline=None)
@given(steps=st.lists(st.integers(1, 30), max_size=20))
def test_reading_in_any_rhythm_gives_every_record_once(
    tmp_path_factory: pytest.TempPathFactory, steps: list[int]
) -> None:
    path = str(tmp_path_factory.mktemp("ring") / "ring")
    create_ring(path, 31)
    writer = RingWriter(path, clock_ns=lambda: 7)
    written, seen = 0, []
    with RingReader(path) as reader:
        for step in steps:
            for _ in range(step):
                writer.put(written)
                written += 1
            seen += [lines for _, lines in reader.read_new()]
    writer.close()
    assert seen == list(range(written))


def test_edges_of_another_process_arrive_whole_and_in_order(tmp_path: Path) -> None:
    path = _ring(tmp_path, 100_000)
    script = (
        "import sys; from instruments.marker_line import open_line\n"
        "line = open_line('simulated:' + sys.argv[1]); line.gate(True)\n"
        "for _ in range(30000): line.batch()\n"
        "line.close()"
    )
    records: list[tuple[int, int]] = []
    with RingReader(path) as reader, subprocess.Popen([sys.executable, "-c", script, path], cwd=ROOT) as process:
        until = time.monotonic() + 20
        while time.monotonic() < until and (not records or records[-1][1] & GATE_BIT):
            records += reader.read_new()
        assert process.wait(200) == 0
    assert [lines for _, lines in records] == [GATE_BIT, *[BOTH, GATE_BIT] * 15000, 0]
    times = [t_ns for t_ns, _ in records]
    assert times == sorted(times)


@pytest.mark.parametrize(
    "content", [b"", b"JBRING01", b"NOTARING" + bytes(200), b"JBRING01" + struct.pack("<QQ", 99, 0) + bytes(40)]
)
def test_a_file_that_is_no_ring_is_refused(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "file"
    path.write_bytes(content)
    with pytest.raises(MarkerError, match=r"not a marker ring|cut short"):
        open_line(f"simulated:{path}")


def test_ring_too_small() -> None:
    with pytest.raises(ValueError, match="at least 2"):
        create_ring("/nowhere/ring", 1)


def test_marks_cost_well_under_a_microsecond_each(tmp_path: Path) -> None:
    line = open_line("simulated:" + _ring(tmp_path, 4096))
    best = min(_seconds_per_call(line.batch) for _ in range(20))
    line.close()
    assert best < 2e-6  # 0.3 us on a quiet machine; the best of 20 rounds shrugs off a busy one


def _seconds_per_call(call: Any) -> float:
    start = time.perf_counter()
    for _ in range(500):
        call()
    return (time.perf_counter() - start) / 500


def test_no_line_takes_all_calls() -> None:
    line = open_line("none")
    line.gate(True)
    line.batch()
    line.close()
    said = line.describe()
    assert (said["kind"], said["start_frames"]) == ("none", False)
    assert "bound of the clocks' offset" in said["basis"]


@pytest.mark.parametrize(
    "spec",
    ["", "led", "none:1", "simulated:", "serial:", "gpio:0", "gpio:0:1", "gpio:0:1,x", "gpio::1,2", "gpio:0:-1,2"],
)
def test_what_cannot_be_understood_is_refused_with_the_kinds(spec: str) -> None:
    with pytest.raises(MarkerError, match="write none, simulated:PATH"):
        open_line(spec)


def test_the_clock_of_python_3_6(monkeypatch: pytest.MonkeyPatch) -> None:
    ring = sys.modules["instruments.marker_ring"]
    monkeypatch.setattr(ring, "time", SimpleNamespace(monotonic=lambda: 12.5))
    assert ring._monotonic_ns_3_6() == 12_500_000_000
    assert marker_line.monotonic_ns is time.monotonic_ns


def test_a_big_endian_machine_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = _ring(tmp_path)
    monkeypatch.setattr(sys, "byteorder", "big")
    with pytest.raises(MarkerError, match="little-endian"):
        RingReader(path)
