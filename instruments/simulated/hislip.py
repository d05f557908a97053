"""A simulated instrument behind HiSLIP 1.0, synchronized mode, on any port, loopback only.

A convenience of the simulator: nothing shows that the 2000 X series has HiSLIP. Open it as
`TCPIP::host::hislip0,PORT::INSTR`. From IVI-6.1; Interrupted and AsyncInterrupted are not sent (a client
recognises a stale answer by its message id), and locks are granted one at a time.
"""

from __future__ import annotations

import contextlib
import socket
import struct
import threading
from collections.abc import Callable

from instruments.simulated.scpi_port import Port
from instruments.simulated.servers import Listener, Served, receive_exactly, reset_connection

HEADER = struct.Struct(">2sBBIQ")
(INITIALIZE, INITIALIZE_RESPONSE, FATAL_ERROR, ERROR, ASYNC_LOCK, ASYNC_LOCK_RESPONSE, DATA, DATA_END,
 CLEAR_COMPLETE, CLEAR_ACKNOWLEDGE, REMOTE_LOCAL, REMOTE_LOCAL_RESPONSE, TRIGGER, INTERRUPTED,
 ASYNC_INTERRUPTED, MAX_SIZE, MAX_SIZE_RESPONSE, ASYNC_INITIALIZE, ASYNC_INITIALIZE_RESPONSE, ASYNC_CLEAR,
 SERVICE_REQUEST, STATUS_QUERY, STATUS_RESPONSE, ASYNC_CLEAR_ACKNOWLEDGE, LOCK_INFO,
 LOCK_INFO_RESPONSE) = range(26)  # fmt: skip
VERSION_1_0 = 0x0100
SUB_ADDRESS = b"hislip0"


def _message(kind: int, control: int = 0, parameter: int = 0, payload: bytes = b"") -> bytes:
    return HEADER.pack(b"HS", kind, control, parameter, len(payload)) + payload


class _Session:
    """One client: synchronous and asynchronous channel around one port."""

    def __init__(self, number: int, port: Port, channel: socket.socket) -> None:
        self.number, self.port, self.channel = number, port, channel
        self.other: socket.socket | None = None
        self.message_id = 0
        self.max_size = 1 << 20
        self.clearing = False
        self.over = False
        self.sending = threading.Lock()


