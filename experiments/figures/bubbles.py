"""Discs whose area is a quantity, as in the paper: white edge, small light centre, names beside them.

A disc's rim stands above all others of about its size, so that one behind another is seen.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from experiments.figures import labels, style

PAPER_DISCS = (5.0, 35.0, 65.0, 95.0, 125.0, 155.0)
"""Of the paper's legend, in millions of parameters."""

EDGE_PT, RIM_PT = 1.5, 1.6
LIKE = 0.75
"""Smaller than this share of a disc is what lies upon its rim."""


@dataclass(frozen=True)
class Blob:
    """One disc: name, place in the units of the axes, what its area stands for, colour, half-widths of its bars."""

    name: str
    x: float
    y: float
    size: float
    colour: str
    x_half: float = 0.0


@dataclass(frozen=True)
class Scale:
    """Areas in proportion to a quantity: the largest value has a radius of `radius_pt` points."""

    largest: float
    unit: str
    quantity: str
    radius_pt: float

    @staticmethod
    def of(values: Sequence[float], unit: str, quantity: str, radius_pt: float) -> Scale:
        """Scale for these values."""
        return Scale(max(values, default=1.0), unit, quantity, radius_pt)

    def radius(self, value: float) -> float:
        """Radius in points."""
        return self.radius_pt * math.sqrt(value / self.largest)

    def area(self, value: float) -> float:
        """The same as matplotlib's `s`: square of the diameter in points."""
        return (2 * self.radius(value)) ** 2

    @property
    def samples(self) -> tuple[float, ...]:
        """Values to show in a legend: the paper's for parameters where they fit."""
        if self.unit == "M" and 100 < self.largest < 200:
            return PAPER_DISCS[:5]
        step = 10.0 ** math.floor(math.log10(self.largest))
        top = max(m * step for m in (1, 2, 5) if m * step <= self.largest)
        return tuple(float(f"{top * share:.1g}") for share in (0.1, 0.25, 0.5, 1.0))


def draw(axes: Any, blobs: Sequence[Blob], scale: Scale) -> None:
    """Draw the discs, the large ones behind, their rims and their error bars."""
    from_behind = sorted(blobs, key=lambda b: -b.size)
    for k, blob in enumerate(from_behind):
        if blob.x_half > 0:
            axes.errorbar(
                blob.x, blob.y, xerr=blob.x_half, fmt="none", ecolor="0.25", elinewidth=1.0, capsize=2.5, zorder=4
            )
        axes.scatter(
            blob.x,
            blob.y,
            s=scale.area(blob.size),
            color=blob.colour,
            edgecolor="white",
            linewidth=EDGE_PT,
            zorder=3 + k / len(blobs),
            alpha=0.92,
        )
        axes.scatter(blob.x, blob.y, s=5, color="0.88", edgecolor="0.45", linewidth=0.3, zorder=4.5)
    for blob in reversed(from_behind):
        below = sum(b.size >= LIKE * blob.size for b in blobs)
        across_pt = max(2 * scale.radius(blob.size) - EDGE_PT - RIM_PT, 0.0)
        axes.scatter(
            blob.x,
            blob.y,
            s=across_pt**2,
            facecolor="none",
            edgecolor=blob.colour,
            linewidth=RIM_PT,
            zorder=3 + (below - 0.5) / len(blobs),
        )


def sign(figure: Any, scale: Scale, *notes: str) -> None:
    """Write the notes below a figure, and above them what the areas mean."""
    from matplotlib.lines import Line2D

    tall_in = 2 * scale.radius(max(scale.samples)) / 72 + 0.1
    foot_in = style.sign(figure, *notes, room_in=tall_in + 0.1) + 0.05
    width, height = figure.get_size_inches()
    y, x_in = (foot_in + tall_in / 2) / height, 0.12
    texts = [f"area: {scale.quantity}", *(f"{value:g} {scale.unit}" for value in scale.samples)]
    for text, value in zip(texts, (0.0, *scale.samples), strict=True):
        radius_in = scale.radius(value) / 72
        if value:
            disc = Line2D(
                [(x_in + radius_in) / width], [y], marker="o", markersize=2 * scale.radius(value), color="0.78"
            )
            disc.set(markeredgecolor="none", transform=figure.transFigure)
            figure.add_artist(disc)
        x_in += 2 * radius_in + 0.05
        figure.text(x_in / width, y, text, fontsize=style.SMALL, color="0.3", va="center")
        x_in += 0.075 * len(text) + 0.15


def name(
    figure: Any,
    panels: Sequence[tuple[Any, Sequence[Blob]]],
    scale: Scale,
    around: Sequence[tuple[float, float, float]] = (),
) -> None:
    """Write the names beside the discs, and off the circles `around` (x, y, size); the figure must be whole by now."""
    style.settle(figure)
    for axes, blobs in panels:
        at = [(b.x, b.y) for b in blobs]
        circles = [(x, y, scale.radius(size)) for x, y, size in around]
        radii = [scale.radius(b.size) for b in blobs]
        labels.write(axes, [b.name for b in blobs], [b.colour for b in blobs], at, radii, circles)
