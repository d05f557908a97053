"""The simulated adapter: its own commands, escapes, reads with a time limit, late replies, several clients."""

from __future__ import annotations

import pytest

from instruments.simulated.e3645a import SimulatedE3645A
from instruments.simulated.prologix import USB_VERSION, AdapterSettings, Prologix
from tests.simulated.standin import StandIn


@pytest.fixture
def adapter(supply: SimulatedE3645A) -> Prologix:
    other = SimulatedE3645A(StandIn(), identity="OTHER,MODEL,1,2")
    other.feed(b"*CLS\n")
    return Prologix({5: supply, 9: other}, settings=AdapterSettings(eos=3))


def test_own_settings_answer_with_cr_lf(adapter: Prologix) -> None:
    assert adapter.feed(b"++addr\n++read_tmo_ms\n++eos\n++mode\n") == b"5\r\n500\r\n3\r\n1\r\n"
    assert adapter.feed(b"++read_tmo_ms 1500\r\n\r\n++read_tmo_ms\n") == b"1500\r\n"
    assert adapter.feed(b"++read_tmo_ms 0\n++read_tmo_ms 3001\n++eos 7\n++addr 31\n") == b""
    assert adapter.feed(b"++read_tmo_ms\n++addr\n") == b"1500\r\n5\r\n"
    assert adapter.feed(b"++ver\n").startswith(b"Prologix GPIB-ETHERNET")
    assert adapter.feed(b"++nonsense\n") == b"Unrecognized command\r\n"


def test_nothing_is_read_before_it_is_asked_for(adapter: Prologix) -> None:
    assert adapter.feed(b"*IDN?\n") == b""
    assert adapter.feed(b"++read eoi\n") == b"Agilent Technologies,E3645A,0,1.4-5.0-1.0\n"
    assert adapter.feed(b"++addr 9\n*IDN?\n++read eoi\n") == b"OTHER,MODEL,1,2\n"


def test_escaped_characters_are_data(adapter: Prologix, supply: SimulatedE3645A) -> None:
    adapter.feed(b"VOLT \x1b+1.2E\x1b+01\n")
    assert adapter.feed(b"VOLT?\n++read eoi\n") == b"+1.20000000E+01\n"
    adapter.feed(b'DISP:TEXT "A\x1b\x1b\x1b+B"\r\n')
    assert supply.snapshot()["text"] == "A\x1b+B"
    adapter.feed(b"\x1b+\x1b+addr 9\n")
    assert supply.errors[-1][0] == -102
    assert adapter.feed(b"++addr\n") == b"5\r\n"


def test_bytes_one_by_one(adapter: Prologix) -> None:
    wire = b"++addr 5\nVOLT \x1b+3\r\nVOLT?\n++read eoi\n"
    assert b"".join(adapter.feed(wire[k : k + 1]) for k in range(len(wire))) == b"+3.00000000E+00\n"


def test_read_gives_up_after_read_tmo_and_the_late_reply_is_read_next(
    adapter: Prologix, supply: SimulatedE3645A
) -> None:
    adapter.feed(b"APPL 5,1\nOUTP ON\n++read_tmo_ms 50\nMEAS:VOLT?\n")
    assert adapter.feed(b"++read eoi\n++addr\n") == b""
    assert adapter.wake_s == pytest.approx(0.05)
    assert adapter.tick(0.049) == b""
    assert adapter.tick(0.05) == b"5\r\n"
    assert adapter.tick(0.4) == b""
    assert float(adapter.feed(b"++read eoi\n")) == pytest.approx(5, abs=0.02)
    assert not supply.errors


def test_a_write_before_the_late_reply_loses_it(adapter: Prologix, supply: SimulatedE3645A) -> None:
    adapter.feed(b"++read_tmo_ms 50\nMEAS:VOLT?\n++read eoi\n")
    adapter.tick(0.1)
    adapter.feed(b"VOLT?\n")
    adapter.tick(0.5)
    assert adapter.feed(b"++read eoi\n") == b"+0.00000000E+00\n"
    assert [code for code, _ in supply.errors] == [-410]


def test_a_read_with_nothing_to_say_holds_the_adapter_and_is_420(adapter: Prologix, supply: SimulatedE3645A) -> None:
    assert adapter.feed(b"++read eoi\nVOLT?\n++read eoi\n") == b""
    assert adapter.tick(0.49) == b""
    assert adapter.tick(0.5) == b"+0.00000000E+00\n"
    assert [code for code, _ in supply.errors] == [-420]


def test_auto_reads_after_every_write(adapter: Prologix, supply: SimulatedE3645A) -> None:
    assert adapter.feed(b"++auto 1\nVOLT?\n") == b"+0.00000000E+00\n"
    adapter.feed(b"VOLT 1\n")
    assert [code for code, _ in supply.errors] == [-420]


