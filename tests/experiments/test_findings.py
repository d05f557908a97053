"""Verdicts on samples whose truth is known: how often they are right, and what they never say."""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Callable

import numpy as np
import pandas as pd
import pytest

from experiments import networks
from experiments.findings import energy_bound, forms, hyperbola, operations, others, power, section
from experiments.findings.forms import Group
from experiments.findings.sample import Sample
from experiments.findings.verdict import Decision
from experiments.paper import PLOTTED
from tests.experiments.findings_tables import PAPER, Law, drawn, roofline_s, steady_w

MARGIN = 0.06
EDGE = MARGIN / (1 - 1 / len(PAPER) * (1 + MARGIN))
"""Relative excess of one network that puts it exactly MARGIN above the mean of all."""


def shares(decide: Callable[[Sample], Decision], make: Callable[[np.random.Generator], Sample], draws: int) -> Counter:
    """Of so many draws, the share that gave each verdict."""
    counts = Counter(decide(make(np.random.default_rng(seed))).verdict for seed in range(draws))
    return Counter({verdict: count / draws for verdict, count in counts.items()})


def excess(share: float, of: str = "ENet") -> Law:
    """A board of which one network takes more power by a share."""
    return lambda name, batch: steady_w(name, batch) * (1 + share * (name == of))


@pytest.mark.parametrize(
    ("power_w", "verdict"),
    [
        (steady_w, "supported"),
        (lambda name, batch: 11.8 - 0.7 * (name == "AlexNet" and batch == 1), "supported"),
        (excess(0.12), "not supported"),
        (lambda name, batch: 11.8 * (1 + 0.2 * (batch == 16)), "not supported"),
        (
            lambda name, batch: 11.8 * (1 + 0.15 * (-1) ** PAPER.index(name) * (1 if batch == 1 else -1)),
            "not supported",
        ),
    ],
    ids=["steady", "one odd cell", "one network", "one batch", "crossing"],
)
def test_power_is_judged_right(power_w: Law, verdict: str) -> None:
    draws = 40 if verdict == "supported" else 6  # of the rest every draw is right, and takes long
    assert shares(power.decide, lambda rng: drawn(rng, power_w), draws)[verdict] >= 0.95


def test_power_at_the_edge_of_the_margin_is_called_the_same_once_in_twenty() -> None:
    found = shares(power.decide, lambda rng: drawn(rng, excess(EDGE)), 200)
    assert found["supported"] <= 0.05 + 3 * math.sqrt(0.05 * 0.95 / 200)
    assert found["not supported"] <= 0.05


def test_power_that_scatters_too_much_leaves_the_question_open() -> None:
    found = shares(power.decide, lambda rng: drawn(rng, repeats=2, power_scatter=0.2), 40)
    assert found["inconclusive"] >= 0.95


def test_cells_without_a_result_do_not_bias_a_batch() -> None:
    """Networks take unlike power, and the hungry ones are missing at the larger batch: that is no effect of batch."""
    law: Law = lambda name, batch: 11.8 * (1 + 0.05 * (PAPER.index(name) >= 7))  # noqa: E731
    whole = drawn(np.random.default_rng(1), law)
    gone = (whole.runs["batch"] == 16) & whole.runs["network"].isin(PAPER[9:])
    part = Sample(whole.device, whole.source, whole.runs[~gone], whole.networks)
    effects = power.decide(part).numbers["networks_and_batches"]
    assert effects["batch 16"]["share"] == pytest.approx(0, abs=0.006)
    assert effects[PAPER[13]]["share"] - effects[PAPER[0]]["share"] == pytest.approx(0.05, abs=0.012)


def test_a_shift_between_sessions_is_no_difference_between_cells() -> None:
    sample = drawn(np.random.default_rng(1), repeats=2, sessions=2, power_scatter=0.003)
    shift = np.where(sample.runs["session"] == "2.1", 0.9, 0.0)
    moved = sample.runs.assign(net_power_w=sample.runs["net_power_w"] + shift)
    found = power.judge(Sample(sample.device, sample.source, moved, sample.networks))
    assert found.verdict == "supported"
    assert found.numbers["sd_of_repeats_w"] < 0.06
    assert found.numbers["variance_components_w"]["session"] == pytest.approx(0.9 / math.sqrt(2), rel=0.1)


def test_components_and_effects_are_those_of_the_truth() -> None:
    law: Law = lambda name, batch: 11.8 + (0.8 if PAPER.index(name) % 2 else -0.8)  # noqa: E731
    found = power.judge(drawn(np.random.default_rng(3), law, batches=(1, 2, 4, 8)), MARGIN).numbers
    parts, effects = found["variance_components_w"], found["analysis_of_variance"]
    assert parts["network"] == pytest.approx(0.83, abs=0.03)
    assert parts["batch"] < 0.05
    assert effects["network"]["partial_omega2"] > 0.95
    assert effects["batch"]["partial_omega2"] < 0.1
    assert effects["network"]["p"] < 1e-6 < effects["batch"]["p"]


