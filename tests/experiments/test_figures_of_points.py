"""What figures compute of their own: fits, fronts, folded batches, settling, places of names. Known truths."""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from experiments.figures import bubbles, style
from experiments.figures.__main__ import labels
from experiments.figures.captures import Waveform, clock
from experiments.figures.fits import front, hinge, trend, upper_bound
from experiments.figures.folding import fold, settling_s
from experiments.figures.labels import Box, Disc, place
from experiments.figures.rows import NothingToDrawError, Table
from instruments.markers import Window

number = st.floats(0.1, 1e3, allow_nan=False)


@given(st.floats(50, 400), st.floats(0.5, 3), st.floats(60, 300), st.integers(0, 2**32 - 1))
@settings(max_examples=25, deadline=None)
def test_a_hinge_is_found_again(floor: float, slope: float, knee: float, seed: int) -> None:
    rng = np.random.default_rng(seed)
    x = np.concatenate([rng.uniform(10, 0.9 * knee, 6), rng.uniform(1.1 * knee, 600, 6)])
    fit = hinge(x.tolist(), (floor + slope * np.maximum(x - knee, 0)).tolist())
    assert fit is not None
    assert (fit.floor, fit.slope, fit.knee) == pytest.approx((floor, slope, knee), rel=1e-3)
    assert fit.rms < 1e-3 * floor


def test_no_hinge_of_few_or_equal_points() -> None:
    assert hinge([1, 2, 3, 4], [1, 1, 2, 3]) is None
    assert hinge([5] * 6, [1, 2, 3, 4, 5, 6]) is None
    assert hinge([1, 2, 3, 4, 5, 6], [7] * 6) is None


@given(st.lists(st.tuples(number, number), min_size=2, max_size=20, unique_by=lambda p: p[0]))
@settings(max_examples=50, deadline=None)
def test_no_point_lies_above_the_upper_bound_and_one_lies_on_it(points: list[tuple[float, float]]) -> None:
    x, y = zip(*points, strict=True)
    bound = upper_bound(x, y)
    assert bound is not None
    assert bound.slope <= 1e-12 * max(y)  # a level one may be so by rounding
    room = [bound.at_zero + bound.slope * a - b for a, b in points]
    scale = max(y)
    assert min(room) == pytest.approx(0, abs=1e-5 * scale)
    # No other falling line through two points, nor a level one, is nearer in the mean and above all.
    lines = [((b - d) / (a - c), b) for (a, b), (c, d) in itertools.permutations(points, 2)]
    for slope, _ in [(s, 0) for s, _ in lines if s < 0] + [(0.0, 0)]:
        at_zero = max(b - slope * a for a, b in points)
        assert sum(room) <= sum(at_zero + slope * a - b for a, b in points) + 1e-5 * scale * len(points)


def test_a_trend_is_least_squares_with_its_share_of_the_variance() -> None:
    fit = trend([0, 1, 2, 3], [1, 2, 5, 6])
    assert fit is not None
    assert (fit.at_zero, fit.slope) == pytest.approx((0.8, 1.8))
    assert fit.r2 == pytest.approx(np.corrcoef([0, 1, 2, 3], [1, 2, 5, 6])[0, 1] ** 2)
    assert trend([1, 2], [1, 2]) is None


@given(st.lists(st.tuples(number, number), min_size=1, max_size=12))
def test_nothing_beats_what_is_on_the_front_and_something_on_it_beats_the_rest(
    points: list[tuple[float, float]],
) -> None:
    cost, gain = zip(*points, strict=True)
    places = front(cost, [0.0] * len(points), gain)
    on = {p for p, where in zip(points, places, strict=True) if where == "front"}
    assert on
    for p in set(points):
        better = [q for q in on if q != p and q[0] <= p[0] and q[1] >= p[1]]
        assert bool(better) == (p not in on)


def test_behind_the_front_by_less_than_the_intervals_is_told_apart() -> None:
    assert front([1.0, 1.1, 2.0], [0.1, 0.1, 0.1], [70.0, 70.0, 60.0]) == ["front", "within U", "behind"]


@dataclass
class Taken:
    """As much of a capture as a waveform needs."""

    dt_s: float
    capture: object = field(init=False)

    def __post_init__(self) -> None:
        self.capture = self


