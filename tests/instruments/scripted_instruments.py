"""Small stand-ins for instruments: a line server on loopback, and a link in memory."""

from __future__ import annotations

import select
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from instruments.link import Link
from instruments.scpi import split_outside_quotes

Answer = bytes | list[bytes | float | str] | None
SPOKEN_TO = "spoken to"
"""In an answer: a pause until the client says more."""


class LineServer:
    """Serves ``handle(line) -> bytes | None`` on loopback; a list of bytes, seconds and SPOKEN_TO is sent with pauses.

    ``handle`` may raise ConnectionError to close the connection.
    """

    def __init__(self, handle: Callable[[bytes], Answer]) -> None:
        self.handle = handle
        self.received: list[bytes] = []
        self.answered = 0
        self.connections = 0
        self._socket = socket.create_server(("127.0.0.1", 0))
        self.port = self._socket.getsockname()[1]
        self._stop = threading.Event()
        self._threads = [threading.Thread(target=self._accept)]
        self._threads[0].start()

    @property
    def resource(self) -> str:
        return f"TCPIP::127.0.0.1::{self.port}::SOCKET"

    def _accept(self) -> None:
        self._socket.settimeout(0.02)
        while not self._stop.is_set():
            try:
                connection, _ = self._socket.accept()
            except TimeoutError:
                continue
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            self.connections += 1
            thread = threading.Thread(target=self._serve, args=(connection,))
            self._threads.append(thread)
            thread.start()

    def _serve(self, connection: socket.socket) -> None:
        pending = b""
        connection.settimeout(0.02)
        with connection:
            while not self._stop.is_set():
                try:
                    data = connection.recv(65536)
                except TimeoutError:
                    continue
                except OSError:
                    return
                if not data:
                    return
                pending += data
                while b"\n" in pending:
                    line, _, pending = pending.partition(b"\n")
                    self.received.append(line)
                    try:
                        answer = self.handle(line)
                        for part in [answer] if isinstance(answer, bytes) else answer or []:
                            if isinstance(part, float):
                                self._stop.wait(part)
                            elif isinstance(part, str):
                                while not (pending or self._stop.is_set()):
                                    if select.select([connection], [], [], 0.02)[0]:
                                        break
                            else:
                                connection.sendall(part)
                    except OSError:
                        return
                    self.answered += 1

    def await_silence(self) -> None:
        """Wait until everything that was received has its whole answer."""
        while self.answered < len(self.received) and self._threads[-1].is_alive():
            time.sleep(0.0005)

    def close(self) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join()
        self._socket.close()


@contextmanager
def serving(handle: Callable[[bytes], Answer]) -> Iterator[LineServer]:
    server = LineServer(handle)
    try:
        yield server
    finally:
        server.close()


def await_input(link: Link) -> None:
    """Wait until something that nobody has read has come on a link over a socket."""
    session = link._port()._stream._sock  # type: ignore[attr-defined]
    assert select.select([session], [], [], 20.0)[0]


def standard(line: bytes) -> bytes | None:
    """Answer what recovery asks of every instrument."""
    text = line.decode("ascii", "replace").strip()
    if text.startswith("*ESE?"):
        return b";".join([b"+0"] * len(text.split(";"))) + b"\n"
    if text.upper().startswith((":SYST:ERR?", ":SYSTEM:ERROR?")):
        return b'+0,"No error"\n'
    if text == "*IDN?":
        return b"MAKER,MODEL,SERIAL,1.0\n"
    return None


class FakeLink:
    """A link in memory over a store of settings: ``:A:B value`` sets, ``:A:B?`` reads.

    ``answers`` overrides a query with a text, a list of texts used up one by one (the last one stays),
    or a callable. ``on_command`` sees every command and may change the store.
    """

    def __init__(self, resource: str = "TCPIP::scope::5025::SOCKET", name: str = "scope") -> None:
        self.name = name
        self.resource = resource
        self.store: dict[str, str] = {}
        self.answers: dict[str, object] = {}
        self.blocks: dict[str, Callable[[], bytes]] = {}
        self.errors: list[str] = []
        self.sent: list[str] = []
        self.raw: list[bytes] = []
        self.on_command: Callable[[str, str], None] = lambda header, value: None
        self.fail: list[Exception | None] = []
        self.cleared = self.reopened = 0
        self.local = False
        self.closed = False

    def _one(self, part: str) -> str | None:
        part = part.strip()
        header, _, value = part.partition(" ")
        if header.endswith("?"):
            if part in self.answers:
                answer = self.answers[part]
                if isinstance(answer, list):
                    return str(answer.pop(0) if len(answer) > 1 else answer[0])
                return str(answer() if callable(answer) else answer)
            if header == ":SYSTem:ERRor?":
                return self.errors.pop(0) if self.errors else '+0,"No error"'
            return self.store.get(header[:-1], "0")
        self.on_command(header, value)
        if value:
            self.store[header] = value
        return None

    def _message(self, text: str) -> list[str]:
        if self.fail:
            failure = self.fail.pop(0)
            if failure is not None:
                raise failure
        self.sent.append(text)
        replies = [self._one(part) for part in split_outside_quotes(text, ";")]
        return [reply for reply in replies if reply is not None]

    def write(self, command: str | bytes, deadline_s: float | None = None) -> None:
        if isinstance(command, bytes):
            self.raw.append(command)
        else:
            assert not self._message(command), f"unread answer to {command}"

    def query(self, command: str, deadline_s: float | None = None) -> str:
        replies = self._message(command)
        assert replies, f"no answer to {command}"
        return ";".join(replies)

    def query_block(self, command: str, deadline_s: float | None = None) -> bytes:
        self.sent.append(command)
        *settings, query = split_outside_quotes(command, ";")
        for part in settings:
            self._one(part)
        return self.blocks[query]()

    def clear(self) -> None:
        self.cleared += 1

    def reopen(self) -> None:
        self.reopened += 1

    def to_local(self) -> bool:
        self.local = True
        return True

    @contextmanager
    def transaction(self) -> Iterator[None]:
        yield

    def close(self) -> None:
        self.closed = True
