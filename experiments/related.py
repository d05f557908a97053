"""Does the current follow the marker lines? Swapped lines, lines of another board and stale records do not. Pure.

The current of short blocks falls into two levels. Where they lie well apart, the gate must lie on the higher one: the
current must not have risen long before it, and no other place in the record may explain the current much better.
Causes come first and effects smear: capacitors of a board let the current follow milliseconds later, never earlier,
so that earliness is judged strictly and lateness only by the correlation. A load hardly above idle tells nothing.

Only the gate is judged. Batches show in the current of some networks and not of others, and their edges are tied to
the device's log one by one (`clock_fit`), which holds for all of them and is much stricter.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import cast

import numpy as np
from numpy.typing import NDArray

from calibration.statistics import mean
from experiments.code_sums import sums_of_blocks
from experiments.found_work import APART, BRIDGE_S, two_levels
from instruments.waveform import Codes

Floats = NDArray[np.float64]

BLOCK_S = 1e-3
"""Usual length of a block. Where a device pauses for most of each batch, blocks as long as a batch are tried next."""

LEAST_BLOCKS = 100
LEAST_SHARE = 0.5
"""Of the window's length, what the higher level must last in the record before it is taken for work."""

LEAD_S = 0.02
"""How early the current may rise before the gate is seen, beyond what the device said: USB lines take up to 16 ms, and
the idle power is averaged up to 20 ms before the gate."""

LEAST_LEAD_S = 2e-3
LAG_SHARE, LEAST_LAG_S = 0.05, 0.05
"""How much later than the gate the current may be: what capacitors and a slow begin make of it."""

WITHOUT_PAUSES = 0.95
"""Share of the time up to its fall for which the current of a device that does not pause is at the higher level."""

EARLY_S = 0.015
LEFT = 0.1
"""How long the current may stay at a level after its edge of the gate before lines are early, and the share of the step
that it must leave it by: of an exponential of 0.1 s that is 11 ms."""

BETTER = 0.25
"""Share of the current's variance by which another place must explain more than the gate's own."""


@dataclass(frozen=True)
class Relation:
    """How the current and the gate belong together.

    `correlation` is that of the current with the gate, at the lag within what capacitors explain that suits it best;
    `best` the highest for any lag, which is `lag_s` (negative: the current comes first); where `correlation` leaves no
    room for a better place, none is looked for. `lead_s` is how long before the gate the current had risen,
    `from_start` that this was so from the record's first sample on. `checkable` is whether two levels of the current
    were found at all, `apart` their distance in scatters. `fell_s` is how long before the gate's fall the current had
    fallen, where it did not pause before, and `prompt_s` what of it lines that are quick explain. `stayed_s` is for how
    long after the gate's rise the current stayed low and after its fall high, the shorter of both.
    """

    checkable: bool
    apart: float
    correlation: float
    best: float
    lag_s: float
    lead_s: float
    lead_limit_s: float
    from_start: bool = False
    fell_s: float = 0.0
    prompt_s: float = math.inf
    stayed_s: float = 0.0

    @property
    def late(self) -> bool:
        """Whether the lines lag behind the work, at both ends, by more than a known delay of theirs."""
        return self.checkable and min(self.lead_s, self.fell_s) > self.prompt_s

    @property
    def early(self) -> bool:
        """Whether the lines move before the work, at both ends, by more than capacitors make of it."""
        return self.checkable and self.stayed_s > EARLY_S

    @property
    def problem(self) -> str:
        """Why the current does not follow the gate; empty where it does, or where nothing can be said."""
        if not self.checkable:
            return ""
        figures = (
            f"correlation {self.correlation:.2f} with the gate, {self.best:.2f} with the gate moved by "
            f"{self.lag_s * 1e3:.4g} ms"
        )
        cause = "swapped lines, lines of another board, or the record of another run?"
        if self.lead_s > self.lead_limit_s:
            more = " or more" if self.from_start else ""
            return f"the current rises {self.lead_s * 1e3:.3g} ms{more} before the gate ({figures}): {cause}"
        if self.correlation <= 0 or self._share(self.best) - self._share(self.correlation) > BETTER:
            return f"the current does not follow the gate ({figures}): {cause}"
        return ""

    @staticmethod
    def _share(correlation: float) -> float:
        return max(correlation, 0.0) ** 2


