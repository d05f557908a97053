"""H2: are accuracy and time in a hyperbolic relation, rather than a logarithmic or another one?"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import pandas as pd

from experiments.figures.fits import upper_bound
from experiments.findings import forms
from experiments.findings.forms import Fit, Group
from experiments.findings.intervals import share
from experiments.findings.sample import Sample, batch_note, batches_of
from experiments.findings.verdict import MIN_NETWORKS, Decision, Finding, Tree, decided, listed, too_few

CLAIM = "accuracy and time per image are in a hyperbolic relation: a little accuracy costs a lot of time"

DELTA_AICC = 2.0
"""Difference of AICc from which on one form counts as better than another (Burnham and Anderson)."""

EXPLAINED = 0.5
"""Share of the accuracies' variance that a relation worth its name explains, for networks left out."""

RIVALS = ("logarithm", forms.POWER)
RIVALS_ON_FRONTS = ("logarithm",)
"""What can beat the hyperbola. The power law's third coefficient fits any front of eight: there it is only shown."""

MIN_FRONT = 5
"""Points of a front below which two coefficients and a scatter leave nothing to compare."""


def judge(sample: Sample, seed: int = 1) -> Finding:
    """Judge H2 by all networks whose accuracy is known, and by those on the front."""
    common = sample.common("top1")
    batches = batches_of(common)
    decision = decide(sample)
    reasons, numbers = decision.reasons, dict(decision.numbers)
    if numbers:
        groups = _groups(common)
        exponent = forms.exponent_interval(groups, seed)
        numbers["exponent"] = exponent.tree()
        numbers["batches"] = {str(b): _one_batch(g) for b, g in zip(batches, groups, strict=True)}
        reasons += (
            f"exponent p of accuracy = c - m t^-p: {exponent.text('.2f')}; 1 is the hyperbola, towards 0 the logarithm",
            *_by_batch(batches, numbers["batches"]),
            *batch_note(sample, common, "top1"),
        )
    return Finding(
        "H2",
        CLAIM,
        decision.verdict,
        reasons,
        numbers,
        {"networks": common["network"].nunique(), "batch sizes": len(batches), "cells": len(common)},
        {"delta_aicc": DELTA_AICC, "explained": EXPLAINED},
        f"{sample.repeats_text}; margin: AICc better by {DELTA_AICC:g}, at least {EXPLAINED:g} of the variance",
        sample.device,
        batches,
    )


def decide(sample: Sample) -> Decision:
    """Come to the verdict on H2, with no more numbers than it needs."""
    common = sample.common("top1")
    count = int(common["network"].nunique())
    if count < MIN_NETWORKS:
        return too_few(count, "networks with a known accuracy, repeated, at one batch size", MIN_NETWORKS)
    groups = _groups(common)
    everything, front = compare(groups), compare([forms.front_of(group) for group in groups])
    of_all, of_fronts = leaning(everything, RIVALS), leaning(front, RIVALS_ON_FRONTS)
    most = max(share(-1 / g.x, g.y).high for g in groups)
    nothing = most < EXPLAINED
    verdict = decided(
        of_all > 0 and of_fronts >= 0 and everything["hyperbola"].q2 >= EXPLAINED,
        nothing or (min(of_all, of_fronts) < 0 and max(of_all, of_fronts) <= 0),
    )
    judged = {"fronts": (front, RIVALS_ON_FRONTS), "all networks": (everything, RIVALS)}
    said = [f"{name}: {_said(fits)}" for name, (fits, _) in reversed(judged.items()) if fits]
    if not front:
        said.append("the fronts hold too few networks to compare forms")
    for name, (fits, rivals) in judged.items():
        if lost := beaten_by(fits, rivals):
            said.insert(0, f"{name}: the {' and the '.join(lost)} fits better, also for networks left out")
    if nothing:
        said.insert(0, f"a hyperbola explains at most {most:.2f} of the accuracies' variance, less than {EXPLAINED:g}")
    numbers: Tree = {
        "all_networks": {name: fit.tree() for name, fit in everything.items()},
        "front": {name: fit.tree() for name, fit in front.items()},
        "hyperbola_r2_at_most": most,
    }
    return Decision(verdict, tuple(said), numbers)


