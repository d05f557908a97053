"""Many trace files replayed by one process, a pool of processes and a Dask cluster on this computer.

`python -m benchmarks.replay_collections [--files N] [--captures K] [--workers W] [--full] [--json]`: makes N files of a
simulated run of K cells each, and replays them all with the command that a user gives, once in each way. Every time
is from the command's start to its end, every table of results must equal that of one process, and memory is that of
the process that hands the work out. What is said of a cluster holds for one on this computer, whose scheduler and
client share its processors with the workers.
"""

from __future__ import annotations

import argparse
import json
import logging
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from experiments.plan import make_plan
from experiments.replay_many import TABLE
from experiments.traces import CaptureRow, TraceWriter
from instruments.waveform import Capture, Preamble, Record

POINTS = 100_000
DT_S = 20e-6
LAB = Path("lab.yaml")

COMMAND = (
    "import sys\n"
    "from experiments.replay import main\n"
    "from instruments.command import leave\n"
    "code = main(sys.argv[1:])\n"
    # What getrusage tells of a process begins with the memory of the one that started it.
    "print(next(x.split()[1] for x in open('/proc/self/status') if x.startswith('VmHWM')), flush=True)\n"
    "leave(code)"
)
"""What `python -m experiments.replay` does, and then the most memory that it took, KiB, as its last line."""


def capture(rng: np.random.Generator, *, zero: bool) -> Capture:
    """A record as the simulated bench gives it, made of noise and steps alone: 12 bits in 16, idle, work, idle."""
    gate = np.zeros(POINTS, dtype=np.uint8)
    batches = np.zeros(POINTS, dtype=np.uint8)
    if not zero:
        gate[10_000:90_000] = 1
        for end in range(20_000, 90_001, 10_000):
            batches[end:] ^= 2
    amps = np.where(gate == 1, 1.0, 0.0 if zero else 0.11) + rng.normal(0, 0.01, POINTS)
    volts = (0.0 if zero else 12.0) + rng.normal(0, 0.002, POINTS)
    time_of = (POINTS, 1, DT_S, -(10_000 - 0.5) * DT_S, 0.0)

    def channel(name: str, values: Any, low: float, high: float, unit: Any) -> Record:
        step = (high - low) / 65536
        codes = np.clip(np.round((values - low) / step / 16) * 16, 0x0100, 0xFF00).astype(np.uint16)
        preamble = Preamble(1, 3, *time_of, step, low + 32768 * step, 32768.0)
        return Record(name, preamble, codes, unit)

    lines = Record("markers", Preamble(0, 3, *time_of, 1.0, 0.0, 0.0), gate | batches, "bits")
    return Capture(
        {
            "current": channel("current", amps, -0.2, 1.4, "A"),
            "voltage": channel("voltage", volts, -2.0, 14.0, "V"),
            "markers": lines,
        }
    )


def write_file(path: Path, cells: int, seed: int) -> None:
    """A run with a zero and some cells."""
    rng = np.random.default_rng(seed)
    plan, names = make_plan(["net"], [4], cells, 2.0, seed), {r: r for r in ("current", "voltage", "markers")}
    with TraceWriter.create(path, plan, source="simulated", texts={"lab_yaml": LAB.read_text()}) as writer:
        writer.settle(writer.add(CaptureRow("zero", host_s=0.0), capture(rng, zero=True), names))
        for k in range(cells):
            row = CaptureRow("cell", k, "net", 4, k, batches=8, images=32, host_s=2.0 + 2.0 * k)
            index = writer.add(row, capture(rng, zero=False), names)
            writer.settle(index)
            writer.cell(k, "committed", capture=index)
        writer.complete()


def collection(folder: Path, files: int, captures: int) -> Path:
    """A folder of runs; a few different ones, each many times under another name."""
    made = [folder / f"made{k}.h5" for k in range(min(8, files))]
    for k, path in enumerate(made):
        write_file(path, captures, k + 1)
    runs = folder / "runs"
    for k in range(files):
        place = runs / f"{k // 100:03d}" / f"run{k:05d}"
        place.mkdir(parents=True)
        shutil.copyfile(made[k % len(made)], place / "trace.h5")
    return runs


