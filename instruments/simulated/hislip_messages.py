"""Messages of HiSLIP 1.0 (IVI-6.1): header, kinds, codes, and reading one from a connection."""

from __future__ import annotations

import socket
import struct
from dataclasses import dataclass

from instruments.simulated.servers import receive_exactly

HEADER = struct.Struct(">2sBBIQ")
(INITIALIZE, INITIALIZE_RESPONSE, FATAL_ERROR, ERROR, ASYNC_LOCK, ASYNC_LOCK_RESPONSE, DATA, DATA_END,
 CLEAR_COMPLETE, CLEAR_ACKNOWLEDGE, REMOTE_LOCAL, REMOTE_LOCAL_RESPONSE, TRIGGER, INTERRUPTED,
 ASYNC_INTERRUPTED, MAX_SIZE, MAX_SIZE_RESPONSE, ASYNC_INITIALIZE, ASYNC_INITIALIZE_RESPONSE, ASYNC_CLEAR,
 SERVICE_REQUEST, STATUS_QUERY, STATUS_RESPONSE, ASYNC_CLEAR_ACKNOWLEDGE, LOCK_INFO,
 LOCK_INFO_RESPONSE) = range(26)  # fmt: skip
FIRST_OF_VENDORS = 128
VERSION_1_0 = 0x0100

POOR_HEADER, NOT_BOTH_CHANNELS, INVALID_SEQUENCE, TOO_MANY_CLIENTS = 1, 2, 3, 4
"""Of FatalError: the connection ends (IVI-6.1, table 14)."""
UNIDENTIFIED, UNRECOGNIZED_TYPE, UNRECOGNIZED_CONTROL, UNRECOGNIZED_VENDOR, TOO_LARGE = range(5)
"""Of Error: the message is ignored (IVI-6.1, table 16)."""


@dataclass(frozen=True)
class Message:
    """One message; `too_large`: its payload was thrown away."""

    kind: int
    control: int
    parameter: int
    payload: bytes
    too_large: bool = False


class FatalError(EOFError):
    """What ends a connection, after it was said with its code."""

    def __init__(self, code: int, text: str) -> None:
        self.code = code
        super().__init__(text)


def encode(kind: int, control: int = 0, parameter: int = 0, payload: bytes = b"") -> bytes:
    """One message as bytes."""
    return HEADER.pack(b"HS", kind, control, parameter, len(payload)) + payload


def receive(connection: socket.socket, most: int) -> Message:
    """Read one message with a payload of up to `most` bytes; raises FatalError, or EOFError at the end."""
    prologue, kind, control, parameter, length = HEADER.unpack(receive_exactly(connection, HEADER.size))
    if prologue != b"HS":
        raise FatalError(POOR_HEADER, "poorly formed message header")
    if length <= most:
        return Message(kind, control, parameter, receive_exactly(connection, length))
    while length:
        length -= len(receive_exactly(connection, min(length, 1 << 16)))
    return Message(kind, control, parameter, b"", True)
