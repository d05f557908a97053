"""The marker lines as the oscilloscope saw them: edges, windows, and what does not fit. Pure.

The gate is high while the measured loop runs; the batch line toggles at the end of every batch, and before the
gate rises it may tell the run's number (`marker_frame`). An edge between sample k - 1 and sample k is placed
half-way, at k - 1/2, and is known to half a sample.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from instruments import marker_frame
from instruments.wording import counted

UNIT_TOLERANCE = 0.4
"""How far an interval of a start frame may lie from a whole number of units."""


CLOSE_SHARE = 1e-3
"""Share of a record within which edges of the gate belong together: contacts bounce for a millisecond or two."""

LEAST_CLOSE = 5
"""Samples that are close together in any record."""

CLOSE_BATCHES = 0.25
"""Share of the usual batch below which edges of the batch line are no batch of their own."""

Kind = Literal["cut", "glitch", "bounce", "missing", "extra", "frame"]
"""Departures from whole windows: cut by the record's end; a pulse that no line makes; edges that come several times;
edges that are not there; edges too many, well apart; a start frame that cannot be read."""


class Problem(str):
    """What does not fit, in words; `kind` sorts it."""

    kind: Kind

    def __new__(cls, kind: Kind, text: str) -> Problem:
        """Put a kind beside a text."""
        problem = super().__new__(cls, text)
        problem.kind = kind
        return problem

    @property
    def code(self) -> str:
        """The code under which it is listed in docs/flags.md."""
        return f"markers-{self.kind}"


@dataclass(frozen=True)
class Window:
    """The measured loop in one record: samples [start, stop) and the batch ends inside.

    `batch_ends` are sample indices, strictly increasing, the last at most `stop`.
    """

    start: int
    stop: int
    batch_ends: Sequence[int]

    @property
    def samples(self) -> int:
        """Number of samples in the window."""
        return self.stop - self.start


@dataclass(frozen=True)
class Decoded:
    """What a record's marker bits say: a window, or why there is none."""

    window: Window | None
    problems: tuple[Problem, ...]


