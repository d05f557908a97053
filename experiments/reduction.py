"""From an open trace file to results: the one path that live sweeps and replays share.

Whatever a sweep prints at its end was computed here, from its file.
"""

from __future__ import annotations

import contextlib
import csv
import io
import json
import math
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from calibration import in_situ
from calibration.budget import COVERAGE_PROBABILITY, Budget
from calibration.choice import Records
from calibration.model import Calibration
from calibration.running import Stretch
from experiments import device, gain_check
from experiments.calibrations import combined, promised, records_of
from experiments.checked import Checks
from experiments.device import DeviceRow, DeviceRun
from experiments.energy import (
    QUANTITIES,
    Measured,
    ReductionError,
    RowResult,
    Wires,
    measure,
    results,
    without_codes,
)
from experiments.enough import repeat_notes
from experiments.flags import NO_CODE, in_order, is_refusal
from experiments.gain_check import CellGain
from experiments.plan import Plan
from experiments.plausible import WIRING_FAULTS, gain_fault
from experiments.run_files import Runs, record_notes
from experiments.shape import Look, look
from experiments.traces import ENDED, UNMEASURED, Reading, TraceReader
from instruments.errors import TraceError
from instruments.lab import Lab

COLUMNS = (
    "network",
    "batch",
    "repeats",
    *QUANTITIES,
    "source",
    *(f"{name}_u" for name in QUANTITIES),
    "coverage_probability",
    *device.COLUMNS,
)
MODEL_NOTE = "{}: times, currents and memory come from a model of a board; nothing was run"
"""Said of every run on a simulated board."""

KINDS = ("zero", "idle", "gain", "cell")
"""Captures of a run that results are made of; those of calibrations are not."""

IDLE_SHARE = 0.01
"""Difference between idle power before a run and at rest, beyond its uncertainty, that the notes mention."""

OUT_OF_MEMORY = "out of memory"
"""Outcome of a cell that the device has no memory for."""

TRUTH_COLUMN = "true_energy_per_image_j"


NO_RECORDS = Records()


@dataclass(frozen=True)
class Rejected:
    """A capture or cell without a result, what became of it, and why; `code` sorts it (docs/flags.md)."""

    label: str
    reason: str
    outcome: str = "rejected"
    code: str = NO_CODE


@dataclass(frozen=True)
class Repeat:
    """One usable cell by itself: `result` is a row of one repeat, without repeatability in its budgets."""

    session: int
    repeat: int
    result: RowResult


@dataclass(frozen=True)
class Outcome:
    """Everything that a run says: `rows` and `device` have an entry for each network and batch, in the plan's order."""

    source: str
    plan: Plan
    lab: Lab
    rows: tuple[RowResult | None, ...]
    device: tuple[DeviceRow, ...]
    calibration: Calibration | None
    rejected: tuple[Rejected, ...]
    missing: int
    notes: tuple[str, ...]
    summary: dict[str, Any] = field(default_factory=dict)
    repeats: tuple[Repeat, ...] = ()
    records: Records = NO_RECORDS
    recalibrated: tuple[str, ...] = ()
    gain_checks: tuple[CellGain, ...] = ()

    @property
    def whole(self) -> bool:
        """Whether every cell of the plan has its result, or met the end of the device's memory: that is one too."""
        expected = all(r.outcome == OUT_OF_MEMORY for r in self.rejected)
        about = zip(self.rows, self.device, strict=True)
        return expected and not self.missing and all(row or seen.outcome == OUT_OF_MEMORY for row, seen in about)

    @property
    def pairs(self) -> list[tuple[str, int]]:
        """Network and batch of each row."""
        return [(network, batch) for network in self.plan.networks for batch in self.plan.batches]


def wires(lab: Lab) -> Wires:
    """Say which stored record plays which role, and which bits are the marker lines."""
    return Wires("current", "voltage", "markers", lab.wiring.gate.digital, lab.wiring.batch.digital)


