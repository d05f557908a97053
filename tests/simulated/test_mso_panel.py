"""Settings of the simulated oscilloscope: scaling by the probe, steps, limits, setups, status."""

from __future__ import annotations

import pytest

from instruments.simulated.mso_x2024a import SimulatedMsoX2024A
from instruments.simulated.scpi_syntax import encode_block
from tests.simulated.standin import StandIn


def ask(scope: SimulatedMsoX2024A, query: str) -> str:
    reply = scope.feed(query.encode() + b"\n").decode()
    assert reply.endswith("\n"), (query, list(scope.errors))
    return reply[:-1]


def number(scope: SimulatedMsoX2024A, query: str) -> float:
    return float(ask(scope, query))


def test_changing_the_probe_rescales_range_offset_and_trigger_level(scope: SimulatedMsoX2024A) -> None:
    scope.feed(b":CHAN1:RANG 0.8;OFFS 0.1;:TRIG:EDGE:SOUR CHAN1;LEV 0.2\n")
    scope.feed(b":CHAN1:UNIT AMP;PROB 10\n")
    assert number(scope, ":CHAN1:RANG?") == pytest.approx(8)
    assert number(scope, ":CHAN1:SCAL?") == pytest.approx(1)
    assert number(scope, ":CHAN1:OFFS?") == pytest.approx(1)
    assert number(scope, ":TRIG:EDGE:LEV?") == pytest.approx(2)
    assert number(scope, ":TRIG:LEV? CHAN1") == pytest.approx(2)
    assert ask(scope, ":CHAN1:UNIT?") == "AMP"
    assert not scope.errors


@pytest.mark.parametrize(("asked", "got"), [("1.6", 1.6), ("1.61", 4.0), ("0.9", 1.6), ("0.008", 0.008), ("40", 40)])
def test_range_takes_the_next_step_that_holds_it(scope: SimulatedMsoX2024A, asked: str, got: float) -> None:
    scope.feed(f":CHAN2:RANG {asked} V\n".encode())
    assert number(scope, ":CHAN2:RANG?") == pytest.approx(got)
    scope.feed(f":CHAN2:VERN ON;RANG {asked}\n".encode())
    assert number(scope, ":CHAN2:RANG?") == pytest.approx(float(asked), rel=1e-2)


@pytest.mark.parametrize(
    ("command", "query"),
    [
        (":CHAN1:RANG 41", ":CHAN1:RANG?"),
        (":CHAN1:RANG 0.007", ":CHAN1:RANG?"),
        (":CHAN1:PROB 0.01", ":CHAN1:PROB?"),
        (":CHAN1:PROB 2000", ":CHAN1:PROB?"),
        (":CHAN1:OFFS 51", ":CHAN1:OFFS?"),
        (":CHAN1:PROB:SKEW 1us", ":CHAN1:PROB:SKEW?"),
        (":TIM:RANG 501", ":TIM:RANG?"),
        (":TIM:RANG 1ns", ":TIM:RANG?"),
        (":TRIG:HOLD 11", ":TRIG:HOLD?"),
        (":TRIG:LEV 31,CHAN1", ":TRIG:LEV? CHAN1"),
        (":POD1:THR 8.1", ":POD1:THR?"),
        (":ACQ:COUN 0", ":ACQ:COUN?"),
    ],
)
def test_out_of_range_is_222_and_keeps_the_old_value(scope: SimulatedMsoX2024A, command: str, query: str) -> None:
    before = ask(scope, query)
    assert scope.feed(command.encode() + b"\n") == b""
    assert ask(scope, ":SYST:ERR?") == '-222,"Data out of range"'
    assert ask(scope, query) == before


@pytest.mark.parametrize(
    ("command", "code"),
    [
        (":CHAN1:IMP FIFT", -224),
        (":CHAN1:COUP GND", -224),
        (":ACQ:TYPE HRESOL", -224),
        (":TIM:REF MIDDLE", -224),
        (":CHAN1:LAB current", -104),
        (":CHAN5:DISP ON", -113),
        (":CHAN0:DISP ON", -113),
        (":DIG8:DISP ON", -113),
        (":POD2:DISP ON", -113),
        (":DIG0:THR HELLO", -104),
        (":TRIG:SOUR DIG8", -224),
        (":TRIG:SOUR DIG3;LEV 1", -221),
        (":SYST:ERR? STR", -108),
        (":AST?", -113),
        (":SYST:SET #14abcd", -230),
        ("*RCL 7", -230),
    ],
)
def test_what_the_instrument_refuses(scope: SimulatedMsoX2024A, command: str, code: int) -> None:
    assert scope.feed(command.encode() + b"\n") == b""
    assert [c for c, _ in scope.errors] == [code]


