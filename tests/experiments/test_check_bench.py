"""The bench check: good on a good bench, right about each single defect, and the output off on every way out."""

from __future__ import annotations

import json
import re
import signal
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from ruamel.yaml import YAML

from experiments import bench_checks
from experiments.bench_checks import check
from experiments.bench_list import Entry
from experiments.check_findings import Finding, Findings
from instruments.errors import BenchError, IdentityError, LinkError
from tests.sweeps import ROOT, lab_file, output_is_on, run, served_bench, start

VIRTUAL = ROOT / "docs" / "benches" / "simulated-tx1.yaml"
IDS = {
    *(f"{name}.{what}" for name in ("scope", "supply") for what in ("identity", "queue", "latency")),
    *(f"scope.{what}" for what in ("options", "current", "voltage", "time_base", "trigger", "acquisition_type", "pod")),
    *("supply.settings", "acquisition.plan", "record", "throughput", "device", "markers"),
    *(
        f"{signal}.{what}"
        for signal in ("current", "voltage")
        for what in ("zero", "noise", "idle", "gain", "headroom")
    ),
    *("markers.gate", "markers.batch", "markers.trigger", "output.on", "output.off"),
}
KEYS = {"id", "verdict", "name", "found", "advice", "values"}


Change = dict[str, Any]


def hurt(faults: str) -> Change:
    """A change of a lab file: the simulated bench gets these faults."""
    return {"simulation": {"faults": YAML(typ="safe").load(f"{{{faults}}}")}}


def found_wrong(path: Path, power: bool = True) -> list[Finding]:
    """What a check finds wrong at a bench; it must come to its end."""
    findings = Findings()
    check(path, findings, power=power)
    assert findings.all[-1].id == "output.off"
    return [finding for finding in findings.all if finding.verdict == "wrong"]


def merge(tree: Change, change: Change) -> None:
    for key, value in change.items():
        if isinstance(value, dict) and isinstance(tree.get(key), dict):
            merge(tree[key], value)
        else:
            tree[key] = value


def virtual_lab(folder: Path, *changes: Change) -> Path:
    """The shipped bench in virtual time, changed."""
    yaml = YAML(typ="safe")
    tree = yaml.load(VIRTUAL)
    for change in changes:
        merge(tree, change)
    path = folder / "lab.yaml"
    yaml.dump(tree, path)
    return path


# --- a good bench ---------------------------------------------------------------------------------


def test_a_good_bench_is_good(tmp_path: Path) -> None:
    transcript = tmp_path / "transcript.jsonl"
    done = run("experiments.check_bench", "--lab", VIRTUAL, "--json", "--transcript", transcript)
    assert done.returncode == 0, done.stdout + done.stderr
    report = json.loads(done.stdout)
    assert (report["schema"], report["good"], report["error"]) == (1, True, None)
    assert {c["id"] for c in report["checks"]} == IDS
    by_id = {c["id"]: c for c in report["checks"]}
    assert all(set(c) == KEYS and not c["advice"] for c in report["checks"])
    assert by_id["scope.identity"]["values"]["firmware"] == "02.65.2021102830"
    assert by_id["record"]["values"] == {"points": 100_000, "rate_hz": pytest.approx(50_000)}
    assert by_id["throughput"]["values"]["bytes"] == 500_000
    assert 0 < by_id["scope.latency"]["values"]["median_s"] <= by_id["scope.latency"]["values"]["worst_s"]
    lines = [json.loads(line) for line in transcript.read_text().splitlines()]
    assert lines[0]["origin"] == "simulated"
    assert any("*IDN?" in json.dumps(line) for line in lines)


def test_the_ids_are_those_that_are_documented() -> None:
    documented = set(re.findall(r"`([a-z_]+(?:\.[a-z_]+)?)`", (ROOT / "docs" / "check-bench.md").read_text()))
    assert documented >= IDS


def test_without_power_the_output_stays_off(tmp_path: Path) -> None:
    transcript = tmp_path / "transcript.jsonl"
    done = run("experiments.check_bench", "--lab", VIRTUAL, "--no-power", "--transcript", transcript)
    assert done.returncode == 0, done.stdout
    assert "good  gate line: 2 edges on D0" in done.stdout
    assert "output on" not in done.stdout
    assert "OUTPut ON" not in transcript.read_text()


