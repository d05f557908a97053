"""Split bytes into IEEE 488.2 program messages and their units. Pure; imports no driver.

Written from IEEE 488.2 chapter 7 and the scope's Programmer's Guide (PG2000 p.795). It refuses what an
instrument refuses, with SCPI's own error numbers (`Refused`).
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Literal

from instruments.simulated.scpi_errors import Refused


@dataclass(frozen=True)
class Param:
    """One parameter as it stood in the message; `data` holds the bytes of a block."""

    kind: Literal["text", "string", "block"]
    text: str
    data: bytes = b""


@dataclass(frozen=True)
class Unit:
    """One program message unit: a header and its parameters, or the error that its spelling deserves."""

    header: str
    query: bool
    params: tuple[Param, ...] = ()
    source: str = ""
    error: Refused | None = None


_INTERESTING = re.compile(rb"[\n\"'#]")
_BLOCK_MAY_START = b" \t\r,"
_HEADER = re.compile(rb"[:*]?[A-Za-z][A-Za-z0-9_]*(?::[A-Za-z][A-Za-z0-9_]*)*")
_SPACE = bytes(c for c in range(33) if c != 10)


@dataclass
class MessageSplitter:
    """Collect bytes until a program message is whole: line feed, or END on a message transport.

    A line feed inside a definite block does not end the message. `limit` bytes without an end are
    thrown away and reported as -363.
    """

    limit: int = 4 << 20
    _buffer: bytearray = field(default_factory=bytearray)
    _scan: int = 0
    _quote: int = 0

    def feed(self, data: bytes, end: bool = False) -> list[bytes]:
        """Take bytes in; give the messages that are now whole, without their terminator."""
        self._buffer += data
        whole = []
        while (message := self._next()) is not None:
            whole.append(message)
        if end and self._buffer.strip(_SPACE):
            whole.append(bytes(self._buffer))
            self.reset()
        elif end:
            self.reset()
        if len(self._buffer) > self.limit:
            self.reset()
            raise Refused(-363)
        return whole

    @property
    def partial(self) -> bool:
        """Whether a message has begun and not ended."""
        return bool(self._buffer)

    def reset(self) -> None:
        """Forget what has been collected (device clear)."""
        self._buffer.clear()
        self._scan = self._quote = 0

    def _next(self) -> bytes | None:
        buffer = self._buffer
        while (hit := _INTERESTING.search(buffer, self._scan)) is not None:
            at = hit.start()
            char = buffer[at]
            if char == 10:
                message = bytes(buffer[:at])
                del buffer[: at + 1]
                self._scan = self._quote = 0
                return message
            if char == 35:  # '#'
                if self._quote or at == 0 or buffer[at - 1] not in _BLOCK_MAY_START:
                    self._scan = at + 1
                    continue
                length = block_extent(buffer, at)
                if length is None:
                    return None
                self._scan = at + max(length, 1)
                if self._scan > len(buffer):
                    self._scan = at
                    return None
                continue
            if self._quote == 0:
                self._quote = char
            elif self._quote == char:
                self._quote = 0
            self._scan = at + 1
        self._scan = len(buffer)
        return None


def block_extent(buffer: bytes | bytearray, at: int) -> int | None:
    """Length of the definite block that begins at `at`; None: more bytes are needed; 0: it is not one."""
    if len(buffer) < at + 2:
        return None
    digits = buffer[at + 1] - 48
    if not 1 <= digits <= 9:
        return 0
    header = bytes(buffer[at + 2 : at + 2 + digits])
    if header and not header.isdigit():
        return 0
    if len(header) < digits:
        return None
    return 2 + digits + int(header)


def encode_block(payload: bytes, digits: int = 8) -> bytes:
    """IEEE 488.2 definite block; the scope always uses eight digits (PG2000 p.632)."""
    return b"#%d%0*d" % (digits, digits, len(payload)) + payload


def parse_message(message: bytes) -> list[Unit]:
    """Cut a program message into its units; a unit that cannot be read carries its error."""
    units = []
    at = 0
    while at <= len(message):
        at, unit = _parse_unit(message, at)
        if unit is not None:
            units.append(unit)
            if unit.error is not None:
                break
    return units


def _parse_unit(message: bytes, at: int) -> tuple[int, Unit | None]:
    """Read one unit from `at`; give where the next begins."""
    while at < len(message) and message[at] in _SPACE:
        at += 1
    if at >= len(message):
        return len(message) + 1, None
    if message[at] == 59:  # ';'
        return at + 1, None
    hit = _HEADER.match(message, at)
    if hit is None:
        bad = -101 if message[at] > 126 else -102
        return len(message) + 1, Unit("", False, error=Refused(bad), source=_show(message[at:]))
    start, header, at = at, hit.group().decode("ascii"), hit.end()
    query = at < len(message) and message[at] == 63  # '?'
    at += query
    if at < len(message) and message[at] != 59 and message[at] not in _SPACE:
        bad = -101 if message[at] > 126 else -102 if message[at] in b':*?"#' else -103
        return len(message) + 1, Unit(header, query, error=Refused(bad), source=_show(message[start:]))
    params: list[Param] = []
    try:
        at = _parse_params(message, at, params)
    except Refused as error:
        return len(message) + 1, Unit(header, query, error=error, source=_show(message[start:]))
    return at + 1, Unit(header, query, tuple(params), _show(message[start:at]))


def _parse_params(message: bytes, at: int, params: list[Param]) -> int:
    """Read parameters up to `;` or the end; give where it stopped."""
    expect = False
    while True:
        while at < len(message) and message[at] in _SPACE:
            at += 1
        if at >= len(message) or message[at] == 59:
            if expect:
                raise Refused(-109)
            return at
        if params and not expect:
            raise Refused(-103)
        at, param = _parse_param(message, at)
        params.append(param)
        while at < len(message) and message[at] in _SPACE:
            at += 1
        expect = at < len(message) and message[at] == 44  # ','
        at += expect


def _parse_param(message: bytes, at: int) -> tuple[int, Param]:
    char = message[at]
    if char in b"\"'":
        content, start = bytearray(), at + 1
        while True:
            stop = message.find(bytes((char,)), start)
            if stop < 0:
                raise Refused(-151)
            content += message[start:stop]
            if message[stop + 1 : stop + 2] != bytes((char,)):
                return stop + 1, Param("string", content.decode("latin-1"))
            content.append(char)
            start = stop + 2
    if char == 35 and message[at + 1 : at + 2].isdigit():
        if message[at + 1] == 48:  # indefinite: up to END
            return len(message), Param("block", "", message[at + 2 :])
        length = block_extent(message, at)
        if not length or at + length > len(message):
            raise Refused(-161)
        digits = message[at + 1] - 48
        return at + length, Param("block", "", message[at + 2 + digits : at + length])
    stop = at
    depth = 0
    while stop < len(message) and (depth or message[stop] not in b",;"):
        depth += (message[stop] == 40) - (message[stop] == 41)
        stop += 1
    text = message[at:stop].strip(_SPACE)
    if not text:
        raise Refused(-109)
    if any(c > 126 for c in text):
        raise Refused(-101)
    return stop, Param("text", text.decode("ascii"))


def _show(raw: bytes) -> str:
    return raw[:80].decode("latin-1").strip()
