"""What reading and reducing a trace file costs by parts: the filter of the disk, HDF5, and our own code.

Used by `python -m benchmarks.trace_files`. Everything is processor time of one core, on one file in the page cache. The
filter is measured alone on the very chunks of the file: fetched as they are stored (`read_direct_chunk`), inflated by
zlib, which checks deflate's check sum, and their bytes put back in order. Reading is all that gets the contents of the
file to where they can be reduced: records and tables, the long texts of what the device told, and the check sum of each
current by which a record that comes twice is known. All else is our reduction.
"""

from __future__ import annotations

import contextlib
import subprocess
import sys
import time
import zlib
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from calibration.records import load
from experiments.journal import CaptureRow
from experiments.plan import make_plan
from experiments.reduction import reduce_run
from experiments.traces import TraceReader, TraceWriter
from experiments.traces.schema import ON_DEMAND, ROLES
from instruments.waveform import Capture

LIMITS_RECORD = Path("calibration/records/makers-limits-1146b-100mv.yaml")
"""Stands for the zeros and gains of a run, so that there are results."""

REPEATS = 100
"""Of each network, at most."""

SAMPLED = 400
"""Captures whose chunks are looked at for the filter, from all over the file."""


@dataclass(frozen=True)
class Sample:
    """A capture of a working board, with the roles as names, and what the board logged of it."""

    capture: Capture
    row: CaptureRow


