"""VISA resource strings: whether one can be right, and what to write instead. Pure; opens nothing.

Grammar: VISA library specification VPP-4.3, table 4.3.1, for the interfaces that instruments of a bench have, and the
INTFC resources of Prologix adapters as pyvisa 1.14 names them.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Sequence

_KINDS = ("TCPIP", "USB", "GPIB", "ASRL", "PRLGX-TCPIP", "PRLGX-ASRL")
_OTHERS = ("VXI", "PXI", "VICP", "FIREWIRE")
"""Interfaces that a vendor's library may have, of which nothing is known here."""

_ENDS = ("INSTR", "SOCKET", "INTFC", "RAW")
_DEVICE = re.compile(r"(?:inst|gpib|hislip|usb)\d*(?:\[.*\])?(?:,\w+)*\Z", re.IGNORECASE)
"""LAN device names: VXI-11 (also of a gateway's GPIB bus or USB), HiSLIP."""

FORMS = {
    "TCPIP": "TCPIP::HOST::5025::SOCKET, TCPIP::HOST::inst0::INSTR (VXI-11) or TCPIP::HOST::hislip0::INSTR",
    "USB": "USB::0x0957::0x1796::SERIAL::INSTR",
    "GPIB": "GPIB0::5::INSTR with an address from 0 to 30",
    "ASRL": "ASRL/dev/ttyUSB0::INSTR",
    "PRLGX-TCPIP": "PRLGX-TCPIP::HOST::1234::INTFC",
    "PRLGX-ASRL": "PRLGX-ASRL::/dev/ttyUSB0::INTFC",
}
"""How a resource of each interface is written."""

_GPIB = re.compile(r"GPIB\d*::(\d+)(?:::(\d+))?(?:::INSTR)?\Z", re.IGNORECASE)
_BOARD = re.compile(r"(?:PRLGX-(?:TCPIP|ASRL)|GPIB)(\d*)::", re.IGNORECASE)


def board_of(text: str) -> int | None:
    """Board number of an adapter's INTFC or of a GPIB resource; None for any other."""
    match = _BOARD.match(text)
    return None if match is None else int(match[1] or 0)


def gpib_address(text: str) -> tuple[int, int | None] | None:
    """Primary and secondary address of a GPIB instrument; None for what is no such resource.

    A secondary address counts from 0 in VISA, and from 96 on the bus and here.
    """
    match = _GPIB.match(text)
    if match is None:
        return None
    primary, secondary = int(match[1]), int(match[2] or 0)
    if primary > 30 or not (secondary <= 30 or 96 <= secondary <= 126):
        return None
    if match[2] is None:
        return primary, None
    return primary, secondary if secondary >= 96 else secondary + 96


def device_file(text: str) -> str:
    """The file of a serial port that a resource names; empty where it names none."""
    match = re.match(r"(?:ASRL|PRLGX-ASRL\d*::)(/.*?)(?:::.*)?\Z", text, re.IGNORECASE)
    return match[1] if match is not None else ""


def mistake(text: str, visa: str = "@py") -> str:
    """What is wrong with one resource string, and what to write instead; empty where nothing is seen."""
    parts = re.split(r"::(?![^\[]*\])", text.strip())
    if len(parts) == 1 and not text.upper().startswith("ASRL"):
        if not visa.startswith("@"):
            return ""  # an alias, which a vendor's library knows
        return f"{text!r} is no VISA resource string: write {FORMS['TCPIP']}"
    kind = re.sub(r"\d*\Z", "", parts[0].upper()) if not text.upper().startswith("ASRL") else "ASRL"
    if kind in _OTHERS and not visa.startswith("@"):
        return ""
    if kind not in _KINDS:
        near = difflib.get_close_matches(kind, _KINDS, 1, 0.6)
        hint = f"did you mean {near[0]}?" if near else f"one of {', '.join(_KINDS)} is expected"
        return f"{text!r} begins with {parts[0]!r}, which is no interface: {hint}"
    end = parts[-1].upper()
    named = len(parts) <= 2 or _DEVICE.match(parts[-1])  # a host or a device, whatever its name
    if end not in _ENDS and not named and (near := difflib.get_close_matches(end, _ENDS, 1, 0.6)):
        return f"{text!r} ends with {parts[-1]!r}: did you mean {near[0]}?"
    if end in _ENDS and parts[-1] != end:
        return f"{text!r} ends with {parts[-1]!r}: pyvisa wants it in capitals, {end}"
    found = _of_kind(kind, parts, end)
    return f"{text!r}: {found}" if found else ""


def _of_kind(kind: str, parts: Sequence[str], end: str) -> str:
    write = f"write {FORMS[kind]}"
    if kind == "GPIB":
        return "" if gpib_address("::".join(parts)) is not None else write
    if kind == "USB":
        ids = parts[1:3]
        good = len(parts) >= 4 and all(re.fullmatch(r"0x[0-9A-Fa-f]{1,4}|\d{1,5}", part) for part in ids)
        return "" if good else write
    if kind == "ASRL":
        return "" if len(parts[0]) > 4 and len(parts) <= 2 and end in ("INSTR", parts[0].upper()) else write
    if kind == "PRLGX-ASRL":
        return "" if len(parts) == 3 and parts[1] and end == "INTFC" else write
    if len(parts) < 2:
        return write
    if fault := _host(parts[1].split(",")[0]):
        return fault
    if kind == "PRLGX-TCPIP":
        return (_port(parts[2]) if len(parts) == 4 else "") if end == "INTFC" and len(parts) <= 4 else write
    if end == "SOCKET":
        return _port(parts[2]) if len(parts) == 4 else write
    device = parts[2] if len(parts) > 2 and parts[2].upper() != "INSTR" else "inst0"
    if not _DEVICE.match(device) or len(parts) > 4:
        return write
    ports = [*parts[1].split(",")[1:], *(device.split(",")[1:] if device.lower().startswith("hislip") else ())]
    return next(filter(None, map(_port, ports)), "")


def _host(host: str) -> str:
    if not host or re.search(r"\s", host):
        return f"{host!r} is no host: write its address or its name"
    if host.startswith("["):
        return f"{host} is an IPv6 address, which resource strings of VISA have no place for: write the host's name"
    if re.fullmatch(r"[\d.]+", host):
        numbers = host.split(".")
        if len(numbers) != 4 or any(not n or int(n) > 255 for n in numbers):
            return f"{host} is no IP address: four numbers from 0 to 255 with dots between are expected"
    return ""


def _port(text: str) -> str:
    if text.isdecimal() and 1 <= int(text) <= 65535:
        return ""
    return f"{text!r} is no TCP port: 1 to 65535 is expected"


def wrong_together(resources: Sequence[str]) -> str:
    """What is wrong with the resources of one instrument in their order, each of which may be right; or empty."""
    adapters = [r for r in resources if r.upper().startswith("PRLGX-")]
    if len(resources) == 1:
        if adapters:
            return (
                f"{resources[0]!r} is an adapter alone: add the instrument behind it, as in [ADAPTER, GPIB0::5::INSTR]"
            )
        return ""
    if len(resources) != 2 or adapters != [resources[0]] or not resources[1].upper().startswith("GPIB"):
        return "one resource is expected, or an adapter and then the instrument behind it: [ADAPTER, GPIB0::5::INSTR]"
    adapter, instrument = (board_of(r) for r in resources)
    if adapter != instrument:
        return f"{resources[1]} is not on board {adapter} of {resources[0]}; write GPIB{adapter}::... for it"
    return ""
