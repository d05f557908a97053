"""Figures 1, 2 and 10: accuracy by network, against operations, by parameter. Nothing in them is measured.

Without a run they show what the paper shows, and where that is not so. With runs, the networks of the runs.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from experiments import networks, paper
from experiments.figures import bubbles, sources, style
from experiments.figures.catalogue import Drawn, Options
from experiments.figures.rows import NothingToDrawError, Run, Table, all_networks, operations_rule, top1
from experiments.paper import PLOTTED, Plotted

HOLLOW = {"facecolor": "none", "edgecolor": "0.35", "linestyle": (0, (3, 2)), "linewidth": 1.0}
"""What the paper shows and the network is not."""


@dataclass(frozen=True)
class Subject:
    """One network: cited top-1 in %, G-Ops and millions of parameters as counted, and what the paper plots."""

    name: str
    top1: float
    gops: float
    mparams: float
    plotted: Plotted | None

    @property
    def density(self) -> float:
        """Top-1 by parameters, % per million."""
        return self.top1 / self.mparams

    @property
    def flag(self) -> str:
        """How the cited top-1 was had."""
        return networks.get(self.name).top1_flag if self.name in networks.NETWORKS else ""

    @property
    def source(self) -> str:
        """Where the cited top-1 is from."""
        return f"cited: {networks.get(self.name).top1_source}" if self.name in networks.NETWORKS else ""


def _subjects(runs: Sequence[Run]) -> list[Subject]:
    """The networks of the runs, or the paper's; raises NothingToDrawError where no accuracy is known."""
    if not runs:
        sizes = {name: networks.size(name) for name in PLOTTED}
        return [
            Subject(
                name,
                top1(name),
                sizes[name]["operations_opcounter2016"] * 1e-9,
                sizes[name]["parameters"] * 1e-6,
                PLOTTED[name],
            )
            for name in PLOTTED
        ]
    rule, _ = operations_rule(runs)
    found = []
    for name in all_networks(runs):
        counted = [(run.size(name, rule), run.size(name, "parameters")) for run in runs]
        gops, mparams = next((c for c in counted if math.isfinite(c[1])), (math.nan, math.nan))
        found.append(Subject(name, top1(name), gops * 1e-9, mparams * 1e-6, PLOTTED.get(name)))
    if not any(math.isfinite(s.top1) for s in found):
        raise NothingToDrawError(
            f"no accuracy is known of {', '.join(s.name for s in found)}: it is cited for the paper's networks alone"
        )
    return found


def _missing(subjects: Sequence[Subject], shown: Sequence[Subject], what: str) -> list[str]:
    absent = [s.name for s in subjects if s not in shown]
    return [f"missing, {what} not known: {', '.join(map(style.short, absent))}"] if absent else []


