"""What no instrument has is refused with what it has, and nothing of it leaves the host."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import pytest

from instruments.e3645a import E3645A, SupplyLimits
from instruments.errors import ConfigError, LimitError
from instruments.mso_x2024a import ChannelSettings, EdgeTrigger, MsoX2024A


class Nobody:
    """A link on which nothing must be said."""

    name, resource = "instrument", "NOWHERE"

    def write(self, command: str | bytes, deadline_s: float | None = None) -> None:
        pytest.fail(f"sent {command!r}")

    query = query_block = write


def channel(**changes: Any) -> ChannelSettings:
    return ChannelSettings(**{"full_scale": 1.6, "probe_ratio": 10.0, **changes})


def trigger(**facts: Any) -> EdgeTrigger:
    return EdgeTrigger(**facts)


Deed = Callable[[MsoX2024A], object]
ENUMS: list[tuple[Deed, str]] = [
    *((lambda s, n=n: s.configure_channel(n, channel()), "1 to 4") for n in (0, 5, -1, 2.0, "1", True)),
    *((lambda s, n=n: s.switch_off_channel(n), "1 to 4") for n in (0, 5)),
    *((lambda s, b=b: s.configure_digital(b), "0 to 7") for b in ([8], [15], [0, 8], [-1], [], ["0"], [True])),
    *((lambda s, d=d: s.configure_trigger(trigger(source=d)), "DIG0 to DIG7") for d in ("DIG8", "DIG15", "POD2")),
    *((lambda s, n=n: s.fetch([n]), "CHAN1 to CHAN4") for n in ("CHAN5", "DIG8", "D15", "POD2", "", "CHAN1;*RST")),
    *((lambda s, n=n: s.measure("VPP", n), "CHAN1 to CHAN4") for n in ("CHAN0", "DIG9", "x")),
    *((lambda s, n=n: s.measure(n, "CHAN1"), "AREa, BWIDth, .*, XMIN") for n in ("FOO", "VPP;*RST", "")),
    (lambda s: s.configure_channel(1, channel(units="W")), "V, A"),
    (lambda s: s.configure_channel(1, channel(coupling="GND")), "DC, AC"),
    (lambda s: s.configure_channel(1, channel(bandwidth_limit="on")), "True, False"),
    (lambda s: s.configure_channel(1, channel(invert=2)), "True, False"),
    (lambda s: s.configure_timebase(1.0, "MIDDLE"), "LEFT, CENTer, RIGHt"),  # type: ignore[arg-type]
    (lambda s: s.configure_acquisition("SLOW"), "NORMal, AVERage, HRESolution, PEAK"),
    (lambda s: s.configure_trigger(trigger(slope="UP")), "POS, NEG, EITH, ALT"),
    (lambda s: s.configure_trigger(trigger(sweep="ROLL")), "NORM, AUTO"),
    (lambda s: s.configure_trigger(trigger(source="CHAN1", level_v=1.0, coupling="GND")), "AC, DC, LFR"),
    (lambda s: s.fetch(["CHAN1"], 1000, "FLOAT"), "WORD or BYTE"),  # type: ignore[arg-type]
    (lambda s: s.fetch(["CHAN1"], 1000, byte_order="BIG"), "LSBFirst, MSBFirst"),  # type: ignore[arg-type]
    (lambda s: s.fetch(["CHAN1"], 1000, points_mode="ALL"), "RAW, MAXimum, NORMal"),  # type: ignore[arg-type]
]
LEVELS: list[Deed] = [
    *(
        lambda s, x=x: s.configure_channel(1, channel(**x))
        for x in ({"offset": math.nan}, {"offset": math.inf}, {"full_scale": math.nan}, {"probe_ratio": math.inf})
    ),
    *(lambda s, v=v: s.configure_digital([0], v) for v in (8.1, -8.1, math.nan)),
    *(lambda s, v=v: s.configure_timebase(v) for v in (0.0, 501.0, math.nan)),
    lambda s: s.configure_timebase(1.0, "LEFT", math.nan),
    lambda s: s.configure_trigger(trigger(source="CHAN1", level_v=math.nan)),
    lambda s: s.configure_trigger(trigger(source="DIG0", holdoff_s=11.0)),
    lambda s: s.configure_acquisition("AVER", 0),
]


@pytest.mark.parametrize(("deed", "valid"), ENUMS)
def test_what_the_scope_does_not_have_is_refused_with_what_it_has(deed: Deed, valid: str) -> None:
    with pytest.raises(ConfigError, match=valid):
        deed(MsoX2024A(Nobody()))  # type: ignore[arg-type]


@pytest.mark.parametrize("deed", LEVELS)
def test_what_is_beyond_the_scope_is_refused(deed: Deed) -> None:
    with pytest.raises(LimitError):
        deed(MsoX2024A(Nobody()))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("deed", "valid"),
    [
        (lambda s: s.set_range("P8V"), "P35V or P60V"),
        (lambda s: s.save_state(0), "1 to 5"),
        (lambda s: s.recall_state(6), "1 to 5"),
    ],
)
def test_what_the_supply_does_not_have_is_refused_with_what_it_has(
    deed: Callable[[E3645A], object], valid: str
) -> None:
    with pytest.raises(ConfigError, match=valid):
        deed(E3645A(Nobody(), SupplyLimits(13.0, 2.2, 15.0)))  # type: ignore[arg-type]
