"""The marker lines and the ring: across processes, on a fake serial port, against a fake GPIO chip."""

from __future__ import annotations

import errno
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
    GpioLine,
    MarkerError,
    RingOverrunError,
    RingReader,
    RingWriter,
    SerialLine,
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
    with pytest.raises(MarkerError, match="another process"):
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
        assert process.wait(10) == 0
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
    assert line.describe()["kind"] == "none"


@pytest.mark.parametrize(
    "spec",
    ["", "led", "none:1", "simulated:", "serial:", "gpio:0", "gpio:0:1", "gpio:0:1,x", "gpio::1,2", "gpio:0:-1,2"],
)
def test_what_cannot_be_understood_is_refused_with_the_kinds(spec: str) -> None:
    with pytest.raises(MarkerError, match="write none, simulated:PATH"):
        open_line(spec)


# ---------------------------------------------------------------------------------------------- serial


def test_rts_is_the_gate_and_dtr_the_batch_line() -> None:
    line = open_line("serial:loop://")
    assert isinstance(line, SerialLine)
    port = line._port  # pyserial's loop-back: CTS follows RTS, DSR follows DTR
    assert (port.cts, port.dsr) == (False, False)
    line.gate(True)
    assert (port.cts, port.dsr) == (True, False)
    line.batch()
    assert (port.cts, port.dsr) == (True, True)
    line.batch()
    line.batch()
    line.gate(False)
    assert (port.cts, port.dsr) == (False, True)
    line.close()
    line.close()
    assert (port.rts, port.dtr, port.is_open) == (False, False, False)
    assert line.describe()["kind"] == "serial"


def test_an_active_low_adapter_is_inverted() -> None:
    line = open_line("serial:loop://,invert")
    assert isinstance(line, SerialLine)
    port = line._port
    assert (port.cts, port.dsr) == (True, True)
    line.gate(True)
    line.batch()
    assert (port.cts, port.dsr) == (False, False)
    line.close()
    assert (port.rts, port.dtr) == (True, True)


def test_a_serial_port_that_is_not_there() -> None:
    with pytest.raises(MarkerError, match="cannot open serial port /dev/no-such-port"):
        open_line("serial:/dev/no-such-port")


def test_without_pyserial_the_error_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "serial", None)
    with pytest.raises(MarkerError, match="need pyserial"):
        open_line("serial:loop://")


# ------------------------------------------------------------------------------------------------ GPIO


class FakeChip:
    """The kernel's end of the two GPIO interfaces; `v2` False is a kernel before 5.10."""

    def __init__(self, v2: bool = True, refuse: int = 0) -> None:
        self.v2, self.refuse = v2, refuse
        self.levels: list[int] = [9, 9]
        self.history: list[tuple[int, int]] = []
        self.requested: dict[str, Any] = {}
        self.line_fd = -1

    def __call__(self, fd: int, request: int, argument: Any, mutate: bool = True) -> int:
        if self.refuse:
            raise OSError(self.refuse, os.strerror(self.refuse))
        size, number = request >> 16 & 0x3FFF, request & 0xFF
        assert request >> 30 == 3  # read and write
        assert request >> 8 & 0xFF == 0xB4
        assert len(argument) == size
        if number == 0x07:
            if not self.v2:
                raise OSError(errno.EINVAL, "Invalid argument")
            flags, attributes = struct.unpack_from("=QI", argument, 288)
            lines = struct.unpack_from("=I", argument, 560)[0]
            self._grant(argument, struct.unpack_from("=2I", argument), flags == 8, attributes == 0, lines, 588)
        elif number == 0x03:
            flags = struct.unpack_from("=I", argument, 256)[0]
            assert argument[260:324] == bytes(64)  # default values
            lines = struct.unpack_from("=I", argument, 356)[0]
            self._grant(argument, struct.unpack_from("=2I", argument), flags == 2, True, lines, 360)
        else:
            assert fd == self.line_fd
            if number == 0x0F:
                bits, mask = struct.unpack("=QQ", argument)
                assert mask == 3
                self._set(bits & 1, bits >> 1)
            else:
                assert number == 0x09
                self._set(argument[0], argument[1])
        return 0

    def _grant(self, argument: Any, offsets: Any, output: bool, plain: bool, lines: int, fd_at: int) -> None:
        assert (output, plain, lines) == (True, True, 2)
        self.requested = {"offsets": offsets}
        self.line_fd = os.open(os.devnull, os.O_RDONLY)
        struct.pack_into("=i", argument, fd_at, self.line_fd)
        self.levels = [0, 0]

    def _set(self, gate: int, batch: int) -> None:
        self.levels = [gate, batch]
        self.history.append((gate, batch))


@pytest.mark.parametrize("v2", [True, False])
def test_gpio_lines_move_by_one_ioctl_each(v2: bool) -> None:
    chip = FakeChip(v2)
    line = GpioLine("/dev/null", 17, 27, ioctl=chip)
    assert chip.requested == {"offsets": (17, 27)}
    assert chip.levels == [0, 0]
    line.gate(True)
    line.batch()
    line.batch()
    line.batch()
    line.gate(False)
    line.close()
    line.close()
    assert chip.history == [(1, 0), (1, 1), (1, 0), (1, 1), (0, 1), (0, 0)]
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.fstat(chip.line_fd)
    assert line.describe()["wiring"] == "/dev/null gate=17 batch=27"


def test_gpio_errors_name_the_chip() -> None:
    with pytest.raises(MarkerError, match="two GPIO lines, both are 4"):
        open_line("gpio:/dev/null:4,4")
    with pytest.raises(MarkerError, match="cannot open GPIO chip /dev/gpiochip99"):
        open_line("gpio:99:1,2")
    with pytest.raises(MarkerError, match=r"cannot take GPIO lines /dev/null gate=1 batch=2.*busy"):
        GpioLine("/dev/null", 1, 2, ioctl=FakeChip(refuse=errno.EBUSY))
    with pytest.raises(MarkerError, match="cannot take GPIO lines /dev/null"):
        open_line("gpio:/dev/null:1,2")  # /dev/null knows no such ioctl, v2 or v1


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
