"""A bench that is wired wrongly, or a recording that is useless, is refused or flagged under a code of its own."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from ruamel.yaml import YAML

from experiments import power_sweep
from experiments.flags import FLAGS
from experiments.plausible import gain_fault, stuck_fault
from experiments.replay import main as replay
from experiments.traces import TraceReader
from experiments.traces.__main__ import main as traces_main
from instruments import lab as lab_yaml
from instruments.e3645a.ratings import READ_BACK
from tests import foreign_files as foreign
from tests.sweeps import ROOT, rows, run, run_undrawn

VIRTUAL = ROOT / "docs" / "benches" / "simulated-tx1.yaml"
ENERGY = "energy_per_image_j"
ONE_CELL = ["--networks", "busy:4", "--batches", "2", "--repeats", "1", "--window", "0.4"]
WIDE = {"wiring": {"current": {"low_a": -9.0, "high_a": 9.9}}}


@dataclass
class Bench:
    """A bench that is not as its lab.yaml says, and what a sweep of one cell makes of it."""

    leads: str
    exit_code: int
    outcome: str
    flags: str
    said: str
    changes: dict[str, Any] | None = None


BOTH_LATE = "{kind: shifted, lead: gate, delay_s: 0.06}, {kind: shifted, lead: batch, delay_s: 0.06}"
BENCHES = {
    "a reversed clamp": Bench(
        "{kind: gain, lead: current, factor: -1}", 2, "not measured", "reversed-probe", "change probe.reversed"
    ),
    "a reversed clamp within its span": Bench(
        "{kind: gain, lead: current, factor: -1}",
        2,
        "not measured",
        "reversed-probe",
        "turn (it|the clamp) round",
        WIDE,
    ),
    "the clamp at 10 mV/A": Bench(
        "{kind: gain, lead: current, factor: 0.1}", 2, "not measured", "wrong-attenuation", "probe.range_v_per_a"
    ),
    "a tenth of the range, clipped": Bench(
        "{kind: gain, lead: current, factor: 3}", 2, "not measured", "wrong-attenuation", "the supply reads 0.6"
    ),
    "ten times the clamp's range, clipped in the zero already": Bench(
        "{kind: gain, lead: current, factor: 10}", 2, "not measured", "wrong-attenuation", r"noise is 0\.\d+ A rms"
    ),
    "a 1:1 lead of the voltage": Bench(
        "{kind: gain, lead: voltage, factor: 10}", 2, "not measured", "wrong-attenuation", "wiring.voltage.probe_ratio"
    ),
    "a lead of the voltage that shows a tenth too little": Bench(
        "{kind: gain, lead: voltage, factor: 0.9}",
        2,
        "not measured",
        "wrong-attenuation",
        r"1[67]\.\d+ V on CHAN3 where the supply reads 19 V, -1\d\.\d % off.* measure both with a voltmeter",
    ),
    "a dead clamp": Bench("{kind: dead, lead: current}", 2, "not measured", "flat-line", "the clamp sees no current"),
    "current and voltage swapped": Bench(
        "{kind: moved, lead: current, to: 3}, {kind: moved, lead: voltage, to: 1}",
        2,
        "not measured",
        "swapped-channels",
        "swap the two cables",
    ),
    "gate and batch line swapped": Bench(
        "{kind: moved, lead: gate, to: 1}, {kind: moved, lead: batch, to: 0}",
        2,
        "not measured",
        "lines-unrelated",
        "gate and batch line are swapped",
    ),
    "lines of a board that works later": Bench(
        BOTH_LATE, 2, "not measured", "lines-unrelated", r"rises .* ms .*before the gate \(correlation 0\.\d\d"
    ),
    "a dead batch line": Bench(
        "{kind: dead, lead: batch}", 2, "not measured", "markers-missing", r"\(wiring.batch, D1\) is dead, on another"
    ),
    "an inverted gate line": Bench(
        "{kind: inverted, lead: gate}", 2, "not measured", "markers-cut", r"gate line \(wiring.gate, D0\) is inverted"
    ),
    "a saturated clamp": Bench(
        "{kind: gain, lead: current, factor: 18}", 1, "rejected", "saturated", "beyond the 10 A of the clamp", WIDE
    ),
    "lines that lag 10 ms behind the work": Bench(BOTH_LATE.replace("0.06", "0.01"), 0, "measured", "lines-late", ""),
    "a clamp whose jaws do not close": Bench(
        "{kind: gain, lead: current, factor: 0.8}", 0, "measured", "gain-unlikely", ""
    ),
    "work that begins 30 ms after its mark": Bench(
        "", 0, "measured", "lines-early", "", {"simulation": {"world": {"marker_delay_s": -0.03}}}
    ),
    "a board not at rest": Bench("", 0, "measured", "baseline-not-idle", "", {"dut": {"rest_s": 0.0}}),
}


@pytest.mark.parametrize("name", BENCHES)
def test_a_bench_that_is_not_as_its_file_says(name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    case, yaml = BENCHES[name], YAML(typ="safe")
    tree = yaml.load(VIRTUAL)
    for section, change in (case.changes or {}).items():
        for key, value in change.items():
            tree[section][key] = {**tree[section][key], **value} if isinstance(value, dict) else value
    tree["simulation"]["faults"] = yaml.load(f"leads: [{case.leads}]")
    yaml.dump(tree, tmp_path / "lab.yaml")
    out = tmp_path / "run"
    code = power_sweep.main(["--lab", str(tmp_path / "lab.yaml"), *ONE_CELL, "--out", str(out)])
    printed = capsys.readouterr()
    assert code == case.exit_code, printed.err
    (row,) = rows(out / "results.csv")
    assert (row["outcome"], row["flags"]) == (case.outcome, case.flags), printed.err
    assert re.search(case.said, printed.err), printed.err
    assert case.flags in printed.out  # the closing table
    assert case.flags in (out / "report.html").read_text()
    with TraceReader(out / "trace.h5") as reader:
        runs = [r for r in reader.captures() if r["kind"] in ("zero", "gain", "cell")]
        refused = {code for r in runs if r["state"] == "rejected" for code in r["flags"].split()}
    assert refused == (set() if case.exit_code == 0 else set(case.flags.split()))
    if case.exit_code == 2:
        return
    assert replay([str(out / "trace.h5"), "--out", str(tmp_path / "again"), "--results-only", "--quiet"]) in (0, 1)
    (again,) = rows(tmp_path / "again" / "results.csv")
    assert {k: v for k, v in again.items() if k != "source"} == {k: v for k, v in row.items() if k != "source"}


@pytest.mark.parametrize(
    ("amps", "volts", "code", "said"),
    [
        (0.68, 19.0, "", ""),
        (0.68 * 1.04, 19.0 * 0.96, "", ""),
        (0.68 * 1.3, 19.0, "", ""),  # no switch does that: a calibration's matter
        (1.36, 19.0, "wrong-attenuation", r"about 2 turns"),
        (0.136, 19.0, "wrong-attenuation", "clamp"),
        (6.8, 19.0, "wrong-attenuation", "range switch"),
        (0.68, 190.0, "wrong-attenuation", "attenuates 1:1"),
        (0.68, 1.9, "wrong-attenuation", "attenuates 100:1"),
        (0.68, 19.0 * 0.9, "wrong-attenuation", r"17\.1 V on CHAN3 where the supply reads 19 V, -10\.0 % off"),
        (0.68, 19.0 * 1.2, "wrong-attenuation", r"22\.8 V .* \+20\.0 % off"),
        (-0.68, 19.0, "reversed-probe", "probe.reversed"),
        (0.68, -19.0, "reversed-probe", "tip and ground"),
        (0.001, 19.0, "flat-line", "sees no current"),
        (0.68, 0.03, "flat-line", "sees no voltage"),
        (np.nan, 19.0, "not-a-number", ""),
    ],
)
def test_a_comparison_with_the_supply_tells_a_switch_from_a_gain(
    amps: float, volts: float, code: str, said: str
) -> None:
    read_a = amps if np.isnan(amps) else 0.68
    found = gain_fault(lab_yaml.load(VIRTUAL), amps, volts, read_a, 19.0)
    assert (found.code if found else "") == code
    assert re.search(said, str(found))


@pytest.mark.parametrize(
    ("work_a", "read_a", "stuck"),
    [
        (0.68, [0.681, 0.681, 0.681], True),  # near the right value: no gain would tell
        (0.68, [0.11, 0.68, 0.682], False),
        (0.13, [0.131, 0.131, 0.131], False),  # a load hardly above the idle one
        (0.139, [0.131, 0.131, 0.131], False),  # less than some 30 mA above it
        (0.142, [0.131, 0.131, 0.131], True),
        (0.68, [0.66, 0.68, 0.7], False),
    ],
)
def test_a_supply_that_reads_the_same_whatever_flows(work_a: float, read_a: list[float], stuck: bool) -> None:
    found = stuck_fault(READ_BACK.current, 0.11, work_a, read_a)
    assert (found is not None and found.code == "stuck-read-back") is stuck


def test_a_read_back_that_stands_still_ends_a_sweep_at_its_first_comparison(tmp_path: Path) -> None:
    lab, out = tmp_path / "lab.yaml", tmp_path / "run"
    stuck = 'simulation:\n  faults: {supply: [{kind: replace, matching: MEAS.*CURR, data: "+6.9E-01\\n", times: 0}]}\n'
    lab.write_text(VIRTUAL.read_text().replace("simulation:\n", stuck))
    done = run("experiments.power_sweep", "--lab", lab, *ONE_CELL, "--out", out)
    assert done.returncode == 2, done.stderr
    told = r"stuck-read-back: the supply reads 0\.69 A for the idle board and .* at work alike, .* by 0\.[56]\d* A"
    assert re.search(told, done.stderr), done.stderr
    (row,) = rows(out / "results.csv")
    assert (row["outcome"], row["flags"]) == ("not measured", "stuck-read-back")


def test_a_read_back_that_comes_to_stand_still_during_a_sweep_is_seen_by_the_idle_board_after_it(
    tmp_path: Path,
) -> None:
    """It moved from the idle board to the one at work, and then no more: 1.6 % beside what flows."""
    lab, out = tmp_path / "lab.yaml", tmp_path / "run"
    fault = '{kind: replace, matching: MEAS.*CURR, data: "+6.7E-01\\n", skip: 3, times: 0}'
    lab.write_text(VIRTUAL.read_text().replace("simulation:\n", f"simulation:\n  faults: {{supply: [{fault}]}}\n"))
    done = run_undrawn("experiments.power_sweep", "--lab", lab, *ONE_CELL, "--out", out)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("a gain capture was not used: stuck-read-back: the supply reads 0.67 A") == 2
    (row,) = rows(out / "results.csv")
    energy, u, truth = (float(row[name]) for name in (ENERGY, f"{ENERGY}_u", f"true_{ENERGY}"))
    assert u > 0.03 * energy  # that of the makers' limits
    assert abs(energy - truth) < u


@pytest.mark.parametrize(("set_v", "flag"), [(18.5, "other-voltage"), (18.95, "")])
def test_a_supply_that_is_set_to_another_voltage_at_its_front_panel(set_v: float, flag: str, tmp_path: Path) -> None:
    lab, out = tmp_path / "lab.yaml", tmp_path / "run"
    hand = f'{{kind: panel, matching: MEAS.*CURR, skip: 2, commands: "VOLT {set_v}"}}'
    lab.write_text(VIRTUAL.read_text().replace("simulation:\n", f"simulation:\n  faults: {{supply: [{hand}]}}\n"))
    done = run_undrawn("experiments.power_sweep", "--lab", lab, *ONE_CELL, "--out", out)
    assert done.returncode == 0, done.stderr
    (row,) = rows(out / "results.csv")
    assert ("other-voltage" in row["flags"].split()) is bool(flag)
    assert (f"the farthest at {set_v:g}" in done.stdout) is bool(flag)


def test_a_supply_that_reads_next_to_nothing_proves_nothing_about_the_clamp() -> None:
    assert gain_fault(lab_yaml.load(VIRTUAL), 0.2, 19.0, 0.01, 19.0) is None


def test_a_supply_that_reads_next_to_no_voltage_proves_nothing_about_its_lead() -> None:
    assert gain_fault(lab_yaml.load(VIRTUAL), 0.2, 0.12, 0.2, 0.06) is None  # not a switch at 10:1 or 5:1


# --- recordings of others -------------------------------------------------------------------------


@pytest.fixture(scope="module")
def signal() -> foreign.Signal:
    return foreign.signal(runs=1, batches=5, batch_s=0.04, rate_hz=20_000.0)


def imported(folder: Path, signal: foreign.Signal, files: int = 1, *options: str) -> list[str]:
    """Import the same signal from some files; the row's flags, and the exit code of its replay."""
    paths = [foreign.write_scope_csv(folder / f"{k}.csv", signal) for k in range(files)]
    trace = folder / "trace.h5"
    assert traces_main(["import", *map(str, paths), "--out", str(trace), "--batch", "4", *options]) == 0
    record = foreign.accuracy_record(folder / "maker.yaml")
    replay([str(trace), "--out", str(folder / "out"), "--calibration", str(record), "--results-only"])
    (row,) = rows(folder / "out" / "results.csv")
    return [row["outcome"], *row["flags"].split()]


