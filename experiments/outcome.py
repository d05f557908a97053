"""What a run says: its results, what became of every cell, and the table that other programs read. Pure."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from calibration.budget import COVERAGE_PROBABILITY, Budget
from calibration.choice import NO_RECORDS, Records
from calibration.model import Calibration
from experiments import device
from experiments.capture_data import CaptureData
from experiments.device import DeviceRow
from experiments.energy import QUANTITIES, RowResult, results
from experiments.flags import NO_CODE
from experiments.gain_check import CellGain
from experiments.measure import Measured
from experiments.plan import Plan
from instruments.lab import Lab
from instruments.plain_text import table_cell

COLUMNS = (
    "network",
    "batch",
    "repeats",
    *QUANTITIES,
    "source",
    *(f"{name}_u" for name in QUANTITIES),
    "coverage_probability",
    *device.COLUMNS,
    "energy_per_batch_j",
    "energy_per_batch_j_u",
    "energy_per_run_j",
)
"""Columns of results.csv; one that comes new comes last, so that programs which count columns still find theirs."""

TRUTH_COLUMN = "true_energy_per_image_j"

OUT_OF_MEMORY = "out of memory"
"""Outcome of a cell that the device has no memory for."""


@dataclass(frozen=True)
class Rejected:
    """A capture or cell without a result, what became of it, and why; `code` sorts it (docs/flags.md)."""

    label: str
    reason: str
    outcome: str = "rejected"
    code: str = NO_CODE


@dataclass(frozen=True)
class Repeat:
    """One usable cell by itself."""

    session: int
    repeat: int
    cell: Measured
    calibration: Calibration

    @cached_property
    def result(self) -> RowResult:
        """A row of one repeat, without repeatability in its budgets; made when asked for, since few ask for all."""
        return results([self.cell], self.calibration)[0]


@dataclass(frozen=True)
class Repeats(Iterable[Repeat]):
    """The usable cells of a run, in the order in which they were taken, each made when it is asked for."""

    cells: Sequence[Measured] = ()
    calibrations: Mapping[int, Calibration] = field(default_factory=dict)

    def __iter__(self) -> Iterator[Repeat]:
        for cell in self.cells:
            session = cell.data.session
            yield Repeat(session, cell.data.repeat, cell, self.calibrations[session])


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
    repeats: Repeats = Repeats()
    records: Records = NO_RECORDS
    recalibrated: tuple[str, ...] = ()
    gain_checks: tuple[CellGain, ...] = ()

    @property
    def whole(self) -> bool:
        """Whether every cell of the plan has its result, or met the end of the device's memory: that is one too.

        Not where nothing else came of the whole run.
        """
        if not any(row is not None for row in self.rows):
            return False
        expected = all(r.outcome == OUT_OF_MEMORY for r in self.rejected)
        about = zip(self.rows, self.device, strict=True)
        return expected and not self.missing and all(row or seen.outcome == OUT_OF_MEMORY for row, seen in about)

    @property
    def pairs(self) -> list[tuple[str, int]]:
        """Network and batch of each row."""
        return self.plan.pairs


def label(data: CaptureData) -> str:
    """Name of a cell for messages."""
    return f"{data.network} batch {data.batch} repeat {data.repeat + 1}"


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
            cells += [""] * (4 if simulated else 3)
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
                device.text(row.energy_per_image_j.value * batch),
                device.text(row.energy_per_image_j.expanded() * batch),
                device.text(row.energy_per_run_j),
            ]
            if simulated:
                cells.append(device.text(row.true_energy_per_image_j))
        writer.writerow([table_cell(cell) if isinstance(cell, str) else cell for cell in cells])
    return text.getvalue()
