"""The bench's time: this computer's, or that of a simulated bench whose world stands still until it is moved.

Whoever waits at the bench takes a Clock as an argument. Deadlines of links stay on the computer's own time: they
guard against what hangs. UTC is always the computer's: it says when a record was made.
"""

from __future__ import annotations

import json
import mmap
import select
import socket
import struct
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Protocol

from instruments.errors import BenchError, ConfigError

_FLOAT64_BYTES = 8


class Clock(Protocol):
    """Where the bench takes its time from."""

    def monotonic(self) -> float:
        """Give seconds that never go back."""

    def time(self) -> float:
        """Give UTC in seconds since 1970."""

    def sleep(self, seconds: float) -> None:
        """Let that many seconds pass."""

    def wait_readable(self, descriptor: int, timeout_s: float) -> bool:
        """Wait until a descriptor can be read; False when that many seconds have passed before."""


class WallClock:
    """This computer's clock."""

    def monotonic(self) -> float:
        return time.monotonic()

    def time(self) -> float:
        return time.time()

    def sleep(self, seconds: float) -> None:
        time.sleep(max(0.0, seconds))

    def wait_readable(self, descriptor: int, timeout_s: float) -> bool:
        return bool(select.select([descriptor], [], [], max(0.0, timeout_s))[0])


class VirtualClock:
    """The clock of a simulated bench in virtual time, moved through its control socket.

    Nothing passes by itself: sleeping moves the world on, and waiting for a descriptor moves it to its next event. A
    request says what was sent to the instruments and to the board before it, so that the world takes that in first:
    the same requests then give the same world, whatever the computer does meanwhile. What time it is stands in a file
    of eight bytes, which the simulated bench writes. Raises BenchError when it does not answer, ConfigError when it
    does not run. Not for several threads at once.
    """

    #: Longest that the simulated bench may take for one answer, in this computer's seconds.
    PATIENCE_S = 60.0

    def __init__(self, control: Path, now: Path) -> None:
        self._path = control
        try:
            with now.open("rb") as file:
                # Item access of a cast view moves 8 bytes at once: the time is never seen half written.
                self._now = memoryview(mmap.mmap(file.fileno(), _FLOAT64_BYTES, access=mmap.ACCESS_READ)).cast("d")
        except (OSError, ValueError) as error:
            raise ConfigError(f"{now.parent}: no simulated bench in virtual time runs there ({error})") from error
        self._socket: socket.socket | None = None
        self._received = b""
        self._sent: dict[str, Callable[[], int]] = {}
        self.board_messages = self.board_bytes = self._board_links = 0

    def follow(self, instrument: str, messages_sent: Callable[[], int]) -> None:
        """Count the messages sent to an instrument as what the world must have taken in before it moves."""
        self._sent[instrument] = messages_sent

    def board_connected(self) -> None:
        """Begin to count messages sent to the board and bytes heard from it; whoever talks to it counts them here."""
        self._board_links += 1
        self.board_messages = self.board_bytes = 0

    board_left = board_connected

    def monotonic(self) -> float:
        return float(self._now[0])

    def time(self) -> float:
        return time.time()

    def sleep(self, seconds: float) -> None:
        self._ask("sleep", max(0.0, seconds))

    def move_to(self, monotonic_s: float) -> None:
        """Move the world on to a time, such as the one at which an earlier sweep was cut short; never back."""
        self._ask("move_to", monotonic_s)

    def wait_readable(self, descriptor: int, timeout_s: float) -> bool:
        until_s = self.monotonic() + max(0.0, timeout_s)
        while True:
            if select.select([descriptor], [], [], 0.0)[0]:
                return True
            answer = self._ask("run_on", until_s)
            if answer["said"]:
                # It is on its way through the computer, which takes no time in the world.
                return bool(select.select([descriptor], [], [], self.PATIENCE_S)[0])
            if answer["now_s"] >= until_s:
                return bool(select.select([descriptor], [], [], 0.0)[0])

    def close(self) -> None:
        """Let go of the control socket; may be called again. What time it was can still be told."""
        connection, self._socket = self._socket, None
        if connection is not None:
            connection.close()

    def _ask(self, what: str, seconds: float = 0.0) -> dict[str, Any]:
        request = {
            "clock": what,
            "s": seconds,
            "sent": {name: count() for name, count in self._sent.items()},
            "board": (self._board_links, self.board_messages, self.board_bytes),
        }
        try:
            connection = self._connect()
            connection.sendall(json.dumps(request).encode("ascii") + b"\n")
            answer = self._line(connection)
        except (OSError, ValueError) as error:
            self.close()
            raise BenchError(f"the simulated bench does not answer about its time: {error}") from error
        except BaseException:
            self.close()  # interrupted: the answer must not be taken for that to the next request
            raise
        if "error" in answer:
            raise BenchError(f"the simulated bench does not move its time: {answer['error']}")
        return answer

    def _connect(self) -> socket.socket:
        if self._socket is None:
            connection = socket.socket(socket.AF_UNIX)
            try:
                # By the kernel: Python's own time-out would ask twice for each answer.
                limit = struct.pack("ll", int(self.PATIENCE_S), 0)
                connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, limit)
                connection.connect(str(self._path))
            except BaseException:
                connection.close()
                raise
            self._socket, self._received = connection, b""
        return self._socket

    def _line(self, connection: socket.socket) -> dict[str, Any]:
        while b"\n" not in self._received:
            data = connection.recv(65536)
            if not data:
                raise ConnectionError("it has ended")
            self._received += data
        line, _, self._received = self._received.partition(b"\n")
        found: dict[str, Any] = json.loads(line)
        return found
