"""Recorded captures behind the simulated oscilloscope: any VISA client gets them, our own driver to the bit."""

from __future__ import annotations

import contextlib
import json
import math
import signal
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import pyvisa

from experiments.replay import main
from experiments.through_scope import CommittedCaptures
from experiments.traces import CaptureRow, TraceReader, TraceWriter
from instruments.errors import CaptureError
from instruments.link import Link
from instruments.mso_x2024a import MsoX2024A
from instruments.recorded_scope import served
from instruments.waveform import Capture, Preamble, Record
from tests import foreign_files as foreign
from tests.experiments.test_replay_many import small_run
from tests.sweeps import start
from tests.trace_files import PLAN, SOURCES


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return small_run(tmp_path_factory.mktemp("run") / "trace.h5", 6)


@contextlib.contextmanager
def scope_of(path: Path, *options: str) -> Iterator[tuple[dict, subprocess.Popen[str]]]:
    """`replay FILE --through-scope` as a program; gives its addresses."""
    process = start("experiments.replay", path, "--through-scope", *options)
    assert process.stdout is not None
    try:
        yield json.loads(process.stdout.readline())["scope"], process
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(200)
        for stream in (process.stdout, process.stderr):
            if stream is not None:
                stream.close()


def test_results_through_the_oscilloscope_are_those_of_the_file(run: Path, tmp_path: Path, capsys) -> None:
    assert main([str(run), "--out", str(tmp_path / "file"), "--quiet"]) == 0
    with scope_of(run) as (addresses, process):
        for transport in ("socket", "vxi11", "hislip"):
            out = tmp_path / transport
            assert main([str(run), "--from-scope", addresses[transport][0], "--out", str(out)]) == 0
            assert "3 captures came through the oscilloscope as they are stored" in capsys.readouterr().out
            for name in ("results.csv", "power_vs_batch.png", "energy_vs_batch.png", "budgets.json"):
                assert (out / name).read_bytes() == (tmp_path / "file" / name).read_bytes(), name
            with TraceReader(run) as mine, TraceReader(out / "fetched.h5") as theirs:
                for row, other in zip(mine.captures(), theirs.captures(), strict=True):
                    # NaN is unlike itself: what was not known there need not be known here.
                    assert {k: v for k, v in other.items() if v == v} == {k: row[k] for k, v in other.items() if v == v}
        # What a client before has set, or left half said, is no matter.
        host, port = addresses["socket"][0].split("::")[1:3]
        for strange in (b"*RST\n:CHAN1:DISP 0\n*RST\n", b":WAV:DATA?\n" * 3, b":SYST:SET #99999", bytes(range(256))):
            with socket.create_connection((host, int(port)), timeout=10) as stranger:
                stranger.sendall(strange)
        # Another file than the one that is served is told apart by its codes.
        other = small_run(tmp_path / "other.h5", 7)
        assert main([str(other), "--from-scope", addresses["socket"][0], "--out", str(tmp_path / "x")]) == 3
        assert "did not come as it is stored" in capsys.readouterr().err
        process.send_signal(signal.SIGTERM)
        _, said = process.communicate(timeout=200)
    assert process.returncode == 0
    assert said.splitlines()[:4] == [f"oscilloscope: capture {k % 3} ({k % 3 + 1} of 3)" for k in range(4)]


def test_any_client_can_fetch_a_recorded_trace(run: Path) -> None:
    with TraceReader(run) as reader:
        stored = [data.capture for data in reader.data()]
    with scope_of(run, "--capture", "2") as (addresses, _):
        resources = pyvisa.ResourceManager("@py")
        scope = resources.open_resource(addresses["hislip"][0], timeout=20_000)
        assert "MSO-X 2024A" in scope.query("*IDN?")
        # On the screen from the start, and again after each acquisition.
        for command in ("*CLS", "*RST", ":DIGitize CHAN1,CHAN3,POD1", ":DIGitize"):
            scope.write(command)
            scope.write(":WAVeform:POINts:MODE RAW;:WAVeform:POINts MAX;:WAVeform:FORMat WORD;:WAVeform:BYTeorder LSBF")
            for source, role in (("CHAN1", "current"), ("CHAN3", "voltage"), ("POD1", "markers")):
                scope.write(f":WAVeform:SOURce {source};:WAVeform:UNSigned 1")
                preamble = Preamble.parse(scope.query(":WAVeform:PREamble?"))
                codes = scope.query_binary_values(":WAVeform:DATA?", datatype="H", container=np.array)
                np.testing.assert_array_equal(codes, stored[2][role].codes)
                assert preamble.points == stored[2].points
                if role != "markers":
                    assert preamble == stored[2][role].preamble
        # Fewer points, fewer bits, text: as of any acquisition.
        scope.write(":WAVeform:SOURce CHAN1;:WAVeform:FORMat BYTE;:WAVeform:POINts 1000")
        preamble = Preamble.parse(scope.query(":WAVeform:PREamble?"))
        assert (preamble.points, preamble.x_increment_s) == (1000, 10 * stored[2].dt_s)
        small = scope.query_binary_values(":WAVeform:DATA?", datatype="B", container=np.array)
        np.testing.assert_array_equal(small, stored[2]["current"].codes[::10] >> 8)
        values = (small - preamble.y_reference) * preamble.y_increment + preamble.y_origin
        step = stored[2]["current"].preamble.y_increment
        assert np.abs(values - stored[2]["current"].values()[::10]).max() <= 256 * step
        average = float(scope.query(":MEASure:VAVerage? CHAN3"))
        assert average == pytest.approx(stored[2]["voltage"].values().mean(), rel=2e-3)
        scope.close()
        resources.close()


