"""A simulated E3645A DC supply, written from the User's and Service Guide of the family (UG364). Pure.

What feeds the board is told to the world (`set_supply`); what MEAS? answers comes back from it, with a
read-back error within the specification and quantised. Its commands are in `e3645a_commands`. Imports no driver.

Unconfirmed, and how to change it: *RST state (0 V, full-scale current: `reset_to`); `scpi_version`; MEAS? takes
`measure_s`, longer after an output or range change; `error_depth` 20; read-back steps of `step_v`, `step_a`; over
RS-232 a setting before SYST:REM is refused with 550 (`local_refuses`), replies end in CR LF (`serial_crlf`) and Ctrl-C
is a device clear (`control_c_clears`); over GPIB SYST:REM, :LOC, :RWL are refused with 514 (`rs232_only`); OUTP? stays
1 after an over-voltage trip (`trip_reads_off`); the least protection level `ovp_min_v`; UP and DOWN go by
`default_steps` after *RST; *RCL of a place that holds nothing recalls the reset state (`empty_recall`).
"""

from __future__ import annotations

import math
from dataclasses import asdict, replace
from typing import Any, Literal

import numpy as np

from instruments.simulated.e3645a_commands import add_commands
from instruments.simulated.e3645a_settings import (
    CC_BIT,
    CV_BIT,
    IDENTITY,
    OFF_A,
    OVP_BIT,
    OVP_MIN_V,
    Settings,
    draw_errors,
    nr3,
)
from instruments.simulated.interfaces import Surroundings
from instruments.simulated.scpi_errors import Refused
from instruments.simulated.scpi_machine import ScpiMachine
from instruments.simulated.scpi_port import Port
from instruments.simulated.scpi_syntax import Unit
from instruments.simulated.scpi_tree import Command, Job


