"""Preambles, records, captures and decoding."""

from __future__ import annotations

import contextlib
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from instruments.errors import CaptureError, ProtocolError
from instruments.waveform import Capture, Preamble, Record, parse_preamble
from instruments.waveform_data import decode, parse_ascii

WORD = Preamble(1, 0, 4, 1, 2e-5, -0.2, 0.0, 1e-3, 0.5, 32768.0)
BYTE = replace(WORD, format=0, y_reference=128.0)
TEXT = "+1,+0,+4,+1,+2.00000000E-05,-2.00000000E-01,+0,+1.00000000E-03,+5.00000000E-01,+32768"


def words(*codes: int, order: str = "<u2") -> bytes:
    return np.array(codes, dtype=order).tobytes()


def test_preamble_is_read():
    assert parse_preamble(TEXT) == WORD
    assert Preamble.parse(TEXT.replace("+4,", "+4.0E+0,")) == WORD


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("+0", "10 fields, got 1"),
        ("", "10 fields, got 1"),
        (TEXT + ",1", "got 11"),
        (TEXT.replace("+4,", "+4.5,"), "field points"),
        (TEXT.replace("+2.00000000E-05", "x"), "field x_increment_s"),
        (TEXT.replace("+2.00000000E-05", "+0"), "no record"),
        (TEXT.replace("+4,", "-4,"), "no record"),
    ],
)
def test_preambles_that_are_refused(text, message):
    with pytest.raises(ProtocolError, match=message):
        parse_preamble(text)


@given(
    st.integers(0, 10**7),
    st.floats(1e-12, 1e3),
    st.floats(-1e3, 1e3),
    st.floats(-1e3, 1e3),
    st.floats(-1e6, 1e6, width=32),
)
def test_preamble_survives_as_text(points, dt_s, origin_s, increment, y_origin):
    preamble = Preamble(1, 0, points, 1, dt_s, origin_s, 0.0, increment, y_origin, 32768.0)
    assert Preamble.parse(preamble.to_text()) == preamble


@given(st.text(max_size=80))
def test_any_text_is_a_preamble_or_a_protocol_error(text):
    with contextlib.suppress(ProtocolError):
        Preamble.parse(text)


def test_word_values_holes_and_clips():
    preamble = replace(WORD, points=5)
    record = decode("CHAN1", preamble, words(0, 0x0100, 0x8000, 0xFEF0, 0xFF00), "V")
    assert record.codes.dtype == np.uint16
    assert record.holes().tolist() == [True, False, False, False, False]
    assert record.clipped_low().tolist() == [False, True, False, False, False]
    assert record.clipped_high().tolist() == [False, False, False, False, True]
    assert record.clipped().tolist() == [False, True, False, False, True]
    values = record.values()
    assert values.dtype == np.float64
    assert np.isnan(values[0])
    assert values[2] == 0.5
    assert values[3] == pytest.approx((0xFEF0 - 0x8000) * 1e-3 + 0.5)
    assert record.time_s() == pytest.approx(-0.2 + 2e-5 * np.arange(5))
    assert len(record) == 5


def test_byte_holes_and_clips():
    record = decode("CHAN1", BYTE, bytes([0, 1, 128, 255]), "A")
    assert record.codes.dtype == np.uint8
    assert record.holes().tolist() == [True, False, False, False]
    assert record.clipped().tolist() == [False, True, False, True]
    assert record.values()[2] == 0.5


@given(st.lists(st.integers(0, 0xFFFF), min_size=1, max_size=50))
def test_byte_order_and_sign_make_no_difference(codes):
    preamble = replace(WORD, points=len(codes))
    little = decode("CHAN1", preamble, words(*codes), "V")
    big = decode("CHAN1", preamble, words(*codes, order=">u2"), "V", little_endian=False)
    signed = np.array([c - 0x8000 for c in codes], dtype="<i2").tobytes()
    shifted = decode("CHAN1", replace(preamble, y_reference=0.0), signed, "V", unsigned=False)
    assert big == little
    assert shifted == little
    assert np.array_equal(shifted.values(), little.values(), equal_nan=True)


