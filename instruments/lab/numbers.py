"""A number that came as text: what was meant, where anybody can tell. Pure."""

from __future__ import annotations

import re

_UNITS = {"v": "V", "a": "A", "s": "s", "hz": "Hz", "ohm": "Ω", "c": "°C", "a2s": "A²s"}
"""Units by the ending of a key's name."""

_PREFIXES = {"": 1.0, "n": 1e-9, "u": 1e-6, "µ": 1e-6, "m": 1e-3, "k": 1e3, "M": 1e6}


def as_a_number(key: str, text: str, *, whole: bool) -> str:
    """What to write instead of a number that came as text, with its unit perhaps; empty where nobody can tell.

    A comma before three digits may stand between thousands or for a decimal point; `whole` numbers have no fraction.
    """
    found = re.fullmatch(r"([-+]?\d*[.,]?\d+(?:[eE][-+]?\d+)?)\s*([^\s\d]*)", text.strip())
    if found is None or re.search(r",\d{3}(?!\d)", found[1]):
        return ""
    number, unit = float(found[1].replace(",", ".")), found[2]
    if whole and not number.is_integer():
        return ""
    in_name = _unit_in(key)
    if not unit:
        return f"; write {number:.12g}, without quotes" if "," not in found[1] else f"; write {number:.12g}"
    if in_name:
        spelt = unit.replace("Ohm", "Ω").replace("ohm", "Ω").replace("\u2126", "Ω")  # its sign is another letter
        if spelt.endswith(in_name) and (factor := _PREFIXES.get(spelt.removesuffix(in_name))):
            return f"; write {number * factor:.12g}, the unit is in the key's name"
        return f"; a number in {in_name} is expected, without its unit"
    if unit == "%" and not whole:
        return f"; write {number / 100:.12g}, a share"
    return f"; write {number:.12g} alone" if unit in key.split("_") else ""


def _unit_in(key: str) -> str:
    """The unit at the end of a key's name, as V/A of range_v_per_a; empty without one."""
    words = key.split("_")
    over = words[-3:-1] if words[-2:-1] == ["per"] else []
    units = [_UNITS.get(word, "") for word in (*over[:1], words[-1])]
    return "/".join(units) if len(words) > 1 and all(units) else ""
