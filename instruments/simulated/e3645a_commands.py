"""The commands of the simulated supply, as UG364's command summary lists them for the single-output models. Pure.

Not here, as on the E3645A: output selection, tracking and coupling (INSTrument, OUTPut:TRACk, DISPlay:MODE: dual models
only), operation registers. Calibration can be asked about, not done: it is secured. A state's name has up to 9
characters (those of sister models; more: -223, unconfirmed); the display shows 11, as a public driver says.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from instruments.simulated.e3645a_settings import OVP_MAX_V, RANGES, Settings, nr3
from instruments.simulated.scpi_errors import Refused
from instruments.simulated.scpi_params import match_choice, quoted
from instruments.simulated.scpi_tree import Call, Handler

if TYPE_CHECKING:
    from instruments.simulated.e3645a import SimulatedE3645A

TEXT_LENGTH, NAME_LENGTH = 11, 9
STATE_COUNT = 5
_UNITS = {"V": "VOLTage", "A": "CURRent"}


def add_commands(supply: SimulatedE3645A) -> None:
    """Register everything."""
    _add_levels(supply)
    _add_output(supply)
    _add_trigger(supply)
    _add_system(supply)
    _add_status(supply)


# --- set-points ---------------------------------------------------------------------------------


def _range_of(settings: Settings, kind: str) -> tuple[float, float]:
    """Highest value and the one that DEF stands for."""
    return (settings.max_v, 0.0) if kind == "V" else (settings.max_a, RANGES[settings.range][1])


def _level(supply: SimulatedE3645A, call: Call, kind: str, now: float | None = None) -> float:
    """Read a set-point: a number, MIN, MAX, DEF, or a step from `now`."""
    high, default = _range_of(supply.settings, kind)
    word = call.params[0].text.upper() if call.params and now is not None else ""
    if now is not None and word in ("UP", "DOWN"):
        call.params.pop(0)
        value = now + (supply.increment[kind] if word == "UP" else -supply.increment[kind])
        if not -1e-9 <= value <= high + 1e-9:
            raise Refused(-222)
        return min(max(value, 0.0), high)
    return call.number(kind, low=0.0, high=high, default=default)


def _limits(call: Call, now: float, low: float, high: float) -> str:
    """Answer a query with its optional MIN or MAX."""
    if not call.more:
        return nr3(now)
    return nr3({"MIN": low, "MAX": high}[match_choice(call.word(), ("MINimum", "MAXimum"))])


def _add_levels(supply: SimulatedE3645A) -> None:
    for kind, (now, triggered) in {
        "V": ("voltage_v", "triggered_v"),
        "A": ("current_a", "triggered_a"),
    }.items():
        head = f"[SOURce]:{_UNITS[kind]}"
        supply.add(
            f"{head}[:LEVel][:IMMediate][:AMPLitude]",
            _setter(supply, now, kind, steps=True),
            _getter(supply, now, now, kind),
            query_args=(0, 1),
        )
        supply.add(
            f"{head}[:LEVel]:TRIGgered[:AMPLitude]",
            _setter(supply, triggered, kind, steps=False),
            _getter(supply, triggered, now, kind),
            query_args=(0, 1),
        )
        _add_step(supply, f"{head}[:LEVel][:IMMediate]:STEP[:INCRement]", kind)
    supply.add("[SOURce]:VOLTage:RANGe", lambda c: _set_range(supply, c), lambda c: supply.settings.range)
    supply.add(
        "APPLy",
        lambda c: _apply(supply, c),
        lambda c: f'"{supply.settings.voltage_v:.5f},{supply.settings.current_a:.5f}"',
        set_args=(1, 2),
    )


def _setter(supply: SimulatedE3645A, name: str, kind: str, steps: bool) -> Handler:
    def change(call: Call) -> None:
        now = getattr(supply.settings, name) if steps else None
        supply.change(**{name: _level(supply, call, kind, now)})

    return change


def _getter(supply: SimulatedE3645A, name: str, otherwise: str, kind: str) -> Handler:
    """A triggered level that was never programmed is the immediate one."""

    def query(call: Call) -> str:
        value = getattr(supply.settings, name)
        value = getattr(supply.settings, otherwise) if value is None else value
        return _limits(call, value, 0.0, _range_of(supply.settings, kind)[0])

    return query


def _add_step(supply: SimulatedE3645A, pattern: str, kind: str) -> None:
    def change(call: Call) -> None:
        high, _ = _range_of(supply.settings, kind)
        supply.increment[kind] = call.number(kind, low=0.0, high=high, default=supply.default_steps[kind])

    def query(call: Call) -> str:
        if call.more:
            match_choice(call.word(), ("DEFault",))
            return nr3(supply.default_steps[kind])
        return nr3(supply.increment[kind])

    supply.add(pattern, change, query, query_args=(0, 1))


def _set_range(supply: SimulatedE3645A, call: Call) -> None:
    """A lower range clips what does not fit into it."""
    name = {"LOW": "P35V", "HIGH": "P60V"}.get(word := call.choice("P35V", "P60V", "LOW", "HIGH"), word)
    s = replace(supply.settings, range=name)
    supply.measured_anew = True
    supply.change(
        range=name,
        voltage_v=min(s.voltage_v, s.max_v),
        current_a=min(s.current_a, s.max_a),
        triggered_v=None if s.triggered_v is None else min(s.triggered_v, s.max_v),
        triggered_a=None if s.triggered_a is None else min(s.triggered_a, s.max_a),
    )


def _apply(supply: SimulatedE3645A, call: Call) -> None:
    """APPL v[,i]: refused as a whole."""
    volts = _level(supply, call, "V")
    amps = _level(supply, call, "A") if call.more else supply.settings.current_a
    supply.change(voltage_v=volts, current_a=amps)


# --- output, protection, measuring --------------------------------------------------------------


def _add_output(supply: SimulatedE3645A) -> None:
    add, head = supply.add, "[SOURce]:VOLTage:PROTection"
    add(
        f"{head}[:LEVel]",
        lambda c: supply.change(ovp_v=c.number("V", low=supply.ovp_min_v, high=OVP_MAX_V, default=OVP_MAX_V)),
        lambda c: _limits(c, supply.settings.ovp_v, supply.ovp_min_v, OVP_MAX_V),
        query_args=(0, 1),
    )
    add(f"{head}:STATe", lambda c: supply.change(ovp_on=c.boolean()), lambda c: f"{supply.settings.ovp_on:d}")
    add(f"{head}:TRIPped", query=lambda c: f"{supply.condition() & 512 != 0:d}")
    add(f"{head}:CLEar", lambda c: supply.clear_trip(), set_args=(0, 0))
    add("OUTPut[:STATe]", lambda c: supply.switch(c.boolean()), lambda c: _output_reads(supply))
    add("OUTPut:RELay[:STATe]", lambda c: setattr(supply, "relay", c.boolean()), lambda c: f"{supply.relay:d}")
    add("MEASure[:SCALar][:VOLTage][:DC]", query=lambda c: supply.measure("V"))
    add("MEASure[:SCALar]:CURRent[:DC]", query=lambda c: supply.measure("A"))


def _output_reads(supply: SimulatedE3645A) -> str:
    off = supply.tripped and supply.trip_reads_off
    return f"{supply.settings.output and not off:d}"


# --- trigger ------------------------------------------------------------------------------------


def _add_trigger(supply: SimulatedE3645A) -> None:
    supply.add(
        "TRIGger[:SEQuence]:SOURce",
        lambda c: setattr(supply, "trigger_source", c.choice("BUS", "IMMediate")),
        lambda c: supply.trigger_source,
    )
    supply.add(
        "TRIGger[:SEQuence]:DELay",
        lambda c: setattr(supply, "trigger_delay_s", c.number("S", low=0.0, high=3600.0, default=0.0)),
        lambda c: _limits(c, supply.trigger_delay_s, 0.0, 3600.0),
        query_args=(0, 1),
    )
    supply.add("INITiate[:IMMediate]", lambda c: supply.initiate(), set_args=(0, 0))


# --- display, memory, system --------------------------------------------------------------------


def _add_system(supply: SimulatedE3645A) -> None:
    add, none, window = supply.add, (0, 0), "DISPlay[:WINDow<1-1>]"
    add(f"{window}[:STATe]", lambda c: setattr(supply, "display", c.boolean()), lambda c: f"{supply.display:d}")
    add(
        f"{window}:TEXT[:DATA]",
        lambda c: setattr(supply, "text", c.string()[:TEXT_LENGTH]),
        lambda c: quoted(supply.text),
    )
    add(f"{window}:TEXT:CLEar", lambda c: setattr(supply, "text", ""), set_args=none)
    add("*SAV", lambda c: supply.states.update({c.integer(low=1, high=STATE_COUNT): supply.settings}))
    add("*RCL", lambda c: supply.recall(c.integer(low=1, high=STATE_COUNT)))
    names = dict.fromkeys(range(1, STATE_COUNT + 1), "")
    add(
        "MEMory:STATe:NAME",
        lambda c: names.update([(c.integer(low=1, high=STATE_COUNT), _name(c))]),
        lambda c: quoted(names[c.integer(low=1, high=STATE_COUNT)]),
        set_args=(1, 2),
        query_args=(1, 1),
    )
    add("SYSTem:ERRor", query=lambda c: supply.next_error())
    add("SYSTem:VERSion", query=lambda c: supply.scpi_version)
    add("SYSTem:BEEPer[:IMMediate]", lambda c: None, set_args=none)
    add("SYSTem:INTerface", lambda c: _ignore(c.choice("GPIB", "RS232")))
    add("SYSTem:REMote|SYSTem:RWLock", lambda c: _panel(supply, c, True), set_args=none)
    add("SYSTem:LOCal", lambda c: _panel(supply, c, False), set_args=none)
    add("CALibration:COUNt", query=lambda c: "+1")
    add("CALibration:SECure:STATe", query=lambda c: "1")
    add("CALibration:STRing", query=lambda c: '""')


def _name(call: Call) -> str:
    name = call.string() if call.more else ""
    if len(name) > NAME_LENGTH:
        raise Refused(-223)
    return name


def _panel(supply: SimulatedE3645A, call: Call, remote: bool) -> None:
    """Remote and local by command exist on RS-232 alone; elsewhere 514, unless `rs232_only` is off."""
    if call.kind == "message" and supply.rs232_only:
        raise Refused(514)
    supply.remote = remote


def _ignore(word: str) -> None:
    """The interface that is served does not change."""


# --- status -------------------------------------------------------------------------------------


def _add_status(supply: SimulatedE3645A) -> None:
    add = supply.add
    for head in ("STATus:QUEStionable", "STATus:QUEStionable:INSTrument:ISUMmary<1-1>"):
        add(f"{head}[:EVENt]", query=lambda c: supply.read_event())
        add(f"{head}:CONDition", query=lambda c: f"{supply.condition():+d}")
        add(
            f"{head}:ENABle",
            lambda c: setattr(supply, "ques_enable", c.integer(low=0, high=65535)),
            lambda c: f"{supply.ques_enable:+d}",
        )
    kept = {"PSC": 1}
    add("*PSC", lambda c: kept.update(PSC=c.integer(low=0, high=1)), lambda c: f"{kept['PSC']:d}")
