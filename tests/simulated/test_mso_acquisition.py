"""RUN, SINGle, DIGitize, triggers, memory and rate of the simulated oscilloscope, in virtual time."""

from __future__ import annotations

import pytest

from instruments.simulated.mso_acquisition import Options
from instruments.simulated.mso_x2024a import SimulatedMsoX2024A
from tests.simulated.standin import StandIn

SINGLE = b":TIM:RANG 2;REF LEFT;:TRIG:SWE NORM;:TRIG:EDGE:SOUR DIG0;SLOP POS;:POD1:DISP ON;THR TTL;:SING\n"


def ask(scope: SimulatedMsoX2024A, query: str) -> str:
    reply = scope.feed(query.encode() + b"\n").decode()
    assert reply.endswith("\n"), (query, list(scope.errors))
    return reply[:-1]


def make(world: StandIn, **options: object) -> SimulatedMsoX2024A:
    scope = SimulatedMsoX2024A(world, seed=3, acquisition=Options(**options))  # type: ignore[arg-type]
    scope.feed(b":STOP\n*CLS\n")
    return scope


def test_power_on_runs_with_automatic_sweep(world: StandIn) -> None:
    scope = SimulatedMsoX2024A(world)
    assert ask(scope, ":RST?;:OPER:COND?;:TRIG:SWE?") == "RUN;+8;AUTO"
    scope.tick(1.0)
    assert ask(scope, ":TER?;:TER?") in ("+1;+0", "+1;+1")
    scope.feed(b":STOP\n")
    assert ask(scope, ":RST?;:OPER:COND?") == "STOP;+0"


def test_edges_before_the_pretrigger_is_filled_are_lost(world: StandIn) -> None:
    world.edges = [(0.1, 0, 1), (0.15, 0, 0), (1.0, 0, 1), (1.5, 0, 0)]
    scope = make(world)
    scope.feed(SINGLE)
    assert ask(scope, ":RST?;:OPER:COND?;:AER?;:TER?") == "SING;+8;+0;+0"
    scope.tick(0.16)
    assert ask(scope, ":OPER:COND?") == "+8"
    scope.tick(0.3)
    assert ask(scope, ":OPER:COND?;:AER?;:AER?;:TER?") == "+40;+1;+0;+0"
    scope.tick(1.1)
    assert ask(scope, ":OPER:COND?;:TER?;:TER?") == "+8;+1;+0"
    scope.tick(2.79)
    assert ask(scope, ":RST?") == "SING"
    scope.tick(2.9)
    assert ask(scope, ":RST?;:OPER:COND?") == "STOP;+0"
    assert scope.acquisition.record is not None
    assert scope.acquisition.record.trigger_s == 1.0


@pytest.mark.parametrize(("reference", "fill_s"), [("LEFT", 0.2), ("CENT", 1.0), ("RIGH", 1.8)])
def test_the_reference_decides_how_long_arming_takes(world: StandIn, reference: str, fill_s: float) -> None:
    scope = make(world)
    scope.feed(b":TIM:RANG 2;REF " + reference.encode() + b";:TRIG:SWE NORM;:SING\n")
    scope.tick(fill_s)
    assert ask(scope, ":OPER:COND?") == "+8"
    scope.tick(fill_s + 0.01)
    assert ask(scope, ":OPER:COND?") == "+40"


def test_an_edge_that_becomes_known_late_still_triggers(world: StandIn) -> None:
    scope = make(world)
    scope.feed(SINGLE)
    scope.tick(1.0)
    world.edges = [(0.9, 0, 1)]
    scope.tick(1.1)
    assert ask(scope, ":TER?") == "+1"
    assert scope.acquisition.record is None


@pytest.mark.parametrize(("slope", "at"), [("POS", 1.0), ("NEG", 0.6), ("EITH", 0.6)])
def test_slopes(world: StandIn, slope: str, at: float) -> None:
    world.edges = [(0.1, 3, 1), (0.6, 3, 0), (1.0, 3, 1)]
    scope = make(world)
    scope.feed(SINGLE + b":TRIG:EDGE:SOUR DIG3;SLOP " + slope.encode() + b"\n:SING\n")
    scope.tick(5.0)
    assert scope.acquisition.record is not None
    assert scope.acquisition.record.trigger_s == at


@pytest.mark.parametrize("threshold", ["ECL", "3.4", "-8"])
def test_a_threshold_beyond_the_logic_levels_never_triggers(world: StandIn, threshold: str) -> None:
    world.edges = [(1.0, 0, 1)]
    scope = make(world)
    scope.feed(SINGLE + b":POD1:THR " + threshold.encode() + b"\n")
    scope.tick(5.0)
    assert ask(scope, ":RST?") == "SING"


