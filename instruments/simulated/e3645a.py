"""A simulated E3645A DC supply, written from the User's and Service Guide of the family (UG364). Pure.

What feeds the board is told to the world (`set_supply`); what MEAS? answers comes back from it, with a
read-back error within the specification and quantised. Imports no driver.

Unconfirmed, and how to change it: *RST state (0 V, full-scale current); MEAS? takes `measure_s`, longer
after an output or range change; `error_depth` 20; read-back steps of `step_v`, `step_a`; over RS-232 a
setting before SYST:REM is refused with 550 (`local_refuses`) and replies end in CR LF (`serial_crlf`);
OUTP? stays 1 after an over-voltage trip; the least protection level is 1 V.
"""

from __future__ import annotations

import math
from dataclasses import asdict, replace
from typing import Any

import numpy as np

from instruments.simulated.e3645a_settings import (
    CC_BIT,
    CV_BIT,
    IDENTITY,
    OFF_A,
    OVP_BIT,
    OVP_MAX_V,
    OVP_MIN_V,
    RANGES,
    Settings,
    draw_errors,
    nr3,
)
from instruments.simulated.interfaces import Surroundings
from instruments.simulated.scpi_errors import Refused
from instruments.simulated.scpi_machine import ScpiMachine
from instruments.simulated.scpi_params import match_choice
from instruments.simulated.scpi_port import Port
from instruments.simulated.scpi_syntax import Unit
from instruments.simulated.scpi_tree import Call, Job


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
        query_s: float = 0.0,
        average_s: float = 0.1,
        step_v: float = 0.005,
        step_a: float = 0.001,
        error_share: float = 1.0,
        error_depth: int = 20,
        drops_unread: bool = True,
        local_refuses: bool = True,
        serial_crlf: bool = True,
    ) -> None:
        super().__init__(identity=identity, error_depth=error_depth, drops_unread=drops_unread)
        self.world = world
        self._measure_s, self._measure_extra_s, self._query_s = measure_s, measure_extra_s, query_s
        self._average_s, self._step_v, self._step_a = average_s, step_v, step_a
        self._local_refuses, self._serial_crlf = local_refuses, serial_crlf
        self._rng = np.random.default_rng([seed, 0x3645])
        self._errors_drawn = draw_errors(self._rng, error_share)
        self.settings = Settings()
        self._states: dict[int, Settings] = {}
        self._increment = {"V": 0.01, "A": 0.001}
        self._trip = False
        self._changed = True
        self._last_output: tuple[float, float, bool] | None = None
        self._ques_event = self._ques_enable = 0
        self._checked_s = self._latched_s = 0.0
        self._trigger_source, self._trigger_delay_s, self._initiated = "BUS", 0.0, False
        self._trigger_due_s: float | None = None
        self._display, self._text = True, ""
        self.remote = False
        self._relay = False
        self._add_commands()
        self._apply()

    # --- physics --------------------------------------------------------------------------------

    def on_time(self) -> None:
        """Bring the world up to now and fire a delayed trigger."""
        self.world.advance(self.now_s)
        if self._trigger_due_s is not None and self.now_s >= self._trigger_due_s:
            self._trigger_due_s = None
            s = self.settings
            self._change(voltage_v=s.triggered_v, current_a=s.triggered_a)
        self.settle_opc()

    @property
    def wake_s(self) -> float | None:
        """As the machine's, and the delayed trigger."""
        times = [t for t in (super().wake_s, self._trigger_due_s) if t is not None]
        return min(times, default=None)

    def _change(self, **fields: Any) -> None:
        self.settings = replace(self.settings, **fields)
        self._apply()

    def _apply(self) -> None:
        """Tell the world what the output now drives; trip the protection where it must (UG364 p.90)."""
        s, drawn = self.settings, self._errors_drawn
        volts = s.voltage_v * (1 + drawn["set_gain_v"]) + drawn["set_offset_v"] if s.voltage_v else 0.0
        amps = max(0.0, s.current_a * (1 + drawn["set_gain_a"]) + drawn["set_offset_a"])
        if s.output and s.ovp_on and volts > s.ovp_v and not self._trip:
            self._trip = True
            self._ques_event |= OVP_BIT
        on = s.output and not self._trip
        state = (max(0.0, volts), amps, True) if on else (0.0, OFF_A, False)
        if state != self._last_output:
            self._last_output = state
            self.world.set_supply(self.now_s, *state)

    def condition(self) -> int:
        """STAT:QUES:COND?: 1 constant current, 2 constant voltage, 512 over-voltage, 0 off (UG364 p.120)."""
        self.world.advance(self.now_s)
        bits = OVP_BIT if self._trip else 0
        if self.settings.output and not self._trip:
            mode = self.world.supply(max(self._checked_s, self.now_s - 0.02), self.now_s).mode
            bits |= {"CC": CC_BIT, "CV": CV_BIT}.get(mode, 0)
            self._latch_past()
        self._checked_s = self._latched_s = self.now_s
        self._ques_event |= bits
        return bits

    def _latch_past(self) -> None:
        """Put constant current since the last look, at most a minute ago, into the event register."""
        from_s = max(self._latched_s, self.now_s - 60.0)
        for piece in range(math.ceil((self.now_s - from_s) / 0.2)):
            begin_s = from_s + 0.2 * piece
            if self.world.supply(begin_s, min(begin_s + 0.2, self.now_s)).mode == "CC":
                self._ques_event |= CC_BIT
                return

    def summary_bits(self) -> int:
        """Bit 3: the questionable register."""
        return 8 if self._ques_event & self._ques_enable else 0

    def _measure(self, quantity: str) -> Job:
        """Average the output for a while, then answer with the read-back error of this unit."""
        low, high = self._measure_s
        wait_s = float(self._rng.uniform(low, high)) + (self._measure_extra_s if self._changed else 0.0)
        self._changed = False
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

    def before(self, port: Port, unit: Unit) -> None:
        """Refuse settings over RS-232 while in local (error 550, unconfirmed)."""
        if port.kind != "serial" or self.remote or not self._local_refuses or unit.query:
            return
        header = unit.header.upper().lstrip(":")
        if not header.startswith("*") and not header.startswith("SYST"):
            raise Refused(550)

    def go_local(self) -> None:
        """Front panel back."""
        self.remote = False

    def response_end(self, port: Port) -> bytes:
        """CR LF over RS-232."""
        return b"\r\n" if port.kind == "serial" and self._serial_crlf else b"\n"

    # --- commands -------------------------------------------------------------------------------

    def reset(self) -> None:
        """*RST: output off, low range, 0 V, full-scale current, protection on at its highest."""
        self.settings = Settings()
        self._increment = {"V": 0.01, "A": 0.001}
        self._trigger_source, self._trigger_delay_s, self._initiated = "BUS", 0.0, False
        self._trigger_due_s = None
        self._trip, self._changed = False, True
        self._display, self._text = True, ""
        self._apply()

    def clear_status(self) -> None:
        """*CLS."""
        super().clear_status()
        self._ques_event = 0

    def bus_trigger(self) -> Job | None:
        """*TRG: fire an initiated bus trigger; -211 without INIT."""
        if not self._initiated or self._trigger_source != "BUS":
            raise Refused(-211)
        self._fire()
        return None

    def _fire(self) -> None:
        self._initiated = False
        self._trigger_due_s = self.now_s + self._trigger_delay_s
        self.on_time()

    def _level(self, call: Call, kind: str, now: float) -> float:
        s = self.settings
        high, default = (s.max_v, 0.0) if kind == "V" else (s.max_a, RANGES[s.range][1])
        word = call.params[0].text.upper() if call.params else ""
        if word in ("UP", "DOWN"):
            call.params.pop(0)
            value = now + (self._increment[kind] if word == "UP" else -self._increment[kind])
            if not 0 <= value <= high:
                raise Refused(-222)
            return value
        return call.number("V" if kind == "V" else "A", low=0.0, high=high, default=default)

    def _limits(self, call: Call, now: float, low: float, high: float) -> str:
        """Answer a query with its optional MIN or MAX."""
        if not call.more:
            return nr3(now)
        return nr3({"MIN": low, "MAX": high}[match_choice(call.word(), ("MINimum", "MAXimum"))])

    def _set_range(self, call: Call) -> None:
        name = {"LOW": "P35V", "HIGH": "P60V"}.get(word := call.choice("P35V", "P60V", "LOW", "HIGH"), word)
        s = replace(self.settings, range=name)
        self._changed = True
        self._change(
            range=name,
            voltage_v=min(s.voltage_v, s.max_v), current_a=min(s.current_a, s.max_a),
            triggered_v=min(s.triggered_v, s.max_v), triggered_a=min(s.triggered_a, s.max_a),
        )  # fmt: skip

    def _set_output(self, call: Call) -> None:
        self._changed = True
        self._latched_s = self.now_s
        self._change(output=call.boolean())

    def _apply_both(self, call: Call) -> None:
        """APPL v[,i]: refused as a whole."""
        volts = self._level(call, "V", self.settings.voltage_v)
        amps = self._level(call, "A", self.settings.current_a) if call.more else self.settings.current_a
        self._change(voltage_v=volts, current_a=amps)

    def _clear_trip(self, call: Call) -> None:
        """VOLT:PROT:CLE: back to the output as it was, if the cause is gone (else it trips again)."""
        self._trip = False
        self._apply()

    def _recall(self, call: Call) -> None:
        place = call.integer(low=1, high=5)
        self.settings = self._states.get(place, Settings())
        self._changed = True
        self._apply()

    def _initiate(self, call: Call) -> None:
        if self._initiated:
            raise Refused(-213)
        self._initiated = True
        if self._trigger_source == "IMM":
            self._fire()

    def _set(self, **fields: Any) -> None:
        for name, value in fields.items():
            setattr(self, name, value)

    def _read_event(self) -> str:
        """The event register keeps what the condition was since it was last read, whether anyone looked or not."""
        self.condition()
        value, self._ques_event = self._ques_event, 0
        return f"{value:+d}"

    def _add_commands(self) -> None:
        add, none, maybe = self.add, (0, 0), (0, 1)
        add(
            "[SOURce]:VOLTage[:LEVel][:IMMediate][:AMPLitude]",
            lambda c: self._change(voltage_v=self._level(c, "V", self.settings.voltage_v)),
            lambda c: self._limits(c, self.settings.voltage_v, 0.0, self.settings.max_v),
            query_args=maybe,
        )
        add(
            "[SOURce]:CURRent[:LEVel][:IMMediate][:AMPLitude]",
            lambda c: self._change(current_a=self._level(c, "A", self.settings.current_a)),
            lambda c: self._limits(c, self.settings.current_a, 0.0, self.settings.max_a),
            query_args=maybe,
        )
        add(
            "[SOURce]:VOLTage[:LEVel]:TRIGgered[:AMPLitude]",
            lambda c: self._change(triggered_v=self._level(c, "V", self.settings.triggered_v)),
            lambda c: self._limits(c, self.settings.triggered_v, 0.0, self.settings.max_v),
            query_args=maybe,
        )
        add(
            "[SOURce]:CURRent[:LEVel]:TRIGgered[:AMPLitude]",
            lambda c: self._change(triggered_a=self._level(c, "A", self.settings.triggered_a)),
            lambda c: self._limits(c, self.settings.triggered_a, 0.0, self.settings.max_a),
            query_args=maybe,
        )
        self._add_step("VOLTage", "V", 0.01)
        self._add_step("CURRent", "A", 0.001)
        add("[SOURce]:VOLTage:RANGe", self._set_range, lambda c: self.settings.range)
        add(
            "[SOURce]:VOLTage:PROTection[:LEVel]",
            lambda c: self._change(ovp_v=c.number("V", low=OVP_MIN_V, high=OVP_MAX_V, default=OVP_MAX_V)),
            lambda c: self._limits(c, self.settings.ovp_v, OVP_MIN_V, OVP_MAX_V),
            query_args=maybe,
        )
        add(
            "[SOURce]:VOLTage:PROTection:STATe",
            lambda c: self._change(ovp_on=c.boolean()),
            lambda c: f"{self.settings.ovp_on:d}",
        )
        add("[SOURce]:VOLTage:PROTection:TRIPped", query=lambda c: f"{self._trip:d}")
        add("[SOURce]:VOLTage:PROTection:CLEar", self._clear_trip, set_args=none)
        add("OUTPut[:STATe]", self._set_output, lambda c: f"{self.settings.output:d}")
        add("OUTPut:RELay[:STATe]", lambda c: self._set(_relay=c.boolean()), lambda c: f"{self._relay:d}")
        add(
            "APPLy",
            self._apply_both,
            set_args=(1, 2),
            query=lambda c: f'"{self.settings.voltage_v:.5f},{self.settings.current_a:.5f}"',
        )
        add("MEASure[:SCALar]:VOLTage[:DC]", query=lambda c: self._measure("V"))
        add("MEASure[:SCALar]:CURRent[:DC]", query=lambda c: self._measure("A"))
        add(
            "TRIGger[:SEQuence]:SOURce",
            lambda c: self._set(_trigger_source=c.choice("BUS", "IMMediate")),
            lambda c: self._trigger_source,
        )
        add(
            "TRIGger[:SEQuence]:DELay",
            lambda c: self._set(_trigger_delay_s=c.number("S", low=0.0, high=3600.0)),
            lambda c: self._limits(c, self._trigger_delay_s, 0.0, 3600.0),
            query_args=maybe,
        )
        add("INITiate[:IMMediate]", self._initiate, set_args=none)
        add("DISPlay[:WINDow][:STATe]", lambda c: self._set(_display=c.boolean()), lambda c: f"{self._display:d}")
        add("DISPlay[:WINDow]:TEXT[:DATA]", lambda c: self._set(_text=c.string()[:12]), lambda c: f'"{self._text}"')
        add("DISPlay[:WINDow]:TEXT:CLEar", lambda c: self._set(_text=""), set_args=none)
        add("*SAV", lambda c: self._states.update({c.integer(low=1, high=5): self.settings}))
        add("*RCL", self._recall)
        add("SYSTem:ERRor", query=lambda c: self.next_error())
        add("SYSTem:VERSion", query=lambda c: "1995.0")
        add("SYSTem:BEEPer[:IMMediate]", lambda c: None, set_args=none)
        add("SYSTem:REMote|SYSTem:RWLock", lambda c: self._set(remote=True), set_args=none)
        add("SYSTem:LOCal", lambda c: self._set(remote=False), set_args=none)
        for head in ("STATus:QUEStionable", "STATus:QUEStionable:INSTrument:ISUMmary1"):
            add(f"{head}[:EVENt]", query=lambda c: self._read_event())
            add(f"{head}:CONDition", query=lambda c: f"{self.condition():+d}")
            add(
                f"{head}:ENABle",
                lambda c: self._set(_ques_enable=c.integer(low=0, high=65535)),
                lambda c: f"{self._ques_enable:+d}",
            )

    def _add_step(self, quantity: str, kind: str, default: float) -> None:
        def change(call: Call) -> None:
            self._increment[kind] = call.number(kind, low=0.0, default=default)

        self.add(
            f"[SOURce]:{quantity}[:LEVel][:IMMediate]:STEP[:INCRement]",
            change,
            lambda call: nr3(self._increment[kind]),
            query_args=(0, 1),
        )

    def snapshot(self) -> dict[str, Any]:
        """Settings and protection as a plain mapping, for tests and the truth of a run."""
        return {**asdict(self.settings), "tripped": self._trip, "text": self._text, "remote": self.remote}