def test_read_backs_are_short_forms(scope: SimulatedMsoX2024A) -> None:
    scope.feed(
        b":ACQUIRE:TYPE HRESOLUTION;:TIMEBASE:REFERENCE RIGHT;:TRIGGER:SWEEP NORMAL;EDGE:SOURCE DIGITAL3;SLOPE EITHER;"
        b':CHANNEL3:BWLIMIT ON;LABEL "v board 12345";:WAV:FORM ASCII;BYTEORDER LSBFIRST\n'
    )
    assert ask(scope, ":ACQ:TYPE?;:TIM:REF?;:TRIG:SWE?;SOUR?;SLOP?;MODE?") == "HRES;RIGH;NORM;DIG3;EITH;EDGE"
    assert ask(scope, ":CHAN3:BWL?;LAB?;IMP?;:WAV:FORM?;BYT?;UNS?") == '1;"V BOARD 12";ONEM;ASC;LSBF;1'
    assert not scope.errors


def test_whole_subsystem_lines(scope: SimulatedMsoX2024A) -> None:
    line = ask(scope, ":CHANnel1?")
    assert line.startswith(":CHAN1:RANG +4.00000E+01;OFFS +0.00000E+00;COUP DC;IMP ONEM;DISP 1;BWL 0;INV 0;LAB ")
    assert ask(scope, "*RST;:STOP;:WAV?") == (
        ":WAV:UNS 1;VIEW MAIN;BYT MSBF;FORM BYTE;POIN +1000;SOUR CHAN1;SOUR:SUBS NONE"
    )
    assert ask(scope, ":TIM?") == ":TIM:MODE MAIN;REF CENT;MAIN:RANG +1.00000000E-03;POS +0.00000000E+00"


def test_pod_threshold_is_shared_and_display_is_per_line(scope: SimulatedMsoX2024A) -> None:
    scope.feed(b":DIG3:THR 1.65;:DIG2:DISP ON\n")
    assert number(scope, ":DIG7:THR?") == number(scope, ":POD1:THR?") == 1.65
    scope.feed(b":POD1:THR CMOS\n")
    assert number(scope, ":DIG0:THR?") == 2.5
    assert ask(scope, ":POD1:DISP?;:DIG2:DISP?;:DIG3:DISP?;:STAT? DIG2;:STAT? CHAN1") == "1;1;0;1;1"
    scope.feed(b":POD1:DISP OFF;:VIEW CHAN4;:BLAN CHAN1\n")
    assert ask(scope, ":POD1:DISP?;:CHAN4:DISP?;:CHAN1:DISP?") == "0;1;0"


def test_trigger_mode_reads_none_in_roll(scope: SimulatedMsoX2024A) -> None:
    scope.feed(b":TIM:MODE ROLL\n")
    assert ask(scope, ":TRIG:MODE?") == "NONE"


def test_learn_string_is_binary_and_brings_everything_back(world: StandIn, scope: SimulatedMsoX2024A) -> None:
    scope.feed(b':CHAN1:UNIT AMP;PROB 10;RANG 4;:TIM:RANG 2;REF LEFT;:DIG3:DISP ON;:WAV:FORM WORD;:SYST:DSP "hi"\n')
    reply = scope.feed(b":SYST:SET?\n")
    setup = reply[10:-1]
    assert b"\n" in setup
    assert scope.feed(b"*LRN?\n") == b":SYST:SET " + reply
    other = SimulatedMsoX2024A(world)
    wire = b":SYST:SET " + encode_block(setup) + b"\n"
    for k in range(len(wire)):
        assert other.feed(wire[k : k + 1]) == b""
    assert other.settings == scope.settings
    assert list(other.errors) == []
    damaged = bytearray(setup)
    damaged[30] ^= 1
    other.feed(b":SYST:SET " + encode_block(bytes(damaged)) + b"\n")
    assert [c for c, _ in other.errors] == [-230]
    assert other.settings == scope.settings


def test_save_and_recall(scope: SimulatedMsoX2024A) -> None:
    scope.feed(b":TIM:RANG 2;*SAV 3;*RST;:STOP\n")
    assert number(scope, ":TIM:RANG?") == 1e-3
    scope.feed(b"*RCL 3\n")
    assert number(scope, ":TIM:RANG?") == 2


def test_identities_and_options(world: StandIn) -> None:
    for identity in (
        "KEYSIGHT TECHNOLOGIES,MSO-X 2024A,MY00000002,02.41.2015102200",
        "AGILENT TECHNOLOGIES,DSO-X 2024A,MY00000003,02.43.2018020635",
    ):
        scope = SimulatedMsoX2024A(world, identity=identity, installed="0")
        assert ask(scope, "*IDN?;*OPT?;:SER?") == f"{identity};0;{identity.split(',')[2]}"


def test_lines_above_d7_stay_silent(scope: SimulatedMsoX2024A) -> None:
    assert scope.feed(b":DIG8:DISP?\n:DIG15:THR?\n:WAV:SOUR POD2\n") == b""
    assert len(scope.errors) == 3