def test_a_sound_recording_has_no_flag(tmp_path: Path, signal: foreign.Signal) -> None:
    assert imported(tmp_path, signal) == ["measured"]


def test_the_same_recording_twice_is_one_measurement(tmp_path: Path, signal: foreign.Signal) -> None:
    assert imported(tmp_path, signal, 2) == ["measured", "stale-record"]


def test_a_current_the_wrong_way_round(tmp_path: Path, signal: foreign.Signal) -> None:
    assert imported(tmp_path, signal, 1, "--scale", "current=-10") == ["rejected", "reversed-probe"]


def test_a_voltage_the_wrong_way_round(tmp_path: Path, signal: foreign.Signal) -> None:
    assert imported(tmp_path, replace(signal, voltage_v=-signal.voltage_v)) == ["rejected", "reversed-probe"]


def test_a_current_without_any_noise(tmp_path: Path, signal: foreign.Signal) -> None:
    flat = replace(signal, current_a=np.full_like(signal.current_a, 0.5))
    assert imported(tmp_path, flat) == ["rejected", "flat-line"]


def test_a_current_that_does_not_move_cannot_be_checked(tmp_path: Path, signal: foreign.Signal) -> None:
    noise = 0.01 * np.random.default_rng(1).standard_normal(signal.current_a.size)
    assert imported(tmp_path, replace(signal, current_a=0.5 + noise)) == ["measured", "lines-unchecked"]


