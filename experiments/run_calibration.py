"""The calibration of a run from its own captures and the records that it was offered.

The live sweep calls this with what it has captured so far, the reduction with all that the file holds.
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from calibration import in_situ
from calibration.choice import NO_RECORDS, Records
from calibration.combine import Disagreement, disagreements
from calibration.model import Calibration
from calibration.reference import read_back_of
from experiments import record_range
from experiments.calibrations import combined, promised, records_of
from experiments.capture_data import ReductionError, wires
from experiments.gain_check import DRIFTED
from experiments.measure import Measured, measure
from experiments.plausible import STUCK, gain_fault, stuck_fault
from instruments.e3645a.ratings import FAMILY
from instruments.errors import ConfigError
from instruments.lab import Lab

if TYPE_CHECKING:
    from experiments.journal import Reading
    from experiments.traces import TraceReader

Steady = tuple[Measured, "list[Reading]"]
"""A zero, an idle record or a comparison with the supply, and what the supply read during it."""

DISAGREES = "calibration-disagrees"
"""Flag of a cell whose session's own comparison contradicts a record."""


def comparison_fault(lab: Lab, steady: list[Steady]) -> ReductionError | None:
    """Judge the last of some captures, a comparison with the supply, by the zero before it; None: it may be right."""
    measured, readings = steady[-1]
    zeros = [m for m, _ in steady if m.data.kind == "zero" and m.data.session == measured.data.session]
    if not zeros or measured.window is None or measured.mean_i is None or measured.mean_v is None:
        return None
    inside = [r for r in readings if r.done_after_trigger_s < measured.window.duration_s]
    amps, volts = ([r.value for r in inside if r.quantity == quantity] for quantity in "AV")
    zero_i, zero_v = zeros[-1].mean_i, zeros[-1].mean_v
    if not amps or not volts or zero_i is None or zero_v is None:
        return None
    if fault := _stands_still(lab, steady, (measured, readings)):
        return fault
    at_a = float(np.mean(amps))
    lead_ohm = lab.supply.lead_resistance_ohm or 0.0 if lab.supply.sense == "local" else 0.0
    at_v = float(np.mean(volts)) - lead_ohm * at_a
    return gain_fault(lab, measured.mean_i.mean - zero_i.mean, measured.mean_v.mean - zero_v.mean, at_a, at_v)


def _stands_still(lab: Lab, steady: list[Steady], comparison: Steady) -> ReductionError | None:
    """Whether the supply read the same for the board at work as for the idle one, before or after it in the session.

    Where it came to stand still during a run, only the idle record after the last cell shows it.
    """
    measured, readings = comparison
    if measured.data.kind != "gain" or measured.window is None or measured.mean_i is None:
        return None
    work_a = [r.value for r in readings if r.quantity == "A" and r.done_after_trigger_s < measured.window.duration_s]
    for idle, read in steady if work_a else ():
        idle_a = [r.value for r in read if r.quantity == "A"]
        if idle.data.kind != "idle" or idle.data.session != measured.data.session or not (idle.mean_i and idle_a):
            continue
        limits = read_back_of(lab).current
        if fault := stuck_fault(limits, idle.mean_i.mean, measured.mean_i.mean, [*idle_a, *work_a]):
            return fault
    return None


def find_calibration(lab: Lab, steady: list[Steady], records: Records = NO_RECORDS) -> Calibration | None:
    """Calibrate from the zero and gain captures of a run, and calibration records; None when there is no zero yet."""
    found = _in_situ(lab, steady, records)
    return None if found is None else combined(found, records)[0]


