"""What is seen of a run's power while its codes are there, and its shape once they are calibrated. Pure."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from calibration.model import Channel
from experiments.measure import Measured
from experiments.shape import folding, steady
from experiments.shape.folding import Folded
from experiments.shape.pieces import peak, sums, values
from experiments.shape.rows import RunShape
from experiments.shape.settling import Settling, near_fall, settling


@dataclass(frozen=True)
class Look:
    """What was seen of a run before it is calibrated: readings in A, V and V A."""

    peak_i: float
    peak_v: float
    mean_i: float
    mean_v: float
    mean_vi: float
    steady_from_s: float
    settling: Settling
    fold: Folded | None
    batch_s: float
    why: str

    def shape(self, current: Channel, voltage: Channel, at_s: float) -> RunShape:
        """Apply the calibration of the run."""
        zi, zv = current.offset.at(at_s), voltage.offset.at(at_s)
        gain = current.gain.value * voltage.gain.value
        peak_w = (self.peak_i - zi) * (self.peak_v - zv) / gain
        mean_w = (self.mean_vi - zi * self.mean_v - zv * self.mean_i + zi * zv) / gain
        folded = None if self.fold is None else folding.calibrated(self.fold, current, voltage, at_s)
        return RunShape(peak_w, mean_w, self.steady_from_s, self.settling, folded, self.batch_s, self.why)


def look(measured: Measured) -> Look | None:
    """Look at the power of a measured loop whose codes are still there; None where there is none in one record."""
    loop, wires, window = measured.loop, measured.wires, measured.window
    if loop is None or wires is None or window is None or measured.data.method:
        return None
    capture = measured.data.capture
    current, voltage = capture.records[wires.current], capture.records[wires.voltage]
    dt_s = capture.dt_s
    first, last = near_fall(loop.start, loop.stop, len(current), dt_s)
    fall = values(current, slice(first, last)) * values(voltage, slice(first, last))
    settles = settling(fall, 0, loop.stop - first, dt_s)
    edges = np.array([loop.start, *loop.batch_ends], dtype=np.int64)
    blocks = steady.blocks_of(loop.start, loop.stop, edges)
    cuts, why = folding.bins_of(edges, dt_s, settles)
    steady_s, fold = math.nan, None
    if len(blocks) > 1:
        means = sums(current, voltage, blocks)[0] / (blocks[1:] - blocks[:-1])
        steady_s = steady.steady_since(means, blocks) * dt_s
        fold = folding.fold(cuts, *sums(current, voltage, cuts.flat)) if cuts is not None else None
    return Look(
        *peak(current, voltage, loop.start, loop.stop),
        window.mean_i,
        window.mean_v,
        window.mean_vi,
        steady_s,
        settles,
        fold,
        loop.samples * dt_s / max(len(loop.batch_ends), 1),
        why,
    )