def test_normal_sweep_waits_for_ever_and_automatic_does_not(world: StandIn) -> None:
    scope = make(world)
    scope.feed(b":TIM:RANG 1E-3;:TRIG:SWE NORM;:SING\n")
    scope.tick(3600.0)
    assert ask(scope, ":OPER:COND?") == "+40"
    scope.feed(b":TRIG:SWE AUTO;:SING\n")
    scope.tick(3601.0)
    assert ask(scope, ":RST?") == "STOP"
    forced = make(world, single_forces_normal=True)
    forced.feed(b":TIM:RANG 1E-3;:TRIG:SWE AUTO;:SING\n")
    forced.tick(100.0)
    assert ask(forced, ":RST?") == "SING"


@pytest.mark.parametrize("command", [b":TRIG:FORC\n", b"*TRG\n"])
def test_forcing_waits_for_the_pretrigger(world: StandIn, command: bytes) -> None:
    scope = make(world)
    scope.feed(SINGLE + command)
    scope.tick(0.1)
    assert ask(scope, ":TER?") == "+0"
    scope.tick(0.21)
    assert ask(scope, ":TER?") == "+1"
    scope.tick(5.0)
    assert scope.acquisition.record is not None
    assert scope.acquisition.record.trigger_s == pytest.approx(0.205)


def test_analogue_edge(world: StandIn) -> None:
    scope = make(world)
    scope.feed(b":CHAN3:DISP ON;RANG 16;:TIM:RANG 0.1;REF LEFT;:TRIG:SWE NORM;EDGE:SOUR CHAN3;LEV 3,CHAN3\n:SING\n")
    for k in range(1, 40):
        scope.tick(k * 0.1)
    assert scope.acquisition.record is not None
    # A ramp of 1 V/s leaves the hysteresis of 0.15 divisions above the level 0.3 s after crossing it.
    assert scope.acquisition.record.trigger_s == pytest.approx(3.3, abs=0.31)


def test_line_trigger_and_unconnected_external(world: StandIn) -> None:
    scope = make(world)
    scope.feed(b":TIM:RANG 1E-3;:TRIG:SWE NORM;SOUR LINE;:SING\n")
    scope.tick(0.1)
    assert ask(scope, ":RST?") == "STOP"
    scope.feed(b":TRIG:SOUR EXT;:SING\n")
    scope.tick(10.0)
    assert ask(scope, ":RST?") == "SING"
    world.edges = [(11.0, 5, 1)]
    wired = make(world, ext_bit=5)
    wired.feed(b":TIM:RANG 1E-3;:TRIG:SWE NORM;SOUR EXT;EDGE:LEV 1.5,EXT;:SING\n")
    wired.tick(12.0)
    assert ask(wired, ":RST?") == "STOP"


def test_other_trigger_modes_never_trigger(world: StandIn) -> None:
    scope = make(world)
    world.edges = [(1.0, 0, 1)]
    scope.feed(SINGLE + b":TRIG:MODE GLIT\n")
    scope.tick(5.0)
    assert ask(scope, ":TRIG:MODE?;:RST?") == "GLIT;SING"


def test_digitize_blocks_every_port_until_it_is_done(world: StandIn) -> None:
    world.edges = [(1.0, 0, 1)]
    scope = make(world)
    scope.feed(SINGLE + b":STOP\n")
    other = scope.open_port()
    assert scope.feed(b":DIG CHAN1,POD1;*OPC?\n") == b""
    assert other.feed(b"*IDN?\n") == b""
    assert scope.wake_s is not None
    scope.tick(1.5)
    assert scope.wake_s == pytest.approx(2.8, abs=0.02)
    assert scope.tick(2.79) == b""
    assert scope.tick(2.82) == b"1\n"
    assert other.take().startswith(b"AGILENT")
    assert ask(scope, ":RST?") == "STOP"
    assert scope.acquisition.record is not None


def test_device_clear_ends_a_digitize_that_no_trigger_ends(world: StandIn) -> None:
    scope = make(world)
    scope.write(b":TRIG:SWE NORM;:DIG;*OPC?")
    scope.advance(1000.0)
    assert scope.read() == (b"", False)
    scope.clear()
    scope.write(b":RST?")
    assert scope.read() == (b"STOP\n", True)
    assert scope.acquisition.record is None


def test_changing_a_setting_starts_the_filling_again(world: StandIn) -> None:
    world.edges = [(0.4, 0, 1), (0.9, 0, 1)]
    scope = make(world)
    scope.feed(SINGLE)
    scope.tick(0.35)
    scope.feed(b":CHAN1:RANG 4\n")
    scope.tick(3.0)
    assert scope.acquisition.record is not None
    assert scope.acquisition.record.trigger_s == 0.9


