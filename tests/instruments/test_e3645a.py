"""The supply driver over a link in memory."""

from __future__ import annotations

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from instruments.e3645a import E3645A, SupplyLimits, programming_tolerance_a, readback_tolerance_v
from instruments.errors import (
    BenchError,
    ConfigError,
    IdentityError,
    InstrumentError,
    LimitError,
    LinkError,
    LinkTimeout,
    ScpiError,
    SettingError,
)

from .scripted_instruments import FakeLink

CONDITION = "STATus:QUEStionable:INSTrument:ISUMmary1:CONDition?"


class SupplyLink(FakeLink):
    def __init__(self, resource: str = "GPIB0::5::INSTR") -> None:
        super().__init__(resource, "supply")
        self.store.update({"VOLTage:RANGe": "P35V", "VOLTage": "0", "CURRent": "0.5", "OUTPut": "0"})
        self.answers["*IDN?"] = "Agilent Technologies,E3645A,0,1.4-5.0-1.0"
        self.answers["APPLy?"] = lambda: f'"{self.store["VOLTage"]},{self.store["CURRent"]}"'
        self.answers[CONDITION] = "+2"
        self.on_command = self.apply

    def apply(self, header: str, value: str) -> None:
        if header == "APPLy":
            self.store["VOLTage"], self.store["CURRent"] = value.split(",")


@pytest.fixture
def link():
    return SupplyLink()


@pytest.fixture
def supply(link):
    now = [0.0]

    def sleep(seconds: float) -> None:
        now[0] += seconds

    return E3645A(link, SupplyLimits(voltage_v=13.0, current_a=2.2, ovp_v=14.0), clock=lambda: now[0], sleep=sleep)


def sets(link, header):
    return [message for message in link.sent if message.startswith(header + " ")]


def test_making_a_driver_sends_nothing(link, supply):
    assert link.sent == []


def test_identity(supply):
    assert supply.expect_identity(serial="0").model == "E3645A"
    with pytest.raises(IdentityError, match="MSO-X"):
        supply.expect_identity("MSO-X 2024A")


def test_turning_on_in_order(link, supply):
    assert supply.set_ovp(13.5) == 13.5
    assert supply.set_range("P35V") == "P35V"
    assert supply.set_current_limit(2.0) == 2.0
    assert supply.set_voltage(12.0) == 12.0
    supply.output(True)
    assert supply.output_is_on()
    assert link.store["VOLTage:PROTection:STATe"] == "ON"
    supply.output(False)
    assert not supply.output_is_on()


@pytest.mark.parametrize(
    "beyond",
    [
        lambda s: s.set_voltage(13.1),
        lambda s: s.set_voltage(-0.1),
        lambda s: s.set_voltage(float("nan")),
        lambda s: s.set_current_limit(2.21),
        lambda s: s.set_current_limit(float("inf")),
        lambda s: s.set_ovp(14.1),
        lambda s: s.set_ovp(0.0),
        lambda s: s.apply(13.1, 1.0),
        lambda s: s.apply(1.0, 3.0),
        lambda s: s.ramp(20.0),
        lambda s: s.set_triggered(20.0, 1.0),
        lambda s: s.set_triggered(1.0, 1.0, delay_s=-1.0),
    ],
)
def test_limits_of_the_lab_never_leave_the_host(link, supply, beyond):
    with pytest.raises(LimitError, match="nothing was sent") as caught:
        beyond(supply)
    assert caught.value.exit_code == 2
    assert all(message.endswith("?") for message in link.sent)


@pytest.mark.parametrize(("name", "voltage_v", "current_a"), [("P35V", 36.05, 2.266), ("P60V", 61.8, 1.339)])
def test_ranges_go_to_103_percent(link, name, voltage_v, current_a):
    supply = E3645A(link, SupplyLimits(100.0, 10.0))
    supply.set_range(name)
    assert supply.set_voltage(voltage_v) == voltage_v
    assert supply.set_current_limit(current_a) == current_a
    with pytest.raises(LimitError, match=name):
        supply.set_voltage(voltage_v + 0.01)
    with pytest.raises(LimitError, match=name):
        supply.set_current_limit(current_a + 0.001)
    with pytest.raises(LimitError, match="66"):
        supply.set_ovp(66.1)


