"""Figure 13: what the uncertainty of energy per image is made of, component by component."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from experiments.figures import sources, style
from experiments.figures.catalogue import Drawn, Options
from experiments.figures.rows import HEAD, NothingToDrawError, Point, Run, Table, all_networks

QUANTITIES = (("energy_per_image_j", "energy per image"), ("net_energy_per_image_j", "net energy per image"))
LEAST = 5e-4
"""Least contribution in percent: what stays below it in every row is not drawn."""


def uncertainty_budget(runs: Sequence[Run], options: Options) -> Drawn:
    """Bars: the median over a run's rows; points: every row."""
    points = [p for run in runs for p in run.points if p.result is not None]
    if not points:
        raise NothingToDrawError("no cell has a result, and so no budget")
    names, small = _by_size(points)
    figure, grid = style.sheet(
        "What the uncertainty is made of",
        len(runs),
        len(QUANTITIES),
        (5.4, 0.6 + 0.27 * (len(names) + 2)),
        right_in=style.legend_in(all_networks(runs)),
        sharex=True,
        sharey=True,
    )
    colour = style.colours(all_networks(runs))
    for run, row in zip(runs, grid, strict=True):
        for axes, (quantity, text) in zip(row, QUANTITIES, strict=True):
            mine = [p for p in points if p.run is run]
            _bars(axes, mine, quantity, names, colour)
            style.panel_title(axes, [run.title if len(runs) > 1 else "", text], 4.4)
    style.network_legend(figure, all_networks(runs), lines=False)
    style.sign(
        figure,
        "standard uncertainties u as percent of the value; bars: median over networks and batches, 0 where a budget "
        "lacks the component; points: each that has it. "
        f"{sources.of(runs, power='energy', time=True)}",
        *([f"not drawn, always below {LEAST:g} %: {'; '.join(small)}"] if small else []),
    )
    columns = (
        *HEAD,
        "quantity",
        "component",
        "u",
        "u_relative_percent",
        "dof",
        "distribution",
    )
    rows: list[tuple[Any, ...]] = []
    for p in points:
        for quantity, _ in QUANTITIES:
            budget = p.budget(quantity)
            assert budget is not None
            for c in budget.components:
                rows.append((*p.head, quantity, c.name, c.u, 100 * c.u / abs(budget.value), c.dof, c.distribution))
            rows.append((*p.head, quantity, "combined", budget.u, 100 * budget.u / abs(budget.value), budget.dof, ""))
            u = budget.expanded()
            rows.append((*p.head, quantity, "U (95 %)", u, 100 * u / abs(budget.value), budget.dof, ""))
    return Drawn(figure, {"": Table(columns, tuple(rows))})


def _by_size(points: Sequence[Point]) -> tuple[list[str], list[str]]:
    """Names of components, the largest first by the median over all rows; those to be drawn, and the small ones."""
    parts = [part for p in points for quantity, _ in QUANTITIES if (part := _parts(p, quantity))]
    found = {name: _shares(parts, name) for part in parts for name in part if name not in _TOTALS}
    order = sorted(found, key=lambda name: (-float(np.median(found[name])), name))
    return [n for n in order if max(found[n]) >= LEAST], [n for n in order if max(found[n]) < LEAST]


def _shares(parts: Sequence[dict[str, float]], name: str) -> list[float]:
    """What a component contributes to each budget, in percent: 0 where the budget lacks it."""
    return [part.get(name, 0.0) for part in parts]


_TOTALS = ("combined", "U (95 %)")


def _parts(point: Point, quantity: str) -> dict[str, float]:
    """Each component, the combined u and U, in percent of the value."""
    budget = point.budget(quantity)
    if budget is None or budget.value == 0:
        return {}
    parts = {c.name: c.u for c in budget.components} | {"combined": budget.u, "U (95 %)": budget.expanded()}
    return {name: 100 * u / abs(budget.value) for name, u in parts.items()}


def _bars(axes: Any, points: Sequence[Point], quantity: str, names: Sequence[str], colour: dict[str, str]) -> None:
    rows = [*reversed(_TOTALS), *names]
    parts = [_parts(p, quantity) for p in points]
    for k, name in enumerate(rows):
        own = [(part[name], colour[p.network]) for p, part in zip(points, parts, strict=True) if name in part]
        if not own:
            continue
        total = name in _TOTALS
        median = float(np.median(_shares([part for part in parts if part], name)))
        axes.barh(-k, max(median, LEAST), height=0.62, color="#6f6f6f" if total else "#cfcfcf", zorder=1)
        x = [max(value, LEAST) for value, _ in own]
        y = [-k + 0.5 * ((j * 0.618034) % 1 - 0.5) for j in range(len(own))]  # spread evenly over the bar's height
        axes.scatter(x, y, s=7, c=[c for _, c in own], zorder=2, linewidths=0)
    axes.set_xscale("log")
    axes.set_xlim(left=LEAST)
    axes.set_yticks([-k for k in range(len(rows))], rows, fontsize=8)
    axes.set_ylim(-len(rows) + 0.3, 0.7)
    axes.set_xlabel("share of the value [%]")
    axes.grid(False, axis="y")
    style.plain_log(axes.xaxis)