def test_signed_bytes():
    signed = np.array([-128, -127, 0, 127], dtype=np.int8).tobytes()
    record = decode("CHAN1", replace(BYTE, y_reference=0.0), signed, "V", unsigned=False)
    assert record == decode("CHAN1", BYTE, bytes([0, 1, 128, 255]), "V")


def test_digital_lines():
    record = decode("POD1", BYTE, bytes([0b00, 0b01, 0b10, 0b11]), "bits")
    assert record.bit(0).tolist() == [False, True, False, True]
    assert record.bit(1).tolist() == [False, False, True, True]
    assert not record.holes().any()
    assert not record.clipped().any()
    assert record.values().tolist() == [0.0, 1.0, 2.0, 3.0]
    with pytest.raises(ValueError, match="D8"):
        record.bit(8)
    with pytest.raises(ValueError, match="no line"):
        decode("CHAN1", BYTE, bytes(4), "V").bit(0)


def test_digital_words():
    record = decode("POD1", WORD, words(1, 2, 3, 255), "bits")
    assert record.codes.dtype == np.uint8
    assert record.codes.tolist() == [1, 2, 3, 255]
    with pytest.raises(ProtocolError, match="byte order"):
        decode("POD1", WORD, words(1, 2, 3, 0x0100), "bits")


def test_peak_pairs():
    record = decode("CHAN1", replace(BYTE, points=2), bytes([10, 20, 30, 40]), "V", pairs=True)
    assert record.time_s() == pytest.approx([-0.2, -0.2, -0.2 + 4e-5, -0.2 + 4e-5])
    assert record.values().shape == (4,)


@pytest.mark.parametrize("length", [7, 9])
def test_half_a_sample_is_no_block(length):
    with pytest.raises(ProtocolError, match=f"{length} bytes are no whole number of 2-byte samples") as caught:
        decode("CHAN1", WORD, bytes(length), "V")
    assert caught.value.first_bytes == bytes(length)


@pytest.mark.parametrize("length", [0, 6, 10])
def test_block_length_must_fit_the_preamble(length):
    with pytest.raises(CaptureError, match="4 points = 8 bytes") as caught:
        decode("CHAN1", WORD, bytes(length), "V")
    assert caught.value.reason == "mismatch"


def test_ascii_preamble_has_no_codes():
    with pytest.raises(CaptureError, match="format 4"):
        decode("CHAN1", replace(WORD, format=4), bytes(8), "V")


def test_ascii_values():
    values = parse_ascii("1.0E+0,-2.5E-1,9.9E+37,\n", 3)
    assert values[:2].tolist() == [1.0, -0.25]
    assert np.isnan(values[2])
    with pytest.raises(CaptureError, match="announces 4 values, 3"):
        parse_ascii("1,2,3", 4)
    with pytest.raises(ProtocolError, match="comma separated"):
        parse_ascii("1,x,3", 3)


@pytest.mark.parametrize("text", ["1,,3", "1_0,2,3", "nan,2,3", "inf,2,3", "1e999,2,3", "1;2;3", "1,2,3,,", "٣,2,3"])
def test_ascii_that_is_no_list_of_numbers(text):
    with pytest.raises(ProtocolError, match="numbers") as caught:
        parse_ascii(text, 3)
    assert caught.value.first_bytes


@given(st.text(max_size=40), st.integers(0, 5))
def test_any_text_is_that_many_values_or_an_error(text, points):
    with contextlib.suppress(ProtocolError, CaptureError):
        assert parse_ascii(text, points).shape == (points,)


