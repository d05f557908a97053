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
        (outside, "1 batch edge lies outside"),
        (low[:0], "no samples"),
    ):
        decoded = markers.decode(bits, GATE, BATCH)
        assert decoded.window is None
        assert expected in "; ".join(decoded.problems)


N = 4000
CLOSE = max(markers.LEAST_CLOSE, round(markers.CLOSE_SHARE * N))


@st.composite
def runs(draw_from: st.DrawFn) -> tuple[int, int, list[int]]:
    """Rise, fall and batch ends of a run in a record of N samples, everything well apart from everything."""
    rise = draw_from(st.integers(200, 600))
    batch = draw_from(st.integers(60, 300))
    ends = [rise + batch * (k + 1) for k in range(draw_from(st.integers(2, 9)))]
    return rise, ends[-1] + draw_from(st.integers(0, 3)), ends


def flipped(bits: np.ndarray, line: int, *spots: int) -> np.ndarray:
    """The line upside down from each spot on."""
    bits = bits.copy()
    for spot in spots:
        bits[spot:] ^= np.uint8(1 << line)
    return bits


def only_kind(bits: np.ndarray) -> set[str]:
    decoded = markers.decode(bits, GATE, BATCH)
    assert decoded.window is None
    return {problem.kind for problem in decoded.problems}


@given(runs(), st.integers(1, CLOSE), st.data())
def test_a_pulse_on_the_gate_that_no_run_makes_is_a_glitch(
    run: tuple[int, int, list[int]], length: int, data: st.DataObject
) -> None:
    rise, fall, ends = run
    far = st.integers(20, N - 20 - length).filter(lambda at: min(abs(at - rise), abs(at - fall)) > 2 * CLOSE + length)
    at = data.draw(far)
    assert only_kind(flipped(draw(N, rise, fall, ends), GATE, at, at + length)) == {"glitch"}


@given(runs(), st.integers(1, CLOSE), st.integers(1, CLOSE), st.booleans())
def test_an_edge_of_the_gate_that_comes_again_is_a_bounce(
    run: tuple[int, int, list[int]], after: int, length: int, at_rise: bool
) -> None:
    rise, fall, ends = run
    at = (rise if at_rise else fall) + after
    assert only_kind(flipped(draw(N, rise, fall, ends), GATE, at, at + length)) == {"bounce"}


@given(runs(), st.integers(CLOSE + 1, 200))
def test_a_gate_that_rises_again_is_a_second_run(run: tuple[int, int, list[int]], length: int) -> None:
    rise, fall, ends = run
    at = fall + 3 * CLOSE
    assert only_kind(flipped(draw(N, rise, fall, ends), GATE, at, at + length)) == {"extra"}


@given(runs(), st.booleans())
def test_a_record_that_begins_or_ends_within_the_run_cuts_its_window(
    run: tuple[int, int, list[int]], at_start: bool
) -> None:
    rise, fall, ends = run
    middle = (rise + fall) // 2
    bits = draw(N, rise, fall, ends)
    assert only_kind(bits[middle:] if at_start else bits[:middle]) == {"cut"}


@given(runs(), st.data())
def test_edges_of_the_batch_line_are_missing_extra_or_bounce(
    run: tuple[int, int, list[int]], data: st.DataObject
) -> None:
    rise, fall, ends = run
    spot = data.draw(st.sampled_from(ends[:-1]))
    batch = ends[1] - ends[0]

    def kind(*now: int) -> str:
        decoded = markers.decode(draw(N, rise, fall, sorted(now)), GATE, BATCH)
        assert decoded.window is not None
        problem = markers.check_against_log(decoded.window, len(ends))
        assert problem is not None
        assert str(len(ends)) in problem
        assert problem.code == f"markers-{problem.kind}"
        return problem.kind

    assert kind(*(end for end in ends if end != spot)) == "missing"
    assert kind(*ends, spot + batch // 2) == "extra"
    close = data.draw(st.integers(1, batch // 12))
    assert kind(*ends, spot + close, spot + 2 * close) == "bounce"
    far = data.draw(st.integers(batch // 3, batch // 2))
    assert kind(*ends, spot + far, spot + far + close) == "glitch"


@given(runs())
def test_lines_in_each_others_place_are_seen_to_be(run: tuple[int, int, list[int]]) -> None:
    rise, fall, ends = run
    bits = draw(N, rise, fall, ends)
    assert markers.swapped(bits, BATCH, GATE, len(ends))
    assert not markers.swapped(bits, GATE, BATCH, len(ends))
    assert not markers.swapped(bits, BATCH, GATE, len(ends) + 1)
