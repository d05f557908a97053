"""Root commands, system and kept settings of the simulated oscilloscope."""

from __future__ import annotations

import datetime

import numpy as np
import pytest

from instruments.simulated.mso_acquisition import Options
from instruments.simulated.mso_settings import PanelQuirks
from instruments.simulated.mso_x2024a import SimulatedMsoX2024A
from tests.simulated.standin import Floats, StandIn


def ask(scope: SimulatedMsoX2024A, query: str) -> str:
    reply = scope.feed(query.encode() + b"\n").decode()
    assert reply.endswith("\n"), (query, list(scope.errors))
    return reply[:-1]


def codes(scope: SimulatedMsoX2024A) -> list[int]:
    return [code for code, _ in scope.errors]


def test_view_blank_and_status(scope: SimulatedMsoX2024A) -> None:
    scope.feed(b":VIEW CHAN3;:VIEW POD1;:BLAN DIG2;:BLAN CHAN1\n")
    assert ask(scope, ":STAT? CHAN1;STAT? CHAN3;STAT? POD1;STAT? DIG2;STAT? DIGital3") == "0;1;1;0;1"
    assert ask(scope, ":CHAN3:DISP?;:DIG2:DISP?") == "1;0"
    for everything in (":BLANk", ":VIEW CHAN1;:BLANk ALL"):
        scope.feed(everything.encode() + b"\n")
        assert ask(scope, ":STAT? CHAN1;STAT? CHAN3;STAT? POD1") == "0;0;0"
    assert not scope.errors


def test_clearing_the_screen_leaves_a_stopped_scope_without_data(world: StandIn, scope: SimulatedMsoX2024A) -> None:
    for command in (b":DISP:CLE\n", b":CDIS\n"):
        scope.feed(b":TRIG:SWE AUTO;:TIM:RANG 1E-3;:SING\n")
        scope.tick(scope.now_s + 1.0)
        assert scope.feed(b":WAV:DATA?\n")[:10] == b"#800001000"
        scope.feed(command)
        assert scope.feed(b":WAV:DATA?\n") == b"#800000000\n"


class Wave(StandIn):
    """CHAN2: 1 V at 500 Hz around 2 V; the rest silent."""

    def analog_v(self, channel: int, t_s: Floats, aperture_s: float) -> Floats:
        return 2 + np.sin(2 * np.pi * 500 * t_s) if channel == 2 else np.zeros(t_s.size)


def test_autoscale_shows_what_has_a_signal_and_blocks_meanwhile() -> None:
    scope = SimulatedMsoX2024A(Wave(), panel=PanelQuirks(autoscale_s=2.0))
    scope.feed(b":STOP;*CLS\n")
    assert scope.feed(b":AUToscale;*OPC?\n") == b""
    assert scope.tick(1.9) == b""
    assert scope.tick(2.1) == b"1\n"
    assert ask(scope, ":CHAN1:DISP?;:CHAN2:DISP?;:TRIG:SOUR?;SWE?;:RST?") == "0;1;CHAN2;AUTO;RUN"
    low = float(ask(scope, ":CHAN2:OFFS?")) - float(ask(scope, ":CHAN2:RANG?")) / 2
    high = float(ask(scope, ":CHAN2:OFFS?")) + float(ask(scope, ":CHAN2:RANG?")) / 2
    assert low < 1
    assert high > 3
    assert high - low <= 8
    assert 1 / 500 <= float(ask(scope, ":TIM:RANG?")) <= 10 / 500
    scope.tick(5.0)
    assert float(ask(scope, ":MEAS:FREQ? CHAN2")) == pytest.approx(500, rel=0.01)
    assert not scope.errors


def test_registers_enable_what_they_say(scope: SimulatedMsoX2024A) -> None:
    scope.feed(b":OPEE 2048;:MTE 1;:OVL 15;*SRE 128\n")
    assert ask(scope, ":OPEE?;MTEenable?;OVLenable?;MTER?;OVLR?") == "+2048;+1;+15;+0;+0"
    assert not int(ask(scope, "*STB?")) & 128
    scope.overloaded = True
    assert int(ask(scope, ":OPER:COND?")) & 2048
    scope.tick(1.0)
    assert int(ask(scope, "*STB?")) & 192 == 192
    assert int(ask(scope, ":OPER?")) & 2048
    assert not int(ask(scope, "*STB?")) & 192


def test_the_clock_runs_and_can_be_set() -> None:
    scope = SimulatedMsoX2024A(StandIn(), panel=PanelQuirks(date=datetime.datetime(2026, 2, 28, 23, 59, 50)))
    assert ask(scope, ":SYST:DATE?;TIME?") == "+2026,+2,+28;+23,+59,+50"
    scope.tick(15.0)
    assert ask(scope, ":SYST:DATE?;TIME?") == "+2026,+3,+1;+0,+0,+5"
    scope.feed(b"*CLS;:SYST:DATE 2024,FEBruary,29;TIME 12,30,0\n")
    scope.tick(16.0)
    assert ask(scope, ":SYST:DATE?;TIME?") == "+2024,+2,+29;+12,+30,+1"
    scope.feed(b":SYST:DATE 2024,12,24\n")
    assert ask(scope, ":SYST:DATE?") == "+2024,+12,+24"
    scope.feed(b":SYST:DATE 2025,2,29\n:SYST:TIME 24,0,0\n:SYST:DATE 2024,12\n")
    assert codes(scope) == [-222, -222, -109]


