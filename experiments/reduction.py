"""From an open trace file to results: the one path that live sweeps and replays share.

Whatever a sweep prints at its end was computed here, from its file.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from calibration.choice import Records
from calibration.in_situ import PROBE_GAIN_LIMIT, SCOPE_GAIN_LIMIT
from calibration.model import Calibration, Delay
from calibration.reference import read_back_of
from calibration.running import Stretch
from experiments import device, gain_check, record_range
from experiments.calibrations import records_of
from experiments.capture_data import CaptureData, ReductionError, changed, wires
from experiments.checked import checks_of
from experiments.device import DeviceRow, DeviceRun
from experiments.energy import RowResult, results
from experiments.enough import repeat_notes
from experiments.flags import NO_CODE, SLOW, in_order, is_refusal, same_machine, slow_references
from experiments.long_runs import with_idle_records
from experiments.measure import Measured, without_codes
from experiments.outcome import Outcome, Rejected, Repeat, label
from experiments.plausible import WIRING_FAULTS
from experiments.run_calibration import Steady, calibrations_of, comparison_fault, contradictions, flagged
from experiments.run_files import Runs, record_notes
from experiments.shape import Look, RunLook, look
from experiments.traces import ENDED, UNMEASURED, TraceReader
from instruments.errors import TraceError
from instruments.lab import Lab

MODEL_NOTE = "{}: times, currents and memory come from a model of a board; nothing was run"
"""Said of every run on a simulated board."""

KINDS = ("zero", "idle", "gain", "cell")
"""Captures of a run that results are made of; those of calibrations are not."""

NO_ZERO = (
    "no zero was committed: nothing can be reduced without a record of kind channel_accuracy: replay it with "
    "--calibration FILE, such as calibration/records/makers-limits-1146b-100mv.yaml"
)

IDLE_SHARE = 0.01
"""Difference between idle power before a run and at rest, beyond its uncertainty, that the notes mention."""

Pair = tuple[str, int]


def reduce_run(reader: TraceReader) -> Outcome:
    """Compute every result of a run from its file alone.

    Raises TraceError when the file does not hold what is needed.
    """
    try:
        return _reduce(reader)
    except (ArithmeticError, AttributeError, LookupError, OSError, RecursionError, TypeError, ValueError) as error:
        raise TraceError(
            f"{reader.path}: the file is damaged: {type(error).__name__}: {str(error)[:200]}; "
            "what h5dump can read of it is still good"
        ) from error


@dataclass
class _Found:
    """What the captures and the journal of a file hold, before anything is calibrated.

    `codes` are the codes of refused repeats by network and batch, `faults` what is wrong with the wiring by session,
    `ended_by` why nothing more was measured,
    `looks` and `stretches` belong to captures.
    """

    log: Mapping[int, NDArray[np.int64]]
    cells: list[Measured] = field(default_factory=list)
    steady: list[Steady] = field(default_factory=list)
    rejected: list[Rejected] = field(default_factory=list)
    codes: dict[Pair, list[str]] = field(default_factory=lambda: defaultdict(list))
    faults: dict[int, ReductionError] = field(default_factory=dict)
    ended_by: set[str] = field(default_factory=set)
    looks: dict[int, Look | RunLook] = field(default_factory=dict)
    stretches: dict[int, Stretch] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)

    def refuse(self, data: CaptureData, error: ReductionError) -> None:
        """A cell without a result."""
        self.rejected.append(Rejected(label(data), str(error), code=error.code))
        self.codes[data.network, data.batch].append(error.code)


def _reduce(reader: TraceReader) -> Outcome:
    summary = reader.json("summary")
    if what := summary.get("calibration"):
        raise TraceError(
            f"{reader.path}: holds the raw data of a calibration ({what}) and no run: its record shows them"
        )
    lab, records, plan = reader.lab(), records_of(reader), reader.plan
    found = _Found(reader.host_log())
    if lab.dut.simulated is not None:
        found.notes.append(MODEL_NOTE.format(lab.dut.name))
    if (windows := reader.windows or reader.analogue_markers()) is not None:
        found.notes.append(windows.note)
    runs = _captures(reader, records, found)
    _journal(reader, found)
    calibrations, said = calibrations_of(lab, found.steady, found.cells, records)
    found.notes += [*records.complaints([f.name for f in reader.calibrations or ()]), *said]
    found.notes += records.of_other_benches(lab.bench)
    calibration = next(iter(calibrations.values()), None)
    if reader.calibration_required or (summary.get("options") or {}).get("require_calibration"):
        _refuse_outside(found, calibrations, records)
    found.notes += record_range.notes(found.cells, calibrations, records)
    usable, repeats = _results(found, calibrations)
    first = None if plan.method.target_u is None else plan.repeats
    rows = {(r.network, r.batch): r for r in results(usable, calibrations, first)} if calibrations else {}
    checks = gain_check.check(
        [(m, label(m.data)) for m in usable], found.stretches, calibrations, records, read_back_of(lab).current
    )
    usable = gain_check.flagged(usable, checks)
    usable = flagged(usable, contradictions(lab, found.steady, records), calibrations, records)
    found.notes += gain_check.notes(checks)
    missing = sum(row["state"] not in ENDED for row in reader.cells())
    if missing:
        found.notes.append(f"{missing} of {len(plan.cells)} cells were not measured: the sweep ended early")
    found.notes += _idle_notes(found, rows, calibration)
    found.notes += _gain_notes(found, rows, lab, list(calibrations.values()))
    found.notes += _frame_notes(found.cells)
    found.notes += [*runs.notes(usable), *record_notes(reader, usable), *repeat_notes(reader.cells(), plan, repeats)]
    if any(row.repeats == 1 for row in rows.values()):
        found.notes.append("rows with one repeat have no repeatability in their uncertainty")
    pairs = plan.pairs
    for pair in pairs:
        if pair not in rows:
            found.codes[pair].extend(found.ended_by)
            if calibration is None and not found.codes[pair]:
                found.codes[pair].append("no-zero")
    device_rows = _device_rows(reader, pairs, usable, found, calibrations)
    found.notes += _flag_notes(device_rows)
    return Outcome(
        reader.source,
        plan,
        lab,
        tuple(rows.get(pair) for pair in pairs),
        device_rows,
        calibration,
        tuple(found.rejected),
        missing,
        tuple(found.notes),
        summary,
        tuple(repeats),
        records,
        records.names_of(reader.calibrations or ()),
        checks,
    )


def _captures(reader: TraceReader, records: Records, found: _Found) -> Runs:
    """Reduce every committed capture to sums; runs of several captures are put together."""
    lab = reader.lab()
    delay = records.delay
    checks = checks_of(lab, records, imported=reader.source == "imported")
    runs = Runs(reader, checks, wires(lab), delay)
    for data, whole, readings in runs.captures(KINDS, found.log):
        if whole is None:
            continue
        if None not in (data.images, data.batches) and data.images != (data.batches or 0) * data.batch:
            raise TraceError(
                f"{reader.path}: /captures row {data.index} is damaged: {data.images} images are not "
                f"{data.batches} batches of {data.batch}"
            )
        try:
            if isinstance(whole, ReductionError):
                raise whole
            measured = _kept(whole, readings, delay, found)
            if data.kind == "gain" and (fault := comparison_fault(lab, [*found.steady, (measured, readings)])):
                found.faults.setdefault(data.session, fault)
                raise fault
        except ReductionError as error:
            if data.kind == "cell":
                found.refuse(data, error)
            else:
                found.notes.append(f"a {data.kind} capture was not used: {error}")
            continue
        if data.kind == "cell":
            found.cells.append(measured)
        else:
            found.steady.append((measured, readings))
    put_together, failed = runs.finished()
    found.looks |= {run.data.index: run.look for run in put_together if run.look is not None}
    known = with_idle_records(put_together, [measured for measured, _ in found.steady])
    found.cells = sorted([*found.cells, *known], key=lambda cell: cell.data.index)
    for data, why in failed:
        found.refuse(data, why)
    return runs


def _kept(whole: Measured, readings: list[Any], delay: Delay | None, found: _Found) -> Measured:
    """What is kept of a capture besides its codes."""
    index = whole.data.index
    measured = without_codes(whole, delay)
    if (seen := look(whole)) is not None:
        found.looks[index] = seen
    if whole.data.kind == "cell" and (steadily := gain_check.stretch(whole, readings)):
        found.stretches[index] = steadily
    return measured


def _journal(reader: TraceReader, found: _Found) -> None:
    """What the journal tells of cells and captures without a result."""
    for row in reader.cells():
        if row["state"] in UNMEASURED:
            code = row["flags"] or NO_CODE
            named = f"{row['network']} batch {row['batch']} repeat {row['repeat'] + 1}"
            found.rejected.append(Rejected(named, row["reason"], row["state"], code))
            if row["state"] == "rejected":
                found.codes[row["network"], row["batch"]].append(code)
    for row in reader.captures():
        if row["state"] == "rejected" and row["kind"] != "cell":
            found.notes.append(f"a {row['kind']} capture was not used: {row['reason']}")
    found.ended_by |= _ended_by(reader)


def _ended_by(reader: TraceReader) -> set[str]:
    """Codes with which the last session ended early: its wiring at the comparison with the supply, or a lost supply."""
    captures, cells = reader.captures(), reader.cells()
    if reader.complete or not captures:
        return set()
    last = captures[-1]
    if last["state"] != "rejected" or (last["kind"] == "cell" and cells[last["cell"]]["state"] in ENDED):
        return set()
    ending = WIRING_FAULTS if last["kind"] in ("zero", "gain") else ("supply-limited",)
    return {code for code in last["flags"].split() if code in (*ending, "supply-limited")}


def _results(found: _Found, calibrations: dict[int, Calibration]) -> tuple[list[Measured], list[Repeat]]:
    """The cells that have a result with the calibration of their session, and each one's result by itself."""
    if not calibrations:
        found.notes.append(NO_ZERO)
        return [], []
    usable, repeats = [], []
    for cell in found.cells:
        session = cell.data.session
        try:
            if session not in calibrations:
                raise ReductionError(f"session {session + 1} of the bench has no zero", "no-zero")
            if session in found.faults:
                raise found.faults[session]
            cell.values(calibrations[session])  # refused where it lies outside the range of a gain
            repeats.append(Repeat(session, cell.data.repeat, cell, calibrations[session]))
            usable.append(cell)
        except ReductionError as error:
            found.refuse(cell.data, error)
    return usable, repeats


