"""What records make of the power of a run that they cut in pieces, batches and all. Pure; docs/long-runs.md."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from calibration.model import Calibration
from experiments.moments import corrected_power_w
from experiments.parts import LONG, PHASES, PIECES, Part

if TYPE_CHECKING:
    from experiments.long_runs import MeasuredRun

LEAST_IN_STEP = 3
"""Records from which it is told whether power changes in step with them."""

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Cuts:
    """By how much the power of each piece of each part is too high, J: that of the batches which it cuts is not that of
    whole ones. `limit_w` limits the error of all of that in the power of the run."""

    excess_j: tuple[Floats, ...]
    limit_w: float

    @property
    def of_parts(self) -> Floats:
        """The sum of each part, J."""
        return np.array([float(each.sum()) for each in self.excess_j])


def cuts_of(run: MeasuredRun, calibration: Calibration) -> Cuts:
    """How far the pieces of batches at the ends of records are from the mean over a batch, by the mean batch.

    The log tells at which phase of which batch a record begins and ends. Where that is any phase, the pieces average
    out; where records are in step with the batches, they are always the same ones, and do not. Half of the whole is the
    limit: the batches that are cut are others than those of the mean batch.
    """
    none = tuple(np.zeros(len(p.pieces)) for p in run.parts)
    profile = _mean_batch(run, calibration)
    if profile is None or run.data.method != LONG:
        return Cuts(none, 0.0)
    # Energy up to a phase, above that of a power that stays at the mean; by the length of a batch.
    above = np.concatenate(([0.0], np.cumsum(profile - profile.mean()))) / PHASES
    phases = np.linspace(0.0, 1.0, PHASES + 1)
    excess, unknown_w = [], 0.0
    for part, fit, nothing in zip(run.parts, run.fits or (None,) * len(none), none, strict=True):
        if fit is None:  # a batch may be cut at the worst phase at either end
            unknown_w += 2 * float(np.abs(above).max()) / max(part.batches, 1) * part.seconds / run.captured_s
            excess.append(nothing)
        else:
            excess.append(np.diff(np.interp(fit.cuts[:, 0], phases, above) * fit.cuts[:, 1]))
    all_w = math.fsum(float(each.sum()) for each in excess) / run.captured_s
    return Cuts(tuple(excess), abs(all_w) / 2 + unknown_w)


def _mean_batch(run: MeasuredRun, calibration: Calibration) -> Floats | None:
    """Power by phase over the whole batches of all parts, W, (PHASES,); None without one."""
    found = [(p.mean_batch, p.batches - p.rise, p.data.at_s) for p in run.parts if p.mean_batch is not None]
    if not found:
        return None
    current, voltage = calibration.current, calibration.voltage
    rows = []
    for (vi, i, v), _, at_s in found:
        zi, zv = current.offset.at(at_s), voltage.offset.at(at_s)
        rows.append((vi - zi * v - zv * i + zi * zv) / (current.gain.value * voltage.gain.value))
    return np.asarray(np.average(rows, axis=0, weights=[n for _, n, _ in found]))


def in_step(run: MeasuredRun, calibration: Calibration, cuts: Cuts) -> tuple[float, float]:
    """How far the power between two records may be from that within, and its degrees of freedom; 0 where too few tell.

    A change in step with the records is the same in each of them, and no scatter between them shows it; but it is seen
    within them. The pieces of a record at the same place are averaged over all records; what lies between records is
    one more place like these, and is off by as much as one of them from the others (a prediction interval).
    """
    rows = []
    for part, excess in zip(run.parts, cuts.excess_j, strict=True):
        if not part.rise and not part.fall and len(part.pieces) == PIECES[LONG]:
            rows.append(watts_of(part, calibration) - excess / np.array([m.duration_s for m in part.pieces]))
    if len(rows) < LEAST_IN_STEP:
        return 0.0, 1.0
    means = np.mean(rows, axis=0)
    return float(np.std(means, ddof=1)) * math.sqrt(1 + 1 / len(means)), len(means) - 1.0


def watts_of(part: Part, calibration: Calibration) -> Floats:
    at_s = part.data.at_s
    return np.array([corrected_power_w(m, calibration.current, calibration.voltage, at_s) for m in part.pieces])