def checks_of(lab: Lab, records: Records, *, imported: bool = False, live: bool = False) -> Checks:
    """What is checked about the captures of a run; see `Checks`."""
    delay = records.marker_delay.delay() if records.marker_delay is not None else None
    return Checks(lab, imported, live, delay.rise_s if delay is not None else 0.0)


def comparison_fault(lab: Lab, steady: list[tuple[Measured, list[Reading]]]) -> ReductionError | None:
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
    at_a = float(np.mean(amps))
    lead_ohm = lab.supply.lead_resistance_ohm or 0.0 if lab.supply.sense == "local" else 0.0
    at_v = float(np.mean(volts)) - lead_ohm * at_a
    return gain_fault(lab, measured.mean_i.mean - zero_i.mean, measured.mean_v.mean - zero_v.mean, at_a, at_v)


def find_calibration(
    lab: Lab, steady: list[tuple[Measured, list[Reading]]], records: Records = NO_RECORDS
) -> Calibration | None:
    """Calibrate from the zero and gain captures of a run, and calibration records; None when there is no zero yet."""
    found = _in_situ(lab, steady, records)
    return None if found is None else combined(found, records)[0]


def _in_situ(lab: Lab, steady: list[tuple[Measured, list[Reading]]], records: Records) -> Calibration | None:
    """What the run's own captures tell, with the leads as a record or lab.yaml knows them."""
    zeros, comparisons = [], []
    for measured, readings in steady:
        if measured.mean_i is None or measured.mean_v is None:
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
        ),
    )


def _calibrations(
    lab: Lab, steady: list[tuple[Measured, list[Reading]]], cells: list[Measured], records: Records
) -> tuple[dict[int, Calibration], list[str]]:
    """The calibration of each session of the bench that has a zero, or a maker's promise; and notes for the reader."""
    sessions: dict[int, list[tuple[Measured, list[Reading]]]] = {}
    for measured, readings in steady:
        sessions.setdefault(measured.data.session, []).append((measured, readings))
    found: dict[int, Calibration] = {}
    notes: list[str] = []
    for session in sorted({*sessions, *(cell.data.session for cell in cells)}):
        own = _in_situ(lab, sessions.get(session, []), records)
        if own is not None:
            found[session], said = combined(own, records)
            said = [*_calibration_notes(found[session], records), *said]
        else:
            volts = [m.window.mean_v for m in cells if m.window is not None and m.data.session == session]
            by_maker = promised(records, float(np.mean(volts))) if volts else None
            if by_maker is None:
                continue
            found[session] = by_maker
            said = [f"no zero: zero and gains are known by {by_maker.current.gain.source} alone"]
        measured_in = {cell.data.session for cell in cells}
        if measured_in and session not in measured_in:
            continue  # nothing rests on this session's calibration
        notes += [f"session {session + 1}: {note}" for note in said] if len(sessions) > 1 else said
    return found, notes


def calibrate_run(reader: TraceReader) -> Calibration | None:
    """Calibrate from a run's own zeros, comparisons and records; None where no zero was committed."""
    lab, records = reader.lab(), records_of(reader)
    steady: list[tuple[Measured, list[Reading]]] = []
    for data in reader.data(kinds=("zero", "gain")):
        with contextlib.suppress(ReductionError):
            steady.append((measure(data, wires(lab)), reader.readings(data.index)))
    return find_calibration(lab, steady, records)


def reduce_run(reader: TraceReader) -> Outcome:
    """Compute every result of a run from its file alone.

    Raises TraceError when the file does not hold what is needed.
    """
    try:
        return _reduce(reader)
    except (ArithmeticError, AttributeError, LookupError, OSError, TypeError, ValueError) as error:
        raise TraceError(
            f"{reader.path}: the file is damaged: {type(error).__name__}: {str(error)[:200]}; "
            "what h5dump can read of it is still good"
        ) from error


