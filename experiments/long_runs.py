"""Runs that no single record holds: their captures collected and put together. Pure; `run_values` gives their values.

Long: many captures of a run, its power where it was recorded, its time by the device's log of all batches on the
oscilloscope's time base. Consecutive: captures that tile a run of batches longer than the record, mean power times the
time by the device's clock. Steady: one record that sees the run begin, and its steady power for the rest of that time.
docs/long-runs.md says when which is right.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from calibration.model import Calibration, Delay
from experiments import part_log
from experiments.capture_data import CaptureData, ReductionError, Wires
from experiments.checked import Checks
from experiments.components import CellValues
from experiments.measure import Measured
from experiments.moments import joined, moments
from experiments.part_log import LogFit
from experiments.parts import CONSECUTIVE, LONG, STEADY, Part, measure_part
from experiments.plausible import check_sign
from experiments.run_values import values_of
from experiments.shape import Captured, RunLook, look_of
from experiments.steady_power import NotSteadyError, steady_from
from instruments import markers

CLOCK_RATE_LIMIT = 500e-6
"""Limit of the error of the rate of a device's clock: a monotonic one is slewed by up to this much where the time of
day is kept by NTP (adjtimex(2), `clock_fit.RATE_LIMIT`); quartz alone is good to 100 ppm."""

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class MeasuredRun(Measured):
    """A run put together from `parts`, those that count; `before` and `after` show the idle board around it.

    `fits` say where each part lies in the device's log, by which all batches lasted `logged_s`; NaN without a log.
    `idle_records` are those that the same session took of the idle board.
    """

    parts: tuple[Part, ...] = ()
    before: Part | None = None
    after: Part | None = None
    unused: tuple[str, ...] = ()
    """Why captures of the run do not count."""
    fits: tuple[LogFit | None, ...] = ()
    logged_s: float = math.nan
    idle_records: tuple[Measured, ...] = ()
    look: RunLook | None = None
    """What was seen of the shape of its power, where that was asked for."""
    of_row: tuple[Part, ...] = ()
    """Records of other runs of its network and batch that are to stand for the whole, those that are not steady too."""

    @property
    def whole_s(self) -> float | None:
        """See `Measured`."""
        if self.timed_by_scope and self.data.method != LONG:
            return None
        return self.run_s

    @property
    def timed_by_scope(self) -> bool:
        """Whether the time is that of the oscilloscope, not of the device's clock alone."""
        if self.data.method == LONG:
            return math.isfinite(self.rate * self.logged_s)
        return len(self.parts) == 1 and self.parts[0].rise and self.parts[0].fall

    @property
    def rate(self) -> float:
        """Oscilloscope's time over the device's, by the batches that both saw; NaN where there are none."""
        seen = [fit for fit in self.fits if fit is not None]
        logged_s = math.fsum(fit.logged_s for fit in seen)
        return math.fsum(fit.scope_s for fit in seen) / logged_s if logged_s > 0 else math.nan

    @property
    def captured_s(self) -> float:
        """How much of the run was recorded, s."""
        return math.fsum(p.seconds for p in self.parts)

    @property
    def run_s(self) -> float:
        """From the gate's rise to its fall, s: the batches of the log by the oscilloscope, or by the device's clock."""
        if self.data.method == LONG and self.timed_by_scope:
            return self.logged_s * self.rate
        if self.timed_by_scope:
            return self.captured_s
        return self.data.device_s + self._moving_s / 2

    @property
    def clock_limit_s(self) -> float | None:
        """By how much the device's clock may be wrong on the length of the run; None where it does not count."""
        if self.timed_by_scope:
            return None
        jitter_s = self.data.gate_jitter_s if math.isfinite(self.data.gate_jitter_s) else 0.0
        return CLOCK_RATE_LIMIT * self.run_s + self._moving_s / 2 + jitter_s

    @property
    def _moving_s(self) -> float:
        """What both moves of the gate took; it changed at some moment of either."""
        return self.data.gate_moving_s if math.isfinite(self.data.gate_moving_s) else 0.0

    def values(self, calibration: Calibration) -> CellValues:
        """See `Measured`."""
        return values_of(self, calibration)


