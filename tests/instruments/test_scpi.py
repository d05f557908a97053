"""SCPI text: numbers, strings, keywords, error entries, identities."""

from __future__ import annotations

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from instruments import scpi
from instruments.errors import ProtocolError


@pytest.mark.parametrize(
    ("text", "value"),
    [("+8", 8.0), ("8", 8.0), ("-1.5", -1.5), ("+1.50000000E+01", 15.0), (".5", 0.5), ("5.", 5.0), (" 1e-3\n", 1e-3)],
)
def test_numbers(text, value):
    assert scpi.parse_float(text) == value


@pytest.mark.parametrize("text", ["", "nan", "inf", "1e999", "1,2", "0x10", "1_0", "1 2", "٣"])
def test_no_numbers(text):
    with pytest.raises(ProtocolError, match="number"):
        scpi.parse_float(text)


@given(st.floats(-1e300, 1e300))
def test_numbers_survive_to_ten_digits(value):
    assert scpi.parse_float(scpi.format_number(value)) == pytest.approx(value, rel=1e-9)


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_what_is_no_number_is_not_sent(value):
    with pytest.raises(ValueError, match="cannot be sent"):
        scpi.format_number(value)


def test_whole_numbers_may_come_in_any_form():
    assert scpi.parse_int("+1.88E+4") == 18800
    assert scpi.parse_int("+40") == 40
    with pytest.raises(ProtocolError, match="whole"):
        scpi.parse_int("1.5")


def test_value_that_is_none():
    assert scpi.parse_value("+9.9E+37") is None
    assert scpi.parse_value("9.90000E+37") is None
    assert scpi.parse_value("+1.0E+00") == 1.0


def test_switches():
    assert [scpi.parse_bool(t) for t in ("1", "+1", "on", "ON\n")] == [True] * 4
    assert [scpi.parse_bool(t) for t in ("0", "OFF", "+0")] == [False] * 3
    with pytest.raises(ProtocolError):
        scpi.parse_bool("2")


@given(st.text(alphabet=st.characters(min_codepoint=32, max_codepoint=126)))
def test_strings_survive(text):
    assert scpi.parse_string(scpi.quote(text)) == text


@pytest.mark.parametrize("text", ["", '"', '"a', 'a"', "\"a'", '"a"b"', "plain"])
def test_no_strings(text):
    with pytest.raises(ProtocolError, match="quoted"):
        scpi.parse_string(text)


def test_what_cannot_be_quoted():
    with pytest.raises(ValueError, match="ASCII"):
        scpi.quote("µ")
    with pytest.raises(ValueError, match="ASCII"):
        scpi.quote("a\nb")


def test_splitting_spares_quoted_separators():
    assert scpi.split_outside_quotes("a;\"b;c\";'d;e'", ";") == ["a", '"b;c"', "'d;e'"]
    assert scpi.split_answers('1 ; "x;y"', 2) == ["1", '"x;y"']
    with pytest.raises(ProtocolError, match="3 answers"):
        scpi.split_answers("1;2", 3)


@pytest.mark.parametrize(
    ("answer", "keyword", "same"),
    [
        ("CHAN1", "CHANnel1", True),
        ("CHANNEL1", "CHANnel1", True),
        ("CHAN2", "CHANnel1", False),
        ("HRES", "HRESolution", True),
        ("hresolution", "HRESolution", True),
        ("HRESO", "HRESolution", False),
        ("POD1", "POD1", True),
        ("MAX", "MAXimum", True),
        ("P35V", "P35V", True),
    ],
)
def test_keywords(answer, keyword, same):
    assert scpi.same_keyword(answer, keyword) is same


def test_short_forms():
    assert scpi.short_form("CHANnel1") == "CHAN1"
    assert scpi.short_form("P35V") == "P35V"
    assert scpi.match_keyword("aver", ("NORMal", "AVERage")) == "AVERage"
    with pytest.raises(ProtocolError, match="NORMal"):
        scpi.match_keyword("RAW", ("NORMal", "AVERage"))


@pytest.mark.parametrize(
    ("text", "entry"),
    [
        ('+0,"No error"', scpi.ErrorEntry(0, "No error")),
        ('0,"No error"', scpi.ErrorEntry(0, "No error")),
        ('-222,"Data out of range; ""x"""', scpi.ErrorEntry(-222, 'Data out of range; "x"')),
        ("-113,Undefined header", scpi.ErrorEntry(-113, "Undefined header")),
    ],
)
def test_error_entries(text, entry):
    assert scpi.parse_error_entry(text) == entry


def test_error_entry_as_text():
    assert str(scpi.ErrorEntry(-222, "Data out of range")) == '-222,"Data out of range"'


@pytest.mark.parametrize("text", ["", "0", "No error", "x,y"])
def test_no_error_entries(text):
    with pytest.raises(ProtocolError, match="error-queue"):
        scpi.parse_error_entry(text)


def test_identity():
    text = "AGILENT TECHNOLOGIES,MSO-X 2024A,MY00000001,02.65.2021102830"
    found = scpi.parse_identity(text + "\n")
    assert (found.vendor, found.model) == ("AGILENT TECHNOLOGIES", "MSO-X 2024A")
    assert (found.serial, found.firmware) == ("MY00000001", "02.65.2021102830")
    assert str(found) == text
    for bad in ("", "a,b,c", "a,,c,d", "a,b,c,d,e"):
        with pytest.raises(ProtocolError, match="vendor"):
            scpi.parse_identity(bad)


@given(st.text())
def test_parsers_give_a_value_or_a_protocol_error(text):
    for parse in (
        scpi.parse_float,
        scpi.parse_int,
        scpi.parse_value,
        scpi.parse_bool,
        scpi.parse_string,
        scpi.parse_error_entry,
        scpi.parse_identity,
    ):
        with contextlib.suppress(ProtocolError):
            parse(text)
    with contextlib.suppress(ProtocolError):
        assert scpi.match_keyword(text, ("NORMal", "CHANnel1")) in ("NORMal", "CHANnel1")
    with contextlib.suppress(ProtocolError):
        assert len(scpi.split_answers(text, 3)) == 3
    assert ";".join(scpi.split_outside_quotes(text, ";")) == text
