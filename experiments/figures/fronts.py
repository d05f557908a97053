"""Figure 12: top-1 accuracy against energy per image, with the networks that no other one beats."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from experiments.figures import fits, labels, sources, style
from experiments.figures.catalogue import Drawn, Options
from experiments.figures.rows import NothingToDrawError, Point, Run, Table, absent, all_networks, known


def top1_vs_energy(runs: Sequence[Run], options: Options) -> Drawn:
    """Figure 12: a panel for each of two batches and one with each network at its best; the Pareto front of each."""
    columns = max(len(run.batch_pair) for run in runs) + 1
    figure, grid = style.sheet(
        "Top-1 accuracy against energy per image", len(runs), columns, (4.9, 4.4), sharex=True, sharey=True
    )
    colour = style.colours(all_networks(runs))
    rows, panels, notes = [], [], []
    for run, axes_row in zip(runs, grid, strict=True):
        choices = [(f"batch {b}", run.at(b)) for b in run.batch_pair]
        choices.append(("each network at its best batch", _best(run)))
        for axes, (text, points) in zip(axes_row, choices, strict=False):
            shown = known(points, lambda p: p.top1, lambda p: p.value("energy_per_image_j"))
            style.panel_title(axes, [run.title if len(runs) > 1 else "", text], 4.3)
            axes.set_xscale("log")
            axes.set_xlabel("energy per image [mJ]")
            axes.set_ylabel("top-1 accuracy [%]")
            notes += absent(run, points, shown, "accuracy") if text.startswith("batch") else []
            axes.tick_params(labelbottom=True)
            if not shown:
                axes.text(0.5, 0.5, "no network of known accuracy", ha="center", transform=axes.transAxes, color="0.3")
                continue
            places = _front(axes, shown, colour)
            panels.append((axes, shown))
            for p, place in zip(shown, places, strict=True):
                rows.append((p.run.label, p.run.outcome.source, text, p.network, p.batch, *_energy(p), p.top1, place))
        for axes in axes_row[len(choices) :]:
            axes.remove()
    if not panels:
        raise NothingToDrawError("no network has both a result and a known accuracy")
    every = [p for _, points in panels for p in points]
    x = [p.value("energy_per_image_j") * 1e3 for p in every]
    for axes, _ in panels:
        axes.set_xlim(min(x) / 1.5, max(x) * 1.9)
        axes.set_ylim(min(p.top1 for p in every) - 2, max(p.top1 for p in every) + 2.5)
        style.plain_log(axes.xaxis)
    style.sign(
        figure,
        f"{sources.ACCURACY}; {sources.of(runs, power='energy', time=True)}; {sources.BARS}",
        "line: Pareto front, no network is as accurate at less energy; hollow: behind it by less than "
        "the intervals of both can tell",
        *notes,
    )
    style.settle(figure)
    for axes, points in panels:
        names = [p.network for p in points]
        xy = [(p.value("energy_per_image_j") * 1e3, p.top1) for p in points]
        labels.write(axes, list(map(style.short, names)), [colour[n] for n in names], xy, [4.0] * len(xy))
    columns_ = (
        "run",
        "source",
        "panel",
        "network",
        "batch",
        "energy_per_image_j",
        "energy_per_image_j_u",
        "top1",
        "pareto",
    )
    return Drawn(figure, {"": Table(columns_, tuple(rows))})


def _energy(point: Point) -> tuple[float, float]:
    return point.value("energy_per_image_j"), point.half("energy_per_image_j")


def _best(run: Run) -> list[Point]:
    """Each network at the batch size at which an image costs it least."""
    best = []
    for name in run.outcome.plan.networks:
        points = known((p for p in run.points if p.network == name), lambda p: p.value("energy_per_image_j"))
        best += [min(points, key=lambda p: p.value("energy_per_image_j"))] if points else []
    return best


def _front(axes: Any, points: Sequence[Point], colour: dict[str, str]) -> list[fits.Place]:
    """Draw points and their front; gives the place of each."""
    energy, half = np.array([_energy(p) for p in points]).T
    top1 = np.array([p.top1 for p in points])
    places = fits.front(energy.tolist(), half.tolist(), top1.tolist())
    on = sorted((e * 1e3, a) for e, a, place in zip(energy, top1, places, strict=True) if place == "front")
    x = [on[0][0], *(e for e, _ in on), on[-1][0] * 1e6]
    y = [0.0, *(a for _, a in on), on[-1][1]]
    axes.plot(x, y, drawstyle="steps-post", color=style.GREY, linewidth=1.1, zorder=1)
    for p, e, u, a, place in zip(points, energy, half, top1, places, strict=True):
        face = "white" if place == "within U" else colour[p.network]
        axes.errorbar(
            e * 1e3,
            a,
            xerr=u * 1e3,
            fmt="o",
            markersize=7,
            color=colour[p.network],
            markerfacecolor=face,
            markeredgecolor=colour[p.network] if place == "within U" else "0.3",
            markeredgewidth=0.6,
            capsize=2,
            elinewidth=1.0,
            zorder=3,
        )
    return places
