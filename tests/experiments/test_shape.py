"""Peak, steady state, settling and the mean batch, against powers whose shape is known."""

from __future__ import annotations

import itertools
import math
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from calibration import in_situ
from experiments import shape
from experiments.measure import Measured
from experiments.moments import corrected_power_w
from experiments.shape import folding, pieces
from instruments.waveform import Preamble, Record
from tests.worlds import Bench, zero

DT_S = 20e-6


def cells(seed: int, batches: int, batch_s: float, repeats: int = 1, **physics: float) -> tuple[Bench, list, list]:
    """A calibration and some cells of one world."""
    bench = Bench.make(seed, **physics)
    bench.dt_s, bench.points = DT_S, 60_000
    first = bench.steady("zero", 1.0)
    bench.power(4.0, True)
    run = bench.run("gain", 10.0, 20, 0.045)
    found = [bench.run("cell", 20.0 + 10 * k, batches, batch_s, repeat=k) for k in range(repeats)]
    calibration = in_situ.calibrate([zero(first)], [bench.comparison(run, 10.0)], bench.terms())
    return bench, found, [calibration]


def of(found: list[Measured], calibration) -> shape.Shape:
    """The shape of a row of these cells."""
    looks = [shape.look(m) for m in found]
    runs = [
        look.shape(calibration.current, calibration.voltage, m.data.at_s)
        for look, m in zip(looks, found, strict=True)
        if look is not None
    ]
    row = shape.of_row(runs)
    assert row is not None
    return row


def test_peak_and_crest_are_those_of_the_corrected_samples() -> None:
    _, found, (calibration,) = cells(3, 20, 0.04)
    (m,) = found
    row = of(found, calibration)
    assert m.loop is not None
    assert m.window is not None
    inside = slice(m.loop.start, m.loop.stop)
    i = calibration.current.correct(m.data.capture["current"].values()[inside], m.data.at_s)
    v = calibration.voltage.correct(m.data.capture["voltage"].values()[inside], m.data.at_s)
    assert row.peak_w == pytest.approx(float((i * v).max()), rel=1e-4)
    mean_w = corrected_power_w(m.window, calibration.current, calibration.voltage, m.data.at_s)
    assert row.crest == pytest.approx(row.peak_w / mean_w, rel=1e-9)


@pytest.mark.parametrize("settling_s", [5e-4, 2e-3, 8e-3])
def test_the_settling_time_is_that_of_the_board(settling_s: float) -> None:
    off = []
    for seed in range(6):
        _, found, (calibration,) = cells(seed, 20, 0.04, settling_s=settling_s, tail_a=0.0)
        row = of(found, calibration)
        assert row.settling.tau_s == pytest.approx(settling_s, rel=0.1)
        assert row.settling.u_s < 0.1 * settling_s
        off.append((row.settling.tau_s - settling_s) / row.settling.u_s)
    assert math.sqrt(float(np.mean(np.square(off)))) < 2.5  # the stated uncertainty is one


def test_settling_that_is_too_fast_is_told_from_one_that_cannot_be_seen() -> None:
    rng = np.random.default_rng(1)
    step = np.where(np.arange(30_000) < 20_000, 5.0, 1.0) + 0.02 * rng.standard_normal(30_000)
    noise = 1.0 + 0.5 * rng.standard_normal(30_000)
    ramp = np.linspace(1.0, 5.0, 30_000)
    for power in (step, noise, ramp, step[:20_005], np.full(30_000, 2.0)):
        found = shape.settling(power, 1000, 20_000, DT_S)
        assert math.isnan(found.tau_s)
        assert math.isnan(found.u_s)
        assert found.known is (power is step)
    assert shape.settling(step, 1000, 20_000, DT_S).below_s == 1.5 * DT_S