def record(power_w: np.ndarray, edges: list[int], stop: int, dt_s: float = 1e-4) -> Waveform:
    none = np.zeros(len(power_w), dtype=bool)
    return Waveform(Taken(dt_s), Window(edges[0], stop, tuple(edges[1:])), power_w, none, none)  # type: ignore[arg-type]


def test_batches_of_unequal_length_fold_into_their_common_shape() -> None:
    edges = [1000, 2000, 3100, 4000, 5050]
    power = np.full(6000, 1.0)
    power[1000:2000] = 50.0  # the first batch, which begins at rest
    for a, b in itertools.pairwise(edges[1:]):
        phase = (np.arange(a, b) - a + 0.5) / (b - a)
        power[a:b] = 10 + np.sin(2 * np.pi * phase)
    folded = fold([record(power, edges, 5050)])
    assert folded.batches == 3
    np.testing.assert_allclose(folded.mean, 10 + np.sin(2 * np.pi * folded.phase), atol=0.02)
    assert folded.sd.max() < 0.02
    np.testing.assert_allclose(folded.first, 50.0)
    assert folded.batch_s == pytest.approx(0.1 * 4.05 / 4)


def test_only_the_first_record_of_a_run_holds_a_batch_that_begins_at_rest() -> None:
    edges = [100, 200, 300, 400]
    first = record(np.full(500, 10.0), edges, 500)
    middle = replace(record(np.full(500, 10.0), edges, 500), rise=False, fall=False)
    empty = replace(record(np.full(500, 10.0), edges[:1], 500), rise=False, fall=False)
    assert fold([first, middle, empty]).batches == 2 + 3
    alone = fold([middle])
    assert alone.batches == 3
    assert np.isnan(alone.first).all()
    assert math.isnan(settling_s([middle]))


def test_the_spread_is_that_from_batch_to_batch_and_the_interval_that_of_the_mean() -> None:
    rng = np.random.default_rng(5)
    edges = list(range(100, 100 + 100 * 401, 100))
    power = np.repeat(rng.normal(10, 2.0, 402), 100)
    folded = fold([record(power, edges, edges[-1])])
    assert folded.sd == pytest.approx(2.0, rel=0.15)
    assert folded.half == pytest.approx(1.966 * folded.sd / math.sqrt(399), rel=1e-3)


def test_too_few_batches_or_samples_are_told() -> None:
    with pytest.raises(NothingToDrawError, match="1 batches"):
        fold([record(np.ones(500), [100, 200, 300], 300)])
    with pytest.raises(NothingToDrawError, match="10 samples"):
        fold([record(np.ones(500), [100, 110, 120, 130], 130)])


@pytest.mark.parametrize("tau_s", [1e-3, 2e-3, 8e-3])
def test_the_settling_time_is_that_of_the_fall(tau_s: float) -> None:
    t = (np.arange(4000) - 2000) * 5e-5
    power = np.where(t < 0, 13.0, 1.3 + 11.7 * np.exp(-t.clip(0) / tau_s))
    noise = np.random.default_rng(1).normal(0, 0.1, t.size)
    found = settling_s([record(power + noise, [10, 2000], 2000, 5e-5)])
    assert found == pytest.approx(tau_s, abs=0.1 * tau_s + 1e-4)
    last = replace(record(power + noise, [2000, 2000], 2000, 5e-5), rise=False)  # of a long run, in its last batch
    assert settling_s([last]) == found


def test_what_does_not_fall_has_no_settling_time() -> None:
    assert math.isnan(settling_s([record(np.full(4000, 5.0), [10, 2000], 2000)]))
    assert math.isnan(settling_s([record(np.full(2001, 5.0), [10, 2000], 2000)]))


def boxes_overlap(a: Box, b: Box) -> bool:
    return abs(a.x - b.x) < (a.width + b.width) / 2 and abs(a.y - b.y) < (a.height + b.height) / 2


@given(st.lists(st.tuples(st.integers(1, 9), st.integers(1, 9)), min_size=1, max_size=12, unique=True))
@settings(max_examples=8, deadline=None)
def test_names_lie_inside_and_on_nothing_where_there_is_room(cells: list[tuple[int, int]]) -> None:
    discs = [Disc(100.0 * x, 100.0 * y, 8.0) for x, y in cells]
    area = Box(500, 500, 1000, 1000)
    boxes = place(discs, [(60.0, 10.0)] * len(discs), area)
    for a, b in itertools.combinations(boxes, 2):
        assert not boxes_overlap(a, b)
    for box in boxes:
        assert box.x - box.width / 2 >= 0
        assert box.x + box.width / 2 <= 1000
        assert all(not boxes_overlap(box, Box(d.x, d.y, 2 * d.radius, 2 * d.radius)) for d in discs)


