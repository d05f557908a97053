"""A started agent as a pair of pipes: messages with deadlines, and errors that say how the agent ended.

Knows processes and `dut_protocol`; what the messages mean is `dut`'s business.
"""

from __future__ import annotations

import contextlib
import logging
import os
import select
import shlex
import signal
import subprocess
import tempfile
import time
from collections import deque
from collections.abc import Mapping, Sequence

from instruments import dut_protocol
from instruments.dut_protocol import Garbage, Message
from instruments.errors import DutError

_log = logging.getLogger(__name__)

_MAX_BANNER_BYTES = 65536
_STDERR_BYTES = 8192
_STDERR_LINES = 10


class DutChannel:
    """Starts `command` and talks to it. Raises DutError; once out of step, every further call does."""

    def __init__(self, command: Sequence[str], env: Mapping[str, str] | None = None) -> None:
        self.command = shlex.join(command)
        self._talk = dut_protocol.Conversation("bench")
        self._events: deque[dut_protocol.Event] = deque()
        self._banner_bytes = 0
        self._greeted = False
        self._broken: str | None = None
        self._closed = False
        # A file and not a pipe: nobody need read it while a run is measured, and it cannot block the agent.
        self._stderr = tempfile.TemporaryFile()  # noqa: SIM115 - closed by close()
        try:
            self._process = subprocess.Popen(
                list(command),
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=self._stderr,
                bufsize=0,
                env=None if env is None else {**os.environ, **env},
                start_new_session=True,
            )
        except OSError as error:
            self._stderr.close()
            raise DutError(f"cannot start the DUT agent `{self.command}`: {error}") from error
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._stdin, self._stdout = self._process.stdin, self._process.stdout

    @property
    def alive(self) -> bool:
        """Whether the process runs and the conversation can go on."""
        return not self._closed and self._broken is None and self._process.poll() is None

    def send(self, message: Message) -> None:
        """Send `message`; raises DutError when it does not fit the conversation or the agent does not take it."""
        self._check_usable()
        try:
            data = self._talk.send(message)
        except dut_protocol.DutProtocolError as error:
            raise self.error(f"cannot be told {message.get('type')!r}: {error}") from error
        try:
            self._stdin.write(data)
        except OSError as error:
            raise self._gone(f"did not take {message['type']!r} ({error})") from error

    def expect(self, types: set[str], deadline_s: float) -> Message:
        """Return the next message, which must be of `types`, within `deadline_s`; else DutError."""
        self._check_usable()
        wanted = "/".join(sorted(types))
        message = self._next_message(time.monotonic() + deadline_s, wanted, deadline_s)
        try:
            self._talk.accept(message)
        except dut_protocol.DutProtocolError as error:
            raise self.error(f"was to say {wanted!r}: {error}", broken=True) from error
        if message["type"] == "error":
            raise self.error(f"reports an error: {message['reason']}")
        if message["type"] not in types:
            raise self.error(f"was to say {wanted!r} and said {message['type']!r}", broken=True)
        self._greeted = True
        return message

    def close(self, grace_s: float = 2.0) -> None:
        """End the agent: a goodbye and closed pipes first, then signals. May be called again."""
        if self._closed:
            return
        self._closed = True
        with contextlib.suppress(OSError, dut_protocol.DutProtocolError):
            self._stdin.write(self._talk.send({"type": "bye"}))
        for pipe in (self._stdin, self._stdout):
            with contextlib.suppress(OSError):
                pipe.close()
        try:
            for sent in (None, signal.SIGTERM, signal.SIGKILL):
                if sent is not None:
                    _log.warning("the DUT agent `%s` does not end by itself: %s", self.command, sent.name)
                    with contextlib.suppress(ProcessLookupError):
                        os.killpg(self._process.pid, sent)
                with contextlib.suppress(subprocess.TimeoutExpired):
                    self._process.wait(grace_s)
                    break
        finally:
            self._stderr.close()

    def error(self, what: str, broken: bool = False) -> DutError:
        """Compose an error: `what`, the command, how it ended, the end of its standard error."""
        if broken and self._broken is None:
            self._broken = what
        code = self._process.poll()
        if code is None:
            state = "still running"
        elif code < 0:
            state = f"killed by {signal.Signals(-code).name}"
        else:
            state = f"exit code {code}"
        lines = self._stderr_tail()
        tail = "\n  ".join(["its standard error ends:", *lines]) if lines else "nothing on its standard error"
        return DutError(f"DUT agent {what}; command `{self.command}`, {state}, {tail}")

    def _check_usable(self) -> None:
        if self._closed:
            raise DutError(f"the DUT agent `{self.command}` was closed: start it again")
        if self._broken is not None:
            raise self.error(f"cannot go on, it {self._broken}; close it and start it again")

    def _next_message(self, until: float, wanted: str, deadline_s: float) -> Message:
        while True:
            while self._events:
                event = self._events.popleft()
                if not isinstance(event, Garbage):
                    return event
                self._judge(event)
            left = until - time.monotonic()
            if not select.select([self._stdout], [], [], max(0.0, left))[0]:
                raise self.error(f"said no {wanted!r} within {deadline_s:g} s", broken=True)
            data = os.read(self._stdout.fileno(), 1 << 16)
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
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(1.0)
        return self.error(what, broken=True)

    def _stderr_tail(self) -> list[str]:
        descriptor = self._stderr.fileno()
        size = os.fstat(descriptor).st_size
        # pread: the file's position is shared with the agent, and moving it would make it write elsewhere.
        data = os.pread(descriptor, _STDERR_BYTES, max(0, size - _STDERR_BYTES))
        return data.decode("utf-8", "replace").splitlines()[-_STDERR_LINES:]
