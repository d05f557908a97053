"""The board's sensors read from a made-up /sys, a made-up NVML and nvpmodel: absent ones are absent, never 0."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from experiments import dut_sensors, report_device
from experiments.device import DeviceRow, DeviceRun, Durations
from experiments.dut_sensors import Nvml, cross_check


def no_library() -> Any:
    raise OSError("libnvidia-ml.so.1: cannot open shared object file")


NO_GPU = Nvml(no_library)


def plant(root: Path, files: dict[str, str]) -> None:
    """Make files below a root that stands for /."""
    for name, text in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text + "\n")


def read(root: Path, now_s: float = 5.0, **more: Any) -> dict[str, tuple[Any, str]]:
    """Value and unit of each sensor."""
    found = dut_sensors.read(str(root), more.pop("nvml", NO_GPU), clock=lambda: now_s, **more)
    json.dumps(found, allow_nan=False)
    assert all({"quantity", "value", "unit", "source"} <= set(entry) for entry in found.values())
    return {name: (entry["value"], entry["unit"]) for name, entry in found.items()}


def test_a_machine_without_sensors_has_the_time_alone(tmp_path: Path) -> None:
    assert read(tmp_path) == {"time": (5.0, "s")}
    assert dut_sensors.read()["time"]["value"] > 0  # whatever this machine has, reading it fails nothing


def test_the_rails_of_a_tx1_under_l4t(tmp_path: Path) -> None:
    chip = "sys/bus/i2c/drivers/ina3221x/1-0040/iio:device0/"
    files = {
        "rail_name_0": "VDD_IN",
        "in_voltage0_input": "19072",
        "in_current0_input": "168",
        "in_power0_input": "3204",
    }
    files |= {"rail_name_1": "VDD_GPU", "in_voltage1_input": "19056", "in_power1_input": "not ready"}
    plant(tmp_path, {chip + name: text for name, text in files.items()})
    assert read(tmp_path) == {
        "time": (5.0, "s"),
        "VDD_IN voltage": (19.072, "V"),
        "VDD_IN current": (0.168, "A"),
        "VDD_IN power": (3.204, "W"),
        "VDD_GPU voltage": (19.056, "V"),
    }


def test_the_rails_of_an_ina3221_in_hwmon(tmp_path: Path) -> None:
    chip = "sys/class/hwmon/hwmon3/"
    files = {"name": "ina3221", "in1_label": "VDD_IN", "in1_input": "5000", "curr1_input": "420"}
    files |= {"in2_input": "5010", "curr2_input": "0", "in4_input": "840", "curr4_input": "420", "in5_input": "1"}
    plant(tmp_path, {chip + name: text for name, text in files.items() if name != "in4_input"})
    assert read(tmp_path) == {
        "time": (5.0, "s"),
        "VDD_IN voltage": (5.0, "V"),
        "VDD_IN current": (0.42, "A"),
        "VDD_IN power": (2.1, "W"),
        "ina3221 in2 voltage": (5.01, "V"),
        "ina3221 in2 current": (0.0, "A"),  # read as 0, and so said
        "ina3221 in2 power": (0.0, "W"),
    }


def test_a_gpu_in_hwmon_tells_power_and_temperature_and_a_mainboard_neither(tmp_path: Path) -> None:
    card, board = "sys/class/hwmon/hwmon0/", "sys/class/hwmon/hwmon1/"
    plant(tmp_path, {card + "name": "amdgpu", card + "power1_average": "35000000", card + "temp1_input": "41000"})
    plant(tmp_path, {board + "name": "nct6775", board + "in1_input": "1200", board + "temp1_input": "30000"})
    found = read(tmp_path)
    assert found.pop("time")
    assert found == {"amdgpu power1": (35.0, "W"), "amdgpu temp1 temperature": (41.0, "degC")}


def test_energy_counters_of_a_processor(tmp_path: Path) -> None:
    base = "sys/class/powercap/"
    plant(
        tmp_path,
        {
            base + "intel-rapl/enabled": "1",
            base + "intel-rapl:0/name": "package-0",
            base + "intel-rapl:0/energy_uj": "262143000000",
            base + "intel-rapl:0/max_energy_range_uj": "262143328850",
            base + "intel-rapl:0:0/name": "core",
            base + "intel-rapl:0:0/energy_uj": "1500000",
            base + "intel-rapl-mmio:0/name": "package-0",
            base + "intel-rapl-mmio:0/energy_uj": "7",
            base + "intel-rapl:1/name": "package-1",  # its counter is root's alone: not there
        },
    )
    found = read(tmp_path)
    assert found == {"package-0": (262143.0, "J"), "package-0/core": (1.5, "J"), "time": (5.0, "s")}
    counters = dut_sensors.counters(str(tmp_path), NO_GPU, clock=lambda: 6.0)
    assert set(counters) == set(found)
    assert counters["package-0"]["wraps_at"] == pytest.approx(262143.32885)


def test_zones_and_clocks(tmp_path: Path) -> None:
    zones, clocks = "sys/class/thermal/thermal_zone", "sys/devices/system/cpu/cpufreq/policy"
    plant(tmp_path, {zones + "0/type": "CPU-therm", zones + "0/temp": "45500", zones + "1/type": "GPU-therm"})
    plant(tmp_path, {zones + "2/type": "CPU-therm", zones + "2/temp": "44000"})
    plant(tmp_path, {clocks + "0/scaling_cur_freq": "1734000", clocks + "0/affected_cpus": "0 1 2 3"})
    found = read(tmp_path)
    assert found["CPU-therm"] == (45.5, "degC")
    assert found["CPU-therm #2"] == (44.0, "degC")
    assert "GPU-therm" not in found
    assert found["cpu 0 1 2 3 clock"] == (1734.0, "MHz")
    for number in range(4, 70):
        plant(tmp_path, {f"{clocks}{number}/scaling_cur_freq": str(1_000_000 + 1000 * number)})
    found = read(tmp_path)
    assert {name for name in found if "clock" in name} == {"cpu lowest clock", "cpu highest clock"}
    assert found["cpu lowest clock"] == (1004.0, "MHz")


@pytest.mark.parametrize(
    ("said", "mode"),
    [
        (b"NV Fan Mode:quiet\nNV Power Mode: MAXN\n0\n", "MAXN"),
        (b"NVPM WARN: fan mode is not set!\nNV Power Mode: 5W\n1\n", "5W"),
        (b"no such thing\n", None),
        (subprocess.TimeoutExpired("nvpmodel", 3), None),
        (PermissionError("no"), None),
    ],
)
def test_the_power_mode_of_a_jetson(tmp_path: Path, said: bytes | Exception, mode: str | None) -> None:
    calls = []

    def run(command: list[str], **options: Any) -> bytes:
        calls.append(command)
        assert "shell" not in options
        if isinstance(said, Exception):
            raise said
        return said

    assert "power mode" not in read(tmp_path, run=run)
    assert calls == []
    plant(tmp_path, {"usr/sbin/nvpmodel": ""})
    assert read(tmp_path, run=run).get("power mode") == (None if mode is None else (mode, ""))
    assert calls == [[str(tmp_path / "usr/sbin/nvpmodel"), "-q"]]


class FakeNvml:
    """Two GPUs as a library shows them; the second knows no energy counter."""

    def __init__(self, init: int = 0) -> None:
        self.init, self.loads = init, 0

    def load(self) -> FakeNvml:
        self.loads += 1
        return self

    def nvmlInit_v2(self) -> int:
        return self.init

    def nvmlDeviceGetCount_v2(self, count: Any) -> int:
        count._obj.value = 2
        return 0

    def nvmlDeviceGetHandleByIndex_v2(self, index: Any, handle: Any) -> int:
        handle._obj.value = 0x1000 + index.value
        return 0

    def nvmlDeviceGetPowerUsage(self, handle: Any, answer: Any) -> int:
        answer._obj.value = 71_500
        return 0

    def nvmlDeviceGetTotalEnergyConsumption(self, handle: Any, answer: Any) -> int:
        answer._obj.value = 123_456_789
        return 0 if handle.value == 0x1000 else 3  # not supported

    def nvmlDeviceGetTemperature(self, handle: Any, sensor: Any, answer: Any) -> int:
        assert sensor.value == 0
        answer._obj.value = 33
        return 0

    def nvmlDeviceGetClockInfo(self, handle: Any, kind: Any, answer: Any) -> int:
        assert kind.value == 1
        answer._obj.value = 1980
        return 0

    # an old driver: no nvmlDeviceGetCurrentClocksThrottleReasons


def test_gpus_by_nvml(tmp_path: Path) -> None:
    library = FakeNvml()
    nvml = Nvml(library.load)
    for _ in range(2):
        found = read(tmp_path, nvml=nvml)
    assert library.loads == 1
    assert found == {
        "gpu0 energy": (123456.789, "J"),
        "time": (5.0, "s"),
        **{f"gpu{n} power": (71.5, "W") for n in (0, 1)},
        **{f"gpu{n} temperature": (33.0, "degC") for n in (0, 1)},
        **{f"gpu{n} clock": (1980.0, "MHz") for n in (0, 1)},
    }
    assert read(tmp_path, nvml=Nvml(FakeNvml(init=9).load)) == {"time": (5.0, "s")}


def entry(quantity: str, value: Any, unit: str, **more: Any) -> dict[str, Any]:
    return {"quantity": quantity, "value": value, "unit": unit, "source": "here", **more}


def test_counters_become_power_between_two_readings_across_their_wrap() -> None:
    before = {"time": entry("time", 10.0, "s"), "package-0": entry("energy", 99.0, "J", wraps_at=100.0)}
    after = {"time": entry("time", 12.0, "s"), "package-0": entry("energy", 20.0, "J", wraps_at=100.0)}
    assert cross_check(before, after) == [("package-0", "10.5 W on average over 2 s (here)")]
    del after["package-0"]["wraps_at"]  # a counter that went back and has no known end says nothing
    assert cross_check(before, after) == []


def test_other_sensors_are_shown_before_and_after() -> None:
    before = {
        "VDD_IN power": entry("power", 1.31, "W"),
        "mode": entry("mode", "MAXN", ""),
        "gone": entry("mode", "x", ""),
    }
    after = {"VDD_IN power": entry("power", 1.42, "W"), "mode": entry("mode", "5W", ""), "new": entry("mode", "x", "")}
    assert cross_check(before, after) == [
        ("VDD_IN power", "1.31 W before, 1.42 W after (here)"),
        ("mode", "MAXN before, 5W after (here)"),
    ]
    assert cross_check(before, before)[1] == ("mode", "MAXN (here)")


@pytest.mark.parametrize("broken", [{}, {"value": None}, {"value": "x"}, {"value": [1]}])
def test_facts_that_are_no_sensors_are_passed_over(broken: dict[str, Any]) -> None:
    sound = {"time": entry("time", 1.0, "s"), "power": entry("power", 1.0, "W")}
    for before, after in ((sound, {**sound, "power": broken}), ({**sound, "power": broken}, sound)):
        assert all("None" not in text for _, text in cross_check(before, after))


def test_reading_is_quick_enough_beside_a_run() -> None:
    script = (
        "import time\nfrom experiments import dut_sensors\ndut_sensors.read()\n"
        "best = 9\nfor _ in range(20):\n  t = time.monotonic(); dut_sensors.counters()\n"
        "  best = min(best, time.monotonic() - t)\nprint(best)"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True, timeout=200)
    assert float(done.stdout) < 0.02


def test_the_report_shows_them_beside_what_the_bench_measured() -> None:
    none = Durations(np.empty(0, np.int64), 1.0)
    told = {
        "sensors_before": {"time": entry("time", 1.0, "s"), "VDD_IN power": entry("power", 1.3, "W")},
        "sensors_after": {"time": entry("time", 3.0, "s"), "VDD_IN power": entry("power", 1.4, "W")},
    }
    for side, joules in (("before", 5.0), ("after", 29.0)):
        told[f"sensors_{side}"] |= {
            "package-0": entry("energy", joules, "J"),
            "CPU": entry("temperature", 40.0, "degC"),
        }
    facts = (told, {}, {"sensors_after": 5})
    runs = [DeviceRun(k, 4, 1.0, 1.0, none, none, {}, done, ()) for k, done in enumerate(facts)]
    row = DeviceRow("AlexNet", 4, "measured", (), tuple(runs))
    table = report_device.sensor_table(SimpleNamespace(device=[row], rows=[None]))  # type: ignore[arg-type]
    assert table[1:] == [
        ["AlexNet", "4", "1", "–", "–", "VDD_IN power", "1.3 W before, 1.4 W after (here)"],
        ["AlexNet", "4", "1", "–", "–", "package-0", "12 W on average over 2 s (here)"],
    ]
