"""H1: does net power depend on batch size and architecture? Equivalence, not the absence of significance."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from experiments.findings import intervals, variance
from experiments.findings.intervals import Floats
from experiments.findings.sample import Sample, batches_of, paper_pair
from experiments.findings.verdict import ALPHA, MIN_REPEATS, Decision, Finding, Tree, decided, percent, too_few

CLAIM = "net power does not depend on batch size and architecture"

PAPER_MARGIN = 0.06
"""The paper's own scatter: 0.7 W of 11.8 W."""

MIN_ARCHITECTURES = 5
MIN_BATCHES = 2

EXCEPTIONS = 0.05
"""Share of cells that may stand out: the paper names two of its 98 itself (AlexNet at 1, VGG at 2)."""


@dataclass(frozen=True)
class Departure:
    """How far something lies from the grand mean, relative to it, with TOST and its opposite at one margin.

    `p_within` is small where it lies within the margin (the larger of the two one-sided tests), `p_outside` where it
    lies beyond; `low` and `high` are the ends of the interval at 1 - 2 ALPHA, by which TOST can be seen.
    """

    name: str
    share: float
    low: float
    high: float
    p_within: float
    p_outside: float

    @property
    def text(self) -> str:
        """Write it, such as `AlexNet -1.2 %`."""
        return f"{self.name} {self.share * 100:+.1f} %"

    def tree(self) -> Tree:
        """For JSON."""
        return {
            "share": self.share,
            "low": self.low,
            "high": self.high,
            "p_equivalent": self.p_within,
            "p_different": self.p_outside,
        }


def judge(sample: Sample, margin: float = PAPER_MARGIN, seed: int = 1) -> Finding:
    """Judge H1 at a margin relative to the grand mean of the cells' net power."""
    runs = sample.usable
    decision = decide(sample, margin)
    reasons, numbers = decision.reasons, dict(decision.numbers)
    if numbers:
        numbers["analysis_of_variance"] = variance.anova(runs)
        numbers["variance_components_w"] = variance.components(runs)
        numbers["scatter"] = variance.scatter(runs)
        numbers["against"] = _against(sample, seed)
        reasons += tuple(_told(numbers))
    return Finding(
        "H1",
        CLAIM,
        decision.verdict,
        reasons,
        numbers,
        {
            "networks": runs["network"].nunique(),
            "batch sizes": runs["batch"].nunique(),
            "runs": len(runs),
        },
        {"relative": margin, "watts": margin * numbers.get("mean_w", math.nan), "exceptions": EXCEPTIONS},
        f"{sample.repeats_text}; margin ±{margin * 100:.3g} % of the mean net power",
        sample.device,
        batches_of(runs),
    )


def decide(sample: Sample, margin: float = PAPER_MARGIN) -> Decision:
    """Come to the verdict on H1, with no more numbers than it needs."""
    runs = sample.usable
    networks, batches = sorted(runs["network"].unique()), batches_of(runs)
    if len(networks) < MIN_ARCHITECTURES:
        return too_few(len(networks), f"networks repeated {MIN_REPEATS} times or more", MIN_ARCHITECTURES)
    if len(batches) < MIN_BATCHES:
        return too_few(len(batches), f"batch sizes repeated {MIN_REPEATS} times or more", MIN_BATCHES)
    cells, effects, numbers = _equivalence(runs, networks, batches, margin)
    if not numbers["mean_w"] > 0:
        return Decision("inconclusive", ("no net power: the mean is not above that of the idle device",), {})
    stray, astray, different = [c for c in cells if c.p_within >= ALPHA], _holm(cells), _holm(effects)
    allowed = int(EXCEPTIONS * len(cells))
    verdict = decided(
        bool(effects) and all(e.p_within < ALPHA for e in effects) and len(stray) <= allowed,
        bool(different) or len(astray) > allowed,
    )
    return Decision(verdict, tuple(_said(effects, different, cells, stray, astray, margin, numbers["mean_w"])), numbers)


def _equivalence(
    runs: pd.DataFrame, networks: Sequence[str], batches: Sequence[int], margin: float
) -> tuple[list[Departure], list[Departure], Tree]:
    """Departures of all cells, then those of all networks and batch sizes, and the numbers behind them.

    Cells: a mean for each, and for each session beyond the first a shift; scatter pooled over the repeats. Networks
    and batch sizes: an additive model of the cells' means, so that cells without a result bias nothing and what
    networks do differently at different batch sizes counts as scatter. None of these where the two cannot be told
    apart.
    """
    from statsmodels.regression.linear_model import OLS

    keys = sorted(set(zip(runs["network"], runs["batch"], strict=True)))
    index = {key: k for k, key in enumerate(keys)}
    sessions = sorted(runs["session"].unique())
    design = np.zeros((len(runs), len(keys) + len(sessions) - 1))
    for row, (name, batch, session) in enumerate(zip(runs["network"], runs["batch"], runs["session"], strict=True)):
        design[row, index[name, batch]] = 1
        if session != sessions[0]:
            design[row, len(keys) + sessions.index(session) - 1] = 1
    if np.linalg.matrix_rank(design) < design.shape[1]:
        design = design[:, : len(keys)]  # sessions without a cell in common: a shift between them counts as scatter
    fit = OLS(runs["net_power_w"].to_numpy(), design).fit()
    means_w = fit.params[: len(keys)]
    units = np.eye(len(keys), design.shape[1])
    cells = _departures(fit, units, units.mean(axis=0), margin, [f"{name} batch {batch}" for name, batch in keys])

    by_network = np.eye(len(networks), len(networks) + len(batches) - 1)
    by_batch = np.eye(len(batches), len(networks) + len(batches) - 1, len(networks) - 1)
    by_batch[0] = 0
    rows = np.stack([by_network[networks.index(name)] + by_batch[batches.index(batch)] for name, batch in keys])
    effects: list[Departure] = []
    if np.linalg.matrix_rank(rows) == rows.shape[1] < len(rows):
        additive = OLS(means_w, rows).fit()
        units = np.concatenate([by_network + by_batch.mean(axis=0), by_batch + by_network.mean(axis=0)])
        middle = by_network.mean(axis=0) + by_batch.mean(axis=0)
        effects = _departures(additive, units, middle, margin, [*networks, *(f"batch {batch}" for batch in batches)])
    numbers: Tree = {
        "mean_w": float(means_w.mean()),
        "sd_of_cells_w": float(means_w.std(ddof=1)),
        "sd_of_cells": float(means_w.std(ddof=1) / means_w.mean()),
        "sd_of_repeats_w": float(np.sqrt(fit.scale)),
        "networks_and_batches": {e.name: e.tree() for e in effects},
        "cells": {c.name: c.tree() for c in cells},
    }
    return cells, effects, numbers