class SimulatedE3645A(ScpiMachine):
    """The supply as its interfaces see it. Errors of programming and read-back are drawn from the seed."""

    def __init__(
        self,
        world: Surroundings,
        *,
        seed: int = 0,
        identity: str = IDENTITY,
        measure_s: tuple[float, float] = (0.05, 0.15),
        measure_extra_s: float = 0.1,
        average_s: float = 0.1,
        step_v: float = 0.005,
        step_a: float = 0.001,
        default_steps: tuple[float, float] = (0.01, 0.001),
        error_share: float = 1.0,
        error_depth: int = 20,
        drops_unread: bool = True,
        local_refuses: bool = True,
        serial_crlf: bool = True,
        control_c_clears: bool = True,
        rs232_only: bool = True,
        trip_reads_off: bool = False,
        ovp_min_v: float = OVP_MIN_V,
        empty_recall: Literal["reset", "refuse"] = "reset",
        reset_to: Settings | None = None,
        scpi_version: str = "1995.0",
    ) -> None:
        super().__init__(identity=identity, error_depth=error_depth, drops_unread=drops_unread)
        self.world = world
        self._measure_s, self._measure_extra_s = measure_s, measure_extra_s
        self._average_s, self._step_v, self._step_a = average_s, step_v, step_a
        self._local_refuses, self._serial_crlf = local_refuses, serial_crlf
        self._control_c_clears, self.rs232_only = control_c_clears, rs232_only
        self.trip_reads_off, self.ovp_min_v, self.empty_recall = trip_reads_off, ovp_min_v, empty_recall
        self.default_steps = {"V": default_steps[0], "A": default_steps[1]}
        self._seed = seed
        self._errors_drawn = draw_errors(np.random.default_rng([seed, 0x3645]), error_share)
        self.settings = self._reset_to = reset_to or Settings()
        self.scpi_version = scpi_version
        self.states: dict[int, Settings] = {}
        self.increment = dict(self.default_steps)
        self.tripped = False
        self.hardware_bits = 0
        """Bits of the questionable condition that only a broken instrument has: 3 failure, 16 over-temperature."""
        self.measured_anew = True
        """The output or the range has changed since the last measurement."""
        self._last_output: tuple[float, float, bool] | None = None
        self._set_s = 0.0
        self.ques_event = self.ques_enable = 0
        self._checked_s = self._latched_s = 0.0
        self.trigger_source, self.trigger_delay_s, self.initiated = "BUS", 0.0, False
        self._trigger_due_s: float | None = None
        self.display, self.text = True, ""
        self.remote = False
        self.relay = False
        add_commands(self)
        self.apply()

    # --- physics --------------------------------------------------------------------------------

    def on_time(self) -> None:
        """Bring the world up to now and fire a delayed trigger."""
        self.world.advance(self.now_s)
        if self._trigger_due_s is not None and self.now_s >= self._trigger_due_s:
            self._trigger_due_s = None
            s = self.settings
            volts = s.voltage_v if s.triggered_v is None else s.triggered_v
            self.change(voltage_v=volts, current_a=s.current_a if s.triggered_a is None else s.triggered_a)
        self._watch_voltage()
        self.settle_opc()

    @property
    def wake_s(self) -> float | None:
        """As the machine's, and the delayed trigger."""
        times = [t for t in (super().wake_s, self._trigger_due_s) if t is not None]
        return min(times, default=None)

    def operation_pending(self) -> bool:
        """A trigger is on its way (*OPC, *OPC?, *WAI)."""
        return self._trigger_due_s is not None

    def change(self, **fields: Any) -> None:
        """Set fields of the settings and drive the output accordingly."""
        self.settings = replace(self.settings, **fields)
        self.apply()

    def apply(self) -> None:
        """Tell the world what the output now drives."""
        s, drawn = self.settings, self._errors_drawn
        volts = s.voltage_v * (1 + drawn["set_gain_v"]) + drawn["set_offset_v"] if s.voltage_v else 0.0
        amps = max(0.0, s.current_a * (1 + drawn["set_gain_a"]) + drawn["set_offset_a"])
        on = s.output and not self.tripped
        state = (max(0.0, volts), amps, True) if on else (0.0, OFF_A, False)
        if state != self._last_output:
            self._last_output, self._set_s = state, self.now_s
            self.world.set_supply(self.now_s, *state)
        self._watch_voltage()

    def _watch_voltage(self) -> None:
        """Trip when the terminals would exceed the level: the SCR shorts them (UG364 p.90). Constant current may keep
        them below it whatever voltage is set.
        """
        s = self.settings
        if not s.output or not s.ovp_on or self.tripped or s.voltage_v <= s.ovp_v:
            return
        self.world.advance(self.now_s)
        now = self.world.supply(max(self._set_s, self.now_s - 1e-3), self.now_s)
        if now.mode != "CC" or now.volts > s.ovp_v:
            self.tripped = True
            self.ques_event |= OVP_BIT
            self.apply()

    def condition(self) -> int:
        """STAT:QUES:COND?: 1 constant current, 2 constant voltage, 512 over-voltage, 0 off (UG364 p.120)."""
        self.world.advance(self.now_s)
        self._watch_voltage()
        bits = self.hardware_bits | (OVP_BIT if self.tripped else 0)
        if self.settings.output and not self.tripped:
            mode = self.world.supply(max(self._checked_s, self.now_s - 0.02), self.now_s).mode
            bits |= {"CC": CC_BIT, "CV": CV_BIT}.get(mode, 0)
            self._latch_past()
        self._checked_s = self._latched_s = self.now_s
        self.ques_event |= bits
        return bits

    def _latch_past(self) -> None:
        """Put constant current since the last look, at most a minute ago, into the event register."""
        from_s = max(self._latched_s, self.now_s - 60.0)
        for piece in range(math.ceil((self.now_s - from_s) / 0.2)):
            begin_s = from_s + 0.2 * piece
            if self.world.supply(begin_s, min(begin_s + 0.2, self.now_s)).mode == "CC":
                self.ques_event |= CC_BIT
                return

    def summary_bits(self) -> int:
        """Bit 3: the questionable register."""
        return 8 if self.ques_event & self.ques_enable else 0

    def measure(self, quantity: str) -> Job:
        """Average the output for a while, then answer with the read-back error of this unit."""
        low, high = self._measure_s
        rng = np.random.default_rng([self._seed, 0x3645, abs(int(self.now_s * 1e9))])
        wait_s = float(rng.uniform(low, high)) + (self._measure_extra_s if self.measured_anew else 0.0)
        self.measured_anew = False
        until_s = self.now_s + wait_s
        while self.now_s < until_s:
            yield until_s
        self.world.advance(until_s)
        truth = self.world.supply(until_s - self._average_s, until_s)
        drawn = self._errors_drawn
        voltage = quantity == "V"
        true, step, unit = (truth.volts, self._step_v, "v") if voltage else (truth.amps, self._step_a, "a")
        seen = true * (1 + drawn[f"read_gain_{unit}"]) + drawn[f"read_offset_{unit}"]
        return nr3(round(seen / step) * step)

    # --- RS-232 ---------------------------------------------------------------------------------

    def before(self, port: Port, unit: Unit, command: Command) -> None:
        """Refuse settings over RS-232 while in local (error 550, unconfirmed)."""
        if port.kind != "serial" or self.remote or not self._local_refuses or unit.query:
            return
        if not command.pattern.startswith(("*", "SYST")):
            raise Refused(550)

    def go_local(self) -> None:
        """Front panel back."""
        self.remote = False

    def go_remote(self) -> None:
        """Addressed on the bus with REN."""
        self.remote = True

    def clears(self, port: Port, data: bytes) -> int:
        """Ctrl-C on RS-232 is a device clear."""
        return data.rfind(b"\x03") + 1 if port.kind == "serial" and self._control_c_clears else 0

    def response_end(self, port: Port) -> bytes:
        """CR LF over RS-232."""
        return b"\r\n" if port.kind == "serial" and self._serial_crlf else b"\n"

    # --- commands -------------------------------------------------------------------------------

    def reset(self) -> None:
        """*RST: output and relay off, low range, 0 V, full-scale current, protection on at its highest."""
        self.settings = self._reset_to
        self.increment = dict(self.default_steps)
        self.trigger_source, self.trigger_delay_s, self.initiated = "BUS", 0.0, False
        self._trigger_due_s = None
        self.tripped, self.measured_anew = False, True
        self.display, self.text, self.relay = True, "", False
        self.apply()

    def clear_status(self) -> None:
        """*CLS."""
        super().clear_status()
        self.ques_event = 0

    def bus_trigger(self) -> Job | None:
        """*TRG: fire an initiated bus trigger; -211 without INIT."""
        if not self.initiated or self.trigger_source != "BUS":
            raise Refused(-211)
        self._fire()
        return None

    def initiate(self) -> None:
        """INITiate: wait for the bus, or fire at once."""
        if self.initiated:
            raise Refused(-213)
        self.initiated = True
        if self.trigger_source == "IMM":
            self._fire()

    def _fire(self) -> None:
        self.initiated = False
        self._trigger_due_s = self.now_s + self.trigger_delay_s
        self.on_time()

    def switch(self, on: bool) -> None:
        """OUTPut."""
        self.measured_anew = True
        self._latched_s = self.now_s
        self.change(output=on)

    def clear_trip(self) -> None:
        """VOLT:PROT:CLE: back to the output as it was, if the cause is gone (else it trips again)."""
        self.tripped = False
        self.apply()

    def recall(self, place: int) -> None:
        """*RCL."""
        if place not in self.states and self.empty_recall == "refuse":
            raise Refused(-221)
        self.settings = self.states.get(place, self._reset_to)
        self.measured_anew = True
        self.apply()

    def read_event(self) -> str:
        """The event register keeps what the condition was since it was last read, whether anyone looked or not."""
        self.condition()
        value, self.ques_event = self.ques_event, 0
        return f"{value:+d}"

    def snapshot(self) -> dict[str, Any]:
        """Settings and protection as a plain mapping, for tests and the truth of a run."""
        return {**asdict(self.settings), "tripped": self.tripped, "text": self.text, "remote": self.remote}
