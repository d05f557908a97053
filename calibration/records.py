"""Calibration records: one YAML file for each calibration event, strict types, conversion to corrections.

A record says what was found, against what, on which instruments and settings, how sure, how long and in which range
it holds, and where the raw data are. It is written once and never edited. Pure but for `load` and `save`.
"""

from __future__ import annotations

import hashlib
import io
import math
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, model_validator
from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError
from ruamel.yaml.scalarstring import DoubleQuotedScalarString

from calibration.model import Calibration, Channel, Delay, Gain, Noise, Offset, ZeroPoint
from instruments.errors import ConfigError
from instruments.lab import NonNegative, Positive, Signed, Text, checked, read_text
from instruments.whole_file import write_once


class _Facts(BaseModel):
    model_config = ConfigDict(strict=True, extra="forbid", frozen=True, allow_inf_nan=False)


def _instant(value: Any) -> Any:
    """Take a date with or without time, as YAML or as text; without a zone it is UTC."""
    if isinstance(value, str):
        try:
            value = datetime.fromisoformat(value)
        except ValueError:
            raise ValueError(f'{value!r} is no date: write "2026-11-21" or "2026-11-21T10:30:00Z"') from None
    if isinstance(value, date) and not isinstance(value, datetime):
        value = datetime(value.year, value.month, value.day)
    if isinstance(value, datetime):
        zoned = value if value.tzinfo is not None else value.replace(tzinfo=UTC)
        return datetime.fromtimestamp(zoned.timestamp(), UTC)
    return value


Instant = Annotated[datetime, BeforeValidator(_instant)]
Sha256 = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
Share = Annotated[float, Field(ge=0, lt=1)]
Count = Annotated[int, Field(ge=0)]


class Estimate(_Facts):
    """A value, its standard uncertainty in the same unit and the degrees of freedom behind that; without: infinite."""

    value: Signed
    u: NonNegative
    dof: Annotated[float, Field(ge=1)] | None = None

    @property
    def degrees(self) -> float:
        """Degrees of freedom as a number."""
        return math.inf if self.dof is None else self.dof


class Serials(_Facts):
    """Which instruments took part; those that did not are absent."""

    scope: Text | None = None
    probe: Text | None = None
    supply: Text | None = None


class Raw(_Facts):
    """The trace file with the captures: its name beside the record, and what its bytes must add up to."""

    file: Text
    sha256: Sha256


class Span(_Facts):
    """Where the correction may be used, in its channel's unit."""

    low: Signed
    high: Signed

    @model_validator(mode="after")
    def _ordered(self) -> Span:
        if not self.low < self.high:
            raise ValueError(f"low {self.low:g} is not below high {self.high:g}")
        return self


class Reference(_Facts):
    """What the channel was compared with: its limits are a share of the value and a constant of unknown sign.

    `resolution` is its step. Limits are those of the maker, in the channel's unit.
    """

    kind: Literal["read-back", "shunt"]
    relative_limit: Share
    offset_limit: NonNegative
    resolution: NonNegative = 0.0


class Point(_Facts):
    """One comparison: the channel's reading less its zero, the reference, and what the fit leaves; in its unit."""

    direction: Literal["up", "down"]
    reference: Signed
    u_reference: NonNegative
    reading: Signed
    u_reading: NonNegative
    residual: Signed


class _Event(_Facts):
    """What every calibration of this bench says of itself."""

    version: Literal[1] = 1
    made: Instant
    expires: Instant
    source: Literal["measured", "simulated"]
    bench: Text
    program: Text
    temperature_c: Annotated[float, Field(ge=-100, le=200)] | None = None
    serials: Serials
    notes: list[Text] = []
    raw: Raw | None = None

    @model_validator(mode="after")
    def _lasts(self) -> _Event:
        if self.expires <= self.made:
            raise ValueError(f"expires {stamp(self.expires)} is not after made {stamp(self.made)}")
        return self


def _plausible(gain: Estimate) -> Estimate:
    """What is further off is a range, turns or a ratio other than `setting` says."""
    if not 0.5 <= gain.value <= 2.0:
        raise ValueError(f"value {gain.value:g}: reading over truth is between 0.5 and 2 where the setting is right")
    return gain


ChannelGain = Annotated[Estimate, AfterValidator(_plausible)]


def _check_covariance(covariance: float | None, gain: Estimate, intercept: Estimate, name: str) -> None:
    most = gain.u * intercept.u
    if covariance is not None and abs(covariance) > most * (1 + 1e-9):
        raise ValueError(f"{name} {covariance:g}: no more than u of gain times u of intercept, {most:g}, either way")


class CurrentSetting(_Facts):
    """How clamp and channel were set: another range, other turns or another full scale have another gain."""

    channel: Annotated[int, Field(ge=1, le=4)]
    full_scale_a: Positive
    offset_a: Signed
    range_v_per_a: Positive
    turns: Annotated[int, Field(ge=1, le=100)]
    reversed: bool


