"""More than one record: consecutive captures with known gaps, and segments of one memory."""

from __future__ import annotations

import itertools
import math
import time
from collections.abc import Iterator

import numpy as np
import pytest

from instruments.errors import CaptureError, ConfigError, ScpiError
from instruments.mso_x2024a import ChannelSettings, EdgeTrigger
from instruments.waveform import Capture, Preamble, Record

from .served_scope import ServedScope, served_scope

WINDOW_S = 0.02


def set_up(bench: ServedScope) -> None:
    scope = bench.driver
    scope.configure_channel(1, ChannelSettings(0.8))
    scope.configure_digital([0, 1])
    scope.configure_timebase(WINDOW_S)
    scope.configure_acquisition("HRES")
    scope.configure_trigger(EdgeTrigger("DIG0"))


@pytest.fixture
def bench() -> Iterator[ServedScope]:
    with served_scope(installed="MSO,MEMUP,SGM,BW10") as bench:
        set_up(bench)
        yield bench


# -- consecutive captures --------------------------------------------------------------------------------


def test_the_first_waits_for_its_trigger_and_the_others_follow(bench: ServedScope) -> None:
    given: list[Capture] = []
    with bench.edge_once_armed() as rises:
        for capture in bench.driver.captures(["CHAN1", "POD1"], 4, points=1000, trigger_s=30.0):
            given.append(capture)
            time.sleep(0.03)  # the next one is acquired meanwhile
    assert [c.number for c in given] == [1, 2, 3, 4]
    assert len({c["CHAN1"].codes.tobytes() for c in given}) == 4
    assert bench.finished[0].trigger_s == pytest.approx(rises[0], abs=1e-6)
    assert not given[0]["POD1"].bit(0)[0]
    assert all(c["POD1"].bit(0).all() for c in given[1:])
    assert not bench.driver.state().running
    assert bench.driver.errors() == []


def test_gaps_are_bounded_and_the_bounds_hold(bench: ServedScope) -> None:
    with bench.edge_once_armed():
        given = list(bench.driver.captures(["CHAN1"], 5, points=1000, trigger_s=30.0))
    assert len(bench.finished) == 5
    for capture, truth in zip(given, bench.finished, strict=True):
        assert capture.trigger_after_s <= truth.trigger_s <= capture.trigger_before_s
    pairs = zip(given, bench.finished, strict=True)
    for (one, true_one), (two, true_two) in itertools.pairwise(pairs):
        least_s, most_s = two.gap_after_s(one)
        truth_s = (true_two.trigger_s + two.start_s) - (true_one.trigger_s + one.start_s + one.duration_s)
        assert 0 <= least_s <= truth_s <= most_s
        assert truth_s < 20.0  # transfer and arming, whatever the caller does


def test_all_may_be_forced_or_all_may_wait(bench: ServedScope) -> None:
    assert len(list(bench.driver.captures(["CHAN1"], 2, points=1000, force_first=True))) == 2
    waiting = bench.driver.captures(["CHAN1"], 3, points=1000, force_rest=False, trigger_s=1.0)
    for number in (3, 4):
        bench.edge(0, 0)
        with bench.edge_once_armed():
            assert next(waiting).number == number
    with pytest.raises(CaptureError, match="no trigger within") as caught:
        next(waiting)
    assert caught.value.reason == "no-trigger"


def test_a_series_without_end_is_closed_by_who_had_enough(bench: ServedScope) -> None:
    series = bench.driver.captures(["CHAN1"], points=1000, force_first=True)
    numbers = [capture.number for capture in itertools.islice(series, 3)]
    assert numbers == [1, 2, 3]
    series.close()  # type: ignore[attr-defined]
    assert not bench.driver.state().running
    with pytest.raises(CaptureError, match="no finished"):
        bench.driver.fetch(["CHAN1"])


def test_another_acquisition_in_between_is_told(bench: ServedScope) -> None:
    series = bench.driver.captures(["CHAN1"], 3, points=1000, force_first=True)
    next(series)
    bench.driver.arm()
    bench.driver.force_trigger()
    with pytest.raises(CaptureError, match=r"acquisition 3 was made between two captures, 2 was expected") as caught:
        next(series)
    assert caught.value.reason == "stale"