def relate(
    values: NDArray[np.generic],
    dt_s: float,
    start: int,
    stop: int,
    batches: int,
    busy_s: float,
    delay_s: float = 0.0,
    quiet_after_s: float = 0.0,
) -> Relation:
    """Compare a current, (n,), in any unit, with a gate that is high in samples [start, stop).

    `busy_s` is how long before the gate the device was no longer idle, `delay_s` a known delay of the lines,
    `quiet_after_s` for how long after the gate the device did nothing.
    """
    n = len(values)
    fine = max(1, min(round(BLOCK_S / dt_s), n // (4 * LEAST_BLOCKS)))
    coarse = min(round((stop - start) / max(batches, 1)), n // LEAST_BLOCKS)
    found = _relate(values, dt_s, start, stop, fine, busy_s, delay_s, quiet_after_s)
    if found.checkable or coarse < 2 * fine:
        return found
    return _relate(values, dt_s, start, stop, coarse, busy_s, delay_s, quiet_after_s)


def _relate(
    values: NDArray[np.generic],
    dt_s: float,
    start: int,
    stop: int,
    size: int,
    busy_s: float,
    delay_s: float,
    quiet_after_s: float,
) -> Relation:
    """The same with blocks of `size` samples."""
    whole = len(values) // size
    prompt_s = max(delay_s, 0.0) + LEAST_LEAD_S + 2 * size * dt_s
    limit_s = busy_s + prompt_s + max(0.0, min(LEAD_S, 0.25 * start * dt_s) - LEAST_LEAD_S)
    unknown = Relation(False, 0.0, math.nan, math.nan, math.nan, math.nan, limit_s)
    if whole < LEAST_BLOCKS:
        return unknown
    blocks = _means(values, size)
    low, high, scatter = two_levels(blocks)
    apart = (high - low) / scatter if scatter > 0 else math.inf if high > low else 0.0
    on = blocks > (low + high) / 2
    first, last = round(start / size), max(round(start / size) + 1, round(stop / size))
    if apart <= APART or np.count_nonzero(on) < LEAST_SHARE * (last - first) or first < 2 or whole - last + first < 3:
        return Relation(False, apart, math.nan, math.nan, math.nan, math.nan, limit_s)
    block_s = size * dt_s
    correlate = _Correlations(blocks, first, last)
    late_s = max(LEAST_LAG_S, LAG_SHARE * (stop - start) * dt_s)
    lags, found = correlate(math.ceil(-limit_s / block_s), math.floor(late_s / block_s))
    best = int(found.argmax())
    allowed = float(found[best])
    if max(allowed, 0.0) ** 2 < 1 - BETTER:  # else no other place can explain as much more
        lags, found = correlate(-len(blocks), len(blocks))
        best = int(found.argmax())
    lead = _risen_before(on, first, max(1, round(BRIDGE_S / block_s)))
    return Relation(
        True,
        apart,
        allowed,
        float(found[best]),
        float(lags[best]) * block_s,
        lead * block_s,
        limit_s,
        lead == first,
        _fallen_before(on[first:last]) * block_s,
        prompt_s,
        _stayed(blocks, first, last, math.floor(quiet_after_s / block_s), (low, high, scatter)) * block_s,
    )


def _means(values: NDArray[np.generic], size: int) -> Floats:
    """Means of neighbouring blocks, (n // size,); codes are whole numbers, whose sums are exact and quick."""
    if values.dtype in (np.uint8, np.uint16):
        return sums_of_blocks(cast(Codes, values), size) / size
    whole = len(values) // size
    return np.asarray(values[: whole * size].reshape(whole, size).mean(axis=1, dtype=np.float64))


class _Correlations:
    """Pearson's correlation of blocks, (n,), with a gate over blocks [first, last) that is moved by lags.

    A gate that leaves the record is cut off; lags that leave less than a tenth of it, or of the rest, are left out.
    """

    def __init__(self, blocks: Floats, first: int, last: int) -> None:
        self._n, self._first, self._last = len(blocks), first, last
        self._total = np.zeros(self._n + 1)
        about = blocks - mean(blocks)
        np.add.accumulate(about, out=self._total[1:])
        self._spread = math.sqrt(float(np.add.reduce(about * about)) / self._n) * self._n

    def __call__(self, least: int, most: int) -> tuple[NDArray[np.int64], Floats]:
        """Lags from `least` to `most`, and the coefficients."""
        n, first, last = self._n, self._first, self._last
        length = last - first
        lags = np.arange(max(least, 1 - last), min(most + 1, n - first))
        a, b = np.maximum(first + lags, 0), np.minimum(last + lags, n)
        inside = b - a
        kept = (inside >= max(1, length // 10)) & (n - inside >= max(1, (n - length) // 10))
        if not kept.all():
            lags, a, b, inside = lags[kept], a[kept], b[kept], inside[kept]
        return lags, (self._total[b] - self._total[a]) * n / np.sqrt(inside * (n - inside)) / self._spread


def _risen_before(on: NDArray[np.bool_], first: int, bridge: int) -> int:
    """Blocks before the gate's rise for which the current was at the higher level, up to the rise and without a gap."""
    quiet = np.flatnonzero(~on[:first][::-1])
    if not len(quiet):
        return first
    # So many in a row, the first of which is this one.
    whole = np.flatnonzero(quiet[bridge - 1 :] - quiet[: len(quiet) - bridge + 1] == bridge - 1)
    return int(quiet[whole[0]]) if len(whole) else first


def _fallen_before(on: NDArray[np.bool_]) -> int:
    """Blocks at the end of a gate for which the current was at the lower level; 0 where it paused before as well."""
    held = np.flatnonzero(on)
    if not len(held) or len(held) < WITHOUT_PAUSES * (held[-1] + 1):
        return 0
    return len(on) - 1 - int(held[-1])


def _stayed(blocks: Floats, first: int, last: int, quiet: int, levels: tuple[float, float, float]) -> int:
    """Blocks for which the current stayed at the lower level from `first` and at the higher from `last` on: the fewer.

    Of the `quiet` ones after `last`, in which the device did nothing; 0 where it stayed for all of them.
    """
    low, high, scatter = levels
    by = max(LEFT * (high - low), 3 * scatter)
    left = np.flatnonzero(blocks[last : last + quiet] < high - by)
    if not len(left) or not left[0]:
        return 0
    risen = np.flatnonzero(blocks[first:last] > low + by)
    return min(int(left[0]), int(risen[0])) if len(risen) else 0
