"""Every transport, driven by an independent client: pyvisa-py."""

from __future__ import annotations

import socket
import time
from collections.abc import Callable
from typing import Any

import pytest
import pyvisa

from instruments.simulated.e3645a import SimulatedE3645A
from instruments.simulated.hislip import HislipServer
from instruments.simulated.mso_x2024a import SimulatedMsoX2024A
from instruments.simulated.prologix import Prologix
from instruments.simulated.servers import Listener, SerialServer, Served, StreamServer
from instruments.simulated.vxi11 import Vxi11Server

Start = Callable[[Any], Any]
Visa = Callable[..., Any]
IDN = "AGILENT TECHNOLOGIES,MSO-X 2024A,MY00000001,02.65.2021102830"
SETUP = (
    ":STOP;:CHAN1:RANG 1;OFFS 0;:ACQ:TYPE HRES;:TIM:RANG 10E-3;REF LEFT;:TRIG:SWE NORM;"
    ":WAV:FORM WORD;BYT LSBF;SOUR CHAN1;POIN:MODE RAW;:WAV:POIN MAX"
)


def no_delay(resource: Any) -> None:
    session = resource.visalib.sessions[resource.session]
    session.interface.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)


def scope_on(kind: str, machine: SimulatedMsoX2024A, served: Served, started: Start, visa: Visa) -> Any:
    if kind == "socket":
        server = started(StreamServer(served, lambda: machine.open_port("stream")))
        scope = visa(f"TCPIP::127.0.0.1::{server.port}::SOCKET", read_termination="\n")
        no_delay(scope)
        return scope
    if kind == "vxi11":
        server = started(Vxi11Server(served, lambda: machine.open_port("message")))
        return visa(f"TCPIP::127.0.0.1,{server.port}::inst0::INSTR", open_timeout=20_000, chunk_size=1 << 22)
    server = started(HislipServer(served, lambda: machine.open_port("message")))
    return visa(f"TCPIP::127.0.0.1::hislip0,{server.port}::INSTR")


@pytest.mark.parametrize("kind", ["socket", "vxi11", "hislip"])
def test_identity_and_a_capture(
    kind: str, scope: SimulatedMsoX2024A, served_scope: Served, started: Start, visa: Visa
) -> None:
    client = scope_on(kind, scope, served_scope, started, visa)
    client.timeout = 30_000
    assert client.query("*IDN?").strip() == IDN
    client.write(SETUP)
    client.write(":SING")
    assert int(client.query(":OPER:COND?")) & 8
    client.write(":TRIG:FORC")
    until_s = time.monotonic() + 30
    while int(client.query(":OPER:COND?")) & 8:
        assert time.monotonic() < until_s
        time.sleep(0.002)
    first = client.query_binary_values(":WAV:DATA?", datatype="H", is_big_endian=False)
    again = client.query_binary_values(":WAV:DATA?", datatype="H", is_big_endian=False)
    points = int(client.query(":WAV:PRE?").split(",")[2])
    assert points >= 500_000
    assert len(first) == points
    assert first == again
    assert client.query(":SYST:ERR?").strip() == '+0,"No error"'


@pytest.mark.parametrize("kind", ["vxi11", "hislip"])
def test_device_clear_ends_a_digitize(
    kind: str, scope: SimulatedMsoX2024A, served_scope: Served, started: Start, visa: Visa
) -> None:
    client = scope_on(kind, scope, served_scope, started, visa)
    client.timeout = 150
    client.write(":TRIG:SWE NORM;:DIG")
    with pytest.raises(pyvisa.errors.VisaIOError):
        client.query("*OPC?")
    client.timeout = 30_000
    client.clear()
    assert client.query("*OPC?").strip() == "1"
    assert client.query(":RST?").strip() == "STOP"


def test_socket_has_no_device_clear_but_a_new_connection_helps(
    scope: SimulatedMsoX2024A, served_scope: Served, started: Start, visa: Visa
) -> None:
    server = started(StreamServer(served_scope, lambda: scope.open_port("stream")))
    name = f"TCPIP::127.0.0.1::{server.port}::SOCKET"
    client = visa(name, read_termination="\n")
    client.timeout = 150
    client.write(":TRIG:SWE NORM;:DIG")
    with pytest.raises(pyvisa.errors.VisaIOError):
        client.query("*OPC?")
    client.clear()
    with pytest.raises(pyvisa.errors.VisaIOError):
        client.query("*OPC?")
    client.close()
    fresh = visa(name, read_termination="\n")
    fresh.timeout = 30_000
    fresh.write(":STOP")
    assert fresh.query(":RST?") == "STOP"


