"""What marker lines cost, and whether they disturb what they mark: method and limits in docs/board.md.

`python -m benchmarks.markers [--marker SPEC] [--network SPEC] [--json]`. First the cost of a pair of edges on each
line. Then the measured loop itself, with and without its markers, in blocks of A B B A, beside two comparisons whose
answer is known: A with A, and A with a loop whose marker waits 100 µs longer. Only where those come out right does the
first mean anything. Ends with 0 where they do and a pair costs less than 1 µs on the lines without a wire, else 1.
"""

from __future__ import annotations

import argparse
import array
import contextlib
import hashlib
import json
import random
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from experiments import dut_loop
from instruments.marker_line import MarkerError, MarkerLine, RingWriter, create_ring, open_line

PAIR_LIMIT_S = 1e-6
DELAY_S = 100e-6
TOLERANCE_S = 1e-6
"""What calls and clock readings of the comparisons themselves may cost."""

_ROUNDS, _PAIRS = 200, 500
_CAPACITY = 1 << 16

Action = Callable[[], object]


@dataclass(frozen=True)
class Cost:
    """Seconds of a pair of edges: the median of all rounds, and the quickest round."""

    line: str
    median_s: float
    least_s: float


@dataclass(frozen=True)
class Difference:
    """Seconds that a batch takes longer in B than in A: the median over quadruples A B B A, with its 95 % interval.

    The interval is that of the median's order statistics, which supposes nothing of how times scatter.
    """

    name: str
    median_s: float
    low_s: float
    high_s: float
    quadruples: int
    expected_s: float | None

    @property
    def good(self) -> bool:
        """Whether the interval holds the known answer, and no other: an injected delay must differ from none."""
        if self.expected_s is None:
            return True
        holds = self.low_s - TOLERANCE_S <= self.expected_s <= self.high_s + TOLERANCE_S
        return holds and (self.expected_s == 0 or self.low_s > 0)


def pair_cost(name: str, first: Action, second: Action) -> Cost:
    """Time pairs of edges, less the empty loop around them."""
    empty, rounds = [], []
    for _ in range(_ROUNDS):
        start = time.perf_counter_ns()
        for _ in range(_PAIRS):
            pass
        middle = time.perf_counter_ns()
        for _ in range(_PAIRS):
            first()
            second()
        empty.append(middle - start)
        rounds.append(time.perf_counter_ns() - middle)
    seconds = [(round_ns - min(empty)) * 1e-9 / _PAIRS for round_ns in rounds]
    return Cost(name, statistics.median(seconds), min(seconds))


def costs(specs: Sequence[str]) -> list[Cost]:
    """The cost on a simulated line, on the shared memory below it, and on each line that was named."""
    found = []
    with tempfile.TemporaryDirectory() as folder:
        for name in ("line", "memory"):
            create_ring(str(Path(folder, name)), _CAPACITY)
        with contextlib.closing(open_line(f"simulated:{folder}/line")) as line:
            found.append(pair_cost("simulated", line.batch, line.batch))
        with contextlib.closing(RingWriter(f"{folder}/memory")) as ring:
            found.append(pair_cost("shared memory", lambda: ring.put(1), lambda: ring.put(0)))
    for spec in specs:
        with contextlib.closing(open_line(spec)) as line:
            found.append(pair_cost(spec, line.batch, line.batch))
    return found


def block_s(run: Callable[[], None], gate: Callable[[bool], None], toggle: Callable[[], None], batches: int) -> float:
    """Seconds of one batch in one run of the measured loop."""
    gate_ns, ran = dut_loop.run_measured(run, gate, toggle, array.array("q", bytes(8 * batches)), 60.0)
    return (gate_ns[2] - gate_ns[1]) * 1e-9 / ran


def compare(
    run: Callable[[], None], line: MarkerLine, batches: int, quadruples: int, seed: int = 1
) -> list[Difference]:
    """Compare loops in quadruples A B B A, those of all comparisons mixed so that drift meets them alike."""

    def no_gate(level: bool) -> None:
        pass

    def nothing() -> None:
        pass

    def late() -> None:
        until = time.perf_counter_ns() + int(DELAY_S * 1e9)
        while time.perf_counter_ns() < until:
            pass

    loops: dict[str, tuple[Callable[[bool], None], Callable[[], None]]]
    loops = {"A with A": (no_gate, nothing), "markers": (line.gate, line.batch), "100 µs": (no_gate, late)}
    expected = {"A with A": 0.0, "markers": None, "100 µs": DELAY_S}
    found: dict[str, list[float]] = {name: [] for name in loops}
    order = random.Random(seed)
    for _ in range(quadruples):
        for name in order.sample(list(loops), len(loops)):
            first, second = (no_gate, nothing), loops[name]
            times = [block_s(run, *pair, batches) for pair in (first, second, second, first)]
            found[name].append((times[1] + times[2] - times[0] - times[3]) / 2)
    return [_median(name, values, expected[name]) for name, values in found.items()]


