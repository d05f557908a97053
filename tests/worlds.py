"""Captures made straight from the simulated world, without any instrument: for tests of the reduction.

The digitiser here is the tests' own: 12 bits left-justified in 16, an 8-division range.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from calibration import in_situ
from experiments.capture_data import CaptureData, Wires
from experiments.measure import Measured, measure
from instruments import lab as lab_yaml
from instruments.lab import Lab
from instruments.simulated.world import World
from instruments.waveform import Capture, Preamble, Record

LAB = Path(__file__).parent.parent / "lab.yaml"
WIRES = Wires("current", "voltage", "markers", 0, 1)
APERTURE_S = 4e-6


def shipped_lab() -> Lab:
    """The lab.yaml that the project ships."""
    return lab_yaml.load(LAB)


def quantise(role: str, values: np.ndarray, low: float, high: float, dt_s: float, origin_s: float) -> Record:
    """Turn values into 12-bit codes of one record."""
    step = (high - low) / 65536
    codes = np.clip(np.round((values - low) / step / 16) * 16, 0x0100, 0xFF00).astype(np.uint16)
    preamble = Preamble(1, 0, len(codes), 1, dt_s, origin_s, 0, step, low + 32768 * step, 32768)
    return Record(role, preamble, codes, "A" if role == "current" else "V")


@dataclass
class Bench:
    """A world, and the records that an ideal oscilloscope would take of it."""

    world: World
    lab: Lab
    dt_s: float = 20e-6
    points: int = 100_000
    index: int = 0

    @classmethod
    def make(cls, seed: int, **physics: float) -> Bench:
        """A world of the shipped lab.yaml with some of its physics changed."""
        lab = shipped_lab()
        assert lab.simulation is not None
        world = World(replace_facts(lab, physics), lab.wiring, lab.probe, lab.supply, seed=seed)
        return cls(world, lab)

    def capture(self, trigger_s: float) -> Capture:
        """Record from 10 % before the trigger."""
        origin_s = -0.1 * self.points * self.dt_s
        t = trigger_s + origin_s + self.dt_s * np.arange(self.points)
        amps = self.world.analog_v(1, t, APERTURE_S) / 0.1
        volts = self.world.analog_v(3, t, APERTURE_S) * 10
        bits = self.world.digital(t)
        preamble = Preamble(0, 0, self.points, 1, self.dt_s, origin_s, 0, 1.0, 0.0, 0)
        return Capture(
            {
                "current": quantise("current", amps, -0.2, 1.4, self.dt_s, origin_s),
                "voltage": quantise("voltage", volts, -2.0, 14.0, self.dt_s, origin_s),
                "markers": Record("markers", preamble, bits, "bits"),
            }
        )

    def steady(self, kind: str, at_s: float) -> Measured:
        """A record in which nothing runs."""
        self.index += 1
        return measure(CaptureData(self.index, kind, "", 0, 0, at_s, self.capture(at_s), None, None), WIRES)

    def run(
        self,
        kind: str,
        at_s: float,
        batches: int,
        batch_s: float,
        batch: int = 4,
        repeat: int = 0,
        *,
        quiet_s: float = 0.0,
    ) -> Measured:
        """A measured loop of equal batches that begins at at_s; the board says that it rested for quiet_s after it."""
        self.index += 1
        lines, t = 1, at_s
        self.world.mark(t, lines)
        for _ in range(batches):
            t += batch_s
            lines ^= 2
            self.world.mark(t, lines)
        self.world.mark(t + 5e-6, lines & 2)
        (true,) = self.world.true_windows(at_s - 0.01)[-1:]
        data = CaptureData(
            self.index,
            kind,
            "net",
            batch,
            repeat,
            at_s,
            self.capture(at_s),
            batches,
            batches * batch,
            true.energy_j,
            true.idle_power_w,
            quiet_after_s=quiet_s,
        )
        return measure(data, WIRES)

    def power(self, at_s: float, on: bool) -> None:
        """Switch the supply."""
        self.world.set_supply(at_s, 12.003 if on else 0.0, 2.0, on)

    def comparison(
        self, measured: Measured, at_s: float, error: tuple[float, float] = (0.0, 0.0)
    ) -> in_situ.Comparison:
        """What a supply with errors (A, V) would have read during a run, five times."""
        truth = [self.world.supply(at_s + 0.1 * k, at_s + 0.1 * (k + 1)) for k in range(2, 7)]
        assert measured.mean_i is not None
        assert measured.mean_v is not None
        return in_situ.Comparison(
            at_s,
            measured.mean_i,
            measured.mean_v,
            tuple(s.amps + error[0] for s in truth),
            tuple(s.volts + error[1] for s in truth),
        )

    def terms(self) -> in_situ.BenchTerms:
        """The calibration terms of the lab."""
        return in_situ.BenchTerms(
            0.1,
            self.lab.probe.drift_u_a,
            self.lab.probe.drift_unbracketed_u_a,
            self.lab.supply.output_off_residual_a,
            0.0,
            0.0,
            self.lab.probe.linearity,
        )


def replace_facts(lab: Lab, physics: dict[str, float]):
    """The simulated physics of a lab with some values changed."""
    assert lab.simulation is not None
    return lab.simulation.world.model_copy(update=physics)


def zero(measured: Measured) -> in_situ.Zero:
    """A zero from a steady record."""
    assert measured.mean_i is not None
    assert measured.mean_v is not None
    return in_situ.Zero(measured.data.at_s, measured.mean_i, measured.mean_v)


__all__ = ["LAB", "WIRES", "Bench", "replace", "shipped_lab", "zero"]
