"""What else the paper states in numbers: the floor and the slope of memory, and AlexNet's gain from larger batches."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from experiments.figures.fits import MIN_HINGE, Hinge, hinge
from experiments.findings.intervals import Floats, Interval, draws
from experiments.findings.sample import Sample
from experiments.findings.verdict import ALPHA, Tree
from instruments.wording import counted

PAPER_FLOOR_MB, PAPER_SLOPE, PAPER_GAIN = 200.0, 1.30, 3.0
GRID = 501


@dataclass(frozen=True)
class Told:
    """Something the paper gives a number for, without a verdict: sentences, and a tree that JSON can hold."""

    title: str
    sentences: tuple[str, ...]
    numbers: Tree


def memory(sample: Sample, seed: int = 1) -> Told:
    """Memory against the size of the weights at the smallest batch (paper, figure 6), and against the batch (5)."""
    title = "Memory: floor and slope"
    table = sample.memory.join(sample.networks, on="network")
    table = table[table["weights_mb"].notna()]
    if table.empty:
        return Told(title, ("the device told nothing of its memory",), {})
    batch = int(table["batch"].min())
    here = table[table["batch"] == batch]
    x, y = here["weights_mb"].to_numpy(), here["memory_mb"].to_numpy()
    numbers: Tree = {"kind": sample.memory_kind, "batch": batch, "networks": len(here)}
    fit = hinge(x, y)
    if fit is None:
        return Told(title, (f"{counted(len(here), 'network')}: too few for a hinge, which needs {MIN_HINGE}",), numbers)
    intervals = _hinge_intervals(x, y, fit, seed)
    numbers["by_weights"] = {name: found.tree() for name, found in intervals.items()} | {
        "rms_mb": fit.rms,
        "delta_aicc_line": _over_line(x, y, fit),
        "networks_on_the_floor": int((x <= fit.knee).sum()),
    }
    numbers["by_batch"] = _by_batch(table)
    gain = numbers["by_weights"]["delta_aicc_line"]
    sentences = [
        f"batch {batch}, {sample.memory_kind}, {len(here)} networks: a floor of {intervals['floor_mb'].text('.0f')} MB "
        f"up to {intervals['knee_mb'].text('.0f')} MB of weights, then {intervals['slope'].text('.2f')} MB per MB "
        f"(the paper: {PAPER_FLOOR_MB:.0f} MB, {PAPER_SLOPE:.2f}); a straight line's AICc is "
        f"{abs(gain):.1f} {'higher' if gain >= 0 else 'lower'}"
    ]
    knees = {name: tree["knee_batch"] for name, tree in numbers["by_batch"].items()}
    if knees:
        low, high = min(knees, key=lambda k: knees[k]), max(knees, key=lambda k: knees[k])
        sentences.append(
            f"with the batch it grows from a knee on, from batch {knees[low]:.1f} ({low}) to {knees[high]:.1f} ({high})"
        )
    return Told(title, tuple(sentences), numbers)


def _hinge_intervals(x: Floats, y: Floats, fit: Hinge, seed: int) -> dict[str, Interval]:
    """Intervals of floor, knee and slope by the bootstrap over networks; the knee is looked for in GRID places."""
    knees = np.linspace(x.min(), x.max(), GRID)[:-1, None]

    def drawn(chosen: NDArray[np.intp]) -> Floats:
        u, v = np.maximum(x[chosen] - knees, 0.0), y[chosen]
        du, dv = u - u.mean(axis=1, keepdims=True), v - v.mean()
        spread = (du**2).sum(axis=1)
        slopes = np.divide(du @ dv, spread, out=np.zeros_like(spread), where=spread > 0)
        left = (dv**2).sum() - slopes * (du @ dv)
        best = int(np.argmin(np.where(slopes > 0, left, math.inf)))
        return np.array([v.mean() - slopes[best] * u[best].mean(), knees[best, 0], slopes[best]])

    ends = np.percentile(draws(drawn, len(x), seed), (2.5, 97.5), axis=-1)
    ends[:, 1] += np.array([-0.5, 0.5]) * float(knees[1, 0] - knees[0, 0])
    values = {"floor_mb": fit.floor, "knee_mb": fit.knee, "slope": fit.slope}
    return {name: Interval(value, *map(float, ends[:, k])) for k, (name, value) in enumerate(values.items())}


def _over_line(x: Floats, y: Floats, fit: Hinge) -> float:
    """AICc of a straight line minus that of the hinge: above 0 the knee is worth its number."""
    from statsmodels.regression.linear_model import OLS
    from statsmodels.tools.eval_measures import aicc

    line = OLS(y, np.stack([np.ones_like(x), x], axis=1)).fit()
    n = len(x)

    def of(variance: float, free: int) -> float:
        return float(aicc(-n / 2 * (math.log(2 * math.pi * max(variance, 1e-12)) + 1), n, free))

    return of(float(line.ssr) / n, 3) - of(fit.rms**2, 4)


def _by_batch(table: pd.DataFrame) -> Tree:
    """For each network with enough batch sizes: flat up to a knee, then so many MB an image."""
    found: Tree = {}
    for name, rows in table.groupby("network"):
        fit = hinge(rows["batch"].to_numpy(float), rows["memory_mb"].to_numpy())
        if fit is not None and fit.slope > 0:
            found[str(name)] = {"floor_mb": fit.floor, "knee_batch": fit.knee, "mb_per_image": fit.slope}
    return found


def gain(sample: Sample, networks: Sequence[str] = ("AlexNet", "BN-AlexNet")) -> Told:
    """How many times faster an image is in the largest batch than in the smallest (paper, section 3.2: about 3)."""
    title = "AlexNet's gain from larger batches"
    runs = sample.usable
    sentences, numbers = [], {}
    for name in networks:
        mine = runs[runs["network"] == name]
        if mine["batch"].nunique() < 2:
            continue
        low, high = int(mine["batch"].min()), int(mine["batch"].max())
        times = [np.log(mine[mine["batch"] == b]["time_s"].to_numpy()) for b in (low, high)]
        ratio = _ratio(*times)
        numbers[name] = {"from_batch": low, "to_batch": high, "gain": ratio.tree()}
        sentences.append(f"{name}: {ratio.text('.2f')} times faster an image at batch {high} than at {low}")
    if not sentences:
        return Told(title, ("no AlexNet was measured at two batch sizes",), {})
    return Told(title, (*sentences, f"the paper: about {PAPER_GAIN:g} from batch 1 to 64, for AlexNet"), numbers)


def _ratio(slow: Floats, fast: Floats) -> Interval:
    """Ratio of two times with its interval, from their logarithms (Welch)."""
    from statsmodels.stats.weightstats import CompareMeans, DescrStatsW

    value = math.exp(slow.mean() - fast.mean())
    if np.ptp(slow) == 0 and np.ptp(fast) == 0:
        return Interval(value)
    low, high = CompareMeans(DescrStatsW(slow), DescrStatsW(fast)).tconfint_diff(ALPHA, usevar="unequal")
    return Interval(value, math.exp(low), math.exp(high))
