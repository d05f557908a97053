"""Driver of the E3645A DC supply over GPIB or RS-232: output, protection, measurement, and the way out.

``E3645A`` composes a link and never sends a set-point beyond its limits; connecting sends nothing.
Sources: UG364 p.90 (OVP), p.120/135 (status).
"""

from __future__ import annotations

import logging
from typing import Literal

from instruments import scpi
from instruments.errors import BenchError, ConfigError, InstrumentError, LimitError, LinkError, ProtocolError

from .ratings import programming_tolerance_v, readback_tolerance_v
from .setpoints import SetPoints

_log = logging.getLogger(__name__)

Mode = Literal["CV", "CC", "UNREG", "OFF", "FAULT"]

# Bits of STATus:QUEStionable:INSTrument:ISUMmary1:CONDition (UG364 p.120).
CC_BIT, CV_BIT, OVERTEMPERATURE_BIT, OVP_BIT = 1, 2, 16, 512
_CONDITION = "STATus:QUEStionable:INSTrument:ISUMmary1:CONDition?"
_EVENT = "STATus:QUEStionable:INSTrument:ISUMmary1:EVENt?"
# A MEAS? takes 50 to 150 ms, the first after OUTP or RANG longer; over RS-232 up to 750 ms was allowed for.
MEASURE_DEADLINE_S = 5.0
# The output settles within 90 ms (second-hand, unconfirmed).
SETTLE_S = 0.2


class E3645A(SetPoints):
    """Driver over one link, with the limits of the bench. ``clock`` and ``sleep`` are those of the bench."""

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

    # -- protection ---------------------------------------------------------------------------------------

    def ovp_tripped(self) -> bool:
        """Ask whether the over-voltage protection has tripped."""
        return self._dialogue.parsed("VOLTage:PROTection:TRIPped?", scpi.parse_bool)

    def clear_ovp(self) -> None:
        """Clear a trip; the previous output comes back once the cause is gone (UG364 p.90).

        Looks again when the output has had the time to rise and trip anew; SettingError if it has.
        """
        self._set("VOLTage:PROTection:CLEar")
        self._sleep(SETTLE_S)
        if self.ovp_tripped():
            raise self._wrong(
                "OVP", "cleared", "still tripped", "VOLTage:PROTection:CLEar", "raise the OVP level or find the cause"
            )

    # -- measurement --------------------------------------------------------------------------------------

    def measure_voltage_v(self) -> float:
        """Measure the voltage at the terminals (or sense leads), in volts; slow and averaged."""
        return self._measure("MEASure:VOLTage?")

    def measure_current_a(self) -> float:
        """Measure the output current, in amperes; slow and averaged."""
        return self._measure("MEASure:CURRent?")

    def _measure(self, query: str) -> float:
        value = self._dialogue.parsed(query, scpi.parse_value, MEASURE_DEADLINE_S)
        if value is None:
            raise self._dialogue.named(ProtocolError("the measurement has no value (9.9E+37)"), query)
        return value

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

    def recall_state(self, memory: int) -> None:
        """Recall memory 1 to 5 with the output off, and leave it off.

        Raises LimitError for set-points beyond the limits of this bench, which are then put to 0 V. A protection
        above the limit is lowered to it.
        """
        command = f"*RCL {self._memory(memory)}"
        if self.output_is_on():
            raise ConfigError(
                f"{self.link.name}: {command} with the output on could apply anything; switch it off first"
            )
        self._set(command)
        if self.output_is_on():
            self.output(False)
        if (self.ovp_v() or 0.0) > self._most_ovp_v:
            self.set_ovp(self._most_ovp_v)
        try:
            self._check_read_back()
        except LimitError:
            self._set("VOLTage 0")
            raise

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
