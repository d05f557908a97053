"""The start frame from the board's toggles to the number read from a record, with late edges and damage between."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from instruments import marker_frame, markers
from instruments.marker_line import MarkerLine

GATE, BATCH = 0, 1
UNIT_NS = 200_000
NUMBERS = st.integers(0, 65535)


class Board(MarkerLine):
    """Lines in virtual time: an edge is late by what `late_ns` says for its turn; sleeping and asking take time too."""

    def __init__(self, late_ns: Callable[[int], int] = lambda edge: 0) -> None:
        self.now_ns = 1_000_000
        self.toggles = 0
        self.edges_ns: list[int] = []
        self.working_ns: list[int] = []
        self._late_ns = late_ns

    def batch(self) -> None:
        self.now_ns += self._late_ns(self.toggles) + 300
        self.toggles += 1
        self.edges_ns.append(self.now_ns)
        self.now_ns += 200

    def working(self, level: bool) -> None:
        self.working_ns.append(self.now_ns)

    def clock_ns(self) -> int:
        self.now_ns += 100
        return self.now_ns

    def sleep(self, seconds: float) -> None:
        self.now_ns += int(seconds * 1e9)

    def send(self, number: int, tries: int = 1, unit_ns: int = UNIT_NS) -> dict[str, object]:
        return marker_frame.send(self, number, unit_ns * 1e-9, 0.2, tries, self.clock_ns, self.sleep)

    def record(self, dt_ns: int, phase_ns: int = 0, start_level: int = 0) -> np.ndarray:
        """What a pod sees: 180 ms with the edges, then a gate of 1 ms with no batch in it."""
        rise = self.now_ns
        t = np.arange(max(0, rise - 180_000_000) + phase_ns, rise + 3_000_000, dt_ns)
        batch = (np.searchsorted(np.array(self.edges_ns), t, side="right") + start_level) % 2
        gate = ((t >= rise) & (t < rise + 1_000_000)).astype(np.int64)
        return (gate << GATE | batch << BATCH).astype(np.uint8)


@settings(deadline=None)
@given(number=NUMBERS, dt_ns=st.integers(4_000, UNIT_NS // 4), phase=st.floats(0, 1), level=st.integers(0, 1))
def test_every_number_is_read_again_at_any_rate_of_four_samples_a_unit(
    number: int, dt_ns: int, phase: float, level: int
) -> None:
    board = Board()
    said = board.send(number)
    assert (said["good"], said["edges"]) == (True, marker_frame.EDGES)
    bits = board.record(dt_ns, int(phase * dt_ns), level)
    frame = markers.start_frame(bits, GATE, BATCH)
    assert (frame.number, frame.edges, frame.problem) == (number, marker_frame.EDGES, None)
    decoded = markers.decode(bits, GATE, BATCH, framed=True)
    assert decoded.window is not None
    assert decoded.window.batch_ends == ()
    assert frame.start < decoded.window.start
    assert "22 batch edges lie outside" in markers.decode(bits, GATE, BATCH).problems[0]


@settings(deadline=None)
@given(number=NUMBERS, late=st.lists(st.integers(0, UNIT_NS // 9), min_size=22, max_size=22))
def test_what_the_board_calls_good_can_be_read(number: int, late: list[int]) -> None:
    board = Board(late.__getitem__)
    said = board.send(number)
    frame = markers.start_frame(board.record(UNIT_NS // 6), GATE, BATCH)
    assert not said["good"] or frame.number == number


@settings(deadline=None)
@given(number=NUMBERS, edge=st.integers(1, 21))
def test_a_late_edge_ends_the_try_and_the_next_one_counts(number: int, edge: int) -> None:
    board = Board(lambda turn: 4_000_000 if turn == edge else 0)
    said = board.send(number, tries=2)
    assert (said["good"], said["edges"], said["tries"]) == (True, marker_frame.EDGES, 2)
    assert said["began_ns"] > board.edges_ns[edge]
    frame = markers.start_frame(board.record(20_000), GATE, BATCH)
    assert (frame.number, frame.edges) == (number, said["edges"])  # the spoiled try has left the record


def test_a_machine_that_is_always_late_says_so_and_leaves_a_clean_record() -> None:
    board = Board(lambda turn: 300_000 * (turn % 2))
    said = board.send(7, tries=3)
    assert (said["good"], said["edges"], said["tries"]) == (False, 0, 3)
    bits = board.record(20_000)
    assert markers.start_frame(bits, GATE, BATCH).edges == 0
    assert markers.decode(bits, GATE, BATCH).window is not None


def test_the_frame_is_short_and_a_pause_follows_during_which_the_board_rests() -> None:
    for number in (0, 65535):
        board = Board()
        start_ns = board.now_ns
        board.send(number)
        assert board.now_ns - start_ns <= marker_frame.LONGEST_UNITS * UNIT_NS + 50_000 < 20_000_000
        assert len(board.working_ns) == 2
        assert board.now_ns - board.working_ns[1] >= marker_frame.PAUSE_UNITS * UNIT_NS


@settings(deadline=None)
@given(number=NUMBERS, data=st.data())
def test_damage_of_one_bit_or_a_lost_edge_never_gives_a_number(number: int, data: st.DataObject) -> None:
    board = Board()
    board.send(number)
    if data.draw(st.booleans(), label="lost edges"):
        at = data.draw(st.integers(0, 20))
        del board.edges_ns[at : at + 2]
        problem = "no start frame: 20 edges of the batch line"
    else:  # one interval of one unit becomes two, or the other way round
        at = data.draw(st.integers(2, 21))
        shift = UNIT_NS if board.edges_ns[at] - board.edges_ns[at - 1] < 1.5 * UNIT_NS else -UNIT_NS
        board.edges_ns[at:] = [t + shift for t in board.edges_ns[at:]]
        problem = "check sum"
    frame = markers.start_frame(board.record(20_000), GATE, BATCH)
    assert frame.number is None
    assert problem in str(frame.problem)


@settings(deadline=None)
@given(st.lists(st.integers(1, 200), min_size=22, max_size=60))
def test_random_edges_are_read_without_failing(gaps: list[int]) -> None:
    board = Board()
    board.edges_ns = list(np.cumsum(gaps) * 20_000)
    board.now_ns = board.edges_ns[-1] + 1_000_000
    frame = markers.start_frame(board.record(20_000), GATE, BATCH)
    assert (frame.number is None) == (frame.problem is not None)
    assert frame.edges == len(gaps)


@settings(deadline=None)
@given(gap=st.integers(2, 300))
def test_a_steady_rhythm_is_no_frame(gap: int) -> None:
    board = Board()
    board.edges_ns = [k * gap * 20_000 for k in range(1, 40)]
    board.now_ns = board.edges_ns[-1] + 1_000_000
    assert markers.start_frame(board.record(20_000), GATE, BATCH).number is None


def test_records_without_frame_or_gate_have_none() -> None:
    silent = markers.start_frame(np.zeros(100, np.uint8), GATE, BATCH)
    assert (silent.number, silent.start, silent.edges) == (None, 100, 0)
    assert markers.start_frame(np.zeros(0, np.uint8), GATE, BATCH).number is None


@settings(deadline=None)
@given(number=NUMBERS, burst=st.integers(1, 15), at=st.integers(0, 12))
def test_the_check_bits_find_every_change_within_four_neighbouring_bits(number: int, burst: int, at: int) -> None:
    assert marker_frame.check_bits(number) != marker_frame.check_bits(number ^ burst << at)


@pytest.mark.parametrize(
    ("dt_s", "before_s", "jitter_s", "unit_s", "tries"),
    [
        (20e-6, 0.2, 1e-6, 240e-6, 9),  # 2 s at 50 kSa/s
        (20e-6, 0.2, 80e-6, 320e-6, 9),  # and by GPIO
        (4e-6, 0.04, 1e-6, 100e-6, 10),
        (200e-6, 2.0, 1e-6, 1.2e-3, 2),
        (50e-6, 0.5, 1e-3, 4e-3, 3),
        (20e-6, 0.2, 1e-3, None, 0),  # a USB adapter would fill the record with it
        (2e-7, 2e-3, 0.0, None, 0),  # 20 ms: no room
        (20e-6, 0.2, 0.1, None, 0),
    ],
)
def test_the_unit_follows_the_record_and_the_line(
    dt_s: float, before_s: float, jitter_s: float, unit_s: float | None, tries: int
) -> None:
    plan = marker_frame.plan(dt_s, before_s, jitter_s)
    if unit_s is None:
        assert plan is None
        return
    assert plan == {"unit_s": pytest.approx(unit_s, rel=0.01), "pause_s": pytest.approx(1.1 * before_s), "tries": tries}


@settings(deadline=None)
@given(dt_s=st.floats(1e-7, 1e-2), before_s=st.floats(1e-3, 50), jitter_s=st.floats(0, 1e-2))
def test_a_planned_frame_fits_the_record_and_can_be_seen(dt_s: float, before_s: float, jitter_s: float) -> None:
    plan = marker_frame.plan(dt_s, before_s, jitter_s)
    if plan is not None:
        assert plan["unit_s"] >= max(6 * dt_s, 4 * jitter_s)
        assert marker_frame.LONGEST_UNITS * plan["unit_s"] <= 0.8 * before_s < plan["pause_s"]
        assert plan["tries"] * plan["pause_s"] <= max(2.0, 0.23 * 10 * before_s)  # within what a bench waits


def test_runs_have_numbers_of_their_own() -> None:
    numbers = {marker_frame.number_of(f"cell-{k}-1700000000") for k in range(300)}
    assert len(numbers) > 290
    assert all(0 <= number <= 65535 for number in numbers)
