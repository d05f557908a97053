"""Which record fits a bench on a day: serials, settings, dates. Pure.

A record that does not fit is never used: its figures would claim what nobody knows. What is wrong with it is said
under a code each: expired, made later, foreign serial, out of range (another range, turns or scale, or a voltage
beyond what it was found for), other source, not needed. What will flow is known only when it flows:
`calibration.combine` judges that.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from calibration.model import Delay
from calibration.records import (
    ChannelAccuracyRecord,
    CurrentSetting,
    Filed,
    MarkerDelayRecord,
    ProbeRecord,
    VoltageRecord,
    VoltageSetting,
    stamp,
)
from instruments.lab import Lab
from instruments.scope_facts import channel_settings

LATER = timedelta(days=1)
"""How much later than a run a record may have been made, for clocks of unlike zones; a record of the day after is no
mistake."""


@dataclass(frozen=True)
class Problem:
    """Why a record does not fit."""

    code: str
    text: str


@dataclass(frozen=True)
class Setup:
    """What a bench is on a day, as far as records care."""

    when: datetime
    simulated: bool
    scope: str
    probe: str
    current: CurrentSetting
    voltage: VoltageSetting
    sense: str
    set_v: float
    dut: str
    line: str
    has_zero: bool = True

    @classmethod
    def of(cls, lab: Lab, when: datetime, *, has_zero: bool = True) -> Setup:
        """The setup that a lab.yaml describes, in a run that takes a zero of its own or not."""
        current, voltage = channel_settings(lab)
        probe, w = lab.probe, lab.wiring
        return cls(
            when,
            lab.simulation is not None,
            lab.scope.serial,
            probe.serial,
            CurrentSetting(
                channel=w.current.channel,
                full_scale_a=current.full_scale,
                offset_a=current.offset,
                range_v_per_a=probe.range_v_per_a,
                turns=probe.turns,
                reversed=probe.reversed,
            ),
            VoltageSetting(
                channel=w.voltage.channel,
                full_scale_v=voltage.full_scale,
                offset_v=voltage.offset,
                probe_ratio=w.voltage.probe_ratio,
            ),
            lab.supply.sense,
            lab.supply.voltage_v,
            lab.dut.name,
            line_kind(lab),
            has_zero,
        )


def line_kind(lab: Lab) -> str:
    """What moves the marker lines of a bench: the part of dut.marker before its place."""
    return "simulated" if lab.dut.simulated is not None else lab.dut.marker.partition(":")[0]


def problems(filed: Filed, setup: Setup, *, at_any_time: bool = False) -> tuple[Problem, ...]:
    """Everything because of which a record does not fit; empty where it does.

    `at_any_time` takes one that was made after the run, as somebody who names it for a replay wants it.
    """
    record = filed.record
    found: list[Problem] = []
    if record.expires is not None and setup.when > record.expires:
        found.append(Problem("expired", f"it expired {stamp(record.expires)}, and this is of {stamp(setup.when)}"))
    if isinstance(record, ChannelAccuracyRecord):
        if setup.has_zero:
            found.append(Problem("not needed", "the run has a zero of its own, which knows more"))
        return tuple(found)
    if record.made - setup.when > LATER and not at_any_time:
        found.append(
            Problem(
                "made later",
                f"it was made {stamp(record.made)}, and this is of {stamp(setup.when)}: is a clock wrong, or is it the "
                "record of another time?",
            )
        )
    if (record.source == "simulated") is not setup.simulated:
        here = "simulated" if setup.simulated else "real"
        found.append(Problem("other source", f"it is {record.source}, and this bench is {here}"))
    wanted = {"scope": setup.scope}
    if isinstance(record, ProbeRecord):
        wanted["probe"] = setup.probe
    for name, serial in wanted.items():
        said = getattr(record.serials, name)
        if said != serial:
            found.append(Problem("foreign serial", f"it is of {name} {said or 'unknown'}, and here stands {serial}"))
    if isinstance(record, ProbeRecord):
        found += _differences(record.setting, setup.current)
    elif isinstance(record, VoltageRecord):
        found += _differences(record.setting, setup.voltage)
        if record.sense != setup.sense:
            found.append(Problem("out of range", f"it is of {record.sense} sense, and here sense is {setup.sense}"))
        low, high = record.valid_v.low, record.valid_v.high
        if not low <= setup.set_v <= high:
            found.append(
                Problem("out of range", f"it holds from {low:g} to {high:g} V, and here {setup.set_v:g} V are set")
            )
    elif (record.dut, record.line) != (setup.dut, setup.line):
        found.append(
            Problem(
                "foreign serial",
                f"it is of {record.dut} with {record.line} lines, and here are {setup.dut} and {setup.line}",
            )
        )
    return tuple(found)


def _differences(said: Any, here: Any) -> list[Problem]:
    """Settings with another gain."""
    return [
        Problem("out of range", f"it is of {name} {value:g}, and here {name} is {getattr(here, name):g}")
        for name, value in said.model_dump().items()
        if value != getattr(here, name)
    ]


@dataclass(frozen=True)
class Judged:
    """A record and what keeps it from being used; `later` where another of its kind was taken instead."""

    filed: Filed
    problems: tuple[Problem, ...]
    later: bool = False

    @property
    def used(self) -> bool:
        """Whether a run rests on it."""
        return not self.problems and not self.later

    def complaint(self) -> str:
        """Why it is not used, in words."""
        said = "; ".join(f"{p.code}: {p.text}" for p in self.problems)
        return f"calibration record {self.filed.name} ({self.filed.record.kind}) is not used: {said}"


@dataclass(frozen=True)
class Records:
    """The records of a run, judged: at most one of each kind is used, the one made last."""

    judged: tuple[Judged, ...] = ()

    @classmethod
    def choose(cls, filed: Iterable[Filed], setup: Setup, named: Sequence[Filed] = ()) -> Records:
        """Judge records, the last made of those that fit is used; `named` may have been made after the run."""
        judged: list[Judged] = []
        taken: set[str] = set()
        for one in sorted(filed, key=lambda f: (f.record.made, f.name), reverse=True):
            found = problems(one, setup, at_any_time=any(one is other for other in named))
            judged.append(Judged(one, found, later=not found and one.record.kind in taken))
            if not found:
                taken.add(one.record.kind)
        return cls(tuple(reversed(judged)))

    def _one(self, kind: str) -> Any:
        return next((j.filed.record for j in self.judged if j.used and j.filed.record.kind == kind), None)

    @property
    def probe(self) -> ProbeRecord | None:
        """The current channel's."""
        found: ProbeRecord | None = self._one("probe")
        return found

    @property
    def voltage(self) -> VoltageRecord | None:
        """The voltage channel's."""
        found: VoltageRecord | None = self._one("voltage")
        return found

    @property
    def marker_delay(self) -> MarkerDelayRecord | None:
        """The marker lines'."""
        found: MarkerDelayRecord | None = self._one("marker_delay")
        return found

    @property
    def delay(self) -> Delay | None:
        """That of the marker lines, None where it is not known."""
        return None if self.marker_delay is None else self.marker_delay.delay()

    @property
    def accuracy(self) -> ChannelAccuracyRecord | None:
        """A maker's promise, for runs that hold no zero."""
        found: ChannelAccuracyRecord | None = self._one("channel_accuracy")
        return found

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the records that are used, without their ending."""
        return tuple(j.filed.name.removesuffix(".yaml") for j in self.judged if j.used)

    def names_of(self, given: Iterable[Filed]) -> tuple[str, ...]:
        """Those of the names that some records have."""
        among = {filed.name.removesuffix(".yaml") for filed in given}
        return tuple(name for name in self.names if name in among)

    def of_other_benches(self, bench: str) -> list[str]:
        """What is to be said of records in use that were made at another bench: serials may coincide."""
        return [
            f"calibration record {j.filed.name} ({j.filed.record.kind}) is of the bench {made_at!r}, and this one is "
            f"{bench!r}: its serials fit, so it is used; were these instruments really at both?"
            for j in self.judged
            if j.used and (made_at := getattr(j.filed.record, "bench", bench)) != bench
        ]

    def complaints(self, named: Sequence[str] = ()) -> list[str]:
        """What is to be said of records that were not used.

        Of a kind that another record fills, only those named by the user are worth a word.
        """
        filled = {j.filed.record.kind for j in self.judged if j.used}
        return [
            j.complaint()
            for j in self.judged
            if j.problems and (j.filed.name in named or j.filed.record.kind not in filled)
        ]


NO_RECORDS = Records()
