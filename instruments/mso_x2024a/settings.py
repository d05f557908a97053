"""Settings of the oscilloscope as frozen values, with the commands that set and read them; the trigger's apart.

Pure. Sources: PG2000 (names of the commands), p.249 and 415 (thresholds), p.631 (averaging).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from decimal import ROUND_DOWN, Decimal, localcontext
from typing import Literal

from instruments import scpi
from instruments.errors import ConfigError, LimitError

from .inputs import DIGITAL

#: V/div steps at 1:1, in volts (1-2-5 from 1 mV to 5 V; published for a 2012A, unconfirmed for the 2024A).
VOLTS_PER_DIVISION = tuple(m * 10.0**e for e in range(-3, 1) for m in (1.0, 2.0, 5.0))
DIVISIONS_VERTICAL = 8
DIVISIONS_HORIZONTAL = 10
#: Probe ratios that are let through (0.1 to 10000 on a sister series; unconfirmed for the 2024A).
PROBE_RATIOS = (0.01, 10000.0)
#: Delay of a probe that can be taken out, in seconds either way (family; unconfirmed for the 2024A).
SKEW_S = 100e-9
LABEL_LENGTH = 10
THRESHOLD_V = (-8.0, 8.0)
#: Named thresholds of a pod, in volts (PG2000 p.249, 415).
THRESHOLDS = {"TTL": 1.4, "CMOS": 2.5, "ECL": -1.3}
#: Where the time reference stands, as a share of the screen (LEFT and RIGHt: one division from the edge).
REFERENCE_SHARE = {"LEFT": 0.1, "CENTer": 0.5, "RIGHt": 0.9}
ACQUISITION_TYPES = ("NORMal", "AVERage", "HRESolution", "PEAK")


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
            # Never a hair more than the step's, which would ask for the next one.
            with localcontext(prec=6, rounding=ROUND_DOWN):
                return float(+Decimal(f"{full_scale:.12g}"))
    largest = VOLTS_PER_DIVISION[-1] * DIVISIONS_VERTICAL * probe_ratio
    raise LimitError(f"a span of {at_least:g} is beyond the largest full scale of {largest:g} at this probe ratio")


def one_of(what: str, value: object, known: Sequence[object]) -> None:
    """Raise ConfigError with the known values unless this is one of them."""
    if value not in known:
        raise ConfigError(f"{what} {value!r}: one of {', '.join(str(k) for k in known)} is expected")


@dataclass(frozen=True)
class ChannelSettings:
    """One analogue channel. ``full_scale`` and ``offset`` are in its unit, ``V`` or ``A``, probe included.

    ``full_scale`` is 8 divisions, ``offset`` the value at mid-screen; ``skew_s`` is the probe's delay that the
    scope takes out. ``label`` (shown in capitals) and ``skew_s`` None leave them as they are.
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
    skew_s: float | None = None

    def __post_init__(self) -> None:
        one_of("channel units", self.units, ("V", "A"))
        one_of("channel coupling", self.coupling, ("DC", "AC"))
        for name in ("display", "bandwidth_limit", "invert"):
            one_of(f"channel {name}", getattr(self, name), (True, False))
        if not math.isfinite(self.offset):
            raise LimitError(f"a channel's offset of {self.offset!r} {self.units} is no level")
        if not self.full_scale > 0:
            raise LimitError(f"a channel's full scale of {self.full_scale!r} {self.units} is not positive")
        if not PROBE_RATIOS[0] <= self.probe_ratio <= PROBE_RATIOS[1]:
            raise LimitError(f"probe ratio {self.probe_ratio!r}: {PROBE_RATIOS[0]} to {PROBE_RATIOS[1]} is allowed")
        at_bnc = self.scale / self.probe_ratio
        low, high = VOLTS_PER_DIVISION[0], VOLTS_PER_DIVISION[-1]
        if not low * 0.999 <= at_bnc <= high * 1.001:
            raise LimitError(
                f"full scale {self.full_scale:g} {self.units} is {at_bnc:g} V/div at the input; {low:g} to {high:g} "
                f"V/div is possible, that is {low * 8 * self.probe_ratio:g} to {high * 8 * self.probe_ratio:g} "
                f"{self.units} at probe ratio {self.probe_ratio:g}"
            )
        if self.skew_s is not None and not abs(self.skew_s) <= SKEW_S:
            raise LimitError(f"probe skew {self.skew_s!r} s: up to {SKEW_S:g} s either way is possible")
        if self.label is not None and (len(self.label) > LABEL_LENGTH or not self.label.isascii()):
            raise ConfigError(f"label {self.label!r}: at most {LABEL_LENGTH} ASCII characters are shown")

    @classmethod
    def per_division(cls, scale: float, **others: object) -> ChannelSettings:
        """Make settings from the value per division instead of the full scale."""
        return cls(DIVISIONS_VERTICAL * scale, **others)  # type: ignore[arg-type]

    @property
    def scale(self) -> float:
        """The value per division, in the channel's unit."""
        return self.full_scale / DIVISIONS_VERTICAL

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
        if self.skew_s is not None:
            parts.append(f"{root}:PROBe:SKEW {scpi.format_number(self.skew_s)}")
        if self.label is not None:
            parts.append(f"{root}:LABel {scpi.quote(self.label)}")
        return join(parts)

    @staticmethod
    def queries(number: int) -> list[str]:
        """Give the queries of what is always set, in the order of ``commands``."""
        names = ("DISPlay", "UNITs", "PROBe", "COUPling", "BWLimit", "INVert", "RANGe", "OFFSet")
        return [f":CHANnel{number}:{name}?" for name in names]

    @staticmethod
    def extra_queries(number: int) -> list[str]:
        """Give the queries of skew and label."""
        return [f":CHANnel{number}:PROBe:SKEW?", f":CHANnel{number}:LABel?"]


