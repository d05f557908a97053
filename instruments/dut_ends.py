"""Where an agent answers: a process with pipes, or the board of a simulated bench in virtual time.

Bytes only; `dut_channel` makes a conversation of them.
"""

from __future__ import annotations

import contextlib
import logging
import os
import shlex
import signal
import socket
import subprocess
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Protocol

from instruments.clock import VirtualClock
from instruments.errors import DutError

_log = logging.getLogger(__name__)

_STDERR_BYTES = 8192
_STDERR_LINES = 10


class End(Protocol):
    """What a conversation needs of the agent's end. `name` stands in errors; OSError where the end has gone."""

    name: str

    def fileno(self) -> int:
        """Descriptor that becomes readable when the agent says something."""

    def send(self, data: bytes) -> None:
        """Send all bytes."""

    def read(self) -> bytes:
        """Give what has come; b"" at the end."""

    @property
    def alive(self) -> bool:
        """Whether the agent runs, as far as is known."""

    def account(self) -> str:
        """Say for an error how the agent fares and what it last said aside."""

    @property
    def killed(self) -> bool:
        """Whether it was ended by SIGKILL, which no program can prevent."""

    def await_end(self) -> None:
        """Wait a moment for an agent that is ending, so that `account` can say how."""

    def close(self, goodbye: bytes, grace_s: float) -> None:
        """End the agent: a last message, then whatever is needed."""


class ProcessEnd:
    """A command's standard input and output. Raises DutError when it cannot be started."""

    def __init__(self, command: Sequence[str], env: Mapping[str, str] | None = None) -> None:
        self.name = shlex.join(command)
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
            raise DutError(f"cannot start the DUT agent `{self.name}`: {error}") from error
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._stdin, self._stdout = self._process.stdin, self._process.stdout

    def fileno(self) -> int:
        return self._stdout.fileno()

    def send(self, data: bytes) -> None:
        self._stdin.write(data)

    def read(self) -> bytes:
        return os.read(self._stdout.fileno(), 1 << 16)

    @property
    def alive(self) -> bool:
        return self._process.poll() is None

    @property
    def killed(self) -> bool:
        # Shells and ssh tell a signal as 128 more than its number.
        return self._process.poll() in (-signal.SIGKILL, 128 + signal.SIGKILL)

    def account(self) -> str:
        code = self._process.poll()
        if code is None:
            state = "still running"
        elif code < 0:
            state = f"killed by {signal.Signals(-code).name}"
        else:
            state = f"exit code {code}"
        lines = self._stderr_tail()
        tail = "\n  ".join(["its standard error ends:", *lines]) if lines else "nothing on its standard error"
        return f"command `{self.name}`, {state}, {tail}"

    def await_end(self) -> None:
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(1.0)

    def close(self, goodbye: bytes, grace_s: float) -> None:
        with contextlib.suppress(OSError):
            self._stdin.write(goodbye)
        for pipe in (self._stdin, self._stdout):
            with contextlib.suppress(OSError):
                pipe.close()
        try:
            for sent in (None, signal.SIGTERM, signal.SIGKILL):
                if sent is not None:
                    _log.warning("the DUT agent `%s` does not end by itself: %s", self.name, sent.name)
                    with contextlib.suppress(ProcessLookupError):
                        os.killpg(self._process.pid, sent)
                with contextlib.suppress(subprocess.TimeoutExpired):
                    self._process.wait(grace_s)
                    break
        finally:
            self._stderr.close()

    def _stderr_tail(self) -> list[str]:
        descriptor = self._stderr.fileno()
        size = os.fstat(descriptor).st_size
        # pread: the file's position is shared with the agent, and moving it would make it write elsewhere.
        data = os.pread(descriptor, _STDERR_BYTES, max(0, size - _STDERR_BYTES))
        return data.decode("utf-8", "replace").splitlines()[-_STDERR_LINES:]


class BoardEnd:
    """The simulated board behind its Unix socket; keeps the virtual clock told of what was sent and heard."""

    def __init__(self, path: Path, clock: VirtualClock) -> None:
        self.name = "the simulated board"
        self._clock = clock
        self._over = False
        self._socket = socket.socket(socket.AF_UNIX)
        try:
            self._socket.connect(str(path))
        except OSError as error:
            self._socket.close()
            raise DutError(f"the simulated board cannot be reached: {error}") from error
        clock.board_connected()

    def fileno(self) -> int:
        return self._socket.fileno()

    def send(self, data: bytes) -> None:
        self._clock.board_messages += 1
        self._socket.sendall(data)

    def read(self) -> bytes:
        data = self._socket.recv(1 << 16)
        self._clock.board_bytes += len(data)
        self._over = self._over or not data
        return data

    @property
    def alive(self) -> bool:
        return not self._over

    @property
    def killed(self) -> bool:
        return False

    def account(self) -> str:
        return f"{self.name} {'has ended' if self._over else 'still runs'}"

    def await_end(self) -> None:
        pass

    def close(self, goodbye: bytes, grace_s: float) -> None:
        with contextlib.suppress(OSError):
            self._socket.sendall(goodbye)
        self._socket.close()
        self._clock.board_left()
