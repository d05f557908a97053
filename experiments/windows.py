"""Where the measured loops of a file are, when not by its marker lines: an analogue channel, by hand, found. Pure.

A source puts lines of its own in the place of a capture's markers and sets time 0 where its window begins, so that
all of the reduction is the same from there on. What a source cannot know is not checked: windows without a batch
line are not compared with the device's log.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from experiments.capture_data import CaptureData
from experiments.found_work import NoWorkError, find_work
from instruments import markers
from instruments.waveform import Capture, Preamble, Record
from instruments.wording import counted

KINDS = ("gain", "cell")
"""Captures in which something runs."""

BY_HAND, FOUND = "window-by-hand", "window-found"
"""Flags of results whose windows no marker line told."""

PART, CUTS = "window-part", "window-cuts-run"
"""Flag of a result whose window by hand holds some batches of its run only, and the code of one that cannot be told."""

WHOLE_SHARE = 0.98
"""Share of the run's length by the device's clock below which a window by hand cannot hold all of the run."""

SWING = 0.2
"""Hysteresis where none is given, as a share of the record's span or of the distance of two thresholds."""


class WindowSource(Protocol):
    """Gives a capture another window; captures that it says nothing of stay as they are."""

    @property
    def note(self) -> str:
        """What a report must say of it."""

    def apply(self, data: CaptureData) -> CaptureData:
        """The capture with the source's lines; with `problem` set where there is no window."""


@dataclass(frozen=True)
class Bits:
    """Which bits of the marker record the two lines are."""

    gate: int
    batch: int


def with_window(
    data: CaptureData, bits: Bits, start: int, stop: int, flag: str, edge_s: float | None = None
) -> CaptureData:
    """Put a gate line of one window, samples [start, stop), in the place of the markers; time 0 is at its start."""
    n = data.capture.points
    line = np.zeros(n, dtype=np.uint8)
    line[start:stop] = 1 << bits.gate
    shift_s = data.capture.start_s + (start - 0.5) * data.capture.dt_s
    records = {
        name: replace(r, preamble=replace(r.preamble, x_origin_s=r.preamble.x_origin_s - shift_s))
        for name, r in data.capture.records.items()
    }
    records["markers"] = replace(records["markers"], codes=line)
    return replace(
        data,
        capture=Capture(records),
        batches=None,
        start_frame=None,
        start_frame_edges=0,
        flags=(*data.flags, flag),
        edge_s=edge_s,
    )


@dataclass(frozen=True)
class HandWindows:
    """Start and stop of the window by the capture's number, in s on its own time axis, and how far they may be off."""

    by_capture: Mapping[int, tuple[float, float, float]]
    bits: Bits
    own: AnalogueMarkers | None = None
    """How the file's own lines are read, where they are an analogue channel."""

    @property
    def note(self) -> str:
        """See `WindowSource`."""
        return f"the windows of {counted(len(self.by_capture), 'capture')} were given by hand, not told by marker lines"

    def apply(self, data: CaptureData) -> CaptureData:
        """See `WindowSource`."""
        if data.index not in self.by_capture or data.kind not in KINDS:
            return data
        start_s, stop_s, edge_s = self.by_capture[data.index]
        first_s, dt_s = data.capture.start_s, data.capture.dt_s
        start, stop = (round((t - first_s) / dt_s + 0.5) for t in (start_s, stop_s))
        if not 0 < start < stop < data.capture.points:
            last_s = first_s + data.capture.duration_s
            return replace(
                data,
                problem=f"the window by hand, {start_s:g} to {stop_s:g} s, does not lie within the record, "
                f"{first_s:g} to {last_s:g} s",
            )
        edge_s = max(edge_s, dt_s / 2)
        if data.kind == "cell" and not data.method:
            data, start, stop = self._counted(data, start, stop, edge_s)
        return data if data.problem else with_window(data, self.bits, start, stop, BY_HAND, edge_s)

    def _counted(self, data: CaptureData, start: int, stop: int, edge_s: float) -> tuple[CaptureData, int, int]:
        """The capture with the images of samples [start, stop), which are moved to the whole batches within.

        By the file's own batch line, where that tells every batch of the log. A window that holds them all stays as
        it is, and so does one of a run of which nothing else is known. `problem` is set where a window cuts a run and
        no line tells by how much.
        """
        dt_s, images, batches = data.capture.dt_s, data.images or 0, data.batches or 0
        loop = markers.decode(
            self._own_lines(data), self.bits.gate, self.bits.batch, framed=data.start_frame is not None
        ).window
        text = f"the window by hand, {(stop - start) * dt_s:.6g} s long, cuts the run"
        if loop is not None and batches and len(loop.batch_ends) == batches:
            bounds = np.array([loop.start, *loop.batch_ends])
            near = math.ceil(edge_s / dt_s) + 1
            inside = np.flatnonzero((bounds >= start - near) & (bounds <= stop + near))
            first, last = (int(inside[0]), int(inside[-1])) if len(inside) else (0, 0)
            if last - first == batches:
                return data, start, stop
            if last == first:
                why = f"{text} of {counted(batches, 'batch')}, none of which it holds whole: make it longer"
                return replace(data, problem=why, problem_code=CUTS), start, stop
            share = (last - first) / batches
            part = replace(
                data,
                images=images * (last - first) // batches,
                true_energy_j=data.true_energy_j * share,
                device_busy_s=data.device_busy_s + int(bounds[first] - loop.start) * dt_s,  # idle is before the run
                quiet_after_s=0.0,
                flags=(*data.flags, PART),
            )
            return part, int(bounds[first]), int(bounds[last])
        if (stop - start) * dt_s + 2 * edge_s < WHOLE_SHARE * data.device_s:
            why = (
                f"{text}, which lasted {data.device_s:.6g} s by the device's clock, and the batch line does not tell "
                "how many batches are within: give the begin and the end of the whole run"
            )
            return replace(data, problem=why, problem_code=CUTS), start, stop
        return data, start, stop

    def _own_lines(self, data: CaptureData) -> NDArray[np.unsignedinteger[Any]]:
        """The lines of the file itself, (n,), before those by hand took their place."""
        record = data.capture.records["markers"]
        return self.own.decoded(readings(record)) if self.own is not None else record.codes


