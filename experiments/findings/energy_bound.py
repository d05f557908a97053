"""H3: does a budget of energy per image bound the accuracy and the complexity that can be had?"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from experiments.findings.forms import Group, front_of
from experiments.findings.intervals import Floats, draws, share
from experiments.findings.power import PAPER_MARGIN
from experiments.findings.sample import Sample, batch_note, batches_of, paper_pair
from experiments.findings.verdict import ALPHA, MIN_NETWORKS, Decision, Finding, Tree, decided, percent, too_few

CLAIM = "energy per image bounds the accuracy and the complexity that can be had"

FOLLOWED = 0.5
"""Share of the variance that has to follow energy; what can be shown to be less is no bound."""

PERMUTATIONS = 4999
GRID = 9
"""Budgets at which the envelope's band is told."""


@dataclass(frozen=True)
class Bound:
    """How far energy bounds something.

    `climb` is the mean height of what lies out of reach, over all budgets on a logarithmic axis, as a share of the
    whole range: 0 where the cheapest network has the most, 1/2 for an even rise. `p` is the chance of as much where
    energies are dealt to the networks at random; `followed` bounds the share of variance that follows energy.
    """

    climb: float
    by_chance: float
    p: float
    r2: float
    followed: float

    @property
    def shown(self) -> bool:
        """Whether there is a bound."""
        return self.p < ALPHA

    @property
    def denied(self) -> bool:
        """Whether there is none, and not for want of data."""
        return not self.shown and self.followed < FOLLOWED

    def tree(self) -> Tree:
        """For JSON."""
        return {
            "climb": self.climb,
            "climb_by_chance": self.by_chance,
            "p": self.p,
            "r2": self.r2,
            "r2_at_most": self.followed,
        }


def judge(sample: Sample, margin: float = PAPER_MARGIN, seed: int = 1) -> Finding:
    """Judge H3 by net energy per image; `margin` is for energy told from mean power and time."""
    common = sample.common("top1")
    batches = batches_of(common)
    decision = decide(sample, seed)
    reasons, numbers = decision.reasons, dict(decision.numbers)
    if numbers:
        numbers["batches"] = {
            str(b): _front(common[common["batch"] == b], seed if b in paper_pair(batches) else None) for b in batches
        }
        numbers["from_mean_power"] = shortcut(sample, margin)
        reasons += (
            *_told(numbers["batches"], numbers["from_mean_power"], margin),
            *batch_note(sample, common, "top1"),
        )
    return Finding(
        "H3",
        CLAIM,
        decision.verdict,
        reasons,
        numbers,
        {"networks": common["network"].nunique(), "batch sizes": len(batches), "cells": len(common)},
        {"alpha": ALPHA, "followed": FOLLOWED, "mean_power_relative": margin},
        f"{sample.repeats_text}; margin: p < {ALPHA:g} for a climb, {FOLLOWED:g} of the variance",
        sample.device,
        batches,
    )


def decide(sample: Sample, seed: int = 1) -> Decision:
    """Come to the verdict on H3, with no more numbers than it needs."""
    common = sample.common("top1")
    count = int(common["network"].nunique())
    if count < MIN_NETWORKS:
        return too_few(count, "networks with a known accuracy, repeated, at one batch size", MIN_NETWORKS)
    energy_j = common.pivot(index="batch", columns="network", values="net_energy_j").to_numpy()
    if not (energy_j > 0).all():
        return Decision("inconclusive", ("some net energies are not above 0: nothing is bounded by those",), {})
    once = common[common["batch"] == common["batch"].min()].sort_values("network")
    worth = {"accuracy": once["top1"].to_numpy(), "operations": np.log(once["operations"].to_numpy())}
    bounds = {name: bound(energy_j, values, seed + k) for k, (name, values) in enumerate(worth.items())}
    verdict = decided(all(b.shown for b in bounds.values()), any(b.denied for b in bounds.values()))
    said = tuple(_said(name, found) for name, found in bounds.items())
    return Decision(verdict, said, {name: found.tree() for name, found in bounds.items()})


def bound(energy_j: Floats, worth: Floats, seed: int) -> Bound:
    """Judge whether energies (batch sizes, n) bound something that is worth having (n,)."""
    from scipy.stats import permutation_test

    test = permutation_test(
        (worth,),
        lambda y, axis=-1: climb(energy_j, y),
        permutation_type="pairings",
        vectorized=True,
        alternative="greater",
        n_resamples=PERMUTATIONS,
        rng=np.random.default_rng(seed),
    )
    follows = share(np.log(energy_j).mean(axis=0), worth, ALPHA / 2)  # one of two bounds refutes
    return Bound(
        float(test.statistic), float(np.mean(test.null_distribution)), float(test.pvalue), follows.r2, follows.high
    )


