"""Which flag follows from which facts, and that facts of any shape never stop a reduction."""

from __future__ import annotations

import copy
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from experiments import device, flags
from experiments.flags import FLAGS

ROOT = Path(__file__).resolve().parents[2]
HASH = "sha256"


def quiet() -> dict[str, Any]:
    """A run of 1.5 s on two processors, one of them busy with it, on a cool machine."""
    before = {
        "at_ns": 10_000_000_000,
        "busy_s": 100.0,
        "steal_s": 5.0,
        "own_s": 20.0,
        "waited_s": 1.0,
        "cpus": 2,
        "temperature_c": {"cpu": 45.0},
        "limit_c": {"cpu": 95.0},
        "throttle": {"core_throttle_count": 7, "cpu-balanced": 0},
    }
    after = copy.deepcopy(before)
    after |= {"at_ns": 11_500_000_000, "busy_s": 101.6, "own_s": 21.5, "waited_s": 1.01}
    return {
        "condition_before": before,
        "condition_after": after,
        "reference_s": {HASH: {"before": [0.004, 0.0021, 0.0021], "after": [0.003, 0.002, 0.002]}},
        "reference_mhz": {"before": 1500.0, "after": 1500.0},
        "sensors_after": {"gpu0 throttle": {"quantity": "throttle", "value": "0x1"}},
    }


def changed(*path: str, value: Any) -> dict[str, Any]:
    """The quiet run with one fact changed."""
    facts = quiet()
    *way, last = path
    tree = facts
    for name in way:
        tree = tree[name]
    tree[last] = value
    return facts


def given_to(done: dict[str, Any], ready: dict[str, Any] | None = None) -> tuple[str, ...]:
    codes = flags.of_run(ready or {"settled": True}, done)
    slow = flags.slow_references([quiet(), done, quiet(), quiet()])
    assert slow[0] is slow[2] is slow[3] is False
    return (*codes, *([flags.SLOW] if slow[1] else []))


def test_a_quiet_run_has_none() -> None:
    assert given_to(quiet()) == ()


@pytest.mark.parametrize(
    ("done", "code"),
    [
        (changed("condition_after", "waited_s", value=1.2), "busy-host"),
        (changed("condition_after", "busy_s", value=102.95), "busy-host"),
        (changed("condition_after", "steal_s", value=5.04), "steal"),
        (changed("condition_after", "throttle", value={"core_throttle_count": 8}), "throttled"),
        (changed("condition_before", "throttle", "cpu-balanced", value=1), "throttled"),
        (changed("sensors_after", "gpu0 throttle", "value", value="0x24"), "throttled"),
        (changed("condition_after", "temperature_c", "cpu", value=91.0), "hot"),
        (changed("reference_mhz", "after", value=1400.0), "freq-changed"),
        (changed("reference_s", HASH, "before", value=[0.004, 0.0025, 0.0024]), "slow-reference"),
        (changed("reference_s", HASH, "after", value=[0.0023, 0.0024, 0.003]), "slow-reference"),
    ],
)
def test_one_disturbance_gives_its_flag_alone(done: dict[str, Any], code: str) -> None:
    assert given_to(done) == (code,)


@pytest.mark.parametrize(
    "done",
    [
        changed("condition_after", "busy_s", value=102.3),  # half a processor of others, and enough left for them
        changed("condition_after", "temperature_c", "chip", value=120.0),  # a zone that states no limit
        changed("condition_after", "throttle", value={"core_throttle_count": 7}),
        changed("reference_s", HASH, "before", value=[0.02, 0.0021, 0.0022]),  # a moment's disturbance
        changed("reference_s", "other work", value={"before": [1.0], "after": [1.0]}),  # not done at the start
    ],
)
def test_what_disturbs_nothing_flags_nothing(done: dict[str, Any]) -> None:
    assert given_to(done) == ()


def referred(before_ms: float, after_ms: float, rng: np.random.Generator) -> dict[str, Any]:
    """A run whose reference work took so long, ms: the first round wakes the processors, others scatter by 3 %."""
    sides = {"before": before_ms, "after": after_ms}
    rounds = {k: [2e-3 * ms, *(1e-3 * ms * (1 + 0.03 * rng.standard_normal(4)))] for k, ms in sides.items()}
    return {"reference_s": {HASH: rounds}}


def flagged(sweeps: int, runs: int, slowed: float, *, shared: bool) -> tuple[float, float]:
    """Of many sweeps whose clocks are held back by 1.31 in a share of the runs: found of these, flagged of the others.

    Where bench and board share processors, the transfer of the record slows the work after the run by up to two.
    """
    rng = np.random.default_rng(11)
    right = wrong = held = 0
    for _ in range(sweeps):
        back = rng.random(runs) < slowed
        after_ms = rng.uniform(2.8, 5.3, runs) if shared else np.full(runs, 2.75)
        told = [referred(2.75 * k, after * k, rng) for k, after in zip(1 + 0.31 * back, after_ms, strict=True)]
        slow = np.array(flags.slow_references(told, shared=shared))
        right, wrong, held = right + (slow & back).sum(), wrong + (slow & ~back).sum(), held + back.sum()
    return right / max(held, 1), wrong / (sweeps * runs - held)


@pytest.mark.parametrize("shared", [False, True])
@pytest.mark.parametrize("runs", [4, 12, 36])
def test_a_quiet_sweep_is_clean(runs: int, shared: bool) -> None:
    """As seen on two processors: the transfer of the record doubles the work after the run, or does not."""
    _, wrong = flagged(100, runs, 0.0, shared=shared)
    assert wrong == 0