# --- a bench with one defect ------------------------------------------------------------------------

GATE_ON_5 = "leads: [{kind: moved, lead: gate, to: 5}]"
SWAPPED = "leads: [{kind: moved, lead: gate, to: 1}, {kind: moved, lead: batch, to: 0}]"
DEFECTS = {
    "swapped lines": (
        [hurt(SWAPPED)],
        {
            "markers.gate": r"gate line: swapped with the batch line: it is on D1 and not on D0; swap the two wires",
            "markers.batch": r"batch line: swapped with the gate line: it is on D0 and not on D1",
        },
    ),
    "gate on another input": (
        [hurt(GATE_ON_5)],
        {"markers.gate": r"not on D0 but on D5; correct wiring\.gate in lab\.yaml"},
    ),
    "batch on another input, upside down": (
        [hurt("leads: [{kind: moved, lead: batch, to: 7}, {kind: inverted, lead: batch}]")],
        {"markers.batch": r"not on D1 but on D7, and inverted there"},
    ),
    "dead gate": (
        [hurt("leads: [{kind: dead, lead: gate}]")],
        {"markers.gate": r"dead: D0 stays low .* check the wire"},
    ),
    "dead batch line": ([hurt("leads: [{kind: dead, lead: batch}]")], {"markers.batch": r"dead: D1 stays low"}),
    "inverted gate": (
        [hurt("leads: [{kind: inverted, lead: gate}]")],
        {"markers.gate": r"inverted: D0 is high .*,invert"},
    ),
    "inverted batch line": ([hurt("leads: [{kind: inverted, lead: batch}]")], {"markers.batch": r"inverted: D1"}),
    "bouncing batch line": (
        [hurt("markers: [{kind: bounce, line: batch}]")],
        {"markers.batch": r"9 edges on D1 where 5 were made; it bounces"},
    ),
    "lost edge": ([hurt("markers: [{kind: lose, line: batch, skip: 4}]")], {"markers.batch": r"4 edges .* are lost"}),
    "threshold above the lines": (
        [{"wiring": {"marker_threshold_v": 5.0}}],
        {"markers.gate": "dead.*marker_threshold_v", "markers.batch": "dead.*marker_threshold_v"},
    ),
    "1:1 probe": (
        [hurt("leads: [{kind: gain, lead: voltage, factor: 10}]")],
        {"voltage.idle": r"beyond the 30 V .* attenuates less than 10:1.*probe_ratio"},
    ),
    "100:1 probe": (
        [hurt("leads: [{kind: gain, lead: voltage, factor: 0.1}]")],
        {"voltage.idle": r"attenuates 10\d:1 and not 10:1: correct wiring\.voltage\.probe_ratio"},
    ),
    "no voltage": ([hurt("leads: [{kind: dead, lead: voltage}]")], {"voltage.idle": "channel 3 sees no voltage"}),
    "reversed clamp": (
        [hurt("leads: [{kind: gain, lead: current, factor: -1}]")],
        {"current.idle": r"the clamp is reversed: turn it round, or change probe\.reversed"},
    ),
    "clamp's range": (
        [hurt("leads: [{kind: gain, lead: current, factor: 0.1}]")],
        {"current.idle": r"range switch is not at probe\.range_v_per_a"},
    ),
    "two turns": (
        [hurt("leads: [{kind: gain, lead: current, factor: 2}]")],
        {"current.idle": r"about 2 turns .* probe\.turns: 1"},
    ),
    "clamp on another channel": (
        [hurt("leads: [{kind: moved, lead: current, to: 2}]")],
        {"current.idle": "sees no current.*on channel 1"},
    ),
    "span too small": (
        [{"wiring": {"current": {"high_a": 0.4}}}],
        {"current.headroom": r"\d+ samples of the current are clipped: widen its span"},
    ),
    "noise": (
        [
            hurt("leads: [{kind: noise, lead: current, rms: 0.15}]"),
            {"wiring": {"current": {"low_a": -1.0, "high_a": 2.0}}},
        ],
        {"current.noise": r"1[45]\d\.\d+ mA rms .* more than 101 mA: move the clamp away"},
    ),
    "zero": (
        [{"simulation": {"world": {"probe_offset_limit_a": 0.3}}}],
        {"current.zero": r"\d\d+\.\d\d mA with the output off; more than the probe's 50 mA: degauss"},
    ),
    "supply limits at work": (
        [{"supply": {"current_limit_a": 0.4}}],
        {"output.mode": r"did not stay in constant voltage .*CC.* raise current_limit_a above 0\.4 A"},
    ),
    "supply limits at once": (
        [{"supply": {"current_limit_a": 0.04}}],
        {"output.on": "CC.*current_limit_a"},
    ),
    "100 kpts": (
        [{"simulation": {"scope": {"memory_points": 100_000}}}],
        {"record": r"50000 points at 25 kSa/s; the memory is smaller than scope\.memory_points of lab\.yaml, 1000000"},
    ),
    "100 kpts, as lab.yaml says": (
        [{"simulation": {"scope": {"memory_points": 100_000}}, "scope": {"memory_points": 100_000}}],
        {"acquisition.plan": r"25 kSa/s.*below 50 kSa/s: a shorter --window", "record": "see the acquisition's line"},
    ),
    "somebody's errors": (
        [hurt("supply: [{kind: error, code: -113, text: Undefined header}]")],
        {"supply.queue": r"-113,\"Undefined header\"; somebody else left them"},
    ),
}