def top1_by_network(runs: Sequence[Run], options: Options) -> Drawn:
    """Figure 1."""
    subjects = _subjects(runs)
    shown = sorted((s for s in subjects if math.isfinite(s.top1)), key=lambda s: s.top1)
    figure, ((axes,),) = style.sheet("Top-1 accuracy by network", 1, 1, (max(4.5, 1.6 + 0.5 * len(shown)), 4.2))
    colour = style.colours([s.name for s in subjects])
    hatched = {s.name for s in shown if paper.odd_margin(s.name)}
    for k, s in enumerate(shown):
        axes.bar(k, s.top1, color=colour[s.name], width=0.72, edgecolor="0.25", linewidth=0.5)
        if s.name in hatched:
            axes.bar(k, s.top1, color="none", width=0.72, edgecolor="0.2", linewidth=0.0, hatch="////")
        axes.text(k, s.top1 + 0.25, f"{s.top1:.1f}", ha="center", va="bottom", fontsize=style.SMALL)
    axes.set_xticks(
        range(len(shown)), [style.short(s.name) for s in shown], rotation=45, ha="right", rotation_mode="anchor"
    )
    axes.set_xlim(-0.7, len(shown) - 0.3)
    low = min(50.0, 5 * math.floor(min(s.top1 for s in shown) / 5))
    axes.set_ylim(low, max(82.5, max(s.top1 for s in shown) + 2))
    axes.set_ylabel("top-1 accuracy [%]")
    axes.grid(False, axis="x")
    notes = [sources.ACCURACY + f"; the axis begins at {low:g} %", *_missing(subjects, shown, "accuracy")]
    if hatched and paper.BEST_OF_THE_REST in {s.name for s in shown}:
        claimed = top1(paper.BEST_OF_THE_REST) + paper.MARGIN
        axes.axhline(claimed, color=style.GREY, linestyle="--", linewidth=1.0)
        text = f'{paper.BEST_OF_THE_REST} + {paper.MARGIN:g} %: "at least"'
        axes.text(-0.55, claimed + 0.3, text, fontsize=style.SMALL, color="0.35", va="bottom")
        above = [(s.name, paper.margin(s.name)) for s in shown]
        over = ", ".join(f"{name} {m:+.2f}" for name, m in above if m is not None)
        notes.append(
            f"hatched: the paper's text puts the newest ResNets and Inceptions at least {paper.MARGIN:g} % above the "
            f"rest (dashed); its own figures say: {over}"
        )
    style.sign(figure, *notes)
    columns = ("network", "top1", "top1_flag", "top1_source", "margin_over_vgg19", "anomaly")
    rows = [
        (s.name, s.top1, s.flag, s.source, _rounded(paper.margin(s.name)), paper.odd_margin(s.name))
        for s in [*shown, *(s for s in subjects if s not in shown)]
    ]
    return Drawn(figure, {"": Table(columns, tuple(rows))})


def _rounded(value: float | None) -> float | None:
    return None if value is None else round(value, 4)


def top1_vs_operations(runs: Sequence[Run], options: Options) -> Drawn:
    """Figure 2; the area of a disc is its network's parameters."""
    subjects = _subjects(runs)
    shown = [s for s in subjects if all(map(math.isfinite, (s.top1, s.gops, s.mparams)))]
    if not shown:
        raise NothingToDrawError(f"operations and parameters of {', '.join(s.name for s in subjects)} are not known")
    figure, ((axes,),) = style.sheet("Top-1 accuracy against operations", 1, 1, (8.6, 5.4))
    colour = style.colours([s.name for s in subjects])
    scale = bubbles.Scale.of([s.mparams for s in shown], "M", "parameters", 30.0)
    blobs, odd, rings = [], [], []
    for s in shown:
        note = paper.odd_operations(s.name)
        as_plotted = s.plotted is not None and not runs and not note
        x, area = (s.plotted.gops, s.plotted.mparams) if as_plotted and s.plotted else (s.gops, s.mparams)
        blobs.append(bubbles.Blob(style.short(s.name), x, s.top1, area, colour[s.name]))
        if note and s.plotted is not None:
            odd.append(f"{s.name}: {note}")
            rings.append((s.plotted.gops, s.top1, s.plotted.mparams))
            rings += [(s.gops + (s.plotted.gops - s.gops) * k / 8, s.top1, 0.01 * scale.largest) for k in range(8)]
            axes.scatter(s.plotted.gops, s.top1, s=scale.area(s.plotted.mparams), zorder=4, **HOLLOW)
            axes.annotate(
                "",
                (s.gops, s.top1),
                (s.plotted.gops, s.top1),
                arrowprops={"arrowstyle": "->", "color": "0.35", "linewidth": 0.9, "shrinkA": 0, "shrinkB": 0},
                zorder=5,
            )
    bubbles.draw(axes, blobs, scale)
    axes.set_xlim(-1.5, max(42.5, 1.06 * max(b.x for b in blobs)))
    axes.set_ylim(min(50.0, min(b.y for b in blobs) - 4), max(83.0, max(b.y for b in blobs) + 3))
    _, rule = operations_rule(runs)
    axes.set_xlabel(f"operations of one image [G-Ops], {rule}")
    axes.set_ylabel("top-1 accuracy [%]")
    notes = [sources.ACCURACY, sources.COUNTED.format(rule) if runs else sources.PLOTTED]
    notes += _missing(subjects, shown, "accuracy, operations or parameters")
    if odd:
        notes.append("dashed, as the paper plots it; arrow to what the network has: " + ". ".join(odd))
    bubbles.sign(figure, scale, *notes)
    bubbles.name(figure, [(axes, blobs)], scale, rings)
    return Drawn(figure, {"": _operations_table(subjects)})