@dataclass(frozen=True)
class Changes:
    """Where any line of a record moves: the first samples after, and all bits before and from there on, (n,) each.

    Of a record of `samples`, the first of which is `first`. Gone through once, it serves `decode` and `start_frame`.
    """

    at: NDArray[np.int64]
    before: NDArray[np.unsignedinteger[Any]]
    level: NDArray[np.unsignedinteger[Any]]
    samples: int
    first: int
    _of_lines: dict[int, tuple[NDArray[np.int64], NDArray[np.int64]]] = field(default_factory=dict, repr=False)

    def of(self, bit: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """The edges of one line; see `edges`."""
        if bit not in self._of_lines:
            mine = ((self.before ^ self.level) & (1 << bit)) != 0
            self._of_lines[bit] = self.at[mine].astype(np.int64), ((self.level[mine] >> bit) & 1).astype(np.int64)
        return self._of_lines[bit]


def changes(bits: Bits) -> Changes:
    """Go through the bits of a record, (n,), once."""
    if isinstance(bits, Changes):
        return bits
    at = np.flatnonzero(bits[1:] != bits[:-1])
    return Changes(at + 1, bits[at], bits[at + 1], len(bits), int(bits[0]) if len(bits) else 0)


Bits = NDArray[np.unsignedinteger[Any]] | Changes
"""Bits of a record, (n,), bit k = Dk; or what is known of where they change."""


def edges(bits: NDArray[np.unsignedinteger[Any]], bit: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Find the edges of one line: index of the first sample after each edge, and the level from there.

    `bits` has shape (n,), bit k = Dk. Returns two arrays of one length.
    """
    return changes(bits).of(bit)


def levels(values: NDArray[np.floating[Any]], thresholds: Sequence[float], hysteresis: float) -> NDArray[np.uint8]:
    """Tell how many of the rising thresholds a line that was recorded as an analogue signal is above, (n,).

    A threshold is passed where the signal is half the hysteresis beyond it, and not before; where it begins nearer
    than that, its side counts. Raises ValueError for thresholds that do not rise by more than the hysteresis.
    """
    if hysteresis < 0 or any(b - a <= hysteresis for a, b in itertools.pairwise(thresholds)) or not thresholds:
        raise ValueError(f"thresholds {list(thresholds)} do not rise by more than the hysteresis {hysteresis:g}")
    passed = np.zeros(len(values), dtype=np.uint8)
    for threshold in thresholds:
        sure = np.abs(values - threshold) > hysteresis / 2
        sure[:1] = True
        last = np.maximum.accumulate(np.where(sure, np.arange(len(values)), 0))
        passed += values[last] > threshold
    return passed


BLUR = 2
"""Samples that a change of an analogue line over several levels may spend on those between."""


def lines_of(passed: NDArray[np.uint8], gate_bit: int, batch_bit: int, steps: int) -> NDArray[np.uint8]:
    """Turn levels of one analogue line into the bits of a pod, (n,).

    `steps` is the number of thresholds: 1 where the line is the gate alone; 3 where it is both lines, the gate
    weighing two levels and the batch line one.
    """
    if steps == 1:
        return np.asarray((passed & 1) << gate_bit, dtype=np.uint8)
    at = np.concatenate(([0], np.flatnonzero(passed[1:] != passed[:-1]) + 1, [len(passed)]))
    level = passed[at[:-1]].copy() if len(passed) else passed
    for k in range(1, len(level) - 1):
        before, after = int(level[k - 1]), int(level[k + 1])
        if at[k + 1] - at[k] <= BLUR and (before < level[k] < after or before > level[k] > after):
            level[k] = before if before >> 1 == level[k] >> 1 else after  # its gate is right, its batch line is not
    whole = np.repeat(level, np.diff(at)) if len(passed) else level
    return np.asarray((whole >> 1) << gate_bit | (whole & 1) << batch_bit, dtype=np.uint8)


def decode(bits: Bits, gate_bit: int, batch_bit: int, *, framed: bool = False) -> Decoded:
    """Find the gate's window and the batch ends in it.

    Every departure from one whole window is reported by kind and the window withheld; nothing is
    guessed. `framed` says that edges before the gate are a start frame.
    """
    moves = changes(bits)
    (at, level), (ends, _) = moves.of(gate_bit), moves.of(batch_bit)
    problems: list[Problem] = []
    if moves.samples == 0:
        return Decoded(None, (Problem("missing", "the record has no samples"),))
    if len(at) == 0:
        state = "high" if (moves.first >> gate_bit) & 1 else "low"
        return Decoded(None, (Problem("missing", f"the gate line never moves: it is {state} in the whole record"),))
    if level[0] == 0:
        problems.append(Problem("cut", "the gate is already high at the record's start: the window is cut"))
    if level[-1] == 1:
        problems.append(Problem("cut", "the gate is still high at the record's end: the window is cut"))
    if len(at) > 2:
        kind, what = _too_many(at, max(LEAST_CLOSE, round(CLOSE_SHARE * moves.samples)))
        problems.append(Problem(kind, f"the gate has {counted(len(at), 'edge')} where 2 were expected: {what}"))
    if problems:
        return Decoded(None, tuple(problems))
    start, stop = int(at[0]), int(at[1])
    before, after = int(np.count_nonzero(ends < start)), int(np.count_nonzero(ends > stop))
    outside = after if framed else after + before
    if outside:
        return Decoded(
            None, (Problem("extra", f"{counted(outside, 'batch edge lies', 'batch edges lie')} outside the gate"),)
        )
    return Decoded(Window(start, stop, tuple(ends[before:].tolist())), ())


def _too_many(at: NDArray[np.int64], close: int) -> tuple[Kind, str]:
    """What edges too many are: those at most `close` samples apart belong together.

    An even number of them leaves the line where it was, an odd one moves it.
    """
    groups = np.split(at, np.flatnonzero(np.diff(at) > close) + 1)
    for group in groups:
        if len(group) % 2 == 0:
            return "glitch", f"a glitch of {counted(int(group[-1] - group[0]), 'sample')} at sample {int(group[0])}"
    for group in groups:
        if len(group) > 1:
            length = int(group[-1] - group[0])
            within = f"{counted(length, 'sample')} at sample {int(group[0])}"
            return "bounce", f"a bounce of {len(group)} edges within {within}"
    return "extra", f"a second run, or more, from sample {int(at[2])} on"


def swapped(bits: Bits, gate_bit: int, batch_bit: int, batches: int, *, framed: bool = False) -> bool:
    """Whether a record makes sense with both lines in each other's place only, with as many batches as were logged."""
    if decode(bits, gate_bit, batch_bit, framed=framed).window is not None:
        return False
    other = decode(bits, batch_bit, gate_bit, framed=framed).window
    return other is not None and batches > 0 and len(other.batch_ends) == batches


@dataclass(frozen=True)
class StartFrame:
    """What the batch line said before the gate rose: the run's number, or the problem why there is none.

    `start` is the first sample after the line first moved, `edges` how often it did.
    """

    number: int | None
    start: int
    edges: int
    problem: Problem | None


def start_frame(bits: Bits, gate_bit: int, batch_bit: int) -> StartFrame:
    """Read the start frame that ended last before the gate's first rise.

    Its own start interval says how long a unit is. Intervals that are no whole number of units and a wrong check
    sum are problems, as are too few edges; edges before the frame are counted only.
    """
    moves = changes(bits)
    (at, level), (ends, _) = moves.of(gate_bit), moves.of(batch_bit)
    rises = at[level == 1]
    ends = ends[ends < rises[0]] if len(rises) else ends
    if len(ends) < marker_frame.EDGES:
        start = int(ends[0]) if len(ends) else int(rises[0]) if len(rises) else moves.samples
        seen = counted(len(ends), "edge")
        problem = f"no start frame: {seen} of the batch line before the gate, and {marker_frame.EDGES} make one"
        return StartFrame(None, start, len(ends), Problem("frame", problem))
    first, *gaps = (b - a for a, b in itertools.pairwise(ends[-marker_frame.EDGES :].tolist()))
    units = [gap / (first / marker_frame.START_UNITS) for gap in gaps]
    whole = [round(u) for u in units]
    start = int(ends[0])
    if any(abs(u - w) > UNIT_TOLERANCE or not 1 <= w <= 2 for u, w in zip(units, whole, strict=True)):
        damage = "the start frame is damaged: its edges do not keep its rhythm"
        return StartFrame(None, start, len(ends), Problem("frame", damage))
    word = int("".join("1" if w == 2 else "0" for w in whole), 2)
    number, check = word >> marker_frame.CHECK_BITS, word & ((1 << marker_frame.CHECK_BITS) - 1)
    if check != marker_frame.check_bits(number):
        return StartFrame(
            None, start, len(ends), Problem("frame", "the start frame is damaged: its check sum is wrong")
        )
    return StartFrame(number, start, len(ends), None)


def check_against_log(window: Window, batches_logged: int) -> Problem | None:
    """Compare the batch edges seen with the batches that the device logged, or a person told; None when they agree."""
    seen = len(window.batch_ends)
    if seen == batches_logged:
        return None
    kind: Kind = "missing" if seen < batches_logged else "extra"
    text = f"{kind} batch edges: the record shows {seen}, and {batches_logged} are said to have run; "
    if kind == "extra":
        at = np.array(window.batch_ends, dtype=np.int64)
        usual = window.samples / max(batches_logged, 1)
        close = int(CLOSE_BATCHES * usual)
        if len(at) > 1 and int(np.diff(at).min()) <= close:
            kind, what = _too_many(at, close)
            return Problem(kind, f"{text}the batch line has {what}: check its contact and its ground")
    return Problem(kind, f"{text}check the batch line's wiring, or choose a shorter --window for faster sampling")
