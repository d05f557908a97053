"""Long runs, batches longer than the record and adaptive repeats in whole sweeps, as a user runs them."""

from __future__ import annotations

import html
import json
import re
import signal
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path

import h5py
import numpy as np
import pytest

from calibration.choice import Setup
from calibration.model import Calibration
from experiments import replay
from experiments.energy import results
from experiments.enough import Enough, half_width_percent
from experiments.measure import Measured
from experiments.reduction import reduce_run
from experiments.session import Earlier
from experiments.sweep_options import LONG_BATCH, LONG_S, parser
from experiments.traces import NOT_NEEDED, TraceReader, TraceWriter
from experiments.traces.checking import check
from experiments.traces.recovery import recover
from instruments import lab as lab_yaml
from tests.calibration.events import filed, marker_delay
from tests.experiments.test_forecast import assert_foretold
from tests.sweeps import ROOT, rows, run_undrawn

TX1 = ROOT / "docs" / "benches" / "simulated-tx1.yaml"
MINUTE = ["--mode", "long", "--long-s", "60", "--networks", "AlexNet", "--batches", "8", "--repeats", "1"]
SHORTER = ["--mode", "long", "--long-s", "5", "--window", "1", "--networks", "AlexNet", "--batches", "8,16"]
SHORTER += ["--repeats", "1"]


def sweep(out: Path, *args: str | Path, lab: Path = TX1) -> subprocess.CompletedProcess[str]:
    return run_undrawn("experiments.power_sweep", "--lab", lab, "--out", out, *args)


def off(row: dict[str, str], quantity: str = "energy_per_image_j") -> float:
    """How far the truth is from a result, in units of its U."""
    truth = float(row["true_energy_per_image_j"])
    return (float(row[quantity]) - truth) / float(row[f"{quantity}_u"])


def components(out: Path, quantity: str = "energy_per_image_j") -> list[dict[str, dict]]:
    """The budget of each row by the components' names."""
    budgets = json.loads((out / "budgets.json").read_text())
    return [{c["name"]: c for c in b["components"]} for b in budgets if b["quantity"] == quantity]