@contextmanager
def cluster(workers: int) -> Iterator[str]:
    """A Dask cluster on this computer; gives the scheduler's address."""
    import distributed

    with distributed.LocalCluster(  # type: ignore[no-untyped-call]
        n_workers=workers, threads_per_worker=1, dashboard_address=None, silence_logs=logging.ERROR
    ) as here_too:
        yield here_too.scheduler_address


def timed(runs: Path, out: Path, full: bool, *options: str) -> tuple[float, float, bytes]:
    """Seconds of one command from its start to its end, most memory of its own process (MiB), its table."""
    options = (str(runs), "--out", str(out), "--quiet", *options, *(() if full else ("--results-only",)))
    start_s = time.perf_counter()
    done = subprocess.run([sys.executable, "-c", COMMAND, *options], stdout=subprocess.PIPE, text=True, check=False)
    seconds = time.perf_counter() - start_s
    if done.returncode:
        raise SystemExit(f"experiments.replay {' '.join(options)} ended with exit code {done.returncode}")
    return seconds, float(done.stdout.split()[-1]) / 1024, (out / TABLE).read_bytes()


def measure(runs: Path, out: Path, files: int, workers: int, full: bool) -> list[dict[str, Any]]:
    """Time each way, and compare its table with that of one process."""
    found: list[dict[str, Any]] = []
    tables = []

    def took(name: str, seconds: float, mib: float, table: bytes) -> None:
        tables.append(table)
        found.append(
            {
                "way": name,
                "seconds": round(seconds, 3),
                "ms_per_file": round(1e3 * seconds / files, 3),
                "speed_up": round(found[0]["seconds"] / seconds, 2) if found else 1.0,
                "same_table": table == tables[0],
                "peak_mib": round(mib, 1),
            }
        )

    took("one process", *timed(runs, out / "one", full, "--jobs", "1"))
    took(f"{workers} processes", *timed(runs, out / "pool", full, "--jobs", str(workers)))
    start_s = time.perf_counter()
    with cluster(workers) as address:
        result = timed(runs, out / "dask", full, "--dask", address)
        took(f"Dask, {workers} workers that run already", *result)
    took(f"Dask, {workers} workers, with their start and end", time.perf_counter() - start_s, *result[1:])
    return found


def main(argv: list[str] | None = None) -> int:
    """Measure and print."""
    p = argparse.ArgumentParser(prog="python -m benchmarks.replay_collections", description=__doc__.split("\n")[0])
    p.add_argument("--files", type=int, default=400, metavar="N")
    p.add_argument("--captures", type=int, default=3, metavar="K", help="cells in each file (default: 3)")
    p.add_argument("--workers", type=int, default=len(os.sched_getaffinity(0)), metavar="W")
    p.add_argument("--full", action="store_true", help="figures and reports too, not results.csv alone")
    p.add_argument("--json", action="store_true")
    args = p.parse_args(argv)
    with tempfile.TemporaryDirectory(prefix="joulebench-") as name:
        folder = Path(name)
        runs = collection(folder, args.files, args.captures)
        size = sum(path.stat().st_size for path in runs.rglob("*.h5")) / args.files / 1e6
        found = measure(runs, folder, args.files, args.workers, args.full)
    if args.json:
        print(json.dumps(found, indent=1))
        return 0
    what = "results, figures and reports" if args.full else "results only"
    print(f"{args.files} files of {size:.2f} MB, {args.captures} cells each; {what}; {os.cpu_count()} processors")
    for way in found:
        same = "" if way["same_table"] else "  ANOTHER TABLE"
        print(
            f"{way['way']:<50} {way['seconds']:8.2f} s {way['ms_per_file']:8.2f} ms a file  x{way['speed_up']:.2f}  "
            f"{way['peak_mib']:.0f} MiB{same}"
        )
    return 0 if all(way["same_table"] for way in found) else 1


if __name__ == "__main__":
    sys.exit(main())
