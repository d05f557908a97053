"""A simulated SCPI instrument without its commands: parser, error queue, status registers, output. Pure.

Bytes go in with `feed` (or through ports), time passes with `tick`; no clock, socket, file or global random
source. IEEE 488.2 and SCPI-1999 as far as both instruments of this bench share them. Unconfirmed and
switchable: `error_depth`; `drops_unread` (False keeps late replies instead of -410).
"""

from __future__ import annotations

from collections import deque
from collections.abc import Generator
from dataclasses import dataclass, field

from instruments.simulated.scpi_errors import Refused
from instruments.simulated.scpi_port import Port, PortKind, ReplyFilter
from instruments.simulated.scpi_status import StatusModel
from instruments.simulated.scpi_syntax import Unit, parse_message
from instruments.simulated.scpi_tree import Call, Command, Handler, Job, Place, Tree


@dataclass
class _Running:
    """The program message in execution."""

    port: Port
    tag: int
    text: str
    units: deque[Unit]
    path: Place
    replies: list[bytes] = field(default_factory=list)


class ScpiMachine(StatusModel):
    """Parser, status and queues of one instrument; subclasses add commands with `add`.

    Commands run strictly one after the other for all ports: while one blocks (a generator handler)
    the instrument answers nobody, as with :DIGitize (PG4000 p.91).
    """

    def __init__(
        self,
        *,
        identity: str,
        error_depth: int = 30,
        drops_unread: bool = True,
        reply_filter: ReplyFilter | None = None,
    ) -> None:
        super().__init__(error_depth)
        self.identity = identity
        self.drops_unread, self.reply_filter = drops_unread, reply_filter
        self.now_s = 0.0
        self.tree = Tree()
        self._inbox: deque[tuple[Port, bytes, int]] = deque()
        self._current: _Running | None = None
        self._job: Job | None = None
        self._job_wake_s: float | None = None
        self._running = False
        self._ports: list[Port] = []
        self._first: Port | None = None
        self.taken = 0
        """Program messages taken in, of all ports."""
        self._add_common()

    # --- the outside ---------------------------------------------------------------------------

    def open_port(self, kind: PortKind = "stream", name: str = "") -> Port:
        """Open one more conversation."""
        port = Port(self, kind, name)
        self._ports.append(port)
        return port

    @property
    def port(self) -> Port:
        """The port behind the machine's own `feed`, `write`, `read`; a stream until `write` is used."""
        if self._first is None:
            self._first = self.open_port("stream", "first")
        return self._first

    def feed(self, data: bytes) -> bytes:
        """Stream transports: bytes in, replies that are ready out."""
        return self.port.feed(data)

    def write(self, data: bytes, end: bool = True) -> None:
        """Message transports: part of a message in, `end` with its last byte."""
        self.port.kind = "message"
        self.port.write(data, end)

    def read(self, count: int = 1 << 30) -> tuple[bytes, bool]:
        """Message transports: up to `count` bytes of the response and whether that was its end."""
        self.port.kind = "message"
        return self.port.read(count)

    def clear(self) -> None:
        """Device clear."""
        self.port.clear()

    def tick(self, now_s: float) -> bytes:
        """Time passes; give the first port's replies that became ready (of a stream)."""
        self.advance(now_s)
        return self.port.take() if self.port.kind != "message" else b""

    def advance(self, now_s: float) -> None:
        """Time passes for all ports; earlier times than the last are taken as the last."""
        self.now_s = max(self.now_s, now_s)
        self.on_time()
        for port in self._ports:
            port.mature()
        self.run()

    @property
    def ports(self) -> list[Port]:
        """The conversations that are open."""
        return self._ports

    @property
    def wake_s(self) -> float | None:
        """Next time at which `tick` would change anything by itself, or None."""
        times = [port.wake_s for port in self._ports if port.wake_s is not None]
        if self._job is not None and self._job_wake_s is not None:
            times.append(self._job_wake_s)
        return min(times, default=None)

    # --- hooks of an instrument -----------------------------------------------------------------

    def on_time(self) -> None:
        """Bring the instrument's state up to `now_s`."""

    def reset(self) -> None:
        """*RST."""

    def bus_trigger(self) -> Job | None:
        """*TRG and group execute trigger."""
        return None

    def on_job_aborted(self) -> None:
        """A device clear ended the command that blocked."""

    def before(self, port: Port, unit: Unit, command: Command) -> None:
        """Called before each command; may raise Refused."""

    def clears(self, port: Port, data: bytes) -> int:
        """How many bytes of what arrives on a stream end with a device clear of their own; 0: none."""
        return 0

    def go_local(self) -> None:
        """The interface hands the front panel back (GTL)."""

    def go_remote(self) -> None:
        """The interface takes the front panel away (REN)."""

    def response_end(self, port: Port) -> bytes:
        """What ends a response on this port."""
        return b"\n"

    # --- execution ------------------------------------------------------------------------------

    def submit(self, port: Port, message: bytes, tag: int = 0) -> None:
        """Queue a whole program message; its response carries `tag`."""
        self.taken += 1
        self._inbox.append((port, message, tag))

    def waiting(self, port: Port) -> bool:
        """Whether a message of `port` is queued or executing with more to come."""
        running = self._current is not None and self._current.port is port and not self._finishing
        return running or any(p is port for p, *_ in self._inbox)

    _finishing = False
    clips = False
    """Whether numbers out of range are brought to the nearest limit instead of refused."""

    def run(self) -> None:
        """Execute what can be executed at `now_s`."""
        if self._running:
            return
        self._running = True
        try:
            while self._step():
                pass
            for port in self._ports:
                self.watch_service(port)
        finally:
            self._running = False

    def _step(self) -> bool:
        if self._current is None:
            if not self._inbox:
                return False
            port, raw, tag = self._inbox.popleft()
            port.interrupt_if_unread()
            units = deque(parse_message(raw))
            self._current = _Running(port, tag, raw[:4096].decode("latin-1"), units, Place(self.tree.root))
        current = self._current
        if self._job is not None:
            if self._job_wake_s is None or self.now_s < self._job_wake_s:
                return False
            return self._resume(current, self._job)
        if current.units:
            self._execute(current, current.units.popleft())
            return True
        if current.replies:
            self._finishing = True
            end = self.response_end(current.port)
            current.port.deliver(current.text, b";".join(current.replies) + end, current.tag)
            self._finishing = False
        self._current = None
        return True

    def _execute(self, current: _Running, unit: Unit) -> None:
        """Run one unit. A command error ends the message, an execution error only the unit."""
        try:
            if unit.error is not None:
                raise unit.error
            command, suffix, path = self.tree.find(unit, current.path)
            current.path = path
            handler = command.query if unit.query else command.set
            if handler is None:
                raise Refused(-113)
            least, most = command.query_args if unit.query else command.set_args
            if len(unit.params) > most:
                raise Refused(-108)
            if len(unit.params) < least:
                raise Refused(-109)
            self.before(current.port, unit, command)
            result = handler(Call(suffix, list(unit.params), self.now_s, current.port.kind, self.clips))
        except Refused as error:
            self._refuse(current, error)
            return
        if isinstance(result, Generator):
            self._job = result
            self._resume(current, result)
        else:
            _add_reply(current, result)

    def _resume(self, current: _Running, job: Job) -> bool:
        """Let a blocking command go on; whether it ended."""
        try:
            self._job_wake_s = next(job)
            return self._job_wake_s is not None and self._job_wake_s <= self.now_s
        except StopIteration as stop:
            self._job = None
            _add_reply(current, stop.value)
        except Refused as error:
            self._job = None
            self._refuse(current, error)
        return True

    def _refuse(self, current: _Running, error: Refused) -> None:
        self.log_error(error)
        if -200 < error.code <= -100:
            current.units.clear()

    def abort_job(self) -> None:
        """Give up the message in execution, whoever sent it."""
        job, self._job, self._current = self._job, None, None
        if job is not None:
            job.close()
            self.on_job_aborted()

    def drop_inbox(self, port: Port) -> None:
        """Forget the messages of `port` that have not begun."""
        self._inbox = deque(item for item in self._inbox if item[0] is not port)

    def forget(self, port: Port) -> None:
        """A port was closed: what it started goes on, but nothing waits for it any more."""
        if port in self._ports:
            self._ports.remove(port)
        if self._current is not None and self._current.port is port:
            job, self._job, self._current = self._job, None, None
            if job is not None:
                job.close()
        self.run()

    # --- commands every instrument has ----------------------------------------------------------

    def add(
        self,
        pattern: str,
        set: Handler | None = None,
        query: Handler | None = None,
        *,
        set_args: tuple[int, int] = (1, 1),
        query_args: tuple[int, int] = (0, 0),
    ) -> None:
        """Register a command; see `scpi_tree` for patterns."""
        self.tree.add(Command(pattern, set, query, set_args, query_args))

    def _add_common(self) -> None:
        none = (0, 0)
        self.add("*IDN", query=lambda call: self.identity)
        self.add("*TST", query=lambda call: "+0")
        self.add("*RST", lambda call: self.reset(), set_args=none)
        self.add("*CLS", lambda call: self.clear_status(), set_args=none)
        self.add("*ESR", query=lambda call: self.read_esr())
        self.add("*STB", query=lambda call: f"{self.status_byte():+d}")
        self.add("*ESE", self.set_ese, lambda call: f"{self.ese:+d}")
        self.add("*SRE", self.set_sre, lambda call: f"{self.sre:+d}")
        self.add("*OPC", lambda call: self.arm_opc(), lambda call: self._wait_pending("1"), set_args=none)
        self.add("*WAI", lambda call: self._wait_pending(None), set_args=none)
        self.add("*TRG", lambda call: self.bus_trigger(), set_args=none)

    def _wait_pending(self, reply: str | None) -> Job:
        while self.operation_pending():
            yield self.now_s + 0.002
        return reply


def _add_reply(current: _Running, reply: str | bytes | None) -> None:
    if reply is not None:
        current.replies.append(reply if isinstance(reply, bytes) else reply.encode("latin-1"))
