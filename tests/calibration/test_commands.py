"""The calibration commands as a user runs them, and sweeps and replays that rest on what they wrote."""

from __future__ import annotations

import csv
import json
import os
import pty
import select
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from calibration import check, marker_delay, probe, show, voltage
from calibration import list as list_command
from calibration.choice import Setup
from calibration.records import MarkerDelayRecord, ProbeRecord, VoltageRecord, load, parse, save, text_of
from calibration.show import relative_u
from experiments import power_sweep, replay
from experiments.calibrations import records_of, still_fit
from experiments.outcome import results_csv
from experiments.reduction import reduce_run
from experiments.traces import TraceReader
from instruments import lab as lab_yaml
from instruments.errors import ConfigError
from instruments.simulated.station import Station
from tests.sweeps import ROOT, output_is_on, rows, run, run_undrawn, served_bench

TX1 = ROOT / "docs" / "benches" / "simulated-tx1.yaml"
SEED, DELAY_S = 5, 3e-4
ENERGY = "energy_per_image_j"
QUICK = ["--networks", "busy:20", "--batches", "2", "--repeats", "1", "--window", "0.5", "--seed", str(SEED)]


def bench_file(folder: Path, *changes: tuple[str, str], name: str = "lab.yaml") -> Path:
    """A lab file of the board in virtual time, with local sense and late marker lines, and what else is replaced."""
    text = TX1.read_text()
    for old, new in (
        (
            "  ovp_v: 21.0\n",
            "  ovp_v: 21.0\n  sense: local\n  lead_resistance_ohm: 0.05\n  lead_resistance_u_ohm: 0.01\n",
        ),
        ("world: {", f"world: {{marker_delay_s: {DELAY_S}, "),
        *changes,
    ):
        assert old in text, old
        text = text.replace(old, new)
    path = folder / name
    path.write_text(text)
    return path


@dataclass(frozen=True)
class Bench:
    """A calibrated bench: its lab file, its records, and what is true of it."""

    lab: Path
    records: Path
    gain_i: float
    gain_v: float
    printed: dict[str, str]

    def record(self, kind: str) -> Any:
        return load(self.records / f"{kind}.yaml").record


@pytest.fixture(scope="module")
def bench(tmp_path_factory: pytest.TempPathFactory) -> Bench:
    """One bench, calibrated by each of the commands."""
    folder = tmp_path_factory.mktemp("bench")
    lab, records, printed = bench_file(folder), folder / "records", {}
    for command, options in (
        ("probe", ["--window", "0.4", "--temperature", "22.5"]),
        ("voltage", ["--window", "1.0"]),
        ("marker_delay", ["--runs", "16"]),
    ):
        out = records / f"{command}.yaml"
        done = run(f"calibration.{command}", "--lab", lab, "--seed", SEED, "--out", out, *options)
        assert done.returncode == 0, done.stderr
        printed[command] = done.stdout
    with tempfile.TemporaryDirectory() as state:
        station = Station(lab_yaml.load(lab), state_dir=Path(state), seed=SEED)
        gains = station.scope.synthesiser._gain
        truths = station.world.probe_gain * gains[0], station.world.voltage_gain * gains[2]
        station.stop()
    return Bench(lab, records, *truths, printed)


# --- what they find -------------------------------------------------------------------------------


def test_the_records_hold_what_is_true_of_the_bench(bench: Bench) -> None:
    lab = lab_yaml.load(bench.lab)
    of_probe: ProbeRecord = bench.record("probe")
    assert bench.gain_i == pytest.approx(of_probe.gain.value, rel=1.3 * relative_u(of_probe))
    assert relative_u(of_probe) < 0.003
    assert (of_probe.serials.probe, of_probe.serials.scope, of_probe.serials.supply) == ("SIM1146B", "MY00000001", "0")
    assert of_probe.temperature_c == 22.5
    assert of_probe.setting == Setup.of(lab, of_probe.made).current
    of_volts: VoltageRecord = bench.record("voltage")
    assert bench.gain_v == pytest.approx(of_volts.gain.value, rel=1.3 * relative_u(of_volts))
    assert of_volts.lead_ohm is not None
    assert of_volts.lead_ohm.value == pytest.approx(0.05, abs=5 * of_volts.lead_ohm.u)
    of_lines: MarkerDelayRecord = bench.record("marker_delay")
    for edge in (of_lines.rise_s, of_lines.fall_s):
        assert edge.value == pytest.approx(DELAY_S, abs=3 * edge.u)
        assert edge.u < 1e-4
    assert of_lines.start_frames.read == of_lines.start_frames.sent == 4
    assert 0 < of_lines.software_bound_s < 0.02
    assert "gain" in bench.printed["probe"]
    assert "mohm" in bench.printed["voltage"]
    assert "µs" in bench.printed["marker_delay"]


