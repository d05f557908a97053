"""Thin edges of the simulated bench: machines on raw sockets, Prologix TCP and pseudo-terminals; loopback only.

All machines of a bench share one lock (they share one world). Each connection has its own port of the
machine and two threads: one feeds what arrives, one sends what becomes ready later. VXI-11 and HiSLIP are
in modules of their own on the same `Served` and `Listener`.
"""

from __future__ import annotations

import contextlib
import logging
import os
import select
import socket
import struct
import threading
import time
import tty
from collections.abc import Callable, Sequence
from typing import Protocol

log = logging.getLogger(__name__)

_YIELD_S = 50e-6
"""How long others have the lock before time that stands still is moved."""

LOOPBACK = ("127.0.0.1", "::1", "localhost")


def check_loopback(host: str) -> None:
    """Refuse any other address; ValueError."""
    if host not in LOOPBACK:
        raise ValueError(f"simulated instruments are served on loopback only, not on {host!r}")


class StreamPort(Protocol):
    """A conversation of a machine or of the Prologix adapter."""

    broken: bool

    def write(self, data: bytes, end: bool = ...) -> None: ...

    def take(self) -> bytes: ...

    def close(self) -> None: ...

    @property
    def readable(self) -> bool: ...

    @property
    def signals(self) -> int: ...


class Engine(Protocol):
    """A machine or adapter: time and ports."""

    def advance(self, now_s: float) -> None: ...

    @property
    def wake_s(self) -> float | None: ...

    @property
    def ports(self) -> Sequence[StreamPort]: ...


class Mover(Protocol):
    """Time that stands still until it is moved (`virtual_time`)."""

    def move_to(self, t_s: float) -> None: ...

    def arrived(self) -> None: ...


class Served:
    """A machine with its lock and clock. Hold `changed` while touching the machine or a port.

    With `mover` nothing but this machine does anything while it works: time moves on to what it waits for.
    """

    def __init__(
        self,
        engine: Engine,
        changed: threading.Condition | None = None,
        clock: Callable[[], float] = time.monotonic,
        mover: Mover | None = None,
    ) -> None:
        self.engine, self.clock, self._mover = engine, clock, mover
        self.changed = changed or threading.Condition()
        self._announced_s: float | None = None
        self._signals = 0

    def advance(self) -> None:
        """Bring the machine to now."""
        self.engine.advance(self.clock())

    def kick(self) -> None:
        """Wake the threads that wait for this machine, if there is something for them."""
        wake_s, before_s = self.engine.wake_s, self._announced_s
        self._announced_s = wake_s
        sooner = wake_s is not None and (before_s is None or wake_s < before_s)
        before, self._signals = self._signals, sum(port.signals for port in self.engine.ports)
        if sooner or self._signals != before or any(port.readable or port.broken for port in self.engine.ports):
            self.changed.notify_all()
        if self._mover is not None:
            self._mover.arrived()

    def wake_all(self) -> None:
        """Wake the threads that wait, whatever for."""
        self.changed.notify_all()

    def wait(self, until_s: float | None = None) -> None:
        """Wait for a change, at most until the machine's next event or `until_s`; then advance."""
        self._announced_s = self.engine.wake_s
        times = [t for t in (self._announced_s, until_s) if t is not None]
        if self._mover is None or not times:
            self.changed.wait(max(0.0, min(times) - self.clock()) if times else None)
        elif not self.changed.wait(_YIELD_S):
            self._mover.move_to(min(times))
        self.advance()

    def look(self, at_most_s: float) -> None:
        """Wait for a change, at most so long of this computer's time; nothing is moved. Then advance."""
        self.changed.wait(at_most_s)
        self.advance()


class Threads:
    """Threads and things to close of one server; `stop` ends them all."""

    def __init__(self) -> None:
        self._threads: list[threading.Thread] = []
        self._lock = threading.Lock()

    def start(self, target: Callable[..., None], *args: object, name: str) -> None:
        """Start a thread that `join` waits for."""
        thread = threading.Thread(target=target, args=args, name=name, daemon=True)
        with self._lock:
            self._threads = [t for t in self._threads if t.is_alive()]
            thread.start()  # within the lock: `join` must not meet one that has not begun
            self._threads.append(thread)

    def join(self) -> None:
        """Wait for all."""
        while True:
            with self._lock:
                if not self._threads:
                    return
                thread = self._threads.pop()
            if thread is not threading.current_thread():
                thread.join(5.0)


