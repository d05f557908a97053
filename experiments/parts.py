"""One capture of a run that no single record holds: what of it counts, and whether it fits the device's log. Pure.

Of each capture only what it bounds itself is used. In a long run that is from the gate's rise, or the first end of a
batch, to the last end of a batch, or the gate's fall: whole batches, on the oscilloscope's time base alone. Where a
batch is longer than the record it is all of the record in which the gate is high.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from calibration.model import Delay
from experiments.energy import (
    CaptureData,
    Moments,
    ReductionError,
    Wires,
    facts_of,
    frame_of,
    idle_guard,
    moments,
    require_frame,
    require_idle,
    require_trigger,
)
from instruments import markers
from instruments.waveform import Record

LONG, CONSECUTIVE, STEADY = "long", "consecutive", "steady"
"""Ways to put a run together (`CaptureData.method`); docs/long-runs.md says when which is right."""

FLAGS = {LONG: "", CONSECUTIVE: "consecutive-records", STEADY: "steady-power"}
LONG_RECORD = "long-record"
"""Flags of the choices that are made where a batch is longer than the record; docs/flags.md."""

PIECES = {LONG: 8, CONSECUTIVE: 8, STEADY: 16}
"""Into how many pieces of equal length the stretch of a capture is cut to see how steady the power is."""

RATE_SHARE = 1e-3
LATENCY_S, LATENCY_SHARE = 0.5e-3, 0.25
"""How much an interval between edges may differ from that of the device's log: by the rate of its clock, and by the
latency of a line, at most a share of a batch."""

FEW, MOST = 50, 2000
"""Intervals by which a place in a long log is looked for, and places at which all of them are then compared."""


@dataclass(frozen=True)
class Part:
    """One capture of a run, reduced to sums. `data` holds no codes.

    `pieces` are the stretches of equal length whose sums make `window`, which is None where nothing of the capture
    counts. `marks` are the gate's rise, if it is seen, and the ends of batches, in s from the first sample; `whole`
    says that they begin with the rise and `last` that the gate's fall is seen. `idle` is the stretch before the rise.
    """

    data: CaptureData
    window: Moments | None
    pieces: tuple[Moments, ...]
    batches: int
    marks: NDArray[np.float64]
    start_s: float
    rise: bool
    fall: bool
    idle: Moments | None

    @property
    def seconds(self) -> float:
        """How long the stretch is that counts."""
        return 0.0 if self.window is None else self.window.duration_s


@dataclass(frozen=True)
class _Seen:
    """Samples of the gate's rise and fall (None: not seen here) and of the ends of batches between them."""

    rise: int | None
    fall: int | None
    ends: NDArray[np.int64]
    working: bool


def measure_part(data: CaptureData, wires: Wires, delay: Delay | None = None) -> Part:
    """Reduce one capture of a run. Raises ReductionError with the reason when it cannot be used.

    A capture of a long run in which no whole batch lies is usable, and holds nothing; so is one made after the run.
    """
    if data.problem is not None:
        raise ReductionError(data.problem)
    current, voltage = data.capture.records[wires.current], data.capture.records[wires.voltage]
    dt_s = current.preamble.x_increment_s
    seen, quiet = _seen(data, wires)
    idle = None
    if seen.rise is not None:
        require_trigger(data, seen.rise, dt_s)
        guard = idle_guard(quiet, dt_s)
        require_idle(quiet, guard, dt_s)
        idle = moments(current, voltage, 0, quiet - guard)
    start, stop, batches = _stretch(data.method, seen, len(current.codes), delay, dt_s)
    pieces: list[Moments] = []
    if stop > start >= 0 and (batches > 0 or data.method != LONG):
        if stop > len(current.codes):
            raise ReductionError("the work, by its marks and their delay, lies outside the record")
        pieces = in_pieces(current, voltage, start, stop, PIECES[data.method])
    marks = np.concatenate(([] if seen.rise is None else [seen.rise], seen.ends)).astype(np.float64) * dt_s
    return Part(
        facts_of(data),
        joined(pieces) if pieces else None,
        tuple(pieces),
        batches if pieces else 0,
        marks,
        start * dt_s,
        seen.rise is not None,
        seen.fall is not None,
        idle,
    )


def _seen(data: CaptureData, wires: Wires) -> tuple[_Seen, int]:
    """Decode the lines of one capture, and up to which sample the device was idle before the gate's rise."""
    bits = data.capture.records[wires.markers].codes
    at, level = markers.edges(bits, wires.gate_bit)
    ends, _ = markers.edges(bits, wires.batch_bit)
    first = data.part == 0
    if first and not len(at):
        raise ReductionError("the gate line never moves in the record that it triggered", "markers-missing")
    if first and level[0] == 0:
        raise ReductionError("the gate is already high at the record's start: the window is cut", "markers-cut")
    if not first and len(at) and level[0] == 1:
        raise ReductionError("the gate rises in the middle of the run: a glitch or a second run", "markers-glitch")
    if len(at) > 1 + first:
        raise ReductionError(
            f"the gate has {len(at)} edges where {1 + first} at most were expected: a glitch or a second run",
            "markers-glitch",
        )
    rise = int(at[0]) if first else None
    fall = int(at[-1]) if len(at) and level[-1] == 0 else None
    working = first or fall is not None or bool((int(bits[0]) >> wires.gate_bit) & 1)
    frame = frame_of(data, wires) if first else None
    outside = int((ends > fall).sum()) if fall is not None else 0 if working else len(ends)
    before = int((ends < rise).sum()) if rise is not None else 0
    if outside or (before and frame is None):
        raise ReductionError(f"{outside or before} batch edges lie outside the gate", "markers-extra")
    if first:
        require_frame(data, frame)
    quiet = 0
    if rise is not None:
        dt_s = data.capture[wires.markers].preamble.x_increment_s
        woken = rise - math.ceil(data.device_busy_s / dt_s)
        quiet = max(0, min(woken, frame.start if frame is not None else woken))
    return _Seen(rise, fall, ends[before:], working), quiet


