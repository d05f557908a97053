"""Does the stated interval cover the truth as often as it says? Many simulated sweeps against a world that knows.

    python -m benchmarks.coverage --sweeps 1000 --seed 1 --json

Each sweep draws every error of the bench from the distribution that the budget states for it: the clamp's and the
oscilloscope's gain and the supply's read-back anywhere within their limits, the zero's drift, the current that flows
with the output off, a bow of the current's channel, coloured noise, a clock 50 ppm off at most, marker delay and
jitter, scatter of the device, an idle current that wanders. Then it measures as a sweep does, from codes to results:
zeros, a comparison with the supply, three repeats of a load of 0.8 A and one of 0.4 A. Records are 0.76 s long instead
of 2 s.

Then, source by source, the same with one error alone against the components of the budget that stand for it: a
component that claims too much or too little shows there even where another dominates the whole.
"""

from __future__ import annotations

import argparse
import functools
import json
import math
import multiprocessing
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import special
from scipy.stats import qmc

from calibration import in_situ
from calibration.budget import Budget
from calibration.model import Delay
from experiments.capture_data import CaptureData, Wires
from experiments.energy import QUANTITIES, RowResult, results
from experiments.measure import Measured, measure
from instruments import lab as lab_yaml
from instruments.e3645a.ratings import READ_BACK
from instruments.lab import Lab
from instruments.simulated.world import GATE, WORK, World
from instruments.waveform import Capture, Preamble, Record

LAB = Path(__file__).parent.parent / "lab.yaml"
WIRES = Wires("current", "voltage", "markers", 0, 1)
DT_S, POINTS, BEFORE = 20e-6, 38_000, 0.2
APERTURE_S = 4e-6
BATCH, BATCHES, BATCH_S = 4, 26, 0.016
REPEATS = 3
READING_S = 0.04
"""Over which the supply averages for one reading, at an instant of its own."""

ROWS = {"0.8 A": 0.8, "0.4 A": 0.4}
SPREAD = 0.001
"""Relative standard deviation of a batch's duration from run to run."""

QUIET_S = 0.2
"""How long the board rests after a loop; 0: it does not say that it does."""

IDLE_WANDER_A, IDLE_WANDER_S = 2e-3, 10.0
"""Wander of the idle current: by 0.5 mA during a loop, and by as much in each run of a row, 10 s apart."""

STRATA = 16
"""Lasting errors of a bench, each of which is drawn once a sweep."""

DELAY_S, DELAY_U_S, JITTER_S = 200e-6, 5e-6, 20e-6
"""Of the marker lines: delay, how well it was measured, scatter of an edge."""

SWITCHES = (
    "supply read-back, current",
    "supply read-back, voltage",
    "gain",
    "zero",
    "zero drift",
    "output off",
    "linearity",
    "noise",
    "timebase",
    "edges",
    "marker delay",
    "marker jitter",
    "repeatability",
    "quantisation",
    "idle wander",
)

_EDGES = ("edge at the gate's rise", "edge at the gate's fall")
_NOISES = (
    "current gain, noise",
    "voltage gain, noise",
    "current zero, noise",
    "current noise",
    "voltage noise",
    "idle baseline, noise",
)

STANDS_FOR: dict[str, tuple[tuple[str, ...], tuple[str, ...], tuple[str, ...]]] = {
    "supply read-back, current": ((), ("supply read-back, current",), ("current gain, reference",)),
    "supply read-back, voltage": ((), ("supply read-back, voltage",), ("voltage gain, reference",)),
    "zero drift": ((), ("zero drift",), ("current zero, drift", "current gain, drift of the zero")),
    "output off": ((), ("output off",), ("current at output off",)),
    "linearity": ((), ("linearity",), ("current linearity",)),
    "noise": ((), ("noise",), _NOISES),
    "edges": ((), ("edges",), _EDGES),
    "timebase and edges": ((), ("timebase", "edges"), ("timebase", *_EDGES)),
    "marker delay and edges": (
        (),
        ("marker delay", "edges"),
        ("marker delay at the rise", "marker delay at the fall", *_EDGES),
    ),
    "marker jitter and edges": (
        (),
        ("marker jitter", "edges"),
        ("marker jitter at the rise", "marker jitter at the fall", *_EDGES),
    ),
    "repeatability": ((), ("repeatability",), ("repeatability",)),
    "quantisation of noisy codes": (
        ("noise",),
        ("noise", "quantisation"),
        (
            "current quantisation",
            "voltage quantisation",
            "idle baseline, quantisation",
            "idle baseline, quantisation of the voltage",
        ),
    ),
}
"""Source: what is switched on before, what is switched on then, and the components that stand for the difference.

Marks and clocks show in whole samples, so that they are looked at together with those.
"""

