"""Figure 14: power within a batch. One record, one batch with its markers, and the mean over all batches of a cell."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from experiments.figures import sources, style
from experiments.figures.captures import Waveform, waveforms
from experiments.figures.catalogue import Drawn, Options
from experiments.figures.folding import Folded, chosen_cell, fold, settling_s
from experiments.figures.rows import NothingToDrawError, Run, Table
from instruments.wording import counted

STRETCHES = 1200
BEYOND = 0.35
"""How much of the neighbours of one batch is shown, as a share of it."""

BLUE, PALE, ORANGE = "#08519c", "#9ecae1", "#fde9c9"


def power_within_a_batch(runs: Sequence[Run], options: Options) -> Drawn:
    """Figure 14: a column for each run."""
    drawn = [_Column.of(run, options.cell) for run in runs]
    heights = (2.2, 2.6, 0.75, 3.0)
    figure, grid = style.sheet(
        "Power within a batch", 4, len(runs), (7.6, sum(heights) / 4), gridspec_kw={"height_ratios": heights}
    )
    for k, column in enumerate(drawn):
        column.record(grid[0][k], several=len(runs) > 1)
        column.one_batch(grid[1][k], grid[2][k])
        column.folded_mean(grid[3][k])
    notes = [
        f"{sources.of(runs, power='power')}; corrected as the results are",
        "the folded mean shows what repeats in step with the batches, without the first of each run, which "
        "begins at rest; spread and interval are those from batch to batch, without the bench's own (figure 13)",
        *(column.honest() for column in drawn),
    ]
    style.sign(figure, *notes)
    heads = [c.head for c in drawn]
    folded = [
        (*head, f, f * c.folded.batch_s, *values, c.folded.batches)
        for head, c in zip(heads, drawn, strict=True)
        for f, *values in zip(c.folded.phase, c.folded.mean, c.folded.sd, c.folded.half, c.folded.first, strict=True)
    ]
    batch = [(*head, *row) for head, c in zip(heads, drawn, strict=True) for row in c.samples()]
    record = [(*head, *row) for head, c in zip(heads, drawn, strict=True) for row in c.stretches()]
    names = ("run", "source", "network", "batch")
    columns = {
        "": ("phase", "time_s", "power_w", "power_w_sd", "power_w_u", "power_w_first", "batches"),
        "batch": ("repeat", "time_s", "power_w", "gate", "batch_line"),
        "record": ("repeat", "time_s", "power_w_min", "power_w", "power_w_max"),
    }
    rows = {"": folded, "batch": batch, "record": record}
    tables = {end: Table((*names, *columns[end]), tuple(map(_plain, rows[end]))) for end in columns}
    return Drawn(figure, tables)


def _plain(row: tuple[Any, ...]) -> tuple[Any, ...]:
    return tuple(value.item() if isinstance(value, np.generic) else value for value in row)


@dataclass(frozen=True)
class _Column:
    """One run's panels."""

    run: Run
    cell: tuple[str, int]
    found: list[Waveform]
    folded: Folded
    settling: float

    @staticmethod
    def of(run: Run, asked: tuple[str, int] | None) -> _Column:
        cell = asked or chosen_cell(run)
        found = list(waveforms(run, *cell))
        if not found:
            raise NothingToDrawError(f"{run.label}: no record of {cell[0]} at batch {cell[1]} can be used")
        try:
            return _Column(run, cell, found, fold(found), settling_s(found))
        except NothingToDrawError as error:
            raise NothingToDrawError(f"{run.label}: {cell[0]} at batch {cell[1]}: {error}") from None

    @property
    def head(self) -> tuple[Any, ...]:
        return self.run.label, self.run.outcome.source, *self.cell

    @property
    def middle(self) -> tuple[int, int]:
        """First sample of the batch in the middle of the first record, and of the one after it."""
        edges = self.found[0].edges
        k = (len(edges) - 1) // 2
        return (edges[k], edges[k + 1]) if k + 1 < len(edges) else (edges[0], edges[-1])

    def _shown(self) -> slice:
        start, stop = self.middle
        beyond = int(BEYOND * (stop - start))
        return slice(max(start - beyond, 0), min(stop + beyond, len(self.found[0].power_w)))

    def stretches(self) -> list[tuple[Any, ...]]:
        """The first record in short stretches: repeat, time, least, mean, most."""
        w = self.found[0]
        size = max(len(w.power_w) // STRETCHES, 1)
        n = len(w.power_w) // size * size
        p, t = w.power_w[:n].reshape(-1, size), w.time_s[:n].reshape(-1, size).mean(axis=1)
        least, mean, most = p.min(axis=1), p.mean(axis=1), p.max(axis=1)
        return [(w.data.repeat + 1, *row) for row in zip(t, least, mean, most, strict=True)]

    def samples(self) -> list[tuple[Any, ...]]:
        """One batch and its neighbours: repeat, time from the batch's beginning, power, both lines."""
        w, shown = self.found[0], self._shown()
        t = (np.arange(shown.start, shown.stop) - (self.middle[0] - 0.5)) * w.dt_s
        lines = (w.gate[shown].astype(int), w.batch_line[shown].astype(int))
        return [(w.data.repeat + 1, *row) for row in zip(t, w.power_w[shown], *lines, strict=True)]

    def record(self, axes: Any, *, several: bool) -> None:
        w = self.found[0]
        _, t, least, mean, most = (np.array(c) for c in zip(*self.stretches(), strict=True))
        axes.axvspan(0, w.loop.samples * w.dt_s, color=ORANGE, zorder=0, label="gate high")
        axes.fill_between(t, least, most, color=PALE, linewidth=0, label="least to most", zorder=2)
        axes.plot(t, mean, color=BLUE, linewidth=0.9, label=f"mean of {(t[1] - t[0]) * 1e3:.3g} ms", zorder=3)
        axes.set_xlim(t[0], t[-1])
        axes.set_ylim(bottom=min(0.0, least.min()), top=most.max() * 1.35)
        name = f"{style.short(self.cell[0])}, batch {self.cell[1]}, repeat {w.data.repeat + 1}"
        style.panel_title(axes, [self.run.title if several else "", name], 7.0)
        axes.set_xlabel("time from the gate's rise [s]")
        axes.set_ylabel("power [W]")
        axes.legend(loc="upper center", ncols=3, frameon=True, facecolor="white", framealpha=0.9, edgecolor="none")

    def one_batch(self, axes: Any, lines: Any) -> None:
        _, t, power, gate, batch = (np.array(c) for c in zip(*self.samples(), strict=True))
        unit, factor = _time_unit(t[-1])
        t = t * factor
        axes.plot(t, power, color=BLUE, linewidth=0.7)
        axes.set_ylabel("power [W]")
        axes.set_title(f"one batch and its neighbours, every sample ({self.found[0].dt_s * 1e6:.3g} µs apart)")
        start, stop = self.middle
        for k in {*self.found[0].edges} & set(range(self._shown().start, self._shown().stop + 1)):
            for panel in (axes, lines):
                panel.axvline((k - start) * self.found[0].dt_s * factor, color="0.4", linewidth=0.8, linestyle="--")
        axes.axvspan(0, (stop - start) * self.found[0].dt_s * factor, color=ORANGE, zorder=0)
        lines.step(t, gate * 0.8 + 1.1, where="mid", color="#555555", linewidth=1.1)
        lines.step(t, batch * 0.8, where="mid", color="#d94801", linewidth=1.1)
        lines.set_yticks([0.4, 1.5], ["batch", "gate"])
        lines.set_ylim(-0.25, 2.15)
        lines.grid(False)
        lines.set_xlabel(f"time from the batch's beginning [{unit}]")
        for panel in (axes, lines):
            panel.set_xlim(t[0], t[-1])
        axes.tick_params(labelbottom=False)

    def folded_mean(self, axes: Any) -> None:
        f = self.folded
        unit, factor = _time_unit(f.batch_s)
        t = f.phase * f.batch_s * factor
        axes.fill_between(t, f.mean - f.sd, f.mean + f.sd, color="#deebf7", linewidth=0, label="± standard deviation")
        axes.fill_between(
            t, f.mean - f.half, f.mean + f.half, color=PALE, linewidth=0, label="95 % interval of the mean"
        )
        axes.plot(t, f.mean, color=BLUE, linewidth=1.0, label=f"mean of {counted(f.batches, 'batch')}")
        axes.plot(t, f.first, color="#fd8d3c", linewidth=0.7, zorder=1.5, label="first of each run")
        if math.isfinite(self.settling):
            width = min(self.settling, f.batch_s) * factor
            axes.axvspan(
                0,
                width,
                color="0.75",
                alpha=0.45,
                linewidth=0,
                zorder=0,
                label=f"settling: {self.settling * 1e3:.2g} ms",
            )
        axes.set_xlim(0, f.batch_s * factor)
        low, high = (f.mean - f.sd).min(), (f.mean + f.sd).max()
        axes.set_ylim(low - 0.05 * (high - low), high + 0.45 * (high - low))
        axes.set_title(f"mean by phase over the batches of {counted(len(self.found), 'record')} ({f.mean.size} bins)")
        axes.set_xlabel(f"time into the batch, stretched to the mean length [{unit}]")
        axes.set_ylabel("power [W]")
        axes.legend(loc="upper right", ncols=3, frameon=True, facecolor="white", framealpha=0.9, edgecolor="none")

    def honest(self) -> str:
        """Say how much the board smears."""
        name = f"{self.run.label}, {style.short(self.cell[0])}"
        if not math.isfinite(self.settling):
            return f"{name}: how fast the board's current settles is not known: do not read short features"
        return (
            f"{name}: after the gate's fall the power drops to 1/e of its step in {self.settling * 1e3:.2g} ms: "
            "the board's capacitors, or work after the gate, smear its current by that much; what is shorter is hidden"
        )


def _time_unit(longest_s: float) -> tuple[str, float]:
    return ("s", 1.0) if longest_s >= 1 else ("ms", 1e3)