class RunCollector:
    """Takes the captures of one run, one after another, and keeps their sums. Live sweeps and replays use the same."""

    def __init__(self, checks: Checks, wires: Wires, delay: Delay | None = None, *, shape: bool = False) -> None:
        self._checks, self._wires, self._delay, self._shape = checks, wires, delay, shape
        self.parts: list[Part] = []
        self.after: Part | None = None
        self.problems: dict[int, ReductionError] = {}
        """What is wrong with a capture, by its row."""

    def add(self, data: CaptureData) -> None:
        """Reduce one capture of the run, or the record of the idle board after it."""
        try:
            self._checks.before(data, self._wires)
            if data.kind == "idle":
                self.after = _idle_part(data, self._wires)
                return
            part = measure_part(data, self._wires, self._delay, shape=self._shape)
            if part.window is not None:
                check_sign(self._checks.lab, part.window)
            self.parts.append(part)
        except ReductionError as error:
            self.problems[data.index] = error

    def finish(self, log_s: Floats) -> MeasuredRun:
        """Put the run together. `log_s` holds the gate's rise and the ends of batches by the device's clock, s.

        Captures that do not fit the log are added to `problems`; the others count. Raises ReductionError where none
        is left, or they cannot be put together.
        """
        usable: list[tuple[Part, LogFit | None]] = []
        logged = len(log_s) > 1
        for part in sorted(self.parts, key=lambda one: one.data.part):  # whatever the order in which they came
            try:
                usable.append((part, part_log.fit(part, log_s, self._begun_s(part)) if logged else None))
            except ReductionError as error:
                self.problems[part.data.index] = error
        seen = sum(len(p.marks) - p.rise for p, _ in usable)
        if logged and seen > len(log_s) - 1:
            raise ReductionError(
                f"extra batch edges: all records together show {seen} batches, the device logged {len(log_s) - 1}",
                "markers-extra",
            )
        unused = tuple(str(self.problems[index]) for index in sorted(self.problems))
        run = put_together([part for part, _ in usable], self.after, self._wires, unused)
        held = [(part, fit) for part, fit in usable if part.window is not None]
        run = replace(
            run,
            parts=tuple(_kept(part) for part in run.parts),
            before=None if run.before is None else _kept(run.before),
            fits=tuple(fit for _, fit in held),
            logged_s=float(log_s[-1] - log_s[0]) if logged else math.nan,
            look=look_of(
                [one for part, fit in held if (one := self._captured(part, fit, log_s)) is not None],
                log_s,
                whole=run.data.method != CONSECUTIVE,
            ),
        )
        if not math.isfinite(run.run_s):
            raise ReductionError("the device's clock does not tell how long the run lasted, and no single record does")
        return run

    def _captured(self, part: Part, fit: LogFit | None, log_s: Floats) -> Captured | None:
        """What the shape of the run needs of one part; its place in the log tells when it began, or the host's polls.

        None where it was not looked at.
        """
        m = part.window
        if part.look is None or m is None:
            return None
        if part.rise:
            begun_s = -float(part.marks[0])
        elif fit is not None:
            begun_s = float(log_s[fit.place] - part.marks[0])
        else:
            begun_s = self._begun_s(part)
        data = part.data
        return Captured(part.look, data.part, data.at_s, begun_s, part.seconds, m.mean_i, m.mean_v, m.mean_vi)

    def _begun_s(self, part: Part) -> float:
        """How long after the gate's rise a capture began, by the host's polls, s; NaN where these do not tell.

        The first capture is timed by its trigger, the others by when they were forced.
        """
        first = next((p for p in self.parts if p.rise and len(p.marks)), None)
        second = next((p for p in self.parts if p.data.part == 1), None)
        if first is None or second is None or part is first:
            return math.nan
        rest_s = first.start_s + first.seconds - float(first.marks[0])
        return rest_s + second.data.gap_before_s + part.data.at_s - second.data.at_s


def _kept(part: Part) -> Part:
    """What of a part its run still needs, so that a file with many runs fits into memory."""
    return replace(part, marks=np.empty(0), look=None)


def _idle_part(data: CaptureData, wires: Wires) -> Part:
    """The record of the idle board after a run, whose gate line must be low throughout."""
    current, voltage = data.capture.records[wires.current], data.capture.records[wires.voltage]
    bits = data.capture.records[wires.markers].codes
    if np.any((bits >> wires.gate_bit) & 1):
        raise ReductionError("the gate is high in the record of the idle board after the run", "markers-extra")
    part = measure_part(replace(data, method=STEADY, part=1), wires)  # low throughout: nothing of it counts as work
    return replace(part, idle=moments(current, voltage, 0, len(current.codes)))


def put_together(parts: Sequence[Part], after: Part | None, wires: Wires, unused: tuple[str, ...] = ()) -> MeasuredRun:
    """Make one measurement of the usable captures of a run; raises ReductionError where that cannot be done."""
    held = [p for p in parts if p.window is not None]
    if not held:
        raise ReductionError(f"no capture of the run is usable: {'; '.join(dict.fromkeys(unused))}")
    first = held[0]
    data = first.data
    if data.method == STEADY:
        if not first.rise:
            raise ReductionError("the record does not show the gate's rise")
        if not first.fall and steady_from(first.pieces, data.device_s) is None:
            raise NotSteadyError(_kept(first))
    before = next((p for p in parts if p.idle is not None), None)
    baseline = next((p.idle for p in (before, after) if p is not None), None)
    if baseline is None:
        raise ReductionError("neither the record before the run nor one after it shows the idle power")
    scales = {(p.window.scale_i, p.window.scale_v) for p in held if p.window is not None}
    windows = [p.window for p in held if p.window is not None]
    # Edges of the first record that counts, for the scatter of batches.
    marks = np.rint(first.marks / data.capture.dt_s).astype(int)
    loop = markers.Window(int(marks[0]), int(marks[-1]), tuple(int(m) for m in marks[1:])) if len(marks) > 1 else None
    return MeasuredRun(
        data,
        None,
        None,
        joined(windows) if len(scales) == 1 else windows[0],
        baseline,
        loop or markers.Window(0, 0, ()),
        wires,
        parts=tuple(held),
        before=before,
        after=after,
        unused=unused,
    )


def with_others(runs: Sequence[MeasuredRun], not_steady: Sequence[Part]) -> list[MeasuredRun]:
    """Let runs of which one record stands for the whole know those of the others of their row.

    `not_steady` are the records that were refused: the power that goes up and down in them does so in the others too.
    """
    held = [run.parts[0] for run in runs if run.data.method == STEADY]

    def others(run: MeasuredRun) -> tuple[Part, ...]:
        mine = run.parts[0]
        pair = mine.data.network, mine.data.batch
        return tuple(p for p in (*held, *not_steady) if p is not mine and (p.data.network, p.data.batch) == pair)

    return [replace(run, of_row=others(run)) if run.data.method == STEADY else run for run in runs]


def with_idle_records(cells: Iterable[Measured], steady: Iterable[Measured]) -> list[Measured]:
    """Let runs know the idle records of their session, by which the drift of one without its own is limited."""
    idle = [m for m in steady if m.data.kind == "idle"]
    return [
        replace(cell, idle_records=tuple(m for m in idle if m.data.session == cell.data.session))
        if isinstance(cell, MeasuredRun)
        else cell
        for cell in cells
    ]