GAINS = (
    "current gain, reference",
    "current gain, oscilloscope",
    "voltage gain, reference",
)
"""Stand for the gains where nothing was compared with the supply."""


@dataclass(frozen=True)
class Errors:
    """What is wrong with one bench; 0 is perfect. `on` names the switches that are on."""

    on: frozenset[str]
    clamp_gain: float
    scope_gain: float
    voltage_gain: float
    zero_a: float
    drift_a: float
    strays_a: tuple[float, float]
    output_off_a: float
    bow: float
    clock: float
    read_back: tuple[float, float]
    delay: tuple[float, float]
    phases: tuple[float, ...]
    spread: tuple[float, ...]

    @classmethod
    def drawn(cls, rng: np.random.Generator, lab: Lab, at: NDArray[np.float64] | None = None) -> Errors:
        """Draw each from its stated distribution; of a drift, the path is anywhere between the zeros it joins.

        `at`, (`STRATA`,), says where in its distribution each lasting error lies, as a probability; None: anywhere.
        """
        clamp = in_situ.PROBE_GAIN_LIMIT[lab.probe.range_v_per_a]
        scope = in_situ.SCOPE_GAIN_LIMIT
        at = rng.uniform(0, 1, STRATA) if at is None else at
        even, normal = 2 * at - 1, special.ndtri(at)
        drift_a = 1e-3 * normal[0]
        stray = lab.probe.drift_u_a * normal[1:3] + drift_a / 2 * even[3:5]
        return cls(
            frozenset(SWITCHES),
            float(clamp * even[5]),
            float(scope * even[6]),
            float(scope * even[7]),
            float(0.04 * even[8]),
            float(drift_a),
            (float(stray[0]), float(stray[1])),
            float(lab.supply.output_off_residual_a * even[9]),
            float(lab.probe.linearity * even[10]),
            float(in_situ.TIMEBASE_LIMIT * even[11]),
            (float(even[12]), float(even[13])),
            (float(DELAY_U_S * normal[14]), float(DELAY_U_S * normal[15])),
            tuple(rng.uniform(0, 1, 64).tolist()),
            tuple((1 + SPREAD * rng.standard_normal(64)).tolist()),
        )

    @classmethod
    def of_sweep(cls, index: int, sweeps: int, seed: int, lab: Lab) -> Errors:
        """Those of one of many sweeps: each error falls once into each of `sweeps` slices of its distribution.

        (Latin hypercube sampling: every error keeps its distribution, and the share of sweeps that hold the truth
        scatters less from seed to seed than with independent draws.)
        """
        return cls.drawn(np.random.default_rng([seed, index]), lab, _strata(sweeps, seed)[index])

    def only(self, *switches: str) -> Errors:
        """The same errors, but none besides these."""
        return replace(self, on=frozenset(switches))


@functools.lru_cache(maxsize=2)
def _strata(sweeps: int, seed: int) -> NDArray[np.float64]:
    return np.asarray(qmc.LatinHypercube(STRATA, rng=np.random.default_rng(seed)).random(sweeps))


