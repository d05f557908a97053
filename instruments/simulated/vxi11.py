"""A simulated instrument behind VXI-11: core and abort channel over ONC RPC, on any port, loopback only.

No portmapper: open it as `TCPIP::host,PORT::inst0::INSTR`. From the VXI-11 1.0 specification; no interrupt
channel (no service requests). `max_receive` is what a write may carry, as small instruments have it.
"""

from __future__ import annotations

import socket
import struct
from collections.abc import Callable
from dataclasses import dataclass

from instruments.simulated.scpi_port import Port
from instruments.simulated.servers import Listener, Served, receive_exactly

CORE_PROGRAM, ABORT_PROGRAM, VERSION = 0x0607AF, 0x0607B0, 1
(CREATE_LINK, DEVICE_WRITE, DEVICE_READ, READ_STB, TRIGGER, CLEAR, REMOTE, LOCAL, LOCK, UNLOCK, ENABLE_SRQ) = range(
    10, 21
)
DOCMD, DESTROY_LINK, CREATE_INTR, DESTROY_INTR = 22, 23, 25, 26
NO_ERROR, NOT_ACCESSIBLE, BAD_LINK, NOT_SUPPORTED, LOCKED, NOT_LOCKED, TIMEOUT, ABORTED = 0, 3, 4, 8, 11, 12, 15, 23
FLAG_WAIT_LOCK, FLAG_END, FLAG_TERMCHAR = 1, 8, 128
REASON_COUNT, REASON_CHAR, REASON_END = 1, 2, 4


@dataclass
class _Link:
    """One created link: its port, the connection it belongs to, and whether an abort came."""

    number: int
    port: Port
    owner: socket.socket
    aborted: bool = False


