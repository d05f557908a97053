"""The measured loops of a recording: where they are, what ran in them, and what is recorded around each. Pure."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from experiments.found_work import NoWorkError, find_work
from experiments.traces.imports.asked import Counts, Wanted
from experiments.traces.imports.roles import Picked
from experiments.windows import BY_HAND, FOUND
from instruments import markers
from instruments.errors import ConfigError, TraceError
from instruments.lab import Lab
from instruments.wording import counted

Span = tuple[int, int]
Bits = NDArray[np.uint8]
_Window = tuple[Span, Counts, float]


@dataclass(frozen=True)
class Run:
    """One capture to be: samples [first, last) of a recording, in it the window `span`, None where there is none.

    `lines` are the marker lines of the whole recording, `logged` the batches that they must show (-1: no batch line),
    `frame` number and edges of a start frame before the window; `flag` says how the window is known if not by lines,
    `edge_s` by how much its ends may then be off.
    """

    picked: Picked
    first: int
    last: int
    span: Span | None
    lines: Bits
    counts: Counts
    logged: int
    frame: tuple[int, int]
    flag: str
    edge_s: float = math.nan


def runs_of(picked: Picked, wanted: Wanted, lab: Lab, say: Callable[[str], None]) -> list[Run]:
    """Cut a recording into its runs, half-way between the windows; every sample is in one.

    But for a run that the recording's start or end cuts: its part is left out. Raises ConfigError where a window or
    its images are not told, TraceError where none is found in the current.
    """
    recording = picked.recording
    counts = wanted.counts.but(wanted.of_files.get(recording.path.name, {}), str(recording.path))
    counts = counts.beside(recording.ran, recording.where(0))
    flag, spans = _windows(picked, wanted, lab, counts)
    lines = picked.lines
    if lines is None or flag:
        lines = np.zeros(recording.points, dtype=np.uint8)
        for (start, stop), *_ in spans:
            lines[start:stop] = 1 << lab.wiring.gate.digital
    if not spans:
        say(
            f"{recording.path}: no window: there are no marker lines, or the gate never makes a whole pulse; replay it "
            "with --windows FILE or --windows found"
        )
        return [_run(picked, (0, recording.points), None, lines, counts, "", lab)]
    cuts = [0, *((a[1] + b[0]) // 2 for (a, *_), (b, *_) in itertools.pairwise(spans)), recording.points]
    runs = []
    for (span, mine, edge_s), (first, last) in zip(spans, itertools.pairwise(cuts), strict=True):
        at, _ = markers.edges(lines, lab.wiring.gate.digital)
        before, after = at[at < span[0]], at[at > span[1]]
        first = max(first, int(before[-1]) if len(before) else 0)
        last = min(last, int(after[0]) if len(after) else last)
        runs.append(replace(_run(picked, (first, last), span, lines, mine, flag, lab), edge_s=edge_s))
    lengths = ", ".join(f"{(stop - start) * recording.dt_s:.4g}" for (start, stop), *_ in spans[:5])
    count = counted(len(runs), "run")
    say(f"{recording.path}: {count} of {lengths}{', ...' if len(spans) > 5 else ''} s")
    return runs


def _windows(picked: Picked, wanted: Wanted, lab: Lab, counts: Counts) -> tuple[str, list[_Window]]:
    """The flag of how the windows are known; they, in order, with what ran in each and how sure their ends are."""
    recording = picked.recording
    if wanted.windows == "lines":
        return "", [(span, counts, math.nan) for span in _pulses(picked.lines, lab.wiring.gate.digital)]
    if isinstance(wanted.windows, str):
        grid = picked.grids["current"]
        try:
            found = find_work(picked.current * np.float64(grid.increment), recording.dt_s)
        except NoWorkError as error:
            raise TraceError(f"{recording.path}: no window was found in the current: {error}") from error
        return FOUND, [((work.start, work.stop), counts, work.edge_s) for work in found]
    spans: list[_Window] = []
    for window in sorted(wanted.windows, key=lambda window: window.start_s):
        if not window.of(recording.path):
            continue
        start, stop = (round((t - recording.start_s) / recording.dt_s + 0.5) for t in (window.start_s, window.stop_s))
        if not (spans[-1][0][1] if spans else 0) < start < stop < recording.points:
            last_s = recording.start_s + recording.points * recording.dt_s
            raise ConfigError(
                f"{window.place}: {window.start_s:g} to {window.stop_s:g} s does not lie within the recording "
                f"({recording.start_s:g} to {last_s:g} s), or overlaps the window before"
            )
        spans.append(((start, stop), counts.but(window.counts, window.place), max(window.edge_s, recording.dt_s / 2)))
    return BY_HAND, spans


def _pulses(lines: Bits | None, gate: int) -> list[Span]:
    """Whole pulses of the gate."""
    if lines is None:
        return []
    at, level = markers.edges(lines, gate)
    pairs = zip(itertools.pairwise(at.tolist()), level.tolist(), strict=False)
    return [(start, stop) for (start, stop), high in pairs if high]


def _run(picked: Picked, around: Span, span: Span | None, lines: Bits, counts: Counts, flag: str, lab: Lab) -> Run:
    """Settle how many images ran in how many batches. Raises ConfigError where that is not told, or does not fit.

    A batch line counts them: what is asked for must be what it shows.
    """
    gate, batch_bit = lab.wiring.gate.digital, lab.wiring.batch.digital
    seen, frame = None, (-1, 0)
    if span is not None and picked.batch_line and not flag:
        here = lines[around[0] : around[1]]
        told = markers.start_frame(here, gate, batch_bit)
        frame = (told.number, told.edges) if told.number is not None else frame
        window = markers.decode(here, gate, batch_bit, framed=True).window
        seen = len(window.batch_ends) if window is not None else None
    if span is not None and seen is not None and counts.batches not in (None, seen):
        raise ConfigError(
            f"{picked.recording.where(span[0])}: in the run that begins there {counted(seen, 'batch')} are "
            f"counted on the batch line, and {counts.batches} are asked for: leave out --batches, or see whether that "
            "line is what it is taken for"
        )
    images, batch = counts.images, counts.batch
    batches = counts.batches if counts.batches is not None else seen
    if picked.images is not None and span is not None:
        images = round(float(picked.images[span[1]] - picked.images[span[0] - 1]))
    if images is None and batch:
        images = (batches or 1) * batch
    if images and not batch:
        batches = batches or 1
        batch = images // batches
    if not images or not batch:
        raise ConfigError(
            f"{picked.recording.path}: how many images ran in each measured loop is not told: give --images N (and "
            "--batches M), --batch B, a column of images, or --facts FILE"
        )
    batches = batches or images // batch
    if images != batches * batch:
        raise ConfigError(f"{picked.recording.path}: {images} images are not {batches} batches of {batch}")
    settled = Counts(counts.network, images, batches, batch)
    return Run(picked, *around, span, lines, settled, batches if seen is not None else -1, frame, flag)
