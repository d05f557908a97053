"""A simulated bench whose every error is drawn from the distribution that the budget states for it.

The clamp's and the oscilloscope's gain and the supply's read-back anywhere within their limits, the zero's drift, the
current that flows with the output off, a bow of the current's channel, coloured noise, a clock 50 ppm off at most,
marker delay and jitter, scatter of the device, an idle current that wanders; each may be switched on alone.
`benchmarks.coverage` measures at many of them as a sweep does.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy import special
from scipy.stats import qmc

from calibration import in_situ
from calibration.model import Delay
from experiments.capture_data import CaptureData, Wires
from experiments.energy import RowResult, results
from experiments.measure import Measured, measure
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
