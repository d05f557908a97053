"""Runs as figures see them: points by network and batch, tables to be written beside a figure, what is missing."""

from __future__ import annotations

import csv
import io
import math
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from calibration.budget import Budget
from experiments import device, networks
from experiments.device import MEMORY_KINDS, DeviceRow
from experiments.energy import RowResult
from experiments.figures.style import short
from experiments.outcome import Outcome
from experiments.traces import TraceReader
from instruments.errors import BenchError
from instruments.plain_text import table_cell

DTYPE_BYTES = {"fp16": 2, "bf16": 2, "int8": 1}
PAPER_BATCHES = (1, 16)


class NothingToDrawError(BenchError):
    """A figure for which the runs do not hold what is needed; the text says what, and where it would come from."""

    exit_code = 1


@dataclass(frozen=True)
class Table:
    """What is written as CSV: texts, and numbers with nine digits; what is unknown is empty."""

    columns: tuple[str, ...]
    rows: tuple[tuple[Any, ...], ...]

    def csv(self) -> str:
        """Write it."""
        out = io.StringIO()
        writer = csv.writer(out, lineterminator="\n")
        writer.writerow(self.columns)
        writer.writerows([_cell(value) for value in row] for row in self.rows)
        return out.getvalue()


def fitted(columns: tuple[str, ...], lines: Sequence[tuple[Any, ...]]) -> dict[str, Table]:
    """The table of the lines drawn through a figure's points, by its ending; none where nothing was fitted."""
    return {"fit": Table(columns, tuple(lines))} if lines else {}


def _cell(value: Any) -> str:
    if value is None:
        return ""
    return device.text(value) if isinstance(value, float) else table_cell(str(value))


@dataclass(frozen=True)
class Run:
    """One run: its open trace file, what was reduced from it, and what figures call it."""

    reader: TraceReader
    outcome: Outcome
    label: str

    @property
    def title(self) -> str:
        """The device, and the run."""
        return f"{self.outcome.lab.dut.name} · {self.label}"

    @property
    def points(self) -> list[Point]:
        """One for each network and batch of the plan."""
        o = self.outcome
        return [Point(self, *pair) for pair in zip(o.rows, o.device, strict=True)]

    def at(self, batch: int) -> list[Point]:
        """Those of one batch size."""
        return [point for point in self.points if point.batch == batch]

    @property
    def batch_pair(self) -> tuple[int, ...]:
        """The paper's batches 1 and 16 where the run has them, else its least and its greatest up to 16."""
        found = sorted(self.outcome.plan.batches)
        if set(PAPER_BATCHES) <= set(found):
            return PAPER_BATCHES
        upper = [b for b in found if found[0] < b <= PAPER_BATCHES[1]] or found[1:2]
        return (found[0], *upper[-1:])

    def size(self, network: str, name: str) -> float:
        """Parameters, operations and so on of a network; NaN where unknown."""
        sizes = [row.size for row in self.outcome.device if row.network == network]
        return float(next((size[name] for size in sizes if name in size), math.nan))


@dataclass(frozen=True)
class Point:
    """One network at one batch size of one run; `result` is None where there is none."""

    run: Run
    result: RowResult | None
    device: DeviceRow

    @property
    def network(self) -> str:
        """Its network."""
        return self.device.network

    @property
    def batch(self) -> int:
        """Images in one batch."""
        return self.device.batch

    def budget(self, quantity: str) -> Budget | None:
        """The budget of one of `energy.QUANTITIES`."""
        found: Budget | None = getattr(self.result, quantity) if self.result is not None else None
        return found

    def value(self, quantity: str) -> float:
        """Value of a quantity; NaN without a result."""
        budget = self.budget(quantity)
        return budget.value if budget is not None else math.nan

    def half(self, quantity: str) -> float:
        """Half-width U of its 95 % interval."""
        budget = self.budget(quantity)
        return budget.expanded() if budget is not None else math.nan

    @property
    def top1(self) -> float:
        """Cited top-1 accuracy in %; NaN where none is known."""
        return top1(self.network)

    def memory(self, kind: str) -> float:
        """Bytes of one kind of memory; NaN where unknown."""
        return float(self.device.memory.get(kind, math.nan))

    @property
    def missing(self) -> str:
        """Why there is no result; empty where there is one."""
        if self.result is not None:
            return ""
        return self.device.outcome if self.device.outcome != "measured" else "rejected"

    @property
    def head(self) -> tuple[Any, ...]:
        """First cells of its row in a table; see `HEAD`."""
        return self.run.label, self.run.outcome.source, self.network, self.batch


HEAD = ("run", "source", "network", "batch")


def top1(network: str) -> float:
    """Cited top-1 accuracy in %; NaN where none is known."""
    return networks.get(network).top1 if network in networks.NETWORKS else math.nan


def all_networks(runs: Sequence[Run]) -> list[str]:
    """Every network of the runs, each once, in the order of the plans."""
    return list(dict.fromkeys(name for run in runs for name in run.outcome.plan.networks))


def known(points: Iterable[Point], *values: Callable[[Point], float]) -> list[Point]:
    """Those points of which every value is known."""
    return [point for point in points if all(math.isfinite(value(point)) for value in values)]


def memory_kind(runs: Sequence[Run], asked: str | None = None) -> str:
    """The kind of memory that a figure shows: the one asked for, or that of most rows of results.csv.

    Raises NothingToDrawError where no row tells it.
    """
    rows = [row for run in runs for row in run.outcome.device]
    if asked is not None:
        if not any(asked in row.memory for row in rows):
            found = sorted({kind for row in rows for kind in row.memory}) or ["none"]
            raise NothingToDrawError(f"no device told its {asked}; known here: {', '.join(found)}")
        return asked
    counts = Counter(row.peak_memory[1] for row in rows if row.peak_memory is not None)
    if not counts:
        raise NothingToDrawError("no device told its memory; agents of this release do, other programs need not")
    return max(MEMORY_KINDS, key=lambda kind: counts[kind])


def operations_rule(runs: Sequence[Run]) -> tuple[str, str]:
    """Which count of operations all networks of the runs have: the paper's rule if they can, and its name."""
    rule = "operations_opcounter2016"
    for run in runs:
        for name in run.outcome.plan.networks:
            if math.isnan(run.size(name, rule)) and not math.isnan(run.size(name, "operations")):
                return "operations", "two for each multiply-accumulate"
    return rule, "by the paper's rule"


def weights_mb(point: Point) -> float:
    """Parameters in MB (1e6 bytes), in the number type that was run."""
    return point.run.size(point.network, "parameters") * DTYPE_BYTES.get(point.device.dtype, 4) / 1e6


def whole(value: float) -> int | None:
    """A count as it is written; None where it is not known."""
    return int(value) if math.isfinite(value) else None


def absent(run: Run, points: Sequence[Point], shown: Sequence[Point], what: str) -> list[str]:
    """Name the networks that a panel lacks, and why."""
    there = {id(p.device) for p in shown}
    absent = [f"{short(p.network)} ({p.missing or what + ' not known'})" for p in points if id(p.device) not in there]
    return [f"missing, {run.label}, batch {points[0].batch}: {', '.join(absent)}"] if absent else []
