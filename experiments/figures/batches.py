"""Figures 3, 4, 5 and 11: what changes with the batch size. One panel for each run, one line for each network."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from experiments.figures import sources, style
from experiments.figures.catalogue import Drawn, Options
from experiments.figures.rows import HEAD, NothingToDrawError, Point, Run, Table, all_networks, memory_kind, whole

MISSING = {"out of memory": "x", "refused": "+", "rejected": "1", "not measured": "_", "not told": "|"}
"""Shapes above a panel of what has no value there, by the reason."""

PAPER_SPREAD = 0.06
"""Relative standard deviation of the paper's net power over its networks."""

PANEL_IN = (6.6, 4.4)
PANELS_A_ROW = 2
DODGE, DODGED = 0.032, 0.5
"""Octaves by which neighbouring networks are set apart, so that their error bars can be told apart, and all at most."""

Number = Callable[[Point], float]


@dataclass(frozen=True)
class Series:
    """What a panel shows: value and half-width in the units of its axis, the axis' text.

    Where there are half-widths the networks are set apart, so that their error bars can be told apart.
    """

    value: Number
    half: Number | None
    label: str
    log: bool = True


def of_budget(quantity: str, factor: float, label: str, *, log: bool = True) -> Series:
    """Show a quantity that has a budget, times a factor."""
    return Series(lambda p: p.value(quantity) * factor, lambda p: p.half(quantity) * factor, label, log)


def time_vs_batch(runs: Sequence[Run], options: Options) -> Drawn:
    """Figure 3."""
    series = of_budget("time_per_image_s", 1e3, "forward time per image [ms]")
    figure = _lines(runs, [series], "Forward time per image against batch size")
    return _finish(figure, runs, ("time_per_image_s",), sources.of(runs, time=True))


def power_vs_batch(runs: Sequence[Run], options: Options) -> Drawn:
    """Figure 4, with the band in which the paper found all its networks."""
    series = of_budget("net_power_w", 1.0, "net power [W]", log=False)
    figure = _lines(runs, [series], "Net power (idle subtracted) against batch size", _band)
    note = f"grey: mean ± {PAPER_SPREAD * 100:g} %, the paper's standard deviation; the axis need not begin at 0"
    names = ("net_power_w", "idle_power_w")
    return _finish(figure, runs, names, sources.of(runs, power="power"), note)


def memory_vs_batch(runs: Sequence[Run], options: Options) -> Drawn:
    """Figure 5."""
    kind = memory_kind(runs, options.memory)
    series = Series(lambda p: p.memory(kind) / 1e6, None, "peak memory [MB]")
    figure = _lines(runs, [series], "Peak memory against batch size")
    source = sources.of(runs, memory=kind)
    style.sign(figure, f"{source}; highest of the repeats, its uncertainty is not known", _missing_note(runs, series))
    columns = (*HEAD, "memory_kind", "memory_bytes", "outcome")
    rows = [(*p.head, kind, whole(p.memory(kind)), p.missing or "measured") for run in runs for p in run.points]
    return Drawn(figure, {"": Table(columns, tuple(rows))})


def energy_vs_batch(runs: Sequence[Run], options: Options) -> Drawn:
    """Figure 11: gross and net of idle side by side."""
    both = [
        of_budget("energy_per_image_j", 1e3, "energy per image [mJ]"),
        of_budget("net_energy_per_image_j", 1e3, "net energy per image (idle subtracted) [mJ]"),
    ]
    figure = _lines(runs, both, "Energy per image against batch size", sharey=True)
    names = ("energy_per_image_j", "net_energy_per_image_j")
    return _finish(figure, runs, names, sources.of(runs, power="energy", time=True))


def _finish(figure: Any, runs: Sequence[Run], quantities: Sequence[str], source: str, *notes: str) -> Drawn:
    first = Series(lambda p: p.value(quantities[0]), None, "")
    style.sign(figure, f"{source}; {sources.BARS}", *notes, _missing_note(runs, first))
    columns = (*HEAD, "repeats", *(f"{q}{end}" for q in quantities for end in ("", "_u")), "outcome")
    rows = []
    for run in runs:
        for p in run.points:
            values = [number for q in quantities for number in (p.value(q), p.half(q))]
            repeats = p.result.repeats if p.result is not None else 0
            rows.append((*p.head, repeats, *values, p.missing or "measured"))
    return Drawn(figure, {"": Table(columns, tuple(rows))})


def _missing_note(runs: Sequence[Run], series: Series) -> str:
    """Say what the shapes above the panels mean, of those that are there."""
    reasons = {_reason(p, series) for run in runs for p in run.points} - {""}
    shapes = {"x": "×", "+": "+", "1": "Y", "_": "–", "|": "|"}
    told = ", ".join(f"{shapes[shape]} {reason}" for reason, shape in MISSING.items() if reason in reasons)
    return f"above the panels, in the networks' colours: no result, {told}" if told else "no cell is missing"


