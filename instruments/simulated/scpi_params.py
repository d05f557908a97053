"""Numbers with units and keywords in short and long form, as program messages carry them. Pure."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence

from instruments.simulated.scpi_errors import Refused

_NUMBER = re.compile(r"([+-]?(?:\d+\.?\d*|\.\d+))\s*(?:[eE]\s*([+-]?\d+))?\s*([A-Za-z%/]*)")
_RADIX = {"H": 16, "Q": 8, "B": 2}
_MULTIPLIERS = {
    "EX": 1e18, "PE": 1e15, "T": 1e12, "G": 1e9, "MA": 1e6, "K": 1e3,
    "M": 1e-3, "U": 1e-6, "N": 1e-9, "P": 1e-12, "F": 1e-15, "A": 1e-18,
}  # fmt: skip


def parse_number(text: str, unit: str = "", multiplier_alone: bool = True) -> float:
    """Read a decimal or #H/#Q/#B number with an optional multiplier and unit (488.2 section 7.7).

    `unit` lists what may follow, such as "V" or "V|A"; empty: a multiplier at most.
    """
    if text.startswith("#"):
        try:
            return float(int(text[2:], _RADIX[text[1:2].upper()]))
        except (KeyError, ValueError):
            raise Refused(-121) from None
    hit = _NUMBER.fullmatch(text)
    if hit is None:
        started = text[:1] in "+-." or text[:1].isdigit()
        raise Refused(-121 if started else -104)
    mantissa, exponent, suffix = hit.groups()
    if exponent and abs(int(exponent)) > 32000:
        raise Refused(-123)
    value = float(f"{mantissa}e{exponent or 0}")
    if not math.isfinite(value):
        raise Refused(-123)
    return value * _suffix_factor(suffix.upper(), unit, multiplier_alone) if suffix else value


def _suffix_factor(suffix: str, unit: str, multiplier_alone: bool) -> float:
    for one in filter(None, unit.upper().split("|")):
        if suffix == one:
            return 1.0
        multiplier = suffix.removesuffix(one)
        if multiplier == suffix:
            continue
        if multiplier == "M" and one in ("HZ", "OHM"):
            return 1e6
        if multiplier in _MULTIPLIERS:
            return _MULTIPLIERS[multiplier]
    if multiplier_alone and suffix in _MULTIPLIERS:
        return _MULTIPLIERS[suffix]
    raise Refused(-131 if unit else -138)


def quoted(text: str) -> str:
    """A string as responses carry it: quotation marks inside are doubled (488.2 section 8.7.8)."""
    return '"' + text.replace('"', '""') + '"'


def keyword_forms(pattern: str) -> tuple[str, str]:
    """Short and long form of a mnemonic written as in the manual: `NORMal` gives ("NORM", "NORMAL")."""
    short = "".join(c for c in pattern if not c.islower())
    return short, pattern.upper()


def match_choice(text: str, choices: Sequence[str]) -> str:
    """Short form of the one of `choices` (manual notation) that `text` spells; -224 if none."""
    word = text.upper()
    for choice in choices:
        short, long = keyword_forms(choice)
        if word in (short, long):
            return short
    raise Refused(-224)
