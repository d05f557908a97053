"""Marker lines on interfaces of Linux: a pseudo-terminal with modem lines, and GPIO chips, faked or simulated."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import struct
import sys
import termios
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from instruments.marker_line import GpioLine, MarkerBusyError, MarkerError, MarkerLine, SerialLine, open_line

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
    said = line.describe()
    assert said["kind"] == "serial"
    assert "not read back" in said["idle"]


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


class Modem:
    """The kernel's end of a port's modem lines, put on a pseudo-terminal, which has none of its own."""

    def __init__(self, stuck: int = 0) -> None:
        self.state, self.stuck, self.history = 0, stuck, []
        self._real = fcntl.ioctl

    def __call__(self, fd: int, request: int, *rest: Any) -> Any:
        if request == termios.TIOCMGET:
            return struct.pack("i", self.state | self.stuck)
        if request not in (termios.TIOCMBIS, termios.TIOCMBIC):
            return self._real(fd, request, *rest)
        (bits,) = struct.unpack("i", rest[0])
        before = self.state
        self.state = before | bits if request == termios.TIOCMBIS else before & ~bits
        if self.state != before:
            self.history.append((bool(self.state & termios.TIOCM_RTS), bool(self.state & termios.TIOCM_DTR)))
        return 0


@pytest.fixture
def terminal() -> Iterator[str]:
    controller, port = os.openpty()
    yield os.ttyname(port)
    os.close(controller)
    os.close(port)


@pytest.mark.parametrize("invert", [False, True])
def test_a_port_is_driven_and_read_back(terminal: str, invert: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    modem = Modem()
    monkeypatch.setattr(fcntl, "ioctl", modem)
    line = SerialLine(terminal, invert, modem)
    modem.history.clear()
    line.gate(True)
    line.batch()
    line.batch()
    line.gate(False)
    idle = (invert, invert)
    assert modem.history == [(not invert, invert), (not invert, not invert), (not invert, invert), idle]
    line.batch()
    line.close()
    assert modem.history[-1] == idle
    said = line.describe()
    assert said["idle"] == "low, read back"
    assert 0 < said["call_s"] < said["jitter_s"]  # a pseudo-terminal might be a USB port: no better than 1 ms
    assert said["start_frames"]


def test_an_output_that_does_not_stay_low_is_found_at_the_start(terminal: str, monkeypatch: pytest.MonkeyPatch) -> None:
    modem = Modem(stuck=termios.TIOCM_DTR)
    monkeypatch.setattr(fcntl, "ioctl", modem)
    with pytest.raises(MarkerError, match=f"DTR of {terminal} does not stay"):
        SerialLine(terminal, False, modem)


def test_a_port_without_modem_lines_is_refused(terminal: str) -> None:
    with pytest.raises(MarkerError, match=f"serial port {terminal} has no RTS and DTR"):
        open_line(f"serial:{terminal}")


def test_a_port_has_one_owner(terminal: str, monkeypatch: pytest.MonkeyPatch) -> None:
    modem = Modem()
    monkeypatch.setattr(fcntl, "ioctl", modem)
    line = SerialLine(terminal, False, modem)
    with pytest.raises(MarkerBusyError):
        SerialLine(terminal, False, modem)
    line.close()
    SerialLine(terminal, False, modem).close()


# ------------------------------------------------------------------------------------------------ GPIO


class FakeChip:
    """The kernel's end of the two GPIO interfaces; `v2` False is a kernel before 5.10, `stuck` lines read high."""

    def __init__(self, v2: bool = True, refuse: int = 0, stuck: int = 0, deaf: bool = False) -> None:
        self.v2, self.refuse, self.stuck, self.deaf = v2, refuse, stuck, deaf
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
            self._values(number, argument)
        return 0

    def _grant(self, argument: Any, offsets: Any, output: bool, plain: bool, lines: int, fd_at: int) -> None:
        assert (output, plain, lines) == (True, True, 2)
        self.requested = {"offsets": offsets}
        self.line_fd = os.open(os.devnull, os.O_RDONLY)
        struct.pack_into("=i", argument, fd_at, self.line_fd)
        self.levels = [0, 0]

    def _values(self, number: int, argument: Any) -> None:
        read = self.levels[0] | self.levels[1] << 1 | self.stuck
        if number in (0x08, 0x0E) and self.deaf:
            raise OSError(errno.EIO, "Input/output error")
        if number == 0x0E:
            struct.pack_into("=Q", argument, 0, read)
        elif number == 0x08:
            argument[0:2] = bytes([read & 1, read >> 1])
        elif number == 0x0F:
            bits, mask = struct.unpack("=QQ", argument)
            assert mask == 3
            self._set(bits & 1, bits >> 1)
        else:
            assert number == 0x09
            self._set(argument[0], argument[1])

    def _set(self, gate: int, batch: int) -> None:
        self.levels = [gate, batch]
        self.history.append((gate, batch))


