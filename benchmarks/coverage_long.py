"""Coverage of long runs and of adaptive repeats: `python -m benchmarks.coverage --mode long` and `--adaptive`.

Long runs: batches of many kinds, captured with gaps, without any other error of the bench but noise and edges: how far
the time, power and energy per image are from those of all of the run, on average (bias) and against the components
that stand for what was not recorded. Adaptive repeats: a device whose runs scatter, repeated until the rule of
`experiments.enough` is content: how often the interval of the repeatability holds the mean.
"""

from __future__ import annotations

import functools
import math
import multiprocessing
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.drawn_bench import APERTURE_S, BATCH, BATCH_S, BATCHES, DELAY_S, LAB, WIRES, Bench, Errors
from calibration import in_situ
from calibration.budget import Budget
from calibration.model import Calibration, Channel
from experiments.capture_data import CaptureData
from experiments.checked import Checks
from experiments.components import CellValues, budget
from experiments.energy import results
from experiments.enough import half_width_percent
from experiments.long_runs import RunCollector
from experiments.measure import Measured, measure
from experiments.parts import LONG
from instruments import lab as lab_yaml
from instruments.lab import Lab
from instruments.simulated.world import GATE
from instruments.waveform import Capture, Preamble, Record

Floats = NDArray[np.float64]

DT_S, POINTS, BEFORE = 100e-6, 6_000, 0.1
WINDOW_S, GAP_S, RUN_S = DT_S * POINTS, 0.08, 18.0
"""All lengths of a run of a minute in records of 2 s and gaps of 0.26 s, divided by 3.3."""

LAUNCH_A = 0.3
"""Current of a board at the beginning of a batch with much shape, A; then it is 1 A."""

QUANTITIES = ("time_per_image_s", "power_w", "energy_per_image_j")
COMPONENTS = (
    "power between captures",
    "batches cut by records",
    "edges against the device's log",
    "current noise",
    "voltage noise",
    "edge at the gate's rise",
    "edge at the gate's fall",
    "timebase",
)
"""What a long run may be off by where nothing else is wrong."""


@dataclass(frozen=True)
class Case:
    """Batches of a run: so many in a record, drawn by `shape` in units of their usual length; edges up to `late_s`
    late. `step` says that a record and its gap last as long as some number of batches and so much of one. Each batch
    begins with `LAUNCH_A` for `launch` of the usual length; None: as the bench's board does, for 0.4 ms."""

    per_record: float
    shape: Callable[[np.random.Generator, int], Floats]
    late_s: float = 0.0
    step: float | None = None
    launch: float | None = None


def _log_normal(cv: float) -> Callable[[np.random.Generator, int], Floats]:
    return lambda rng, n: np.asarray(np.exp(cv * rng.standard_normal(n)))


def _tail(rng: np.random.Generator, n: int) -> Floats:
    """One batch in fifty takes four times as long."""
    return np.asarray(np.where(rng.random(n) < 0.02, 4.0, 1.0) * np.exp(0.005 * rng.standard_normal(n)))


CASES = {
    "33 a record, cv 0.5 %": Case(33, _log_normal(0.005)),
    "3.2 a record, cv 5 %": Case(3.2, _log_normal(0.05)),
    "5 a record, cv 20 %": Case(5, _log_normal(0.2)),
    "33 a record, 1 in 50 takes 4 times": Case(33, _tail),
    "5 a record, 1 in 50 takes 4 times": Case(5, _tail),
    "3.4 a record, records in step": Case(3.4, _log_normal(1e-4), step=0.0),
    "3.4 a record, every other in step": Case(3.4, _log_normal(1e-4), step=0.5),
    "33 a record, records in step": Case(33, _log_normal(1e-4), step=0.0),
    "33 a record, edges up to 1 ms late": Case(33, _log_normal(0.005), 1e-3),
    "3.4 a record, launch 0.4, in step": Case(3.4, _log_normal(1e-4), step=0.0, launch=0.4),
    "3.4 a record, launch 0.4, every 2nd": Case(3.4, _log_normal(1e-4), step=0.5, launch=0.4),
    "3.4 a record, launch 0.4, cv 5 %": Case(3.4, _log_normal(0.05), launch=0.4),
    "5 a record, launch 0.33, in step": Case(5, _log_normal(1e-4), step=0.0, launch=0.33),
    "5 a record, launch 0.5, cv 5 %": Case(5, _log_normal(0.05), launch=0.5),
}


