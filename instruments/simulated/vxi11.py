"""A simulated instrument behind VXI-11: core and abort channel on any port, loopback only.

From the VXI-11 1.0 specification, section B.6. Open it as `TCPIP::host,PORT::inst0::INSTR`, or without the port where
a portmapper runs (`portmapper`). Service requests go out on the client's interrupt channel (`vxi11_interrupt`).
`max_receive` is what a write may carry, as small instruments have it. device_docmd is for GPIB gateways: error 8.
"""

from __future__ import annotations

import socket
from collections.abc import Callable
from dataclasses import dataclass

from instruments.simulated.rpc import Reader, RpcListener, opaque, uints
from instruments.simulated.scpi_port import Port
from instruments.simulated.servers import Served
from instruments.simulated.vxi11_interrupt import CHANNEL_ESTABLISHED, NO_CHANNEL, InterruptChannels

CORE_PROGRAM, ABORT_PROGRAM, VERSION = 0x0607AF, 0x0607B0, 1
(CREATE_LINK, DEVICE_WRITE, DEVICE_READ, READ_STB, TRIGGER, CLEAR, REMOTE, LOCAL, LOCK, UNLOCK, ENABLE_SRQ) = range(
    10, 21
)
DOCMD, DESTROY_LINK, CREATE_INTR, DESTROY_INTR = 22, 23, 25, 26
NO_ERROR, NOT_ACCESSIBLE, BAD_LINK, BAD_PARAMETER, NOT_SUPPORTED, LOCKED, NOT_LOCKED, TIMEOUT, ABORTED = (
    0, 3, 4, 5, 8, 11, 12, 15, 23,
)  # fmt: skip
FLAG_WAIT_LOCK, FLAG_END, FLAG_TERMCHAR = 1, 8, 128
REASON_COUNT, REASON_CHAR, REASON_END = 1, 2, 4
LEAST_RECEIVE = 1024
"""No network instrument may take less in one write (B.6.1); less than that is for tests of long writes."""


@dataclass
class Link:
    """One created link: its port, the connection it belongs to, and whether an abort came."""

    number: int
    port: Port
    owner: socket.socket
    aborted: bool = False
    service: bytes | None = None
    """The handle to be sent with a service request; None: not asked for."""
    requests_sent: int = 0


