"""Names of the oscilloscope's inputs: analogue channels, digital lines, pods. Pure."""

from __future__ import annotations

import functools
import re

from instruments.errors import ConfigError

#: Inputs of an MSO-X 2024A: analogue channels, digital lines (PG2000 p.415: one pod).
ANALOG, DIGITAL = 4, 8
#: The most that any model of the family has (3000 X).
MOST_ANALOG, MOST_DIGITAL = 4, 16
POD_LINES = 8

_SOURCE = re.compile(r"(?:(CHAN)(?:NEL)?|(DIG)(?:ITAL)?|(POD))(\d{1,2})\Z")


def known_inputs(analog: int = ANALOG, digital: int = DIGITAL) -> str:
    """Name the inputs of a model with so many channels and lines, for messages."""
    names = [f"CHAN1 to CHAN{analog}"]
    if digital:
        names.append(f"DIG0 to DIG{digital - 1}")
        names += [f"POD{n + 1}" for n in range(digital // POD_LINES)]
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} or {names[-1]}"


def source_name(text: str, analog: int = ANALOG, digital: int = DIGITAL) -> str:
    """Give the short name of an input, such as ``CHAN1``, ``DIG0``, ``POD1``.

    Raises ConfigError for one that a model with so many channels and lines does not have: a 2000 X has no
    POD2 and never answers about D8 and up.
    """
    match = _SOURCE.match(text.strip().upper())
    if match is not None:
        kind, number = match[1] or match[2] or match[3], int(match[4])
        first, last = {"CHAN": (1, analog), "DIG": (0, digital - 1), "POD": (1, digital // POD_LINES)}[kind]
        if first <= number <= last:
            return f"{kind}{number}"
    raise ConfigError(f"source {text!r}: {known_inputs(analog, digital)} is expected")


@functools.lru_cache(64)
def source_command(name: str) -> str:
    """Give the form of an input that commands take: ``CHANnel1``, ``DIGital0``, ``POD1``."""
    name = source_name(name, MOST_ANALOG, MOST_DIGITAL)
    return name.replace("CHAN", "CHANnel").replace("DIG", "DIGital")


def pods_of(lines: int) -> range:
    """Give the numbers of the pods that so many digital lines make: 1, or 1 and 2."""
    return range(1, lines // POD_LINES + 1)
