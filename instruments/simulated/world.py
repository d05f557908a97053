"""The physics behind the simulated bench: rail, board, probe, drift, noise and marker edges, and the true energy.

Scope, supply and board share one World. Times are monotonic seconds and come from outside; errors
are drawn once from the seed, noise from the seed and the instant asked for, so that asking twice
gives the same answer. Imports no driver, no clock and no file.

The board draws a current that follows the marker lines: idle while the gate is low; while it is high
`launch_a` for `launch_s` after each batch begins, then `active_a`; `active_a` too while it works outside the
gate (loading, warming up). All of it goes through a first-order settling, and `tail_a` of the current of work
fades slowly, with `tail_s`.
"""

from __future__ import annotations

import bisect
import functools
import itertools
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from instruments.lab import ProbeFacts, SupplyFacts, Wiring, WorldFacts

Floats = NDArray[np.float64]
_T = TypeVar("_T")

GATE, BATCH, WORK = 1, 2, 4
"""Bits of the line states that the board reports; WORK is work outside the gate, which no wire carries."""

EdgeSource = Callable[[], Sequence[tuple[int, int]]]
"""Gives the edges since the last call: (monotonic ns, line states)."""


@dataclass(frozen=True)
class SupplyTruth:
    """True means at the supply's sense point over a stretch of time."""

    volts: float
    amps: float
    mode: str


@dataclass(frozen=True)
class TrueWindow:
    """What really happened while the gate was high."""

    rise_s: float
    fall_s: float
    energy_j: float
    idle_power_w: float
    batches: int


class _Settling:
    """A level that follows its target through a first-order lag; piecewise exponential, so exact."""

    def __init__(self, level: float, tau_s: float) -> None:
        self._tau_s = tau_s
        self._t = [-math.inf]
        self._target = [level]
        self._start = [level]

    def to(self, t_s: float, target: float) -> None:
        """Set a new target from t_s on; targets planned for later than that are overtaken."""
        while self._t[-1] >= t_s:
            del self._t[-1], self._target[-1], self._start[-1]
        self._start.append(float(self.at(np.array([t_s]))[0]))
        self._t.append(t_s)
        self._target.append(target)

    def at(self, t_s: Floats) -> Floats:
        """Level at each time; (n,) in, (n,) out."""
        if t_s.size == 0:
            return np.zeros(0)
        first = max(bisect.bisect_right(self._t, float(t_s.min())) - 1, 0)
        last = bisect.bisect_right(self._t, float(t_s.max()))
        times = np.array(self._t[first:last])
        target, start = np.array(self._target[first:last]), np.array(self._start[first:last])
        k = np.searchsorted(times, t_s, side="right") - 1
        k = np.clip(k, 0, None)
        with np.errstate(invalid="ignore"):
            decay = np.exp(-np.clip((t_s - times[k]) / self._tau_s, 0.0, 700.0))
        return np.asarray(target[k] + (start[k] - target[k]) * np.where(np.isneginf(times[k]), 1.0, decay))

    def kinks(self, from_s: float, to_s: float) -> list[float]:
        """Times inside (from_s, to_s) at which the target changes."""
        return [
            t for t in self._t[bisect.bisect_right(self._t, from_s) : bisect.bisect_left(self._t, to_s)] if t > from_s
        ]


