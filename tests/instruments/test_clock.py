"""The bench's two clocks: this computer's, and that of a served world that stands still until it is moved."""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from experiments.networks import size
from instruments import lab as lab_yaml
from instruments.bench import Bench, open_bench
from instruments.clock import VirtualClock, WallClock
from instruments.errors import BenchError, ConfigError, DutError
from instruments.simulated.station import Station
from instruments.simulated_bench import SimulatedBench
from instruments.waveform import Capture
from tests.faults.benches import set_up
from tests.worlds import LAB

TX1 = LAB.parent / "docs" / "benches" / "simulated-tx1.yaml"


@dataclass
class Served:
    """A bench in virtual time, served by this process, and the clock that moves it."""

    station: Station
    clock: VirtualClock


@pytest.fixture
def served(tmp_path: Path) -> Iterator[Served]:
    station = Station(lab_yaml.load(TX1), state_dir=tmp_path, seed=3)
    with station, contextlib.closing(SimulatedBench(tmp_path, None, {}).clock()) as clock:
        yield Served(station, clock)


def test_this_computers_clock_waits() -> None:
    clock = WallClock()
    read, write = os.pipe()
    began_s = clock.monotonic()
    assert not clock.wait_readable(read, 0.02)
    clock.sleep(0.02)
    clock.sleep(-1.0)
    assert 0.04 <= clock.monotonic() - began_s < 5
    os.write(write, b"x")
    assert clock.wait_readable(read, 5.0)
    assert abs(clock.time() - time.time()) < 1
    for descriptor in (read, write):
        os.close(descriptor)


def test_a_virtual_hour_is_over_at_once(served: Served) -> None:
    clock = served.clock
    began_s, wall_s = clock.monotonic(), time.monotonic()
    clock.sleep(3600.0)
    assert clock.monotonic() == began_s + 3600.0
    clock.move_to(began_s + 7200.5)
    clock.move_to(began_s)
    clock.sleep(-1.0)
    assert clock.monotonic() == began_s + 7200.5
    assert time.monotonic() - wall_s < 5
    assert abs(clock.time() - time.time()) < 60


def test_waiting_for_what_never_comes_takes_its_time(served: Served) -> None:
    read, write = os.pipe()
    began_s = served.clock.monotonic()
    assert not served.clock.wait_readable(read, 12.5)
    assert served.clock.monotonic() == began_s + 12.5
    for descriptor in (read, write):
        os.close(descriptor)


def test_a_clock_whose_world_has_gone_says_so(tmp_path: Path) -> None:
    with Station(lab_yaml.load(TX1), state_dir=tmp_path) as station:
        clock = SimulatedBench(tmp_path, None, {}).clock()
        clock.sleep(1.0)
        now_s = clock.monotonic()
        station.stop()
    with pytest.raises(BenchError, match="does not answer about its time"):
        clock.sleep(1.0)
    assert clock.monotonic() >= now_s
    clock.close()


def test_a_bench_in_the_computers_time_has_no_virtual_clock(tmp_path: Path) -> None:
    with Station(lab_yaml.load(LAB), state_dir=tmp_path):
        with pytest.raises(ConfigError, match="no simulated bench in virtual time"):
            SimulatedBench(tmp_path, None, {}).clock()
        (tmp_path / "now.f64").write_bytes(bytes(8))
        with (
            contextlib.closing(SimulatedBench(tmp_path, None, {}).clock()) as clock,
            pytest.raises(BenchError, match="in the computer's own time"),
        ):
            clock.sleep(1.0)


# --- a whole bench in virtual time ---------------------------------------------------------------------


def one_run(bench: Bench, network: str) -> Capture:
    """Prepare, arm, go and fetch, as a cell does."""
    dut = bench.start_dut()
    dut.prepare(network, 1, run_s=0.01, warmup_s=0.5, size=size(network))
    bench.clock.sleep(0.3)
    bench.scope.arm()
    dut.go("run", 1)
    bench.scope.wait_done(5.0)
    found = bench.scope.fetch(["CHAN1", "CHAN3", "POD1"], points=1000)
    assert dut.wait_done(5.0).batches == 1
    return found


@contextlib.contextmanager
def fed_bench() -> Iterator[Bench]:
    """The shipped bench in virtual time with its output on."""
    with open_bench(lab_yaml.load(TX1), TX1, seed=5) as bench:
        set_up(bench.scope)
        bench.scope.configure_timebase(0.05)
        facts, supply = bench.lab.supply, bench.supply
        supply.set_ovp(facts.ovp_v)
        supply.set_current_limit(facts.current_limit_a)
        supply.set_voltage(facts.voltage_v)
        supply.output(True)
        supply.wait_settled(5.0)
        bench.clock.sleep(1.0)
        yield bench


def test_a_world_moved_on_to_a_time_is_as_if_it_had_lived_until_then() -> None:
    """What a sweep that was cut short needs to go on with the same results."""
    with fed_bench() as bench:
        one_run(bench, "AlexNet")
        began_s = bench.clock.monotonic()
        lived = one_run(bench, "ENet")
        ended_s = bench.clock.monotonic()
    with fed_bench() as bench:
        assert isinstance(bench.clock, VirtualClock)
        bench.start_dut()
        bench.clock.move_to(began_s)
        moved = one_run(bench, "ENet")
        assert bench.clock.monotonic() == ended_s
    assert moved.records == lived.records


def test_a_slow_answer_moves_the_clock_and_a_quick_one_does_not() -> None:
    with fed_bench() as bench:
        before_s = bench.clock.monotonic()
        bench.scope.state()
        assert bench.clock.monotonic() == before_s
        bench.supply.measure_voltage_v()
        assert 0.04 < bench.clock.monotonic() - before_s < 0.3
        bound = bench.start_dut().clock_bound()
        assert 0 < bound.bound_s < 1e-3


def test_a_trigger_that_never_comes_is_noticed() -> None:
    with fed_bench() as bench:
        bench.scope.arm()
        with pytest.raises(BenchError, match="no trigger within 2 s"):
            bench.scope.wait_done(2.0)


def test_a_board_that_says_nothing_in_time_is_given_up_and_found_again() -> None:
    with fed_bench() as bench:
        dut = bench.start_dut()
        with pytest.raises(DutError, match=r"within 0\.1 s"):
            dut.prepare("busy:50", 1, warmup_s=0.5, deadline_s=0.1)
        assert not dut.alive
        assert bench.start_dut() is not dut
        assert bench.start_dut().prepare("busy:50", 1, warmup_s=0.5).batches > 0