def _reduce(reader: TraceReader) -> Outcome:
    summary = reader.json("summary")
    if what := summary.get("calibration"):
        raise TraceError(
            f"{reader.path}: holds the raw data of a calibration ({what}) and no run: its record shows them"
        )
    lab, records = reader.lab(), records_of(reader)
    delay = records.marker_delay.delay() if records.marker_delay is not None else None
    plan = reader.plan
    roles = wires(lab)
    cells: list[Measured] = []
    steady: list[tuple[Measured, list[Reading]]] = []
    rejected: list[Rejected] = []
    codes: dict[tuple[str, int], list[str]] = {}
    faults: dict[int, ReductionError] = {}
    looks: dict[int, Look] = {}
    stretches: dict[int, Stretch] = {}
    checks, log = checks_of(lab, records, imported=reader.source == "imported"), reader.host_log()
    runs = Runs(reader, checks, roles, delay)
    notes = [MODEL_NOTE.format(lab.dut.name)] if lab.dut.simulated is not None else []
    windows = reader.windows or reader.analogue_markers()
    notes += [windows.note] if windows is not None else []
    for data in reader.data(kinds=KINDS):
        if data.method:
            runs.add(data)
            continue
        label = _label(data.network, data.batch, data.repeat)
        if None not in (data.images, data.batches) and data.images != (data.batches or 0) * data.batch:
            raise TraceError(
                f"{reader.path}: /captures row {data.index} is damaged: {data.images} images are not "
                f"{data.batches} batches of {data.batch}"
            )
        readings = reader.readings(data.index)
        try:
            whole = checks.measure(
                data, roles, log.get(data.index, ()), [r.value for r in readings if r.quantity == "A"]
            )
            measured = without_codes(whole, delay)
            if (seen := look(whole)) is not None:
                looks[data.index] = seen
            if data.kind == "cell" and (steadily := gain_check.stretch(whole, readings)):
                stretches[data.index] = steadily
            if data.kind == "gain" and (fault := comparison_fault(lab, [*steady, (measured, readings)])):
                faults.setdefault(data.session, fault)
                raise fault
        except ReductionError as error:
            if data.kind == "cell":
                rejected.append(Rejected(label, str(error), code=error.code))
                codes.setdefault((data.network, data.batch), []).append(error.code)
            else:
                notes.append(f"a {data.kind} capture was not used: {error}")
            continue
        if data.kind == "cell":
            cells.append(measured)
        else:
            steady.append((measured, readings))
    put_together, failed = runs.finished()
    cells = sorted([*cells, *put_together], key=lambda cell: cell.data.index)
    for data, why in failed:
        rejected.append(Rejected(_label(data.network, data.batch, data.repeat), str(why), code=why.code))
        codes.setdefault((data.network, data.batch), []).append(why.code)
    for row in reader.cells():
        if row["state"] in UNMEASURED:
            code = row["flags"] or NO_CODE
            label = _label(row["network"], row["batch"], row["repeat"])
            rejected.append(Rejected(label, row["reason"], row["state"], code))
            if row["state"] == "rejected":
                codes.setdefault((row["network"], row["batch"]), []).append(code)
    found_wrong: set[str] = set()
    unzeroed = False
    for row in reader.captures():
        if row["state"] == "rejected" and row["kind"] != "cell":
            notes.append(f"a {row['kind']} capture was not used: {row['reason']}")
            if row["kind"] == "gain":
                found_wrong |= {code for code in row["flags"].split() if code in WIRING_FAULTS}
    missing = sum(row["state"] not in ENDED for row in reader.cells())
    calibrations, said = _calibrations(lab, steady, cells, records)
    notes += [*records.complaints([f.name for f in reader.calibrations or ()]), *said]
    calibration = next(iter(calibrations.values()), None)
    found: dict[tuple[str, int], RowResult] = {}
    usable: list[Measured] = []
    repeats: list[Repeat] = []
    if calibration is None:
        notes.append("no zero was committed: nothing can be reduced without a record of kind channel_accuracy")
        unzeroed = True
    else:
        for cell in cells:
            try:
                if cell.data.session not in calibrations:
                    raise ReductionError(f"session {cell.data.session + 1} of the bench has no zero", "no-zero")
                if cell.data.session in faults:
                    raise faults[cell.data.session]
                repeats.append(Repeat(cell.data.session, cell.data.repeat, *results([cell], calibrations)))
                usable.append(cell)
            except ReductionError as error:
                d = cell.data
                rejected.append(Rejected(_label(d.network, d.batch, d.repeat), str(error), code=error.code))
                codes.setdefault((d.network, d.batch), []).append(error.code)
        found = {(r.network, r.batch): r for r in results(usable, calibrations)}
    labelled = [(m, _label(m.data.network, m.data.batch, m.data.repeat)) for m in usable]
    gain_checks = gain_check.check(labelled, stretches, calibrations, records)
    usable = gain_check.flagged(usable, gain_checks)
    notes += gain_check.notes(gain_checks)
    if missing:
        notes.append(f"{missing} of {len(plan.cells)} cells were not measured: the sweep ended early")
    restless, said = _idle_notes(found, steady, calibration)
    notes += said
    for pair in restless:
        codes.setdefault(pair, []).append("baseline-not-idle")
    notes += _frame_notes(cells)
    notes += [*runs.notes(usable), *record_notes(reader, usable), *repeat_notes(reader.cells(), plan, repeats)]
    if any(r is not None and r.repeats == 1 for r in found.values()):
        notes.append("rows with one repeat have no repeatability in their uncertainty")
    pairs = [(network, batch) for network in plan.networks for batch in plan.batches]
    for pair in pairs:
        if pair not in found:
            codes.setdefault(pair, []).extend(found_wrong)
            if unzeroed and not codes[pair]:
                codes[pair].append("no-zero")
    device_rows = _device_rows(reader, pairs, usable, codes, log, looks, calibrations)
    notes += _flag_notes(device_rows)
    return Outcome(
        reader.source,
        plan,
        lab,
        tuple(found.get(pair) for pair in pairs),
        device_rows,
        calibration,
        tuple(rejected),
        missing,
        tuple(notes),
        summary,
        tuple(repeats),
        records,
        records.names_of(reader.calibrations or ()),
        gain_checks,
    )


