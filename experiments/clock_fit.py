"""The device's clock against the record's: do the batch edges lie where the device logged the batches' ends? Pure.

Both clocks run at rates that differ by some parts in 10^5, and each edge comes a little after its batch was logged.
So the edges' times are a straight line of the logged ones; what is left is jitter of the line and of the device. A
count that agrees proves little: one edge may be missing and another be a glitch, or the log be that of another run.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from calibration.statistics import deviation, mean, median

Floats = NDArray[np.float64]

JITTER_S = 2e-3
"""Latency of one edge: a line behind USB takes up to two frames of 1 ms."""

SHIFT_SHARE = 0.35
"""Share of the usual batch beyond which an edge is not that of its batch."""

SCATTER_SHARE = 0.25
"""Scatter of all edges, as a share of the usual batch, beyond which they do not follow the log."""

RATE_LIMIT = 0.01
"""No two working clocks differ by this much: the slowest slewing is 0.05 %, quartz 0.01 %."""

LEAST = 3
"""Batches below which there is nothing left to compare with a line."""


@dataclass(frozen=True)
class ClockFit:
    """Record's time = (1 + rate) x device's time + constant, over `edges` batch ends.

    `scatter_s` is the scatter of what is left (by its median, as a standard deviation), `largest_s` the most of it,
    `u_rate` the standard uncertainty of the rate. `odd` counts the edges that are no batch's, and `adjacent` the most
    of them in a row on one side; `tolerance_s` is the limit for that.
    """

    edges: int
    rate: float
    u_rate: float
    scatter_s: float
    largest_s: float
    tolerance_s: float
    odd: int
    adjacent: int
    batch_s: float

    @property
    def problem(self) -> tuple[str, str] | None:
        """Code and reason why the edges are not those of the log; None where they are.

        One edge alone may be late by anything: a device that is interrupted between its log and its line.
        """
        said = (
            f"{self.odd} of {self.edges} edges are more than {self.tolerance_s * 1e3:.3g} ms from where the device "
            f"logged the batches' ends (most {self.largest_s * 1e3:.4g} ms, scatter {self.scatter_s * 1e3:.3g} ms, "
            f"batches of {self.batch_s * 1e3:.4g} ms, rate {self.rate * 1e6:+.0f} ppm)"
        )
        foreign = self.scatter_s > max(SCATTER_SHARE * self.batch_s, JITTER_S)
        most = RATE_LIMIT + 3 * self.u_rate + 2 * JITTER_S / (self.edges * self.batch_s)
        if abs(self.rate) > most or (foreign and 2 * self.odd >= self.edges):
            return "wrong-run", f"the batch edges are those of another run than the device's log: {said}"
        if self.adjacent >= 2:
            return (
                "markers-shifted",
                f"as many batch edges as the device logged, but some missing and as many extra: {said}",
            )
        return None


def fit(edges_s: Floats, log_s: Floats, dt_s: float) -> ClockFit | None:
    """Fit the times of the batch edges, (n,), against those of the log, (n,); None below `LEAST` of them.

    None too where the log has batches shorter than the record's sampling period `dt_s`, each of which yet has its edge:
    such a log counts and tells no times. No clock is off by much, so that a line of slope 1 through the median tells
    the edges that are far away, which half of them may be; the rate is that of least squares through the others.
    """
    n = len(edges_s)
    if n < LEAST or n != len(log_s):
        return None
    x, y = log_s - log_s[0], edges_s - edges_s[0]
    batch_s = median(x[1:] - x[:-1])
    if batch_s < dt_s:
        return None
    tolerance_s = 3 * dt_s + max(SHIFT_SHARE * batch_s, JITTER_S)
    left = y - x
    left -= median(left)
    good = np.abs(left) <= tolerance_s
    count = int(np.count_nonzero(good))
    near = good if count < n else slice(None)  # usually all are, and nothing need be picked
    slope, u_rate = 1.0, 0.0
    if count >= LEAST:
        about = x[near] - mean(x[near])
        spread = float(about @ about)
        slope = float(about @ y[near]) / spread
        left = y - slope * x
        left -= median(left[near])
        u_rate = max(deviation(left[near]), dt_s / math.sqrt(12)) / math.sqrt(spread)
    off = np.abs(left)
    largest_s = float(np.maximum.reduce(off))
    odd = adjacent = 0
    if largest_s > tolerance_s:
        side = np.sign(left) * (off > tolerance_s)
        odd, adjacent = int(np.count_nonzero(side)), _longest(side)
    return ClockFit(
        n,
        slope - 1.0,
        u_rate,
        1.4826 * median(off),
        largest_s,
        tolerance_s,
        odd,
        adjacent,
        batch_s,
    )


def _longest(side: Floats) -> int:
    """Most in a row that lie beyond the tolerance on the same side."""
    cuts = np.flatnonzero(np.diff(side)) + 1
    return max((len(run) for run in np.split(side, cuts) if run[0] != 0), default=0)