class VoltageSetting(_Facts):
    """How the voltage's channel was set."""

    channel: Annotated[int, Field(ge=1, le=4)]
    full_scale_v: Positive
    offset_v: Signed
    probe_ratio: Positive


class ProbeRecord(_Event):
    """The current's channel, clamp and oscilloscope together.

    `gain` is reading over truth by a straight line through `points`, its u without the reference's limits;
    `stability` the relative limit of how far it may move until it expires, `intercept_a` what the line leaves at no
    current: the reference's own zero; `covariance_a` is that of both in the fit, absent in records of before it was
    kept. `linearity` limits the bow between 0 and `valid_a.high`, relative to the
    latter. `zero_a` and `drift_a` are of the session: later ones take a zero of their own.
    """

    kind: Literal["probe"] = "probe"
    setting: CurrentSetting
    reference: Reference
    gain: ChannelGain
    stability: Share
    intercept_a: Estimate
    covariance_a: Signed | None = None
    linearity: Share
    hysteresis_a: NonNegative
    zero_a: Estimate
    drift_a: Signed
    noise_a2s: NonNegative
    valid_a: Span
    points: Annotated[list[Point], Field(min_length=2)]

    @model_validator(mode="after")
    def _possible(self) -> ProbeRecord:
        _check_covariance(self.covariance_a, self.gain, self.intercept_a, "covariance_a")
        return self


class VoltageRecord(_Event):
    """The voltage's channel, and the leads between the supply's sense point and the board's terminals.

    Fields as in `ProbeRecord`; `lead_ohm` is absent where no current flowed.
    """

    kind: Literal["voltage"] = "voltage"
    setting: VoltageSetting
    reference: Reference
    gain: ChannelGain
    stability: Share
    intercept_v: Estimate
    covariance_v: Signed | None = None
    zero_v: Estimate
    noise_v2s: NonNegative
    sense: Literal["remote", "local"]
    lead_ohm: Estimate | None = None
    valid_v: Span
    points: Annotated[list[Point], Field(min_length=2)]

    @model_validator(mode="after")
    def _possible(self) -> VoltageRecord:
        _check_covariance(self.covariance_v, self.gain, self.intercept_v, "covariance_v")
        return self


class StartFrames(_Facts):
    """How many runs told their number on the batch line, and how many of these the record gave back."""

    sent: Count
    read: Count


class MarkerDelayRecord(_Event):
    """How much later an edge of the gate line is seen than the work that it marks begins or ends; below 0: earlier.

    `jitter_rise_s` and `jitter_fall_s` are standard deviations of one edge. `software_bound_s` limits by how much
    a mark by the clocks of board and bench alone is off: for a line that is not there.
    """

    kind: Literal["marker_delay"] = "marker_delay"
    dut: Text
    line: Text
    rise_s: Estimate
    fall_s: Estimate
    jitter_rise_s: NonNegative
    jitter_fall_s: NonNegative
    start_frames: StartFrames
    software_bound_s: NonNegative
    runs: Annotated[int, Field(ge=2)]

    def delay(self) -> Delay:
        """Give the correction of both edges."""
        return Delay(
            self.rise_s.value,
            self.fall_s.value,
            math.hypot(self.rise_s.u, self.fall_s.u) / math.sqrt(2.0),
            math.hypot(self.jitter_rise_s, self.jitter_fall_s) / math.sqrt(2.0),
            min(self.rise_s.degrees, self.fall_s.degrees),
        )


class Accuracy(_Facts):
    """One channel by its maker's specification: +-(share of reading + constant); noise, where it is said, as the
    variance of a mean times its duration (unit^2 s)."""

    relative_limit: Share
    offset_limit: NonNegative
    noise_density: NonNegative = 0.0
    valid: Span


class ChannelAccuracyRecord(_Facts):
    """What a maker promises of an instrument, for data that hold no zero and no comparison of ours.

    `made` is the specification's date, `specification` where it stands; `expires` may be left out. Without
    `voltage` the data's voltage is taken as given.
    """

    kind: Literal["channel_accuracy"] = "channel_accuracy"
    version: Literal[1] = 1
    made: Instant
    expires: Instant | None = None
    instrument: Text
    specification: Text
    serials: Serials = Serials()
    current: Accuracy
    voltage: Accuracy | None = None
    timebase_limit: Share = 5.0e-5
    notes: list[Text] = []

    def calibration(self, volts: float) -> Calibration:
        """Give corrections that change nothing and know as little as the maker promises.

        `volts` is the mean voltage of the data: there its constant limit counts as a share. Raises ConfigError when it
        lies outside the range.
        """
        v = self.voltage or Accuracy(relative_limit=0.0, offset_limit=0.0, valid=Span(low=-1e6, high=1e6))
        if not v.valid.low <= volts <= v.valid.high or volts == 0:
            raise ConfigError(
                f"channel_accuracy of {self.instrument}: {volts:g} V lies outside {v.valid.low:g} .. {v.valid.high:g} V"
            )
        source = f"specification of {self.instrument}"
        return Calibration(
            Channel("current", "A", _no_zero(0.0), _promised(self.current, self.current.relative_limit, source)),
            Channel(
                "voltage", "V", _no_zero(0.0), _promised(v, v.relative_limit + v.offset_limit / abs(volts), source)
            ),
            Noise(self.current.noise_density, v.noise_density, math.inf),
            self.current.offset_limit,
            self.timebase_limit,
            0.0,
        )


