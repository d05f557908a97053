"""Batch edges against the device's log: honest jitter passes, edges of other batches or runs do not."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from experiments.clock_fit import JITTER_S, LEAST, fit

DT_S = 20e-6


def run(rng: np.random.Generator, n: int, batch_s: float, spread: float = 0.02) -> np.ndarray:
    """Ends of n batches by the device's clock."""
    return 1e4 * rng.random() + np.cumsum(batch_s * (1 + spread * rng.standard_normal(n)))


def seen(rng: np.random.Generator, log_s: np.ndarray, rate: float = 0.0, jitter_s: float = 0.0) -> np.ndarray:
    """The edges as a record has them: by its clock, late by a jitter, to half a sample."""
    late_s = np.abs(jitter_s * rng.standard_normal(len(log_s)))
    return np.round(((log_s - log_s[0]) * (1 + rate) + 0.2 + late_s) / DT_S) * DT_S


@given(
    st.integers(0, 2**32),
    st.integers(LEAST, 400),
    st.floats(4e-4, 0.3),
    st.floats(-3e-4, 3e-4),
    st.floats(0, JITTER_S / 2),
)
def test_honest_edges_pass_and_the_rate_is_found(
    seed: int, n: int, batch_s: float, rate: float, jitter_s: float
) -> None:
    rng = np.random.default_rng(seed)
    log_s = run(rng, n, batch_s)
    found = fit(seen(rng, log_s, rate, jitter_s), log_s, DT_S)
    assert found is not None
    assert found.problem is None
    if n > 30 and jitter_s < 1e-5:
        assert found.rate == pytest.approx(rate, abs=6 * found.u_rate)
        assert found.scatter_s < 2 * DT_S


@given(st.integers(0, 2**32), st.integers(8, 300), st.floats(0.001, 0.1))
def test_a_device_that_is_interrupted_once_passes(seed: int, n: int, stall_s: float) -> None:
    rng = np.random.default_rng(seed)
    log_s = run(rng, n, 0.004)
    edges_s = seen(rng, log_s)
    k = int(rng.integers(0, n))
    # Between its log and its line: the line is late, and all that follows is later for both clocks.
    log_s[k + 1 :] += stall_s
    edges_s[k:] += stall_s
    found = fit(edges_s, log_s, DT_S)
    assert found is not None
    assert found.problem is None
    if stall_s > 3 * found.tolerance_s:
        assert found.largest_s > 0.8 * stall_s
        assert found.odd == 1


@given(st.integers(0, 2**32), st.integers(12, 300), st.floats(0.006, 0.1), st.data())
def test_a_missing_edge_and_one_too_many_are_told_though_the_count_agrees(
    seed: int, n: int, batch_s: float, data: st.DataObject
) -> None:
    rng = np.random.default_rng(seed)
    log_s = run(rng, n, batch_s)
    edges_s = seen(rng, log_s, 5e-5)
    gone = data.draw(st.integers(0, n - 6))
    extra = data.draw(st.integers(gone + 3, n - 2))
    kept = np.delete(edges_s, gone)
    now = np.sort(np.append(kept, (edges_s[extra] + edges_s[extra + 1]) / 2))
    found = fit(now, log_s, DT_S)
    assert found is not None
    assert found.problem is not None
    assert found.problem[0] in ("markers-shifted", "wrong-run")
    assert found.adjacent >= 2


@given(st.integers(0, 2**32), st.integers(24, 200))
def test_the_log_of_another_run_is_told(seed: int, n: int) -> None:
    rng = np.random.default_rng(seed)
    record = seen(rng, run(rng, n, 0.02))
    longer = fit(record, run(rng, n, 0.023), DT_S)
    assert longer is not None
    assert longer.problem is not None
    assert longer.problem[0] == "wrong-run"
    irregular = np.sort(rng.random(n)) * (record[-1] - record[0])
    scattered = fit(record, irregular, DT_S)
    assert scattered is not None
    assert scattered.problem is not None


def test_too_few_batches_or_a_log_without_times_say_nothing() -> None:
    assert fit(np.array([0.1, 0.2]), np.array([0.1, 0.2]), DT_S) is None
    assert fit(np.arange(9) * 0.1, np.arange(9) * 1e-9, DT_S) is None
    assert fit(np.arange(9) * 0.1, np.arange(8) * 0.1, DT_S) is None
