"""Runs of several captures, made straight from the simulated world, whose true energy is known."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np

from calibration import in_situ
from calibration.model import Calibration
from experiments.capture_data import CaptureData
from experiments.checked import Checks
from experiments.long_runs import MeasuredRun, RunCollector
from experiments.parts import LONG, STEADY
from tests.worlds import WIRES, Bench, zero

GAP_S = 0.26
CLOCK = 1 + 50e-6
RUN_AT_S = 20.0


@dataclass
class Taken:
    """The captures of one run, and what is true of it."""

    bench: Bench
    calibration: Calibration
    parts: list[CaptureData]
    after: CaptureData
    log_s: np.ndarray
    true_j: float
    true_idle_w: float
    images: int

    def measured(self, change: Callable[[CaptureData], CaptureData] = lambda data: data) -> MeasuredRun:
        """Reduce the captures, each changed before."""
        return self.collected(change)[0]

    def collected(self, change: Callable[[CaptureData], CaptureData]) -> tuple[MeasuredRun, RunCollector]:
        """The same, with what is wrong with which capture."""
        collector = RunCollector(Checks(self.bench.lab), WIRES)
        for data in [*self.parts, self.after]:
            collector.add(change(data))
        return collector.finish(self.log_s), collector


def batches_of(rng: np.random.Generator, batch_s: float, total_s: float, drift: float = 0.0) -> np.ndarray:
    """Durations of batches that scatter, and get slower by a share over the run."""
    count = math.ceil(total_s / batch_s)
    return batch_s * (1 + drift * np.linspace(0, 1, count)) * np.exp(0.005 * rng.standard_normal(count))


def taken(
    seed: int,
    times_s: np.ndarray,
    method: str = LONG,
    *,
    window_s: float = 1.0,
    batch: int = 4,
    late_s: float = 0.0,
    **physics: float,
) -> Taken:
    """Zero, comparison, one run with captures while it goes on, idle, zero: 10 000 samples a capture.

    Edges of the batch line come up to `late_s` after the batch.
    """
    bench = Bench.make(seed, **physics)
    bench.dt_s, bench.points = 50e-6, 20_000
    first = bench.steady("zero", 1.0)
    bench.power(4.0, True)
    bench.dt_s, bench.points = window_s / 10_000, 10_000
    gain = bench.run("gain", 10.0, 40, 0.8 * window_s / 40)
    comparison = bench.comparison(gain, 10.0)
    world, lines, t = bench.world, 1, RUN_AT_S
    world.mark(t, lines)
    ends = t + np.cumsum(times_s)
    edges = ends + late_s * np.random.default_rng(seed).random(len(ends))
    for edge in edges:
        lines ^= 2
        world.mark(float(edge), lines)
    fall_s = float(edges[-1]) + 5e-6
    world.mark(fall_s, lines & 2)
    (true,) = world.true_windows(RUN_AT_S - 0.01)[-1:]
    images = len(times_s) * batch
    facts = CaptureData(
        0,
        "cell",
        "net",
        batch,
        0,
        RUN_AT_S,
        gain.data.capture,
        len(times_s),
        images,
        true.energy_j,
        true.idle_power_w,
        run_id="cell-0-1",
        method=method,
        device_s=(fall_s - RUN_AT_S) * CLOCK,
        gate_moving_s=4e-6,
    )
    parts, trigger_s = [], RUN_AT_S
    while trigger_s < fall_s:
        data = replace(facts, index=len(parts), part=len(parts), at_s=trigger_s - 0.1 * window_s)
        data = replace(data, gap_before_s=GAP_S if parts else math.nan)
        parts.append(replace(data, capture=bench.capture(trigger_s)))
        trigger_s += window_s + GAP_S
        if method == STEADY:
            break
    at_s = fall_s + 1.0
    after = replace(facts, index=len(parts), kind="idle", part=len(parts), at_s=at_s - 0.1 * window_s)
    after = replace(after, capture=bench.capture(at_s))
    bench.power(at_s + 5.0, False)
    bench.dt_s, bench.points = 50e-6, 20_000
    last = bench.steady("zero", at_s + 9.0)
    calibration = in_situ.calibrate([zero(first), zero(last)], [comparison], bench.terms())
    log_s = np.concatenate(([0.0], ends - RUN_AT_S)) * CLOCK
    return Taken(bench, calibration, parts, after, log_s, true.energy_j, true.idle_power_w, images)


def long_run(seed: int, total_s: float = 12.0, drift: float = 0.0, **physics: float) -> Taken:
    return taken(seed, batches_of(np.random.default_rng(seed), 0.03, total_s, drift), **physics)
