"""Samples of runs drawn from a truth that the test knows, without any bench."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import pandas as pd

from experiments import networks
from experiments.findings.sample import Sample

PAPER = tuple(networks.NETWORKS)
Law = Callable[[str, int], float]


def steady_w(name: str, batch: int) -> float:
    """The same net power always."""
    return 11.8


def roofline_s(name: str, batch: int) -> float:
    """Time per image of a board that reads its weights once a batch and does the rest at 180 G-Ops/s."""
    size = networks.size(name)
    return 4 * size["parameters"] / 14e9 / batch + size["operations"] / 180e9 + 0.4e-9 * size["activations"]


def drawn(
    rng: np.random.Generator,
    power_w: Law = steady_w,
    time_s: Law = roofline_s,
    *,
    names: Sequence[str] = PAPER,
    batches: Sequence[int] = (1, 16),
    repeats: int = 3,
    power_scatter: float = 0.01,
    time_scatter: float = 0.003,
    top1: Callable[[str], float] = lambda name: networks.get(name).top1,
    sessions: int = 1,
) -> Sample:
    """Draw every run around its law, with relative scatter; idle takes 1.3 W more."""
    rows = []
    for session in range(sessions):
        for repeat in range(repeats):
            for name in names:
                for batch in batches:
                    net_w = power_w(name, batch) * (1 + power_scatter * rng.standard_normal())
                    seconds = time_s(name, batch) * (1 + time_scatter * rng.standard_normal())
                    watts = net_w + 1.3
                    rows.append(
                        (
                            name,
                            batch,
                            f"{session + 1}.1",
                            repeat,
                            watts,
                            net_w,
                            seconds,
                            watts * seconds,
                            net_w * seconds,
                        )
                    )
    columns = ["network", "batch", "session", "repeat", "power_w", "net_power_w", "time_s", "energy_j", "net_energy_j"]
    sizes = {name: networks.size(name) for name in names}
    about = pd.DataFrame(
        {
            "operations": {n: float(s["operations"]) for n, s in sizes.items()},
            "parameters": {n: float(s["parameters"]) for n, s in sizes.items()},
            "activations": {n: float(s["activations"]) for n, s in sizes.items()},
            "weights_mb": {n: s["parameters"] * 4e-6 for n, s in sizes.items()},
            "top1": {n: top1(n) for n in names},
        }
    )
    return Sample("a board", "simulated", pd.DataFrame(rows, columns=columns), about)
