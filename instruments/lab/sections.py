"""The sections of lab.yaml that any bench has: oscilloscope, supply, clamp, wiring, device under test."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field, model_validator

from instruments.readback import Limits

from .kinds import DottedPath, Facts, MisplacedError, NonNegative, Positive, Resources, Seconds, Signed, Text


class ScopeFacts(Facts):
    """The oscilloscope: where it answers and who it must say it is."""

    driver: DottedPath = "instruments.mso_x2024a:MsoX2024A"
    resource: Resources
    model: Text
    like: Text | None = None
    serial: Text
    open_timeout_s: Seconds = 12.0
    timeout_s: Seconds = 5.0
    memory_points: Annotated[int, Field(ge=1000)] = 1_000_000


OVP_SHARE = 1.2
"""Protection may be set to this share of the voltage limit where no limit of its own is given."""


class SupplyLimitFacts(Facts):
    """What may never be asked of the supply on this bench."""

    voltage_v: Positive
    current_a: Positive
    ovp_v: Positive | None = None


class Rs232Facts(Facts):
    """How the supply's RS-232 interface is set at its front panel (UG364 p.77-79); 2 stop bits are fixed."""

    baud_rate: Literal[300, 600, 1200, 2400, 4800, 9600] = 9600
    parity: Literal["none", "even", "odd"] = "none"
    flow_control: Literal["dtr_dsr", "none"] = "dtr_dsr"

    @property
    def data_bits(self) -> Literal[7, 8]:
        """8 without parity, 7 with it: the family has no other forms."""
        return 8 if self.parity == "none" else 7


class ReadBackLimits(Facts):
    """By how much a reading of a supply may be off (a share of it, and V or A), and one step of its display."""

    relative: Annotated[float, Field(ge=0, lt=0.5)]
    absolute: NonNegative
    step: Positive

    @property
    def limits(self) -> Limits:
        """The same as plain numbers."""
        return Limits(self.relative, self.absolute, self.step)


class ReadBackFacts(Facts):
    """What the supply's maker promises of its own readings: the reference of every result."""

    voltage: ReadBackLimits
    current: ReadBackLimits


class SupplyFacts(Facts):
    """The DC supply: where it answers, who it must say it is, what the board is fed with."""

    driver: DottedPath = "instruments.e3645a:E3645A"
    resource: Resources
    model: Text
    serial: Text
    rs232: Rs232Facts = Rs232Facts()
    range: Literal["P35V", "P60V"] = "P35V"
    voltage_v: Positive
    current_limit_a: Positive
    ovp_v: Positive
    read_back: ReadBackFacts | None = None
    """None: as the E364xA family; another supply is not taken without (`bench.require_read_back`)."""
    sense: Literal["remote", "local"] = "remote"
    lead_resistance_ohm: NonNegative | None = None
    lead_resistance_u_ohm: NonNegative = 0.0
    output_off_residual_a: NonNegative = 1.0e-3
    limits: SupplyLimitFacts
    open_timeout_s: Seconds = 12.0
    timeout_s: Seconds = 5.0

    @property
    def most_ovp_v(self) -> float:
        """What the over-voltage protection may be set to on this bench."""
        return self.limits.ovp_v if self.limits.ovp_v is not None else OVP_SHARE * self.limits.voltage_v

    @model_validator(mode="after")
    def _within_limits(self) -> SupplyFacts:
        for key, asked, limit_key, limit in (
            ("voltage_v", self.voltage_v, "voltage_v", self.limits.voltage_v),
            ("current_limit_a", self.current_limit_a, "current_a", self.limits.current_a),
        ):
            if asked > limit:
                raise MisplacedError(
                    f"{asked:g} is above supply.limits.{limit_key}, the {limit:g} of this bench: lower it", key
                )
        if self.ovp_v > self.most_ovp_v:
            known = self.limits.ovp_v is not None
            raise MisplacedError(
                f"{self.ovp_v:g} is above supply.limits.ovp_v, the {self.most_ovp_v:g} of this bench: lower it"
                if known
                else f"{self.ovp_v:g} is above {self.most_ovp_v:g}, {OVP_SHARE:g} times supply.limits.voltage_v "
                f"{self.limits.voltage_v:g}: lower it, or give supply.limits.ovp_v",
                "ovp_v",
            )
        if self.sense == "local" and self.lead_resistance_ohm is None:
            raise MisplacedError(
                "local needs supply.lead_resistance_ohm (and supply.lead_resistance_u_ohm): add it", "sense"
            )
        if self.ovp_v <= self.voltage_v:
            raise MisplacedError(f"{self.ovp_v:g} would trip at supply.voltage_v {self.voltage_v:g}: raise it", "ovp_v")
        return self


