"""The thin edges under a Link: bytes in, bytes out, by a deadline.

A stream (socket, serial line) has no end of message; a message transport (VXI-11, HiSLIP, USB, GPIB)
has. Deadlines are points on the monotonic clock. Nothing here knows SCPI.
"""

from __future__ import annotations

import select
import socket
import time
from typing import Any, Protocol

#: Read-ahead of one receive call; larger ones are slower on loopback.
CHUNK = 1 << 16
#: Enough for an instrument that works on something else before it answers.
RECOVERY_S = 2.0


class PortTimeout(Exception):
    """The deadline passed; what had come before it was already returned."""


class PortClosed(Exception):
    """The connection is gone; the text says how."""


class Port(Protocol):
    """What a Link needs from a transport.

    ``recovery_s`` is how long it may take, after a failure, until the transport answers again.
    """

    recovery_s: float

    def send(self, data: bytes, deadline: float) -> None:
        """Send all bytes, the last one with END where there is such a thing."""

    def receive(self, count: int, deadline: float, line: bool) -> tuple[bytes, bool]:
        """Give 1 to ``count`` bytes and whether they end the message; ``line`` when text is expected."""

    def discard_input(self) -> int:
        """Throw away what has come unread, without waiting; give the number of bytes."""

    def device_clear(self, deadline: float) -> bool:
        """Clear the instrument's interface; False where the transport cannot."""

    def to_local(self) -> bool:
        """Give the front panel back; False where the transport cannot."""

    def close(self) -> None:
        """Close; never raises."""


def remaining_s(deadline: float) -> float:
    """Seconds left; raises PortTimeout when none are."""
    left = deadline - time.monotonic()
    if left <= 0:
        raise PortTimeout
    return left


class SocketStream:
    """A connected TCP socket with exact deadlines that notices when the peer closes."""

    def __init__(self, sock: socket.socket) -> None:
        self._sock = sock
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        sock.setblocking(False)

    def send(self, data: bytes, deadline: float) -> None:
        view = memoryview(data)
        while view:
            try:
                view = view[self._sock.send(view) :]
            except BlockingIOError:
                select.select([], [self._sock], [], remaining_s(deadline))
            except OSError as error:
                raise PortClosed(f"sending failed: {error}") from error

    def receive(self, count: int, deadline: float) -> bytes:
        while True:
            try:
                data = self._sock.recv(min(count, CHUNK))
            except BlockingIOError:
                select.select([self._sock], [], [], remaining_s(deadline))
                continue
            except OSError as error:
                raise PortClosed(f"receiving failed: {error}") from error
            if not data:
                raise PortClosed("the instrument closed the connection")
            return data

    def discard_input(self) -> int:
        total = 0
        while True:
            try:
                data = self._sock.recv(CHUNK)
            except BlockingIOError:
                return total
            except OSError as error:
                raise PortClosed(f"the connection failed: {error}") from error
            if not data:
                raise PortClosed("the instrument closed the connection")
            total += len(data)


class SerialStream:
    """An open pyserial port; reads what is there instead of byte by byte."""

    _SLICE_S = 0.02

    def __init__(self, port: Any) -> None:
        self._port = port
        port.timeout = self._SLICE_S

    def send(self, data: bytes, deadline: float) -> None:
        try:
            self._port.write_timeout = remaining_s(deadline)
            self._port.write(data)
        except PortTimeout:
            raise
        except OSError as error:  # SerialException and SerialTimeoutException are OSErrors
            if "timeout" in str(error).lower():
                raise PortTimeout from error
            raise PortClosed(f"sending failed: {error}") from error

    def receive(self, count: int, deadline: float) -> bytes:
        while True:
            try:
                data = self._port.read(max(1, min(count, self._port.in_waiting)))
            except OSError as error:
                raise PortClosed(f"receiving failed: {error}") from error
            if data:
                return bytes(data)
            remaining_s(deadline)

    def discard_input(self) -> int:
        try:
            waiting = int(self._port.in_waiting)
            self._port.reset_input_buffer()
        except OSError as error:
            raise PortClosed(f"the connection failed: {error}") from error
        return waiting


class StreamPort:
    """A stream that carries one instrument and nothing else."""

    recovery_s = RECOVERY_S

    def __init__(self, stream: SocketStream | SerialStream, resource: Any) -> None:
        self._stream = stream
        self._resource = resource

    def send(self, data: bytes, deadline: float) -> None:
        self._stream.send(data, deadline)

    def receive(self, count: int, deadline: float, line: bool) -> tuple[bytes, bool]:
        return self._stream.receive(count, deadline), False

    def discard_input(self) -> int:
        return self._stream.discard_input()

    def device_clear(self, deadline: float) -> bool:
        return False  # neither a raw socket nor a serial line has one (PG4000 p.1599)

    def to_local(self) -> bool:
        return False

    def close(self) -> None:
        close_quietly(self._resource)


def close_quietly(resource: Any) -> None:
    """Close a VISA resource whatever state it is in."""
    try:
        resource.close()
    except Exception:  # a broken session may raise anything; there is nothing left to save
        return
