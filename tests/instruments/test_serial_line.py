"""RS-232: framing as the kernel is told it, the DTR/DSR handshake, Ctrl-C as device clear; over pseudo-terminals."""

from __future__ import annotations

import os
import select
import termios
import threading
import time
import tty
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import serial

from instruments import lab as lab_yaml
from instruments.bench import open_bench
from instruments.errors import ConfigError, LinkError, LinkTimeout
from instruments.link import Link, SerialOptions
from instruments.link.ports import StreamPort
from tests.faults.benches import faulty_bench, feed
from tests.sweeps import lab_file

from .scripted_instruments import standard


class Terminal:
    """An instrument on a pseudo-terminal: answers lines, notes Ctrl-C, which also drops what it had to say."""

    def __init__(self, handle: Callable[[bytes], bytes | None] = standard) -> None:
        self._handle = handle
        self._master, self._slave = os.openpty()
        tty.setraw(self._slave)
        self.resource = f"ASRL{os.ttyname(self._slave)}::INSTR"
        self.received: list[bytes] = []
        self.cleared = 0
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._serve)
        self._thread.start()

    def _serve(self) -> None:
        pending = b""
        while not self._ended.is_set():
            if not select.select([self._master], [], [], 0.02)[0]:
                continue
            pending += os.read(self._master, 4096)
            if b"\x03" in pending:
                self.cleared += pending.count(b"\x03")
                pending = pending.rpartition(b"\x03")[2]
            while b"\n" in pending:
                line, _, pending = pending.partition(b"\n")
                self.received.append(line)
                os.write(self._master, self._handle(line) or b"")

    def close(self) -> None:
        self._ended.set()
        self._thread.join()
        os.close(self._master)
        os.close(self._slave)


@pytest.fixture(autouse=True)
def long_recovery(monkeypatch: pytest.MonkeyPatch) -> None:
    """What comes back may take its time on a machine that others use."""
    monkeypatch.setattr(StreamPort, "recovery_s", 20.0)


@pytest.fixture
def terminal() -> Iterator[Terminal]:
    terminal = Terminal()
    yield terminal
    terminal.close()


@pytest.fixture
def told_to_kernel(monkeypatch: pytest.MonkeyPatch) -> list[list[Any]]:
    """What the kernel is told of serial ports; a pseudo-terminal itself refuses any but 8 bits without parity."""
    told: list[list[Any]] = []
    real = termios.tcsetattr

    def note(descriptor: int, when: int, attributes: list[Any]) -> None:
        told.append(list(attributes))
        attributes[2] = attributes[2] & ~(termios.CSIZE | termios.PARENB | termios.PARODD) | termios.CS8
        real(descriptor, when, attributes)

    monkeypatch.setattr(serial.serialposix.termios, "tcsetattr", note)
    return told


@pytest.mark.parametrize(
    ("options", "speed", "bits", "parity"),
    [
        (SerialOptions(), termios.B9600, termios.CS8, 0),
        (SerialOptions(2400, 7, "even"), termios.B2400, termios.CS7, termios.PARENB),
        (SerialOptions(300, 7, "odd"), termios.B300, termios.CS7, termios.PARENB | termios.PARODD),
    ],
)
def test_framing(
    terminal: Terminal, told_to_kernel: list[list[Any]], options: SerialOptions, speed: int, bits: int, parity: int
) -> None:
    with Link.open("supply", [terminal.resource], serial=options) as link:
        assert link.query("*IDN?").startswith("MAKER")
    _, _, control, _, in_speed, out_speed, _ = told_to_kernel[-1]
    assert (in_speed, out_speed) == (speed, speed)
    assert control & termios.CSIZE == bits
    assert control & (termios.PARENB | termios.PARODD) == parity
    assert control & termios.CSTOPB, "two stop bits are fixed (UG364 p.77)"


