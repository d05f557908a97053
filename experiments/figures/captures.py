"""What figures need of single captures: corrected power over time, and when each one was taken."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from calibration.model import Calibration
from experiments.capture_data import CaptureData, ReductionError, Wires, wires
from experiments.figures.rows import Run
from experiments.journal import Reading
from experiments.measure import Measured, measure
from experiments.parts import measure_part
from experiments.run_calibration import find_calibration
from instruments.markers import Window

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Waveform:
    """One capture of a cell: power in W, lines as levels, all of shape (n,), time from the gate's rise in s.

    Of a run of several captures `rise` and `fall` say whether this one holds the gate's edges; where it does not,
    `loop` goes from the first end of a batch, or to the end of the record.
    """

    data: CaptureData
    loop: Window
    power_w: Floats
    gate: NDArray[np.bool_]
    batch_line: NDArray[np.bool_]
    rise: bool = True
    fall: bool = True

    @property
    def dt_s(self) -> float:
        """Sampling period."""
        return self.data.capture.dt_s

    @property
    def time_s(self) -> Floats:
        """Time of each sample from the gate's rise."""
        return np.asarray((np.arange(len(self.power_w)) - (self.loop.start - 0.5)) * self.dt_s, dtype=np.float64)

    @property
    def edges(self) -> list[int]:
        """Samples at which batches begin, and the one after the last batch."""
        return [self.loop.start, *self.loop.batch_ends]


def calibrations(run: Run) -> dict[int, Calibration]:
    """The calibration of each session of the bench."""
    found = run.outcome.calibration
    if found is None:
        return {}
    sessions = {row["session"] for row in run.reader.captures()}
    if len(sessions) < 2:
        return dict.fromkeys(sessions, found)
    steady: dict[int, list[tuple[Measured, list[Reading]]]] = {}
    for data in run.reader.data(kinds=("zero", "gain")):
        with contextlib.suppress(ReductionError):
            measured = measure(data, wires(run.outcome.lab))
            steady.setdefault(data.session, []).append((measured, run.reader.readings(data.index)))
    each = {s: find_calibration(run.outcome.lab, mine, run.outcome.records) for s, mine in steady.items()}
    return {session: calibration for session, calibration in each.items() if calibration is not None}


def waveforms(run: Run, network: str, batch: int) -> Iterator[Waveform]:
    """Give the usable captures of one network and batch, corrected as its results are."""
    roles, known = wires(run.outcome.lab), calibrations(run)
    for data in run.reader.data(kinds=("cell",)):
        if (data.network, data.batch) != (network, batch) or data.session not in known:
            continue
        try:
            found = _of_part(data, roles) if data.method else (measure(data, roles).loop, True, True)
        except ReductionError:
            continue
        loop, rise, fall = found
        if loop is None:
            continue
        current, voltage = known[data.session].current, known[data.session].voltage
        amps = (data.capture[roles.current].values() - current.offset.at(data.at_s)) / current.gain.value
        volts = (data.capture[roles.voltage].values() - voltage.offset.at(data.at_s)) / voltage.gain.value
        lines = data.capture[roles.markers]
        yield Waveform(data, loop, amps * volts, lines.bit(roles.gate_bit), lines.bit(roles.batch_bit), rise, fall)


def _of_part(data: CaptureData, roles: Wires) -> tuple[Window | None, bool, bool]:
    """The work in one capture of a run, and whether it holds the gate's rise and fall."""
    part = measure_part(data, roles)
    marks = np.rint(part.marks / data.capture.dt_s).astype(int).tolist()
    if not marks or part.window is None:
        return None, part.rise, part.fall
    stop = round(part.start_s / data.capture.dt_s) + part.window.n
    return Window(marks[0], stop, tuple(marks[1:])), part.rise, part.fall


def clock(run: Run) -> dict[int, float]:
    """Seconds to take from the bench's clock in each session, so that a run begins at 0.

    A session whose clock does not go on from the one before is placed by the time of day.
    """
    shift: dict[int, float] = {}
    last_host_s = last_utc_s = last_s = -np.inf
    for row in run.reader.captures():
        session, host_s, utc_s = row["session"], row["host_s"], row["utc_s"]
        if session not in shift:
            goes_on = host_s >= last_host_s and np.isfinite(last_host_s)
            if not shift:
                shift[session] = host_s
            elif goes_on:
                shift[session] = next(reversed(shift.values()))
            else:
                shift[session] = host_s - (last_s + max(utc_s - last_utc_s, 0.0))
        last_host_s, last_utc_s, last_s = host_s, utc_s, host_s - shift[session]
    return shift
