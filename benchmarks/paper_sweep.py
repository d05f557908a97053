"""Wall time of the paper's whole sweep on the simulated board, and where it goes.

    python -m benchmarks.paper_sweep [--networks A,B --batches 1,2 --repeats N] [--lab FILE]

Runs `experiments.power_sweep` in this process as a user does, with a stopwatch around its larger steps, and the
simulated bench in a process of its own. The paper's sweep, all 14 networks x 7 batch sizes x 3 repeats, is to end
in under 60 s on two cores.
"""

from __future__ import annotations

import argparse
import contextlib
import functools
import resource
import shutil
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path
from typing import Any

LAB = Path(__file__).parent.parent / "docs" / "benches" / "simulated-tx1.yaml"


class Stopwatch:
    """Adds up the wall time, and this process's processor time, of functions that it is put around."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = defaultdict(float)
        self.own_s: dict[str, float] = defaultdict(float)
        self.calls: dict[str, int] = defaultdict(int)

    def around(self, owner: Any, name: str, label: str) -> None:
        """Time every call of `owner.name` from now on."""
        inner: Callable[..., Any] = getattr(owner, name)

        # In the order in which they were named.
        self.seconds[label] = self.calls[label] = 0

        @functools.wraps(inner)
        def timed(*args: Any, **kwargs: Any) -> Any:
            begun_s, own_s = time.perf_counter(), time.process_time()
            try:
                return inner(*args, **kwargs)
            finally:
                self.seconds[label] += time.perf_counter() - begun_s
                self.own_s[label] += time.process_time() - own_s
                self.calls[label] += 1

        setattr(owner, name, timed)


def main() -> None:
    """Run the sweep once and print the table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--networks", default="paper", metavar="A,B")
    parser.add_argument("--batches", default="1,2,4,8,16,32,64", metavar="1,2")
    parser.add_argument("--repeats", default="3", metavar="N")
    parser.add_argument("--lab", default=LAB, type=Path, metavar="FILE")
    options = parser.parse_args()
    begun_s = time.perf_counter()

    from experiments import cell, power_sweep, station
    from experiments.report import outputs
    from experiments.traces import TraceWriter
    from instruments.clock import VirtualClock
    from instruments.dut import Dut
    from instruments.mso_x2024a import MsoX2024A
    from instruments.simulated_bench import SimulatedBench

    watch = Stopwatch()
    for owner, name, label in (
        (SimulatedBench, "start", "start of the simulated bench"),
        (cell.CellWork, "measure_cell", "cells"),
        (Dut, "prepare", "  prepare"),
        (Dut, "clock_bound", "  clock bound, before and after"),
        (MsoX2024A, "arm", "  arm"),
        (MsoX2024A, "wait_done", "  wait for the record"),
        (MsoX2024A, "fetch", "  fetch (the simulator computes the samples)"),
        (SimulatedBench, "true_windows", "  true energy"),
        (TraceWriter, "add", "  trace file: capture"),
        (TraceWriter, "cell", "  trace file: journal"),
        (station, "measure", "  reduction of the capture"),
        (station.Station, "provisional", "  result shown"),
        (outputs, "reduce_run", "reduction of the whole file"),
        (outputs, "write_outputs", "table, figures, report"),
        (VirtualClock, "_ask", "(of all: requests to the virtual clock)"),
    ):
        watch.around(owner, name, label)
    out = Path(tempfile.mkdtemp(prefix="joulebench-"))
    try:
        asked = {"--networks": options.networks, "--batches": options.batches, "--repeats": options.repeats}
        where = {"--lab": str(options.lab), "--out": str(out / "run")}
        with contextlib.redirect_stdout(sys.stderr):
            code = power_sweep.main(["--quiet", *(word for pair in {**where, **asked}.items() for word in pair)])
        size = (out / "run" / "trace.h5").stat().st_size
    finally:
        shutil.rmtree(out)
    total_s = time.perf_counter() - begun_s
    cells = watch.calls["cells"]
    print(f"{total_s:6.1f} s   exit code {code}, {cells} cells, {total_s / max(cells, 1) * 1e3:.0f} ms a cell, "
          f"trace file {size / 1e6:.0f} MB")  # fmt: skip
    for label, calls in watch.calls.items():
        seconds = watch.seconds[label]
        each = f"{calls:6d} x {seconds / max(calls, 1) * 1e3:8.2f} ms"
        print(f"{seconds:6.1f} s   {label:46s} {each}, {watch.own_s[label]:5.1f} s of them this process's own")
    for name, who in (("this process", resource.RUSAGE_SELF), ("the simulated bench", resource.RUSAGE_CHILDREN)):
        used = resource.getrusage(who)
        print(f"{used.ru_utime + used.ru_stime:6.1f} s   processor time of {name}")


if __name__ == "__main__":
    main()