def _refuse_outside(found: _Found, calibrations: dict[int, Calibration], records: Records) -> None:
    """Refuse the cells that lie where a record does not hold, of a run that was to rest on it."""
    outside = record_range.refused(found.cells, calibrations, records)
    for data, error in outside:
        found.refuse(data, error)
    gone = {data.index for data, _ in outside}
    found.cells = [cell for cell in found.cells if cell.data.index not in gone]


def _device_rows(
    reader: TraceReader,
    pairs: list[Pair],
    usable: list[Measured],
    found: _Found,
    calibrations: dict[int, Calibration],
) -> tuple[DeviceRow, ...]:
    """What the device's side of each row says; runs whose capture was not usable count as rejected."""
    captures = reader.captures()
    told, slow = _told(reader, {m.data.index for m in usable})
    like = reader.long_text("ready_facts", usable[0].data.index).encode() if usable else b""
    runs: dict[Pair, list[DeviceRun]] = defaultdict(list)
    cells: dict[Pair, list[CaptureData]] = defaultdict(list)
    for measured in usable:
        index, pair = measured.data.index, (measured.data.network, measured.data.batch)
        cells[pair].append(measured.data)
        ends_ns = found.log.get(index, np.empty(0, np.int64))
        ready = device.Told(reader.long_text("ready_facts", index), like)
        run = device.run_of(measured, captures[index], ends_ns, ready, told[index])
        flags = in_order([*(f for f in run.flags if f != SLOW), *([SLOW] if index in slow else [])])
        runs[pair].append(changed(run, flags=flags))
    states: dict[Pair, list[str]] = defaultdict(list)
    for cell in reader.cells():
        states[cell["network"], cell["batch"]].append("rejected" if cell["state"] == "committed" else cell["state"])
    rows = []
    for pair in pairs:
        shapes = []
        for data in cells[pair]:
            if (seen := found.looks.pop(data.index, None)) is not None:
                known = calibrations[data.session]
                shapes.append(seen.shape(known.current, known.voltage, data.at_s))
        rows.append(device.row_of(*pair, runs[pair], states[pair], found.codes.get(pair, ()), shapes))
    return tuple(rows)


