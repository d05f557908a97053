"""Reduced captures x calibration -> energy, power and their budgets. Pure: no file, clock or instrument.

`measure.measure` reads one capture and keeps exact sums over its codes; `results` applies the calibration of the whole
run to those sums. The live sweep and the replay of its file call the same two functions with the same codes, so their
results are the same to the last bit.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from calibration.budget import Budget
from calibration.model import Calibration
from experiments.components import QUANTITIES as QUANTITIES
from experiments.components import CellValues, budget
from experiments.measure import Measured


@dataclass(frozen=True)
class RowResult:
    """One network at one batch size: budgets of the six quantities over its repeats."""

    network: str
    batch: int
    repeats: int
    time_per_image_s: Budget
    power_w: Budget
    idle_power_w: Budget
    net_power_w: Budget
    energy_per_image_j: Budget
    net_energy_per_image_j: Budget
    true_energy_per_image_j: float
    energy_per_run_j: float = math.nan
    """Mean over the repeats, which may have worked through different numbers of images."""


def results(
    cells: Sequence[Measured], calibration: Calibration | Mapping[int, Calibration], first: int | None = None
) -> list[RowResult]:
    """Combine the committed cells of a run into one row per network and batch, in order of first appearance.

    `first` is the least number of repeats where their scatter decided how many there are (None: it did not).
    `calibration` holds for the whole run, or is given for each session of the bench. Raises ReductionError when a
    capture lies outside the range of its calibration.
    """
    values = []
    for cell in cells:
        holds = calibration if isinstance(calibration, Calibration) else calibration[cell.data.session]
        values.append(cell.values(holds))
    groups: dict[tuple[str, int], list[CellValues]] = {}
    for cell, one in zip(cells, _with_neighbours(cells, values), strict=True):
        groups.setdefault((cell.data.network, cell.data.batch), []).append(one)
    return [_row(key, group, first) for key, group in groups.items()]


def _with_neighbours(cells: Sequence[Measured], values: list[CellValues]) -> list[CellValues]:
    """Where nothing was seen of the idle board after a run, limit what its idle power did meanwhile.

    By what it did between neighbouring runs, beyond the noise: they lie further apart than a run is long.
    """
    alone = [not cell.data.method and one.idle_change is None for cell, one in zip(cells, values, strict=True)]
    if not any(alone):
        return values
    sessions: dict[int, list[tuple[float, CellValues]]] = {}
    for cell, one in zip(cells, values, strict=True):
        sessions.setdefault(cell.data.session, []).append((cell.data.at_s, one))
    limits_w = {session: _half_change_w(each) for session, each in sessions.items()}
    return [
        replace(one, idle_limit_w=limits_w[cell.data.session]) if lacks else one
        for cell, one, lacks in zip(cells, values, alone, strict=True)
    ]


def _half_change_w(runs: list[tuple[float, CellValues]]) -> float:
    """Half of what the idle power changes from one run to the next, root mean square without its noise, W."""
    ordered = [one for _, one in sorted(runs, key=lambda run: run[0])]
    excess = 0.0
    for a, b in itertools.pairwise(ordered):
        noise_w2 = a.volts**2 * a.calibration.noise.current_a2s * (1 / a.idle_s + 1 / b.idle_s)
        excess += (b.idle_w - a.idle_w) ** 2 - noise_w2
    return math.sqrt(max(0.0, excess / max(1, len(ordered) - 1))) / 2


def _row(key: tuple[str, int], cells: list[CellValues], first: int | None) -> RowResult:
    budgets = {q: budget(q, cells, first) for q in QUANTITIES}
    truth = float(np.mean([c.true_j / c.images for c in cells]))
    run_j = float(np.mean([c.run_j for c in cells]))
    return RowResult(key[0], key[1], len(cells), **budgets, true_energy_per_image_j=truth, energy_per_run_j=run_j)
