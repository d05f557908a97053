"""lab.yaml: every mistake is named with file, line, key and what to write instead."""

from __future__ import annotations

import re

import pytest

from instruments import lab
from instruments.errors import ConfigError
from tests.worlds import LAB

TEXT = LAB.read_text()


def complaint(text: str) -> str:
    with pytest.raises(ConfigError) as caught:
        lab.parse(text, name="bench.yaml")
    return str(caught.value)


def line_of(text: str, needle: str) -> int:
    return next(k for k, line in enumerate(text.splitlines(), 1) if needle in line)


def test_the_shipped_file_is_good() -> None:
    assert lab.load(LAB).scope.resource == ["sim:socket"]


def test_a_file_without_an_end_is_not_read_to_it() -> None:
    with pytest.raises(ConfigError, match="/dev/zero: has more than 200000 characters"):
        lab.load("/dev/zero")


@pytest.mark.parametrize(
    ("old", "new", "key", "expected"),
    [
        ("ovp_v: 13.5", "ovp: 13.5", "supply.ovp", "did you mean ovp_v?"),
        ("voltage_v: 12.0", "voltage_v: twelve", "supply.voltage_v", "valid number, got 'twelve'"),
        ("voltage_v: 12.0", 'voltage_v: "12.0"', "supply.voltage_v", "valid number, got '12.0'"),
        ("voltage_v: 12.0", "voltage_v: .nan", "supply.voltage_v", "finite number"),
        ("voltage_v: 12.0", "voltage_v: -1.0", "supply.voltage_v", "greater than 0"),
        (
            "voltage_v: 12.0",
            "voltage_v: 12 V",
            "supply.voltage_v",
            "got '12 V'; write 12, the unit is in the key's name",
        ),
        ("range_v_per_a: 0.1", "range_v_per_a: 100 mV", "probe.range_v_per_a", "expected, without its unit"),
        ("drift_u_a: 0.0005", "drift_u_a: 0.5 mA", "probe.drift_u_a", "write 0.0005, the unit"),
        ("start_timeout_s: 60.0", "start_timeout_s: 60s", "dut.start_timeout_s", "write 60, the unit"),
        ("turns: 1", "turns: 2 turns", "probe.turns", "write 2 alone"),
        ("voltage_v: 12.0", "voltage_v: 12,5", "supply.voltage_v", "write 12.5"),
        ('serial: "0"', "serial: 0", "supply.serial", "valid string, got 0"),
        ("turns: 1", "turns: true", "probe.turns", "valid integer, got True"),
        ("gate: {digital: 0}", "gate: {digital: 9}", "wiring.gate.digital", "less than or equal to 7"),
        ("range: P35V", "range: P30V", "supply.range", "'P35V' or 'P60V'"),
        ("  seed: 1", "  sead: 1", "simulation.sead", "did you mean seed?"),
        ("range_v_per_a: 0.1", "range_v_per_a: 0.2", "probe.range_v_per_a", "write 0.1 or 0.01"),
        (
            "current_limit_a: 2.0",
            "current_limit_a: 2.5",
            "supply.current_limit_a",
            "2.5 is above supply.limits.current_a, the 2.2",
        ),
        ("voltage_v: 12.0", "voltage_v: 13.2", "supply.voltage_v", "13.2 is above supply.limits.voltage_v, the 13 of"),
        ("ovp_v: 13.5", "ovp_v: 11.0", "supply.ovp_v", "11 would trip at supply.voltage_v 12: raise it"),
        ("batch: {digital: 1}", "batch: {digital: 0}", "wiring.batch.digital", "0 is wiring.gate.digital too"),
        ("voltage: {channel: 3", "voltage: {channel: 1", "wiring.voltage.channel", "1 is wiring.current.channel too"),
        ("ovp_v: 13.5", "ovp_v: 60.0", "supply.ovp_v", "1.2 times supply.limits.voltage_v 13: lower it, or give"),
        ("sense: remote", "sense: local", "supply.sense", "local needs supply.lead_resistance_ohm"),
        ("low_v: -2.0", "low_v: 1.0", "wiring.voltage.low_v", "wiring.voltage.high_v 14 must include 0"),
        ("high_v: 14.0", "high_v: 10.0", "wiring.voltage.high_v", "10 hides supply.voltage_v 12"),
        ("resource: sim:socket", "resource: sim:usb", "scope.resource", "sim:socket or sim:vxi11 or sim:hislip"),
        ("open_timeout_s: 12.0", "open_timeout_s: 1.0e+308", "scope.open_timeout_s", "less than or equal to 86400"),
        ("  seed: 1", "  seed: 9223372036854775808", "simulation.seed", "less than"),
        ('"{marker}"]', '"\\0"]', "dut.command.4", "pattern"),
    ],
)
def test_a_mistake_is_named_with_its_line(old: str, new: str, key: str, expected: str) -> None:
    text = TEXT.replace(old, new, 1)
    assert text != TEXT
    message = complaint(text)
    assert expected in message
    found = re.match(r"bench\.yaml:(\d+): ([\w.]+|\(top level\)): ", message)
    assert found, message
    assert found[2] == (key or "(top level)")
    if "." in key:
        assert int(found[1]) == line_of(text, new.split(":")[0].strip() + ":" if "{" in new else new)


