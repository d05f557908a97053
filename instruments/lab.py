"""lab.yaml as frozen types; every mistake is reported with file, line, key and what to write instead.

Pure but for `load`, which reads one file. Imports no driver and no simulator.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError, model_validator
from ruamel.yaml import YAML
from ruamel.yaml.error import MarkedYAMLError, YAMLError

from instruments.errors import ConfigError
from instruments.fault_facts import FaultFacts
from instruments.readback import Limits

Positive = Annotated[float, Field(gt=0, le=1e6)]
TimeConstant = Annotated[float, Field(ge=1e-6, le=1e6)]
NonNegative = Annotated[float, Field(ge=0, le=1e6)]
Signed = Annotated[float, Field(ge=-1e6, le=1e6)]
Seconds = Annotated[float, Field(gt=0, le=86400)]
Text = Annotated[str, Field(min_length=1, max_length=4096, pattern=r"^[^\x00-\x1f\x7f]+$")]
MAX_BYTES = 200_000
MAX_NODES = 5_000

TRANSPORTS = {"scope": ("socket", "vxi11", "hislip"), "supply": ("prologix", "serial")}
"""What `sim:` resources can stand for."""


class _Facts(BaseModel):
    model_config = ConfigDict(strict=True, extra="forbid", frozen=True, allow_inf_nan=False)


class _MisplacedError(ValueError):
    """A mistake that shows only in several keys together, at the one where it can be mended."""

    def __init__(self, message: str, *path: str) -> None:
        super().__init__(message)
        self.path = path


def _resource_list(value: Any) -> Any:
    return [value] if isinstance(value, str) else value


Resources = Annotated[list[Text], BeforeValidator(_resource_list), Field(min_length=1)]
"""VISA resource strings in the order in which to open them; the last one is the instrument."""

DottedPath = Annotated[str, Field(pattern=r"^[\w.]+:\w+$")]


class ScopeFacts(_Facts):
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


class SupplyLimitFacts(_Facts):
    """What may never be asked of the supply on this bench."""

    voltage_v: Positive
    current_a: Positive
    ovp_v: Positive | None = None


class Rs232Facts(_Facts):
    """How the supply's RS-232 interface is set at its front panel (UG364 p.77-79); 2 stop bits are fixed."""

    baud_rate: Literal[300, 600, 1200, 2400, 4800, 9600] = 9600
    parity: Literal["none", "even", "odd"] = "none"
    flow_control: Literal["dtr_dsr", "none"] = "dtr_dsr"

    @property
    def data_bits(self) -> Literal[7, 8]:
        """8 without parity, 7 with it: the family has no other forms."""
        return 8 if self.parity == "none" else 7


class ReadBackLimits(_Facts):
    """By how much a reading of a supply may be off (a share of it, and V or A), and one step of its display."""

    relative: Annotated[float, Field(ge=0, lt=0.5)]
    absolute: NonNegative
    step: Positive

    @property
    def limits(self) -> Limits:
        """The same as plain numbers."""
        return Limits(self.relative, self.absolute, self.step)


class ReadBackFacts(_Facts):
    """What the supply's maker promises of its own readings: the reference of every result."""

    voltage: ReadBackLimits
    current: ReadBackLimits


class SupplyFacts(_Facts):
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
                raise _MisplacedError(
                    f"{asked:g} is above supply.limits.{limit_key}, the {limit:g} of this bench: lower it", key
                )
        if self.ovp_v > self.most_ovp_v:
            known = self.limits.ovp_v is not None
            raise _MisplacedError(
                f"{self.ovp_v:g} is above supply.limits.ovp_v, the {self.most_ovp_v:g} of this bench: lower it"
                if known
                else f"{self.ovp_v:g} is above {self.most_ovp_v:g}, {OVP_SHARE:g} times supply.limits.voltage_v "
                f"{self.limits.voltage_v:g}: lower it, or give supply.limits.ovp_v",
                "ovp_v",
            )
        if self.sense == "local" and self.lead_resistance_ohm is None:
            raise _MisplacedError(
                "local needs supply.lead_resistance_ohm (and supply.lead_resistance_u_ohm): add it", "sense"
            )
        if self.ovp_v <= self.voltage_v:
            raise _MisplacedError(
                f"{self.ovp_v:g} would trip at supply.voltage_v {self.voltage_v:g}: raise it", "ovp_v"
            )
        return self


