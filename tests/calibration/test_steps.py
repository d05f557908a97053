"""Where a step of load begins, found in records of the simulated world whose marker delay is known."""

from __future__ import annotations

import numpy as np
import pytest

from calibration.steps import onset
from tests.worlds import Bench

DT_S, HALF_S, RUNS = 4e-6, 8e-3, 20


def edges(seed: int, **physics: float) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Time axis around an edge, and the current around each rise and fall of the gate; (samples,), (runs, samples)."""
    bench, rng = Bench.make(seed, **physics), np.random.default_rng(seed)
    bench.power(-5.0, True)
    axis = (np.arange(-round(HALF_S / DT_S), round(HALF_S / DT_S)) + 0.5) * DT_S
    rises, falls, t = [], [], 0.5
    for _ in range(RUNS):
        end = t + 0.03 + rng.uniform(0, 1e-3)
        bench.world.mark(t, 1)
        bench.world.mark(end, 0)
        (rise, _), (fall, _) = bench.world.digital_edges(0, t - 1e-9, end + 0.05)
        for seen, found in ((rise, rises), (fall, falls)):
            at = (np.floor(seen / DT_S) + 0.5) * DT_S
            found.append(bench.world.analog_v(1, at + axis, DT_S) / 0.1)
        t = end + 0.4 + rng.uniform(0, 1e-3)
    return axis, np.array(rises), np.array(falls)


@pytest.mark.parametrize(
    ("seed", "delay_s", "jitter_s"),
    [(1, 0.0, 0.0), (2, 200e-6, 30e-6), (3, 1e-3, 200e-6), (4, -300e-6, 0.0)],
)
def test_a_known_delay_and_jitter_are_found(seed: int, delay_s: float, jitter_s: float) -> None:
    t_s, rises, falls = edges(seed, marker_delay_s=delay_s, marker_jitter_s=jitter_s)
    for repeats in (rises, falls):
        found = onset(t_s, repeats)
        assert -found.at_s == pytest.approx(delay_s, abs=3 * found.u_s)
        assert found.u_s < 2e-5 + jitter_s / 3
        assert found.scatter_s == pytest.approx(jitter_s, rel=0.4, abs=3e-5)
        assert found.dof == RUNS - 1


def test_no_step_is_told() -> None:
    rng = np.random.default_rng(1)
    t_s = np.linspace(-8e-3, 8e-3, 4000)
    with pytest.raises(ValueError, match="does not stand out"):
        onset(t_s, 0.1 + 0.01 * rng.standard_normal((8, t_s.size)))
    with pytest.raises(ValueError, match="scatter"):
        onset(t_s, np.zeros((1, t_s.size)))


def test_a_later_axis_moves_it_by_as_much() -> None:
    t_s, rises, _ = edges(5, probe_noise_a=0.0, probe_slow_noise_a=0.0)
    one, two = onset(t_s, rises), onset(t_s[:-250], rises[:, 250:])
    assert two.at_s - one.at_s == pytest.approx(-250 * DT_S, abs=2e-5)
