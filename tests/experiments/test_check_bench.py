"""The bench check through its public door: good on a good bench, and right about what is wrong."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.sweeps import lab_file, output_is_on, run, served_bench


def test_a_good_bench_is_good(tmp_path: Path) -> None:
    transcript = tmp_path / "transcript.jsonl"
    done = run("experiments.check_bench", "--json", "--transcript", transcript)
    assert done.returncode == 0, done.stdout + done.stderr
    report = json.loads(done.stdout)
    assert report["good"]
    names = [c["name"] for c in report["checks"]]
    for name in (
        "scope identity",
        "supply latency",
        "gate line",
        "batch line",
        "zero of the current",
        "gain of the voltage",
    ):
        assert name in names
    lines = [json.loads(line) for line in transcript.read_text().splitlines()]
    assert lines[0]["origin"] == "simulated"
    assert any("*IDN?" in json.dumps(line) for line in lines)


@pytest.mark.parametrize(
    ("change", "name", "found", "advice"),
    [
        (("gate: {digital: 0}", "gate: {digital: 5}"), "gate line", "0 edges on D5", "they are on D0"),
        (("batch: {digital: 1}", "batch: {digital: 7}"), "batch line", "0 edges on D7", "they are on D1"),
        (("turns: 1", "turns: 2"), "gain of the current", "0.4", "turns"),
        (("probe_ratio: 10.0", "probe_ratio: 8.0"), "gain", "not 12 V", "wiring.voltage"),
        (("marker_threshold_v: 1.4", "marker_threshold_v: 5.0"), "gate line", "0 edges on D0", "marker_threshold_v"),
    ],
)
def test_what_is_wrong_is_named_with_what_to_do(
    tmp_path: Path, change: tuple[str, str], name: str, found: str, advice: str
) -> None:
    with served_bench(tmp_path, change) as (lab, addresses):
        done = run("experiments.check_bench", "--lab", lab)
        assert not output_is_on(addresses)
    assert done.returncode == 1, done.stdout + done.stderr
    (line,) = [line for line in done.stdout.splitlines() if line.startswith(f"WRONG {name}")]
    assert found in line
    assert advice in line


def test_without_power_the_output_stays_off(tmp_path: Path) -> None:
    transcript = tmp_path / "transcript.jsonl"
    done = run("experiments.check_bench", "--no-power", "--transcript", transcript)
    assert done.returncode == 0, done.stdout
    assert "output on" not in done.stdout
    assert "OUTPut ON" not in transcript.read_text()


def test_a_stranger_ends_it(tmp_path: Path) -> None:
    done = run("experiments.check_bench", "--lab", lab_file(tmp_path, ("serial: MY00000001", "serial: MY1")))
    assert done.returncode == 3
    assert "MY00000001" in done.stderr
