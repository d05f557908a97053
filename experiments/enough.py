"""Adaptive repeats: whether a network and batch has been measured often enough. Pure.

The decision rests on the committed cells alone, each with the zero and the gain that its session of the bench began
with, so that a sweep that is gone on with decides as one that was never cut short. It goes by the scatter of the least
number of repeats (`mean_of_stages`), as the row's interval does: repeats that end once all of them happen to agree
would scatter less than the device does.
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from calibration.budget import COVERAGE_PROBABILITY, student_t
from calibration.model import Calibration
from calibration.statistics import mean_of_stages
from experiments.capture_data import ReductionError
from experiments.energy import results
from experiments.journal import NOT_NEEDED, UNMEASURED
from experiments.measure import Measured
from experiments.plan import Cell, Plan
from instruments.wording import counted

if TYPE_CHECKING:
    from experiments.outcome import Repeat

Pair = tuple[str, int]


def half_width_percent(values: Sequence[float], first: int) -> float:
    """Half-width of the type-A 95 % interval of a mean by the scatter of its `first` values, 2 at least, in % of it.

    Infinite below two values.
    """
    if len(values) < 2:
        return math.inf
    mean, u, dof = mean_of_stages(np.array(values), first)
    return 100 * student_t(COVERAGE_PROBABILITY, dof) * u / abs(mean)


class Enough:
    """Energies per image of the committed repeats by network and batch, and which need no more of them."""

    def __init__(self, plan: Plan, states: Sequence[Mapping[str, object]] = ()) -> None:
        self._target, self._least = plan.method.target_u, plan.repeats
        self._energies: dict[Pair, list[float]] = {}
        self._failed: dict[Pair, int] = {}
        for row in states:
            if row["state"] in UNMEASURED:
                self.failed(str(row["network"]), int(str(row["batch"])))

    def add(self, measured: Measured, calibration: Calibration | None) -> None:
        """Count one committed repeat, reduced with what its session of the bench began with."""
        if self._target is None or calibration is None:
            return
        with contextlib.suppress(ReductionError):
            (row,) = results([measured], calibration)
            self._energies.setdefault((row.network, row.batch), []).append(row.energy_per_image_j.value)

    def energies(self, network: str, batch: int) -> tuple[float, ...]:
        """Energies per image of the repeats that were counted, J, in order."""
        return tuple(self._energies.get((network, batch), ()))

    def failed(self, network: str, batch: int) -> None:
        """Count one repeat that ended without a result."""
        self._failed[network, batch] = self._failed.get((network, batch), 0) + 1

    def spares(self, cell: Cell) -> str:
        """Why a cell need not be measured; empty where it must."""
        if self._target is None or cell.repeat < self._least:
            return ""
        pair = cell.network, cell.batch
        known = self._energies.get(pair, [])
        if not known and self._failed.get(pair, 0) >= self._least:
            return f"none of {counted(self._failed[pair], 'repeat')} gave a result"
        if len(known) < self._least:
            return ""
        reached = half_width_percent(known, self._least)
        return f"{reached:.3g} % after {len(known)} repeats" if reached <= self._target else ""


def repeat_notes(cells: Sequence[Mapping[str, Any]], plan: Plan, repeats: Iterable[Repeat]) -> list[str]:
    """Say how many repeats were spared, and which pairs of network and batch did not reach the target."""
    target = plan.method.target_u
    if target is None:
        return []
    spared = sum(row["state"] == NOT_NEEDED for row in cells)
    done = {(row["network"], row["batch"]) for row in cells if row["state"] == NOT_NEEDED}
    energies: dict[Pair, list[float]] = {}
    for one in repeats:
        energies.setdefault((one.result.network, one.result.batch), []).append(one.result.energy_per_image_j.value)
    reached = {pair: half_width_percent(values, plan.repeats) for pair, values in energies.items()}
    short = [
        f"{network} batch {batch} ({reached[network, batch]:.3g} % after {len(values)})"
        for (network, batch), values in energies.items()
        if (network, batch) not in done and reached[network, batch] > target
    ]
    notes = [
        f"{spared} of {len(cells)} repeats {'was' if spared == 1 else 'were'} not needed for a type-A interval within "
        f"{target:g} %, which goes by the scatter of the first {plan.repeats} (as 'repeatability' in the budgets does)"
    ]
    if short:
        notes.append(
            f"the type-A interval did not come within {target:g} % in {plan.rounds} repeats: {', '.join(short)}"
        )
    return notes
