"""The marker lines as the oscilloscope saw them: edges, windows, and what does not fit. Pure.

The gate is high while the measured loop runs; the batch line toggles at the end of every batch. An
edge between sample k - 1 and sample k is placed half-way, at k - 1/2, and is known to half a sample.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class Window:
    """The measured loop in one record: samples [start, stop) and the batch ends inside.

    `batch_ends` are sample indices, strictly increasing, the last at most `stop`.
    """

    start: int
    stop: int
    batch_ends: tuple[int, ...]

    @property
    def samples(self) -> int:
        """Number of samples in the window."""
        return self.stop - self.start


@dataclass(frozen=True)
class Decoded:
    """What a record's marker bits say: a window, or why there is none."""

    window: Window | None
    problems: tuple[str, ...]


def edges(bits: NDArray[np.unsignedinteger[Any]], bit: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Find the edges of one line: index of the first sample after each edge, and the level from there.

    `bits` has shape (n,), bit k = Dk. Returns two arrays of one length.
    """
    level = (bits >> bit) & 1
    at = np.flatnonzero(level[1:] != level[:-1]) + 1
    return at.astype(np.int64), level[at].astype(np.int64)


def decode(bits: NDArray[np.unsignedinteger[Any]], gate_bit: int, batch_bit: int) -> Decoded:
    """Find the gate's window and the batch ends in it.

    Every departure from one whole window is reported by kind and the window withheld; nothing is
    guessed. Kinds: no gate edge, gate high at the record's start, gate still high at its end, more
    than one gate pulse, batch edges outside the gate.
    """
    at, level = edges(bits, gate_bit)
    problems: list[str] = []
    if len(bits) == 0:
        return Decoded(None, ("the record has no samples",))
    if len(at) == 0:
        state = "high" if (int(bits[0]) >> gate_bit) & 1 else "low"
        return Decoded(None, (f"the gate line never moves: it is {state} in the whole record",))
    if level[0] == 0:
        problems.append("the gate is already high at the record's start: the window is cut")
    if level[-1] == 1:
        problems.append("the gate is still high at the record's end: the window is cut")
    if len(at) > 2:
        problems.append(f"the gate has {len(at)} edges where 2 were expected: a glitch or a second run")
    if problems:
        return Decoded(None, tuple(problems))
    start, stop = int(at[0]), int(at[1])
    ends, _ = edges(bits, batch_bit)
    inside = (ends >= start) & (ends <= stop)
    if not inside.all():
        problems.append(f"{int((~inside).sum())} batch edges lie outside the gate")
        return Decoded(None, tuple(problems))
    return Decoded(Window(start, stop, tuple(int(k) for k in ends)), ())


def check_against_log(window: Window, batches_logged: int) -> str | None:
    """Compare the batch edges seen with the batches that the device logged; None when they agree."""
    seen = len(window.batch_ends)
    if seen == batches_logged:
        return None
    kind = "missing" if seen < batches_logged else "extra"
    return (
        f"{kind} batch edges: the record shows {seen}, the device logged {batches_logged}; "
        "check the batch line's wiring, or choose a shorter --window for faster sampling"
    )
