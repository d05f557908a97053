"""Bringing a conversation back in step after an answer was lost, late, cut or too much."""

from __future__ import annotations

import re
from collections.abc import Callable

from instruments import scpi
from instruments.errors import ProtocolError
from instruments.ieee488 import NEED, LineReader

from .ports import CHUNK, Port

_QUEUE_DEPTH = 32


def read_line(port: Port, deadline: float, count: Callable[[int], None] = lambda size: None) -> bytes:
    """Read exactly one line; ``count`` hears how many bytes came. Raises ProtocolError for more than one."""
    reader = LineReader()
    while True:
        data, end = port.receive(CHUNK, deadline, True)
        count(len(data))
        event = reader.feed(data, end)
        if event is not NEED:
            break
    if reader.rest:
        raise ProtocolError(
            f"{len(reader.rest)} bytes came behind one line", first_bytes=event.data[:20] + b"\n" + reader.rest[:20]
        )
    return event.data


def resynchronise(port: Port, nonce: int, deadline: float) -> int:
    """Ask for ``*ESE?`` n times in one message and drop everything before its n numbers; give the next nonce.

    n changes each time (3 to 9), so that neither a late answer to a query nor one to an earlier
    attempt is taken for it; numbers that stand behind the rest of a cut answer make it ask again.
    ``*ESE?`` changes nothing and waits for nothing (IEEE 488.2 10.11).
    """
    port.discard_input()
    while True:
        nonce = (nonce + 1) % 7
        count = 3 + nonce
        port.send(b";".join([b"*ESE?"] * count) + b"\n", deadline)
        heard, found = b"", 0
        while found < count:
            data, end = port.receive(CHUNK, deadline, True)
            heard = (heard + data + (b"\n" if end and not data.endswith(b"\n") else b""))[-CHUNK:]
            if heard.endswith(b"\n"):
                found = _trailing_numbers(heard.rstrip(b"\r\n").rsplit(b"\n", 1)[-1])
        if found == count:
            return nonce


def drain_errors(port: Port, deadline: float) -> list[str]:
    """Empty the error queue, at most 32 entries, and give them as text: what the instrument says about it."""
    found: list[str] = []
    while len(found) < _QUEUE_DEPTH:
        port.send(b":SYSTem:ERRor?\n", deadline)
        entry = scpi.parse_error_entry(read_line(port, deadline).decode("ascii", "replace"))
        if entry.code == 0:
            break
        found.append(str(entry))
    return found


def _trailing_numbers(line: bytes) -> int:
    """Count the numbers separated by ``;`` at the end of a line; 99 when something else stands before."""
    match = re.search(rb"(?:\+?\d+;)*\+?\d+\s*\Z", line)
    if match is None:
        return 0
    return match[0].count(b";") + 1 if match.start() == 0 else 99