def _departures(fit: Any, units: Floats, grand: Floats, margin: float, names: Sequence[str]) -> list[Departure]:
    """Compare contrasts (k, parameters) with the grand mean.

    unit - (1 ± margin) grand is linear in the parameters, so that the margin's own error counts too.
    """
    from scipy.stats import t as student

    mean_w = float(grand @ fit.params)
    beyond = student.sf(fit.t_test(units - (1 + margin) * grand).tvalue, fit.df_resid)
    short = student.cdf(fit.t_test(units - (1 - margin) * grand).tvalue, fit.df_resid)
    from_mean = fit.t_test(units - grand)
    low, high = from_mean.conf_int(alpha=2 * ALPHA).T / mean_w
    return [
        Departure(name, *map(float, found))
        for name, *found in zip(
            names,
            from_mean.effect / mean_w,
            low,
            high,
            1 - np.minimum(beyond, short),
            np.minimum(1.0, 2 * np.minimum(beyond, short)),
            strict=True,
        )
    ]


def _holm(departures: Sequence[Departure]) -> list[Departure]:
    """Those that lie beyond the margin, by Holm's procedure at ALPHA over all of them."""
    from statsmodels.stats.multitest import multipletests

    if not departures or min(d.p_outside for d in departures) > ALPHA / len(departures):
        return []  # Holm's first step; statsmodels collects garbage on each call, which takes longer than all else
    beyond = multipletests([d.p_outside for d in departures], ALPHA, "holm")[0]
    return [d for d, far in zip(departures, beyond, strict=True) if far]


def _said(
    effects: Sequence[Departure],
    different: Sequence[Departure],
    cells: Sequence[Departure],
    stray: Sequence[Departure],
    astray: Sequence[Departure],
    margin: float,
    mean_w: float,
) -> list[str]:
    bound = f"±{margin * 100:.3g} % of {mean_w:.2f} W"
    if not effects:
        return ["networks and batch sizes overlap too little to tell one from the other"]
    widest = max(effects, key=lambda e: abs(e.share))
    within = sum(e.p_within < ALPHA for e in effects)
    said = [f"{within} of {len(effects)} networks and batch sizes lie within {bound} (TOST); farthest: {widest.text}"]
    if different:
        said.append(f"beyond it (Holm): {', '.join(d.text for d in different)}")
    said.append(f"{len(cells) - len(stray)} of {len(cells)} cells lie within it, {len(astray)} beyond it (Holm)")
    if stray:
        shown = sorted(stray, key=lambda c: -abs(c.share))[:8]
        more = f" and {len(stray) - len(shown)} more" if len(stray) > len(shown) else ""
        said.append(f"not shown to lie within: {', '.join(c.text for c in shown)}{more}")
    return said


def _against(sample: Sample, seed: int) -> Tree:
    """Rank correlation of net power with operations, and with operations per second, at the paper's pair of batches."""
    common = sample.common("operations")
    found: Tree = {}
    for batch in paper_pair(batches_of(common)):
        here = common[common["batch"] == batch]
        power, operations = here["net_power_w"].to_numpy(), here["operations"].to_numpy()
        speed = operations / here["time_s"].to_numpy()
        found[str(batch)] = {
            "networks": len(here),
            "spearman_operations": intervals.spearman(operations, power, seed).tree(),
            "spearman_operations_per_s": intervals.spearman(speed, power, seed).tree(),
        }
    return found


def _told(numbers: Tree) -> list[str]:
    effects = numbers["analysis_of_variance"]
    parts = numbers["variance_components_w"]
    said = [
        f"cells scatter by {numbers['sd_of_cells_w']:.2g} W, {percent(numbers['sd_of_cells'])} of the mean "
        f"(the paper: 0.7 W, 6 %), their repeats by {numbers['sd_of_repeats_w']:.2g} W",
        "share of the variance (partial omega squared): "
        + ", ".join(f"{name} {effect['partial_omega2']:.2f}" for name, effect in effects.items())
        + "; how small the differences are in watts is another question, answered above",
    ]
    if parts:
        said.append(
            "standard deviations between them (mixed model): "
            + ", ".join(f"{name} {value:.2g} W" for name, value in parts.items())
        )
    for batch, found in numbers["against"].items():
        texts = [
            intervals.Interval(**found[name]).text(".2f")
            for name in ("spearman_operations", "spearman_operations_per_s")
        ]
        said.append(
            f"Spearman at batch {batch}: power with operations {texts[0]}, with operations per second {texts[1]}"
        )
    if numbers["scatter"]["brown_forsythe_p"] < 0.01:
        said.append("cells scatter unalike (Brown and Forsythe, p < 0.01): what is said of single cells is approximate")
    return said
