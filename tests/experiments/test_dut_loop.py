"""The warm-up and the measured loop in virtual time, and the cache of loaded networks."""

from __future__ import annotations

import array
import gc
import sys
from collections.abc import Callable, Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from experiments import dut_host, dut_loop, networks
from experiments.dut_runner import Order, RefusedError, Runner, Workshop, is_out_of_memory
from experiments.networks import specs
from instruments.dut_protocol import Mode


class Clock:
    """Time that passes only while a batch runs."""

    def __init__(self, batch_s: Callable[[int], float]) -> None:
        self.now_ns, self.batches, self._batch_s = 0, 0, batch_s

    def run(self) -> None:
        self.now_ns += int(self._batch_s(self.batches) * 1e9)
        self.batches += 1

    def read_ns(self) -> int:
        return self.now_ns

    def warm_up(self, limit_s: float) -> dict[str, float]:
        return dut_loop.warm_up(self.run, limit_s, self.read_ns)


@pytest.mark.parametrize("batch_s", [20e-6, 1e-3, 0.03, 0.1, 0.24, 0.5, 7.0])
def test_steady_batches_settle_soon(batch_s: float) -> None:
    warm = Clock(lambda index: batch_s * (1.4 if index == 0 else 1.0)).warm_up(60)
    assert warm["settled"]
    assert warm["batch_time_s"] == pytest.approx(batch_s)
    assert warm["first_batch_s"] == pytest.approx(1.4 * batch_s)
    assert warm["warmup_s"] <= max(0.35, 4.4 * batch_s)
    assert warm["warmup_batch_s"] == pytest.approx([batch_s] * len(warm["warmup_batch_s"]))
    assert 2 <= len(warm["warmup_batch_s"]) <= 64


def test_batches_that_quicken_are_waited_for() -> None:
    warm = Clock(lambda index: 0.01 * (1 + 2 * 0.97**index)).warm_up(60)
    assert warm["settled"]
    assert warm["warmup_batches"] > 60
    assert warm["batch_time_s"] == pytest.approx(0.01, rel=0.1)


def test_what_runs_the_first_batch_runs_it_alone() -> None:
    clock, first = Clock(lambda index: 0.1), []
    dut_loop.warm_up(clock.run, 60, clock.read_ns, first=lambda: first.append(clock.batches) or clock.run())
    assert first == [0]


def test_times_that_never_hold_still_are_told_as_they_are() -> None:
    warm = Clock(lambda index: 0.05 * 1.2**index).warm_up(10)
    assert not warm["settled"]
    assert warm["warmup_batch_s"] == pytest.approx([0.05 * 1.2**k for k in range(1, warm["warmup_batches"])])


def test_long_batches_get_the_three_that_they_need() -> None:
    warm = Clock(lambda index: 4.0 if index else 5.0).warm_up(5.0)
    assert warm["settled"]
    assert (warm["warmup_batches"], warm["warmup_s"]) == (3, pytest.approx(13.0))
    assert Clock(lambda index: 8.0).warm_up(5.0)["warmup_batches"] == 1


@given(batch_s=st.floats(1e-5, 3), limit_s=st.floats(0, 3), drift=st.floats(0.8, 1.2))
def test_the_limit_is_kept_but_for_the_first_batch(batch_s: float, limit_s: float, drift: float) -> None:
    clock = Clock(lambda index: max(1e-5, min(3.0, batch_s * drift ** min(index, 20))))
    warm = clock.warm_up(limit_s)
    assert warm["warmup_batches"] == clock.batches >= 1
    longest = 3.0 if drift > 1 else batch_s
    assert clock.batches == 1 or warm["warmup_s"] <= (limit_s if clock.batches > 3 else 3 * limit_s) + longest
    assert warm["batch_time_s"] > 0


@pytest.mark.parametrize(
    ("run_s", "batch_s", "most", "batches"), [(1.5, 0.1, 100, 15), (1.5, 2.0, 100, 1), (1.5, 1e-6, 100, 100)]
)
def test_batches_that_fit(run_s: float, batch_s: float, most: int, batches: int) -> None:
    assert dut_loop.batches_for(run_s, batch_s, most) == batches


class Lines:
    """Writes down what happens to the lines, and whether collection was off."""

    def __init__(self) -> None:
        self.events: list[str] = []

    def gate(self, level: bool) -> None:
        self.events.append(f"gate {level}")
        assert not gc.isenabled()

    def batch(self) -> None:
        self.events.append("batch")


def test_the_loop_stamps_each_end_and_then_toggles() -> None:
    clock, lines, log = Clock(lambda index: 0.25), Lines(), array.array("q", [0] * 4)
    gate_ns, ran = dut_loop.run_measured(clock.run, lines.gate, lines.batch, log, 10, clock.read_ns)
    assert lines.events == ["gate True", "batch", "batch", "batch", "batch", "gate False"]
    assert log.tolist() == [250_000_000, 500_000_000, 750_000_000, 1_000_000_000]
    assert (gate_ns, ran) == ([0, 0, 10**9, 10**9], 4)
    assert gc.isenabled()


