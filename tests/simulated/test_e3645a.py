"""The simulated supply: limits, protection, crossover, measuring, states, RS-232; and any order of commands."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from instruments.simulated.e3645a import SimulatedE3645A
from instruments.simulated.e3645a_settings import Settings
from tests.simulated.standin import StandIn


def ask(supply: SimulatedE3645A, query: str) -> str:
    reply = supply.feed(query.encode() + b"\n").decode()
    assert reply.endswith("\n"), (query, list(supply.errors))
    return reply[:-1]


def codes(supply: SimulatedE3645A) -> list[int]:
    return [code for code, _ in supply.errors]


def test_reset_state(supply: SimulatedE3645A) -> None:
    supply.feed(b"VOLT 5;:OUTP ON;*RST\n")
    assert ask(supply, "OUTP?;VOLT?;CURR?;VOLT:RANG?;PROT:STAT?") == "0;+0.00000000E+00;+2.20000000E+00;P35V;1"
    assert ask(supply, "*IDN?") == "Agilent Technologies,E3645A,0,1.4-5.0-1.0"
    assert ask(supply, "SYST:VERS?;ERR?") == '1995.0;+0,"No error"'


@pytest.mark.parametrize(
    ("command", "query"),
    [
        ("VOLT 36.06", "VOLT?"),
        ("VOLT -1", "VOLT?"),
        ("CURR 2.267", "CURR?"),
        ("APPL 36.06,1", "APPL?"),
        ("APPL 3,2.3", "APPL?"),
        ("VOLT:PROT 67", "VOLT:PROT?"),
        ("VOLT:TRIG 40", "VOLT:TRIG?"),
        ("TRIG:DEL 4000", "TRIG:DEL?"),
        ("*SAV 6", "VOLT?"),
    ],
)
def test_out_of_range_keeps_the_old_value(supply: SimulatedE3645A, command: str, query: str) -> None:
    before = ask(supply, query)
    supply.feed(command.encode() + b"\n")
    assert codes(supply) == [-222]
    assert ask(supply, query) == before


def test_limits_are_103_percent_of_the_selected_range(supply: SimulatedE3645A) -> None:
    assert ask(supply, "VOLT? MAX;CURR? MAX;VOLT? MIN") == "+3.60500000E+01;+2.26600000E+00;+0.00000000E+00"
    supply.feed(b"VOLT:RANG HIGH;:VOLT MAX;CURR MAX\n")
    assert ask(supply, "VOLT:RANG?;:VOLT?;:CURR?") == "P60V;+6.18000000E+01;+1.33900000E+00"
    supply.feed(b"VOLT:RANG LOW\n")
    assert ask(supply, "VOLT:RANG?;:VOLT?;:CURR?") == "P35V;+3.60500000E+01;+1.33900000E+00"
    assert codes(supply) == []


def test_steps_up_and_down(supply: SimulatedE3645A) -> None:
    supply.feed(b"VOLT 5;VOLT:STEP 0.5;:VOLT UP;:VOLT UP;:VOLT DOWN\n")
    assert ask(supply, "VOLT?;VOLT:STEP?") == "+5.50000000E+00;+5.00000000E-01"
    supply.feed(b"VOLT 0.2;:VOLT DOWN\n")
    assert codes(supply) == [-222]


def test_output_off_is_zero_volts_and_twenty_milliamperes(supply: SimulatedE3645A, world: StandIn) -> None:
    assert world.set_to[-1][1:] == (0.0, 0.02, False)
    supply.feed(b"APPL 12,2\n")
    assert world.set_to[-1][1:] == (0.0, 0.02, False)
    supply.tick(1.0)
    supply.feed(b"OUTP ON\n")
    at, volts, amps, on = world.set_to[-1]
    assert (at, on) == (1.0, True)
    assert volts == pytest.approx(12, abs=12 * 5e-4 + 0.010)
    assert amps == pytest.approx(2, abs=2 * 2e-3 + 0.010)
    supply.feed(b"OUTP OFF\n")
    assert world.set_to[-1][1:] == (0.0, 0.02, False)
    assert ask(supply, "STAT:QUES:COND?;:OUTP?") == "+0;0"


def test_measuring_takes_its_time_and_is_within_the_specification(world: StandIn) -> None:
    for seed in range(20):
        supply = SimulatedE3645A(world, seed=seed)
        supply.feed(b"APPL 12,2;:OUTP ON\nMEAS:VOLT?;CURR?\n")
        assert supply.wake_s is not None
        assert 0.15 <= supply.wake_s <= 0.25
        supply.tick(supply.wake_s)
        assert 0.05 <= supply.wake_s - supply.now_s <= 0.15
        volts, amps = (float(x) for x in supply.tick(supply.wake_s).split(b";"))
        true = world.supply(0, 1)
        assert abs(volts - true.volts) <= 12 * 5e-4 + 5e-3 + 2.5e-3
        assert abs(amps - true.amps) <= 1.2 * 1.5e-3 + 5e-3 + 0.5e-3
        assert volts / 0.005 == pytest.approx(round(volts / 0.005), abs=1e-6)


def test_crossover_to_constant_current_comes_from_the_load(supply: SimulatedE3645A, world: StandIn) -> None:
    supply.feed(b"APPL 12,2;:OUTP ON\n")
    assert ask(supply, "STAT:QUES:COND?;:STAT:QUES:INST:ISUM1:COND?") == "+2;+2"
    world.load_ohm = 4.0
    assert ask(supply, "STAT:QUES:COND?") == "+1"
    assert ask(supply, "STAT:QUES?") == "+3"
    supply.feed(b"STAT:QUES:ENAB 1\n")
    assert int(ask(supply, "STAT:QUES:COND?;*STB?").split(";")[1]) & 8


def test_overvoltage_latches_until_the_cause_is_gone_and_cleared(supply: SimulatedE3645A, world: StandIn) -> None:
    supply.feed(b"VOLT:PROT 10;:VOLT 12;:OUTP ON\n")
    assert ask(supply, "VOLT:PROT:TRIP?;:STAT:QUES:COND?;:OUTP?") == "1;+512;1"
    assert world.set_to[-1][1:] == (0.0, 0.02, False)
    supply.feed(b"VOLT:PROT:CLE\n")
    assert ask(supply, "VOLT:PROT:TRIP?") == "1"
    supply.feed(b"VOLT 9\n")
    assert ask(supply, "VOLT:PROT:TRIP?") == "1"
    supply.feed(b"VOLT:PROT:CLE\n")
    assert ask(supply, "VOLT:PROT:TRIP?;:STAT:QUES:COND?") == "0;+2"
    assert world.set_to[-1][3]
    supply.feed(b"VOLT:PROT:STAT OFF;:VOLT 12\n")
    assert ask(supply, "VOLT:PROT:TRIP?") == "0"


def test_apply_and_its_quoted_answer(supply: SimulatedE3645A) -> None:
    supply.feed(b"APPL 8.0,3.0\n")
    assert codes(supply) == [-222]
    assert ask(supply, "APPL?") == '"0.00000,2.20000"'
    supply.feed(b"APPL 8.0,2.0;APPL 6\n")
    assert ask(supply, "APPL?") == '"6.00000,2.00000"'
    supply.feed(b"APPL MAX,MIN\n")
    assert ask(supply, "APPL?") == '"36.05000,0.00000"'


def test_states(supply: SimulatedE3645A) -> None:
    supply.feed(b"APPL 5,1;:OUTP ON;*SAV 2;*RST;*RCL 2\n")
    assert ask(supply, "APPL?;:OUTP?") == '"5.00000,1.00000";1'


def test_trigger_subsystem(supply: SimulatedE3645A) -> None:
    supply.feed(b"VOLT:TRIG 3;:CURR:TRIG 0.5;*TRG\n")
    assert codes(supply) == [-211]
    supply.feed(b"TRIG:DEL 0.5;SOUR BUS;:INIT;*TRG\n")
    assert ask(supply, "VOLT?") == "+0.00000000E+00"
    assert supply.wake_s == pytest.approx(0.5)
    supply.tick(0.6)
    assert ask(supply, "APPL?") == '"3.00000,0.50000"'
    supply.feed(b"TRIG:DEL 0;SOUR IMM;:VOLT:TRIG 4;:INIT\n")
    assert ask(supply, "VOLT?;TRIG:SOUR?") in ("+4.00000000E+00", "+4.00000000E+00;IMM")


def test_display_text(supply: SimulatedE3645A) -> None:
    supply.feed(b'DISP:TEXT "MEASURING"\n')
    assert ask(supply, "DISP:TEXT?;:DISP?") == '"MEASURING";1'
    supply.feed(b"DISP:TEXT:CLE;:DISP OFF\n")
    assert ask(supply, "DISP:TEXT?;:DISP?") == '"";0'


def test_dual_model_commands_are_not_here(supply: SimulatedE3645A) -> None:
    supply.feed(b"INST:NSEL 1\nOUTP:STAT?X\n")
    assert codes(supply) == [-113, -103]


def test_error_queue_is_twenty_deep(supply: SimulatedE3645A) -> None:
    supply.feed(b"X\n" * 25)
    replies = supply.feed(b"SYST:ERR?\n" * 21).splitlines()
    assert replies[19] == b'-350,"Queue overflow"'
    assert replies[20] == b'+0,"No error"'


def test_serial_line_needs_remote_and_ends_in_cr_lf(supply: SimulatedE3645A) -> None:
    port = supply.open_port("serial")
    assert port.feed(b"VOLT?\r\n") == b"+0.00000000E+00\r\n"
    port.feed(b"VOLT 5\n*CLS\n*RST\nVOLT 5\n")
    assert codes(supply) == [550]
    port.feed(b"SYST:REM;:VOLT 5\n")
    assert port.feed(b"VOLT?\n") == b"+5.00000000E+00\r\n"
    port.feed(b"SYST:LOC;:VOLT 6\n")
    assert codes(supply) == [550, 550]
    free = SimulatedE3645A(StandIn(), local_refuses=False, serial_crlf=False)
    open_port = free.open_port("serial")
    assert open_port.feed(b"VOLT 5;VOLT?\n") == b"+5.00000000E+00\n"


def test_serial_line_has_control_c_as_device_clear(supply: SimulatedE3645A) -> None:
    port = supply.open_port("serial")
    assert port.feed(b"MEAS:VOLT?\nVOLT") == b""
    assert port.feed(b" 3\x03*IDN?\n").startswith(b"Agilent Technologies,E3645A,0,")
    assert supply.tick(1.0) == b""
    assert codes(supply) == []
    plain = SimulatedE3645A(StandIn(), control_c_clears=False).open_port("serial")
    assert plain.feed(b"*ID\x03N?\n") == b""


def test_the_bus_makes_it_remote_and_refuses_what_is_rs_232_alone(supply: SimulatedE3645A) -> None:
    port = supply.open_port("message")
    for command in (b"SYST:REM", b"SYST:VERS?;:SYST:LOC", b"SYSTem:RWLock"):
        port.write(command)
        if b"?" in command:
            assert port.read() == (b"1995.0\n", True)
    assert codes(supply) == [514, 514, 514]
    free = SimulatedE3645A(StandIn(), rs232_only=False)
    free.open_port("message").write(b"SYST:REM")
    assert free.remote
    stream = supply.open_port("serial")
    stream.feed(b"SYST:VERS?;REM;:VOLT 2\n")  # a header relative to its subsystem is the same command
    assert supply.snapshot()["voltage_v"] == 2


def test_triggered_levels_follow_the_immediate_ones_until_they_are_programmed(supply: SimulatedE3645A) -> None:
    supply.feed(b"VOLT 7;CURR 1\n")
    assert ask(supply, "VOLT:TRIG?;:CURR:TRIG?;:VOLT:TRIG? MAX") == "+7.00000000E+00;+1.00000000E+00;+3.60500000E+01"
    supply.feed(b"CURR:TRIG 0.5;:TRIG:SOUR IMM;:INIT\n")
    assert ask(supply, "APPL?") == '"7.00000,0.50000"'


def test_operation_complete_waits_for_the_trigger_delay(supply: SimulatedE3645A) -> None:
    supply.feed(b"VOLT:TRIG 4;:TRIG:DEL 2;SOUR IMM\n*ESE 1\n")
    assert supply.feed(b"INIT;*OPC;*OPC?;VOLT?\n") == b""
    assert not supply.esr & 1
    assert supply.tick(1.9) == b""
    assert supply.tick(2.1) == b"1;+4.00000000E+00\n"
    assert supply.status_byte() & 32
    supply.feed(b"INIT;*RST\n")
    assert ask(supply, "*OPC?;VOLT?") == "1;+0.00000000E+00"  # *RST has put the delayed trigger off


def test_constant_current_keeps_the_terminals_below_the_protection(supply: SimulatedE3645A, world: StandIn) -> None:
    supply.feed(b"APPL 12,0.2;:OUTP ON;:STAT:QUES:COND?\n")  # 2 V at 10 ohms
    supply.feed(b"VOLT:PROT 5\n")
    assert ask(supply, "VOLT:PROT:TRIP?;:STAT:QUES:COND?") == "0;+1"
    world.load_ohm = 1000.0
    supply.tick(1.0)
    assert ask(supply, "VOLT:PROT:TRIP?;:STAT:QUES:COND?;:STAT:QUES?;:OUTP?") == "1;+512;+513;1"
    assert world.set_to[-1][1:] == (0.0, 0.02, False)
    reads_off = SimulatedE3645A(StandIn(), trip_reads_off=True)
    assert ask(reads_off, "VOLT:PROT 5;:VOLT 6;:OUTP ON;:OUTP?") == "0"


def test_service_is_asked_for_when_the_output_leaves_constant_voltage(supply: SimulatedE3645A, world: StandIn) -> None:
    port = supply.open_port("message")
    port.write(b"APPL 12,2;:OUTP ON;:STAT:QUES:ENAB 1;*SRE 8")
    assert not port.service_asked
    world.load_ohm = 1.0
    port.write(b"STAT:QUES:COND?")
    assert port.read()[0] == b"+1\n"
    assert port.service_asked
    assert port.serial_poll() & 72 == 72
    assert port.serial_poll() & 72 == 8


def test_hardware_failures_can_be_told(supply: SimulatedE3645A) -> None:
    supply.hardware_bits = 16
    assert ask(supply, "STAT:QUES:COND?;:STAT:QUES:INST:ISUM:COND?") == "+16;+16"


def test_steps_have_a_default_and_a_query_for_it(supply: SimulatedE3645A) -> None:
    assert ask(supply, "VOLT:STEP 0.5;:VOLT:STEP?;:VOLT:STEP? DEF") == "+5.00000000E-01;+1.00000000E-02"
    assert ask(supply, "VOLT:STEP DEF;:VOLT:STEP?;:CURR:STEP?") == "+1.00000000E-02;+1.00000000E-03"
    supply.feed(b"CURR UP;:CURR DOWN\n")
    assert ask(supply, "CURR?") == "+2.20000000E+00"
    supply.feed(b"APPL UP\n")
    assert codes(supply) == [-104]


def test_states_have_names_and_empty_ones_recall_the_reset_state(supply: SimulatedE3645A) -> None:
    supply.feed(b"MEM:STAT:NAME 2,'BOARD'\n")
    assert ask(supply, "MEM:STAT:NAME? 2;:MEM:STAT:NAME? 3") == '"BOARD";""'
    supply.feed(b"MEM:STAT:NAME 1,'TOO LONG A NAME'\nMEM:STAT:NAME 6,'X'\n")
    assert codes(supply) == [-223, -222]
    supply.feed(b"VOLT 5;*RCL 4\n")
    assert ask(supply, "VOLT?") == "+0.00000000E+00"
    strict = SimulatedE3645A(StandIn(), empty_recall="refuse")
    strict.feed(b"*CLS;VOLT 5;*RCL 4\n")
    assert codes(strict) == [-221]
    assert ask(strict, "VOLT?") == "+5.00000000E+00"


def test_reset_state_version_and_protection_limit_are_switchable() -> None:
    state = Settings(voltage_v=1.0, current_a=0.5)
    supply = SimulatedE3645A(
        StandIn(), reset_to=state, scpi_version="1997.0", ovp_min_v=0.5, default_steps=(0.02, 0.002)
    )
    supply.feed(b"*CLS\n")
    answer = '"1.00000,0.50000";1997.0;+5.00000000E-01;+2.00000000E-02'
    assert ask(supply, "APPL 3,1;*RST;APPL?;:SYST:VERS?;:VOLT:PROT? MIN;:VOLT:STEP?") == answer


def test_other_spellings_and_facts(supply: SimulatedE3645A) -> None:
    supply.feed(b'DISP:WIND1:TEXT:DATA "IT ""IS"" LONG TEXT"\n')
    assert ask(supply, "DISPlay:WINDow:TEXT?") == '"IT ""IS"" LON"'  # eleven characters
    assert ask(supply, "CAL:COUN?;:CAL:SEC:STAT?;:CAL:STR?;*PSC?;*TST?") == '+1;1;"";1;+0'
    assert ask(supply, "*PSC 0;*PSC?;:OUTP:REL ON;:OUTP:REL?;*RST;:OUTP:REL?") == "0;1;0"
    assert supply.feed(b"MEAS?\n:MEAS:SCAL:CURR:DC?\n") == b""
    supply.tick(1.0)
    assert supply.wake_s is not None
    supply.tick(2.0)
    supply.feed(b"STAT:OPER?\nDISP:WIND2:TEXT 'X'\nOUTP:TRAC ON\n*OPT?\nCAL:VOLT 3\n")
    assert codes(supply) == [-113] * 5


class AnyOrder(RuleBasedStateMachine):
    """A small model beside the supply; what is read back equals it and no limit is ever exceeded."""

    def __init__(self) -> None:
        super().__init__()
        self.world = StandIn()
        self.supply = SimulatedE3645A(self.world, seed=1, error_share=0.0)
        self.supply.feed(b"*CLS\n")
        self.model: dict[str, Any] = {"range": "P35V", "v": 0.0, "i": 2.2, "out": False}
        self.errors: list[int] = []

    @property
    def most(self) -> tuple[float, float]:
        return (36.05, 2.266) if self.model["range"] == "P35V" else (61.8, 1.339)

    @rule(volts=st.floats(-5, 80))
    def set_voltage(self, volts: float) -> None:
        volts = round(volts, 3)
        self.supply.feed(f"VOLT {volts}\n".encode())
        if 0 <= volts <= self.most[0]:
            self.model["v"] = volts
        else:
            self.errors.append(-222)

    @rule(volts=st.floats(0, 70), amps=st.floats(0, 3))
    def apply(self, volts: float, amps: float) -> None:
        volts, amps = round(volts, 3), round(amps, 3)
        self.supply.feed(f"APPL {volts},{amps}\n".encode())
        if volts <= self.most[0] and amps <= self.most[1]:
            self.model.update(v=volts, i=amps)
        else:
            self.errors.append(-222)

    @rule(name=st.sampled_from(["P35V", "P60V", "LOW", "HIGH"]))
    def set_range(self, name: str) -> None:
        self.supply.feed(f"VOLT:RANG {name}\n".encode())
        self.model["range"] = {"LOW": "P35V", "HIGH": "P60V"}.get(name, name)
        self.model.update(v=min(self.model["v"], self.most[0]), i=min(self.model["i"], self.most[1]))

    @rule(on=st.booleans())
    def output(self, on: bool) -> None:
        self.supply.feed(f"OUTP {on:d}\n".encode())
        self.model["out"] = on

    @rule()
    def reset(self) -> None:
        self.supply.feed(b"*RST\n")
        self.model.update(range="P35V", v=0.0, i=2.2, out=False)

    @rule(junk=st.sampled_from([b"NOPE\n", b"VOLTS 1\n", b"VOLT:\n"]))
    def junk(self, junk: bytes) -> None:
        assert self.supply.feed(junk) == b""
        self.errors.append(-113 if not junk.endswith(b":\n") else -102)

    @rule()
    def drain(self) -> None:
        for code in self.errors[:20]:
            reply = ask(self.supply, "SYST:ERR?")
            assert int(reply.split(",")[0]) == (-350 if code != -350 and reply.startswith("-350") else code)
        assert ask(self.supply, "SYST:ERR?").startswith("+0")
        self.errors.clear()

    @invariant()
    def agrees(self) -> None:
        volts, amps = (float(x) for x in ask(self.supply, "APPL?").strip('"').split(","))
        assert (volts, amps) == pytest.approx((self.model["v"], self.model["i"]), abs=1e-5)
        assert ask(self.supply, "OUTP?;VOLT:RANG?") == f"{self.model['out']:d};{self.model['range']}"
        _, true_v, true_a, on = self.world.set_to[-1]
        assert on == self.model["out"]
        assert (true_v, true_a) == pytest.approx((self.model["v"], self.model["i"]) if on else (0.0, 0.02), abs=1e-5)
        assert true_v <= self.most[0]


TestAnyOrder = AnyOrder.TestCase
TestAnyOrder.settings = settings(max_examples=40, stateful_step_count=25, deadline=None)