class Bench:
    """A world with these errors, and what an oscilloscope would record of it: 12 bits, left-justified."""

    def __init__(self, lab: Lab, seed: int, errors: Errors) -> None:
        assert lab.simulation is not None
        self.lab, self.errors = lab, errors
        changed: dict[str, float] = {"probe_wander_a": 0.0, "probe_drift_sd_a_per_s": 0.0}
        changed["marker_delay_s"] = DELAY_S
        changed["marker_jitter_s"] = self.when("marker jitter", JITTER_S)
        changed["idle_wander_a"] = self.when("idle wander", IDLE_WANDER_A)
        changed["idle_wander_period_s"] = IDLE_WANDER_S
        if "noise" not in errors.on:
            changed |= {"probe_noise_a": 0.0, "probe_slow_noise_a": 0.0, "voltage_noise_v": 0.0}
        facts = lab.simulation.world.model_copy(update=changed)
        self.world = World(facts, lab.wiring, lab.probe, lab.supply, seed=seed)
        self.world.probe_gain = 1 + self.when("gain", errors.clamp_gain)
        self.world.probe_gain *= 1 + self.when("gain", errors.scope_gain)
        self.world.voltage_gain = 1 + self.when("gain", errors.voltage_gain)
        self.world.voltage_offset_v = self.when("zero", self.world.voltage_offset_v)
        self.world.output_off_a = self.when("output off", errors.output_off_a)
        self.bow = self.when("linearity", errors.bow)
        self.quiet_s = QUIET_S
        self.taken = 0
        self.runs = 0

    def when(self, switch: str, value: float) -> float:
        """The value where the switch is on, else 0."""
        return value if switch in self.errors.on else 0.0

    def capture(self, trigger_s: float, stray_a: float) -> Capture:
        """Record one sweep of the oscilloscope, its own clock off by `clock`, its samples anywhere in their period."""
        step_s = DT_S * (1 + self.when("timebase", self.errors.clock))
        phase = self.errors.phases[self.taken] if "edges" in self.errors.on else 0.5
        self.taken += 1
        origin_s = -DT_S * (BEFORE * POINTS + phase)
        ticks = np.arange(POINTS, dtype=np.float64) - (BEFORE * POINTS + phase)
        t: NDArray[np.float64] = np.asarray(trigger_s + DELAY_S + step_s * ticks)
        # The time of this sweep's drift runs from its first zero, at 1 s, to its last, at 101 s.
        drift_a = self.when("zero drift", self.errors.drift_a * (trigger_s - 1.0) / 100.0 + stray_a)
        self.world.probe_offset_a = self.when("zero", self.errors.zero_a) + drift_a
        amps = self.world.analog_v(1, t, APERTURE_S) / self.lab.probe.range_v_per_a
        true = (amps - self.world.probe_offset_a) / self.world.probe_gain
        amps = amps + self.bow * 4 * true * (1 - true)
        volts = self.world.analog_v(3, t, APERTURE_S) * self.lab.wiring.voltage.probe_ratio
        pod = Preamble(0, 0, POINTS, 1, DT_S, origin_s, 0, 1.0, 0.0, 0)
        wiring = self.lab.wiring
        return Capture(
            {
                "current": self.digitised("current", amps, wiring.current.low_a, wiring.current.high_a, origin_s),
                "voltage": self.digitised("voltage", volts, wiring.voltage.low_v, wiring.voltage.high_v, origin_s),
                "markers": Record("markers", pod, self.world.digital(t), "bits"),
            }
        )

    def digitised(self, role: str, values: NDArray[np.float64], low: float, high: float, origin_s: float) -> Record:
        """Round to 12 bits, or to 16 where rounding is to do nothing."""
        step, unit = (high - low) / 65536, 16 if "quantisation" in self.errors.on else 1
        codes = np.clip(np.rint((values - low) / (step * unit)) * unit, 0x0100, 0xFF00).astype(np.uint16)
        preamble = Preamble(1, 0, POINTS, 1, DT_S, origin_s, 0, step, low + 32768 * step, 32768)
        return Record(role, preamble, codes, "A" if role == "current" else "V")

    def steady(self, at_s: float) -> in_situ.Zero:
        """A zero."""
        measured = measure(CaptureData(0, "zero", "", 0, 0, at_s, self.capture(at_s, 0.0), None, None), WIRES)
        assert measured.mean_i is not None
        assert measured.mean_v is not None
        return in_situ.Zero(at_s, measured.mean_i, measured.mean_v)

    def mark_run(self, at_s: float, batch_s: float, *, warm: bool = False) -> None:
        """Let the board run a loop of equal batches."""
        if warm:
            self.world.mark(at_s - 0.5, WORK)
        lines, t = GATE, at_s
        self.world.mark(t, lines)
        for _ in range(BATCHES):
            t += batch_s
            lines ^= 2
            self.world.mark(t, lines)
        self.world.mark(t + 10 * JITTER_S, lines & 2)  # so much later that the edges keep their order

    def run(self, name: str, at_s: float, repeat: int, stray_a: float) -> Measured:
        """A measured loop."""
        spread = self.errors.spread[self.runs] if "repeatability" in self.errors.on else 1.0
        self.runs += 1
        self.mark_run(at_s, BATCH_S * spread)
        capture = self.capture(at_s, stray_a)
        data = CaptureData(
            0, "cell", name, BATCH, repeat, at_s, capture, BATCHES, BATCHES * BATCH, quiet_after_s=self.quiet_s
        )
        return measure(data, WIRES)

    def comparison(self, at_s: float, stray_a: float) -> in_situ.Comparison:
        """The working board, and what the supply read meanwhile, wrong by as much as it may be."""
        self.mark_run(at_s, BATCH_S, warm=True)
        data = CaptureData(0, "gain", "", 0, 0, at_s, self.capture(at_s, stray_a), BATCHES, None)
        measured = measure(data, WIRES)
        assert measured.mean_i is not None
        assert measured.mean_v is not None
        readings = []
        for phase in self.errors.phases[-5:]:
            begun_s = at_s + BATCH_S + phase * (BATCHES * BATCH_S - BATCH_S - READING_S)
            t: NDArray[np.float64] = np.linspace(begun_s, begun_s + READING_S, round(READING_S / DT_S), endpoint=False)
            volts, amps = self.world.board(t)
            readings.append((float(amps.mean()), float(volts.mean())))
        limits = (READ_BACK.current, READ_BACK.voltage)
        switches = ("supply read-back, current", "supply read-back, voltage")
        a, v = (
            [
                r[k] + self.when(switches[k], self.errors.read_back[k] * (limits[k][0] * r[k] + limits[k][1]))
                for r in readings
            ]
            for k in (0, 1)
        )
        return in_situ.Comparison(at_s, measured.mean_i, measured.mean_v, tuple(a), tuple(v))

    def truth(self, at_s: float) -> dict[str, float]:
        """What each quantity is on average over many runs: that of a run that takes its usual time."""
        self.mark_run(at_s, BATCH_S)
        (window,) = self.world.true_windows(at_s - 0.01)
        images, duration_s = BATCHES * BATCH, window.fall_s - window.rise_s
        net_j = window.energy_j - window.idle_power_w * duration_s
        return {
            "time_per_image_s": duration_s / images,
            "power_w": window.energy_j / duration_s,
            "idle_power_w": window.idle_power_w,
            "net_power_w": net_j / duration_s,
            "energy_per_image_j": window.energy_j / images,
            "net_energy_per_image_j": net_j / images,
        }


