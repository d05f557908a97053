"""Measurements of the simulated oscilloscope against signals whose parameters are known."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from instruments.simulated.mso_record import FrontEnd
from instruments.simulated.mso_x2024a import SimulatedMsoX2024A
from tests.simulated.standin import Floats, StandIn

IDEAL = FrontEnd(gain_sd=0.0, offset_sd_div=0.0, noise_div=0.0)
POINTS = 20_000
NONE = "+9.9E+37"


@dataclass
class Signals(StandIn):
    """Each channel a function of time."""

    of: dict[int, Callable[[Floats], Floats]] = field(default_factory=dict)

    def analog_v(self, channel: int, t_s: Floats, aperture_s: float) -> Floats:
        function = self.of.get(channel)
        return np.asarray(function(t_s + aperture_s / 2)) if function else np.zeros(t_s.size)


def sine(hz: float, amplitude_v: float, offset_v: float = 0.0, phase: float = 0.0) -> Callable[[Floats], Floats]:
    return lambda t: offset_v + amplitude_v * np.sin(2 * math.pi * hz * t + phase)


def square(hz: float, low_v: float, high_v: float, duty: float) -> Callable[[Floats], Floats]:
    return lambda t: np.where((t * hz) % 1.0 < duty, high_v, low_v)


def trapezoid(hz: float, high_v: float, rise_s: float) -> Callable[[Floats], Floats]:
    """From 0 to high_v in rise_s, half a period up."""

    def at(t: Floats) -> Floats:
        phase_s = (t * hz) % 1.0 / hz
        up, down = phase_s / rise_s, 1 - (phase_s - 0.5 / hz) / rise_s
        return np.asarray(high_v * np.clip(np.where(phase_s < 0.5 / hz, up, down), 0.0, 1.0))

    return at


def measured(of: dict[int, Callable[[Floats], Floats]], setup: str = "") -> Callable[[str], str]:
    """Capture 20 ms of these signals, triggered by force at 0; gives what asks about them."""
    scope = SimulatedMsoX2024A(Signals(of=of), seed=1, front=IDEAL, memory_points=POINTS)
    shown = ";".join(f":CHAN{n}:DISP ON;RANG 8;OFFS 0" for n in of)
    text = f":STOP;*CLS;{shown};:TIM:RANG 20E-3;:TRIG:SWE NORM;:ACQ:TYPE HRES;{setup};:SING\n"
    assert scope.feed(text.encode()) == b""
    scope.tick(1.0)
    scope.feed(b":TRIG:FORC\n")
    scope.tick(2.0)
    assert not scope.errors, list(scope.errors)

    def ask(query: str) -> str:
        reply = scope.feed(query.encode() + b"\n").decode()
        assert reply.endswith("\n"), (query, list(scope.errors))
        return reply[:-1]

    return ask


@settings(max_examples=25, deadline=None)
@given(hz=st.floats(150, 3000), low_v=st.floats(-3, 0), span_v=st.floats(0.5, 3), duty=st.floats(0.2, 0.8))
def test_a_square_wave(hz: float, low_v: float, span_v: float, duty: float) -> None:
    ask = measured({1: square(hz, low_v, low_v + span_v, duty)})
    step_s, step_v = 20e-3 / POINTS, 8 / 199 / 256 * 16

    def value(name: str) -> float:
        return float(ask(f":MEAS:{name}? CHAN1"))

    assert value("FREQ") == pytest.approx(hz, rel=4 * step_s * hz)
    assert value("PER") == pytest.approx(1 / hz, abs=2 * step_s)
    assert value("COUN") == pytest.approx(hz, rel=4 * step_s * hz)
    assert value("PWID") == pytest.approx(duty / hz, abs=2 * step_s)
    assert value("NWID") == pytest.approx((1 - duty) / hz, abs=2 * step_s)
    assert value("DUTY") == pytest.approx(100 * duty, abs=300 * step_s * hz)
    assert value("DUTY") + value("NDUT") == pytest.approx(100, abs=300 * step_s * hz)
    assert value("VPP") == pytest.approx(span_v, abs=2 * step_v)
    assert value("VMIN") == pytest.approx(low_v, abs=step_v)
    assert value("VTOP") == pytest.approx(low_v + span_v, abs=step_v + span_v / 256)
    assert value("VBAS") == pytest.approx(low_v, abs=step_v + span_v / 256)
    assert value("VAMP") == pytest.approx(value("VTOP") - value("VBAS"), rel=1e-4)
    cycle = low_v + span_v * duty
    assert float(ask(":MEAS:VAV? CYCLe,CHAN1")) == pytest.approx(cycle, abs=0.02 * span_v + step_v)
    square_mean = duty * (low_v + span_v) ** 2 + (1 - duty) * low_v**2
    assert float(ask(":MEAS:VRMS? CYCL,DC,CHAN1")) == pytest.approx(math.sqrt(square_mean), rel=0.03, abs=step_v)


def test_a_sine_has_its_rms_area_extremes_and_no_overshoot() -> None:
    ask = measured({1: sine(200.0, 2.0, 1.0)})
    assert float(ask(":MEAS:VAV? DISPlay , CHAN1")) == pytest.approx(1.0, abs=0.01)
    assert float(ask(":MEAS:VRMS? DISP,AC,CHAN1")) == pytest.approx(2 / math.sqrt(2), rel=1e-3)
    assert float(ask(":MEAS:SDEV? CHAN1")) == pytest.approx(2 / math.sqrt(2), rel=1e-3)
    assert float(ask(":MEAS:AREa? DISPlay,CHAN1")) == pytest.approx(0.02, rel=1e-2)
    for name, extreme in (("XMAX", 3.0), ("XMIN", -1.0)):
        at = ask(f":MEAS:{name}? CHAN1")
        assert float(ask(f":MEAS:VTIM? {at},CHAN1")) == pytest.approx(extreme, abs=0.01)
    assert abs(float(ask(":MEAS:OVER? CHAN1"))) < 1
    first = float(ask(":MEAS:TEDG? +1,CHAN1"))
    second = float(ask(":MEAS:TEDG? +2,CHAN1"))
    assert second - first == pytest.approx(0.005, abs=1e-6)
    # A crossing needs no whole transition on the screen, so that one comes before.
    assert float(ask(":MEAS:TVAL? 1.0,+2,CHAN1")) == pytest.approx(first, abs=1e-5)
    assert float(ask(":MEAS:TVAL? 1.0,-2,CHAN1")) == pytest.approx(first + 0.0025, abs=1e-5)
    assert ask(":MEAS:TEDG? +9,CHAN1") == ask(":MEAS:TVAL? 3.5,+1,CHAN1") == NONE
    assert ask(":MEAS:VTIM? 1,CHAN1") == NONE


def test_rise_time_follows_the_thresholds() -> None:
    ask = measured({1: trapezoid(200.0, 2.0, 1e-3)})
    assert float(ask(":MEAS:RIS? CHAN1")) == pytest.approx(0.8e-3, rel=0.02)
    assert float(ask(":MEAS:FALL? CHAN1")) == pytest.approx(0.8e-3, rel=0.02)
    ask(":MEAS:DEF THR,PERC,80,50,20,CHAN1;:MEAS:SOUR?")
    assert float(ask(":MEAS:RIS? CHAN1")) == pytest.approx(0.6e-3, rel=0.02)
    ask(":MEAS:DEF THR,ABS,1.5,1.0,0.5,CHAN1;:MEAS:SOUR?")
    assert float(ask(":MEAS:RIS? CHAN1")) == pytest.approx(0.5e-3, rel=0.02)
    assert ask(":MEAS:DEF? THR,CHAN1") == "THR,ABS,+1.50000E+00,+1.00000E+00,+5.00000E-01"
    assert ask(":MEAS:DEF THR,STAN,CHAN1;DEF? THR,CHAN1").startswith("THR,PERC,+9.00000E+01")
    assert ask(":MEAS:DEF THR,PERC,20,50,80,CHAN1;:SYST:ERR?").startswith("-222")
    assert float(ask(":MEAS:PEDG? CHAN1")) == float(ask(":MEAS:PPUL? CHAN1")) + 1 == 4


def test_two_sources() -> None:
    ask = measured({1: sine(500.0, 2.0), 3: sine(500.0, 1.0, phase=-math.pi / 3)})
    assert float(ask(":MEAS:PHAS? CHAN1,CHAN3")) % 360 == pytest.approx(60.0, abs=0.5)
    assert float(ask(":MEAS:DEL? CHAN1,CHAN3")) % (1 / 500) == pytest.approx(1 / 500 / 6, abs=1e-6)
    assert float(ask(":MEAS:VRAT? DISP,CHAN1,CHAN3")) == pytest.approx(20 * math.log10(2), abs=0.02)
    ask(":MEAS:SOUR CHAN1,CHAN3;:MEAS:SOUR?")
    assert float(ask(":MEAS:PHAS?")) % 360 == pytest.approx(60.0, abs=0.5)
    ask(":MEAS:DEF DEL,+1,-1;DEF? DEL")
    assert float(ask(":MEAS:DEL?")) % (1 / 500) == pytest.approx(1 / 500 / 6 + 1e-3, abs=1e-6)


def test_what_cannot_be_measured_has_no_value() -> None:
    ask = measured({1: lambda t: np.full(t.size, 0.5)})
    for name in ("FREQ", "PER", "PWID", "RIS", "FALL", "DUTY", "OVER", "PRES", "BWID", "COUN"):
        assert ask(f":MEAS:{name}? CHAN1") == NONE
    assert ask(":MEAS:VAV? CYCL,CHAN1") == NONE
    assert float(ask(":MEAS:VAV? CHAN1")) == pytest.approx(0.5, abs=0.01)
    assert ask(":MEAS:VPP? CHAN2") == ask(":MEAS:PHAS? CHAN1,CHAN2") == ask(":MEAS:DEL? CHAN1") == NONE
    assert ask(":MEAS:VPP? CHAN7;:SYST:ERR?") == '-224,"Illegal parameter value"'
    assert ask(":MEAS:FREQ? DIG8;:SYST:ERR?") == '-224,"Illegal parameter value"'


def test_digital_lines_have_times() -> None:
    world = StandIn(edges=[(1.0 + k * 1e-3, 0, 1 - k % 2) for k in range(60)])
    scope = SimulatedMsoX2024A(world, seed=1, front=IDEAL)
    scope.feed(b":STOP;*CLS;:POD1:DISP ON;:TIM:RANG 20E-3;:TRIG:SWE NORM;EDGE:SOUR DIG0;:SING\n")
    scope.tick(2.0)
    assert float(scope.feed(b":MEAS:FREQ? DIG0\n")) == pytest.approx(500, rel=1e-3)
    assert float(scope.feed(b":MEAS:DUTY? DIGital0\n")) == pytest.approx(50, abs=0.1)
    assert scope.feed(b":MEAS:FREQ? DIG3\n") == b"+9.9E+37\n"


def test_installed_measurements_gather_statistics() -> None:
    world = Signals(of={1: sine(500.0, 2.0)})
    scope = SimulatedMsoX2024A(world, seed=1, front=IDEAL)

    def ask(query: str) -> str:
        return scope.feed(query.encode() + b"\n").decode().strip()

    scope.feed(b":STOP;*CLS;:CHAN1:RANG 8;:TIM:RANG 20E-3;:TRIG:SWE AUTO;:ACQ:TYPE HRES\n")
    scope.feed(b":MEAS:SOUR CHAN1;:MEAS:VPP;VAV;FREQ CHAN1;:MEAS:PHAS CHAN1,CHAN3;:MEAS:VMAX\n")
    for k in range(3):
        world.of[1] = sine(500.0, 1.0 + k)
        scope.feed(b":SING\n")
        scope.tick(scope.now_s + 5.0)
        row = ask(":MEAS:RES?").split(",")
    assert row[::7] == ["Average(1)", "Frequency(1)", "Phase(1-3)", "Maximum(1)"]  # the oldest of five is gone
    current, least, most, mean, spread = (float(x) for x in row[22:27])
    assert (current, least, most, mean) == pytest.approx((3.0, 1.0, 3.0, 2.0), abs=0.03)
    assert spread == pytest.approx(math.sqrt(2 / 3), abs=0.03)
    assert row[27] == "3"
    assert row[15] == NONE  # CHAN3 is not shown
    assert ask(":MEAS:STAT MAX;:MEAS:RES?").split(",")[3] == row[24]
    assert ask(":MEAS:STAT:RES;:MEAS:STAT COUN;:MEAS:RES?") == "0,0,0,0"
    assert ask(":MEAS:CLE;:MEAS:RES?") == ""
    assert not scope.errors
