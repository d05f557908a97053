"""One conversation with a simulated instrument: what one socket, link or bus address sees. Pure.

A *stream* port (raw socket, RS-232) pushes replies out as they are ready and cannot notice an unread one.
A *message* port (GPIB, VXI-11, HiSLIP) keeps IEEE 488.2's message exchange: a reply is fetched by
reading; a new message before that loses it with -410, reading with nothing asked gives -420.
"""

from __future__ import annotations

import heapq
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from instruments.simulated.scpi_errors import Refused
from instruments.simulated.scpi_syntax import MessageSplitter

if TYPE_CHECKING:
    from instruments.simulated.scpi_machine import ScpiMachine

PortKind = Literal["stream", "message", "serial"]


@dataclass(frozen=True)
class Part:
    """A piece of a reply as a fault sends it after `delay_s`; then perhaps the link dies or falls silent."""

    data: bytes
    delay_s: float = 0.0
    then: Literal["", "reset", "stall", "wedge"] = ""


_SILENT = ("stall", "wedge")


@dataclass
class _Out:
    """Bytes that are ready; `end` marks the end of a response message, `tag` the message it answers."""

    data: bytearray
    end: bool
    tag: int = 0


ReplyFilter = Callable[[str, bytes], "list[Part] | None"]
"""Sees (command text, whole reply); gives what is to be sent instead, or None to leave it alone."""


