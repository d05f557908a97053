"""Time of a simulated bench on which nothing real runs: it stands still until somebody moves it.

The bench moves it through requests on the control socket (`truth`); an instrument whose answer takes time moves it
by that, since nobody else does anything meanwhile. Before time moves, everything that the bench had sent by then is
taken in: each request says how much that was. So the same requests give the same world, however threads and sockets
are scheduled. The board is reached through a Unix socket of its own.
"""

from __future__ import annotations

import contextlib
import logging
import mmap
import socket
import struct
import threading
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from instruments.simulated.dut import SimulatedBoard

log = logging.getLogger(__name__)

START_S = 1000.0
"""Where the clock of every bench in virtual time begins."""

BOARD_NAME = "board.sock"
NOW_NAME = "now.f64"
"""A file that holds the time, one float64 of this machine."""

PATIENCE_S = 1.0
"""How long a message that was sent may take to arrive; one that a fault swallowed never does."""


class VirtualTime:
    """The clock and the board of one bench; hold `changed` while touching either.

    `heard` tells for each instrument how many messages it has taken in.
    """

    def __init__(self, board: SimulatedBoard, lock: threading.RLock) -> None:
        self.board, self.now_s = board, START_S
        self.heard: Mapping[str, Callable[[], int]] = {}
        self.links = 0
        """How often the bench has connected to the board or left it."""
        self.moved: Callable[[], None] = lambda: None
        """Told when time has moved and when the board was spoken to."""
        self._lock = lock
        self._arrived, self.spoke = threading.Condition(lock), threading.Condition(lock)
        self._lost: dict[str, int] = {}
        self._shown: memoryview[float] | None = None
        self._path: Path | None = None

    def show(self, folder: Path) -> None:
        """Keep the time in a file from now on."""
        self._path = path = folder / NOW_NAME
        path.write_bytes(struct.pack("=d", self.now_s))
        with path.open("r+b") as file:
            # Item access of a cast view moves 8 bytes at once: nobody reads a time that is half written.
            self._shown = memoryview(mmap.mmap(file.fileno(), 8)).cast("d")

    def hide(self) -> None:
        """Take the file away again; whoever has it open still reads what time it was."""
        if self._path is not None:
            self._path.unlink(missing_ok=True)

    def clock(self) -> float:
        """Seconds, standing still."""
        return self.now_s

    def move_to(self, t_s: float) -> None:
        """Let everything happen up to t_s."""
        self.now_s = max(self.now_s, t_s)
        if self._shown is not None:
            self._shown[0] = self.now_s
        before = self.board.said
        self.board.advance(self.now_s)
        if self.board.said != before:
            self.spoke.notify_all()
        self.moved()

    def arrived(self) -> None:
        """A message of the bench was taken in."""
        self._arrived.notify_all()

    def request(self, request: Mapping[str, Any]) -> dict[str, Any]:
        """Answer one request of the bench: now, sleep, move_to or run_on, with a number of seconds.

        `run_on` stops where the board says something; what it has said and the bench has not read stops it at once.
        Raises ValueError for what is no request.
        """
        what, seconds = request["clock"], float(request["s"])
        links, sent, heard = (int(n) for n in request["board"])
        wanted = {name: int(n) for name, n in request["sent"].items()}
        if what not in ("now", "sleep", "move_to", "run_on"):
            raise ValueError(f"there is no clock request {what!r}")
        with self._lock:
            if not self._arrived.wait_for(lambda: self._level(wanted, links, sent), PATIENCE_S):
                self._give_up(wanted, links, sent)
            said = self.board.said > heard and self.links == links
            if what == "sleep":
                self.move_to(self.now_s + seconds)
            elif what == "move_to":
                self.move_to(seconds)
            elif what == "run_on" and not said:
                event_s = self.board.next_s
                self.move_to(seconds if event_s is None else min(event_s, seconds))
                said = self.board.said > heard
            return {"now_s": self.now_s, "said": said}

    def _level(self, wanted: Mapping[str, int], links: int, sent: int) -> bool:
        """Whether all has arrived that was sent."""
        return (
            self.links >= links
            and (self.links > links or self.board.taken + self._lost.get("board", 0) >= sent)
            and all(self.heard[name]() + self._lost.get(name, 0) >= n for name, n in wanted.items())
        )

    def _give_up(self, wanted: Mapping[str, int], links: int, sent: int) -> None:
        """Wait no more for messages that did not arrive."""
        log.warning("not everything that was sent arrived: %s, board %d", dict(wanted), sent)
        self.links = max(self.links, links)
        self._lost["board"] = max(self._lost.get("board", 0), sent - self.board.taken)
        for name, n in wanted.items():
            self._lost[name] = max(self._lost.get(name, 0), n - self.heard[name]())


class BoardServer:
    """The board behind a Unix socket in the state folder, for one bench at a time."""

    def __init__(self, folder: Path, time: VirtualTime, lock: threading.RLock) -> None:
        self._path, self._time, self._lock = folder / BOARD_NAME, time, lock
        self._path.unlink(missing_ok=True)
        self._listening = socket.socket(socket.AF_UNIX)
        self._listening.bind(str(self._path))
        self._listening.listen(4)
        self._connection: socket.socket | None = None
        self._stopping = False
        self._thread = threading.Thread(target=self._serve, name="board", daemon=True)

    def start(self) -> None:
        """Begin to accept."""
        self._thread.start()

    def stop(self) -> None:
        """Stop and remove the socket; may be called again."""
        self._stopping = True
        for one in (self._listening, self._connection):
            if one is not None:
                with contextlib.suppress(OSError):
                    one.shutdown(socket.SHUT_RDWR)
        if self._thread.is_alive():
            self._thread.join(5.0)
        self._listening.close()
        self._path.unlink(missing_ok=True)

    def _serve(self) -> None:
        while not self._stopping:
            try:
                connection, _ = self._listening.accept()
            except OSError:
                return
            with connection:
                self._connection = connection
                self._talk(connection)
                self._connection = None

    def _talk(self, connection: socket.socket) -> None:
        board, time = self._time.board, self._time
        over = threading.Event()
        with self._lock:
            time.links += 1
            time.arrived()
        sender = threading.Thread(target=self._send, args=(connection, over), name="board-sender", daemon=True)
        sender.start()
        try:
            going = True
            while going and (data := connection.recv(65536)):
                with self._lock:
                    going = board.feed(data, time.now_s)
                    time.moved()
                    time.arrived()
                    if board.said:
                        time.spoke.notify_all()
        except OSError as error:
            log.debug("the board's connection ended: %s", error)
        finally:
            with self._lock:
                over.set()
                time.spoke.notify_all()
            with contextlib.suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)
            sender.join()
            with self._lock:
                board.hang_up(time.now_s)
                time.moved()
                time.links += 1
                time.arrived()

    def _send(self, connection: socket.socket, over: threading.Event) -> None:
        """Thread: what the board says, when it says it."""
        while True:
            with self._lock:
                while not (data := self._time.board.take()):
                    if over.is_set():
                        return
                    self._time.spoke.wait()
            try:
                connection.sendall(data)
            except OSError:
                return
