"""The physics behind the simulated bench: rail, board, probe, drift, noise and marker edges, and the true energy.

Scope, supply and board share one World. Times are monotonic seconds and come from outside; errors
are drawn once from the seed, noise from the seed and the instant asked for, so that asking twice
gives the same answer. Imports no driver, no clock and no file.

The board draws a current that follows the marker lines: idle while the gate is low; while it is high `launch_a` for
`launch_s` after each batch begins, then `active_a`; `active_a` too while it works outside the gate (loading, warming
up). All of it goes through a first-order settling, and `tail_a` of the current of work fades slowly, with `tail_s`.
Beneath it all the idle current wanders by `idle_wander_a`. In the board's place a resistor, or nothing, can be
connected (`connect`).
The oscilloscope sees each edge `marker_delay_s` after the board's work changed, with a scatter of `marker_jitter_s`.
"""

from __future__ import annotations

import bisect
import itertools
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from instruments.lab import ProbeFacts, SupplyFacts, Wiring, WorldFacts
from instruments.simulated.noise import slow, white
from instruments.simulated.settling import Settling, stretch

Floats = NDArray[np.float64]
_T = TypeVar("_T")

GATE, BATCH, WORK, REST = 1, 2, 4, 8
"""Bits of the line states that the board reports; WORK is work outside the gate and REST a pause within a batch, which
no wire carries."""

