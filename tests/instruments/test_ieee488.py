"""The block and line readers: one row per case of IEEE 488.2, and every way of cutting the bytes."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from instruments.errors import ProtocolError
from instruments.ieee488 import NEED, Block, BlockReader, Line, LineReader, write_block


def outcome(reader, parts, end_on_last):
    """Feed the parts; give what happened and after how many bytes (of the part boundary) it did."""
    for i, part in enumerate(parts):
        try:
            event = reader.feed(part, end_on_last and i == len(parts) - 1)
        except ProtocolError as error:
            return "error", error.message
        if event is not NEED:
            return event, reader.rest
    return NEED, b""


def cut(data, places):
    edges = [0, *sorted(p % (len(data) + 1) for p in places), len(data)]
    return [data[a:b] for a, b in itertools.pairwise(edges)]


@pytest.mark.parametrize(
    ("name", "wire", "end", "expected"),
    [
        ("one digit", b"#15hello\n", False, b"hello"),
        ("eight digits", b"#800000005hello\n", False, b"hello"),
        ("nine digits", b"#9000000002ab\n", False, b"ab"),
        ("empty, one digit", b"#10\n", False, b""),
        ("empty, eight digits", b"#800000000\n", False, b""),
        ("END instead of line feed", b"#12ab", True, b"ab"),
        ("END after line feed", b"#12ab\n", True, b"ab"),
        ("line feeds as data", b"#13\n\n\n\n", False, b"\n\n\n"),
        ("header as data", b"#14#12a\n", False, b"#12a"),
    ],
)
def test_blocks_that_are_right(name, wire, end, expected):
    reader = BlockReader()
    assert reader.feed(wire, end) == Block(expected)
    assert reader.rest == b""


@pytest.mark.parametrize(
    ("name", "wire", "end", "message"),
    [
        ("indefinite", b"#0ab\n", False, "indefinite"),
        ("stale text before", b"1\n#12ab\n", False, "starts with '#'"),
        ("line feed before", b"\n#12ab\n", False, "starts with '#'"),
        ("letter as digit count", b"#x", False, "digit 1 to 9"),
        ("letter in length", b"#2a5", False, "digits of block length"),
        ("space padded length", b"#2 5hello\n", False, "digits of block length"),
        ("sign in length", b"#2+5hello\n", False, "digits of block length"),
        ("carriage return behind", b"#12ab\r\n", False, "line feed after 2 bytes"),
        ("too much data", b"#12abc\n", False, "line feed after 2 bytes"),
        ("END too early", b"#15ab", True, "ended after 5 bytes"),
        ("END in header", b"#8000", True, "ended after 5 bytes"),
        ("END and nothing", b"", True, "ended after 0 bytes"),
        ("too long to believe", b"#9999999999", False, "declares 999999999"),
    ],
)
def test_blocks_that_are_refused(name, wire, end, message):
    with pytest.raises(ProtocolError, match=message) as caught:
        BlockReader().feed(wire, end)
    assert caught.value.first_bytes == wire[:40]


@pytest.mark.parametrize("wire", [b"", b"#", b"#8", b"#80000000", b"#15hell", b"#15hello"])
def test_blocks_that_need_more(wire):
    reader = BlockReader()
    assert reader.feed(wire) is NEED
    assert reader.bytes_got == len(wire)
    assert reader.wanted >= 1


def test_wanted_never_reads_past_the_block():
    wire = write_block(b"hello", 8) + b"\n" + b"next"
    reader, at = BlockReader(), 0
    while True:
        take = reader.wanted
        event = reader.feed(wire[at : at + take])
        at += take
        if event is not NEED:
            break
    assert event == Block(b"hello")
    assert wire[at:] == b"next"


def test_what_comes_behind_is_kept_apart():
    reader = BlockReader()
    assert reader.feed(b"#12ab\nstale") == Block(b"ab")
    assert reader.rest == b"stale"


@given(st.binary(max_size=60), st.integers(1, 9), st.binary(max_size=5), st.lists(st.integers(0, 200)), st.booleans())
def test_cuts_of_a_block_never_matter(payload, digits, tail, places, end):
    if len(payload) >= 10**digits:
        digits = 2
    wire = write_block(payload, digits) + b"\n"
    parts = cut(wire, places)
    assert outcome(BlockReader(), parts, end) == (Block(payload), b"")
    whole = outcome(BlockReader(), [wire + tail], end)
    assert whole == (Block(payload), tail)


@given(st.binary(max_size=40), st.lists(st.integers(0, 100)), st.booleans())
def test_any_bytes_give_need_a_block_or_an_error_whatever_the_cuts(wire, places, end):
    whole = outcome(BlockReader(), [wire], end)
    parts = outcome(BlockReader(), cut(wire, places), end)
    bytewise = outcome(BlockReader(), [wire[i : i + 1] for i in range(len(wire))] or [b""], end)
    if isinstance(whole[0], Block):
        assert parts[0] == bytewise[0] == whole[0]
    else:
        assert (parts[0], bytewise[0]) == (whole[0], whole[0])


def test_every_truncation_of_a_block_needs_more_or_is_an_error_at_end():
    wire = write_block(bytes(range(48)), 8)
    for i in range(len(wire)):
        assert BlockReader().feed(wire[:i]) is NEED
        with pytest.raises(ProtocolError, match="ended"):
            BlockReader().feed(wire[:i], end=True)


def test_writing_blocks():
    assert write_block(b"ab") == b"#800000002ab"
    assert write_block(b"ab", 1) == b"#12ab"
    for digits in (0, 10, 1):
        with pytest.raises(ValueError, match="do not fit"):
            write_block(bytes(10), digits)


@given(st.binary(max_size=60).filter(lambda b: b"\n" not in b), st.lists(st.integers(0, 100)))
def test_cuts_of_a_line_never_matter(payload, places):
    expected = Line(payload[:-1] if payload.endswith(b"\r") else payload)
    assert outcome(LineReader(), cut(payload + b"\n", places), False) == (expected, b"")


def test_lines():
    reader = LineReader()
    assert reader.feed(b"+0,") is NEED
    assert reader.bytes_got == 3
    assert reader.feed(b'"No error"\r\nmore') == Line(b'+0,"No error"')
    assert reader.rest == b"more"
    assert LineReader().feed(b"no line feed", end=True) == Line(b"no line feed")
    assert LineReader().feed(b"\n") == Line(b"")


def test_line_without_end_is_refused():
    with pytest.raises(ProtocolError, match="no line feed"):
        LineReader(max_bytes=10).feed(b"x" * 11)
