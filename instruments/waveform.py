"""Waveform records: preamble, raw codes of one source, the records of one acquisition.

Pure: knows no link, clock or file. Number of points, sampling period and scaling come from the
preamble alone; codes stay as the instrument sent them and everything else is derived.
Sources: PG2000 p.632-633 (formulas, formats, holes), p.644 (preamble), 2024 ed. p.737 (clip codes).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
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
    ``units`` is ``V`` or ``A`` for channels and ``bits`` for a pod (bit k = Dk).
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
        """Give the level of one digital line (n,); raises ValueError when this is no digital record."""
        if self.units != "bits" or not 0 <= number <= 7:
            raise ValueError(f"{self.source} ({self.units}) has no line D{number}")
        return np.asarray((self.codes >> number) & 1, dtype=np.bool_)

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
    arms of this driver, so that two captures can be told apart.
    """

    records: Mapping[str, Record]
    requested_points: int | None = None
    number: int = 0

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


def _start_s(preamble: Preamble) -> float:
    return preamble.x_origin_s - preamble.x_reference * preamble.x_increment_s


def decode(
    source: str,
    preamble: Preamble,
    data: bytes,
    units: Units,
    *,
    little_endian: bool = True,
    unsigned: bool = True,
    pairs: bool = False,
    settings: Mapping[str, str] | None = None,
) -> Record:
    """Turn the data of one block into a Record; raises ProtocolError or CaptureError on any mismatch.

    Signed codes are stored unsigned: code and y_reference both move up by half the steps, so that
    every value stays exactly what the preamble gave. That holes and clip codes move along is derived,
    not confirmed. A pod in WORD format carries a zero byte per sample, which must be zero.
    """
    width = {FORMAT_BYTE: 1, FORMAT_WORD: 2}.get(preamble.format)
    if width is None:
        raise CaptureError(
            f"{source}: the preamble is of format {preamble.format}, the data are BYTE or WORD",
            reason="format",
        )
    expected = preamble.points * width * (2 if pairs else 1)
    if len(data) != expected:
        raise CaptureError(
            f"{source}: the preamble announces {preamble.points} points = {expected} bytes, the block has "
            f"{len(data)}; the record is not the one that the preamble describes",
            reason="mismatch",
        )
    if width == 1:
        codes: Codes = np.frombuffer(data, dtype=np.uint8)
        half = 0x80
    else:
        words = np.frombuffer(data, dtype="<u2" if little_endian else ">u2")
        codes = words.astype(np.uint16, copy=False)
        half = 0x8000
    if units == "bits":
        if width == 2:
            if codes.size and int(codes.max()) > 0xFF:
                raise ProtocolError(
                    f"{source}: the upper byte of a pod's WORD sample is not zero; the byte order is wrong",
                    first_bytes=data[:40],
                )
            codes = codes.astype(np.uint8)
    elif not unsigned:
        codes = codes ^ codes.dtype.type(half)
        preamble = replace(preamble, y_reference=preamble.y_reference + half)
    return Record(source, preamble, codes, units, pairs, settings or {})


def parse_ascii(text: str, points: int) -> NDArray[np.float64]:
    """Read the comma separated values of ASCii format, (points,); a hole (9.9E+37) becomes NaN."""
    parts = [part for part in text.strip().split(",") if part.strip()]
    if len(parts) != points:
        raise CaptureError(f"the preamble announces {points} values, {len(parts)} came", reason="mismatch")
    try:
        values = np.array([float(part) for part in parts], dtype=np.float64)
    except ValueError as error:
        raise ProtocolError(f"expected comma separated numbers: {error}", first_bytes=text[:40].encode()) from None
    values[np.abs(values) >= 0.999 * scpi.NO_VALUE] = np.nan
    return values