@given(
    st.binary(max_size=40),
    st.builds(replace, st.just(WORD), format=st.sampled_from([0, 1, 2, 4]), points=st.integers(0, 20)),
    st.sampled_from(["V", "A", "bits"]),
    st.booleans(),
    st.booleans(),
    st.booleans(),
)
def test_any_bytes_are_a_whole_record_or_an_error(data, preamble, units, little, unsigned, pairs):
    try:
        found = decode("POD1", preamble, data, units, little_endian=little, unsigned=unsigned, pairs=pairs)
    except (ProtocolError, CaptureError):
        return
    width = 2 if preamble.format == 1 else 1
    assert len(data) == len(found) * width == preamble.points * (2 if pairs else 1) * width
    assert found.values().shape == found.time_s().shape == found.holes().shape == found.clipped().shape == (len(found),)


@given(st.lists(st.integers(0, 0xFFFF), min_size=1, max_size=30), st.integers(0, 8))
def test_resolution_is_what_the_codes_need(codes, dropped):
    kept = np.array([c >> dropped << dropped for c in codes], dtype=np.uint16)
    found = Record("CHAN1", replace(WORD, points=len(kept)), kept, "V").resolution_bits
    assert found <= 16 - dropped
    if found:
        step = 1 << (16 - found)
        assert len({int(c) % step for c in kept}) == 1
        assert len({int(c) % (2 * step) for c in kept}) == 2
    else:
        assert len(set(kept.tolist())) == 1


def test_lines_of_the_second_pod():
    record = decode("POD2", BYTE, bytes([0b00, 0b01, 0b10, 0b11]), "bits")
    assert record.bit(8).tolist() == [False, True, False, True]
    assert record.bit(9).tolist() == [False, False, True, True]
    with pytest.raises(ValueError, match="D0"):
        record.bit(0)


def test_record_refuses_what_it_cannot_hold():
    with pytest.raises(TypeError, match="uint8 or uint16"):
        Record("CHAN1", WORD, np.zeros(4, dtype=np.int16), "V")  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="one row"):
        Record("CHAN1", WORD, np.zeros((2, 2), dtype=np.uint16), "V")
    with pytest.raises(CaptureError, match="announces 4 values, 3 came"):
        Record("CHAN1", WORD, np.zeros(3, dtype=np.uint16), "V")


def test_record_is_read_only_and_leaves_the_callers_array_alone():
    codes = np.ones(4, dtype=np.uint16)
    settings = {"a": "1"}
    record = Record("CHAN1", WORD, codes, "V", settings=settings)
    with pytest.raises(ValueError, match="read-only"):
        record.codes[0] = 2
    codes[0] = 3
    settings["a"] = "2"
    assert record.settings == {"a": "1"}
    assert record != decode("CHAN1", WORD, words(1, 1, 1, 1), "A")
    assert record != "something else"


def record(name: str, preamble: Preamble) -> Record:
    return Record(name, preamble, np.full(preamble.points, 0x8000, dtype=np.uint16), "V")


def test_capture_shares_one_time_base():
    capture = Capture({"CHAN1": record("CHAN1", WORD), "CHAN3": record("CHAN3", WORD)}, requested_points=5, number=2)
    assert (capture.points, capture.dt_s, capture.start_s) == (4, 2e-5, -0.2)
    assert capture.rate_hz == pytest.approx(50e3)
    assert capture.duration_s == pytest.approx(8e-5)
    assert capture.time_s() == pytest.approx(capture["CHAN3"].time_s())
    assert (capture.requested_points, capture.number) == (5, 2)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"points": 3}, "points"),
        ({"x_increment_s": 1e-5}, "sampling period"),
        ({"x_origin_s": -0.1}, "first sample"),
        ({"x_reference": 1.0}, "first sample"),
    ],
)
def test_capture_refuses_two_time_bases(change, message):
    other = record("CHAN3", replace(WORD, **change))
    with pytest.raises(CaptureError, match=f"CHAN1 and CHAN3.*{message}") as caught:
        Capture({"CHAN1": record("CHAN1", WORD), "CHAN3": other})
    assert caught.value.reason == "mismatch"


def test_capture_needs_a_record():
    with pytest.raises(CaptureError, match="without a record"):
        Capture({})
