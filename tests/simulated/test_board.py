"""The simulated board: a conversation in virtual time, lines that agree with the log, and the paper's stated facts."""

from __future__ import annotations

import math
from itertools import pairwise
from typing import Any

import numpy as np
import pytest

from experiments.networks import SETS, size
from instruments import dut_protocol, marker_frame
from instruments.dut_protocol import Conversation, Message, Mode
from instruments.simulated.board_models import MODELS, NetworkSize, Work
from instruments.simulated.dut import CLOCK_RATE, SimulatedBoard

PAPER = SETS["paper"]
BATCHES = (1, 2, 4, 8, 16, 32, 64)
GATE, BATCH, WORK = 1, 2, 4


class Bench:
    """The bench's end: asks, and lets time pass until there is an answer."""

    def __init__(self, kind: str = "tx1", seed: int = 1, now_s: float = 1000.0, step_s: float = math.inf) -> None:
        self.board = SimulatedBoard(kind, seed=seed, now_s=now_s)
        self.talk = Conversation("bench")
        self.now_s, self._step_s = now_s, step_s
        self.edges: list[tuple[int, int]] = []
        self.ask({"type": "hello", "version": dut_protocol.VERSION})

    def tell(self, message: Message) -> None:
        self.board.feed(self.talk.send(message), self.now_s)

    def answer(self) -> Message:
        while not (data := self.board.take()):
            assert self.board.next_s is not None, "the board will say nothing"
            self.now_s = min(self.board.next_s, self.now_s + self._step_s)
            self.board.advance(self.now_s)
            self.edges += self.board.take_edges()
        (message,) = self.talk.feed(data)
        return self.talk.accept(message)

    def ask(self, message: Message) -> Message:
        self.tell(message)
        return self.answer()

    def prepare(self, network: str, batch: int = 1, **changes: Any) -> Message:
        told = {"size": size(network)} if network in PAPER else {}
        request = {
            "type": "prepare", "network": network, "batch": batch, "run_s": 1.5, "max_batches": 10_000, "seed": 1,
            "threads": 0, "warmup_s": 1.0, "device": "auto", "mode": Mode().as_json(), "weights": "random",
        }  # fmt: skip
        return self.ask({**request, **told, **changes})

    def go(self, batches: int, limit_s: float = 10.0, **more: Any) -> Message:
        self.edges.clear()
        return self.ask({"type": "go", "run_id": "r", "batches": batches, "limit_s": limit_s, **more})


def work(kind: str, network: str, batch: int) -> Work:
    told = size(network)
    return MODELS[kind].work(network, NetworkSize(told["parameters"], told["operations"], told["activations"]), batch)


# --- the conversation ---------------------------------------------------------------------------------


def test_the_board_rests_after_a_run_before_it_tells_of_it() -> None:
    bench = Bench()
    bench.prepare("ResNet-18", 4)
    told = bench.now_s
    assert bench.go(3)["quiet_s"] == 0
    usual_s = bench.now_s - told
    told = bench.now_s
    assert bench.go(3, quiet_after_s=0.3)["quiet_s"] == 0.3
    assert bench.now_s - told == pytest.approx(usual_s + 0.3, rel=0.02)
    assert bench.go(3, quiet_after_s=-1.0)["type"] == "refused"


def test_lines_stamps_and_clock_tell_the_same_run() -> None:
    bench = Bench()
    ready = bench.prepare("ResNet-18", 4)
    assert ready["batches"] * ready["batch_time_s"] == pytest.approx(1.5, rel=0.1)
    assert ready["settled"]
    done = bench.go(ready["batches"])
    assert done["batches"] == ready["batches"]
    gate = [
        t for k, (t, lines) in enumerate(bench.edges) if bool(lines & GATE) != bool(k and bench.edges[k - 1][1] & GATE)
    ]
    toggles = [t for (_, a), (t, b) in pairwise(bench.edges) if (a ^ b) & BATCH]
    assert len(gate) == 2
    assert len(toggles) == done["batches"]
    offset_ns = done["gate_ns"][0] - CLOCK_RATE * gate[0]
    for stamp, edge in zip([*done["gate_ns"][1:3], *done["batch_ns"]], [*gate, *toggles], strict=True):
        assert stamp - offset_ns - CLOCK_RATE * edge == pytest.approx(0, abs=2000)
    times_s = np.diff([done["gate_ns"][1], *done["batch_ns"]]) * 1e-9
    assert np.median(times_s) == pytest.approx(ready["batch_time_s"], rel=0.02)
    assert 0.002 < np.std(times_s) / np.mean(times_s) < 0.05
    assert not bench.edges[-1][1] & (GATE | WORK)


