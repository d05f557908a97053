"""The main job through its public door: options in; exit code, files and text out."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest

from experiments.outcome import COLUMNS, TRUTH_COLUMN
from experiments.traces import TraceReader
from tests.sweeps import QUICK, lab_file, rows, run, run_undrawn, virtual_lab_file

OUTPUTS = ("trace.h5", "results.csv", "power_vs_batch.png", "energy_vs_batch.png", "report.html", "scope_screen.png",
           "budgets.json")  # fmt: skip


@pytest.fixture(scope="module")
def sweep(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, subprocess.CompletedProcess[str]]:
    """One sweep of two loads at two batch sizes, with one real network: in one thread, since others run beside it."""
    folder = tmp_path_factory.mktemp("sweep")
    out = folder / "run"
    done = run(
        "experiments.power_sweep",
        "--lab",
        lab_file(folder, ("threads: 0", "threads: 1")),
        "--networks",
        "AlexNet,busy:3",
        "--batches",
        "1,2",
        "--repeats",
        "2",
        "--window",
        "0.5",
        "--seed",
        "4",
        "--out",
        out,
    )
    return out, done


def test_a_sweep_writes_everything_and_ends_well(sweep: tuple[Path, subprocess.CompletedProcess[str]]) -> None:
    out, done = sweep
    assert done.returncode == 0, done.stderr
    assert sorted(p.name for p in out.iterdir()) == sorted(OUTPUTS)
    assert (out / "energy_vs_batch.png").read_bytes().startswith(b"\x89PNG")
    assert "[8/8]" in done.stderr
    *_, zero, reducing, results, report = done.stderr.splitlines()
    assert zero.startswith("zero again")
    assert re.fullmatch(r"reducing \d+ captures", reducing)
    assert (results, report) == ("writing the results, drawing two pictures", "drawing the figures, writing the report")
    assert "±" in done.stdout
    assert "\x1b" not in done.stdout + done.stderr


def test_budgets_are_printed_and_stored(sweep: tuple[Path, subprocess.CompletedProcess[str]], tmp_path: Path) -> None:
    out, _ = sweep
    done = run_undrawn("experiments.replay", out / "trace.h5", "--out", tmp_path / "again", "--budget")
    assert done.returncode == 0, done.stderr
    assert "current gain, reference" in done.stdout
    assert "first order" in done.stdout
    live, again = (json.loads((folder / "budgets.json").read_text()) for folder in (out, tmp_path / "again"))
    assert [b | {"source": ""} for b in live] == [b | {"source": ""} for b in again]
    table = {(r["network"], int(r["batch"])): r for r in rows(out / "results.csv")}
    assert len(live) == 6 * len(table)
    for b in live:
        row, quantity = table[b["network"], b["batch"]], b["quantity"]
        assert float(row[quantity]) == pytest.approx(b["value"], rel=1e-6)
        assert float(row[f"{quantity}_u"]) == pytest.approx(b["expanded_u"], rel=1e-6)
        assert sum(c["u"] ** 2 for c in b["components"]) == pytest.approx(b["u"] ** 2, rel=1e-9)
        assert sum(c["share"] for c in b["components"]) == pytest.approx(1.0)


def test_the_columns_stand(sweep: tuple[Path, subprocess.CompletedProcess[str]]) -> None:
    out, _ = sweep
    header = (out / "results.csv").read_text().splitlines()[0]
    assert header == (
        "network,batch,repeats,time_per_image_s,power_w,idle_power_w,net_power_w,energy_per_image_j,"
        "net_energy_per_image_j,source,time_per_image_s_u,power_w_u,idle_power_w_u,net_power_w_u,"
        "energy_per_image_j_u,net_energy_per_image_j_u,coverage_probability,"
        "device_time_per_image_s,device_time_difference_s,batch_p50_s,batch_p95_s,batch_p99_s,batch_cv,"
        "peak_memory_bytes,peak_memory_kind,parameters,macs,operations,operations_per_s,top1,top1_source,"
        "device,dtype,mode,outcome,flags,peak_power_w,crest_factor,steady_from_s,settling_s,"
        "energy_per_batch_j,energy_per_batch_j_u,energy_per_run_j,true_energy_per_image_j"
    )
    assert header == ",".join((*COLUMNS, TRUTH_COLUMN))
    table = rows(out / "results.csv")
    assert [(r["network"], r["batch"]) for r in table] == [
        ("AlexNet", "1"),
        ("AlexNet", "2"),
        ("busy:3", "1"),
        ("busy:3", "2"),
    ]
    assert {r["source"] for r in table} == {"simulated"}
    assert {r["repeats"] for r in table} == {"2"}
    assert {r["coverage_probability"] for r in table} == {"0.95"}


def test_energy_of_a_batch_and_of_a_run(sweep: tuple[Path, subprocess.CompletedProcess[str]]) -> None:
    out, _ = sweep
    with TraceReader(out / "trace.h5") as reader:
        cells = [row for row in reader.captures() if row["kind"] == "cell" and row["state"] == "committed"]
    for row in rows(out / "results.csv"):
        batch = int(row["batch"])
        energy_j, u_j = float(row["energy_per_image_j"]), float(row["energy_per_image_j_u"])
        assert float(row["energy_per_batch_j"]) == pytest.approx(batch * energy_j, rel=1e-7)
        assert float(row["energy_per_batch_j_u"]) == pytest.approx(batch * u_j, rel=1e-7)
        true_j = [c["true_energy_j"] for c in cells if (c["network"], c["batch"]) == (row["network"], batch)]
        assert len(true_j) == 2
        assert float(row["energy_per_run_j"]) == pytest.approx(np.mean(true_j), rel=2 * u_j / energy_j)


def test_the_report_shows_how_the_edges_follow_the_log(sweep: tuple[Path, subprocess.CompletedProcess[str]]) -> None:
    out, _ = sweep
    page = (out / "report.html").read_text()
    table = page[page.index("The device&#x27;s clock: how") :]
    table = table[: table.index("</table>")]
    assert "rate [ppm]" in table
    found = re.findall(r"<tr><td>([^<]+)</td><td>(\d)</td><td>(\d)</td><td>(\d+)</td>", table)
    with TraceReader(out / "trace.h5") as reader:
        cells = [row for row in reader.captures() if row["kind"] == "cell" and row["state"] == "committed"]
    told = {(c["network"], str(c["batch"]), str(c["repeat"] + 1), str(c["batches"])) for c in cells if c["batches"] > 2}
    assert set(found) == told
    assert len(told) >= 4  # the load's


def test_rows_say_what_ran_and_how_large_it_is(sweep: tuple[Path, subprocess.CompletedProcess[str]]) -> None:
    out, _ = sweep
    alexnet, load = ([r for r in rows(out / "results.csv") if r["network"] == name] for name in ("AlexNet", "busy:3"))
    for row in alexnet:
        assert int(row["parameters"]) == 60_965_224
        assert int(row["operations"]) == 2 * int(row["macs"]) == 2 * 724_406_816
        speed = int(row["operations"]) / float(row["time_per_image_s"])
        assert float(row["operations_per_s"]) == pytest.approx(speed, rel=1e-6)
        assert (row["top1"], row["top1_source"].split()[0]) == ("54.61", "cited:")
        assert (row["dtype"], row["mode"]) == ("fp32", "default")
        if row["device"] == "cpu":
            assert row["peak_memory_kind"] == "process_peak_rss"
            assert int(row["peak_memory_bytes"]) > 4 * 60_965_224
    for row in load:  # of which nothing is known but that it ran
        assert {row[name] for name in ("parameters", "macs", "operations", "operations_per_s", "top1")} == {""}
        assert (row["device"], row["dtype"], row["mode"]) == ("cpu", "", "")
        assert 3e-3 <= float(row["batch_p50_s"]) <= float(row["batch_p95_s"]) <= float(row["batch_p99_s"])
    assert {row["outcome"] for row in alexnet + load} == {"measured"}


def test_time_by_the_markers_is_the_time_that_the_device_logged(
    sweep: tuple[Path, subprocess.CompletedProcess[str]],
) -> None:
    out, _ = sweep
    logged: dict[tuple[str, str], list[tuple[float, float]]] = {}
    with TraceReader(out / "trace.h5") as reader:
        for index, c in enumerate(reader.captures()):
            if c["kind"] == "cell" and c["state"] == "committed":
                # The line moved at some moment of each move, which takes long where the processor is not to be had.
                rising, risen, falling, fallen = json.loads(reader.long_text("device_facts", index))["gate_ns"]
                both = (falling - risen) * 1e-9 / c["images"], (fallen - rising) * 1e-9 / c["images"]
                logged.setdefault((c["network"], str(c["batch"])), []).append(both)
    for row in rows(out / "results.csv"):
        found = float(row["time_per_image_s"])
        least, most = np.mean(logged[row["network"], row["batch"]], axis=0)
        assert (1 - 2e-4) * least <= found <= (1 + 2e-4) * most  # rates of clocks, and the sampling period
        if row["network"] == "busy:3":
            assert found * int(row["batch"]) >= 3e-3


def test_replay_gives_the_same_bytes(sweep: tuple[Path, subprocess.CompletedProcess[str]], tmp_path: Path) -> None:
    out, _ = sweep
    done = run_undrawn("experiments.replay", out / "trace.h5", "--out", tmp_path / "again")
    assert done.returncode == 0, done.stderr
    replayed = (tmp_path / "again" / "results.csv").read_text()
    assert {r["source"] for r in rows(tmp_path / "again" / "results.csv")} == {"simulated (replayed)"}
    assert replayed.replace("simulated (replayed)", "simulated") == (out / "results.csv").read_text()


def test_the_report_needs_no_network(sweep: tuple[Path, subprocess.CompletedProcess[str]]) -> None:
    out, _ = sweep
    text = (out / "report.html").read_text()
    assert "simulated" in text
    assert not re.search(r"<[^>]*\s(src|href)=(?!'data:|'#)", text)
    assert "default-src 'none'" in text


def test_the_trace_holds_what_is_needed(sweep: tuple[Path, subprocess.CompletedProcess[str]]) -> None:
    import xarray

    out, _ = sweep
    with TraceReader(out / "trace.h5") as reader:
        assert reader.complete
        kinds = [c["kind"] for c in reader.captures() if c["state"] == "committed"]
        assert kinds[:2] == ["zero", "idle"]
        assert kinds.count("gain") == 2
        assert kinds.count("cell") == 8
        assert kinds[-1] == "zero"
        assert "MSO-X 2024A" in reader.json("instruments")["identities"]["scope"]
        settings = reader.json("settings")
        asked, scope = settings["asked"]["scope"], settings["scope"]  # each as the bench was told, and as it answered
        assert scope["ACQuire:TYPE"] == asked["acquisition"] == "HRES"
        assert float(scope["CHANnel1:OFFSet"]) == pytest.approx(asked["current"]["offset"], rel=0.02)
        assert float(scope["TIMebase:RANGe"]) == pytest.approx(asked["timebase"]["window_s"])
        assert float(settings["supply"]["voltage_v"]) == settings["asked"]["supply"]["voltage_v"]
        for data in reader.data():
            assert data.capture.points == 100_000
            asked_s = reader.captures()[data.index]["window_asked_s"]
            assert data.capture.duration_s == pytest.approx(asked_s)
            # Batches that others on this machine make long get longer records.
            assert asked_s >= (1.0 if data.kind == "gain" else 0.5)
    with xarray.open_datatree(out / "trace.h5", engine="h5netcdf") as tree:
        assert tree["captures"]["current_codes"].sizes["sample"] == 100_000


def test_energy_agrees_with_the_truth_over_five_seeds(
    sweep: tuple[Path, subprocess.CompletedProcess[str]], tmp_path: Path
) -> None:
    """Those of a real loop, and of a board in virtual time over five seeds."""
    held, errors = [], []
    real, _ = sweep
    for row in rows(real / "results.csv"):
        found, true = float(row["energy_per_image_j"]), float(row["true_energy_per_image_j"])
        held.append(abs(found - true) <= float(row["energy_per_image_j_u"]))
        errors.append(found / true - 1)
    for b in json.loads((real / "budgets.json").read_text()):
        if b["quantity"] == "energy_per_image_j":  # how two repeats differ is for those who share this machine to say
            known = sum(c["u"] ** 2 for c in b["components"] if c["name"] != "repeatability")
            assert 2 * known**0.5 / b["value"] < 0.012
    for seed in range(5):
        out = tmp_path / str(seed)
        out.mkdir()
        done = run_undrawn(
            "experiments.power_sweep",
            "--lab",
            virtual_lab_file(out),
            "--networks",
            "busy:2,busy:7",
            "--batches",
            "1,4",
            "--repeats",
            "1",
            "--window",
            "0.5",
            "--seed",
            str(seed),
            "--out",
            out,
            "--quiet",
        )
        assert done.returncode == 0, done.stderr
        assert done.stderr == ""  # of progress nothing
        assert f"written to {out}: trace.h5, results.csv" in done.stdout
        for row in rows(out / "results.csv"):
            found, true = float(row["energy_per_image_j"]), float(row["true_energy_per_image_j"])
            held.append(abs(found - true) <= float(row["energy_per_image_j_u"]))
            errors.append(found / true - 1)
            assert float(row["energy_per_image_j_u"]) / found < 0.012
    assert len(held) == 24
    assert np.mean(held) >= 0.95
    assert abs(np.mean(errors)) < 0.01


def test_the_order_is_random_and_stored(sweep: tuple[Path, subprocess.CompletedProcess[str]]) -> None:
    out, _ = sweep
    with TraceReader(out / "trace.h5") as reader:
        plan, cells = reader.plan, reader.cells()
    assert plan.seed == 4
    assert [(c["network"], c["batch"], c["repeat"]) for c in cells] == [
        (c.network, c.batch, c.repeat) for c in plan.cells
    ]
    dry = run(
        "experiments.power_sweep",
        "--networks",
        "AlexNet,busy:3",
        "--batches",
        "1,2",
        "--repeats",
        "2",
        "--seed",
        "4",
        "--dry-run",
    )
    assert dry.returncode == 0
    assert [line.split(None, 1)[1] for line in dry.stdout.splitlines()[-8:]] == [c.label for c in plan.cells]


def test_a_batch_longer_than_the_window_gets_a_longer_record(tmp_path: Path) -> None:
    done = run_undrawn(
        "experiments.power_sweep",
        "--lab",
        virtual_lab_file(tmp_path),
        "--networks",
        "busy:700",
        "--batches",
        "1",
        "--repeats",
        "1",
        "--window",
        "0.5",
        "--out",
        tmp_path / "run",
    )
    assert done.returncode == 0, done.stderr
    with TraceReader(tmp_path / "run" / "trace.h5") as reader:
        (cell,) = [d for d in reader.data() if d.kind == "cell"]
        assert cell.batches == 1
        assert cell.capture.duration_s > 0.7
    (row,) = rows(tmp_path / "run" / "results.csv")
    assert float(row["time_per_image_s"]) == pytest.approx(0.7, rel=0.05)


def test_a_run_is_never_written_over(sweep: tuple[Path, subprocess.CompletedProcess[str]]) -> None:
    out, _ = sweep
    before = (out / "trace.h5").read_bytes()
    done = run("experiments.power_sweep", *QUICK, "--out", out)
    assert done.returncode == 2, done.stderr
    assert "holds a run" in done.stderr
    assert (out / "trace.h5").read_bytes() == before


@pytest.mark.skipif(shutil.which("h5dump") is None, reason="needs Debian's hdf5-tools")
def test_h5dump_reads_a_whole_run(sweep: tuple[Path, subprocess.CompletedProcess[str]]) -> None:
    out, _ = sweep
    done = subprocess.run(["h5dump", "-d", "/captures/batch", out / "trace.h5"], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "(0): 0, 0, 2" in done.stdout  # zero, idle, gain
