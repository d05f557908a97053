"""One record that stands for a whole run, against loads that come and go more slowly than the record is long."""

from __future__ import annotations

import csv
import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from calibration import in_situ
from calibration.budget import Budget, Component, limit
from calibration.statistics import MeanOfRecord
from experiments import replay
from experiments.moments import Moments, Scale
from experiments.parts import STEADY, Part
from experiments.run_cuts import watts_of
from experiments.steady_power import LEAST_UNSEEN, NotSteadyError, steady_from, steady_mean_w
from tests.runs import taken
from tests.sweeps import ROOT, rows, run_undrawn

SEEN_S, PIECES, VOLTS = 1.8, 16, 12.0
FACTS = taken(1, np.array([3.2]), STEADY, batch=16).parts[0]
ZERO = MeanOfRecord(0.0, 1e-6, 39.0, 1.0)
PERFECT = in_situ.calibrate([in_situ.Zero(0.0, ZERO, ZERO)], [], in_situ.BenchTerms(0.1, 0, 0, 0, 0, 0, 0))


def record(watts: np.ndarray, run_s: float, session: int = 0) -> Part:
    """A record of 1.8 s of work whose pieces have these powers."""
    n = 5_000
    pieces = tuple(
        Moments(
            n, n * (amps := round(w / VOLTS * 1e8)), n * 12_000, n * amps * 12_000, SEEN_S / PIECES / n,
            Scale(1e-8, 0.0), Scale(1e-3, 0.0), 0, 0,
        )
        for w in watts
    )  # fmt: skip
    data = replace(FACTS, device_s=run_s, session=session)
    return Part(data, pieces[0], pieces, None, 0, np.zeros(1), 0.0, True, False, None)


def rippled(rng: np.random.Generator, hz: float, share: float, run_s: float) -> tuple[Part, float, float]:
    """A record of a load that comes and goes by a share at a frequency; its mean, and that of its run, W."""
    phase, level = rng.uniform(0, 2 * math.pi), 9.0 * (1 + 0.001 * rng.standard_normal())

    def upto(t: np.ndarray) -> np.ndarray:
        return level * (t - share / (2 * math.pi * hz) * np.cos(2 * math.pi * hz * t + phase))

    cuts = np.linspace(0, SEEN_S, PIECES + 1)
    watts = np.diff(upto(cuts)) / np.diff(cuts) * (1 + 0.0005 * rng.standard_normal(PIECES))
    whole = np.diff(upto(np.array([0.0, run_s])))[0] / run_s
    return record(watts, run_s), float(watts.mean()), float(whole)


@pytest.mark.parametrize("run_s", [3.2, 6.4])
def test_rows_of_a_load_that_comes_and_goes_hold_the_truth(run_s: float) -> None:
    rng = np.random.default_rng(int(10 * run_s))
    held = []
    for hz in (0.1, 0.2, 0.3, 0.5, 1.0, 2.0):
        for share in (0.02, 0.05, 0.1, 0.2):
            for _ in range(30):
                repeats = [rippled(rng, hz, share, run_s) for _ in range(3)]
                values, limits, truths = [], [], []
                for part, seen_w, whole_w in repeats:
                    try:
                        steady_w, limit_w = steady_mean_w(part, [p for p, _, _ in repeats if p is not part], PERFECT)
                    except NotSteadyError:
                        continue
                    outside = 1 - SEEN_S / run_s
                    values.append(seen_w * (1 - outside) + steady_w * outside)
                    limits.append(limit_w * outside)
                    truths.append(whole_w)
                if not values:
                    continue
                parts = [limit("outside", float(np.mean(limits)), 1.0, "W")]
                if len(values) > 1:
                    u = float(np.std(values, ddof=1)) / math.sqrt(len(values))
                    parts.append(Component("repeatability", u, 1.0, "W", len(values) - 1.0, "t"))
                half_w = Budget("power_w", 9.0, "W", tuple(parts)).expanded()
                held.append(abs(float(np.mean(values)) - float(np.mean(truths))) <= half_w)
    assert len(held) > 60
    assert np.mean(held) >= 0.93