def test_no_such_range(supply):
    with pytest.raises(ConfigError, match="P35V or P60V"):
        supply.set_range("P20V")


def test_range_that_does_not_read_back(link, supply):
    link.answers["VOLTage:RANGe?"] = "P60V"
    with pytest.raises(SettingError, match="asked for P35V, reads back as P60V"):
        supply.set_range("P35V")


@pytest.mark.parametrize(
    ("query", "answer", "act"),
    [
        ("VOLTage?", "+1.1E+01", lambda s: s.set_voltage(12.0)),
        ("CURRent?", "+1.9E+00", lambda s: s.set_current_limit(2.0)),
        ("VOLTage:PROTection?", "+2.0E+01", lambda s: s.set_ovp(13.5)),
        ("VOLTage:PROTection:STATe?", "0", lambda s: s.set_ovp(13.5)),
        ("APPLy?", '"12.0,1.0"', lambda s: s.apply(12.0, 2.0)),
        ("APPLy?", '"11.0,2.0"', lambda s: s.apply(12.0, 2.0)),
        ("OUTPut?", "0", lambda s: s.output(True)),
        ("OUTPut?", "1", lambda s: s.output(False)),
        ("DISPlay?", "0", lambda s: s.display(True)),
    ],
)
def test_what_reads_back_otherwise_is_an_error(link, supply, query, answer, act):
    link.answers[query] = answer
    with pytest.raises(SettingError, match="reads back as"):
        act(supply)


def test_read_back_within_accuracy_is_taken(link, supply):
    link.answers["VOLTage?"] = "+1.20150000E+01"
    assert supply.set_voltage(12.0) == 12.015
    assert programming_tolerance_a(2.2) == pytest.approx(0.0144)  # service limit, UG364 p.196
    assert readback_tolerance_v(12.0) == pytest.approx(0.011)


def test_error_queue_names_the_command(link, supply):
    link.errors = ['-222,"Data out of range"']
    with pytest.raises(ScpiError, match="VOLTage 12") as caught:
        supply.set_voltage(12.0)
    assert caught.value.code == -222


def test_output_on_checks_set_points_left_by_others(link, supply):
    link.store["VOLTage"] = "30"
    with pytest.raises(LimitError, match="30 V"):
        supply.output(True)
    assert not sets(link, "OUTPut")


def test_output_on_takes_a_set_point_one_step_above_the_limit(link, supply):
    link.store["VOLTage"] = "13.004"
    supply.output(True)
    supply.output(False)
    link.store["VOLTage"] = "13.006"
    with pytest.raises(LimitError, match="nothing was sent"):
        supply.output(True)


def test_output_on_asks_the_range_again(link, supply):
    supply.set_voltage(12.0)
    link.store["VOLTage:RANGe"] = "P60V"
    link.store["CURRent"] = "2.0"
    with pytest.raises(LimitError, match=r"1\.339"):
        supply.output(True)


@pytest.mark.parametrize(
    ("bits", "on", "mode"),
    [("+1", "1", "CC"), ("+2", "1", "CV"), ("+3", "1", "FAULT"), ("+0", "1", "UNREG"), ("+0", "0", "OFF"),
     ("+512", "1", "FAULT"), ("+514", "1", "FAULT"), ("+18", "1", "FAULT")],
)  # fmt: skip
def test_modes(link, supply, bits, on, mode):
    link.answers[CONDITION] = bits
    link.store["OUTPut"] = on
    assert supply.mode() == mode