@pytest.fixture(scope="module")
def minute(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of a minute in virtual time."""
    out = tmp_path_factory.mktemp("long") / "run"
    done = sweep(out, *MINUTE)
    assert done.returncode == 0, done.stderr
    assert "long mode: 1 run of 6" in done.stdout
    return out


@pytest.fixture(scope="module")
def shorter(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two runs of five seconds."""
    out = tmp_path_factory.mktemp("shorter") / "run"
    done = sweep(out, *SHORTER, "--quiet")
    assert done.returncode == 0, done.stderr
    return out


def test_a_minute_in_consecutive_captures(minute: Path) -> None:
    assert all(abs(off(row)) < 1 for row in rows(minute / "results.csv"))
    assert check(minute / "trace.h5").sound
    with TraceReader(minute / "trace.h5") as reader:
        cells = [row for row in reader.captures() if row["kind"] == "cell"]
        assert [row["part"] for row in cells] == list(range(len(cells)))
        assert {row["run_id"] for row in cells} == {cells[0]["run_id"]}
        assert cells[0]["gate_fall_ns"] - cells[0]["gate_rise_ns"] >= 60e9
        assert len(cells) > 20
        gaps = [row["gap_before_s"] for row in cells[1:]]
        assert all(0.1 < gap < 1.0 for gap in gaps)  # a capture's transfer takes time, also in virtual time
        assert reader.cells()[0]["state"] == "committed"
        assert sum(row["kind"] == "idle" and row["cell"] >= 0 for row in reader.captures()) == 1
        outcome = reduce_run(reader)
    for row in outcome.rows:
        assert row is not None
        assert {"power between captures", "idle baseline, drift"} <= {c.name for c in row.net_power_w.components}
        # The device's log tells the time of what was not recorded, the captures the rate of its clock.
        named = {c.name for c in row.time_per_image_s.components}
        assert "edges against the device's log" in named
        assert "power between captures" not in named
        assert row.time_per_image_s.expanded() < 2e-4 * row.time_per_image_s.value


def shape_line(out: Path) -> list[str]:
    """The first row of the report's table of the shape of power."""
    text = (out / "report.html").read_text()
    text = text[text.index("The shape of power") :]
    cells = re.findall(r"<td[^>]*>(.*?)</td>", text[: text.index("</tr>", text.index("<td"))])
    return [html.unescape(re.sub(r"<[^>]*>", "", cell)) for cell in cells]


def test_the_shape_of_power_of_a_minute_is_told(minute: Path) -> None:
    (row,) = rows(minute / "results.csv")
    assert 13.0 < float(row["power_w"]) < float(row["peak_power_w"]) < 1.3 * float(row["power_w"])
    assert float(row["crest_factor"]) == pytest.approx(float(row["peak_power_w"]) / float(row["power_w"]), rel=1e-3)
    assert 0 <= float(row["steady_from_s"]) < 1
    shown = shape_line(minute)
    if row["settling_s"]:
        assert float(row["settling_s"]) == pytest.approx(2e-3, rel=0.15)  # simulation.world.settling_s
        assert " to " in shown[-2]
        # Of 0.89 of the time, less the two that each record cuts.
        assert 0.75 < int(shown[-1]) * float(row["batch_p50_s"]) / 60 < 0.89
    else:
        assert "no record of the run holds the gate's fall" in shown[6]
        assert "no record of the run holds the gate's fall" in shown[7]


def test_a_long_run_of_a_real_loop(tmp_path: Path) -> None:
    """On the bench in the computer's own time, where the agent runs and everything takes as long as it takes."""
    plan = ["--networks", "busy:4", "--batches", "2", "--repeats", "1", "--window", "0.2"]
    done = sweep(tmp_path / "run", *plan, "--mode", "long", "--long-s", "1.5", lab=ROOT / "lab.yaml")
    assert done.returncode == 0, done.stderr
    (row,) = rows(tmp_path / "run" / "results.csv")
    assert abs(off(row)) < 1.5
    with TraceReader(tmp_path / "run" / "trace.h5") as reader:
        parts = [r for r in reader.captures() if r["kind"] == "cell" and r["state"] == "committed"]
    assert len(parts) >= 3
    assert parts[0]["gate_fall_ns"] - parts[0]["gate_rise_ns"] > 1.5e9


def test_a_replay_of_long_runs_gives_the_same_bytes(minute: Path, tmp_path: Path) -> None:
    assert replay.main([str(minute / "trace.h5"), "--out", str(tmp_path / "again"), "--quiet", "--results-only"]) == 0
    replayed = (tmp_path / "again" / "results.csv").read_text()
    assert replayed.replace(" (replayed)", "") == (minute / "results.csv").read_text()


def test_a_long_run_that_is_killed_is_gone_on_with(shorter: Path, tmp_path: Path) -> None:
    """While captures of the second run are taken, as the number of forced triggers tells."""
    out = tmp_path / "run"
    killed = run_undrawn("tests.kills", "forced", "10", "--lab", TX1, *SHORTER, "--out", out, "--quiet")
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    found = check(out / "trace.h5")
    assert found.sound, found.problems
    assert found.in_flight
    done = run_undrawn("experiments.power_sweep", "--resume", out, "--quiet")
    assert done.returncode == 0, done.stderr
    assert (out / "results.csv").read_bytes() == (shorter / "results.csv").read_bytes()


def test_a_part_whose_lines_are_disturbed_is_left_out_and_said(tmp_path: Path) -> None:
    lab, out = tmp_path / "lab.yaml", tmp_path / "run"
    fault = "{kind: bounce, line: batch, skip: 116, within_s: 2.0e-3}"
    lab.write_text(TX1.read_text().replace("simulation:\n", f"simulation:\n  faults: {{markers: [{fault}]}}\n"))
    plan = ["--mode", "long", "--long-s", "5", "--window", "1", "--networks", "AlexNet", "--batches", "8"]
    done = sweep(out, *plan, "--repeats", "1", lab=lab)
    assert done.returncode == 0, done.stderr
    assert "1 of 5 captures are not used, the others count" in done.stdout
    (row,) = rows(out / "results.csv")
    assert abs(off(row)) < 1
    with TraceReader(out / "trace.h5") as reader:
        states = [(r["part"], r["state"], r["flags"]) for r in reader.captures() if r["kind"] == "cell"]
        outcome = reduce_run(reader)
    (lost,) = [(part, flags) for part, state, flags in states if state == "rejected"]
    assert "markers-extra" in lost[1]
    (budgets,) = outcome.rows
    assert budgets is not None
    assert float(row["energy_per_image_j"]) == pytest.approx(budgets.energy_per_image_j.value, rel=1e-8)


def test_a_part_that_is_lost_costs_itself_alone(minute: Path, tmp_path: Path) -> None:
    damaged, saved = tmp_path / "damaged.h5", tmp_path / "saved.h5"
    damaged.write_bytes((minute / "trace.h5").read_bytes())
    with TraceReader(damaged) as reader:
        victim = next(i for i, row in enumerate(reader.captures()) if row["part"] == 7)
    with h5py.File(damaged, "r+") as file:
        codes = file["captures/current_codes"][victim]
        codes[100:200] ^= 0x10
        file["captures/current_codes"][victim] = codes
    assert recover(damaged, saved)[1] == 1
    with TraceReader(saved) as reader:
        outcome = reduce_run(reader)
    for before, after in zip(rows(minute / "results.csv"), outcome.rows, strict=True):
        assert after is not None
        assert after.energy_per_image_j.value == pytest.approx(float(before["energy_per_image_j"]), rel=1e-3)
    assert not outcome.rejected


# --- a batch longer than the record ---------------------------------------------------------------


@pytest.fixture(scope="module")
def choices(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """VGG-16 at batch 16 takes three seconds, the record two: under each of the choices."""
    folder, found = tmp_path_factory.mktemp("choices"), {}
    for choice in LONG_BATCH:
        out = found[choice] = folder / choice
        plan = ["--networks", "VGG-16", "--batches", "16", "--repeats", "1", "--long-batch", choice]
        done = sweep(out, *plan)
        assert done.returncode == 0, done.stderr
        assert "batches that did not fit the usual record of 2 s" in done.stdout
    return found


def test_three_ways_agree_with_the_truth_and_each_other(choices: dict[str, Path]) -> None:
    found = {choice: rows(out / "results.csv")[0] for choice, out in choices.items()}
    flags = {choice: row["flags"] for choice, row in found.items()}
    assert flags == {
        "longer-record": "long-record",
        "consecutive": "consecutive-records",
        "steady": "steady-power",
    }
    for row in found.values():
        assert abs(off(row)) < 1
        # Runs differ, by what the board does; their differences from the truth agree.
        share = float(row["energy_per_image_j"]) / float(row["true_energy_per_image_j"])
        assert share == pytest.approx(1, abs=0.008)
    each = {choice: components(out)[0] for choice, out in choices.items()}
    named = {"time by the device's clock", "power between captures", "power outside the record"}
    assert {choice: named & parts.keys() for choice, parts in each.items()} == {
        "longer-record": set(),
        "consecutive": {"time by the device's clock", "power between captures"},
        "steady": {"time by the device's clock", "power outside the record"},
    }
    assert each["steady"]["power outside the record"]["distribution"] == "rectangular"


def test_each_way_tells_the_shape_of_its_power_or_why_not(choices: dict[str, Path]) -> None:
    for choice, out in choices.items():
        (row,) = rows(out / "results.csv")
        assert 1 < float(row["crest_factor"]) < 1.3, choice
        assert 0 <= float(row["steady_from_s"]) < 0.5
        shown = shape_line(out)
        if choice == "steady":
            assert row["settling_s"] == ""
            assert shown[6] == "unknown: no record of the run holds the gate's fall"
            assert shown[7] == "no record of the run holds a whole batch that follows another"
        elif choice == "consecutive":
            assert float(row["settling_s"]) == pytest.approx(2e-3, rel=0.15)
            assert shown[7] == "0 batches that follow another are too few to average"


@pytest.mark.parametrize("choice", ["consecutive", "steady"])
def test_a_replay_of_each_way_gives_the_same_bytes(choices: dict[str, Path], tmp_path: Path, choice: str) -> None:
    asked = ["--out", str(tmp_path / "again"), "--quiet", "--results-only"]
    assert replay.main([str(choices[choice] / "trace.h5"), *asked]) == 0
    replayed = (tmp_path / "again" / "results.csv").read_text()
    assert replayed.replace(" (replayed)", "") == (choices[choice] / "results.csv").read_text()


def test_a_load_that_works_and_rests_is_not_taken_for_steady(tmp_path: Path) -> None:
    done = sweep(
        tmp_path / "run", "--networks", "busy:1000:2500", "--batches", "1", "--repeats", "1", "--long-batch", "steady"
    )
    assert done.returncode == 1
    assert "the power is not steady in the record" in done.stdout
    assert "tried again" not in done.stderr
    (row,) = rows(tmp_path / "run" / "results.csv")
    assert row["energy_per_image_j"] == ""
    assert "not-steady" in row["flags"]


# --- adaptive repeats -----------------------------------------------------------------------------

ADAPTIVE = ["--networks", "AlexNet", "--batches", "1,16", "--repeats", "3", "--seed", "2", "--window", "1"]
TARGET = ["--target-u", "0.7", "--max-repeats", "5"]
LEAST, MOST = 3, 5


@pytest.fixture(scope="module")
def adaptive(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("adaptive") / "run"
    done = sweep(out, *ADAPTIVE, *TARGET)
    assert done.returncode == 0, done.stderr
    assert "not needed, since" in done.stderr
    assert re.search(r"note: \d+ of 10 repeats (was|were) not needed for a type-A interval within 0.7 %", done.stdout)
    return out


def test_repeats_end_once_the_target_is_reached_or_the_most_are_done(adaptive: Path) -> None:
    with TraceReader(adaptive / "trace.h5") as reader:
        outcome, cells = reduce_run(reader), reader.cells()
    counts = {(r.network, r.batch): r.repeats for r in outcome.rows if r is not None}
    assert len(set(counts.values())) > 1, counts  # else this seed shows nothing
    energies = {
        pair: [r.result.energy_per_image_j.value for r in outcome.repeats if (r.result.network, r.result.batch) == pair]
        for pair in counts
    }
    for pair, count in counts.items():
        mine = [row["state"] for row in cells if (row["network"], row["batch"]) == pair]
        assert mine == ["committed"] * count + [NOT_NEEDED] * (MOST - count)
        # Decided with the zero before alone; the one after moves energies, and so their scatter, a little.
        assert count == MOST or half_width_percent(energies[pair], LEAST) < 1.2 * 0.7
        for fewer in range(LEAST, count):
            assert half_width_percent(energies[pair][:fewer], LEAST) > 0.8 * 0.7
    assert outcome.missing == 0
    short = [
        pair for pair, count in counts.items() if count == MOST and half_width_percent(energies[pair], LEAST) > 0.7
    ]
    assert any("did not come within 0.7 %" in note for note in outcome.notes) == bool(short)


def test_a_sweep_that_is_gone_on_with_spares_the_same_repeats(adaptive: Path, tmp_path: Path) -> None:
    out = tmp_path / "run"
    command = [sys.executable, "-m", "experiments.power_sweep", "--lab", str(TX1), *ADAPTIVE, *TARGET]
    with subprocess.Popen(
        [*command, "--out", str(out)], stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, cwd=ROOT
    ) as process:
        assert process.stderr is not None
        next(line for line in process.stderr if "not needed" in line)
        process.send_signal(signal.SIGKILL)
        process.communicate()
    done = run_undrawn("experiments.power_sweep", "--resume", out, "--quiet")
    assert done.returncode == 0, done.stderr
    assert (out / "results.csv").read_bytes() == (adaptive / "results.csv").read_bytes()
    with TraceReader(out / "trace.h5") as here, TraceReader(adaptive / "trace.h5") as there:
        assert [c["state"] for c in here.cells()] == [c["state"] for c in there.cells()]


@pytest.mark.parametrize("mode", [["--window", "0.5"], ["--mode", "long", "--long-s", "2", "--window", "0.5"]])
def test_a_sweep_a_resumed_one_and_a_replay_take_back_the_same_delay_of_the_lines(
    tmp_path: Path, mode: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    from experiments.power_sweep import main

    lab, said = lab_yaml.load(TX1), tmp_path / "delay.yaml"
    when = datetime.now(UTC)
    record = marker_delay(
        lab, rise_s=3e-4, fall_s=5e-4, made=when - timedelta(hours=1), expires=when + timedelta(days=1)
    )
    said.write_text(filed(record.model_copy(update={"line": Setup.of(lab, when).line})).text)
    live: list[float] = []
    times_s: list[float] = []
    add = Enough.add

    def spied(self: Enough, measured: Measured, calibration: Calibration | None) -> None:
        assert calibration is not None
        assert calibration.delay is not None
        (row,) = results([measured], calibration)
        live.append(row.energy_per_image_j.value)
        times_s.append(row.time_per_image_s.value)
        add(self, measured, calibration)

    monkeypatch.setattr(Enough, "add", spied)
    plan = ["--networks", "AlexNet", "--batches", "1,4", "--repeats", "2", "--target-u", "20", "--max-repeats", "2"]
    out = tmp_path / "run"
    assert main(["--lab", str(TX1), *plan, *mode, "--calibration", str(said), "--out", str(out), "--quiet"]) == 0
    monkeypatch.undo()
    counted: list[float] = []
    with TraceReader(out / "trace.h5") as reader:
        earlier = Earlier.of(reader)
        for pair in (("AlexNet", 1), ("AlexNet", 4)):
            counted += earlier.enough.energies(*pair)
        again = [r.result.time_per_image_s.value for r in reduce_run(reader).repeats]
    assert len(live) == 4
    assert sorted(counted) == sorted(live)
    assert sorted(again) == sorted(times_s)  # the zero at the end moves energies


# --- options and files ----------------------------------------------------------------------------


def test_the_options_are_those_of_the_plan() -> None:
    from experiments import plan

    assert (LONG_S, LONG_BATCH) == (plan.LONG_S, plan.LONG_BATCH)
    assert parser().get_default("mode") == "paper"


def test_a_dry_run_says_how_long_it_will_take() -> None:
    plan = ["--networks", "AlexNet", "--batches", "1", "--repeats", "2", "--dry-run"]
    done = sweep(Path("unused"), *plan, "--mode", "long", "--target-u", "1", "--max-repeats", "4")
    assert done.returncode == 0, done.stderr
    assert "long mode: runs of at least 60 s" in done.stdout
    assert "2 to 4 repeats, until the type-A interval is within 1 %" in done.stdout
    captures, least, most = re.search(
        r"expected: (\d+) captures a cell, \d+ to \d+ in all; about ([\d.]+) min to ([\d.]+) min", done.stdout
    ).groups()  # type: ignore[union-attr]
    assert 24 <= int(captures) <= 30
    assert 2 < float(least) < 3
    assert float(most) == pytest.approx(2 * float(least), rel=0.2)


def test_that_is_what_it_takes(minute: Path, shorter: Path, choices: dict[str, Path]) -> None:
    for out in (minute, shorter, *choices.values()):
        assert_foretold(out, TX1)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--long-s", "30"], "--mode long"),
        (["--mode", "long", "--long-s", "3"], "two records"),
        (["--mode", "long", "--long-s", "6000"], "600 s"),
        (["--mode", "long", "--long-batch", "steady"], "--long-batch consecutive"),
        (["--mode", "long", "--gain-check"], "--gain-check"),
        (["--max-repeats", "5"], "--target-u"),
        (["--target-u", "1"], "--max-repeats"),
        (["--target-u", "1", "--max-repeats", "2"], "at least the 3"),
        (["--target-u", "1", "--max-repeats", "9", "--repeats", "1"], "--repeats 2"),
        (["--target-u", "0", "--max-repeats", "9"], "0.001"),
    ],
)
def test_options_that_contradict_each_other_are_refused(
    options: list[str], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    from experiments.power_sweep import main

    assert main(["--lab", str(TX1), *options, "--dry-run"]) == 2
    assert said in capsys.readouterr().err


@pytest.mark.parametrize("option", [["--mode", "long"], ["--long-batch", "steady"], ["--target-u", "2"]])
def test_a_run_is_gone_on_with_in_its_own_way(
    minute: Path, option: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    from experiments.power_sweep import main

    assert main(["--resume", str(minute), *option]) == 2
    assert f"leave out {option[0]}" in capsys.readouterr().err


def test_a_file_of_an_earlier_program_can_be_gone_on_with(tmp_path: Path) -> None:
    path = tmp_path / "trace.h5"
    path.write_bytes(Path("tests/golden/schema-1.h5").read_bytes())
    with h5py.File(path) as file:
        length = len(file["captures/capture"])
        assert "method" not in file["captures"]
    TraceWriter.resume(path).close()
    with TraceReader(path) as reader:
        table = reader.captures()
    assert len(table) == length
    assert {(row["method"], row["part"]) for row in table} == {("", 0)}
    assert np.isnan([row["gap_before_s"] for row in table]).all()
