"""What a sweep is going to do, how long that may take and how much it stores, in words, before it starts. Pure.

Nobody knows how fast a board is before it has run. The forecast takes a network's batches to last as long as on our
model of the paper's Jetson TX1, by its operations and parameters, and follows the steps of a session with that. Sweeps
on that model, in every way of recording, take within 20 % of it (tests/experiments/test_forecast.py); other boards not.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping
from dataclasses import dataclass

from experiments.modelled import known_size
from experiments.networks.specs import BUSY
from experiments.parts import CONSECUTIVE, LONG
from experiments.plan import Method, Plan
from experiments.record_choice import FILL, GAIN_WINDOW_S, RESERVE, record_for
from instruments.lab import Lab
from instruments.scope_facts import POINTS, PRE_TRIGGER, acquisition_plan
from instruments.wording import counted, duration_text, span

S_PER_OPERATION = 6.05e-12
"""Slope of the paper's figure 7 at batch 16: about 6 ms a G-Op."""

WEIGHTS_BYTES_PER_S, LAUNCH_S = 14e9, 1.5e-3
"""What each batch takes besides, for reading the weights and for starting."""

LOAD_S, LOAD_BYTES_PER_S = 1.0, 300e6
"""What loading a network takes: a start, and its weights from storage."""

UNKNOWN_BATCH_S = 0.02
"""Batches of a network of unknown size, until it runs: short beside a record."""

MODEL_BYTES, KEPT_BYTES = 3.3e9, 2.4
"""Memory of a board that is a model, and what it keeps for each value that an image's layers write."""

SETTLES_S, WARM_UP_S = 0.3, 15.0
"""A warm-up runs batches for so long, three at least, and no longer than this."""

TRANSFER_S = 0.27
"""From a capture's end to the beginning of the next of the same run: transfer and arming."""

SWITCHING_S = 2.2
"""Switching the output on and off again, and starting the agent, in all."""

BYTES_PER_POINT, FILE_BYTES = 1.27, 0.45e6
"""What a point of both channels and the lines takes in the file, and what else the file holds."""


@dataclass(frozen=True)
class Work:
    """What one cell will take: captures, seconds, bytes of its captures in the file."""

    captures: int
    seconds: float
    stored: float


@dataclass(frozen=True)
class Forecast:
    """What a whole plan will take; `least` with the fewest repeats, `most` with all of its rounds."""

    a_cell: tuple[int, int]
    least: Work
    most: Work
    unknown: tuple[str, ...]


def forecast(plan: Plan, lab: Lab) -> Forecast:
    """Follow the steps of a session that measures a plan; raises ConfigError for a window that the scope lacks."""
    sizes = {network: known_size(network) for network in plan.networks}
    cells = {}
    for network, batch in plan.pairs:
        batch_s, load_s = _batch_s(network, batch, sizes), _load_s(sizes[network])
        fits = lab.dut.simulated is None or _fits(sizes[network], batch)
        cells[network, batch] = (
            _cell(lab, plan.method, plan.window_s, batch_s, load_s) if fits else Work(0, load_s, 0.0)
        )
    network, batch = _gain_load(plan, cells)
    gain = _cell(
        lab, Method(), max(GAIN_WINDOW_S, plan.window_s), _batch_s(network, batch, sizes), _load_s(sizes[network])
    )
    one = _stored(lab, plan.window_s)
    frame = Work(6, 2 * gain.seconds + 4 * plan.window_s + SWITCHING_S, 2 * gain.stored + 4 * one + FILE_BYTES)
    a_round = _total(cells.values())
    counts = [work.captures for work in cells.values() if work.captures] or [0]
    unknown = tuple(n for n in plan.networks if sizes[n] is None and not n.startswith(_BUSY))
    return Forecast(
        (min(counts), max(counts)),
        _times(a_round, plan.repeats, frame),
        _times(a_round, plan.rounds, frame),
        unknown,
    )


_BUSY = BUSY.partition(":")[0] + ":"


def _total(works: Collection[Work]) -> Work:
    return Work(sum(w.captures for w in works), sum(w.seconds for w in works), sum(w.stored for w in works))


def _times(work: Work, rounds: int, frame: Work) -> Work:
    return Work(
        rounds * work.captures + frame.captures,
        rounds * work.seconds + frame.seconds,
        rounds * work.stored + frame.stored,
    )


def _batch_s(network: str, batch: int, sizes: Mapping[str, Mapping[str, int] | None]) -> float:
    if network.startswith(_BUSY):
        return sum(float(part or 0) for part in network.removeprefix(_BUSY).split(":")) * 1e-3
    size = sizes[network]
    if size is None:
        return UNKNOWN_BATCH_S
    weights_s = 4 * size["parameters"] / WEIGHTS_BYTES_PER_S
    return LAUNCH_S + weights_s + batch * size["operations"] * S_PER_OPERATION


