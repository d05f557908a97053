"""Every way out of a sweep: the output is off, the file opens, the exit code tells."""

from __future__ import annotations

import signal
import time
from pathlib import Path

import pytest

from experiments.traces import TraceReader
from tests.sweeps import QUICK, output_is_on, run, served_bench, start

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
        _, rest = process.communicate(timeout=200)
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
        _, rest = process.communicate(timeout=200)
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
