"""The plan: every cell once a round, an order of its own each round, the same for the same seed."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from experiments.plan import Plan, RunOptions, make_plan
from instruments.dut_protocol import DTYPES, Mode
from instruments.errors import ConfigError

names = st.lists(st.sampled_from(["A", "B", "C", "D"]), min_size=1, max_size=4, unique=True)
batches = st.lists(st.integers(1, 64), min_size=1, max_size=5, unique=True)


@given(names, batches, st.integers(1, 4), st.integers(0, 2**32))
def test_each_round_visits_each_pair_once(networks: list[str], sizes: list[int], repeats: int, seed: int) -> None:
    plan = make_plan(networks, sizes, repeats, 2.0, seed)
    pairs = {(n, b) for n in networks for b in sizes}
    assert [c.position for c in plan.cells] == list(range(len(pairs) * repeats))
    for repeat in range(repeats):
        a_round = plan.cells[repeat * len(pairs) : (repeat + 1) * len(pairs)]
        assert {(c.network, c.batch) for c in a_round} == pairs
        assert {c.repeat for c in a_round} == {repeat}
    assert plan == make_plan(networks, sizes, repeats, 2.0, seed)
    assert Plan.from_json(plan.to_json()) == plan


modes = st.builds(Mode, st.sampled_from(DTYPES), st.booleans(), st.booleans(), st.booleans())


@given(
    st.builds(
        RunOptions, st.sampled_from(["auto", "cuda"]), st.integers(0, 64), modes, st.sampled_from(["random", "w.pth"])
    )
)
def test_how_networks_are_run_is_stored(run: RunOptions) -> None:
    plan = make_plan(["A"], [1], 1, 2.0, 1, run)
    assert Plan.from_json(plan.to_json()).run == run
    assert run.mode.label() in run.label
    assert run.weights in run.label


@pytest.mark.parametrize("mode", [{"dtype": "fp8"}, {"compile": "yes"}, {"speed": "high"}, {"channels_last": None}])
def test_a_damaged_mode_is_an_error_of_the_file(mode: dict) -> None:
    text = make_plan(["A"], [1], 1, 2.0, 1).to_json()
    tree = json.loads(text)
    tree["run"]["mode"].update(mode)
    with pytest.raises(ValueError, match="run: "):
        Plan.from_json(json.dumps(tree))


def test_rounds_and_seeds_differ() -> None:
    def order(seed: int, repeat: int) -> list[tuple[str, int]]:
        plan = make_plan(["A", "B", "C"], [1, 2, 4, 8], 2, 2.0, seed)
        return [(c.network, c.batch) for c in plan.cells if c.repeat == repeat]

    assert len({tuple(order(seed, repeat)) for seed in range(3) for repeat in range(2)}) == 6


@pytest.mark.parametrize(
    ("kwargs", "expected"),
    [
        ({"networks": []}, "no network"),
        ({"batches": []}, "no batch"),
        ({"networks": ["A", "A"]}, "A is named twice"),
        ({"batches": [0]}, "batch 0 is not"),
        ({"batches": [-4]}, "batch -4 is not"),
        ({"batches": [2**20]}, "is not a number of images"),
        ({"repeats": 0}, "repeats 0"),
        ({"window_s": 0.0}, "window 0 s"),
        ({"window_s": float("nan")}, "window nan s"),
        ({"window_s": 1e9}, "the timebase covers"),
        ({"seed": -1}, "seed -1"),
        ({"run": RunOptions(threads=-1)}, "threads -1"),
        ({"run": RunOptions(device="cpu", mode=Mode(cuda_graphs=True))}, "CUDA graphs need a GPU"),
        ({"run": RunOptions(weights="")}, "--weights names nothing"),
    ],
)
def test_what_cannot_be_measured_is_refused(kwargs: dict, expected: str) -> None:
    good = {"networks": ["A"], "batches": [1], "repeats": 1, "window_s": 2.0, "seed": 1}
    with pytest.raises(ConfigError, match=expected):
        make_plan(**{**good, **kwargs})