def test_read_until_a_character_and_eot(adapter: Prologix) -> None:
    assert adapter.feed(b"*IDN?\n++read 44\n") == b"Agilent Technologies,"
    assert adapter.feed(b"++eot_enable 1\n++eot_char 36\n++read eoi\n") == b"E3645A,0,1.4-5.0-1.0\n$"


def test_plain_read_goes_on_until_the_time_limit(adapter: Prologix) -> None:
    assert adapter.feed(b"*IDN?\n++read\n++addr\n").endswith(b"1.0\n")
    assert adapter.tick(0.6) == b"5\r\n"


def test_without_end_and_eos_the_instrument_never_sees_the_message(adapter: Prologix, supply: SimulatedE3645A) -> None:
    adapter.feed(b"++eoi 0\nVOLT 3\n")
    assert supply.snapshot()["voltage_v"] == 0
    adapter.feed(b"++eos 2\n*CLS\nVOLT 4\n")
    assert supply.snapshot()["voltage_v"] == 4


def test_bus_commands(adapter: Prologix, supply: SimulatedE3645A) -> None:
    adapter.feed(b"*ESE 60\n*SRE 32\nNOPE\n")
    assert adapter.feed(b"++srq\n++spoll\n++srq\n++spoll\n++spoll 9\n") == b"1\r\n96\r\n0\r\n32\r\n0\r\n"
    assert adapter.feed(b"*STB?\n++read eoi\n") == b"+96\n"  # the master summary, which no poll ends
    assert adapter.feed(b"*ESR?\n++read eoi\nNOPE\n++srq\n++spoll\n") == b"+32\n1\r\n96\r\n"
    adapter.feed(b"*IDN?\n++clr\n")
    assert adapter.feed(b"++spoll\n") == b"32\r\n"
    adapter.feed(b"VOLT:TRIG 2;:TRIG:SOUR BUS;:INIT\n++trg\n")
    assert supply.snapshot()["voltage_v"] == 2
    supply.remote = True
    adapter.feed(b"++llo\n++loc\n++ifc\n")
    assert not supply.remote


def test_nobody_at_an_address(adapter: Prologix) -> None:
    assert adapter.feed(b"++addr 7\n*IDN?\n++read eoi\n++spoll\n++addr\n") == b""
    assert adapter.tick(1.0) == b"7\r\n"


def test_two_clients_share_settings_but_get_their_own_bytes(adapter: Prologix) -> None:
    one, two = adapter.open_port(), adapter.open_port()
    one.write(b"++addr 9\n*IDN?\n")
    two.write(b"++read eoi\n")
    assert one.take() == b""
    assert two.take() == b"OTHER,MODEL,1,2\n"
    one.write(b"++read eoi\n")
    two.write(b"++addr\n")
    one.close()
    assert two.take() == b"9\r\n"


def test_reset_is_silent_for_a_while_and_forgets_settings(adapter: Prologix) -> None:
    adapter.feed(b"++read_tmo_ms 99\n++rst\n++read_tmo_ms\n")
    assert adapter.tick(4.9) == b""
    assert adapter.tick(5.0) == b""
    assert adapter.feed(b"++read_tmo_ms\n") == b"500\r\n"


def test_a_secondary_address_is_nobodys(adapter: Prologix, supply: SimulatedE3645A) -> None:
    assert adapter.feed(b"++addr 5 96\n++addr\nVOLT 3\n") == b"5 96\r\n"
    assert supply.snapshot()["voltage_v"] == 0
    assert adapter.feed(b"++addr 5 95\n++addr\n++addr 5\n++addr\n") == b"5 96\r\n5\r\n"


def test_being_spoken_to_makes_an_instrument_remote(adapter: Prologix, supply: SimulatedE3645A) -> None:
    adapter.feed(b"*CLS\n")
    assert supply.remote
    adapter.feed(b"++loc\n")
    assert not supply.remote
    adapter.feed(b"++llo\n")
    assert supply.remote


def test_usb_version_help_and_complaints() -> None:
    adapter = Prologix({}, version=USB_VERSION, complains=True)
    assert adapter.feed(b"++ver\n").startswith(b"Prologix GPIB-USB Controller")
    help_text = adapter.feed(b"++help\n")
    assert b"++read_tmo_ms\r\n" in help_text
    assert b"++spoll\r\n" in help_text
    assert adapter.feed(b"++eos 9\n++addr 31\n") == b"Unrecognized command\r\n" * 2
    assert adapter.feed(b"++savecfg 0\n++savecfg\n++lon\n++status 5\n++status\n") == b"0\r\n0\r\n5\r\n"


def test_one_client_too_many_is_turned_away(supply: SimulatedE3645A) -> None:
    adapter = Prologix({5: supply}, clients=1)
    first, second = adapter.open_port(), adapter.open_port()
    assert (first.broken, second.broken) == (False, True)
    second.close()
    first.close()
    assert not adapter.open_port().broken