def test_two_socket_clients_get_their_own_answers(
    scope: SimulatedMsoX2024A, served_scope: Served, started: Start
) -> None:
    server = started(StreamServer(served_scope, lambda: scope.open_port("stream")))
    with (
        socket.create_connection(("127.0.0.1", server.port), 30) as one,
        socket.create_connection(("127.0.0.1", server.port), 30) as two,
    ):
        one.sendall(b"*ID")
        two.sendall(b":RST?\n:RST?\n")
        one.sendall(b"N?\n")
        assert lines(one, 1) == [IDN.encode()]
        assert lines(two, 2) == [b"STOP", b"STOP"]


def prologix_on(machine: SimulatedE3645A, started: Start, visa: Visa, read_tmo_ms: int) -> tuple[Any, Any]:
    adapter = Prologix({5: machine})
    server = started(StreamServer(Served(adapter), adapter.open_port, name="prologix"))
    board = visa(f"PRLGX-TCPIP::127.0.0.1::{server.port}::INTFC")
    no_delay(board)
    board.write_raw(f"++read_tmo_ms {read_tmo_ms}\n".encode())
    return board, visa("GPIB0::5::INSTR")


def test_supply_behind_prologix(supply: SimulatedE3645A, started: Start, visa: Visa) -> None:
    board, gpib = prologix_on(supply, started, visa, 1500)
    board.timeout = 30_000
    assert gpib.query("*IDN?").strip() == "Agilent Technologies,E3645A,0,1.4-5.0-1.0"
    gpib.write("VOLT +1.2E+01;:OUTP ON")
    assert gpib.query("VOLT?").strip() == "+1.20000000E+01"
    assert float(gpib.query("MEAS:VOLT?")) == pytest.approx(12.0, abs=0.04)
    assert gpib.query("SYST:ERR?").strip() == '+0,"No error"'
    assert gpib.read_stb() == 0


def test_prologix_read_timeout_is_too_short_for_a_measurement(
    supply: SimulatedE3645A, started: Start, visa: Visa
) -> None:
    """As pyvisa-py leaves it, 50 ms: the late reply is lost to the next query with -410."""
    board, gpib = prologix_on(supply, started, visa, 50)
    board.timeout = 150
    with pytest.raises(pyvisa.errors.VisaIOError):
        gpib.query("MEAS:VOLT?")
    board.timeout = 30_000
    time.sleep(0.3)
    assert gpib.query("SYST:ERR?").strip() == '-410,"Query INTERRUPTED"'


def test_supply_on_a_pseudo_terminal(
    supply: SimulatedE3645A, served_supply: Served, started: Start, visa: Visa
) -> None:
    server = started(SerialServer(served_supply, lambda: supply.open_port("serial")))
    client = visa(
        f"ASRL{server.path}::INSTR",
        read_termination="\r\n",
        write_termination="\n",
        stop_bits=pyvisa.constants.StopBits.two,
    )
    client.timeout = 30_000
    client.write("VOLT 5")
    assert client.query("SYST:ERR?") == '+550,"Command not allowed in local"'
    client.write("SYST:REM")
    client.write("APPL 5,1;:OUTP ON")
    assert client.query("APPL?") == '"5.00000,1.00000"'
    assert float(client.query("MEAS:CURR?")) == pytest.approx(0.5, abs=0.02)


def test_a_pseudo_terminal_that_nobody_reads_can_be_stopped(
    supply: SimulatedE3645A, served_supply: Served, started: Start, visa: Visa
) -> None:
    server = started(SerialServer(served_supply, lambda: supply.open_port("serial")))
    client = visa(f"ASRL{server.path}::INSTR", write_termination="\n")
    client.write("*IDN?;" * 400)
    time.sleep(0.05)
    start_s = time.monotonic()
    server.stop()
    assert time.monotonic() - start_s < 30


