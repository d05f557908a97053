""":MEASure of the simulated oscilloscope. Pure; imports no driver.

PG2000's :MEASure: a query measures once and answers, +9.9E+37 where there is nothing to measure; the command form puts
a measurement on the screen, at most four, and :RESults? gives their statistics (its form is that of the 3000 X guide's
example). Measurements look at up to 62 500 points of the latest record. :WINDow, :SHOW and :STATistics:DISPlay are kept
and answered; edge and pulse counts (:PEDGes and the like) are those of the 3000 X.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from instruments.simulated.mso_settings import nr3
from instruments.simulated.mso_traces import Traces
from instruments.simulated.mso_waveform_math import Thresholds, Waveform
from instruments.simulated.scpi_errors import Refused
from instruments.simulated.scpi_params import match_choice
from instruments.simulated.scpi_tree import Call

if TYPE_CHECKING:
    from instruments.simulated.mso_x2024a import SimulatedMsoX2024A

INVALID = "+9.9E+37"
MOST_INSTALLED = 4
Value = float | None
_W = Waveform

OF_ONE: dict[str, tuple[str, Callable[[Waveform], Value]]] = {
    "BWIDth": ("Burst Width", _W.burst_s),
    "COUNter": ("Counter", _W.counted_hz),
    "DUTYcycle": ("+Duty", lambda w: w.duty_percent(True)),
    "FALLtime": ("Fall Time", lambda w: w.transition_s(False)),
    "FREQuency": ("Frequency", _W.frequency_hz),
    "NDUTy": ("-Duty", lambda w: w.duty_percent(False)),
    "NEDGes": ("-Edge Cnt", lambda w: float(sum(not e.rising for e in w.edges))),
    "NPULses": ("-Pulse Cnt", lambda w: float(max(0, sum(not e.rising for e in w.edges) - 1))),
    "NWIDth": ("-Width", lambda w: w.width_s(False)),
    "OVERshoot": ("Overshoot", _W.overshoot_percent),
    "PEDGes": ("+Edge Cnt", lambda w: float(sum(e.rising for e in w.edges))),
    "PERiod": ("Period", _W.period_s),
    "PPULses": ("+Pulse Cnt", lambda w: float(max(0, sum(e.rising for e in w.edges) - 1))),
    "PREShoot": ("Preshoot", _W.preshoot_percent),
    "PWIDth": ("+Width", lambda w: w.width_s(True)),
    "RISetime": ("Rise Time", lambda w: w.transition_s(True)),
    "SDEViation": ("Std Dev", lambda w: w.rms(ac=True)),
    "VAMPlitude": ("Amplitude", lambda w: w.top - w.base),
    "VBASe": ("Base", lambda w: w.base),
    "VMAX": ("Maximum", lambda w: w.high),
    "VMIN": ("Minimum", lambda w: w.low),
    "VPP": ("Pk-Pk", lambda w: w.high - w.low),
    "VTOP": ("Top", lambda w: w.top),
    "XMAX": ("X at Max", lambda w: float(w.t[np.argmax(w.v)])),
    "XMIN": ("X at Min", lambda w: float(w.t[np.argmin(w.v)])),
}
"""Of one source: label on the screen and function."""
OF_DIGITAL = ("COUNter", "DUTYcycle", "FREQuency", "NDUTy", "NWIDth", "PERiod", "PWIDth")
OVER_INTERVAL: dict[str, tuple[str, Callable[[Waveform, bool, bool], Value]]] = {
    "AREa": ("Area", lambda w, cycle, ac: w.area(cycle)),
    "VAVerage": ("Average", lambda w, cycle, ac: w.mean(cycle)),
    "VRMS": ("RMS", lambda w, cycle, ac: w.rms(cycle, ac)),
}
"""Of one source, over the screen or one cycle, with or without its mean."""
OF_TWO = {"DELay": "Delay", "PHASe": "Phase", "VRATio": "V Ratio"}


@dataclass
class _Installed:
    """A measurement on the screen with its statistics."""

    label: str
    measure: Callable[[], Value]
    seen: list[float] = field(default_factory=list)
    last_number: int = -1
    current: Value = None


class MeasureCommands:
    """The :MEASure subsystem, bound to one oscilloscope."""

    def __init__(self, scope: SimulatedMsoX2024A, traces: Traces) -> None:
        self._scope, self._traces = scope, traces
        self._sources = ["CHAN1", "NONE"]
        self._thresholds: dict[str, Thresholds] = {}
        self._delay_edges = [1, 1]
        self._installed: list[_Installed] = []
        self._seen: dict[tuple[str, Thresholds], Waveform] = {}
        self._seen_number = -1
        self._kept = {"window": "AUTO", "show": "1", "display": "1", "statistics": "ON", "increment": "0"}
        for name, (label, function) in OF_ONE.items():
            self._add_one(name, label, function)
        for name, (label, over) in OVER_INTERVAL.items():
            self._add_interval(name, label, over)
        for name, label in OF_TWO.items():
            self._add_two(name, label)
        self._add_instants()
        self._add_setup()

    # --- sources --------------------------------------------------------------------------------

    def _names(self, digital: bool = False) -> tuple[str, ...]:
        model = self._scope.model
        return (*model.channels, *(model.lines if digital else ()))

    def _source(self, call: Call, digital: bool = False, second: bool = False) -> str:
        """The source that is given, or that of :MEASure:SOURce."""
        if call.more:
            return call.choice(*self._names(digital), "NONE")
        return self._sources[int(second)]

    def _waveform(self, source: str) -> Waveform | None:
        thresholds, number = self._thresholds.get(source, Thresholds()), self._traces.number()
        if number != self._seen_number:
            self._seen_number = number
            self._seen.clear()
        if (source, thresholds) not in self._seen:
            points = self._traces.values(source) if source != "NONE" else None
            if points is None:
                return None
            self._seen[source, thresholds] = Waveform(*points, thresholds)
        return self._seen[source, thresholds]

    def _measured(self, source: str, function: Callable[[Waveform], Value]) -> Value:
        waveform = self._waveform(source)
        return function(waveform) if waveform is not None else None

    def _add(self, name: str, label: str, prepare: Callable[[Call], tuple[str, Callable[[], Value]]]) -> None:
        """Register a measurement: `prepare` reads the parameters; (sources' numbers, what measures)."""

        def install(call: Call) -> None:
            of, measure = prepare(call)
            self._installed.append(_Installed(f"{label}({of})", measure))
            del self._installed[:-MOST_INSTALLED]

        self._scope.add(
            f":MEASure:{name}", install, lambda call: _answer(prepare(call)[1]()), set_args=(0, 4), query_args=(0, 4)
        )

    def _add_one(self, name: str, label: str, function: Callable[[Waveform], Value]) -> None:
        def prepare(call: Call) -> tuple[str, Callable[[], Value]]:
            source = self._source(call, digital=name in OF_DIGITAL)
            return _number(source), lambda: self._measured(source, function)

        self._add(name, label, prepare)

    def _add_interval(self, name: str, label: str, function: Callable[[Waveform, bool, bool], Value]) -> None:
        def prepare(call: Call) -> tuple[str, Callable[[], Value]]:
            cycle = _interval(call)
            ac = name == "VRMS" and _is(call, ("AC", "DC")) and call.choice("AC", "DC") == "AC"
            source = self._source(call)
            return _number(source), lambda: self._measured(source, lambda w: function(w, cycle, ac))

        self._add(name, label, prepare)

    def _add_two(self, name: str, label: str) -> None:
        def prepare(call: Call) -> tuple[str, Callable[[], Value]]:
            cycle = name == "VRATio" and _interval(call)
            one, two = self._source(call, digital=name != "VRATio"), self._source(call, name != "VRATio", second=True)

            def measure() -> Value:
                first, second = self._waveform(one), self._waveform(two)
                if first is None or second is None:
                    return None
                return _ratio_db(first, second, cycle) if name == "VRATio" else self._shift(first, second, name)

            return f"{_number(one)}-{_number(two)}", measure

        self._add(name, label, prepare)

    def _shift(self, first: Waveform, second: Waveform, name: str) -> Value:
        """From the first source's edge to the second's: in seconds, or in degrees of the first's period."""
        if name == "PHASe":
            one, two, period_s = first.nth_edge_s(1, 1), second.nth_edge_s(1, 1), first.period_s()
            return None if one is None or two is None or not period_s else 360 * (two - one) / period_s
        of_one, of_two = self._delay_edges
        one = first.nth_edge_s(1 if of_one > 0 else -1, abs(of_one))
        two = second.nth_edge_s(1 if of_two > 0 else -1, abs(of_two))
        return None if one is None or two is None else two - one

    def _add_instants(self) -> None:
        """Queries about one edge, crossing or instant."""
        add = self._scope.add
        add(":MEASure:TEDGe", query=lambda c: _answer(self._edge_time(c)), query_args=(1, 2))
        add(":MEASure:TVALue", query=lambda c: _answer(self._crossing_time(c)), query_args=(2, 3))
        add(":MEASure:VTIMe", query=lambda c: _answer(self._value_at(c)), query_args=(1, 2))

    def _edge_time(self, call: Call) -> Value:
        slope, occurrence = _occurrence(call)
        source = self._source(call, digital=True)
        return self._measured(source, lambda w: w.nth_edge_s(slope, occurrence))

    def _crossing_time(self, call: Call) -> Value:
        level = call.number("V|A")
        slope, occurrence = _occurrence(call)
        source = self._source(call)
        return self._measured(source, lambda w: w.crosses_s(level, slope, occurrence))

    def _value_at(self, call: Call) -> Value:
        t_s = call.number("S")
        source = self._source(call)
        return self._measured(source, lambda w: w.value_at(t_s))

    # --- setup and statistics -------------------------------------------------------------------

    def _add_setup(self) -> None:
        add, kept, none = self._scope.add, self._kept, (0, 0)
        add(":MEASure:SOURce", self._set_sources, lambda c: ",".join(self._sources), set_args=(1, 2))
        add(":MEASure", query=lambda c: f":MEAS:SOUR {','.join(self._sources)}")
        add(":MEASure:CLEar|:MEASure:SCRatch", lambda c: self._installed.clear(), set_args=none)
        add(":MEASure:ALL", lambda c: None, set_args=(0, 1))
        add(":MEASure:DEFine", self._define, self._defined, set_args=(2, 6), query_args=(1, 2))
        add(":MEASure:RESults", query=lambda c: self._results())
        add(":MEASure:STATistics:RESet", lambda c: self._forget(), set_args=none)
        add(":MEASure:STATistics:INCRement", lambda c: self._count(again=True), set_args=none)
        statistics = ("ON", "OFF", "CURRent", "MEAN", "MINimum", "MAXimum", "STDDev", "COUNt")
        add(
            ":MEASure:STATistics",
            lambda c: kept.update(statistics=_statistics(c, statistics)),
            lambda c: kept["statistics"],
        )
        add(":MEASure:WINDow", lambda c: kept.update(window=c.choice("MAIN", "ZOOM", "AUTO")), lambda c: kept["window"])
        add(":MEASure:SHOW", lambda c: kept.update(show=f"{c.boolean():d}"), lambda c: kept["show"])
        add(
            ":MEASure:STATistics:DISPlay",
            lambda c: kept.update(display=f"{c.boolean():d}"),
            lambda c: kept["display"],
        )

    def _set_sources(self, call: Call) -> None:
        self._sources[0] = call.choice(*self._names(digital=True))
        if call.more:
            self._sources[1] = call.choice(*self._names(digital=True), "NONE")

    def _define(self, call: Call) -> None:
        """DELay,<edge>,<edge> or THResholds,{STANdard | {PERCent | ABSolute},<upper>,<middle>,<lower>}[,<source>]."""
        if call.choice("DELay", "THResholds") == "DEL":
            self._delay_edges = [_signed(call), _signed(call)]
            return
        mode = call.choice("STANdard", "PERCent", "ABSolute")
        chosen = Thresholds()
        if mode != "STAN":
            upper, middle, lower = (call.number("V|A") for _ in range(3))
            if not lower < middle < upper or (mode == "PERC" and not 5 <= lower < upper <= 95):
                raise Refused(-222)
            chosen = Thresholds(upper, middle, lower, mode == "ABS")
        self._thresholds[self._source(call)] = chosen

    def _defined(self, call: Call) -> str:
        if call.choice("DELay", "THResholds") == "DEL":
            return ",".join(f"{n:+d}" for n in self._delay_edges)
        t = self._thresholds.get(self._source(call), Thresholds())
        return f"THR,{'ABS' if t.absolute else 'PERC'},{nr3(t.upper)},{nr3(t.middle)},{nr3(t.lower)}"

    def _forget(self) -> None:
        for one in self._installed:
            one.seen.clear()

    def _count(self, again: bool = False) -> None:
        """Take the latest record into the statistics, once."""
        number = self._traces.number()
        for one in self._installed:
            if again or one.last_number != number:
                one.last_number, one.current = number, one.measure()
                one.seen += [one.current] if one.current is not None else []

    def _results(self) -> str:
        """For each: label, current, minimum, maximum, mean, standard deviation and count; or one of these alone."""
        self._count()
        wanted = {"CURR": 1, "MIN": 2, "MAX": 3, "MEAN": 4, "STDD": 5, "COUN": 6}.get(self._kept["statistics"])
        rows = []
        for one in self._installed:
            seen = np.array(one.seen or [math.nan])
            numbers = (one.current, seen.min(), seen.max(), seen.mean(), seen.std())
            texts = [_answer(None if x is None or math.isnan(x) else float(x)) for x in numbers]
            row = [one.label, *texts, f"{len(one.seen):d}"]
            rows.append(",".join(row) if wanted is None else row[wanted])
        return ",".join(rows)


def _answer(value: Value) -> str:
    return INVALID if value is None else nr3(value)


def _number(source: str) -> str:
    return source.removeprefix("CHAN").replace("DIG", "D")


def _is(call: Call, words: tuple[str, ...]) -> bool:
    return bool(call.params) and call.params[0].text.upper() in words


def _interval(call: Call) -> bool:
    """CYCLe or DISPlay, if one of them is given; whether it is one cycle."""
    if _is(call, ("CYCL", "CYCLE", "DISP", "DISPLAY")):
        return call.choice("CYCLe", "DISPlay") == "CYCL"
    return False


def _occurrence(call: Call) -> tuple[int, int]:
    """Slope and number: `+1`, `-2`, `3`; or the slope as a parameter of its own."""
    if _is(call, ("+", "-")):
        sign = call.word()
        return (1 if sign == "+" else -1), call.integer(low=1, high=100_000)
    number = _signed(call)
    return (-1 if number < 0 else 1), abs(number)


def _signed(call: Call) -> int:
    number = call.integer(low=-100_000, high=100_000)
    if number == 0:
        raise Refused(-222)
    return number


def _statistics(call: Call, words: tuple[str, ...]) -> str:
    if call.params and call.params[0].text in ("0", "1"):
        return "ON" if call.boolean() else "OFF"
    return match_choice(call.word(), words)


def _ratio_db(first: Waveform, second: Waveform, cycle: bool) -> Value:
    one, two = first.rms(cycle, ac=True), second.rms(cycle, ac=True)
    return 20 * math.log10(one / two) if one and two else None
