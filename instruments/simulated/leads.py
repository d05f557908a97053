"""What is plugged, wired or clamped in another way than lab.yaml says, between the world and the oscilloscope. Pure.

Truth and supply know nothing of it: the board does what it does, the oscilloscope sees something else. An input
that nothing drives reads low; a channel that nothing drives reads 0 V.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from instruments.fault_facts import LeadFault
from instruments.lab import ProbeFacts, Wiring
from instruments.simulated.interfaces import Floats, SupplyReading, Surroundings


@dataclass(frozen=True)
class _Wire:
    """A marker line's way: from the input that lab.yaml names to the one that it ends on, `late_s` later."""

    planned: int
    input: int
    inverted: bool
    dead: bool
    late_s: float


class Leads:
    """The world as the oscilloscope's inputs see it; `faults` may be changed at any time."""

    def __init__(self, world: Surroundings, wiring: Wiring, probe: ProbeFacts, seed: int = 0) -> None:
        self._world, self._wiring, self._seed = world, wiring, seed
        self._per_unit = {"current": probe.range_v_per_a, "voltage": 1 / wiring.voltage.probe_ratio}
        self.faults: Sequence[LeadFault] = ()

    def _of(self, lead: str) -> list[LeadFault]:
        return [fault for fault in self.faults if fault.lead == lead]

    def _wires(self) -> list[_Wire]:
        wires = []
        for lead, planned in (("gate", self._wiring.gate.digital), ("batch", self._wiring.batch.digital)):
            faults = self._of(lead)
            kinds = {fault.kind for fault in faults}
            ends = [fault.to for fault in faults if fault.kind == "moved"]
            late_s = sum(fault.delay_s for fault in faults if fault.kind == "shifted")
            wires.append(_Wire(planned, ends[-1] if ends else planned, "inverted" in kinds, "dead" in kinds, late_s))
        return wires

    def digital(self, t_s: Floats) -> NDArray[np.uint8]:
        """POD1 at each time, bit k = Dk; (n,)."""
        bits = self._world.digital(t_s)
        if not self._of("gate") and not self._of("batch"):
            return bits
        seen = np.zeros_like(bits)
        for wire in self._wires():
            if not wire.dead:
                own = self._world.digital(t_s - wire.late_s) if wire.late_s else bits
                seen |= (((own >> wire.planned) & 1) ^ int(wire.inverted)).astype(np.uint8) << wire.input
        return seen

    def digital_edges(self, bit: int, after_s: float, until_s: float) -> list[tuple[float, int]]:
        """Edges of D<bit> in (after_s, until_s]: (time, new level)."""
        if not self._of("gate") and not self._of("batch"):
            return self._world.digital_edges(bit, after_s, until_s)
        times = sorted(
            t + wire.late_s
            for wire in self._wires()
            if wire.input == bit and not wire.dead
            for t, _ in self._world.digital_edges(wire.planned, after_s - wire.late_s, until_s - wire.late_s)
        )
        if not times:
            return []
        level = (self.digital(np.array([after_s, *times])) >> bit) & 1
        return [(t, int(new)) for t, old, new in zip(times, level[:-1], level[1:], strict=True) if old != new]

    def analog_v(self, channel: int, t_s: Floats, aperture_s: float) -> Floats:
        """Volts at the BNC of a channel, each the mean over [t, t + aperture_s]; (n,)."""
        signals = {"current": self._wiring.current.channel, "voltage": self._wiring.voltage.channel}
        if not self._of("current") and not self._of("voltage"):
            return self._world.analog_v(channel, t_s, aperture_s)
        volts = np.zeros(t_s.size)
        for signal, planned in signals.items():
            faults = self._of(signal)
            ends = [fault.to for fault in faults if fault.kind == "moved"]
            if (ends[-1] if ends else planned) != channel or any(fault.kind == "dead" for fault in faults):
                continue
            seen = self._world.analog_v(planned, t_s, aperture_s)
            for fault in faults:
                seen = seen * fault.factor
                if fault.rms and t_s.size:
                    rng = np.random.default_rng([self._seed, channel, abs(int(t_s[0] * 1e9)), t_s.size])
                    seen = seen + rng.normal(0.0, fault.rms * self._per_unit[signal], t_s.size)
            volts = volts + seen
        return np.asarray(volts)

    # --- what no lead changes ---------------------------------------------------------------------

    def advance(self, now_s: float) -> None:
        """Take in what has happened up to now."""
        self._world.advance(now_s)

    def set_supply(self, now_s: float, volts: float, amps: float, on: bool) -> None:
        """What the supply drives from now on."""
        self._world.set_supply(now_s, volts, amps, on)

    def supply(self, from_s: float, to_s: float) -> SupplyReading:
        """True means at the supply's terminals over a stretch of time."""
        return self._world.supply(from_s, to_s)
