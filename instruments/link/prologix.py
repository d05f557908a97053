"""Instruments behind a Prologix-style GPIB adapter, over Ethernet (TCP 1234) or USB (a serial port).

All instruments of one adapter share its connection and one lock, held over write and read. VISA opens the
connection as a plain socket or serial port, and the adapter's own protocol is spoken here, because pyvisa-py 0.8.1
behind its INTFC resource wears the adapter's EEPROM at each opening (no ``++savecfg 0`` before its settings), gives
up after 50 ms, stops reading at each line feed, and waits and spins without a deadline.

Sources: Prologix GPIB-ETHERNET and GPIB-USB manual 1.6.6.0: ``++`` lines are for the adapter; ESC protects CR, LF,
ESC and ``+`` in data. An instrument is read on ``++read eoi`` alone, sent once per answer and again only when the
adapter's limit of 3 s (the most that it takes) has run out without a byte. The address goes with every message: a
second client of the adapter may have changed it.
"""

from __future__ import annotations

import re
import threading
import time
from collections.abc import Callable

from instruments import addresses
from instruments.errors import ConfigError

from .ports import RECOVERY_S, Port, PortClosed, PortTimeout, remaining_s

READ_TMO_S = 3.0
#: Controller; no read after each write; LF and CR are not added; EOI with the last byte; nothing added to answers.
SETTINGS = ("++savecfg 0", "++mode 1", "++auto 0", "++eos 3", "++eoi 1", "++eot_enable 0")
_ESCAPED = re.compile(rb"[\x1b\r\n+]")

Tell = Callable[[bytes], None]

_buses: dict[str, Bus] = {}
_buses_lock = threading.Lock()


def board_of(text: str) -> int:
    """Give the board number of an INTFC or GPIB resource string; raises ConfigError for any other."""
    board = addresses.board_of(text)
    if board is None:
        raise ConfigError(f"{text!r} is neither a PRLGX-TCPIP/PRLGX-ASRL adapter nor a GPIB instrument")
    return board


def address_of(text: str) -> str:
    """Give the argument of ``++addr`` for a GPIB resource string; raises ConfigError for what is no address."""
    found = addresses.gpib_address(text)
    if found is None:
        raise ConfigError(f"{text!r}: GPIB0::5::INSTR is expected, with an address from 0 to 30")
    primary, secondary = found
    return str(primary) if secondary is None else f"{primary} {secondary}"


def acquire_bus(text: str, opener: Callable[[], Port], tell: Tell) -> Bus:
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
            bus = Bus(text, board, opener, tell)
            _buses[key] = bus
        bus.references += 1
        return bus


class Bus:
    """One adapter: its connection, its lock, and how many instruments hold it."""

    def __init__(self, text: str, board: int, opener: Callable[[], Port], tell: Tell) -> None:
        self.text = text
        self.board = board
        self.lock = threading.RLock()
        self.references = 0
        self._opener = opener
        self._port: Port | None = None
        self.connect(tell)

    @property
    def port(self) -> Port:
        """The connection to the adapter; raises PortClosed when there is none."""
        if self._port is None:
            raise PortClosed("the connection to the adapter could not be opened again")
        return self._port

    def connect(self, tell: Tell) -> None:
        """Open the connection and set the adapter, without saving that in its EEPROM."""
        port = self._opener()
        lines = [*SETTINGS, f"++read_tmo_ms {1000 * READ_TMO_S:.0f}"]
        try:
            port.send("".join(line + "\n" for line in lines).encode("ascii"), time.monotonic() + READ_TMO_S)
        except BaseException:
            port.close()
            raise
        for line in lines:
            tell(line.encode("ascii"))
        self._port = port

    def reconnect(self, tell: Tell) -> None:
        """Close the connection and open it anew."""
        self.disconnect()
        self.connect(tell)

    def disconnect(self) -> None:
        """Close the connection, if there is one."""
        port, self._port = self._port, None
        if port is not None:
            port.close()

    def release(self) -> None:
        """Give the bus up; the last one closes the connection."""
        with _buses_lock:
            self.references -= 1
            if self.references <= 0:
                _buses.pop(self.text.upper(), None)
                self.disconnect()


class PrologixPort:
    """One GPIB address behind an adapter. ``tell`` hears every line for the adapter."""

    #: An adapter that waits for an answer that never comes does nothing else until its own limit is over.
    recovery_s = READ_TMO_S + RECOVERY_S

    def __init__(self, bus: Bus, text: str, tell: Tell) -> None:
        if board_of(text) != bus.board:
            raise ConfigError(f"{text} is not on board {bus.board} of {bus.text}; write GPIB{bus.board}::... for it")
        self._bus = bus
        self._address = b"++addr " + address_of(text).encode("ascii")
        self._tell = tell
        self._asked = True

    def send(self, data: bytes, deadline: float) -> None:
        message = _ESCAPED.sub(lambda match: b"\x1b" + match[0], data.removesuffix(b"\n"))
        self._command(deadline, message=message)
        self._asked = False

    def receive(self, wanted: int, deadline: float, line: bool) -> tuple[bytes, bool]:
        while True:
            if not self._asked:
                self._tell(b"++read eoi")
                self._bus.port.send(b"++read eoi\n", deadline)
                self._asked = True
            try:
                patience = min(deadline, time.monotonic() + READ_TMO_S + 0.2)
                return self._bus.port.receive(wanted, patience, line)[0], False
            except PortTimeout:
                remaining_s(deadline)
                self._asked = False

    def discard_input(self) -> bytes:
        return self._bus.port.discard_input()

    def device_clear(self, deadline: float) -> bool:
        self._command(deadline, b"++clr")
        return True

    def to_local(self) -> bool:
        self._command(time.monotonic() + READ_TMO_S, b"++loc")
        return True

    def close(self) -> None:
        """Do nothing: the connection is the bus's."""

    def _command(self, deadline: float, command: bytes = b"", *, message: bytes = b"") -> None:
        """Address the instrument and send a line for the adapter or a message, in one piece."""
        self._tell(self._address)
        if command:
            self._tell(command)
        self._bus.port.send(self._address + b"\n" + (command or message) + b"\n", deadline)
