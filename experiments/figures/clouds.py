"""Figures 6 to 9 and 12: networks as points, one against another quantity, a row of panels for each run."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from experiments.figures import bubbles, fits, sources, style
from experiments.figures.bubbles import Blob, Scale
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
    operations_rule,
    whole,
)

PANEL_IN = (5.6, 4.5)
RADIUS_PT = 22.0
MIN_BOUND = 3
"""Networks below which an upper bound says nothing."""

BOUND = (
    "dashed: the falling line on or above all networks of a panel and nearest to them in the mean; shaded: above it, "
    "where no network of the panel lies"
)

SIZES, NEEDS = "operations or parameters", "accuracy or operations"
"""What a network may lack that has a result."""

Number = Callable[[Point], float]
Panels = list[tuple[Any, list[Blob]]]


def operations_vs_time(runs: Sequence[Run], options: Options) -> Drawn:
    """Figure 7: as in the paper, time is x and operations are y; least squares of time on operations."""
    rule, spoken = operations_rule(runs)

    def time_ms(p: Point) -> float:
        return p.value("time_per_image_s") * 1e3

    cloud = _Cloud(runs, "Operations against forward time per image", time_ms, _gops(rule), _mparams, SIZES)
    lines = []
    for (run, batch), axes, points in cloud.panels("forward time per image [ms]", f"operations [G-Ops], {spoken}"):
        cloud.draw(axes, points, lambda p: p.half("time_per_image_s") * 1e3)
        fit = fits.trend([_gops(rule)(p) for p in points], [time_ms(p) for p in points])
        if fit is not None:
            ops = np.array([0.0, max(_gops(rule)(p) for p in points)]) * 1.03
            text = (
                f"{fit.slope:.3g} ms/G-Op {'+' if fit.at_zero >= 0 else '−'} {abs(fit.at_zero):.3g} ms, "
                f"R² {fit.r2:.3f}\n(G-Ops {spoken})"
            )
            axes.plot(
                fit.at_zero + fit.slope * ops,
                ops,
                color=style.GREY,
                linestyle="--",
                linewidth=1.2,
                zorder=1,
                label=text,
            )
            axes.legend(loc="lower right")  # long times of few operations are rare
            lines.append((run.label, batch, fit.slope, fit.at_zero, fit.r2, fit.n))
    cloud.limits(x_from=0.0, y_from=0.0)
    source = f"{sources.of(runs, time=True)}; {sources.BARS}; {sources.COUNTED.format(spoken)}"
    cloud.finish("M", "parameters", source, *(["dashed: least squares of time on operations"] if lines else []))
    fit_columns = ("run", "batch", "slope_ms_per_gop", "at_zero_ms", "r2", "n")
    table = cloud.table(("time_per_image_s",), (rule, "parameters"))
    return Drawn(cloud.figure, {"": table, **fitted(fit_columns, lines)})


def operations_vs_power(runs: Sequence[Run], options: Options) -> Drawn:
    """Figure 8: a cloud without a direction is the paper's point."""
    rule, spoken = operations_rule(runs)
    cloud = _Cloud(runs, "Operations against net power", _net_power_w, _gops(rule), _mparams, SIZES)
    for _, axes, points in cloud.panels("net power [W]", f"operations [G-Ops], {spoken}"):
        cloud.draw(axes, points, lambda p: p.half("net_power_w"))
    cloud.limits(y_from=0.0)
    source = f"{sources.of(runs, power='power')}; {sources.BARS}; {sources.COUNTED.format(spoken)}"
    cloud.finish("M", "parameters", source, "the axis of power need not begin at 0")
    return Drawn(cloud.figure, {"": cloud.table(("net_power_w",), (rule, "parameters"))})


def top1_vs_images_per_second(runs: Sequence[Run], options: Options) -> Drawn:
    """Figure 9: the area is operations; above the line no network of the panel is found."""
    rule, spoken = operations_rule(runs)
    cloud = _Cloud(runs, "Top-1 accuracy against images per second", _images_per_s, _top1, _gops(rule), NEEDS)
    lines = []
    for (run, batch), axes, points in cloud.panels("images per second [Hz]", "top-1 accuracy [%]"):
        cloud.draw(axes, points, _images_per_s_half)
        bound = fits.upper_bound([_images_per_s(p) for p in points], [p.top1 for p in points])
        if bound is not None and bound.n >= MIN_BOUND:
            lines.append((run.label, batch, bound.at_zero, bound.slope, bound.n))
            x = np.array([0.0, 2 * max(_images_per_s(p) for p in cloud.every)])
            y = bound.at_zero + bound.slope * x
            axes.plot(x, y, color=style.GREY, linewidth=1.2, linestyle="--", zorder=1)
            axes.fill_between(x, y, 200.0, color=style.RESIDUE, linewidth=0, zorder=0)
            text = f"{bound.at_zero:.4g} % − {abs(bound.slope):.3g} % per Hz"
            axes.text(0.98, 0.97, text, transform=axes.transAxes, ha="right", va="top", fontsize=8, color="0.3")
    cloud.limits(x_from=0.0, y_from=50.0, y_to=82.0)
    cloud.finish(
        "G-Ops",
        f"operations, {spoken}",
        f"{sources.ACCURACY}; {sources.of(runs, time=True)}; {sources.BARS}",
        *([BOUND] if lines else []),
    )
    fit_columns = ("run", "batch", "at_zero_percent", "slope_percent_per_hz", "n")
    table = cloud.table(("time_per_image_s",), (rule,), ("images_per_second", "images_per_second_u", "top1"))
    return Drawn(cloud.figure, {"": table, **fitted(fit_columns, lines)})


