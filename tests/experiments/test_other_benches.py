"""Benches that differ from the shipped one, each with its known truth."""

from __future__ import annotations

from pathlib import Path

import pytest

from experiments.traces import TraceReader
from tests.sweeps import rows, run, run_undrawn
from tests.sweeps import virtual_lab_file as lab_file

WORLD = "simulation:\n"


@pytest.mark.parametrize(
    ("changes", "most"),
    [
        pytest.param(
            [("turns: 1", "turns: 3"), ("low_a: -0.2, high_a: 1.4", "low_a: -0.4, high_a: 1.2")],
            0.012,
            id="three turns",
        ),
        pytest.param([("range_v_per_a: 0.1", "range_v_per_a: 0.01")], 0.02, id="10 mV/A"),
        pytest.param([("reversed: false", "reversed: true")], 0.012, id="reversed"),
        pytest.param(
            [
                ("current: {channel: 1", "current: {channel: 4"),
                ("voltage: {channel: 3", "voltage: {channel: 2"),
                ("gate: {digital: 0}", "gate: {digital: 6}"),
                ("batch: {digital: 1}", "batch: {digital: 3}"),
            ],
            0.012,
            id="other inputs",
        ),
        pytest.param(
            [
                ("voltage_v: 12.0", "voltage_v: 19.0"),
                ("ovp_v: 13.5", "ovp_v: 21.0"),
                ("voltage_v: 13.0", "voltage_v: 20.0"),
                ("low_v: -2.0, high_v: 14.0", "low_v: -2.0, high_v: 30.0"),
            ],
            0.016,
            id="19 V, the paper's currents",
        ),
        pytest.param(
            [("sense: remote", "sense: local\n  lead_resistance_ohm: 0.08\n  lead_resistance_u_ohm: 0.005")],
            0.012,
            id="local sense",
        ),
        pytest.param([(WORLD, WORLD + "  scope: {memory_points: 100000}\n")], 0.012, id="stock memory"),
        pytest.param(
            [(WORLD, WORLD + "  world: {probe_noise_a: 0.1, probe_slow_noise_a: 0.01, ripple_relative: 0.05}\n")],
            0.02,
            id="noisy",
        ),
        pytest.param(
            [
                (
                    WORLD,
                    WORLD + "  world: {probe_gain_sd: 0.03, voltage_gain_sd: 0.02, probe_drift_sd_a_per_s: 0.0001}\n",
                )
            ],
            0.02,
            id="bad probe",
        ),
        pytest.param([(WORLD, WORLD + "  world: {settling_s: 0.02, launch_s: 0.002}\n")], 0.02, id="large capacitors"),
        pytest.param([("resource: sim:socket", "resource: sim:hislip")], 0.012, id="HiSLIP"),
        pytest.param([("resource: sim:socket", "resource: sim:vxi11")], 0.012, id="VXI-11"),
        pytest.param([("resource: sim:prologix", "resource: sim:serial")], 0.012, id="RS-232"),
    ],
)
def test_the_truth_is_inside_the_interval(tmp_path: Path, changes: list[tuple[str, str]], most: float) -> None:
    out = tmp_path / "run"
    done = run_undrawn(
        "experiments.power_sweep", "--lab", lab_file(tmp_path, *changes), "--networks", "busy:3,busy:11",
        "--batches", "2", "--repeats", "1", "--window", "0.5", "--out", out,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    for row in rows(out / "results.csv"):
        found, true, u = (
            float(row[name]) for name in ("energy_per_image_j", "true_energy_per_image_j", "energy_per_image_j_u")
        )
        assert abs(found - true) <= u
        assert u / found < most
    again = run_undrawn("experiments.replay", out / "trace.h5", "--out", tmp_path / "again")
    assert again.returncode == 0
    live, replayed = (out / "results.csv").read_text(), (tmp_path / "again" / "results.csv").read_text()
    assert replayed.replace(" (replayed)", "") == live


def test_a_stock_memory_is_taken_as_it_is(tmp_path: Path) -> None:
    lab = lab_file(tmp_path, (WORLD, WORLD + "  scope: {memory_points: 100000}\n"))
    done = run_undrawn(
        "experiments.power_sweep", "--lab", lab, "--networks", "busy:5", "--batches", "1", "--repeats", "1",
        "--window", "2.0", "--out", tmp_path / "run",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    with TraceReader(tmp_path / "run" / "trace.h5") as reader:
        for data in reader.data():
            assert data.capture.points == 50_000
            assert data.capture.dt_s == pytest.approx(40e-6)


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ([("low_a: -0.2, high_a: 1.4", "low_a: -0.2, high_a: 0.6")], "clipped"),
        ([("current_limit_a: 2.0", "current_limit_a: 0.5")], "CC"),
    ],
)
def test_a_bench_that_cannot_measure_says_so(tmp_path: Path, changes: list[tuple[str, str]], reason: str) -> None:
    done = run(
        "experiments.power_sweep", "--lab", lab_file(tmp_path, *changes), "--networks", "busy:4", "--batches", "1",
        "--repeats", "1", "--window", "0.4", "--out", tmp_path / "run",
    )  # fmt: skip
    assert done.returncode == 1, done.stdout + done.stderr
    assert reason in done.stdout
    (row,) = rows(tmp_path / "run" / "results.csv")
    assert row["repeats"] == "0"
    assert row["energy_per_image_j"] == ""
