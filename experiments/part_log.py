"""Where in the device's log of a run the batches of one capture lie, and how well they fit it. Pure.

The log holds every batch, the captures most of them: what lies between captures is known by its time, once the place
of each capture in the log is. An edge comes a little after its batch was logged, by as much as its line likes.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from experiments import clock_fit
from experiments.capture_data import ReductionError
from experiments.parts import Part
from instruments.wording import counted

Floats = NDArray[np.float64]

NEAR_S, NEAR_SHARE = 0.5, 1e-3
"""How far a capture may lie from where the host's polls have it in the run: their delays, and the rates of clocks."""

RATE_SHARE = 1e-3
"""By how much an interval alone may differ from that of the log, beside the latency of its edges: no clock is so
wrong."""

FEW, MOST = 50, 200
"""Edges by which a place in a long log is looked for, and places at which all of them are then compared."""


@dataclass(frozen=True)
class LogFit:
    """One capture in the device's log: `place` is the entry of its first mark.

    Between the first and the last end of a batch that fit, `scope_s` passed by the oscilloscope and `logged_s` by the
    device. `left_s2` is the sum of squares of what the edges are off from their straight line, `dof` their number less
    two. `cuts` say at which phase of a batch, 0 to 1, each piece of the capture begins and the last one ends, and how
    long that batch is, s: (pieces + 1, 2).
    """

    place: int
    scope_s: float
    logged_s: float
    left_s2: float
    dof: int
    cuts: Floats


def fit(part: Part, log_s: Floats, begun_s: float = math.nan) -> LogFit | None:
    """Find a capture in the log: the gate's rise and the end of each batch, s; None where it shows no edges.

    The first capture begins the log, the last one ends it; one between lies where the edges fit best, near `begun_s`,
    when it began after the gate's rise by the host (NaN: anywhere). One odd edge is no reason to refuse a capture
    (`clock_fit`). Raises ReductionError where the edges are not those of the log.
    """
    marks, dt_s = part.marks, part.data.capture.dt_s
    if len(marks) > len(log_s):
        raise ReductionError(
            f"extra batch edges: the record alone shows {counted(len(marks) - 1, 'batch')}, the device "
            f"logged {len(log_s) - 1}",
            "markers-extra",
        )
    if part.rise and part.fall and len(marks) != len(log_s):
        raise ReductionError(
            f"missing batch edges: the record holds the whole run and shows {counted(len(marks) - 1, 'batch')}, the "
            f"device logged {len(log_s) - 1}",
            "markers-missing",
        )
    if not len(marks):
        return None
    after_s = part.start_s + part.seconds - float(marks[-1])
    place = 0 if part.rise else len(log_s) - len(marks) if part.fall else _place(marks, log_s, begun_s, after_s, dt_s)
    logged = log_s[place : place + len(marks)]
    _require(marks, logged, dt_s)
    ends = slice(1, None) if part.rise else slice(None)  # the gate's own edge may take another time than a toggle
    scope_s, logged_s, left_s2, dof = _intervals(marks[ends], logged[ends], _tolerance_s(logged, dt_s))
    return LogFit(place, scope_s, logged_s, left_s2, dof, _cuts(part, log_s, logged))


def _tolerance_s(logged: Floats, dt_s: float) -> float:
    """As that of `clock_fit.fit`."""
    usual_s = float(np.median(np.diff(logged))) if len(logged) > 1 else 0.0
    return 3 * dt_s + max(clock_fit.SHIFT_SHARE * usual_s, clock_fit.JITTER_S)


def _off(marks: Floats, logged: Floats) -> Floats:
    """How far edges are from where the log has them, up to a constant; of shape (..., n)."""
    left = marks - logged
    return np.asarray(left - np.median(left, axis=-1, keepdims=True))


