"""Every transport, driven by an independent client: pyvisa-py."""

from __future__ import annotations

import socket
import struct
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
        return visa(f"TCPIP::127.0.0.1,{server.port}::inst0::INSTR", open_timeout=2000, chunk_size=1 << 22)
    server = started(HislipServer(served, lambda: machine.open_port("message")))
    return visa(f"TCPIP::127.0.0.1::hislip0,{server.port}::INSTR")


@pytest.mark.parametrize("kind", ["socket", "vxi11", "hislip"])
def test_identity_and_a_capture(
    kind: str, scope: SimulatedMsoX2024A, served_scope: Served, started: Start, visa: Visa
) -> None:
    client = scope_on(kind, scope, served_scope, started, visa)
    client.timeout = 3000
    assert client.query("*IDN?").strip() == IDN
    client.write(SETUP)
    client.write(":SING")
    assert int(client.query(":OPER:COND?")) & 8
    client.write(":TRIG:FORC")
    until_s = time.monotonic() + 2
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
    fresh.timeout = 2000
    fresh.write(":STOP")
    assert fresh.query(":RST?") == "STOP"


def test_two_socket_clients_get_their_own_answers(
    scope: SimulatedMsoX2024A, served_scope: Served, started: Start
) -> None:
    server = started(StreamServer(served_scope, lambda: scope.open_port("stream")))
    with (
        socket.create_connection(("127.0.0.1", server.port), 2) as one,
        socket.create_connection(("127.0.0.1", server.port), 2) as two,
    ):
        one.sendall(b"*ID")
        two.sendall(b":RST?\n:RST?\n")
        one.sendall(b"N?\n")
        assert one.recv(100) == IDN.encode() + b"\n"
        time.sleep(0.02)
        assert two.recv(100) == b"STOP\nSTOP\n"


def prologix_on(machine: SimulatedE3645A, started: Start, visa: Visa, read_tmo_ms: int) -> tuple[Any, Any]:
    adapter = Prologix({5: machine})
    server = started(StreamServer(Served(adapter), adapter.open_port, name="prologix"))
    board = visa(f"PRLGX-TCPIP::127.0.0.1::{server.port}::INTFC")
    no_delay(board)
    board.write_raw(f"++read_tmo_ms {read_tmo_ms}\n".encode())
    return board, visa("GPIB0::5::INSTR")


def test_supply_behind_prologix(supply: SimulatedE3645A, started: Start, visa: Visa) -> None:
    board, gpib = prologix_on(supply, started, visa, 1500)
    board.timeout = 3000
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
    client.timeout = 2000
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
    assert time.monotonic() - start_s < 2


@pytest.mark.parametrize("size", [20480, 40960])
def test_vxi11_reason_bits_at_exact_multiples(
    size: int, scope: SimulatedMsoX2024A, served_scope: Served, started: Start
) -> None:
    """A reply of exactly the asked size carries REQCNT and END together."""
    scope.add(":TEST:BULK", query=lambda call: b"x" * (size - 1))
    server = started(Vxi11Server(served_scope, lambda: scope.open_port("message"), max_receive=64))
    with Rpc(server.port) as rpc:
        error, link, abort_port, most = struct.unpack(">4I", rpc.call(10, struct.pack(">3I", 1, 0, 0) + xdr(b"inst0")))
        assert (error, most) == (0, 64)
        assert abort_port > 0
        assert rpc.call(11, struct.pack(">4I", link, 1000, 0, 0) + xdr(b":TEST:")) == struct.pack(">2I", 0, 6)
        rpc.call(11, struct.pack(">4I", link, 1000, 0, 8) + xdr(b"BULK?"))
        for count, reason in ((20480, 5 if size == 20480 else 1), (20480, 5)):
            reply = rpc.call(12, struct.pack(">6I", link, count, 1000, 0, 0, 0))
            assert struct.unpack_from(">3I", reply) == (0, reason, count)
            if reason & 4:
                break
        timeout = rpc.call(12, struct.pack(">6I", link, 10, 20, 0, 0, 0))
        assert struct.unpack_from(">I", timeout) == (15,)
        assert scope.errors[-1][0] == -420


def test_vxi11_termination_character_lock_and_abort(
    scope: SimulatedMsoX2024A, served_scope: Served, started: Start
) -> None:
    server = started(Vxi11Server(served_scope, lambda: scope.open_port("message")))
    with Rpc(server.port) as rpc, Rpc(server.port) as other:
        (_, link, abort_port, _) = struct.unpack(">4I", rpc.call(10, struct.pack(">3I", 1, 1, 0) + xdr(b"inst0")))
        (_, second, _, _) = struct.unpack(">4I", other.call(10, struct.pack(">3I", 2, 0, 0) + xdr(b"inst0")))
        assert other.call(11, struct.pack(">4I", second, 100, 0, 8) + xdr(b"*IDN?")) == struct.pack(">2I", 11, 0)
        rpc.call(11, struct.pack(">4I", link, 1000, 0, 8) + xdr(b"*IDN?"))
        reply = rpc.call(12, struct.pack(">6I", link, 1000, 100, 0, 128, ord(",")))
        assert struct.unpack_from(">2I", reply) == (0, 2)
        assert reply[12:].startswith(b"AGILENT TECHNOLOGIES,")
        done, not_held = struct.pack(">I", 0), struct.pack(">I", 12)
        assert rpc.call(19, struct.pack(">I", link)) == done
        assert rpc.call(18, struct.pack(">3I", link, 0, 0)) == done
        assert rpc.call(19, struct.pack(">I", link)) == done
        assert rpc.call(19, struct.pack(">I", link)) == not_held
        rpc.send(12, struct.pack(">6I", link, 1000, 60_000, 0, 0, 0))
        first = rpc.receive()
        assert struct.unpack_from(">I", first) == (0,)
        rpc.call(11, struct.pack(">4I", link, 1000, 0, 8) + xdr(b":TRIG:SWE NORM;:DIG;*OPC?"))
        rpc.send(12, struct.pack(">6I", link, 1000, 60_000, 0, 0, 0))
        with Rpc(abort_port, 0x0607B0) as abort:
            time.sleep(0.05)
            assert abort.call(1, struct.pack(">I", link)) == struct.pack(">I", 0)
        assert struct.unpack_from(">I", rpc.receive()) == (23,)
        assert rpc.call(11, struct.pack(">4I", 999, 1000, 0, 8) + xdr(b"x")) == struct.pack(">2I", 4, 0)
        error = other.call(10, struct.pack(">3I", 2, 0, 0) + xdr(b"gpib0,9"))
        assert struct.unpack_from(">I", error) == (3,)


