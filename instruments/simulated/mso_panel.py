"""Timebase, trigger and acquire commands of the simulated oscilloscope. Pure.

Unconfirmed and fixed: a value out of range is refused with -222 and the old one stays; a trigger level
reaches six divisions from the middle; the level of a digital source is refused with -221.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from instruments.simulated.mso_settings import HORIZONTAL_DIVISIONS, Acquire, Timebase, Trigger, nr3, round_to
from instruments.simulated.scpi_errors import Refused
from instruments.simulated.scpi_tree import Call

if TYPE_CHECKING:
    from instruments.simulated.mso_x2024a import SimulatedMsoX2024A

SECONDS_PER_DIV = (5e-9, 50.0)


class PanelCommands:
    """Registers the subsystems; every change of something that shapes the samples restarts a running scope."""

    def __init__(self, scope: SimulatedMsoX2024A) -> None:
        self._scope = scope
        self._timebase()
        self._trigger()
        self._acquire()

    # --- timebase -------------------------------------------------------------------------------

    def _timebase(self) -> None:
        add, scope = self._scope.add, self._scope
        low, high = (s * HORIZONTAL_DIVISIONS for s in SECONDS_PER_DIV)

        def base() -> Timebase:
            return scope.settings.timebase

        add(
            ":TIMebase:RANGe",
            lambda c: self._set_base("range_s", round_to(c.number("S", low=low, high=high), 4)),
            lambda c: nr3(base().range_s, 8),
        )
        add(
            ":TIMebase:SCALe",
            lambda c: self._set_base("range_s", round_to(10 * c.number("S", low=low / 10, high=high / 10), 4)),
            lambda c: nr3(base().range_s / HORIZONTAL_DIVISIONS, 8),
        )
        add(
            ":TIMebase:POSition|:TIMebase:DELay",
            lambda c: self._set_base("position_s", c.number("S", low=-500.0, high=500.0)),
            lambda c: nr3(base().position_s, 8),
        )
        add(
            ":TIMebase:REFerence",
            lambda c: self._set_base("reference", c.choice("LEFT", "CENTer", "RIGHt")),
            lambda c: base().reference,
        )
        add(
            ":TIMebase:MODE",
            lambda c: self._set_base("mode", c.choice("MAIN", "WINDow", "XY", "ROLL")),
            lambda c: base().mode,
        )
        add(
            ":TIMebase",
            query=lambda c: (
                f":TIM:MODE {base().mode};REF {base().reference};MAIN:RANG {nr3(base().range_s, 8)};"
                f"POS {nr3(base().position_s, 8)}"
            ),
        )

    def _set_base(self, name: str, value: object) -> None:
        setattr(self._scope.settings.timebase, name, value)
        self._scope.touch()

    # --- trigger --------------------------------------------------------------------------------

    def _trigger(self) -> None:
        add, scope = self._scope.add, self._scope

        def trig() -> Trigger:
            return scope.settings.trigger

        add(
            ":TRIGger:MODE",
            lambda c: self._set_trigger(
                "mode",
                c.choice(
                    "EDGE",
                    "GLITch",
                    "PATTern",
                    "TV",
                    "DELay",
                    "EBURst",
                    "OR",
                    "RUNT",
                    "SHOLd",
                    "TRANsition",
                    "SBUS1",
                    "USB",
                ),
            ),
            lambda c: "NONE" if scope.settings.timebase.mode in ("ROLL", "XY") else trig().mode,
        )
        add(":TRIGger:SWEep", lambda c: self._set_trigger("sweep", c.choice("AUTO", "NORMal")), lambda c: trig().sweep)
        add(
            ":TRIGger:HOLDoff",
            lambda c: self._set_trigger("holdoff_s", c.number("S", low=4e-8, high=10.0, default=4e-8)),
            lambda c: nr3(trig().holdoff_s, 8),
        )
        add(
            ":TRIGger:NREJect",
            lambda c: self._set_trigger("noise_reject", c.boolean()),
            lambda c: f"{trig().noise_reject:d}",
        )
        add(":TRIGger:FORCe", lambda c: scope.force(), set_args=(0, 0))
        add(
            ":TRIGger[:EDGE]:SOURce",
            lambda c: self._set_trigger(
                "source",
                c.choice(
                    *(f"CHANnel{n}" for n in range(1, 5)),
                    *(f"DIGital{n}" for n in range(8)),
                    "EXTernal",
                    "LINE",
                    "WGEN",
                ),
            ),
            lambda c: trig().source,
        )
        add(
            ":TRIGger[:EDGE]:SLOPe",
            lambda c: self._set_trigger("slope", c.choice("POSitive", "NEGative", "EITHer", "ALTernate")),
            lambda c: trig().slope,
        )
        add(
            ":TRIGger[:EDGE]:COUPling",
            lambda c: self._set_trigger("coupling", c.choice("AC", "DC", "LFReject")),
            lambda c: trig().coupling,
        )
        add(
            ":TRIGger[:EDGE]:REJect",
            lambda c: self._set_trigger("reject", c.choice("OFF", "LFReject", "HFReject")),
            lambda c: trig().reject,
        )
        add(":TRIGger[:EDGE]:LEVel", self._set_level, self._get_level, set_args=(1, 2), query_args=(0, 1))
        add(
            ":TRIGger",
            query=lambda c: (
                f":TRIG:MODE {trig().mode};SWE {trig().sweep};NREJ {trig().noise_reject:d};"
                f"HOLD {nr3(trig().holdoff_s, 8)};EDGE:SOUR {trig().source};SLOP {trig().slope};"
                f"COUP {trig().coupling};REJ {trig().reject}"
            ),
        )

    def _set_trigger(self, name: str, value: object) -> None:
        setattr(self._scope.settings.trigger, name, value)
        self._scope.touch()

    def _level_source(self, call: Call) -> str:
        if call.more:
            return call.choice(*(f"CHANnel{n}" for n in range(1, 5)), "EXTernal")
        source = self._scope.settings.trigger.source
        if source.startswith("DIG"):
            raise Refused(-221)
        return source

    def _set_level(self, call: Call) -> None:
        level = call.params.pop(0)
        source = self._level_source(call)
        call.params.append(level)
        trigger = self._scope.settings.trigger
        if source.startswith("CHAN"):
            channel = self._scope.settings.channels[source]
            middle, reach = channel.offset_v * channel.probe, 6 * channel.div_v * channel.probe
            value = call.number("V|A", low=middle - reach, high=middle + reach, default=middle)
            trigger.levels_v[source] = value / channel.probe
        else:
            trigger.ext_level_v = call.number("V", low=-8.0, high=8.0)
        self._scope.touch()

    def _get_level(self, call: Call) -> str:
        source = self._level_source(call)
        if source.startswith("CHAN"):
            return nr3(self._scope.settings.trigger.levels_v[source] * self._scope.settings.channels[source].probe)
        return nr3(self._scope.settings.trigger.ext_level_v)

    # --- acquire --------------------------------------------------------------------------------

    def _acquire(self) -> None:
        add, scope = self._scope.add, self._scope

        def acq() -> Acquire:
            return scope.settings.acquire

        add(
            ":ACQuire:TYPE",
            lambda c: self._set_acquire("type", c.choice("NORMal", "AVERage", "HRESolution", "PEAK")),
            lambda c: acq().type,
        )
        add(
            ":ACQuire:COUNt",
            lambda c: self._set_acquire("count", c.integer(low=1, high=65536, default=8)),
            lambda c: f"{acq().count:+d}",
        )
        add(":ACQuire:MODE", lambda c: self._set_acquire("mode", c.choice("RTIMe")), lambda c: acq().mode)
        add(
            ":ACQuire:COMPlete",
            lambda c: self._set_acquire("complete", c.integer(low=100, high=100)),
            lambda c: f"{acq().complete:+d}",
        )
        add(":ACQuire:POINts", query=lambda c: f"{scope.timing().acquired:+d}")
        add(":ACQuire:SRATe", query=lambda c: nr3(scope.timing().rate_hz, 8))
        add(
            ":ACQuire",
            query=lambda c: f":ACQ:MODE {acq().mode};TYPE {acq().type};COMP {acq().complete:+d};COUN {acq().count:+d}",
        )

    def _set_acquire(self, name: str, value: object) -> None:
        setattr(self._scope.settings.acquire, name, value)
        self._scope.touch()
