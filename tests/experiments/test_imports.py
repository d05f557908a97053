"""Recordings of other instruments and programs become trace files, and these give the energy that was really taken."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from experiments import traces
from experiments.replay import main as replay
from experiments.traces import TraceReader
from experiments.traces.__main__ import main
from experiments.traces.checking import check
from experiments.traces.imports.codes import MIDDLE, STEPS, grid_of
from instruments import markers
from tests import foreign_files as foreign
from tests.sweeps import rows
from tests.trace_files import write_run

RUNS = 2


@pytest.fixture(scope="module")
def device() -> foreign.Signal:
    return foreign.signal(runs=RUNS, batches=5, batch_s=0.04, rate_hz=20_000.0)


def imported(folder: Path, *options: str | Path, code: int = 0) -> Path:
    """Import into trace.h5 of a folder."""
    assert main(["import", *map(str, options), "--out", str(folder / "trace.h5")]) == code
    return folder / "trace.h5"


def result(trace: Path, *options: str) -> dict[str, str]:
    """The one row of its results, by what a maker might promise."""
    record = foreign.accuracy_record(trace.parent / "maker.yaml")
    out = trace.parent / "out"
    assert replay([str(trace), "--out", str(out), "--calibration", str(record), "--results-only", *options]) == 0
    (row,) = rows(out / "results.csv")
    return row


FORMATS: dict[str, tuple[str, Callable[[Path, foreign.Signal], Path], list[str]]] = {
    "scope-csv": ("a.csv", foreign.write_scope_csv, ["--batch", "4"]),
    "scope-bin": ("a.bin", foreign.write_scope_bin, ["--images", "20", "--batches", "5"]),
    "scope-h5": ("a.h5", foreign.write_scope_h5, ["--batch", "4"]),
    "jls": ("a.jls", foreign.write_jls, ["--batch", "4"]),
    "powersensor": ("a.txt", foreign.write_powersensor, ["--marks", "A,B", "--images", "20", "--batches", "5"]),
    "csv": (
        "b.csv",
        foreign.write_table,
        ["--columns", "time=t,current=I,voltage=U,gate=run,images=done", "--batches", "5"],
    ),
}


@pytest.mark.parametrize("format", FORMATS)
def test_every_format_gives_the_energy_that_was_taken(format: str, device: foreign.Signal, tmp_path: Path) -> None:
    name, write, options = FORMATS[format]
    trace = imported(tmp_path, write(tmp_path / name, device), *options, "--network", "AlexNet")
    with TraceReader(trace) as reader:
        assert reader.source == "imported"
        assert reader.json("settings")["import"]["format"] == format
        found = list(reader.data())
        assert [(d.kind, d.network, d.batch, d.repeat, d.images) for d in found] == [
            ("cell", "AlexNet", 4, k, 20) for k in range(RUNS)
        ]
        current = np.concatenate([d.capture["current"].values() for d in found])
        np.testing.assert_allclose(current, device.current_a, atol=2e-5 if format == "csv" else 1e-6)
    assert check(trace).sound
    row = result(trace)
    assert row["source"] == "imported (replayed, calibration maker)"
    energy_j, u_j = float(row["energy_per_image_j"]), float(row["energy_per_image_j_u"])
    true_j = float(np.mean(device.energy_j)) / 20
    assert abs(energy_j - true_j) <= u_j < 0.02 * true_j
    # There is no clock of a device: what is unknown is empty.
    assert (row["device_time_per_image_s"], row["batch_p50_s"], row["flags"]) == ("", "", "")
    has_batch_line = format in ("scope-csv", "scope-bin", "scope-h5", "jls")
    with TraceReader(trace) as reader:
        assert {row["batches"] for row in reader.captures()} == {5 if has_batch_line else -1}


def test_segments_and_blank_rows_of_an_oscilloscope(device: foreign.Signal, tmp_path: Path, capsys) -> None:
    half = len(device.time_s) // 2
    pieces = [device.part(0, half), device.part(half, 2 * half)]
    plain = imported(tmp_path, foreign.write_scope_bin(tmp_path / "s.bin", device, pieces), "--batch", "4")
    told = capsys.readouterr().out
    assert re.findall(r"s.bin: (current) in steps of .*\(2 times\)\n", told) == ["current"]
    assert told.count("current in steps of") == 1
    with TraceReader(plain) as reader:
        assert [d.capture.points for d in reader.data()] == [half, half]
    text = foreign.write_scope_csv(tmp_path / "s.csv", device.part(0, 2 * half), blank=0)
    text.write_text(f"points/segment = {half}\n" + text.read_text())
    (tmp_path / "csv").mkdir()
    with TraceReader(imported(tmp_path / "csv", text, "--batch", "4")) as reader:
        for mine, theirs in zip(reader.data(), TraceReader(plain).data(), strict=True):
            np.testing.assert_array_equal(mine.capture["current"].codes, theirs.capture["current"].codes)
            np.testing.assert_array_equal(mine.capture["markers"].codes, theirs.capture["markers"].codes)
    (tmp_path / "blank").mkdir()
    blank = foreign.write_scope_csv(tmp_path / "blank.csv", device, blank=7)
    with TraceReader(imported(tmp_path / "blank", blank, "--batch", "4")) as reader:
        assert sum(d.capture.points for d in reader.data()) == len(device.time_s) - 7


def test_an_analogue_gate_is_kept_and_can_be_decoded_anew(device: foreign.Signal, tmp_path: Path, capsys) -> None:
    table = foreign.write_table(tmp_path / "t.csv", device)
    columns = ["--columns", "time=t,current=I,voltage=U,gate=wave"]
    text = table.read_text().replace("run,", "wave,").splitlines()
    rng = np.random.default_rng(2)
    for k in range(1, len(text)):  # noise between the levels, which two values alone would not have
        cells = text[k].split(",")
        cells[3] = f"{float(cells[3]) + rng.normal(0, 0.2):.3f}"
        text[k] = ",".join(cells)
    table.write_text("\n".join(text) + "\n")
    trace = imported(tmp_path, table, *columns, "--images", "20", "--batches", "5", "--threshold", "1.6")
    told = "t.csv: gate (wave) is taken for an analogue line, decoded at 1.6 V with a hysteresis of a fifth of its span"
    assert told in capsys.readouterr().out
    first = result(trace)
    assert float(first["time_per_image_s"]) == pytest.approx(0.01, rel=1e-3)
    assert result(trace, "--markers", "analog")["time_per_image_s"] == first["time_per_image_s"]
    record = str(tmp_path / "maker.yaml")
    assert replay([str(trace), "--calibration", record, "--out", str(tmp_path / "all")]) == 0
    assert "decoded from the column wave at 1.6" in capsys.readouterr().out
    with traces.open(trace) as dataset, TraceReader(trace) as reader:
        for k, data in enumerate(reader.data()):
            lines = dataset.isel(capture=k)
            n = data.capture.points
            np.testing.assert_array_equal(lines.gate[:n], data.capture["markers"].codes & 1)
            assert lines.gate[:n].sum() > 0
    assert main(["export", str(trace), "--out", str(tmp_path / "x.npz")]) == 0
    with np.load(tmp_path / "x.npz") as arrays:
        assert set(np.unique(arrays["gate"])) == {0, 1}


def test_windows_found_or_by_hand_where_there_are_no_lines(device: foreign.Signal, tmp_path: Path) -> None:
    file = foreign.write_scope_csv(tmp_path / "a.csv", device, digital=False)
    true_j = float(np.mean(device.energy_j)) / 20
    (tmp_path / "found").mkdir()
    found = result(imported(tmp_path / "found", file, "--windows", "found", "--images", "20"))
    assert found["flags"] == "window-found"
    assert abs(float(found["energy_per_image_j"]) - true_j) <= float(found["energy_per_image_j_u"])
    at = np.flatnonzero(np.diff(device.gate.astype(int)))
    edges = (device.time_s[at] + device.dt_s / 2).reshape(-1, 2)
    lines = [f"a.csv,{a:.6f},{b:.6f},VGG-16,{20 + k}" for k, (a, b) in enumerate(edges)]
    (tmp_path / "hand.csv").write_text("\n".join(["file,start_s,stop_s,network,images", *lines]))
    (tmp_path / "hand").mkdir()
    trace = imported(tmp_path / "hand", file, "--windows", tmp_path / "hand.csv")
    with TraceReader(trace) as reader:
        assert [(d.network, d.images) for d in reader.data()] == [("VGG-16", 20), ("VGG-16", 21)]
        for data in reader.data():
            window = markers.decode(data.capture["markers"].codes, 0, 1).window
            assert window is not None
            assert window.samples == pytest.approx(0.2 / device.dt_s, abs=1)
    # Without any, all is stored, and the replay says what is missing.
    (tmp_path / "none").mkdir()
    one = foreign.write_scope_csv(tmp_path / "b.csv", device.part(0, 11_000), digital=False)
    plain = imported(tmp_path / "none", one, "--images", "20")
    record = str(foreign.accuracy_record(tmp_path / "maker.yaml"))
    assert replay([str(plain), "--calibration", record, "--results-only", "--windows", "found"]) == 0


def test_a_zero_and_a_constant_voltage(device: foreign.Signal, tmp_path: Path, capsys) -> None:
    run = foreign.write_table(tmp_path / "run.csv", device, header="time,amps,volts,run,done")
    text = run.read_text().splitlines()
    quiet = ["time,amps,volts,run,done"]
    rng = np.random.default_rng(1)
    for k, line in enumerate(text[1:8001]):
        cells = line.split(",")
        quiet.append(f"{cells[0]},{1.0 + rng.normal(0, 0.5):.3f},0.0,0,0")  # mA: the zero is 1 mA off
        assert k >= 0
    (tmp_path / "zero.csv").write_text("\n".join(quiet))
    columns = "time=time,current=amps,gate=run"
    trace = imported(
        tmp_path, run, "--zero", tmp_path / "zero.csv", "--columns", columns, "--voltage", "12.0", "--scale",
        "current=0.001", "--scale", "gate=1", "--images", "20", "--batches", "5", "--dt", f"{device.dt_s}",
        code=0,
    )  # fmt: skip
    with TraceReader(trace) as reader:
        assert [row["kind"] for row in reader.captures()] == ["zero", "cell", "cell"]
        zero, *cells = reader.data()
        assert set(zero.capture["voltage"].values()) == {0.0}
        assert set(cells[0].capture["voltage"].values()) == {12.0}
    assert replay([str(trace), "--out", str(tmp_path / "out"), "--results-only"]) == 0
    (row,) = rows(tmp_path / "out" / "results.csv")
    true_a = float(device.current_a[device.gate == 1].mean()) - 1e-3
    assert float(row["power_w"]) == pytest.approx(12.0 * true_a, rel=2e-4)


def test_without_zero_and_record_there_is_no_result_and_it_says_what_to_do(
    device: foreign.Signal, tmp_path: Path, capsys
) -> None:
    trace = imported(tmp_path, foreign.write_scope_bin(tmp_path / "a.bin", device), "--batch", "4")
    assert "--calibration REC" in capsys.readouterr().out
    assert replay([str(trace), "--out", str(tmp_path / "out")]) == 1
    assert "channel_accuracy" in capsys.readouterr().out
    assert replay([str(trace), "--out", str(tmp_path / "out"), "--results-only"]) == 1
    assert "channel_accuracy" in capsys.readouterr().out


def test_what_we_export_we_import(device: foreign.Signal, tmp_path: Path) -> None:
    trace = imported(tmp_path, foreign.write_jls(tmp_path / "a.jls", device), "--batch", "4")
    for number in range(RUNS):
        assert main(["export", str(trace), "--captures", str(number), "--out", str(tmp_path / f"e{number}.csv")]) == 0
    (tmp_path / "again").mkdir()
    again = imported(
        tmp_path / "again",
        *(tmp_path / f"e{number}.csv" for number in range(RUNS)),
        "--columns", "gate=gate,batch=batch line", "--batch", "4",
    )  # fmt: skip
    first, second = result(trace), result(again)
    for name in ("time_per_image_s", "power_w", "energy_per_image_j"):
        assert float(second[name]) == pytest.approx(float(first[name]), rel=1e-7)


def test_facts_of_single_files(device: foreign.Signal, tmp_path: Path) -> None:
    whole = [foreign.write_scope_bin(tmp_path / name, device) for name in ("a.bin", "b.bin")]
    facts = foreign.facts_file(
        tmp_path / "facts.json", images=20, batches=5, files={"b.bin": {"network": "ENet", "images": 40}}
    )
    with TraceReader(imported(tmp_path, *whole, "--facts", facts)) as reader:
        cells = [(c["network"], c["batch"], c["repeat"], c["state"]) for c in reader.cells()]
    assert cells == [(name, b, k, "committed") for name, b in (("imported", 4), ("ENet", 8)) for k in range(RUNS)]


def damaged(make: Callable[[Path, foreign.Signal], Path], change: Callable[[bytes], bytes]) -> Callable[..., Path]:
    def write(path: Path, s: foreign.Signal) -> Path:
        make(path, s)
        path.write_bytes(change(path.read_bytes()))
        return path

    return write


def replaced(line: int, old: str, new: str) -> Callable[[bytes], bytes]:
    def change(data: bytes) -> bytes:
        lines = data.decode().splitlines()
        assert old in lines[line - 1]
        lines[line - 1] = lines[line - 1].replace(old, new)
        return ("\n".join(lines) + "\n").encode()

    return change


def without_line(line: int) -> Callable[[bytes], bytes]:
    return lambda data: b"\n".join(x for k, x in enumerate(data.splitlines(), 1) if k != line) + b"\n"


CSV, BIN, TABLE, DUMP = foreign.write_scope_csv, foreign.write_scope_bin, foreign.write_table, foreign.write_powersensor
COLUMNS = ["--columns", "time=t,current=I,voltage=U,gate=run"]


@pytest.mark.parametrize(
    ("name", "write", "options", "expected"),
    [
        ("a.csv", damaged(CSV, replaced(500, "E", "X")), [], "a.csv:500: "),
        ("a.csv", damaged(CSV, replaced(500, "E+01", "E+99")), [], "a.csv:500: 3 has no value there"),
        ("a.csv", damaged(CSV, without_line(500)), [], "a.csv:500: the time steps by 0.0001 s where 5e-05 s is usual"),
        ("a.csv", damaged(CSV, replaced(600, ",+1.2", ",,+1.2")), [], "a.csv:600: has more than the 4 cells"),
        ("a.csv", damaged(CSV, replaced(2, "Ampere", "Volt")), [], "the current (1) is in V, A were expected"),
        ("a.csv", damaged(CSV, replaced(2, "second", "Hertz")), [], "a.csv:2: the time's unit is 'Hertz'"),
        ("a.csv", damaged(CSV, replaced(1, "x-axis,1,3", "x-axis,2,3")), [], "has no channel '1' for the current"),
        ("a.bin", damaged(BIN, lambda d: d[:-1]), [], "it is cut off or was changed"),
        ("a.bin", damaged(BIN, lambda d: d[:16] + b"\x02" + d[17:]), [], "waveform 1 at byte 12: was saved with peak"),
        ("a.bin", damaged(BIN, lambda d: b"AG77" + d[4:]), [], "is of version 77"),
        ("a.txt", lambda p, s: DUMP(p, s, drop=3), ["--marks", "A,B"], "a.txt:4002: the device's time steps by 200 µs"),
        ("a.txt", lambda p, s: DUMP(p, s, drop=1024), ["--marks", "A,B"], "samples are missing"),
        ("a.txt", DUMP, ["--marks", "X,Y"], "its marks are 'ABAB', which are no pairs of X and Y"),
        ("b.csv", lambda p, s: TABLE(p, s, drop=2), COLUMNS, "b.csv:4002: the time steps by"),
        ("b.csv", damaged(TABLE, replaced(9, ",12.0", ",nan")), COLUMNS, "b.csv:9: "),
        ("b.csv", damaged(TABLE, replaced(1, "[ms]", "[h]")), COLUMNS, "b.csv:1: the time's unit is 'h'"),
        ("b.csv", TABLE, ["--columns", "current=I,voltage=U,gate=run", "--dt", "1e297"], "period of 1e+297 s"),
        ("b.csv", damaged(TABLE, replaced(900, "0.050,", "0.7,")), COLUMNS,
         "b.csv:900: the gate (run) is 0.7, and 0.05 and 3.25 elsewhere: a marker line has two levels"),
        ("b.csv", TABLE, [*COLUMNS[:1], f"{COLUMNS[1]},batch=done"],
         "b.csv:2: the batch (done) is 0, and 20 and 40 elsewhere"),
        ("b.csv", TABLE, [], "b.csv:1: column 'time' (time) is not in the header (t, I, U, run, done)"),
        ("b.csv", TABLE, ["--columns", "amps=I"], "a role of time, current, voltage"),
        ("a.csv", CSV, [], "how many images ran in each measured loop is not told"),
        ("a.csv", CSV, ["--images", "21"], "21 images are not 5 batches of 4"),
        ("a.csv", CSV, ["--windows", "w.csv"], "w.csv:2: 0.1 to 99 s does not lie within the recording"),
        ("x.dat", lambda p, s: p.write_bytes(b"\0\1\2") and p, [], "its format is not known"),
        ("a.jls", lambda p, s: p.write_bytes(b"jlsfmt\r\n \n \x1a  \xb2\x1c") and p, [], "pyjls cannot read it"),
        ("a.csv", lambda p, s: p, [], "there is no such file"),
    ],
)  # fmt: skip
def test_data_that_cannot_be_taken_is_refused_with_its_place(
    name: str, write, options: list[str], expected: str, device: foreign.Signal, tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch, capsys,
) -> None:  # fmt: skip
    write(tmp_path / name, device)
    (tmp_path / "w.csv").write_text("file,start_s,stop_s,images\na.csv,0.1,99,20\n")
    given = options if expected.startswith("how many") or "--images" in options else [*options, "--images", "20"]
    here = Path.cwd() / "lab.yaml"
    monkeypatch.chdir(tmp_path)
    code = main(["import", name, "--out", "trace.h5", "--lab", str(here), *given])
    said = capsys.readouterr().err
    assert expected in said, said
    assert code in (2, 3)
    assert said.count("\n") == 1
    assert not list(tmp_path.glob("*trace*"))


def test_samples_that_a_joulescope_lost_are_refused(device: foreign.Signal, tmp_path: Path, capsys) -> None:
    from dataclasses import replace

    holes = device.current_a.copy()
    holes[3000:3010] = np.nan
    file = foreign.write_jls(tmp_path / "a.jls", replace(device, current_a=holes))
    imported(tmp_path, file, "--batch", "4", code=3)
    assert "a.jls: sample 3000: current has no value there (nan; 10 such samples" in capsys.readouterr().err


def test_a_modelled_board_and_an_existing_file_are_refused(device: foreign.Signal, tmp_path: Path, capsys) -> None:
    file = foreign.write_scope_bin(tmp_path / "a.bin", device)
    imported(tmp_path, file, "--batch", "4", "--lab", "docs/benches/simulated-tx1.yaml", code=2)
    imported(tmp_path, file, "--batch", "4")
    before = (tmp_path / "trace.h5").read_bytes()
    imported(tmp_path, file, "--batch", "4", code=2)
    assert (tmp_path / "trace.h5").read_bytes() == before
    said = capsys.readouterr().err
    assert "name the bench that was measured" in said
    assert "exists: name another file" in said


def test_what_is_imported_keeps_where_it_is_from(device: foreign.Signal, tmp_path: Path, capsys) -> None:
    import hashlib

    file = foreign.write_scope_h5(tmp_path / "a.h5", device, integers=True)
    trace = imported(tmp_path, file, "--batch", "4")
    assert main(["info", str(trace), "--json"]) == 0
    facts = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert facts["source"] == "imported"
    assert facts["instruments"]["recorded by"]["model"] == "MSO9254A"
    with TraceReader(trace) as reader:
        (source,) = reader.json("settings")["import"]["files"]
    assert source == {"name": "a.h5", "sha256": hashlib.sha256(file.read_bytes()).hexdigest()}


# --- codes --------------------------------------------------------------------------------------


@settings(max_examples=80, deadline=None)
@given(
    st.integers(0, 2**32 - 1),
    st.sampled_from([256, 4096, 60_000]),
    st.floats(1e-6, 10.0),
    st.floats(-5.0, 5.0),
    st.sampled_from(["float64", "float32", "text"]),
)
def test_readings_on_a_grid_are_found_again(seed: int, levels: int, span: float, shift: float, written: str) -> None:
    rng = np.random.default_rng(seed)
    step = span / levels
    k = rng.integers(0, levels, 4000)
    k[:3] = (0, 1, levels - 1)
    values = (k * step + shift * span).astype(np.float64)
    resolution = 2.0**-53 * np.abs(values).max()
    if written == "float32":
        values = values.astype(np.float32).astype(np.float64)
        resolution = 2.0**-24 * np.abs(values).max()
    elif written == "text":
        values = np.array([float(f"{v:.7e}") for v in values])
        resolution = 0.5 * 10.0 ** (np.floor(np.log10(np.abs(values).max())) - 7)
    grid = grid_of(values, resolution)
    if step > 20 * resolution:
        assert grid.exact
        back = (grid.codes(values).astype(float) - MIDDLE) * grid.increment + grid.origin
        assert np.abs(back - values).max() <= 2.6 * resolution + 1e-9 * step
        # Never finer than what the converter could tell apart, or the quantisation would be understated.
        assert grid.increment >= 0.999 * step


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 2**32 - 1), st.floats(1e-9, 1e3), st.floats(-1e3, 1e3))
def test_other_readings_lose_half_a_step_of_sixteen_bits_at_most(seed: int, spread: float, middle: float) -> None:
    values = middle + spread * np.random.default_rng(seed).standard_normal(3000)
    grid = grid_of(values, 0.0)
    codes = grid.codes(values)
    assert codes.min() > 0x0100
    assert codes.max() < 0xFF00
    back = (codes.astype(float) - MIDDLE) * grid.increment + grid.origin
    limit = max(grid.increment / 2, 1e-12 * abs(middle))
    assert np.abs(back - values).max() <= 1.01 * limit
    assert grid.exact or grid.increment == pytest.approx(np.ptp(values) / STEPS)


@pytest.mark.parametrize("calibrated", [False, True])
def test_our_own_export_is_imported_as_it_is(tmp_path: Path, calibrated: bool) -> None:
    """No column is named, nothing is said of what ran: the file tells it, zeros included."""
    first, table = write_run(tmp_path / "run.h5"), tmp_path / "run.csv"
    export = ["export", str(first), "--out", str(table), "--mean-of", "8"]
    assert main([*export, *(["--calibrated"] if calibrated else [])]) == 0
    trace = imported(tmp_path, table)
    with TraceReader(trace) as reader:
        assert [row["kind"] for row in reader.captures()] == ["zero", "cell", "cell"]
        assert {(c["network"], c["batch"], c["state"]) for c in reader.cells()} == {("net", 4, "committed")}
        assert [row["images"] for row in reader.captures()][1:] == [80, 80]
    for source, out in ((first, "a"), (trace, "b")):
        assert replay([str(source), "--out", str(tmp_path / out), "--results-only"]) in (0, 1)
    (before,), (after,) = (rows(tmp_path / name / "results.csv") for name in "ab")
    # Raw readings have no gain of their own in the table: within the makers' limits they agree all the same.
    closely = 1e-3 if calibrated else 0.03
    for name in ("time_per_image_s", "power_w", "energy_per_image_j"):
        assert float(after[name]) == pytest.approx(
            float(before[name]), rel=closely if name != "time_per_image_s" else 1e-3
        )


def test_an_export_that_was_edited_is_named_by_its_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    table = tmp_path / "run.csv"
    assert main(["export", str(write_run(tmp_path / "run.h5")), "--out", str(table), "--stop", "0.001"]) == 0
    lines = table.read_text().splitlines()
    cells = lines[5].split(",")
    table.write_text("\n".join([*lines[:5], ",".join([*cells[:9], "2", cells[10]]), *lines[6:]]))
    imported(tmp_path, table, code=3)
    assert f"{table}:6: the gate is 2" in capsys.readouterr().err
    table.write_text("\n".join([lines[0] + ",more", *(f"{line},0" for line in lines[1:])]))
    imported(tmp_path, table, code=3)
    assert f"{table}:1: is not the header of an export" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        (
            ["--batches", "16"],
            r"run\.csv:\d+: in the run .* 20 batches are counted on the batch line, and 16 are asked",
        ),
        (["--images", "64", "--batches", "8"], "net at batch 4 by the file itself, and batch 8 is asked for"),
        (["--images", "64", "--batches", "7"], "64 images are no whole number for each of 7 batches"),
        (["--batch", "8"], "net at batch 4 by the file itself, and batch 8 is asked for"),
        (["--network", "other"], "net by the file itself, and other is asked for"),
    ],
)
def test_what_contradicts_a_file_of_ours_or_its_batch_line_is_refused(
    options: list[str], expected: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    table = tmp_path / "run.csv"
    export = ["export", str(write_run(tmp_path / "run.h5")), "--out", str(table), "--mean-of", "8"]
    assert main(export) == 0
    trace = imported(tmp_path, table, *options, code=2)
    assert re.search(expected, capsys.readouterr().err)
    assert not trace.exists()
    imported(tmp_path, table, "--images", "80", "--batches", "20", "--batch", "4", "--network", "net")