def test_a_bend_within_one_record_tells_how_far_the_power_goes_on_beyond_it() -> None:
    """A single repeat: nothing but its own bend can tell of a load slower than the record."""
    rng = np.random.default_rng(9)
    held = []
    for hz in (0.1, 0.2, 0.3, 0.4, 0.5):
        for share in (0.02, 0.05, 0.1, 0.2):
            for _ in range(100):
                part, _, whole_w = rippled(rng, hz, share, 6.4)
                try:
                    steady_w, limit_w = steady_mean_w(part, [], PERFECT)
                except NotSteadyError:
                    continue
                outside_w = (whole_w * 6.4 - watts_of(part, PERFECT).mean() * SEEN_S) / (6.4 - SEEN_S)
                held.append(abs(steady_w - outside_w) <= limit_w)
    assert len(held) > 30
    assert np.mean(held) >= 0.8  # 0.3 without what the bend tells


def test_a_steady_load_is_steady_and_known_to_half_a_percent() -> None:
    rng = np.random.default_rng(4)
    refused, limits = 0, []
    for _ in range(200):
        part = record(9.0 * (1 + 0.001 * rng.standard_normal(PIECES)), 6.4)
        if steady_from(part.pieces, 6.4) is None:
            refused += 1
            continue
        limits.append(steady_mean_w(part, [], PERFECT)[1])
    assert refused <= 4
    assert np.median(limits) == pytest.approx(LEAST_UNSEEN * 9.0, rel=1e-3)


def test_what_another_record_of_the_row_shows_counts_here() -> None:
    steady = record(np.full(PIECES, 9.0) + 1e-4 * (np.arange(PIECES) % 3), 6.4)
    away = record(np.linspace(8.0, 8.8, PIECES), 6.4)  # not steady
    level = record(np.full(PIECES, 9.2), 6.4)
    assert steady_from(away.pieces, 6.4) is None
    assert steady_mean_w(steady, [], PERFECT)[1] == pytest.approx(0.045, rel=1e-2)
    assert steady_mean_w(steady, [level], PERFECT)[1] == pytest.approx(0.2, rel=1e-2)
    assert steady_mean_w(steady, [level, away], PERFECT)[1] == pytest.approx(9.0 - 8.0 - 0.8 / 15, rel=1e-2)
    # Of another session only how far it goes counts: its zero may be another one.
    elsewhere = replace(away, data=replace(away.data, session=1))
    assert steady_mean_w(steady, [elsewhere], PERFECT)[1] == pytest.approx(0.8 * 14 / 15 * 9.0 / 8.43, rel=1e-2)


def test_a_row_with_a_repeat_that_is_not_steady_holds_the_truth(tmp_path: Path) -> None:
    lab = tmp_path / "lab.yaml"
    text = (ROOT / "docs" / "benches" / "simulated-tx1.yaml").read_text()
    lab.write_text(text.replace("  world: {", "  world: {ripple_relative: 0.03, ripple_hz: 0.1, "))
    plan = ["--networks", "VGG-16", "--batches", "32", "--repeats", "3", "--long-batch", "steady", "--seed", "6"]
    done = run_undrawn("experiments.power_sweep", "--lab", lab, "--out", tmp_path / "run", "--quiet", *plan)
    assert done.returncode == 1, done.stderr  # a repeat without a result
    (row,) = rows(tmp_path / "run" / "results.csv")
    assert {"steady-power", "not-steady"} <= set(row["flags"].split())
    energy, truth = float(row["energy_per_image_j"]), float(row["true_energy_per_image_j"])
    assert abs(energy - truth) < float(row["energy_per_image_j_u"]) < 0.1 * truth
    assert "not steady, so that the power outside the records of the others may be as far off" in done.stdout
    asked = ["--out", str(tmp_path / "again"), "--quiet", "--results-only"]
    assert replay.main([str(tmp_path / "run" / "trace.h5"), *asked]) == 1
    with (tmp_path / "again" / "results.csv").open(newline="") as file:
        assert [{**r, "source": "simulated"} for r in csv.DictReader(file)] == [row]
