"""Trigger commands of the simulated oscilloscope. Pure.

PG2000's :TRIGger: general commands, EDGE and GLITch. A level reaches 0.75 of the full scale from the middle of the
screen, that of the external input its range. A digital line has no level but the pod's threshold (`PanelQuirks`).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from instruments.simulated.mso_settings import Trigger, nr3
from instruments.simulated.scpi_errors import Refused
from instruments.simulated.scpi_tree import Call

if TYPE_CHECKING:
    from instruments.simulated.mso_x2024a import SimulatedMsoX2024A

MODES = (
    "EDGE", "GLITch", "PATTern", "TV", "DELay", "EBURst", "OR", "RUNT", "SHOLd", "TRANsition", "SBUS1", "USB",
)  # fmt: skip
EXTERNAL_V = 8.0
WIDTH_S = (2e-9, 10.0)


class TriggerCommands:
    """:TRIGger; every change of it makes a running acquisition begin again."""

    def __init__(self, scope: SimulatedMsoX2024A) -> None:
        self._scope = scope
        self._general()
        self._edge()
        self._glitch()

    def _now(self) -> Trigger:
        return self._scope.settings.trigger

    def _set(self, name: str, value: object) -> None:
        setattr(self._scope.settings.trigger, name, value)
        self._scope.touch()

    def _general(self) -> None:
        add, scope, now = self._scope.add, self._scope, self._now
        add(
            ":TRIGger:MODE",
            lambda c: self._set("mode", c.choice(*MODES)),
            lambda c: "NONE" if scope.settings.timebase.mode in ("ROLL", "XY") else now().mode,
        )
        add(":TRIGger:SWEep", lambda c: self._set("sweep", c.choice("AUTO", "NORMal")), lambda c: now().sweep)
        add(
            ":TRIGger:HOLDoff",
            lambda c: self._set("holdoff_s", c.number("S", low=4e-8, high=10.0, default=4e-8)),
            lambda c: nr3(now().holdoff_s, 8),
        )
        add(
            ":TRIGger:NREJect",
            lambda c: self._set("noise_reject", c.boolean()),
            lambda c: f"{now().noise_reject:d}",
        )
        add(
            ":TRIGger:HFReject",
            lambda c: self._set("reject", "HFR" if c.boolean() else "OFF"),
            lambda c: f"{now().reject == 'HFR':d}",
        )
        add(":TRIGger:FORCe", lambda c: scope.force(), set_args=(0, 0))
        add(
            ":TRIGger:LEVel:LOW|:TRIGger:LEVel:HIGH",
            self._set_level,
            self._get_level,
            set_args=(1, 2),
            query_args=(0, 1),
        )
        add(
            ":TRIGger",
            query=lambda c: (
                f":TRIG:MODE {now().mode};SWE {now().sweep};NREJ {now().noise_reject:d};"
                f"HOLD {nr3(now().holdoff_s, 8)};EDGE:SOUR {now().source};SLOP {now().slope};"
                f"COUP {now().coupling};REJ {now().reject}"
            ),
        )

    def _edge(self) -> None:
        add, model, now = self._scope.add, self._scope.model, self._now
        add(
            ":TRIGger[:EDGE]:SOURce",
            lambda c: self._set("source", c.choice(*model.channels, *model.lines, "EXTernal", "LINE", "WGEN")),
            lambda c: now().source,
        )
        add(
            ":TRIGger[:EDGE]:SLOPe",
            lambda c: self._set("slope", c.choice("POSitive", "NEGative", "EITHer", "ALTernate")),
            lambda c: now().slope,
        )
        add(
            ":TRIGger[:EDGE]:COUPling",
            lambda c: self._set("coupling", c.choice("AC", "DC", "LFReject")),
            lambda c: now().coupling,
        )
        add(
            ":TRIGger[:EDGE]:REJect",
            lambda c: self._set("reject", c.choice("OFF", "LFReject", "HFReject")),
            lambda c: now().reject,
        )
        add(":TRIGger[:EDGE]:LEVel", self._set_level, self._get_level, set_args=(1, 2), query_args=(0, 1))

    def _level_source(self, call: Call, source: str) -> str:
        """The source whose level is meant, or "" for a digital line where these are ignored."""
        model = self._scope.model
        if call.more:
            source = call.choice(*model.channels, *model.lines, "EXTernal")
        if source.startswith("DIG"):
            if self._scope.quirks.digital_level == "refuse":
                raise Refused(-221)
            return ""
        return source

    def _set_level(self, call: Call, source: str = "") -> None:
        level = call.params.pop(0)
        source = self._level_source(call, source or self._now().source)
        call.params.append(level)
        trigger = self._now()
        if source.startswith("CHAN"):
            channel = self._scope.settings.channels[source]
            middle, reach = channel.offset_v * channel.probe, 0.75 * channel.range
            value = call.number("V|A", low=middle - reach, high=middle + reach, default=middle)
            trigger.levels_v[source] = value / channel.probe
        elif source:
            trigger.ext_level_v = call.number("V", low=-EXTERNAL_V, high=EXTERNAL_V)
        self._scope.touch()

    def _get_level(self, call: Call, source: str = "") -> str:
        source = self._level_source(call, source or self._now().source)
        if source.startswith("CHAN"):
            return nr3(self._now().levels_v[source] * self._scope.settings.channels[source].probe)
        return nr3(self._now().ext_level_v if source else 0.0)

    def _glitch(self) -> None:
        """Triggers on pulses by their width (PG2000, :TRIGger:GLITch)."""
        add, model, now, head = self._scope.add, self._scope.model, self._now, ":TRIGger:GLITch"
        low, high = WIDTH_S

        def width(call: Call) -> float:
            return call.number("S", low=low, high=high)

        add(
            f"{head}:SOURce",
            lambda c: self._set("glitch_source", c.choice(*model.channels, *model.lines, "EXTernal")),
            lambda c: now().glitch_source,
        )
        add(
            f"{head}:POLarity",
            lambda c: self._set("glitch_polarity", c.choice("POSitive", "NEGative")),
            lambda c: now().glitch_polarity,
        )
        add(
            f"{head}:QUALifier",
            lambda c: self._set("glitch_qualifier", c.choice("GREaterthan", "LESSthan", "RANGe")),
            lambda c: now().glitch_qualifier,
        )
        add(
            f"{head}:LESSthan",
            lambda c: self._set("glitch_less_s", width(c)),
            lambda c: nr3(now().glitch_less_s, 8),
        )
        add(
            f"{head}:GREaterthan",
            lambda c: self._set("glitch_greater_s", width(c)),
            lambda c: nr3(now().glitch_greater_s, 8),
        )
        add(f"{head}:RANGe", self._set_widths, lambda c: self._widths(), set_args=(2, 2))
        add(
            f"{head}:LEVel",
            lambda c: self._set_level(c, now().glitch_source),
            lambda c: self._get_level(c, now().glitch_source),
            set_args=(1, 2),
            query_args=(0, 1),
        )

    def _set_widths(self, call: Call) -> None:
        """:RANGe <less than>,<greater than>."""
        low, high = WIDTH_S
        to_s, from_s = call.number("S", low=low, high=high), call.number("S", low=low, high=high)
        if from_s >= to_s:
            raise Refused(-222)
        self._now().glitch_from_s = from_s
        self._set("glitch_to_s", to_s)

    def _widths(self) -> str:
        return f"{nr3(self._now().glitch_to_s, 8)},{nr3(self._now().glitch_from_s, 8)}"
