"""The machine without an instrument: tree, errors, status, message exchange, blocking commands, time."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from instruments.simulated.scpi_machine import ScpiMachine
from instruments.simulated.scpi_tree import Call, Job


class Toy(ScpiMachine):
    """A few commands of every kind."""

    def __init__(self, **options: object) -> None:
        super().__init__(identity="MAKER,TOY,0,1", **options)  # type: ignore[arg-type]
        self.value, self.flags, self.pending_until_s = 1.0, [False] * 4, 0.0
        self.add(":SOURce:LEVel[:IMMediate]", self._set, lambda c: f"{self.value:g}")
        self.add(":SOURce:LEVel:STEP", lambda c: None, lambda c: "step")
        self.add(":LINE<1-4>:STATe", self._set_flag, lambda c: f"{self.flags[c.suffix[0] - 1]:d}")
        self.add(":LINE<1-4>:NAME", query=lambda c: f'"L{c.suffix[0]}"')
        self.add(":MEASure[:SCALar]:VOLTage[:DC]", query=lambda c: self._slow())
        self.add(":HANG", lambda c: self._hang(), set_args=(0, 0))
        self.add(":ACTion", lambda c: self._act(), set_args=(0, 0))
        self.add(":DATA", query=lambda c: b"#15a\nb;c")
        self.add("SYSTem:ERRor", query=lambda c: self.next_error())

    def _set(self, call: Call) -> None:
        self.value = call.number("V", low=0, high=10, default=5)

    def _set_flag(self, call: Call) -> None:
        self.flags[call.suffix[0] - 1] = call.boolean()

    def _slow(self) -> Job:
        until = self.now_s + 0.1
        while self.now_s < until:
            yield until
        return "3.25"

    def _hang(self) -> Job:
        yield None
        return None

    def _act(self) -> None:
        self.pending_until_s = self.now_s + 1.0

    def operation_pending(self) -> bool:
        return self.now_s < self.pending_until_s

    def on_time(self) -> None:
        self.settle_opc()


@pytest.fixture
def toy() -> Toy:
    machine = Toy()
    machine.feed(b"*CLS\n")
    return machine


def codes(machine: ScpiMachine) -> list[int]:
    return [code for code, _ in machine.errors]


@pytest.mark.parametrize(
    "message",
    [
        b":SOURce:LEVel:IMMediate?\n",
        b"sour:lev?\r\n",
        b"  :Sour:Level?  \n",
        b"SOUR:LEV:IMM?\n",
        b"SOUR:LEV:STEP 1;:SOUR:LEV?\n",
    ],
)
def test_forms_of_one_header(toy: Toy, message: bytes) -> None:
    assert toy.feed(message) == b"1\n"
    assert codes(toy) == []


def test_semicolon_keeps_the_subtree_and_common_commands_do_not_move_it(toy: Toy) -> None:
    assert toy.feed(b":SOUR:LEV:STEP?;IMM?;*ESE 1;IMM?;*ESE?;:SOUR:LEV 2;LEV?;LEV:STEP?\n") == b"step;1;1;+1;2;step\n"
    assert toy.feed(b":LINE3:NAME?;STAT ON;STAT?;:LINE2:STAT?\n") == b'"L3";1;0\n'
    assert codes(toy) == []
    assert toy.feed(b":SOUR:LEV:STEP?;LINE1:NAME?\n") == b"step\n"
    assert codes(toy) == [-113]


def test_unknown_header_gives_no_answer_and_ends_the_message(toy: Toy) -> None:
    assert toy.feed(b":NOPE?\n") == b""
    assert toy.feed(b":SOUR:LEV?;:NOPE?;:SOUR:LEV 7\n") == b"1\n"
    assert toy.value == 1.0
    assert codes(toy) == [-113, -113]


@pytest.mark.parametrize(
    "header", [b":LINE5:NAME?", b":LINE0:NAME?", b":SOUR?", b":SOUR:LEV:STEP:X", b"*NOPE", b":MEAS:VOLT 1"]
)
def test_headers_that_do_not_exist(toy: Toy, header: bytes) -> None:
    assert toy.feed(header + b"\n") == b""
    assert codes(toy) == [-113]


@pytest.mark.parametrize(
    ("message", "code"),
    [
        (b":SOUR:LEV", -109),
        (b":SOUR:LEV 1,2", -108),
        (b":SOUR:LEV? 1", -108),
        (b"*RST 1", -108),
        (b":SOUR:LEV 11", -222),
        (b":SOUR:LEV -1", -222),
        (b":SOUR:LEV 1S", -131),
        (b':SOUR:LEV "1"', -158),
        (b":SOUR:LEV #11a", -168),
        (b":SOUR:LEV abc", -104),
        (b":LINE1:STAT maybe", -224),
        (b"*ESE 256", -222),
    ],
)
def test_refusals_keep_the_old_value(toy: Toy, message: bytes, code: int) -> None:
    assert toy.feed(message + b"\n") == b""
    assert codes(toy) == [code]
    assert toy.value == 1.0


def test_min_max_def_and_units(toy: Toy) -> None:
    for word, value in ((b"MAX", 10), (b"minimum", 0), (b"DEF", 5), (b"2500mV", 2.5), (b" 1.5 V ", 1.5)):
        toy.feed(b":SOUR:LEV " + word + b"\n")
        assert toy.value == value
    assert codes(toy) == []


def test_an_execution_error_does_not_end_the_message(toy: Toy) -> None:
    assert toy.feed(b":SOUR:LEV 99;:SOUR:LEV?\n") == b"1\n"


def test_error_queue_overflows_with_minus_350_and_is_read_in_order(toy: Toy) -> None:
    for _ in range(31):
        toy.feed(b":NOPE\n")
    replies = toy.feed(b"SYST:ERR?\n" * 31).splitlines()
    assert replies[0] == b'-113,"Undefined header"'
    assert replies[29] == b'-350,"Queue overflow"'
    assert replies[30] == b'+0,"No error"'


def test_event_status_bits(toy: Toy) -> None:
    toy.feed(b":NOPE;:X\n:SOUR:LEV 99\n*ESE 48;*SRE 32\n")
    assert toy.feed(b"*STB?\n") == b"+96\n"
    assert toy.feed(b"*ESR?\n") == b"+48\n"
    assert toy.feed(b"*ESR?;*STB?\n") == b"+0;+0\n"
    toy.feed(b"*CLS\n")
    assert codes(toy) == []
    assert Toy().feed(b"*ESR?\n") == b"+128\n"


def test_many_messages_in_one_segment_and_one_over_many(toy: Toy) -> None:
    assert toy.feed(b"*IDN?\n:SOUR:LEV?\n\n\r\n*IDN?\n") == b"MAKER,TOY,0,1\n1\nMAKER,TOY,0,1\n"
    wire = b":SOUR:LEV?\n"
    assert b"".join(toy.feed(wire[k : k + 1]) for k in range(len(wire))) == b"1\n"


def test_binary_and_text_share_a_reply(toy: Toy) -> None:
    assert toy.feed(b":DATA?;:SOUR:LEV?\n") == b"#15a\nb;c;1\n"


def test_a_slow_query_answers_by_tick_and_holds_what_follows(toy: Toy) -> None:
    assert toy.feed(b":MEAS?\n:MEAS:VOLT?;:SOUR:LEV?\n:SOUR:LEV?\n") == b""
    assert codes(toy) == [-113]
    assert toy.wake_s == pytest.approx(0.1)
    assert toy.tick(0.09) == b""
    assert toy.tick(0.1) == b"3.25;1\n1\n"
    assert toy.wake_s is None


def test_opc_waits_for_what_is_pending(toy: Toy) -> None:
    assert toy.feed(b":ACT;*OPC\n*ESR?\n:ACT;*OPC?\n") == b"+0\n"
    assert toy.tick(0.5) == b""
    assert toy.tick(1.01) == b"1\n"
    assert toy.feed(b"*ESR?\n:ACT;*WAI;*IDN?\n") == b"+1\n"
    assert toy.tick(2.5) == b"MAKER,TOY,0,1\n"


# --- message transports -------------------------------------------------------------------------


def test_reading_in_pieces_marks_the_end(toy: Toy) -> None:
    toy.write(b"*IDN?")
    assert toy.status_byte(toy.port) & 16
    assert toy.read(5) == (b"MAKER", False)
    assert toy.read(8) == (b",TOY,0,1", False)
    assert toy.read(100) == (b"\n", True)
    assert not toy.status_byte(toy.port) & 16


def test_an_unread_reply_is_lost_with_minus_410(toy: Toy) -> None:
    toy.write(b"*IDN?\n")
    toy.write(b":SOUR:LEV?\n")
    assert toy.read() == (b"1\n", True)
    assert codes(toy) == [-410]


def test_a_late_reply_meets_a_new_message(toy: Toy) -> None:
    toy.write(b":MEAS:VOLT?")
    toy.advance(0.05)
    assert toy.read() == (b"", False)
    assert codes(toy) == []
    toy.write(b":SOUR:LEV?")
    toy.advance(0.2)
    assert toy.read() == (b"1\n", True)
    assert codes(toy) == [-410]


def test_late_replies_can_be_kept() -> None:
    toy = Toy(drops_unread=False)
    toy.write(b":MEAS:VOLT?")
    toy.write(b":SOUR:LEV?")
    toy.advance(0.2)
    assert [toy.read(), toy.read()] == [(b"3.25\n", True), (b"1\n", True)]
    assert codes(toy) == []


def test_reading_without_a_query_is_minus_420_once(toy: Toy) -> None:
    assert toy.read() == (b"", False)
    assert toy.read() == (b"", False)
    assert codes(toy) == [-420]
    toy.write(b":SOUR:LEV 2", end=False)
    assert toy.read() == (b"", False)
    assert codes(toy) == [-420, -420]


def test_device_clear_frees_a_hanging_instrument(toy: Toy) -> None:
    toy.write(b":HANG;*IDN?")
    toy.write(b"*IDN?")
    toy.advance(100)
    assert toy.read() == (b"", False)
    toy.clear()
    toy.write(b":SOUR:LEV?")
    assert toy.read() == (b"1\n", True)


def test_one_port_blocks_all_and_its_end_frees_them(toy: Toy) -> None:
    one, two = toy.open_port(), toy.open_port()
    one.write(b":HANG\n", False)
    assert two.feed(b"*IDN?\n") == b""
    one.close()
    assert two.take() == b"MAKER,TOY,0,1\n"


def test_answers_go_to_the_port_that_asked(toy: Toy) -> None:
    one, two = toy.open_port(), toy.open_port("message")
    one.feed(b":MEAS:VOLT?\n")
    two.write(b":SOUR:LEV?")
    toy.advance(1.0)
    assert one.take() == b"3.25\n"
    assert two.read() == (b"1\n", True)


@given(st.lists(st.sampled_from(["w", "q", "s", "r", "c", "t", "x"]), max_size=25))
def test_a_message_port_never_gives_an_older_answer(steps: list[str]) -> None:
    """Whatever is written, read, cleared or waited for, a read gives the answer to the latest query or nothing."""
    toy, now, expected = Toy(), 0.0, b""
    for number, step in enumerate(steps):
        if step == "w":
            toy.write(b":SOUR:LEV %d" % (number % 10))
            expected = b""
        elif step in "qs":
            toy.write(b":SOUR:LEV?" if step == "q" else b":MEAS:VOLT?")
            expected = f"{toy.value:g}\n".encode() if step == "q" and not toy.port.busy else None  # type: ignore[assignment]
        elif step == "r":
            data, end = toy.read()
            if data:
                assert end
                assert expected is None or data == expected
                expected = b""
        elif step == "c":
            toy.clear()
            expected = b""
        elif step == "t":
            now += 0.06
            toy.advance(now)
        else:
            toy.write(b":NOPE?")
            expected = b""
    toy.clear()
    toy.write(b"*IDN?")
    assert toy.read() == (b"MAKER,TOY,0,1\n", True)
