"""How long it takes to read a capture of 3 x 100 000 points: our driver, public clients and a bare socket, in one run.

`python -m benchmarks.scope_clients [--captures N] [--json]`. One simulated oscilloscope, in a process of its own,
serves all; before each reading it takes a new record, and another connection reads it once, so that nobody waits for
samples to be made up. pymeasure reads ASCII and at most 62 500 points: it reads 3 x 50 000, and its time is
doubled. A client that is not installed is left out. Ratios are to a bare socket that copies the same WORD blocks.
Exit code 1 when our driver over a socket takes more than 5 times what the bare socket takes, or is not 20 times faster
than a public client; lower quartiles are compared, which other programs on the computer disturb least.
"""

from __future__ import annotations

import argparse
import contextlib
import functools
import importlib.util
import json
import os
import socket
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

from instruments import lab as lab_yaml
from instruments.link import Link
from instruments.mso_x2024a import ChannelSettings, EdgeTrigger, MsoX2024A, next_full_scale
from instruments.simulated_bench import SimulatedBench

POINTS = 100_000
SOURCES = ("CHAN1", "CHAN2", "CHAN3")
BARE, OURS = "bare socket, WORD", "our driver, socket"
CLIENTS = ("keyoscacquire, WORD", "pymeasure, ASCII, 3 x 50 000 doubled")
MOST_OF_BARE, LEAST_OF_CLIENTS = 5.0, 20.0
WINDOW_S = 0.2  # running or single, the memory then holds a whole multiple of the points

KEYOSCACQUIRE = """
import sys, time, keyoscacquire
scope = keyoscacquire.Oscilloscope(sys.argv[1], timeout=15000, verbose=False)
scope.num_points = 100000
print("ready", flush=True)
for line in sys.stdin:
    start = time.perf_counter()
    times, values, _ = scope.get_trace([1, 2, 3])
    print(time.perf_counter() - start, flush=True)
    assert values.shape == (100000, 3), values.shape
"""

PYMEASURE = """
import sys, time
from pymeasure.instruments.keysight import KeysightDSOX1102G
scope = KeysightDSOX1102G(sys.argv[1], visa_library="@py", read_termination="\\n", write_termination="\\n")
print("ready", flush=True)
for line in sys.stdin:
    start = time.perf_counter()
    sizes = [scope.download_data(source, 50000)[0].size for source in ("channel1", "channel2", "channel1")]
    print(2 * (time.perf_counter() - start), flush=True)
    assert sizes == [50000] * 3, sizes
"""


class Bare:
    """A socket and nothing else."""

    def __init__(self, resource: str) -> None:
        _, host, port, _ = resource.split("::")
        self._socket = socket.create_connection((host, int(port)))
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._buffer = bytearray(1 << 23)

    def send(self, text: str) -> None:
        """Send one message."""
        self._socket.sendall(text.encode() + b"\n")

    def ask(self, text: str) -> str:
        """Ask for one line."""
        self.send(text)
        answer = b""
        while not answer.endswith(b"\n"):
            answer += self._socket.recv(4096)
        return answer.decode().strip()

    def copy_blocks(self) -> None:
        """Copy the three blocks as they come."""
        view = memoryview(self._buffer)
        for source in SOURCES:
            self.send(f":WAV:SOUR {source};:WAV:DATA?")
            got, wanted = 0, 10
            while got < wanted:
                got += self._socket.recv_into(view[got:])
                wanted = 10 + int(self._buffer[2:10]) + 1 if got >= 10 else 10

    def prepare(self, form: str = "WORD", mode: str = "RAW", points: int = POINTS) -> None:
        """Set the transfer."""
        self.send(f":WAV:FORM {form};BYT LSBF;UNS 1;POIN:MODE {mode};:WAV:POIN {points}")

    def acquire(self) -> None:
        """Take a new record, and have its samples made up for both ways of reading it."""
        self.send(":SING;:TRIG:FORC")
        while int(self.ask(":OPER:COND?")) & 8:
            time.sleep(0.01)
        for mode, points in (("NORM", 50_000), ("RAW", POINTS)):
            self.prepare("WORD", mode, points)
            self.copy_blocks()

    def close(self) -> None:
        """Close."""
        self._socket.close()


class Program:
    """A public client in a process of its own; each line that it gets is one capture."""

    def __init__(self, code: str, resource: str) -> None:
        environment = {**os.environ, "PYVISA_LIBRARY": "@py", "MPLBACKEND": "Agg", "PYTHONWARNINGS": "ignore"}
        self._process = subprocess.Popen(
            [sys.executable, "-c", code, resource],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env=environment,
        )
        if self._answer() != "ready":
            raise RuntimeError("the client did not start")

    def _answer(self) -> str:
        assert self._process.stdout is not None
        return self._process.stdout.readline().strip()

    def capture_s(self) -> float:
        """Have one capture read; gives what the client measured."""
        assert self._process.stdin is not None
        self._process.stdin.write("go\n")
        self._process.stdin.flush()
        return float(self._answer())

    def close(self) -> None:
        """End the program."""
        self._process.communicate(timeout=20)


