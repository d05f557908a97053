"""H4: does the number of operations predict the time?"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from experiments.findings import intervals
from experiments.findings.intervals import Share, mean_bounds, share
from experiments.findings.sample import Sample, batch_note, batches_of, paper_pair
from experiments.findings.verdict import ALPHA, MIN_NETWORKS, Decision, Finding, Tree, decided, listed, percent, too_few

CLAIM = "the number of operations predicts the time per image"

EXPLAINED = 0.8
"""Share of the variance of time that operations have to explain."""

ERROR = 1 / 3
"""Mean error for a network left out that an estimate may have: half of the paper's networks differ from the next larger
one by less than this in operations, so that beyond it the estimate no longer orders neighbours."""


@dataclass(frozen=True)
class Prediction:
    """Ordinary least squares of time on operations at one batch size, with one-sided bounds.

    `error` is the mean absolute relative error for a network left out; the strict bounds allow for having looked at
    several batch sizes.
    """

    explained: Share
    explained_strictly: Share
    error: float
    error_at_most: float
    error_at_least: float
    error_at_least_strictly: float
    tree: Tree

    @property
    def good(self) -> bool:
        """Whether operations predict time."""
        return self.explained.low >= EXPLAINED and self.error_at_most <= ERROR

    @property
    def bad(self) -> bool:
        """Whether they do not."""
        return self.explained.high < EXPLAINED or self.error_at_least > ERROR

    @property
    def bad_strictly(self) -> bool:
        """Whether they do not, even if this batch size was looked for."""
        return self.explained_strictly.high < EXPLAINED or self.error_at_least_strictly > ERROR


def judge(sample: Sample, seed: int = 1) -> Finding:
    """Judge H4 at every batch size at which all networks were measured."""
    common = sample.common("operations")
    batches = batches_of(common)
    decision = decide(sample, seed)
    reasons, numbers = decision.reasons, dict(decision.numbers)
    if numbers:
        numbers["slope_over_batches"] = _ancova(common, batches)
        reasons += (*_told(numbers, paper_pair(batches)), *batch_note(sample, common, "operations"))
    return Finding(
        "H4",
        CLAIM,
        decision.verdict,
        reasons,
        numbers,
        {"networks": common["network"].nunique(), "batch sizes": len(batches), "cells": len(common)},
        {"explained": EXPLAINED, "error": ERROR},
        f"{sample.repeats_text}; margin: {EXPLAINED:g} of the variance of time, mean error {percent(ERROR)}",
        sample.device,
        batches,
    )


def decide(sample: Sample, seed: int = 1) -> Decision:
    """Come to the verdict on H4, with no more numbers than it needs.

    It is supported where operations predict time at every batch size; it is not where they do so at none, or fail at
    one by bounds that allow for the number of batch sizes (Bonferroni).
    """
    common = sample.common("operations")
    count = int(common["network"].nunique())
    if count < MIN_NETWORKS:
        return too_few(count, "networks, repeated, at one batch size", MIN_NETWORKS)
    batches = batches_of(common)
    found = {b: predict(common[common["batch"] == b], len(batches), seed) for b in batches}
    each = found.values()
    verdict = decided(all(p.good for p in each), all(p.bad for p in each) or any(p.bad_strictly for p in each))
    return Decision(verdict, tuple(_said(found)), {"batches": {str(b): p.tree for b, p in found.items()}})


def predict(table: pd.DataFrame, looks: int, seed: int) -> Prediction:
    """Fit one batch size's times; `looks` is how many batch sizes are judged."""
    from scipy.stats import spearmanr
    from statsmodels.formula.api import ols

    data = pd.DataFrame(
        {
            "time_ms": table["time_s"].to_numpy() * 1e3,
            "gops": table["operations"].to_numpy() / 1e9,
            "mparams": table["parameters"].to_numpy() / 1e6,
            "macts": table["activations"].to_numpy() / 1e6,
        }
    )
    fit = ols("time_ms ~ gops", data).fit()
    time_ms, gops = data["time_ms"].to_numpy(), data["gops"].to_numpy()
    left_out = np.abs(fit.get_influence().resid_press) / time_ms
    through_zero = ols("time_ms ~ gops - 1", data).fit()
    bounds, strict = mean_bounds(left_out, seed), mean_bounds(left_out, seed, ALPHA / looks)
    speed = gops / time_ms * 1e3
    fast, slow = int(np.argmax(speed)), int(np.argmin(speed))
    names = table["network"].to_numpy()
    worst = int(np.argmax(left_out))
    explained = share(gops, time_ms)
    interval = fit.conf_int(ALPHA).loc["gops"]
    tree: Tree = {
        "networks": len(data),
        "ms_per_gop": float(fit.params["gops"]),
        "ms_per_gop_low": float(interval.iloc[0]),
        "ms_per_gop_high": float(interval.iloc[1]),
        "intercept_ms": float(fit.params["Intercept"]),
        "r2": float(fit.rsquared),
        "r2_at_least": explained.low,
        "r2_at_most": explained.high,
        "ms_per_gop_through_zero": float(through_zero.params["gops"]),
        "loo_error": bounds.mean,
        "loo_error_at_most": bounds.high,
        "loo_error_at_least": bounds.low,
        "loo_error_worst": float(left_out[worst]),
        "loo_error_worst_of": str(names[worst]),
        "spearman": float(spearmanr(gops, time_ms).statistic),
        "gops_per_s_most": float(speed[fast]),
        "gops_per_s_most_of": str(names[fast]),
        "gops_per_s_least": float(speed[slow]),
        "gops_per_s_least_of": str(names[slow]),
        "gops_per_s_spread": float(speed[fast] / speed[slow]),
        "roofline": _roofline(data, fit),
    }
    return Prediction(
        explained,
        share(gops, time_ms, ALPHA / looks),
        bounds.mean,
        bounds.high,
        bounds.low,
        strict.low,
        tree,
    )


