"""From an open trace file to results: the one path that live sweeps and replays share.

Whatever a sweep prints at its end was computed here, from its file.
"""

from __future__ import annotations

import csv
import io
import math
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from calibration import in_situ
from calibration.budget import COVERAGE_PROBABILITY, Budget
from calibration.model import Calibration
from experiments.energy import QUANTITIES, Measured, ReductionError, RowResult, Wires, measure, results
from experiments.plan import Plan
from experiments.traces import Reading, TraceReader
from instruments import lab as lab_yaml
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
)
IDLE_SHARE = 0.01
"""Difference between idle power before a run and at rest, beyond its uncertainty, that the notes mention."""

SCATTER_LIMIT = 0.05
"""Relative scatter of a row's repeats from which on the notes ask whether the device was disturbed."""

TRUTH_COLUMN = "true_energy_per_image_j"


@dataclass(frozen=True)
class Rejected:
    """A capture or cell without a result, and why."""

    label: str
    reason: str


@dataclass(frozen=True)
class Outcome:
    """Everything that a run says: `rows` has one entry per network and batch of the plan, in its order."""

    source: str
    plan: Plan
    lab: Lab
    rows: tuple[RowResult | None, ...]
    calibration: Calibration | None
    rejected: tuple[Rejected, ...]
    missing: int
    notes: tuple[str, ...]
    summary: dict[str, Any] = field(default_factory=dict)

    @property
    def whole(self) -> bool:
        """Whether every cell of the plan has its result."""
        return not self.rejected and not self.missing and all(row is not None for row in self.rows)

    @property
    def pairs(self) -> list[tuple[str, int]]:
        """Network and batch of each row."""
        return [(network, batch) for network in self.plan.networks for batch in self.plan.batches]


def wires(lab: Lab) -> Wires:
    """Say which stored record plays which role, and which bits are the marker lines."""
    return Wires("current", "voltage", "markers", lab.wiring.gate.digital, lab.wiring.batch.digital)


def find_calibration(lab: Lab, steady: list[tuple[Measured, list[Reading]]]) -> Calibration | None:
    """Calibrate from the zero and gain captures of a run; None when there is no zero yet."""
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
    local = lab.supply.sense == "local"
    return in_situ.calibrate(
        zeros,
        comparisons,
        in_situ.BenchTerms(
            lab.probe.range_v_per_a,
            lab.probe.drift_u_a / lab.probe.turns,
            lab.probe.drift_unbracketed_u_a / lab.probe.turns,
            lab.supply.output_off_residual_a,
            lab.supply.lead_resistance_ohm or 0.0 if local else 0.0,
            lab.supply.lead_resistance_u_ohm if local else 0.0,
            lab.probe.linearity,
        ),
    )


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
    lab = lab_yaml.parse(reader.text("lab_yaml"), name=f"{reader.path}:/provenance/lab_yaml")
    plan = reader.plan
    roles = wires(lab)
    cells: list[Measured] = []
    steady: list[tuple[Measured, list[Reading]]] = []
    rejected: list[Rejected] = []
    notes: list[str] = []
    for data in reader.data():
        label = _label(data.network, data.batch, data.repeat)
        if data.images is not None and data.images != (data.batches or 0) * data.batch:
            raise TraceError(
                f"{reader.path}: /captures row {data.index} is damaged: {data.images} images are not "
                f"{data.batches} batches of {data.batch}"
            )
        try:
            measured = measure(data, roles)
        except ReductionError as error:
            if data.kind == "cell":
                rejected.append(Rejected(label, str(error)))
            else:
                notes.append(f"a {data.kind} capture was not used: {error}")
            continue
        if data.kind == "cell":
            cells.append(measured)
        else:
            steady.append((measured, reader.readings(data.index)))
    for row in reader.cells():
        if row["state"] == "rejected":
            rejected.append(Rejected(_label(row["network"], row["batch"], row["repeat"]), row["reason"]))
    for row in reader.captures():
        if row["state"] == "rejected" and row["kind"] != "cell":
            notes.append(f"a {row['kind']} capture was not used: {row['reason']}")
    missing = sum(row["state"] not in ("committed", "rejected") for row in reader.cells())
    calibration = find_calibration(lab, steady)
    found: dict[tuple[str, int], RowResult] = {}
    if calibration is None:
        notes.append("no zero was committed: nothing can be reduced")
    else:
        notes += _calibration_notes(calibration)
        usable = []
        for cell in cells:
            try:
                results([cell], calibration)
                usable.append(cell)
            except ReductionError as error:
                d = cell.data
                rejected.append(Rejected(_label(d.network, d.batch, d.repeat), str(error)))
        found = {(r.network, r.batch): r for r in results(usable, calibration)}
    if missing:
        notes.append(f"{missing} of {len(plan.cells)} cells were not measured: the sweep ended early")
    notes += _idle_notes(found, steady, calibration)
    for result in found.values():
        relative = _repeat_scatter(result)
        if relative > SCATTER_LIMIT:
            notes.append(
                f"{result.network} batch {result.batch}: repeats of time per image scatter by {relative * 100:.0f} %; "
                "was the device busy with something else?"
            )
    if any(r is not None and r.repeats == 1 for r in found.values()):
        notes.append("rows with one repeat have no repeatability in their uncertainty")
    pairs = [(network, batch) for network in plan.networks for batch in plan.batches]
    return Outcome(
        reader.source,
        plan,
        lab,
        tuple(found.get(pair) for pair in pairs),
        calibration,
        tuple(rejected),
        missing,
        tuple(notes),
        reader.json("summary"),
    )


