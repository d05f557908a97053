"""The tree of errors that a user of the bench can meet; imports nothing of the bench.

Every message says what was wanted, what came and what to do next. ``exit_code`` is what a command
line program returns for the error: 2 for a mistake in configuration or use, 3 for an instrument.
"""

from __future__ import annotations

from collections.abc import Sequence


class BenchError(Exception):
    """Any error that the bench raises on purpose; everything else is a bug."""

    exit_code = 3


class ConfigError(BenchError):
    """A mistake in lab.yaml or in the options of a program; nothing was sent to an instrument."""

    exit_code = 2


class LabError(ConfigError):
    """A mistake at one key of lab.yaml that shows only against what the instruments have.

    Args:
        message: what is wrong there, and what to write instead.
        path: the key's sections and name; whoever has the file's text adds its line (`instruments.lab.lines_of`).
    """

    def __init__(self, message: str, *path: str | int) -> None:
        super().__init__(message)
        self.message, self.path = message, path

    def __str__(self) -> str:
        return f"{'.'.join(str(part) for part in self.path if isinstance(part, str))}: {self.message}"


class LimitError(ConfigError):
    """A set-point beyond an instrument's range or the limits of the lab; it never left the host."""


class TraceError(BenchError):
    """A trace file that cannot be written, read or trusted."""


class OutputError(BenchError):
    """What a program was asked to tell, and could not."""


class CalibrationError(BenchError):
    """A calibration whose figures contradict each other or the makers' limits; no record is made of it."""

    exit_code = 1


class DutError(BenchError):
    """The device under test did not do what its protocol promises.

    `code` names the cause where it is known: what the agent calls its error (`out_of_memory`, `failed`), or `killed`
    where its process was ended by SIGKILL, as a kernel without memory does; else it is empty.
    """

    code = ""


class InstrumentError(BenchError):
    """An error of one instrument.

    Args:
        message: what was wanted, what came, what to do.
        instrument: name of the instrument on this bench, such as ``scope``.
        resource: its VISA resource string.
        command: the command or query that met the error.

    The three fields may be filled in later by whoever knows them; they show in ``str(error)``.
    """

    def __init__(self, message: str, *, instrument: str = "", resource: str = "", command: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.instrument = instrument
        self.resource = resource
        self.command = command

    def __str__(self) -> str:
        who = self.instrument
        if self.resource:
            who = f"{who} ({self.resource})" if who else self.resource
        text = f"{who}: {self.message}" if who else self.message
        return f"{text} [command: {self.command}]" if self.command else text

    def within(self, *, instrument: str = "", resource: str = "", command: str = "") -> None:
        """Fill in those fields that are still empty."""
        self.instrument = self.instrument or instrument
        self.resource = self.resource or resource
        self.command = self.command or command


class LinkError(InstrumentError):
    """The connection could not be opened, or it is broken and must be reopened."""


class LinkTimeout(LinkError):
    """An operation did not finish by its deadline; the link has recovered and can be used again.

    Attributes:
        elapsed_s: seconds spent before giving up.
        bytes_got: bytes of the answer that had come by then (discarded).
        queue: error-queue entries that the instrument had to say about it, as text.
    """

    def __init__(
        self,
        message: str,
        *,
        elapsed_s: float = 0.0,
        bytes_got: int = 0,
        queue: Sequence[str] = (),
        instrument: str = "",
        resource: str = "",
        command: str = "",
    ) -> None:
        super().__init__(message, instrument=instrument, resource=resource, command=command)
        self.elapsed_s = elapsed_s
        self.bytes_got = bytes_got
        self.queue = tuple(queue)

    def __str__(self) -> str:
        text = super().__str__()
        if self.queue:
            text += f"; its error queue says: {'; '.join(self.queue)}"
        return text


class ProtocolError(InstrumentError):
    """What came is not what the standard or the manual allows; the first bytes are shown."""

    def __init__(
        self,
        message: str,
        *,
        first_bytes: bytes = b"",
        instrument: str = "",
        resource: str = "",
        command: str = "",
    ) -> None:
        super().__init__(message, instrument=instrument, resource=resource, command=command)
        self.first_bytes = bytes(first_bytes[:40])

    def __str__(self) -> str:
        text = super().__str__()
        return f"{text} [first bytes: {self.first_bytes!r}]" if self.first_bytes else text


class ScpiError(InstrumentError):
    """An entry of the instrument's error queue, raised with the command that caused it.

    Attributes:
        code: the number of the entry, such as -222.
        text: its text, such as ``Data out of range``.
        rest: the other entries that were in the queue, oldest first, as text.
    """

    def __init__(
        self,
        code: int,
        text: str,
        *,
        rest: Sequence[str] = (),
        instrument: str = "",
        resource: str = "",
        command: str = "",
    ) -> None:
        super().__init__(
            f"the instrument reports error {code:+d}, {text!r}",
            instrument=instrument,
            resource=resource,
            command=command,
        )
        self.code = code
        self.text = text
        self.rest = tuple(rest)

    def __reduce__(self) -> tuple[object, ...]:
        return type(self), (self.code, self.text), self.__dict__

    def __str__(self) -> str:
        text = super().__str__()
        return f"{text}; also queued: {'; '.join(self.rest)}" if self.rest else text


class IdentityError(InstrumentError):
    """Another instrument answers at this address than the one that lab.yaml names."""

    def __init__(
        self,
        expected: str,
        found: str,
        *,
        instrument: str = "",
        resource: str = "",
        command: str = "*IDN?",
    ) -> None:
        super().__init__(
            f"expected {expected}, found {found}; check its address and serial in the lab file",
            instrument=instrument,
            resource=resource,
            command=command,
        )
        self.expected = expected
        self.found = found

    def __reduce__(self) -> tuple[object, ...]:
        return type(self), (self.expected, self.found), self.__dict__


class SettingError(InstrumentError):
    """A setting reads back as something else than what was asked for.

    Attributes:
        setting: its name with the unit, such as ``voltage_v``.
        asked: what was sent.
        read_back: what the instrument says it is.
    """

    def __init__(
        self,
        setting: str,
        asked: object,
        read_back: object,
        *,
        hint: str = "",
        instrument: str = "",
        resource: str = "",
        command: str = "",
    ) -> None:
        super().__init__(
            f"{setting}: asked for {asked}, reads back as {read_back}" + (f"; {hint}" if hint else ""),
            instrument=instrument,
            resource=resource,
            command=command,
        )
        self.setting = setting
        self.asked = asked
        self.read_back = read_back

    def __reduce__(self) -> tuple[object, ...]:
        return type(self), (self.setting, self.asked, self.read_back), self.__dict__


class CaptureError(InstrumentError):
    """An acquisition that did not happen, or whose record cannot be trusted.

    Attributes:
        reason: one of ``not-armed``, ``early-trigger``, ``no-trigger``, ``not-finished``, ``stopped``,
            ``stale``, ``short``, ``mismatch``, ``not-displayed``, ``format``.
    """

    def __init__(
        self,
        message: str,
        *,
        reason: str = "",
        instrument: str = "",
        resource: str = "",
        command: str = "",
    ) -> None:
        super().__init__(message, instrument=instrument, resource=resource, command=command)
        self.reason = reason