def test_framing_of_lab_yaml_reaches_the_port(tmp_path: Path, told_to_kernel: list[list[Any]]) -> None:
    lab = lab_yaml.load(lab_file(tmp_path, ("  model: E3645A\n", "  model: E3645A\n  rs232: {parity: even}\n")))
    assert (lab.supply.rs232.data_bits, lab.supply.rs232.baud_rate) == (7, 9600)
    for wrong, message in (("baud_rate: 19200", "baud_rate"), ("parity: mark", "parity"), ("stop_bits: 1", "unknown")):
        with pytest.raises(ConfigError, match=message):
            lab_yaml.load(lab_file(tmp_path, ("  model: E3645A\n", f"  model: E3645A\n  rs232: {{{wrong}}}\n")))
    changes = [
        ("resource: sim:prologix", "resource: sim:serial"),
        ("  model: E3645A\n", "  model: E3645A\n  rs232: {baud_rate: 4800, parity: odd}\n"),
    ]
    with faulty_bench(tmp_path) as hurt:
        path = hurt.lab_path
        text = path.read_text()
        for old, new in [*changes[1:], (str(hurt.resources("supply"))[1:-1].replace("'", '"'), serial_of(hurt))]:
            assert old in text, old
            text = text.replace(old, new)
        path.write_text(text)
        with open_bench(lab_yaml.load(path), path, alarm=lambda text: None) as bench:
            bench.supply.remote()
            feed(bench)
            assert bench.supply.mode() == "CV"
        assert not hurt.output_is_on
    assert told_to_kernel[-1][2] & termios.CSIZE == termios.CS7
    assert told_to_kernel[-1][4] == termios.B4800


def serial_of(hurt: Any) -> str:
    """The serial line of a served bench, as lab.yaml has it."""
    return f'"{hurt.station.addresses["supply"]["serial"][0]}"'


def test_a_timeout_clears_the_supply_by_control_c(terminal: Terminal) -> None:
    with Link.open("supply", [terminal.resource]) as link:
        with pytest.raises(LinkTimeout, match="in step again"):
            link.query("SILENT?", 0.1)
        assert terminal.cleared == 1
        assert link.query("*IDN?").startswith("MAKER")


def test_an_adapter_that_is_unplugged_breaks_the_link_at_once() -> None:
    terminal = Terminal()
    with Link.open("supply", [terminal.resource]) as link:
        link.query("*IDN?")
        terminal.close()
        started = time.monotonic()
        with pytest.raises(LinkError, match="broken"):
            link.query("*IDN?", 60.0)
        assert time.monotonic() - started < 30.0
        with pytest.raises(LinkError, match="could not connect"):
            link.reopen()


# -- the handshake: pyserial's loop:// port has a DSR that follows its DTR, and echoes what is sent -----------------


@pytest.fixture
def loop(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """The loop ports that are opened, so that a test can move their lines."""
    ports: list[Any] = []
    real = serial.serial_for_url

    def remember(*args: Any, **options: Any) -> Any:
        ports.append(real(*args, **options))
        return ports[-1]

    monkeypatch.setattr(serial, "serial_for_url", remember)
    return ports


def test_nothing_is_sent_while_the_supply_holds_its_line_down(loop: list[Any]) -> None:
    with Link.open("supply", ["ASRLloop://::INSTR"]) as link:
        loop[0].dtr = True
        assert link.query("ready") == "ready"
        loop[0].dtr = False
        started = time.monotonic()
        waiting = threading.Timer(0.15, lambda: setattr(loop[0], "dtr", True))
        waiting.start()
        assert link.query("x" * 200, 30.0) == "x" * 200
        assert time.monotonic() - started >= 0.15
        waiting.join()


def test_a_supply_that_is_never_ready_is_named_with_what_to_look_at(
    loop: list[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(StreamPort, "recovery_s", 0.5)
    with Link.open("supply", ["ASRLloop://::INSTR"]) as link:
        loop[0].dtr = False
        with pytest.raises(LinkError, match=r"broken.*DTR line.*pins 4 and 6.*flow_control: none"):
            link.write("OUTP OFF", 0.1)


def test_a_cable_without_handshake_lines(loop: list[Any]) -> None:
    with Link.open("supply", ["ASRLloop://::INSTR"], serial=SerialOptions(flow_control="none")) as link:
        loop[0].dtr = False
        assert link.query("ready") == "ready"
