"""Bare clients for tests: ONC RPC and HiSLIP as bytes, written apart from the servers."""

from __future__ import annotations

import contextlib
import socket
import struct
import threading
import time
from collections.abc import Iterator
from typing import NamedTuple

import pytest

from tests.locks import alone

CORE, ABORT, INTERRUPT, PORTMAPPER = 0x0607AF, 0x0607B0, 0x0607B1, 100_000


@contextlib.contextmanager
def port_111() -> Iterator[int]:
    """Port 111, which no other test has meanwhile; skips where it cannot be had: no right to, or a program has it.

    A program that is no test may still be quicker than who asked for it.
    """
    with alone("port-111"):
        yield await_port_111()


def await_port_111(seconds: float = 15.0) -> int:
    until_s = time.monotonic() + seconds
    while True:
        try:
            with socket.create_server(("127.0.0.1", 111)), socket.socket(type=socket.SOCK_DGRAM) as datagrams:
                datagrams.bind(("127.0.0.1", 111))
                return 111
        except PermissionError:
            pytest.skip("port 111 of this machine may not be bound by this user")
        except OSError:
            if time.monotonic() > until_s:
                pytest.skip("port 111 of this machine is taken")
            time.sleep(0.2)


def xdr(data: bytes) -> bytes:
    """Opaque data."""
    return struct.pack(">I", len(data)) + data + b"\0" * (-len(data) % 4)


def exactly(connection: socket.socket, count: int) -> bytes:
    """Read `count` bytes."""
    data = b""
    while len(data) < count:
        got = connection.recv(count - len(data))
        assert got, f"closed after {data!r}"
        data += got
    return data


class Rpc:
    """A client of one RPC program over TCP."""

    def __init__(self, port: int, program: int = CORE, version: int = 1) -> None:
        self._program, self._version = program, version
        self.socket = socket.create_connection(("127.0.0.1", port), 30)
        self._xid = 100

    def send(self, procedure: int, arguments: bytes) -> None:
        self._xid += 1
        body = struct.pack(">6I", self._xid, 0, 2, self._program, self._version, procedure) + b"\0" * 16 + arguments
        self.socket.sendall(struct.pack(">I", 0x80000000 | len(body)) + body)

    def reply(self) -> bytes:
        """The whole next reply."""
        (mark,) = struct.unpack(">I", exactly(self.socket, 4))
        assert mark & 0x80000000
        return exactly(self.socket, mark & 0x7FFFFFFF)

    def receive(self) -> bytes:
        """Results of a call that was accepted and done."""
        reply = self.reply()
        assert struct.unpack_from(">6I", reply) == (self._xid, 1, 0, 0, 0, 0)
        return reply[24:]

    def call(self, procedure: int, arguments: bytes) -> bytes:
        self.send(procedure, arguments)
        return self.receive()

    def __enter__(self) -> Rpc:
        return self

    def __exit__(self, *_: object) -> None:
        self.socket.close()


class Vxi11(Rpc):
    """A VXI-11 client with one link."""

    link = 0
    abort_port = 0

    def create(self, *, lock: bool = False, lock_ms: int = 0, device: bytes = b"inst0") -> int:
        answer = self.call(10, struct.pack(">3I", 1, lock, lock_ms) + xdr(device))
        error, self.link, self.abort_port, self.most = struct.unpack(">4I", answer)
        return int(error)

    def write(self, data: bytes, flags: int = 8, lock_ms: int = 0) -> tuple[int, int]:
        answer = self.call(11, struct.pack(">4I", self.link, 1000, lock_ms, flags) + xdr(data))
        error, size = struct.unpack(">2I", answer)
        return error, size

    def ask_read(self, size: int = 1 << 20, io_ms: int = 30_000, flags: int = 0, char: int = 0) -> None:
        self.send(12, struct.pack(">6I", self.link, size, io_ms, 0, flags, char))

    def read(self, size: int = 1 << 20, io_ms: int = 30_000, flags: int = 0, char: int = 0) -> tuple[int, int, bytes]:
        """(error, reason, data)."""
        self.ask_read(size, io_ms, flags, char)
        return self.got_read()

    def got_read(self) -> tuple[int, int, bytes]:
        answer = self.receive()
        error, reason, length = struct.unpack_from(">3I", answer)
        return error, reason, answer[12 : 12 + length]

    def generic(self, procedure: int, flags: int = 0, lock_ms: int = 0) -> tuple[int, ...]:
        """A call with the generic arguments; everything that comes back."""
        answer = self.call(procedure, struct.pack(">4I", self.link, flags, lock_ms, 1000))
        return struct.unpack(f">{len(answer) // 4}I", answer)

    def lock(self, flags: int = 0, lock_ms: int = 0) -> int:
        (error,) = struct.unpack(">I", self.call(18, struct.pack(">3I", self.link, flags, lock_ms)))
        return int(error)

    def unlock(self) -> int:
        (error,) = struct.unpack(">I", self.call(19, struct.pack(">I", self.link)))
        return int(error)