@dataclass(frozen=True)
class FoundWindows:
    """One stretch of work found in the current of each capture."""

    bits: Bits

    @property
    def note(self) -> str:
        """See `WindowSource`."""
        return "the windows were found in the current, not told by marker lines; their edges are as unsure as it says"

    def apply(self, data: CaptureData) -> CaptureData:
        """See `WindowSource`."""
        if data.kind not in KINDS:
            return data
        try:
            found = find_work(data.capture["current"].values(), data.capture.dt_s)
        except NoWorkError as error:
            return replace(data, problem=f"no window was found in the current: {error}")
        if len(found) > 1:
            return replace(
                data,
                problem=f"{len(found)} stretches of work were found in the current where one was expected: "
                "name the window in a file with --windows FILE",
            )
        (work,) = found
        return with_window(data, self.bits, work.start, work.stop, FOUND, work.edge_s)


@dataclass(frozen=True)
class AnalogueMarkers:
    """Both lines, or the gate alone, decoded from the record of an analogue channel.

    `role` is the record, `thresholds` one level of the gate in the record's unit, or three of both lines; without a
    `hysteresis` a share of the span is taken.
    """

    role: str
    thresholds: tuple[float, ...]
    hysteresis: float | None
    bits: Bits
    named: str = field(default="an analogue channel")

    @property
    def note(self) -> str:
        """See `WindowSource`."""
        at = ", ".join(f"{t:g}" for t in self.thresholds)
        what = "gate and batch line" if len(self.thresholds) > 1 else "gate alone, so that no batch was counted"
        return f"the markers were decoded from {self.named} at {at}: {what}"

    def apply(self, data: CaptureData) -> CaptureData:
        """See `WindowSource`."""
        if data.kind not in KINDS:
            return data
        record = data.capture[self.role]
        line = self.decoded(readings(record))
        plain = Preamble(0, 0, len(line), 1, *_time_of(record.preamble), 1.0, 0.0, 0.0)
        lines = Record("markers", plain, line, "bits")
        data = replace(data, capture=Capture({**data.capture.records, "markers": lines}))
        if len(self.thresholds) == 1:
            data = replace(data, batches=None, start_frame=None, start_frame_edges=0)
        return data

    def decoded(self, values: NDArray[np.float64]) -> NDArray[np.uint8]:
        """The lines as bits of a pod, (n,)."""
        hysteresis = self.hysteresis
        if hysteresis is None:
            steps = np.diff(self.thresholds)
            hysteresis = SWING * float(steps.min() if len(steps) else np.ptp(values) if len(values) else 0.0)
        passed = markers.levels(values, self.thresholds, hysteresis)
        return markers.lines_of(passed, self.bits.gate, self.bits.batch, len(self.thresholds))


def readings(record: Record) -> NDArray[np.float64]:
    """What an analogue record shows in its unit, (n,), also where it stands in the place of the markers."""
    if record.units != "bits":
        return record.values()
    p = record.preamble
    return (record.codes.astype(np.float64) - p.y_reference) * p.y_increment + p.y_origin


def _time_of(preamble: Preamble) -> tuple[float, float, float]:
    return preamble.x_increment_s, preamble.x_origin_s, preamble.x_reference
