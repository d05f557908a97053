"""Reduced captures x calibration -> energy, power and their budgets. Pure: no file, clock or instrument.

`measure.measure` reads one capture and keeps exact sums over its codes; `results` applies the calibration of the whole
run to those sums. The live sweep and the replay of its file call the same two functions with the same codes, so their
results are the same to the last bit.
"""

from __future__ import annotations

import itertools
import math
from array import array
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from calibration.budget import Budget
from calibration.model import Calibration
from experiments.components import QUANTITIES as QUANTITIES
from experiments.components import CellValues, budget
from experiments.measure import Measured

Floats = NDArray[np.float64]


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
    idle = IdleChanges()
    groups: dict[tuple[str, int], list[tuple[int, CellValues]]] = {}
    for cell in cells:
        session = cell.data.session
        one = cell.values(calibration if isinstance(calibration, Calibration) else calibration[session])
        idle.add(session, cell.data.at_s, one)
        groups.setdefault((cell.data.network, cell.data.batch), []).append((session, one))
    limits_w = idle.limits_w()
    return [row_of(*pair, [limited(*one, limits_w) for one in group], first) for pair, group in groups.items()]


class IdleChanges:
    """Takes the cells of a run, and limits what the idle power did during those of them after which nothing was seen of
    the idle board.

    By what it did between neighbouring runs, beyond the noise: they lie further apart than a run is long.
    """

    def __init__(self) -> None:
        self._sessions: dict[int, array[float]] = {}
        self._needed = False

    def add(self, session: int, at_s: float, values: CellValues) -> None:
        """Take a cell."""
        noise_w2s = values.volts**2 * values.calibration.noise.current_a2s
        self._sessions.setdefault(session, array("d")).extend((at_s, values.idle_w, values.idle_s, noise_w2s))
        self._needed |= values.idle_unknown

    def limits_w(self) -> dict[int, float]:
        """Half of what the idle power changes from one run to the next in each session, root mean square without its
        noise, W; empty where no cell needs it."""
        if not self._needed:
            return {}
        return {session: _half_change_w(np.reshape(known, (-1, 4))) for session, known in self._sessions.items()}


def limited(session: int, values: CellValues, limits_w: Mapping[int, float]) -> CellValues:
    """A cell's values with the limit of its session where it needs one."""
    return replace(values, idle_limit_w=limits_w[session]) if values.idle_unknown else values


def _half_change_w(runs: Floats) -> float:
    excess = 0.0
    ordered = runs[np.argsort(runs[:, 0], kind="stable")].tolist()
    for (_, a_w, a_s, a_w2s), (_, b_w, b_s, _) in itertools.pairwise(ordered):
        excess += (b_w - a_w) ** 2 - a_w2s * (1 / a_s + 1 / b_s)
    return math.sqrt(max(0.0, excess / max(1, len(ordered) - 1))) / 2


def row_of(network: str, batch: int, cells: list[CellValues], first: int | None) -> RowResult:
    """Combine the cells of one network and batch; `first` as in `results`."""
    budgets = {q: budget(q, cells, first) for q in QUANTITIES}
    truth = float(np.mean([c.true_j / c.images for c in cells]))
    run_j = float(np.mean([c.run_j for c in cells]))
    return RowResult(network, batch, len(cells), **budgets, true_energy_per_image_j=truth, energy_per_run_j=run_j)
