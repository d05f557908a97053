"""What pyvisa-py 0.8.1 loses or delays on VXI-11 and HiSLIP, put right on an open session.

VXI-11: that the instrument closed the connection is noticed a second after the time-out, after a busy loop, and
once more on closing; pieces of a reply are no larger than what the instrument may be *sent* at once; every byte is
written into a debug message that nobody reads, which takes longer than the transfer. Both: what had come of an
unfinished message is thrown away at a time-out, so that nobody can say how much it was.
"""

from __future__ import annotations

import socket
from typing import Any


def repair(session: Any) -> bool:
    """Change an open session of pyvisa-py; False where it stays as it is: other kinds, other libraries' (None).

    A changed session gives at once what has come, however much more was asked for.
    """
    interface: Any = getattr(session, "interface", None)
    if isinstance(getattr(interface, "sock", None), socket.socket) and hasattr(session, "max_recv_size"):
        interface.sock = _Noticing(fileno=interface.sock.detach())
        interface.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        session.read = lambda count: _read_vxi11(session, count)
        return True
    elif isinstance(getattr(interface, "_sync", None), socket.socket):
        session.read = lambda count: _read_hislip(session, count)
        return True
    return False


class _Noticing(socket.socket):
    """A socket whose end is an error instead of an empty read, and whose bytes are shown by their number."""

    def recv(self, *args: Any) -> bytes:
        data = super().recv(*args)
        if not data:
            raise ConnectionResetError("the instrument closed the connection")
        return _Counted(data)


class _Counted(bytes):
    def __repr__(self) -> str:
        return f"<{len(self)} bytes>"


def _read_vxi11(session: Any, count: int) -> tuple[bytes, Any]:
    """Read with pieces as large as they come; what came before a time-out is given as not yet ended."""
    from pyvisa.constants import StatusCode

    may_be_sent = session.max_recv_size
    session.max_recv_size = max(count, may_be_sent)
    try:
        data, status = type(session).read(session, count)
    finally:
        session.max_recv_size = may_be_sent
    return data, StatusCode.success_max_count_read if data and status == StatusCode.error_timeout else status


def _read_hislip(session: Any, count: int) -> tuple[bytes, Any]:
    """Read no further than the message that has begun to come, instead of waiting for the next with it in hand."""
    from pyvisa.constants import StatusCode

    interface = session.interface
    if interface._payload_remaining <= 0 and interface._msg_type != "DataEnd":
        try:
            interface._msg_type, interface._payload_remaining = interface._next_data_header()
        except TimeoutError:
            return b"", StatusCode.error_timeout
    found: tuple[bytes, Any] = type(session).read(session, max(1, min(count, interface._payload_remaining)))
    return found
