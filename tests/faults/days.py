"""One short day at a bench that is hurt in its middle: a trace file, a zero, the fault, and what still works."""

from __future__ import annotations

import contextlib
import itertools
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

import experiments.station
from experiments.measure import Measured
from experiments.plan import make_plan
from experiments.station import Station
from experiments.traces import CaptureRow, TraceWriter
from instruments import bench_steps
from instruments import lab as lab_yaml
from instruments.bench import Bench, open_bench
from instruments.errors import BenchError
from instruments.fault_facts import FaultFacts
from instruments.interrupts import undisturbed
from instruments.link.ports import StreamPort
from instruments.link.prologix import PrologixPort
from instruments.marker_ring import RingWriter
from instruments.mso_x2024a import transfer

from .benches import WINDOW_S, FaultyBench

BATCHES, BATCH_S, BEFORE_S = 6, 0.002, 0.002
POINTS = 2000
SOURCES = ("CHAN1", "CHAN3", "POD1")


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Waits of a real bench that are longer than this one needs."""
    monkeypatch.setattr(bench_steps, "SETTLE_S", 0.01)
    monkeypatch.setattr(bench_steps, "POINTS", POINTS)
    monkeypatch.setattr(experiments.station, "POINTS", POINTS)


class Board:
    """Moves both lines through the ring, as the agent does, at times that are planned ahead."""

    def __init__(self, ring: Path) -> None:
        self._at_ns = 0
        self._ring = RingWriter(str(ring), clock_ns=lambda: self._at_ns)

    def runs(self, batches: int = BATCHES) -> None:
        """The gate rises in 2 ms, the batch line toggles after each batch, the gate falls."""
        states = [1, *itertools.islice(itertools.cycle((3, 1)), batches), 0]
        at_s = time.monotonic() + BEFORE_S
        for index, lines in enumerate(states):
            self._at_ns = int(1e9 * (at_s + min(index, batches) * BATCH_S + (1e-5 if index > batches else 0)))
            self._ring.put(lines)

    def close(self) -> None:
        """Let go of the ring."""
        self._ring.close()


@dataclass
class Day:
    """What a deed at the bench has at hand."""

    hurt: FaultyBench
    bench: Bench
    station: Station
    board: Board
    number: int = 0
    wait_s: float = 20.0
    """Until the end of a run is given up, and until its record is."""

    @contextlib.contextmanager
    def hurried(self, *, comes_back: bool) -> Iterator[None]:
        """For a deed at an instrument that says nothing: it is given up soon, and soon for good if it stays silent."""
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(self, "wait_s", 0.4)
            patch.setattr(transfer, "PREAMBLE_DEADLINE_S", 0.4)
            patch.setattr("instruments.e3645a.driver.MEASURE_DEADLINE_S", 0.4)
            for instrument in (self.bench.scope, self.bench.supply):
                patch.setattr(instrument.link, "timeout_s", 0.6)
            if not comes_back:
                patch.setattr(StreamPort, "recovery_s", 0.2)
                patch.setattr(PrologixPort, "recovery_s", 0.6)
            yield

    def run(self) -> Measured:
        """Capture one run of the board, store, check and commit it."""
        scope = self.bench.scope
        scope.arm()
        self.board.runs()
        scope.wait_done(self.wait_s)
        capture = scope.fetch(SOURCES, points=POINTS, deadline_s=self.wait_s)
        self.number += 1
        row = CaptureRow(
            "cell", 0, "busy:2", 1, 0, f"run {self.number}", window_asked_s=WINDOW_S, batches=BATCHES, images=BATCHES
        )
        return self.station.commit(row, capture, ())

    def two_runs(self) -> None:
        """One run after the other."""
        self.run()
        self.run()

    def late_run(self) -> None:
        """A run whose edges come when nobody waits any more."""
        try:
            self.run()
        finally:
            time.sleep(self.wait_s)

    def no_run(self) -> None:
        """Wait for a run that nobody begins."""
        self.bench.scope.arm()
        self.bench.scope.wait_done(self.wait_s)

    def current(self) -> float:
        """Ask the supply for its current."""
        return self.bench.supply.measure_current_a()

    def regulated(self) -> None:
        """Measure, and insist on the voltage that was set."""
        self.bench.supply.measure_current_a()
        time.sleep(0.02)
        self.bench.supply.wait_settled(0.1)

    def seen_off(self) -> None:
        """Switch the output off and ask whether it is."""
        self.bench.supply.output(False)

    def reconnect(self) -> None:
        """Open again what broke."""
        for instrument in (self.bench.scope, self.bench.supply):
            with contextlib.suppress(BenchError):
                instrument.link.query("*ESE?")
                continue
            instrument.link.reopen()

    def goes_on(self) -> bool:
        """Whether the next transactions with both instruments are right, without faults."""
        supply = self.bench.supply
        if supply.ovp_tripped():
            supply.set_ovp(self.bench.lab.supply.ovp_v)
            supply.clear_ovp()
        supply.set_current_limit(self.bench.lab.supply.current_limit_a)
        supply.output(True)
        supply.wait_settled(20.0)
        self.station.set_up_scope()
        measured = self.run()
        return measured.window is not None and abs(supply.measure_voltage_v() - 12.0) < 0.1


@contextlib.contextmanager
def day(hurt: FaultyBench, trace: Path, board: Board) -> Iterator[Day]:
    """Open the bench and a trace file, take the zero, feed the board."""
    plan = make_plan(["busy:2"], [1], 1, WINDOW_S, 1)
    with open_bench(hurt.lab, hurt.lab_path) as bench:
        texts: dict[str, Any] = {"lab_yaml": hurt.lab_path.read_text()}
        with TraceWriter.create(trace, plan, source=bench.source, texts=texts) as writer:
            station = Station(bench, writer, plan, lambda text: None)
            station.set_up_scope()
            station.feed_board()
            station.first_zero()
            station.switch_on()
            yield Day(hurt, bench, station, board)
            with undisturbed():
                writer.complete()


def faults(text: str) -> FaultFacts:
    """A script as a user writes it."""
    return lab_yaml.parse_faults(text)
