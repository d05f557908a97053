"""Short sessions at the bench on its worst days: named, the output off, and the next session is good."""

from __future__ import annotations

import time

import pytest

from instruments.bench import Bench, open_bench
from instruments.errors import BenchError, LinkError, ProtocolError, SettingError
from instruments.simulated.faults import Fault

from .benches import FaultyBench, at_bench, feed, hurried, session


def next_one_is_good(hurt: FaultyBench) -> bool:
    """Whether a session without faults works, and leaves the output off and nothing in the queues."""
    hurt.heal()
    found = session(hurt)
    queues = [hurt.feed(name, b"SYST:ERR?\n") for name in ("scope", "supply")]
    return found.points == 1000 and not hurt.output_is_on and all(q.startswith(b"+0,") for q in queues)


@pytest.mark.parametrize("fault", [Fault("reset", "OUTP", times=2), Fault("wedge", "OUTP", times=2)])
def test_the_output_goes_off_although_the_supply_does_not_say_so_at_once(hurt: FaultyBench, fault: Fault) -> None:
    script = hurt.hurt("supply", fault)
    with hurried(hurt, comes_back=False), pytest.raises(LinkError) as caught:
        session(hurt)
    assert script.log
    assert not hurt.output_is_on
    text = str(caught.value)
    assert text.startswith("supply (")
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

    said = pytest.raises(BenchError, match=r"COULD NOT BE VERIFIED TO BE OFF.*supply .*OUTPut OFF")
    with hurried(hurt, comes_back=True), said:
        at_bench(hurt, deed, alarms)
    assert len(alarms) == 1
    assert "front panel" in alarms[0]
    assert not hurt.output_is_on
    assert next_one_is_good(hurt)


def test_an_answer_that_is_no_identity_is_refused(hurt: FaultyBench) -> None:
    hurt.hurt("supply", Fault("replace", r"\*IDN", data=b"nonsense\n"))
    with pytest.raises(ProtocolError, match=r"supply .*\*IDN\?"):
        session(hurt)
    assert next_one_is_good(hurt)


# --- the supply's own bad days --------------------------------------------------------------------


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

    with hurried(hurt, comes_back=False), pytest.raises(LinkError, match="broken"):
        at_bench(hurt, deed)
    assert not hurt.output_is_on
    assert next_one_is_good(hurt)