def _device_rows(
    reader: TraceReader,
    pairs: list[tuple[str, int]],
    usable: list[Measured],
    codes: dict[tuple[str, int], list[str]],
    log: dict[int, NDArray[np.int64]],
    looks: dict[int, Look],
    calibrations: dict[int, Calibration],
) -> tuple[DeviceRow, ...]:
    """What the device's side of each row says; runs whose capture was not usable count as rejected."""
    captures = reader.captures()
    runs: dict[tuple[str, int], list[DeviceRun]] = {}
    for measured in usable:
        index = measured.data.index
        ends_ns = log.get(index, np.empty(0, np.int64))
        ready, done = (_facts(reader.long_text(name, index)) for name in ("ready_facts", "device_facts"))
        run = device.run_of(measured, captures[index], ends_ns, ready, done)
        if index in looks:
            known = calibrations[measured.data.session]
            run = replace(run, shape=looks[index].shape(known.current, known.voltage, measured.data.at_s))
        runs.setdefault((measured.data.network, measured.data.batch), []).append(run)
    states: dict[tuple[str, int], list[str]] = {}
    for cell in reader.cells():
        state = "rejected" if cell["state"] == "committed" else cell["state"]
        states.setdefault((cell["network"], cell["batch"]), []).append(state)
    return tuple(device.row_of(*pair, runs.get(pair, ()), states.get(pair, ()), codes.get(pair, ())) for pair in pairs)


