"""What the agent tells of memory and of other work, against what is known: in its own process, or from made files."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from experiments import dut_condition, dut_memory, flags
from instruments.dut import Done, Dut, Ready

ROOT = Path(__file__).resolve().parents[2]
MB = 1 << 20
TAKEN = 96 * MB

# A load that takes a known amount in every batch of two images or more, on a machine where nobody else takes any.
HUNGRY = f"""
import os, sys
from experiments import dut_agent, dut_host, dut_memory, dut_runner
class Hungry(dut_runner.BusyRunner):
    def run(self):
        block = bytearray({TAKEN}) if self.batch > 1 else b""
        for at in range(0, len(block), 4096):
            block[at] = 1
        super().run()
dut_runner.BusyRunner = Hungry
dut_host.available_bytes = lambda: (8 << 30) - dut_host.rss_bytes()
"""
START = "\nsys.exit(dut_agent.main([]))"


@contextmanager
def agent(code: str) -> Iterator[Dut]:
    with Dut.start([sys.executable, "-c", code + START], {"PYTHONPATH": str(ROOT)}) as dut:
        yield dut


def a_run(dut: Dut, network: str = "busy:5", batch: int = 1, *, batches: int = 3) -> tuple[Ready, Done]:
    ready = dut.prepare(network, batch, warmup_s=1.0)
    dut.go("r", batches)
    return ready, dut.wait_done(100)


# ---------------------------------------------------------------------------------------------- memory


@pytest.mark.parametrize("resets", [True, False])
def test_memory_is_what_a_batch_takes_and_is_forgotten_with_it(resets: bool) -> None:
    code = HUNGRY if resets else HUNGRY + "dut_host.reset_rss_peak = lambda: False\n"
    with agent(code) as dut:
        memory, context = [], []
        for batch in (1, 2, 1):
            _, done = a_run(dut, batch=batch)
            memory.append(done.facts["memory"])
            context.append(done.facts["memory_context"]["process_peak"])
    peaks = [found["process_peak_rss"] for found in memory]
    assert peaks[1] - peaks[0] == pytest.approx(TAKEN, abs=8 * MB)
    assert peaks[2] == pytest.approx(peaks[0], abs=8 * MB)
    assert memory[1]["system_used_net"] == pytest.approx(TAKEN, abs=8 * MB)
    assert memory[2].get("system_used_net", 0) < 8 * MB
    if not resets or not _can_reset():
        assert set(context) == {"polled during the first batch"}


def _can_reset() -> bool:
    code = "from experiments import dut_host; raise SystemExit(not dut_host.reset_rss_peak())"
    return subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=False).returncode == 0


def test_other_networks_that_are_kept_do_not_count() -> None:
    pytest.importorskip("torch")
    with agent(HUNGRY) as dut:
        _, first = a_run(dut, "AlexNet", 1, batches=2)
        _, alone = a_run(dut, batches=2)
        _, again = a_run(dut, "AlexNet", 1, batches=2)
    weights = 4 * 60_965_224
    assert first.facts["memory"]["process_peak_rss"] > weights
    assert alone.facts["memory_context"]["other_networks_bytes"] == weights
    for done in (first, again):
        assert weights < done.facts["memory"]["system_used_net"] < 2 * weights
    assert alone.facts["memory"].get("system_used_net", 0) < 0.2 * weights
    difference = first.facts["memory"]["process_peak_rss"] - alone.facts["memory"]["process_peak_rss"]
    assert weights <= difference < 2 * weights


class Gpu:
    """An allocator in the manner of torch.cuda: what is given back stays reserved until the cache is emptied."""

    def __init__(self) -> None:
        self.allocated = self.peak = self.reserved = 0

    def take(self, amount: int) -> None:
        self.allocated += amount
        self.peak = max(self.peak, self.allocated)
        self.reserved = max(self.reserved, self.allocated)

    def give(self, amount: int) -> None:
        self.allocated -= amount

    def is_available(self) -> bool:
        return True

    def empty_cache(self) -> None:
        self.reserved = self.allocated

    def memory_allocated(self) -> int:
        return self.allocated

    def max_memory_allocated(self) -> int:
        return self.peak

    def reset_peak_memory_stats(self) -> None:
        self.peak = self.allocated

    def max_memory_reserved(self) -> int:
        return self.reserved

    def mem_get_info(self) -> tuple[int, int]:
        return 1000 * MB - self.reserved - 300 * MB, 1000 * MB


@pytest.mark.parametrize("own_was_kept", [False, True])
@pytest.mark.parametrize("other_goes", [False, True])
@pytest.mark.parametrize("captured", [False, True])
def test_a_gpus_memory_is_that_of_the_network_alone(own_was_kept: bool, other_goes: bool, captured: bool) -> None:
    gpu, own, other, batch = Gpu(), 50 * MB, 100 * MB, 30 * MB
    gpu.take(12 * MB)  # the reference work's
    gpu.take(other)
    gpu.take(own if own_was_kept else 0)
    gpu.take(200 * MB)
    gpu.give(200 * MB)  # an earlier batch of another network
    watch = dut_memory.MemoryWatch("cuda", SimpleNamespace(cuda=gpu), other + (own if own_was_kept else 0))
    gpu.give(other if other_goes else 0)
    gpu.take(0 if own_was_kept else 3 * own)
    gpu.give(0 if own_was_kept else 2 * own)  # loading takes more than what is loaded
    if captured:
        gpu.reset_peak_memory_stats()
        gpu.take(batch)
        gpu.give(batch)
    watch.loaded(own + (0 if other_goes else other), own, captured)
    if not captured:
        gpu.take(batch)
        gpu.give(batch)
    memory = watch.note()
    assert memory["allocator_peak"] == own + batch
    assert memory["allocator_reserved"] == gpu.reserved
    assert memory["device_used"] == 300 * MB + gpu.reserved


def test_what_cannot_be_read_is_absent() -> None:
    blind = (
        "import sys\nfrom experiments import dut_agent, dut_condition, dut_host\n"
        "dut_host.read_text = dut_condition.read_text = lambda path: None\n"
    )
    with agent(blind) as dut:
        _, done = a_run(dut)
    assert done.facts["memory"] == {}
    for side in ("condition_before", "condition_after"):
        assert set(done.facts[side]) == {"at_ns", "own_s"}
    assert flags.of_run({"settled": True}, {**done.facts, "reference_s": {}}) == ()


# ------------------------------------------------------------------------------------------- other work


def test_a_competing_load_is_seen() -> None:
    """Endless loops on every processor, in sessions of their own, since some schedulers are fair among sessions."""
    with agent("import sys\nfrom experiments import dut_agent\n") as dut:
        loop = [sys.executable, "-c", "while True: pass"]
        spinners = [subprocess.Popen(loop, start_new_session=True) for _ in range(2 * (os.cpu_count() or 1))]
        try:
            ready, done = a_run(dut, batches=200)
        finally:
            for spinner in spinners:
                spinner.kill()
                spinner.wait()
    assert flags.shares(done.facts)["others"] > 0.5
    assert "busy-host" in flags.of_run(ready.facts, done.facts)


def test_a_warm_up_that_does_not_settle_is_told() -> None:
    with agent("import sys\nfrom experiments import dut_agent\n") as dut:
        ready = dut.prepare("busy:40", 1, warmup_s=0.1)
        assert flags.of_run(ready.facts, {}) == ("warmup-unsettled",)
        ready = dut.prepare("busy:10", 1, warmup_s=10)
    assert ready.settled
    assert len(ready.facts["warmup_batch_s"]) >= 3
    assert all(seconds >= 0.01 for seconds in ready.facts["warmup_batch_s"])


def test_the_reference_work_is_done_before_and_after() -> None:
    with agent("import sys\nfrom experiments import dut_agent\n") as dut:
        _, done = a_run(dut)
    (sides,) = done.facts["reference_s"].values()
    assert len(sides["before"]) == len(sides["after"]) == 5
    assert all(seconds > 0 for times in sides.values() for seconds in times)
    assert flags.slow_references([done.facts]) == [False]


# ---------------------------------------------------------------------------------------- made machines


def _machine(root: Path, files: dict[str, str]) -> str:
    for name, text in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return str(root)


BOARD = {
    "proc/loadavg": "1.25 0.90 0.50 2/300 4711\n",
    "proc/stat": "cpu  1000 100 500 9000 50 30 20 70 0 0\ncpu0 1 2 3\ncpu1 1 2 3\ncpu2 1 2 3\nintr 4\n",
    "proc/vmstat": "nr_free_pages 5\noom_kill 3\n",
    "proc/meminfo": "MemTotal: 4000000 kB\nMemAvailable: 3000000 kB\n",
    "proc/self/task/10/schedstat": "900000000 2000000000 55\n",
    "proc/self/task/11/schedstat": "100000000 500000000 5\n",
    "proc/self/task/11/children": "77 ",
    "proc/77/stat": "77 (a b) c) S 1 1 1 0 -1 0 0 0 0 0 300 200 0 0 20 0 1 0 5 0 0\n",
    "proc/77/task/77/schedstat": "1 1000000000 1\n",
    "sys/devices/system/cpu/cpu0/cpufreq/scaling_governor": "schedutil\n",
    "sys/devices/system/cpu/cpu0/thermal_throttle/core_throttle_count": "4\n",
    "sys/devices/system/cpu/cpu1/thermal_throttle/core_throttle_count": "5\n",
    "sys/devices/platform/soc/soc:firmware/get_throttled": "50005\n",
    "sys/class/thermal/thermal_zone0/type": "CPU-therm\n",
    "sys/class/thermal/thermal_zone0/temp": "91500\n",
    "sys/class/thermal/thermal_zone0/trip_point_0_type": "active\n",
    "sys/class/thermal/thermal_zone0/trip_point_0_temp": "40000\n",
    "sys/class/thermal/thermal_zone0/trip_point_1_type": "critical\n",
    "sys/class/thermal/thermal_zone0/trip_point_1_temp": "101000\n",
    "sys/class/thermal/thermal_zone0/trip_point_2_type": "passive\n",
    "sys/class/thermal/thermal_zone0/trip_point_2_temp": "95500\n",
    "sys/class/thermal/thermal_zone1/type": "CPU-therm\n",
    "sys/class/thermal/thermal_zone1/temp": "30000\n",
    "sys/class/thermal/cooling_device0/type": "pwm-fan\n",
    "sys/class/thermal/cooling_device0/cur_state": "3\n",
    "sys/class/thermal/cooling_device1/type": "cpu-balanced\n",
    "sys/class/thermal/cooling_device1/cur_state": "2\n",
    "sys/class/thermal/cooling_device2/type": "intel_powerclamp\n",
    "sys/class/thermal/cooling_device2/cur_state": "-1\n",
}


def test_a_board_is_read_as_its_files_say(tmp_path: Path) -> None:
    clocks = {f"sys/devices/system/cpu/cpu{n}/cpufreq/scaling_cur_freq": "1734000\n" for n in os.sched_getaffinity(0)}
    told = dut_condition.condition(_machine(tmp_path, {**BOARD, **clocks}))
    per_s = os.sysconf("SC_CLK_TCK")
    assert told["busy_s"] == pytest.approx((1000 + 100 + 500 + 30 + 20) / per_s)
    assert told["steal_s"] == pytest.approx(70 / per_s)
    assert told["cpus"] == 3
    assert told["waited_s"] == pytest.approx(2.0 + 0.5 + 1.0)
    assert told["own_s"] >= 500 / per_s
    assert told["load1"] == 1.25
    assert told["oom_kills"] == 3
    assert told["available_bytes"] == 3_000_000 * 1024
    assert told["cpu_mhz"] == {"lowest": 1734, "mean": 1734, "highest": 1734}
    assert told["governor"] == "schedutil"
    assert told["temperature_c"] == {"CPU-therm": 91.5, "CPU-therm #2": 30.0}
    assert told["limit_c"] == {"CPU-therm": 95.5}
    assert told["throttle"] == {"core_throttle_count": 9, "cpu-balanced": 2, "firmware": 5}
    assert flags.of_run({}, {"condition_after": told}) == ("throttled", "hot")


def test_an_empty_machine_is_no_machine_at_rest(tmp_path: Path) -> None:
    told: dict[str, Any] = dut_condition.condition(str(tmp_path))
    assert set(told) == {"at_ns", "own_s"}
