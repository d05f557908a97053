"""Waveform records: preamble, raw codes of one source, the records of one acquisition.

Pure: knows no link, clock or file. Number of points, sampling period and scaling come from the
preamble alone; codes stay as the instrument sent them and everything else is derived.
Sources: PG2000 p.632-633 (formulas, formats, holes), p.644 (preamble), 2024 ed. p.737 (clip codes).
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from functools import cached_property
from types import MappingProxyType
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from . import scpi
from .errors import CaptureError, ProtocolError

Codes = NDArray[np.uint8] | NDArray[np.uint16]
Units = Literal["V", "A", "bits"]

#: Preamble's format field (PG2000 p.644).
FORMAT_BYTE, FORMAT_WORD, FORMAT_ASCII = 0, 1, 4

_INTEGERS = frozenset({"format", "type", "points", "count"})
_POD_LINES = 8


@dataclass(frozen=True)
class Preamble:
    """The ten fields of ``:WAVeform:PREamble?`` (PG2000 p.644).

    value = (code - y_reference) * y_increment + y_origin, in the channel's unit;
    time = (index - x_reference) * x_increment_s + x_origin_s, trigger at 0 s.
    ``type`` is 0 NORM, 1 PEAK, 2 AVER; the code of HRES is documented inconsistently.
    """

    format: int
    type: int
    points: int
    count: int
    x_increment_s: float
    x_origin_s: float
    x_reference: float
    y_increment: float
    y_origin: float
    y_reference: float

    @classmethod
    def parse(cls, text: str) -> Preamble:
        """Read the answer to ``:WAVeform:PREamble?``; integers may come as NR3. Raises ProtocolError."""
        parts = text.split(",")
        names = [item.name for item in fields(cls)]
        if len(parts) != len(names):
            raise ProtocolError(
                f"expected a preamble of {len(names)} fields, got {len(parts)}",
                first_bytes=text[:40].encode("utf-8", "replace"),
            )
        values: dict[str, Any] = {}
        for name, part in zip(names, parts, strict=True):
            try:
                values[name] = scpi.parse_int(part) if name in _INTEGERS else scpi.parse_float(part)
            except ProtocolError as error:
                raise ProtocolError(f"preamble field {name}: {error.message}", first_bytes=error.first_bytes) from None
        if values["points"] < 0 or values["x_increment_s"] <= 0:
            raise ProtocolError(
                f"a preamble with {values['points']} points and a step of {values['x_increment_s']} s "
                "describes no record",
                first_bytes=text[:40].encode("utf-8", "replace"),
            )
        return cls(**values)

    def to_text(self) -> str:
        """Write the ten fields so that ``parse`` gives an equal preamble."""
        return ",".join(repr(getattr(self, item.name)) for item in fields(self))


def parse_preamble(text: str) -> Preamble:
    """Read the answer to ``:WAVeform:PREamble?``; the same as ``Preamble.parse``."""
    return Preamble.parse(text)


@dataclass(frozen=True, eq=False)
class Record:
    """The raw codes of one source in one acquisition.

    ``codes`` has shape (n,), dtype uint8 (BYTE, digital) or uint16 (WORD), unsigned and read-only.
    ``units`` is ``V`` or ``A`` for channels and ``bits`` for a pod (bit k = Dk, of POD2 D8+k).
    With peak detection (``pairs``) the codes are min, max, min, max ... and n is twice the points of
    the preamble (PG2000 p.632). ``settings`` keeps what the instrument said about the source.
    """

    source: str
    preamble: Preamble
    codes: Codes
    units: Units
    pairs: bool = False
    settings: Mapping[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.codes.dtype not in (np.uint8, np.uint16) or self.codes.ndim != 1:
            raise TypeError(f"codes must be one row of uint8 or uint16, not {self.codes.dtype} {self.codes.shape}")
        expected = self.preamble.points * (2 if self.pairs else 1)
        if len(self.codes) != expected:
            raise CaptureError(
                f"{self.source}: the preamble announces {expected} values, {len(self.codes)} came",
                reason="mismatch",
            )
        codes = self.codes.view()
        codes.flags.writeable = False
        object.__setattr__(self, "codes", codes)
        object.__setattr__(self, "settings", MappingProxyType(dict(self.settings)))

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Record):
            return NotImplemented
        same = (self.source, self.preamble, self.units, self.pairs) == (
            other.source,
            other.preamble,
            other.units,
            other.pairs,
        )
        return same and self.codes.dtype == other.codes.dtype and np.array_equal(self.codes, other.codes)

    __hash__ = None  # type: ignore[assignment]

    def __len__(self) -> int:
        return len(self.codes)

    @cached_property
    def span(self) -> tuple[int, int]:
        """Lowest and highest code; raises ValueError for a record without one."""
        return int(self.codes.min()), int(self.codes.max())

    @property
    def _step(self) -> int:
        return 0x100 if self.codes.dtype == np.uint16 else 1

    def holes(self) -> NDArray[np.bool_]:
        """Mark samples (n,) that were never acquired: code 0; never in digital records (PG2000 p.633)."""
        if self.units == "bits":
            return np.zeros(len(self.codes), dtype=np.bool_)
        return np.asarray(self.codes == 0)

    def clipped_low(self) -> NDArray[np.bool_]:
        """Mark samples (n,) below the range: WORD 0x0100, BYTE 0x01; anything lower is a hole."""
        if self.units == "bits":
            return np.zeros(len(self.codes), dtype=np.bool_)
        return np.asarray((self.codes <= self._step) & (self.codes != 0))

    def clipped_high(self) -> NDArray[np.bool_]:
        """Mark samples (n,) above the range: WORD 0xFF00 or more, BYTE 0xFF."""
        if self.units == "bits":
            return np.zeros(len(self.codes), dtype=np.bool_)
        return np.asarray(self.codes >= 0xFF * self._step)

    def clipped(self) -> NDArray[np.bool_]:
        """Mark samples (n,) outside the range of the converter, at either end."""
        return np.asarray(self.clipped_low() | self.clipped_high())

    def values(self) -> NDArray[np.float64]:
        """Give volts or amperes (n,); a hole is NaN, a clipped sample is the edge of the range.

        For a digital record the y fields of the preamble mean nothing: the codes come back as numbers.
        """
        values = self.codes.astype(np.float64)
        if self.units == "bits":
            return values
        p = self.preamble
        values -= p.y_reference
        values *= p.y_increment
        values += p.y_origin
        holes = self.codes == 0
        if holes.any():
            values[holes] = np.nan
        return values

    def bit(self, number: int) -> NDArray[np.bool_]:
        """Give the level of one digital line (n,); raises ValueError when this record does not hold it."""
        place = number - (_POD_LINES if self.source == "POD2" else 0)
        if self.units != "bits" or not 0 <= place < _POD_LINES:
            raise ValueError(f"{self.source} ({self.units}) has no line D{number}")
        return np.asarray((self.codes >> place) & 1, dtype=np.bool_)

    @property
    def resolution_bits(self) -> int:
        """Bits that tell the codes apart: 8 in a WORD record whose samples are single conversions, up to 12 in HRES.

        0 where all codes are the same.
        """
        if not len(self.codes):
            return 0
        moved = int(np.bitwise_or.reduce(self.codes ^ self.codes[0]))
        return 8 * self.codes.dtype.itemsize - ((moved & -moved).bit_length() - 1) if moved else 0

    def time_s(self) -> NDArray[np.float64]:
        """Give the time of each value (n,) in seconds, trigger at 0.

        With peak detection both values of pair k carry the time of sample k with twice the increment
        (PG2000 p.632; not confirmed on an instrument).
        """
        p = self.preamble
        index = np.arange(p.points, dtype=np.float64)
        step = p.x_increment_s * (2 if self.pairs else 1)
        time = (index - p.x_reference) * step + p.x_origin_s
        return np.repeat(time, 2) if self.pairs else time


@dataclass(frozen=True, eq=False)
class Capture:
    """The records of one acquisition, all on one time base; raises CaptureError if they are not.

    ``requested_points`` is what was asked for; what came is in the preambles. ``number`` counts the
    arms of this driver, so that two captures can be told apart; ``segment`` (from 1) those of segmented memory, and
    ``tag_s`` is then the scope's own time of the trigger after that of the first segment. The trigger
    came between ``trigger_after_s`` and ``trigger_before_s`` of the driver's monotonic clock.
    """

    records: Mapping[str, Record]
    requested_points: int | None = None
    number: int = 0
    segment: int = 0
    tag_s: float = math.nan
    trigger_after_s: float = -math.inf
    trigger_before_s: float = math.inf

    def __post_init__(self) -> None:
        if not self.records:
            raise CaptureError("a capture without a record; name at least one source", reason="short")
        object.__setattr__(self, "records", MappingProxyType(dict(self.records)))
        first_name, first = next(iter(self.records.items()))
        a = first.preamble
        for name, record in self.records.items():
            b = record.preamble
            for what, one, two, allowed in (
                ("points", a.points, b.points, 0.0),
                ("sampling period (s)", a.x_increment_s, b.x_increment_s, 1e-6 * a.x_increment_s),
                ("time of the first sample (s)", _start_s(a), _start_s(b), 1e-2 * a.x_increment_s),
            ):
                if abs(one - two) > allowed:
                    raise CaptureError(
                        f"{first_name} and {name} are not of one time base: {what} {one!r} against {two!r}; "
                        "arm again and fetch all sources of one acquisition",
                        reason="mismatch",
                    )

    def __getitem__(self, source: str) -> Record:
        return self.records[source]

    @cached_property
    def _first(self) -> Record:
        return next(iter(self.records.values()))

    @property
    def points(self) -> int:
        """Samples per record."""
        return self._first.preamble.points

    @property
    def dt_s(self) -> float:
        """Sampling period in seconds."""
        return self._first.preamble.x_increment_s

    @property
    def rate_hz(self) -> float:
        """Sampling rate in hertz."""
        return 1.0 / self.dt_s

    @property
    def start_s(self) -> float:
        """Time of the first sample in seconds, trigger at 0."""
        return _start_s(self._first.preamble)

    @property
    def duration_s(self) -> float:
        """Points times sampling period, in seconds."""
        return self.points * self.dt_s

    def time_s(self) -> NDArray[np.float64]:
        """Give the time of each sample (n,) in seconds, trigger at 0."""
        return self._first.time_s()

    def gap_after_s(self, earlier: Capture) -> tuple[float, float]:
        """Give the least and the most seconds between the end of an earlier capture and the start of this one.

        Segments of one acquisition are told apart by the scope's own clock, anything else by the host's polls.
        Below 0 the captures may overlap; infinite where the trigger of one is not known.
        """
        within_s = self.start_s - (earlier.start_s + earlier.duration_s)
        if self.segment and earlier.segment and self.number == earlier.number:
            apart_s = self.tag_s - earlier.tag_s
            return apart_s + within_s, apart_s + within_s
        return (
            self.trigger_after_s - earlier.trigger_before_s + within_s,
            self.trigger_before_s - earlier.trigger_after_s + within_s,
        )


def _start_s(preamble: Preamble) -> float:
    return preamble.x_origin_s - preamble.x_reference * preamble.x_increment_s
