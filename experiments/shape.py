"""The shape of a cell's power: its peak, when it is steady, how fast it settles, and its mean batch. Pure.

Looked at once, in the readings as they came (`look`); the run's calibration is applied to what was kept (`Look.shape`),
so that no codes are needed twice and the live sweep and a replay say the same.

Peak and crest are those of samples. In high resolution each is the mean over its sampling period, and the clamp ends
at 100 kHz: what is shorter is averaged, and a slower sampling shows a lower peak. The noise of some 10^5 samples adds
about four of its standard deviations.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize_scalar

from calibration.model import Channel
from experiments.energy import Measured

Floats = NDArray[np.float64]
Indices = NDArray[np.int64]

STEADY_BATCHES = 20
"""Batches from which the steady state is looked for in the means of whole batches, so that their own ups and downs do
not count; below, in `STEADY_BLOCKS` equal blocks."""

STEADY_BLOCKS = 200
SAME_SHARE, SAME_SCORE = 2e-3, 4.0
"""A beginning, or a block, that differs by less is steady too: share of the mean, standard uncertainties."""

BEFORE_S = 0.05
"""Stretches before and after the gate's fall from which its step is known, at most."""

FIT_TIMES = 5.0
"""Settling times over which the fall is fitted; slower tails are then part of the level that it falls to."""

LEAST_SETTLING = 1.5
"""Sampling periods below which no settling is seen, only that it is faster."""

LEAST_SCORE = 10.0
"""Noise of one sample that the step must be above before its settling is fitted."""

UNSURE = 0.5
"""Relative standard uncertainty of a settling time beyond which it is unknown."""

LEVELS = (128, 64, 32, 16, 8, 4)
"""Numbers of phase bins, the finest first; each bin of a coarser one is two of the finer."""

LEAST_SAMPLES = 2
"""Samples in each bin of every batch."""


@dataclass(frozen=True)
class Profile:
    """The mean batch: `mean_w` and its standard deviation from batch to batch `sd_w`, by phase; (bins,).

    The first batch of a run begins at rest and is left out.
    """

    mean_w: Floats
    sd_w: Floats
    batches: int
    batch_s: float

    @property
    def phase(self) -> Floats:
        """Middle of each bin, 0 to 1."""
        return (np.arange(self.mean_w.size) + 0.5) / self.mean_w.size


@dataclass(frozen=True)
class Shape:
    """The shape of power in one run, or in the repeats of a row; what is unknown is NaN, or None with a reason `why`.

    `peak_w` is the highest sample of v x i in the measured loop, `crest` that over the mean power: the peak-to-average
    ratio. (The crest factor of an alternating quantity is its peak over its r.m.s. value; that of a power means
    nothing.) From `steady_from_s` after the gate's rise on, power is steady. `settling_s` is the time constant with
    which it falls after the gate, `settling_u_s` its standard uncertainty.
    """

    peak_w: float
    crest: float
    steady_from_s: float
    settling_s: float
    settling_u_s: float
    profile: Profile | None
    why: str


@dataclass(frozen=True)
class _Fold:
    """Batches of one run by phase, in readings: number, and by bin the means of i v, i and v and the sum of squares
    about the mean of i v."""

    n: int
    vi: Floats
    i: Floats
    v: Floats
    squares: Floats


@dataclass(frozen=True)
class Look:
    """What was seen of a run before it is calibrated: readings in A, V and V A."""

    peak_i: float
    peak_v: float
    mean_i: float
    mean_v: float
    mean_vi: float
    steady_from_s: float
    settling_s: float
    settling_u_s: float
    folds: Mapping[int, _Fold]
    batch_s: float
    why: str

    def shape(self, current: Channel, voltage: Channel, at_s: float) -> RunShape:
        """Apply the calibration of the run."""
        zi, zv = current.offset.at(at_s), voltage.offset.at(at_s)
        gain = current.gain.value * voltage.gain.value

        def watts(vi: Floats, i: Floats, v: Floats) -> Floats:
            return np.asarray((vi - zi * v - zv * i + zi * zv) / gain)

        peak_w = (self.peak_i - zi) * (self.peak_v - zv) / gain
        mean_w = (self.mean_vi - zi * self.mean_v - zv * self.mean_i + zi * zv) / gain
        folds = {k: (f.n, watts(f.vi, f.i, f.v), f.squares / gain**2) for k, f in self.folds.items()}
        return RunShape(
            peak_w, mean_w, self.steady_from_s, self.settling_s, self.settling_u_s, folds, self.batch_s, self.why
        )


@dataclass(frozen=True)
class RunShape:
    """The calibrated shape of one run; `folds` holds for each number of bins batches, mean and sum of squares, W."""

    peak_w: float
    mean_w: float
    steady_from_s: float
    settling_s: float
    settling_u_s: float
    folds: Mapping[int, tuple[int, Floats, Floats]]
    batch_s: float
    why: str


