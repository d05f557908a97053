"""The data of the report's own charts: each quantity against the batch size, for every network of every run."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from experiments.figures import style
from experiments.figures.rows import Run, all_networks
from experiments.report import markup
from experiments.report.text import SHOWN

LOGARITHMIC = ("time_per_image_s", "energy_per_image_j", "net_energy_per_image_j")


def data(runs: Sequence[Run]) -> dict[str, Any]:
    """Values and half-widths for each run, network and batch that has a result, in the units that are shown."""
    names = all_networks(runs)
    colour = style.colours(names)
    return {
        "networks": [{"name": name, "colour": colour[name]} for name in names],
        "runs": [{"label": run.label, "device": run.outcome.lab.dut.name} for run in runs],
        "batches": sorted({batch for run in runs for batch in run.outcome.plan.batches}),
        "quantities": [
            {"name": name, "label": f"{label} [{unit}]", "log": name in LOGARITHMIC} for name, label, unit, _ in SHOWN
        ],
        "points": [
            {
                "run": k,
                "network": names.index(point.network),
                "batch": point.batch,
                "values": [_numbers(point.value(name) * f, point.half(name) * f) for name, _, _, f in SHOWN],
            }
            for k, run in enumerate(runs)
            for point in run.points
            if point.result is not None
        ],
    }


def _numbers(value: float, half: float) -> list[float]:
    return [float(f"{value:.7g}"), float(f"{half:.4g}")]


def chart(runs: Sequence[Run]) -> str:
    """Where the chart is drawn, and what is said where it cannot be."""
    if not any(row is not None for run in runs for row in run.outcome.rows):
        return markup.paragraph("No cell has a result: there is nothing to draw against the batch size.")
    return (
        "<div id='chart' class='live'><div class='controls' id='chart-quantities' role='group' "
        "aria-label='quantity'></div><div id='chart-drawing'></div>"
        "<div class='controls' id='chart-runs' role='group' aria-label='runs on and off'></div>"
        "<div class='controls' id='chart-networks' role='group' aria-label='networks on and off'></div>"
        "<p class='hint'>Each name switches its network off and on: in this chart, in the table of results, and in the "
        "list of captures. Bars are U, 95 %.</p></div>"
        "<noscript><p>Scripts are switched off here: figures 3, 4 and 11 show the same.</p></noscript>"
    )