def _in_situ(lab: Lab, steady: list[Steady], records: Records) -> Calibration | None:
    """What the run's own captures tell, with the leads as a record or lab.yaml knows them."""
    zeros, comparisons = [], []
    for measured, readings in steady:
        if measured.mean_i is None or measured.mean_v is None or _stands_still(lab, steady, (measured, readings)):
            continue
        if measured.data.kind == "zero":
            zeros.append(in_situ.Zero(measured.data.at_s, measured.mean_i, measured.mean_v))
        elif measured.data.kind == "gain" and measured.window is not None:
            inside = [r for r in readings if r.done_after_trigger_s < measured.window.duration_s]
            comparisons.append(
                in_situ.Comparison(
                    measured.data.at_s,
                    measured.mean_i,
                    measured.mean_v,
                    tuple(r.value for r in inside if r.quantity == "A"),
                    tuple(r.value for r in inside if r.quantity == "V"),
                )
            )
    if not zeros:
        return None
    lead_ohm, u_lead_ohm = 0.0, 0.0
    if lab.supply.sense == "local":
        lead_ohm, u_lead_ohm = lab.supply.lead_resistance_ohm or 0.0, lab.supply.lead_resistance_u_ohm
        if records.voltage is not None and records.voltage.lead_ohm is not None:
            lead_ohm, u_lead_ohm = records.voltage.lead_ohm.value, records.voltage.lead_ohm.u
    return in_situ.calibrate(
        zeros,
        comparisons,
        in_situ.BenchTerms(
            lab.probe.range_v_per_a,
            lab.probe.drift_u_a / lab.probe.turns,
            lab.probe.drift_unbracketed_u_a / lab.probe.turns,
            lab.supply.output_off_residual_a,
            lead_ohm,
            u_lead_ohm,
            lab.probe.linearity,
            read_back_of(lab),
        ),
    )


def calibrations_of(
    lab: Lab, steady: list[Steady], volts: Mapping[int, NDArray[np.float64]], records: Records
) -> tuple[dict[int, Calibration], list[str]]:
    """The calibration of each session of the bench that has a zero, or a maker's promise; and notes for the reader.

    `volts` are the mean voltages of the cells that were measured in a session.
    """
    sessions: dict[int, list[Steady]] = {}
    for measured, readings in steady:
        sessions.setdefault(measured.data.session, []).append((measured, readings))
    found: dict[int, Calibration] = {}
    notes: list[str] = []
    for session in sorted({*sessions, *volts}):
        own = _in_situ(lab, sessions.get(session, []), records)
        if own is not None:
            found[session], said = combined(own, records)
            still = (_stands_still(lab, sessions[session], one) for one in sessions[session])
            said = [*(f"a gain capture was not used: {STUCK}: {fault}" for fault in still if fault), *said]
            said = [*_calibration_notes(found[session], records), *_read_back_notes(lab, own), *said]
            said += [
                f"{one}: {DRIFTED}: did the clamp move or warm up? Half of it is a limit in every ± of its rows"
                for one in in_situ.changes(found[session])
            ]
        else:
            by_maker = promised(records, float(np.mean(volts[session]))) if session in volts else None
            if by_maker is None:
                continue
            found[session] = by_maker
            said = [f"no zero: zero and gains are known by {by_maker.current.gain.source} alone"]
        if volts and session not in volts:
            continue  # nothing rests on this session's calibration
        notes += [f"session {session + 1}: {note}" for note in said] if len(sessions) > 1 else said
    return found, notes


@dataclass(frozen=True)
class Contradiction:
    """A calibration record that a session's own comparison with the supply contradicts."""

    record: str
    kind: str
    found: Disagreement

    def __str__(self) -> str:
        return f"calibration record {self.record} ({self.kind}) does not agree with this run: {self.found}"

    @property
    def advice(self) -> str:
        """What is to be done about it."""
        what = "has the clamp moved, or was it touched?" if self.kind == "probe" else "is the probe another one?"
        return (
            f"{what} Make a new record (python -m calibration.{self.kind}), or leave out --require-calibration: the "
            "run's own comparison then stands alone, and its rows are flagged"
        )


def contradictions(lab: Lab, steady: list[Steady], records: Records) -> dict[int, tuple[Contradiction, ...]]:
    """Which records the comparisons of each session of the bench contradict; sessions without any are left out."""
    names: dict[str, str] = {j.filed.record.kind: j.filed.name for j in records.judged if j.used}
    found: dict[int, tuple[Contradiction, ...]] = {}
    for session, own in _own_by_session(lab, steady, records):
        said = disagreements(own, records.probe, records.voltage)
        if said:
            found[session] = tuple(Contradiction(names[kind], kind, one) for kind, one in said.items())
    return found