def of_row(runs: Sequence[RunShape]) -> Shape | None:
    """Put the repeats of a row together: the highest peak and crest, the latest begin of what is steady, the mean of
    the settling times, all batches in one profile. None without a run; unknown where any repeat's is."""
    if not runs:
        return None
    crests = [r.peak_w / r.mean_w if r.mean_w > 0 else math.nan for r in runs]
    settling_s, settling_u_s = _mean_of([r.settling_s for r in runs], [r.settling_u_s for r in runs])
    profile, why = _profile(runs)
    return Shape(
        max(r.peak_w for r in runs),
        float(np.max(crests)),
        float(np.max([r.steady_from_s for r in runs])),
        settling_s,
        settling_u_s,
        profile,
        why,
    )


def _mean_of(values: Sequence[float], u: Sequence[float]) -> tuple[float, float]:
    known = [(x, s) for x, s in zip(values, u, strict=True) if math.isfinite(x)]
    if not known:
        return math.nan, math.nan
    x = np.array([value for value, _ in known])
    scatter = float(np.var(x, ddof=1)) if len(x) > 1 else 0.0
    own = float(np.mean([s**2 for _, s in known]))
    return float(x.mean()), math.sqrt(max(scatter, own) / len(x))


def _profile(runs: Sequence[RunShape]) -> tuple[Profile | None, str]:
    """All batches of all runs at the finest bins that each of them resolves."""
    shared = [bins for bins in LEVELS if all(bins in r.folds for r in runs)]
    if not shared:
        return None, next((r.why for r in runs if r.why), "the repeats resolve no common bins")
    n, mean, squares = runs[0].folds[shared[0]]
    for run in runs[1:]:
        more, other, about = run.folds[shared[0]]
        squares = squares + about + (other - mean) ** 2 * (n * more / (n + more))
        mean = mean + (other - mean) * (more / (n + more))
        n += more
    batch_s = float(np.mean([r.batch_s for r in runs]))
    return Profile(mean, np.sqrt(squares / (n - 1)), n, batch_s), ""


def look(measured: Measured) -> Look | None:
    """Look at the power of a measured loop whose codes are still there; None where there is none in one record."""
    loop, wires = measured.loop, measured.wires
    if loop is None or wires is None or measured.window is None or measured.data.method:
        return None
    capture = measured.data.capture
    i, v = capture.records[wires.current].values(), capture.records[wires.voltage].values()
    dt_s = capture.dt_s
    vi = i * v
    inside = slice(loop.start, loop.stop)
    top = loop.start + int(np.argmax(vi[inside]))
    edges = np.array([loop.start, *loop.batch_ends], dtype=np.int64)
    settling_s, settling_u_s = settling(vi, loop.start, loop.stop, dt_s)
    folds, why = _folds(vi, i, v, edges, dt_s, settling_s)
    return Look(
        float(i[top]),
        float(v[top]),
        measured.window.mean_i,
        measured.window.mean_v,
        measured.window.mean_vi,
        steady_from(vi, loop.start, loop.stop, edges) * dt_s,
        settling_s,
        settling_u_s,
        folds,
        loop.samples * dt_s / max(len(loop.batch_ends), 1),
        why,
    )


