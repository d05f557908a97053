"""What becomes of cells whose device is disturbed, refuses, or runs out of memory: recorded, and the sweep goes on."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path

import h5py
import numpy as np
import pytest

from experiments import dut_host
from experiments.traces import TraceReader
from experiments.traces.schema import ON_DEMAND
from tests.sweeps import agent_with, lab_file, rows, run

# busy:5 is never run: there is no memory for it, or it is refused. busy:4 is, each batch size disturbed in its own way.
TROUBLE = """
killed = os.path.join(folder, "killed")
read_text = dut_host.read_text
def counting(path):
    if not path.endswith("/vmstat"):
        return read_text(path)
    return "oom_kill %d\\n" % (os.path.getsize(killed) if os.path.exists(killed) else 0)
dut_condition.read_text = counting
batch = 0
class Troubled(dut_runner.BusyRunner):
    def run(self):
        global batch
        batch = self.batch
        if self.name == "busy:5":
            if batch == 1:
                raise dut_runner.RefusedError("failed", "it is not what it was exported as")
            if batch == 2:
                raise MemoryError("no room for the activations")
            with open(killed, "a") as file:
                file.write("x")
            os.kill(os.getpid(), signal.SIGKILL)
        super().run()
dut_runner.BusyRunner = Troubled
dut_condition.throttle = lambda root="/": {"cpu-balanced": int(batch == 2)}
hash_everywhere = dut_condition.Reference._hash_everywhere
def slowly(self):
    for _ in range(8 if batch == 1 else 1):
        hash_everywhere(self)
dut_condition.Reference._hash_everywhere = slowly
run_measured = dut_loop.run_measured
def hurried(*arguments):
    gate_ns, ran = run_measured(*arguments)
    if batch == 3:
        late_ns = (gate_ns[2] - gate_ns[1]) // 100
        gate_ns[2:] = [gate_ns[2] + late_ns, gate_ns[3] + late_ns]
    return gate_ns, ran
dut_loop.run_measured = hurried
"""

Sweep = tuple[Path, subprocess.CompletedProcess[str]]


@pytest.fixture(scope="module")
def sweep(tmp_path_factory: pytest.TempPathFactory) -> Sweep:
    """One sweep of a device in trouble."""
    folder = tmp_path_factory.mktemp("trouble")
    lab = lab_file(folder, agent_with(folder, TROUBLE))
    options = ["--networks", "busy:5,busy:4", "--batches", "1,2,3", "--repeats", "1", "--window", "0.4"]
    return folder / "run", run("experiments.power_sweep", "--lab", lab, *options, "--out", folder / "run")


def test_want_of_memory_and_refusals_are_outcomes_and_the_sweep_goes_on(sweep: Sweep) -> None:
    out, done = sweep
    assert done.returncode == 1, done.stderr
    table = {(r["network"], r["batch"]): r for r in rows(out / "results.csv")}
    assert {key: row["outcome"] for key, row in table.items()} == {
        ("busy:5", "1"): "refused",
        ("busy:5", "2"): "out of memory",
        ("busy:5", "3"): "out of memory",
        ("busy:4", "1"): "measured",
        ("busy:4", "2"): "measured",
        ("busy:4", "3"): "measured",
    }
    for (network, _), row in table.items():
        assert (row["energy_per_image_j"] == "") == (network == "busy:5")
        assert (row["peak_memory_bytes"] == "") == (network == "busy:5")
    for text in (done.stdout, (out / "report.html").read_text()):
        assert "out of memory" in text
        assert "no room for the activations" in text
    told = [line for line in done.stderr.splitlines() if line.startswith("[") and "busy:5" in line]
    assert sorted((line.lower().count("out of memory"), line.count("OUT OF MEMORY")) for line in told) == [
        (0, 0),
        (1, 1),
        (1, 1),
    ]


def test_the_journal_holds_outcome_and_reason(sweep: Sweep) -> None:
    out, _ = sweep
    with TraceReader(out / "trace.h5") as reader:
        assert reader.complete
        journal = {(c["network"], c["batch"]): (c["state"], c["reason"]) for c in reader.cells()}
        gains = [c for c in reader.captures() if c["kind"] == "gain" and c["state"] == "committed"]
    assert journal["busy:4", 1] == ("committed", "")
    assert journal["busy:5", 1][0] == "refused"
    assert "not what it was exported as" in journal["busy:5", 1][1]
    assert journal["busy:5", 2][0] == journal["busy:5", 3][0] == "out of memory"
    assert "no room for the activations" in journal["busy:5", 2][1]
    assert "likely out of memory" in journal["busy:5", 3][1]
    assert "SIGKILL" in journal["busy:5", 3][1]
    # The comparison with the supply gave way to a load that the device can do.
    assert [(c["network"], c["batch"]) for c in gains] == [("busy:4", 3)] * 2


EXPECTED = {"1": "slow-reference", "2": "throttled", "3": "clock-mismatch"}


def test_a_disturbed_cell_keeps_its_result_and_gets_its_flag(sweep: Sweep) -> None:
    out, done = sweep
    report = (out / "report.html").read_text()
    for row in rows(out / "results.csv")[3:]:
        # On a machine that others use other flags may come beside these; two of these come on no other row.
        given = set(row["flags"].split())
        assert EXPECTED[row["batch"]] in given
        assert given & {"throttled", "clock-mismatch"} <= {EXPECTED[row["batch"]]}
    for code in EXPECTED.values():
        assert code in done.stdout
        assert code in report
    assert "3 of 6 rows are flagged" in done.stdout


def _cells_and_logs(out: Path) -> dict[int, tuple[dict, np.ndarray]]:
    """Each batch size's capture row, and its part of the stored log, ns."""
    with TraceReader(out / "trace.h5") as reader:
        cells = [
            (k, {**c, **{name: reader.long_text(name, k) for name in ON_DEMAND}})
            for k, c in enumerate(reader.captures())
            if c["kind"] == "cell"
        ]
    with h5py.File(out / "trace.h5") as file:
        captures, ends_ns = file["host_log/capture"][:], file["host_log/end_ns"][:]
    return {c["batch"]: (c, ends_ns[captures == k]) for k, c in cells}


