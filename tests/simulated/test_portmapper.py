"""Where VXI-11 listens, asked over TCP and UDP, on any port and where port 111 can be bound."""

from __future__ import annotations

import contextlib
import json
import socket
import struct
import subprocess
import sys
from collections.abc import Callable
from typing import Any

import pytest

from instruments.simulated.mso_x2024a import SimulatedMsoX2024A
from instruments.simulated.portmapper import Portmapper, try_portmapper
from instruments.simulated.servers import Served
from instruments.simulated.vxi11 import CORE_PROGRAM, VERSION, Vxi11Server
from tests.simulated.wire import CORE, PORTMAPPER, Rpc, await_port_111, port_111, xdr

Start = Callable[[Any], Any]
TCP, UDP = 6, 17


def ask_udp(port: int, version: int, procedure: int, arguments: bytes) -> bytes:
    call = struct.pack(">6I", 5, 0, 2, PORTMAPPER, version, procedure) + b"\0" * 16 + arguments
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as client:
        client.settimeout(60)
        client.sendto(call, ("127.0.0.1", port))
        reply = client.recv(4096)
    assert struct.unpack_from(">6I", reply) == (5, 1, 0, 0, 0, 0)
    return reply[24:]


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as one:
        return int(one.getsockname()[1])


def get_port(program: int, version: int = 1, protocol: int = TCP) -> bytes:
    return struct.pack(">4I", program, version, protocol, 0)


def test_getport_over_tcp_and_udp(scope: SimulatedMsoX2024A, served_scope: Served, started: Start) -> None:
    vxi11 = started(Vxi11Server(served_scope, lambda: scope.open_port("message")))
    mapper = started(Portmapper(served_scope, {(CORE_PROGRAM, VERSION): vxi11.port}, port=0))
    with Rpc(mapper.port, PORTMAPPER, 2) as rpc:
        for ask in (lambda *call: rpc.call(*call), lambda *call: ask_udp(mapper.port, 2, *call)):
            assert ask(0, b"") == b""
            assert struct.unpack(">I", ask(3, get_port(CORE)))[0] == vxi11.port
            for unknown in (get_port(CORE, 2), get_port(CORE, 1, UDP), get_port(100_003)):
                assert ask(3, unknown) == struct.pack(">I", 0)
            assert ask(1, struct.pack(">4I", CORE, 1, TCP, 9)) == struct.pack(">I", 0)  # nobody can register
            assert struct.pack(">5I", 1, CORE, 1, TCP, vxi11.port) in ask(4, b"")
        rpc.send(3, b"")
        assert struct.unpack_from(">5I", rpc.reply(), 4) == (1, 0, 0, 0, 4)


@pytest.mark.parametrize("version", [3, 4])
def test_getaddr_of_the_newer_versions(served_scope: Served, started: Start, version: int) -> None:
    mapper = started(Portmapper(served_scope, {(CORE_PROGRAM, VERSION): 40_001}, port=0))
    arguments = struct.pack(">2I", CORE, 1) + xdr(b"tcp") + xdr(b"") + xdr(b"")
    assert ask_udp(mapper.port, version, 3, arguments) == xdr(b"127.0.0.1.156.65")
    assert ask_udp(mapper.port, version, 3, arguments.replace(b"tcp", b"udp")) == xdr(b"")


def test_without_the_port_there_is_no_portmapper(served_scope: Served, started: Start) -> None:
    taken = started(Portmapper(served_scope, {}, port=0))
    assert try_portmapper(served_scope, {}, "127.0.0.1", taken.port) is None


def test_a_client_that_knows_no_port_finds_the_instrument(
    scope: SimulatedMsoX2024A, served_scope: Served, started: Start, visa: Callable[..., Any]
) -> None:
    vxi11 = started(Vxi11Server(served_scope, lambda: scope.open_port("message")))
    with port_111():
        while (mapper := try_portmapper(served_scope, {(CORE_PROGRAM, VERSION): vxi11.port}, "127.0.0.1")) is None:
            await_port_111()
        started(mapper)
        client = visa("TCPIP::127.0.0.1::inst0::INSTR", open_timeout=30_000)
        assert client.query("*IDN?").startswith("AGILENT TECHNOLOGIES,MSO-X 2024A,")
        mapper.stop()


@pytest.mark.parametrize("given", ["a port", "port 111"])
def test_the_program_tells_where_vxi_11_is(given: str) -> None:
    command = [sys.executable, "-m", "instruments.simulated"]
    with contextlib.ExitStack() as stack:
        port = stack.enter_context(port_111()) if given == "port 111" else free_port()
        while not is_told(command + (["--portmapper", str(port)] if given == "a port" else []), port):
            await_port_111()


def is_told(command: list[str], port: int) -> bool:
    """Start the program, and ask it at a port where VXI-11 is; False where it could not have port 111."""
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as program:
        try:
            assert program.stdout is not None
            addresses = json.loads(program.stdout.readline())["scope"]
            if port == 111 and "vxi11-portmapper" not in addresses:
                return False
            told = int(addresses["vxi11"][0].split("::")[1].split(",")[1])
            assert struct.unpack(">I", ask_udp(port, 2, 3, get_port(CORE))) == (told,)
            assert addresses.get("vxi11-portmapper") == (["TCPIP::127.0.0.1::inst0::INSTR"] if port == 111 else None)
            return True
        finally:
            program.terminate()
