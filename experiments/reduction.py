"""From an open trace file to results: the one path that live sweeps and replays share.

Whatever a sweep prints at its end was computed here, from its file.
"""

from __future__ import annotations

import math
from array import array
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray

from calibration.choice import Records
from calibration.in_situ import PROBE_GAIN_LIMIT, SCOPE_GAIN_LIMIT
from calibration.model import Calibration
from calibration.reference import read_back_of
from calibration.running import Stretch
from experiments import device, gain_check, record_range, set_voltage
from experiments.calibrations import records_of
from experiments.capture_data import CaptureData, ReductionError, changed, wires
from experiments.checked import checks_of
from experiments.device import DeviceRow, DeviceRun
from experiments.energy import IdleChanges, RowResult, limited, row_of
from experiments.enough import repeat_notes
from experiments.flags import NO_CODE, SLOW, References, in_order, is_refusal, same_machine
from experiments.gain_check import CellGain
from experiments.measure import Measured, summed, without_codes
from experiments.outcome import Outcome, Rejected, Repeats, label
from experiments.plausible import WIRING_FAULTS
from experiments.reduced_cells import Cells, CellStore
from experiments.run_calibration import Steady, calibrations_of, comparison_fault, contradictions, doubted
from experiments.run_files import Runs, record_notes
from experiments.set_aside import Aside
from experiments.shape import Shape, look, of_row
from experiments.traces import ENDED, UNMEASURED, TraceReader
from instruments.errors import TraceError
from instruments.lab import Lab
from instruments.wording import counted

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
    `ended_by` why nothing more was measured, `stretches` belong to captures.
    """

    log: Mapping[int, NDArray[np.int64]]
    store: CellStore = field(default_factory=CellStore)
    steady: list[Steady] = field(default_factory=list)
    rejected: list[Rejected] = field(default_factory=list)
    codes: dict[Pair, list[str]] = field(default_factory=lambda: defaultdict(list))
    faults: dict[int, ReductionError] = field(default_factory=dict)
    ended_by: set[str] = field(default_factory=set)
    stretches: dict[int, Stretch] = field(default_factory=dict)
    references: References = field(default_factory=References)
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
    cells = found.store.cells()
    calibrations, said = calibrations_of(lab, found.steady, cells.volts_of_sessions(), records)
    found.notes += [*records.complaints([f.name for f in reader.calibrations or ()]), *said]
    found.notes += records.of_other_benches(lab.bench)
    calibration = next(iter(calibrations.values()), None)
    if reader.calibration_required or (summary.get("options") or {}).get("require_calibration"):
        cells = _refuse_outside(found, cells, calibrations, records)
    found.notes += record_range.notes(cells, calibrations, records)
    usable, idle = _usable(reader, found, cells, calibrations, records)
    checks = gain_check.check(
        ((m.data, label(m.data)) for m in usable.only(np.isin(usable.indices, [*found.stretches]))),
        found.stretches,
        calibrations,
        records,
        read_back_of(lab).current,
    )
    repeats = Repeats(usable, calibrations)
    rows, about = _rows(reader, found, usable, idle, calibrations, checks)
    found.notes += gain_check.notes(checks)
    missing = sum(row["state"] not in ENDED for row in reader.cells())
    if missing:
        found.notes.append(f"{missing} of {counted(len(plan.cells), 'cell')} not measured: the sweep ended early")
    found.notes += _idle_notes(found, rows, calibration)
    found.notes += _gain_notes(found, rows, lab, list(calibrations.values()))
    found.notes += _frame_notes(cells)
    found.notes += runs.notes(usable.only(usable.put_together))
    found.notes += [*record_notes(reader, usable), *repeat_notes(reader.cells(), plan, repeats)]
    if any(row.repeats == 1 for row in rows.values()):
        found.notes.append("rows with one repeat have no repeatability in their uncertainty")
    pairs = plan.pairs
    for pair in pairs:
        if pair not in rows:
            found.codes[pair].extend(found.ended_by)
            if calibration is None and not found.codes[pair]:
                found.codes[pair].append("no-zero")
    device_rows = _device_rows(reader, pairs, found, about)
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
        repeats,
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
            measured = summed(whole, delay)
            if data.kind != "cell":
                measured = without_codes(whole, delay)
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
            found.store.add(measured, look(whole))
            if steadily := gain_check.stretch(whole, readings):
                found.stretches[data.index] = steadily
        else:
            found.steady.append((measured, readings))
    put_together, failed = runs.finished()
    for run in put_together:
        found.store.add(run, run.look)
    found.store.idle_records = [measured for measured, _ in found.steady if measured.data.kind == "idle"]
    found.store.not_steady = runs.not_steady
    for data, why in failed:
        found.refuse(data, why)
    return runs


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


def _refuse_outside(found: _Found, cells: Cells, calibrations: dict[int, Calibration], records: Records) -> Cells:
    """Refuse the cells that lie where a record does not hold, of a run that was to rest on it; gives the others."""
    outside = record_range.refused(cells, calibrations, records)
    for data, error in outside:
        found.refuse(data, error)
    return cells.only(~np.isin(cells.indices, [data.index for data, _ in outside]))


def _usable(
    reader: TraceReader, found: _Found, cells: Cells, calibrations: dict[int, Calibration], records: Records
) -> tuple[Cells, IdleChanges]:
    """The cells that have a result with the calibration of their session, and what their idle power did."""
    idle = IdleChanges()
    if not calibrations:
        found.notes.append(NO_ZERO)
        return cells[:0], idle
    lab, aside = reader.lab(), found.store.aside
    imported = reader.source == "imported"  # of another bench than lab.yaml tells
    contradicted = contradictions(lab, found.steady, records)
    usable, items, away = array("q"), array("q"), array("d")
    for k, cell in enumerate(cells):
        session = cell.data.session
        try:
            if session not in calibrations:
                raise ReductionError(f"session {session + 1} of the bench has no zero", "no-zero")
            if session in found.faults:
                raise found.faults[session]
            values = cell.values(calibrations[session])  # refused where it lies outside the range of a gain
        except ReductionError as error:
            found.refuse(cell.data, error)
            continue
        idle.add(session, cell.data.at_s, values)
        codes = doubted(cell, contradicted, calibrations, records)
        if not imported and (apart := set_voltage.away(cell, calibrations[session], lab)):
            away.append(apart)
            codes.append(set_voltage.OTHER)
        run = _device_run(reader, found, cell).with_flags(codes)
        usable.append(k)
        items.append(aside.put((cell.data.at_s, changed(values, calibration=None))))
        aside.put(run)
    found.notes += set_voltage.notes(away, len(usable), lab)
    return replace(cells.only(np.array(usable, np.int64)), results=np.array(items)), idle


def _device_run(reader: TraceReader, found: _Found, cell: Measured) -> DeviceRun:
    """What the device says of a cell."""
    index = cell.data.index
    ready, done = (device.Told(reader.long_text(name, index)) for name in ("ready_facts", "device_facts"))
    found.references.add(index, done)
    run = device.run_of(cell, reader.captures()[index], found.log.get(index, np.empty(0, np.int64)), ready, done)
    # Whether its reference work was slow is judged anew.
    return changed(run, flags=tuple(flag for flag in run.flags if flag != SLOW)) if SLOW in run.flags else run


def _rows(
    reader: TraceReader,
    found: _Found,
    usable: Cells,
    idle: IdleChanges,
    calibrations: dict[int, Calibration],
    checks: Sequence[CellGain],
) -> tuple[dict[Pair, RowResult], dict[Pair, tuple[Aside[DeviceRun], Shape | None]]]:
    """The result of each network and batch, and what the device says of its runs with the shape of their power.

    One after another, so that no more than one row's cells are held.
    """
    plan, aside = reader.plan, found.store.aside
    first = None if plan.method.target_u is None else plan.repeats
    limits_w = idle.limits_w()
    drifted, slow = {check.index for check in checks if check.drifted}, _slow(reader, found, usable)
    rows: dict[Pair, RowResult] = {}
    about: dict[Pair, tuple[Aside[DeviceRun], Shape | None]] = {}
    for pair, mine in usable.rows().items():
        cells, shapes, runs = [], [], array("q")
        for k, item in enumerate(mine.results.tolist()):
            session, index = int(mine.sessions[k]), int(mine.indices[k])
            known = calibrations[session]
            at_s, values = aside.get(item)
            cells.append(limited(session, changed(values, calibration=known), limits_w))
            if (seen := mine.look(k)) is not None:
                shapes.append(seen.shape(known.current, known.voltage, at_s))
            codes = [code for code, those in ((gain_check.DRIFTED, drifted), (SLOW, slow)) if index in those]
            runs.append(aside.put(aside.get(item + 1).with_flags(codes)) if codes else item + 1)
        rows[pair] = row_of(*pair, cells, first)
        about[pair] = Aside(aside, runs), of_row(shapes)
    return rows, about


def _slow(reader: TraceReader, found: _Found, usable: Cells) -> set[int]:
    """The captures around whose run the reference work was slow."""
    ran = [index for index, kind in enumerate(reader.captures().column("kind")) if kind == "gain"]
    for index in ran:
        found.references.add(index, device.Told(reader.long_text("device_facts", index)))
    ran += usable.indices.tolist()
    ready = device.Told(reader.long_text("ready_facts", min(ran)) if ran else "")
    shared = any(same_machine(ready, device.Told(session["environment"])) for session in reader.sessions())
    return found.references.slow(ran, shared=shared)


def _device_rows(
    reader: TraceReader,
    pairs: list[Pair],
    found: _Found,
    about: Mapping[Pair, tuple[Aside[DeviceRun], Shape | None]],
) -> tuple[DeviceRow, ...]:
    """What the device's side of each row says; runs whose capture was not usable count as rejected."""
    states: dict[Pair, list[str]] = defaultdict(list)
    for cell in reader.cells():
        states[cell["network"], cell["batch"]].append("rejected" if cell["state"] == "committed" else cell["state"])
    rows = []
    for pair in pairs:
        runs, shape = about.get(pair, ((), None))
        rows.append(device.row_of(*pair, runs, states[pair], found.codes.get(pair, ()), shape))
    return tuple(rows)


def _flag_notes(rows: tuple[DeviceRow, ...]) -> list[str]:
    """Say once how many rows are flagged, and how many have refused repeats, and how often for what."""
    notes = []
    for refused, one, more in (
        (False, "is flagged, what it says may be disturbed", "are flagged, what they say may be disturbed"),
        (True, "has repeats without a result, or none", "have repeats without a result, or none"),
    ):
        marked = [{code for code in row.flags if is_refusal(code) is refused} for row in rows]
        count = sum(map(bool, marked))
        if count:
            codes = in_order(set().union(*marked))
            counts = ", ".join(f"{code} {sum(code in found for found in marked)}" for code in codes)
            notes.append(
                f"{count} of {counted(len(rows), 'row')} {one if count == 1 else more} (docs/flags.md): {counts}"
            )
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


def _frame_notes(cells: Cells) -> list[str]:
    """Say how many records do not tell of themselves which run they show."""
    silent = int(np.count_nonzero(cells.silent))
    if not silent:
        return []
    what = "record carries" if len(cells) == 1 else "records carry"
    return [f"{silent} of {len(cells)} {what} no start frame: trigger and batch count alone tie them to a run"]