def test_the_driver_gets_every_form_and_an_old_record_is_noticed(run: Path) -> None:
    with TraceReader(run) as reader:
        captures = CommittedCaptures(reader)
        with (
            served(captures, only=1) as addresses,
            Link.open("scope", addresses["scope"]["socket"], timeout_s=20.0) as link,
        ):
            driver = MsoX2024A(link)
            driver.configure_timebase(0.02)  # has no effect on a record
            driver.arm()
            driver.force_trigger()
            driver.wait_done(20.0)
            for signed in (True, False):
                for order in ("LSBFirst", "MSBFirst"):
                    got = driver.fetch(["CHAN1", "CHAN3", "POD1"], None, unsigned=not signed, byte_order=order)  # type: ignore[arg-type]
                    for source, record in captures[1].items():
                        np.testing.assert_array_equal(got[source].codes, record.codes)
                        np.testing.assert_allclose(got[source].values(), record.values(), rtol=1e-12)
                        np.testing.assert_array_equal(got[source].time_s(), record.time_s())
            driver.arm()
            driver.force_trigger()
            driver.wait_done(20.0)
            with pytest.raises(CaptureError, match="very codes of acquisition 1"):
                driver.fetch(["CHAN1"], None)


def test_records_of_eight_bits_and_without_a_pod(tmp_path: Path) -> None:
    device = foreign.signal(runs=1, batches=3, batch_s=0.04, rate_hz=20_000.0)
    table = foreign.write_table(tmp_path / "t.csv", device)
    text = table.read_text().splitlines()
    text[1] = text[1].replace(",0.050,", ",0.300,")  # three levels: an analogue line
    table.write_text("\n".join(text))
    from experiments.traces.__main__ import main as traces

    options = ["--columns", "time=t,current=I,voltage=U,gate=run", "--images", "12", "--threshold", "1.6"]
    assert traces(["import", str(table), "--out", str(tmp_path / "t.h5"), *options]) == 0
    record = foreign.accuracy_record(tmp_path / "maker.yaml")
    given = ["--calibration", str(record), "--quiet"]
    assert main([str(tmp_path / "t.h5"), "--out", str(tmp_path / "file"), *given]) == 0
    with TraceReader(tmp_path / "t.h5") as reader, served(CommittedCaptures(reader)) as addresses:
        code = main([str(tmp_path / "t.h5"), "--from-scope", addresses["scope"]["socket"][0], "--out",
                     str(tmp_path / "scope"), *given])  # fmt: skip
    assert code == 0
    assert (tmp_path / "scope/results.csv").read_bytes() == (tmp_path / "file/results.csv").read_bytes()


def test_what_cannot_be_served_is_refused(run: Path, tmp_path: Path, capsys) -> None:
    assert main([str(run), "--through-scope", "--capture", "9"]) == 2
    assert "has committed captures 0 to 2" in capsys.readouterr().err
    n = 200
    records = {
        role: Record(role, Preamble(1, 1, n, 1, 1e-3, 0.0, 0, 1e-4, 0.0, 32768), np.full(n, 30_000, np.uint16), "A")
        for role in ("current", "voltage")
    }
    records["markers"] = Record(
        "markers", Preamble(0, 0, n, 1, 1e-3, 0.0, 0, 1.0, 0.0, 0), np.zeros(n, np.uint8), "bits"
    )
    with TraceWriter.create(tmp_path / "p.h5", PLAN, source="measured", texts={"lab_yaml": run_lab(run)}) as writer:
        assert writer.add(CaptureRow("zero", true_energy_j=math.nan), Capture(records), SOURCES) == 0
    assert main([str(tmp_path / "p.h5"), "--through-scope"]) == 3
    assert "no capture was committed" in capsys.readouterr().err
    with TraceWriter.resume(tmp_path / "p.h5") as writer:
        writer.settle(0)
    assert main([str(tmp_path / "p.h5"), "--through-scope"]) == 3
    assert "peak detection" in capsys.readouterr().err


def run_lab(run: Path) -> str:
    """The lab.yaml of a run."""
    with TraceReader(run) as reader:
        return reader.text("lab_yaml")
