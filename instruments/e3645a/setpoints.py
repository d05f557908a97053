"""The set-points of the E3645A: range, voltage, current limit, protection; at once, in steps or at a trigger.

None beyond the range or the limits of the bench leaves the host, and each is read back. Sources: UG364 p.77-79
(RS-232), p.90 (OVP), p.196 (accuracy); what a number of that list has no page for is in the comments.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Literal

from instruments import scpi
from instruments.errors import ConfigError, LimitError
from instruments.link import Conversation

from .panel import Panel
from .ratings import (
    OVP_LIMIT_V,
    RANGE_LIMITS,
    RESOLUTION,
    Range,
    SupplyLimits,
    check_set_points,
    programming_tolerance_a,
    programming_tolerance_v,
)

Quantity = Literal["voltage", "current"]
TriggerSource = Literal["BUS", "IMM"]
MOST_DELAY_S = 3600.0


class SetPoints(Panel):
    """What the output shall be; ``E3645A`` is one with an output."""

    def __init__(
        self,
        link: Conversation,
        limits: SupplyLimits,
        *,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        super().__init__(link)
        self.limits = limits
        self._clock = clock
        self._sleep = sleep

    # -- range, voltage, current -----------------------------------------------------------------------

    def range(self) -> Range:
        """Ask for the selected range."""
        answer = self._dialogue.parsed("VOLTage:RANGe?", lambda text: scpi.match_keyword(text, ("P35V", "P60V")))
        return "P35V" if answer == "P35V" else "P60V"

    def set_range(self, name: Range) -> Range:
        """Select P35V (2.2 A) or P60V (1.3 A); lowering it clips voltage and current."""
        if name not in RANGE_LIMITS:
            raise ConfigError(f"{self.link.name}: range {name!r}: P35V or P60V is expected; nothing was sent")
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

    def span(self, quantity: Quantity) -> tuple[float, float]:
        """Ask for the least and most that the selected range can be programmed to, in volts or amperes."""
        header = "VOLTage" if quantity == "voltage" else "CURRent"
        least = self._dialogue.parsed(f"{header}? MIN", scpi.parse_float)
        return least, self._dialogue.parsed(f"{header}? MAX", scpi.parse_float)

    def set_step(self, quantity: Quantity, step: float) -> float:
        """Set by how much ``step`` moves, in volts or amperes; give it as it reads back."""
        most = OVP_LIMIT_V if quantity == "voltage" else max(amperes for _, amperes in RANGE_LIMITS.values())
        if not 0 < step <= most:
            raise LimitError(
                f"{self.link.name}: a {quantity} step of {step:g} is outside 0 to {most:g}; nothing was sent"
            )
        header = "VOLTage:STEP" if quantity == "voltage" else "CURRent:STEP"
        return self._set_number(header, f"{quantity} step", step, RESOLUTION[quantity == "current"])

    def step(self, quantity: Quantity, up: bool) -> float:
        """Move a set-point by one step and give it as it reads back, in volts or amperes; within the limits."""
        header = "VOLTage" if quantity == "voltage" else "CURRent"
        now = self.voltage_v() if quantity == "voltage" else self.current_limit_a()
        by = self._dialogue.parsed(f"{header}:STEP?", scpi.parse_float)
        then = now + (by if up else -by)
        command = f"{header} {'UP' if up else 'DOWN'}"
        if quantity == "voltage":
            self._check_limits(voltage_v=then)
            tolerance = programming_tolerance_v(then)
        else:
            self._check_limits(current_a=then)
            tolerance = programming_tolerance_a(then)
        self._set(command)
        return self._dialogue.confirm(quantity, then, self.link.query(f"{header}?"), tolerance, command)

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

    # -- protection ---------------------------------------------------------------------------------------

    def set_ovp(self, voltage_v: float | None) -> float | None:
        """Set the over-voltage protection in volts and switch it on; None switches it off.

        It acts on the output terminals, not on the sense leads, and latches an SCR across the output.
        """
        if voltage_v is None:
            self._set("VOLTage:PROTection:STATe OFF")
            self._confirm_bool("VOLTage:PROTection:STATe", False)
            return None
        most_v = self._most_ovp_v
        if not 0 < voltage_v <= most_v:
            raise LimitError(f"{self.link.name}: OVP {voltage_v:g} V is outside 0 to {most_v:g} V; nothing was sent")
        got = self._set_number("VOLTage:PROTection", "ovp_v", voltage_v, 0.005 * voltage_v + 0.5)
        self._set("VOLTage:PROTection:STATe ON")
        self._confirm_bool("VOLTage:PROTection:STATe", True)
        return got

    def ovp_v(self) -> float | None:
        """Ask for the over-voltage protection in volts; None where it is switched off."""
        if not self._dialogue.parsed("VOLTage:PROTection:STATe?", scpi.parse_bool):
            return None
        return self._dialogue.parsed("VOLTage:PROTection?", scpi.parse_float)

    # -- at a trigger -------------------------------------------------------------------------------------

    def set_triggered(
        self, voltage_v: float, current_a: float, *, delay_s: float = 0.0, source: TriggerSource = "BUS"
    ) -> None:
        """Prepare set-points that take effect ``delay_s`` after ``trigger()``; volts, amperes, seconds.

        With the source ``IMM`` nothing more is needed: the delay runs from now on.
        """
        self._check_limits(voltage_v=voltage_v, current_a=current_a)
        if not 0 <= delay_s <= MOST_DELAY_S:
            raise LimitError(
                f"{self.link.name}: trigger delay {delay_s:g} s is outside 0 to {MOST_DELAY_S:g} s; nothing was sent"
            )
        if source not in ("BUS", "IMM"):
            raise ConfigError(f"{self.link.name}: trigger source {source!r}: BUS or IMM is expected; nothing was sent")
        self._set_number("VOLTage:TRIGgered", "voltage_v", voltage_v, programming_tolerance_v(voltage_v))
        self._set_number("CURRent:TRIGgered", "current_a", current_a, programming_tolerance_a(current_a))
        command = f"TRIGger:SOURce {source}"
        self._set(command)
        self._dialogue.confirm_keyword("trigger source", source, self.link.query("TRIGger:SOURce?"), command)
        self._set_number("TRIGger:DELay", "delay_s", delay_s, 0.5)
        self._set("INITiate")

    def triggered(self) -> tuple[float, float]:
        """Ask for the prepared set-points: voltage (V), current limit (A)."""
        prepared_v = self._dialogue.parsed("VOLTage:TRIGgered?", scpi.parse_float)
        return prepared_v, self._dialogue.parsed("CURRent:TRIGgered?", scpi.parse_float)

    def trigger(self) -> None:
        """Send ``*TRG``: the prepared set-points take effect, after their delay. Raises ScpiError if none are."""
        self._set("*TRG")

    def wait_triggered(self, deadline_s: float = 5.0) -> tuple[float, float]:
        """Wait until the prepared set-points are those in force, and give them; raises SettingError."""
        wanted_v, wanted_a = self.triggered()
        until = self._clock() + deadline_s
        while True:
            got_v, got_a = self.applied()
            right_v = abs(got_v - wanted_v) <= programming_tolerance_v(wanted_v)
            if right_v and abs(got_a - wanted_a) <= programming_tolerance_a(wanted_a):
                return got_v, got_a
            if self._clock() >= until:
                asked, got = f"{wanted_v:g} V, {wanted_a:g} A", f"{got_v:g} V, {got_a:g} A"
                hint = f"no trigger took effect within {deadline_s:g} s"
                raise self._wrong("triggered set-points", asked, got, "APPLy?", hint)
            self._sleep(0.02)

    # -- inside -------------------------------------------------------------------------------------------

    @property
    def _most_ovp_v(self) -> float:
        return min(OVP_LIMIT_V, self.limits.ovp_v)

    def _check_limits(self, *, voltage_v: float | None = None, current_a: float | None = None) -> None:
        """Raise LimitError before a set-point leaves the host.

        What no range allows is refused without a question; else the range is asked for, since the front panel
        may have changed it.
        """
        check_set_points(self.link.name, "P60V", self.limits, voltage_v, None)
        check_set_points(self.link.name, "P35V", self.limits, None, current_a)
        check_set_points(self.link.name, self.range(), self.limits, voltage_v, current_a)

    def _check_read_back(self) -> None:
        """Raise LimitError when the set-points that are there now are beyond range or limits."""
        here_v, here_a = self.voltage_v(), self.current_limit_a()
        check_set_points(self.link.name, self.range(), self.limits, here_v, here_a, read_back=True)