def _roofline(data: pd.DataFrame, fit: Any) -> Tree | None:
    """What parameters (weights to be read) and activations (data to be moved) add to operations; None where unknown."""
    from statsmodels.formula.api import ols
    from statsmodels.stats.anova import anova_lm

    if data.isna().any(axis=None) or len(data) < MIN_NETWORKS:
        return None
    whole = ols("time_ms ~ gops + mparams + macts", data).fit()
    step = anova_lm(fit, whole).iloc[1]
    left_out = np.abs(whole.get_influence().resid_press) / data["time_ms"].to_numpy()
    return {
        "r2": float(whole.rsquared),
        "r2_added": float(whole.rsquared - fit.rsquared),
        "F": float(step["F"]),
        "p": float(step["Pr(>F)"]),
        "loo_error": float(left_out.mean()),
        "ms_per_gop": float(whole.params["gops"]),
        "ms_per_m_parameters": float(whole.params["mparams"]),
        "ms_per_m_activations": float(whole.params["macts"]),
    }


def _ancova(common: pd.DataFrame, batches: Sequence[int]) -> Tree | None:
    """Does the slope change with the batch size? Over all (ANCOVA), and from the first of the pair to the second.

    The second takes the difference of each network's own two times, since these are no independent networks.
    """
    from statsmodels.formula.api import ols
    from statsmodels.stats.anova import anova_lm

    if len(batches) < 2:
        return None
    data = pd.DataFrame(
        {"time_ms": common["time_s"] * 1e3, "gops": common["operations"] / 1e9, "batch": common["batch"].astype(str)}
    )
    one, many = ols("time_ms ~ gops + C(batch)", data).fit(), ols("time_ms ~ gops * C(batch)", data).fit()
    step = anova_lm(one, many).iloc[1]
    first, last = paper_pair(batches)
    wide = common.pivot(index="network", columns="batch", values="time_s") * 1e3
    gops = common[common["batch"] == first].set_index("network")["operations"].reindex(wide.index) / 1e9
    change = ols("d ~ gops", pd.DataFrame({"d": wide[last] - wide[first], "gops": gops})).fit()
    low, high = (float(v) for v in change.conf_int(ALPHA).loc["gops"])
    return {
        "F": float(step["F"]),
        "p": float(step["Pr(>F)"]),
        "from_batch": first,
        "to_batch": last,
        "change_ms_per_gop": intervals.Interval(float(change.params["gops"]), low, high).tree(),
        "change_p": float(change.pvalues["gops"]),
    }


def _said(found: Mapping[int, Prediction]) -> list[str]:
    worst = max(found, key=lambda b: found[b].error_at_most)
    least = min(found, key=lambda b: found[b].explained.low)
    said = [
        f"operations explain {found[least].explained.r2:.3f} of the variance of time at batch {least}, where that is "
        f"least: {found[least].explained.low:.2f} or more (95 %)",
        f"a network left out is off by {percent(found[worst].error)} in the mean at batch {worst}, where that is most: "
        f"{percent(found[worst].error_at_most)} or less (95 %)",
    ]
    bad = [b for b in found if found[b].bad]
    if bad:
        said.insert(0, f"operations do not predict time at batch {listed(bad)}")
    return said


def _told(numbers: Tree, pair: Sequence[int]) -> list[str]:
    said = []
    for batch in pair:
        tree = numbers["batches"][str(batch)]
        said.append(
            f"batch {batch}: {tree['ms_per_gop']:.3g} ms per G-Op (two operations a multiply-accumulate) + "
            f"{tree['intercept_ms']:.3g} ms, R² "
            f"{tree['r2']:.3f}, Spearman {tree['spearman']:.2f}; worst left out: {tree['loo_error_worst_of']} "
            f"{percent(tree['loo_error_worst'])}; speeds from {tree['gops_per_s_least']:.3g} "
            f"({tree['gops_per_s_least_of']}) to {tree['gops_per_s_most']:.3g} G-Ops/s "
            f"({tree['gops_per_s_most_of']}), a factor of {tree['gops_per_s_spread']:.3g} that R² hides"
        )
        roof = tree["roofline"]
        if roof:
            said.append(
                f"batch {batch}: with parameters and activations R² {roof['r2']:.4f} (p = {roof['p']:.2g}), a network "
                f"left out off by {percent(roof['loo_error'])}"
            )
    change = numbers["slope_over_batches"]
    if change:
        slope = intervals.Interval(**change["change_ms_per_gop"])
        said.append(
            f"from batch {change['from_batch']} to {change['to_batch']} the slope changes by {slope.text('+.3g')} ms "
            f"per G-Op; over all batch sizes: F = {change['F']:.3g}, p = {change['p']:.2g}"
        )
    return said
