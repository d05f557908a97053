"""Decoding of marker bits: what was drawn comes back, and whatever does not fit is reported."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from instruments import markers

GATE, BATCH = 3, 5


def draw(n: int, rise: int, fall: int, ends: list[int]) -> np.ndarray:
    """Bits of a record of n samples with one gate pulse and batch edges before the given samples."""
    gate = np.zeros(n, dtype=np.uint8)
    gate[rise:fall] = 1
    batch = np.zeros(n, dtype=np.uint8)
    for end in ends:
        batch[end:] ^= 1
    return (gate << GATE) | (batch << BATCH)


@given(st.data())
def test_any_run_is_found_again(data: st.DataObject) -> None:
    n = data.draw(st.integers(10, 400))
    rise = data.draw(st.integers(1, n - 3))
    fall = data.draw(st.integers(rise + 1, n - 1))
    ends = sorted(data.draw(st.sets(st.integers(rise + 1, fall), max_size=20)))
    noise = data.draw(st.integers(0, 255)) & ~(1 << GATE) & ~(1 << BATCH)
    decoded = markers.decode(draw(n, rise, fall, ends) | np.uint8(noise), GATE, BATCH)
    assert decoded.problems == ()
    assert decoded.window == markers.Window(rise, fall, tuple(ends))
    assert markers.check_against_log(decoded.window, len(ends)) is None
    assert "missing" in str(markers.check_against_log(decoded.window, len(ends) + 1))


@given(st.binary(min_size=0, max_size=300))
def test_any_bytes_give_a_window_or_a_reason(raw: bytes) -> None:
    decoded = markers.decode(np.frombuffer(raw, dtype=np.uint8), GATE, BATCH)
    assert (decoded.window is None) == bool(decoded.problems)
    if decoded.window is not None:
        assert 0 < decoded.window.start < decoded.window.stop < len(raw)


def test_each_kind_of_misfit_has_its_reason() -> None:
    low, high = np.zeros(50, np.uint8), np.full(50, 1 << GATE, np.uint8)
    cut_start, cut_end = draw(50, 10, 20, []), draw(50, 10, 50, [])
    cut_start[:15] |= 1 << GATE
    twice = draw(50, 10, 20, []) | draw(50, 30, 40, [])
    outside = draw(50, 10, 20, [15, 30])
    for bits, expected in (
        (low, "never moves: it is low"),
        (high, "never moves: it is high"),
        (cut_start, "already high at the record's start"),
        (cut_end, "still high at the record's end"),
        (twice, "4 edges where 2"),
        (outside, "1 batch edges lie outside"),
        (low[:0], "no samples"),
    ):
        decoded = markers.decode(bits, GATE, BATCH)
        assert decoded.window is None
        assert expected in "; ".join(decoded.problems)