@dataclass(frozen=True)
class DigitalSettings:
    """The digital lines that are on, of as many as there are, and the one threshold of their pods, in volts."""

    bits: tuple[int, ...]
    threshold_v: float = 1.65
    available: int = DIGITAL

    def __post_init__(self) -> None:
        if not self.available:
            raise ConfigError("this model has no digital lines: an MSO has, or take a free analogue channel")
        if not self.bits or any(type(bit) is not int or bit not in range(self.available) for bit in self.bits):
            there = "there is no POD2" if self.available == DIGITAL else "POD1 is 0 to 7, POD2 is 8 to 15"
            raise ConfigError(
                f"digital bits {self.bits!r}: at least one of 0 to {self.available - 1} is expected, {there}"
            )
        if not THRESHOLD_V[0] <= self.threshold_v <= THRESHOLD_V[1]:
            raise LimitError(
                f"threshold {self.threshold_v!r} V: {THRESHOLD_V[0]:g} to {THRESHOLD_V[1]:g} V is possible"
            )


def threshold_of(level: float | str) -> float:
    """Give a threshold in volts from a number or a name; raises ConfigError for an unknown name."""
    if isinstance(level, str):
        one_of("threshold", level.upper(), tuple(THRESHOLDS))
        return THRESHOLDS[level.upper()]
    return level


@dataclass(frozen=True)
class TimebaseSettings:
    """The window: ``range_s`` is 10 divisions; ``position_s`` the reference point after the trigger."""

    range_s: float
    reference: Literal["LEFT", "CENTer", "RIGHt"] = "LEFT"
    position_s: float = 0.0

    def __post_init__(self) -> None:
        one_of("time reference", self.reference, tuple(REFERENCE_SHARE))
        if not 50e-9 <= self.range_s <= 500.0:
            raise LimitError(f"time range {self.range_s!r} s: 50 ns to 500 s (5 ns to 50 s per division) is possible")
        if not abs(self.position_s) <= 500.0:
            raise LimitError(f"time position {self.position_s!r} s: up to 500 s either way is possible")

    @property
    def before_s(self) -> float:
        """How much of the window lies before the trigger, in seconds."""
        share = REFERENCE_SHARE[self.reference]
        return min(max(share * self.range_s - self.position_s, 0.0), self.range_s)

    @property
    def after_s(self) -> float:
        """How much of the window lies after the trigger, in seconds; more than the window if that starts later."""
        return max((1 - REFERENCE_SHARE[self.reference]) * self.range_s + self.position_s, 0.0)


@dataclass(frozen=True)
class AcquisitionSettings:
    """How samples are made: HRES averages within one sample's time, which an energy integral wants."""

    type: Literal["NORMal", "AVERage", "HRESolution", "PEAK"] = "HRESolution"
    count: int | None = None

    def __post_init__(self) -> None:
        one_of("acquisition type", self.type, ACQUISITION_TYPES)
        if (self.count is not None) != (self.type == "AVERage"):
            raise ConfigError("a count belongs to type AVERage, and AVERage needs one")
        if self.count is not None and not 1 <= self.count <= 65536:
            raise LimitError(f"average count {self.count}: 1 to 65536 is possible")

    @classmethod
    def of(cls, type: str, count: int | None = None) -> AcquisitionSettings:
        """Make settings from a type in its short or long form; raises ConfigError for an unknown one."""
        for known in ACQUISITION_TYPES:
            if scpi.same_keyword(type, known):
                return cls(known, count)  # type: ignore[arg-type]
        raise ConfigError(f"acquisition type {type!r}: one of {', '.join(ACQUISITION_TYPES)} is expected")
