"""Everything that can be set on the simulated oscilloscope, as plain data, and the learn string. Pure.

Vertical quantities are kept at the BNC; what is asked and answered is multiplied by the probe ratio, so that
changing PROBe rescales RANGe, SCALe, OFFSet and the trigger level as on the instrument.
"""

from __future__ import annotations

import copy
import datetime
import json
import zlib
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

from instruments.simulated.mso_models import Model
from instruments.simulated.scpi_errors import Refused

VERTICAL_DIVISIONS, HORIZONTAL_DIVISIONS = 8, 10
REFERENCE = {"LEFT": 0.1, "CENT": 0.5, "RIGH": 0.9}
"""Where the time reference stands, as a part of the screen's width (LEFT: one division from the left)."""


def nr3(value: float, digits: int = 5) -> str:
    """A number as the oscilloscope writes it."""
    return f"{value + 0.0:+.{digits}E}"


def round_to(value: float, digits: int = 3) -> float:
    """`value` with so many significant digits."""
    return float(f"{value:.{digits - 1}e}")


@dataclass(frozen=True)
class PanelQuirks:
    """How the front panel behaves where it differs between units or is not known."""

    out_of_range: Literal["refuse", "clip"] = "refuse"
    """A number out of range: -222 and the old value stays, or the limit is taken without an error."""
    vertical_steps: Literal["up", "exact"] = "up"
    """V/div without VERNier: the next 1-2-5 step that holds what was asked, or what was asked."""
    small_offset_v: float = 2.0
    large_offset_v: float = 50.0
    """Reach of the offset below 0.2 V/div, and from there on."""
    digital_level: Literal["refuse", "ignore"] = "refuse"
    """:TRIGger:LEVel of a digital line, which has none but the pod's threshold: -221, or nothing happens."""
    suffix_error: int = -113
    """Of a numeric suffix out of range, such as D8's on POD1; there is no answer in any case (PD3)."""
    picture: Literal["BMP", "PNG"] = "BMP"
    """What :DISPlay:DATA? gives when no format is named."""
    autoscale_s: float = 1.5
    date: datetime.datetime = datetime.datetime(2026, 1, 1)
    """What the clock says at power-on."""


@dataclass
class Channel:
    """One analogue channel; per division and offset at the BNC."""

    display: bool = False
    div_v: float = 5.0
    offset_v: float = 0.0
    coupling: str = "DC"
    bwlimit: bool = False
    probe: float = 1.0
    units: str = "VOLT"
    label: str = ""
    skew_s: float = 0.0
    invert: bool = False
    vernier: bool = False
    head: str = "SING"

    @property
    def range(self) -> float:
        """Full scale in the probe's units."""
        return VERTICAL_DIVISIONS * self.div_v * self.probe


@dataclass
class Digital:
    """A pod: display per line and one threshold for all (PG2000 p.249)."""

    display: list[bool] = field(default_factory=lambda: [False] * 8)
    threshold_v: float = 1.4
    labels: list[str] = field(default_factory=lambda: [f"D{k}" for k in range(8)])
    positions: list[int] = field(default_factory=lambda: list(range(8)))
    size: str = "MED"

    @property
    def on(self) -> bool:
        """Whether any line is displayed."""
        return any(self.display)


@dataclass
class Timebase:
    """Horizontal settings."""

    mode: str = "MAIN"
    range_s: float = 1e-3
    position_s: float = 0.0
    reference: str = "CENT"

    @property
    def window_s(self) -> tuple[float, float]:
        """First and last instant on the screen, relative to the trigger."""
        start = self.position_s - REFERENCE[self.reference] * self.range_s
        return start, start + self.range_s


@dataclass
class Trigger:
    """Trigger; levels at the BNC per channel."""

    mode: str = "EDGE"
    sweep: str = "AUTO"
    holdoff_s: float = 4e-8
    source: str = "CHAN1"
    slope: str = "POS"
    coupling: str = "DC"
    reject: str = "OFF"
    levels_v: dict[str, float] = field(default_factory=lambda: {f"CHAN{n}": 0.0 for n in range(1, 5)})
    ext_level_v: float = 0.0
    noise_reject: bool = False
    glitch_source: str = "CHAN1"
    glitch_polarity: str = "POS"
    glitch_qualifier: str = "LESS"
    glitch_less_s: float = 15e-9
    glitch_greater_s: float = 10e-9
    glitch_from_s: float = 10e-9
    glitch_to_s: float = 15e-9