class HislipServer(Listener):
    """Serves a machine to HiSLIP clients."""

    def __init__(
        self,
        served: Served,
        open_port: Callable[[], Port],
        host: str = "127.0.0.1",
        port: int = 0,
        *,
        max_size: int = 1 << 20,
    ) -> None:
        super().__init__(served, host, port, "hislip")
        self._open_port, self._max_size = open_port, max_size
        self._sessions: dict[int, _Session] = {}
        self._next = 1
        self._locked_by: int | None = None

    def serve(self, connection: socket.socket) -> None:
        """The first message tells which channel this is."""
        kind, _, parameter, payload = self._receive(connection)
        if kind == INITIALIZE:
            if payload.lower() not in (b"", SUB_ADDRESS):
                connection.sendall(_message(FATAL_ERROR, 3, payload=b"no such sub-address"))
                return
            self._serve_sync(connection)
        elif kind == ASYNC_INITIALIZE and parameter & 0xFFFF in self._sessions:
            self._serve_async(connection, self._sessions[parameter & 0xFFFF])
        else:
            connection.sendall(_message(FATAL_ERROR, 3, payload=b"invalid initialization sequence"))

    @staticmethod
    def _receive(connection: socket.socket) -> tuple[int, int, int, bytes]:
        prologue, kind, control, parameter, length = HEADER.unpack(receive_exactly(connection, HEADER.size))
        if prologue != b"HS":
            connection.sendall(_message(FATAL_ERROR, 1, payload=b"poorly formed message header"))
            raise EOFError("not HiSLIP")
        return kind, control, parameter, receive_exactly(connection, length)

    # --- synchronous channel --------------------------------------------------------------------

    def _serve_sync(self, connection: socket.socket) -> None:
        with self.served.changed:
            session = _Session(self._next, self._open_port(), connection)
            self._next += 1
            self._sessions[session.number] = session
        connection.sendall(_message(INITIALIZE_RESPONSE, 0, VERSION_1_0 << 16 | session.number))
        self.threads.start(self._send_later, session, name="hislip-sender")
        try:
            while True:
                self._sync_message(session, *self._receive(connection))
        finally:
            with self.served.changed:
                session.over = True
                session.port.close()
                self._sessions.pop(session.number, None)
                if self._locked_by == session.number:
                    self._locked_by = None
                self.served.wake_all()
            if session.other is not None:
                with contextlib.suppress(OSError):
                    session.other.shutdown(socket.SHUT_RDWR)

    def _sync_message(self, session: _Session, kind: int, control: int, parameter: int, payload: bytes) -> None:
        if kind == CLEAR_COMPLETE:
            with self.served.changed:
                session.clearing = False
            with session.sending:
                session.channel.sendall(_message(CLEAR_ACKNOWLEDGE, 0))
            return
        if kind not in (DATA, DATA_END, TRIGGER):
            session.channel.sendall(_message(ERROR, 1, payload=b"unrecognized message type"))
            return
        with self.served.changed:
            if session.clearing:
                return
            self.served.advance()
            session.message_id = parameter
            if kind == TRIGGER:
                session.port.trigger()
            else:
                session.port.write(payload, kind == DATA_END)
            self.served.kick()
        self._flush(session)

    def _flush(self, session: _Session) -> None:
        """Send what is ready, whole response by whole response, cut to the client's message size."""
        with session.sending:
            while True:
                with self.served.changed:
                    taken, number = session.port.take_message(), session.message_id
                if taken is None:
                    return
                message, end = taken
                room = max(1, session.max_size - HEADER.size)
                parts = [message[k : k + room] for k in range(0, len(message), room)]
                for index, part in enumerate(parts):
                    kind = DATA_END if end and index == len(parts) - 1 else DATA
                    session.channel.sendall(_message(kind, 0, number, part))

    def _send_later(self, session: _Session) -> None:
        """Thread: replies that become ready by time."""
        while True:
            with self.served.changed:
                while not (session.over or session.port.readable or session.port.broken):
                    self.served.wait()
                if session.over:
                    return
                if session.port.broken:
                    reset_connection(session.channel)
                    return
            with contextlib.suppress(OSError):
                self._flush(session)

    # --- asynchronous channel -------------------------------------------------------------------

    def _serve_async(self, connection: socket.socket, session: _Session) -> None:
        session.other = connection
        connection.sendall(_message(ASYNC_INITIALIZE_RESPONSE, 0, 0x4A42))
        while True:
            kind, control, _, payload = self._receive(connection)
            connection.sendall(self._async_answer(session, kind, control, payload))

    def _async_answer(self, session: _Session, kind: int, control: int, payload: bytes) -> bytes:
        with self.served.changed:
            self.served.advance()
            if kind == MAX_SIZE:
                session.max_size = max(HEADER.size + 1, min(struct.unpack(">Q", payload)[0], 1 << 28))
                return _message(MAX_SIZE_RESPONSE, payload=struct.pack(">Q", self._max_size))
            if kind == STATUS_QUERY:
                return _message(STATUS_RESPONSE, session.port.status_byte())
            if kind == ASYNC_CLEAR:
                session.clearing = True
                session.port.clear()
                self.served.kick()
                return _message(ASYNC_CLEAR_ACKNOWLEDGE, 0)
            if kind == ASYNC_LOCK:
                return _message(ASYNC_LOCK_RESPONSE, self._lock(session, bool(control & 1)))
            if kind == LOCK_INFO:
                held = self._locked_by is not None
                return _message(LOCK_INFO_RESPONSE, int(held), int(held))
            if kind == REMOTE_LOCAL:
                if control in (2, 6):
                    session.port.machine.go_local()
                return _message(REMOTE_LOCAL_RESPONSE)
        return _message(ERROR, 1, payload=b"unrecognized message type")

    def _lock(self, session: _Session, request: bool) -> int:
        """1 done, 0 held by somebody else, 3 released without having it."""
        if request:
            if self._locked_by not in (None, session.number):
                return 0
            self._locked_by = session.number
            return 1
        if self._locked_by != session.number:
            return 3
        self._locked_by = None
        return 1