def test_what_cannot_be_a_series_is_refused_at_once(bench: ServedScope) -> None:
    for sources, count in (([], 1), (["CHAN1", "CHAN1"], 1), (["CHAN5"], 1), (["CHAN1"], 0)):
        with pytest.raises(ConfigError):
            bench.driver.captures(sources, count)


def record(**change: float) -> Capture:
    preamble = Preamble(1, 0, 4, 1, 0.5, -0.5, 0.0, 1.0, 0.0, 32768.0)
    codes = Record("CHAN1", preamble, np.ones(4, dtype=np.uint16), "V")
    return Capture({"CHAN1": codes}, **change)  # type: ignore[arg-type]


def test_gaps_by_hand() -> None:
    one = record(number=1, trigger_after_s=10.0, trigger_before_s=10.1)
    two = record(number=2, trigger_after_s=15.0, trigger_before_s=15.3)
    assert two.gap_after_s(one) == pytest.approx((2.9, 3.3))  # 15.0 - 10.1 - 2 s of record to 15.3 - 10 - 2
    assert record(number=3).gap_after_s(one) == (-math.inf, math.inf)
    first, second = record(number=4, segment=1, tag_s=0.0), record(number=4, segment=2, tag_s=2.5)
    assert second.gap_after_s(first) == pytest.approx((0.5, 0.5))


# -- segmented memory -----------------------------------------------------------------------------------------


def test_each_trigger_fills_a_segment(bench: ServedScope) -> None:
    scope = bench.driver
    scope.configure_segments(3)
    scope.arm()
    rises = []
    for k in range(3):
        bench.edge(0, 0, in_s=0.1 * k)
        rises.append(bench.edge(0, 1, in_s=0.1 * k + 0.05))
    scope.wait_done(30.0)
    given = list(scope.segments(["CHAN1", "POD1"], 1000))
    assert [(c.number, c.segment) for c in given] == [(1, 1), (1, 2), (1, 3)]
    assert [c.tag_s for c in given] == pytest.approx([t - rises[0] for t in rises], abs=1e-6)
    for one, two in itertools.pairwise(given):
        least_s, most_s = two.gap_after_s(one)
        assert least_s == most_s == pytest.approx(two.tag_s - one.tag_s - one.duration_s, abs=2e-4)
    for capture in given:
        assert abs(capture.time_s()[np.argmax(capture["POD1"].bit(0))]) <= 2 * capture.dt_s
    assert len({c["CHAN1"].codes.tobytes() for c in given}) == 3
    assert scope.errors() == []


def test_segments_share_the_memory_and_are_left_again(bench: ServedScope) -> None:
    scope = bench.driver
    whole = next(scope.captures(["CHAN1"], 1, points=None, force_first=True)).points
    scope.configure_segments(2)
    scope.arm()
    for _ in range(2):
        scope.force_trigger()
        assert scope.errors() == []  # it has come there
        time.sleep(0.1)
    scope.wait_done(30.0)
    one, two = (capture.points for capture in scope.segments(["CHAN1"]))
    assert one == two <= whole // 2
    scope.configure_acquisition("HRES")
    assert bench.machine.settings.acquire.mode == "RTIM"
    with pytest.raises(ConfigError, match="configure_segments"):
        scope.segments(["CHAN1"])


def test_a_segmented_acquisition_that_is_stopped_early_gives_what_it_has(bench: ServedScope) -> None:
    scope = bench.driver
    scope.configure_segments(10)
    scope.arm()
    bench.edge(in_s=0.02)
    time.sleep(0.1)
    bench.press(":STOP")
    scope.wait_done(30.0)
    (only,) = scope.segments(["CHAN1"], 1000)
    assert (only.segment, only.tag_s) == (1, 0.0)


def test_segments_are_an_option() -> None:
    with served_scope(installed="MSO,0,0") as bench:
        with pytest.raises(ConfigError, match=r"option SGM.*installed: MSO\).*consecutive captures"):
            bench.driver.configure_segments(3)
        assert bench.driver.errors() == []
        bench.driver.link.write(":ACQuire:MODE SEGMented")
        with pytest.raises(ScpiError, match="-241"):
            bench.driver.check_errors(":ACQuire:MODE")


@pytest.mark.parametrize("count", [0, 1, 1001])
def test_no_such_number_of_segments(bench: ServedScope, count: int) -> None:
    with pytest.raises(ConfigError, match="2 to 1000"):
        bench.driver.configure_segments(count)
