"""One capture of a run that no single record holds: what of it counts. Pure.

All of the record counts in which the gate is high, so that no kind of batch is left out more often than another; the
whole batches inside, from the gate's rise or the first end of a batch to the last one, are summed apart.
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
from instruments import markers
from instruments.waveform import Record

LONG, CONSECUTIVE, STEADY = "long", "consecutive", "steady"
"""Ways to put a run together (`CaptureData.method`); docs/long-runs.md says when which is right."""

FLAGS = {LONG: "", CONSECUTIVE: "consecutive-records", STEADY: "steady-power"}
LONG_RECORD = "long-record"
"""Flags of the choices that are made where a batch is longer than the record; docs/flags.md."""

PIECES = {LONG: 8, CONSECUTIVE: 8, STEADY: 16}
"""Into how many pieces of equal length the stretch of a capture is cut to see how steady the power is."""


@dataclass(frozen=True)
class Part:
    """One capture of a run, reduced to sums. `data` holds no codes.

    `pieces` are the stretches of equal length whose sums make `window`, which is None where nothing of the capture
    counts. `whole` are the sums over the whole `batches` inside, None without one. `marks` are the gate's rise, if it
    is seen, and the ends of batches, in s from the first sample; `rise` says that they begin with the rise and `fall`
    that the gate's fall is seen. `idle` is the stretch before the rise.
    """

    data: CaptureData
    window: Moments | None
    pieces: tuple[Moments, ...]
    whole: Moments | None
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
    n, shift = len(current.codes), _shift(delay, dt_s)
    start, stop = _stretch(seen, n, shift)
    pieces: list[Moments] = []
    whole, batches = None, 0
    if stop > start >= 0:
        if stop > n:
            raise ReductionError("the work, by its marks and their delay, lies outside the record")
        pieces = in_pieces(current, voltage, start, stop, PIECES[data.method])
        first, last, batches = _whole(seen, shift)
        if batches and last > max(first, 0):
            whole = moments(current, voltage, max(first, 0), last)
    marks = np.concatenate(([] if seen.rise is None else [seen.rise], seen.ends)).astype(np.float64) * dt_s
    return Part(
        facts_of(data),
        joined(pieces) if pieces else None,
        tuple(pieces),
        whole,
        batches if whole is not None else 0,
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


def _shift(delay: Delay | None, dt_s: float) -> tuple[int, int, int]:
    """By how many samples the gate's rise, its fall and a toggle come after what they mark."""
    rise_s, fall_s = (0.0, 0.0) if delay is None else (delay.rise_s, delay.fall_s)
    return round(rise_s / dt_s), round(fall_s / dt_s), round((rise_s + fall_s) / 2 / dt_s)


def _stretch(seen: _Seen, n: int, shift: tuple[int, int, int]) -> tuple[int, int]:
    """The samples [start, stop) in which the device was at work."""
    if not seen.working:
        return 0, 0
    rise, fall, _ = shift
    return 0 if seen.rise is None else seen.rise - rise, n if seen.fall is None else seen.fall - fall


def _whole(seen: _Seen, shift: tuple[int, int, int]) -> tuple[int, int, int]:
    """The samples [start, stop) of the whole batches of a capture, and their number."""
    rise, _, toggle = shift
    if not len(seen.ends):
        return 0, 0, 0
    last = int(seen.ends[-1]) - toggle
    if seen.rise is not None:
        return seen.rise - rise, last, len(seen.ends)
    return int(seen.ends[0]) - toggle, last, len(seen.ends) - 1


def in_pieces(current: Record, voltage: Record, start: int, stop: int, count: int) -> list[Moments]:
    """Sum samples [start, stop) in `count` stretches as long as each other but for a sample, fewer of a short one."""
    count = max(1, min(count, (stop - start) // 2))
    cuts = [start + (stop - start) * k // count for k in range(count + 1)]
    return [moments(current, voltage, a, b) for a, b in itertools.pairwise(cuts)]