class LongBench(Bench):
    """Records more sparsely than a bench of single runs, and so longer."""

    def record(self, trigger_s: float, phase: float) -> Capture:
        """Record from a tenth of a record before the trigger."""
        origin_s = -DT_S * (BEFORE * POINTS + phase)
        t: Floats = np.asarray(trigger_s + origin_s + DT_S * np.arange(POINTS, dtype=np.float64))
        amps = self.world.analog_v(1, t, APERTURE_S) / self.lab.probe.range_v_per_a
        volts = self.world.analog_v(3, t, APERTURE_S) * self.lab.wiring.voltage.probe_ratio
        pod = Preamble(0, 0, POINTS, 1, DT_S, origin_s, 0, 1.0, 0.0, 0)
        current, voltage = self.lab.wiring.current, self.lab.wiring.voltage
        return Capture(
            {
                "current": _coded("current", amps, current.low_a, current.high_a, origin_s),
                "voltage": _coded("voltage", volts, voltage.low_v, voltage.high_v, origin_s),
                "markers": Record("markers", pod, self.world.digital(t), "bits"),
            }
        )

    def long_run(self, times_s: Floats, late_s: float, rng: np.random.Generator) -> tuple[Measured, dict[str, float]]:
        """A run of batches of these lengths, s, put together from its captures, and what is true of all of it."""
        begun_s, lines = 10.0, GATE
        self.world.mark(begun_s, lines)
        ends = begun_s + np.cumsum(times_s)
        for edge in ends + late_s * rng.random(len(ends)):
            lines ^= 2
            self.world.mark(float(edge), lines)
        fall_s = float(ends[-1]) + late_s + 5e-6
        self.world.mark(fall_s, lines & 2)
        (true,) = self.world.true_windows(begun_s - 0.01)[-1:]
        images = len(times_s)
        collector = RunCollector(Checks(self.lab), WIRES)
        trigger_s, number = begun_s, 0
        while trigger_s < fall_s + 2 * GAP_S:
            gone = trigger_s >= fall_s  # the last one is of the idle board
            capture = self.record(max(trigger_s, fall_s + WINDOW_S) if gone else trigger_s, float(rng.random()))
            collector.add(
                CaptureData(
                    number,
                    "idle" if gone else "cell",
                    "net",
                    1,
                    0,
                    trigger_s - BEFORE * WINDOW_S,
                    capture,
                    images,
                    images,
                    true.energy_j,
                    run_id="one",
                    method=LONG,
                    part=number,
                    gap_before_s=GAP_S if number else math.nan,
                    device_s=fall_s - begun_s,
                    gate_moving_s=5e-6,
                )
            )
            if gone:
                break
            trigger_s += WINDOW_S + GAP_S
            number += 1
        measured = collector.finish(np.concatenate(([0.0], ends - begun_s)))
        duration_s = float(ends[-1]) - begun_s
        truth = {
            "time_per_image_s": duration_s / images,
            "power_w": true.energy_j / (true.fall_s - true.rise_s),
            "energy_per_image_j": true.energy_j / images,
        }
        return measured, truth


def _coded(role: str, values: Floats, low: float, high: float, origin_s: float) -> Record:
    """Round to 12 bits of 16."""
    step = (high - low) / 65536
    codes = np.clip(np.rint((values - low) / (step * 16)) * 16, 0x0100, 0xFF00).astype(np.uint16)
    preamble = Preamble(1, 0, POINTS, 1, DT_S, origin_s, 0, step, low + 32768 * step, 32768)
    return Record(role, preamble, codes, "A" if role == "current" else "V")


def _bench(seed: int, launch_s: float | None = None) -> LongBench:
    """A bench without any error but noise, its output on; each batch begins with `LAUNCH_A` for `launch_s`."""
    lab = _lab()
    bench = LongBench(lab, seed, Errors.drawn(np.random.default_rng(seed), lab).only("noise"))
    changed = {"marker_delay_s": 0.0, "marker_jitter_s": 0.0}
    if launch_s is not None:
        changed |= {"launch_a": LAUNCH_A, "launch_s": launch_s}
    bench.world.facts = bench.world.facts.model_copy(update=changed)
    bench.world.probe_offset_a = 0.0
    bench.world.set_supply(2.0, lab.supply.voltage_v, lab.supply.current_limit_a, True)
    return bench


@functools.cache
def _lab() -> Lab:
    return lab_yaml.load(LAB)


@functools.cache
def _calibration() -> Calibration:
    """Of a bench without errors: zeros at 0, gains of 1."""
    bench, lab = _bench(0), _lab()
    terms = in_situ.BenchTerms(lab.probe.range_v_per_a, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0)
    zero = bench.steady(1.0)
    found = in_situ.calibrate([zero, replace(zero, t_s=zero.t_s + 100.0)], [bench.comparison(5.0, 0.0)], terms)
    return replace(found, current=_perfect(found.current), voltage=_perfect(found.voltage))


def _perfect(channel: Channel) -> Channel:
    points = tuple(replace(point, value=0.0) for point in channel.offset.points)
    return replace(channel, offset=replace(channel.offset, points=points), gain=replace(channel.gain, value=1.0))