def test_flags_and_facts_are_in_the_trace(sweep: Sweep) -> None:
    out, _ = sweep
    cells = _cells_and_logs(out)
    assert "throttled" in cells[2][0]["flags"].split()
    for cell, ends_ns in cells.values():
        ready, facts = json.loads(cell["ready_facts"]), json.loads(cell["device_facts"])
        assert ready["settled"] is ("warmup-unsettled" not in cell["flags"].split())
        assert (ready["batch"], ready["device"]) == (cell["batch"], "cpu")
        assert facts["gate_ns"][1:3] == [cell["gate_rise_ns"], cell["gate_fall_ns"]]
        assert facts["memory"]["process_peak_rss"] > 1e6
        agent = ready["agent"]
        assert agent["agent_sha256"] == dut_host.sources_sha256()
        assert agent["host"]["cpus"] == len(os.sched_getaffinity(0))
        assert agent["marker"]["kind"] == "simulated"
        assert len(ends_ns) == cell["batches"]
    assert f"sources {dut_host.sources_sha256()[:12]}" in (out / "report.html").read_text()


def test_times_of_batches_are_those_of_the_log(sweep: Sweep) -> None:
    out, _ = sweep
    cells = _cells_and_logs(out)
    for row in rows(out / "results.csv")[3:]:
        cell, ends_ns = cells[int(row["batch"])]
        times = np.diff(ends_ns, prepend=cell["gate_rise_ns"]) * 1e-9
        for share in (50, 95, 99):
            assert float(row[f"batch_p{share}_s"]) == pytest.approx(np.percentile(times, share), rel=1e-8)
        assert float(row["batch_cv"]) == pytest.approx(times.std(ddof=1) / times.mean(), rel=1e-6)
        device_s = (cell["gate_fall_ns"] - cell["gate_rise_ns"]) * 1e-9 / cell["images"]
        assert float(row["device_time_per_image_s"]) == pytest.approx(device_s, rel=1e-8)
        difference_s = float(row["device_time_per_image_s"]) - float(row["time_per_image_s"])
        assert float(row["device_time_difference_s"]) == pytest.approx(difference_s, abs=1e-10)
        # The clock of batch size 3 was made to say a hundredth more.
        assert difference_s / device_s == pytest.approx(0.01 if row["batch"] == "3" else 0.0, abs=4e-3)
        assert row["peak_memory_kind"] == "process_peak_rss"


def test_a_replay_of_flagged_cells_gives_the_same_bytes(sweep: Sweep, tmp_path: Path) -> None:
    out, _ = sweep
    done = run("experiments.replay", out / "trace.h5", "--out", tmp_path / "again")
    assert done.returncode == 1, done.stderr
    again = (tmp_path / "again" / "results.csv").read_text()
    assert again.replace("simulated (replayed)", "simulated") == (out / "results.csv").read_text()