def test_no_mean_batch_where_noise_hides_how_the_board_settles() -> None:
    physics = {"settling_s": 5e-3, "idle_a": 0.4, "active_a": 0.7, "launch_a": 0.5, "launch_s": 8e-3, "tail_a": 0.0}
    _, quiet, (calibration,) = cells(4, 26, 0.03, **physics)
    told = of(quiet, calibration)
    assert told.profile is not None
    assert told.profile.mean_w.size == 4
    _, noisy, (of_noisy,) = cells(4, 26, 0.03, repeats=2, probe_noise_a=0.05, **physics)
    hidden = of(noisy, of_noisy)
    assert not hidden.settling.known
    assert hidden.profile is None
    assert "settles cannot be told" in hidden.why
    # A repeat that tells it speaks for the board.
    looks = [shape.look(m) for m in (*quiet, noisy[0])]
    runs = [look.shape(calibration.current, calibration.voltage, 20.0) for look in looks if look is not None]
    row = shape.of_row(runs)
    assert row is not None
    assert row.settling.tau_s == told.settling.tau_s
    assert row.profile is not None
    assert row.profile.mean_w.size == 4
    assert row.profile.batches == 2 * 25


@pytest.mark.parametrize(("batches", "batch_s"), [(10, 0.08), (40, 0.02), (200, 0.004)])
def test_the_mean_batch_is_the_boards_or_is_told_to_be_smeared(batches: int, batch_s: float) -> None:
    settling_s = 1.5e-3
    _, found, (calibration,) = cells(
        5, batches, batch_s, repeats=3, launch_a=0.4, launch_s=0.4 * batch_s, settling_s=settling_s, tail_a=0.0
    )
    row = of(found, calibration)
    if batch_s < shape.LEVELS[-1] * settling_s:
        assert row.profile is None
        assert "settles with" in row.why
        return
    profile = row.profile
    assert profile is not None
    assert profile.batches == 3 * (batches - 1)
    bins = profile.mean_w.size
    assert batch_s / bins >= 0.9 * settling_s  # no finer than what settles
    assert profile.batch_s == pytest.approx(batch_s, rel=1e-3)
    # The mean over the phase is the mean power; the launch is low and the rest high.
    mean_w = corrected_power_w(found[0].window, calibration.current, calibration.voltage, found[0].data.at_s)
    assert float(profile.mean_w.mean()) == pytest.approx(mean_w, rel=0.02)
    late, early = profile.mean_w[profile.phase > 0.8].mean(), profile.mean_w[abs(profile.phase - 0.3) < 0.1].mean()
    volts = calibration.voltage.correct(found[0].window.mean_v, found[0].data.at_s)
    assert late / volts == pytest.approx(1.0, rel=0.05)
    assert early / volts == pytest.approx(0.4, rel=0.2)
    assert float(profile.sd_w.max()) < 0.2 * mean_w