class ProbeFacts(Facts):
    """The current clamp as it is set and threaded."""

    model: Text = "1146B"
    serial: Text
    range_v_per_a: Positive = 0.1
    turns: Annotated[int, Field(ge=1, le=100)] = 1
    reversed: bool = False
    drift_u_a: NonNegative = 5.0e-4
    drift_unbracketed_u_a: NonNegative = 5.0e-3
    linearity: NonNegative = 1.0e-3
    calibration: Text | None = None
    """A calibration record; its path counts from where lab.yaml is."""

    @model_validator(mode="after")
    def _known_range(self) -> ProbeFacts:
        if self.range_v_per_a not in (0.1, 0.01):
            raise MisplacedError(
                f"{self.range_v_per_a:g} is not a range of the 1146B: write 0.1 or 0.01", "range_v_per_a"
            )
        return self


class CurrentWiring(Facts):
    """The channel that sees the clamp, and the span of current that it must show."""

    channel: Annotated[int, Field(ge=1, le=4)]
    low_a: Signed
    high_a: Signed


class VoltageWiring(Facts):
    """The channel that sees the board's supply voltage."""

    channel: Annotated[int, Field(ge=1, le=4)]
    probe_ratio: Positive = 10.0
    low_v: Signed
    high_v: Signed


class DigitalWiring(Facts):
    """A marker line on a digital input of POD1."""

    digital: Annotated[int, Field(ge=0, le=7)]


class Wiring(Facts):
    """Which line of the board ends on which input of the oscilloscope."""

    current: CurrentWiring
    voltage: VoltageWiring
    gate: DigitalWiring = DigitalWiring(digital=0)
    batch: DigitalWiring = DigitalWiring(digital=1)
    marker_threshold_v: Annotated[float, Field(ge=-8, le=8)] = 1.4

    @model_validator(mode="after")
    def _distinct(self) -> Wiring:
        if self.current.channel == self.voltage.channel:
            raise MisplacedError(
                f"{self.voltage.channel} is wiring.current.channel too, and both cannot be on the same channel: "
                "each needs its own",
                "voltage",
                "channel",
            )
        if self.gate.digital == self.batch.digital:
            at, other = ("batch", "gate") if "batch" in self.model_fields_set else ("gate", "batch")
            raise MisplacedError(
                f"{self.gate.digital} is wiring.{other}.digital too, and both cannot be on the same digital input: "
                "each needs its own",
                at,
                "digital",
            )
        for name, unit, low, high in (
            ("current", "a", self.current.low_a, self.current.high_a),
            ("voltage", "v", self.voltage.low_v, self.voltage.high_v),
        ):
            if not low < 0 < high:
                wrong, other, value = ("high", "low", low) if high <= 0 else ("low", "high", high)
                raise MisplacedError(
                    f"the span from here to wiring.{name}.{other}_{unit} {value:g} must include 0 with some room "
                    f"below, where the zero is taken: {'raise' if wrong == 'high' else 'lower'} it",
                    name,
                    f"{wrong}_{unit}",
                )
        return self


class DutFacts(Facts):
    """The device under test: how its agent is started and which lines it moves, or which model stands for it."""

    name: Text
    simulated: Literal["tx1", "counter"] | None = None
    command: Annotated[list[Text], Field(min_length=1)] | None = None
    marker: Text = "none"
    device: Literal["auto", "cpu", "cuda"] = "auto"
    threads: Annotated[int, Field(ge=0, le=1024)] = 0
    boot_s: Annotated[float, Field(ge=0, le=3600)] = 0.0
    rest_s: Annotated[float, Field(ge=0, le=3600)] = 0.15
    start_timeout_s: Seconds = 60.0
    prepare_timeout_s: Seconds = 120.0

    @model_validator(mode="before")
    @classmethod
    def _named(cls, plain: Any) -> Any:
        if isinstance(plain, dict) and "name" not in plain and "simulated" in plain:
            return {**plain, "name": MODEL_NAMES.get(str(plain["simulated"]), "simulated board")}
        return plain

    @model_validator(mode="after")
    def _one_device(self) -> DutFacts:
        if self.simulated is None and self.command is None:
            raise ValueError("give dut.command, which starts the agent on the board, or dut.simulated: tx1")
        if self.simulated is not None:
            given = [key for key in ("command", "marker") if key in self.model_fields_set]
            if given:
                keys = " and ".join(f"dut.{key}" for key in given)
                raise MisplacedError(f"dut.simulated: {self.simulated} is a whole board: delete {keys}", given[0])
        return self


MODEL_NAMES = {"tx1": "simulated Jetson TX1 (model)", "counter": "simulated counter-example board (model)"}
"""What the models of `dut.simulated` are called where lab.yaml gives no name."""
