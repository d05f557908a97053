"""Figure 15: idle power, net power and the clamp's zero over the time of the sweep."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from experiments.capture_data import ReductionError, wires
from experiments.figures import sources, style
from experiments.figures.captures import calibrations, clock
from experiments.figures.catalogue import Drawn, Options
from experiments.figures.rows import NothingToDrawError, Run, Table, all_networks
from experiments.measure import measure
from experiments.moments import corrected_power_w, moments

PANEL_IN = (7.6, 2.5)


def idle_and_drift(runs: Sequence[Run], options: Options) -> Drawn:
    """A column for each run: idle power, net power against its row's mean, zero of the current channel."""
    columns = [_Column(run) for run in runs]
    if not any(c.repeats for c in columns):
        raise NothingToDrawError("no cell has a result")
    figure, grid = style.sheet(
        "Idle power and drift over the sweep",
        3,
        len(runs),
        PANEL_IN,
        right_in=style.legend_in(all_networks(runs)),
        sharex="col",
        sharey="row",
    )
    colour = style.colours(all_networks(runs))
    for k, column in enumerate(columns):
        column.idle(grid[0][k], colour)
        column.net(grid[1][k], colour)
        column.zero(grid[2][k])
        if len(runs) > 1:
            style.panel_title(grid[0][k], [column.run.title], PANEL_IN[0] - 0.6)
        grid[2][k].set_xlabel("time from the first record [min]")
    style.network_legend(figure, all_networks(runs), lines=False)
    style.sign(
        figure,
        f"{sources.of(runs, power='power')}; bars of the idle power: U, 95 %, of every run by itself, without "
        "repeatability",
        "diamonds: records in which nothing ran; zero: the current channel's reading with the output off, straight "
        "between those taken; its bars are the standard uncertainty u of the noise alone, grey is u with drift",
    )
    head = ("run", "source", "time_s", "kind", "session", "network", "batch", "repeat")
    values = ("idle_power_w", "idle_power_w_u", "net_power_w", "net_power_w_u")
    zeros = ("run", "source", "time_s", "session", "channel", "unit", "value", "u_noise", "u_drift")
    tables = {
        "": Table((*head, *values), tuple(row for c in columns for row in c.rows())),
        "zero": Table(zeros, tuple(row for c in columns for row in c.zeros())),
    }
    return Drawn(figure, tables)


@dataclass(frozen=True, slots=True)
class _Cell:
    """One run of the device at a time: its powers, W, each with the half-width of its 95 % interval."""

    t: float
    session: int
    network: str
    batch: int
    repeat: int
    idle_w: float
    idle_u_w: float
    net_w: float
    net_u_w: float


class _Column:
    """One run over time."""

    def __init__(self, run: Run) -> None:
        self.run = run
        self.shift = clock(run)
        self.calibrations = calibrations(run)
        taken = {
            (row["session"], row["network"], row["batch"], row["repeat"]): row["host_s"]
            for row in run.reader.captures()
            if row["kind"] == "cell" and row["state"] == "committed"
        }
        found = []
        for r in run.outcome.repeats:
            row = r.result
            host_s = taken.get((r.session, row.network, row.batch, r.repeat))
            if host_s is not None:
                idle, net = row.idle_power_w, row.net_power_w
                powers = idle.value, idle.expanded(), net.value, net.expanded()
                t = host_s - self.shift[r.session]
                found.append(_Cell(t, r.session, row.network, row.batch, r.repeat, *powers))
        self.repeats = sorted(found, key=lambda cell: cell.t)
        self.at_rest = self._at_rest()

    def _at_rest(self) -> list[tuple[float, int, float]]:
        """Time, session and power of the records in which nothing ran."""
        found = []
        roles = wires(self.run.outcome.lab)
        for data in self.run.reader.data(kinds=("idle",)):
            try:
                measure(data, roles)
                current, voltage = data.capture[roles.current], data.capture[roles.voltage]
                whole = moments(current, voltage, 0, len(current.codes))
            except ReductionError:
                continue
            known = self.calibrations.get(data.session)
            if known is not None:
                power_w = corrected_power_w(whole, known.current, known.voltage, data.at_s)
                found.append((data.at_s - self.shift[data.session], data.session, power_w))
        return found

    def rows(self) -> list[tuple[Any, ...]]:
        head = (self.run.label, self.run.outcome.source)
        found: list[tuple[Any, ...]] = [
            (*head, t, "idle", session + 1, "", None, None, power_w, None, None, None)
            for t, session, power_w in self.at_rest
        ]
        for c in self.repeats:
            values = (c.idle_w, c.idle_u_w, c.net_w, c.net_u_w)
            found.append((*head, c.t, "cell", c.session + 1, c.network, c.batch, c.repeat + 1, *values))
        return sorted(found, key=lambda row: row[2])

    def zeros(self) -> list[tuple[Any, ...]]:
        head = (self.run.label, self.run.outcome.source)
        return [
            (*head, p.t_s - self.shift[session], session + 1, c.name, c.unit, p.value, p.u, c.offset.u_drift)
            for session, known in self.calibrations.items()
            for c in (known.current, known.voltage)
            for p in c.offset.points
        ]

    def idle(self, axes: Any, colour: dict[str, str]) -> None:
        """Idle power of each run, and that of the records at rest."""
        minutes, colours = [c.t / 60 for c in self.repeats], [colour[c.network] for c in self.repeats]
        axes.vlines(
            minutes,
            [c.idle_w - c.idle_u_w for c in self.repeats],
            [c.idle_w + c.idle_u_w for c in self.repeats],
            color="0.87",
            linewidth=0.7,
            zorder=1,
        )
        axes.scatter(minutes, [c.idle_w for c in self.repeats], c=colours, s=9, zorder=2)
        for t, _, power_w in self.at_rest:
            axes.plot(t / 60, power_w, "D", color="black", markersize=6, zorder=4)
        axes.set_ylabel("idle power\nof each run [W]")

    def net(self, axes: Any, colour: dict[str, str]) -> None:
        """Net power of each run against the mean of its network and batch."""
        means = {(p.network, p.batch): p.value("net_power_w") for p in self.run.points}
        found = [(c.t / 60, c.net_w / means[c.network, c.batch], colour[c.network]) for c in self.repeats]
        axes.scatter(
            [t for t, _, _ in found], [100 * (s - 1) for _, s, _ in found], c=[c for *_, c in found], s=9, zorder=2
        )
        axes.axhline(0, color=style.GREY, linewidth=0.8)
        axes.set_ylabel("net power against\nmean of its row [%]")

    def zero(self, axes: Any) -> None:
        """The current channel's zero as it was applied."""
        for session, known in self.calibrations.items():
            offset = known.current.offset
            t = np.array(sorted(p.t_s for p in offset.points))
            mine = [c.t for c in self.repeats if c.session == session]
            t = np.unique([*(t - self.shift[session]), *([min(mine), max(mine)] if mine else [])])
            value = 1e3 * np.array([offset.at(float(x) + self.shift[session]) for x in t])
            u = 1e3 * float(np.hypot(offset.u_drift, offset.u_noise))
            axes.fill_between(t / 60, value - u, value + u, color=style.RESIDUE, linewidth=0, zorder=0)
            axes.plot(t / 60, value, color="#08519c", linewidth=1.1, zorder=2)
            for p in offset.points:
                axes.errorbar(
                    (p.t_s - self.shift[session]) / 60,
                    1e3 * p.value,
                    1e3 * p.u,
                    fmt="s",
                    color="#08519c",
                    markersize=5,
                    capsize=3,
                )
        axes.set_ylabel("zero of the\ncurrent channel [mA]")
