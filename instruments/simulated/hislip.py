"""A simulated instrument behind HiSLIP 1.0 (IVI-6.1) on any port, loopback only.

A convenience of the simulator: nothing shows that the 2000 X series has HiSLIP. Open it as
`TCPIP::host::hislip0,PORT::INSTR`. It prefers the synchronized mode, in which a response that was not read before the
next message is lost (Interrupted, AsyncInterrupted, -410); a client may ask for the overlapped one with a device
clear, where responses queue up and tell by their MessageID what they answer.
"""

from __future__ import annotations

import contextlib
import socket
import struct
import threading
import time
from collections.abc import Callable

from instruments.simulated import hislip_messages as hs
from instruments.simulated.hislip_locks import FAILED, Locks
from instruments.simulated.hislip_messages import FatalError, Message, encode
from instruments.simulated.scpi_port import Port
from instruments.simulated.servers import Listener, Served, reset_connection

SUB_ADDRESS = b"hislip0"
VENDOR = 0x4A42
LOOK_S = 0.05
RMT_DELIVERED = 1
GO_LOCAL, GO_REMOTE = (2, 6), (3, 5)


class _Session:
    """One client: synchronous and asynchronous channel around one port."""

    def __init__(self, number: int, port: Port, channel: socket.socket) -> None:
        self.number, self.port, self.channel = number, port, channel
        self.other: socket.socket | None = None
        self.message_id = 0
        self.max_size = 1 << 20
        self.clearing = self.over = False
        self.interruptions_sent = self.requests_sent = 0
        self.asked_s: float | None = None
        self.sending, self.sending_other = threading.Lock(), threading.Lock()

    def send(self, data: bytes) -> None:
        """Send on the synchronous channel; hold `sending`."""
        self.channel.sendall(data)

    def send_other(self, data: bytes) -> None:
        """Send on the asynchronous channel."""
        with self.sending_other:
            if self.other is not None:
                self.other.sendall(data)


