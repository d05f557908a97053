"""How net power varies: analysis of variance with effect sizes, components of variance, scatter. Decides nothing."""

from __future__ import annotations

import math
import warnings
from typing import Any

import numpy as np
import pandas as pd

from experiments.findings.verdict import Tree


def anova(runs: pd.DataFrame) -> Tree:
    """Two-way analysis of variance, each factor after the other (type II), by comparing nested models; effect sizes."""
    from statsmodels.formula.api import ols
    from statsmodels.stats.anova import anova_lm

    table = runs.assign(p=runs["net_power_w"], cell=runs["network"] + " " + runs["batch"].astype(str))
    shift = " + C(session)" if table["session"].nunique() > 1 else ""
    models = {
        "network": "C(batch)",
        "batch": "C(network)",
        "additive": "C(network) + C(batch)",
        "whole": "C(cell)",
    }
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of terms that cells without a result leave undetermined: residuals are not
        fits = {name: ols(f"p ~ {terms}{shift}", table).fit() for name, terms in models.items()}
    found: Tree = {}
    for factor in ("network", "batch"):
        steps = anova_lm(fits[factor], fits["additive"], fits["whole"])
        found[factor] = _effect(steps.iloc[1], fits["whole"], len(table))
    found["network x batch"] = _effect(steps.iloc[2], fits["whole"], len(table))
    return found


def _effect(step: pd.Series, whole: Any, n: int) -> Tree:
    """F, p, partial eta squared and partial omega squared of one step."""
    df, f = float(step["df_diff"]), float(step["F"])
    sum_of_squares = float(step["ss_diff"])
    return {
        "df": df,
        "df_residual": float(whole.df_resid),
        "F": f,
        "p": float(step["Pr(>F)"]),
        "partial_eta2": sum_of_squares / (sum_of_squares + float(whole.ssr)),
        "partial_omega2": max(0.0, df * (f - 1) / (df * (f - 1) + n)) if df > 0 else float("nan"),
    }


def components(runs: pd.DataFrame) -> Tree:
    """Standard deviations between networks, batch sizes, sessions, and what is left between cells, by a mixed model.

    Of the cells' means, by restricted maximum likelihood; empty where it does not converge.
    """
    from statsmodels.formula.api import mixedlm

    means = runs.groupby(["network", "batch", "session"], as_index=False)["net_power_w"].mean()
    scale_w = float(means["net_power_w"].std())
    if not scale_w > 0:
        return {}
    table = means.assign(p=(means["net_power_w"] - means["net_power_w"].mean()) / scale_w, one=1)
    parts = {name: f"0 + C({name})" for name in ("network", "batch", "session") if table[name].nunique() > 1}
    with warnings.catch_warnings():
        # A component of zero is a result here, not a failure; gradient methods stop short of it, Powell's does not.
        warnings.simplefilter("ignore")
        fit = mixedlm("p ~ 1", table, groups="one", vc_formula=parts).fit(method="powell")
    if not fit.converged:
        return {}
    found = dict(zip(fit.model.exog_vc.names, np.sqrt(fit.vcomp) * scale_w, strict=True))
    return {name: float(found[name]) for name in parts} | {"cells": float(np.sqrt(fit.scale) * scale_w)}


def scatter(runs: pd.DataFrame) -> Tree:
    """Whether cells scatter alike (Brown and Forsythe), and what ranks say of the factors (Kruskal and Wallis)."""
    from scipy.stats import kruskal, levene

    groups = [g.to_numpy() for _, g in runs.groupby(["network", "batch"])["net_power_w"]]
    equal = math.nan
    if min(map(len, groups)) > 2:  # two values lie as far from their median, always
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of scatter that is zero in every cell
            equal = float(levene(*groups, center="median").pvalue)
    ranks = {
        f"kruskal_{name}_p": float(kruskal(*(g.to_numpy() for _, g in runs.groupby(name)["net_power_w"])).pvalue)
        for name in ("network", "batch")
        if runs["net_power_w"].nunique() > 1
    }
    return {"brown_forsythe_p": equal, **ranks}
