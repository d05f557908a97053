"""ONC RPC (RFC 5531) as the simulated VXI-11 interface and portmapper need it: XDR, records, calls and replies.

The server side over TCP and UDP, loopback only. Credentials are read and not looked at, as instruments do.
"""

from __future__ import annotations

import contextlib
import select
import socket
import struct
from collections.abc import Callable
from typing import Protocol

from instruments.simulated.servers import Listener, Threads, check_loopback, receive_exactly

RECORD_LIMIT = 64 << 20
CALL, REPLY, RPC_VERSION = 0, 1, 2
ACCEPTED, DENIED = 0, 1
SUCCESS, PROG_UNAVAIL, PROG_MISMATCH, PROC_UNAVAIL, GARBAGE_ARGS = range(5)
NULL_PROCEDURE = 0


class Reader:
    """XDR of a call's arguments; struct.error where there are too few bytes."""

    def __init__(self, data: bytes) -> None:
        self._data, self._at = data, 0

    def uint(self) -> int:
        """An unsigned integer, an enumeration or a boolean."""
        (value,) = struct.unpack_from(">I", self._data, self._at)
        self._at += 4
        return int(value)

    def opaque(self) -> bytes:
        """Bytes or a string of variable length."""
        length = self.uint()
        if length > len(self._data) - self._at:
            raise struct.error("opaque data is longer than the record")
        data = self._data[self._at : self._at + length]
        self._at += -(-length // 4) * 4
        return data


def uints(*values: int) -> bytes:
    """Unsigned integers as XDR."""
    return struct.pack(f">{len(values)}I", *values)


def opaque(data: bytes) -> bytes:
    """Bytes or a string of variable length as XDR."""
    return struct.pack(">I", len(data)) + data + b"\0" * (-len(data) % 4)


def read_record(connection: socket.socket) -> bytes:
    """One RPC record of any number of fragments; EOFError at the end, or for one that no client means."""
    parts, last, size = [], False, 0
    while not last:
        (mark,) = struct.unpack(">I", receive_exactly(connection, 4))
        last, length = bool(mark & 0x80000000), mark & 0x7FFFFFFF
        size += length
        if size > RECORD_LIMIT:
            raise EOFError(f"an RPC record of {size} bytes")
        parts.append(receive_exactly(connection, length))
    return b"".join(parts)


def write_record(message: bytes) -> bytes:
    """A message as one last fragment."""
    return uints(0x80000000 | len(message)) + message


def call_message(xid: int, program: int, version: int, procedure: int, arguments: bytes) -> bytes:
    """A call without credentials."""
    return uints(xid, CALL, RPC_VERSION, program, version, procedure, 0, 0, 0, 0) + arguments


Procedure = Callable[[int, int, Reader], "bytes | None"]
"""(version, procedure, arguments) → results, or None where there is no such procedure."""


def answer(message: bytes, program: int, versions: tuple[int, int], run: Procedure) -> bytes:
    """The reply to one call. EOFError if it is not a call."""
    if len(message) < 24:
        raise EOFError("not an RPC call")
    xid, kind, rpc, asked, version, procedure = struct.unpack_from(">6I", message)
    if kind != CALL:
        raise EOFError("not an RPC call")
    if rpc != RPC_VERSION:
        return uints(xid, REPLY, DENIED, 0, RPC_VERSION, RPC_VERSION)
    state, result = SUCCESS, b""
    if asked != program:
        state = PROG_UNAVAIL
    elif not versions[0] <= version <= versions[1]:
        state, result = PROG_MISMATCH, uints(*versions)
    elif procedure != NULL_PROCEDURE:
        try:
            arguments = Reader(message[24:])
            for _ in range(2):  # credential and verifier
                arguments.uint()
                arguments.opaque()
            results = run(version, procedure, arguments)
        except struct.error:
            state = GARBAGE_ARGS
        else:
            state, result = (SUCCESS, results) if results is not None else (PROC_UNAVAIL, b"")
    return uints(xid, REPLY, ACCEPTED, 0, 0, state) + result


class RpcListener(Listener):
    """RPC over TCP; subclasses answer `call`."""

    program = 0
    versions = (1, 1)

    def serve(self, connection: socket.socket) -> None:
        """One client."""
        try:
            while True:
                message = read_record(connection)
                reply = answer(message, self.program, self.versions, lambda *call: self.call(connection, *call))
                connection.sendall(write_record(reply))
        finally:
            self.gone(connection)

    def call(self, connection: socket.socket, version: int, procedure: int, arguments: Reader) -> bytes | None:
        """Results of a procedure, or None where there is no such one."""
        raise NotImplementedError

    def gone(self, connection: socket.socket) -> None:
        """The client has closed its connection."""


class Answering(Protocol):
    """What answers calls that come as datagrams."""

    program: int
    versions: tuple[int, int]

    def answer_datagram(self, version: int, procedure: int, arguments: Reader) -> bytes | None: ...


class RpcDatagrams:
    """RPC over UDP, for what answers calls one by one."""

    def __init__(self, answering: Answering, host: str, port: int) -> None:
        check_loopback(host)
        self._answering = answering
        self._socket = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET, socket.SOCK_DGRAM)
        try:
            self._socket.bind((host, port))
            self._wake, self._woken = socket.socketpair()
        except BaseException:
            self._socket.close()
            raise
        self._threads = Threads()

    def start(self) -> None:
        """Begin to serve."""
        self._threads.start(self._run, name="rpc-udp")

    def stop(self) -> None:
        """Stop; may be called again."""
        with contextlib.suppress(OSError):
            self._wake.send(b"x")
        self._threads.join()
        for one in (self._socket, self._wake, self._woken):
            one.close()

    def _run(self) -> None:
        while True:
            ready, _, _ = select.select([self._socket, self._woken], [], [])
            if self._woken in ready:
                return
            with contextlib.suppress(OSError, EOFError):
                message, sender = self._socket.recvfrom(8192)
                what = self._answering
                self._socket.sendto(answer(message, what.program, what.versions, what.answer_datagram), sender)