def steady_from(power: Floats, start: int, stop: int, edges: Indices) -> float:
    """Samples after `start` from which power, (n,), is steady until `stop`; NaN where that is not in the first half.

    MSER (White, Simulation 69, 1997, p.323): what to leave out of a series of block means is what makes the standard
    error of the rest the least, as if these were independent; a choice in the second half means that none was found,
    and the last quarter, too short to judge by, is never left alone. What is left out ends with the last block unlike
    the rest.
    `edges` are the samples at which batches begin and the last ends.
    """
    if len(edges) > STEADY_BATCHES:
        cuts = edges
    else:
        cuts = np.unique(np.linspace(start, stop, STEADY_BLOCKS + 1).astype(np.int64))
    if len(cuts) < 5:
        return math.nan
    means = np.add.reduceat(power[: cuts[-1]], cuts[:-1]) / np.diff(cuts)
    m = len(means)
    left = np.arange(m, 0, -1)
    centred = means - means.mean()
    total, square = (np.cumsum(x[::-1])[::-1] for x in (centred, centred**2))
    score = (square - total**2 / left) / left.astype(np.float64) ** 2
    cut = int(np.argmin(score[: m - m // 4]))
    if cut == 0:
        return 0.0
    early, late = means[:cut], means[cut:]
    level, scatter = float(late.mean()), float(np.std(late, ddof=1))
    u = scatter * math.sqrt(1 / cut + 1 / len(late))
    if abs(float(early.mean()) - level) <= max(SAME_SHARE * abs(level), SAME_SCORE * u):
        return 0.0
    if cut > m // 2:
        return math.nan
    unlike = np.flatnonzero(np.abs(early - level) > max(SAME_SHARE * abs(level), SAME_SCORE * scatter))
    return float(cuts[int(unlike[-1]) + 1] - start) if len(unlike) else float(cuts[cut] - start)


def settling(power: Floats, start: int, stop: int, dt_s: float) -> tuple[float, float]:
    """Time constant of the fall after sample `stop` of power, (n,), and its standard uncertainty; NaN where unknown.

    An exponential and a level, by least squares over five time constants; the time constant alone is not linear
    (variable projection, Golub and Pereyra 1973). Neighbouring residuals that belong together widen the uncertainty.
    """
    unknown = math.nan, math.nan
    n = min(int(BEFORE_S / dt_s), stop - start)
    after = power[stop : stop + 2 * max(n, 1)]
    if n < 10 or after.size < 20:
        return unknown
    rest = after[-(after.size // 4) :]
    low, high, noise = float(rest.mean()), float(power[stop - n : stop].mean()), float(np.std(np.diff(rest))) / 2**0.5
    if high - low <= LEAST_SCORE * noise:
        return unknown
    below = np.flatnonzero(after < low + (high - low) / math.e)
    if not below.size or below[0] < LEAST_SETTLING:
        return unknown
    first = float(below[0])
    y = after[: max(20, math.ceil(FIT_TIMES * first))]
    if y.size < 3 * first:
        return unknown
    k = np.arange(y.size, dtype=np.float64)

    def rest_of(log_tau: float) -> float:
        return _linear(k, y, math.exp(log_tau))[0]

    found = minimize_scalar(rest_of, bounds=(math.log(first / 4), math.log(first * 4)), method="bounded")
    tau = math.exp(float(found.x))
    _, scale, left = _linear(k, y, tau)
    decay = np.exp(-k / tau)
    slopes = np.column_stack((np.ones_like(k), decay, scale * decay * k / tau**2))
    try:
        inverse = np.linalg.inv(slopes.T @ slopes)
    except np.linalg.LinAlgError:
        return unknown
    variance = float(left @ left) / max(y.size - 3, 1)
    together = float(left[1:] @ left[:-1]) / max(float(left @ left), 1e-300)
    together = min(max(together, 0.0), 0.99)
    u = math.sqrt(variance * float(inverse[2, 2]) * (1 + together) / (1 - together))
    if tau < LEAST_SETTLING or not u < UNSURE * tau:
        return unknown
    return tau * dt_s, u * dt_s


def _linear(k: Floats, y: Floats, tau: float) -> tuple[float, float, Floats]:
    """Best level and height of an exponential of one time constant: sum of squares left, height, what is left."""
    decay = np.exp(-k / tau)
    about, yc = decay - decay.mean(), y - y.mean()
    scale = float(about @ yc) / max(float(about @ about), 1e-300)
    left = yc - scale * about
    return float(left @ left), scale, left


def fold_rows(values: Floats, edges: Indices, bins: int) -> Floats:
    """Mean of values, (n,), in equal parts of the stretch between each two edges, (k,): shape (k - 1, bins)."""
    sums, counts = _cut(edges, bins)
    return np.asarray(np.add.reduceat(values[: edges[-1]], sums).reshape(counts.shape) / counts)


def _cut(edges: Indices, bins: int) -> tuple[Indices, Indices]:
    """Where the parts begin, one after another, and their lengths by stretch."""
    cuts = edges[:-1, None] + np.arange(bins) * np.diff(edges)[:, None] // bins
    flat = cuts.ravel()
    return flat, np.diff(flat, append=edges[-1]).reshape(cuts.shape)


def _folds(
    vi: Floats, i: Floats, v: Floats, edges: Indices, dt_s: float, settling_s: float
) -> tuple[dict[int, _Fold], str]:
    """Fold the batches after the first, as finely as samples and settling allow; or why they cannot be."""
    later = edges[1:]
    if len(later) < 3:
        return {}, f"{max(len(later) - 1, 0)} batches that follow another are too few to average"
    lengths = np.diff(later)
    if int(lengths.min()) < LEAST_SAMPLES * LEVELS[-1]:
        return {}, f"the shortest batch has {int(lengths.min())} samples: too few to see anything in"
    batch_s = float(lengths.mean()) * dt_s
    most = int(lengths.min()) / LEAST_SAMPLES
    if math.isfinite(settling_s):
        if batch_s < LEVELS[-1] * settling_s:
            return {}, (
                f"a batch lasts {batch_s * 1e3:.3g} ms and the board's current settles with {settling_s * 1e3:.3g} ms: "
                "what is within a batch is smeared over several"
            )
        most = min(most, batch_s / settling_s)
    finest = next(bins for bins in LEVELS if bins <= most)
    flat, counts = _cut(later, finest)
    sums = [np.add.reduceat(x[: later[-1]], flat).reshape(counts.shape) for x in (vi, i, v)]
    folds = {}
    bins = finest
    while bins >= LEVELS[-1]:
        rows = sums[0] / counts
        mean = rows.mean(axis=0)
        folds[bins] = _Fold(
            len(rows),
            mean,
            (sums[1] / counts).mean(axis=0),
            (sums[2] / counts).mean(axis=0),
            ((rows - mean) ** 2).sum(axis=0),
        )
        sums = [x.reshape(len(rows), -1, 2).sum(axis=2) for x in sums]
        counts = counts.reshape(len(rows), -1, 2).sum(axis=2)
        bins //= 2
    return folds, ""
