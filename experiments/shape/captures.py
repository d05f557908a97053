"""What is kept of one capture of a run for the shape of its power: as much of a long record as of a short one. Pure."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from experiments.shape import folding
from experiments.shape.folding import LEAST_SAMPLES, LEVELS, Folded
from experiments.shape.pieces import peak, sums, values
from experiments.shape.settling import Settling, near_fall, settling
from instruments.waveform import Record

Floats = NDArray[np.float64]
Indices = NDArray[np.int64]

STRETCHES, GROUPS = 100, 25
"""Into how many stretches of equal length the work in a capture is cut, and into how many groups of whole batches at
most."""


@dataclass(frozen=True)
class Blocks:
    """Neighbouring stretches of a capture: where they begin and the last one ends, s from the first sample, (k + 1,);
    the means of i v, i and v in each, (k,)."""

    cuts_s: Floats
    vi: Floats
    i: Floats
    v: Floats


@dataclass(frozen=True)
class PartLook:
    """What was seen of one capture of a run before it is calibrated: readings in A, V and V A.

    `peak_i` and `peak_v` are those of the sample with the highest product. `stretches` are equally long, `groups` are
    of whole batches. `fold` lays the whole batches but a run's first upon each other: so many, as `whole` counts, of
    which the shortest has `shortest` samples and all last `folded_s`; None without one, or where they are too short.
    `settling` is that of the fall after the gate, None where the capture does not show it.
    """

    peak_i: float
    peak_v: float
    stretches: Blocks
    groups: Blocks | None
    fold: Folded | None
    whole: int
    shortest: int
    folded_s: float
    settling: Settling | None


def look_at(
    current: Record, voltage: Record, work: tuple[int, int], rise: int | None, fall: int | None, ends: Indices
) -> PartLook:
    """Look at the samples `work`, [start, stop), in which a device was busy; they are two at least.

    `rise` and `fall` are the samples of the gate's edges, None where they are not in this capture, `ends` those of the
    batches.
    """
    start, stop = work
    dt_s = current.preamble.x_increment_s
    pieces = np.unique(np.linspace(start, stop, min(STRETCHES, stop - start) + 1).astype(np.int64))
    edges = np.asarray(ends if rise is None else np.append(rise, ends), dtype=np.int64)
    settles = None
    if fall is not None:
        first, last = near_fall(start, fall, len(current), dt_s)
        near = values(current, slice(first, last)) * values(voltage, slice(first, last))
        settles = settling(near, 0, fall - first, dt_s)
    groups = None
    if len(edges) > 1:
        chosen = np.unique(np.linspace(0, len(edges) - 1, min(GROUPS, len(edges) - 1) + 1).astype(np.int64))
        groups = _blocks(current, voltage, edges[chosen])
    later = edges if rise is None else edges[1:]
    lengths = np.diff(later)
    fold = None
    if len(lengths) and (most := int(lengths.min()) // LEAST_SAMPLES) >= LEVELS[-1]:
        cuts = folding.cut(later, next(bins for bins in LEVELS if bins <= most))
        fold = folding.fold(cuts, *sums(current, voltage, cuts.flat))
    return PartLook(
        *peak(current, voltage, start, stop),
        _blocks(current, voltage, pieces),
        groups,
        fold,
        len(lengths),
        int(lengths.min()) if len(lengths) else 0,
        float(lengths.sum()) * dt_s,
        settles,
    )


def _blocks(current: Record, voltage: Record, cuts: Indices) -> Blocks:
    counts = np.diff(cuts)
    vi, i, v = (x / counts for x in sums(current, voltage, cuts))
    cuts_s: Floats = cuts.astype(np.float64) * current.preamble.x_increment_s
    return Blocks(cuts_s, vi, i, v)