def sweep(
    lab: Lab, seed: int, errors: Errors, *, calibrated: bool = True, rows: Sequence[str] = tuple(ROWS)
) -> tuple[list[RowResult], list[dict[str, float]]]:
    """Measure once with these errors: results, and the truth of each row."""
    bench = Bench(lab, seed, errors)
    first = bench.steady(1.0)
    bench.world.set_supply(2.0, lab.supply.voltage_v, lab.supply.current_limit_a, True)
    found = [bench.comparison(5.0, errors.strays_a[0])] if calibrated else []
    cells, truths, at_s = [], [], 10.0
    for name in rows:
        bench.world.set_work(ROWS[name])
        for repeat in range(REPEATS):
            cells.append(bench.run(name, at_s, repeat, errors.strays_a[1]))
            at_s += 10.0
        truths.append(bench.truth(at_s))
        at_s += 5.0
    bench.world.set_supply(100.0, 0.0, lab.supply.current_limit_a, False)
    last = bench.steady(101.0)
    terms = in_situ.BenchTerms(
        lab.probe.range_v_per_a,
        lab.probe.drift_u_a,
        lab.probe.drift_unbracketed_u_a,
        lab.supply.output_off_residual_a,
        0.0,
        0.0,
        lab.probe.linearity,
    )
    wrong = (bench.when("marker delay", errors.delay[0]), bench.when("marker delay", errors.delay[1]))
    calibration = replace(
        in_situ.calibrate([first, last], found, terms),
        delay=Delay(DELAY_S + wrong[0], DELAY_S + wrong[1], DELAY_U_S, JITTER_S),
    )
    return results(cells, calibration), truths


@functools.cache
def _lab() -> Lab:
    return lab_yaml.load(LAB)


