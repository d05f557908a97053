"""A short session at the bench under each fault: named, the output off, and the next session is good."""

from __future__ import annotations

import time

import pytest

from instruments.bench import Bench, open_bench
from instruments.errors import BenchError, IdentityError, LinkError, LinkTimeout, ProtocolError, ScpiError, SettingError
from instruments.mso_x2024a import transfer
from instruments.simulated.faults import Fault, leave_errors, wrong_identity

from .benches import FaultyBench, at_bench, feed, session


@pytest.fixture(autouse=True)
def short_deadlines(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(transfer, "PREAMBLE_DEADLINE_S", 0.3)
    monkeypatch.setattr("instruments.e3645a.driver.MEASURE_DEADLINE_S", 0.3)


def next_one_is_good(hurt: FaultyBench) -> bool:
    """Whether a session without faults works, and leaves the output off and nothing in the queues."""
    hurt.heal()
    found = session(hurt)
    queues = [hurt.feed(name, b"SYST:ERR?\n") for name in ("scope", "supply")]
    return found.points == 1000 and not hurt.output_is_on and all(q.startswith(b"+0,") for q in queues)


@pytest.mark.parametrize(
    ("instrument", "fault", "kind"),
    [
        ("scope", Fault("short", "DATA", at_byte=17), LinkTimeout),
        ("scope", Fault("double", "DATA"), ProtocolError),
        ("scope", Fault("garbage", "DATA", data=b"1;+0\n"), ProtocolError),
        ("scope", Fault("reset", "DATA", at_byte=17), LinkError),
        ("scope", Fault("wedge", "OPER.*COND"), LinkError),
        ("supply", Fault("drop", "MEAS.*CURR"), LinkTimeout),
        ("supply", Fault("cut", "MEAS.*CURR", at_byte=6), LinkTimeout),
        ("supply", Fault("double", "MEAS.*CURR"), ProtocolError),
        ("supply", Fault("garbage", "MEAS.*CURR", data=b"x"), ProtocolError),
        ("supply", Fault("reset", "MEAS.*CURR", at_byte=6), LinkError),
        ("supply", Fault("wedge", "MEAS.*CURR"), LinkError),
        ("supply", Fault("drop", "OUTP", times=2), LinkTimeout),
        ("supply", Fault("reset", "OUTP", times=2), LinkError),
        ("supply", Fault("wedge", "OUTP", times=2), LinkError),
    ],
    ids=lambda value: f"{value.kind} {value.matching}" if isinstance(value, Fault) else getattr(value, "__name__", ""),
)
def test_a_fault_in_a_session(hurt: FaultyBench, instrument: str, fault: Fault, kind: type[Exception]) -> None:
    script = hurt.hurt(instrument, fault)
    with pytest.raises(kind) as caught:
        session(hurt)
    assert script.log
    assert not hurt.output_is_on
    text = str(caught.value)
    assert text.startswith(f"{instrument} (")
    assert "[command: " in text
    assert "bytes" in text
    hurt.heal()
    assert hurt.feed("supply", b"SYST:ERR?\n").startswith(b"+0,")
    assert next_one_is_good(hurt)


def test_an_output_that_cannot_be_seen_off_is_said_aloud(hurt: FaultyBench) -> None:
    """Every answer to OUTP? is lost once the session begins: the output is off, but nobody can know."""
    alarms: list[str] = []

    def deed(bench: Bench) -> None:
        hurt.hurt("supply", Fault("drop", r"OUTP.*\?", times=0))

    with pytest.raises(BenchError, match=r"COULD NOT BE VERIFIED TO BE OFF.*supply .*OUTPut OFF"):
        at_bench(hurt, deed, alarms)
    assert len(alarms) == 1
    assert "front panel" in alarms[0]
    assert not hurt.output_is_on
    assert next_one_is_good(hurt)


@pytest.mark.parametrize(
    ("instrument", "identity", "found"),
    [
        ("scope", "AGILENT TECHNOLOGIES,MSO-X 2024A,MY99999999,02.65.2021102830", "MY99999999"),
        ("scope", "AGILENT TECHNOLOGIES,DSO-X 2012A,MY00000001,02.12.2012041800", "DSO-X 2012A"),
        ("supply", "Agilent Technologies,E3634A,0,1.4-5.0-1.0", "E3634A"),
        ("supply", "HEWLETT-PACKARD,34401A,0,11-5-2", "34401A"),
    ],
)
def test_a_foreign_instrument_is_refused_and_gets_no_setting(
    hurt: FaultyBench, instrument: str, identity: str, found: str
) -> None:
    hurt.feed("supply", b"VOLT 5;OUTP ON\n")
    before = hurt.feed("supply", b"APPL?\n")
    script = hurt.hurt(instrument, wrong_identity(identity))
    with pytest.raises(IdentityError, match=found) as caught:
        session(hurt)
    assert getattr(hurt.lab, instrument).model in str(caught.value)
    assert [command for _, command in script.log] == ["*IDN?"]
    if instrument == "supply":
        assert hurt.output_is_on  # it is not ours to switch
        assert hurt.feed("supply", b"APPL?\n") == before
    hurt.feed("supply", b"*RST\n")
    assert next_one_is_good(hurt)


def test_an_answer_that_is_no_identity_is_refused(hurt: FaultyBench) -> None:
    hurt.hurt("supply", Fault("replace", r"\*IDN", data=b"nonsense\n"))
    with pytest.raises(ProtocolError, match=r"supply .*\*IDN\?"):
        session(hurt)
    assert next_one_is_good(hurt)


@pytest.mark.parametrize("instrument", ["scope", "supply"])
def test_errors_left_by_another_program(hurt: FaultyBench, instrument: str) -> None:
    """Taken up at the start, or raised at the first setting; gone after that either way."""
    with hurt.station.changed:
        leave_errors(getattr(hurt.station, instrument), [(-113, "Undefined header"), (-222, "Data out of range")])
    raised: list[ScpiError] = []
    try:
        session(hurt)
    except ScpiError as error:
        raised.append(error)
    assert [(error.instrument, error.code, len(error.rest)) for error in raised] in ([], [(instrument, -113, 1)])
    assert not hurt.output_is_on
    assert next_one_is_good(hurt)


# --- the supply's own bad days --------------------------------------------------------------------


def test_constant_current_is_named_and_the_output_goes_off(hurt: FaultyBench) -> None:
    def deed(bench: Bench) -> None:
        assert bench.supply.mode() == "CV"
        hurt.gate(True)
        bench.supply.set_current_limit(0.5)
        time.sleep(0.3)
        assert bench.supply.mode() == "CC"
        assert bench.supply.measure_current_a() == pytest.approx(0.5, abs=0.03)
        bench.supply.wait_settled(0.2)

    with pytest.raises(SettingError, match=r"supply .*measured voltage_v.*CC.*MEASure:VOLTage\?"):
        at_bench(hurt, deed)
    assert not hurt.output_is_on
    assert next_one_is_good(hurt)


def test_constant_current_that_nobody_looked_at_is_remembered(hurt: FaultyBench) -> None:
    def deed(bench: Bench) -> None:
        bench.supply.set_current_limit(0.5)
        bench.supply.limited_since()  # from here on
        assert not bench.supply.limited_since()
        hurt.gate(True)
        time.sleep(0.1)
        hurt.gate(False)
        time.sleep(0.1)
        assert bench.supply.mode() == "CV"
        assert bench.supply.limited_since()
        assert not bench.supply.limited_since()

    at_bench(hurt, deed)


def test_an_over_voltage_trip_is_named_and_can_be_cleared(hurt: FaultyBench) -> None:
    def trip(bench: Bench) -> None:
        hurt.feed("supply", b"VOLT:PROT 9\n")
        assert bench.supply.ovp_tripped()
        assert bench.supply.mode() == "FAULT"
        assert bench.supply.limited_since()
        with pytest.raises(SettingError, match="still tripped"):
            bench.supply.clear_ovp()
        time.sleep(0.3)
        assert bench.supply.measure_voltage_v() < 1.0
        bench.supply.wait_settled(0.2)

    with pytest.raises(SettingError, match=r"supply .*FAULT"):
        at_bench(hurt, trip)
    assert not hurt.output_is_on
    with open_bench(hurt.lab, hurt.lab_path) as bench:
        bench.supply.set_ovp(13.5)
        bench.supply.clear_ovp()
        feed(bench)
        assert bench.supply.mode() == "CV"
    assert not hurt.output_is_on
    assert next_one_is_good(hurt)


def test_a_wedged_scope_does_not_keep_the_output_on(hurt: FaultyBench) -> None:
    def deed(bench: Bench) -> None:
        hurt.hurt("scope", Fault("wedge", times=0))
        bench.scope.state()

    with pytest.raises(LinkError, match="broken"):
        at_bench(hurt, deed)
    assert not hurt.output_is_on
    assert next_one_is_good(hurt)