def test_names_of_points_in_one_place_do_not_lie_on_one_another() -> None:
    discs = [Disc(500.0, 500.0, 5.0)] * 6
    boxes = place(discs, [(60.0, 10.0)] * 6, Box(500, 500, 1000, 1000))
    assert not any(boxes_overlap(a, b) for a, b in itertools.combinations(boxes, 2))


def test_a_table_leaves_the_unknown_empty() -> None:
    table = Table(("a", "b", "c"), (("x, y", math.nan, None), ("z", 0.1, 3)))
    assert table.csv() == 'a,b,c\n"x, y",,\nz,0.1,3\n'


def test_runs_are_called_by_as_much_as_tells_them_apart() -> None:
    assert labels([Path("/d/monday/trace.h5")]) == ["monday"]
    assert labels([Path("/d/monday/trace.h5"), Path("/d/tuesday.h5")]) == ["monday", "tuesday"]
    assert labels([Path("/tx1/monday/trace.h5"), Path("/tx2/monday/trace.h5")]) == ["tx1/monday", "tx2/monday"]


@dataclass
class Rows:
    """As much of a run as its clock needs: session, bench's clock, time of day."""

    rows: list[tuple[int, float, float]]

    @property
    def reader(self) -> Rows:
        return self

    def captures(self) -> list[dict[str, float]]:
        return [dict(zip(("session", "host_s", "utc_s"), row, strict=True)) for row in self.rows]


def test_sessions_follow_one_another_whatever_became_of_the_benchs_clock() -> None:
    goes_on = Rows([(0, 1000.0, 5.0), (0, 1060.0, 65.0), (1, 2000.0, 1005.0)])
    assert clock(goes_on) == {0: 1000.0, 1: 1000.0}  # type: ignore[arg-type]
    rebooted = Rows([(0, 1000.0, 5.0), (0, 1060.0, 65.0), (1, 20.0, 365.0), (1, 50.0, 395.0)])
    shift = clock(rebooted)  # type: ignore[arg-type]
    assert 20.0 - shift[1] == 60.0 + 300.0


def lies_on(box: Box, curve: np.ndarray) -> bool:
    return bool(np.all(np.abs(curve - (box.x, box.y)) < (box.width / 2, box.height / 2), axis=1).any())


def test_names_keep_off_curves() -> None:
    disc, area, size = Disc(200, 200, 4), Box(200, 200, 400, 400), (60.0, 10.0)
    level = np.column_stack([np.linspace(0, 400, 200), np.full(200, 200.0)])  # an error bar through the disc
    steep = np.column_stack([np.full(100, 205.0), np.linspace(200, 400, 100)])  # and a front that rises beside it
    free, kept = place([disc], [size], area)[0], place([disc], [size], area, curves=[level, steep])[0]
    assert lies_on(free, level)
    assert not lies_on(kept, level)
    assert not lies_on(kept, steep)
    assert abs(kept.x - 200) < 60
    assert abs(kept.y - 200) < 20


@pytest.mark.parametrize("radii", [(61.1, 60.9), (60.0, 60.0), (5.0, 60.0)])
def test_a_disc_behind_another_is_seen(radii: tuple[float, float]) -> None:
    """AlexNet and its normalised twin have one size and nearly one time; a small one keeps its place upon a large."""
    colours = ("#fd8d3c", "#fecc5c")
    with style.styled():
        figure, ((axes,),) = style.sheet("", 1, 1, (3.0, 3.0))
        axes.set_axis_off()
        blobs = [bubbles.Blob(c, 1.0, 1.0, size, c) for c, size in zip(colours, radii, strict=True)]
        bubbles.draw(axes, blobs, bubbles.Scale(140.0, "M", "parameters", 22.0))
        figure.canvas.draw()
        seen = np.asarray(figure.canvas.buffer_rgba())[..., :3].astype(int)
    for colour in colours:
        rgb = [int(colour[k : k + 2], 16) for k in (1, 3, 5)]
        assert (np.abs(seen - rgb).max(axis=2) < 25).sum() > 40, colour