def test_its_clock_is_fifty_millionths_off() -> None:
    bench = Bench()
    first = bench.ask({"type": "clock", "n": 0})["t_ns"], bench.now_s
    bench.now_s += 1000.0
    second = bench.ask({"type": "clock", "n": 1})["t_ns"], bench.now_s
    rate = (second[0] - first[0]) * 1e-9 / (second[1] - first[1])
    assert rate - 1 == pytest.approx(50e-6, rel=0.02)


def test_what_it_says_depends_on_seed_and_time_alone() -> None:
    def told(**bench: Any) -> tuple[Message, Message, list[tuple[int, int]]]:
        b = Bench(**bench)
        ready = b.prepare("GoogLeNet", 2)
        return ready, b.go(ready["batches"]), b.edges

    assert told() == told(step_s=0.0137)
    assert told()[0] != told(seed=2)[0]
    assert told()[1]["batch_ns"] != told(now_s=1001.0)[1]["batch_ns"]
    after_another = Bench(now_s=990.0)
    after_another.go(after_another.prepare("ENet")["batches"])
    after_another.now_s = 1000.0 + (Bench().now_s - 1000.0)
    assert after_another.prepare("GoogLeNet", 2) == told()[0]


def test_a_run_ends_before_its_limit() -> None:
    bench = Bench()
    bench.prepare("busy:100")
    done = bench.go(50, limit_s=0.95)
    assert 7 <= done["batches"] <= 9
    assert (done["gate_ns"][2] - done["gate_ns"][1]) * 1e-9 < 0.95


def test_it_tells_the_number_of_a_run_on_its_batch_line() -> None:
    bench = Bench()
    bench.prepare("busy:100")
    unit_s = 200e-6
    done = bench.go(3, frame={"number": 0xBEEF, "unit_s": unit_s, "tries": 3})
    assert done["frame"]["edges"] == marker_frame.EDGES
    rise = next(k for k, (_, lines) in enumerate(bench.edges) if lines & GATE)
    told = [t for t, _ in bench.edges[:rise]]
    assert [round(b - a) for a, b in pairwise(told)] == pytest.approx(
        [1e9 * unit_s * units for units in marker_frame.intervals(0xBEEF)], abs=2
    )


@pytest.mark.parametrize(
    ("network", "batch", "changes", "code"),
    [
        ("somebodys.module:net", 1, {}, "unknown_network"),
        ("busy:x", 1, {}, "unknown_network"),
        ("busy:5", 0, {}, "bad_request"),
        ("busy:5", 1, {"mode": Mode(dtype="fp16").as_json()}, "bad_request"),
        ("busy:5", 1, {"weights": "torchvision"}, "bad_request"),
        ("busy:5", 1, {"device": "cpu"}, "bad_request"),
        ("VGG-19", 64, {}, "out_of_memory"),
    ],
)
def test_what_it_refuses_it_says_and_lives_on(network: str, batch: int, changes: dict[str, Any], code: str) -> None:
    bench = Bench()
    refused = bench.prepare(network, batch, **changes)
    assert (refused["type"], refused["code"]) == ("refused", code)
    assert bench.prepare("busy:5")["type"] == "ready"
    assert bench.go(3)["type"] == "done"


def test_a_bench_that_leaves_in_a_run_leaves_the_lines_low() -> None:
    bench = Bench()
    bench.prepare("busy:50")
    bench.tell({"type": "go", "run_id": "r", "batches": 20, "limit_s": 10.0})
    bench.now_s += 0.3
    bench.board.advance(bench.now_s)
    assert bench.board.take_edges()[-1][1] & GATE
    bench.board.hang_up(bench.now_s)
    assert [lines for _, lines in bench.board.take_edges()] == [0]
    bench.board.advance(bench.now_s + 10)
    assert not bench.board.take_edges()
    assert not bench.board.take()


def test_a_goodbye_ends_everything_that_was_to_be_said() -> None:
    bench = Bench()
    bench.prepare("busy:50")
    bench.tell({"type": "go", "run_id": "r", "batches": 20, "limit_s": 10.0})
    assert not bench.board.feed(bench.talk.send({"type": "bye"}), bench.now_s + 0.3)
    bench.board.advance(bench.now_s + 20)
    assert not bench.board.take()
    assert bench.board.take_edges()[-1][1] == 0