class Interrupts:
    """A client's interrupt service: collects the handles of service requests."""

    def __init__(self) -> None:
        self._listening = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listening.getsockname()[1]
        self.handles: list[bytes] = []
        self.came = threading.Semaphore(0)
        self._connection: socket.socket | None = None
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def _run(self) -> None:
        try:
            self._connection, _ = self._listening.accept()
            while True:
                (mark,) = struct.unpack(">I", exactly(self._connection, 4))
                call = exactly(self._connection, mark & 0x7FFFFFFF)
                assert struct.unpack_from(">6I", call, 4)[:5] == (0, 2, INTERRUPT, 1, 30)
                (length,) = struct.unpack_from(">I", call, 40)
                self.handles.append(call[44 : 44 + length])
                self.came.release()
        except (OSError, AssertionError):
            return

    def close(self) -> None:
        for one in (self._connection, self._listening):
            if one is not None:
                one.close()


class Hs(NamedTuple):
    """A HiSLIP message that came."""

    kind: int
    control: int
    parameter: int
    payload: bytes


class Hislip:
    """A HiSLIP client with both channels; nothing is sent that a test does not ask for."""

    def __init__(self, port: int, *, join: bool = True, sub_address: bytes = b"hislip0") -> None:
        self.sync = socket.create_connection(("127.0.0.1", port), 30)
        self.other = socket.create_connection(("127.0.0.1", port), 30)
        self.send(self.sync, 0, parameter=0x01005858, payload=sub_address)
        self.opened = self.receive(self.sync)
        self.session = self.opened.parameter & 0xFFFF
        self.number = 0xFFFFFF00
        if join:
            self.send(self.other, 17, parameter=self.session)
            assert self.receive(self.other).kind == 18

    @staticmethod
    def send(channel: socket.socket, kind: int, control: int = 0, parameter: int = 0, payload: bytes = b"") -> None:
        channel.sendall(struct.pack(">2sBBIQ", b"HS", kind, control, parameter, len(payload)) + payload)

    @staticmethod
    def receive(channel: socket.socket) -> Hs:
        prologue, kind, control, parameter, length = struct.unpack(">2sBBIQ", exactly(channel, 16))
        assert prologue == b"HS"
        return Hs(kind, control, parameter, exactly(channel, length))

    def write(self, data: bytes, rmt: int = 0, kind: int = 7) -> int:
        """Send a message; its MessageID."""
        number, self.number = self.number, (self.number + 2) & 0xFFFFFFFF
        self.send(self.sync, kind, rmt, number, data)
        return number

    def read(self) -> Hs:
        """A whole response, its parts put together."""
        parts = [self.receive(self.sync)]
        while parts[-1].kind == 6:
            parts.append(self.receive(self.sync))
        assert parts[-1].kind == 7, parts[-1]
        return parts[-1]._replace(payload=b"".join(p.payload for p in parts))

    def ask(self, kind: int, control: int = 0, parameter: int = 0, payload: bytes = b"") -> Hs:
        """A transaction on the asynchronous channel."""
        self.send(self.other, kind, control, parameter, payload)
        return self.receive(self.other)

    def __enter__(self) -> Hislip:
        return self

    def __exit__(self, *_: object) -> None:
        self.sync.close()
        self.other.close()