def compare(groups: Sequence[Group]) -> dict[str, Fit]:
    """Fit the forms to the groups that are large enough; empty where none is."""
    enough = [g for g in groups if len(g.x) >= MIN_FRONT]
    return forms.fit_all(enough) if enough else {}


def _groups(common: pd.DataFrame) -> list[Group]:
    """The networks of each batch size, in the same order."""
    return [
        Group(tuple(table["network"]), table["time_s"].to_numpy(), table["top1"].to_numpy())
        for _, table in common.groupby("batch")
    ]


def better_by(fits: Mapping[str, Fit], other: str) -> float:
    """By how much the hyperbola's AICc is lower than another form's; 0 without fits."""
    return fits[other].aicc - fits["hyperbola"].aicc if fits else 0.0


def leaning(fits: Mapping[str, Fit], rivals: Sequence[str]) -> int:
    """1 where the hyperbola beats the logarithm and no rival it; -1 where a rival does; 0 between, or without fits.

    To beat is to have an AICc lower by DELTA_AICC and a smaller error for networks left out.
    """
    if beaten_by(fits, rivals):
        return -1
    return int(better_by(fits, "logarithm") > DELTA_AICC and fits["hyperbola"].loo_rmse < fits["logarithm"].loo_rmse)


def beaten_by(fits: Mapping[str, Fit], rivals: Sequence[str]) -> list[str]:
    """The rivals that beat the hyperbola."""
    return [
        form
        for form in rivals
        if better_by(fits, form) < -DELTA_AICC and fits[form].loo_rmse < fits["hyperbola"].loo_rmse
    ]


def _said(fits: Mapping[str, Fit]) -> str:
    log, power = better_by(fits, "logarithm"), better_by(fits, forms.POWER)
    errors = ", ".join(f"{name} {fit.loo_rmse:.2f}" for name, fit in fits.items())
    return (
        f"AICc of the hyperbola is {_lower(log)} than the logarithm's, {_lower(power)} than the power law's; "
        f"error for a network left out (% top-1): {errors}; it predicts {max(fits['hyperbola'].q2, 0):.2f} of the "
        "variance"
    )


def _lower(difference: float) -> str:
    if math.isinf(difference):
        return "infinitely lower, for want of points,"
    return f"{abs(difference):.1f} {'lower' if difference >= 0 else 'higher'}"


def _one_batch(group: Group) -> Tree:
    """The same for one batch size by itself, its front, and the line that bounds accuracy over images per second."""
    front = forms.front_of(group)
    here, there = compare([group]), compare([front])
    bound = upper_bound((1 / group.x).tolist(), group.y.tolist())
    return {
        "all_networks": {name: fit.tree() for name, fit in here.items()},
        "front": {name: fit.tree() for name, fit in there.items()},
        "delta_aicc_log": better_by(here, "logarithm"),
        "delta_aicc_log_front": better_by(there, "logarithm") if there else None,
        "on_the_front": list(front.names),
        "upper_bound": {"top1_at_0_hz": bound.at_zero, "top1_per_hz": bound.slope} if bound else None,
    }


def _by_batch(batches: Sequence[int], trees: Mapping[str, Tree]) -> list[str]:
    said = []
    for key, where in (("delta_aicc_log", "all networks"), ("delta_aicc_log_front", "the front")):
        contrary = [b for b in batches if (trees[str(b)][key] or 0.0) < -DELTA_AICC]
        if contrary:
            said.append(
                f"on {where} at batch {listed(contrary)} by itself the logarithm fits better than the hyperbola"
            )
    return said