def _no_zero(u: float) -> Offset:
    return Offset((ZeroPoint(0.0, 0.0, u),), 0.0, 0.0)


def _promised(accuracy: Accuracy, limit: float, source: str) -> Gain:
    valid = accuracy.valid
    return Gain(1.0, limit / math.sqrt(3.0), 0.0, math.inf, math.inf, valid.low, valid.high, source)


Record = ProbeRecord | VoltageRecord | MarkerDelayRecord | ChannelAccuracyRecord

KINDS: dict[str, type[Record]] = {
    "probe": ProbeRecord,
    "voltage": VoltageRecord,
    "marker_delay": MarkerDelayRecord,
    "channel_accuracy": ChannelAccuracyRecord,
}


@dataclass(frozen=True)
class Filed:
    """A record with the name of its file and the very text of it, as it is copied into every trace that uses it."""

    name: str
    text: str
    record: Record

    @property
    def sha256(self) -> str:
        """Of the text."""
        return hashlib.sha256(self.text.encode("utf-8")).hexdigest()


def load(path: str | Path) -> Filed:
    """Read and check one record.

    Raises ConfigError that lists every mistake as `file:line: key: what is wrong`.
    """
    return parse(read_text(path, "a calibration record (.yaml)"), str(path))


def parse(text: str, name: str) -> Filed:
    """Check the text of a record; `name` stands before the line in every complaint, its last part is its name."""
    kind = _kind(text)
    if kind not in KINDS:
        said = "says no kind" if kind is None else f"kind {kind!r} is not known"
        line = next((n for n, row in enumerate(text.splitlines(), 1) if row.startswith("kind")), 1)
        raise ConfigError(f"{name}:{line}: {said}: a calibration record has kind: {', '.join(KINDS)}")
    model: Any = KINDS[kind]
    return Filed(Path(name).name, text, checked(model, text, name))


def _kind(text: str) -> str | None:
    """The kind that a text claims, None where it is no mapping; what else is wrong is found later."""
    try:
        tree = YAML(typ="safe", pure=True).load(text)
    except (YAMLError, ValueError, ArithmeticError, RecursionError):
        tree = {"kind": "probe"}  # any kind will do to be told the line
    kind = tree.get("kind") if isinstance(tree, dict) else None
    return None if kind is None else str(kind)


def load_folder(folder: str | Path) -> list[Filed]:
    """Read every record of a folder, oldest first.

    Raises ConfigError when it is no folder, or holds a .yaml that is no record.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise ConfigError(f"{folder}: is no folder of calibration records")
    found = [load(path) for path in sorted(folder.glob("*.yaml"))]
    return sorted(found, key=lambda filed: (filed.record.made, filed.name))


def save(record: Record, path: Path) -> Filed:
    """Write a record, whole or not at all; raises ConfigError when the file is there already or cannot be written."""
    text = text_of(record)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_once(path, text.encode("utf-8"))
    except FileExistsError as error:
        raise ConfigError(f"{path}: there is a record already, and none is ever edited: name another file") from error
    except OSError as error:
        raise ConfigError(f"{path}: cannot be written ({error.strerror}); name another place with --out") from error
    return Filed(path.name, text, record)


def text_of(record: Record) -> str:
    """Write a record as YAML."""
    yaml = YAML()
    yaml.default_flow_style = None
    yaml.width = 120
    tree = record.model_dump(exclude_none=True)
    first = {"kind": tree.pop("kind")}
    out = io.StringIO()
    yaml.dump(_quoted({**first, **tree}), out)
    return f"# One calibration event: written once, never edited.\n{out.getvalue()}"


def _quoted(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _quoted(v) for key, v in value.items()}
    if isinstance(value, list):
        return [_quoted(v) for v in value]
    if isinstance(value, datetime):
        return DoubleQuotedScalarString(stamp(value))
    return DoubleQuotedScalarString(value) if isinstance(value, str) else value


def stamp(when: datetime) -> str:
    """Write an instant as 2026-11-21T10:30:00Z."""
    return when.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def after(made: datetime, days: float) -> datetime:
    """The instant that many days later."""
    return made + timedelta(days=days)