def test_bytes_that_are_no_message_are_an_error_of_the_bench() -> None:
    bench = Bench()
    bench.board.feed(b"\x00rubbish" + dut_protocol.MAGIC, bench.now_s)
    assert bench.answer()["type"] == "error"


# --- the paper's board --------------------------------------------------------------------------------


def test_tx1_rests_and_works_at_the_papers_power() -> None:
    model = MODELS["tx1"]
    assert model.idle_w == 1.30
    by_network = [np.mean([work("tx1", n, b).net_power_w for b in BATCHES]) for n in PAPER]
    assert np.mean(by_network) == pytest.approx(11.8, abs=0.2)
    assert 0.05 < np.std(by_network, ddof=1) < 0.7
    for low, others in ((("AlexNet", 1), (4, 16, 64)), (("VGG-16", 2), (1, 4, 16)), (("VGG-19", 2), (1, 4, 16))):
        assert all(work("tx1", *low).net_power_w < work("tx1", low[0], b).net_power_w - 0.15 for b in others)


def test_tx1_needs_the_papers_times() -> None:
    for network in ("VGG-16", "VGG-19"):
        assert work("tx1", network, 16).batch_s / 16 == pytest.approx(0.2, rel=0.2)
    speed_up = work("tx1", "AlexNet", 1).batch_s / (work("tx1", "AlexNet", 64).batch_s / 64)
    assert speed_up == pytest.approx(3.0, abs=0.3)
    operations = [size(n)["operations"] for n in PAPER]
    for batch in (1, 16):
        image_s = [work("tx1", n, batch).batch_s / batch for n in PAPER]
        assert np.corrcoef(operations, image_s)[0, 1] ** 2 > 0.97


def test_tx1_takes_the_papers_memory() -> None:
    megabytes = {n: 4e-6 * size(n)["parameters"] for n in PAPER}
    taken = {n: work("tx1", n, 1).memory_bytes * 1e-6 for n in PAPER}
    assert {round(taken[n]) for n in PAPER if megabytes[n] < 100} == {200}
    large = [n for n in PAPER if megabytes[n] > 100 and taken[n] > 201]
    slope, _ = np.polyfit([megabytes[n] for n in large], [taken[n] for n in large], 1)
    assert slope == pytest.approx(1.30, rel=0.02)
    limit = MODELS["tx1"].memory_bytes
    fits = {b: [n for n in PAPER if work("tx1", n, b).memory_bytes <= limit] for b in BATCHES}
    assert max(b for b in BATCHES if len(fits[b]) == len(PAPER)) == 16
    assert 0 < len(fits[64]) < len(fits[32]) < len(PAPER)
    assert work("tx1", "VGG-16", 32).memory_bytes == pytest.approx(2 * work("tx1", "VGG-16", 16).memory_bytes)


def test_a_run_tells_the_memory_that_it_took() -> None:
    bench = Bench()
    bench.prepare("AlexNet", 2)
    taken = bench.go(3)["memory"]["system_used_net"]
    assert taken == pytest.approx(work("tx1", "AlexNet", 2).memory_bytes, rel=0.03)
    bench.prepare("busy:5")
    assert "memory" not in bench.go(3)


def test_the_counter_example_obeys_none_of_it() -> None:
    works = {(n, b): work("counter", n, b) for n in PAPER for b in BATCHES}
    powers = np.array([[works[n, b].net_power_w for b in BATCHES] for n in PAPER])
    assert np.ptp(powers.mean(axis=1)) > 0.5 * powers.mean()
    assert np.ptp(powers.mean(axis=0)) > 0.3 * powers.mean()
    operations = [size(n)["operations"] for n in PAPER]
    image_s = [works[n, 1].batch_s for n in PAPER]
    assert np.corrcoef(operations, image_s)[0, 1] ** 2 < 0.1
    assert works["AlexNet", 1].batch_s == pytest.approx(works["AlexNet", 64].batch_s / 64)
    one, two, four = (works["BN-NIN", b].memory_bytes for b in (1, 2, 4))
    assert 0 < two - one == pytest.approx((four - two) / 2)
    assert all(w.memory_bytes <= MODELS["counter"].memory_bytes for w in works.values())
