"""The check of meters: emulated pollers against closed forms, sensors found out from steps, and a whole check."""

from __future__ import annotations

import json
import time
from pathlib import Path

import numpy as np
import pytest

from experiments import dut_sensors
from experiments.dut_runner import BusyRunner
from experiments.meter_check import _check, parser
from experiments.meters.pollers import POLLERS, Power, errors
from experiments.meters.response import Series, respond
from experiments.networks import specs
from experiments.networks.errors import SpecError
from experiments.traces import TraceReader
from experiments.watched import require_sensor
from instruments.errors import ConfigError
from tests.sweeps import ROOT, run

TX1 = ROOT / "docs" / "benches" / "simulated-tx1.yaml"
DT_S = 1e-3


def pulses(period_s: float, duty: float, low_w: float = 2.0, high_w: float = 10.0, length_s: float = 2.0) -> Power:
    """A train from -0.2 s on that works from 0 s to 1.5 s."""
    t = -0.2 + DT_S * np.arange(round(length_s / DT_S))
    works = (t >= 0) & (t < 1.5) & ((t + 0.5 * DT_S) % period_s < duty * period_s)
    return Power(np.where(works, high_w, low_w), DT_S, -0.2)


def test_pollers_are_right_where_power_is_constant_and_wrong_by_what_they_miss() -> None:
    steady = Power(np.full(2000, 5.0), DT_S, -0.2)
    for name, poller in POLLERS.items():
        found = errors(poller, steady, 0.0, 1.5, 7.5)
        assert abs(found.worst) < 1e-9, name
    # Of one pulse of 40 ms a poll at 10 Hz sees 100 ms of it, or nothing: 40 phases of 100, 60 of 0 J per watt.
    single = pulses(10.0, 0.004, low_w=0.0)
    found = errors(POLLERS["10 Hz read-now"], single, 0.0, 1.5, 0.4)
    assert found.worst == pytest.approx(1.5)
    assert found.mean == pytest.approx(0.0, abs=1e-9)
    # A counter is late by up to its period at each end: on average nothing is lost.
    late = errors(POLLERS["100 ms counter"], pulses(0.1, 0.5), 0.0, 1.5, 9.0)
    assert 0.005 < late.rms < 0.1
    # At the period of its own sampling, a quarter of the time is seen as all of it.
    quarter = errors(POLLERS["25 % sampling"], pulses(0.1, 0.25, low_w=0.0), 0.0, 1.5, 3.75)
    assert quarter.worst > 2.0


@pytest.mark.parametrize(("window_s", "delay_s", "every_s"), [(0.025, 0.010, 0.1), (0.1, 0.0, 0.1), (0.5, 0.03, 0.1)])
def test_a_sensor_is_found_out_from_its_response(window_s: float, delay_s: float, every_s: float) -> None:
    rng = np.random.default_rng(1)
    series = []
    for period_s, duty in ((0.04, 0.25), (0.09, 0.5), (0.104, 0.5), (0.2, 0.5), (0.5, 0.6)):
        power = pulses(period_s, duty)
        t = np.arange(0.05, 1.5, every_s) + rng.uniform(0, every_s)
        told = 0.2 + 1.03 * power.mean(t - delay_s - window_s, t - delay_s)
        series.append(Series(power, t, told + 0.01 * rng.standard_normal(t.size), t.size * 10))
    found = respond(series)
    assert found is not None
    assert found.window_s == pytest.approx(window_s, rel=0.08, abs=0.003)
    assert found.delay_s == pytest.approx(delay_s, abs=0.004)
    assert found.renewal_s == pytest.approx(every_s, rel=0.01)
    assert found.unseen == pytest.approx(max(0.0, 1 - window_s / every_s), abs=0.05)
    assert found.gain == pytest.approx(1.03, abs=0.02)
    assert found.explained > 0.99