def test_only_loopback_is_served(served_scope: Served) -> None:
    with pytest.raises(ValueError, match="loopback"):
        Listener(served_scope, "0.0.0.0")


def test_hislip_cuts_replies_to_the_clients_size_and_answers_status(
    scope: SimulatedMsoX2024A, served_scope: Served, started: Start, visa: Visa
) -> None:
    client = scope_on("hislip", scope, served_scope, started, visa)
    client.timeout = 1000
    setup = client.query_binary_values(":SYST:SET?", datatype="B", container=bytes)
    assert b"\n" in setup
    client.write("*ESE 32;*SRE 32")
    client.write(":NONSENSE")
    until_s = time.monotonic() + 1
    while client.read_stb() & 96 != 96:
        assert time.monotonic() < until_s


def test_hislip_bare_messages(scope: SimulatedMsoX2024A, served_scope: Served, started: Start) -> None:
    server = started(HislipServer(served_scope, lambda: scope.open_port("message")))

    def message(kind: int, control: int = 0, parameter: int = 0, payload: bytes = b"") -> bytes:
        return struct.pack(">2sBBIQ", b"HS", kind, control, parameter, len(payload)) + payload

    def receive(channel: socket.socket) -> tuple[int, int, int, bytes]:
        prologue, kind, control, parameter, length = struct.unpack(">2sBBIQ", channel.recv(16, socket.MSG_WAITALL))
        assert prologue == b"HS"
        return kind, control, parameter, channel.recv(length, socket.MSG_WAITALL) if length else b""

    with (
        socket.create_connection(("127.0.0.1", server.port), 5) as sync,
        socket.create_connection(("127.0.0.1", server.port), 5) as other,
        socket.create_connection(("127.0.0.1", server.port), 5) as stranger,
    ):
        sync.sendall(message(0, parameter=0x01005858, payload=b"hislip0"))
        kind, control, parameter, _ = receive(sync)
        assert (kind, control, parameter >> 16) == (1, 0, 0x0100)
        other.sendall(message(17, parameter=parameter & 0xFFFF))
        assert receive(other)[0] == 18
        other.sendall(message(15, payload=struct.pack(">Q", 16 + 7)))
        assert receive(other)[0] == 16
        sync.sendall(message(7, parameter=0xFFFFFF00, payload=b"*IDN?"))
        parts = []
        while not parts or parts[-1][0] == 6:
            parts.append(receive(sync))
        assert {p[2] for p in parts} == {0xFFFFFF00}
        assert all(len(p[3]) <= 7 for p in parts)
        assert b"".join(p[3] for p in parts) == IDN.encode() + b"\n"
        for control, answer in ((1, 1), (0, 1), (0, 3)):
            other.sendall(message(4, control, 0))
            assert receive(other)[:2] == (5, answer)
        other.sendall(message(24))
        assert receive(other)[:3] == (25, 0, 0)
        other.sendall(message(10, 6))
        assert receive(other)[0] == 11
        sync.sendall(message(99))
        assert receive(sync)[:2] == (3, 1)
        other.sendall(message(99))
        assert receive(other)[:2] == (3, 1)
        stranger.sendall(b"GET / HTTP/1.1\r\n")
        assert receive(stranger)[:2] == (2, 1)


def xdr(data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + data + b"\0" * (-len(data) % 4)


class Rpc:
    """A bare ONC RPC client."""

    def __init__(self, port: int, program: int = 0x0607AF) -> None:
        self._program = program
        self._socket = socket.create_connection(("127.0.0.1", port), 5)
        self._xid = 100

    def send(self, procedure: int, arguments: bytes) -> None:
        self._xid += 1
        body = struct.pack(">6I", self._xid, 0, 2, self._program, 1, procedure) + b"\0" * 16 + arguments
        self._socket.sendall(struct.pack(">I", 0x80000000 | len(body)) + body)

    def receive(self) -> bytes:
        (mark,) = struct.unpack(">I", self._exactly(4))
        reply = self._exactly(mark & 0x7FFFFFFF)
        assert struct.unpack_from(">6I", reply) == (self._xid, 1, 0, 0, 0, 0)
        return reply[24:]

    def call(self, procedure: int, arguments: bytes) -> bytes:
        self.send(procedure, arguments)
        return self.receive()

    def _exactly(self, count: int) -> bytes:
        data = b""
        while len(data) < count:
            got = self._socket.recv(count - len(data))
            assert got
            data += got
        return data

    def __enter__(self) -> Rpc:
        return self

    def __exit__(self, *_: object) -> None:
        self._socket.close()
