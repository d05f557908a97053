"""The whole simulated bench of the shipped lab.yaml, inside this process and as a program."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from instruments.lab import Lab, load
from instruments.marker_ring import RingWriter
from instruments.simulated.__main__ import main
from instruments.simulated.mso_record import FrontEnd
from instruments.simulated.station import RING_NAME, Station

ROOT = Path(__file__).parent.parent.parent
LAB = ROOT / "lab.yaml"


@pytest.fixture
def lab() -> Lab:
    return load(LAB)


class Line:
    """A bare client of a raw socket or adapter."""

    def __init__(self, resource: str) -> None:
        _, host, port, _ = resource.split("::")
        self.socket = socket.create_connection((host, int(port)), 30)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.file = self.socket.makefile("rb")

    def write(self, text: str) -> None:
        self.socket.sendall(text.encode() + b"\n")

    def ask(self, text: str) -> str:
        self.write(text)
        return self.file.readline().decode().strip()

    def block(self, text: str) -> bytes:
        self.write(text)
        length = int(self.file.read(10)[2:])
        data = self.file.read(length)
        assert self.file.read(1) == b"\n"
        return data

    def __enter__(self) -> Line:
        return self

    def __exit__(self, *_: object) -> None:
        self.file.close()
        self.socket.close()


def wait_for(line: Line, query: str, wanted: str) -> None:
    until_s = time.monotonic() + 30
    while line.ask(query) != wanted:
        assert time.monotonic() < until_s
        time.sleep(0.005)


def test_marker_edges_trigger_the_scope_and_the_current_follows_them(lab: Lab, tmp_path: Path) -> None:
    with Station(lab, state_dir=tmp_path, seed=4) as station:
        prologix = station.addresses["supply"]["prologix"][0]
        stamps_ns = [time.monotonic_ns()]
        ring = RingWriter(str(tmp_path / RING_NAME), clock_ns=lambda: stamps_ns[-1])
        with Line(station.addresses["scope"]["socket"][0]) as scope, Line(prologix) as adapter:
            adapter.write("++eos 3\nVOLT:PROT 13.5\nAPPL 12,2\nOUTP ON")
            scope.write(
                ":CHAN1:UNIT AMP;PROB 10;RANG 4;OFFS 1;:CHAN3:DISP ON;PROB 10;RANG 16;OFFS 8;:POD1:DISP ON;THR TTL;"
                ":ACQ:TYPE HRES;:TIM:RANG 0.2;REF LEFT;:TRIG:SWE NORM;EDGE:SOUR DIG0;SLOP POS;:SING"
            )
            assert scope.ask(":SYST:ERR?") == '+0,"No error"'
            wait_for(scope, ":OPER:COND?", "+40")
            rise_s = time.monotonic()
            for lines, edge_s in ((1, rise_s), (3, rise_s + 0.05), (2, fall_s := rise_s + 0.08)):
                stamps_ns.append(int(edge_s * 1e9))
                ring.put(lines)
            wait_for(scope, ":RST?", "STOP")
            scope.write(":WAV:POIN:MODE RAW;:WAV:POIN 100000;FORM WORD;BYT LSBF;SOUR CHAN1")
            p = [float(x) for x in scope.ask(":WAV:PRE?").split(",")]
            amps = (np.frombuffer(scope.block(":WAV:DATA?"), "<u2").astype(float) - p[9]) * p[7] + p[8]
            pod = np.frombuffer(scope.block(":WAV:SOUR POD1;FORM BYTE;DATA?"), "u1")
            assert adapter.ask("MEAS:VOLT?\n++read_tmo_ms 3000\n++read eoi").startswith("+1.")
        ring.close()
        windows = ask_truth(tmp_path, rise_s - 1)
    t = p[5] + np.arange(pod.size) * p[4]
    gate = (pod & 1).astype(bool)
    changes = np.flatnonzero(np.diff(gate.astype(int)))
    assert gate[0] == 0
    assert len(changes) == 2
    assert t[changes[0] + 1] == pytest.approx(0, abs=1e-4)
    assert t[changes[1]] == pytest.approx(fall_s - rise_s, abs=1e-4)
    inside = amps[changes[0] + 5000 : changes[1] - 100].mean()
    outside = amps[: changes[0] - 100].mean()
    facts = lab.simulation
    assert facts is not None
    assert inside - outside == pytest.approx(facts.world.active_a - facts.world.idle_a, rel=0.1)
    assert len(windows) == 1
    assert windows[0]["batches"] == 1
    assert windows[0]["energy_j"] == pytest.approx(12 * facts.world.active_a * (fall_s - rise_s), rel=0.3)


def ask_truth(folder: Path, after_s: float) -> list[dict[str, float]]:
    with socket.socket(socket.AF_UNIX) as client, client.makefile("rb") as answers:
        client.connect(str(folder / "truth.sock"))
        client.sendall(json.dumps({"after_s": after_s}).encode() + b"\n")
        windows: list[dict[str, float]] = json.loads(answers.readline())["windows"]
        return windows


def test_identities_memory_and_seed_come_from_the_lab(lab: Lab) -> None:
    assert lab.simulation is not None
    stations = [Station(lab), Station(lab), Station(lab, seed=99)]
    try:
        one, two, other = stations
        assert lab.scope.serial in one.scope.identity
        assert one.scope.identity.split(",")[1] == lab.scope.model
        assert one.scope.acquisition.options.memory_points == lab.simulation.scope.memory_points
        assert one.world.probe_gain == two.world.probe_gain != other.world.probe_gain
        assert set(one.addresses["scope"]) == {"socket", "vxi11", "hislip"}
        assert set(one.addresses["supply"]) == {"prologix", "serial"}
    finally:
        for station in stations:
            station.stop()
            station.stop()


def test_instruments_take_options(lab: Lab) -> None:
    station = Station(lab, scope_options={"front": FrontEnd(0, 0, 0)}, supply_options={"error_share": 0.0})
    try:
        assert station.scope.synthesiser.scale(station.scope.settings.channels["CHAN1"]).origin == 0
        station.supply.feed(b"APPL 5,1;:OUTP ON\n")
        later_s = station.supply.now_s + 9
        assert station.world.supply(later_s, later_s + 1).volts == pytest.approx(5, abs=1e-2)
    finally:
        station.stop()


def test_stopping_ends_every_thread_and_connection(lab: Lab, tmp_path: Path) -> None:
    before = threading.active_count()
    with Station(lab, state_dir=tmp_path) as station:
        clients = [Line(station.addresses["scope"]["socket"][0]) for _ in range(3)]
        assert all(client.ask("*OPC?") == "1" for client in clients)
        clients[0].write(":TRIG:SWE NORM;:DIG")
    for client in clients:
        assert client.file.read() == b""
        client.__exit__()
    until_s = time.monotonic() + 30
    while threading.active_count() > before:
        assert time.monotonic() < until_s, threading.enumerate()
        time.sleep(0.01)


@pytest.fixture
def program(tmp_path: Path) -> Any:
    """The program, started; its addresses are read."""
    process = subprocess.Popen(
        [sys.executable, "-W", "error", "-m", "instruments.simulated", "--lab", str(LAB), "--state-dir", str(tmp_path),
         "--seed", "7", "--until-stdin-closes"],
        cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    )  # fmt: skip
    yield process
    if process.poll() is None:
        process.kill()
    process.communicate()


@pytest.mark.parametrize("how", ["SIGTERM", "SIGINT", "stdin"])
def test_program_serves_until_told_to_end(program: Any, how: str) -> None:
    addresses = json.loads(program.stdout.readline())
    with Line(addresses["scope"]["socket"][0]) as scope:
        assert scope.ask("*IDN?").startswith("AGILENT TECHNOLOGIES,MSO-X 2024A,")
        if how == "stdin":
            program.stdin.close()
            program.stdin = None
        else:
            os.kill(program.pid, getattr(signal, how))
        assert program.wait(200) == 0
    out, err = program.communicate()
    assert (out, err) == (b"", b"")


def test_program_says_what_is_wrong(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--lab", str(tmp_path / "none.yaml")]) == 2
    assert "none.yaml" in capsys.readouterr().err
    bare = tmp_path / "real.yaml"
    text = LAB.read_text().split("simulation:")[0].replace("sim:socket", "TCPIP::192.0.2.1::5025::SOCKET")
    text = text.replace("sim:prologix", "GPIB0::5::INSTR").replace("marker: simulated", "marker: none")
    bare.write_text(text)
    assert main(["--lab", str(bare)]) == 2
    assert "simulation" in capsys.readouterr().err
    with socket.create_server(("127.0.0.1", 0)) as taken:
        busy = tmp_path / "busy.yaml"
        busy.write_text(LAB.read_text() + f"\n  ports: {{socket: {taken.getsockname()[1]}}}\n")
        assert main(["--lab", str(busy)]) == 2
        assert "error" in capsys.readouterr().err
