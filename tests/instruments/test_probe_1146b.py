"""The clamp: what to set, what to believe."""

from __future__ import annotations

import numpy as np
import pytest

from instruments.errors import ConfigError
from instruments.probe_1146b import Probe1146B


@pytest.mark.parametrize(
    ("volts_per_ampere", "turns", "ratio"), [(0.1, 1, 10), (0.01, 1, 100), (0.1, 10, 1), (0.01, 5, 20)]
)
def test_ratio_makes_the_scope_read_amperes(volts_per_ampere, turns, ratio):
    probe = Probe1146B(volts_per_ampere, turns)
    assert probe.probe_ratio == pytest.approx(ratio)
    assert probe.units == "A"
    assert probe.volts_per_ampere * probe.probe_ratio == pytest.approx(1.0)


def test_direction_is_a_sign():
    probe = Probe1146B(direction=-1)
    assert probe.invert
    assert probe.volts_per_ampere == -0.1
    assert probe.probe_ratio == pytest.approx(10)


def test_limits_scale_with_turns():
    one, ten = Probe1146B(), Probe1146B(turns=10)
    assert (one.peak_current_a, one.least_current_a) == (10.0, 0.1)
    assert (ten.peak_current_a, ten.least_current_a) == (1.0, 0.01)
    assert one.noise_a == pytest.approx(0.03)
    assert ten.noise_a == pytest.approx(0.003)
    assert ten.insertion_ohm == pytest.approx(0.1)


def test_makers_limits():
    assert Probe1146B().spec_limits(1.0).total_a == pytest.approx(0.08)  # 8 % at 1 A
    assert Probe1146B(turns=10).spec_limits(-1.0).offset_a == pytest.approx(0.005)
    assert Probe1146B(0.01).spec_limits(20.0).gain_a == pytest.approx(0.8)
    assert Probe1146B(0.01).spec_limits(80.0).gain_a == pytest.approx(12.0)
    for probe, current_a in ((Probe1146B(), 10.1), (Probe1146B(turns=2), 5.1), (Probe1146B(0.01), 101.0)):
        with pytest.raises(ConfigError, match="beyond the probe's range"):
            probe.spec_limits(current_a)


def test_clip_limits():
    probe = Probe1146B()
    assert probe.clip_limits_a(4.0, 1.0) == (-1.0, 3.0)
    assert probe.clip_limits_a(40.0) == (-10.0, 10.0)
    with pytest.raises(ConfigError, match="full scale"):
        probe.clip_limits_a(0.0)


def test_over_range_is_what_the_probe_no_longer_follows():
    current_a = np.array([-10.1, -10.0, 0.0, 9.99, 10.01, np.nan])
    assert Probe1146B().over_range(current_a).tolist() == [True, False, False, False, True, False]
    assert Probe1146B(turns=10).over_range(current_a).sum() == 4
    assert not Probe1146B(0.01).over_range(current_a).any()


def test_bandwidth():
    assert Probe1146B.passed(0.0) == 1.0
    assert Probe1146B.passed(100e3) == pytest.approx(0.7071, abs=1e-4)
    assert Probe1146B.passed(1e6) == pytest.approx(0.0995, abs=1e-4)
    assert Probe1146B.rise_time_s() == pytest.approx(3.5e-6, rel=0.01)
    with pytest.raises(ConfigError, match="below 0"):
        Probe1146B.passed(-1.0)


def test_what_to_do_before_the_zero_names_this_clamp():
    steps = " ".join(Probe1146B(0.01, 5, -1).before_zero())
    for said in ("10 mV/A", "5 times", "against", "8 A", "degauss", "within 10 mA"):
        assert said in steps
    assert "once" in " ".join(Probe1146B().before_zero())


@pytest.mark.parametrize(
    "change",
    [{"range_v_per_a": 1.0}, {"turns": 0}, {"turns": 1.5}, {"turns": True}, {"turns": 101}, {"direction": 0}],
)
def test_probes_that_do_not_exist(change):
    with pytest.raises(ConfigError, match="probe"):
        Probe1146B(**change)
