"""Settings of the simulated oscilloscope that are checked, kept and answered, and change nothing else. Pure.

From PG2000's command summary; what *RST leaves is that of the guide where it says so. They belong to the setup (*SAV,
:SYSTem:SETup) and come back with it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from instruments.simulated.mso_settings import nr3
from instruments.simulated.scpi_params import quoted
from instruments.simulated.scpi_tree import Call

if TYPE_CHECKING:
    from instruments.simulated.mso_x2024a import SimulatedMsoX2024A

Read = Callable[[Call], str]


def _boolean(call: Call) -> str:
    return f"{call.boolean():d}"


def _choice(*choices: str) -> Read:
    return lambda call: call.choice(*choices)


def _number(low: float, high: float, unit: str = "") -> Read:
    return lambda call: nr3(call.number(unit, low=low, high=high))


def _integer(low: int, high: int) -> Read:
    return lambda call: f"{call.integer(low=low, high=high):+d}"


def _text(length: int) -> Read:
    return lambda call: quoted(call.string()[:length])


def _persistence(call: Call) -> str:
    """MINimum, INFinite, or seconds."""
    if call.params and call.params[0].text[:1].isalpha():
        return call.choice("MINimum", "INFinite")
    return nr3(call.number("S", low=0.1, high=60.0))


_ANY_S = _number(-1e3, 1e3, "S")
_ANY = _number(-1e6, 1e6, "V|A|S")
_WINDOW_S = _number(5e-9, 500.0, "S")
_SOURCES = ("NONE", "CHANnel1", "CHANnel2", "CHANnel3", "CHANnel4", "FUNCtion", "MATH", "WMEMory1", "WMEMory2")

KEPT: dict[str, tuple[Read, str]] = {
    ":AUToscale:AMODE": (_choice("NORMal", "CURRent"), "NORM"),
    ":AUToscale:CHANnels": (_choice("ALL", "DISPlayed"), "DISP"),
    ":AUToscale:FDEBug": (_boolean, "0"),
    ":CALibrate:LABel": (_text(32), '""'),
    ":CALibrate:OUTPut": (_choice("TRIGgers", "MASK", "WAVEgen"), "TRIG"),
    ":DISPlay:ANNotation": (_boolean, "0"),
    ":DISPlay:ANNotation:BACKground": (_choice("OPAQue", "INVerted", "TRANsparent"), "OPAQ"),
    ":DISPlay:ANNotation:COLor": (
        _choice("CH1", "CH2", "CH3", "CH4", "DIG", "MATH", "REF", "MARKer", "WHITe", "RED"), "WHIT"
    ),
    ":DISPlay:ANNotation:TEXT": (_text(254), '""'),
    ":DISPlay:INTensity:WAVeform": (_integer(0, 100), "+50"),
    ":DISPlay:LABel": (_boolean, "0"),
    ":DISPlay:MENU": (_choice("MASK", "MEASure", "SEGMented", "LISTer", "POWer", "OFF"), "OFF"),
    ":DISPlay:PERSistence": (_persistence, "MIN"),
    ":DISPlay:SIDebar": (_choice("SUMMary", "CURSors", "MEASurements", "DVM", "OFF"), "SUMM"),
    ":DISPlay:VECTors": (_boolean, "1"),
    ":EXTernal:BWLimit": (_boolean, "0"),
    ":EXTernal:PROBe": (_number(0.1, 1e4), nr3(1.0)),
    ":EXTernal:RANGe": (_number(0.008, 8e4, "V|A"), nr3(8.0)),
    ":EXTernal:UNITs": (_choice("VOLT", "AMPere"), "VOLT"),
    ":HARDcopy:AREA": (_choice("SCReen"), "SCR"),
    ":HARDcopy:FACTors": (_boolean, "0"),
    ":HARDcopy:FFEed": (_boolean, "0"),
    ":HARDcopy:LAYout": (_choice("LANDscape", "PORTrait"), "PORT"),
    ":HARDcopy:PALette": (_choice("COLor", "GRAYscale", "NONE"), "COL"),
    ":MARKer:MODE": (_choice("OFF", "MEASurement", "MANual", "WAVeform", "BINary", "HEX"), "OFF"),
    ":MARKer:X1Y1source": (_choice(*_SOURCES), "CHAN1"),
    ":MARKer:X2Y2source": (_choice(*_SOURCES), "CHAN1"),
    ":MARKer:X1Position": (_ANY_S, nr3(0.0)),
    ":MARKer:X2Position": (_ANY_S, nr3(0.0)),
    ":MARKer:Y1Position": (_ANY, nr3(0.0)),
    ":MARKer:Y2Position": (_ANY, nr3(0.0)),
    ":MARKer:XUNits": (_choice("SEConds", "HERTz", "DEGRees", "PERCent"), "SEC"),
    ":MARKer:YUNits": (_choice("BASE", "PERCent"), "BASE"),
    ":SYSTem:LOCK": (_boolean, "0"),
    ":SYSTem:MENU": (_choice("MASK", "MEASure", "SEGMented", "LISTer", "POWer", "OFF"), "OFF"),
    ":SYSTem:PRECision": (_boolean, "0"),
    ":SYSTem:PROTection:LOCK": (_boolean, "0"),
    ":SYSTem:TOUCh": (_boolean, "1"),
    ":TIMebase:VERNier": (_boolean, "0"),
    ":TIMebase:WINDow:POSition": (_ANY_S, nr3(0.0, 8)),
    ":TIMebase:WINDow:RANGe": (_WINDOW_S, nr3(5e-4, 8)),
    ":TIMebase:WINDow:SCALe": (_WINDOW_S, nr3(5e-5, 8)),
    ":TRIGger:TV:LINE": (_integer(1, 1250), "+1"),
    ":TRIGger:TV:MODE": (_choice("FIEld1", "FIEld2", "AFIelds", "ALINes", "LFIeld1", "LFIeld2", "LALTernate"), "ALIN"),
    ":TRIGger:TV:POLarity": (_choice("POSitive", "NEGative"), "NEG"),
    ":TRIGger:TV:SOURce": (_choice("CHANnel1", "CHANnel2", "CHANnel3", "CHANnel4"), "CHAN1"),
    ":TRIGger:TV:STANdard": (_choice("NTSC", "PAL", "PALM", "SECam"), "NTSC"),
}  # fmt: skip
_OF_CHANNELS: dict[str, tuple[Read, str]] = {
    ":PROBe:HEAD[:TYPE]": (
        _choice("SEND0", "SEND6", "SEND12", "SEND20", "DIFF0", "DIFF6", "DIFF12", "DIFF20"),
        "SEND0",
    ),
    ":PROBe:ZOOM": (_boolean, "0"),
}


def add_kept(scope: SimulatedMsoX2024A) -> None:
    """Register all of them, and the queries that follow from them."""
    for pattern, (read, default) in KEPT.items():
        _add(scope, pattern, lambda call, key=pattern: key, read, default)  # type: ignore[misc]
    for tail, (read, default) in _OF_CHANNELS.items():
        pattern = f":CHANnel<1-{scope.model.analog}>{tail}"
        _add(scope, pattern, lambda call, tail=tail: f"{call.suffix[0]}{tail}", read, default)  # type: ignore[misc]
    scope.add(":MARKer:XDELta", query=lambda c: _difference(scope, "X"))
    scope.add(":MARKer:YDELta", query=lambda c: _difference(scope, "Y"))
    scope.add(
        ":EXTernal",
        query=lambda c: (
            f":EXT:BWL {_kept(scope, ':EXTernal:BWLimit')};RANG {_kept(scope, ':EXTernal:RANGe')};"
            f"UNIT {_kept(scope, ':EXTernal:UNITs')};PROB {_kept(scope, ':EXTernal:PROBe')}"
        ),
    )


def _add(scope: SimulatedMsoX2024A, pattern: str, key: Callable[[Call], str], read: Read, default: str) -> None:
    scope.add(
        pattern,
        lambda call: scope.settings.kept.__setitem__(key(call), read(call)),
        lambda call: scope.settings.kept.get(key(call), default),
    )


def _kept(scope: SimulatedMsoX2024A, pattern: str) -> str:
    return scope.settings.kept.get(pattern, KEPT[pattern][1])


def _difference(scope: SimulatedMsoX2024A, axis: str) -> str:
    """Marker 2 minus marker 1."""
    first, second = (float(_kept(scope, f":MARKer:{axis}{n}Position")) for n in (1, 2))
    return nr3(second - first)