def _stretch(method: str, seen: _Seen, n: int, delay: Delay | None, dt_s: float) -> tuple[int, int, int]:
    """The samples [start, stop) that count, moved back by the delays of their marks, and the whole batches inside."""
    shift = (0.0, 0.0) if delay is None else (delay.rise_s, delay.fall_s)
    rise, fall = (round(s / dt_s) for s in shift)
    toggle = round(sum(shift) / 2 / dt_s)
    if not seen.working:
        return 0, 0, 0
    if method != LONG:
        start = 0 if seen.rise is None else seen.rise - rise
        return start, n if seen.fall is None else seen.fall - fall, len(seen.ends)
    if not len(seen.ends):
        return 0, 0, 0
    start, batches = (seen.rise - rise, len(seen.ends)) if seen.rise is not None else (
        int(seen.ends[0]) - toggle,
        len(seen.ends) - 1,
    )  # fmt: skip
    stop = int(seen.ends[-1]) - toggle if seen.fall is None else seen.fall - fall
    return max(start, 0), stop, batches


def in_pieces(current: Record, voltage: Record, start: int, stop: int, count: int) -> list[Moments]:
    """Sum samples [start, stop) in `count` stretches as long as each other but for a sample, fewer of a short one."""
    count = max(1, min(count, (stop - start) // 2))
    cuts = [start + (stop - start) * k // count for k in range(count + 1)]
    return [moments(current, voltage, a, b) for a, b in itertools.pairwise(cuts)]


def joined(stretches: Sequence[Moments]) -> Moments:
    """Add the sums of stretches on one scale: whole numbers, so that nothing is lost."""
    first = stretches[0]
    return replace(
        first,
        n=sum(m.n for m in stretches),
        sum_i=sum(m.sum_i for m in stretches),
        sum_v=sum(m.sum_v for m in stretches),
        sum_vi=sum(m.sum_vi for m in stretches),
        highest_i=max(m.highest_i for m in stretches),
    )


def against_log(part: Part, log_s: NDArray[np.float64]) -> ReductionError | None:
    """Compare the edges of one capture with the device's log: the gate's rise and the end of each batch, s.

    The intervals between the edges must be those of consecutive batches: of the first ones from the rise on, of the
    last ones up to the fall, of any ones between.
    """
    found, logged = np.diff(part.marks), np.diff(log_s)
    if len(found) > len(logged):
        return ReductionError(
            f"extra batch edges: the record alone shows {len(found)} batches, the device logged {len(logged)}",
            "markers-extra",
        )
    if not len(found):
        return None
    dt_s = part.data.capture.dt_s
    limit_s = 2 * dt_s + RATE_SHARE * found + np.minimum(LATENCY_S, LATENCY_SHARE * found)
    if part.rise and part.fall and len(found) != len(logged):
        return ReductionError(
            f"missing batch edges: the record holds the whole run and shows {len(found)} batches, the device logged "
            f"{len(logged)}",
            "markers-missing",
        )
    if part.rise:
        off_s = np.abs(logged[: len(found)] - found)
    elif part.fall:
        off_s = np.abs(logged[len(logged) - len(found) :] - found)
    else:
        off_s = _nearest(found, logged, limit_s)
    if np.all(off_s <= limit_s):
        return None
    worst = int(np.argmax(off_s - limit_s))
    return ReductionError(
        f"its batch edges do not fit the device's log: a batch of {found[worst] * 1e3:.4g} ms where, at best, one is "
        f"{off_s[worst] * 1e3:.3g} ms longer or shorter; an edge is missing or extra, or the lines are not of this run",
        "markers-missing" if found[worst] > np.median(logged) else "markers-extra",
    )


def _nearest(
    found: NDArray[np.float64], logged: NDArray[np.float64], limit_s: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Differences from the consecutive intervals of the log that fit best."""
    few = min(len(found), FEW)
    places = np.lib.stride_tricks.sliding_window_view(logged[: len(logged) - len(found) + few], few)
    over = np.max(np.abs(places - found[:few]) - limit_s[:few], axis=1)
    best: NDArray[np.float64] | None = None
    for at in np.argsort(over, kind="stable")[: max(1, min(MOST, int((over <= 0).sum())))]:
        off_s = np.abs(logged[at : at + len(found)] - found)
        if best is None or np.max(off_s - limit_s) < np.max(best - limit_s):
            best = off_s
        if np.all(off_s <= limit_s):
            break
    assert best is not None
    return best