class ProbeFacts(_Facts):
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
            raise _MisplacedError(
                f"{self.range_v_per_a:g} is not a range of the 1146B: write 0.1 or 0.01", "range_v_per_a"
            )
        return self


class CurrentWiring(_Facts):
    """The channel that sees the clamp, and the span of current that it must show."""

    channel: Annotated[int, Field(ge=1, le=4)]
    low_a: Signed
    high_a: Signed


class VoltageWiring(_Facts):
    """The channel that sees the board's supply voltage."""

    channel: Annotated[int, Field(ge=1, le=4)]
    probe_ratio: Positive = 10.0
    low_v: Signed
    high_v: Signed


class DigitalWiring(_Facts):
    """A marker line on a digital input of POD1."""

    digital: Annotated[int, Field(ge=0, le=7)]


class Wiring(_Facts):
    """Which line of the board ends on which input of the oscilloscope."""

    current: CurrentWiring
    voltage: VoltageWiring
    gate: DigitalWiring = DigitalWiring(digital=0)
    batch: DigitalWiring = DigitalWiring(digital=1)
    marker_threshold_v: Annotated[float, Field(ge=-8, le=8)] = 1.4

    @model_validator(mode="after")
    def _distinct(self) -> Wiring:
        if self.current.channel == self.voltage.channel:
            raise _MisplacedError(
                f"{self.voltage.channel} is wiring.current.channel too, and both cannot be on the same channel: "
                "each needs its own",
                "voltage",
                "channel",
            )
        if self.gate.digital == self.batch.digital:
            at, other = ("batch", "gate") if "batch" in self.model_fields_set else ("gate", "batch")
            raise _MisplacedError(
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
                raise _MisplacedError(
                    f"the span from here to wiring.{name}.{other}_{unit} {value:g} must include 0 with some room "
                    f"below, where the zero is taken: {'raise' if wrong == 'high' else 'lower'} it",
                    name,
                    f"{wrong}_{unit}",
                )
        return self


class DutFacts(_Facts):
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
                raise _MisplacedError(f"dut.simulated: {self.simulated} is a whole board: delete {keys}", given[0])
        return self


MODEL_NAMES = {"tx1": "simulated Jetson TX1 (model)", "counter": "simulated counter-example board (model)"}
"""What the models of `dut.simulated` are called where lab.yaml gives no name."""

BOARD_CURRENTS = ("idle_a", "active_a", "launch_a", "tail_a")
"""Physics that a model of `dut.simulated` sets itself."""


class PortFacts(_Facts):
    """TCP ports of the simulated bench; 0 takes any free one."""

    socket: Annotated[int, Field(ge=0, le=65535)] = 0
    prologix: Annotated[int, Field(ge=0, le=65535)] = 0
    vxi11: Annotated[int, Field(ge=0, le=65535)] = 0
    hislip: Annotated[int, Field(ge=0, le=65535)] = 0
    portmapper: Annotated[int, Field(ge=0, le=65535)] | None = None
    """Where clients find VXI-11 that are told no port; 111 is the well-known one. None: nowhere."""


class SimulatedScopeFacts(_Facts):
    """Identity and options of the simulated oscilloscope; its inputs follow the model (2000 X, 3000 X and 3000T X)."""

    vendor: Text = "AGILENT TECHNOLOGIES"
    model: Text = "MSO-X 2024A"
    serial: Text = "MY00000001"
    firmware: Text = "02.65.2021102830"
    memory_points: Literal[100_000, 1_000_000, 2_000_000, 4_000_000] = 1_000_000


class SimulatedSupplyFacts(_Facts):
    """Identity of the simulated supply; the family answers 0 as its serial."""

    vendor: Text = "Agilent Technologies"
    model: Text = "E3645A"
    serial: Text = "0"
    firmware: Text = "1.4-5.0-1.0"


class WorldFacts(_Facts):
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
    probe_gain_change: list[Annotated[list[float], Field(min_length=2, max_length=2)]] = []
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


class SimulationFacts(_Facts):
    """The simulated bench that `sim:` resources stand for."""

    seed: Annotated[int, Field(ge=0, lt=2**63)] = 1
    host: Literal["127.0.0.1", "localhost"] = "127.0.0.1"
    state_dir: Text | None = None
    ports: PortFacts = PortFacts()
    scope: SimulatedScopeFacts = SimulatedScopeFacts()
    supply: SimulatedSupplyFacts = SimulatedSupplyFacts()
    world: WorldFacts = WorldFacts()
    faults: FaultFacts = FaultFacts()


class Lab(_Facts):
    """One bench."""

    bench: Text
    visa: Text = "@py"
    scope: ScopeFacts
    supply: SupplyFacts
    probe: ProbeFacts
    wiring: Wiring
    dut: DutFacts
    calibrations: Text | None = None
    """Folder of calibration records, of which those that fit are used; its path counts from where lab.yaml is."""
    simulation: SimulationFacts | None = None

    @model_validator(mode="after")
    def _voltage_shown(self) -> Lab:
        span = self.wiring.voltage
        if self.supply.voltage_v >= span.high_v:
            raise _MisplacedError(
                f"{span.high_v:g} hides supply.voltage_v {self.supply.voltage_v:g}: raise it",
                "wiring",
                "voltage",
                "high_v",
            )
        return self

    @model_validator(mode="after")
    def _known_transports(self) -> Lab:
        for name, facts in (("scope", self.scope), ("supply", self.supply)):
            for resource in facts.resource:
                transport = resource.removeprefix("sim:")
                if transport != resource and (transport not in TRANSPORTS[name] or len(facts.resource) > 1):
                    known = " or ".join(f"sim:{t}" for t in TRANSPORTS[name])
                    raise _MisplacedError(
                        f"{resource!r} stands for nothing here: write {known}, alone", name, "resource"
                    )
        return self

    @model_validator(mode="after")
    def _simulation_present(self) -> Lab:
        if self.simulation is None:
            for name, facts in (("scope", self.scope), ("supply", self.supply)):
                if any(r.startswith("sim:") for r in facts.resource):
                    raise _MisplacedError("is simulated but there is no `simulation:` section", name, "resource")
            if self.dut.marker == "simulated":
                raise _MisplacedError("is simulated but there is no `simulation:` section", "dut", "marker")
            if self.dut.simulated is not None:
                raise _MisplacedError("needs a `simulation:` section and simulated instruments", "dut", "simulated")
        elif self.dut.simulated is not None:
            for name, facts in (("scope", self.scope), ("supply", self.supply)):
                if not any(r.startswith("sim:") for r in facts.resource) and not self.simulation.state_dir:
                    raise _MisplacedError("a simulated board needs sim:TRANSPORT here", name, "resource")
            for key in BOARD_CURRENTS:
                if key in self.simulation.world.model_fields_set:
                    raise _MisplacedError("a simulated board sets it itself: delete it", "simulation", "world", key)
        elif not self.simulation.state_dir and self.dut.marker != "simulated":
            resources = [*self.scope.resource, *self.supply.resource]
            if not any(r.startswith("sim:") for r in resources):
                raise _MisplacedError(
                    "nothing of this bench is simulated, and its results would be called so: delete it", "simulation"
                )
        return self


def load(path: str | Path) -> Lab:
    """Read and check a lab.yaml.

    Raises ConfigError that lists every mistake as `file:line: key: what is wrong`.
    """
    return parse(read_text(path), name=str(path))


def load_faults(path: str | Path) -> FaultFacts:
    """Read and check a file of what goes wrong at a simulated bench. Raises ConfigError as `load` does."""
    return parse_faults(read_text(path, "a file of faults with --faults FILE"), name=str(path))


def parse_faults(text: str, name: str = "faults.yaml") -> FaultFacts:
    """Check the text of such a file; `name` stands before the line in every complaint."""
    return checked(FaultFacts, text, name)


def read_text(path: str | Path, instead: str = "a bench file with --lab FILE") -> str:
    """Read the text of a lab.yaml; raises ConfigError that names the file, and what to name instead."""
    try:
        with Path(path).open(encoding="utf-8") as file:
            return file.read(MAX_BYTES + 1)
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read ({error.strerror}); name {instead}") from error
    except UnicodeDecodeError as error:
        raise ConfigError(f"{path}: is not UTF-8 text ({error.reason} at byte {error.start})") from error


def parse(text: str, name: str = "lab.yaml") -> Lab:
    """Check the text of a lab.yaml; `name` stands before the line in every complaint."""
    return checked(Lab, text, name)


_Model = TypeVar("_Model", bound=BaseModel)


def checked(model: type[_Model], text: str, name: str) -> _Model:
    """Check a text of YAML against a model; raises ConfigError that lists every mistake with its line."""
    if len(text) > MAX_BYTES:
        raise ConfigError(f"{name}: has more than {MAX_BYTES} characters, as no bench file has: name another")
    try:
        tree = YAML(typ="rt").load(text)
        plain = _plain(tree, [MAX_NODES])
    except MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        line = mark.line + 1 if mark else 1
        raise ConfigError(f"{name}:{line}: is not valid YAML: {error.problem or error.context}") from error
    except (YAMLError, ValueError, ArithmeticError, RecursionError) as error:
        first = (str(error).splitlines() or [type(error).__name__])[0][:200]
        raise ConfigError(f"{name}: is not valid YAML: {first}") from error
    if not isinstance(tree, dict):
        raise ConfigError(f"{name}:1: a mapping with {', '.join(list(model.model_fields)[:4])}, ... was expected")
    try:
        return model.model_validate(plain)
    except ValidationError as error:
        errors = error.errors()
        meant = {(*e["loc"][:-1], _nearest(model, e["loc"])) for e in errors if e["type"] == "extra_forbidden"}
        errors = [e for e in errors if not (e["type"] == "missing" and e["loc"] in meant)]
        complaints = {_complaint(model, name, tree, e) for e in errors}
        raise ConfigError("\n".join(text for _, text in sorted(complaints))) from None


def _plain(node: Any, left: list[int]) -> Any:
    """Strip ruamel's wrappers: strict types accept plain ones alone. `left` counts down against alias bombs."""
    left[0] -= 1
    if left[0] < 0:
        raise ValueError(f"more than {MAX_NODES} entries, aliases counted each time")
    if isinstance(node, dict):
        return {str(k): _plain(v, left) for k, v in node.items()}
    if isinstance(node, list):
        return [_plain(v, left) for v in node]
    if isinstance(node, bool) or node is None:
        return node
    for plain in (int, float, str):
        if isinstance(node, plain):
            return plain(node)
    return node


def _complaint(model: type[BaseModel], name: str, tree: Any, error: Any) -> tuple[int, str]:
    path = [p for p in error["loc"] if not (isinstance(p, str) and p.startswith("function-"))]
    path += getattr(error.get("ctx", {}).get("error"), "path", ())
    line = _line_of(tree, path)
    key = ".".join(str(p) for p in path) or "(top level)"
    message = str(error["msg"]).removeprefix("Value error, ")
    if error["type"] == "extra_forbidden":
        near = _nearest(model, path)
        hint = f"did you mean {near}?" if near else "known keys: " + ", ".join(_known_keys(model, path[:-1]))
        message = f"unknown key, {hint}"
    elif error["type"] == "missing":
        message = "is missing; add it here"
    elif error["type"] not in ("value_error",):
        message = f"{message[0].lower()}{message[1:]}, got {repr(error['input'])[:80]}"
        if error["type"] == "string_type" and isinstance(error["input"], int | float):
            message += "; put it in quotes"
        elif error["type"] in ("float_type", "int_type") and isinstance(error["input"], str):
            message += _as_a_number(str(path[-1]), error["input"], whole=error["type"] == "int_type")
    return line, f"{name}:{line}: {key}: {message}"


_UNITS = {"v": "V", "a": "A", "s": "s", "hz": "Hz", "ohm": "Ω", "c": "°C", "a2s": "A²s"}
"""Units by the ending of a key's name."""

_PREFIXES = {"": 1.0, "n": 1e-9, "u": 1e-6, "µ": 1e-6, "m": 1e-3, "k": 1e3, "M": 1e6}


def _as_a_number(key: str, text: str, *, whole: bool) -> str:
    """What to write instead of a number that came as text, with its unit perhaps; empty where nobody can tell.

    A comma before three digits may stand between thousands or for a decimal point; `whole` numbers have no fraction.
    """
    found = re.fullmatch(r"([-+]?\d*[.,]?\d+(?:[eE][-+]?\d+)?)\s*([^\s\d]*)", text.strip())
    if found is None or re.search(r",\d{3}(?!\d)", found[1]):
        return ""
    number, unit = float(found[1].replace(",", ".")), found[2]
    if whole and not number.is_integer():
        return ""
    in_name = _unit_in(key)
    if not unit:
        return f"; write {number:.12g}, without quotes" if "," not in found[1] else f"; write {number:.12g}"
    if in_name:
        spelt = unit.replace("Ohm", "Ω").replace("ohm", "Ω").replace("\u2126", "Ω")  # its sign is another letter
        if spelt.endswith(in_name) and (factor := _PREFIXES.get(spelt.removesuffix(in_name))):
            return f"; write {number * factor:.12g}, the unit is in the key's name"
        return f"; a number in {in_name} is expected, without its unit"
    if unit == "%" and not whole:
        return f"; write {number / 100:.12g}, a share"
    return f"; write {number:.12g} alone" if unit in key.split("_") else ""


def _unit_in(key: str) -> str:
    """The unit at the end of a key's name, as V/A of range_v_per_a; empty without one."""
    words = key.split("_")
    over = words[-3:-1] if words[-2:-1] == ["per"] else []
    units = [_UNITS.get(word, "") for word in (*over[:1], words[-1])]
    return "/".join(units) if len(words) > 1 and all(units) else ""


def _line_of(tree: Any, path: list[Any]) -> int:
    """One-based line of a key, or of its nearest parent that is in the file."""
    line = 1
    node: Any = tree
    for part in path:
        marks: Any = getattr(node, "lc", None)
        try:
            if isinstance(node, dict):
                line = marks.key(part)[0] + 1
            elif isinstance(node, list):
                line = marks.item(part)[0] + 1
            node = node[part]
        except (AttributeError, KeyError, IndexError, TypeError):
            break
    return line


def _nearest(model: type[BaseModel], path: Sequence[Any]) -> str | None:
    """The known key that an unknown one resembles, if any."""
    near = difflib.get_close_matches(str(path[-1]), _known_keys(model, path[:-1]), 1, 0.5)
    return near[0] if near else None


def _known_keys(top: type[BaseModel], path: Sequence[Any]) -> list[str]:
    model: Any = top
    for part in path:
        if isinstance(part, int):
            continue
        field = model.model_fields.get(part)
        if field is None:
            return []
        model = field.annotation
        for choice in getattr(model, "__args__", ()):
            if isinstance(choice, type) and issubclass(choice, BaseModel):
                model = choice
        if not (isinstance(model, type) and issubclass(model, BaseModel)):
            return []
    return list(model.model_fields)
