"""The section of lab.yaml that describes a simulated bench."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from instruments.fault_facts import FaultFacts

from .kinds import Facts, NonNegative, Positive, Text, TimeConstant

BOARD_CURRENTS = ("idle_a", "active_a", "launch_a", "tail_a")
"""Physics that a model of `dut.simulated` sets itself."""


class PortFacts(Facts):
    """TCP ports of the simulated bench; 0 takes any free one."""

    socket: Annotated[int, Field(ge=0, le=65535)] = 0
    prologix: Annotated[int, Field(ge=0, le=65535)] = 0
    vxi11: Annotated[int, Field(ge=0, le=65535)] = 0
    hislip: Annotated[int, Field(ge=0, le=65535)] = 0
    portmapper: Annotated[int, Field(ge=0, le=65535)] | None = None
    """Where clients find VXI-11 that are told no port; 111 is the well-known one. None: nowhere."""


class SimulatedScopeFacts(Facts):
    """Identity and options of the simulated oscilloscope; its inputs follow the model (2000 X, 3000 X and 3000T X)."""

    vendor: Text = "AGILENT TECHNOLOGIES"
    model: Text = "MSO-X 2024A"
    serial: Text = "MY00000001"
    firmware: Text = "02.65.2021102830"
    memory_points: Literal[100_000, 1_000_000, 2_000_000, 4_000_000] = 1_000_000


class SimulatedSupplyFacts(Facts):
    """Identity of the simulated supply; the family answers 0 as its serial."""

    vendor: Text = "Agilent Technologies"
    model: Text = "E3645A"
    serial: Text = "0"
    firmware: Text = "1.4-5.0-1.0"


TimeAndChange = Annotated[list[float], Field(min_length=2, max_length=2)]


class WorldFacts(Facts):
    """Physics of the simulated bench. Errors of gain and offset are drawn from these with the seed."""

    idle_a: NonNegative = 0.11
    idle_wander_a: NonNegative = 0.0
    idle_wander_period_s: TimeConstant = 10.0
    active_a: NonNegative = 1.0
    launch_a: NonNegative = 0.7
    launch_s: NonNegative = 0.4e-3
    tail_a: NonNegative = 0.03
    tail_s: TimeConstant = 0.03
    settling_s: TimeConstant = 2.0e-3
    ripple_relative: Annotated[float, Field(ge=0, lt=0.5)] = 0.02
    ripple_hz: Positive = 1400.0
    undervoltage_v: NonNegative = 5.0
    source_resistance_ohm: NonNegative = 1.5e-3
    supply_settling_s: TimeConstant = 0.02
    probe_gain_sd: NonNegative = 0.01
    probe_gain_change: list[TimeAndChange] = Field(default_factory=list)
    """Relative change of the clamp's gain: pairs of s since the bench was opened, rising, and change; straight between
    them, constant beyond."""
    probe_offset_limit_a: NonNegative = 0.04
    probe_drift_sd_a_per_s: NonNegative = 1.0e-5
    probe_wander_a: NonNegative = 3.0e-4
    probe_wander_period_s: TimeConstant = 300.0
    probe_noise_a: NonNegative = 0.03
    probe_slow_noise_a: NonNegative = 2.0e-3
    probe_slow_noise_s: TimeConstant = 5.0e-3
    voltage_gain_sd: NonNegative = 0.005
    voltage_offset_sd_v: NonNegative = 0.01
    voltage_noise_v: NonNegative = 2.0e-3
    output_off_sd_a: NonNegative = 3.0e-4
    load_ohm: Positive | None = None
    """A resistor in the board's place from the start, None: the board."""
    marker_delay_s: Annotated[float, Field(ge=-0.1, le=0.1)] = 0.0
    marker_jitter_s: Annotated[float, Field(ge=0, le=0.1)] = 0.0

    @model_validator(mode="after")
    def _in_order(self) -> WorldFacts:
        times = [at_s for at_s, _ in self.probe_gain_change]
        if times != sorted(times):
            raise ValueError("probe_gain_change: its times must rise")
        return self


class SimulationFacts(Facts):
    """The simulated bench that `sim:` resources stand for."""

    seed: Annotated[int, Field(ge=0, lt=2**63)] = 1
    host: Literal["127.0.0.1", "localhost"] = "127.0.0.1"
    state_dir: Text | None = None
    ports: PortFacts = PortFacts()
    scope: SimulatedScopeFacts = SimulatedScopeFacts()
    supply: SimulatedSupplyFacts = SimulatedSupplyFacts()
    world: WorldFacts = WorldFacts()
    faults: FaultFacts = FaultFacts()