def accuracies(law: Callable[[float, np.random.Generator], float]) -> Callable[[np.random.Generator], Sample]:
    """Boards whose networks have accuracies by a law of their time in ms."""

    def make(rng: np.random.Generator) -> Sample:
        top1 = {name: law(roofline_s(name, 16) * 1e3, rng) for name in PAPER}
        return drawn(rng, time_s=lambda name, batch: roofline_s(name, 16), top1=top1.__getitem__, repeats=2)

    return make


@pytest.mark.parametrize(
    ("law", "verdict"),
    [
        (lambda t, rng: 81 - 230 / t + rng.standard_normal(), "supported"),
        (lambda t, rng: 40 + 8 * math.log(t) + rng.standard_normal(), "not supported"),
        (lambda t, rng: 55 + 0.12 * t + rng.standard_normal(), "not supported"),
        (lambda t, rng: 60 + 230 / t + rng.standard_normal(), "not supported"),
    ],
    ids=["hyperbola", "logarithm", "line", "falling"],
)
def test_the_form_of_accuracy_over_time_is_judged_right(law: Callable, verdict: str) -> None:
    assert shares(hyperbola.decide, accuracies(law), 150 if verdict == "supported" else 20)[verdict] >= 0.95


def test_unrelated_accuracies_are_never_called_hyperbolic() -> None:
    found = shares(hyperbola.decide, accuracies(lambda t, rng: rng.uniform(55, 80)), 30)
    assert found["supported"] == 0
    assert found["not supported"] >= 0.85


def test_on_the_authors_own_figure_the_logarithm_beats_the_hyperbola_without_the_vggs() -> None:
    """Figure 2's networks: top-1 against operations as plotted."""

    def r2(names: list[str]) -> dict[str, float]:
        gops = np.array([PLOTTED[name].gops for name in names])
        top1 = np.array([networks.get(name).top1 for name in names])
        return {form: fit.r2 for form, fit in hyperbola.compare([Group(tuple(names), gops, top1)]).items()}

    every, without = r2(list(PLOTTED)), r2([name for name in PLOTTED if not name.startswith("VGG")])
    assert without["logarithm"] == pytest.approx(0.77, abs=0.005)
    assert without["hyperbola"] == pytest.approx(0.71, abs=0.005)
    assert every["logarithm"] == pytest.approx(0.51, abs=0.005)
    assert every["hyperbola"] == pytest.approx(0.62, abs=0.005)


def test_coefficients_and_exponent_are_found_again() -> None:
    t = np.geomspace(8, 200, 14)
    names = tuple(f"n{k}" for k in range(14))
    groups = [Group(names, scale * t, 81 - 40 * (scale * t) ** -0.5) for scale in (1.0, 3.0)]
    fit = forms.fit_all(groups)[forms.POWER]
    assert fit.exponent == pytest.approx(0.5, abs=1e-3)
    for pair in fit.coefficients:
        assert pair == pytest.approx((81, 40), rel=0.01)
    assert fit.loo_rmse < 1e-3


def by_chance(rng: np.random.Generator) -> Sample:
    """A board whose times have nothing to do with its networks."""
    time_s = {name: float(np.exp(rng.uniform(np.log(8e-3), np.log(0.1)))) for name in PAPER}
    return drawn(rng, time_s=lambda name, batch: time_s[name], repeats=2)


@pytest.mark.parametrize(("decide", "draws"), [(energy_bound.decide, 100), (operations.decide, 20)], ids=["H3", "H4"])
def test_what_follows_operations_is_found_and_what_is_dealt_by_chance_is_not(decide: Callable, draws: int) -> None:
    assert shares(decide, lambda rng: drawn(rng, repeats=2), 10)["supported"] >= 0.95
    found = shares(decide, by_chance, draws)
    assert found["supported"] <= 0.05
    assert found["not supported"] >= 0.9


def test_a_bound_on_accuracy_comes_up_by_chance_once_in_twenty() -> None:
    """Energies dealt to networks at random, so that there is no bound."""
    rng = np.random.default_rng(5)
    worth = np.sort(rng.uniform(50, 80, 14))
    shown = [energy_bound.bound(rng.lognormal(size=(1, 14)), worth, seed).shown for seed in range(200)]
    assert np.mean(shown) == pytest.approx(0.05, abs=3 * math.sqrt(0.05 * 0.95 / 200))


def test_operations_that_are_right_within_a_factor_only_do_not_predict() -> None:
    def uneven(rng: np.random.Generator) -> Sample:
        factor = {name: float(np.exp(0.7 * rng.standard_normal())) for name in PAPER}
        return drawn(rng, time_s=lambda n, b: networks.size(n)["operations"] / 150e9 * factor[n], repeats=2)

    found = shares(operations.decide, uneven, 20)
    assert found["supported"] == 0
    assert found["not supported"] >= 0.8


