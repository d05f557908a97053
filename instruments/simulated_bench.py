"""The simulated bench as a program beside this one: starts it, finds its addresses, asks for its truth.

Knows the simulators only through their command line, their line of JSON and their truth socket.
"""

from __future__ import annotations

import contextlib
import json
import os
import select
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Literal

from instruments.clock import VirtualClock
from instruments.errors import BenchError, ConfigError

PREFIX = "sim:"
RING_NAME = "markers.ring"
TRUTH_NAME = "truth.sock"
BOARD_NAME = "board.sock"
NOW_NAME = "now.f64"


def wanted(resources: Sequence[str]) -> bool:
    """Whether an instrument of lab.yaml stands for a simulated one."""
    return any(resource.startswith(PREFIX) for resource in resources)


class SimulatedBench:
    """A running `python -m instruments.simulated`, or one that somebody else runs in `folder`."""

    def __init__(self, folder: Path, process: subprocess.Popen[bytes] | None, addresses: dict[str, Any]) -> None:
        self.folder, self._process, self._addresses = folder, process, addresses
        self._own_folder = False

    @classmethod
    def start(cls, lab_path: Path, seed: int, deadline_s: float = 30.0) -> SimulatedBench:
        """Start the simulators of a lab.yaml; they end when this program does.

        Raises BenchError with what they said when they do not come up within the deadline.
        """
        folder = Path(tempfile.mkdtemp(prefix="joulebench-"))
        command = [
            sys.executable,
            "-m",
            "instruments.simulated",
            "--lab",
            str(lab_path),
            "--seed",
            str(seed),
            "--state-dir",
            str(folder),
            "--until-stdin-closes",
        ]
        log = folder / "log.txt"
        try:
            with log.open("wb") as err:
                process = subprocess.Popen(
                    command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=err, start_new_session=True
                )
        except OSError as error:
            shutil.rmtree(folder, ignore_errors=True)
            raise BenchError(f"the simulated bench cannot be started: {error}") from error
        bench = cls(folder, process, {})
        bench._own_folder = True
        try:
            bench._addresses = bench._greeting(deadline_s)
        except BaseException:
            bench.close()
            raise
        return bench

    @classmethod
    def attach(cls, folder: Path) -> SimulatedBench:
        """Use the truth and the marker ring of simulators that run already with this state folder."""
        if not ((folder / RING_NAME).exists() or (folder / BOARD_NAME).exists()):
            raise ConfigError(
                f"simulation.state_dir {folder}: no simulated bench runs there; "
                f"start one with python -m instruments.simulated --lab FILE --state-dir {folder}"
            )
        return cls(folder, None, {})

    def _greeting(self, deadline_s: float) -> dict[str, Any]:
        assert self._process is not None
        assert self._process.stdout is not None
        descriptor, line, until = self._process.stdout.fileno(), b"", time.monotonic() + deadline_s
        while not line.endswith(b"\n"):
            ready, _, _ = select.select([descriptor], [], [], max(0.0, until - time.monotonic()))
            data = os.read(descriptor, 65536) if ready else b""
            if not data:
                said = (self.folder / "log.txt").read_text(errors="replace").strip().splitlines()[-5:]
                raise BenchError("the simulated bench did not come up: " + ("\n".join(said) or "it said nothing"))
            line += data
        found: dict[str, Any] = json.loads(line)
        return found

    def resources(self, instrument: str, resource: str) -> list[str]:
        """VISA strings behind `sim:TRANSPORT` of an instrument, in the order in which to open them."""
        transport = resource.removeprefix(PREFIX)
        served = self._addresses.get(instrument, {})
        if transport not in served:
            raise ConfigError(
                f"{instrument}.resource: the simulated {instrument} is not served over {transport!r}; "
                f"write one of: {', '.join(PREFIX + t for t in served)}"
            )
        return list(served[transport])

    @property
    def ring(self) -> Path:
        """The file that carries marker edges from the device to the simulated world."""
        return self.folder / RING_NAME

    @property
    def board(self) -> Path:
        """The socket of the simulated board, where the bench is one in virtual time."""
        return self.folder / BOARD_NAME

    def clock(self) -> VirtualClock:
        """The time of a bench in virtual time; raises ConfigError where it is none."""
        return VirtualClock(self.control, self.folder / NOW_NAME)

    @property
    def control(self) -> Path:
        """The socket through which the bench tells its truth, and is moved where it is one in virtual time."""
        return self.folder / TRUTH_NAME

    def true_windows(self, after_s: float) -> list[dict[str, float]]:
        """Every whole measured loop that began after a monotonic time, with its true energy (J).

        Raises BenchError when the simulated bench does not answer.
        """
        windows: list[dict[str, float]] = self._ask({"after_s": after_s})["windows"]
        return windows

    def connect(self, load: float | Literal["open", "board"]) -> None:
        """Be the hand at the bench that puts a resistor of so many ohms, or nothing, in the board's place, or it back.

        Raises BenchError when the simulated bench does not do it.
        """
        self._ask({"load": load})

    def mean_current_a(self, from_s: float, to_s: float) -> float:
        """What a perfect ammeter in the load's wire showed on average; raises BenchError."""
        return float(self._ask({"current": [from_s, to_s]})["amps"])

    def _ask(self, request: dict[str, Any]) -> dict[str, Any]:
        try:
            found = self._answer(request)
        except OSError as error:
            raise BenchError(f"the simulated bench does not tell its truth: {error}") from error
        if "error" in found:
            raise BenchError(f"the simulated bench does not do what was asked: {found['error']}")
        return found

    def _answer(self, request: dict[str, Any]) -> dict[str, Any]:
        with socket.socket(socket.AF_UNIX) as s:
            s.settimeout(10.0)
            s.connect(str(self.control))
            s.sendall(json.dumps(request).encode() + b"\n")
            answer = b""
            while not answer.endswith(b"\n"):
                data = s.recv(65536)
                if not data:
                    raise BenchError("the simulated bench closed its truth socket")
                answer += data
        found: dict[str, Any] = json.loads(answer)
        return found

    def close(self) -> None:
        """End the simulators that were started here; may be called again."""
        process, self._process = self._process, None
        if process is not None:
            for stream in (process.stdin, process.stdout):
                if stream is not None:
                    with contextlib.suppress(OSError):
                        stream.close()
            try:
                process.wait(3.0)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
        if self._own_folder:
            shutil.rmtree(self.folder, ignore_errors=True)

    def __enter__(self) -> SimulatedBench:
        return self

    def __exit__(self, *_: type[BaseException] | BaseException | TracebackType | None) -> None:
        self.close()
