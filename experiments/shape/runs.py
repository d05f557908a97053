"""The shape of power in a run that no single record holds, put together from its captures. Pure.

Whatever the order in which these came, they count in that in which they were taken.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from calibration.model import Channel
from experiments.shape import steady
from experiments.shape.captures import Blocks, PartLook
from experiments.shape.folding import LEVELS, Folded, bins_within, calibrated
from experiments.shape.rows import RunShape
from experiments.shape.settling import UNKNOWN, Settling

Floats = NDArray[np.float64]

NO_FALL = "no record of the run holds the gate's fall"
"""Why it is not known how fast a board's current settles."""

NO_WHOLE_BATCH = "no record of the run holds a whole batch that follows another"
"""Why a run has no mean batch."""

LEAST_SEEN = 2
"""Batches in which each phase must have been recorded."""


@dataclass(frozen=True)
class Captured:
    """One capture of a run: what was seen of it, and when.

    `at_s` is when it was taken, by the host; its first sample came `begun_s` after the gate's rise (NaN: not known).
    In it the device worked for `seconds`, with the means `mean_i`, `mean_v` and `mean_vi`.
    """

    look: PartLook
    number: int
    at_s: float
    begun_s: float
    seconds: float
    mean_i: float
    mean_v: float
    mean_vi: float


@dataclass(frozen=True)
class RunLook:
    """What was seen of a run before it is calibrated. `samples` are, of each capture, the highest sample and the means:
    current, voltage, mean current, mean voltage, mean product, seconds and the time by the host, (captures, 7)."""

    samples: Floats
    steady_from_s: float
    settling: Settling
    unsettled: str
    fold: Folded | None
    folded_at_s: float
    batch_s: float
    why: str

    def shape(self, current: Channel, voltage: Channel, at_s: float) -> RunShape:
        """Apply the calibration of the run, each capture's at its own time; `at_s`, that of the run, does not count."""
        del at_s
        gain = current.gain.value * voltage.gain.value
        peaks, powers = [], []
        for peak_i, peak_v, mean_i, mean_v, mean_vi, _, t in self.samples:
            zi, zv = current.offset.at(t), voltage.offset.at(t)
            peaks.append((peak_i - zi) * (peak_v - zv) / gain)
            powers.append((mean_vi - zi * mean_v - zv * mean_i + zi * zv) / gain)
        fold = None
        if self.fold is not None:
            fold = calibrated(self.fold, current, voltage, self.folded_at_s)
        mean_w = float(np.average(powers, weights=self.samples[:, 5]))
        return RunShape(
            float(max(peaks)), mean_w, self.steady_from_s, self.settling, fold, self.batch_s, self.why, self.unsettled
        )


def look_of(captures: Sequence[Captured], log_s: Floats, *, whole: bool) -> RunLook | None:
    """Put what was seen of the captures of a run together; None without one.

    `log_s` holds the gate's rise and the ends of batches by the device's clock. The mean batch is that of the `whole`
    batches inside the records, or, where these may be shorter than batches, of what they show of them.
    """
    ordered = sorted(captures, key=lambda one: one.number)
    if not ordered:
        return None
    settles = next((one.look.settling for one in reversed(ordered) if one.look.settling is not None), None)
    known = settles or UNKNOWN
    fold, batch_s, why = _of_whole(ordered, known) if whole else _of_stretches(ordered, log_s, known)
    rows = [
        (c.look.peak_i, c.look.peak_v, c.mean_i, c.mean_v, c.mean_vi, c.seconds, c.at_s)  # as `RunLook.samples`
        for c in ordered
    ]
    weights = [c.look.whole if whole else c.seconds for c in ordered]
    folded_at_s = float(np.average([c.at_s for c in ordered], weights=weights)) if any(weights) else ordered[0].at_s
    return RunLook(
        np.array(rows),
        _steady_from(ordered, len(log_s) - 1),
        known,
        NO_FALL if settles is None else "",
        fold,
        folded_at_s,
        batch_s,
        why,
    )


def _steady_from(ordered: Sequence[Captured], batches: int) -> float:
    """From when on the power of the run is steady, s from the gate's rise; NaN where its beginning was not seen.

    What lies between two captures counts with the later one: power was steady from there on at the latest.
    """
    if ordered[0].number or not all(math.isfinite(c.begun_s) for c in ordered):
        return math.nan
    by_batch = [(c.begun_s, c.look.groups) for c in ordered if c.look.groups is not None]
    each: list[tuple[float, Blocks]] = [(c.begun_s, c.look.stretches) for c in ordered]
    if batches > steady.STEADY_BATCHES and sum(len(blocks.vi) for _, blocks in by_batch) >= steady.LEAST_BLOCKS:
        each = by_batch
    starts = np.concatenate([begun_s + blocks.cuts_s[:-1] for begun_s, blocks in each])
    means = np.concatenate([blocks.vi for _, blocks in each])
    end_s = each[-1][0] + each[-1][1].cuts_s[-1]
    unit_s = min(float(np.diff(blocks.cuts_s).min()) for _, blocks in each) / 100
    cuts = np.rint((np.append(starts, end_s) - starts[0]) / unit_s).astype(np.int64)
    return steady.steady_since(means, cuts) * unit_s