def test_constant_power_tells_energy_where_power_is_constant() -> None:
    sample = drawn(np.random.default_rng(2), power_scatter=0.001)
    told = energy_bound.shortcut(sample, MARGIN)
    assert told["within_margin"] == told["cells"] == 28
    assert all(tau == pytest.approx(1, abs=0.03) for tau in told["kendall_tau"].values())
    uneven = drawn(np.random.default_rng(2), excess(1.0), power_scatter=0.001)
    told = energy_bound.shortcut(uneven, MARGIN)
    assert told["worst"].startswith("ENet batch ")
    assert told["worst_error"] == pytest.approx((1 + 1 / 14) / 2 - 1, abs=0.005)


def test_the_envelope_climbs_as_computed_by_hand() -> None:
    energy = np.exp(np.array([[0.0, 1.0, 2.0, 4.0]]))
    assert energy_bound.climb(energy, np.array([10.0, 20.0, 5.0, 50.0])) == pytest.approx((40 + 30 * 3) / 4 / 45)
    assert energy_bound.climb(energy, np.array([50.0, 20.0, 5.0, 10.0])) == 0


@pytest.mark.parametrize("what", ["one repeat", "four networks", "nothing"])
def test_too_little_is_no_verdict(what: str) -> None:
    make = {
        "one repeat": lambda rng: drawn(rng, repeats=1),
        "four networks": lambda rng: drawn(rng, names=PAPER[:4]),
        "nothing": lambda rng: drawn(rng, repeats=0),
    }[what]
    found = section.judge(make(np.random.default_rng(1)))
    assert [f.verdict for f in found.findings] == ["inconclusive"] * 4
    assert all("too few" in f.reasons[0] for f in found.findings)
    json.dumps(found.tree(), allow_nan=False)
    assert "INCONCLUSIVE" in section.text(found)


def test_networks_without_a_known_accuracy_count_for_power_and_time_only() -> None:
    found = section.judge(drawn(np.random.default_rng(1), top1=lambda name: math.nan))
    assert [f.verdict for f in found.findings] == ["supported", "inconclusive", "inconclusive", "supported"]


def test_batches_at_which_networks_are_missing_do_not_count_where_these_are_compared() -> None:
    whole = drawn(np.random.default_rng(1), batches=(1, 16, 64))
    gone = (whole.runs["batch"] == 64) & (whole.runs["network"] == "VGG-19")
    found = operations.judge(Sample(whole.device, whole.source, whole.runs[~gone], whole.networks))
    assert found.batches == (1, 16)
    assert any("batch 64 not counted" in reason for reason in found.reasons)
    assert "at batch 1 and 16; 3 repeats" in found.sentence


def test_memory_and_gain_are_found_with_their_intervals() -> None:
    rng = np.random.default_rng(4)
    sample = drawn(rng, time_scatter=0.002, batches=(1, 16, 64))
    size = sample.networks["weights_mb"]
    memory_mb = 200 + 1.3 * np.maximum(size - 100, 0) + rng.normal(0, 2, len(size))
    table = pd.DataFrame({"network": size.index, "batch": 1, "memory_mb": memory_mb.to_numpy()})
    sample = Sample(sample.device, sample.source, sample.runs, sample.networks, table, "system_used_net")
    told = others.memory(sample).numbers["by_weights"]
    for name, truth in (("floor_mb", 200), ("slope", 1.3), ("knee_mb", 100)):
        assert told[name]["low"] <= truth <= told[name]["high"], (name, told[name])
        assert told[name]["high"] - told[name]["low"] < 0.1 * truth
    assert told["delta_aicc_line"] > 10
    gain = others.gain(sample).numbers["AlexNet"]["gain"]
    truth = roofline_s("AlexNet", 1) / roofline_s("AlexNet", 64)
    assert gain["low"] < truth < gain["high"]
    assert gain["value"] == pytest.approx(truth, rel=0.01)


def test_the_same_data_give_the_same_words() -> None:
    one, two = (energy_bound.judge(drawn(np.random.default_rng(8)), seed=3).tree() for _ in range(2))
    assert one == two
    assert energy_bound.judge(drawn(np.random.default_rng(8)), seed=4).tree() != one


def test_sessions_that_share_no_cell_are_not_told_from_their_networks() -> None:
    """Nothing then says that a difference is not the networks' own."""
    sample = drawn(np.random.default_rng(1), power_scatter=0.003)
    second = sample.runs["network"].isin(PAPER[7:])
    runs = sample.runs.assign(
        session=np.where(second, "2.1", "1.1"), net_power_w=sample.runs["net_power_w"] + 3.0 * second
    )
    found = power.judge(Sample(sample.device, sample.source, runs, sample.networks))
    assert found.verdict == "not supported"


def test_power_below_idle_is_no_net_power() -> None:
    found = section.judge(drawn(np.random.default_rng(1), lambda name, batch: -0.1))
    assert [f.verdict for f in found.findings[:3:2]] == ["inconclusive"] * 2
    json.dumps(found.tree(), allow_nan=False)