def set_up(scope: MsoX2024A) -> None:
    """Three channels on, a window of 0.2 s, a trigger that is forced."""
    scope.stop()
    for number in (1, 2, 3):
        scope.configure_channel(number, ChannelSettings(next_full_scale(14.0, 10.0), 6.0, probe_ratio=10.0))
    scope.switch_off_channel(4)
    scope.switch_off_digital()
    scope.configure_timebase(WINDOW_S)
    scope.configure_acquisition("HRES")
    scope.configure_trigger(EdgeTrigger("DIG0", "POS"))


def timed(action: Callable[[], object]) -> float:
    """Seconds that an action takes."""
    start = time.perf_counter()
    action()
    return time.perf_counter() - start


def run(captures: int, lab_path: Path) -> dict[str, list[float]]:
    """Read captures in turn by every client; seconds by client."""
    times: dict[str, list[float]] = {}
    with contextlib.ExitStack() as stack:
        simulated = stack.enter_context(SimulatedBench.start(lab_path, seed=1))
        resources = {t: simulated.resources("scope", f"sim:{t}") for t in ("socket", "vxi11", "hislip")}
        (raw,) = resources["socket"]
        bare = Bare(raw)
        stack.callback(bare.close)
        drivers = {t: MsoX2024A(stack.enter_context(Link.open("scope", r))) for t, r in resources.items()}
        set_up(drivers["socket"])
        programs: dict[str, Program] = {}
        for name, package, code in (
            (CLIENTS[0], "keyoscacquire", KEYOSCACQUIRE),
            (CLIENTS[1], "pymeasure", PYMEASURE),
        ):
            if importlib.util.find_spec(package) is not None:
                programs[name] = Program(code, raw)
                stack.callback(programs[name].close)
        for _ in range(captures):
            bare.acquire()
            bare.prepare()
            times.setdefault(BARE, []).append(timed(bare.copy_blocks))
            bare.prepare("ASC", "NORM", 50_000)
            times.setdefault("bare socket, ASCII, 3 x 50 000 doubled", []).append(2 * timed(bare.copy_blocks))
            bare.send("*CLS")  # of what the other clients left behind
            for transport, scope in drivers.items():
                scope.arm()
                scope.force_trigger()
                scope.wait_done(5.0)
                bare.prepare()
                bare.copy_blocks()
                seconds = timed(functools.partial(scope.fetch, list(SOURCES), POINTS, min_points=POINTS))
                times.setdefault(f"our driver, {transport}", []).append(seconds)
            for name, program in programs.items():
                bare.acquire()
                times.setdefault(name, []).append(program.capture_s())
    return times


@dataclass(frozen=True)
class Limit:
    """One promise, and what was measured; `good` None where it could not be."""

    text: str
    ratio: float | None
    good: bool | None

    def line(self) -> str:
        """One line of text."""
        word = {True: "pass", False: "FAIL", None: "left out"}[self.good]
        return f"{word:8s} {self.text}" + ("" if self.ratio is None else f": {self.ratio:.2f}")


def limits(quick: dict[str, float]) -> list[Limit]:
    """Hold the lower quartiles (seconds by client) against the two promises."""
    ratio = quick[OURS] / quick[BARE]
    found = [Limit(f"{OURS} / {BARE}, at most {MOST_OF_BARE:g}", ratio, ratio <= MOST_OF_BARE)]
    for client in CLIENTS:
        faster = quick[client] / quick[OURS] if client in quick else None
        good = None if faster is None else faster >= LEAST_OF_CLIENTS
        found.append(Limit(f"{client} / {OURS}, at least {LEAST_OF_CLIENTS:g}", faster, good))
    return found


def main() -> int:
    """Print medians, ratios and limits; 1 when a limit is not kept."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--captures", type=int, default=15)
    parser.add_argument("--lab", type=Path, default=Path("lab.yaml"))
    parser.add_argument("--json", action="store_true", help="print one JSON object instead of lines")
    options = parser.parse_args()
    lab_yaml.load(options.lab)
    times = run(max(1, options.captures), options.lab)
    medians = {name: statistics.median(values) for name, values in times.items()}
    quick = {name: statistics.quantiles([*values, *values], n=4)[0] for name, values in times.items()}
    kept = limits(quick)
    if options.json:
        clients = {
            name: {"median_s": medians[name], "min_s": min(v), "quartile_s": quick[name], "max_s": max(v), "all_s": v}
            for name, v in times.items()
        }
        print(json.dumps({"points": POINTS, "clients": clients, "limits": [asdict(limit) for limit in kept]}, indent=1))
    else:
        for name, v in times.items():
            print(
                f"{name:40s} median {medians[name] * 1e3:8.2f} ms   quartile {quick[name] * 1e3:8.2f}   min "
                f"{min(v) * 1e3:8.2f}   max {max(v) * 1e3:8.2f}   {quick[name] / quick[BARE]:8.2f} x the bare socket"
            )
        for limit in kept:
            print(limit.line())
    return int(any(limit.good is False for limit in kept))


if __name__ == "__main__":
    sys.exit(main())
