"""Link: one conversation with one instrument, with one deadline per operation.

An operation that fails in any way leaves no answer behind: the link clears the instrument's interface
where the transport can, then asks a question whose answer cannot be mistaken for a late one, and drops
everything before it. Only if that fails is the link broken, and says so until ``reopen``.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from types import TracebackType

from instruments.errors import BenchError, ConfigError, InstrumentError, LinkError, LinkTimeout, ProtocolError
from instruments.ieee488 import NEED, BlockReader
from instruments.wording import counted

from .claims import Claim, claim
from .ports import Port, PortClosed, PortTimeout
from .recovery import Overheard, drain_errors, read_line, resynchronise
from .transcript import Recorder, Transcript
from .visa import Opened, SerialOptions, check_library, open_port


class Link:
    """A conversation over a port. Open one with ``Link.open``; close it, or use ``with``.

    Attributes:
        name: the instrument's name on this bench.
        resource: its VISA resource string.
        backend: the VISA library that is really used.
        sent: messages sent so far, those of recoveries included.
    """

    def __init__(
        self,
        name: str,
        resource: str,
        opener: Callable[[], Opened],
        *,
        timeout_s: float = 2.0,
        recorder: Recorder | None = None,
        held: Claim | None = None,
    ) -> None:
        self.name = name
        self.resource = resource
        self.timeout_s = timeout_s
        self.sent = 0
        self._opener = opener
        self._record = recorder or Recorder(name, None)
        self._held = held
        self._log = logging.getLogger(f"{__name__}.{name}")
        self._out_of_step = False
        self._nonce = 0
        self._broken = ""
        self._heard: list[bytes] = []
        self._opened: Opened | None = opener()
        self._lock = self._opened.lock
        self.backend = self._opened.backend
        self._record.opened(resource, self.backend)

    @classmethod
    def open(
        cls,
        name: str,
        resources: Sequence[str],
        *,
        visa: str = "@py",
        timeout_s: float = 2.0,
        open_timeout_s: float = 12.0,
        transcript: Transcript | None = None,
        serial: SerialOptions | None = None,
    ) -> Link:
        """Open VISA resources in their order; the last one is the instrument. Nothing is sent to it.

        Args:
            name: what the bench calls the instrument; it shows in every error.
            resources: one VISA string, or a GPIB adapter's INTFC and then the instrument.
            visa: VISA library; ``PYVISA_LIBRARY`` in the environment wins.
            timeout_s: default deadline of an operation, in seconds.
            open_timeout_s: deadline for connecting; a scope's LAN may take 10 s.
            transcript: where to write every message.
            serial: settings for ASRL resources.

        Raises:
            ConfigError: resource strings that cannot be right, a VISA library that cannot be loaded.
            LinkError: could not connect, or another process of this computer is connected.
        """
        texts = (resources,) if isinstance(resources, str) else tuple(resources)
        options = serial or SerialOptions()
        recorder = Recorder(name, transcript)

        def opener() -> Opened:
            return open_port(name, texts, visa=visa, open_timeout_s=open_timeout_s, serial=options, recorder=recorder)

        check_library(visa)
        held = claim(name, texts) if texts else None
        try:
            return cls(name, texts[-1] if texts else "", opener, timeout_s=timeout_s, recorder=recorder, held=held)
        except BaseException as error:
            if isinstance(error, InstrumentError):
                recorder.failed(error)
            if held is not None:
                held.release()
            raise

    # -- operations ---------------------------------------------------------------------------

    def write(self, command: str | bytes, deadline_s: float | None = None) -> None:
        """Send one message; LF is added. Raises LinkTimeout, LinkError."""
        with self._operation(command, deadline_s) as deadline:
            self._send(command, deadline)

    def query(self, command: str, deadline_s: float | None = None) -> str:
        """Send one message and give its one text answer without terminator.

        Raises LinkTimeout (recovered), LinkError (broken), ProtocolError (not one line of ASCII).
        """
        with self._operation(command, deadline_s) as deadline:
            self._send(command, deadline)
            data = read_line(self._port(), deadline, self._heard.append)
            try:
                text = data.decode("ascii")
            except UnicodeDecodeError:
                raise ProtocolError("expected text, got bytes beyond ASCII", first_bytes=data[:40]) from None
            self._record.put("in", data)
        self._log.debug("< %s", text)
        return text

    def query_block(self, command: str, deadline_s: float | None = None) -> bytes:
        """Send one message and give the data of its definite-length block, exactly.

        Raises LinkTimeout (recovered), LinkError (broken), ProtocolError (not exactly one block).
        """
        with self._operation(command, deadline_s) as deadline:
            self._send(command, deadline)
            reader = BlockReader()
            port = self._port()
            while True:
                data, end = port.receive(reader.wanted, deadline, False)
                self._heard.append(data)
                event = reader.feed(data, end)
                if event is not NEED:
                    break
            if reader.rest:
                raise ProtocolError(
                    f"{counted(len(reader.rest), 'byte')} came behind a block of {len(event.data)}",
                    first_bytes=reader.rest[:40],
                )
            self._record.block(event.data)
        self._log.debug("< block of %d bytes", len(event.data))
        return event.data

    def clear(self) -> None:
        """Bring the conversation back in step: device clear or drain, then a question and its answer.

        Raises LinkError when the instrument does not answer; the link is then broken.
        """
        with self._lock:
            self._record.call("clear")
            with self._recorded("clear"):
                self._port()
                self._recover("clear")

    def reopen(self) -> None:
        """Close and connect anew; the way back from a broken link. Raises LinkError."""
        with self._lock:
            self._record.call("reopen")
            with self._recorded("reopen"):
                self._connect_anew()
            self._broken = ""
            self._out_of_step = False
            self._record.opened(self.resource, self.backend)

    def _connect_anew(self) -> None:
        opened, self._opened = self._opened, None
        try:
            if opened is not None and opened.bus is not None:
                opened.bus.reconnect(lambda line: self._record.put("out", line, of="adapter"))
                self._opened = opened
            else:
                if opened is not None:
                    opened.port.close()
                self._opened = self._opener()
                if self._opened.bus is not None:
                    self._lock = self._opened.lock
        except BenchError:
            self._opened = self._opened or opened
            self._broken = "reconnecting failed"
            raise

    def to_local(self) -> bool:
        """Give the front panel back where the transport can (GPIB, USB); False where it cannot."""
        with self._lock, self._recorded("local"):
            try:
                done = self._port().to_local()
            except (PortTimeout, PortClosed) as error:
                raise self._break(str(error) or "it takes nothing", "local") from error
            self._record.call("local", answer=done)
            return done

    @contextmanager
    def transaction(self) -> Iterator[None]:
        """Keep the bus for several messages, against other threads and instruments of the adapter."""
        with self._lock:
            yield

    def close(self) -> None:
        """Close the connection; a second close does nothing. Nothing is sent to the instrument."""
        with self._lock:
            opened, self._opened = self._opened, None
            if opened is not None:
                self._record.note("closed")
                opened.port.close()
                if opened.bus is not None:
                    opened.bus.release()
            held, self._held = self._held, None
            if held is not None:
                held.release()

    def __enter__(self) -> Link:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    # -- inside -------------------------------------------------------------------------------

    def _port(self) -> Port:
        if self._opened is None:
            raise LinkError("the link is closed", instrument=self.name, resource=self.resource)
        if self._broken:
            raise LinkError(
                f"the link is broken since: {self._broken}; reopen it",
                instrument=self.name,
                resource=self.resource,
            )
        return self._opened.port

    @contextmanager
    def _recorded(self, command: str) -> Iterator[None]:
        """Record what is raised, with instrument, resource and command filled in."""
        try:
            yield
        except InstrumentError as error:
            error.within(instrument=self.name, resource=self.resource, command=command)
            self._record.failed(error)
            raise

    @contextmanager
    def _operation(self, command: str | bytes, deadline_s: float | None) -> Iterator[float]:
        """Hold the bus, give the deadline, and turn every failure into a named one, in step again."""
        shown = command if isinstance(command, str) else f"{command[:40]!r} ({counted(len(command), 'byte')})"
        if isinstance(command, str) and not (command.isascii() and command.isprintable()):
            raise ConfigError(f"{self.name}: {command!r} is no line of printable ASCII; nothing was sent")
        with self._lock, self._recorded(shown):
            self._port()
            if self._out_of_step:
                self._recover(shown)
            self._heard = []
            started = time.monotonic()
            try:
                yield started + (self.timeout_s if deadline_s is None else deadline_s)
            except PortTimeout as timeout:
                elapsed_s = time.monotonic() - started
                self._refused()
                got = self._got
                queue = self._recover(shown)
                reason = f" ({timeout})" if str(timeout) else ""
                raise LinkTimeout(
                    f"no complete answer after {elapsed_s:.2f} s{reason}, {got} bytes had come and were "
                    "dropped; the link is in step again; allow more time or check the command",
                    elapsed_s=elapsed_s,
                    bytes_got=got,
                    queue=queue,
                    instrument=self.name,
                    resource=self.resource,
                    command=shown,
                ) from None
            except PortClosed as error:
                self._refused()
                raise self._break(str(error), shown) from error
            except InstrumentError as error:
                self._refused()
                if not isinstance(error, LinkError):
                    self._recover(shown)
                raise
            except BaseException:
                self._out_of_step = True  # interrupted: an answer may still be on its way
                self._record.note("interrupted")
                raise

    def _refused(self) -> None:
        """Record what had come of an answer that is none."""
        if self._heard:
            self._record.put("in", b"".join(self._heard), of="refused")

    def _send(self, command: str | bytes, deadline: float) -> None:
        data = command.encode("ascii") if isinstance(command, str) else command
        port = self._port()
        stale = port.discard_input()
        if stale:
            self._log.warning("dropped %d unread bytes before %r", len(stale), command)
            self._record.put("in", stale, of="dropped")
        self._record.put("out", data)
        self._log.debug("> %s", command if isinstance(command, str) else f"{len(command)} bytes")
        port.send(data + b"\n", deadline)
        self.sent += 1

    @property
    def _got(self) -> int:
        """Bytes that have come of the present answer."""
        return sum(map(len, self._heard))

    def _recover(self, command: str) -> list[str]:
        """Come back in step and give the error queue; marks the link broken and raises if that fails."""
        self._out_of_step = True
        port = Overheard(self._port(), self._record)
        deadline = time.monotonic() + port.recovery_s
        try:
            port.device_clear(deadline)
            self._nonce = resynchronise(port, self._nonce, deadline)
            queue = drain_errors(port, deadline)
        except (PortTimeout, PortClosed, ProtocolError) as error:
            reason = str(error) or f"no answer within {port.recovery_s:g} s"
            raise self._break(f"after a failure it could not be brought back in step: {reason}", command) from error
        finally:
            self.sent += port.messages
        self._out_of_step = False
        self._log.info("in step again")
        return queue

    def _break(self, reason: str, command: str) -> LinkError:
        self._broken = reason
        self._log.info("broken: %s", reason)
        return LinkError(
            f"the link is broken: {reason} ({counted(self._got, 'byte')} of the answer had come); reopen it",
            instrument=self.name,
            resource=self.resource,
            command=command,
        )
