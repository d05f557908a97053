"""Under what circumstances a run was made, and where those of two runs differ.

What changes the energy of an image, or what the numbers mean, makes two contexts unlike. What only explains a
difference, or is there in every other run, is noted.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from experiments.outcome import Outcome
from experiments.traces import TraceReader
from instruments.lab import Lab
from instruments.plain_text import one_line
from instruments.wording import counted

UNKNOWN, NONE = "unknown", "none"
DAYS_APART = 30.0
"""Days between two runs from which on it is noted: limits of instruments hold for months, not their errors."""


@dataclass(frozen=True)
class Fact:
    """One circumstance of a run; `decisive` ones must be alike for a comparison."""

    value: str
    decisive: bool = True


@dataclass(frozen=True)
class Difference:
    """A circumstance in which two runs differ."""

    name: str
    a: str
    b: str
    decisive: bool

    @property
    def line(self) -> str:
        """One line for people."""
        return one_line(f"{self.name}: A has {self.a}; B has {self.b}")

    def as_dict(self) -> dict[str, str]:
        """The same as plain values."""
        return {"name": self.name, "a": self.a, "b": self.b}


@dataclass(frozen=True)
class Shared:
    """Which errors two runs have in common, because they were made with the same of each."""

    supply: bool = False
    scope: bool = False
    probe: bool = False
    board: bool = False
    records: bool = False


def facts_of(reader: TraceReader, outcome: Outcome) -> dict[str, Fact]:
    """Every circumstance of a run that its file tells."""
    lab, plan = outcome.lab, outcome.plan
    told = [_json(session["instruments"]) for session in reader.sessions()]
    return {
        "source": Fact(outcome.source),
        "model of the board": Fact(lab.dut.simulated or NONE),
        "bench": Fact(lab.bench),
        "oscilloscope": Fact(_identity(told, "scope") or f"{lab.scope.model}, serial {lab.scope.serial}"),
        "supply": Fact(_identity(told, "supply") or f"{lab.supply.model}, serial {lab.supply.serial}"),
        "probe": Fact(_probe(lab)),
        "supply voltage": Fact(f"{lab.supply.voltage_v:g} V, range {lab.supply.range}, sense {lab.supply.sense}"),
        "device": Fact(lab.dut.name),
        "device as it says": Fact(told_by([row.device for row in outcome.device])),
        "mode as run": Fact(told_by([f"{row.dtype} {row.mode}".strip() for row in outcome.device])),
        "weights": Fact(_weights(outcome)),
        "threads": Fact(_of_runs(outcome, lambda ready, done: ready.get("threads"))),
        "power mode": Fact(_of_runs(outcome, _power_mode, "not told")),
        "run options": Fact(plan.run.label),
        "window": Fact(f"{plan.window_s:g} s"),
        "calibration": Fact(_calibration(outcome)),
        **_noted(reader, outcome, told),
    }


def _noted(reader: TraceReader, outcome: Outcome, told: list[dict[str, Any]]) -> dict[str, Fact]:
    lab, plan = outcome.lab, outcome.plan
    environment: dict[str, Any] = {}
    for session in reader.sessions():
        environment.update(_json(session["environment"]))
    facts = {f"software, {name}": str(value) for name, value in environment.items()}
    for name in ("scope", "supply"):
        facts[f"firmware, {name}"] = _identity(told, name, firmware=True) or UNKNOWN
    facts |= {
        "calibration records": _records(reader),
        "recorded as": "; ".join(plan.method.lines(plan.repeats, plan.rounds)) or "one record a cell",
        "repeats": str(plan.repeats),
        "seed": str(plan.seed),
        "current limit": f"{lab.supply.current_limit_a:g} A",
        "rest before a run": f"{lab.dut.rest_s:g} s",
    }
    return {name: Fact(value, decisive=False) for name, value in facts.items()}


def began_utc_s(reader: TraceReader) -> float:
    """When the bench was first opened for a run, NaN where the file does not tell."""
    return min((session["began_utc_s"] for session in reader.sessions()), default=math.nan)


def differences(a: Mapping[str, Fact], b: Mapping[str, Fact]) -> list[Difference]:
    """Where two contexts differ, decisive ones first; a decisive one that is known of one alone differs."""
    found = []
    for name in dict.fromkeys((*a, *b)):
        known = [side[name] for side in (a, b) if name in side]
        decisive = any(fact.decisive for fact in known)
        first, second = (side[name].value if name in side else UNKNOWN for side in (a, b))
        if first != second and (decisive or len(known) == 2):
            found.append(Difference(name, first, second, decisive))
    return sorted(found, key=lambda d: not d.decisive)


def apart(a_utc_s: float, b_utc_s: float) -> list[Difference]:
    """Note runs that lie far apart in time."""
    days = abs(b_utc_s - a_utc_s) / 86400
    if not days >= DAYS_APART:
        return []
    return [Difference("time", "first", f"{days:.0f} days {'later' if b_utc_s > a_utc_s else 'earlier'}", False)]


def shared(a: Mapping[str, Fact], b: Mapping[str, Fact], *, simulated: bool) -> Shared:
    """Say what two runs were both made with.

    The instruments of a simulated bench get their errors anew from each seed: only those of one seed are the same.
    """

    def same(*names: str) -> bool:
        return all(name in a and name in b and a[name].value == b[name].value != UNKNOWN for name in names)

    here = same("bench", "source") and (not simulated or same("seed"))
    return Shared(
        here and same("supply", "supply voltage"),
        here and same("oscilloscope"),
        here and same("probe", "oscilloscope"),
        here and same("device", "device as it says"),
        here and same("calibration records") and a["calibration records"].value != NONE,
    )


def _json(text: str) -> dict[str, Any]:
    try:
        tree = json.loads(text)
    except (ValueError, RecursionError):
        return {}
    return tree if isinstance(tree, dict) else {}


def _identity(told: list[dict[str, Any]], name: str, *, firmware: bool = False) -> str:
    """Model and serial, or firmware, as *IDN? said them in each session."""
    found = []
    for tree in told:
        fields = str(tree.get("identities", {}).get(name, "")).split(",", 3)
        if len(fields) == 4:
            found.append(fields[3] if firmware else f"{fields[1]}, serial {fields[2]}")
    return " / ".join(dict.fromkeys(found))


def _probe(lab: Lab) -> str:
    probe = lab.probe
    return f"{probe.model} {probe.serial}, {probe.range_v_per_a:g} V/A, {counted(probe.turns, 'turn')}"


def told_by(rows: Iterable[str]) -> str:
    """What the rows of a run say, each once."""
    return " / ".join(dict.fromkeys(text for text in rows if text)) or UNKNOWN


def _runs(outcome: Outcome) -> Iterable[tuple[Mapping[str, Any], Mapping[str, Any]]]:
    return ((run.ready, run.done) for row in outcome.device for run in row.runs)


def _of_runs(outcome: Outcome, say: Any, otherwise: str = UNKNOWN) -> str:
    told = dict.fromkeys(str(value) for facts in _runs(outcome) if (value := say(*facts)) is not None)
    return " / ".join(told) or otherwise


def _power_mode(ready: Mapping[str, Any], done: Mapping[str, Any]) -> str | None:
    """The board's power mode and its governors, where it told them."""
    sensors, before = done.get("sensors_before"), done.get("condition_before")
    mode = sensors.get("power mode") if isinstance(sensors, Mapping) else None
    governor = before.get("governor") if isinstance(before, Mapping) else None
    told = [mode.get("value") if isinstance(mode, Mapping) else None, governor]
    return ", ".join(str(value) for value in told if value) or None


def _weights(outcome: Outcome) -> str:
    def say(ready: Mapping[str, Any], done: Mapping[str, Any]) -> str | None:
        weights = ready.get("weights")
        if isinstance(weights, Mapping):  # by what they are, wherever they lay
            return f"{ready.get('network')} {weights.get('sha256', UNKNOWN)}"
        return None if weights is None else str(weights)

    return " / ".join(sorted(set(_of_runs(outcome, say).split(" / "))))


def _calibration(outcome: Outcome) -> str:
    """Against what the gains of a run were found."""
    found = outcome.calibration
    if found is None:
        return NONE
    how = "the makers' limits" if math.isinf(found.current.gain.at) else "the supply's read-back"
    others = [term.name for channel in (found.current, found.voltage) for term in channel.gain.others]
    recorded = any("its calibration" in name for name in others)
    return f"{how}{', with a calibration record' if recorded else ''}"


def _records(reader: TraceReader) -> str:
    """The calibration records that a run's file holds, by name and content."""
    stored = reader.json("calibrations")
    entries = [entry for entry in stored if isinstance(entry, Mapping)] if isinstance(stored, list) else []
    return ", ".join(f"{entry.get('name')} ({str(entry.get('sha256'))[:12]})" for entry in entries) or NONE
