"""What goes wrong at a simulated bench, as facts: `simulation.faults` of lab.yaml, or a file of the same keys. Pure.

    seed: 7
    scope:                      # what the oscilloscope's answers, memory and front panel do
      - {kind: cut, matching: "WAV.*DATA", at_byte: 17}
    supply:
      - {kind: panel, matching: "MEAS.*CURR", skip: 2, commands: "CURR 0.3"}
    markers:                    # what the marker lines' edges do on their way
      - {kind: bounce, line: gate, skip: 2, times: 0}
    leads:                      # what is plugged, wired or clamped wrongly
      - {kind: dead, lead: batch}

What each kind does is told in docs/faults.md.
"""

from __future__ import annotations

import re
from typing import Annotated, Literal, get_args

from pydantic import BaseModel, ConfigDict, Field, model_validator

Count = Annotated[int, Field(ge=0, le=1_000_000)]
Seconds = Annotated[float, Field(ge=0, le=86400)]

ReplyKind = Literal[
    "drop", "delay", "cut", "short", "double", "garbage", "stall", "wedge", "reset", "replace", "stale", "trickle"
]
"""What can become of an answer."""

Line = Literal["gate", "batch"]
Signal = Literal["current", "voltage"]

_NEEDED: dict[str, tuple[str, ...]] = {
    "delay": ("delay_s",),
    "trickle": ("delay_s",),
    "garbage": ("data",),
    "replace": ("data",),
    "panel": ("commands",),
    "identity": ("text",),
    "error": ("code", "text"),
    "holes": ("share",),
    "late": ("delay_s",),
    "moved": ("to",),
    "shifted": ("delay_s",),
    "gain": ("factor",),
    "noise": ("rms",),
}
_WHEN = ("matching", "skip", "times", "probability")
_ALLOWED: dict[str, tuple[str, ...]] = {
    **dict.fromkeys(get_args(ReplyKind), _WHEN),
    "delay": (*_WHEN, "delay_s"),
    "trickle": (*_WHEN, "delay_s", "at_byte"),
    "cut": (*_WHEN, "at_byte"),
    "short": (*_WHEN, "at_byte"),
    "wedge": (*_WHEN, "at_byte"),
    "reset": (*_WHEN, "at_byte"),
    "garbage": (*_WHEN, "data", "delay_s"),
    "replace": (*_WHEN, "data"),
    "stale": (*_WHEN, "back"),
    "panel": (*_WHEN, "commands"),
    "identity": ("text",),
    "error": ("code", "text"),
    "holes": ("share",),
    "lose": ("line", "skip", "times"),
    "bounce": ("line", "skip", "times", "bounces", "within_s"),
    "late": ("delay_s",),
    "dead": ("lead",),
    "inverted": ("lead",),
    "moved": ("lead", "to"),
    "shifted": ("lead", "delay_s"),
    "gain": ("lead", "factor"),
    "noise": ("lead", "rms"),
}


class _Facts(BaseModel):
    model_config = ConfigDict(strict=True, extra="forbid", frozen=True, allow_inf_nan=False)


class _Fault(_Facts):
    kind: str

    @model_validator(mode="after")
    def _fits_its_kind(self) -> _Fault:
        given = self.model_fields_set - {"kind"}
        missing = [name for name in _NEEDED.get(self.kind, ()) if name not in given]
        if missing:
            raise ValueError(f"a fault of kind {self.kind} needs {' and '.join(missing)}")
        stray = sorted(given - set(_ALLOWED[self.kind]))
        if stray:
            raise ValueError(
                f"{', '.join(stray)} mean nothing to a fault of kind {self.kind}; "
                f"it takes {', '.join(_ALLOWED[self.kind]) or 'nothing else'}"
            )
        return self


class InstrumentFault(_Fault):
    """Something that an instrument, its interface or a hand at its front panel does."""

    kind: Literal[ReplyKind, "panel", "identity", "error", "holes"]
    matching: Annotated[str, Field(max_length=200)] = ""
    """Regular expression that is looked for in a query, case ignored; empty: every query."""
    skip: Count = 0
    times: Count = 1
    probability: Annotated[float, Field(ge=0, le=1)] = 1.0
    delay_s: Seconds = 0.0
    at_byte: Count = 0
    back: Annotated[int, Field(ge=1, le=1000)] = 1
    data: Annotated[str, Field(max_length=100_000)] = ""
    commands: Annotated[str, Field(max_length=1000)] = ""
    text: Annotated[str, Field(max_length=200)] = ""
    code: Annotated[int, Field(ge=-32768, le=32767)] = 0
    share: Annotated[float, Field(gt=0, le=1)] = 0.01

    @model_validator(mode="after")
    def _can_be_used(self) -> InstrumentFault:
        try:
            re.compile(self.matching)
        except re.error as error:
            raise ValueError(f"matching {self.matching!r} is no regular expression: {error}") from None
        for name in ("data", "commands", "text"):
            try:
                getattr(self, name).encode("latin-1")
            except UnicodeEncodeError:
                raise ValueError(f"{name} holds characters beyond one byte each; write \\x00 to \\xff") from None
        return self


class MarkerFault(_Fault):
    """Something that happens to the edges of the marker lines on their way to the oscilloscope."""

    kind: Literal["lose", "bounce", "late"]
    line: Line = "gate"
    skip: Count = 0
    times: Count = 1
    bounces: Annotated[int, Field(ge=1, le=100)] = 2
    within_s: Annotated[float, Field(gt=0, le=1)] = 1e-3
    delay_s: Seconds = 0.0


class LeadFault(_Fault):
    """Something that is plugged, wired or clamped in another way than lab.yaml says."""

    kind: Literal["dead", "inverted", "moved", "shifted", "gain", "noise"]
    lead: Literal[Line, Signal]
    to: Annotated[int, Field(ge=0, le=7)] = 0
    """Digital input (0 to 7) of a line, channel (1 to 4) of a signal."""
    factor: Annotated[float, Field(ge=-1000, le=1000)] = 1.0
    rms: Annotated[float, Field(ge=0, le=1000)] = 0.0
    """In the signal's unit, A or V."""
    delay_s: Seconds = 0.0

    @model_validator(mode="after")
    def _fits_its_lead(self) -> LeadFault:
        line = self.lead in get_args(Line)
        if (self.kind in ("inverted", "shifted") and not line) or (self.kind in ("gain", "noise") and line):
            can = "dead, inverted, moved or shifted" if line else "dead, moved, gain or noise"
            raise ValueError(f"the {self.lead} lead cannot be of kind {self.kind}: it is {can}")
        if self.kind == "moved" and not line and not 1 <= self.to <= 4:
            raise ValueError(f"the {self.lead} lead moves to a channel, 1 to 4, not to {self.to}")
        return self


class FaultFacts(_Facts):
    """Everything that goes wrong; empty: nothing does."""

    seed: Annotated[int, Field(ge=0, lt=2**63)] = 0
    scope: list[InstrumentFault] = []
    supply: list[InstrumentFault] = []
    markers: list[MarkerFault] = []
    leads: list[LeadFault] = []

    @model_validator(mode="after")
    def _holes_are_the_scopes(self) -> FaultFacts:
        if any(fault.kind == "holes" for fault in self.supply):
            raise ValueError("supply: holes are in records, which the scope alone has")
        return self