class Listener:
    """A listening TCP socket on loopback with one thread per connection; subclasses write `serve`."""

    backlog = 8
    accept_delay_s = 0.0
    """How long a new connection finds nobody at home: over LAN the first answer can take about 10 s (PD3)."""

    def __init__(self, served: Served, host: str = "127.0.0.1", port: int = 0, name: str = "server") -> None:
        check_loopback(host)
        self.served, self.name = served, name
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        self._listening = socket.create_server((host, port), family=family, backlog=self.backlog)
        self.host = host
        self.port: int = self._listening.getsockname()[1]
        self.threads = Threads()
        self._connections: set[socket.socket] = set()
        self._stopped = threading.Event()

    def start(self) -> None:
        """Begin to accept."""
        self.threads.start(self._accept, name=f"{self.name}-accept")

    def stop(self) -> None:
        """Close everything; may be called again."""
        self._stopped.set()
        with contextlib.suppress(OSError):
            self._listening.shutdown(socket.SHUT_RDWR)
        self._listening.close()
        for connection in list(self._connections):
            with contextlib.suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)
        with self.served.changed:
            self.served.wake_all()
        self.threads.join()

    def _accept(self) -> None:
        while not self._stopped.is_set():
            try:
                connection, _ = self._listening.accept()
            except OSError:
                return
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            self._connections.add(connection)
            self.threads.start(self._run, connection, name=f"{self.name}-connection")

    def _run(self, connection: socket.socket) -> None:
        try:
            if self._stopped.wait(self.accept_delay_s):
                return
            self.serve(connection)
        except (OSError, EOFError) as error:
            log.debug("%s: connection ended: %s", self.name, error)
        except Exception:
            log.exception("%s: connection failed", self.name)
        finally:
            self._connections.discard(connection)
            connection.close()

    def serve(self, connection: socket.socket) -> None:
        """Serve one connection until it ends."""
        raise NotImplementedError


def reset_connection(connection: socket.socket) -> None:
    """End a connection with RST instead of FIN, as an instrument that loses power does."""
    with contextlib.suppress(OSError):
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        connection.shutdown(socket.SHUT_RD)


def receive_exactly(connection: socket.socket, count: int) -> bytes:
    """Read `count` bytes; EOFError when the other side closes before."""
    parts, left = [], count
    while left:
        data = connection.recv(min(left, 1 << 20))
        if not data:
            raise EOFError("connection closed")
        parts.append(data)
        left -= len(data)
    return b"".join(parts)


class Conversation:
    """A stream port between two byte functions: feeds what arrives, sends what is ready, now or later."""

    def __init__(self, served: Served, port: StreamPort, send: Callable[[bytes], object]) -> None:
        self._served, self._port, self._send = served, port, send
        self._sending = threading.Lock()
        self._over = False

    def arrived(self, data: bytes) -> bool:
        """Feed bytes; False when the link is to be cut."""
        return self._flush(data)

    def _flush(self, data: bytes = b"") -> bool:
        with self._sending:
            with self._served.changed:
                if data:
                    self._served.advance()
                    self._port.write(data, False)
                out, broken = self._port.take(), self._port.broken
                self._served.kick()
            if out:
                self._send(out)
        return not broken

    def send_later(self, cut: Callable[[], None]) -> None:
        """Thread body: send replies that become ready by time; `cut` when the link is to break."""
        while True:
            with self._served.changed:
                while not (self._over or self._port.readable or self._port.broken):
                    self._served.wait()
                if self._over:
                    return
            try:
                alive = self._flush()
            except OSError:
                return
            if not alive:
                cut()
                return

    def end(self) -> None:
        """The link is gone."""
        with self._served.changed:
            self._over = True
            self._port.close()
            self._served.wake_all()


class StreamServer(Listener):
    """Raw SCPI socket, or the TCP side of a Prologix adapter, for any number of clients."""

    def __init__(
        self,
        served: Served,
        open_port: Callable[[], StreamPort],
        host: str = "127.0.0.1",
        port: int = 0,
        name: str = "socket",
    ) -> None:
        super().__init__(served, host, port, name)
        self._open_port = open_port

    def serve(self, connection: socket.socket) -> None:
        """One client."""
        with self.served.changed:
            port = self._open_port()
        talk = Conversation(self.served, port, connection.sendall)
        self.threads.start(talk.send_later, lambda: reset_connection(connection), name=f"{self.name}-sender")
        try:
            while data := connection.recv(65536):
                if not talk.arrived(data):
                    reset_connection(connection)
                    return
        finally:
            talk.end()


class SerialServer:
    """A machine behind a pseudo-terminal; `path` is what a client opens as ASRL<path>::INSTR.

    A pseudo-terminal has no baud rate, stop bits or handshake lines, and no device clear.
    """

    def __init__(self, served: Served, open_port: Callable[[], StreamPort]) -> None:
        self.served = served
        with served.changed:
            port = open_port()
        self._master, self._slave = os.openpty()
        os.set_blocking(self._master, False)
        tty.setraw(self._slave)
        self.path = os.ttyname(self._slave)
        self._wake_read, self._wake_write = os.pipe()
        self._talk = Conversation(served, port, self._send)
        self._threads = Threads()
        self._open = True

    def _send(self, data: bytes) -> None:
        view = memoryview(data)
        while view:
            stopping, _, _ = select.select([self._wake_read], [self._master], [])
            if stopping:
                return
            with contextlib.suppress(BlockingIOError):
                view = view[os.write(self._master, view[:1024]) :]

    def start(self) -> None:
        """Begin to serve."""
        self._threads.start(self._read, name="serial-reader")
        self._threads.start(self._talk.send_later, lambda: None, name="serial-sender")

    def _read(self) -> None:
        while True:
            ready, _, _ = select.select([self._master, self._wake_read], [], [])
            if self._wake_read in ready:
                return
            self._talk.arrived(os.read(self._master, 4096))

    def stop(self) -> None:
        """Close the terminal; may be called again."""
        if not self._open:
            return
        self._open = False
        os.write(self._wake_write, b"x")
        self._talk.end()
        self._threads.join()
        for descriptor in (self._master, self._slave, self._wake_read, self._wake_write):
            os.close(descriptor)
