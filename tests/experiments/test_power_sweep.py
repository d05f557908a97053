"""The main job through its public door: options in; exit code, files and text out."""

from __future__ import annotations

import json
import re
import shutil
import signal
import subprocess
import time
from pathlib import Path

import numpy as np
import pytest

from experiments.reduction import COLUMNS, TRUTH_COLUMN
from experiments.traces import TraceReader
from tests.sweeps import QUICK, lab_file, output_is_on, rows, run, served_bench, start

OUTPUTS = ("trace.h5", "results.csv", "power_vs_batch.png", "energy_vs_batch.png", "report.html")


@pytest.fixture(scope="module")
def sweep(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, subprocess.CompletedProcess[str]]:
    """One sweep of two loads at two batch sizes, with one real network."""
    out = tmp_path_factory.mktemp("sweep") / "run"
    done = run(
        "experiments.power_sweep",
        "--networks",
        "AlexNet,busy:3",
        "--batches",
        "1,2",
        "--repeats",
        "2",
        "--window",
        "1.0",
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
    assert "±" in done.stdout
    assert "\x1b" not in done.stdout + done.stderr


def test_the_columns_stand(sweep: tuple[Path, subprocess.CompletedProcess[str]]) -> None:
    out, _ = sweep
    header = (out / "results.csv").read_text().splitlines()[0]
    assert header == (
        "network,batch,repeats,time_per_image_s,power_w,idle_power_w,net_power_w,energy_per_image_j,"
        "net_energy_per_image_j,source,time_per_image_s_u,power_w_u,idle_power_w_u,net_power_w_u,"
        "energy_per_image_j_u,net_energy_per_image_j_u,coverage_probability,true_energy_per_image_j"
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


def test_time_by_the_markers_is_the_time_that_the_device_logged(
    sweep: tuple[Path, subprocess.CompletedProcess[str]],
) -> None:
    out, _ = sweep
    logged: dict[tuple[str, str], list[float]] = {}
    with TraceReader(out / "trace.h5") as reader:
        for c in reader.captures():
            if c["kind"] == "cell" and c["state"] == "committed":
                seconds = (c["gate_fall_ns"] - c["gate_rise_ns"]) * 1e-9 / c["images"]
                logged.setdefault((c["network"], str(c["batch"])), []).append(seconds)
    for row in rows(out / "results.csv"):
        found = float(row["time_per_image_s"])
        assert found == pytest.approx(np.mean(logged[row["network"], row["batch"]]), rel=1e-3)
        if row["network"] == "busy:3":
            assert 3e-3 <= found * int(row["batch"]) < 6e-3


def test_replay_gives_the_same_bytes(sweep: tuple[Path, subprocess.CompletedProcess[str]], tmp_path: Path) -> None:
    out, _ = sweep
    done = run("experiments.replay", out / "trace.h5", "--out", tmp_path / "again")
    assert done.returncode == 0, done.stderr
    replayed = (tmp_path / "again" / "results.csv").read_text()
    assert {r["source"] for r in rows(tmp_path / "again" / "results.csv")} == {"simulated (replayed)"}
    assert replayed.replace("simulated (replayed)", "simulated") == (out / "results.csv").read_text()


def test_the_report_needs_no_network(sweep: tuple[Path, subprocess.CompletedProcess[str]]) -> None:
    out, _ = sweep
    text = (out / "report.html").read_text()
    assert "simulated" in text
    assert not re.search(r"(src|href)=(?!'data:)", text)
    assert "http" not in re.sub(r"data:[^']*", "", text)


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
        assert reader.json("settings")["scope"]["ACQuire:TYPE"] == "HRES"
        for data in reader.data():
            assert data.capture.points == 100_000
            assert data.capture.duration_s == pytest.approx(1.0)
    with xarray.open_datatree(out / "trace.h5", engine="h5netcdf") as tree:
        assert tree["captures"]["current_codes"].sizes["sample"] == 100_000


def test_energy_agrees_with_the_truth_over_five_seeds(tmp_path: Path) -> None:
    held, errors = [], []
    for seed in range(5):
        out = tmp_path / str(seed)
        done = run(
            "experiments.power_sweep",
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
        assert done.stdout == done.stderr == ""
        for row in rows(out / "results.csv"):
            found, true = float(row["energy_per_image_j"]), float(row["true_energy_per_image_j"])
            held.append(abs(found - true) <= float(row["energy_per_image_j_u"]))
            errors.append(found / true - 1)
            assert float(row["energy_per_image_j_u"]) / found < 0.012
    assert len(held) == 20
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
    done = run(
        "experiments.power_sweep",
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
    assert 0.7 <= float(row["time_per_image_s"]) < 0.9


# --- bad input --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("args", "expected"),
    [
        (
            ["--networks", "AlexNet,ResNet-19"],
            r"unknown network 'ResNet-19'; did you mean .*known: AlexNet, BN-AlexNet",
        ),
        (["--batches", "1,two"], "whole numbers"),
        (["--batches", "0"], "batch 0"),
        (["--repeats", "0"], "repeats 0"),
        (["--window", "0"], "window 0 s"),
        (["--lab", "nowhere.yaml"], r"nowhere\.yaml: cannot be read"),
        (["--networks", "busy:soon"], "busy:MILLISECONDS"),
    ],
)
def test_wrong_usage_is_refused_before_anything_is_opened(args: list[str], expected: str, tmp_path: Path) -> None:
    done = run("experiments.power_sweep", *args, "--out", tmp_path / "run")
    assert done.returncode == 2
    assert re.search(expected, done.stderr), done.stderr
    assert "Traceback" not in done.stderr
    assert not (tmp_path / "run").exists()


def test_a_mistake_in_the_lab_file_is_named(tmp_path: Path) -> None:
    lab = lab_file(tmp_path, ("ovp_v: 13.5", "ovp: 13.5"))
    done = run("experiments.power_sweep", "--lab", lab)
    assert done.returncode == 2
    assert re.search(r"lab\.yaml:\d+: supply\.ovp: unknown key, did you mean ovp_v\?", done.stderr)


def test_a_run_is_never_written_over(sweep: tuple[Path, subprocess.CompletedProcess[str]]) -> None:
    out, _ = sweep
    before = (out / "trace.h5").read_bytes()
    done = run("experiments.power_sweep", *QUICK, "--out", out)
    assert done.returncode == 2, done.stderr
    assert "holds a run" in done.stderr
    assert (out / "trace.h5").read_bytes() == before


@pytest.mark.parametrize(
    ("old", "new", "named"),
    [
        ("serial: MY00000001", "serial: MY99999999", ["scope", "MY99999999", "MY00000001"]),
        ("model: E3645A", "model: E3634A", ["supply", "E3634A", "E3645A"]),
    ],
)
def test_a_foreign_instrument_is_refused_naming_both(tmp_path: Path, old: str, new: str, named: list[str]) -> None:
    done = run("experiments.power_sweep", "--lab", lab_file(tmp_path, (old, new)), *QUICK, "--out", tmp_path / "run")
    assert done.returncode == 3
    assert all(text in done.stderr for text in named), done.stderr
    assert "Traceback" not in done.stderr


def test_an_instrument_that_does_not_answer_is_named(tmp_path: Path) -> None:
    lab = lab_file(
        tmp_path,
        ("resource: sim:socket", "resource: TCPIP::127.0.0.1::9::SOCKET"),
        ("open_timeout_s: 12.0", "open_timeout_s: 1.0"),
    )
    done = run("experiments.power_sweep", "--lab", lab, *QUICK, "--out", tmp_path / "run")
    assert done.returncode == 3
    for text in ("scope", "TCPIP::127.0.0.1::9::SOCKET"):
        assert text in done.stderr
    assert re.search(r"\d s", done.stderr)
    assert "Traceback" not in done.stderr


def agent_that(folder: Path, deed: str) -> tuple[str, str]:
    """A change of the lab file: an agent that does a deed in its third measured loop."""
    script = folder / "agent.py"
    script.write_text(
        "import os, signal, sys, time\n"
        "from experiments import dut_agent, dut_loop\n"
        f"count = {str(folder / 'count')!r}\n"
        "real = dut_loop.run_measured\n"
        "def run_measured(run, gate, toggle, log, limit_s, *rest):\n"
        "    n = os.path.getsize(count) if os.path.exists(count) else 0\n"
        "    open(count, 'a').write('x')\n"
        "    if n == 2:\n"
        f"        {deed}\n"
        "    return real(run, gate, toggle, log, limit_s, *rest)\n"
        "dut_loop.run_measured = run_measured\n"
        "sys.exit(dut_agent.main(sys.argv[1:]))\n"
    )
    return (
        '"-m", "experiments.dut_agent"',
        f'"-c", "import runpy, sys; sys.path.insert(0, sys.argv[1]); '
        f'sys.argv = sys.argv[1:]; runpy.run_path({str(script)!r}, run_name=\'__main__\')", "."',
    )


@pytest.mark.parametrize(
    ("deed", "reason"),
    [
        ("os.kill(os.getpid(), signal.SIGKILL)", "killed by SIGKILL"),
        ("gate(True); time.sleep(0.01); os.kill(os.getpid(), signal.SIGKILL)", "killed by SIGKILL"),
        ("gate = lambda level: None", "gate line never rose"),
        ("toggle = lambda: None", "missing batch edges"),
        ("raise ValueError('no such luck')", "no such luck"),
    ],
)
def test_a_device_that_fails_costs_its_cell_alone(tmp_path: Path, deed: str, reason: str) -> None:
    lab = lab_file(tmp_path, agent_that(tmp_path, deed))
    done = run(
        "experiments.power_sweep",
        "--lab",
        lab,
        "--networks",
        "busy:4",
        "--batches",
        "1,2,3",
        "--repeats",
        "1",
        "--window",
        "0.4",
        "--out",
        tmp_path / "run",
    )
    with TraceReader(tmp_path / "run" / "trace.h5") as reader:
        cells = reader.cells()
        assert reader.complete
    rejected = [c for c in cells if c["state"] == "rejected"]
    if reason == "missing batch edges":  # the record was at fault, so the cell was tried again
        assert done.returncode == 0
        assert "tried again" in done.stderr
        assert rejected == []
        return
    assert done.returncode == 1, done.stderr
    assert len(rejected) == 1
    assert reason in rejected[0]["reason"]
    assert sum(c["state"] == "committed" for c in cells) == 2
    table = rows(tmp_path / "run" / "results.csv")
    assert sorted(r["repeats"] for r in table) == ["0", "1", "1"]
    assert reason in done.stdout


def test_a_device_that_cannot_be_started_costs_every_cell(tmp_path: Path) -> None:
    lab = lab_file(tmp_path, ('"-m", "experiments.dut_agent"', '"-c", "import sys; sys.exit(\'no board\')"'))
    done = run("experiments.power_sweep", "--lab", lab, *QUICK, "--out", tmp_path / "run")
    assert done.returncode == 1, done.stderr
    assert "no board" in done.stdout
    assert rows(tmp_path / "run" / "results.csv")[0]["repeats"] == "0"
    with TraceReader(tmp_path / "run" / "trace.h5") as reader:
        assert [c["kind"] for c in reader.captures()][:2] == ["zero", "idle"]


def test_a_board_that_boots_is_waited_for(tmp_path: Path) -> None:
    late = (
        "import os, sys, time\n"
        "if time.time() < float(sys.argv[1]):\n"
        "    sys.exit('connection refused')\n"
        "os.execv(sys.executable, [sys.executable, *sys.argv[2:]])\n"
    )
    script = tmp_path / "late.py"
    script.write_text(late)
    lab = lab_file(
        tmp_path,
        (
            '"{python}", "-m", "experiments.dut_agent"',
            f'"{{python}}", {json.dumps(str(script))}, "{time.time() + 9}", "-m", "experiments.dut_agent"',
        ),
        ("  threads: 0", "  boot_s: 30\n  threads: 0"),
    )
    done = run("experiments.power_sweep", "--lab", lab, *QUICK, "--out", tmp_path / "run")
    assert done.returncode == 0, done.stdout + done.stderr


def test_a_current_limit_reached_only_during_the_runs_is_seen(tmp_path: Path) -> None:
    lab = lab_file(tmp_path, ("current_limit_a: 2.0", "current_limit_a: 0.9"))
    done = run("experiments.power_sweep", "--lab", lab, *QUICK, "--out", tmp_path / "run")
    assert done.returncode == 1, done.stdout + done.stderr
    assert "constant voltage" in done.stdout


# --- the ways out -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("number", "after", "delay_s"),
    [
        (signal.SIGINT, "opening the instruments", 0.3),
        (signal.SIGTERM, "zero of both channels", 0.05),
        (signal.SIGINT, "output on", 0.0),
        (signal.SIGTERM, "idle baseline", 0.2),
        (signal.SIGINT, "gain of both channels", 0.5),
        (signal.SIGTERM, "[1/6]", 0.0),
        (signal.SIGINT, "[1/6]", 0.3),
        (signal.SIGHUP, "[2/6]", 0.45),
        (signal.SIGTERM, "[6/6]", 0.3),
    ],
)
def test_an_interrupted_sweep_leaves_the_output_off_and_a_file_that_opens(
    tmp_path: Path, number: signal.Signals, after: str, delay_s: float
) -> None:
    with served_bench(tmp_path) as (lab, addresses):
        out = tmp_path / "run"
        process = start(
            "experiments.power_sweep",
            "--lab",
            lab,
            "--networks",
            "busy:4",
            "--batches",
            "1,2,3",
            "--repeats",
            "2",
            "--window",
            "0.4",
            "--out",
            out,
        )
        assert process.stderr is not None
        seen = ""
        while after not in seen:
            line = process.stderr.readline()
            assert line, seen
            seen += line
        time.sleep(delay_s)
        process.send_signal(number)
        time.sleep(0.02)
        process.send_signal(number)  # an impatient user presses twice
        _, rest = process.communicate(timeout=30)
        assert process.returncode == 130, seen + rest
        assert "Traceback" not in rest
        assert not output_is_on(addresses)
    if (out / "trace.h5").exists():
        with TraceReader(out / "trace.h5") as reader:
            states = [c["state"] for c in reader.cells()]
            assert states.count("committed") >= seen.count("mJ/image")
            assert len(list(reader.data())) >= states.count("committed")
        again = run("experiments.replay", out / "trace.h5", "--out", tmp_path / "again")
        assert again.returncode in (0, 1), again.stderr


def test_a_link_that_is_lost_is_told_and_the_output_is_off(tmp_path: Path) -> None:
    with served_bench(tmp_path) as (lab, addresses):
        host, port = addresses["scope"]["socket"][0].split("::")[1:3]
        relay = Relay((host, int(port)))
        text = lab.read_text().replace(addresses["scope"]["socket"][0], f"TCPIP::127.0.0.1::{relay.port}::SOCKET")
        lab.write_text(text)
        process = start(
            "experiments.power_sweep", "--lab", lab, *QUICK[:-2], "--window", "1.0", "--out", tmp_path / "run"
        )
        assert process.stderr is not None
        seen = ""
        while "gain of both" not in seen:
            line = process.stderr.readline()
            assert line, seen
            seen += line
        relay.close()
        _, rest = process.communicate(timeout=60)
        assert process.returncode == 3, rest
        assert "scope" in rest
        assert "Traceback" not in rest
        assert not output_is_on(addresses)
    with TraceReader(tmp_path / "run" / "trace.h5") as reader:
        assert [c["kind"] for c in reader.captures()][:2] == ["zero", "idle"]


class Relay:
    """A TCP relay that can be torn down under a conversation, and then refuses connections."""

    def __init__(self, to: tuple[str, int]) -> None:
        import socket
        import threading

        self._server = socket.create_server(("127.0.0.1", 0))
        self.port = self._server.getsockname()[1]
        self._sockets: list[socket.socket] = [self._server]

        def copy(a: socket.socket, b: socket.socket) -> None:
            try:
                while data := a.recv(65536):
                    b.sendall(data)
            except OSError:
                pass
            self.close()

        def serve() -> None:
            try:
                while True:
                    near, _ = self._server.accept()
                    far = socket.create_connection(to)
                    self._sockets += [near, far]
                    for pair in ((near, far), (far, near)):
                        threading.Thread(target=copy, args=pair, daemon=True).start()
            except OSError:
                pass

        threading.Thread(target=serve, daemon=True).start()

    def close(self) -> None:
        """Tear everything down."""
        import contextlib
        import socket

        for s in self._sockets:
            with contextlib.suppress(OSError):
                s.shutdown(socket.SHUT_RDWR)
            s.close()


@pytest.mark.skipif(shutil.which("h5dump") is None, reason="needs Debian's hdf5-tools")
def test_h5dump_reads_a_whole_run(sweep: tuple[Path, subprocess.CompletedProcess[str]]) -> None:
    out, _ = sweep
    done = subprocess.run(["h5dump", "-d", "/captures/batch", out / "trace.h5"], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "(0): 0, 0, 1" in done.stdout  # zero, idle, gain
