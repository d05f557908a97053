"""The two pictures beside a run's table: figures 4 and 11 as `python -m experiments.figures` draws them."""

from __future__ import annotations

from experiments.figures import style
from experiments.figures.catalogue import FIGURES, Figure
from experiments.figures.rows import NothingToDrawError, Run

BESIDE = ("power_vs_batch", "energy_vs_batch")
"""Names of figures, and of their files without the ending."""


def beside(run: Run) -> dict[str, bytes]:
    """The pictures by the names of their files; of a run without any result they say so."""
    figures = {figure.name: figure for figure in FIGURES}
    return {f"{name}.png": _png(figures[name], run) for name in BESIDE}


def _png(figure: Figure, run: Run) -> bytes:
    try:
        return figure.draw([run]).png()
    except NothingToDrawError as error:
        with style.styled():
            empty, [[axes]] = style.sheet(figure.title, 1, 1, (6.6, 2.0))
            axes.set_axis_off()
            axes.text(0.5, 0.5, f"not drawn: {error}", ha="center", va="center", transform=axes.transAxes)
            style.settle(empty)
            return style.png(empty, style.DPI)