@dataclass
class Acquire:
    """Acquisition mode."""

    type: str = "NORM"
    count: int = 8
    mode: str = "RTIM"
    segments: int = 10
    complete: int = 100


@dataclass
class Waveform:
    """Transfer settings; *RST values as in PG3000 p.966."""

    source: str = "CHAN1"
    format: str = "BYTE"
    byte_order: str = "MSBF"
    unsigned: bool = True
    points: int | None = 1000
    """As asked; None is MAXimum."""
    mode: str = "NORM"
    view: str = "MAIN"


@dataclass
class Settings:
    """The whole front panel."""

    channels: dict[str, Channel] = field(
        default_factory=lambda: {f"CHAN{n}": Channel(display=n == 1, label=str(n)) for n in range(1, 5)}
    )
    digital: Digital = field(default_factory=Digital)
    """POD1."""
    digital2: Digital = field(default_factory=lambda: Digital(labels=[f"D{k}" for k in range(8, 16)]))
    """POD2, of the 3000 X."""
    timebase: Timebase = field(default_factory=Timebase)
    trigger: Trigger = field(default_factory=Trigger)
    acquire: Acquire = field(default_factory=Acquire)
    waveform: Waveform = field(default_factory=Waveform)
    message: str = ""
    kept: dict[str, str] = field(default_factory=dict)
    """What is set and answered and changes nothing else (`mso_kept`)."""

    @classmethod
    def fresh(cls, model: Model) -> Settings:
        """What *RST leaves on a model."""
        settings = cls()
        for number in range(model.analog + 1, 5):
            del settings.channels[f"CHAN{number}"]
        return settings

    def pod(self, name: str) -> Digital:
        """Settings of POD1 or POD2."""
        return self.digital2 if name == "POD2" else self.digital

    def line(self, number: int) -> tuple[Digital, int]:
        """The pod of D<number>, and its place there."""
        return (self.digital if number < 8 else self.digital2), number % 8

    def shows(self, source: str) -> bool:
        """Whether a channel or pod (short name) is displayed."""
        return self.pod(source).on if source.startswith("POD") else self.channels[source].display

    @property
    def paired(self) -> bool:
        """Whether both channels of a pair are displayed."""
        shown = {name for name, channel in self.channels.items() if channel.display}
        return {"CHAN1", "CHAN2"} <= shown or {"CHAN3", "CHAN4"} <= shown

    def copy(self) -> Settings:
        """A copy that later changes do not touch."""
        return copy.deepcopy(self)


_MAGIC = b"MSOX\n\x00\x01\r\n"


def to_learn_string(settings: Settings) -> bytes:
    """Binary setup as :SYSTem:SETup? carries it: opaque, checksummed, with line feeds inside."""
    packed = zlib.compress(json.dumps(asdict(settings), sort_keys=True).encode("ascii"))
    check = zlib.crc32(packed).to_bytes(4, "big")
    return _MAGIC + len(packed).to_bytes(4, "big") + packed + check + b"\n\x00\n"


def from_learn_string(data: bytes, model: Model) -> Settings:
    """Read a setup back; -230 if it is not one of this model's, whole."""
    start = len(_MAGIC) + 4
    length = int.from_bytes(data[len(_MAGIC) : start], "big")
    packed = data[start : start + length]
    if not data.startswith(_MAGIC) or int.from_bytes(data[start + length : start + length + 4], "big") != (
        zlib.crc32(packed)
    ):
        raise Refused(-230)
    tree: dict[str, Any] = json.loads(zlib.decompress(packed))
    if set(tree["channels"]) != set(Settings.fresh(model).channels):
        raise Refused(-230)
    return Settings(
        channels={name: Channel(**one) for name, one in tree["channels"].items()},
        digital=Digital(**tree["digital"]),
        digital2=Digital(**tree["digital2"]),
        timebase=Timebase(**tree["timebase"]),
        trigger=Trigger(**tree["trigger"]),
        acquire=Acquire(**tree["acquire"]),
        waveform=Waveform(**tree["waveform"]),
        message=tree["message"],
        kept=tree["kept"],
    )
