"""Program messages, blocks and numbers, cut anywhere."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from instruments.simulated.scpi_errors import Refused
from instruments.simulated.scpi_params import match_choice, parse_number
from instruments.simulated.scpi_syntax import MessageSplitter, encode_block, parse_message

WIRE = b":A 1;B?\r\n" + b":S:SET " + encode_block(b"x\n;\"'#10\n") + b"\n:D 'a\"\"b\\';C\n*IDN?\n"
WHOLE = [
    b":A 1;B?\r",
    b":S:SET #800000009x\n;\"'#10\n",
    b":D 'a\"\"b\\';C",
    b"*IDN?",
]


@given(st.lists(st.integers(0, len(WIRE)), max_size=12))
def test_messages_do_not_depend_on_how_the_stream_is_cut(cuts: list[int]) -> None:
    splitter, got, at = MessageSplitter(), [], 0
    for cut in [*sorted(cuts), len(WIRE)]:
        got += splitter.feed(WIRE[at:cut])
        at = cut
    assert got == WHOLE
    assert not splitter.partial


@given(st.binary(max_size=60))
def test_any_bytes_make_units_or_errors(data: bytes) -> None:
    splitter = MessageSplitter()
    for message in splitter.feed(data, end=True):
        for unit in parse_message(message):
            assert unit.header or unit.error is not None


@given(st.binary(max_size=300), st.sampled_from([b"", b"\n", b"\r\n"]))
def test_a_block_comes_through_whole(payload: bytes, terminator: bytes) -> None:
    (message,) = MessageSplitter().feed(b":S:SET " + encode_block(payload) + terminator, end=True)
    (unit,) = parse_message(message)
    assert unit.error is None
    assert unit.params[0].data == payload


def test_a_message_that_never_ends_is_thrown_away() -> None:
    splitter = MessageSplitter(limit=100)
    with pytest.raises(Refused, match="-363"):
        splitter.feed(b"A" * 101)
    assert splitter.feed(b"*CLS\n") == [b"*CLS"]


def test_end_alone_completes_and_empty_messages_vanish() -> None:
    splitter = MessageSplitter()
    assert splitter.feed(b"*ID") == []
    assert splitter.feed(b"N?", end=True) == [b"*IDN?"]
    assert splitter.feed(b"\r", end=True) == []
    assert parse_message(b" ; ;; ") == []


@pytest.mark.parametrize(
    ("message", "code"),
    [
        (b":A 1,,2", -109),
        (b":A 1,", -109),
        (b':A "open', -151),
        (b":A #3999x", -161),
        (b":A\xe9 1", -101),
        (b"\xe9", -101),
        (b"?A", -102),
        (b":A:? 1", -102),
        (b"A!", -103),
        (b':A "x" "y"', -103),
    ],
)
def test_spelling_mistakes_have_their_own_errors(message: bytes, code: int) -> None:
    units = parse_message(message)
    assert units[-1].error is not None
    assert units[-1].error.code == code


@pytest.mark.parametrize(
    ("text", "unit", "value"),
    [
        ("1.5 V", "V", 1.5),
        ("200MS", "S", 0.2),
        ("1.5E+01", "V", 15.0),
        (".5", "", 0.5),
        ("-2.", "", -2.0),
        ("3 mV", "V|A", 3e-3),
        ("2KA", "V|A", 2e3),
        ("10MHZ", "HZ", 1e7),
        ("1MAHZ", "HZ", 1e6),
        ("100K", "", 1e5),
        ("#HFF", "", 255.0),
        ("#B101", "", 5.0),
        ("#Q17", "", 15.0),
    ],
)
def test_numbers_with_units(text: str, unit: str, value: float) -> None:
    assert parse_number(text, unit) == pytest.approx(value, rel=1e-15)


@pytest.mark.parametrize(
    ("text", "unit", "code"),
    [
        ("1.5 S", "V", -131),
        ("1V", "", -138),
        ("1.2.3", "V", -121),
        ("HELLO", "V", -104),
        ("1e999999", "", -123),
        ("1e999", "", -123),
        ("#HXY", "", -121),
        ("#7", "", -121),
    ],
)
def test_bad_numbers(text: str, unit: str, code: int) -> None:
    with pytest.raises(Refused) as caught:
        parse_number(text, unit)
    assert caught.value.code == code


def test_keywords_are_short_or_long_and_nothing_between() -> None:
    assert match_choice("norm", ("NORMal", "RAW")) == "NORM"
    assert match_choice("NORMAL", ("NORMal", "RAW")) == "NORM"
    for wrong in ("NORMA", "NO", ""):
        with pytest.raises(Refused, match="-224"):
            match_choice(wrong, ("NORMal", "RAW"))
