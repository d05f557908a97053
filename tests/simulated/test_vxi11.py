"""VXI-11 as bytes: reasons, locks, aborting, service requests, lost links, malformed calls."""

from __future__ import annotations

import contextlib
import select
import socket
import struct
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from instruments.simulated.e3645a import SimulatedE3645A
from instruments.simulated.mso_x2024a import SimulatedMsoX2024A
from instruments.simulated.servers import Served
from instruments.simulated.vxi11 import Vxi11Server
from tests.simulated.wire import ABORT, Interrupts, Rpc, Vxi11, xdr

LOOPBACK = 0x7F000001


@pytest.fixture
def server(scope: SimulatedMsoX2024A, served_scope: Served, started: Callable[[Any], Any]) -> Vxi11Server:
    server: Vxi11Server = started(Vxi11Server(served_scope, lambda: scope.open_port("message"), max_receive=2048))
    return server


@pytest.fixture
def rpc(server: Vxi11Server) -> Iterator[Vxi11]:
    with Vxi11(server.port) as client:
        assert client.create() == 0
        yield client


@pytest.fixture
def interrupts() -> Iterator[Interrupts]:
    service = Interrupts()
    yield service
    service.close()


@pytest.mark.parametrize("size", [20480, 40960])
def test_reason_bits_at_exact_multiples(size: int, scope: SimulatedMsoX2024A, rpc: Vxi11) -> None:
    """A reply of exactly the asked size carries REQCNT and END together; a read after it times out with -420."""
    scope.add(":TEST:BULK", query=lambda call: b"x" * (size - 1))
    assert rpc.most == 2048
    assert rpc.write(b":TEST:", flags=0) == (0, 6)
    assert rpc.write(b"BULK?") == (0, 5)
    got = b""
    for reason in (1, 5) if size == 40960 else (5,):
        error, why, data = rpc.read(20480)
        assert (error, why, len(data)) == (0, reason, 20480)
        got += data
    assert got == b"x" * (size - 1) + b"\n"
    assert rpc.read(10, io_ms=20) == (15, 0, b"")
    assert scope.errors[-1][0] == -420


def test_a_write_beyond_what_the_link_takes_is_refused(rpc: Vxi11, scope: SimulatedMsoX2024A) -> None:
    assert rpc.write(b"*IDN?" + b" " * 2044) == (5, 0)
    assert rpc.write(b"*OPC?" + b" " * 2043) == (0, 2048)
    assert rpc.read() == (0, 4, b"1\n")


def test_termination_character_in_pieces(rpc: Vxi11) -> None:
    rpc.write(b"*IDN?\n")
    assert rpc.read(flags=128, char=ord(",")) == (0, 2, b"AGILENT TECHNOLOGIES,")
    assert rpc.read(4) == (0, 1, b"MSO-")
    assert rpc.read(flags=128, char=10)[:2] == (0, 6)


def test_abort_ends_a_read_that_waits_for_a_digitize_and_clear_ends_the_digitize(rpc: Vxi11) -> None:
    rpc.write(b":TRIG:SWE NORM;:DIG;*OPC?")
    rpc.ask_read(io_ms=60_000)
    with Rpc(rpc.abort_port, ABORT) as abort:
        while not select.select([rpc.socket], [], [], 0.05)[0]:  # the read may not have begun to wait yet
            assert abort.call(1, struct.pack(">I", rpc.link)) == struct.pack(">I", 0)
        assert rpc.got_read() == (23, 0, b"")
        assert abort.call(1, struct.pack(">I", 999)) == struct.pack(">I", 4)
    assert rpc.read(io_ms=30) == (15, 0, b"")  # aborting a call leaves the instrument as it is
    assert rpc.generic(15) == (0,)
    rpc.write(b":RST?")
    assert rpc.read()[2] == b"STOP\n"


def test_locks_keep_others_out_and_can_be_waited_for(server: Vxi11Server, rpc: Vxi11) -> None:
    with Vxi11(server.port) as other, Vxi11(server.port) as third:
        assert other.create() == 0
        assert rpc.lock() == 0
        for error in (other.write(b"*IDN?")[0], other.generic(13)[0], other.generic(15)[0], other.lock()):
            assert error == 11
        assert other.read(io_ms=10)[0] == 11
        start_s = time.monotonic()
        assert third.create(lock=True, lock_ms=100) == 11
        assert time.monotonic() - start_s >= 0.1
        unlocking = threading.Timer(0.05, rpc.unlock)
        unlocking.start()
        assert other.lock(flags=1, lock_ms=30_000) == 0
        unlocking.join()  # its answer comes on the same connection as the next call's
        assert other.unlock() == 0
        assert other.unlock() == 12
        assert third.create(lock=True) == 0
        assert rpc.write(b"*CLS") == (11, 0)
    assert rpc.write(b"*CLS", flags=9, lock_ms=30_000) == (0, 4)  # the holder's connection has gone


