"""Instruments behind a Prologix-style GPIB adapter, through pyvisa-py's INTFC and INSTR sessions.

All instruments of one adapter share its connection and one lock held over write and read. pyvisa-py
0.8.1 escapes and addresses the data; reading is done here, because its own reader stops at each line
feed, gives up after 50 ms by default, and spins for ever on a closed connection. Replies keep their
line feed. ``++read eoi`` is sent once per answer and repeated only when the adapter's own limit of
3 s (the most that it takes: Prologix manual change log) has run out without a byte.
"""

from __future__ import annotations

import re
import socket
import threading
import time
from collections.abc import Callable
from typing import Any

from instruments.errors import ConfigError

from .ports import RECOVERY_S, PortClosed, PortTimeout, SerialStream, SocketStream, close_quietly, remaining_s

READ_TMO_S = 3.0
_BOARD = re.compile(r"(?:PRLGX-(?:TCPIP|ASRL)|GPIB)(\d*)::", re.IGNORECASE)

_buses: dict[str, Bus] = {}
_buses_lock = threading.Lock()


def board_of(text: str) -> int:
    """Give the board number of an INTFC or GPIB resource string; raises ConfigError for any other."""
    match = _BOARD.match(text)
    if match is None:
        raise ConfigError(f"{text!r} is neither a PRLGX-TCPIP/PRLGX-ASRL adapter nor a GPIB instrument")
    return int(match[1] or 0)


def acquire_bus(text: str, opener: Callable[[], Any]) -> Bus:
    """Give the bus of an adapter, opening it when nobody holds it yet; release it when done."""
    key = text.upper()
    with _buses_lock:
        bus = _buses.get(key)
        if bus is None:
            board = board_of(text)
            for other in _buses.values():
                if other.board == board:
                    raise ConfigError(
                        f"{text} and {other.text} are both board {board}; number one of them, such as "
                        f"PRLGX-TCPIP{board + 1}::..., and its instruments GPIB{board + 1}::..."
                    )
            bus = Bus(text, board, opener)
            _buses[key] = bus
        bus.references += 1
        return bus


class Bus:
    """One adapter: its connection, its lock, and how many instruments hold it."""

    def __init__(self, text: str, board: int, opener: Callable[[], Any]) -> None:
        self.text = text
        self.board = board
        self.lock = threading.RLock()
        self.references = 0
        self.generation = 0
        self._opener = opener
        self._resource: Any = None
        self.stream: SocketStream | SerialStream
        self.connect()

    def connect(self) -> None:
        """Open the connection and set the adapter; its settings are not saved in its EEPROM."""
        resource = self._opener()
        sessions = getattr(resource.visalib, "sessions", None)
        session = sessions.get(resource.session) if isinstance(sessions, dict) else None
        interface = getattr(session, "interface", None)
        if interface is None:
            close_quietly(resource)
            raise ConfigError(f"{self.text}: GPIB adapters need the pyvisa-py backend (visa: '@py')")
        try:
            self.stream = SocketStream(interface) if isinstance(interface, socket.socket) else SerialStream(interface)
            resource.timeout = int(1000 * (READ_TMO_S + 0.5))  # only the INTFC's timeout has an effect
            tmo_ms = int(1000 * READ_TMO_S)
            self.stream.send(b"++savecfg 0\n++read_tmo_ms %d\n" % tmo_ms, time.monotonic() + READ_TMO_S)
        except BaseException:
            close_quietly(resource)
            raise
        self._resource = resource
        self.generation += 1

    def reconnect(self) -> None:
        """Close the connection and open it anew; every instrument behind it addresses itself again."""
        self.disconnect()
        self.connect()

    def disconnect(self) -> None:
        """Close the connection, if there is one."""
        if self._resource is not None:
            close_quietly(self._resource)
            self._resource = None

    def release(self) -> None:
        """Give the bus up; the last one closes the connection."""
        with _buses_lock:
            self.references -= 1
            if self.references <= 0:
                _buses.pop(self.text.upper(), None)
                self.disconnect()


class PrologixPort:
    """One GPIB address behind an adapter."""

    #: An adapter that waits for an answer that never comes does nothing else until its own limit is over.
    recovery_s = READ_TMO_S + RECOVERY_S

    def __init__(self, bus: Bus, text: str, opener: Callable[[], Any]) -> None:
        if board_of(text) != bus.board:
            raise ConfigError(f"{text} is not on board {bus.board} of {bus.text}; write GPIB{bus.board}::... for it")
        self._bus = bus
        self._opener = opener
        self._resource: Any = None
        self._generation = 0
        self._asked = True
        self._session()

    def _session(self) -> Any:
        if self._generation != self._bus.generation or self._resource is None:
            if self._resource is not None:
                close_quietly(self._resource)
            self._resource = self._opener()
            self._generation = self._bus.generation
        return self._resource.visalib.sessions[self._resource.session]

    def send(self, data: bytes, deadline: float) -> None:
        self._bus.stream.discard_input()  # also finds a closed connection, on which pyvisa-py would spin
        try:
            self._session().write(data)
        except OSError as error:
            raise PortClosed(f"sending failed: {error}") from error
        self._asked = False

    def receive(self, count: int, deadline: float, line: bool) -> tuple[bytes, bool]:
        while True:
            if not self._asked:
                self._bus.stream.send(b"++read eoi\n", deadline)
                self._asked = True
            try:
                patience = min(deadline, time.monotonic() + READ_TMO_S + 0.2)
                return self._bus.stream.receive(count, patience), False
            except PortTimeout:
                remaining_s(deadline)
                self._asked = False

    def discard_input(self) -> int:
        return self._bus.stream.discard_input()

    def device_clear(self, deadline: float) -> bool:
        self._bus.stream.discard_input()
        try:
            self._session().clear()
        except OSError as error:
            raise PortClosed(f"clearing failed: {error}") from error
        return True

    def to_local(self) -> bool:
        session = self._session()
        try:
            session.interface.gpib_addr = session.gpib_addr
            self._bus.stream.send(b"++loc\n", time.monotonic() + 1.0)
        except OSError as error:
            raise PortClosed(f"giving the panel back failed: {error}") from error
        return True

    def close(self) -> None:
        if self._resource is not None:
            close_quietly(self._resource)
            self._resource = None