def unlike(capture: Capture, number: int) -> Capture:
    """The same capture with two codes of the current a step off, other ones for every number."""
    current = capture.records["current"]
    codes, n = current.codes.copy(), len(current.codes)
    step = 0x10 if codes.dtype == np.uint16 else 1
    codes[number % n] ^= step
    codes[(number // n + 1) % n] ^= step
    return Capture({**capture.records, "current": replace(current, codes=codes)})


def every(sample: Sample, nth: int, gate_bit: int) -> Sample:
    """Each nth sample, at so many times the sampling period; without the start frame, whose edges that may merge."""
    records = {}
    for role, record in sample.capture.records.items():
        codes, p = record.codes[::nth].copy(), record.preamble
        p = replace(p, points=len(codes), x_increment_s=nth * p.x_increment_s)
        if role == "markers":
            codes[: int(np.argmax((codes >> gate_bit) & 1))] = codes[0]
        records[role] = replace(record, preamble=p, codes=codes)
    row = replace(sample.row, start_frame=-1, start_frame_edges=0)
    return replace(sample, capture=Capture(records), row=row)


def write(path: Path, sample: Sample, captures: int) -> None:
    """Write a file of so many captures: of networks with `REPEATS` repeats each, with the log of their batches."""
    repeats = min(captures, REPEATS)
    plan = make_plan([f"busy:{k + 1}" for k in range(captures // repeats)], [1], repeats, 2.0, 1)
    texts, names = {"lab_yaml": Path("lab.yaml").read_text()}, {role: role for role in ROLES}
    with TraceWriter.create(path, plan, source="simulated", texts=texts, points=sample.capture.points) as writer:
        for k, cell in enumerate(plan.cells):
            row = replace(
                sample.row,
                cell=cell.position,
                network=cell.network,
                repeat=cell.repeat,
                run_id=f"cell-{k}",
                host_s=sample.row.host_s + 4.0 * k,
            )
            index = writer.add(row, unlike(sample.capture, k), names)
            writer.settle(index, at_s=row.host_s + 3.0)
            writer.cell(cell.position, "committed", capture=index, at_s=row.host_s + 3.0)


@contextlib.contextmanager
def opened(path: Path) -> Iterator[TraceReader]:
    """A file with a calibration, so that it has results."""
    with TraceReader(path) as reader:
        reader.calibrations = [load(LIMITS_RECORD)]
        yield reader


def filter_s(reader: TraceReader) -> tuple[float, float]:
    """Processor time of one capture's records: to fetch them as stored, and to undo the filter."""
    datasets = [reader.file["captures"][f"{role}_codes"] for role in ROLES]
    count = datasets[0].shape[0]
    fetched_s = undone_s = 0.0
    looked_at = range(0, count, max(1, count // SAMPLED))
    for index in looked_at:
        begun_s = time.process_time()
        chunks = [d.id.read_direct_chunk((index, 0))[1] for d in datasets]
        fetched_s += time.process_time() - begun_s
        begun_s = time.process_time()
        for dataset, chunk in zip(datasets, chunks, strict=True):
            raw = np.frombuffer(zlib.decompress(chunk), np.uint8)
            if dataset.shuffle:
                np.ascontiguousarray(raw.reshape(dataset.dtype.itemsize, -1).T)
        undone_s += time.process_time() - begun_s
    return fetched_s / len(looked_at), undone_s / len(looked_at)


def read_s(path: Path) -> tuple[float, int]:
    """Processor time to read each capture of a file, and their number."""
    with opened(path) as reader:
        begun_s, count = time.process_time(), 0
        reader.cells(), reader.host_log()
        for data in reader.data():
            zlib.crc32(data.capture.records["current"].codes.data)
            for name in ON_DEMAND:
                reader.long_text(name, data.index)
            count += 1
        return (time.process_time() - begun_s) / count, count


def shares(path: Path) -> dict[str, float]:
    """What reading and reducing each capture of a file costs, by parts."""
    with opened(path) as reader:
        fetch_s, undo_s = filter_s(reader)
        bytes_of_codes = sum(reader.file["captures"][f"{role}_codes"].id.get_storage_size() for role in ROLES)
    reading_s, count = read_s(path)
    with opened(path) as reader:
        begun_s, wall_s = time.process_time(), time.perf_counter()
        outcome = reduce_run(reader)
        all_s, wall_s = (time.process_time() - begun_s) / count, time.perf_counter() - wall_s
        points = reader.capture(0).points
    if outcome.rejected or not all(outcome.rows):
        raise RuntimeError(f"not every capture was reduced: {outcome.rejected[:1]} {outcome.notes[:3]}")
    return {
        "captures": count,
        "points of each record": points,
        "captures/s and core, read and reduced": 1 / all_s,
        "a capture read and reduced, ms": 1e3 * all_s,
        "of it the filter, ms": 1e3 * undo_s,
        "of it the stored bytes, ms": 1e3 * fetch_s,
        "of it other reading (HDF5, tables, texts, check sum), ms": 1e3 * (reading_s - undo_s - fetch_s),
        "of it our reduction, ms": 1e3 * (all_s - reading_s),
        "share of the filter, %": 100 * undo_s / all_s,
        "share of our reduction, %": 100 * (all_s - reading_s) / all_s,
        "all of it, s": wall_s,
        "bytes per sample": bytes_of_codes / (3 * points * count),
    }


def memory_mib(path: Path) -> float:
    """Most memory that a process of its own, with all that it imports, takes to read and reduce a file."""
    code = (
        "import sys\n"
        "from pathlib import Path\n"
        "from benchmarks.trace_reading import opened\n"
        "from experiments.reduction import reduce_run\n"
        "with opened(Path(sys.argv[1])) as reader:\n"
        "    reduce_run(reader)\n"
        # What getrusage tells of a process begins with the memory of the one that started it.
        "print(next(x.split()[1] for x in open('/proc/self/status') if x.startswith('VmHWM')))"
    )
    done = subprocess.run([sys.executable, "-c", code, str(path)], check=True, capture_output=True, text=True)
    return float(done.stdout) / 1024


def many(folder: Path, sample: Sample, captures: int) -> dict[str, float]:
    """A file of very many captures by parts, and the memory that it takes beside a tenth of it."""
    paths = {count: folder / f"many-{count}.h5" for count in sorted({max(1, captures // 10), captures})}
    for count, path in paths.items():
        write(path, sample, count)
    found = shares(paths[captures])
    found |= {f"memory for {count} captures, MiB": memory_mib(path) for count, path in paths.items()}
    for path in paths.values():
        path.unlink()
    return found