def _median(name: str, values: list[float], expected_s: float | None) -> Difference:
    from scipy.stats import quantile_test

    interval = quantile_test(values, p=0.5).confidence_interval(0.95)
    return Difference(
        name, statistics.median(values), float(interval.low), float(interval.high), len(values), expected_s
    )


@contextlib.contextmanager
def load(network: str | None, batch: int) -> Iterator[Callable[[], None]]:
    """What runs in each batch: a fixed amount of hashing, or a network as the board's program runs it."""
    if network is None:
        data = bytes(1 << 18)
        yield lambda: _hash(data)
        return
    from experiments import dut_runner

    order = dut_runner.Order(dut_runner.spec_of(network), batch, 0, 0, "auto", dut_runner.DEFAULT_MODE, "random")
    workshop = dut_runner.Workshop()
    runner = workshop.make(order, workshop.device(order))
    try:
        with runner.session():
            yield runner.run
    finally:
        runner.close()


def _hash(data: bytes) -> None:
    hashlib.sha256(data).digest()


def main(arguments: list[str] | None = None) -> int:
    """Measure and print; 0 or 1 as the module's text says, 2 for what cannot be had."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.markers", description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--marker", metavar="SPEC", help="a line of this machine, as `dut.marker` names it")
    parser.add_argument("--network", metavar="SPEC", help="what runs in a batch (default: hashing of 256 KiB)")
    parser.add_argument("--batch", type=int, default=1, help="images in a batch of the network (default: 1)")
    parser.add_argument("--batches", type=int, default=50, help="batches in a block (default: 50)")
    parser.add_argument(
        "--quadruples", type=int, default=40, help="quadruples A B B A of each comparison (default: 40)"
    )
    parser.add_argument("--json", action="store_true", help="one JSON object instead of a table")
    options = parser.parse_args(arguments)
    if options.batches < 1 or options.quadruples < 6 or options.batch < 1:
        parser.error("--batch and --batches begin at 1, --quadruples at 6")
    from experiments.networks.errors import RefusedError

    try:
        return _measure(options)
    except (MarkerError, RefusedError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2


def _measure(options: argparse.Namespace) -> int:
    pairs = costs([options.marker] if options.marker else [])
    with tempfile.TemporaryDirectory() as folder, load(options.network, options.batch) as run:
        create_ring(f"{folder}/ring", _CAPACITY)
        run()
        with contextlib.closing(open_line(options.marker or f"simulated:{folder}/ring")) as line:
            batch_s = statistics.median(block_s(run, lambda _: None, lambda: None, options.batches) for _ in range(5))
            differences = compare(run, line, options.batches, options.quadruples)
    good = all(pair.least_s < PAIR_LIMIT_S for pair in pairs[:2]) and all(d.good for d in differences)
    share = (pairs[2] if options.marker else pairs[0]).median_s / 2 / batch_s
    if options.json:
        found = {
            "pairs": [asdict(pair) for pair in pairs],
            "batch_s": batch_s,
            "differences": [asdict(difference) for difference in differences],
            "bound_relative": share,
            "good": good,
        }
        print(json.dumps(found, indent=2))
        return 0 if good else 1
    for pair in pairs:
        print(f"{pair.line:20s} {pair.median_s * 1e6:8.3f} µs a pair, quickest {pair.least_s * 1e6:.3f} µs")
    print(f"a batch of {options.network or 'hashing'} takes {batch_s * 1e3:.4g} ms; B - A of a batch:")
    for d in differences:
        known = "" if d.expected_s is None else f", {d.expected_s * 1e6:g} expected" + ("" if d.good else ": NOT MET")
        interval = f"{d.low_s * 1e6:+.3f} to {d.high_s * 1e6:+.3f}"
        print(f"{d.name:20s} {d.median_s * 1e6:+8.3f} µs [{interval}] of {d.quadruples} quadruples{known}")
    print(f"bound from the cost of one edge a batch: {share:.2g} of its time")
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
