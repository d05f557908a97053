"""Trace files made straight from the simulated world, without any instrument."""

from __future__ import annotations

import os
from pathlib import Path

from experiments.plan import make_plan
from experiments.traces import CaptureRow, Reading, TraceWriter
from tests.worlds import LAB, Bench

SOURCES = {"current": "current", "voltage": "voltage", "markers": "markers"}
PLAN = make_plan(["net"], [4], 2, 2.0, 1)


def write_run(path: Path, seed: int = 3, dt_s: float = 20e-6) -> Path:
    """Write a zero, a gain and two cells of one bench, the second cell with a shorter record."""
    bench = Bench.make(seed)
    bench.dt_s, full = dt_s, round(2.0 / dt_s)
    bench.points = full
    with TraceWriter.create(path, PLAN, source="simulated", texts={"lab_yaml": LAB.read_text()}, points=full) as writer:
        zero = bench.steady("zero", 1.0)
        writer.settle(writer.add(CaptureRow("zero", host_s=1.0), zero.data.capture, SOURCES))
        bench.power(2.0, True)
        for k, (kind, points) in enumerate((("gain", full), ("cell", full), ("cell", full * 3 // 5))):
            bench.points, at_s = points, 10.0 * (k + 1)
            batch_s = 0.05 if points == full else 0.02
            measured = bench.run(kind, at_s, 20, batch_s)
            row = CaptureRow(
                kind,
                cell=k - 1,
                network="net",
                batch=4,
                repeat=max(k - 1, 0),
                batches=20,
                images=80,
                host_s=at_s,
                batch_end_ns=tuple(round(1e9 * (at_s + (n + 1) * batch_s)) for n in range(20)),
            )
            index = writer.add(row, measured.data.capture, SOURCES)
            if kind == "gain":
                compared = bench.comparison(measured, at_s)
                writer.readings(index, [Reading("A", value, 0.5) for value in compared.reference_a])
                writer.readings(index, [Reading("V", value, 0.5) for value in compared.reference_v])
            writer.settle(index)
            if kind == "cell":
                writer.cell(k - 1, "committed", capture=index)
        writer.complete()
    return path


def length(path: Path) -> int:
    """How long HDF5 says that its file is; its seal stands behind that."""
    with path.open("rb") as file:
        return int.from_bytes(file.read(48)[40:], "little")


def cut(path: Path, share: float) -> None:
    """Leave this share of what HDF5 has of a file."""
    os.truncate(path, int(length(path) * share))


def without_seal(path: Path) -> Path:
    """Leave a file as one whose writer was killed, or as one of an earlier program."""
    cut(path, 1)
    return path