def test_over_voltage_protection(link, supply):
    link.answers["VOLTage:PROTection:TRIPped?"] = ["1", "0"]
    assert supply.ovp_tripped()
    supply.clear_ovp()
    link.answers["VOLTage:PROTection:TRIPped?"] = "1"
    with pytest.raises(SettingError, match="still tripped"):
        supply.clear_ovp()
    assert supply.set_ovp(None) is None
    assert link.store["VOLTage:PROTection:STATe"] == "OFF"


def test_measuring(link, supply):
    link.answers["MEASure:VOLTage?"] = "+1.19990000E+01"
    link.answers["MEASure:CURRent?"] = "+3.12000000E-01"
    assert supply.measure_voltage_v() == 11.999
    assert supply.measure_current_a() == 0.312


def test_ramp_in_steps(link, supply):
    link.store["VOLTage"] = "10"
    supply.ramp(11.2, step_v=0.5)
    assert sets(link, "VOLTage") == ["VOLTage 10.5", "VOLTage 11", "VOLTage 11.2"]
    supply.ramp(11.0, step_v=0.5)
    assert sets(link, "VOLTage")[-1] == "VOLTage 11"
    with pytest.raises(ConfigError, match="step"):
        supply.ramp(5.0, step_v=0.0)


def test_settling(link, supply):
    supply.set_voltage(12.0)
    link.answers["MEASure:VOLTage?"] = ["+5.0", "+11.0", "+12.003"]
    assert supply.wait_settled() == 12.003
    link.answers["MEASure:VOLTage?"] = "+7.0"
    link.answers[CONDITION] = "+1"
    with pytest.raises(SettingError, match=r"asked for 12\.0, reads back as 7\.0; the output is CC"):
        supply.wait_settled(0.5)


def test_triggered_set_points(link, supply):
    supply.set_triggered(10.0, 1.0, delay_s=0.5)
    supply.trigger()
    assert [m for m in link.sent if not m.endswith("?")] == [
        "VOLTage:TRIGgered 10",
        "CURRent:TRIGgered 1",
        "TRIGger:SOURce BUS",
        "TRIGger:DELay 0.5",
        "INITiate",
        "*TRG",
    ]


def test_states(link, supply):
    supply.save_state(5)
    supply.recall_state(5)
    with pytest.raises(ConfigError, match="1 to 5"):
        supply.save_state(6)
    link.store["OUTPut"] = "1"
    with pytest.raises(ConfigError, match="switch it off"):
        supply.recall_state(1)


def test_recalled_state_beyond_the_limits_is_made_safe(link, supply):
    def recall(header: str, value: str) -> None:
        if header == "*RCL":
            link.store["VOLTage"] = "30"

    link.on_command = recall
    with pytest.raises(LimitError):
        supply.recall_state(1)
    assert link.store["VOLTage"] == "0"
    assert not supply.output_is_on()


def test_recalled_state_that_switches_on_is_switched_off(link, supply):
    def recall(header: str, value: str) -> None:
        if header == "*RCL":
            link.store["OUTPut"] = "1"

    link.on_command = recall
    supply.recall_state(1)
    assert not supply.output_is_on()


def test_display(link, supply):
    link.answers["DISPlay:TEXT?"] = '"say hi"'
    supply.display_text("say hi")
    supply.display_text(None)
    assert 'DISPlay:TEXT "say hi"' in link.sent
    assert "DISPlay:TEXT:CLEar" in link.sent
    with pytest.raises(SettingError, match="reads back as 'say hi'"):
        supply.display_text("say ho")


def test_remote_and_local_are_for_serial_lines():
    gpib, serial = SupplyLink(), SupplyLink("ASRL/dev/ttyUSB0::INSTR")
    limits = SupplyLimits(13.0, 2.2)
    supply = E3645A(gpib, limits)
    supply.remote()
    assert supply.local()
    assert gpib.sent == []
    assert gpib.local
    supply.set_relay(True)
    supply = E3645A(serial, limits)
    supply.remote()
    assert supply.local()
    assert serial.sent == ["SYSTem:REMote", "SYSTem:LOCal"]
    with pytest.raises(ConfigError, match="need GPIB"):
        supply.set_relay(True)


