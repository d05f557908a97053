"""The list of figures, by number and name, and how to draw any of them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from importlib import import_module
from typing import Any

from experiments.figures import style
from experiments.figures.rows import Run, Table
from instruments.errors import ConfigError


@dataclass(frozen=True)
class Options:
    """What can be chosen: the kind of memory of figures 5 and 6, network and batch of figure 14."""

    memory: str | None = None
    cell: tuple[str, int] | None = None


@dataclass(frozen=True)
class Drawn:
    """A figure and the data behind it: tables by the ending of their file's name, the main one under ""."""

    picture: Any
    tables: Mapping[str, Table]

    def png(self) -> bytes:
        """Render as PNG."""
        with style.styled():
            return style.png(self.picture, style.DPI)

    def pdf(self) -> bytes:
        """Render as PDF."""
        with style.styled():
            return style.pdf(self.picture)


Draw = Callable[[Sequence[Run], Options], Drawn]


@dataclass(frozen=True)
class Figure:
    """One figure; `place` is module:function within this package, `cited` says that it can be drawn without a run."""

    number: int
    name: str
    title: str
    place: str
    cited: bool = False

    @property
    def file(self) -> str:
        """Name of its files, without their ending."""
        return f"figure_{self.number:02d}_{self.name}"

    def draw(self, runs: Sequence[Run], options: Options | None = None) -> Drawn:
        """Draw it, of no run from cited values alone.

        Raises NothingToDrawError where the runs do not hold what it needs.
        """
        module, _, function = self.place.partition(":")
        draw: Draw = getattr(import_module(f"experiments.figures.{module}"), function)
        with style.styled():
            drawn = draw(runs, options or Options())
            style.settle(drawn.picture)
            return drawn


FIGURES = (
    Figure(1, "top1_by_network", "top-1 accuracy by network", "accuracies:top1_by_network", cited=True),
    Figure(2, "top1_vs_operations", "top-1 against operations", "accuracies:top1_vs_operations", cited=True),
    Figure(3, "time_vs_batch", "time per image against batch", "batches:time_vs_batch"),
    Figure(4, "power_vs_batch", "net power against batch", "batches:power_vs_batch"),
    Figure(5, "memory_vs_batch", "peak memory against batch", "batches:memory_vs_batch"),
    Figure(6, "memory_vs_parameters", "peak memory against parameters", "memory:memory_vs_parameters"),
    Figure(7, "operations_vs_time", "operations against time per image", "clouds:operations_vs_time"),
    Figure(8, "operations_vs_power", "operations against net power", "clouds:operations_vs_power"),
    Figure(9, "top1_vs_images_per_second", "top-1 against images per second", "clouds:top1_vs_images_per_second"),
    Figure(10, "accuracy_density", "accuracy density", "accuracies:accuracy_density", cited=True),
    Figure(11, "energy_vs_batch", "energy per image against batch", "batches:energy_vs_batch"),
    Figure(12, "top1_vs_energy", "top-1 against energy per image", "fronts:top1_vs_energy"),
    Figure(13, "uncertainty_budget", "uncertainty by component", "budgets:uncertainty_budget"),
    Figure(14, "waveform", "power within a batch", "waveforms:power_within_a_batch"),
    Figure(15, "idle_and_drift", "idle power and drift over the sweep", "drift:idle_and_drift"),
    Figure(16, "memory_kinds", "kinds of memory", "memory:memory_kinds"),
)
"""1 to 10 are the paper's."""


def choose(asked: str | None) -> list[Figure]:
    """Give the figures asked for by number or name, with commas between; all without any. Raises ConfigError."""
    if asked is None:
        return list(FIGURES)
    by_key = {key: figure for figure in FIGURES for key in (str(figure.number), figure.name)}
    chosen = []
    for key in asked.split(","):
        figure = by_key.get(key.strip().lower().removeprefix("0"))
        if figure is None:
            names = ", ".join(f"{f.number} {f.name}" for f in FIGURES)
            raise ConfigError(f"--only: there is no figure {key.strip()!r}; there are {names}")
        chosen.append(figure)
    return sorted(dict.fromkeys(chosen), key=lambda figure: figure.number)
