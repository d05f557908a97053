"""Data of one waveform transfer turned into a record or numbers; whatever does not fit is refused. Pure.

Sources: PG2000 p.632-633 (formats, holes), PG3000 p.966 (a pod in WORD format).
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from . import scpi
from .errors import CaptureError, ProtocolError
from .waveform import FORMAT_BYTE, FORMAT_WORD, Codes, Preamble, Record, Units

_NUMBERS = re.compile(r"[0-9eE+\-.,\s]*\Z", re.ASCII)


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

    Half a sample at the end is a ProtocolError, another length than the preamble's a CaptureError.

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
    if len(data) % width:
        raise ProtocolError(
            f"{source}: {len(data)} bytes are no whole number of {width}-byte samples, {expected} bytes are announced",
            first_bytes=data[:40],
        )
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
    """Read the comma separated values of ASCii format, (points,); a hole (9.9E+37) becomes NaN.

    Raises ProtocolError for what is no number, CaptureError for another number of values.
    """
    inner = text.strip().removesuffix(",")  # a comma may stand behind the last one
    parts = inner.split(",") if inner else []
    try:
        if not _NUMBERS.match(text):
            raise ValueError(f"{text[:40]!r} holds other characters than numbers do")
        values = np.array([float(part) for part in parts], dtype=np.float64)
    except ValueError as error:
        raise ProtocolError(
            f"expected comma separated numbers: {error}", first_bytes=text[:40].encode("utf-8", "replace")
        ) from None
    if len(parts) != points:
        raise CaptureError(f"the preamble announces {points} values, {len(parts)} came", reason="mismatch")
    if not np.isfinite(values).all():
        raise ProtocolError(
            "expected numbers within the range of a double", first_bytes=text[:40].encode("utf-8", "replace")
        )
    values[np.abs(values) >= 0.999 * scpi.NO_VALUE] = np.nan
    return values
