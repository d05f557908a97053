"""The simulated physics: exact where a closed form is known, the same however it is asked."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.worlds import Bench


def quiet(**physics: float) -> Bench:
    """A world without noise, ripple or errors."""
    clean = {
        "ripple_relative": 0.0, "probe_gain_sd": 0.0, "probe_offset_limit_a": 0.0, "probe_drift_sd_a_per_s": 0.0,
        "probe_wander_a": 0.0, "probe_noise_a": 0.0, "probe_slow_noise_a": 0.0, "voltage_gain_sd": 0.0,
        "voltage_offset_sd_v": 0.0, "voltage_noise_v": 0.0, "output_off_sd_a": 0.0, "tail_a": 0.0,
    }  # fmt: skip
    bench = Bench.make(1, **{**clean, **physics})
    bench.world.set_supply(0.0, 12.0, 2.0, True)
    return bench


def test_the_energy_of_one_step_has_its_closed_form() -> None:
    bench = quiet(launch_s=0.0, launch_a=1.0, source_resistance_ohm=0.0)
    world, f = bench.world, bench.world.facts
    world.mark(10.0, 1)
    world.mark(10.5, 0)
    (window,) = world.true_windows(9.0)
    charge = f.active_a * 0.5 - (f.active_a - f.idle_a) * f.settling_s * (1 - math.exp(-0.5 / f.settling_s))
    assert window.energy_j == pytest.approx(12.0 * charge, rel=1e-9)
    assert window.idle_power_w == pytest.approx(12.0 * f.idle_a)
    assert (window.rise_s, window.fall_s, window.batches) == (10.0, 10.5, 0)


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 10**6), st.lists(st.floats(1e-4, 0.05), min_size=1, max_size=30), st.floats(0.05, 0.95))
def test_energy_adds_up_and_agrees_with_samples(seed: int, batches: list[float], share: float) -> None:
    bench = Bench.make(seed)
    world = bench.world
    world.set_supply(0.0, 12.0, 2.0, True)
    t, lines = 5.0, 1
    world.mark(t, lines)
    for batch_s in batches:
        t += batch_s
        lines ^= 2
        world.mark(t, lines)
    world.mark(t + 1e-6, lines & 2)
    cut = 5.0 + share * (t - 5.0)
    whole = world.true_energy_j(5.0, t)
    assert world.true_energy_j(5.0, cut) + world.true_energy_j(cut, t) == pytest.approx(whole, rel=1e-7)
    grid = np.linspace(5.0, t, 40_001)
    volts, amps = world.board((grid[:-1] + grid[1:]) / 2)
    assert float((volts * amps).sum() * (grid[1] - grid[0])) == pytest.approx(whole, rel=1e-4)


def test_marker_lines_are_where_they_were_put() -> None:
    bench = quiet()
    for t, lines in ((1.0, 1), (1.1, 3), (1.2, 1), (1.3, 0)):
        bench.world.mark(t, lines)
    assert bench.world.digital_edges(0, 0.0, 2.0) == [(1.0, 1), (1.3, 0)]
    assert bench.world.digital_edges(1, 0.0, 2.0) == [(1.1, 1), (1.2, 0)]
    assert bench.world.digital_edges(1, 1.1, 1.15) == []
    assert list(bench.world.digital(np.array([0.5, 1.05, 1.15, 1.25, 1.35]))) == [0, 1, 3, 1, 0]


def test_noise_is_the_same_however_often_it_is_asked() -> None:
    bench = Bench.make(3)
    bench.world.set_supply(0.0, 12.0, 2.0, True)
    t = 4.0 + 2e-5 * np.arange(1000)
    np.testing.assert_array_equal(bench.world.analog_v(1, t, 4e-6), bench.world.analog_v(1, t, 4e-6))
    assert not np.array_equal(bench.world.analog_v(1, t, 4e-6), bench.world.analog_v(1, t + 1.0, 4e-6))
    assert not bench.world.analog_v(2, t, 4e-6).any()


def test_what_the_scope_sees_is_the_clamp_with_its_errors() -> None:
    bench = quiet(probe_gain_sd=0.01, probe_offset_limit_a=0.04)
    t = 4.0 + 2e-5 * np.arange(1000)
    seen_a = bench.world.analog_v(1, t, 4e-6) / 0.1
    expected = bench.world.facts.idle_a * bench.world.probe_gain + bench.world.probe_offset_a
    np.testing.assert_allclose(seen_a, expected, rtol=1e-9)
    assert bench.world.analog_v(3, t, 4e-6).mean() * 10 == pytest.approx(12.0, abs=1e-3)


def test_a_supply_that_is_off_or_starved() -> None:
    bench = quiet()
    assert bench.world.supply(1.0, 1.1).mode == "CV"
    bench.world.set_supply(2.0, 12.0, 0.05, True)
    starved = bench.world.supply(2.5, 2.6)
    assert starved.mode == "CC"
    assert starved.amps == pytest.approx(0.05)
    assert starved.volts < 12.0
    bench.world.set_supply(3.0, 12.0, 2.0, False)
    off = bench.world.supply(4.0, 4.1)
    assert (off.mode, off.amps) == ("OFF", 0.0)
    assert off.volts == pytest.approx(0.0, abs=1e-6)


def test_work_outside_the_gate_draws_current_that_fades() -> None:
    bench = quiet(tail_a=0.03, tail_s=0.03)
    f = bench.world.facts
    bench.world.mark(10.0, 4)
    bench.world.mark(11.0, 0)
    assert bench.world.digital_edges(0, 0.0, 20.0) == []
    amps = bench.world.board(np.array([9.9, 10.9, 11.03, 11.06, 12.0]))[1]
    faded = f.tail_a * np.exp([-1.0, -2.0])
    np.testing.assert_allclose(amps, [f.idle_a, f.active_a, *(f.idle_a + faded), f.idle_a], atol=1e-6)
    assert bench.world.true_windows(0.0) == []
    assert bench.world.idle_power_w(11.01) == pytest.approx(12.0 * f.idle_a, rel=1e-3)


def test_work_draws_what_it_is_told_to_draw() -> None:
    bench = quiet(tail_a=0.03)
    f = bench.world.facts
    bench.world.set_work(0.5 * f.active_a)
    bench.world.mark(10.0, 1)
    bench.world.mark(11.0, 0)
    bench.world.set_work(f.active_a)
    assert bench.world.board(np.array([10.9]))[1] == pytest.approx(0.5 * f.active_a, rel=1e-4)
    bench.world.mark(12.0, 1)
    assert bench.world.board(np.array([12.9]))[1] == pytest.approx(f.active_a, rel=1e-4)


def test_a_batch_line_that_moves_at_rest_leaves_the_current_alone() -> None:
    bench, still = quiet(), quiet()
    for world in (bench.world, still.world):
        world.mark(10.0, 1)
        world.mark(10.1, 0)
    for k in range(20):
        bench.world.mark(10.101 + 2e-4 * k, 2 * ((k + 1) % 2))
    t = np.linspace(10.0, 10.2, 1001)
    np.testing.assert_array_equal(bench.world.board(t)[1], still.world.board(t)[1])


def test_an_instant_has_its_own_noise() -> None:
    bench = Bench.make(5, probe_slow_noise_a=0.0)
    bench.world.set_supply(0.0, 12.0, 2.0, True)
    t = 4.0 + 4e-6 * np.arange(50_000)
    whole = bench.world.analog_v(1, t, 4e-6)
    np.testing.assert_array_equal(bench.world.analog_v(1, t[::5], 4e-6), whole[::5])
    noise = whole / 0.1 - (whole / 0.1).mean()
    assert np.std(noise[1:] * noise[:-1]) == pytest.approx(np.var(noise), rel=0.1)
    assert abs(np.mean(noise[1:] * noise[:-1])) < 0.05 * np.var(noise)
