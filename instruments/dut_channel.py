"""A started agent as a conversation: messages with deadlines, and errors that say how the agent ended.

Knows `dut_protocol` and an end that carries bytes (`dut_ends`); what the messages mean is `dut`'s business.
"""

from __future__ import annotations

import contextlib
import logging
from collections import deque

from instruments import dut_protocol
from instruments.clock import Clock
from instruments.dut_ends import End
from instruments.dut_protocol import Garbage, Message
from instruments.errors import DutError

_log = logging.getLogger(__name__)

_MAX_BANNER_BYTES = 65536


class DutChannel:
    """Talks to the agent at an end; deadlines are seconds of `clock`. Raises DutError; once out of step, always."""

    def __init__(self, end: End, clock: Clock) -> None:
        self._end, self._clock = end, clock
        self._talk = dut_protocol.Conversation("bench")
        self._events: deque[dut_protocol.Event] = deque()
        self._banner_bytes = 0
        self._greeted = False
        self._broken: str | None = None
        self._closed = False

    @property
    def alive(self) -> bool:
        """Whether the process runs and the conversation can go on."""
        return not self._closed and self._broken is None and self._end.alive

    def send(self, message: Message) -> None:
        """Send `message`; raises DutError when it does not fit the conversation or the agent does not take it."""
        self._check_usable()
        try:
            data = self._talk.send(message)
        except dut_protocol.DutProtocolError as error:
            raise self.error(f"cannot be told {message.get('type')!r}: {error}") from error
        try:
            self._end.send(data)
        except OSError as error:
            raise self._gone(f"did not take {message['type']!r} ({error})") from error

    def expect(self, types: set[str], deadline_s: float) -> Message:
        """Return the next message, which must be of `types`, within `deadline_s`; else DutError."""
        self._check_usable()
        wanted = "/".join(sorted(types))
        message = self._next_message(self._clock.monotonic() + deadline_s, wanted, deadline_s)
        try:
            self._talk.accept(message)
        except dut_protocol.DutProtocolError as error:
            raise self.error(f"was to say {wanted!r}: {error}", broken=True) from error
        if message["type"] == "error":
            reported = self.error(f"reports an error: {message['reason']}")
            reported.code = str(message.get("code", ""))
            raise reported
        if message["type"] not in types:
            raise self.error(f"was to say {wanted!r} and said {message['type']!r}", broken=True)
        self._greeted = True
        return message

    def close(self, grace_s: float = 2.0) -> None:
        """End the agent: a goodbye and closed pipes first, then signals. May be called again."""
        if self._closed:
            return
        self._closed = True
        goodbye = b""
        with contextlib.suppress(dut_protocol.DutProtocolError):
            goodbye = self._talk.send({"type": "bye"})
        self._end.close(goodbye, grace_s)

    def error(self, what: str, broken: bool = False) -> DutError:
        """Compose an error: `what`, the command, how it ended, the end of its standard error."""
        if broken and self._broken is None:
            self._broken = what
        error = DutError(f"DUT agent {what}; {self._end.account()}")
        error.code = "killed" if self._end.killed else ""
        return error

    def _check_usable(self) -> None:
        if self._closed:
            raise DutError(f"the DUT agent `{self._end.name}` was closed: start it again")
        if self._broken is not None:
            raise self.error(f"cannot go on, it {self._broken}; close it and start it again")

    def _next_message(self, until: float, wanted: str, deadline_s: float) -> Message:
        while True:
            while self._events:
                event = self._events.popleft()
                if not isinstance(event, Garbage):
                    return event
                self._judge(event)
            if not self._clock.wait_readable(self._end.fileno(), until - self._clock.monotonic()):
                raise self.error(f"said no {wanted!r} within {deadline_s:g} s", broken=True)
            try:
                data = self._end.read()
            except OSError as error:
                raise self._gone(f"cannot be heard ({error}) where {wanted!r} was due") from error
            if not data:
                raise self._gone(f"ended where {wanted!r} was due")
            self._events.extend(self._talk.feed(data))

    def _judge(self, garbage: Garbage) -> None:
        """Let a login banner pass before the agent's hello; afterwards stray bytes end the conversation."""
        self._banner_bytes += len(garbage.data)
        if self._greeted or self._banner_bytes > _MAX_BANNER_BYTES:
            raise self.error(f"sent bytes that are no message ({garbage.reason}): {garbage.data[:60]!r}", broken=True)
        _log.warning("before the DUT agent's hello came %r", garbage.data[:200])

    def _gone(self, what: str) -> DutError:
        self._end.await_end()
        return self.error(what, broken=True)
