"""A VISA resource with an end of message (VXI-11, HiSLIP, USB, GPIB), and any other as best it can.

Sockets and serial lines under a backend other than pyvisa-py also pass through here: with the
termination character for text, without it for blocks. That path was not tried on a bench.
A GPIB board's time-outs have steps (..., 1, 3, 10, 30 s): a deadline there may be overstepped up to the next.
"""

from __future__ import annotations

from typing import Any

from .ports import RECOVERY_S, PortClosed, PortTimeout, close_quietly, remaining_s
from .sessions import repair

#: Above any reply but a deep record: pyvisa-py gives a false time-out when a VXI-11 reply is an exact
#: multiple of the chunk, so text and blocks are read by what they say, not by the status alone.
CHUNK = 1 << 16
LARGE_CHUNK = 1 << 20


class MessagePort:
    """One VISA session, read in chunks that share the deadline of the operation."""

    recovery_s = RECOVERY_S

    def __init__(self, resource: Any, text: str) -> None:
        from pyvisa import constants, errors

        self._resource = resource
        self._visalib = resource.visalib
        self._session = resource.session
        self._error = errors.VisaIOError
        self._status = constants.StatusCode
        self._ren = constants.RENLineOperation
        serial = text.upper().startswith("ASRL")
        self._streamed = text.upper().endswith("::SOCKET") or serial
        attributes, ends = constants.ResourceAttribute, constants.SerialTermination
        self._line_mode: dict[bool, list[tuple[Any, Any]]] = {
            False: [(attributes.termchar_enabled, False), (attributes.asrl_end_in, ends.none)],
            True: [(attributes.termchar_enabled, True), (attributes.asrl_end_in, ends.termination_char)],
        }
        if not serial:
            self._line_mode = {line: settings[:1] for line, settings in self._line_mode.items()}
        sessions = getattr(self._visalib, "sessions", None)
        session = sessions.get(self._session) if isinstance(sessions, dict) else None
        interface = getattr(session, "interface", None)
        self._gpib_device = interface if hasattr(interface, "ibloc") else None
        self._largest = LARGE_CHUNK
        self._least = LARGE_CHUNK if repair(session) else CHUNK
        self._timeout_ms = -1
        self._line: bool | None = None
        # A full chunk is no warning here: the reader knows what is still to come.
        self._visalib.issue_warning_on.discard(self._status.success_max_count_read)

    def _set_timeout(self, deadline: float) -> None:
        timeout_ms = max(1, int(1000 * remaining_s(deadline)) + 1)
        if timeout_ms != self._timeout_ms:
            self._resource.timeout = timeout_ms
            self._timeout_ms = timeout_ms

    def send(self, data: bytes, deadline: float) -> None:
        try:
            self._set_timeout(deadline)
            self._visalib.write(self._session, data)
        except Exception as error:
            raise self._translate(error, "sending") from error

    def receive(self, wanted: int, deadline: float, line: bool) -> tuple[bytes, bool]:
        if self._streamed and line is not self._line:
            for attribute, value in self._line_mode[line]:
                self._resource.set_visa_attribute(attribute, value)
            self._line = line
        # Without a termination character a stream of a vendor's library gives all that was asked for, or nothing.
        count = min(self._largest, wanted if self._streamed and not line else max(wanted, self._least))
        try:
            self._set_timeout(deadline)
            data, status = self._visalib.read(self._session, count)
        except Exception as error:
            raise self._translate(error, "receiving") from error
        ended = status != self._status.success_max_count_read and not self._streamed
        if not data and not ended:
            raise PortClosed("receiving gave no bytes and no error")
        return bytes(data), ended

    def discard_input(self) -> bytes:
        """Take what a socket or serial line holds; elsewhere device_clear drops unread messages after a failure."""
        found = b""
        while self._streamed:
            try:
                self._resource.timeout, self._timeout_ms = 0, 0  # VI_TMO_IMMEDIATE
                data = bytes(self._visalib.read(self._session, CHUNK)[0])
                if not data:
                    break
                found += data
            except Exception as error:
                translated = self._translate(error, "receiving")
                if isinstance(translated, PortTimeout):
                    break
                raise translated from error
        return found[-CHUNK:]

    def device_clear(self, deadline: float) -> bool:
        if self._streamed:
            return False
        try:
            self._set_timeout(deadline)
            self._visalib.clear(self._session)
        except Exception as error:
            raise self._translate(error, "clearing") from error
        return True

    def to_local(self) -> bool:
        try:
            if self._gpib_device is not None:
                # pyvisa-py 0.8.1 sends the text "0x1" for the command byte GTL (gpib.py, gpib_control_ren).
                self._gpib_device.ibloc()
                return True
            self._visalib.gpib_control_ren(self._session, self._ren.address_gtl)
        except Exception:  # most transports cannot; every backend says so in its own way
            return False
        return True

    def close(self) -> None:
        close_quietly(self._resource)

    def _translate(self, error: Exception, doing: str) -> Exception:
        if isinstance(error, PortTimeout | PortClosed):
            return error
        if isinstance(error, TimeoutError):
            return PortTimeout()
        if isinstance(error, self._error) and error.error_code == self._status.error_timeout:
            return PortTimeout()
        return PortClosed(f"{doing} failed: {type(error).__name__}: {error}")
