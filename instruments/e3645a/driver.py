"""Driver of the E3645A DC supply over GPIB or RS-232.

``E3645A`` composes a link and never sends a set-point beyond its limits; connecting sends nothing.
Every set-point is read back. Sources: UG364 p.77-79 (RS-232), p.90 (OVP), p.120/135 (status), p.196
(accuracy); what a number of that list has no page for is in the comments.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from typing import Literal

from instruments import scpi
from instruments.dialogue import Dialogue
from instruments.errors import BenchError, ConfigError, InstrumentError, LimitError, LinkError, SettingError
from instruments.link import Conversation

from .ratings import (
    OVP_LIMIT_V,
    RANGE_LIMITS,
    Range,
    SupplyLimits,
    check_set_points,
    programming_tolerance_a,
    programming_tolerance_v,
    readback_tolerance_v,
)

_log = logging.getLogger(__name__)

Mode = Literal["CV", "CC", "UNREG", "OFF", "FAULT"]
MODEL = "E3645A"
MEMORIES = range(1, 6)

# Bits of STATus:QUEStionable:INSTrument:ISUMmary1:CONDition (UG364 p.120).
CC_BIT, CV_BIT, OVERTEMPERATURE_BIT, OVP_BIT = 1, 2, 16, 512
_CONDITION = "STATus:QUEStionable:INSTrument:ISUMmary1:CONDition?"
_EVENT = "STATus:QUEStionable:INSTrument:ISUMmary1:EVENt?"
# A MEAS? takes 50 to 150 ms, the first after OUTP or RANG longer; over RS-232 up to 750 ms was allowed for.
MEASURE_DEADLINE_S = 5.0


class E3645A:
    """Driver over one link, with the limits of the bench. ``clock`` and ``sleep`` are for tests."""

    def __init__(
        self,
        link: Conversation,
        limits: SupplyLimits,
        *,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self.link = link
        self.limits = limits
        self._dialogue = Dialogue(link)
        self._clock = clock
        self._sleep = sleep
        self._range: Range | None = None

    # -- identity and errors -----------------------------------------------------------------------

    def identity(self) -> scpi.Identity:
        """Ask who answers here; the serial field of this model is 0."""
        return self._dialogue.identity()

    def expect_identity(self, model: str = MODEL, serial: str | None = None) -> scpi.Identity:
        """Insist on a model (regular expression) and serial; raises IdentityError naming both."""
        return self._dialogue.expect_identity(model, serial)

    def errors(self) -> list[scpi.ErrorEntry]:
        """Read and empty the error queue."""
        return self._dialogue.errors()

    def check_errors(self, after: str) -> None:
        """Raise ScpiError when the error queue is not empty."""
        self._dialogue.check_errors(after)

    # -- set-points ------------------------------------------------------------------------------------

    def range(self) -> Range:
        """Ask for the selected range."""
        answer = self._dialogue.parsed("VOLTage:RANGe?", lambda text: scpi.match_keyword(text, ("P35V", "P60V")))
        self._range = "P35V" if answer == "P35V" else "P60V"
        return self._range

    def set_range(self, name: Range) -> Range:
        """Select P35V (2.2 A) or P60V (1.3 A); lowering it clips voltage and current."""
        if name not in RANGE_LIMITS:
            raise ConfigError(f"supply range {name!r}: P35V or P60V is expected")
        self._set(f"VOLTage:RANGe {name}")
        got = self.range()
        if got != name:
            raise self._wrong("range", name, got, f"VOLTage:RANGe {name}")
        return got

    def set_voltage(self, voltage_v: float) -> float:
        """Set the voltage in volts and give it as it reads back; acts at once when the output is on."""
        self._check_limits(voltage_v=voltage_v)
        return self._set_number("VOLTage", "voltage_v", voltage_v, programming_tolerance_v(voltage_v))

    def set_current_limit(self, current_a: float) -> float:
        """Set the current limit in amperes and give it as it reads back."""
        self._check_limits(current_a=current_a)
        return self._set_number("CURRent", "current_a", current_a, programming_tolerance_a(current_a))

    def voltage_v(self) -> float:
        """Read the voltage set-point, in volts."""
        return self._dialogue.parsed("VOLTage?", scpi.parse_float)

    def current_limit_a(self) -> float:
        """Read the current limit, in amperes."""
        return self._dialogue.parsed("CURRent?", scpi.parse_float)

    def apply(self, voltage_v: float, current_a: float) -> tuple[float, float]:
        """Set voltage and current limit together; give both as they read back (volts, amperes)."""
        self._check_limits(voltage_v=voltage_v, current_a=current_a)
        command = f"APPLy {scpi.format_number(voltage_v)},{scpi.format_number(current_a)}"
        self._set(command)
        got_v, got_a = self.applied()
        if abs(got_v - voltage_v) > programming_tolerance_v(voltage_v):
            raise self._wrong("voltage_v", voltage_v, got_v, command)
        if abs(got_a - current_a) > programming_tolerance_a(current_a):
            raise self._wrong("current_a", current_a, got_a, command)
        return got_v, got_a

    def applied(self) -> tuple[float, float]:
        """Ask ``APPLy?``, a quoted string, for voltage (V) and current limit (A)."""

        def parse(text: str) -> tuple[float, float]:
            volts, _, amperes = (scpi.parse_string(text) if text.strip()[:1] in "\"'" else text).partition(",")
            return scpi.parse_float(volts), scpi.parse_float(amperes)

        return self._dialogue.parsed("APPLy?", parse)

    def set_ovp(self, voltage_v: float | None) -> float | None:
        """Set the over-voltage protection in volts and switch it on; None switches it off.

        It acts on the output terminals, not on the sense leads, and latches an SCR across the output.
        """
        if voltage_v is None:
            self._set("VOLTage:PROTection:STATe OFF")
            self._confirm_bool("VOLTage:PROTection:STATe", False)
            return None
        most_v = min(OVP_LIMIT_V, self.limits.ovp_v)
        if not 0 < voltage_v <= most_v:
            raise LimitError(f"{self.link.name}: OVP {voltage_v:g} V is outside 0 to {most_v:g} V; nothing was sent")
        got = self._set_number("VOLTage:PROTection", "ovp_v", voltage_v, 0.005 * voltage_v + 0.5)
        self._set("VOLTage:PROTection:STATe ON")
        self._confirm_bool("VOLTage:PROTection:STATe", True)
        return got

    def ramp(self, to_v: float, *, step_v: float = 0.5, dwell_s: float = 0.1) -> float:
        """Go from the present set-point to another in steps of ``step_v`` volts, ``dwell_s`` seconds apart."""
        if not step_v > 0:
            raise ConfigError(f"a ramp step of {step_v!r} V is not positive")
        self._check_limits(voltage_v=to_v)
        at_v = self.voltage_v()
        while abs(to_v - at_v) > step_v:
            at_v += step_v if to_v > at_v else -step_v
            self.set_voltage(at_v)
            self._sleep(dwell_s)
        return self.set_voltage(to_v)

    def set_triggered(self, voltage_v: float, current_a: float, *, delay_s: float = 0.0) -> None:
        """Prepare set-points that take effect ``delay_s`` after ``trigger()``; volts, amperes, seconds."""
        self._check_limits(voltage_v=voltage_v, current_a=current_a)
        if not 0 <= delay_s <= 3600:
            raise LimitError(f"{self.link.name}: trigger delay {delay_s:g} s is outside 0 to 3600 s; nothing was sent")
        self._set_number("VOLTage:TRIGgered", "voltage_v", voltage_v, programming_tolerance_v(voltage_v))
        self._set_number("CURRent:TRIGgered", "current_a", current_a, programming_tolerance_a(current_a))
        self._set("TRIGger:SOURce BUS")
        self._set_number("TRIGger:DELay", "delay_s", delay_s, 0.5)
        self._set("INITiate")

    def trigger(self) -> None:
        """Send ``*TRG``: the prepared set-points take effect."""
        self._set("*TRG")

    # -- output ------------------------------------------------------------------------------------------

    def output(self, on: bool) -> None:
        """Switch the output and verify it; before switching on, range and set-points are checked.

        They are asked for, since the front panel may have changed them.

        Off means 0 V and about 20 mA, not an open circuit: a board may feed back (E3634A text).
        """
        if on:
            self._check_read_back()
        command = f"OUTPut {'ON' if on else 'OFF'}"
        self._set(command)
        if self.output_is_on() is not on:
            hint = "is the over-voltage protection tripped?" if on else "the output may still be on"
            raise self._wrong("output", "on" if on else "off", "off" if on else "on", command, hint)

    def output_is_on(self) -> bool:
        """Ask whether the output is on."""
        return self._dialogue.parsed("OUTPut?", scpi.parse_bool)

    def set_relay(self, on: bool) -> None:
        """Drive the relay outputs (TTL on RS-232 pins 1 and 9; needs internal jumpers, and GPIB)."""
        if self.is_serial:
            raise ConfigError("the relay lines are pins of the RS-232 connector: they need GPIB as interface")
        self._set(f"OUTPut:RELay {'ON' if on else 'OFF'}")
        self._confirm_bool("OUTPut:RELay", on)

    def mode(self) -> Mode:
        """Say what the output does: regulates voltage or current, neither, is off, or has a fault."""
        bits = self._dialogue.parsed(_CONDITION, scpi.parse_int)
        if bits & (OVP_BIT | OVERTEMPERATURE_BIT) or bits & 3 == 3:
            return "FAULT"
        if bits & CC_BIT:
            return "CC"
        if bits & CV_BIT:
            return "CV"
        return "UNREG" if self.output_is_on() else "OFF"

    def limited_since(self) -> bool:
        """Say whether the current limit or a protection acted since this was last asked, however shortly.

        Reading the event register clears it: ask before a run, then after it.
        """
        return bool(self._dialogue.parsed(_EVENT, scpi.parse_int) & (CC_BIT | OVP_BIT | OVERTEMPERATURE_BIT))

    def ovp_tripped(self) -> bool:
        """Ask whether the over-voltage protection has tripped."""
        return self._dialogue.parsed("VOLTage:PROTection:TRIPped?", scpi.parse_bool)

    def clear_ovp(self) -> None:
        """Clear a trip; the previous output comes back once the cause is gone (UG364 p.90)."""
        self._set("VOLTage:PROTection:CLEar")
        if self.ovp_tripped():
            raise self._wrong(
                "OVP", "cleared", "still tripped", "VOLTage:PROTection:CLEar", "raise the OVP level or find the cause"
            )

    def measure_voltage_v(self) -> float:
        """Measure the voltage at the terminals (or sense leads), in volts; slow and averaged."""
        return self._dialogue.parsed("MEASure:VOLTage?", scpi.parse_float, MEASURE_DEADLINE_S)

    def measure_current_a(self) -> float:
        """Measure the output current, in amperes; slow and averaged."""
        return self._dialogue.parsed("MEASure:CURRent?", scpi.parse_float, MEASURE_DEADLINE_S)

    def wait_settled(
        self, deadline_s: float = 5.0, *, voltage_v: float | None = None, tolerance_v: float | None = None
    ) -> float:
        """Wait until the supply regulates voltage and measures it within tolerance; give the last reading.

        Default target is the set-point, default tolerance programming plus read-back accuracy.
        Raises SettingError when it does not get there, naming the mode: CC means the limit is too low.
        """
        target = self.voltage_v() if voltage_v is None else voltage_v
        if tolerance_v is None:
            tolerance_v = programming_tolerance_v(target) + readback_tolerance_v(target)
        deadline = self._clock() + deadline_s
        while True:
            got, mode = self.measure_voltage_v(), self.mode()
            if mode == "CV" and abs(got - target) <= tolerance_v:
                return got
            if self._clock() >= deadline or mode == "FAULT":
                hint = f"the output is {mode} after {deadline_s:g} s; CC means that the current limit is reached"
                raise self._wrong("measured voltage_v", target, got, "MEASure:VOLTage?", hint)
            self._sleep(0.05)

    # -- memory, display, remote -------------------------------------------------------------------------

    def save_state(self, memory: int) -> None:
        """Save the set-points in memory 1 to 5."""
        self._set(f"*SAV {self._memory(memory)}")

    def recall_state(self, memory: int) -> None:
        """Recall memory 1 to 5 with the output off; what is beyond the limits is set back to zero."""
        command = f"*RCL {self._memory(memory)}"
        if self.output_is_on():
            raise ConfigError(f"{command} with the output on could apply anything; switch it off first")
        self._range = None
        self._set(command)
        try:
            self._check_read_back()
        except LimitError:
            self.output(False)
            self._set("VOLTage 0")
            raise
        if self.output_is_on():
            self.output(False)

    def display(self, on: bool) -> None:
        """Switch the front panel display."""
        self._set(f"DISPlay {'ON' if on else 'OFF'}")
        self._confirm_bool("DISPlay", on)

    def display_text(self, text: str | None) -> None:
        """Show a text on the front panel; None shows the meters again."""
        if text is None:
            self._set("DISPlay:TEXT:CLEar")
        else:
            self._set(f"DISPlay:TEXT {scpi.quote(text)}")

    @property
    def is_serial(self) -> bool:
        """Whether the link is an RS-232 line."""
        return self.link.resource.upper().startswith("ASRL")

    def remote(self) -> None:
        """Take control on RS-232, which must come first there; GPIB needs nothing."""
        if self.is_serial:
            self.link.write("SYSTem:REMote")

    def local(self) -> bool:
        """Give the front panel back; False where the interface cannot."""
        if self.is_serial:
            self.link.write("SYSTem:LOCal")
            return True
        return self.link.to_local()

    # -- the way out ------------------------------------------------------------------------------------

    def safe_off(self, attempts: int = 3) -> None:
        """Switch the output off and verify it, reopening the link if need be.

        Raises InstrumentError, loudly, when the output could not be seen off.
        """
        failure: BaseException | None = None
        for attempt in range(attempts):
            try:
                if attempt:
                    self._reconnect()
                self.link.write("OUTPut OFF")
                if not self.output_is_on():
                    if attempt:
                        self._forget_errors()
                    return
                failure = self._wrong("output", "off", "on", "OUTPut OFF")
            except BenchError as error:
                failure = error
            _log.warning("%s: switching off, attempt %d: %s", self.link.name, attempt + 1, failure)
        raise InstrumentError(
            f"THE OUTPUT MAY STILL BE ON: it could not be switched off in {attempts} attempts ({failure}); "
            "switch it off at the front panel now",
            instrument=self.link.name,
            resource=self.link.resource,
            command="OUTPut OFF",
        ) from failure

    def close(self) -> None:
        """Close the link; the output stays as it is."""
        self.link.close()

    # -- inside -------------------------------------------------------------------------------------------

    def _reconnect(self) -> None:
        try:
            self.link.clear()
        except LinkError:
            self.link.reopen()
        self.remote()

    def _forget_errors(self) -> None:
        """Empty the error queue of what a broken conversation left: no later command is to be blamed for it."""
        try:
            for entry in self.errors():
                _log.warning("%s: left in the error queue by a broken conversation: %s", self.link.name, entry)
        except BenchError as error:
            _log.warning("%s: the error queue could not be emptied: %s", self.link.name, error)

    def _set(self, command: str) -> None:
        self.link.write(command)
        self.check_errors(command)

    def _set_number(self, header: str, setting: str, value: float, tolerance: float) -> float:
        command = f"{header} {scpi.format_number(value)}"
        self._set(command)
        return self._dialogue.confirm(setting, value, self.link.query(f"{header}?"), tolerance, command)

    def _confirm_bool(self, header: str, on: bool) -> None:
        self._dialogue.confirm_bool(header, on, self.link.query(f"{header}?"), f"{header} {int(on)}")

    def _memory(self, memory: int) -> int:
        if memory not in MEMORIES:
            raise ConfigError(f"state memory {memory}: 1 to 5 is expected")
        return memory

    def _check_limits(self, *, voltage_v: float | None = None, current_a: float | None = None) -> None:
        """Raise LimitError before anything leaves the host; the range is the one selected now."""
        check_set_points(self.link.name, self._range or self.range(), self.limits, voltage_v, current_a)

    def _check_read_back(self) -> None:
        """Raise LimitError when the set-points that are there now are beyond range or limits."""
        here_v, here_a = self.voltage_v(), self.current_limit_a()
        check_set_points(self.link.name, self.range(), self.limits, here_v, here_a, read_back=True)

    def _wrong(self, setting: str, asked: object, got: object, command: str, hint: str = "") -> SettingError:
        return self._dialogue.named(SettingError(setting, asked, got, hint=hint), command)