class World:
    """One bench's physics. See the module's docstring for the model of the board."""

    def __init__(
        self,
        facts: WorldFacts,
        wiring: Wiring,
        probe: ProbeFacts,
        supply: SupplyFacts,
        *,
        seed: int,
        edges: EdgeSource = lambda: (),
        start_s: float = 0.0,
    ) -> None:
        self.facts, self.wiring, self.probe, self._feed = facts, wiring, probe, supply
        self._seed, self._edges, self._start_s = seed, edges, start_s
        self._lead_ohm = (supply.lead_resistance_ohm or 0.0) if supply.sense == "local" else 0.0
        rng = np.random.default_rng([seed, 0x1146])
        clip = 3.0
        self.probe_gain = 1.0 + facts.probe_gain_sd * float(np.clip(rng.standard_normal(), -clip, clip))
        self.probe_offset_a = facts.probe_offset_limit_a * float(rng.uniform(-1, 1))
        self.probe_drift_a_per_s = facts.probe_drift_sd_a_per_s * float(rng.standard_normal())
        self._wander_phase = float(rng.uniform(0, 2 * math.pi))
        self.voltage_gain = 1.0 + facts.voltage_gain_sd * float(np.clip(rng.standard_normal(), -clip, clip))
        self.voltage_offset_v = facts.voltage_offset_sd_v * float(rng.standard_normal())
        self.output_off_a = facts.output_off_sd_a * abs(float(rng.standard_normal()))
        self._ripple_phase = float(rng.uniform(0, 2 * math.pi))
        self._edge_s: list[float] = [-math.inf]
        self._edge_lines: list[int] = [0]
        self._demand = _Settling(facts.idle_a, facts.settling_s)
        self._tail = _Settling(0.0, facts.tail_s)
        self._rail = _Settling(0.0, facts.supply_settling_s)
        self._supply_s: list[float] = [-math.inf]
        self._supply_limit_a: list[float] = [0.02]
        self._supply_on: list[bool] = [False]

    # --- inputs -------------------------------------------------------------------------------

    def advance(self, now_s: float) -> None:
        """Take in the marker edges that happened since the last call."""
        for t_ns, lines in self._edges():
            self.mark(t_ns * 1e-9, lines)

    def mark(self, t_s: float, lines: int) -> None:
        """Record the board's line states from t_s on (bit 0 gate, bit 1 batch)."""
        t_s = max(t_s, self._edge_s[-1])
        if lines == self._edge_lines[-1]:
            return
        self._edge_s.append(t_s)
        self._edge_lines.append(lines)
        facts = self.facts
        if lines & GATE:
            self._demand.to(t_s, facts.launch_a - facts.tail_a)
            self._demand.to(t_s + facts.launch_s, facts.active_a - facts.tail_a)
        else:
            self._demand.to(t_s, facts.active_a - facts.tail_a if lines & WORK else facts.idle_a)
        self._tail.to(t_s, facts.tail_a if lines & (GATE | WORK) else 0.0)

    def set_supply(self, now_s: float, volts: float, amps: float, on: bool) -> None:
        """Set what the supply drives: `volts` and current limit `amps`; off is 0 V and 0.02 A."""
        now_s = max(now_s, self._supply_s[-1])
        self._rail.to(now_s, volts if on else 0.0)
        self._supply_s.append(now_s)
        self._supply_limit_a.append(amps if on else 0.02)
        self._supply_on.append(on)

    # --- the board ----------------------------------------------------------------------------

    def _limit_at(self, t_s: Floats) -> Floats:
        k = np.searchsorted(np.array(self._supply_s), t_s, side="right") - 1
        return np.asarray(np.array(self._supply_limit_a)[np.clip(k, 0, None)])

    def board(self, t_s: Floats) -> tuple[Floats, Floats]:
        """True voltage (V) and current (A) at the board's terminals at each time; (n,) each."""
        rail = self._rail.at(t_s)
        ripple = 1.0 + self.facts.ripple_relative * np.sin(
            2 * math.pi * self.facts.ripple_hz * (t_s - self._start_s) + self._ripple_phase
        )
        alive = rail > self.facts.undervoltage_v
        current = np.where(alive, (self._demand.at(t_s) + self._tail.at(t_s)) * ripple, self.output_off_a)
        limit = self._limit_at(t_s)
        starved = current > limit
        volts = rail - (self.facts.source_resistance_ohm + self._lead_ohm) * current
        if starved.any():
            volts = np.where(starved, volts * (limit / np.maximum(current, 1e-12)) ** 2, volts)
            current = np.minimum(current, limit)
        return np.asarray(volts), np.asarray(current)

    def supply(self, from_s: float, to_s: float) -> SupplyTruth:
        """True means at the sense point over [from_s, to_s] and the output's mode at its end."""
        t = np.linspace(from_s, max(to_s, from_s + 1e-9), 257)
        volts, amps = self.board(t)
        if self._feed.sense == "local":
            volts = volts + self._lead_ohm * amps
        on = self._supply_on[bisect.bisect_right(self._supply_s, to_s) - 1]
        starved = bool(np.any(amps >= self._limit_at(t) * (1 - 1e-9)))
        return SupplyTruth(float(volts.mean()), float(amps.mean()), "OFF" if not on else "CC" if starved else "CV")

    # --- what the oscilloscope's inputs see ---------------------------------------------------

    def digital(self, t_s: Floats) -> NDArray[np.uint8]:
        """POD1 at each time, bit k = Dk; (n,)."""
        k = np.searchsorted(np.array(self._edge_s), t_s, side="right") - 1
        return np.asarray(self._pod(np.array(self._edge_lines)[np.clip(k, 0, None)]), dtype=np.uint8)

    def _pod(self, lines: NDArray[np.int64]) -> NDArray[np.int64]:
        gate = ((lines & GATE) != 0).astype(np.int64) << self.wiring.gate.digital
        batch = ((lines & BATCH) != 0).astype(np.int64) << self.wiring.batch.digital
        return np.asarray(gate | batch)

    def digital_edges(self, bit: int, after_s: float, until_s: float) -> list[tuple[float, int]]:
        """Edges of D<bit> in (after_s, until_s]: (time, new level)."""
        first = bisect.bisect_right(self._edge_s, after_s)
        last = bisect.bisect_right(self._edge_s, until_s)
        levels = (self._pod(np.array(self._edge_lines[max(first - 1, 0) : last])) >> bit) & 1
        return [
            (self._edge_s[first + k], int(levels[k + 1])) for k in range(last - first) if levels[k + 1] != levels[k]
        ]

    def analog_v(self, channel: int, t_s: Floats, aperture_s: float) -> Floats:
        """Volts at the BNC of a channel, each the mean over [t, t + aperture_s]; (n,). Unconnected: 0 V."""
        if t_s.size == 0 or channel not in (self.wiring.current.channel, self.wiring.voltage.channel):
            return np.zeros(t_s.size)
        volts, amps = self._mean_over(t_s, aperture_s)
        if channel == self.wiring.voltage.channel:
            seen = volts * self.voltage_gain + self.voltage_offset_v
            seen = seen + _white(self._seed, channel, t_s, self.facts.voltage_noise_v, aperture_s)
            return np.asarray(seen / self.wiring.voltage.probe_ratio)
        turns = -self.probe.turns if self.probe.reversed else self.probe.turns
        jaw_a = amps * turns * self.probe_gain + self.probe_offset_at(t_s)
        jaw_a = jaw_a + _white(self._seed, channel, t_s, self.facts.probe_noise_a, aperture_s)
        rng = np.random.default_rng([self._seed, channel, abs(int(t_s[0] * 1e9))])
        jaw_a = jaw_a + _slow(rng, t_s, self.facts.probe_slow_noise_a, self.facts.probe_slow_noise_s)
        return np.asarray(jaw_a * self.probe.range_v_per_a)

    def probe_offset_at(self, t_s: Floats) -> Floats:
        """The clamp's offset in amperes through the jaw: constant, drift and slow wander."""
        since = t_s - self._start_s
        wander = np.sin(2 * math.pi * since / self.facts.probe_wander_period_s + self._wander_phase)
        return np.asarray(self.probe_offset_a + self.probe_drift_a_per_s * since + self.facts.probe_wander_a * wander)

    def _mean_over(self, t_s: Floats, aperture_s: float) -> tuple[Floats, Floats]:
        """Mean voltage and current over each sample's aperture, by two Gauss nodes."""
        node = 0.5 - 0.5 / math.sqrt(3.0)
        v1, i1 = self.board(t_s + node * aperture_s)
        v2, i2 = self.board(t_s + (1 - node) * aperture_s)
        return (v1 + v2) / 2, (i1 + i2) / 2

    # --- the truth ----------------------------------------------------------------------------

    def true_energy_j(self, from_s: float, to_s: float) -> float:
        """Energy taken by the board over [from_s, to_s], by Gauss-Legendre between the kinks of the current."""
        step_s = min(0.25 / self.facts.ripple_hz, self.facts.settling_s)
        cuts = [from_s, *self._demand.kinks(from_s, to_s), *self._rail.kinks(from_s, to_s), to_s]
        edges = (
            np.unique(
                np.concatenate(
                    [np.linspace(a, b, max(2, math.ceil((b - a) / step_s) + 1)) for a, b in _pairs(sorted(cuts))]
                )
            )
            if to_s > from_s
            else np.array([from_s])
        )
        total = 0.0
        nodes, weights = np.polynomial.legendre.leggauss(5)
        for block in range(0, len(edges) - 1, 20_000):
            left, right = edges[block : block + 20_000], edges[block + 1 : block + 20_001]
            left = left[: len(right)]
            half = (right - left) / 2
            t = (left + right)[:, None] / 2 + half[:, None] * nodes
            volts, amps = self.board(t.ravel())
            total += float(((volts * amps).reshape(t.shape) @ weights * half).sum())
        return total

    def true_windows(self, after_s: float) -> list[TrueWindow]:
        """Every whole gate-high stretch that began after after_s, oldest first."""
        windows = []
        edges = self.digital_edges(self.wiring.gate.digital, after_s, math.inf)
        for (rise_s, level), (fall_s, _) in _pairs(edges):
            if level:
                toggles = self.digital_edges(self.wiring.batch.digital, rise_s, fall_s)
                windows.append(
                    TrueWindow(
                        rise_s, fall_s, self.true_energy_j(rise_s, fall_s), self.idle_power_w(rise_s), len(toggles)
                    )
                )
        return windows

    def idle_power_w(self, at_s: float) -> float:
        """True power of the idle board on the rail as it is at at_s, over whole ripple periods."""
        rail = float(self._rail.at(np.array([at_s]))[0])
        idle = self.facts.idle_a
        mean_square = idle * idle * (1 + self.facts.ripple_relative**2 / 2)
        return rail * idle - (self.facts.source_resistance_ohm + self._lead_ohm) * mean_square