class HislipServer(Listener):
    """Serves a machine to HiSLIP clients.

    `service_delay_s`: a client that asks for the status byte within it takes a request for service away before it is
    sent. `interrupts` False leaves out the two messages of an interrupted query, as in servers that never send them.
    """

    def __init__(
        self,
        served: Served,
        open_port: Callable[[], Port],
        host: str = "127.0.0.1",
        port: int = 0,
        *,
        max_size: int = 1 << 20,
        max_clients: int = 64,
        service_delay_s: float = 0.05,
        interrupts: bool = True,
    ) -> None:
        super().__init__(served, host, port, "hislip")
        self._open_port, self._max_size, self._max_clients = open_port, max_size, max_clients
        self._service_delay_s, self._interrupts = service_delay_s, interrupts
        self._sessions: dict[int, _Session] = {}
        self._next = 0
        self._locks = Locks()

    def serve(self, connection: socket.socket) -> None:
        """The first message tells which channel this is."""
        try:
            first = hs.receive(connection, self._max_size)
            if first.kind == hs.INITIALIZE:
                self._serve_sync(connection, first)
            elif first.kind == hs.ASYNC_INITIALIZE:
                self._serve_async(connection, first)
            else:
                raise FatalError(hs.INVALID_SEQUENCE, "invalid initialization sequence")
        except FatalError as error:
            with contextlib.suppress(OSError):
                connection.sendall(encode(hs.FATAL_ERROR, error.code, payload=str(error).encode()))
                connection.shutdown(socket.SHUT_WR)
                connection.settimeout(LOOK_S)
                while connection.recv(65536):  # closing with bytes unread would take the message back
                    pass
            raise

    # --- synchronous channel --------------------------------------------------------------------

    def _serve_sync(self, connection: socket.socket, first: Message) -> None:
        if first.payload.lower() not in (b"", SUB_ADDRESS):
            raise FatalError(hs.INVALID_SEQUENCE, f"there is no sub-address but {SUB_ADDRESS.decode()}")
        with self.served.changed:
            if len(self._sessions) >= self._max_clients:
                raise FatalError(hs.TOO_MANY_CLIENTS, "maximum number of clients exceeded")
            self._next = self._next % 0xFFFF + 1
            session = self._sessions[self._next] = _Session(self._next, self._open_port(), connection)
        version = min(first.parameter >> 16, hs.VERSION_1_0)
        session.send(encode(hs.INITIALIZE_RESPONSE, 0, version << 16 | session.number))
        self.threads.start(self._send_later, session, name="hislip-sender")
        try:
            while True:
                self._sync_message(session, hs.receive(connection, self._max_size))
        finally:
            with self.served.changed:
                session.over = True
                session.port.close()
                self._sessions.pop(session.number, None)
                self._locks.drop(session.number)
                self.served.wake_all()
            if session.other is not None:
                with contextlib.suppress(OSError):
                    session.other.shutdown(socket.SHUT_RDWR)

    def _sync_message(self, session: _Session, message: Message) -> None:
        if session.other is None:
            raise FatalError(hs.NOT_BOTH_CHANNELS, "attempt to use connection without both channels established")
        if error := _refusal(message, (hs.CLEAR_COMPLETE, hs.DATA, hs.DATA_END, hs.TRIGGER)):
            with session.sending:
                session.send(error)
            return
        if message.kind == hs.CLEAR_COMPLETE:
            self._clear_complete(session, message)
            return
        with self.served.changed:
            while not (session.clearing or session.over or self._locks.may(session.number)):
                self.served.wait()
            if session.clearing or session.over:
                return
            self.served.advance()
            session.message_id = message.parameter
            self._take_rmt(session, message.control)
            if message.kind == hs.TRIGGER:
                session.port.trigger()
            else:
                session.port.write(message.payload, message.kind == hs.DATA_END, message.parameter)
            self.served.kick()
        self._flush(session)

    def _take_rmt(self, session: _Session, control: int) -> None:
        """A message that does not say that the last response was delivered interrupts it (IVI-6.1, 3.1.1)."""
        port = session.port
        if port.unread and not control & RMT_DELIVERED and not port.overlapped:
            port.interrupt()
        port.unread = False

    def _clear_complete(self, session: _Session, message: Message) -> None:
        """The client has chosen the mode."""
        with self.served.changed:
            session.clearing = False
            session.port.overlapped = bool(message.control & 1)
        with session.sending:
            session.send(encode(hs.CLEAR_ACKNOWLEDGE, message.control & 1))

    def _flush(self, session: _Session) -> None:
        """Send what is ready, whole response by whole response, cut to the client's message size."""
        with session.sending:
            while True:
                with self.served.changed:
                    interrupted = self._interruption(session)
                    taken = session.port.take_message()
                    if taken is not None:
                        session.port.unread = taken[1] and not session.port.overlapped
                if interrupted is not None:
                    session.send_other(encode(hs.ASYNC_INTERRUPTED, 0, interrupted))
                    session.send(encode(hs.INTERRUPTED, 0, interrupted))
                if taken is None:
                    return
                message, end, number = taken
                room = max(1, session.max_size - hs.HEADER.size)
                parts = [message[k : k + room] for k in range(0, len(message), room)]
                for index, part in enumerate(parts):
                    kind = hs.DATA_END if end and index == len(parts) - 1 else hs.DATA
                    session.send(encode(kind, 0, number, part))

    def _interruption(self, session: _Session) -> int | None:
        """MessageID of the message that interrupted a response, if one did since this was asked last."""
        if session.interruptions_sent == session.port.interruptions:
            return None
        session.interruptions_sent = session.port.interruptions
        return session.message_id if self._interrupts else None

    def _send_later(self, session: _Session) -> None:
        """Thread: replies and requests for service that become ready by time."""
        port = session.port
        while True:
            with self.served.changed:
                while not (session.over or port.readable or port.broken or self._has_news(session)):
                    if port.machine.sre and self.served.engine.wake_s is None:
                        self.served.look(LOOK_S)
                    else:
                        self.served.wait()
                request = self._request(session)
            if session.over:
                return
            if port.broken:
                reset_connection(session.channel)
                return
            with contextlib.suppress(OSError):
                if request:
                    session.send_other(request)
                self._flush(session)

    def _has_news(self, session: _Session) -> bool:
        """Whether a response was lost, or a request for service is old enough to be sent."""
        port, now_s = session.port, time.monotonic()
        if port.interruptions != session.interruptions_sent:
            return True
        if not port.service_asked or port.requests == session.requests_sent:
            session.asked_s = None
            return False
        session.asked_s = now_s if session.asked_s is None else session.asked_s
        return now_s - session.asked_s >= self._service_delay_s

    def _request(self, session: _Session) -> bytes:
        """AsyncServiceRequest if one is due; the status byte stays as it is until it is asked for."""
        port = session.port
        if not self._has_news(session) or session.asked_s is None:
            return b""
        session.requests_sent, session.asked_s = port.requests, None
        return encode(hs.SERVICE_REQUEST, port.machine.status_byte(port) | 64)

    # --- asynchronous channel -------------------------------------------------------------------

    def _serve_async(self, connection: socket.socket, first: Message) -> None:
        with self.served.changed:
            session = self._sessions.get(first.parameter)
            if session is None or session.other is not None:
                raise FatalError(hs.INVALID_SEQUENCE, f"there is no session {first.parameter} to be joined")
            session.other = connection
        session.send_other(encode(hs.ASYNC_INITIALIZE_RESPONSE, 0, VENDOR))
        try:
            while True:
                session.send_other(self._async_answer(session, hs.receive(connection, self._max_size)))
        finally:
            with self.served.changed:
                session.other = None

    def _async_answer(self, session: _Session, message: Message) -> bytes:
        known = (hs.MAX_SIZE, hs.STATUS_QUERY, hs.ASYNC_CLEAR, hs.ASYNC_LOCK, hs.LOCK_INFO, hs.REMOTE_LOCAL)
        if error := _refusal(message, known):
            return error
        port, control = session.port, message.control
        with self.served.changed:
            self.served.advance()
            if message.kind == hs.MAX_SIZE:
                if len(message.payload) != 8:
                    return encode(hs.ERROR, hs.UNIDENTIFIED, payload=b"a size has eight bytes")
                session.max_size = max(hs.HEADER.size + 1, min(struct.unpack(">Q", message.payload)[0], 1 << 28))
                return encode(hs.MAX_SIZE_RESPONSE, payload=struct.pack(">Q", self._max_size))
            if message.kind == hs.STATUS_QUERY:
                port.unread = port.unread and not control & RMT_DELIVERED
                return encode(hs.STATUS_RESPONSE, port.serial_poll())
            if message.kind == hs.ASYNC_CLEAR:
                session.clearing = True
                port.clear()
                self.served.wake_all()
                return encode(hs.ASYNC_CLEAR_ACKNOWLEDGE, 0)
            if message.kind == hs.ASYNC_LOCK:
                return self._lock(session, message)
            if message.kind == hs.LOCK_INFO:
                return encode(hs.LOCK_INFO_RESPONSE, int(self._locks.exclusive is not None), self._locks.holders)
            if control > max(GO_LOCAL):
                return encode(hs.ERROR, hs.UNRECOGNIZED_CONTROL, payload=b"unrecognized control code")
            if control in GO_LOCAL:
                port.machine.go_local()
            elif control in GO_REMOTE:
                port.machine.go_remote()
            return encode(hs.REMOTE_LOCAL_RESPONSE)

    def _lock(self, session: _Session, message: Message) -> bytes:
        """AsyncLock: release, or request and wait for up to so many milliseconds."""
        if message.control > 1:
            return encode(hs.ERROR, hs.UNRECOGNIZED_CONTROL, payload=b"unrecognized control code")
        if not message.control:
            answer = self._locks.release(session.number)
            self.served.wake_all()
            return encode(hs.ASYNC_LOCK_RESPONSE, answer)
        until_s = self.served.clock() + message.parameter / 1000
        word = message.payload.decode("ascii", "replace")
        while (granted := self._locks.request(session.number, word)) is None:
            if self.served.clock() >= until_s or session.over:
                return encode(hs.ASYNC_LOCK_RESPONSE, FAILED)
            self.served.wait(until_s)
        return encode(hs.ASYNC_LOCK_RESPONSE, granted)


def _refusal(message: Message, known: tuple[int, ...]) -> bytes:
    """Error for a message that this channel does not take, or nothing."""
    if message.too_large:
        return encode(hs.ERROR, hs.TOO_LARGE, payload=b"message too large")
    if message.kind >= hs.FIRST_OF_VENDORS:
        return encode(hs.ERROR, hs.UNRECOGNIZED_VENDOR, payload=b"unrecognized vendor defined message")
    if message.kind not in known:
        return encode(hs.ERROR, hs.UNRECOGNIZED_TYPE, payload=b"unrecognized message type")
    return b""