def _reason(point: Point, series: Series) -> str:
    """Why a point has no value; empty where it has one."""
    if math.isfinite(series.value(point)):
        return ""
    return point.missing or "not told"


def _lines(
    runs: Sequence[Run],
    series: Sequence[Series],
    title: str,
    extra: Callable[[Any, Run, Series], None] | None = None,
    sharey: bool | str = True,
) -> Any:
    """One panel for each run and series; raises NothingToDrawError where no point has a value."""
    if not any(math.isfinite(series[0].value(p)) for run in runs for p in run.points):
        raise NothingToDrawError(f"no cell of {', '.join(r.label for r in runs)} has a result")
    names = all_networks(runs)
    panels = [(run, one) for run in runs for one in series]
    columns = min(len(panels), PANELS_A_ROW)
    rows = -(-len(panels) // columns)
    figure, grid = style.sheet(title, rows, columns, PANEL_IN, right_in=style.legend_in(names), sharey=sharey)
    flat = [axes for row in grid for axes in row]
    for axes, (run, one) in zip(flat, panels, strict=False):
        _panel(axes, run, one, names)
        axes.set_ylabel(one.label)
        if len(runs) > 1:
            style.panel_title(axes, [run.title], PANEL_IN[0] - 0.8, pad=16)
        if extra is not None:
            extra(axes, run, one)
    for axes in flat[len(panels) :]:
        axes.remove()
    if series[0].log:
        values = [v for run in runs for p in run.points for one in series if math.isfinite(v := one.value(p))]
        for axes in flat[: len(panels)]:
            axes.set_ylim(min(values) / 1.4, max(values) * 1.4)  # whatever the lengths of the error bars
            style.plain_log(axes.yaxis)
    style.network_legend(figure, names, lines=True)
    return figure


def _panel(axes: Any, run: Run, series: Series, names: Sequence[str]) -> None:
    colour, marker = style.colours(names), style.markers(names)
    batches = sorted(run.outcome.plan.batches)
    axes.set_xscale("log", base=2)
    axes.set_xticks(batches, [str(b) for b in batches])
    axes.minorticks_off()
    axes.set_xlim(batches[0] / 1.4, batches[-1] * 1.4)
    axes.set_xlabel("batch size [images]")
    if series.log:
        axes.set_yscale("log")
    count = len(run.outcome.plan.networks)
    for k, name in enumerate(run.outcome.plan.networks):
        dodge = 2 ** (min(DODGE, DODGED / count) * (k - (count - 1) / 2))
        mine = sorted((p for p in run.points if p.network == name), key=lambda p: p.batch)
        values = np.array([series.value(p) for p in mine])
        batch = np.array([p.batch for p in mine], dtype=float)
        x = batch * dodge if series.half is not None else batch
        halves = np.array([series.half(p) for p in mine]) if series.half is not None else None
        axes.errorbar(
            x,
            values,
            halves,
            color=colour[name],
            marker=marker[name],
            markersize=4.5,
            markeredgecolor="0.3",
            markeredgewidth=0.4,
            linewidth=1.3,
            elinewidth=1.0,
            capsize=2.0,
            ecolor=colour[name],
            zorder=3,
        )
        for point in mine:
            if reason := _reason(point, series):
                axes.plot(
                    point.batch * dodge,
                    1.025 + 0.03 * (k % 2),
                    marker=MISSING[reason],
                    color=colour[name],
                    markersize=5.5,
                    markeredgewidth=1.5,
                    transform=axes.get_xaxis_transform(),
                    clip_on=False,
                    linestyle="",
                    scaley=False,
                )

    if any(_reason(p, series) for p in run.points):
        axes.text(0, 1.025, "no result:", transform=axes.transAxes, fontsize=style.SMALL, color="0.3")


def _band(axes: Any, run: Run, series: Series) -> None:
    """The mean of all cells, and the paper's spread around it."""
    values = np.array([v for v in map(series.value, run.points) if math.isfinite(v)])
    if values.size:
        mean = float(values.mean())
        spread = PAPER_SPREAD * abs(mean)
        axes.axhspan(mean - spread, mean + spread, color=style.RESIDUE, linewidth=0, zorder=0)
        axes.axhline(mean, color=style.GREY, linewidth=0.8, linestyle="--", zorder=1)
        idle = np.mean([v for v in (p.value("idle_power_w") for p in run.points) if math.isfinite(v)])
        text = f"mean {mean:.2f} W; idle, subtracted: {idle:.3f} W"
        clear = {"facecolor": "white", "edgecolor": "none", "pad": 1.0}  # of the lines of the grid
        axes.text(0.99, 0.02, text, transform=axes.transAxes, ha="right", fontsize=style.SMALL, color="0.3", bbox=clear)