@pytest.mark.parametrize(("what", "points"), [("empty", "+0"), ("zeros", "+1000"), ("stale", "+1000")])
def test_a_single_without_trigger_leaves_nothing_zeros_or_the_old_record(
    world: StandIn, what: str, points: str
) -> None:
    scope = make(world, untriggered=what)
    scope.feed(b":TIM:RANG 1E-3;:SING\n")
    scope.tick(1.0)
    old = scope.feed(b":WAV:DATA?\n")
    scope.feed(b":TRIG:SWE NORM;:SING\n")
    scope.tick(2.0)
    scope.feed(b":STOP\n")
    assert ask(scope, ":WAV:PRE?").split(",")[2] == points
    now = scope.feed(b":WAV:DATA?\n")
    if what == "empty":
        assert now == b"#800000000\n"
    elif what == "zeros":
        assert now == b"#800001000" + b"\0" * 1000 + b"\n"
    else:
        assert now == old


@pytest.mark.parametrize(
    ("memory", "shown", "range_s", "acquired", "rate"),
    [
        (100_000, "CHAN1", 2.0, 100_000, 50e3),
        (100_000, "CHAN1,CHAN3", 2.0, 100_000, 50e3),
        (100_000, "CHAN1,CHAN2", 2.0, 50_000, 25e3),
        (100_000, "CHAN1,POD1", 2.0, 50_000, 25e3),
        (100_000, "CHAN1,CHAN2,POD1", 2.0, 25_000, 10e3),
        (1_000_000, "CHAN1", 2.0, 1_000_000, 500e3),
        (1_000_000, "CHAN1,CHAN3,POD1", 2.0, 500_000, 250e3),
        (1_000_000, "CHAN1,POD1", 1.2e-3, 500_000, 400e6),
        (1_000_000, "CHAN1", 1e-6, 1_000_000, 2e9),
        (1_000_000, "CHAN1,CHAN2", 1e-6, 500_000, 1e9),
    ],
)
def test_memory_and_rate(world: StandIn, memory: int, shown: str, range_s: float, acquired: int, rate: float) -> None:
    scope = make(world, memory_points=memory)
    for source in shown.split(","):
        scope.feed(f":VIEW {source}\n".encode())
    scope.feed(f":TIM:RANG {range_s}\n".encode())
    assert int(ask(scope, ":ACQ:POIN?")) == acquired
    assert float(ask(scope, ":ACQ:SRAT?")) == pytest.approx(rate)


def test_running_has_half_the_memory_and_screens_can_be_untidy(world: StandIn) -> None:
    scope = make(world, screen_fraction=0.96)
    scope.feed(b":TIM:RANG 2;:POD1:DISP ON;:WAV:POIN:MODE RAW;:WAV:POIN MAX\n:TRIG:SWE AUTO;:SING\n")
    scope.tick(5.0)
    assert ask(scope, ":ACQ:POIN?;:WAV:POIN?") == "+500000;+480000"
    scope.feed(b":WAV:POIN 100000\n")
    assert ask(scope, ":WAV:POIN?") == "+96000"
    scope.feed(b":RUN\n")
    scope.tick(20.0)
    assert int(ask(scope, ":ACQ:POIN?")) == 250_000
    assert ask(scope, ":WAV:POIN?") == "+60000"


def test_operation_event_register_and_its_summary(world: StandIn) -> None:
    scope = make(world)
    scope.feed(b":OPEE 32;*SRE 128\n" + SINGLE)
    assert not int(ask(scope, "*STB?")) & 128
    scope.tick(1.0)
    assert int(ask(scope, "*STB?")) & 192 == 192
    assert int(ask(scope, ":OPER?")) & 40 == 40
    assert ask(scope, ":OPER:EVEN?") == "+0"
    assert ask(scope, ":OPEE?") == "+32"


def test_same_seed_same_record_other_seed_other_record(world: StandIn) -> None:
    def data(seed: int) -> bytes:
        scope = SimulatedMsoX2024A(world, seed=seed)
        scope.feed(b":TIM:RANG 1E-3;:SING\n")
        scope.tick(1.0)
        return scope.feed(b":WAV:DATA?\n")

    assert data(1) == data(1)
    assert data(1) != data(2)


PULSES = [(0.10, 1, 1), (0.11, 1, 0), (0.20, 1, 1), (0.24, 1, 0), (0.30, 1, 1), (0.32, 1, 0)]
"""On D1: 10, 40 and 20 ms high; 90 and 60 ms low between."""