def _images_per_s(point: Point) -> float:
    return 1 / point.value("time_per_image_s")


def _images_per_s_half(point: Point) -> float:
    return point.half("time_per_image_s") / point.value("time_per_image_s") ** 2


def _net_power_w(point: Point) -> float:
    return point.value("net_power_w")


def _top1(point: Point) -> float:
    return point.top1


def _mparams(point: Point) -> float:
    return point.run.size(point.network, "parameters") * 1e-6


def _gops(rule: str) -> Number:
    return lambda point: point.run.size(point.network, rule) * 1e-9


class _Cloud:
    """Panels of discs: a row for each run, a column for each of two batch sizes."""

    def __init__(self, runs: Sequence[Run], title: str, x: Number, y: Number, size: Number, needs: str) -> None:
        self.runs, self.x, self.y, self.size, self.needs = runs, x, y, size, needs
        self.shown = {(run.label, b): known(run.at(b), x, y, size) for run in runs for b in run.batch_pair}
        self.every = [p for points in self.shown.values() for p in points]
        if not self.every:
            why = {p.missing or f"{needs} not known" for run in runs for p in run.points}
            raise NothingToDrawError(f"no network has all that this figure shows: {', '.join(sorted(why))}")
        self.scale = Scale.of([size(p) for p in self.every], "", "", RADIUS_PT)
        columns = max(len(run.batch_pair) for run in runs)
        self.figure, self.grid = style.sheet(title, len(runs), columns, PANEL_IN, sharex="row", sharey="row")
        self.colour = style.colours(all_networks(runs))
        self.drawn: Panels = []
        self.notes: list[str] = []

    def panels(self, x_label: str, y_label: str) -> list[tuple[tuple[Run, int], Any, list[Point]]]:
        """Every panel that has points: its run and batch, its axes, its points."""
        found = []
        for run, row in zip(self.runs, self.grid, strict=True):
            for k, axes in enumerate(row):
                if k >= len(run.batch_pair):
                    axes.remove()
                    continue
                batch = run.batch_pair[k]
                style.panel_title(axes, [run.title if len(self.runs) > 1 else "", f"batch {batch}"], PANEL_IN[0] - 0.6)
                axes.set_xlabel(x_label)
                axes.set_ylabel(y_label)
                points = self.shown[run.label, batch]
                self.notes += absent(run, run.at(batch), points, self.needs)
                if points:
                    found.append(((run, batch), axes, points))
        return found

    def draw(self, axes: Any, points: Sequence[Point], half: Number) -> None:
        """Draw the discs of a panel, with the half-widths of x."""
        blobs = [
            Blob(style.short(p.network), self.x(p), self.y(p), self.size(p), self.colour[p.network], half(p))
            for p in points
        ]
        bubbles.draw(axes, blobs, self.scale)
        self.drawn.append((axes, blobs))

    def limits(self, x_from: float = math.inf, y_from: float = math.inf, y_to: float = -math.inf) -> None:
        """Give the panels of each run the limits that show every disc whole, and these values too.

        A bar that is much longer than the points are apart runs out of its panel.
        """
        for row in self.grid:
            mine = [(axes, blobs) for axes, blobs in self.drawn if axes in row]
            blobs = [blob for _, found in mine for blob in found]
            if not blobs:
                continue
            x, y = [b.x for b in blobs], [b.y for b in blobs]
            most = max(max(x) - min(x), 0.2 * max(map(abs, x)))
            halves = [min(b.x_half, most) for b in blobs]
            ends = [
                (
                    min(a - h for a, h in zip(x, halves, strict=True)),
                    max(a + h for a, h in zip(x, halves, strict=True)),
                ),
                (min([y_from, *y]), max([y_to, *y])),
            ]
            if math.isfinite(x_from):
                ends[0] = (x_from, ends[0][1])
            for (low, high), side, names in zip(ends, PANEL_IN, ("set_xlim", "set_ylim"), strict=True):
                # A disc of the largest radius fits between the outermost point and the edge.
                pad = (high - low or abs(high) or 1.0) * 1.1 * self.scale.radius_pt / 72 / (0.8 * side)
                for axes, _ in mine:
                    getattr(axes, names)(low - pad, high + pad)

    def finish(self, unit: str, quantity: str, *notes: str) -> None:
        """Sign the figure and write the names."""
        self.scale = Scale(self.scale.largest, unit, quantity, self.scale.radius_pt)
        bubbles.sign(self.figure, self.scale, *notes, *self.notes)
        bubbles.name(self.figure, self.drawn, self.scale)

    def table(self, quantities: Sequence[str], sizes: Sequence[str], extra: Sequence[str] = ()) -> Table:
        """Everything that the panels show, and what is missing there."""
        further: dict[str, Number] = {
            "images_per_second": _images_per_s,
            "images_per_second_u": _images_per_s_half,
            "top1": lambda p: p.top1,
        }
        columns = (*HEAD, *(f"{q}{end}" for q in quantities for end in ("", "_u")), *sizes, *extra, "outcome")
        rows = []
        for run in self.runs:
            for p in (p for b in run.batch_pair for p in run.at(b)):
                values = [number for q in quantities for number in (p.value(q), p.half(q))]
                counts = [whole(run.size(p.network, name)) for name in sizes]
                rows.append((*p.head, *values, *counts, *(further[e](p) for e in extra), p.missing or "measured"))
        return Table(columns, tuple(rows))