def _walk(line: MarkerLine) -> None:
    line.gate(True)
    line.batch()
    line.batch()
    line.batch()
    line.gate(False)
    line.close()
    line.close()


WALKED = [(1, 0), (1, 1), (1, 0), (1, 1), (0, 1), (0, 0)]


@pytest.mark.parametrize("v2", [True, False])
def test_gpio_lines_move_by_one_ioctl_each(v2: bool) -> None:
    chip = FakeChip(v2)
    line = GpioLine("/dev/null", 17, 27, ioctl=chip)
    assert chip.requested == {"offsets": (17, 27)}
    assert set(chip.history) == {(0, 0)}  # timed without moving anything
    chip.history.clear()
    said = line.describe()
    assert said["wiring"] == f"/dev/null gate=17 batch=27 ({'v2' if v2 else 'v1'} interface)"
    assert said["idle"] == "low, read back"
    assert 0 < said["call_s"] < 1e-3
    assert said["jitter_s"] >= 50e-6
    _walk(line)
    assert chip.history == WALKED
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.fstat(chip.line_fd)


@pytest.mark.parametrize(("stuck", "offset"), [(1, 17), (2, 27), (3, 17)])
@pytest.mark.parametrize("v2", [True, False])
def test_a_line_that_reads_high_is_found_at_the_start_and_let_go(v2: bool, stuck: int, offset: int) -> None:
    chip = FakeChip(v2, stuck=stuck)
    with pytest.raises(MarkerError, match=f"GPIO line {offset} of /dev/null .* reads high"):
        GpioLine("/dev/null", 17, 27, ioctl=chip)
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.fstat(chip.line_fd)


def test_a_chip_that_cannot_read_outputs_says_so() -> None:
    line = GpioLine("/dev/null", 17, 27, ioctl=FakeChip(deaf=True))
    assert "not read back: [Errno 5]" in line.describe()["idle"]
    line.close()


def test_gpio_errors_name_the_chip() -> None:
    with pytest.raises(MarkerError, match="two GPIO lines, both are 4"):
        open_line("gpio:/dev/null:4,4")
    with pytest.raises(MarkerError, match="cannot open GPIO chip /dev/gpiochip99"):
        open_line("gpio:99:1,2")
    with pytest.raises(MarkerBusyError, match=r"cannot take GPIO lines /dev/null gate=1 batch=2.*busy"):
        GpioLine("/dev/null", 1, 2, ioctl=FakeChip(refuse=errno.EBUSY))
    with pytest.raises(MarkerError, match="cannot take GPIO lines /dev/null"):
        open_line("gpio:/dev/null:1,2")  # /dev/null knows no such ioctl, v2 or v1


CONFIGFS = Path("/sys/kernel/config/gpio-sim")


@pytest.fixture
def simulated_chip() -> Iterator[tuple[str, Path]]:
    """A chip of the kernel's gpio-sim: its name, and the folder that shows its lines."""
    if not CONFIGFS.is_dir():
        pytest.skip("this kernel has no gpio-sim loaded (modprobe gpio-sim, as root)")
    if not os.access(CONFIGFS, os.W_OK):
        pytest.skip("gpio-sim chips are made by root")
    device = CONFIGFS / f"joulebench-{os.getpid()}"
    bank = device / "bank0"
    with contextlib.ExitStack() as stack:
        device.mkdir()
        stack.callback(device.rmdir)
        bank.mkdir()
        stack.callback(bank.rmdir)
        (bank / "num_lines").write_text("8")
        (device / "live").write_text("1")
        stack.callback((device / "live").write_text, "0")
        chip = (bank / "chip_name").read_text().strip()
        shown = Path("/sys/devices/platform") / (device / "dev_name").read_text().strip() / chip
        until = time.monotonic() + 5
        while not Path("/dev", chip).exists() and time.monotonic() < until:
            time.sleep(0.05)
        yield chip, shown


def test_a_chip_of_the_kernel_shows_the_levels(simulated_chip: tuple[str, Path]) -> None:
    chip, shown = simulated_chip

    def levels() -> tuple[str, str]:
        return tuple((shown / f"sim_gpio{n}" / "value").read_text().strip() for n in (2, 5))  # type: ignore[return-value]

    line = open_line(f"gpio:{chip}:2,5")
    assert line.describe()["idle"] == "low, read back"
    with pytest.raises(MarkerBusyError):
        open_line(f"gpio:{chip}:5,6")
    seen = [levels()]
    for act in (lambda: line.gate(True), line.batch, lambda: line.gate(False), line.close):
        act()
        seen.append(levels())
    assert seen == [("0", "0"), ("1", "0"), ("1", "1"), ("0", "1"), ("0", "0")]
