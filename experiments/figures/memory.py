"""Figures 6 and 16: peak memory against parameters, and every kind of memory that the devices told."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from typing import Any

import numpy as np

from experiments.device import MEMORY_KINDS
from experiments.figures import fits, labels, sources, style
from experiments.figures.catalogue import Drawn, Options
from experiments.figures.rows import (
    HEAD,
    NothingToDrawError,
    Point,
    Run,
    Table,
    absent,
    all_networks,
    fitted,
    known,
    memory_kind,
    weights_mb,
    whole,
)

SHAPES = {
    "process_peak_rss": "o",
    "system_used_net": "s",
    "allocator_peak": "^",
    "allocator_reserved": "v",
    "device_used": "D",
}


def memory_vs_parameters(runs: Sequence[Run], options: Options) -> Drawn:
    """Figure 6: peak memory against parameters at batch 1 (or the least there is), with a hinge."""
    kind = memory_kind(runs, options.memory)

    def memory_mb(point: Point) -> float:
        return point.memory(kind) / 1e6

    shown = {run.label: known(run.at(min(run.outcome.plan.batches)), weights_mb, memory_mb) for run in runs}
    if not any(shown.values()):
        raise NothingToDrawError("of no network both parameters and memory are known")
    figure, (grid,) = style.sheet("Peak memory against parameters", 1, len(runs), (7.0, 4.8), sharex=True, sharey=True)
    colour = style.colours(all_networks(runs))
    rows, lines, panels, notes = [], [], [], []
    for axes, run in zip(grid, runs, strict=True):
        batch = min(run.outcome.plan.batches)
        points = shown[run.label]
        x, y = [weights_mb(p) for p in points], [memory_mb(p) for p in points]
        for p, at, value in zip(points, x, y, strict=True):
            axes.scatter(at, value, s=52, color=colour[p.network], edgecolor="0.3", linewidth=0.5, zorder=3)
        style.panel_title(axes, [run.title if len(runs) > 1 else "", f"batch {batch}"], 6.2)
        axes.set_xlabel("parameters [MB]")
        axes.set_ylabel("peak memory [MB]")
        axes.set_xlim(0, max([*x, 1.0]) * 1.12)
        axes.set_ylim(0, max([*y, 1.0]) * 1.1)
        fit = fits.hinge(x, y)
        if fit is None:
            notes.append(f"{run.label}: no hinge, it needs {fits.MIN_HINGE} networks that differ")
        else:
            ends = np.array([0.0, fit.knee, max(x) * 1.1])
            text = f"floor {fit.floor:.4g} MB up to {fit.knee:.4g} MB, then slope {fit.slope:.3g}"
            axes.plot(ends, fit.at(ends), color=style.GREY, linewidth=1.2, linestyle="--", zorder=1, label=text)
            axes.legend(loc="upper left")
            lines.append((run.label, batch, fit.floor, fit.knee, fit.slope, fit.rms, fit.n))
        panels.append((axes, points, list(zip(x, y, strict=True))))
        for p in run.at(batch):
            rows.append((*p.head, kind, whole(run.size(p.network, "parameters")), weights_mb(p), memory_mb(p)))
        notes += absent(run, run.at(batch), points, "memory or parameters")
    style.sign(
        figure,
        f"{sources.of(runs, memory=kind)}; {sources.PARAMETERS}",
        ("dashed: hinge by least squares; " if lines else "")
        + "the paper states 200 MB below 100 MB of parameters, slope 1.30 above",
        *notes,
    )
    style.settle(figure)
    for axes, points, xy in panels:
        names = [p.network for p in points]
        labels.write(axes, list(map(style.short, names)), [colour[n] for n in names], xy, [4.0] * len(xy))
    fit_columns = ("run", "batch", "floor_mb", "knee_mb", "slope", "rms_mb", "n")
    columns = (*HEAD, "memory_kind", "parameters", "parameters_mb", "memory_mb")
    return Drawn(figure, {"": Table(columns, tuple(rows)), **fitted(fit_columns, lines)})


def memory_kinds(runs: Sequence[Run], options: Options) -> Drawn:
    """A row of panels for each run, one for each of two batches; a shape for each kind."""
    kinds = [k for k in MEMORY_KINDS if any(k in row.memory for run in runs for row in run.outcome.device)]
    if not kinds:
        raise NothingToDrawError("no device told its memory; agents of this release do, other programs need not")
    from matplotlib.lines import Line2D

    names = all_networks(runs)
    columns = max(len(run.batch_pair) for run in runs)
    figure, grid = style.sheet(
        "Kinds of memory",
        len(runs),
        columns,
        (4.6, 1.3 + 0.24 * max(len(names), 5)),
        right_in=2.5,
        sharex=True,
        sharey=True,
    )
    colour = style.colours(names)
    missing = []
    for run, row in zip(runs, grid, strict=True):
        for axes, batch in zip(row, run.batch_pair, strict=False):
            style.panel_title(axes, [run.title if len(runs) > 1 else "", f"batch {batch}"], 4.0)
            for point in run.at(batch):
                found = sorted(point.memory(kind) / 1e6 for kind in kinds if kind in point.device.memory)
                y = -names.index(point.network)
                if not found:
                    missing.append(f"{style.short(point.network)} batch {batch} ({point.missing or 'not told'})")
                    continue
                axes.plot((found[0], found[-1]), (y, y), color="0.75", linewidth=1.0, zorder=1)
                for kind in kinds:
                    axes.plot(
                        point.memory(kind) / 1e6,
                        y,
                        SHAPES[kind],
                        color=colour[point.network],
                        markersize=6,
                        markeredgecolor="0.3",
                        markeredgewidth=0.4,
                        zorder=2,
                    )
            axes.set_xscale("log")
            axes.set_xlabel("memory [MB]")
            axes.set_yticks([-k for k in range(len(names))], [style.short(name) for name in names])
            axes.set_ylim(-len(names) + 0.4, 0.6)
        for axes in row[len(run.batch_pair) :]:
            axes.remove()
    for axes in (axes for row in grid for axes in row if axes.figure is not None):
        style.plain_log(axes.xaxis)
    texts = {kind: f"{kind}:\n{textwrap.fill(MEMORY_KINDS[kind], 28)}" for kind in kinds}
    handles = [Line2D([], [], marker=SHAPES[k], linestyle="", color="0.5", label=texts[k]) for k in kinds]
    figure.legend(handles=handles, loc="outside right upper", labelspacing=1.0)
    style.sign(
        figure,
        "; ".join(dict.fromkeys(sources.of([run], memory="any") for run in runs)) + "; highest of the repeats",
        *([f"missing: {', '.join(missing)}"] if missing else []),
    )
    rows: list[tuple[Any, ...]] = []
    for run in runs:
        for p in run.points:
            told: list[tuple[str, int | None]] = [
                (kind, p.device.memory[kind]) for kind in kinds if kind in p.device.memory
            ]
            rows += [(*p.head, kind, value, p.missing or "measured") for kind, value in told or [("", None)]]
    return Drawn(figure, {"": Table((*HEAD, "memory_kind", "memory_bytes", "outcome"), tuple(rows))})