def _long(what: tuple[str, int], *, seed: int) -> list[tuple[float, float]]:
    """One run of a case: relative error of each quantity, and the relative half-width that its components have."""
    name, index = what
    case = CASES[name]
    rng = np.random.default_rng([seed, index])
    batch_s = WINDOW_S / case.per_record
    if case.step is not None:
        batch_s = (WINDOW_S + GAP_S) / (round((WINDOW_S + GAP_S) / batch_s) + case.step)
    bench = _bench(seed * 1_000_003 + index, None if case.launch is None else case.launch * batch_s)
    lengths = case.shape(rng, 4 * math.ceil(RUN_S / batch_s)) * batch_s
    lengths = lengths[: int(np.searchsorted(np.cumsum(lengths), RUN_S * (1 + 0.05 * rng.random()))) + 1]
    measured, truth = bench.long_run(lengths, case.late_s, rng)
    (row,) = results([measured], _calibration())
    found = []
    for quantity in QUANTITIES:
        one: Budget = getattr(row, quantity)
        half = Budget.interval_of([c for c in one.components if c.name in COMPONENTS])
        found.append((one.value / truth[quantity] - 1, half / truth[quantity]))
    return found


def check_long(sweeps: int, seed: int, processes: int | None = None, names: tuple[str, ...] = ()) -> dict[str, Any]:
    """Many runs of each case; the same figures for any number of processes."""
    result: dict[str, Any] = {"mode": "long", "sweeps": sweeps, "seed": seed, "cases": {}}
    asked = names or tuple(CASES)
    found = _mapped(
        functools.partial(_long, seed=seed), [(name, k) for name in asked for k in range(sweeps)], processes
    )
    for name, figures in zip(asked, np.array(found).reshape(len(asked), sweeps, len(QUANTITIES), 2), strict=True):
        result["cases"][name] = {
            quantity: {
                "coverage": float((np.abs(figures[:, k, 0]) <= figures[:, k, 1]).mean()),
                "bias": float(figures[:, k, 0].mean()),
                "scatter": float(figures[:, k, 0].std()),
                "median_relative_u": float(np.median(figures[:, k, 1])),
            }
            for k, quantity in enumerate(QUANTITIES)
        }
    return result


ADAPTIVE = {"least 2": 2, "least 3": 3, "least 5": 5}
MOST, TARGET_PERCENT, SCATTER = 10, 1.0, 0.008
"""Most repeats, target, and the relative standard deviation of a run's energy."""


@functools.cache
def _one_run() -> CellValues:
    """Values of one run without errors or noise."""
    bench = _bench(1)
    bench.mark_run(10.0, BATCH_S)
    images = BATCHES * BATCH
    capture = bench.capture(10.0 - DELAY_S, 0.0)
    data = CaptureData(0, "cell", "net", 4, 0, 10.0, capture, BATCHES, images)
    calibration = _calibration()
    silent = replace(calibration.noise, current_a2s=0.0, voltage_v2s=0.0)
    return measure(data, WIRES).values(replace(calibration, noise=silent))


def _adaptive(index: int, *, seed: int, least: int) -> tuple[float, float, int]:
    """One row: relative error of its energy, the half-width of its repeatability, and its number of repeats."""
    rng, base, name = np.random.default_rng([seed, least, index]), _one_run(), "energy_per_image_j"
    cells = [replace(base, duration_s=base.duration_s * (1 + SCATTER * rng.standard_normal())) for _ in range(MOST)]
    energies = [cell.values[name] for cell in cells]
    count = next(
        (n for n in range(least, MOST) if half_width_percent(energies[:n], least) <= TARGET_PERCENT),
        MOST,
    )
    found = budget(name, cells[:count], least)
    half = Budget.interval_of([c for c in found.components if c.name == "repeatability"])
    return found.value / base.values[name] - 1, half / base.values[name], count


def check_adaptive(sweeps: int, seed: int, processes: int | None = None) -> dict[str, Any]:
    """Many rows with each least number of repeats."""
    result: dict[str, Any] = {"mode": "adaptive", "sweeps": sweeps, "seed": seed, "cases": {}}
    for name, least in ADAPTIVE.items():
        figures = np.array(_mapped(functools.partial(_adaptive, seed=seed, least=least), range(sweeps), processes))
        result["cases"][name] = {
            "coverage": float((np.abs(figures[:, 0]) <= figures[:, 1]).mean()),
            "bias": float(figures[:, 0].mean()),
            "median_relative_u": float(np.median(figures[:, 1])),
            "repeats": float(figures[:, 2].mean()),
        }
    return result


def _mapped(one: Callable[[Any], Any], each: Sequence[Any], processes: int | None) -> list[Any]:
    if processes == 1:
        return [one(k) for k in each]
    with multiprocessing.get_context("spawn").Pool(processes) as pool:
        return pool.map(one, each, chunksize=8)


def text(result: dict[str, Any]) -> str:
    """The figures for a reader."""
    lines = [f"{result['mode']}: {result['sweeps']} of each case, seed {result['seed']}"]
    for name, case in result["cases"].items():
        for quantity, f in case.items() if "coverage" not in case else [("energy_per_image_j", case)]:
            repeats = f", {f['repeats']:.1f} repeats" if "repeats" in f else f", scatter {f['scatter'] * 100:.3f} %"
            lines.append(
                f"{name:36s}{quantity:20s}coverage {f['coverage'] * 100:5.1f} %, bias {f['bias'] * 100:+.3f} %, "
                f"median U {f['median_relative_u'] * 100:.3f} %{repeats}"
            )
    return "\n".join(lines)