@pytest.mark.parametrize(
    ("command", "value", "answer", "reset"),
    [
        (":DISP:LABel", "ON", "1", "0"),
        (":DISP:PERS", "INF", "INF", "MIN"),
        (":DISP:PERS", "2 s", "+2.00000E+00", "MIN"),
        (":DISP:VECT", "0", "0", "1"),
        (":DISP:ANN:TEXT", '"it ""is"""', '"it ""is"""', '""'),
        (":EXT:RANG", "1.6", "+1.60000E+00", "+8.00000E+00"),
        (":EXT:PROB", "10", "+1.00000E+01", "+1.00000E+00"),
        (":EXT:UNIT", "AMP", "AMP", "VOLT"),
        (":HARD:PAL", "GRAYscale", "GRAY", "COL"),
        (":MARK:MODE", "MANual", "MAN", "OFF"),
        (":MARK:X1P", "1ms", "+1.00000E-03", "+0.00000E+00"),
        (":SYST:LOCK", "ON", "1", "0"),
        (":SYST:MENU", "MEASure", "MEAS", "OFF"),
        (":SYST:PREC", "1", "1", "0"),
        (":TIM:VERN", "1", "1", "0"),
        (":TIM:WIND:RANG", "1E-4", "+1.00000E-04", "+5.00000000E-04"),
        (":TRIG:TV:STAN", "PAL", "PAL", "NTSC"),
        (":TRIG:TV:LINE", "17", "+17", "+1"),
        (":AUT:CHAN", "ALL", "ALL", "DISP"),
        (":CHAN2:PROB:HEAD", "DIFF6", "DIFF6", "SEND0"),
    ],
)
def test_kept_settings(scope: SimulatedMsoX2024A, command: str, value: str, answer: str, reset: str) -> None:
    assert ask(scope, f"{command}?") == reset
    assert ask(scope, f"{command} {value};{command}?") == answer
    setup = scope.feed(b":SYST:SET?\n")[:-1]
    assert ask(scope, f"*SAV 3;*RST;{command}?") == reset
    assert ask(scope, f"*RCL 3;{command}?") == answer
    assert scope.feed(b"*RST;:SYST:SET " + setup + f";{command}?\n".encode()) == answer.encode() + b"\n"
    scope.feed(f"*CLS;{command} ?\n{command} NONSENSE,2\n{command} #11x\n".encode())
    assert len(scope.errors) == 3
    assert ask(scope, f"{command}?") == answer


def test_markers_have_differences_and_the_external_input_a_line(scope: SimulatedMsoX2024A) -> None:
    scope.feed(b":MARK:X1P -1E-3;X2P 2E-3;Y1P 1;Y2P 0.5\n")
    assert ask(scope, ":MARK:XDEL?;YDEL?") == "+3.00000E-03;-5.00000E-01"
    assert ask(scope, ":EXT?") == ":EXT:BWL 0;RANG +8.00000E+00;UNIT VOLT;PROB +1.00000E+00"


def test_what_is_not_there_does_not_answer(scope: SimulatedMsoX2024A) -> None:
    absent = [":WGEN:FREQ?", ":FUNC:DISP?", ":SBUS1:MODE?", ":DVM:CURR?", ":WMEM1:DISP?", ":SAVE:PWD?", ":FFT:DISP?"]
    for query in absent:
        assert scope.feed(query.encode() + b"\n") == b""
    assert codes(scope) == [-113] * len(absent)


def test_labels_with_quotation_marks_come_back_as_they_were(scope: SimulatedMsoX2024A) -> None:
    assert ask(scope, """:CHAN1:LAB "A""B";LAB?;:DIG0:LAB 'C"D';LAB?""") == '"A""B";"C""D"'
    assert 'LAB "A""B";' in ask(scope, ":CHAN1?")


def test_numbers_out_of_range_can_be_clipped_instead(world: StandIn) -> None:
    scope = SimulatedMsoX2024A(world, panel=PanelQuirks(out_of_range="clip"))
    scope.feed(b"*CLS;:CHAN1:RANG 1000;:TIM:RANG 1E9;:TRIG:HOLD 0\n")
    assert ask(scope, ":CHAN1:RANG?;:TIM:RANG?;:TRIG:HOLD?") == "+4.00000E+01;+5.00000000E+02;+4.00000000E-08"
    assert not scope.errors


def test_vertical_steps_and_offsets_are_switchable(world: StandIn) -> None:
    scope = SimulatedMsoX2024A(world, panel=PanelQuirks(vertical_steps="exact", small_offset_v=1.0))
    scope.feed(b"*CLS;:CHAN1:RANG 1;OFFS 1.5\n")
    assert ask(scope, ":CHAN1:RANG?") == "+1.00000E+00"
    assert codes(scope) == [-222]


def test_a_single_can_be_what_opc_waits_for(world: StandIn) -> None:
    for pends, answer in ((True, b""), (False, b"1\n")):
        scope = SimulatedMsoX2024A(world, acquisition=Options(single_pends=pends))
        scope.feed(b":STOP;:TIM:RANG 1E-3;:TRIG:SWE NORM\n")
        assert scope.feed(b":SING;*OPC?\n") == answer
        scope.feed(b"*TRG\n") if not pends else scope.acquisition.force(scope.now_s)
        assert scope.tick(1.0) == (b"1\n" if pends else b"")


def test_errors_and_picture_that_nobody_has_confirmed_are_switchable(world: StandIn) -> None:
    scope = SimulatedMsoX2024A(world, panel=PanelQuirks(suffix_error=-114, picture="PNG", digital_level="ignore"))
    scope.feed(b":STOP;*CLS\n")
    assert scope.feed(b":DIG8:DISP?\n") == b""
    assert codes(scope) == [-114]
    assert scope.feed(b":DISP:DATA?\n")[10:14] == b"\x89PNG"
    assert ask(scope, "*CLS;:TRIG:EDGE:SOUR DIG1;LEV 1.5;LEV?") == "+0.00000E+00"
    assert not scope.errors