@given(st.integers(1, 40), st.sampled_from([4, 8, 16, 32]), st.integers(0, 2**32))
def test_folding_keeps_every_sample(batches: int, bins: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    edges = np.cumsum(np.concatenate(([rng.integers(0, 50)], rng.integers(32, 90, batches)))).astype(np.int64)
    values = rng.random(int(edges[-1]) + 7)
    rows = shape.fold_rows(values, edges, bins)
    assert rows.shape == (batches, bins)
    lengths = np.array([
        np.diff(a + np.arange(bins + 1) * (b - a) // bins) for a, b in itertools.pairwise(edges)
    ])  # fmt: skip
    assert float((rows * lengths).sum()) == pytest.approx(float(values[edges[0] : edges[-1]].sum()))


@pytest.mark.parametrize("seed", range(8))
def test_a_beginning_that_is_higher_is_not_steady(seed: int) -> None:
    rng = np.random.default_rng(seed)
    power = 10 + 0.3 * rng.standard_normal(75_000)
    edges = np.arange(0, 75_001, 500)
    assert shape.steady_from(power, 0, 75_000, edges) == 0
    power[:15_000] += np.linspace(2.0, 0.5, 15_000)
    for cuts in (edges, np.array([0, 75_000])):
        assert shape.steady_from(power, 0, 75_000, cuts) == pytest.approx(15_000, abs=600)
    rising = power + np.linspace(0, 8, 75_000)
    assert math.isnan(shape.steady_from(rising, 0, 75_000, edges))


def test_a_rows_shape_is_unknown_where_any_repeats_is() -> None:
    _, found, (calibration,) = cells(2, 20, 0.04, repeats=2)
    looks = [shape.look(m) for m in found]
    runs = [look.shape(calibration.current, calibration.voltage, 20.0) for look in looks if look is not None]
    unsteady = [runs[0], replace(runs[1], steady_from_s=math.nan, settling=shape.Settling())]
    row = shape.of_row(unsteady)
    assert row is not None
    assert math.isnan(row.steady_from_s)
    assert row.settling == runs[0].settling
    assert shape.of_row([]) is None


def test_the_peak_does_not_grow_with_the_number_of_repeats() -> None:
    _, found, (calibration,) = cells(6, 20, 0.04, repeats=8)
    one, all_of_them = of(found[:2], calibration), of(found, calibration)
    peaks = [of([m], calibration).peak_w for m in found]
    assert all_of_them.peak_w == pytest.approx(float(np.mean(peaks)))
    assert all_of_them.peak_sd_w == pytest.approx(float(np.std(peaks, ddof=1)))
    assert all_of_them.highest_w == max(peaks)
    assert abs(all_of_them.peak_w - one.peak_w) < 3 * all_of_them.peak_sd_w
    assert math.isnan(of(found[:1], calibration).peak_sd_w)
    assert all_of_them.crest == pytest.approx(float(np.mean([of([m], calibration).crest for m in found])))


def record(codes: np.ndarray, slope: float, origin: float) -> Record:
    """Codes with a scale of their own."""
    return Record("CHAN1", Preamble(1, 0, len(codes), 1, DT_S, 0.0, 0, slope, origin, 1000), codes, "V")


@given(
    st.integers(0, 2**32),
    st.integers(2, 400),
    st.sampled_from([np.uint8, np.uint16]),
    st.floats(-0.5, 0.5).filter(lambda x: abs(x) > 1e-3),
    st.floats(-0.5, 0.5).filter(lambda x: abs(x) > 1e-3),
    st.floats(-1e3, 1e3),
)
def test_peak_and_sums_are_those_of_the_readings(seed: int, n: int, kind, a: float, b: float, origin: float) -> None:
    rng = np.random.default_rng(seed)
    most = int(np.iinfo(kind).max)
    low = int(rng.integers(1, most))
    i = record(rng.integers(low, most + 1, n).astype(kind), a, origin)
    v = record(rng.integers(1, most + 1, n).astype(kind), b, 3.0)
    start = int(rng.integers(0, n - 1))
    vi = i.values() * v.values()
    at = start + int(np.argmax(vi[start:]))
    assert pieces.peak(i, v, start, n) == (i.values()[at], v.values()[at])
    cuts = np.unique(np.append(rng.integers(0, n, 6), n))
    if len(cuts) > 1:
        found = pieces.sums(i, v, cuts[[0, -1]])
        for one, values in zip(found, (vi, i.values(), v.values()), strict=True):
            inside = values[cuts[0] : cuts[-1]]
            assert one[0] == pytest.approx(inside.sum(), rel=1e-9, abs=1e-9 * float(np.abs(inside).sum()))


@given(st.integers(0, 2**32), st.integers(3, 30), st.sampled_from([128, 64, 16]))
def test_coarser_bins_say_what_folding_into_them_says(seed: int, batches: int, finest: int) -> None:
    rng = np.random.default_rng(seed)
    n = finest * 4 * batches  # batches of one length: bins of one length
    i, v = (record(rng.integers(1000, 2000, n).astype(np.uint16), 1e-2, 0.0) for _ in range(2))
    edges = np.arange(0, n + 1, finest * 4)
    cuts = folding.cut(edges, finest)
    found = folding.fold(cuts, *pieces.sums(i, v, cuts.flat))
    kept = shape.Fold(found.n, found.means[0], found.squares)
    for bins in [bins for bins in shape.LEVELS if bins <= finest]:
        rows = shape.fold_rows(i.values() * v.values(), edges, bins)
        count, mean, squares = kept.at(bins)
        assert count == batches
        np.testing.assert_allclose(mean, rows.mean(axis=0), rtol=1e-5)
        np.testing.assert_allclose(squares, ((rows - rows.mean(axis=0)) ** 2).sum(axis=0), rtol=1e-5)
