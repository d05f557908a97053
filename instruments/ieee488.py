"""Strict, incremental reader and writer of IEEE 488.2 response messages and definite-length blocks.

Pure: feed bytes, get NEED or an event, or ProtocolError. How the bytes were cut never matters: the
event comes with the same byte. Unlike lenient readers it refuses text before ``#``, ``#0``, digits
that are not digits, and anything between the data and the terminator: stale bytes cannot pass as data.
Sources: IEEE 488.2 8.7.9 (definite length arbitrary block), 8.5 (response message terminator).
"""

from __future__ import annotations

import enum
from dataclasses import dataclass
from typing import Final, Literal

from instruments.wording import counted

from .errors import ProtocolError


class _Need(enum.Enum):
    NEED = "need more bytes"


#: Answered by a reader that has not seen enough bytes yet.
NEED: Final = _Need.NEED
Need = Literal[_Need.NEED]

#: Longest text answer that is believed; far above any of these instruments.
MAX_LINE = 1 << 24
#: Longest block that is believed.
MAX_BLOCK = 1 << 28
_SHOWN = 40


@dataclass(frozen=True)
class Line:
    """One text answer, without its terminator."""

    data: bytes


@dataclass(frozen=True)
class Block:
    """The data of one definite-length block; may be empty where the header says so."""

    data: bytes


class LineReader:
    """Read one text answer that ends in LF (or CR LF), or with END on transports that have it.

    After the event ``rest`` holds what came behind it; a strict caller wants it empty.
    """

    def __init__(self, max_bytes: int = MAX_LINE) -> None:
        self._buffer = bytearray()
        self._scanned = 0
        self._max_bytes = max_bytes
        self.rest = b""

    @property
    def bytes_got(self) -> int:
        """Bytes fed so far."""
        return len(self._buffer)

    def feed(self, data: bytes, end: bool = False) -> Need | Line:
        """Take bytes, ``end`` when the transport marked the last as END; raises ProtocolError if too long."""
        self._buffer += data
        at = self._buffer.find(b"\n", self._scanned)
        if at >= 0:
            line = bytes(self._buffer[:at])
            self.rest = bytes(self._buffer[at + 1 :])
            return Line(line[:-1] if line.endswith(b"\r") else line)
        if len(self._buffer) > self._max_bytes:
            raise ProtocolError(
                f"an answer of more than {self._max_bytes} bytes has no line feed",
                first_bytes=bytes(data[:40]),
            )
        self._scanned = len(self._buffer)
        return Line(bytes(self._buffer)) if end else NEED


class BlockReader:
    """Read one definite-length block ``#<d><d digits><data>`` and its terminator.

    The terminator is LF, or END right after the data. After the event ``rest`` holds what came
    behind it; a strict caller wants it empty. Pieces are put together once, when all are there.
    """

    def __init__(self, max_bytes: int = MAX_BLOCK) -> None:
        self._pieces: list[bytes] = []
        self._got = 0
        self._start = b""  # the first bytes, which hold the header and are shown in errors
        self._max_bytes = max_bytes
        self._header = 0  # bytes of the header, 0 while unknown
        self._length = 0
        self.rest = b""

    @property
    def bytes_got(self) -> int:
        """Bytes fed so far, header included."""
        return self._got

    @property
    def wanted(self) -> int:
        """Bytes that are certainly still to come, terminator included; at least 1."""
        if self._header:
            return max(1, self._header + self._length + 1 - self._got)
        if self._got < 2:
            return 2 - self._got
        return max(1, 2 + self._digits() - self._got)

    def feed(self, data: bytes, end: bool = False) -> Need | Block:
        """Take bytes, ``end`` when the transport marked the last as END; raises ProtocolError."""
        before = self._got
        self._pieces.append(bytes(data))
        self._got += len(data)
        if before < _SHOWN:
            self._start += data[: _SHOWN - before]
        if not self._header:
            self._read_header()
        if self._header:
            stop = self._header + self._length
            if self._got > stop:
                at = stop - before
                if data[at] != 0x0A:
                    raise self._refuse(
                        f"expected a line feed after {self._length} bytes of data, got {bytes(data[at : at + 8])!r}"
                    )
                self.rest = bytes(data[at + 1 :])
                return Block(self._data(stop))
            if self._got == stop and end:
                return Block(self._data(stop))
        if end:
            declared = f"{counted(self._length, 'byte')} of data" if self._header else "a block header"
            raise self._refuse(f"the message ended after {counted(self._got, 'byte')}, before {declared} had come")
        return NEED

    def _data(self, stop: int) -> bytes:
        """Join the pieces from the header's end to ``stop``."""
        parts, at = [], 0
        for piece in self._pieces:
            parts.append(memoryview(piece)[max(0, self._header - at) : max(0, stop - at)])
            at += len(piece)
        return b"".join(parts)

    def _digits(self) -> int:
        return self._start[1] - 0x30

    def _refuse(self, message: str) -> ProtocolError:
        return ProtocolError(message, first_bytes=self._start)

    def _read_header(self) -> None:
        start = self._start
        if start and start[0] != 0x23:
            raise self._refuse("expected a block that starts with '#'")
        if len(start) < 2:
            return
        if start[1] == 0x30:
            raise self._refuse("an indefinite-length block (#0) cannot be checked and is not accepted")
        if not 0x31 <= start[1] <= 0x39:
            raise self._refuse("expected a digit 1 to 9 after '#'")
        count = self._digits()
        digits = start[2 : 2 + count]
        if not all(0x30 <= digit <= 0x39 for digit in digits):
            raise self._refuse(f"expected {counted(count, 'digit')} of block length, got {digits!r}")
        if len(digits) == count:
            self._length = int(digits)
            if self._length > self._max_bytes:
                raise self._refuse(f"the block declares {self._length} bytes, more than the {self._max_bytes} believed")
            self._header = 2 + count


def write_block(data: bytes, digits: int = 8) -> bytes:
    """Write a definite-length block with ``digits`` digits of length (1 to 9); raises ValueError."""
    if not 1 <= digits <= 9 or len(data) >= 10**digits:
        raise ValueError(f"{len(data)} bytes do not fit a block header of {digits} digits")
    return b"#%d%0*d" % (digits, digits, len(data)) + data