class Port:
    """One conversation, made by `ScpiMachine.open_port`; the machine's own `feed` uses the first."""

    def __init__(self, machine: ScpiMachine, kind: PortKind, name: str) -> None:
        self.machine, self.kind, self.name = machine, kind, name
        self.closed = False
        self.broken = False
        """Set when a fault asks for a connection reset; the server then drops the link."""
        self.service_asked = False
        """Whether the instrument asks for service on this conversation (SRQ)."""
        self.service_bits = 0
        """The enabled bits of the status byte when it was last looked at."""
        self.requests = 0
        """How often service has been asked for."""
        self.interruptions = 0
        """How many responses were lost unread (-410)."""
        self.unread = False
        """A response was sent that the client has not taken yet (HiSLIP); it counts as available."""
        self.overlapped = False
        """Responses of several messages queue up instead of being lost (HiSLIP's overlap mode)."""
        self._stalled = self._wedged = False
        self._splitter = MessageSplitter()
        self._output: deque[_Out] = deque()
        self._later: list[tuple[float, int, Part, bool, int]] = []
        self._serial_number = 0
        self._unterminated = False

    # --- bytes in -----------------------------------------------------------------------------

    def feed(self, data: bytes) -> bytes:
        """Take bytes of a stream in, execute what is whole, give the replies that are ready."""
        self._accept(data, end=False)
        return self.take()

    def write(self, data: bytes, end: bool = True, tag: int = 0) -> None:
        """Take part of a message in; `end` is EOI or END with the last byte. Its response will carry `tag`."""
        self._accept(data, end, tag)

    def _accept(self, data: bytes, end: bool, tag: int = 0) -> None:
        if cleared := self.machine.clears(self, data):
            self.clear()
            data = data[cleared:]
        if data:
            self._unterminated = False
        if self.kind == "message" and data and not self._splitter.partial:
            self.interrupt_if_unread()
        try:
            messages = self._splitter.feed(data, end)
        except Refused as error:
            self.machine.log_error(error)
            return
        for message in messages:
            self.machine.submit(self, message, tag)
        self.machine.run()

    @property
    def _keeps_one(self) -> bool:
        """Whether one response at most waits to be read (IEEE 488.2 6.3.2.3)."""
        return self.kind == "message" and self.machine.drops_unread and not self.overlapped

    def interrupt_if_unread(self) -> bool:
        """Drop a reply that was not read before a new message: -410 (IEEE 488.2 6.3.2.3)."""
        if not self._keeps_one or not (self._output or self._later):
            return False
        self.interrupt()
        return True

    def interrupt(self) -> None:
        """A response was not read to its end: it is lost, with -410."""
        self._output.clear()
        self._later.clear()
        self.interruptions += 1
        self.machine.log_error(Refused(-410))

    # --- replies out --------------------------------------------------------------------------

    def deliver(self, command: str, response: bytes, tag: int = 0) -> None:
        """Called by the machine with a whole response message."""
        if self.closed:
            return
        if self._keeps_one and (self._splitter.partial or self.machine.waiting(self)):
            self.interrupt()
            return
        filtered = self.machine.reply_filter(command, response) if self.machine.reply_filter else None
        if filtered is None:
            filtered = [Part(response)]
        # Bytes of one conversation never overtake each other, however late the first ones are.
        at = max([self.machine.now_s, *(due_s for due_s, *_ in self._later)])
        for left, part in zip(range(len(filtered) - 1, -1, -1), filtered, strict=True):
            at += part.delay_s
            self._serial_number += 1
            last = left == 0 and not part.then
            heapq.heappush(self._later, (at, self._serial_number, part, last, tag))
        self.mature()

    def mature(self) -> None:
        """Move delayed parts whose time has come to the output."""
        while self._later and self._later[0][0] <= self.machine.now_s:
            _, _, part, end, tag = heapq.heappop(self._later)
            if self._stalled:
                continue
            if part.data:
                self._output.append(_Out(bytearray(part.data), end, tag))
            if part.then == "reset":
                self.broken = True
            elif part.then in _SILENT:
                self._stalled, self._wedged = True, part.then == "wedge"

    @property
    def wake_s(self) -> float | None:
        """When the next delayed part is due."""
        return self._later[0][0] if self._later else None

    @property
    def readable(self) -> bool:
        """Whether bytes are ready (the MAV bit)."""
        return bool(self._output)

    @property
    def signals(self) -> int:
        """Grows with all that a server has to send by itself besides replies."""
        return self.requests + self.interruptions

    @property
    def busy(self) -> bool:
        """Whether a message of this port is executing, queued or being answered with delay."""
        return bool(self._later) or self._stalled or self.machine.waiting(self)

    def take(self) -> bytes:
        """Everything that is ready, of a stream."""
        out = b"".join(one.data for one in self._output)
        self._output.clear()
        return out

    def take_message(self) -> tuple[bytes, bool, int] | None:
        """What is next of a response message, whether that is its end, and the tag of its query; or None."""
        if not self._output:
            return None
        out = self._output.popleft()
        return bytes(out.data), out.end, out.tag

    def read(self, count: int = 1 << 30, stop: int | None = None) -> tuple[bytes, bool]:
        """Read up to `count` bytes of a response, or up to and with the byte `stop`; (bytes, end).

        Nothing asked and nothing to say: (b"", False) and -420, once until the next write. An answer
        that is still being worked on: (b"", False) without an error.
        """
        if not self._output:
            if not self.busy and not self._unterminated:
                self._unterminated = True
                self.machine.log_error(Refused(-420))
                self._splitter.reset()
            return b"", False
        out = self._output[0]
        if stop is not None:
            found = out.data.find(bytes((stop,)), 0, count)
            count = found + 1 if found >= 0 else count
        data = bytes(out.data[:count])
        if len(data) == len(out.data):
            self._output.popleft()
            return data, out.end
        del out.data[:count]
        return data, False

    # --- control ------------------------------------------------------------------------------

    def clear(self) -> None:
        """Device clear: forget input and output, abort the command that blocks the instrument."""
        self._drop()
        self.machine.abort_job()
        self.machine.run()

    def close(self) -> None:
        """The link is gone; a command of it that still blocks is given up, what it started goes on."""
        self.closed = True
        self._drop()
        self.machine.forget(self)

    def _drop(self) -> None:
        self._splitter.reset()
        self._output.clear()
        self._later.clear()
        self.unread = False
        self._stalled, self._unterminated = self._wedged, False
        self.machine.drop_inbox(self)

    def reconnect(self) -> None:
        """The adapter in front has a new client: a wedge is over."""
        if self._wedged:
            self._wedged = False
            self._drop()

    def serial_poll(self) -> int:
        """Serial poll: the status byte with MAV and the request for service of this port, which is then over."""
        return self.machine.serial_poll(self)

    def trigger(self) -> None:
        """Group execute trigger."""
        self.machine.submit(self, b"*TRG")
        self.machine.run()