def test_a_counter_is_found_out_too_and_a_dead_sensor_is_nothing() -> None:
    series = []
    for period_s in (0.09, 0.23, 0.5):
        power = pulses(period_s, 0.5)
        t = np.arange(0.02, 1.5, 0.1)
        series.append(Series(power, t, np.asarray(power.energy_to(t - 0.02)), 500))
    found = respond(series, is_counter=True)
    assert found is not None
    assert found.delay_s == pytest.approx(0.02, abs=0.003)
    assert found.renewal_s == pytest.approx(0.1, rel=0.01)
    assert found.unseen == 0.0
    dead = [Series(s.power, s.t_s, np.full(s.t_s.size, 3.0), 500) for s in series]
    assert respond(dead) is None
    assert respond([]) is None


def test_what_is_no_reading_spoils_no_finding() -> None:
    """A sensor that vanished for a while, whose clock went back, and a counter that began anew."""
    sensor, counter = [], []
    for period_s in (0.09, 0.23, 0.5):
        power = pulses(period_s, 0.5)
        t = np.arange(0.02, 1.5, 0.1)
        watts, joules = power.mean(t - 0.045, t - 0.02), np.asarray(power.energy_to(t - 0.02))
        t_odd, watts_odd = np.insert(t, 6, t[2]), np.insert(watts, 6, watts[2])
        watts_odd[[3, 9]] = np.nan, np.inf
        sensor.append(Series(power, t_odd, watts_odd, 500))
        counter.append(Series(power, t, np.where(np.arange(t.size) > 7, joules - joules[7], joules), 500))
    found = respond(sensor)
    assert found is not None
    assert found.window_s == pytest.approx(0.025, abs=0.003)
    assert found.delay_s == pytest.approx(0.02, abs=0.004)
    found = respond(counter, is_counter=True)
    assert found is not None
    assert found.delay_s == pytest.approx(0.02, abs=0.003)
    assert found.gain == pytest.approx(1.0, abs=0.01)