def test_status_trigger_remote_local_and_docmd(rpc: Vxi11, scope: SimulatedMsoX2024A) -> None:
    rpc.write(b"*ESE 32;*SRE 32;:NONSENSE")
    assert rpc.generic(13) == (0, 96)
    assert rpc.generic(13) == (0, 32)  # the poll has ended the request
    rpc.write(b":TRIG:SWE NORM;:TIM:RANG 1E-3;:SING")
    assert rpc.generic(14) == (0,)
    until_s = time.monotonic() + 30
    while scope.acquisition.mode != "STOP":
        assert time.monotonic() < until_s
        rpc.generic(13)
    assert rpc.generic(16) == rpc.generic(17) == (0,)
    assert rpc.call(22, struct.pack(">7I", rpc.link, 0, 0, 0, 0x020000, 0, 1) + xdr(b"x")) == struct.pack(">2I", 8, 0)


def test_remote_and_local_reach_the_front_panel(
    supply: SimulatedE3645A, served_supply: Served, started: Callable[[Any], Any]
) -> None:
    server = started(Vxi11Server(served_supply, lambda: supply.open_port("message")))
    with Vxi11(server.port) as rpc:
        rpc.create()
        rpc.generic(16)
        assert supply.remote
        rpc.generic(17)
        assert not supply.remote


def test_a_link_that_is_gone_is_error_4(server: Vxi11Server, rpc: Vxi11) -> None:
    server.lose_links()
    assert rpc.write(b"*IDN?") == (4, 0)
    assert rpc.read() == (4, 0, b"")
    assert rpc.generic(13)[0] == rpc.generic(23)[0] == 4
    assert rpc.create() == 0
    assert rpc.write(b"*IDN?") == (0, 5)
    assert rpc.create(device=b"gpib0,9") == 3


def test_service_request_on_the_interrupt_channel(server: Vxi11Server, rpc: Vxi11, interrupts: Interrupts) -> None:
    def channel(address: int = LOOPBACK, port: int = interrupts.port, family: int = 0) -> int:
        (error,) = struct.unpack(">I", rpc.call(25, struct.pack(">5I", address, port, 0x0607B1, 1, family)))
        return int(error)

    def enable(on: bool, handle: bytes = b"me") -> int:
        (error,) = struct.unpack(">I", rpc.call(20, struct.pack(">2I", rpc.link, on) + xdr(handle)))
        return int(error)

    assert rpc.call(26, b"") == struct.pack(">I", 6)
    assert channel(address=0x08080808) == 21
    assert channel(family=7) == 5
    assert channel() == 0
    assert channel() == 29
    assert enable(True, b"h" * 41) == 5
    assert enable(True) == 0
    rpc.write(b"*CLS;*ESE 1;*SRE 32;:TRIG:SWE AUTO;:TIM:RANG 1E-3;:DIG;*OPC")
    assert interrupts.came.acquire(timeout=30)  # by the end of an acquisition alone, nobody asking
    assert interrupts.handles == [b"me"]
    error, status = rpc.generic(13)
    assert (error, status & 96) == (0, 96)
    rpc.write(b"*ESR?")
    assert rpc.read()[2] == b"+1\n"
    rpc.write(b"*OPC")
    assert interrupts.came.acquire(timeout=30)
    assert enable(False) == 0
    rpc.write(b"*ESR?;*OPC")
    assert not interrupts.came.acquire(timeout=0.2)
    assert rpc.call(26, b"") == struct.pack(">I", 0)


def test_calls_that_are_no_good(server: Vxi11Server, rpc: Vxi11) -> None:
    rpc.send(11, struct.pack(">I", rpc.link))  # arguments are missing
    assert struct.unpack_from(">5I", rpc.reply(), 4) == (1, 0, 0, 0, 4)
    rpc.send(11, struct.pack(">4I", rpc.link, 1, 0, 8) + struct.pack(">I", 1 << 30))  # longer than the record
    assert struct.unpack_from(">5I", rpc.reply(), 4) == (1, 0, 0, 0, 4)
    rpc.send(99, struct.pack(">4I", rpc.link, 0, 0, 0))
    assert struct.unpack_from(">5I", rpc.reply(), 4) == (1, 0, 0, 0, 3)
    with Rpc(server.port, program=100_003) as stranger:
        stranger.send(1, b"")
        assert struct.unpack_from(">5I", stranger.reply(), 4) == (1, 0, 0, 0, 1)
    with Rpc(server.port, version=3) as stranger:
        stranger.send(1, b"")
        assert struct.unpack_from(">7I", stranger.reply(), 4) == (1, 0, 0, 0, 2, 1, 1)
        stranger.socket.sendall(struct.pack(">11I", 0x80000028, 7, 0, 9, 0, 0, 0, 0, 0, 0, 0))
        assert struct.unpack(">6I", stranger.reply()) == (7, 1, 1, 0, 2, 2)
    assert rpc.call(0, b"") == b""
    with socket.create_connection(("127.0.0.1", server.port), 5) as stranger:
        stranger.sendall(b"GET / HTTP/1.1\r\n\r\n")
        with contextlib.suppress(ConnectionResetError):
            assert stranger.recv(10) == b""
    rpc.write(b"*OPC?")
    assert rpc.read()[2] == b"1\n"