def _told(reader: TraceReader, cells: set[int]) -> tuple[dict[int, device.Told], set[int]]:
    """What the device told of its runs by their captures, and around which of them its reference work was slow."""
    ran = [k for k, row in enumerate(reader.captures()) if row["kind"] == "gain" or k in cells]
    like = reader.long_text("device_facts", ran[0]).encode() if ran else b""
    told = {index: device.Told(reader.long_text("device_facts", index), like) for index in ran}
    ready = device.Told(reader.long_text("ready_facts", ran[0])) if ran else {}
    shared = any(same_machine(ready, device.Told(session["environment"])) for session in reader.sessions())
    slow_runs = slow_references(list(told.values()), shared=shared)
    return told, {index for index, slow in zip(ran, slow_runs, strict=True) if slow}


def _flag_notes(rows: tuple[DeviceRow, ...]) -> list[str]:
    """Say once how many rows are flagged, and how many have refused repeats, and how often for what."""
    notes = []
    for refused, text in (
        (False, "are flagged, what they say may be disturbed"),
        (True, "have repeats without a result, or none"),
    ):
        marked = [{code for code in row.flags if is_refusal(code) is refused} for row in rows]
        count = sum(map(bool, marked))
        if count:
            codes = in_order(set().union(*marked))
            counts = ", ".join(f"{code} {sum(code in found for found in marked)}" for code in codes)
            notes.append(f"{count} of {len(rows)} rows {text} (docs/flags.md): {counts}")
    return notes