def test_the_raw_data_are_a_trace_file_and_no_run(bench: Bench, tmp_path: Path) -> None:
    record = bench.record("probe")
    trace = bench.records / record.raw.file
    with TraceReader(trace) as reader:
        assert reader.complete
        kinds = [c["kind"] for c in reader.captures() if c["state"] == "committed"]
        assert kinds == ["zero", *["load"] * 9, "zero"]
        assert {r.quantity for r in reader.readings(1)} == {"A"}
        # The figures of the record, from the file alone.
        zero, first = (
            next(d for d in reader.data(kinds=(kind,))).capture["current"].values().mean() for kind in ("zero", "load")
        )
        assert first - zero == pytest.approx(record.points[0].reading, abs=1e-3)
    done = run("experiments.replay", trace, "--out", tmp_path / "out")
    assert done.returncode == 3
    assert "holds the raw data of a calibration (probe)" in done.stderr
    assert "Traceback" not in done.stderr


def test_a_shunt_knows_the_current_better(bench: Bench, tmp_path: Path) -> None:
    shunt = ["--reference", "shunt", "--shunt-ohm", "0.1", "--shunt-limit", "2e-4", "--voltmeter", "1e-4,1e-5"]
    out = tmp_path / "shunt.yaml"
    done = run(
        "calibration.probe", "--lab", bench.lab, "--seed", SEED, "--out", out, "--window", "0.4",
        "--currents", "0.3,0.8,1.2", *shunt,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    record = load(out).record
    assert isinstance(record, ProbeRecord)
    assert record.reference.kind == "shunt"
    assert record.gain.value == pytest.approx(bench.gain_i, rel=0.002)
    assert abs(record.intercept_a.value) < 0.002  # no read-back's zero in it


# --- list, show, check ----------------------------------------------------------------------------


def test_list_says_what_there_is_and_what_expires(bench: Bench, capsys: pytest.CaptureFixture[str]) -> None:
    assert list_command.main([str(bench.records), "--lab", str(bench.lab)]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 3
    assert all("[used]" in line for line in lines)
    assert any("probe.yaml  probe  7.0 days left" in line and "SIM1146B" in line for line in lines)
    assert list_command.main([str(bench.records), "--json"]) == 0
    assert {row["kind"]: row["state"] for row in json.loads(capsys.readouterr().out)} == {
        "probe": "7.0 days left",
        "voltage": "valid",
        "marker_delay": "valid",
    }
    assert list_command.main([]) == 0
    assert "makers-limits-1146b-100mv.yaml" in capsys.readouterr().out
    assert list_command.main(["nowhere"]) == 2


def test_show_says_it_in_words(bench: Bench, capsys: pytest.CaptureFixture[str]) -> None:
    assert show.main([str(bench.records / f"{kind}.yaml") for kind in ("probe", "voltage", "marker_delay")]) == 0
    said = capsys.readouterr().out
    for part in (
        "100 mV/A, 1 turn",
        "10:1, local sense",
        "until it expires",
        "at 22.5 °C",
        "leads",
        "gain and intercept are correlated by -0.",
        "start frames: 4",
    ):
        assert part in said
    assert show.main([str(bench.records / "probe.yaml"), "--points"]) == 0
    assert capsys.readouterr().out.count(" A by the reference, ") == 9
    assert show.main([str(bench.lab)]) == 2


def test_check_finds_raw_data_that_changed(bench: Bench, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert check.main([str(bench.records)]) == 0
    assert capsys.readouterr().out.count("record of kind") == 3
    raw = bench.records / "probe.h5"
    here = tmp_path / "probe.yaml"
    here.write_text((bench.records / "probe.yaml").read_text())
    assert check.main([str(here)]) == 1
    assert "raw data probe.h5 are not beside it" in capsys.readouterr().out
    (tmp_path / "probe.h5").write_bytes(raw.read_bytes()[:-1] + b"x")
    assert check.main([str(tmp_path), "--json"]) in (1, 3)
    assert any("have changed since" in w for row in json.loads(capsys.readouterr().out) for w in row["wrong"])
    assert check.main(["nowhere.h5"]) == 2


# --- sweeps and replays ---------------------------------------------------------------------------


@pytest.fixture(scope="module")
def swept(bench: Bench, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A sweep with all records of the bench, by its lab file."""
    lab = bench_file(bench.lab.parent, ("dut:\n", "calibrations: records\n\ndut:\n"), name="calibrated.yaml")
    out = tmp_path_factory.mktemp("swept") / "run"
    done = run_undrawn("experiments.power_sweep", "--lab", lab, "--out", out, "--require-calibration", *QUICK)
    assert done.returncode == 0, done.stderr
    assert "warning" not in done.stderr
    assert "weights" in done.stdout
    return out


def again(trace: Path, record: Path) -> dict[str, str]:
    """The row that a replay with another record gives."""
    with TraceReader(trace) as reader:
        reader.calibrations = [load(record)]
        (row,) = csv.DictReader(results_csv(reduce_run(reader), replayed=True).splitlines())
    return row


def the_row(folder: Path) -> dict[str, str]:
    (row,) = rows(folder / "results.csv")
    return row


def test_a_sweep_rests_on_its_records_and_says_so(
    bench: Bench, swept: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with TraceReader(swept / "trace.h5") as reader:
        stored = reader.json("calibrations")
    assert {entry["kind"] for entry in stored if entry["used"]} == {"probe", "voltage", "marker_delay"}
    for entry in stored:
        assert parse(entry["text"], entry["name"]).record == load(bench.records / entry["name"]).record
    row = the_row(swept)
    energy, truth, u = (
        float(row[k]) for k in ("energy_per_image_j", "true_energy_per_image_j", "energy_per_image_j_u")
    )
    assert abs(energy - truth) < u
    assert check.main([str(swept / "trace.h5"), "--records", str(bench.records)]) == 0
    said = capsys.readouterr().out
    assert all(f"{kind}.yaml" in said for kind in ("probe", "voltage", "marker_delay"))
    assert "marker_delay.yaml" in (swept / "report.html").read_text()


def test_a_replay_gives_the_same_and_another_record_another_result(bench: Bench, swept: Path, tmp_path: Path) -> None:
    assert replay.main([str(swept / "trace.h5"), "--out", str(tmp_path / "same"), "--quiet", "--results-only"]) == 0
    same = (tmp_path / "same" / "results.csv").read_text()
    assert same.replace(" (replayed)", "") == (swept / "results.csv").read_text()
    of_probe: ProbeRecord = bench.record("probe")
    other = of_probe.model_copy(
        update={"gain": of_probe.gain.model_copy(update={"value": of_probe.gain.value * 1.004}), "raw": None}
    )
    save(other, tmp_path / "other.yaml")
    given = ["--quiet", "--results-only", "--calibration", str(tmp_path / "other.yaml")]
    assert replay.main([str(swept / "trace.h5"), "--out", str(tmp_path / "o"), *given]) == 0
    before, after = the_row(swept), the_row(tmp_path / "o")
    assert after["source"] == "simulated (replayed, calibration other)"
    change = float(after["net_power_w"]) / float(before["net_power_w"]) - 1
    assert -0.004 < change < -0.0015
    assert after["time_per_image_s"] == before["time_per_image_s"]


def test_a_record_narrows_the_interval_and_the_delay_moves_the_window(
    bench: Bench, swept: Path, tmp_path: Path
) -> None:
    done = run_undrawn("experiments.power_sweep", "--lab", bench.lab, "--out", tmp_path / "bare", *QUICK)
    assert done.returncode == 0, done.stderr
    bare, with_records = the_row(tmp_path / "bare"), the_row(swept)
    assert float(with_records["net_power_w_u"]) < 0.8 * float(bare["net_power_w_u"])
    moved = again(tmp_path / "bare" / "trace.h5", bench.records / "marker_delay.yaml")
    assert moved["source"] == "simulated (replayed, calibration marker_delay)"
    truth = float(bare["true_energy_per_image_j"])
    batch_w = float(bare["power_w"]) - float(bare["idle_power_w"])
    change = float(moved["energy_per_image_j"]) - float(bare["energy_per_image_j"])
    assert 0 < abs(change) < 2 * DELAY_S * batch_w
    assert abs(float(moved["energy_per_image_j"]) - truth) < float(moved["energy_per_image_j_u"])


@pytest.mark.parametrize(
    ("change", "code"),
    [
        ({"expires": "past"}, "expired"),
        ({"made": "future"}, "made later: it was made"),
        ({"serials": {"probe": "ANOTHER"}}, "foreign serial"),
        ({"setting": {"turns": 5}}, "out of range: it is of turns 5, and here turns is 1"),
        ({"setting": {"range_v_per_a": 0.01}}, "out of range: it is of range_v_per_a 0.01"),
    ],
)
def test_a_record_that_does_not_fit_is_warned_of_or_refused(
    bench: Bench, tmp_path: Path, capsys: pytest.CaptureFixture[str], change: dict[str, Any], code: str
) -> None:
    record = bench.record("probe")
    if "expires" in change:
        days = timedelta(days=40)
        update: dict[str, Any] = {"made": record.made - days, "expires": record.made - timedelta(days=30)}
    elif "made" in change:
        update = {"made": record.made + timedelta(days=40), "expires": record.made + timedelta(days=50)}
    else:
        update = {name: getattr(record, name).model_copy(update=value) for name, value in change.items()}
    path = tmp_path / "unfit.yaml"
    path.write_text(text_of(record.model_copy(update=update)))
    asked = ["--lab", str(bench.lab), "--dry-run", *QUICK, "--quiet", "--calibration", str(path)]
    assert power_sweep.main(asked) == 0
    assert f"warning: calibration record unfit.yaml (probe) is not used: {code}" in capsys.readouterr().err
    assert power_sweep.main([*asked, "--require-calibration"]) == 2
    refused = capsys.readouterr().err
    assert "--require-calibration" in refused
    assert code in refused


def test_a_replay_judges_by_the_day_of_the_run(bench: Bench, swept: Path, tmp_path: Path) -> None:
    record = bench.record("probe")
    save(
        record.model_copy(update={"made": record.made - timedelta(days=9), "expires": record.made - timedelta(days=2)}),
        tmp_path / "old.yaml",
    )
    asked = [str(swept / "trace.h5"), "--out", str(tmp_path / "out"), "--calibration", str(tmp_path / "old.yaml")]
    assert replay.main([*asked, "--quiet", "--require-calibration"]) == 2
    assert again(swept / "trace.h5", tmp_path / "old.yaml")["source"] == "simulated (replayed)"
    with TraceReader(swept / "trace.h5") as reader:
        reader.calibrations = [load(tmp_path / "old.yaml")]
        assert any("old.yaml (probe) is not used: expired" in note for note in reduce_run(reader).notes)


def test_a_run_that_is_gone_on_with_after_its_record_expired_rests_on_it_no_more(bench: Bench, swept: Path) -> None:
    days = timedelta(days=1)
    expires = bench.record("probe").expires
    with TraceReader(swept / "trace.h5") as reader:
        records, said = still_fit(reader, expires - days, require=True)
        assert records.probe is not None
        assert not said
        records, said = still_fit(reader, expires + days)
        assert records.probe is None
        assert any("(probe) is not used: expired" in line for line in said)
        with pytest.raises(ConfigError, match=r"--require-calibration: .*expired"):
            still_fit(reader, expires + days, require=True)
        later = [*reader.captures(), {**reader.captures()[-1], "session": 1, "utc_s": (expires + days).timestamp()}]
        reader.captures = lambda: later  # type: ignore[method-assign]
        assert records_of(reader).probe is None


def test_a_sweep_without_any_record_may_be_refused(bench: Bench, capsys: pytest.CaptureFixture[str]) -> None:
    asked = ["--lab", str(bench.lab), "--dry-run", *QUICK]
    assert power_sweep.main([*asked, "--require-calibration"]) == 2
    assert "no calibration record of the probe" in capsys.readouterr().err
    assert power_sweep.main([*asked, "--calibration", "nowhere.yaml"]) == 2
    assert "nowhere.yaml: cannot be read" in capsys.readouterr().err


# --- ways out -------------------------------------------------------------------------------------


def test_a_wrong_clamp_makes_no_record(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    lab = bench_file(
        tmp_path, ("  seed: 1\n", "  seed: 1\n  faults: {leads: [{lead: current, kind: gain, factor: 0.5}]}\n")
    )
    out = tmp_path / "record.yaml"
    done = run("calibration.probe", "--lab", lab, "--out", out, "--window", "0.4", "--currents", "0.3,0.8,1.2")
    assert done.returncode == 1
    assert "further from 1 than twice the makers' limits" in done.stderr
    assert "Traceback" not in done.stderr
    assert not out.exists()
    with TraceReader(out.with_suffix(".h5")) as reader:
        assert not reader.complete
        assert len(reader.captures()) == 7
    assert probe.main(["--lab", str(lab), "--out", str(out)]) == 2
    assert "none is ever overwritten" in capsys.readouterr().err


PANEL = '  seed: 1\n  faults: {{scope: [{{kind: panel, matching: "WAV.*DATA", skip: 13, commands: "{}"}}]}}\n'


@pytest.mark.parametrize(
    ("module", "options", "commands", "told"),
    [
        (probe, ["--currents", "0.3,0.8,1.2"], ":CHANnel1:SCALe 0.5", "CHANnel1:RANGe is "),
        (voltage, [], ":CHANnel3:SCALe 10", "CHANnel3:RANGe is "),
        (marker_delay, ["--runs", "6"], ":CHANnel1:COUPling AC", "CHANnel1:COUPling is AC, not DC"),
    ],
)
def test_settings_that_are_changed_during_a_calibration_make_no_record(
    module: Any, options: list[str], commands: str, told: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """What was recorded then is of another range, or of no current at all."""
    lab = bench_file(tmp_path, ("  seed: 1\n", PANEL.format(commands)))
    out = tmp_path / "record.yaml"
    if module is not marker_delay:
        options = [*options, "--window", "0.4"]
    assert module.main(["--lab", str(lab), "--out", str(out), "--quiet", *options]) == 1
    said = capsys.readouterr().err
    assert "settings were changed meanwhile, at its front panel or by another program" in said
    assert told in said
    assert not out.exists()


@pytest.mark.parametrize("wrong", [1.03, 1.008, None])
def test_a_shunt_that_contradicts_the_supply_makes_no_record(
    wrong: float | None, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A shunt of another resistance than is said, by as little as the zeros hide, or one reading that was mistyped."""
    factors = [wrong] * 5 if wrong is not None else [1.0, 1.0, 1.01, 1.0, 1.0]
    answers = tmp_path / "answers.txt"
    currents = (0.3, 0.8, 1.2, 1.0, 0.55)
    answers.write_text("".join(f"{0.1 * a * k}\n" for a, k in zip(currents, factors, strict=True)))
    shunt = ["--reference", "shunt", "--shunt-ohm", "0.1", "--shunt-limit", "2e-4", "--voltmeter", "1e-4,1e-5"]
    options = ["--window", "0.4", "--currents", "0.3,0.8,1.2", "--answers", str(answers), *shunt, "--quiet"]
    out = tmp_path / "record.yaml"
    assert probe.main(["--lab", str(bench_file(tmp_path)), "--out", str(out), *options]) == 1
    assert "--shunt-ohm, at the voltmeter, and whether a reading was mistyped" in capsys.readouterr().err
    assert not out.exists()


def test_lines_that_are_early_are_flagged_until_a_record_says_by_how_much(tmp_path: Path) -> None:
    lab, out = bench_file(tmp_path), tmp_path / "record.yaml"
    lab.write_text(lab.read_text().replace("marker_delay_s: 0.0003", "marker_delay_s: -0.03"))
    assert marker_delay.main(["--lab", str(lab), "--out", str(out), "--runs", "6", "--window", "0.5", "--quiet"]) == 0
    for name, options in (("without", []), ("with", ["--calibration", str(out)])):
        done = run_undrawn("experiments.power_sweep", "--lab", lab, *QUICK, *options, "--out", tmp_path / name)
        assert done.returncode == 0, done.stderr
        (row,) = rows(tmp_path / name / "results.csv")
        assert ("lines-early" in row["flags"].split()) is (name == "without")
        energy, u, truth = (float(row[k]) for k in (ENERGY, f"{ENERGY}_u", f"true_{ENERGY}"))
        assert (abs(energy - truth) < u) is (name == "with")


def test_a_line_that_is_later_than_the_record_shows_is_told_what_to_do(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    late = ("marker_delay_s: 0.0003", "marker_delay_s: 0.006")
    lab, out = bench_file(tmp_path), tmp_path / "record.yaml"
    assert late[0] in lab.read_text()
    lab.write_text(lab.read_text().replace(*late))
    options = ["--lab", str(lab), "--out", str(out), "--runs", "6", "--quiet"]
    assert marker_delay.main(options) == 1
    assert "late by more than 2 ms, or early by more than 6 ms, shows with a longer --window" in capsys.readouterr().err
    out.with_suffix(".h5").unlink()
    assert marker_delay.main([*options, "--window", "0.5"]) == 0
    record = load(out).record
    assert isinstance(record, MarkerDelayRecord)
    assert record.rise_s.value == pytest.approx(0.006, abs=1e-4)


def test_a_clamp_the_wrong_way_round_is_told_and_not_the_span_alone(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    faults = "  faults: {leads: [{lead: current, kind: gain, factor: -1}]}\n"
    lab, out = bench_file(tmp_path, ("  seed: 1\n", f"  seed: 1\n{faults}")), tmp_path / "record.yaml"
    assert probe.main(["--lab", str(lab), "--out", str(out), "--quiet", "--window", "0.4"]) == 3
    assert "look at the range, turns and direction of the clamp" in capsys.readouterr().err


def connect(state: Path, load: float | str) -> None:
    """Be the hand at a served bench."""
    with socket.socket(socket.AF_UNIX) as s:
        s.connect(str(state / "truth.sock"))
        s.sendall(json.dumps({"load": load}).encode() + b"\n")
        assert json.loads(s.recv(4096)) == {"load": load}


@pytest.fixture
def terminal() -> Iterator[tuple[int, int]]:
    controller, other = pty.openpty()
    try:
        yield controller, other
    finally:
        os.close(controller)


def read_until(controller: int, text: str) -> str:
    seen, deadline = b"", time.monotonic() + 200
    while text.encode() not in seen:
        ready, _, _ = select.select([controller], [], [], max(0.0, deadline - time.monotonic()))
        assert ready, seen
        seen += os.read(controller, 65536)
    return seen.decode("utf-8", "replace")


def test_somebody_at_a_real_bench_is_asked_and_may_end_it(tmp_path: Path, terminal: tuple[int, int]) -> None:
    """Served instruments and a lab without `simulation`: to the program they are real."""
    controller, other = terminal
    with served_bench(tmp_path) as (lab, addresses):
        text = lab.read_text()
        lab.write_text(text[: text.index("simulation:")].replace("marker: simulated", "marker: none"))
        out = tmp_path / "records"
        refused = run("calibration.probe", "--lab", lab, "--out", out)
        assert refused.returncode == 2
        assert "--unattended" in refused.stderr
        process = subprocess.Popen(
            [sys.executable, "-m", "calibration.probe", "--lab", str(lab), "--out", str(out), "--window", "1.0"],
            cwd=ROOT, stdin=other, stdout=other, stderr=other, close_fds=True,
        )  # fmt: skip
        os.close(other)
        try:
            assert "degauss it by hand" in read_until(controller, "press Enter")
            os.write(controller, b"\n")
            assert "put a resistor of 7.4 ohm" in read_until(controller, "press Enter")
            connect(tmp_path / "state", 7.4)
            os.write(controller, b"\n")
            read_until(controller, "on the oscilloscope")
            assert output_is_on(addresses)
            process.send_signal(signal.SIGINT)
            assert process.wait(200) == 130
        finally:
            process.kill()
            process.wait()
        assert not output_is_on(addresses)
        assert not list(out.glob("*.yaml"))
        (trace,) = out.glob("*.h5")
        with TraceReader(trace) as reader:
            assert reader.source == "measured"
            assert reader.captures()[0]["kind"] == "zero"
        none = run("calibration.marker_delay", "--lab", lab, "--unattended")
        assert none.returncode == 2
        assert "there is no line" in none.stderr


@pytest.mark.parametrize("command", [probe, voltage, marker_delay, list_command, show, check])
def test_help_answers_and_bad_options_are_told(command: Any, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        command.main(["--help"])
    assert ended.value.code == 0
    assert command.__name__.split(".")[-1] in capsys.readouterr().out
    with pytest.raises(SystemExit) as ended:
        command.main(["--nonsense"])
    assert ended.value.code == 2


def test_what_no_instrument_is_needed_to_find(bench: Bench, capsys: pytest.CaptureFixture[str]) -> None:
    for command, options, said in (
        (probe, ["--window", "0.001"], "--window 0.001 s"),
        (probe, ["--valid-days", "0"], "--valid-days 0"),
        (probe, ["--temperature", "500"], "--temperature 500"),
        (probe, ["--answers", "nowhere"], "nowhere: cannot be read"),
        (voltage, ["--load-ohm", "1e4"], "--load-ohm 10000"),
        (marker_delay, ["--runs", "2"], "--runs 2"),
    ):
        assert command.main(["--lab", str(bench.lab), *options]) == 2
        assert said in capsys.readouterr().err
