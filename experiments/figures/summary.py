"""The two pictures beside a run's table: net power and energy per image against batch size."""

from __future__ import annotations

import os
from statistics import fmean
from typing import TYPE_CHECKING, Any

from experiments.figures.style import colour_of

if TYPE_CHECKING:
    from experiments.outcome import Outcome


def _axes(title: str, ylabel: str) -> tuple[Any, Any]:
    os.environ["MPLBACKEND"] = "agg"  # a name that matplotlib does not know would stop its import
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7.2, 4.6), layout="constrained")
    axes = figure.add_subplot()
    axes.set_title(title, fontsize=11, loc="left")
    axes.set_xlabel("batch size [images]")
    axes.set_ylabel(ylabel)
    axes.grid(True, linestyle=":", color="0.8")
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)
    return figure, axes


def _batch_axis(axes: Any, outcome: Outcome) -> None:
    axes.set_xscale("log", base=2)
    axes.set_xticks(outcome.plan.batches, [str(b) for b in outcome.plan.batches])
    axes.minorticks_off()
    low, high = min(outcome.plan.batches), max(outcome.plan.batches)
    axes.set_xlim(low / 1.25, high * 1.25)


def _series(outcome: Outcome, network: str, quantity: str) -> tuple[list[int], list[float], list[float]]:
    batches, values, halves = [], [], []
    for (name, batch), row in zip(outcome.pairs, outcome.rows, strict=True):
        if name == network and row is not None:
            budget = getattr(row, quantity)
            batches.append(batch)
            values.append(budget.value)
            halves.append(budget.expanded())
    return batches, values, halves


def _origin(outcome: Outcome) -> str:
    return f"{outcome.source} bench, error bars: 95 % intervals"


def _dodge(outcome: Outcome, network: str) -> float:
    """Factor that sets the networks' error bars a little apart on the logarithmic batch axis."""
    k = outcome.plan.networks.index(network) - (len(outcome.plan.networks) - 1) / 2
    return float(2 ** (0.035 * k))


def power_vs_batch(outcome: Outcome) -> Any:
    """Draw net power against batch size, one line per network, and the idle power in the title."""
    figure, axes = _axes(f"Net power against batch size ({_origin(outcome)})", "net power [W]")
    idle = [row.idle_power_w.value for row in outcome.rows if row is not None]
    for network in outcome.plan.networks:
        batches, values, halves = _series(outcome, network, "net_power_w")
        if batches:
            axes.errorbar(
                [b * _dodge(outcome, network) for b in batches],
                values,
                halves,
                label=network,
                color=colour_of(network, outcome),
                marker="o",
                markersize=4,
                capsize=3,
                linewidth=1.3,
            )
    _batch_axis(axes, outcome)
    axes.set_ylim(0, axes.get_ylim()[1] * 1.08)
    if idle:
        axes.text(
            0.99, 0.02, f"idle, subtracted: {fmean(idle):.3f} W", transform=axes.transAxes, ha="right", fontsize=9
        )
        axes.legend(frameon=False, fontsize=9, loc="lower left")
    return figure


def energy_vs_batch(outcome: Outcome) -> Any:
    """Draw energy per image, gross (solid) and net of idle (dashed), against batch size."""
    figure, axes = _axes(f"Energy per image against batch size ({_origin(outcome)})", "energy per image [J]")
    for network in outcome.plan.networks:
        for quantity, style, label in (("energy_per_image_j", "-", network), ("net_energy_per_image_j", "--", None)):
            batches, values, halves = _series(outcome, network, quantity)
            if batches:
                axes.errorbar(
                    [b * _dodge(outcome, network) * (1.0 if label else 1.02) for b in batches],
                    values,
                    halves,
                    label=label,
                    color=colour_of(network, outcome),
                    marker="o" if label else None,
                    markersize=4,
                    capsize=3,
                    linewidth=1.3,
                    linestyle=style,
                )
    _batch_axis(axes, outcome)
    axes.set_ylim(bottom=0)
    if any(row is not None for row in outcome.rows):
        axes.plot([], [], "k--", linewidth=1.3, label="net of idle")
        axes.legend(frameon=False, fontsize=9)
    return figure
