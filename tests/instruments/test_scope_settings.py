"""Settings, capabilities and planning of the oscilloscope: pure."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from instruments.errors import ConfigError, LimitError
from instruments.mso_x2024a import (
    AcquisitionSettings,
    Capabilities,
    ChannelSettings,
    DigitalSettings,
    EdgeTrigger,
    TimebaseSettings,
    next_full_scale,
    plan_acquisition,
)
from instruments.mso_x2024a.plan import points_step
from instruments.mso_x2024a.settings import source_command, source_name


@pytest.mark.parametrize(
    ("text", "short", "command"),
    [
        ("CHAN1", "CHAN1", "CHANnel1"),
        ("channel4", "CHAN4", "CHANnel4"),
        ("DIGital7", "DIG7", "DIGital7"),
        ("dig0", "DIG0", "DIGital0"),
        (" pod1 ", "POD1", "POD1"),
    ],
)
def test_sources(text, short, command):
    assert source_name(text) == short
    assert source_command(text) == command


@pytest.mark.parametrize("text", ["CHAN0", "CHAN5", "DIG8", "POD2", "", "MATH"])
def test_sources_that_do_not_exist(text):
    with pytest.raises(ConfigError, match="POD1 is expected"):
        source_name(text)


@pytest.mark.parametrize(
    ("at_least", "ratio", "full_scale"), [(3.0, 1, 4.0), (4.0, 1, 4.0), (4.1, 1, 8.0), (1.6, 10, 1.6), (1e-4, 1, 8e-3)]
)
def test_next_full_scale(at_least, ratio, full_scale):
    assert next_full_scale(at_least, ratio) == pytest.approx(full_scale)


def test_no_full_scale_is_large_enough():
    with pytest.raises(LimitError, match="40"):
        next_full_scale(41.0)


@pytest.mark.parametrize(
    ("make", "error", "message"),
    [
        (lambda: ChannelSettings(full_scale=0.0), LimitError, "not positive"),
        (lambda: ChannelSettings(full_scale=41.0), LimitError, "V/div at the input"),
        (lambda: ChannelSettings(full_scale=0.001), LimitError, "V/div at the input"),
        (lambda: ChannelSettings(full_scale=1.0, probe_ratio=0.0), LimitError, "probe ratio"),
        (lambda: ChannelSettings(full_scale=1.0, label="eleven long"), ConfigError, "label"),
        (lambda: DigitalSettings(()), ConfigError, "at least one"),
        (lambda: DigitalSettings((8,)), ConfigError, "no POD2"),
        (lambda: DigitalSettings((0,), 9.0), LimitError, "threshold"),
        (lambda: TimebaseSettings(0.0), LimitError, "time range"),
        (lambda: AcquisitionSettings("HRESolution", 4), ConfigError, "AVERage"),
        (lambda: AcquisitionSettings("AVERage", 0), LimitError, "count"),
        (lambda: EdgeTrigger("POD1"), ConfigError, "instead of POD1"),
        (lambda: EdgeTrigger("DIG0", level_v=1.0), ConfigError, "threshold"),
        (lambda: EdgeTrigger("CHAN1"), ConfigError, "needs a level"),
        (lambda: EdgeTrigger("DIG0", holdoff_s=11.0), LimitError, "hold-off"),
    ],
)
def test_settings_that_cannot_be(make, error, message):
    with pytest.raises(error, match=message):
        make()


def test_capabilities_by_model():
    found = Capabilities.of("MSO-X 2024A", 1_000_000)
    assert (found.analog_channels, found.digital_channels, found.bandwidth_hz) == (4, 8, 200e6)
    assert found.memory_points == 1_000_000
    assert Capabilities.of("DSO-X 2012A").digital_channels == 0
    with pytest.raises(ConfigError, match="MSO-X 3104T"):
        Capabilities.of("MSO-X 3104T")


@pytest.mark.parametrize(
    ("points", "step"),
    [(100, 100), (249, 200), (250, 250), (2500, 2000), (99_999, 50_000), (100_000, 100_000), (62_500, 50_000)],
)
def test_lengths_of_the_list(points, step):
    assert points_step(points) == step


def test_too_short_a_record():
    with pytest.raises(ConfigError, match="100 points"):
        points_step(99)


@pytest.mark.parametrize(
    ("sources", "memory", "acquired", "points", "rate_hz"),
    [
        (["CHAN1"], 100_000, 100_000, 100_000, 50e3),
        (["CHAN1", "CHAN3"], 100_000, 100_000, 100_000, 50e3),
        (["CHAN1", "CHAN2"], 100_000, 50_000, 50_000, 25e3),
        (["CHAN1", "CHAN3", "POD1"], 100_000, 50_000, 50_000, 25e3),
        (["CHAN1"], 1_000_000, 1_000_000, 100_000, 50e3),
        (["CHAN1", "CHAN3", "POD1"], 1_000_000, 500_000, 100_000, 50e3),
    ],
)
def test_two_seconds_at_50_kilosamples(sources, memory, acquired, points, rate_hz):
    plan = plan_acquisition(2.0, sources, memory, points=100_000)
    assert (plan.time_range_s, plan.acquired_points, plan.points) == (2.0, acquired, points)
    assert plan.rate_hz == pytest.approx(rate_hz)
    assert any("halved" in note for note in plan.notes) is (acquired in (50_000, 500_000))
    assert any("can vanish" in note for note in plan.notes) is (acquired > points)
    assert any("were wanted" in note for note in plan.notes) is (points < 100_000)


def test_as_many_points_as_fit():
    assert plan_acquisition(1.7, ["CHAN1"], 1_000_000).points == 1_000_000
    assert plan_acquisition(1e-6, ["CHAN1"], 1_000_000).acquired_rate_hz == 2e9


@pytest.mark.parametrize(("window_s", "sources"), [(0.0, ["CHAN1"]), (1.0, []), (501.0, ["CHAN1"]), (5e-8, ["POD1"])])
def test_windows_that_cannot_be(window_s, sources):
    with pytest.raises(ConfigError):
        plan_acquisition(window_s, sources, 100)


@given(st.floats(1e-6, 500.0), st.sampled_from([100_000, 1_000_000]), st.booleans())
def test_plans_hold_their_window_and_memory(window_s, memory, pod):
    plan = plan_acquisition(window_s, ["CHAN1", "POD1"] if pod else ["CHAN1"], memory)
    assert plan.time_range_s >= window_s * (1 - 1e-6)
    assert plan.points <= plan.acquired_points <= memory
    assert plan.rate_hz == pytest.approx(plan.points / plan.time_range_s)
