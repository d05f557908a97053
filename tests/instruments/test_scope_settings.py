"""Settings of the oscilloscope: pure."""

from __future__ import annotations

import pytest

from instruments.errors import ConfigError, LimitError
from instruments.mso_x2024a import (
    AcquisitionSettings,
    ChannelSettings,
    DigitalSettings,
    EdgeTrigger,
    TimebaseSettings,
    next_full_scale,
)
from instruments.mso_x2024a.inputs import source_command, source_name
from instruments.mso_x2024a.settings import VOLTS_PER_DIVISION


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


@pytest.mark.parametrize("ratio", [10 / 3, 10 / 6, 10 / 7, 10 / 9, 1.1, 0.333333333, 12.345678])
def test_a_full_scale_is_never_a_hair_more_than_a_step(ratio):
    for at_least in (0.1, 0.9, 1.6, 3.0):
        full_scale = next_full_scale(at_least, ratio)
        step = next(s * 8 * ratio for s in VOLTS_PER_DIVISION if s * 8 * ratio >= full_scale)
        assert step * (1 - 1e-5) < full_scale <= step


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
        (lambda: EdgeTrigger("EXT"), ConfigError, "needs a level"),
        (lambda: EdgeTrigger("LINE", coupling="AC"), ConfigError, "mains"),
        (lambda: EdgeTrigger("MATH"), ConfigError, "CHAN1 to CHAN4, DIG0 to DIG7, EXT or LINE"),
        (lambda: DigitalSettings((0,), available=0), ConfigError, "an MSO has"),
        (lambda: DigitalSettings((16,), available=16), ConfigError, "0 to 15.*POD2 is 8 to 15"),
        (lambda: TimebaseSettings(1.0, position_s=501.0), LimitError, "position"),
    ],
)
def test_settings_that_cannot_be(make, error, message):
    with pytest.raises(error, match=message):
        make()