def _pairs(items: Sequence[_T]) -> list[tuple[_T, _T]]:
    return list(itertools.pairwise(items))


def _white(seed: int, channel: int, t_s: Floats, rms: float, aperture_s: float) -> Floats:
    """White noise of `rms` in the probe's 100 kHz, averaged over the aperture.

    Each instant has its own value, whichever others are asked for with it.
    """
    correlation_s = 1 / (math.pi * 100e3)
    mixed = np.ascontiguousarray(t_s).view(np.uint64) * np.uint64(0x9E3779B97F4A7C15)
    mixed ^= np.uint64(seed * 64 + channel)
    mixed ^= mixed >> np.uint64(30)
    mixed *= np.uint64(0xBF58476D1CE4E5B9)
    mixed ^= mixed >> np.uint64(27)
    mixed *= np.uint64(0x94D049BB133111EB)
    table = _normal_table()
    return np.asarray(
        table[(mixed >> np.uint64(44)).astype(np.int64)] * (rms / math.sqrt(1 + aperture_s / correlation_s))
    )


@functools.cache
def _normal_table() -> Floats:
    """2^20 normal deviates, from which instants draw."""
    return np.random.default_rng(0x1146B).standard_normal(1 << 20)


def _slow(rng: np.random.Generator, t_s: Floats, rms: float, correlation_s: float) -> Floats:
    """Noise with an exponential autocorrelation, drawn on a grid of a fifth of its correlation time."""
    if rms == 0 or t_s.size == 0:
        return np.zeros(t_s.size)
    step_s = correlation_s / 5
    count = int((t_s[-1] - t_s[0]) / step_s) + 2
    rho = math.exp(-step_s / correlation_s)
    draws = rng.standard_normal(count)
    level = np.empty(count)
    level[0] = draws[0]
    for k in range(1, count):
        level[k] = rho * level[k - 1] + math.sqrt(1 - rho * rho) * draws[k]
    return np.asarray(rms * np.interp(t_s - t_s[0], step_s * np.arange(count), level))