@pytest.mark.parametrize(
    ("rule", "at"),
    [
        ("POL POS;QUAL LESS;LESS 15E-3", 0.11),
        ("POL POS;QUAL GRE;GRE 30E-3", 0.24),
        ("POL POS;QUAL RANG;RANG 30E-3,15E-3", 0.32),
        ("POL NEG;QUAL LESS;LESS 70E-3", 0.30),
        ("POL NEG;QUAL GRE;GRE 80E-3", 0.20),
        ("POL POS;QUAL GRE;GRE 50E-3", None),
    ],
)
def test_a_pulse_triggers_by_its_width(world: StandIn, rule: str, at: float | None) -> None:
    world.edges = list(PULSES)
    scope = make(world)
    setup = f":TIM:RANG 2E-2;REF LEFT;:TRIG:SWE NORM;MODE GLIT;GLIT:SOUR DIG1;{rule};:SING\n"
    scope.feed(setup.encode())
    scope.tick(1.0)
    assert not scope.errors
    record = scope.acquisition.record
    assert (record.trigger_s if record else None) == (pytest.approx(at) if at is not None else None)


def test_pulses_of_an_input_trigger_too_and_the_settings_read_back(world: StandIn) -> None:
    world.edges = [(t, 0, level) for t, _, level in PULSES]  # CHAN1 follows D0
    scope = make(world)
    scope.feed(b":CHAN1:RANG 0.8;:TIM:RANG 2E-2;REF LEFT;:TRIG:SWE NORM;MODE GLIT;GLIT:SOUR CHAN1;LEV 0.15\n")
    scope.feed(b":TRIG:GLIT:POL POS;QUAL GRE;GRE 30E-3;:SING\n")
    scope.tick(0.15)
    scope.tick(1.0)
    assert scope.acquisition.record is not None
    assert scope.acquisition.record.trigger_s == pytest.approx(0.24, abs=2e-4)
    answer = "GLIT;CHAN1;POS;GRE;+3.00000000E-02;+1.50000E-01"
    assert ask(scope, ":TRIG:MODE?;GLIT:SOUR?;POL?;QUAL?;GRE?;LEV?") == answer
    assert ask(scope, ":TRIG:GLIT:RANG 2E-3,1E-3;RANG?") == "+2.00000000E-03,+1.00000000E-03"
    scope.feed(b":TRIG:GLIT:RANG 1E-3,2E-3\n")
    assert [code for code, _ in scope.errors] == [-222]


def test_digitizing_an_average_takes_as_many_triggers_as_it_counts(world: StandIn) -> None:
    """Its samples are the mean of its acquisitions: a step that comes in half of them is half as high."""
    world.edges = [edge for k in range(4) for edge in ((0.1 + 0.1 * k, 1, 1), (0.15 + 0.1 * k, 1, 0))]
    world.edges += [(0.2505, 0, 1)]
    world.edges.sort()
    scope = make(world)
    scope.feed(b":CHAN1:RANG 0.8;:TIM:RANG 1E-3;REF LEFT;:TRIG:SWE NORM;EDGE:SOUR DIG1;:ACQ:TYPE AVER;COUN 4\n")
    scope.feed(b":DIG CHAN1;*OPC?\n")
    assert scope.tick(0.39) == b""
    assert scope.tick(0.5) == b"1\n"
    record = scope.acquisition.record
    assert record is not None
    assert record.triggers == pytest.approx((0.1, 0.2, 0.3, 0.4))
    assert record.trigger_s == pytest.approx(0.4)
    assert float(ask(scope, ":MEAS:VAV? CHAN1")) == pytest.approx(0.15, abs=0.02)
    scope.feed(b":ACQ:TYPE NORM;:DIG CHAN1\n")
    world.edges += [(0.9, 1, 1), (0.91, 1, 0)]
    scope.tick(1.0)
    assert float(ask(scope, ":MEAS:VAV? CHAN1")) == pytest.approx(0.25, abs=0.02)
    scope.feed(b":ACQ:TYPE AVER;:SING\n")
    world.edges += [(1.5, 1, 1), (1.6, 1, 0)]
    scope.tick(2.0)
    assert ask(scope, ":RST?") == "STOP"  # SINGle takes one, unless told otherwise


def test_digitizing_shows_the_sources_that_are_named(world: StandIn) -> None:
    scope = make(world)
    scope.feed(b":BLANk;:TRIG:SWE AUTO;:TIM:RANG 1E-3;:DIG CHAN2,DIGital3,POD1\n")
    scope.tick(1.0)
    assert ask(scope, ":STAT? CHAN1;STAT? CHAN2;STAT? DIG3;STAT? DIG4;STAT? POD1") == "0;1;1;0;1"
    scope.feed(b":DIG POD1\n")
    scope.tick(2.0)
    assert ask(scope, ":STAT? DIG4") == "0"  # some of its lines were shown already
    assert not scope.errors
