"""One side of a comparison: a run's rows and context, read from its folder, its trace file or a results.csv."""

from __future__ import annotations

import csv
import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING

from calibration.budget import COVERAGE_PROBABILITY, Budget, Component, Distribution
from calibration.model import Calibration
from experiments import budgets
from experiments.comparison import context
from experiments.comparison.context import Fact
from instruments.errors import BenchError, ConfigError
from instruments.plain_text import of_table_cell, one_line

if TYPE_CHECKING:
    from experiments.outcome import Outcome
    from experiments.traces import TraceReader

QUANTITIES: Mapping[str, str] = {"energy_per_image_j": "J", "power_w": "W", "time_per_image_s": "s"}
"""What is compared, and its unit; the first is what a table shows."""

TRACE, RESULTS = "trace.h5", "results.csv"

TABLE = "all, as in the table"
"""The one component of a budget of which a table tells the interval alone: what it is distributed like is not known."""

MOST = 1e30
"""What no energy, power or time reaches, nor falls below its inverse, in SI units."""

Key = tuple[str, int]


@dataclass(frozen=True)
class Row:
    """One network and batch of one run: budgets by quantity, and values of each repeat where they are known.

    `net_amps` is the current at work and before it, A, NaN where unknown.
    """

    repeats: int
    budgets: Mapping[str, Budget]
    values: Mapping[str, tuple[float, ...]] = field(default_factory=dict)
    net_amps: tuple[float, float] = (math.nan, math.nan)
    flags: tuple[str, ...] = ()


@dataclass(frozen=True)
class Side:
    """A run as far as a comparison needs it. `calibration` is None where nothing is known of it.

    `context_known` says whether `facts` are all of its circumstances: those of a table alone are few.
    """

    path: Path
    simulated: bool
    began_utc_s: float
    facts: Mapping[str, Fact]
    rows: Mapping[Key, Row]
    empty: Mapping[Key, str]
    calibration: Calibration | None
    context_known: bool = False


def load(path: Path) -> Side:
    """Read a run's folder, a trace file, or a results.csv (or a folder that holds one, such as that of a replay).

    Raises ConfigError where there is nothing of the kind, TraceError where a trace cannot be read.
    """
    if path.is_dir():
        inside = [path / name for name in (TRACE, RESULTS) if (path / name).is_file()]
        if not inside:
            raise ConfigError(f"{path}: holds neither {TRACE} nor {RESULTS}: name a run's folder or one of its files")
        path = inside[0]
    if not path.is_file():
        raise ConfigError(f"{path}: there is no such file or folder")
    return _of_csv(path) if path.suffix.lower() == ".csv" else _of_trace(path)


def _of_trace(path: Path) -> Side:
    from experiments.reduction import reduce_run
    from experiments.traces import TraceReader
    from experiments.traces.agreement import require_agreement

    with TraceReader(path) as reader:
        require_agreement(reader)
        return of_run(path, reader, reduce_run(reader))


def of_run(path: Path, reader: TraceReader, outcome: Outcome) -> Side:
    """A side of what was reduced already from an open trace file."""
    facts, began = context.facts_of(reader, outcome), context.began_utc_s(reader)
    volts = outcome.lab.supply.voltage_v
    values: dict[Key, list[object]] = {}
    for repeat in outcome.repeats:
        values.setdefault((repeat.result.network, repeat.result.batch), []).append(repeat.result)
    rows, empty = {}, {}
    for (network, batch), row, about in zip(outcome.pairs, outcome.rows, outcome.device, strict=True):
        key = one_line(network), batch  # as a table has it
        if row is None:
            empty[key] = about.outcome
            continue
        rows[key] = Row(
            row.repeats,
            {name: getattr(row, name) for name in QUANTITIES},
            {name: tuple(getattr(one, name).value for one in values.get((network, batch), ())) for name in QUANTITIES},
            (row.power_w.value / volts, row.idle_power_w.value / volts),
            about.flags,
        )
    return Side(path, outcome.source == "simulated", began, facts, rows, empty, outcome.calibration, context_known=True)


