"""One capture of a run that no single record holds: what of it counts. Pure.

All of the record counts in which the gate is high, so that no kind of batch is left out more often than another; the
whole batches inside tell how power goes within one, and so what those that the record cuts make of its mean.
"""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from calibration.model import Delay
from experiments.capture_data import CaptureData, ReductionError, Wires, facts_of
from experiments.measure import frame_of, idle_guard, require_frame, require_idle, require_trigger
from experiments.moments import Moments, joined, moments
from experiments.shape import PartLook, folding, look_at
from experiments.shape.pieces import sums
from instruments import markers
from instruments.waveform import Record
from instruments.wording import counted

LONG, CONSECUTIVE, STEADY = "long", "consecutive", "steady"
"""Ways to put a run together (`CaptureData.method`); docs/long-runs.md says when which is right."""

FLAGS = {LONG: "", CONSECUTIVE: "consecutive-records", STEADY: "steady-power"}
LONG_RECORD = "long-record"
"""Flags of the choices that are made where a batch is longer than the record; docs/flags.md."""

PHASES = 16
"""Into how many stretches of equal length each whole batch is cut."""

PIECES = {LONG: 8, CONSECUTIVE: 8, STEADY: 16}
"""Into how many pieces of equal length the stretch of a capture is cut to see how steady the power is."""

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Part:
    """One capture of a run, reduced to sums. `data` holds no codes.

    `pieces` are the stretches of equal length whose sums make `window`, which is None where nothing of the capture
    counts. There are `batches` whole ones inside; `mean_batch` are the means of i v, i and v by phase over those but
    the first of a run, (3, PHASES), None where there is none or they have too few samples. `marks` are the gate's rise,
    if it is seen, and the ends of batches, in s from the first sample; `rise` says that they begin with the rise and
    `fall` that the gate's fall is seen. `idle` is the stretch before the rise, `look` what was seen of the shape of its
    power, where that was asked for.
    """

    data: CaptureData
    window: Moments | None
    pieces: tuple[Moments, ...]
    mean_batch: Floats | None
    batches: int
    marks: Floats
    start_s: float
    rise: bool
    fall: bool
    idle: Moments | None
    look: PartLook | None = None

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


def measure_part(data: CaptureData, wires: Wires, delay: Delay | None = None, *, shape: bool = False) -> Part:
    """Reduce one capture of a run, and look at its `shape` too. Raises ReductionError where it cannot be used.

    One made after the run is usable, and holds nothing.
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
    n = len(current.codes)
    start, stop = _stretch(seen, n, _shift(delay, dt_s))
    pieces: list[Moments] = []
    mean_batch, batches, look = None, 0, None
    if stop > start >= 0:
        if stop > n:
            raise ReductionError("the work, by its marks and their delay, lies outside the record")
        pieces = in_pieces(current, voltage, start, stop, PIECES[data.method])
        batches = max(0, len(seen.ends) - (seen.rise is None))
        mean_batch = _mean_batch(current, voltage, seen.ends)
        if shape and stop - start > 1:
            look = look_at(current, voltage, (start, stop), seen.rise, seen.fall, seen.ends)
    marks = np.concatenate(([] if seen.rise is None else [seen.rise], seen.ends)).astype(np.float64) * dt_s
    return Part(
        facts_of(data),
        joined(pieces) if pieces else None,
        tuple(pieces),
        mean_batch,
        batches,
        marks,
        start * dt_s,
        seen.rise is not None,
        seen.fall is not None,
        idle,
        look,
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
        raise ReductionError(
            f"{counted(outside or before, 'batch edge lies', 'batch edges lie')} outside the gate", "markers-extra"
        )
    if first:
        require_frame(data, frame)
    quiet = 0
    if rise is not None:
        dt_s = data.capture[wires.markers].preamble.x_increment_s
        woken = rise - math.ceil(data.device_busy_s / dt_s)
        quiet = max(0, min(woken, frame.start if frame is not None else woken))
    return _Seen(rise, fall, ends[before:], working), quiet


def _shift(delay: Delay | None, dt_s: float) -> tuple[int, int]:
    """By how many samples the gate's rise and its fall come after what they mark."""
    return (0, 0) if delay is None else (round(delay.rise_s / dt_s), round(delay.fall_s / dt_s))


def _stretch(seen: _Seen, n: int, shift: tuple[int, int]) -> tuple[int, int]:
    """The samples [start, stop) in which the device was at work."""
    if not seen.working:
        return 0, 0
    rise, fall = shift
    return 0 if seen.rise is None else seen.rise - rise, n if seen.fall is None else seen.fall - fall


def _mean_batch(current: Record, voltage: Record, ends: NDArray[np.int64]) -> Floats | None:
    """See `Part`; batches of any length are cut into stretches of equal ones."""
    if len(ends) < 2 or int(np.diff(ends).min()) < PHASES:
        return None
    cuts = folding.cut(ends, PHASES)
    summed = sums(current, voltage, cuts.flat)
    return np.array([(x.reshape(cuts.counts.shape) / cuts.counts).mean(axis=0) for x in summed])


def in_pieces(current: Record, voltage: Record, start: int, stop: int, count: int) -> list[Moments]:
    """Sum samples [start, stop) in `count` stretches as long as each other but for a sample, fewer of a short one."""
    count = max(1, min(count, (stop - start) // 2))
    cuts = [start + (stop - start) * k // count for k in range(count + 1)]
    return [moments(current, voltage, a, b) for a, b in itertools.pairwise(cuts)]
