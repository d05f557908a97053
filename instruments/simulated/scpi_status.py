"""Error queue, event status, status byte and service request of a simulated instrument. Pure.

IEEE 488.2 chapter 11. `*STB?` shows the master summary in bit 6; a serial poll shows there whether service is
asked for, which it ends (11.2.2.1, 11.3.3). Each conversation asks for service by itself, since each has a MAV bit.
"""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING

from instruments.simulated.scpi_errors import ERROR_TEXTS, Refused
from instruments.simulated.scpi_tree import Call

if TYPE_CHECKING:
    from instruments.simulated.scpi_port import Port

OPC, QYE, DDE, EXE, CME, PON = 1, 4, 8, 16, 32, 128


class StatusModel:
    """The registers and the queue; `ScpiMachine` adds parser and output to it."""

    def __init__(self, error_depth: int) -> None:
        self.error_depth = error_depth
        self.errors: deque[tuple[int, str]] = deque()
        self.esr, self.ese, self.sre = PON, 0, 0
        self._opc_armed = False

    # --- hooks of an instrument -----------------------------------------------------------------

    def operation_pending(self) -> bool:
        """Whether an overlapped operation is still going on (*OPC, *OPC?, *WAI)."""
        return False

    def summary_bits(self) -> int:
        """Status byte bits beyond MAV, ESB and RQS."""
        return 0

    # --- queue and registers --------------------------------------------------------------------

    def log_error(self, error: Refused) -> None:
        """Queue an error; the last place of a full queue becomes -350 (SCPI-1999 21.8.1)."""
        if len(self.errors) >= self.error_depth:
            self.errors[-1] = (-350, ERROR_TEXTS[-350])
        else:
            self.errors.append((error.code, error.text))
        kind = -error.code // 100
        self.esr |= {1: CME, 2: EXE, 3: DDE, 4: QYE}.get(kind, DDE)

    def next_error(self) -> str:
        """Answer of :SYSTem:ERRor?."""
        code, text = self.errors.popleft() if self.errors else (0, ERROR_TEXTS[0])
        return f'{code:+d},"{text}"'

    def status_byte(self, port: Port | None = None) -> int:
        """The status byte as *STB? gives it; bit 4 tells whether `port` has something to read."""
        stb = self.summary_bits()
        stb |= 16 if port is not None and (port.readable or port.unread) else 0
        stb |= 32 if self.esr & self.ese else 0
        return stb | (64 if stb & self.sre & ~64 else 0)

    def serial_poll(self, port: Port) -> int:
        """The status byte as a serial poll gives it; the request for service of this port is over."""
        self.watch_service(port)
        asked, port.service_asked = port.service_asked, False
        return self.status_byte(port) & ~64 | (64 if asked else 0)

    def watch_service(self, port: Port) -> None:
        """Ask for service when an enabled bit of the status byte has risen; stop when none is left."""
        enabled = self.status_byte(port) & self.sre & ~64 if self.sre else 0
        if enabled & ~port.service_bits:
            port.service_asked = True
            port.requests += 1
        elif not enabled:
            port.service_asked = False
        port.service_bits = enabled

    def clear_status(self) -> None:
        """*CLS: event registers and the error queue."""
        self.errors.clear()
        self.esr = 0
        self._opc_armed = False

    def read_esr(self) -> str:
        """*ESR?, cleared by reading."""
        value, self.esr = self.esr, 0
        return f"{value:+d}"

    def set_ese(self, call: Call) -> None:
        """*ESE."""
        self.ese = call.integer(low=0, high=255)

    def set_sre(self, call: Call) -> None:
        """*SRE; bit 6 cannot be set."""
        self.sre = call.integer(low=0, high=255) & ~64

    def arm_opc(self) -> None:
        """*OPC."""
        self._opc_armed = True
        self.settle_opc()

    def settle_opc(self) -> None:
        """Set the operation-complete bit if *OPC asked for it and nothing is pending."""
        if self._opc_armed and not self.operation_pending():
            self._opc_armed = False
            self.esr |= OPC
