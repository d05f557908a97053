"""The software's share of one capture: from the arm command to reduced numbers, over loopback.

`python -m benchmarks.capture_overhead [--captures N]`. Three sources of 100 000 points in WORD from the
simulated oscilloscope over a raw socket. Left out are the physical window (pre-trigger and record)
and the instrument's own time: the delays that the simulator states for arming and processing, and making
up the samples, which a first fetch triggers. A second fetch of the same record, served from its memory, is
counted, less the time in which it answers a bare socket that asks for the same three blocks.
"""

from __future__ import annotations

import argparse
import contextlib
import socket
import statistics
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path

from experiments.capture_data import CaptureData, wires
from experiments.measure import measure
from experiments.plan import make_plan
from experiments.progress import Progress
from experiments.station import PRE_TRIGGER, Station
from experiments.traces import CaptureRow, TraceWriter
from instruments import lab as lab_yaml
from instruments.bench import open_bench
from instruments.simulated.mso_acquisition import Options
from instruments.waveform import Capture

WINDOW_S = 2.0


@dataclass
class Times:
    """Milliseconds of each step, one entry per capture."""

    steps: dict[str, list[float]] = field(default_factory=dict)

    def add(self, step: str, seconds: float) -> None:
        """Note one step of one capture."""
        self.steps.setdefault(step, []).append(seconds * 1e3)


def bare_fetch_s(resource: str, names: list[str]) -> float:
    """Time for a bare socket to get the blocks of these sources from the simulator: its own time."""
    _, host, port, _ = resource.split("::")
    with socket.create_connection((host, int(port))) as client:
        client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        buffer = bytearray(1 << 20)
        taken = 0.0
        for name in names:
            form = "BYTE" if name == "POD1" else "WORD"
            client.sendall(f":WAV:SOUR {name};:WAV:FORM {form}\n".encode())
            start = time.perf_counter()
            client.sendall(b":WAV:DATA?\n")
            got, wanted = 0, 10
            while got < wanted:
                got += client.recv_into(memoryview(buffer)[got:])
                wanted = 10 + int(buffer[2:10]) + 1 if got >= 10 else 10
            taken += time.perf_counter() - start
    return taken


def run(captures: int, lab_path: Path) -> Times:
    """Make captures of a short busy run and time each step."""
    lab = lab_yaml.load(lab_path)
    plan = make_plan(["busy:10"], [1], 1, WINDOW_S, 1)
    times = Times()
    with contextlib.ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        bench = stack.enter_context(open_bench(lab, lab_path))
        trace = TraceWriter.create(folder / "trace.h5", plan, source="simulated", texts={})
        writer = stack.enter_context(trace)
        station = Station(bench, writer, plan, Progress(1, quiet=True).say)
        station.set_up_scope()
        station.feed_board()
        station.switch_on()
        dut = station.device()
        ready = dut.prepare("busy:10", 1, run_s=1.4, warmup_s=0.05)
        names = list(station.sources.values())
        for _ in range(captures):
            start = time.perf_counter()
            bench.scope.arm()
            own_s = PRE_TRIGGER * WINDOW_S + Options.arm_s
            times.add("arm, beyond the pre-trigger fill", time.perf_counter() - start - own_s)
            dut.go("bench")
            bench.scope.wait_done(WINDOW_S + 5)
            end = time.monotonic()
            done = dut.wait_done(5.0)
            record_end = done.gate_ns[0] * 1e-9 + (1 - PRE_TRIGGER) * WINDOW_S + Options.process_s
            times.add("noticing the record's end", end - record_end)
            bench.scope.fetch(names)
            start = time.perf_counter()
            capture = bench.scope.fetch(names)
            fetched = time.perf_counter()
            row = CaptureRow("cell", cell=0, batches=done.batches, images=done.images, batch_end_ns=done.batch_ns)
            index = writer.add(row, capture, station.sources)
            writer.settle(index)
            stored = time.perf_counter()
            records = {role: capture.records[source] for role, source in station.sources.items()}
            data = CaptureData(index, "cell", "busy", 1, 0, 0.0, Capture(records), done.batches, done.images)
            measure(data, wires(lab))
            reduced = time.perf_counter()
            own_s = bare_fetch_s(bench.scope.link.resource, names)
            times.add("fetch, beyond the simulator's own time", fetched - start - own_s)
            times.add("(the simulator's own time for three blocks)", own_s)
            times.add("store, checksummed and flushed", stored - fetched)
            times.add("check and reduce", reduced - stored)
        assert ready.batches > 0
    return times


def main() -> None:
    """Print a table of medians."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--captures", type=int, default=10)
    parser.add_argument("--lab", type=Path, default=Path("lab.yaml"))
    options = parser.parse_args()
    times = run(options.captures, options.lab)
    total = 0.0
    for step, values in times.steps.items():
        median = statistics.median(values)
        total += 0.0 if step.startswith("(") else median
        print(f"{step:44s} median {median:7.2f} ms   min {min(values):7.2f}   max {max(values):7.2f}")
    print(f"{'software share of one capture':44s} median {total:7.2f} ms")


if __name__ == "__main__":
    main()