@pytest.mark.parametrize(
    ("old", "new", "key"),
    [
        ("voltage_v: 12.0", "voltage_v: 5,000 V", "supply.voltage_v"),
        ("voltage_v: 12.0", "voltage_v: 12,000", "supply.voltage_v"),
        ("turns: 1", "turns: 1,5", "probe.turns"),
        ("turns: 1", "turns: 10%", "probe.turns"),
        ("turns: 1", "turns: 1M", "probe.turns"),
        ("memory_points: 1000000", 'memory_points: "100,000"', "scope.memory_points"),
        ("memory_points: 1000000", "memory_points: 1M", "scope.memory_points"),
    ],
)
def test_a_number_that_may_be_another_is_not_suggested(old: str, new: str, key: str) -> None:
    text = TEXT.replace(old, new, 1)
    assert text != TEXT
    message = complaint(text)
    assert f"{key}: " in message
    assert "write" not in message


@pytest.mark.parametrize(
    ("old", "new", "expected"),
    [
        ("range_v_per_a: 0.1", "range_v_per_a: 100 mV/A", "write 0.1, the unit"),
        ("range_v_per_a: 0.1", "range_v_per_a: 5 A", "a number in V/A is expected"),
        ("memory_points: 1000000", "memory_points: 100000 points", "write 100000 alone"),
        ("voltage_v: 12.0", "voltage_v: 12,0 V", "write 12, the unit"),
    ],
)
def test_a_number_with_its_unit_is_told_how_to_be_written(old: str, new: str, expected: str) -> None:
    assert expected in complaint(TEXT.replace(old, new, 1))


def test_every_mistake_is_listed_not_only_the_first() -> None:
    text = TEXT.replace("ovp_v: 13.5", "ovp: 13.5").replace("turns: 1", "turns: 0").replace("seed: 1", "seed: x")
    lines = complaint(text).splitlines()
    assert len(lines) == 3  # the unknown key, which is the missing one too; turns; seed
    numbers = [int(line.split(":")[1]) for line in lines]
    assert numbers == sorted(numbers)


def test_a_missing_key_points_at_its_parent() -> None:
    text = TEXT.replace("  ovp_v: 13.5\n", "")
    message = complaint(text)
    assert message == f"bench.yaml:{line_of(text, 'supply:')}: supply.ovp_v: is missing; add it here"


@pytest.mark.parametrize(
    "text",
    ["", "- a\n", "scope: [1\n", "a: 1\na: 2\n", "\tx: 1\n", "bench: &a [*a]\n"],
)
def test_what_is_no_mapping_or_no_yaml_is_said(text: str) -> None:
    assert complaint(text).startswith("bench.yaml:")


def test_simulated_resources_need_a_simulation() -> None:
    text = TEXT[: TEXT.index("simulation:")]
    assert "no `simulation:` section" in complaint(text)


def test_a_file_that_is_not_there(tmp_path) -> None:
    with pytest.raises(ConfigError, match="--lab FILE"):
        lab.load(tmp_path / "none.yaml")
    (tmp_path / "latin.yaml").write_bytes(b"bench: caf\xe9\n")
    with pytest.raises(ConfigError, match="UTF-8"):
        lab.load(tmp_path / "latin.yaml")


def test_a_bench_of_which_nothing_is_simulated_is_not_called_so() -> None:
    real = (LAB.parent / "docs/benches/real.yaml").read_text()
    assert "simulation: nothing of this bench is simulated" in complaint(f"{real}simulation: {{seed: 1}}\n")
