"""SCPI text, both ways: numbers, strings, keywords, error-queue entries, identities.

Pure: no clock, file or socket. Parsing is strict and raises ProtocolError with the bytes that came.
Sources: IEEE 488.2 chapters 7-8; PG2000 p.795 (compound messages); SCPI-99 volume 1 (9.9E+37).
"""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass

from .errors import ProtocolError

#: "Not a number" of SCPI instruments: the measurement has no value (PG2000; SCPI-99 7.2.1.5).
NO_VALUE = 9.9e37

_NUMBER = re.compile(r"[+-]?(?:\d+(?:\.\d*)?|\.\d+)(?:[eE][+-]?\d+)?\Z", re.ASCII)
_KEYWORD = re.compile(r"([A-Z*]+)([a-z]*)(\d*)\Z")


def _refuse(what: str, text: str) -> ProtocolError:
    return ProtocolError(f"expected {what}, got {text[:60]!r}", first_bytes=text[:40].encode("utf-8", "replace"))


def parse_float(text: str) -> float:
    """Read an NR1, NR2 or NR3 number, such as ``+1.50000000E+01``; raises ProtocolError."""
    stripped = text.strip()
    if not _NUMBER.match(stripped):
        raise _refuse("a number", text)
    value = float(stripped)
    if not math.isfinite(value):
        raise _refuse("a number within the range of a double", text)
    return value


def parse_int(text: str) -> int:
    """Read a whole number in NR1, NR2 or NR3 form, such as ``+8`` or ``+1.88E+4``; raises ProtocolError."""
    value = parse_float(text)
    if value != int(value):
        raise _refuse("a whole number", text)
    return int(value)


def parse_value(text: str) -> float | None:
    """Read a measurement; None where the instrument answers 9.9E+37, "no value"."""
    value = parse_float(text)
    return None if abs(value) >= 0.999 * NO_VALUE else value


def parse_bool(text: str) -> bool:
    """Read ``0``, ``1``, ``ON`` or ``OFF``; raises ProtocolError."""
    key = text.strip().upper()
    if key in {"1", "+1", "ON"}:
        return True
    if key in {"0", "+0", "OFF"}:
        return False
    raise _refuse("0, 1, ON or OFF", text)


def parse_string(text: str) -> str:
    """Read a quoted string such as ``"8.00000,3.00000"``; doubled quotes inside stand for one."""
    stripped = text.strip()
    if len(stripped) >= 2 and stripped[0] in "\"'" and stripped[-1] == stripped[0]:
        mark = stripped[0]
        inner = stripped[1:-1]
        if mark not in inner.replace(mark * 2, ""):
            return inner.replace(mark * 2, mark)
    raise _refuse("a quoted string", text)


def quote(text: str) -> str:
    """Write a string parameter in double quotes; raises ValueError for what no instrument takes."""
    if not text.isascii() or not text.isprintable():
        raise ValueError(f"only printable ASCII can be sent to an instrument, not {text!r}")
    return '"' + text.replace('"', '""') + '"'


def format_number(value: float) -> str:
    """Write a number with up to ten significant digits and a capital E; raises ValueError for NaN, inf."""
    if not math.isfinite(value):
        raise ValueError(f"{value} cannot be sent to an instrument")
    return f"{value:.10G}"


def split_outside_quotes(text: str, separator: str) -> list[str]:
    """Split at a separator, but not inside quoted strings; at least one part comes back."""
    if '"' not in text and "'" not in text:
        return text.split(separator)
    parts: list[str] = []
    start, mark = 0, ""
    for i, char in enumerate(text):
        if mark:
            mark = "" if char == mark else mark
        elif char in "\"'":
            mark = char
        elif char == separator:
            parts.append(text[start:i])
            start = i + 1
    parts.append(text[start:])
    return parts


def split_answers(text: str, count: int) -> list[str]:
    """Split the answer to a compound query into exactly ``count`` parts; raises ProtocolError."""
    parts = [part.strip() for part in split_outside_quotes(text, ";")]
    if len(parts) != count:
        raise _refuse(f"{count} answers separated by semicolons, not {len(parts)}", text)
    return parts


def same_keyword(answer: str, keyword: str) -> bool:
    """Say whether an answer is the short or long form of a keyword written like ``CHANnel1``."""
    match = _KEYWORD.match(keyword)
    if match is None:
        return answer.strip().upper() == keyword.upper()
    short, tail, number = match.groups()
    return answer.strip().upper() in {short + number, (short + tail).upper() + number}


def short_form(keyword: str) -> str:
    """Give the short form of a keyword written like ``CHANnel1``: ``CHAN1``."""
    match = _KEYWORD.match(keyword)
    return keyword if match is None else match[1] + match[3]


def match_keyword(answer: str, keywords: Sequence[str]) -> str:
    """Give the one of ``keywords`` (written like ``HRESolution``) that was answered; or ProtocolError."""
    for keyword in keywords:
        if same_keyword(answer, keyword):
            return keyword
    raise _refuse(f"one of {', '.join(keywords)}", answer)


@dataclass(frozen=True)
class ErrorEntry:
    """One entry of an error queue: number and text; number 0 means that the queue is empty."""

    code: int
    text: str

    def __str__(self) -> str:
        return f'{self.code:+d},"{self.text}"'


def parse_error_entry(text: str) -> ErrorEntry:
    """Read an answer to ``SYSTem:ERRor?`` such as ``+0,"No error"``; the number alone decides.

    Text without quotes is taken too. Raises ProtocolError.
    """
    number, comma, rest = text.strip().partition(",")
    if not comma:
        raise _refuse('an error-queue entry such as +0,"No error"', text)
    try:
        code = parse_int(number)
    except ProtocolError:
        raise _refuse('an error-queue entry such as +0,"No error"', text) from None
    rest = rest.strip()
    return ErrorEntry(code, parse_string(rest) if rest[:1] in {'"', "'"} else rest)


@dataclass(frozen=True)
class Identity:
    """The four fields of an answer to ``*IDN?``."""

    vendor: str
    model: str
    serial: str
    firmware: str

    def __str__(self) -> str:
        return f"{self.vendor},{self.model},{self.serial},{self.firmware}"


def parse_identity(text: str) -> Identity:
    """Read an answer to ``*IDN?``: exactly four fields, model not empty; raises ProtocolError."""
    fields = [field.strip() for field in text.strip().split(",")]
    if len(fields) != 4 or not fields[1]:
        raise _refuse("vendor,model,serial,firmware", text)
    return Identity(*fields)
