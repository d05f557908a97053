"""The oscilloscope: settings with read-back, single acquisitions, the whole instrument.

Sources: PG2000 (commands); how an acquisition is trusted is in ``acquisition``.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from instruments import scpi
from instruments.dialogue import Dialogue
from instruments.errors import ConfigError
from instruments.ieee488 import write_block
from instruments.link import Conversation
from instruments.waveform import Capture, Preamble

from .acquisition import Acquisition, ScopeState
from .plan import Capabilities
from .settings import (
    AcquisitionSettings,
    ChannelSettings,
    DigitalSettings,
    EdgeTrigger,
    TimebaseSettings,
    join,
    source_command,
    source_name,
)
from .transfer import Format, TransferOptions

MODEL = r"[MD]SO-X 20[0-2][24]A"


class MsoX2024A:
    """Driver over one link; making it sends nothing. ``clock`` and ``sleep`` are for tests."""

    def __init__(
        self,
        link: Conversation,
        *,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self.link = link
        self._dialogue = Dialogue(link)
        self._acquisition = Acquisition(self._dialogue, clock, sleep)
        self._range_s: float | None = None
        self._before_s = 0.0

    # -- identity and errors --------------------------------------------------------------------

    def identity(self) -> scpi.Identity:
        """Ask who answers here."""
        return self._dialogue.identity()

    def expect_identity(self, model: str = MODEL, serial: str | None = None) -> scpi.Identity:
        """Insist on a model (regular expression) and serial; raises IdentityError naming both."""
        return self._dialogue.expect_identity(model, serial)

    def capabilities(self, memory_points: int = 100_000) -> Capabilities:
        """Read off the model what this scope can do."""
        return Capabilities.of(self.identity().model, memory_points)

    def options(self) -> tuple[str, ...]:
        """Ask ``*OPT?`` for the installed options."""
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
        if number not in (1, 2, 3, 4):
            raise ConfigError(f"channel {number}: 1 to 4 is expected")
        self._acquisition.forget()
        commands, d = settings.commands(number), self._dialogue
        answers = d.set(commands, *ChannelSettings.queries(number))
        display, units, probe, coupling, limit, invert, full_scale, offset = answers
        name = f"CHAN{number}"
        d.confirm_bool(f"{name} display", settings.display, display, commands)
        d.confirm_keyword(f"{name} units", "AMPere" if settings.units == "A" else "VOLT", units, commands)
        d.confirm_keyword(f"{name} coupling", settings.coupling, coupling, commands)
        d.confirm_bool(f"{name} bandwidth limit", settings.bandwidth_limit, limit, commands)
        d.confirm_bool(f"{name} invert", settings.invert, invert, commands)
        ratio = settings.probe_ratio
        scale = settings.full_scale
        hint = "the scope has 1-2-5 steps of 1 mV/div to 5 V/div, 8 divisions, times the probe ratio"
        return replace(
            settings,
            probe_ratio=d.confirm(f"{name} probe ratio", ratio, probe, 1e-3 * ratio, commands),
            full_scale=d.confirm(f"{name} full_scale", scale, full_scale, 0.01 * scale, commands, hint),
            offset=d.confirm(f"{name} offset", settings.offset, offset, 0.01 * scale, commands),
        )

    def switch_off_channel(self, number: int) -> None:
        """Take a channel off the display, which gives its memory to its pair partner."""
        self._acquisition.forget()
        command = f":CHANnel{number}:DISPlay 0"
        (answer,) = self._dialogue.set(command, f":CHANnel{number}:DISPlay?")
        self._dialogue.confirm_bool(f"CHAN{number} display", False, answer, command)

    def configure_digital(self, bits: Sequence[int], threshold_v: float = 1.65) -> DigitalSettings:
        """Switch on the pod and these of its lines, the others off, with one threshold in volts."""
        settings = DigitalSettings(tuple(bits), threshold_v)
        self._acquisition.forget()
        lines = [f":DIGital{bit}:DISPlay {int(bit in settings.bits)}" for bit in range(8)]
        threshold = f":POD1:THReshold {scpi.format_number(threshold_v)}"
        commands = join([":POD1:DISPlay 1", *lines, threshold])
        queries = [f":DIGital{bit}:DISPlay?" for bit in range(8)]
        *shown, level = self._dialogue.set(commands, *queries, ":POD1:THReshold?")
        for bit, answer in enumerate(shown):
            self._dialogue.confirm_bool(f"DIG{bit} display", bit in settings.bits, answer, commands)
        got = self._dialogue.confirm("POD1 threshold_v", threshold_v, level, 0.02, commands)
        return replace(settings, threshold_v=got)

    def switch_off_digital(self) -> None:
        """Take the pod off the display; it takes memory from the channels while it is on."""
        self._acquisition.forget()
        (answer,) = self._dialogue.set(":POD1:DISPlay 0", ":POD1:DISPlay?")
        self._dialogue.confirm_bool("POD1 display", False, answer, ":POD1:DISPlay 0")

    def configure_timebase(
        self, range_s: float, reference: Literal["LEFT", "CENTer", "RIGHt"] = "LEFT", position_s: float = 0.0
    ) -> TimebaseSettings:
        """Set the window (10 divisions) and where the trigger stands in it; seconds."""
        settings = TimebaseSettings(range_s, reference, position_s)
        self._acquisition.forget()
        d = self._dialogue
        commands = join(
            [
                ":TIMebase:MODE MAIN",
                f":TIMebase:REFerence {reference}",
                f":TIMebase:RANGe {scpi.format_number(range_s)}",
                f":TIMebase:POSition {scpi.format_number(position_s)}",
            ]
        )
        mode, ref, span, position = d.set(
            commands, ":TIMebase:MODE?", ":TIMebase:REFerence?", ":TIMebase:RANGe?", ":TIMebase:POSition?"
        )
        d.confirm_keyword("time base mode", "MAIN", mode, commands)
        d.confirm_keyword("time reference", reference, ref, commands)
        got = d.confirm("time range_s", range_s, span, 1e-3 * range_s, commands, "use a 1-2-5 step of s/div")
        at = d.confirm("time position_s", position_s, position, 1e-3 * range_s, commands)
        self._range_s = got
        share = {"LEFT": 0.1, "CENTer": 0.5, "RIGHt": 0.9}[reference]
        self._before_s = min(max(share * got - at, 0.0), got)
        return replace(settings, range_s=got, position_s=at)

    def configure_acquisition(self, type: str = "HRES", count: int | None = None) -> AcquisitionSettings:
        """Set how samples are made: NORM, AVER (with a count), HRES or PEAK."""
        keyword = scpi.match_keyword(type, ("NORMal", "AVERage", "HRESolution", "PEAK"))
        settings = AcquisitionSettings(keyword, count)  # type: ignore[arg-type]
        self._acquisition.forget()
        commands = f":ACQuire:TYPE {keyword}" + (f";:ACQuire:COUNt {count}" if count is not None else "")
        queries = [":ACQuire:TYPE?"] + ([":ACQuire:COUNt?"] if count is not None else [])
        answers = self._dialogue.set(commands, *queries)
        self._dialogue.confirm_keyword("acquisition type", keyword, answers[0], commands)
        if count is not None:
            self._dialogue.confirm("average count", count, answers[1], 0, commands)
        return settings

    def configure_trigger(self, trigger: EdgeTrigger) -> EdgeTrigger:
        """Set an edge trigger; the sweep is set explicitly, since AUTO would trigger by itself."""
        self._acquisition.forget()
        d, commands = self._dialogue, trigger.commands()
        mode, sweep, source, slope, *more = d.set(commands, *trigger.queries())
        d.confirm_keyword("trigger mode", "EDGE", mode, commands)
        d.confirm_keyword("trigger sweep", "NORMal" if trigger.sweep == "NORM" else "AUTO", sweep, commands)
        d.confirm_keyword("trigger source", source_command(trigger.source), source, commands)
        d.confirm_keyword("trigger slope", trigger.slope_keyword, slope, commands)
        if trigger.level_v is not None:
            level = trigger.level_v
            d.confirm("trigger level", level, more.pop(0), max(0.02, 0.02 * abs(level)), commands)
        if trigger.holdoff_s is not None:
            d.confirm("trigger holdoff_s", trigger.holdoff_s, more.pop(0), 0.01 * trigger.holdoff_s, commands)
        return trigger

    # -- acquisition -------------------------------------------------------------------------------

    def state(self) -> ScopeState:
        """Read the condition register: running, armed, overload."""
        return self._acquisition.state()

    def arm(self, deadline_s: float | None = None, *, poll_s: float = 0.001) -> int:
        """Start a single acquisition and wait until it is armed; give its number.

        Until then the scope fills its pre-trigger and would miss an edge: start nothing before this
        returns. The default deadline is the time range plus 5 s.

        Raises:
            ScpiError: the error queue was not empty before.
            CaptureError: ``not-armed`` by the deadline, or ``early-trigger``: it triggered while arming.
        """
        if deadline_s is None:
            deadline_s = 5.0 + (self._range_s or 10.0)
        return self._acquisition.arm(deadline_s, poll_s, self._before_s)

    def wait_done(self, deadline_s: float, *, poll_s: float = 0.005) -> None:
        """Wait until the armed acquisition has triggered and stopped.

        Raises:
            CaptureError: ``not-armed`` (no arm before), ``no-trigger`` or ``not-finished`` by the
                deadline (the scope goes on; ``stop`` or ``arm`` again), ``stopped`` without a trigger.
        """
        self._acquisition.wait_done(deadline_s, poll_s, (self._range_s or 0.0) - self._before_s)

    def digitize(self, sources: Sequence[str], deadline_s: float) -> int:
        """Acquire with the blocking ``:DIGitize`` and wait for ``*OPC?``; give the capture's number.

        For averaging and calibration. Nothing else is answered meanwhile, and without a trigger only a
        device clear ends it, which a raw socket does not have: the link is then broken until reopened.
        """
        return self._acquisition.digitize(sources, deadline_s)

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
    ) -> Capture:
        """Read the finished acquisition, all sources on one time base.

        Args:
            sources: ``CHAN1`` ..., ``POD1``.
            points: length to ask for, from the 1-2-5 list; the scope may give fewer. None asks for all.
            format: ``WORD`` or ``BYTE`` (which cuts HRES to 8 bits).
            min_points: refuse a record shorter than this.
            deadline_s: for everything together, in seconds.
            byte_order: how WORD codes travel; makes no difference to the result.
            unsigned: False asks for signed codes, whose preamble is not documented.

        Raises:
            CaptureError: ``stale`` (not the acquisition that was armed), ``not-displayed``, ``short``,
                ``mismatch`` (points, bytes or time bases differ), ``format``.
            ProtocolError, ScpiError, LinkTimeout: as named.
        """
        names = [source_name(source) for source in sources]
        if not names or len(set(names)) != len(names):
            raise ConfigError(f"sources {list(sources)!r}: different ones are expected, at least one")
        if any(name.startswith("DIG") for name in names):
            raise ConfigError("digital lines are read together: POD1 instead of single DIG lines")
        if format not in ("WORD", "BYTE"):
            raise ConfigError(f"format {format!r}: WORD or BYTE carries raw codes; fetch_values() reads ASCii")
        options = TransferOptions(format, byte_order, unsigned)
        return self._acquisition.fetch(names, points, options, min_points, deadline_s)

    def fetch_values(
        self, source: str, points: int | None = 1000, *, deadline_s: float = 30.0
    ) -> tuple[Preamble, NDArray[np.float64]]:
        """Read one source of the finished acquisition as numbers in its unit, (n,), in ASCii format."""
        return self._acquisition.fetch_values(source_name(source), points, deadline_s)

    # -- the whole instrument --------------------------------------------------------------------------

    def measure(self, item: str, source: str) -> float | None:
        """Ask a measurement such as ``VAVerage`` or ``VPP`` of a source; None where it has no value."""
        query = f":MEASure:{item}? {source_command(source)}"
        return self._dialogue.parsed(query, scpi.parse_value)

    def setup(self) -> bytes:
        """Read the learn string: all settings as a binary block."""
        return self.link.query_block(":SYSTem:SETup?", 10.0)

    def restore(self, setup: bytes) -> None:
        """Set everything from a learn string; raises ScpiError when the scope does not take it."""
        self._acquisition.forget()
        self._range_s, self._before_s = None, 0.0
        self.link.write(b":SYSTem:SETup " + write_block(setup), 10.0)
        self._dialogue.parsed("*OPC?", scpi.parse_int, 10.0)
        self.check_errors(":SYSTem:SETup")

    def settings(self) -> dict[str, str]:
        """Read back the settings that matter for a capture: query without ``?`` -> answer."""
        queries = [q for n in range(1, 5) for q in ChannelSettings.queries(n)]
        queries += [f":TIMebase:{name}?" for name in ("MODE", "REFerence", "RANGe", "POSition")]
        queries += [":ACQuire:TYPE?", ":TRIGger:MODE?", ":TRIGger:SWEep?"]
        queries += [":TRIGger:EDGE:SOURce?", ":TRIGger:EDGE:SLOPe?", ":POD1:DISPlay?", ":POD1:THReshold?"]
        found: dict[str, str] = {}
        for start in range(0, len(queries), 16):  # short messages: input buffers are not endless
            part = queries[start : start + 16]
            answers = self._dialogue.ask(*part)
            found.update((query[1:-1], answer) for query, answer in zip(part, answers, strict=True))
        return found

    def screenshot(self) -> bytes:
        """Read the screen as PNG (the command is the family's; not confirmed on a 2024A)."""
        return self.link.query_block(":DISPlay:DATA? PNG, COLor", 15.0)

    def close(self) -> None:
        """Close the link; the scope stays as it is."""
        self.link.close()