def _operations_table(subjects: Sequence[Subject]) -> Table:
    columns = (
        "network",
        "top1",
        "top1_flag",
        "plotted_gops",
        "plotted_mparams",
        "plotted_flag",
        "counted_gops",
        "counted_mparams",
        "anomaly",
    )
    rows = []
    for s in subjects:
        plotted = (s.plotted.gops, s.plotted.mparams, s.plotted.flag) if s.plotted else (None, None, "")
        rows.append((s.name, s.top1, s.flag, *plotted, s.gops, s.mparams, paper.odd_operations(s.name)))
    return Table(columns, tuple(rows))


def accuracy_density(runs: Sequence[Run], options: Options) -> Drawn:
    """Figure 10: top-1 by parameters, ascending."""
    subjects = _subjects(runs)

    def as_shown(s: Subject) -> float:
        return s.plotted.density if s.plotted is not None and not runs else s.density

    known = [s for s in subjects if math.isfinite(as_shown(s))]
    if not known:
        raise NothingToDrawError("of no network both accuracy and parameters are known")
    shown = sorted(known, key=as_shown)
    figure, ((axes,),) = style.sheet(
        "Accuracy density: top-1 by parameters", 1, 1, (max(4.5, 1.6 + 0.5 * len(shown)), 4.2)
    )
    colour = style.colours([s.name for s in subjects])
    odd = []
    for k, s in enumerate(shown):
        note = paper.odd_density(s.name)
        height = s.density if note else as_shown(s)
        axes.bar(k, height, color=colour[s.name], width=0.72, edgecolor="0.25", linewidth=0.5)
        top = height
        if note and s.plotted is not None:
            odd.append(f"{s.name}: {note}")
            axes.bar(k, s.plotted.density, width=0.72, **HOLLOW)
            top = max(height, s.plotted.density)
        axes.text(k, top + 0.12, f"{height:.2f}", ha="center", va="bottom", fontsize=style.SMALL)
    axes.set_xticks(
        range(len(shown)), [style.short(s.name) for s in shown], rotation=45, ha="right", rotation_mode="anchor"
    )
    axes.set_xlim(-0.7, len(shown) - 0.3)
    axes.set_ylim(0, max(12.5, 1.08 * max(map(as_shown, shown))))
    axes.set_ylabel("top-1 density [% / M parameters]")
    axes.grid(False, axis="x")
    notes = [sources.ACCURACY, sources.PARAMETERS if runs else sources.PLOTTED]
    notes += _missing(subjects, shown, "accuracy or parameters")
    if odd:
        notes.append("dashed, as the paper plots it; filled, what the network has: " + ". ".join(odd))
    style.sign(figure, *notes)
    columns = ("network", "plotted_density", "density", "top1", "plotted_mparams", "counted_mparams", "anomaly")
    rows = [
        (s.name, *_plotted_density(s), s.density, s.top1, *_plotted_mparams(s), s.mparams, paper.odd_density(s.name))
        for s in [*shown, *(s for s in subjects if s not in shown)]
    ]
    return Drawn(figure, {"": Table(columns, tuple(rows))})


def _plotted_density(s: Subject) -> tuple[Any]:
    return (s.plotted.density if s.plotted else None,)


def _plotted_mparams(s: Subject) -> tuple[Any]:
    return (s.plotted.mparams if s.plotted else None,)