def _idle_notes(found: _Found, rows: dict[Pair, RowResult], calibration: Calibration | None) -> list[str]:
    """Compare the idle power just before the runs with that of the records in which nothing ran; flags those unlike."""
    baselines = [
        calibration.current.correct(m.mean_i.mean, m.data.at_s)
        * calibration.voltage.correct(m.mean_v.mean, m.data.at_s)
        for m, _ in found.steady
        if calibration and m.data.kind == "idle" and m.mean_i and m.mean_v
    ]
    if not baselines:
        return ["no idle record was committed: the idle power is that around each run alone"] if rows else []
    baseline_w = sum(baselines) / len(baselines)
    notes = []
    for pair, row in rows.items():
        idle = row.idle_power_w
        if abs(idle.value - baseline_w) > idle.expanded() + IDLE_SHARE * baseline_w:
            found.codes[pair].append("baseline-not-idle")
            notes.append(
                f"{row.network} batch {row.batch}: {idle.value:.3f} W around its runs, {baseline_w:.3f} W with "
                "nothing running: the device was not at rest; raise dut.rest_s"
            )
    return notes


def _gain_notes(found: _Found, rows: dict[Pair, RowResult], lab: Lab, calibrations: Sequence[Calibration]) -> list[str]:
    """Say where a gain is further from 1 than twice what the makers allow; flags the rows."""
    notes = []
    limits = math.hypot(PROBE_GAIN_LIMIT[lab.probe.range_v_per_a], SCOPE_GAIN_LIMIT), SCOPE_GAIN_LIMIT
    for name, limit in zip(("current", "voltage"), limits, strict=True):
        gains = [getattr(calibration, name).gain.value for calibration in calibrations]
        off = max(gains, key=lambda gain: abs(gain - 1), default=1.0)
        if abs(off - 1) > 2 * limit:
            notes.append(
                f"gain of the {name} {off:.3f}: further from 1 than twice the makers' limits ({limit * 100:.2g} %): "
                "jaws not quite closed, another probe, or a setting other than lab.yaml's?"
            )
    if notes:
        for pair in rows:
            found.codes[pair].append("gain-unlikely")
    return notes


def _frame_notes(cells: list[Measured]) -> list[str]:
    """Say how many records do not tell of themselves which run they show."""
    silent = sum(cell.data.start_frame is None for cell in cells)
    if not silent:
        return []
    return [f"{silent} of {len(cells)} records carry no start frame: trigger and batch count alone tie them to a run"]