class Vxi11Server(RpcListener):
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
        self.links: dict[int, Link] = {}
        self._next_link = 1
        self._locked_by: int | None = None
        self._abort = _AbortServer(served, self, host)
        self._interrupts = InterruptChannels(served, lambda: list(self.links.values()))

    def start(self) -> None:
        """Serve both channels, and send service requests."""
        super().start()
        self._abort.start()
        self._interrupts.start()

    def stop(self) -> None:
        """Stop all of it."""
        self._interrupts.stop()
        self._abort.stop()
        super().stop()

    def gone(self, connection: socket.socket) -> None:
        """A connection takes its links with it."""
        with self.served.changed:
            for link in [link for link in self.links.values() if link.owner is connection]:
                self._destroy(link)
            self._interrupts.close(connection)

    def lose_links(self) -> None:
        """Forget all links, as an instrument does that was switched off and on: later calls get error 4."""
        with self.served.changed:
            for link in list(self.links.values()):
                self._destroy(link)

    def _destroy(self, link: Link) -> None:
        self.links.pop(link.number, None)
        if self._locked_by == link.number:
            self._locked_by = None
        link.port.close()
        self.served.wake_all()

    def call(self, connection: socket.socket, version: int, procedure: int, arguments: Reader) -> bytes | None:
        """Core procedures."""
        with self.served.changed:
            self.served.advance()
            if procedure == CREATE_LINK:
                return self._create(connection, arguments)
            if procedure == CREATE_INTR:
                return self._create_interrupt(connection, arguments)
            if procedure == DESTROY_INTR:
                return uints(NO_ERROR if self._interrupts.close(connection) else NO_CHANNEL)
            link = self.links.get(arguments.uint())
            if procedure == DEVICE_WRITE:
                return self._write(link, arguments)
            if procedure == DEVICE_READ:
                return self._read(link, arguments)
            if procedure == DOCMD:
                return uints(BAD_LINK if link is None else NOT_SUPPORTED) + opaque(b"")
            if procedure == ENABLE_SRQ:
                return self._enable_service(link, arguments)
            return self._simple(link, procedure, arguments)

    def _create(self, connection: socket.socket, arguments: Reader) -> bytes:
        """create_link; with lockDevice it waits for the lock as long as it is told to."""
        _, lock, lock_ms = arguments.uint(), bool(arguments.uint()), arguments.uint()
        device = arguments.opaque().decode("ascii", "replace")
        if device.lower() != self._device:
            return uints(NOT_ACCESSIBLE, 0, 0, 0)
        if lock and (error := self._wait_lock(None, FLAG_WAIT_LOCK, lock_ms)):
            return uints(error, 0, 0, 0)
        link = Link(self._next_link, self._open_port(), connection)
        self._next_link += 1
        self.links[link.number] = link
        if lock:
            self._locked_by = link.number
        return uints(NO_ERROR, link.number, self._abort.port, self._max_receive)

    def _wait_lock(self, number: int | None, flags: int, lock_ms: int) -> int:
        """Wait for another link's lock to go, where asked to; an error code."""
        until_s = self.served.clock() + lock_ms / 1000
        while self._locked_by not in (None, number):
            if not flags & FLAG_WAIT_LOCK or self.served.clock() >= until_s:
                return LOCKED
            self.served.wait(until_s)
        return NO_ERROR

    def _blocked(self, link: Link | None, flags: int, lock_ms: int) -> int:
        """Error code of an operation that may not begin."""
        return BAD_LINK if link is None else self._wait_lock(link.number, flags, lock_ms)

    def _write(self, link: Link | None, arguments: Reader) -> bytes:
        _, lock_ms, flags, data = arguments.uint(), arguments.uint(), arguments.uint(), arguments.opaque()
        error = self._blocked(link, flags, lock_ms)
        if not error and len(data) > max(self._max_receive, LEAST_RECEIVE):
            error = BAD_PARAMETER
        if error or link is None:
            return uints(error, 0)
        link.aborted = False
        link.port.write(data, bool(flags & FLAG_END))
        self.served.kick()
        return uints(NO_ERROR, len(data))

    def _read(self, link: Link | None, arguments: Reader) -> bytes:
        size, io_ms, lock_ms, flags, char = (arguments.uint() for _ in range(5))
        error = self._blocked(link, flags, lock_ms)
        if error or link is None:
            return uints(error, 0) + opaque(b"")
        link.aborted = False
        until_s = self.served.clock() + io_ms / 1000
        stop = char & 0xFF if flags & FLAG_TERMCHAR else None
        while True:
            data, end = link.port.read(size, stop)
            if data or end:
                break
            if link.aborted or link.port.closed:
                return uints(ABORTED, 0) + opaque(b"")
            if link.port.broken:
                raise EOFError("reset by a fault")
            if self.served.clock() >= until_s:
                return uints(TIMEOUT, 0) + opaque(b"")
            self.served.wait(until_s)
        reason = REASON_END if end else 0
        reason |= REASON_CHAR if stop is not None and data[-1:] == bytes((stop,)) else 0
        reason |= REASON_COUNT if len(data) == size else 0
        return uints(NO_ERROR, reason) + opaque(data)

    def _simple(self, link: Link | None, procedure: int, arguments: Reader) -> bytes | None:
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
                stb = link.port.serial_poll()
            elif procedure == TRIGGER:
                link.port.trigger()
            elif procedure == CLEAR:
                link.port.clear()
            elif procedure == REMOTE:
                link.port.machine.go_remote()
            elif procedure == LOCAL:
                link.port.machine.go_local()
            elif procedure == LOCK:
                self._locked_by = link.number
            elif procedure == UNLOCK:
                error = NO_ERROR if self._locked_by == link.number else NOT_LOCKED
                self._locked_by = None if not error else self._locked_by
            elif procedure == DESTROY_LINK:
                self._destroy(link)
            else:
                return None
        self.served.wake_all()
        return uints(error, stb) if procedure == READ_STB else uints(error)

    # --- service requests -----------------------------------------------------------------------

    def _create_interrupt(self, connection: socket.socket, arguments: Reader) -> bytes:
        """create_intr_chan: one channel for each client."""
        address, port, program, version, family = (arguments.uint() for _ in range(5))
        if self._interrupts.has(connection):
            return uints(CHANNEL_ESTABLISHED)
        return uints(self._interrupts.open(connection, address, port, program, version, family))

    def _enable_service(self, link: Link | None, arguments: Reader) -> bytes:
        """device_enable_srq: what is asked for from now on is sent with this handle."""
        enable, handle = bool(arguments.uint()), arguments.opaque()
        if link is None:
            return uints(BAD_LINK)
        if len(handle) > 40:
            return uints(BAD_PARAMETER)
        link.service = handle if enable else None
        link.requests_sent = link.port.requests
        return uints(NO_ERROR)


class _AbortServer(RpcListener):
    """device_abort: ends the read that a link is waiting in."""

    program = ABORT_PROGRAM

    def __init__(self, served: Served, core: Vxi11Server, host: str) -> None:
        super().__init__(served, host, 0, "vxi11-abort")
        self._core = core

    def call(self, connection: socket.socket, version: int, procedure: int, arguments: Reader) -> bytes | None:
        """Procedure 1 of the abort program."""
        if procedure != 1:
            return None
        with self.served.changed:
            link = self._core.links.get(arguments.uint())
            if link is None:
                return uints(BAD_LINK)
            link.aborted = True
            self.served.wake_all()
        return uints(NO_ERROR)