def outside(lab: Lab, steady: list[Steady], records: Records) -> dict[int, tuple[record_range.Outside, ...]]:
    """Which records do not hold at the comparisons of each session of the bench; sessions without any are left out."""
    found = {
        session: record_range.of_comparison(own, records) for session, own in _own_by_session(lab, steady, records)
    }
    return {session: said for session, said in found.items() if said}


def _own_by_session(lab: Lab, steady: list[Steady], records: Records) -> Iterator[tuple[int, Calibration]]:
    """What the captures of each session tell by themselves, where they hold a zero and there are records."""
    if records.probe is None and records.voltage is None:
        return
    sessions: dict[int, list[Steady]] = {}
    for measured, readings in steady:
        sessions.setdefault(measured.data.session, []).append((measured, readings))
    for session, mine in sessions.items():
        own = _in_situ(lab, mine, records)
        if own is not None:
            yield session, own


def require_agreement(lab: Lab, steady: list[Steady], records: Records) -> None:
    """Raise ConfigError where a session's own comparison contradicts a record on which its results were to rest.

    Also where a record does not hold at the comparison's current or voltage.
    """
    wrong: list[record_range.Outside | Contradiction] = [
        *(one for session in outside(lab, steady, records).values() for one in session),
        *(one for session in contradictions(lab, steady, records).values() for one in session),
    ]
    said = dict.fromkeys(f"{one}; {one.advice}" for one in wrong)
    if said:
        raise ConfigError("--require-calibration: " + "\n".join(said))


def doubted(
    cell: Measured,
    contradicted: Collection[int],
    calibrations: Mapping[int, Calibration],
    records: Records = NO_RECORDS,
) -> list[str]:
    """Flags of a cell whose session's own comparisons contradict a record, as they do in the sessions `contradicted`,
    or one another; also where a record does not hold for its own mean current or voltage."""
    session = cell.data.session
    calibration = calibrations[session]
    found = [DISAGREES] if session in contradicted else []
    if in_situ.changes(calibration):
        found.append(DRIFTED)
    if record_range.of_cell(cell, calibration, records):
        found.append(record_range.RANGE)
    return found


def require_agreement_of(reader: TraceReader) -> None:
    """The same for what a run's file holds, of each session in which a cell was measured. Raises ConfigError."""
    used = {row["session"] for row in reader.captures() if row["kind"] == "cell" and row["state"] == "committed"}
    steady = [(m, readings) for m, readings in _steady_of(reader) if m.data.session in used]
    require_agreement(reader.lab(), steady, records_of(reader))


def _steady_of(reader: TraceReader) -> list[Steady]:
    """The zeros and comparisons of a run's file that can be used."""
    lab = reader.lab()
    steady: list[Steady] = []
    for data in reader.data(kinds=("zero", "gain")):
        with contextlib.suppress(ReductionError):
            steady.append((measure(data, wires(lab)), reader.readings(data.index)))
            if data.kind == "gain" and comparison_fault(lab, steady) is not None:
                steady.pop()
    return steady


def calibrate_run(reader: TraceReader) -> Calibration | None:
    """Calibrate from a run's own zeros, comparisons and records; None where no zero was committed."""
    return find_calibration(reader.lab(), _steady_of(reader), records_of(reader))


def _read_back_notes(lab: Lab, own: Calibration) -> list[str]:
    """A bench is refused today whose supply's limits nobody knows; a file may be of an earlier day."""
    facts = lab.supply
    if own.current.gain.limits is None or facts.read_back is not None or FAMILY.fullmatch(facts.model):
        return []
    return [
        f"lab.yaml does not say how well the {facts.model} reads its own output (supply.read_back): the limits "
        "are those of the E364xA family, and every ± rests on them"
    ]


def _calibration_notes(calibration: Calibration, records: Records) -> list[str]:
    notes = []
    if math.isinf(calibration.current.gain.at) and records.probe is None:
        notes.append("the gains were not compared with the supply: they stand at 1 within the makers' limits")
    if not calibration.current.offset.bracketed:
        notes.append("the zero was taken once only: its later drift is a guess of lab.yaml (drift_unbracketed_u_a)")
    return notes
