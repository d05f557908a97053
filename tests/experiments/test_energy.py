"""The reduction against worlds whose true energy is known."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest

from calibration import in_situ
from calibration.budget import Budget
from calibration.model import Calibration, Delay
from experiments.capture_data import CaptureData, ReductionError
from experiments.components import rounding_limit
from experiments.energy import QUANTITIES, results
from experiments.measure import Measured, measure
from experiments.moments import corrected_power_w, moments
from instruments.waveform import Capture, Record
from tests.worlds import WIRES, Bench, zero

READBACK_A, READBACK_V = 0.0015 * 1.0 + 0.005, 0.0005 * 12.0 + 0.005


def sweep(
    seed: int, *, repeats: int = 3, gain: bool = True, **physics: float
) -> tuple[Bench, Calibration, list[Measured]]:
    """Zero, gain against a supply with errors within its specification, cells, zero."""
    bench, rng = Bench.make(seed, **physics), np.random.default_rng([seed, 7])
    first = bench.steady("zero", 1.0)
    bench.power(4.0, True)
    run = bench.run("gain", 10.0, 100, 0.016)
    errors = (float(rng.uniform(-READBACK_A, READBACK_A)), float(rng.uniform(-READBACK_V, READBACK_V)))
    comparison = bench.comparison(run, 10.0, errors)
    spread = 1 + 0.003 * rng.standard_normal(repeats)
    cells = [bench.run("cell", 20 + 30 * r, 100, 0.016 * spread[r], repeat=r) for r in range(repeats)]
    bench.power(120.0, False)
    last = bench.steady("zero", 125.0)
    calibration = in_situ.calibrate([zero(first), zero(last)], [comparison] if gain else [], bench.terms())
    return bench, calibration, cells


def test_one_repeat_at_an_ampere_is_known_to_one_percent() -> None:
    _, calibration, cells = sweep(3, repeats=1)
    (row,) = results(cells, calibration)
    assert row.power_w.expanded() / row.power_w.value < 0.01
    assert "repeatability" not in {c.name for c in row.power_w.components}


def test_a_zero_error_is_corrected_and_cancels_in_net_power() -> None:
    _, plain, plain_cells = sweep(1, probe_offset_limit_a=0.0)
    _, shifted, shifted_cells = sweep(1, probe_offset_limit_a=0.2)
    (a,), (b,) = results(plain_cells, plain), results(shifted_cells, shifted)
    for quantity in QUANTITIES:
        assert getattr(b, quantity).value == pytest.approx(getattr(a, quantity).value, rel=3e-4)


def test_quantities_belong_together() -> None:
    _, calibration, cells = sweep(2)
    (row,) = results(cells, calibration)
    assert row.net_power_w.value == pytest.approx(row.power_w.value - row.idle_power_w.value, rel=1e-9)
    assert row.energy_per_image_j.value == pytest.approx(row.power_w.value * row.time_per_image_s.value, rel=1e-3)
    assert row.time_per_image_s.value == pytest.approx(0.016 / 4, rel=0.01)
    assert row.time_per_image_s.components[-1].name == "repeatability"


def test_splitting_a_window_adds_up_and_sums_are_exact() -> None:
    _, calibration, cells = sweep(4, repeats=1)
    records = cells[0].data.capture.records
    current, voltage = records["current"], records["voltage"]
    whole = moments(current, voltage, 0, 90_000)
    cut = 12_345
    left, right = moments(current, voltage, 0, cut), moments(current, voltage, cut, 90_000)
    assert whole.sum_vi == left.sum_vi + right.sum_vi
    exact = sum(int(i) * int(v) for i, v in zip(current.codes[:1000], voltage.codes[:1000], strict=True))
    assert moments(current, voltage, 0, 1000).sum_vi == exact
    joules = [
        corrected_power_w(m, calibration.current, calibration.voltage, 20.0) * m.duration_s
        for m in (whole, left, right)
    ]
    assert joules[0] == pytest.approx(joules[1] + joules[2], rel=1e-12)


def spoiled(m: Measured, role: str, where: slice, code: int) -> CaptureData:
    """The capture of a cell with some codes of one record replaced."""
    records = dict(m.data.capture.records)
    codes = records[role].codes.copy()
    codes[where] = code
    records[role] = Record(role, records[role].preamble, codes, records[role].units)
    return replace(m.data, capture=Capture(records))


@pytest.mark.parametrize(
    ("role", "where", "code", "reason"),
    [
        ("current", slice(50_000, 50_003), 0, "3 samples of the current are holes"),
        ("current", slice(50_000, 50_003), 0xFF00, "3 samples of the current are clipped"),
        ("voltage", slice(20_000, 20_001), 0x0100, r"wiring\.voltage"),
        ("markers", slice(0, None), 0, "gate line never moves"),
        ("markers", slice(0, 20_000), 1, "already high at the record's start"),
        ("markers", slice(50_000, None), 1, "still high at the record's end"),
        ("markers", slice(50_000, 50_001), 0, "4 edges where 2"),
        ("markers", slice(10_000, 60_000), 3, "missing batch edges"),
    ],
)
def test_a_spoiled_capture_is_refused_with_its_reason(role: str, where: slice, code: int, reason: str) -> None:
    bench = Bench.make(1)
    bench.power(0.0, True)
    cell = bench.run("cell", 5.0, 100, 0.016)
    with pytest.raises(ReductionError, match=reason):
        measure(spoiled(cell, role, where, code), WIRES)


def test_a_record_of_another_run_is_refused() -> None:
    bench = Bench.make(1)
    bench.power(0.0, True)
    cell = bench.run("cell", 5.0, 100, 0.012)
    shifted = replace(cell.data, capture=bench.capture(5.1))
    with pytest.raises(ReductionError, match="not of this run"):
        measure(shifted, WIRES)


def test_a_current_beyond_the_calibrated_range_is_refused() -> None:
    _, calibration, cells = sweep(1, repeats=1)
    narrow = replace(
        calibration, current=replace(calibration.current, gain=replace(calibration.current.gain, high=0.5))
    )
    with pytest.raises(ReductionError, match="outside"):
        results(cells, narrow)


def test_no_zero_no_calibration() -> None:
    with pytest.raises(ValueError, match="no zero"):
        in_situ.calibrate([], [], Bench.make(0).terms())


def test_truth_is_nan_on_a_real_bench() -> None:
    _, calibration, cells = sweep(1, repeats=1)
    real = replace(cells[0], data=replace(cells[0].data, true_energy_j=math.nan))
    (row,) = results([real], calibration)
    assert math.isnan(row.true_energy_per_image_j)


def _perturbed(
    first: in_situ.Zero,
    last: in_situ.Zero,
    comparison: in_situ.Comparison,
    terms: in_situ.BenchTerms,
    zero_a: float,
    reference: float,
) -> Calibration:
    """The calibration that follows from zeros moved by zero_a and read-backs scaled by 1 + reference."""

    def moved(z: in_situ.Zero) -> in_situ.Zero:
        return replace(z, current=replace(z.current, mean=z.current.mean + zero_a))

    scaled = replace(comparison, reference_a=tuple(a * (1 + reference) for a in comparison.reference_a))
    return in_situ.calibrate([moved(first), moved(last)], [scaled], terms)


@pytest.mark.parametrize("quantity", QUANTITIES[1:])
def test_sensitivities_are_what_a_small_change_does(quantity: str) -> None:
    bench = Bench.make(6)
    first = zero(bench.steady("zero", 1.0))
    bench.power(4.0, True)
    run = bench.run("gain", 10.0, 60, 0.025)
    comparison = bench.comparison(run, 10.0)
    cells = [bench.run("cell", 20.0 + 30 * r, 300 - 100 * r, 0.004, batch=2, repeat=r) for r in range(2)]
    bench.power(120.0, False)
    last = zero(bench.steady("zero", 125.0))

    def value(zero_a: float, reference: float) -> tuple[float, dict[str, float]]:
        calibration = _perturbed(first, last, comparison, bench.terms(), zero_a, reference)
        (row,) = results(cells, calibration)
        budget = getattr(row, quantity)
        return budget.value, {c.name: c.sensitivity for c in budget.components}

    base, stated = value(0.0, 0.0)
    by_zero = (value(1e-4, 0.0)[0] - value(-1e-4, 0.0)[0]) / 2e-4
    by_reference = (value(0.0, 1e-4)[0] - value(0.0, -1e-4)[0]) / 2e-4
    assert abs(stated["current at output off"]) == pytest.approx(abs(by_zero), rel=0.05, abs=1e-3 * abs(base))
    assert stated["current gain, reference"] == pytest.approx(by_reference, rel=1e-3)


def test_the_step_of_codes_is_found() -> None:
    from experiments.moments import code_step

    assert code_step(np.array([0x8000, 0x8010, 0x8050], dtype=np.uint16)) == 16
    assert code_step(np.array([0x8000, 0x8100], dtype=np.uint16)) == 256
    assert code_step(np.array([3, 4, 9], dtype=np.uint8)) == 1
    assert code_step(np.array([7, 7], dtype=np.uint8)) == 1


def drawn(values: list[float], nominal: float) -> float:
    """Half-width that holds 95 % of the drawn values about the nominal one."""
    return float(np.quantile(np.abs(np.array(values) - nominal), 0.95))


@pytest.mark.parametrize("quantity", ["energy_per_image_j", "net_energy_per_image_j"])
def test_the_linear_budget_is_what_the_whole_model_gives_when_its_inputs_are_drawn(quantity: str) -> None:
    """GUM Supplement 1 with the model itself: product of v and i, division by gains found through the drawn zeros."""
    bench = Bench.make(6)
    first = zero(bench.steady("zero", 1.0))
    bench.power(4.0, True)
    comparison = bench.comparison(bench.run("gain", 10.0, 60, 0.025), 10.0)
    cells = [bench.run("cell", 20.0, 300, 0.004, batch=2)]
    bench.power(120.0, False)
    last = zero(bench.steady("zero", 125.0))
    terms, rng = bench.terms(), np.random.default_rng(8)

    def budget(zero_a: float, error_a: float, error_v: float) -> Budget:
        moved = [replace(z, current=replace(z.current, mean=z.current.mean + zero_a)) for z in (first, last)]
        off = replace(
            comparison,
            reference_a=tuple(a + error_a for a in comparison.reference_a),
            reference_v=tuple(v + error_v for v in comparison.reference_v),
        )
        (row,) = results(cells, in_situ.calibrate(moved, [off], terms))
        found: Budget = getattr(row, quantity)
        return found

    nominal = budget(0.0, 0.0, 0.0)
    half = np.array([terms.residual_a, READBACK_A, READBACK_V])
    values = [budget(*(half * rng.uniform(-1, 1, 3))).value for _ in range(800)]
    names = ("current at output off", "current gain, reference", "voltage gain, reference")
    stated = nominal.interval_of([c for c in nominal.components if c.name in names])
    assert drawn(values, nominal.value) == pytest.approx(stated, rel=0.04)
    assert np.mean(values) == pytest.approx(nominal.value, rel=5e-4)


def test_the_makers_limits_of_three_percent_are_still_linear() -> None:
    _, calibration, cells = sweep(2, repeats=1, gain=False)
    (row,) = results(cells, calibration)
    nominal, rng = row.energy_per_image_j, np.random.default_rng(3)
    errors = 0.03 * rng.uniform(-1, 1, (100_000, 3))
    values = nominal.value / np.prod(1 + errors, axis=1)
    names = ("current gain, reference", "current gain, oscilloscope", "voltage gain, reference")
    stated = nominal.interval_of([c for c in nominal.components if c.name in names])
    assert drawn(list(values), nominal.value) == pytest.approx(stated, rel=0.02)
    assert nominal.expanded() / nominal.value > 0.03


@pytest.mark.parametrize("delay_s", [0.0, 0.30e-3, 0.909e-3])
def test_a_measured_delay_of_the_marks_is_taken_back(delay_s: float) -> None:
    _, calibration, _ = sweep(5, repeats=1)
    late = Bench.make(5, marker_delay_s=delay_s)
    late.power(0.0, True)
    cell = late.run("cell", 20.0, 40, 0.016)
    known = replace(calibration, delay=Delay(delay_s, delay_s, 2e-6, 5e-6))
    (plain,), (corrected,) = results([cell], calibration), results([cell], known)
    off = [abs(r.energy_per_image_j.value / r.true_energy_per_image_j - 1) for r in (plain, corrected)]
    gains = abs(late.world.probe_gain * late.world.voltage_gain / (calibration.current.gain.value
                * calibration.voltage.gain.value) - 1)  # fmt: skip
    assert off[1] < gains + 5e-4
    if delay_s > 0.5e-3:
        assert off[0] > off[1] + 4e-4
    assert corrected.energy_per_image_j.u > 0
    assert {"marker delay at the fall", "marker jitter at the fall"} <= {
        c.name for c in corrected.energy_per_image_j.components
    }


def test_a_delay_beyond_the_record_is_refused() -> None:
    _, calibration, cells = sweep(1, repeats=1)
    known = replace(calibration, delay=Delay(-1.0, -1.0, 0.0, 0.0))
    with pytest.raises(ReductionError, match="lies outside the record"):
        results(cells, known)


@pytest.mark.parametrize("sigma", [0.0, 0.35, 0.5, 1.0, 3.0])
def test_noise_spreads_the_codes_as_far_as_is_claimed(sigma: float) -> None:
    rng, step = np.random.default_rng(4), 16.0
    for level in np.linspace(0, step, 9):
        codes = np.rint((level + sigma * step * rng.standard_normal(40_000)) / step) * step
        ripple = float(np.sqrt(np.mean(np.diff(codes) ** 2) / 2))
        error = abs(float(codes.mean()) - level)
        noise = 4 * step * math.hypot(sigma, 0.29) / math.sqrt(len(codes))
        assert error <= rounding_limit(step, ripple) * 1.1 + noise
    assert rounding_limit(step, 3 * step) < 1e-6 * step
    assert rounding_limit(step, 0.0) == step / 2


def test_scatter_that_noise_explains_is_not_counted_twice() -> None:
    _, calibration, cells = sweep(4, repeats=3)
    (row,) = results(cells, calibration)
    found = row.idle_power_w
    u = {c.name: c.u for c in found.components}
    scatter = np.std([results([c], calibration)[0].idle_power_w.value for c in cells], ddof=1) / math.sqrt(3)
    explained = math.hypot(u["current noise"], u["voltage noise"])
    assert u.get("repeatability", 0.0) == pytest.approx(math.sqrt(max(0.0, scatter**2 - explained**2)), abs=1e-9)
