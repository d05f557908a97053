"""Settings of the oscilloscope as frozen values, with the commands that set and read them.

Pure. Sources: PG2000 (names of the commands), p.249 and 415 (thresholds), p.631 (averaging).
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from instruments import scpi
from instruments.errors import ConfigError, LimitError

#: V/div steps at 1:1, in volts (1-2-5 from 1 mV to 5 V; published for a 2012A, unconfirmed for the 2024A).
VOLTS_PER_DIVISION = tuple(m * 10.0**e for e in range(-3, 1) for m in (1.0, 2.0, 5.0))
DIVISIONS_VERTICAL = 8
DIVISIONS_HORIZONTAL = 10
#: Probe ratios that are let through (0.1 to 10000 on a sister series; unconfirmed for the 2024A).
PROBE_RATIOS = (0.01, 10000.0)
HOLDOFF_S = (40e-9, 10.0)
THRESHOLD_V = (-8.0, 8.0)

_SOURCE = re.compile(r"(?:(CHAN)(?:NEL)?([1-4])|(DIG)(?:ITAL)?([0-7])|(POD)(1))\Z")


def source_name(text: str) -> str:
    """Give the short name of a source: ``CHAN1`` to ``CHAN4``, ``DIG0`` to ``DIG7``, ``POD1``.

    Raises ConfigError for others: the 2000 X has no POD2 and never answers about D8 and up.
    """
    match = _SOURCE.match(text.strip().upper())
    if match is None:
        raise ConfigError(f"source {text!r}: CHAN1 to CHAN4, DIG0 to DIG7 or POD1 is expected")
    return "".join(part for part in match.groups() if part)


def source_command(name: str) -> str:
    """Give the form of a source that commands take: ``CHANnel1``, ``DIGital0``, ``POD1``."""
    name = source_name(name)
    return name.replace("CHAN", "CHANnel").replace("DIG", "DIGital")


def join(commands: Sequence[str]) -> str:
    """Join commands that all start at the root into one message (PG2000 p.795: ``;:``)."""
    return ";".join(commands)


def next_full_scale(at_least: float, probe_ratio: float = 1.0) -> float:
    """Give the smallest full scale (8 divisions, in the channel's unit) of 1-2-5 steps that holds a span.

    Raises LimitError when even 5 V/div is too small.
    """
    for step in VOLTS_PER_DIVISION:
        full_scale = step * DIVISIONS_VERTICAL * probe_ratio
        if full_scale >= at_least * (1 - 1e-9):
            return float(f"{full_scale:.6g}")
    largest = VOLTS_PER_DIVISION[-1] * DIVISIONS_VERTICAL * probe_ratio
    raise LimitError(f"a span of {at_least:g} is beyond the largest full scale of {largest:g} at this probe ratio")


@dataclass(frozen=True)
class ChannelSettings:
    """One analogue channel. ``full_scale`` and ``offset`` are in its unit, ``V`` or ``A``, probe included.

    ``full_scale`` is 8 divisions, ``offset`` the value at mid-screen. ``label`` None leaves it as it is.
    """

    full_scale: float
    offset: float = 0.0
    units: Literal["V", "A"] = "V"
    probe_ratio: float = 1.0
    coupling: Literal["DC", "AC"] = "DC"
    bandwidth_limit: bool = True
    invert: bool = False
    display: bool = True
    label: str | None = None

    def __post_init__(self) -> None:
        if not self.full_scale > 0:
            raise LimitError(f"a channel's full scale of {self.full_scale!r} {self.units} is not positive")
        if not PROBE_RATIOS[0] <= self.probe_ratio <= PROBE_RATIOS[1]:
            raise LimitError(f"probe ratio {self.probe_ratio!r}: {PROBE_RATIOS[0]} to {PROBE_RATIOS[1]} is allowed")
        at_bnc = self.full_scale / self.probe_ratio / DIVISIONS_VERTICAL
        low, high = VOLTS_PER_DIVISION[0], VOLTS_PER_DIVISION[-1]
        if not low * 0.999 <= at_bnc <= high * 1.001:
            raise LimitError(
                f"full scale {self.full_scale:g} {self.units} is {at_bnc:g} V/div at the input; {low:g} to {high:g} "
                f"V/div is possible, that is {low * 8 * self.probe_ratio:g} to {high * 8 * self.probe_ratio:g} "
                f"{self.units} at probe ratio {self.probe_ratio:g}"
            )
        if self.label is not None and (len(self.label) > 10 or not self.label.isascii()):
            raise ConfigError(f"label {self.label!r}: at most 10 ASCII characters are shown")

    def commands(self, number: int) -> str:
        """Give one message; PROBe before RANGe and OFFSet, since it rescales both."""
        root = f":CHANnel{number}"
        parts = [
            f"{root}:DISPlay {int(self.display)}",
            f"{root}:UNITs {'AMPere' if self.units == 'A' else 'VOLT'}",
            f"{root}:PROBe {scpi.format_number(self.probe_ratio)}",
            f"{root}:COUPling {self.coupling}",
            f"{root}:BWLimit {int(self.bandwidth_limit)}",
            f"{root}:INVert {int(self.invert)}",
            f"{root}:RANGe {scpi.format_number(self.full_scale)}",
            f"{root}:OFFSet {scpi.format_number(self.offset)}",
        ]
        if self.label is not None:
            parts.append(f"{root}:LABel {scpi.quote(self.label)}")
        return join(parts)

    @staticmethod
    def queries(number: int) -> list[str]:
        """Give the queries of all settings, in the order of ``commands`` without the label."""
        names = ("DISPlay", "UNITs", "PROBe", "COUPling", "BWLimit", "INVert", "RANGe", "OFFSet")
        return [f":CHANnel{number}:{name}?" for name in names]


@dataclass(frozen=True)
class DigitalSettings:
    """The digital lines that are on (POD1, D0 to D7) and the one threshold of the pod, in volts."""

    bits: tuple[int, ...]
    threshold_v: float = 1.65

    def __post_init__(self) -> None:
        if not self.bits or not set(self.bits) <= set(range(8)):
            raise ConfigError(f"digital bits {self.bits!r}: at least one of 0 to 7 is expected, there is no POD2")
        if not THRESHOLD_V[0] <= self.threshold_v <= THRESHOLD_V[1]:
            raise LimitError(
                f"threshold {self.threshold_v!r} V: {THRESHOLD_V[0]:g} to {THRESHOLD_V[1]:g} V is possible"
            )


@dataclass(frozen=True)
class TimebaseSettings:
    """The window: ``range_s`` is 10 divisions; ``position_s`` the reference point after the trigger."""

    range_s: float
    reference: Literal["LEFT", "CENTer", "RIGHt"] = "LEFT"
    position_s: float = 0.0

    def __post_init__(self) -> None:
        if not 50e-9 <= self.range_s <= 500.0:
            raise LimitError(f"time range {self.range_s!r} s: 50 ns to 500 s (5 ns to 50 s per division) is possible")


@dataclass(frozen=True)
class AcquisitionSettings:
    """How samples are made: HRES averages within one sample's time, which an energy integral wants."""

    type: Literal["NORMal", "AVERage", "HRESolution", "PEAK"] = "HRESolution"
    count: int | None = None

    def __post_init__(self) -> None:
        if (self.count is not None) != (self.type == "AVERage"):
            raise ConfigError("a count belongs to type AVERage, and AVERage needs one")
        if self.count is not None and not 1 <= self.count <= 65536:
            raise LimitError(f"average count {self.count}: 1 to 65536 is possible")


@dataclass(frozen=True)
class EdgeTrigger:
    """An edge of one source. A digital source has no level of its own: the pod's threshold applies.

    ``level_v`` is in the channel's unit. None leaves a setting as it is. With sweep AUTO the scope
    triggers by itself when nothing comes.
    """

    source: str = "DIG0"
    slope: Literal["POS", "NEG", "EITH", "ALT"] = "POS"
    level_v: float | None = None
    coupling: Literal["AC", "DC", "LFR"] | None = None
    holdoff_s: float | None = None
    noise_reject: bool | None = None
    hf_reject: bool | None = None
    sweep: Literal["NORM", "AUTO"] = "NORM"

    def __post_init__(self) -> None:
        name = source_name(self.source)
        if name == "POD1":
            raise ConfigError("a trigger needs one line: DIG0 to DIG7 instead of POD1")
        digital = name.startswith("DIG")
        if digital and (self.level_v is not None or self.coupling is not None):
            raise ConfigError(f"{name} has no trigger level or coupling; set the pod's threshold")
        if not digital and self.level_v is None:
            raise ConfigError(f"a trigger on {name} needs a level")
        if self.holdoff_s is not None and not HOLDOFF_S[0] <= self.holdoff_s <= HOLDOFF_S[1]:
            raise LimitError(f"trigger hold-off {self.holdoff_s!r} s: 40 ns to 10 s is possible")

    def commands(self) -> str:
        """Give one message."""
        source = source_command(self.source)
        parts = [
            ":TRIGger:MODE EDGE",
            f":TRIGger:SWEep {'NORMal' if self.sweep == 'NORM' else 'AUTO'}",
            f":TRIGger:EDGE:SOURce {source}",
            f":TRIGger:EDGE:SLOPe {_SLOPES[self.slope]}",
        ]
        if self.coupling is not None:
            parts.append(f":TRIGger:EDGE:COUPling {'LFReject' if self.coupling == 'LFR' else self.coupling}")
        if self.level_v is not None:
            parts.append(f":TRIGger:EDGE:LEVel {scpi.format_number(self.level_v)},{source}")
        if self.holdoff_s is not None:
            parts.append(f":TRIGger:HOLDoff {scpi.format_number(self.holdoff_s)}")
        if self.noise_reject is not None:
            parts.append(f":TRIGger:NREJect {int(self.noise_reject)}")
        if self.hf_reject is not None:
            parts.append(f":TRIGger:HFReject {int(self.hf_reject)}")
        return join(parts)

    def queries(self) -> list[str]:
        """Give the queries of mode, sweep, source and slope, then of the level and hold-off if set."""
        found = [":TRIGger:MODE?", ":TRIGger:SWEep?", ":TRIGger:EDGE:SOURce?", ":TRIGger:EDGE:SLOPe?"]
        if self.level_v is not None:
            found.append(f":TRIGger:EDGE:LEVel? {source_command(self.source)}")
        if self.holdoff_s is not None:
            found.append(":TRIGger:HOLDoff?")
        return found

    @property
    def slope_keyword(self) -> str:
        """Give the slope as a keyword in mixed case."""
        return _SLOPES[self.slope]


_SLOPES = {"POS": "POSitive", "NEG": "NEGative", "EITH": "EITHer", "ALT": "ALTernate"}