def _world_seed(seed: int, index: int) -> int:
    return (seed * 1_000_003 + index) % 2**40


def _whole(index: int, *, sweeps: int, seed: int, calibrated: bool) -> list[list[tuple[float, float, float]]]:
    """One sweep: value, truth and U of each quantity of each row."""
    lab = _lab()
    rows, truths = sweep(
        lab,
        _world_seed(seed, index),
        Errors.of_sweep(index, sweeps, seed, lab),
        calibrated=calibrated,
    )
    return [
        [(getattr(row, q).value, truth[q], getattr(row, q).expanded()) for q in QUANTITIES]
        for row, truth in zip(rows, truths, strict=True)
    ]


def _by_source(index: int, *, sweeps: int, seed: int, calibrated: bool) -> dict[str, list[tuple[float, float, float]]]:
    """One sweep for each source alone: the error it makes of gross and net energy, U and u of its components."""
    lab = _lab()
    errors = Errors.of_sweep(index, sweeps, seed, lab)
    stands_for = dict(STANDS_FOR)
    if not calibrated:
        stands_for = {k: v for k, v in stands_for.items() if not k.startswith("supply")} | {
            "gain": ((), ("gain",), GAINS)
        }

    def one(*switches: str) -> RowResult:
        on = errors.only(*switches)
        (row,), _ = sweep(lab, _world_seed(seed, index), on, calibrated=calibrated, rows=["0.8 A"])
        return row

    before: dict[tuple[str, ...], RowResult] = {}
    found = {}
    for source, (without, with_it, names) in stands_for.items():
        if without not in before:
            before[without] = one(*without)
        row, plain = one(*with_it), before[without]
        found[source] = [
            _against(getattr(row, q), getattr(plain, q), names)
            for q in ("energy_per_image_j", "net_energy_per_image_j")
        ]
    return found


def _against(found: Budget, perfect: Budget, names: tuple[str, ...]) -> tuple[float, float, float]:
    parts = [c for c in found.components if c.name in names]
    u = math.sqrt(math.fsum(c.u**2 for c in parts))
    return found.value - perfect.value, Budget.interval_of(parts), u


def check(
    sweeps: int, seed: int, *, calibrated: bool = True, by_source: int | None = None, processes: int | None = None
) -> dict[str, Any]:
    """Run the sweeps and count; the same figures for any number of processes.

    `by_source` of them are repeated for each source alone (None: a fifth).
    """
    apart = sweeps // 5 if by_source is None else by_source
    whole = functools.partial(_whole, sweeps=sweeps, seed=seed, calibrated=calibrated)
    single = functools.partial(_by_source, sweeps=max(apart, 1), seed=seed, calibrated=calibrated)
    if processes == 1:
        outcomes, alone = [whole(k) for k in range(sweeps)], [single(k) for k in range(apart)]
    else:
        with multiprocessing.get_context("spawn").Pool(processes) as pool:
            outcomes = pool.map(whole, range(sweeps), chunksize=8)
            alone = pool.map(single, range(apart), chunksize=2)
    figures = np.array(outcomes)  # sweep, row, quantity, (value, truth, U)
    value, truth, u = figures[..., 0], figures[..., 1], figures[..., 2]
    held = np.abs(value - truth) <= u
    relative = value / truth - 1
    at = {name: k for k, name in enumerate(QUANTITIES)}
    energy, net = at["energy_per_image_j"], at["net_energy_per_image_j"]
    power = u[:, 0, at["power_w"]] / value[:, 0, at["power_w"]]
    result: dict[str, Any] = {
        "coverage": float(held[:, :, energy].mean()),
        "coverage_net": float(held[:, :, net].mean()),
        "bias": float(relative[:, :, energy].mean()),
        "median_relative_u": float(np.median(u[:, :, energy] / value[:, :, energy])),
        "sweeps": sweeps,
        "seed": seed,
        "calibrated": calibrated,
        "bias_net": float(relative[:, :, net].mean()),
        "median_relative_u_net": float(np.median(u[:, :, net] / value[:, :, net])),
        "relative_u_of_power_at_0.8_a": {"median": float(np.median(power)), "largest": float(power.max())},
        "rows": {
            name: {
                q: {
                    "coverage": float(held[:, k, at[q]].mean()),
                    "bias": float(relative[:, k, at[q]].mean()),
                    "median_relative_u": float(np.median(u[:, k, at[q]] / value[:, k, at[q]])),
                }
                for q in QUANTITIES
            }
            for k, name in enumerate(ROWS)
        },
        "by_component": {},
    }
    for source in alone[0] if alone else ():
        spans = np.array([outcome[source] for outcome in alone])  # sweep, gross or net, (error, U, u)
        result["by_component"][source] = {
            name: _figures(spans[:, k, 0], spans[:, k, 1], spans[:, k, 2]) for k, name in enumerate(("gross", "net"))
        }
    return result