_GRID = 3000
"""Stretches of the clamp's wander that are as good as straight: to a millionth of its size."""

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
        self._share = 1.0
        self._demand = Settling(facts.idle_a, facts.settling_s)
        self._tail = Settling(0.0, facts.tail_s)
        self._rail = Settling(0.0, facts.supply_settling_s)
        self._supply_s: list[float] = [-math.inf]
        self._supply_limit_a: list[float] = [0.02]
        self._supply_on: list[bool] = [False]
        self._load_s: list[float] = [-math.inf]
        self._load_ohm: list[float | None] = [facts.load_ohm]
        self._line_s: list[float] = [-math.inf]
        self._late = np.random.default_rng([seed, 0xDE1A])
        self._asked: tuple[float, ...] = ()
        self._asked_s: Floats = np.zeros(0)
        self._means: tuple[Floats, Floats] = (np.zeros(0), np.zeros(0))

    # --- inputs -------------------------------------------------------------------------------

    def advance(self, now_s: float) -> None:
        """Take in the marker edges that happened since the last call."""
        for t_ns, lines in self._edges():
            self.mark(t_ns * 1e-9, lines)

    def set_work(self, active_a: float) -> None:
        """Set what the board's work draws from the next edge on; its launch and tail currents keep their share."""
        self._share = active_a / self.facts.active_a

    def mark(self, t_s: float, lines: int) -> None:
        """Record that the board moves its lines at t_s (bit 0 gate, bit 1 batch).

        With a negative `marker_delay_s` its work follows that much later.
        """
        seen_s = t_s + self._lateness_s()
        t_s = max(t_s + max(0.0, -self.facts.marker_delay_s), self._edge_s[-1])
        before = self._edge_lines[-1]
        if lines == before:
            return
        self._edge_s.append(t_s)
        self._edge_lines.append(lines)
        self._line_s.append(max(seen_s, self._line_s[-1]))
        if not (lines | before) & (GATE | WORK):
            return  # a board at rest that moves its batch line draws nothing for it
        facts, share = self.facts, self._share
        tail_a = share * facts.tail_a
        if lines & REST:
            self._demand.to(t_s, facts.idle_a)
            tail_a = 0.0
        elif lines & GATE:
            self._demand.to(t_s, share * facts.launch_a - tail_a)
            self._demand.to(t_s + facts.launch_s, share * facts.active_a - tail_a)
        else:
            self._demand.to(t_s, share * facts.active_a - tail_a if lines & WORK else facts.idle_a)
        self._tail.to(t_s, tail_a if lines & (GATE | WORK) else 0.0)

    def set_supply(self, now_s: float, volts: float, amps: float, on: bool) -> None:
        """Set what the supply drives: `volts` and current limit `amps`; off is 0 V and 0.02 A."""
        now_s = max(now_s, self._supply_s[-1])
        self._rail.to(now_s, volts if on else 0.0)
        self._supply_s.append(now_s)
        self._supply_limit_a.append(amps if on else 0.02)
        self._supply_on.append(on)

    def _lateness_s(self) -> float:
        """How long after the board moved a line the edge is seen; an edge cannot be seen before."""
        if not self.facts.marker_jitter_s:
            return max(0.0, self.facts.marker_delay_s)
        scatter_s = self.facts.marker_jitter_s * float(self._late.standard_normal())
        return max(0.0, max(0.0, self.facts.marker_delay_s) + scatter_s)

    def connect(self, now_s: float, load_ohm: float | None) -> None:
        """Put a resistor in the board's place from now on; infinite: nothing; None: the board again."""
        self._load_s.append(max(now_s, self._load_s[-1]))
        self._load_ohm.append(load_ohm)

    # --- the board ----------------------------------------------------------------------------

    def _limit_at(self, t_s: Floats) -> Floats:
        first, part = stretch(self._supply_s, t_s)
        if len(part) == 1:
            return np.full(t_s.size, self._supply_limit_a[first])
        limits = np.array(self._supply_limit_a[first : first + len(part)])
        return np.asarray(limits[np.searchsorted(part[1:], t_s, side="right")])

    def board(self, t_s: Floats) -> tuple[Floats, Floats]:
        """True voltage (V) and current (A) at the board's terminals at each of rising times; (n,) each."""
        first, part = stretch(self._load_s, t_s)
        cuts = np.searchsorted(t_s, part[1:], side="left")
        if cuts.size:
            pieces = [self._fed(t, self._load_ohm[first + k]) for k, t in enumerate(np.split(t_s, cuts))]
            return np.concatenate([volts for volts, _ in pieces]), np.concatenate([amps for _, amps in pieces])
        return self._fed(t_s, self._load_ohm[first])

    def _fed(self, t_s: Floats, load_ohm: float | None) -> tuple[Floats, Floats]:
        """Voltage and current with one load connected: the board, a resistor, or nothing."""
        rail = self._rail.at(t_s)
        if load_ohm is not None:
            if math.isinf(load_ohm):
                return rail, np.zeros(t_s.size)
            through = rail / (load_ohm + self.facts.source_resistance_ohm + self._lead_ohm)
            through = np.minimum(np.maximum(through, self.output_off_a), self._limit_at(t_s))
            return through * load_ohm, through
        ripple = t_s - self._start_s
        ripple *= 2 * math.pi * self.facts.ripple_hz
        ripple += self._ripple_phase
        np.sin(ripple, out=ripple)
        ripple *= self.facts.ripple_relative
        ripple += 1.0
        current = self._demand.at(t_s)
        current += self._tail.at(t_s)
        if self.facts.idle_wander_a:
            current += self._idle_wander_at(t_s)
        current *= ripple
        alive = rail > self.facts.undervoltage_v
        if not alive.all():
            current = np.where(alive, current, self.output_off_a)
        limit = self._limit_at(t_s)
        starved = current > limit
        volts = current * -(self.facts.source_resistance_ohm + self._lead_ohm)
        volts += rail
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
        """POD1 at each of rising times, bit k = Dk; (n,)."""
        first, part = stretch(self._line_s, t_s)
        levels = self._pod(np.array(self._edge_lines[first : first + len(part)])).astype(np.uint8)
        lengths = np.diff(np.concatenate(([0], np.searchsorted(t_s, part[1:], side="left"), [t_s.size])))
        return np.repeat(levels, lengths)

    def _pod(self, lines: NDArray[np.int64]) -> NDArray[np.int64]:
        gate = ((lines & GATE) != 0).astype(np.int64) << self.wiring.gate.digital
        batch = ((lines & BATCH) != 0).astype(np.int64) << self.wiring.batch.digital
        return np.asarray(gate | batch)

    def digital_edges(self, bit: int, after_s: float, until_s: float) -> list[tuple[float, int]]:
        """Edges of D<bit> as the oscilloscope sees them in (after_s, until_s]: (time, new level)."""
        return self._edges_of(self._line_s, bit, after_s, until_s)

    def _edges_of(self, times: list[float], bit: int, after_s: float, until_s: float) -> list[tuple[float, int]]:
        first = bisect.bisect_right(times, after_s)
        last = bisect.bisect_right(times, until_s)
        levels = (self._pod(np.array(self._edge_lines[max(first - 1, 0) : last])) >> bit) & 1
        return [(times[first + k], int(levels[k + 1])) for k in range(last - first) if levels[k + 1] != levels[k]]

    def analog_v(self, channel: int, t_s: Floats, aperture_s: float) -> Floats:
        """Volts at the BNC of a channel, each the mean over [t, t + aperture_s]; (n,). Unconnected: 0 V."""
        if t_s.size == 0 or channel not in (self.wiring.current.channel, self.wiring.voltage.channel):
            return np.zeros(t_s.size)
        volts, amps = self._mean_over(t_s, aperture_s)
        if channel == self.wiring.voltage.channel:
            seen = volts * self.voltage_gain + self.voltage_offset_v
            seen = seen + white(self._seed, channel, t_s, self.facts.voltage_noise_v, aperture_s)
            return np.asarray(seen / self.wiring.voltage.probe_ratio)
        turns = -self.probe.turns if self.probe.reversed else self.probe.turns
        jaw_a = amps * (turns * self.probe_gain)
        if self.facts.probe_gain_change:
            jaw_a *= 1.0 + self.probe_gain_change_at(t_s)
        jaw_a += self._slow_offset_at(t_s)
        jaw_a = jaw_a + white(self._seed, channel, t_s, self.facts.probe_noise_a, aperture_s)
        rng = np.random.default_rng([self._seed, channel, abs(int(t_s[0] * 1e9))])
        jaw_a = jaw_a + slow(rng, t_s, self.facts.probe_slow_noise_a, self.facts.probe_slow_noise_s)
        return np.asarray(jaw_a * self.probe.range_v_per_a)

    def probe_gain_change_at(self, t_s: Floats) -> Floats:
        """How far the clamp's gain has moved, relative to `probe_gain`."""
        since_s, change = zip(*self.facts.probe_gain_change, strict=True)
        return np.asarray(np.interp(t_s - self._start_s, since_s, change))

    def probe_offset_at(self, t_s: Floats) -> Floats:
        """The clamp's offset in amperes through the jaw: constant, drift and slow wander."""
        since = t_s - self._start_s
        wander = np.sin(2 * math.pi * since / self.facts.probe_wander_period_s + self._wander_phase)
        return np.asarray(self.probe_offset_a + self.probe_drift_a_per_s * since + self.facts.probe_wander_a * wander)

    def _slow_offset_at(self, t_s: Floats) -> Floats:
        """The clamp's offset at many instants of a record, straight between those of a grid where that is fine."""
        grid_s = self.facts.probe_wander_period_s / _GRID
        first, last = math.floor(t_s[0] / grid_s), math.ceil(t_s[-1] / grid_s)
        if last - first >= t_s.size:
            return self.probe_offset_at(t_s)
        spots = grid_s * np.arange(first, last + 1)
        return np.interp(t_s, spots, self.probe_offset_at(spots))

    def _mean_over(self, t_s: Floats, aperture_s: float) -> tuple[Floats, Floats]:
        """Mean voltage and current over each sample's aperture, by two Gauss nodes."""
        asked: tuple[float, ...] = (aperture_s, len(self._edge_s), len(self._supply_s), len(self._load_s))
        if asked != self._asked or not np.array_equal(t_s, self._asked_s):  # else: the record's other channel
            node = 0.5 - 0.5 / math.sqrt(3.0)
            v1, i1 = self.board(t_s + node * aperture_s)
            v2, i2 = self.board(t_s + (1 - node) * aperture_s)
            v1 += v2
            i1 += i2
            self._means, self._asked, self._asked_s = (v1 / 2, i1 / 2), asked, t_s.copy()
        return self._means

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
        """Every whole stretch of measured work that began after after_s, oldest first; seen without marker delay."""
        windows = []
        edges = self._edges_of(self._edge_s, self.wiring.gate.digital, after_s, math.inf)
        for (rise_s, level), (fall_s, _) in _pairs(edges):
            if level:
                toggles = self._edges_of(self._edge_s, self.wiring.batch.digital, rise_s, fall_s)
                windows.append(
                    TrueWindow(
                        rise_s,
                        fall_s,
                        self.true_energy_j(rise_s, fall_s),
                        self._mean_idle_w(rise_s, fall_s),
                        len(toggles),
                    )
                )
        return windows

    def idle_power_w(self, at_s: float) -> float:
        """True power of the idle board on the rail as it is at at_s, over whole ripple periods."""
        rail = float(self._rail.at(np.array([at_s]))[0])
        idle = self.facts.idle_a + float(self._idle_wander_at(np.array([at_s]))[0])
        mean_square = idle * idle * (1 + self.facts.ripple_relative**2 / 2)
        return rail * idle - (self.facts.source_resistance_ohm + self._lead_ohm) * mean_square

    def _mean_idle_w(self, from_s: float, to_s: float) -> float:
        """Mean over a stretch of what the board would take if it were idle."""
        if not self.facts.idle_wander_a:
            return self.idle_power_w(from_s)
        nodes, weights = np.polynomial.legendre.leggauss(5)
        times = (from_s + to_s + (to_s - from_s) * nodes) / 2
        return float(np.dot(weights, [self.idle_power_w(float(t)) for t in times])) / 2

    def _idle_wander_at(self, t_s: Floats) -> Floats:
        since = t_s - self._start_s
        return np.asarray(self.facts.idle_wander_a * np.sin(2 * math.pi * since / self.facts.idle_wander_period_s))


def _pairs(items: Sequence[_T]) -> list[tuple[_T, _T]]:
    return list(itertools.pairwise(items))
