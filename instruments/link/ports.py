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
CONTROL_C = b"\x03"


class PortTimeout(Exception):
    """The deadline passed; what had come before it was already returned. A text says what it waited for."""


class PortClosed(Exception):
    """The connection is gone; the text says how."""


class Port(Protocol):
    """What a Link needs from a transport.

    ``recovery_s`` is how long it may take, after a failure, until the transport answers again.
    """

    recovery_s: float

    def send(self, data: bytes, deadline: float) -> None:
        """Send all bytes, the last one with END where there is such a thing."""

    def receive(self, wanted: int, deadline: float, line: bool) -> tuple[bytes, bool]:
        """Give what has come, at least a byte, and whether it ends the message; ``line`` when text is expected.

        ``wanted`` bytes will come for certain; more are given only where that takes no waiting.
        """

    def discard_input(self) -> bytes:
        """Take what has come unread, without waiting; also finds a connection that was closed."""

    def device_clear(self, deadline: float) -> bool:
        """Clear the instrument's interface; False where the transport cannot."""

    def to_local(self) -> bool:
        """Give the front panel back; False where the transport cannot."""

    def close(self) -> None:
        """Close; never raises."""


def remaining_s(deadline: float, why: str = "") -> float:
    """Seconds left; raises PortTimeout when none are."""
    left = deadline - time.monotonic()
    if left <= 0:
        raise PortTimeout(why)
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

    def receive(self, deadline: float) -> bytes:
        while True:
            try:
                data = self._sock.recv(CHUNK)
            except BlockingIOError:
                select.select([self._sock], [], [], remaining_s(deadline))
                continue
            except OSError as error:
                raise PortClosed(f"receiving failed: {error}") from error
            if not data:
                raise PortClosed("the instrument closed the connection")
            return data

    def discard_input(self) -> bytes:
        found = b""
        while True:
            try:
                data = self._sock.recv(CHUNK)
            except BlockingIOError:
                return found
            except OSError as error:
                raise PortClosed(f"the connection failed: {error}") from error
            if not data:
                raise PortClosed("the instrument closed the connection")
            found = (found + data)[-CHUNK:]

    def device_clear(self, deadline: float) -> bool:
        return False


class SerialStream:
    """An open pyserial port; reads what is there instead of byte by byte.

    With the DTR/DSR handshake of the E364x (UG364 p.79) it sends only while the instrument's DTR line, which is
    DSR here, is on: pyserial sets that handshake up, but neither it nor the Linux kernel watches the line.
    """

    _SLICE_S = 0.02
    #: Bytes sent between two looks at DSR: what an instrument still takes after it has switched the line off.
    _PIECE = 16

    def __init__(self, port: Any) -> None:
        self._port = port
        self._watched = bool(getattr(port, "dsrdtr", False)) and self._ready() is not None
        port.timeout = self._SLICE_S

    def _ready(self) -> bool | None:
        """Whether the instrument is ready to be talked to; None where the line cannot be seen (pseudo-terminals)."""
        try:
            return bool(self._port.dsr)
        except (OSError, NotImplementedError):
            return None

    def send(self, data: bytes, deadline: float) -> None:
        piece = self._PIECE if self._watched else max(1, len(data))
        for start in range(0, len(data), piece):
            while self._watched and not self._ready():
                remaining_s(
                    deadline,
                    "its DTR line (pin 6 of this side, DSR) says that it is not ready: is it switched on, set to "
                    "RS-232 with DTR/DSR, and are pins 4 and 6 wired? Else set rs232: {flow_control: none}",
                )
                time.sleep(0.001)
            self._write(data[start : start + piece], deadline)

    def _write(self, data: bytes, deadline: float) -> None:
        self._port.write_timeout = remaining_s(deadline)
        try:
            self._port.write(data)
        except OSError as error:  # SerialException and SerialTimeoutException are OSErrors
            if "timeout" in str(error).lower():
                raise PortTimeout from error
            raise PortClosed(f"sending failed: {error}") from error

    def device_clear(self, deadline: float) -> bool:
        self._write(CONTROL_C, deadline)
        return True

    def receive(self, deadline: float) -> bytes:
        while True:
            try:
                data = self._port.read(max(1, self._port.in_waiting))
            except OSError as error:
                raise PortClosed(f"receiving failed: {error}") from error
            if data:
                return bytes(data)
            remaining_s(deadline)

    def discard_input(self) -> bytes:
        try:
            waiting = int(self._port.in_waiting)
            return bytes(self._port.read(waiting)) if waiting else b""
        except OSError as error:
            raise PortClosed(f"the connection failed: {error}") from error


class StreamPort:
    """A stream that carries one instrument and nothing else.

    A raw socket has no device clear (PG4000 p.1599); on RS-232 this family takes Ctrl-C for one (UG364, RS-232
    interface), and takes it whatever its handshake line says.
    """

    recovery_s = RECOVERY_S

    def __init__(self, stream: SocketStream | SerialStream, resource: Any) -> None:
        self._stream = stream
        self._resource = resource

    def send(self, data: bytes, deadline: float) -> None:
        self._stream.send(data, deadline)

    def receive(self, wanted: int, deadline: float, line: bool) -> tuple[bytes, bool]:
        return self._stream.receive(deadline), False

    def discard_input(self) -> bytes:
        return self._stream.discard_input()

    def device_clear(self, deadline: float) -> bool:
        return self._stream.device_clear(deadline)

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