def _figures(error: NDArray[np.float64], half: NDArray[np.float64], u: NDArray[np.float64]) -> dict[str, float | None]:
    """Share of errors within U, and how large they are over how large they are said to be; None where nothing is."""
    if not np.any(half > 0):
        return {"coverage": None, "ratio": None}
    rms = math.sqrt(float((error**2).mean()) / float((u**2).mean()))
    return {"coverage": float((np.abs(error) <= half).mean()), "ratio": rms}


def text(result: dict[str, Any]) -> str:
    """The figures for a reader."""
    kind = "calibrated" if result["calibrated"] else "without calibration"
    lines = [
        f"{result['sweeps']} sweeps, {kind}, seed {result['seed']}",
        f"coverage of energy per image  {result['coverage'] * 100:6.2f} %, net {result['coverage_net'] * 100:.2f} %",
        f"bias                          {result['bias'] * 100:+7.3f} %, net {result['bias_net'] * 100:+.3f} %",
        f"median U                      {result['median_relative_u'] * 100:6.2f} %, "
        f"net {result['median_relative_u_net'] * 100:.2f} %",
        f"U of power at 0.8 A           {result['relative_u_of_power_at_0.8_a']['median'] * 100:6.2f} %, "
        f"at most {result['relative_u_of_power_at_0.8_a']['largest'] * 100:.2f} %",
        "",
        f"{'row':8s}{'quantity':26s}{'coverage':>10s}{'bias':>10s}{'median U':>10s}",
    ]
    for name, quantities in result["rows"].items():
        for q, f in quantities.items():
            shares = f"{f['coverage'] * 100:9.1f}%{f['bias'] * 100:+9.3f}%{f['median_relative_u'] * 100:9.3f}%"
            lines.append(f"{name:8s}{q:26s}{shares}")
    if result["by_component"]:
        lines += ["", "one error alone, against its components: coverage, and rms error over stated u"]
        lines.append(f"{'source':34s}{'gross energy':>18s}{'net energy':>18s}")
        for source, sides in result["by_component"].items():
            shown = [
                "-" if s["ratio"] is None else f"{s['coverage'] * 100:.1f}%  {s['ratio']:.2f}" for s in sides.values()
            ]
            lines.append(f"{source:34s}{shown[0]:>18s}{shown[1]:>18s}")
    return "\n".join(lines)


def main() -> None:
    """Run the check as the command line says."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--sweeps", type=int, default=1000, metavar="N")
    parser.add_argument("--seed", type=int, default=1, metavar="S")
    parser.add_argument("--no-calibration", action="store_true", help="leave out the comparison with the supply")
    parser.add_argument("--by-source", type=int, metavar="N", help="sweeps for each source alone (default: a fifth)")
    parser.add_argument("--processes", type=int, metavar="N", help="(default: one a processor)")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    parser.add_argument("--mode", choices=("paper", "long"), default="paper", help="long: runs of many captures")
    parser.add_argument("--adaptive", action="store_true", help="repeats that end once they agree")
    options = parser.parse_args()
    if options.sweeps < 1:
        parser.error("--sweeps: at least 1")
    if options.mode == "long" or options.adaptive:
        from benchmarks import coverage_long  # which builds upon this one

        ask = coverage_long.check_adaptive if options.adaptive else coverage_long.check_long
        found = ask(options.sweeps, options.seed, options.processes)
        print(json.dumps(found, indent=1) if options.json else coverage_long.text(found))
        return
    result = check(
        options.sweeps,
        options.seed,
        calibrated=not options.no_calibration,
        by_source=options.by_source,
        processes=options.processes,
    )
    print(json.dumps(result, indent=1) if options.json else text(result))


if __name__ == "__main__":
    main()
