"""Service requests of a simulated VXI-11 instrument: calls of device_intr_srq to the clients that asked for them.

VXI-11 1.0, B.6.12 to B.6.14. The channel goes to loopback only, over TCP or UDP; a client's reply is not waited for.
"""

from __future__ import annotations

import contextlib
import ipaddress
import socket
import threading
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from instruments.simulated.rpc import call_message, opaque, write_record
from instruments.simulated.servers import Served, Threads

if TYPE_CHECKING:
    from instruments.simulated.vxi11 import Link

INTERRUPT_SRQ = 30
BAD_PARAMETER, NO_CHANNEL, INVALID_ADDRESS, CHANNEL_ESTABLISHED = 5, 6, 21, 29
TCP, UDP = 0, 1
CONNECT_S = 2.0
LOOK_S = 0.05
"""How soon a request is seen that time alone brings, such as the end of an acquisition."""


class _Channel:
    """A connection to a client's interrupt service."""

    def __init__(self, to: socket.socket, program: int, version: int, record: bool) -> None:
        self._to, self._program, self._version, self._record = to, program, version, record
        self._xid = 0

    def request(self, handle: bytes) -> None:
        """Send one request; OSError when the client is gone."""
        self._xid += 1
        message = call_message(self._xid, self._program, self._version, INTERRUPT_SRQ, opaque(handle))
        self._to.sendall(write_record(message) if self._record else message)

    def close(self) -> None:
        """Close the connection."""
        self._to.close()


class InterruptChannels:
    """At most one channel for each client connection, and the thread that sends what is asked for."""

    def __init__(self, served: Served, links: Callable[[], Sequence[Link]]) -> None:
        self._served, self._links = served, links
        self._channels: dict[socket.socket, _Channel] = {}
        self._threads = Threads()
        self._stopping = threading.Event()

    def start(self) -> None:
        """Begin to send."""
        self._threads.start(self._run, name="vxi11-interrupt")

    def stop(self) -> None:
        """End, and close all channels."""
        self._stopping.set()
        with self._served.changed:
            self._served.wake_all()
        self._threads.join()
        for channel in self._channels.values():
            channel.close()

    def has(self, connection: socket.socket) -> bool:
        """Whether this client has a channel."""
        return connection in self._channels

    def open(self, connection: socket.socket, address: int, port: int, program: int, version: int, family: int) -> int:
        """Connect to a client's interrupt service; an error code."""
        host = str(ipaddress.IPv4Address(address))
        if not ipaddress.IPv4Address(address).is_loopback or not 0 < port < 65536:
            return INVALID_ADDRESS
        if family not in (TCP, UDP):
            return BAD_PARAMETER
        kind = socket.SOCK_STREAM if family == TCP else socket.SOCK_DGRAM
        to = socket.socket(socket.AF_INET, kind)
        try:
            to.settimeout(CONNECT_S)
            to.connect((host, port))
        except OSError:
            to.close()
            return NO_CHANNEL
        self._channels[connection] = _Channel(to, program, version, family == TCP)
        return 0

    def close(self, connection: socket.socket) -> bool:
        """End a client's channel; whether there was one."""
        channel = self._channels.pop(connection, None)
        if channel is not None:
            channel.close()
        return channel is not None

    def _run(self) -> None:
        while True:
            with self._served.changed:
                while not (due := self._due()) and not self._stopping.is_set():
                    if any(link.service is not None for link in self._links()):
                        self._served.look(LOOK_S)
                    else:
                        self._served.changed.wait()
            if self._stopping.is_set():
                return
            for channel, handle in due:
                with contextlib.suppress(OSError):
                    channel.request(handle)

    def _due(self) -> list[tuple[_Channel, bytes]]:
        """What has been asked for since it was last sent."""
        due = []
        for link in self._links():
            channel = self._channels.get(link.owner)
            if link.service is None or channel is None or link.requests_sent == link.port.requests:
                continue
            link.requests_sent = link.port.requests
            due.append((channel, link.service))
        return due
