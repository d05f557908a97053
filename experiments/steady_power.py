"""Whether the power of one record may stand for the time outside it, and how far it may be off there. Pure.

A record shows that power comes and goes only where that is quicker than the record is long. What is slower shows as a
bend, which is followed beyond the record's end; and each record of a row shows another stretch of it, also one that is
refused for it. docs/long-runs.md says what becomes of that.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from calibration.model import Calibration
from experiments.capture_data import ReductionError
from experiments.moments import Moments
from experiments.run_cuts import watts_of

if TYPE_CHECKING:
    from experiments.parts import Part

NOT_STEADY = "not-steady"
"""Code of a record whose power goes up and down, so that it says nothing of the time outside it."""

LEAST_UNSEEN = 5e-3
"""Least limit of the relative difference between the power that was not recorded and that which was: the mean power of
a board at one and the same work differs by some tenths of a percent from one second to the next run."""

UNSTEADY = 0.05
"""Relative half-range of a steady power's pieces beyond which it is none, and share by which the power outside may be
expected to be off."""

MOST_SETTLING = 0.25
"""Share of the record's work that may pass before the power is steady."""

CHANCE = 0.01
"""Probability that pieces which scatter at random are taken for a bend."""

FEWEST = 6
"""Pieces below which no bend can be told from their scatter."""

Floats = NDArray[np.float64]


class NotSteadyError(ReductionError):
    """The power of a record is not steady; `part` is what the record shows."""

    def __init__(self, part: Part) -> None:
        power = _power(part.pieces)
        super().__init__(
            f"the power is not steady in the record: its pieces go from {power.min():.3g} to {power.max():.3g} V A "
            "(uncorrected), so that nothing is said of the time outside it: choose --long-batch consecutive or "
            "longer-record",
            NOT_STEADY,
        )
        self.part = part


def steady_from(pieces: Sequence[Moments], run_s: float) -> int | None:
    """From which piece of a record's work on the power is steady, in a run of `run_s` by its device; None: nowhere.

    The later half must agree with the earlier one to `LEAST_UNSEEN`, no piece may lie off by more than `UNSTEADY`, nor
    the power outside by more than that where a bend goes on.
    """
    power = _power(pieces)
    for start in range(math.floor(MOST_SETTLING * len(power)) + 1):
        rest = power[start:]
        half = len(rest) // 2
        mean = float(rest.mean())
        if (
            abs(float(rest[:half].mean() - rest[half:].mean())) <= LEAST_UNSEEN * abs(mean)
            and half_range(rest) <= UNSTEADY
            and _beyond(rest, _ends(pieces, start, run_s)) <= UNSTEADY * abs(mean)
        ):
            return start
    return None


def steady_mean_w(part: Part, others: Sequence[Part], calibration: Calibration) -> tuple[float, float]:
    """The steady power of a record, W, and the limit of how far that outside the record may be off it.

    `others` are the records of the same network and batch in other runs: of a steady one its level counts, of one that
    is not each piece; of another session, whose zero may be another one, their range alone. Raises NotSteadyError.
    """
    run_s = part.data.device_s
    start = steady_from(part.pieces, run_s)
    if start is None:
        raise NotSteadyError(part)
    watts = watts_of(part, calibration)[start:]
    mean_w = float(watts.mean())
    reach = [LEAST_UNSEEN * abs(mean_w), half_range(watts) * abs(mean_w)]
    reach.append(_beyond(watts, _ends(part.pieces, start, run_s)))
    for other in others:
        seen, from_piece = watts_of(other, calibration), steady_from(other.pieces, other.data.device_s)
        same = other.data.session == part.data.session
        if from_piece is not None:
            reach.append(abs(float(seen[from_piece:].mean()) - mean_w) if same else 0.0)
        elif len(seen) > 1:  # the board comes up in the first
            reach.append(float(np.abs(seen[1:] - mean_w).max()) if same else 2 * half_range(seen[1:]) * abs(mean_w))
    return mean_w, max(reach)


def half_range(values: Floats) -> float:
    """Half of the distance between the smallest and the largest value, relative to their mean."""
    return float(np.ptp(values)) / 2 / abs(float(values.mean()))


def _power(pieces: Sequence[Moments]) -> Floats:
    return np.array([m.mean_vi for m in pieces])


def _ends(pieces: Sequence[Moments], start: int, run_s: float) -> tuple[float, float]:
    """Begin and end of the time outside the record, in pieces from the first of those that count."""
    piece_s = pieces[0].duration_s
    end = sum(m.duration_s for m in pieces) / piece_s
    return end - start, max(end, run_s / piece_s) - start


def _beyond(power: Floats, outside: tuple[float, float]) -> float:
    """How far the mean power between `outside`, in pieces, is off that of the pieces if their bend goes on.

    The bend is a parabola through them; 0 where it explains no more of their scatter than chance does (F test with
    two degrees of freedom above, whose quantile has a closed form).
    """
    n = len(power)
    if n < FEWEST:
        return 0.0
    at = np.arange(n) + 0.5
    bend = np.polynomial.Polynomial.fit(at, power, 2)
    left, whole = float(np.sum((power - bend(at)) ** 2)), float(np.sum((power - power.mean()) ** 2))
    free = n - 3
    if whole - left <= left * (CHANCE ** (-2 / free) - 1):
        return 0.0
    begin, end = outside
    if end <= begin:
        return 0.0
    total = bend.integ()
    return abs(float(total(end) - total(begin)) / (end - begin) - float(power.mean()))