def raw(machine: SimulatedMsoX2024A, served: Served, started: Start) -> socket.socket:
    server = started(StreamServer(served, lambda: machine.open_port("stream")))
    return socket.create_connection(("127.0.0.1", server.port), 30)


def lines(connection: socket.socket, count: int) -> list[bytes]:
    """So many lines, and nothing after them."""
    received = b""
    while received.count(b"\n") < count:
        received += connection.recv(65536)
    assert received.endswith(b"\n")
    return received[:-1].split(b"\n")


def test_terminators_segments_and_trees_on_a_raw_socket(
    scope: SimulatedMsoX2024A, served_scope: Served, started: Start
) -> None:
    with raw(scope, served_scope, started) as client:
        client.sendall(b"*OPC?\r\n\n:ACQ:TYPE?;COUN?;*OPC?;MODE?\n\r\n*OPC?\n")
        assert lines(client, 3) == [b"1", b"NORM;+8;1;RTIM", b"1"]
        for byte in b":CHAN1:RANG 8V;OFFS 0;:CHAN1:RANG?;:chan1:offset?\r\n":
            client.sendall(bytes((byte,)))
        assert lines(client, 1) == [b"+8.00000E+00;+0.00000E+00"]
        setup = b":SYST:SET?\n"
        client.sendall(setup)
        block = b""
        while len(block) < 10 or len(block) < 11 + int(block[2:10]):
            block += client.recv(65536)
        client.sendall(b":ACQ:TYPE HRES;:SYST:SET " + block[:50])
        time.sleep(0.02)
        client.sendall(block[50:-1] + b";:ACQ:TYPE?\n")  # a block with line feeds inside, over two segments
        assert lines(client, 1) == [b"NORM"]
        assert not scope.errors


def test_a_client_that_leaves_in_mid_transfer_disturbs_nobody(
    scope: SimulatedMsoX2024A, served_scope: Served, started: Start
) -> None:
    scope.feed(b":TRIG:SWE AUTO;:TIM:RANG 1E-3;:WAV:POIN:MODE RAW;:WAV:POIN MAX;FORM WORD;:SING\n")
    until_s = time.monotonic() + 30
    while scope.acquisition.mode != "STOP":
        assert time.monotonic() < until_s
        scope.advance(time.monotonic())
    with raw(scope, served_scope, started) as leaving:
        leaving.sendall(b":WAV:DATA?\n" * 4)
        assert leaving.recv(1000)[:2] == b"#8"
    with raw(scope, served_scope, started) as half_closed:
        half_closed.sendall(b"*OPC?\n")
        half_closed.shutdown(socket.SHUT_WR)  # as `echo ... | nc` does
        assert lines(half_closed, 1) == [b"1"]
        assert half_closed.recv(1) == b""
    with raw(scope, served_scope, started) as other:
        other.sendall(b":WAV:DATA?\n*OPC?\n")
        received = b""
        while not received.endswith(b"\n1\n"):
            received += other.recv(1 << 20)
        assert len(received) == 10 + int(received[2:10]) + 3


def test_an_instrument_that_takes_its_time_to_open(
    scope: SimulatedMsoX2024A, served_scope: Served, started: Start
) -> None:
    server = StreamServer(served_scope, lambda: scope.open_port("stream"))
    server.accept_delay_s = 0.3
    started(server)
    begun_s = time.monotonic()
    with socket.create_connection(("127.0.0.1", server.port), 30) as client:
        client.sendall(b"*OPC?\n")
        assert lines(client, 1) == [b"1"]
    assert time.monotonic() - begun_s >= 0.3


def test_only_loopback_is_served(served_scope: Served) -> None:
    with pytest.raises(ValueError, match="loopback"):
        Listener(served_scope, "0.0.0.0")


def test_hislip_cuts_replies_to_the_clients_size_and_answers_status(
    scope: SimulatedMsoX2024A, served_scope: Served, started: Start, visa: Visa
) -> None:
    client = scope_on("hislip", scope, served_scope, started, visa)
    client.timeout = 30_000
    setup = client.query_binary_values(":SYST:SET?", datatype="B", container=bytes)
    assert b"\n" in setup
    client.write("*ESE 32;*SRE 32")
    client.write(":NONSENSE")
    until_s = time.monotonic() + 30
    while client.read_stb() & 96 != 96:
        assert time.monotonic() < until_s