def _of_whole(ordered: Sequence[Captured], settles: Settling) -> tuple[Folded | None, float, str]:
    """The whole batches of all captures in one fold, at the finest bins that each of them and the settling allow."""
    looks = [c.look for c in ordered if c.look.whole]
    if not looks:
        return None, math.nan, NO_WHOLE_BATCH
    n = sum(look.whole for look in looks)
    batch_s = sum(look.folded_s for look in looks) / n
    most, why = bins_within(n, min(look.shortest for look in looks), batch_s, settles)
    folds = [look.fold for look in looks if look.fold is not None]
    if most is None or not folds:
        return None, batch_s, why
    bins = next(b for b in LEVELS if b <= most and all(b in f.squares for f in folds))
    count, (vi, i, v), squares = 0, (np.zeros(bins),) * 3, {b: np.zeros(b) for b in LEVELS if b <= bins}
    for fold in folds:
        more = fold.n
        new, own = [x.reshape(bins, -1).mean(axis=1) for x in fold.means], fold.squares
        about = new[0] - vi
        for b in squares:
            between = about.reshape(b, -1).mean(axis=1) ** 2 * (count * more / (count + more))
            squares[b] = squares[b] + own[b] + between
        count += more
        vi, i, v = (old + (x - old) * (more / count) for old, x in zip((vi, i, v), new, strict=True))
    return Folded.of(count, vi, i, v, squares), batch_s, ""


def _of_stretches(ordered: Sequence[Captured], log_s: Floats, settles: Settling) -> tuple[Folded | None, float, str]:
    """The batches but the first of a run, as far as its records show them, by the phase that the device's log tells."""
    lengths_s = np.diff(log_s)[1:]
    if len(lengths_s) < LEAST_SEEN:
        return None, math.nan, bins_within(len(lengths_s), 0, math.nan, settles)[1]
    batch_s = float(lengths_s.mean())
    timed = [c for c in ordered if math.isfinite(c.begun_s)]
    if not timed:
        return None, batch_s, "when the records were taken is not known"
    cuts = [(c.begun_s + c.look.stretches.cuts_s, c.look.stretches) for c in timed]
    middle_s = np.concatenate([(at[1:] + at[:-1]) / 2 for at, _ in cuts])
    longest_s = max(float(np.diff(at).max()) for at, _ in cuts)
    most, why = bins_within(len(lengths_s), int(float(lengths_s.min()) / longest_s), batch_s, settles)
    if most is None:
        return None, batch_s, why
    values = np.array([np.concatenate([getattr(b, name) for _, b in cuts]) for name in ("vi", "i", "v")])
    of_batch = np.searchsorted(log_s, middle_s, side="right") - 1
    inside = (of_batch >= 1) & (of_batch < len(log_s) - 1)
    of_batch, middle_s, values = of_batch[inside], middle_s[inside], values[:, inside]
    phase = (middle_s - log_s[of_batch]) / (log_s[of_batch + 1] - log_s[of_batch])
    found = {b: _by_phase(of_batch, phase, values, b, len(log_s) - 1) for b in LEVELS if b <= most}
    bins = next((b for b, (seen, *_) in found.items() if int(seen.min()) >= LEAST_SEEN), None)
    if bins is None:
        return None, batch_s, f"the records show some phases of a batch in fewer than {LEAST_SEEN} batches"
    seen, (vi, i, v), _ = found[bins]
    n = int(seen.min())
    # Each phase was seen in another number of batches; the scatter is that of those, the number the least.
    squares = {b: sums / np.maximum(counts - 1, 1) * (n - 1) for b, (counts, _, sums) in found.items() if b <= bins}
    return Folded.of(n, vi, i, v, squares), batch_s, ""


def _by_phase(
    of_batch: NDArray[np.int64], phase: Floats, values: Floats, bins: int, batches: int
) -> tuple[NDArray[np.int64], Floats, Floats]:
    """By bin: in how many batches it was seen, the means of i v, i and v over these, (3, bins), and the sum of squares
    of i v about it."""
    at = of_batch * bins + np.minimum((phase * bins).astype(np.int64), bins - 1)
    counts = np.bincount(at, minlength=batches * bins)
    sums = np.array([np.bincount(at, x, minlength=batches * bins) for x in values])
    there = (counts > 0).reshape(batches, bins)
    each = (sums / np.maximum(counts, 1)).reshape(3, batches, bins)
    seen = there.sum(axis=0)
    means = each.sum(axis=1) / np.maximum(seen, 1)
    squares = (((each[0] - means[0]) ** 2) * there).sum(axis=0)
    return seen, means, squares