@pytest.mark.parametrize("shared", [False, True])
@pytest.mark.parametrize(("runs", "slowed"), [(12, 0.3), (36, 0.3), (36, 0.5)])
def test_clocks_that_are_held_back_now_and_then_are_found(runs: int, slowed: float, shared: bool) -> None:
    """As where heavy and light networks come in random order."""
    right, wrong = flagged(100, runs, slowed, shared=shared)
    assert right > 0.95
    assert wrong == 0


@pytest.mark.parametrize(("runs", "first"), [(38, 20), (38, 4), (12, 9), (5, 3)])
def test_a_board_whose_clocks_are_held_back_from_a_run_on_is_flagged_from_there(runs: int, first: int) -> None:
    rng = np.random.default_rng(7)
    told = [referred(*([3.6, 3.6] if k >= first else [2.75, 2.75]), rng) for k in range(runs)]
    assert flags.slow_references(told) == [k >= first for k in range(runs)]


@pytest.mark.parametrize(("quickest_ms", "slowest_ms", "shared"), [(2.7, 5.0, True), (2.75, 3.5, False)])
def test_one_run_beside_another_program_is_flagged_however_much_the_others_scatter(
    quickest_ms: float, slowest_ms: float, shared: bool
) -> None:
    rng = np.random.default_rng(3)
    scattered = [float(ms) for ms in rng.uniform(quickest_ms, slowest_ms, 20)]
    told = [referred(2.75 if shared else ms, ms, rng) for ms in scattered]
    told[11] = referred(9.0, 9.0, rng)
    assert [k for k, slow in enumerate(flags.slow_references(told, shared=shared)) if slow] == [11]


def test_a_device_is_the_bench_s_own_computer_by_its_name() -> None:
    ready = {"agent": {"host": {"hostname": "bench"}}}
    assert flags.same_machine(ready, {"machine": "bench"})
    assert not flags.same_machine(ready, {"machine": "board"})
    assert not flags.same_machine({}, {})
    assert not flags.same_machine({"agent": {"host": {"hostname": ""}}}, {"machine": ""})


def test_runs_that_tell_of_no_reference_work_are_not_slow() -> None:
    assert flags.slow_references([]) == []
    assert flags.slow_references([{}, quiet(), {}]) == [False] * 3


@pytest.mark.parametrize(
    ("marker_s", "moving_s", "agree"),
    [
        (1.5, 0.0, True),
        (1.5014, 0.0, True),
        (1.4986, 0.0, True),
        (1.5020, 0.0, False),
        (1.4980, 0.0, False),
        (1.5100, 0.01, True),
        (1.4900, 0.01, False),
    ],
)
def test_clocks_agree_within_a_thousandth_and_the_moves(marker_s: float, moving_s: float, agree: bool) -> None:
    assert flags.of_clocks(1.5, marker_s, 20e-6, moving_s) == (() if agree else ("clock-mismatch",))


def test_repeats_that_scatter() -> None:
    assert flags.of_repeats([0.01, 0.0101, 0.0099]) == ()
    assert flags.of_repeats([0.01, 0.0115, 0.0099]) == ("spread",)
    assert flags.of_repeats([0.01]) == ()


def test_every_flag_is_documented() -> None:
    told = re.findall(r"^\| `([a-z-]+)` \|", (ROOT / "docs/flags.md").read_text(), re.MULTILINE)
    assert told == list(FLAGS)


json_trees = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda children: st.lists(children, max_size=3) | st.dictionaries(st.sampled_from(
        ["before", "after", "cpu", "value", "quantity", "throttle", "at_ns", "busy_s", "own_s", "cpus", "steal_s"]
    ), children, max_size=4),
    max_leaves=12,
)  # fmt: skip
QUARTERS, NO_TIMES = (device.Durations(np.full(n, 250), 1e-3) for n in (4, 0))

names = ["memory", "condition_before", "condition_after", "reference_s", "reference_mhz", "sensors_after", "gate_ns"]
names += ["size", "mode", "settled", "device", "threads", "weights", "warmup_s", "warmup_batches"]


def test_runs_whose_facts_were_lost_do_not_change_what_the_others_say() -> None:
    told: dict[str, Any] = {"device": "cpu", "mode": {"dtype": "fp32"}}
    runs = [
        device.DeviceRun(k, 4, 1.0, 1.0, QUARTERS, NO_TIMES, ready, {}, ()) for k, ready in enumerate(({}, told, told))
    ]
    row = device.row_of("net", 1, runs, ["committed"] * 3)
    assert (row.device, row.dtype, row.mode) == ("cpu", "fp32", "default")


trees = st.dictionaries(st.sampled_from(names), json_trees)


@given(ready=trees, done=trees)
def test_facts_of_any_shape_are_read(ready: dict[str, Any], done: dict[str, Any]) -> None:
    flags.slow_references([done, quiet()])
    codes = flags.of_run(ready, done)
    assert set(codes) <= set(FLAGS)
    run = device.DeviceRun(0, 4, 1.0, 1.0, QUARTERS, NO_TIMES, ready, done, codes)
    row = device.row_of("net", 1, [run], ["committed"])
    columns = row.columns(0.25)
    assert len(columns) == len(device.COLUMNS)
    assert columns[:2] == ["0.25", "0"]
