"""The oscilloscope: settings with read-back, single acquisitions, the whole instrument.

Sources: PG2000 (commands); how settings are made is in ``configure``, how an acquisition is trusted in
``acquisition``, several of them in ``series``.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Generator, Iterator, Sequence
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from instruments import scpi
from instruments.dialogue import Dialogue
from instruments.errors import ConfigError, ProtocolError
from instruments.ieee488 import write_block
from instruments.link import Conversation
from instruments.waveform import Capture, Preamble

from . import series
from .acquisition import Acquisition, ScopeState
from .capabilities import MSO_X_2024A, Capabilities
from .configure import Configurator
from .inputs import source_command
from .settings import (
    AcquisitionSettings,
    ChannelSettings,
    DigitalSettings,
    TimebaseSettings,
    one_of,
    threshold_of,
)
from .transfer import Format, PointsMode, TransferOptions
from .trigger import EdgeTrigger

MODEL = r"[MD]SO-?X ?(20[0-2][24]A|3(01|02|03|05|10)[24][AT])"
SETUP_S = 10.0
"""Longest that all settings together may take, one way."""

MEASUREMENTS = (
    "AREa", "BWIDth", "COUNter", "DUTYcycle", "FALLtime", "FREQuency", "NEDGes", "NPULses", "NWIDth", "OVERshoot",
    "PEDGes", "PERiod", "PPULses", "PREShoot", "PWIDth", "RISetime", "SDEViation", "VAMPlitude", "VAVerage", "VBASe",
    "VMAX", "VMIN", "VPP", "VRMS", "VTOP", "XMAX", "XMIN",
)  # fmt: skip
"""Measurements of one source (PG2000, :MEASure)."""

_PNG_START, _PNG_END = b"\x89PNG\r\n\x1a\n", b"IEND\xaeB`\x82"


class MsoX2024A:
    """Driver over one link; making it sends nothing. ``clock`` and ``sleep`` are for tests and virtual time.

    Until ``capabilities`` has asked, the inputs of an MSO-X 2024A are taken as given.
    """

    def __init__(
        self,
        link: Conversation,
        *,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self.link = link
        self._dialogue = Dialogue(link)
        self._configure = Configurator(self._dialogue)
        self._acquisition = Acquisition(self._dialogue, clock, sleep)
        self._has = MSO_X_2024A
        self._timebase: TimebaseSettings | None = None
        self._segments = 0

    # -- identity and errors --------------------------------------------------------------------

    def identity(self) -> scpi.Identity:
        """Ask who answers here."""
        return self._dialogue.identity()

    def expect_identity(self, model: str = MODEL, serial: str | None = None) -> scpi.Identity:
        """Insist on a model (regular expression) and serial; raises IdentityError naming both."""
        return self._dialogue.expect_identity(model, serial)

    def capabilities(self, memory_points: int | None = None, *, like: str | None = None) -> Capabilities:
        """Read off the model what this scope can do; from then on only its own inputs are accepted.

        ``memory_points`` None takes what the family has without an option; ``like`` names a known model that
        an unknown one resembles. Raises ConfigError for an unknown model that is like none.
        """
        self._has = Capabilities.of(self.identity().model, memory_points, like=like)
        return self._has

    def options(self) -> tuple[str, ...]:
        """Ask ``*OPT?`` for the installed options, such as ``MEMUP`` (memory) or ``SGM`` (segments)."""
        return tuple(part.strip() for part in self.link.query("*OPT?").split(","))

    def errors(self) -> list[scpi.ErrorEntry]:
        """Read and empty the error queue."""
        return self._dialogue.errors()

    def check_errors(self, after: str) -> None:
        """Raise ScpiError when the error queue is not empty."""
        self._dialogue.check_errors(after)

    # -- settings ---------------------------------------------------------------------------------

    def configure_channel(self, number: int, settings: ChannelSettings) -> ChannelSettings:
        """Set one analogue channel and give it as it reads back; raises SettingError, ScpiError.

        A full scale that is no step of the scope reads back as another and is refused: ask
        ``next_full_scale`` for one.
        """
        self._has.channel(number)
        self._acquisition.forget()
        return self._configure.channel(number, settings)

    def switch_off_channel(self, number: int) -> None:
        """Take a channel off the display, which gives its memory to its pair partner."""
        self._has.channel(number)
        self._acquisition.forget()
        self._configure.channel_off(number)

    def configure_digital(self, bits: Sequence[int], threshold_v: float | str = 1.65) -> DigitalSettings:
        """Switch on these lines and their pods, all others off, with one threshold: volts, TTL, CMOS or ECL."""
        settings = DigitalSettings(tuple(bits), threshold_of(threshold_v), self._has.digital_channels)
        self._acquisition.forget()
        return self._configure.digital(settings)

    def switch_off_digital(self) -> None:
        """Take the pods off the display; they take memory from the channels while they are on."""
        self._acquisition.forget()
        self._configure.digital_off(self._has.digital_channels)

    def configure_timebase(
        self, range_s: float, reference: Literal["LEFT", "CENTer", "RIGHt"] = "LEFT", position_s: float = 0.0
    ) -> TimebaseSettings:
        """Set the window (10 divisions) and where the trigger stands in it; seconds."""
        settings = TimebaseSettings(range_s, reference, position_s)
        self._acquisition.forget()
        self._timebase = None
        self._timebase = self._configure.timebase(settings)
        return self._timebase

    def configure_acquisition(self, type: str = "HRES", count: int | None = None) -> AcquisitionSettings:
        """Set how samples are made: NORM, AVER (with a count), HRES or PEAK; segmented memory is left."""
        settings = AcquisitionSettings.of(type, count)
        self._acquisition.forget()
        self._segments = 0
        return self._configure.acquisition(settings)

    def configure_segments(self, count: int) -> None:
        """Divide the memory into 2 to 1000 segments, each filled by a trigger of its own; see ``segments``.

        ``configure_acquisition`` goes back to one record. Raises ConfigError without option SGM.
        """
        if not 2 <= count <= series.MOST_SEGMENTS:
            raise ConfigError(f"{count!r} segments: 2 to {series.MOST_SEGMENTS} are expected")
        series.require_segments(self.options())
        self._acquisition.forget()
        self._segments = 0
        self._configure.segments(count)
        self._segments = count

    def configure_trigger(self, trigger: EdgeTrigger) -> EdgeTrigger:
        """Set an edge trigger; the sweep is set explicitly, since AUTO would trigger by itself."""
        if trigger.input is not None:
            self._has.source(trigger.input)
        self._acquisition.forget()
        return self._configure.trigger(trigger)

    # -- acquisition -------------------------------------------------------------------------------

    def state(self) -> ScopeState:
        """Read the condition register: running, armed, overload."""
        return self._acquisition.state()

    def arm(self, deadline_s: float | None = None, *, poll_s: float = 0.001) -> int:
        """Erase what a stopped scope holds, start a single acquisition, wait until armed; give its number.

        Until then the scope fills its pre-trigger and would miss an edge: start nothing before this
        returns. The default deadline is the time range plus 5 s.

        Raises:
            ScpiError: the error queue was not empty before.
            CaptureError: ``not-armed`` by the deadline, or ``early-trigger``: it triggered while arming.
        """
        if deadline_s is None:
            deadline_s = 5.0 + (self._timebase.range_s if self._timebase else 10.0)
        return self._acquisition.arm(deadline_s, poll_s, self._timebase)

    def wait_done(self, deadline_s: float, *, poll_s: float = 0.005) -> None:
        """Wait until the armed acquisition has triggered and stopped.

        Raises:
            CaptureError: ``not-armed`` (no arm before), ``no-trigger`` or ``not-finished`` by the
                deadline (the scope goes on; ``stop`` or ``arm`` again), ``stopped`` without a trigger.
        """
        self._acquisition.wait_done(deadline_s, poll_s)

    def digitize(self, sources: Sequence[str], deadline_s: float) -> int:
        """Acquire with the blocking ``:DIGitize`` and wait for ``*OPC?``; give the capture's number.

        For averaging and calibration. Nothing else is answered meanwhile, and without a trigger only a
        device clear ends it, which a raw socket does not have: the link is then broken until reopened.
        """
        return self._acquisition.digitize([self._has.source(source) for source in sources], deadline_s)

    def force_trigger(self) -> None:
        """Trigger now, as if the edge had come."""
        self.link.write(":TRIGger:FORCe")

    def run(self) -> None:
        """Acquire continuously, as for a person at the screen; ends any capture."""
        self._acquisition.forget()
        self.link.write(":RUN")

    def stop(self) -> None:
        """Stop acquiring; an armed acquisition is given up, a finished one stays readable."""
        self._acquisition.stop()

    def fetch(
        self,
        sources: Sequence[str],
        points: int | None = 100_000,
        format: Format = "WORD",
        *,
        min_points: int | None = None,
        deadline_s: float = 30.0,
        byte_order: Literal["LSBFirst", "MSBFirst"] = "LSBFirst",
        unsigned: bool = True,
        points_mode: PointsMode = "RAW",
    ) -> Capture:
        """Read the finished acquisition, all sources on one time base.

        Args:
            sources: ``CHAN1`` ..., ``POD1``.
            points: length wanted: fewer come where the memory holds fewer, a little more where the
                scope's own list has nothing nearer. None asks for all.
            format: ``WORD`` or ``BYTE`` (which cuts HRES to 8 bits).
            min_points: refuse a record shorter than this.
            deadline_s: for everything together, in seconds.
            byte_order: how WORD codes travel; makes no difference to the result.
            unsigned: False asks for signed codes, whose preamble is not documented.
            points_mode: ``RAW`` or ``MAXimum`` for the acquisition memory, ``NORMal`` for the measurement record
                of at most 62 500 points.

        Raises:
            CaptureError: ``stale`` (not the acquisition that was armed), ``not-displayed``, ``short``,
                ``mismatch`` (points, bytes or time bases differ), ``format``.
            ProtocolError, ScpiError, LinkTimeout: as named.
        """
        names = self._names(sources)
        if format not in ("WORD", "BYTE"):
            raise ConfigError(f"format {format!r}: WORD or BYTE carries raw codes; fetch_values() reads ASCii")
        one_of("byte order", byte_order, ("LSBFirst", "MSBFirst"))
        one_of("points mode", points_mode, ("RAW", "MAXimum", "NORMal"))
        options = TransferOptions(format, byte_order, unsigned, points_mode)
        return self._acquisition.fetch(names, points, options, min_points, deadline_s)

    def _names(self, sources: Sequence[str]) -> list[str]:
        names = [self._has.source(source) for source in sources]
        if not names or len(set(names)) != len(names):
            raise ConfigError(f"sources {list(sources)!r}: different ones are expected, at least one")
        if any(name.startswith("DIG") for name in names):
            raise ConfigError("digital lines are read together: POD1 instead of single DIG lines")
        return names

    def fetch_values(
        self, source: str, points: int | None = 1000, *, deadline_s: float = 30.0
    ) -> tuple[Preamble, NDArray[np.float64]]:
        """Read one source of the finished acquisition as numbers in its unit, (n,), in ASCii format."""
        return self._acquisition.fetch_values(self._has.source(source), points, deadline_s)

    def captures(
        self,
        sources: Sequence[str],
        count: int | None = None,
        *,
        points: int | None = 100_000,
        force_first: bool = False,
        force_rest: bool = True,
        trigger_s: float = 5.0,
        fetch_s: float = 30.0,
    ) -> Generator[Capture, None, None]:
        """Give one capture after another, each with an acquisition of its own: for what one record cannot hold.

        The first waits for its trigger unless ``force_first``, the others are forced unless ``force_rest`` is False.
        Each is armed before the one before it is given, so that it is acquired while the caller works; nothing is
        recorded while one is fetched and the next arms. ``Capture.gap_after_s`` bounds that time. Call nothing
        else of this scope between two captures; end early by closing the generator, which stops the scope.

        Args:
            sources: as for ``fetch``.
            count: how many; None goes on until the generator is closed.
            points: as for ``fetch``.
            force_first: do not wait for the trigger of the first.
            force_rest: do not wait for those of the others.
            trigger_s: how long a trigger may take, beyond the window, in seconds.
            fetch_s: deadline of each transfer, in seconds.

        Raises:
            CaptureError: as ``arm``, ``wait_done`` and ``fetch`` do; captures given before stay good.
        """
        names = self._names(sources)
        if count is not None and count < 1:
            raise ConfigError(f"{count!r} captures: at least one is expected")
        wait_s = trigger_s + (self._timebase.range_s if self._timebase else 10.0)
        return series.consecutive(self, names, count, points, (force_first, force_rest), wait_s, fetch_s)

    def segments(
        self, sources: Sequence[str], points: int | None = None, *, fetch_s: float = 30.0
    ) -> Iterator[Capture]:
        """Read the finished acquisition segment by segment, each with the scope's own time of its trigger.

        To be used after ``configure_segments``, ``arm`` and ``wait_done``. A scope that was stopped early has
        fewer than asked for.
        """
        names = self._names(sources)
        if not self._segments:
            raise ConfigError("the memory is not divided: configure_segments() before arm()")
        options = TransferOptions()
        return series.segments(self._dialogue, self._acquisition, names, points, options, fetch_s)

    # -- the whole instrument --------------------------------------------------------------------------

    def measure(self, item: str, source: str) -> float | None:
        """Ask one of ``MEASUREMENTS``, such as ``VAVerage``, of a source; None where it has no value."""
        if not any(scpi.same_keyword(item, known) for known in MEASUREMENTS):
            one_of("measurement", item, MEASUREMENTS)
        query = f":MEASure:{item}? {source_command(self._has.source(source))}"
        return self._dialogue.parsed(query, scpi.parse_value)

    def setup(self) -> bytes:
        """Read the learn string: all settings as a binary block."""
        return self.link.query_block(":SYSTem:SETup?", SETUP_S)

    def restore(self, setup: bytes) -> None:
        """Set everything from a learn string; raises ScpiError when the scope does not take it."""
        self._acquisition.forget()
        self._timebase, self._segments = None, 0
        self.link.write(b":SYSTem:SETup " + write_block(setup), SETUP_S)
        self._dialogue.parsed("*OPC?", scpi.parse_int, SETUP_S)
        self.check_errors(":SYSTem:SETup")

    def settings(self) -> dict[str, str]:
        """Read back the settings that matter for a capture: query without ``?`` -> answer."""
        return self._configure.read_all(self._has)

    def read_back(self, names: Sequence[str]) -> dict[str, str]:
        """Read some of ``settings`` back, by their names, in one message for every sixteen."""
        return self._configure.read(names)

    def screenshot(self, *, deadline_s: float = 15.0) -> bytes:
        """Read the screen as a PNG file; raises ProtocolError for what is none.

        The arguments are those of the family's guides; not confirmed on a 2024A.
        """
        query = ":DISPlay:DATA? PNG, COLor"
        data = self.link.query_block(query, deadline_s)
        if not (data.startswith(_PNG_START) and data.rstrip().endswith(_PNG_END)):
            error = ProtocolError(f"the screen came as {len(data)} bytes that are no whole PNG", first_bytes=data[:40])
            raise self._dialogue.named(error, query)
        return data

    def close(self) -> None:
        """Close the link; the scope stays as it is."""
        self.link.close()