@pytest.mark.parametrize("bad", [{"voltage_v": 0.0}, {"current_a": -1.0}, {"ovp_v": float("nan")}])
def test_limits_that_are_none(bad):
    with pytest.raises(ConfigError, match="positive"):
        SupplyLimits(**{"voltage_v": 13.0, "current_a": 2.0, **bad})


# -- the way out -------------------------------------------------------------------------------------


def test_safe_off_at_once(link, supply):
    link.store["OUTPut"] = "1"
    supply.safe_off()
    assert link.sent == ["OUTPut OFF", "OUTPut?"]


def test_safe_off_after_a_timeout(link, supply):
    link.store["OUTPut"] = "1"
    link.fail = [LinkTimeout("no answer")]
    supply.safe_off()
    assert link.cleared == 1
    assert not supply.output_is_on()


def test_safe_off_over_a_new_connection(monkeypatch):
    link = SupplyLink("ASRL/dev/ttyUSB0::INSTR")
    link.store["OUTPut"] = "1"
    link.fail = [LinkError("broken")]
    monkeypatch.setattr(link, "clear", lambda: (_ for _ in ()).throw(LinkError("broken")))
    E3645A(link, SupplyLimits(13.0, 2.2)).safe_off()
    assert link.reopened == 1
    assert "SYSTem:REMote" in link.sent
    assert link.store["OUTPut"] == "OFF"


def test_safe_off_that_fails_is_loud(link, supply):
    link.answers["OUTPut?"] = "1"
    with pytest.raises(InstrumentError, match="OUTPUT MAY STILL BE ON") as caught:
        supply.safe_off()
    assert isinstance(caught.value.__cause__, SettingError)
    link.fail = [LinkTimeout("no answer")] * 5
    with pytest.raises(InstrumentError, match="no answer"):
        supply.safe_off(attempts=2)
    supply.close()
    assert link.closed


class AnyOrder(RuleBasedStateMachine):
    """Whatever is asked in whatever order, the instrument never holds more than the limits."""

    def __init__(self) -> None:
        super().__init__()
        self.link = SupplyLink()
        self.supply = E3645A(self.link, SupplyLimits(13.0, 1.5, 14.0))

    def attempt(self, act, *arguments):
        try:
            act(*arguments)
        except BenchError:
            return

    @rule(volts=st.floats(-5, 80))
    def voltage(self, volts):
        self.attempt(self.supply.set_voltage, volts)

    @rule(amperes=st.floats(-1, 4))
    def current(self, amperes):
        self.attempt(self.supply.set_current_limit, amperes)

    @rule(volts=st.floats(-5, 80), amperes=st.floats(-1, 4))
    def both(self, volts, amperes):
        self.attempt(self.supply.apply, volts, amperes)

    @rule(volts=st.floats(-5, 80))
    def ovp(self, volts):
        self.attempt(self.supply.set_ovp, volts)

    @rule(name=st.sampled_from(["P35V", "P60V", "P1V"]))
    def range(self, name):
        self.attempt(self.supply.set_range, name)

    @rule(on=st.booleans())
    def output(self, on):
        self.attempt(self.supply.output, on)

    @rule()
    def reset_by_hand(self):
        self.link.store.update({"VOLTage": "0", "CURRent": "1.339", "OUTPut": "0", "VOLTage:RANGe": "P35V"})

    @invariant()
    def within_limits(self):
        store = self.link.store
        assert 0 <= float(store["VOLTage"]) <= 13.0
        assert 0 <= float(store["CURRent"]) <= 1.5
        assert float(store.get("VOLTage:PROTection", "1")) <= 14.0


TestAnyOrder = AnyOrder.TestCase
TestAnyOrder.settings = settings(max_examples=30, stateful_step_count=20, deadline=None)