def test_the_loop_ends_at_its_limit() -> None:
    clock, lines, log = Clock(lambda index: 1.0), Lines(), array.array("q", [0] * 100)
    _, ran = dut_loop.run_measured(clock.run, lines.gate, lines.batch, log, 4.5, clock.read_ns)
    assert ran == 4
    assert lines.events[-1] == "gate False"


def test_the_gate_falls_when_a_batch_fails() -> None:
    lines = Lines()

    def fail() -> None:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        dut_loop.run_measured(fail, lines.gate, lines.batch, array.array("q", [0]), 1)
    assert lines.events == ["gate True", "gate False"]
    assert gc.isenabled()


# --------------------------------------------------------------------------------------- the networks kept


class _Loads:
    """Counts how often a network is built."""

    def __init__(self) -> None:
        self.names: list[str] = []

    def build(self, name: str) -> object:
        torch = pytest.importorskip("torch")
        self.names.append(name)
        return torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(3 * networks.get(name).input_px ** 2, 1))


@pytest.fixture
def loads(monkeypatch: pytest.MonkeyPatch) -> Iterator[_Loads]:
    torch = pytest.importorskip("torch")
    threads = torch.get_num_threads()
    loads = _Loads()
    monkeypatch.setattr(networks, "build", loads.build)
    yield loads
    torch.set_num_threads(threads)


def _make(workshop: Workshop, name: str, batch: int = 1, seed: int = 0) -> Runner:
    """Have a network made ready on the processor."""
    return workshop.make(Order(specs.parse(name), batch, seed, 1, "cpu", Mode(), "random"), "cpu")


def test_the_least_recently_used_network_goes_first(loads: _Loads) -> None:
    workshop = Workshop(cache_bytes=2 * 4 * (3 * 227**2 + 1))
    for name in ("AlexNet", "ENet", "alexnet", "VGG-16", "AlexNet", "ENet"):
        _make(workshop, name)
    assert loads.names == ["AlexNet", "ENet", "VGG-16", "ENet"]
    workshop.forget()
    assert workshop.cached_bytes() == 0


def test_another_seed_is_another_network(loads: _Loads) -> None:
    workshop = Workshop()
    for batch, seed in ((1, 0), (1, 1), (8, 0)):
        runner = _make(workshop, "ENet", batch, seed)
        assert runner.weights_bytes == 4 * (3 * 224**2 + 1)
    assert loads.names == ["ENet", "ENet"]
    assert workshop.cached_bytes() == 2 * runner.weights_bytes


def test_inputs_follow_the_seed(loads: _Loads) -> None:
    runners = [_make(Workshop(), "ENet", 2, seed) for seed in (5, 5, 6)]
    for runner in runners:
        with runner.session():
            runner.run()
    same, again, other = (runner._output for runner in runners)  # type: ignore[attr-defined]
    assert same.tolist() == again.tolist() != other.tolist()


def test_numbers_that_are_not_finite_are_refused(loads: _Loads) -> None:
    runner = _make(Workshop(), "ENet")
    runner._input.fill_(float("nan"))  # type: ignore[attr-defined]
    runner.run()
    with pytest.raises(RefusedError, match="not finite"):
        runner.check_output()


def test_without_torch_the_refusal_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "torch", None)
    with pytest.raises(RefusedError, match="torch cannot be imported on the DUT"):
        Workshop().device(Order(specs.parse("AlexNet"), 1, 0, 1, "auto", Mode(), "random"))


def test_running_out_of_memory_is_known_by_its_words() -> None:
    assert is_out_of_memory(MemoryError())
    assert is_out_of_memory(RuntimeError("CUDA out of memory. Tried to allocate 2.00 GiB"))
    assert is_out_of_memory(RuntimeError("DefaultCPUAllocator: can't allocate memory"))
    assert not is_out_of_memory(RuntimeError("shapes do not match"))
    assert not is_out_of_memory(ValueError("out of memory"))


# ---------------------------------------------------------------------------------------- facts of the host


def test_facts_that_cannot_be_read_are_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dut_host, "read_text", lambda path: None)
    assert dut_host.rss_bytes() is None
    assert dut_host.identity()["cpu"] is None


def test_the_peak_is_reset_where_the_kernel_lets_us() -> None:
    block = bytearray(64 << 20)
    before = dut_host.rss_peak_bytes()
    del block
    if dut_host.reset_rss_peak():
        after = dut_host.rss_peak_bytes()
        assert before is not None
        assert after is not None
        assert after < before - (32 << 20)


def test_the_guard_turns_a_hopeless_allocation_into_an_error() -> None:
    with dut_host.memory_guard(), pytest.raises(MemoryError):
        bytearray(1 << 46)
    assert len(bytearray(1 << 20)) == 1 << 20


def test_a_rest_ends_when_it_was_asked_to_and_counts_only_where_it_began_in_time() -> None:
    now = [1_000_000]

    def sleep(seconds: float) -> None:
        now[0] += int(seconds * 0.6e9) + 1  # wakes early, as a signal makes it

    assert dut_loop.rest(0, 0.2, lambda: now[0], sleep) == 0.2
    assert now[0] == pytest.approx(200_000_000, abs=1000)
    assert dut_loop.rest(0, 0.5, lambda: now[0], sleep) == 0  # 0.2 s after the fall it begins to rest
    assert now[0] < 201_000_000