ON_A_LINE_OF_ITS_OWN: Change = {"supply": {"resource": "sim:serial"}}
"""GPIB boards have numbers, which benches in one process would share."""


@pytest.fixture(scope="module")
def checked(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Future[list[Finding]]]]:
    """A check of every bench with a defect, a few at a time: each waits half of its time."""
    with ThreadPoolExecutor(3) as pool:
        yield {
            name: pool.submit(
                found_wrong, virtual_lab(tmp_path_factory.mktemp("bench"), ON_A_LINE_OF_ITS_OWN, *changes)
            )
            for name, (changes, _) in DEFECTS.items()
        }


@pytest.mark.parametrize("name", DEFECTS)
def test_a_defect_is_named_with_what_to_do_and_nothing_else_is_wrong(
    checked: dict[str, Future[list[Finding]]], name: str
) -> None:
    expected = DEFECTS[name][1]
    wrong = checked[name].result()
    assert {finding.id for finding in wrong} == set(expected), [finding.line() for finding in wrong]
    for finding in wrong:
        assert re.search(expected[finding.id], finding.line()), finding.line()
        assert finding.advice
        assert "\n" not in finding.line()


def test_holes_are_named_on_both_channels(tmp_path: Path) -> None:
    wrong = found_wrong(virtual_lab(tmp_path, hurt("scope: [{kind: holes, share: 0.01}]")), power=False)
    assert [(f.id, f.advice[:16]) for f in wrong] == [
        ("current.record", "let nobody else "),
        ("voltage.record", "let nobody else "),
    ]


def test_a_device_that_does_not_start(tmp_path: Path) -> None:
    change = ('["{python}", "-m", "experiments.dut_agent", "--marker", "{marker}"]', "[/bin/false]")
    (device,) = found_wrong(lab_file(tmp_path, change), power=False)
    assert device.id == "device"
    assert re.search(r"does not start: .*/bin/false.* check dut\.command", device.line(), re.DOTALL)


# --- who is there -----------------------------------------------------------------------------------


def test_the_wrong_serial_is_named_and_the_others_are_asked_all_the_same(tmp_path: Path) -> None:
    identity = "AGILENT TECHNOLOGIES,MSO-X 2024A,MY99999999,02.65.2021102830"
    lab = virtual_lab(tmp_path, hurt(f"scope: [{{kind: identity, text: '{identity}'}}]"))
    done = run("experiments.check_bench", "--lab", lab, "--json")
    assert done.returncode == 3
    report = json.loads(done.stdout)
    assert [(c["id"], c["verdict"]) for c in report["checks"]] == [
        ("scope.identity", "wrong"),
        ("supply.identity", "good"),
    ]
    assert "MY99999999" in report["checks"][0]["found"]
    assert "expects MSO-X 2024A with serial MY00000001" in report["checks"][0]["advice"]
    assert (report["good"], report["error"]["kind"], report["error"]["exit_code"]) == (False, "IdentityError", 3)
    assert "MY99999999" in done.stderr