def _fits(size: Mapping[str, int] | None, batch: int) -> bool:
    return size is None or batch * KEPT_BYTES * size["activations"] <= MODEL_BYTES


def _gain_load(plan: Plan, cells: Mapping[tuple[str, int], Work]) -> tuple[str, int]:
    """Network and batch by whose work the channels are compared with the supply: the first, as large as it fits."""
    loads = [(network, batch) for network in plan.networks for batch in sorted(plan.batches, reverse=True)]
    return next((load for load in loads if cells[load].captures), loads[0])


def _load_s(size: Mapping[str, int] | None) -> float:
    return LOAD_S + (4 * size["parameters"] / LOAD_BYTES_PER_S if size is not None else 0.0)


def _warm_up_s(batch_s: float) -> float:
    """A slower first batch, then batches until their times have settled."""
    count = max(2 if batch_s >= SETTLES_S else 3, int(SETTLES_S / batch_s) + 1)
    return min(1.1 * batch_s + count * batch_s, max(WARM_UP_S, batch_s))


def _stored(lab: Lab, window_s: float) -> float:
    return BYTES_PER_POINT * min(POINTS, acquisition_plan(lab, window_s).points)


def _cell(lab: Lab, method: Method, usual_s: float, batch_s: float, load_s: float) -> Work:
    """One cell: load, warm up, rest, and the records of its run."""
    rest_s = lab.dut.rest_s
    batches = max(1, int(FILL * usual_s / batch_s))
    window_s, how = record_for(method, batches, batch_s, usual_s)
    before_s = load_s + _warm_up_s(batch_s) + rest_s
    one = _stored(lab, window_s)
    if not how:
        return Work(1, before_s + window_s, one)
    run_s = batches * batch_s if method.long_s is None else RESERVE * method.long_s + batch_s
    if how not in (LONG, CONSECUTIVE):  # steady: one record, and the end of the run
        return Work(1, before_s + max(window_s, PRE_TRIGGER * window_s + run_s), one)
    more = max(0, math.ceil((run_s - (1 - PRE_TRIGGER) * window_s) / (window_s + TRANSFER_S)))
    seconds = before_s + window_s + more * (window_s + TRANSFER_S)
    if method.long_s is None:
        return Work(1 + more, seconds, (1 + more) * one)
    return Work(2 + more, seconds + rest_s + TRANSFER_S + window_s, (2 + more) * one)


def size_text(n_bytes: float) -> str:
    """Two or three digits of megabytes, gigabytes or terabytes."""
    for unit, scale in (("MB", 1e6), ("GB", 1e9)):
        if n_bytes < 999.5 * scale:
            return f"{n_bytes / scale:.3g} {unit}"
    return f"{n_bytes / 1e12:.4g} TB"


def plan_text(plan: Plan, lab: Lab) -> str:
    """A plan in lines: the bench, how networks run and are recorded, how long it may take, every cell."""
    lines = [
        f"bench: {lab.bench} ({'simulated' if lab.simulation else 'measured'})",
        f"supply: {lab.supply.voltage_v:g} V, limit {lab.supply.current_limit_a:g} A, OVP {lab.supply.ovp_v:g} V",
        *(f"oscilloscope: {line}" for line in acquisition_plan(lab, plan.window_s).lines()),
        f"networks: {plan.run.label}",
        *plan.method.lines(plan.repeats, plan.rounds),
        *_expected(forecast(plan, lab), lab),
        f"{counted(len(plan.cells), 'cell')} of {_length(plan)}, seed {plan.seed}:",
        *(f"{cell.position + 1:4d}  {cell.label}" for cell in plan.cells),
    ]
    return "\n".join(lines)


def _expected(found: Forecast, lab: Lab) -> list[str]:
    """How many captures a plan will take, how long and how much in the file, and on what that rests."""
    ends = (found.least, found.most)
    seconds = span(*(duration_text(work.seconds) for work in ends))
    size = span(*(size_text(work.stored) for work in ends))
    virtual = " of the model's virtual time, which passes much faster" if lab.dut.simulated is not None else ""
    lines = [
        f"expected: {span(*found.a_cell)} {'capture' if found.a_cell == (1, 1) else 'captures'} a cell, "
        f"{span(*(str(work.captures) for work in ends))} in all; about {seconds}{virtual}; trace.h5 about {size}",
        "that rests on a model of the paper's Jetson TX1: batches of 6 ms a G-Op, networks loaded at 300 MB/s; on "
        "another board it may be far off where a batch is long"
        + ("; cells for which the model has no memory end at once" if lab.dut.simulated is not None else ""),
    ]
    if found.unknown:
        lines.append(f"of unknown size, and taken for short: {', '.join(found.unknown)}")
    return lines


def _length(plan: Plan) -> str:
    long_s = plan.method.long_s
    return f"{plan.window_s:g} s" if long_s is None else f"at least {long_s:g} s"