def test_a_check_of_the_simulated_bench_and_of_its_supply(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "check"
    done = run(
        "experiments.meter_check", "--lab", TX1, "--sensor", "supply", "--trains", "busy:10:30,busy:52:52,busy:310:190",
        "--out", out, "--json",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr + done.stdout
    tree = json.loads(done.stdout)
    assert tree == json.loads((out / "meter_check.json").read_text())
    assert tree["within"]
    by_train = {t["train"]: t for t in tree["trains"]}
    assert set(by_train) == {"busy:20", "busy:10:30", "busy:52:52", "busy:310:190"}
    for train in tree["trains"]:
        assert abs(train["our_error"]) < train["relative_u"] < 0.015
        assert train["duty_found"] == pytest.approx(train["duty"], abs=0.02)
    for name in ("10 Hz read-now", "1 Hz log", "25 % sampling"):
        assert by_train["busy:52:52"]["pollers"][name]["rms"] > 0.2
    response = tree["sensor"]["response"]
    assert response["explained"] > 0.98
    assert response["window_s"] == pytest.approx(0.1, abs=0.02)  # what the simulated supply averages over
    assert response["gain"] == pytest.approx(1.0, abs=0.03)
    page = (out / "meter_check.html").read_text()
    assert "25 % sampling" in page
    assert "averaging window" in page
    assert "http" not in page
    again = _check(parser().parse_args(["--trace", str(out / "trace.h5"), "--sensor", "nvml"]))
    assert again == 1  # nothing on this board told of it
    assert "measure with --sensor" in capsys.readouterr().out
    judge = parser().parse_args(["--trace", str(out / "trace.h5"), "--out", str(tmp_path / "judged")])
    assert _check(judge) == 0
    told = capsys.readouterr().out
    assert "Sensor supply" in told  # which the file holds
    assert f"written to {tmp_path / 'judged'}: meter_check.txt, meter_check.json, meter_check.html" in told
    monkeypatch.setattr("experiments.meters.trains.sensor_in", lambda reader: "")
    assert _check(judge) == 0
    assert "No sensor was checked" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("args", "said"),
    [(["--trains", "AlexNet"], "'AlexNet' is no train"), (["--trains", "busy:5:-1"], "busy:5:-1"),
     (["--lab", "nowhere.yaml"], "nowhere.yaml")],
)  # fmt: skip
def test_what_cannot_be_checked_is_told_before_anything(args: list[str], said: str, tmp_path: Path) -> None:
    done = run("experiments.meter_check", "--lab", TX1, "--out", tmp_path / "out", *args)
    assert done.returncode == 2
    (line,) = done.stderr.splitlines()
    assert said in line


def test_a_sensor_that_the_board_has_not_is_told_before_the_first_train(tmp_path: Path) -> None:
    done = run("experiments.meter_check", "--lab", TX1, "--out", tmp_path / "out", "--sensor", "foo", "--quiet")
    assert done.returncode == 2
    first, where = done.stderr.splitlines()
    assert "what was measured is in" in first
    assert (
        "--sensor foo: the board has no such sensor of power or energy, or may not read it; there are supply" in where
    )
    with TraceReader(tmp_path / "out" / "trace.h5") as reader:
        assert [row["kind"] for row in reader.captures()] == ["zero", "idle", "gain"]
    has = {"sensors_after": {"VDD_IN power": {"unit": "W"}, "AO-therm": {"unit": "degC"}, "gpu": {"unit": "J"}}}
    with pytest.raises(ConfigError, match=r"there are VDD_IN power, gpu, supply$"):
        require_sensor("foo", json.dumps({**has, "watch": {"wanted": "foo", "missing": True}}))
    require_sensor("gpu", json.dumps({**has, "watch": {"wanted": "gpu", "name": "gpu"}}))


def test_a_busy_load_rests_for_as_long_as_it_is_told() -> None:
    spec = specs.parse("busy:4:60")
    told: list[tuple[bool, float]] = []
    runner = BusyRunner(spec.text, 1, *map(float, spec.target.split(":")))
    runner.tell_rests(lambda resting: told.append((resting, time.monotonic())))
    began = time.monotonic()
    runner.run()
    assert time.monotonic() - began >= 0.0639
    assert [resting for resting, _ in told] == [True, False]
    assert told[0][1] - began >= 0.0039
    assert told[1][1] - began >= 0.0639
    for wrong in ("busy:0:5", "busy:5:x", "busy:1:2:3", "busy:nan:1"):
        with pytest.raises(SpecError):
            specs.parse(wrong)


def test_a_sensor_of_the_board_is_watched_during_a_run(tmp_path: Path) -> None:
    chip = tmp_path / "sys" / "class" / "hwmon" / "hwmon3"
    chip.mkdir(parents=True)
    (chip / "name").write_text("ina3221\n")
    (chip / "power1_label").write_text("VDD_IN\n")
    (chip / "power1_input").write_text("1500000\n")
    none = dut_sensors.Nvml(load=lambda: (_ for _ in ()).throw(OSError()))
    watch = dut_sensors.Watch("ina3221", root=str(tmp_path), nvml=none)
    with watch:
        until = time.monotonic() + 60.0
        while not watch.facts(0)["values"] and time.monotonic() < until:
            time.sleep(0.01)
        (chip / "power1_input.new").write_text("2500000\n")
        (chip / "power1_input.new").rename(chip / "power1_input")
        changed_ns = time.monotonic_ns()
        until = time.monotonic() + 60.0
        while len(watch.facts(0)["values"]) < 2 and time.monotonic() < until:
            time.sleep(0.01)
    facts = watch.facts(changed_ns)
    assert facts["name"] == "VDD_IN"
    assert facts["unit"] == "W"
    assert facts["values"] == [1.5, 2.5]
    assert facts["t_us"][0] < 0
    assert facts["reads"] > 2
    missing = dut_sensors.Watch("rapl", root=str(tmp_path), nvml=none)
    with missing:
        pass
    assert missing.facts(0) == {"wanted": "rapl", "missing": True}