def _of_csv(path: Path) -> Side:
    """A table: values and intervals, and little of the context; with the budgets where their file lies beside it."""
    beside = _budgets_beside(path)
    try:
        with path.open(newline="", encoding="utf-8") as file:
            table = list(csv.DictReader(file))
    except (OSError, UnicodeError, csv.Error) as error:
        raise ConfigError(f"{path}: cannot be read as a table ({error})") from error
    lacking = {"network", "batch", "repeats", "source", *QUANTITIES} - set(table[0] if table else ())
    if lacking:
        raise ConfigError(f"{path}: is no {RESULTS} of this program: it lacks {', '.join(sorted(lacking))}")
    rows, empty = {}, {}
    for number, line in enumerate(table, 2):
        try:
            key = of_table_cell(line["network"]), int(line["batch"])
            if key in rows or key in empty:
                raise ValueError(f"{one_line(key[0])} batch {key[1]} stands in a line before")
            if not line["energy_per_image_j"]:
                empty[key] = line.get("outcome") or "no result"
                continue
            if (repeats := int(line["repeats"])) < 1:
                raise ValueError(f"a result of {repeats} repeats is none")
            if wrong := [n for n in QUANTITIES if not _is_result(float(line[n]), float(line[f"{n}_u"]))]:
                raise ValueError(f"{wrong[0]} {line[wrong[0]]} ± {line[wrong[0] + '_u']} is no result")
            alone = {name: _budget(name, float(line[name]), float(line[f"{name}_u"]), repeats) for name in QUANTITIES}
            budgets = {name: _same(budget, beside.get((*key, name))) for name, budget in alone.items()}
            rows[key] = Row(repeats, budgets, flags=tuple((line.get("flags") or "").split()))
        except (KeyError, TypeError, ValueError) as error:
            raise ConfigError(f"{path}, line {number}: is damaged ({type(error).__name__}: {error})") from error
    source = context.told_by([line["source"].removesuffix(" (replayed)") for line in table])
    modes = [f"{line.get('dtype') or ''} {line.get('mode') or ''}".strip() for line in table]
    facts = {
        "source": Fact(source),
        "device as it says": Fact(context.told_by([of_table_cell(line.get("device") or "") for line in table])),
        "mode as run": Fact(context.told_by(modes)),
    }
    side = Side(path, source == "simulated", math.nan, facts, rows, empty, None)
    return _with_context(side, path.with_name(TRACE)) if path.with_name(TRACE).is_file() else side


def _is_result(value: float, half_width: float) -> bool:
    """Whether a mean and its interval can be those of an energy, a power or a time: no nothing, and no damage."""
    return 1 / MOST < value < MOST and 0 <= half_width < MOST


def _with_context(side: Side, trace: Path) -> Side:
    """A table with the context that the trace file beside it tells; as it is where that cannot be read."""
    try:
        whole = _of_trace(trace)
    except BenchError:
        return side
    if not all(_alike(row, whole.rows.get(key)) for key, row in side.rows.items()):
        return side  # the table of another run
    return replace(side, began_utc_s=whole.began_utc_s, facts=whole.facts, context_known=True)


def _alike(row: Row, other: Row | None) -> bool:
    """Whether two rows tell the same values."""
    if other is None or row.repeats != other.repeats:
        return False
    return all(math.isclose(row.budgets[q].value, other.budgets[q].value, rel_tol=1e-6) for q in QUANTITIES)


def _budget(name: str, value: float, half_width: float, repeats: int) -> Budget:
    """What a table tells of an uncertainty: one component, whose interval is that of the table."""
    from calibration.budget import student_t

    dof = float(repeats - 1) if repeats > 1 else math.inf
    u = half_width / student_t(COVERAGE_PROBABILITY, dof)
    return Budget(name, value, QUANTITIES[name], (Component(TABLE, u, 1.0, QUANTITIES[name], dof),))


def _budgets_beside(path: Path) -> dict[tuple[str, int, str], Budget]:
    """The budgets of a table's rows by network, batch and quantity, from the file beside it; none of a damaged one."""
    found: dict[tuple[str, int, str], Budget] = {}
    try:
        for one in json.loads(path.with_name(budgets.FILE).read_text(encoding="utf-8")):
            parts = tuple(
                Component(
                    str(c["name"]),
                    float(c["u_input"]),
                    float(c["sensitivity"]),
                    str(c["unit"]),
                    math.inf if c["dof"] is None else float(c["dof"]),
                    _distribution(c["distribution"]),
                )
                for c in one["components"]
            )
            whole = Budget(str(one["quantity"]), float(one["value"]), str(one["unit"]), parts)
            found[one_line(str(one["network"])), int(one["batch"]), whole.quantity] = whole
    except (OSError, ArithmeticError, LookupError, RecursionError, TypeError, ValueError):
        return {}
    return found


def _distribution(text: str) -> Distribution:
    for known in ("normal", "rectangular", "t"):
        if text == known:
            return known
    raise ValueError(f"{text!r} is no distribution of an error")


def _same(table: Budget, told: Budget | None) -> Budget:
    """The budget that was found beside a table, where it is of that row; else what the table tells."""
    if told is None or not math.isclose(told.value, table.value, rel_tol=1e-6):
        return table
    try:
        agrees = math.isclose(told.expanded(), table.expanded(), rel_tol=1e-4)
    except ValueError:
        return table
    return told if agrees else table