class _Reader:
    """XDR of a call's arguments."""

    def __init__(self, data: bytes) -> None:
        self._data, self._at = data, 0

    def uint(self) -> int:
        (value,) = struct.unpack_from(">I", self._data, self._at)
        self._at += 4
        return int(value)

    def opaque(self) -> bytes:
        length = self.uint()
        data = self._data[self._at : self._at + length]
        self._at += -(-length // 4) * 4
        return data


def _opaque(data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + data + b"\0" * (-len(data) % 4)


def read_record(connection: socket.socket) -> bytes:
    """One RPC record of any number of fragments."""
    parts, last = [], False
    while not last:
        (mark,) = struct.unpack(">I", receive_exactly(connection, 4))
        last = bool(mark & 0x80000000)
        parts.append(receive_exactly(connection, mark & 0x7FFFFFFF))
    return b"".join(parts)


class _RpcListener(Listener):
    """ONC RPC over TCP; subclasses answer `call`."""

    program = 0

    def serve(self, connection: socket.socket) -> None:
        """One client."""
        try:
            while True:
                record = read_record(connection)
                xid, kind, rpc, program, version, procedure = struct.unpack_from(">6I", record)
                if kind != 0 or rpc != 2:
                    raise EOFError("not an RPC call")
                arguments = _Reader(record[24:])
                for _ in range(2):  # credential and verifier
                    arguments.uint()
                    arguments.opaque()
                state, result = 0, b""
                if program != self.program:
                    state = 1
                elif version != VERSION:
                    state, result = 2, struct.pack(">2I", VERSION, VERSION)
                elif procedure != 0:
                    answer = self.call(connection, procedure, arguments)
                    if answer is None:
                        state = 3
                    else:
                        result = answer
                reply = struct.pack(">6I", xid, 1, 0, 0, 0, state) + result
                connection.sendall(struct.pack(">I", 0x80000000 | len(reply)) + reply)
        finally:
            self.gone(connection)

    def call(self, connection: socket.socket, procedure: int, arguments: _Reader) -> bytes | None:
        """Results of a procedure, or None where there is no such one."""
        raise NotImplementedError

    def gone(self, connection: socket.socket) -> None:
        """The client has closed its connection."""


class Vxi11Server(_RpcListener):
    """The core channel (`port`) with its abort channel beside it."""

    program = CORE_PROGRAM

    def __init__(
        self,
        served: Served,
        open_port: Callable[[], Port],
        host: str = "127.0.0.1",
        port: int = 0,
        *,
        device: str = "inst0",
        max_receive: int = 16384,
    ) -> None:
        super().__init__(served, host, port, "vxi11")
        self._open_port, self._device, self._max_receive = open_port, device, max_receive
        self.links: dict[int, _Link] = {}
        self._next_link = 1
        self._locked_by: int | None = None
        self._abort = _AbortServer(served, self, host)

    def start(self) -> None:
        """Serve both channels."""
        super().start()
        self._abort.start()

    def stop(self) -> None:
        """Stop both channels."""
        self._abort.stop()
        super().stop()

    def gone(self, connection: socket.socket) -> None:
        """A connection takes its links with it."""
        with self.served.changed:
            for link in [link for link in self.links.values() if link.owner is connection]:
                self._destroy(link)

    def _destroy(self, link: _Link) -> None:
        self.links.pop(link.number, None)
        if self._locked_by == link.number:
            self._locked_by = None
        link.port.close()
        self.served.wake_all()

    def call(self, connection: socket.socket, procedure: int, arguments: _Reader) -> bytes | None:
        """Core procedures."""
        with self.served.changed:
            self.served.advance()
            if procedure == CREATE_LINK:
                return self._create(connection, arguments)
            if procedure == ENABLE_SRQ or procedure in (CREATE_INTR, DESTROY_INTR):
                return struct.pack(">I", NOT_SUPPORTED)
            link = self.links.get(arguments.uint())
            if procedure == DEVICE_WRITE:
                return self._write(link, arguments)
            if procedure == DEVICE_READ:
                return self._read(link, arguments)
            if procedure == DOCMD:
                return struct.pack(">2I", NOT_SUPPORTED, 0)
            return self._simple(link, procedure, arguments)

    def _create(self, connection: socket.socket, arguments: _Reader) -> bytes:
        arguments.uint()
        lock, _, device = bool(arguments.uint()), arguments.uint(), arguments.opaque().decode("ascii", "replace")
        if device.lower() != self._device:
            return struct.pack(">4I", NOT_ACCESSIBLE, 0, 0, 0)
        if lock and self._locked_by is not None:
            return struct.pack(">4I", LOCKED, 0, 0, 0)
        link = _Link(self._next_link, self._open_port(), connection)
        self._next_link += 1
        self.links[link.number] = link
        if lock:
            self._locked_by = link.number
        return struct.pack(">4I", NO_ERROR, link.number, self._abort.port, self._max_receive)

    def _blocked(self, link: _Link | None, flags: int, lock_timeout_ms: int) -> int:
        """Error code of an operation that may not begin, waiting for a lock where asked to."""
        if link is None:
            return BAD_LINK
        until_s = self.served.clock() + lock_timeout_ms / 1000
        while self._locked_by not in (None, link.number):
            if not flags & FLAG_WAIT_LOCK or self.served.clock() >= until_s:
                return LOCKED
            self.served.wait(until_s)
        return NO_ERROR

    def _write(self, link: _Link | None, arguments: _Reader) -> bytes:
        _, lock_ms, flags, data = arguments.uint(), arguments.uint(), arguments.uint(), arguments.opaque()
        error = self._blocked(link, flags, lock_ms)
        if error or link is None:
            return struct.pack(">2I", error, 0)
        link.aborted = False
        link.port.write(data, bool(flags & FLAG_END))
        self.served.kick()
        return struct.pack(">2I", NO_ERROR, len(data))

    def _read(self, link: _Link | None, arguments: _Reader) -> bytes:
        size, io_ms, lock_ms, flags, char = (arguments.uint() for _ in range(5))
        error = self._blocked(link, flags, lock_ms)
        if error or link is None:
            return struct.pack(">2I", error, 0) + _opaque(b"")
        link.aborted = False
        until_s = self.served.clock() + io_ms / 1000
        stop = char & 0xFF if flags & FLAG_TERMCHAR else None
        while True:
            data, end = link.port.read(size, stop)
            if data or end:
                break
            if link.aborted or link.port.closed:
                return struct.pack(">2I", ABORTED, 0) + _opaque(b"")
            if link.port.broken:
                raise EOFError("reset by a fault")
            if self.served.clock() >= until_s:
                return struct.pack(">2I", TIMEOUT, 0) + _opaque(b"")
            self.served.wait(until_s)
        reason = REASON_END if end else 0
        reason |= REASON_CHAR if stop is not None and data[-1:] == bytes((stop,)) else 0
        reason |= REASON_COUNT if len(data) == size else 0
        return struct.pack(">2I", NO_ERROR, reason) + _opaque(data)

    def _simple(self, link: _Link | None, procedure: int, arguments: _Reader) -> bytes | None:
        """Procedures that answer an error code alone, and READ_STB."""
        if procedure in (UNLOCK, DESTROY_LINK):
            flags = lock_ms = 0
        else:
            flags, lock_ms = arguments.uint(), arguments.uint()
        error = BAD_LINK if link is None else NO_ERROR
        if procedure in (READ_STB, TRIGGER, CLEAR, REMOTE, LOCAL, LOCK):
            error = self._blocked(link, flags, lock_ms)
        stb = 0
        if link is not None and not error:
            if procedure == READ_STB:
                stb = link.port.status_byte()
            elif procedure == TRIGGER:
                link.port.trigger()
            elif procedure == CLEAR:
                link.port.clear()
            elif procedure == LOCAL:
                link.port.machine.go_local()
            elif procedure == LOCK:
                self._locked_by = link.number
            elif procedure == UNLOCK:
                error = NO_ERROR if self._locked_by == link.number else NOT_LOCKED
                self._locked_by = None if not error else self._locked_by
            elif procedure == DESTROY_LINK:
                self._destroy(link)
            elif procedure != REMOTE:
                return None
        self.served.wake_all()
        return struct.pack(">2I", error, stb) if procedure == READ_STB else struct.pack(">I", error)


class _AbortServer(_RpcListener):
    """device_abort: ends the read that a link is waiting in."""

    program = ABORT_PROGRAM

    def __init__(self, served: Served, core: Vxi11Server, host: str) -> None:
        super().__init__(served, host, 0, "vxi11-abort")
        self._core = core

    def call(self, connection: socket.socket, procedure: int, arguments: _Reader) -> bytes | None:
        """Procedure 1 of the abort program."""
        if procedure != 1:
            return None
        with self.served.changed:
            link = self._core.links.get(arguments.uint())
            if link is None:
                return struct.pack(">I", BAD_LINK)
            link.aborted = True
            self.served.wake_all()
        return struct.pack(">I", NO_ERROR)
