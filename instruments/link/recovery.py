"""Bringing a conversation back in step after an answer was lost, late, cut or too much."""

from __future__ import annotations

import re
from collections.abc import Callable

from instruments import scpi
from instruments.errors import ProtocolError
from instruments.ieee488 import NEED, LineReader
from instruments.wording import counted

from .ports import CHUNK, Port
from .transcript import Recorder

_QUEUE_DEPTH = 32


class Overheard:
    """A port during recovery: what passes is recorded as such. Counts the messages sent."""

    def __init__(self, port: Port, recorder: Recorder) -> None:
        self._port = port
        self._recorder = recorder
        self.recovery_s = port.recovery_s
        self.messages = 0

    def send(self, data: bytes, deadline: float) -> None:
        self._recorder.put("out", data.removesuffix(b"\n"), of="recovery")
        self._port.send(data, deadline)
        self.messages += 1

    def receive(self, wanted: int, deadline: float, line: bool) -> tuple[bytes, bool]:
        data, end = self._port.receive(wanted, deadline, line)
        self._recorder.put("in", data, of="recovery")
        return data, end

    def discard_input(self) -> bytes:
        data = self._port.discard_input()
        if data:
            self._recorder.put("in", data, of="dropped")
        return data

    def device_clear(self, deadline: float) -> bool:
        done = self._port.device_clear(deadline)
        if done:
            self._recorder.put("clear", of="recovery")
        return done

    def to_local(self) -> bool:
        return self._port.to_local()

    def close(self) -> None:
        self._port.close()


def read_line(port: Port, deadline: float, hear: Callable[[bytes], object] = len) -> bytes:
    """Read exactly one line; ``hear`` gets the bytes as they come. Raises ProtocolError for more than one."""
    reader = LineReader()
    while True:
        data, end = port.receive(1, deadline, True)
        hear(data)
        event = reader.feed(data, end)
        if event is not NEED:
            break
    if reader.rest:
        raise ProtocolError(
            f"{counted(len(reader.rest), 'byte')} came behind one line",
            first_bytes=event.data[:20] + b"\n" + reader.rest[:20],
        )
    return event.data


def resynchronise(port: Port, nonce: int, deadline: float) -> int:
    """Ask for ``*ESE?`` n times in one message and drop everything before its n numbers; give the next nonce.

    n changes each time (3 to 9), and two questions in a row must be answered rightly, so that neither a late answer
    to a query, which may itself be n numbers, nor one to an earlier attempt is taken for it; numbers that stand
    behind the rest of a cut answer make it ask again.
    ``*ESE?`` changes nothing and waits for nothing (IEEE 488.2 10.11).
    """
    port.discard_input()
    right = 0
    while right < 2:
        nonce = (nonce + 1) % 7
        count = 3 + nonce
        port.send(b";".join([b"*ESE?"] * count) + b"\n", deadline)
        heard, found = b"", 0
        while found < count:
            data, end = port.receive(1, deadline, True)
            heard = (heard + data + (b"\n" if end and not data.endswith(b"\n") else b""))[-CHUNK:]
            if heard.endswith(b"\n"):
                found = _trailing_numbers(heard.rstrip(b"\r\n").rsplit(b"\n", 1)[-1])
        right = right + 1 if found == count else 0
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
