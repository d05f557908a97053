"""A VISA library as a vendor's is, for pyvisa: sockets and serial lines with the rules of the VISA specification.

What pyvisa-py does otherwise: without a termination character a read gives all that was asked for, or fails and what
had come is lost; with it a read ends at each; nobody can look behind the session.
"""

from __future__ import annotations

import os
import select
import socket
import time
from typing import Any

from pyvisa import constants, highlevel, rname
from pyvisa.constants import ResourceAttribute, StatusCode
from pyvisa.util import LibraryPath


class VendorLibrary(highlevel.VisaLibraryBase):
    """Sessions by number; each is a descriptor with its attributes."""

    @staticmethod
    def get_library_paths() -> tuple[LibraryPath, ...]:
        return (LibraryPath("vendor"),)

    @staticmethod
    def get_debug_info() -> dict[str, str]:
        return {"Version": "1"}

    def _init(self) -> None:
        self._open: dict[int, tuple[Any, dict[Any, Any]]] = {}
        self._next = 100

    def open_default_resource_manager(self) -> tuple[int, StatusCode]:
        return 1, StatusCode.success

    def open(
        self, session: int, resource_name: str, access_mode: Any = 0, open_timeout: int = 0
    ) -> tuple[int, StatusCode]:
        parsed = rname.parse_resource_name(resource_name)
        stream: Any
        if isinstance(parsed, rname.TCPIPSocket):
            stream = socket.create_connection((parsed.host_address, int(parsed.port)), 5)
        elif isinstance(parsed, rname.ASRLInstr):
            stream = os.fdopen(os.open(parsed.board, os.O_RDWR | os.O_NOCTTY), "r+b", buffering=0)
        else:
            self.handle_return_value(session, StatusCode.error_resource_not_found)
        self._next += 1
        end_in = constants.SerialTermination.termination_char
        defaults = {ResourceAttribute.termchar_enabled: False, ResourceAttribute.asrl_end_in: end_in}
        self._open[self._next] = stream, {**defaults, ResourceAttribute.timeout_value: 2000}
        return self._next, StatusCode.success

    def close(self, session: int) -> StatusCode:
        if session in self._open:
            self._open.pop(session)[0].close()
        return StatusCode.success

    def disable_event(self, session: int, event_type: Any, mechanism: Any) -> StatusCode:
        return StatusCode.success

    def discard_events(self, session: int, event_type: Any, mechanism: Any) -> StatusCode:
        return StatusCode.success

    def get_attribute(self, session: int, attribute: Any) -> tuple[Any, StatusCode]:
        return self._open[session][1].get(attribute, 0), StatusCode.success

    def set_attribute(self, session: int, attribute: Any, attribute_state: Any) -> StatusCode:
        self._open[session][1][attribute] = attribute_state
        return StatusCode.success

    def write(self, session: int, data: bytes) -> tuple[int, StatusCode]:
        stream = self._open[session][0]
        if isinstance(stream, socket.socket):
            stream.sendall(data)
        else:
            stream.write(data)
        return len(data), StatusCode.success

    def read(self, session: int, count: int) -> tuple[bytes, StatusCode]:
        stream, attributes = self._open[session]
        if isinstance(stream, socket.socket):
            by_line = bool(attributes[ResourceAttribute.termchar_enabled])
        else:
            by_line = attributes[ResourceAttribute.asrl_end_in] == constants.SerialTermination.termination_char
        until = time.monotonic() + attributes[ResourceAttribute.timeout_value] / 1000
        data = b""
        while len(data) < count:
            if not select.select([stream], [], [], max(0.0, until - time.monotonic()))[0]:
                self.handle_return_value(session, StatusCode.error_timeout)
            byte = stream.recv(1) if isinstance(stream, socket.socket) else stream.read(1)
            if not byte:
                self.handle_return_value(session, StatusCode.error_connection_lost)
            data += byte
            if by_line and byte == b"\n":
                return data, StatusCode.success_termination_character_read
        return data, StatusCode.success_max_count_read


WRAPPER_CLASS = VendorLibrary
