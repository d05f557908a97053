"""The line below a figure that says of every value whether it was measured, modelled, simulated, counted or cited."""

from __future__ import annotations

from collections.abc import Sequence

from experiments.device import MEMORY_KINDS
from experiments.figures.rows import Run
from experiments.paper import ARXIV

ACCURACY = f"top-1 accuracy: cited ({ARXIV}, figs 1 and 2; one centre crop), not measured here"
PLOTTED = f"operations, parameters: cited, as plotted in {ARXIV} (read back from the authors' own figures)"
COUNTED = "operations, parameters: counted on the networks ({})"
PARAMETERS = "parameters: counted on the networks"
BARS = "error bars: U, 95 %"
"""Of every quantity with a budget."""


def of(runs: Sequence[Run], *, time: bool = False, power: str = "", memory: str = "") -> str:
    """Say it of what the runs gave.

    `power` names what follows from current and voltage, `memory` is its kind, or "any".
    """
    said = {run.label: "; ".join(_of(run, time, power, memory)) for run in runs}
    if len(set(said.values())) == 1:
        return next(iter(said.values()))
    return " | ".join(f"{label}: {text}" for label, text in said.items())


def _of(run: Run, time: bool, power: str, memory: str) -> list[str]:
    lab, source = run.outcome.lab, run.outcome.source
    names = ", ".join(filter(None, ("time" if time else "", power)))
    if lab.dut.simulated is not None:
        names = ", ".join(filter(None, (names, _memory(memory))))
        return [f"{names}: simulated; the device is a model, {lab.dut.name}"]
    parts = []
    if source == "measured":
        parts += [f"{names}: measured on {lab.dut.name}"] if names else []
    else:
        parts += [f"time: of {lab.dut.name}, really run, seen by a simulated bench"] if time else []
        parts += [f"{power}: from simulated currents"] if power else []
    return parts + ([f"{_memory(memory)}: as {lab.dut.name} told it"] if memory else [])


def _memory(kind: str) -> str:
    return f"memory ({MEMORY_KINDS[kind]})" if kind in MEMORY_KINDS else "memory" if kind else ""