def test_an_instrument_that_does_not_answer_is_named(tmp_path: Path) -> None:
    findings = Findings()
    change = ("sim:socket", "TCPIP::127.0.0.1::1::SOCKET")
    with pytest.raises(LinkError, match=r"scope \(TCPIP::127\.0\.0\.1::1::SOCKET\)"):
        check(lab_file(tmp_path, change), findings)
    assert [(f.id, f.verdict) for f in findings.all] == [("scope.identity", "wrong"), ("supply.identity", "good")]
    assert "could not connect" in findings.all[0].found


def test_list_asks_everybody_and_changes_nothing(tmp_path: Path) -> None:
    other = {"scope": {"serial": "MY12345678"}, "simulation": {"scope": {"serial": "MY00000001"}}}
    done = run("experiments.check_bench", "--list", "--json", "--lab", virtual_lab(tmp_path, other))
    assert done.returncode == 3
    report = json.loads(done.stdout)
    assert (report["schema"], report["good"]) == (1, False)
    scope, supply, *others = report["resources"]
    assert set(scope) == {"resource", "name", "identity", "said", "right"}
    assert (scope["identity"], scope["right"]) == (
        "AGILENT TECHNOLOGIES,MSO-X 2024A,MY00000001,02.65.2021102830",
        False,
    )
    assert "MY12345678" in scope["said"]
    assert Entry(**supply).line() == "good  supply sim:prologix: Agilent Technologies,E3645A,0,1.4-5.0-1.0"
    assert all(other["right"] is None and other["name"] == "" for other in others)


# --- ways out -----------------------------------------------------------------------------------------


def ended_by(number: signal.Signals, folder: Path) -> tuple[int, str, bool]:
    """Exit code, error text and output after a signal to a check, in real time, that has switched the output on."""
    with served_bench(folder) as (lab, addresses):
        process = start("experiments.check_bench", "--lab", lab)
        try:
            assert process.stdout is not None
            assert any(line.startswith("good  output on") for line in process.stdout)
            assert output_is_on(addresses)
            process.send_signal(number)
            _, said = process.communicate(timeout=200)
            return process.returncode, said, output_is_on(addresses)
        finally:
            process.kill()
            process.communicate()


def test_the_output_is_off_after_a_signal(tmp_path_factory: pytest.TempPathFactory) -> None:
    numbers = (signal.SIGINT, signal.SIGTERM)
    with ThreadPoolExecutor(len(numbers)) as pool:
        ends = list(pool.map(ended_by, numbers, [tmp_path_factory.mktemp("bench") for _ in numbers]))
    for code, said, on in ends:
        assert code == 130, said
        assert "interrupted" in said
        assert not on


@pytest.mark.parametrize(
    "fault",
    [
        "kind: reset, matching: DATA, skip: 8, times: 0",
        "kind: wedge, matching: DATA, skip: 8, at_byte: 100, times: 0",
    ],
)
def test_the_output_is_off_after_the_scope_died_under_power(
    tmp_path: Path, fault: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It breaks in the record of the idle board; the transcript shows what the supply said last."""
    patience_s = 3.0 if "wedge" in fault else 30.0  # a reset is noticed at once
    monkeypatch.setattr(bench_checks, "FETCH_S", patience_s)
    transcript = tmp_path / "transcript.jsonl"
    lab = virtual_lab(tmp_path, hurt(f"scope: [{{{fault}}}]"), {"scope": {"timeout_s": patience_s}})
    findings = Findings()
    with pytest.raises(BenchError, match=r"scope \(TCPIP.*broken") as caught:
        check(lab, findings, transcript=transcript)
    assert not isinstance(caught.value, IdentityError)
    assert [f.verdict for f in findings.all if f.id == "output.on"] == ["good"]
    said = [line for line in transcript.read_text().splitlines() if "OUTP" in line or '"0' in line or '"1' in line]
    switched = [line for line in said if "OUTPut ON" in line or "OUTPut OFF" in line]
    assert "OUTPut OFF" in switched[-1]
    assert len([line for line in switched if "OUTPut ON" in line]) == 1