def test_a_current_of_another_time(tmp_path: Path, signal: foreign.Signal) -> None:
    moved = replace(signal, current_a=np.roll(signal.current_a, -signal.current_a.size // 3))
    assert imported(tmp_path, moved) == ["rejected", "lines-unrelated"]


def test_a_recording_without_a_zero_is_not_reduced(tmp_path: Path, signal: foreign.Signal) -> None:
    imported(tmp_path, signal)
    assert replay([str(tmp_path / "trace.h5"), "--out", str(tmp_path / "none"), "--results-only"]) == 1
    (row,) = rows(tmp_path / "none" / "results.csv")
    assert (row["power_w"], row["flags"]) == ("", "no-zero")


def test_no_number_is_named_with_its_line_and_column(tmp_path: Path, signal: foreign.Signal, capsys: Any) -> None:
    path = foreign.write_scope_csv(tmp_path / "a.csv", signal)
    lines = path.read_text().splitlines()
    cells = lines[499].split(",")
    lines[499] = ",".join([cells[0], "nan", *cells[2:]])
    path.write_text("\n".join(lines))
    assert traces_main(["import", str(path), "--out", str(tmp_path / "t.h5"), "--batch", "4"]) != 0
    said = capsys.readouterr().err
    assert f"{path}:500: 1 has no value there" in said
    assert "not-a-number" in said
    assert "not-a-number" in FLAGS


@pytest.mark.parametrize(("skip", "kind"), [(30, "idle"), (36, "zero")])
def test_a_scope_that_lags_one_record_behind_spoils_no_cell(tmp_path: Path, skip: int, kind: str) -> None:
    """The closing records are then those of earlier acquisitions: refused, with the cells measured as they were."""
    text = VIRTUAL.read_text()
    fault = f"faults: {{scope: [{{kind: stale, matching: 'WAV.*DATA', back: 3, times: 0, skip: {skip}}}]}}"
    assert "simulation:\n" in text
    lab = tmp_path / "lab.yaml"
    lab.write_text(text.replace("simulation:\n", f"simulation:\n  {fault}\n"))
    out = tmp_path / "run"
    done = run(
        "experiments.power_sweep", "--lab", lab, "--networks", "AlexNet,ENet", "--batches", "1,2", "--repeats", "2",
        "--out", out,
    )  # fmt: skip
    assert done.returncode in (0, 1), done.stderr
    with TraceReader(out / "trace.h5") as reader:
        refused = [row["kind"] for row in reader.captures() if "stale-record" in row["flags"]]
    assert kind in refused
    for row in rows(out / "results.csv"):
        if row["energy_per_image_j"]:
            found, true, u = (
                float(row[n]) for n in ("energy_per_image_j", "true_energy_per_image_j", "energy_per_image_j_u")
            )
            assert abs(found - true) <= u < 0.1 * true