def climb(energy_j: Floats, worth: Floats) -> Floats:
    """Mean over batch sizes of what is out of reach; energies (batch sizes, n), worth (..., n) -> (...)."""
    best, least = worth.max(axis=-1), worth.min(axis=-1)
    found = []
    for energies in energy_j:
        order = np.argsort(energies)
        width = np.diff(np.log(energies[order]))
        reached = np.maximum.accumulate(worth[..., order], axis=-1)[..., :-1]
        found.append(((best[..., None] - reached) * width).sum(axis=-1) / width.sum() / (best - least))
    return np.asarray(np.mean(found, axis=0))


def _front(table: pd.DataFrame, seed: int | None) -> Tree:
    """Front of one batch size; where a seed is given the envelope too, with its bootstrap band (95 %)."""
    energy, top1 = table["net_energy_j"].to_numpy(), table["top1"].to_numpy()
    front = front_of(Group(tuple(table["network"]), energy, top1))
    operations = table["operations"].to_numpy()
    most = int(np.argmax(operations / energy))
    found: Tree = {
        "front": [
            {"network": name, "net_energy_j": e, "top1": a}
            for name, e, a in zip(front.names, front.x.tolist(), front.y.tolist(), strict=True)
        ],
        "most_operations_per_j": float(operations[most] / energy[most]),
        "most_operations_per_j_by": str(table["network"].iloc[most]),
    }
    if seed is not None:
        budgets = np.geomspace(energy.min(), energy.max(), GRID)
        low, high = _band(energy, top1, budgets, seed)
        found["envelope"] = {
            "net_energy_j": budgets.tolist(),
            "top1": _reached(energy, top1, budgets).tolist(),
            "low": low.tolist(),
            "high": high.tolist(),
        }
    return found


def _reached(energy: Floats, top1: Floats, budgets: Floats) -> Floats:
    """Highest accuracy within each budget; NaN where nothing is as cheap."""
    within = np.where(energy[:, None] <= budgets * (1 + 1e-12), top1[:, None], -math.inf).max(axis=0)
    return np.where(np.isfinite(within), within, math.nan)


def _band(energy: Floats, top1: Floats, budgets: Floats, seed: int) -> tuple[Floats, Floats]:
    def envelope(chosen: NDArray[np.intp]) -> Floats:
        # Where a draw has nothing within a budget, the least accurate network of all stands for that.
        return np.nan_to_num(_reached(energy[chosen], top1[chosen], budgets), nan=float(top1.min()))

    low, high = np.percentile(draws(envelope, len(energy), seed), (2.5, 97.5), axis=-1)
    return low, high


def shortcut(sample: Sample, margin: float) -> Tree:
    """Compare measured energy with mean power x time, as one would tell it if power were the same everywhere."""
    from scipy.stats import kendalltau

    cells = sample.cells
    mean_w = float(cells["net_power_w"].mean())
    ratio = (cells["net_power_w"] / mean_w).to_numpy()
    far = np.abs(1 / ratio - 1)
    worst = int(np.argmax(far))
    taus = {
        str(b): float(kendalltau(g["net_energy_j"], g["time_s"]).statistic)
        for b, g in cells.groupby("batch")
        if len(g) > 2
    }
    return {
        "mean_w": mean_w,
        "cells": len(cells),
        "within_margin": int((far <= margin).sum()),
        "rms_error": float(np.sqrt(np.mean((1 / ratio - 1) ** 2))),
        "worst_error": float(1 / ratio[worst] - 1),
        "worst": f"{cells['network'].iloc[worst]} batch {cells['batch'].iloc[worst]}",
        "kendall_tau": taus,
    }


def _said(name: str, found: Bound) -> str:
    return (
        f"{name}: a share {found.climb:.2f} of its range lies out of reach in the mean over budgets, by chance "
        f"{found.by_chance:.2f} (p = {found.p:.2g}); {found.r2:.2f} of its variance follows energy, at most "
        f"{found.followed:.2f} (97.5 %)"
    )


def _told(batches: Mapping[str, Tree], mean_power: Tree, margin: float) -> Sequence[str]:
    said = []
    for batch, tree in batches.items():
        if "envelope" in tree:
            ends = [f"{p['network']} {p['net_energy_j']:.3g} J {p['top1']:.1f} %" for p in tree["front"]]
            said.append(f"front at batch {batch}: {', '.join(ends)}")
    taus = [tau for tau in mean_power["kendall_tau"].values() if math.isfinite(tau)]
    agreement = f"; both rank networks alike: Kendall's tau at least {min(taus):.2f}" if taus else ""
    said.append(
        f"energy told from mean net power ({mean_power['mean_w']:.2f} W) and time is right within "
        f"{margin * 100:.3g} % for {mean_power['within_margin']} of {mean_power['cells']} cells (rms "
        f"{percent(mean_power['rms_error'])}, worst {mean_power['worst_error'] * 100:+.1f} %: {mean_power['worst']})"
        f"{agreement}"
    )
    return said