def _place(marks: Floats, log_s: Floats, begun_s: float, after_s: float, dt_s: float) -> int:
    """The place at which the marks fit best, odd ones counting no more than any.

    The gate is high in all of the record, `after_s` on from the last mark: batches that last as long as each other fit
    anywhere, but nothing of the record lies outside the log.
    """
    slack_s = 3 * dt_s + clock_fit.JITTER_S
    first = int(np.searchsorted(log_s, log_s[0] + marks[0] - slack_s))
    last = int(np.searchsorted(log_s, log_s[-1] - after_s + slack_s, side="right")) - len(marks)
    last = min(max(last, 0), len(log_s) - len(marks))
    first = min(first, last)
    if math.isfinite(begun_s):
        near_s = NEAR_S + NEAR_SHARE * begun_s
        low, high = np.searchsorted(log_s, [begun_s + marks[0] - near_s, begun_s + marks[0] + near_s])
        first, last = min(max(int(low), first), last), min(max(int(high), int(low), first), last)
    few = min(len(marks), FEW)
    starts = np.lib.stride_tricks.sliding_window_view(log_s[first : last + few], few)
    rough = np.minimum(np.abs(_off(marks[:few], starts)), _tolerance_s(log_s, dt_s)).sum(axis=1)
    best = np.argsort(rough, kind="stable")[:MOST] + first
    whole = [
        float(
            np.minimum(
                np.abs(_off(marks, log_s[at : at + len(marks)])), _tolerance_s(log_s[at : at + len(marks)], dt_s)
            ).sum()
        )
        for at in best
    ]
    return int(best[int(np.argmin(whole))])


def _require(marks: Floats, logged: Floats, dt_s: float) -> None:
    """Raise ReductionError where the marks are not those of the log."""
    said = "its batch edges do not fit the device's log"
    found, seen, known = clock_fit.fit(marks, logged, dt_s), np.diff(marks), np.diff(logged)
    if found is not None:
        if found.problem is not None:
            code, why = found.problem
            if np.min(seen) < np.min(known) / 2:
                code = "markers-extra"
            elif np.max(seen) > 1.5 * np.max(known):
                code = "markers-missing"
            raise ReductionError(f"{said}: {why}", code)
        return
    over = np.abs(seen - known) - (3 * dt_s + RATE_SHARE * known + clock_fit.JITTER_S)
    if len(over) and np.max(over) > 0:
        worst = int(np.argmax(over))
        raise ReductionError(
            f"{said}: a batch of {seen[worst] * 1e3:.4g} ms where, at best, one of {known[worst] * 1e3:.4g} ms was "
            "logged; an edge is missing or extra, or the lines are not of this run",
            "markers-missing" if seen[worst] > known[worst] else "markers-extra",
        )


def _intervals(marks: Floats, logged: Floats, tolerance_s: float) -> tuple[float, float, float, int]:
    """See `LogFit`: times from the first to the last edge that fits, and how these scatter about their line."""
    if len(marks) < 2:
        return 0.0, 0.0, 0.0, 0
    good = np.abs(_off(marks, logged)) <= tolerance_s
    if good.sum() < 2:
        return 0.0, 0.0, 0.0, 0
    y, x = marks[good], logged[good]
    about, over = x - x.mean(), y - y.mean()
    left = over - about * (float(about @ over) / float(about @ about))
    return float(y[-1] - y[0]), float(x[-1] - x[0]), float(left @ left), len(x) - 2


def _cuts(part: Part, log_s: Floats, logged: Floats) -> Floats:
    """See `LogFit`."""
    at_s = part.start_s + np.cumsum([0.0, *(m.duration_s for m in part.pieces)]) + np.median(logged - part.marks)
    batch = np.clip(np.searchsorted(log_s, at_s, side="right") - 1, 0, len(log_s) - 2)
    lengths_s = log_s[batch + 1] - log_s[batch]
    return np.column_stack((np.clip((at_s - log_s[batch]) / lengths_s, 0.0, 1.0), lengths_s))