def _label(network: str, batch: int, repeat: int) -> str:
    return f"{network} batch {batch} repeat {repeat + 1}"


def _idle_notes(
    found: dict[tuple[str, int], RowResult],
    steady: list[tuple[Measured, list[Reading]]],
    calibration: Calibration | None,
) -> list[str]:
    """Compare the idle power just before the runs with that of the records in which nothing ran."""
    baselines = [
        calibration.current.correct(m.mean_i.mean, m.data.at_s)
        * calibration.voltage.correct(m.mean_v.mean, m.data.at_s)
        for m, _ in steady
        if calibration and m.data.kind == "idle" and m.mean_i and m.mean_v
    ]
    if not baselines:
        return ["no idle record was committed: the idle power is that just before each run alone"] if found else []
    baseline_w = sum(baselines) / len(baselines)
    notes = []
    for result in found.values():
        idle = result.idle_power_w
        if abs(idle.value - baseline_w) > idle.expanded() + IDLE_SHARE * baseline_w:
            notes.append(
                f"{result.network} batch {result.batch}: {idle.value:.3f} W before its runs, {baseline_w:.3f} W with "
                "nothing running: the device was not at rest; raise dut.rest_s"
            )
    return notes


def _repeat_scatter(row: RowResult) -> float:
    """Standard deviation of time per image over the repeats, relative to its mean."""
    budget = row.time_per_image_s
    u = next((c.u for c in budget.components if c.name == "repeatability"), 0.0)
    return u * math.sqrt(row.repeats) / budget.value


def _calibration_notes(calibration: Calibration) -> list[str]:
    notes = []
    if math.isinf(calibration.current.gain.at):
        notes.append("the gains were not compared with the supply: they stand at 1 within the makers' limits")
    if not calibration.current.offset.bracketed:
        notes.append("the zero was taken once only: its later drift is a guess of lab.yaml (drift_unbracketed_u_a)")
    return notes


def source_text(outcome: Outcome, replayed: bool) -> str:
    """Say where a row's numbers come from."""
    return f"{outcome.source} (replayed)" if replayed else outcome.source


def results_csv(outcome: Outcome, *, replayed: bool = False) -> str:
    """Write results.csv as text, one row per network and batch of the plan; what is unknown is empty."""
    simulated = outcome.source == "simulated"
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow([*COLUMNS, TRUTH_COLUMN] if simulated else COLUMNS)
    for (network, batch), row in zip(outcome.pairs, outcome.rows, strict=True):
        source = source_text(outcome, replayed)
        if row is None:
            blanks = [""] * len(QUANTITIES)
            cells = [network, batch, 0, *blanks, source, *blanks, COVERAGE_PROBABILITY, *([""] if simulated else [])]
        else:
            budgets: list[Budget] = [getattr(row, name) for name in QUANTITIES]
            cells = [
                network,
                batch,
                row.repeats,
                *(_number(b.value) for b in budgets),
                source,
                *(_number(b.expanded()) for b in budgets),
                COVERAGE_PROBABILITY,
            ]
            if simulated:
                cells.append(_number(row.true_energy_per_image_j))
        writer.writerow(cells)
    return text.getvalue()


def _number(value: float) -> str:
    return "" if math.isnan(value) else f"{value:.9g}"


def write_csv(path: Path, outcome: Outcome, *, replayed: bool = False) -> None:
    """Write results.csv to a file."""
    path.write_text(results_csv(outcome, replayed=replayed), encoding="utf-8")