def _facts(text: str) -> dict[str, Any]:
    """What the device told, as a tree; empty where it told nothing that can be read."""
    try:
        tree = json.loads(text)
    except ValueError:
        return {}
    return tree if isinstance(tree, dict) else {}


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


def _label(network: str, batch: int, repeat: int) -> str:
    return f"{network} batch {batch} repeat {repeat + 1}"


def _idle_notes(
    found: dict[tuple[str, int], RowResult],
    steady: list[tuple[Measured, list[Reading]]],
    calibration: Calibration | None,
) -> tuple[list[tuple[str, int]], list[str]]:
    """Compare the idle power just before the runs with that of the records in which nothing ran.

    Gives the network and batch of each row whose idle power differs, and notes.
    """
    baselines = [
        calibration.current.correct(m.mean_i.mean, m.data.at_s)
        * calibration.voltage.correct(m.mean_v.mean, m.data.at_s)
        for m, _ in steady
        if calibration and m.data.kind == "idle" and m.mean_i and m.mean_v
    ]
    if not baselines:
        none = "no idle record was committed: the idle power is that just before each run alone"
        return [], [none] if found else []
    baseline_w = sum(baselines) / len(baselines)
    restless, notes = [], []
    for result in found.values():
        idle = result.idle_power_w
        if abs(idle.value - baseline_w) > idle.expanded() + IDLE_SHARE * baseline_w:
            restless.append((result.network, result.batch))
            notes.append(
                f"{result.network} batch {result.batch}: {idle.value:.3f} W before its runs, {baseline_w:.3f} W with "
                "nothing running: the device was not at rest; raise dut.rest_s"
            )
    return restless, notes


def _frame_notes(cells: list[Measured]) -> list[str]:
    """Say how many records do not tell of themselves which run they show."""
    silent = sum(cell.data.start_frame is None for cell in cells)
    if not silent:
        return []
    return [f"{silent} of {len(cells)} records carry no start frame: trigger and batch count alone tie them to a run"]


def _calibration_notes(calibration: Calibration, records: Records) -> list[str]:
    notes = []
    if math.isinf(calibration.current.gain.at) and records.probe is None:
        notes.append("the gains were not compared with the supply: they stand at 1 within the makers' limits")
    if not calibration.current.offset.bracketed:
        notes.append("the zero was taken once only: its later drift is a guess of lab.yaml (drift_unbracketed_u_a)")
    return notes


def source_text(outcome: Outcome, replayed: bool) -> str:
    """Say where a row's numbers come from."""
    if not replayed:
        return outcome.source
    return f"{outcome.source} ({', '.join(['replayed', *(f'calibration {n}' for n in outcome.recalibrated)])})"


def results_csv(outcome: Outcome, *, replayed: bool = False) -> str:
    """Write results.csv as text, one row per network and batch of the plan; what is unknown is empty."""
    simulated = outcome.source == "simulated"
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow([*COLUMNS, TRUTH_COLUMN] if simulated else COLUMNS)
    for (network, batch), row, about in zip(outcome.pairs, outcome.rows, outcome.device, strict=True):
        source = source_text(outcome, replayed)
        if row is None:
            blanks = [""] * len(QUANTITIES)
            cells = [network, batch, 0, *blanks, source, *blanks, COVERAGE_PROBABILITY, *about.columns(math.nan)]
            cells += [""] if simulated else []
        else:
            budgets: list[Budget] = [getattr(row, name) for name in QUANTITIES]
            cells = [
                network,
                batch,
                row.repeats,
                *(device.text(b.value) for b in budgets),
                source,
                *(device.text(b.expanded()) for b in budgets),
                COVERAGE_PROBABILITY,
                *about.columns(row.time_per_image_s.value),
            ]
            if simulated:
                cells.append(device.text(row.true_energy_per_image_j))
        writer.writerow(cells)
    return text.getvalue()
