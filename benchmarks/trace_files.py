"""Size and speed of the trace file, beside JLS and a plain dump of float64, on the same samples in one run.

`python -m benchmarks.trace_files [--captures N] [--json]`. One capture of a working board is taken at the simulated
bench, in 8 bits and in 12, and stored N times in each format. JLS is measured where pyjls is installed
(pip install pyjls==0.17.0), with the samples as float32, its usual form. Files lie in the page cache: these are
times of programs, not of disks.

`--many N` then writes N captures, of 100 000 samples and of every tenth of them, and tells what reading and reducing
them costs by parts (`benchmarks.trace_reading`; processor time of one core) and how much memory it takes beside a tenth
of them. `--only long` and `--only short` leave the rest out. 10 000 long ones take 1 GB of disk.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.trace_reading import Sample, every, many, unlike
from experiments.device_said import facts_json
from experiments.plan import make_plan
from experiments.progress import Progress
from experiments.reduction import reduce_run
from experiments.station import POINTS, PRE_TRIGGER, Station
from experiments.traces import CaptureRow, TraceReader, TraceWriter
from experiments.traces.schema import ROLES
from instruments import lab as lab_yaml
from instruments.bench import open_bench
from instruments.waveform import Capture

OVERVIEW_POINTS = 1000
LIMITS = {
    "bytes per sample, 8 bits": 0.35,
    "bytes per sample, 12 bits": 0.9,
    "write a capture, ms": 6.0,
    "overview of all, ms": 5.0,
}


def realistic_captures(lab_path: Path) -> dict[str, Sample]:
    """One capture for each resolution."""
    lab = lab_yaml.load(lab_path)
    plan = make_plan(["busy:10"], [1], 1, 2.0, 1)
    found = {}
    with contextlib.ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        bench = stack.enter_context(open_bench(lab, lab_path))
        writer = stack.enter_context(TraceWriter.create(folder / "t.h5", plan, source="simulated", texts={}))
        station = Station(bench, writer, plan, Progress(1, quiet=True).say)
        station.set_up_scope()
        station.feed_board()
        station.switch_on()
        dut = station.device()
        for name, kind in (("8 bits", "NORM"), ("12 bits", "HRES")):
            bench.scope.configure_acquisition(kind)
            ready = dut.prepare("busy:10", 1, run_s=1.4, warmup_s=0.05)
            bench.scope.arm()
            dut.go(f"bench-{name}", record=(plan.window_s / POINTS, PRE_TRIGGER * plan.window_s), quiet_after_s=0.3)
            bench.scope.wait_done(8.0)
            done = dut.wait_done(5.0)
            capture = bench.scope.fetch(list(station.sources.values()))
            records = {role: capture.records[source] for role, source in station.sources.items()}
            row = CaptureRow(
                "cell",
                cell=0,
                network="busy:10",
                batch=1,
                batches=done.batches,
                images=done.images,
                host_s=0.0,
                window_asked_s=plan.window_s,
                gate_rise_ns=done.gate_ns[1],
                gate_fall_ns=done.gate_ns[2],
                start_frame=-1 if done.start_frame is None else done.start_frame,
                start_frame_edges=done.start_frame_edges,
                device_busy_s=done.busy_s,
                quiet_after_s=done.quiet_s,
                ready_facts=facts_json("ready_facts", ready.facts),
                device_facts=facts_json("device_facts", done.facts),
                batch_end_ns=done.batch_ns,
            )
            found[name] = Sample(Capture(records), row)
    return found


@contextlib.contextmanager
def timed(into: list[float]) -> Iterator[None]:
    """Add the milliseconds that the block took."""
    start = time.perf_counter()
    yield
    into.append((time.perf_counter() - start) * 1e3)


def median_ms(action: Callable[[], Any], times: int = 9) -> float:
    """Median time of an action, after one that is not counted."""
    taken: list[float] = []
    for _ in range(times + 1):
        with timed(taken):
            action()
    return statistics.median(taken[1:])


def ours(folder: Path, sample: Sample, captures: int) -> dict[str, float]:
    """Write, look over and read a trace file."""
    capture = sample.capture
    path, taken = folder / "ours.h5", list[float]()
    plan, names = make_plan(["busy:10"], [1], 1, 2.0, 1), {role: role for role in ROLES}
    with TraceWriter.create(path, plan, source="simulated", texts={"lab_yaml": Path("lab.yaml").read_text()}) as writer:
        for k in range(captures):
            one = unlike(capture, k)  # a record that comes twice is refused
            with timed(taken):
                writer.settle(writer.add(sample.row, one, names))
    samples = captures * capture.points
    with TraceReader(path) as reader:
        reader.overview("current", (0, 1), 1)
        look = median_ms(lambda: reader.overview("current", points=OVERVIEW_POINTS))
        spans = np.random.default_rng(1).integers(0, samples, (60, 2))
        wanted = [(int(min(a, b)), int(max(a, b)) + 1) for a, b in spans]
        widths = [(a, min(samples, a + int(10 ** (2 + 6 * k / 60)))) for k, (a, _) in enumerate(wanted)]
        worst = max(median_ms(partial(reader.overview, "current", s, OVERVIEW_POINTS), 3) for s in wanted + widths)
        start = time.perf_counter()
        for _ in reader.data():
            pass
        read_s = time.perf_counter() - start
    with TraceReader(path) as reader:
        start = time.perf_counter()
        reduce_run(reader)
        reduce_s = time.perf_counter() - start
    return {
        "bytes per sample": path.stat().st_size / (3 * samples),
        "write a capture, ms": statistics.median(taken),
        "overview of all, ms": look,
        "slowest overview of any span, ms": worst,
        "read, Msamples/s": 3 * samples / read_s / 1e6,
        "read and reduce, Msamples/s": 3 * samples / reduce_s / 1e6,
    }


def filter_alone(capture: Capture) -> float:
    """Msamples/s at which the disk filter (shuffle and deflate) alone can be undone, on one core."""
    return 3 * capture.points / (median_ms(undoing(capture)) * 1e-3) / 1e6


def undoing(capture: Capture) -> Callable[[], None]:
    """What undoes the filter of one capture's records."""
    import zlib

    from experiments.traces import schema
    from experiments.traces.columns import chunk

    packed = [(chunk(schema.stored(r, capture.records[r].codes), capture.points), r) for r in ROLES]

    def undo() -> None:
        for data, role in packed:
            width = np.dtype(schema.CODE_TYPES[role]).itemsize
            np.ascontiguousarray(np.frombuffer(zlib.decompress(data), np.uint8).reshape(width, -1).T)

    return undo


def jls(folder: Path, capture: Capture, captures: int) -> dict[str, float] | None:
    """The same samples in JLS; None where pyjls is not installed."""
    try:
        import pyjls
    except ImportError:
        return None
    path, taken = folder / "theirs.jls", list[float]()
    signals = {role: capture.records[role].values().astype(np.float32) for role in ("current", "voltage")}
    bits = capture.records["markers"].codes.copy()
    with pyjls.Writer(str(path)) as writer:
        writer.source_def(source_id=1, name="bench")
        for number, (name, kind) in enumerate((("current", "f32"), ("voltage", "f32"), ("markers", "u8")), start=1):
            writer.signal_def(number, source_id=1, data_type=kind, sample_rate=50_000, name=name, units="")
        for k in range(captures):
            with timed(taken):
                for number, values in enumerate((*signals.values(), bits), start=1):
                    writer.fsr(number, k * capture.points, values)
                writer.flush()
    samples = captures * capture.points
    with pyjls.Reader(str(path)) as reader:
        look = median_ms(lambda: reader.fsr_statistics(1, 0, samples // OVERVIEW_POINTS, OVERVIEW_POINTS))
        start = time.perf_counter()
        for k in range(captures):
            for number in (1, 2, 3):
                reader.fsr(number, k * capture.points, capture.points)
        read_s = time.perf_counter() - start
    return {
        "bytes per sample": path.stat().st_size / (3 * samples),
        "write a capture, ms": statistics.median(taken),
        "overview of all, ms": look,
        "read, Msamples/s": 3 * samples / read_s / 1e6,
    }


def dump(folder: Path, capture: Capture) -> dict[str, dict[str, float]]:
    """The same samples as float64 in NumPy's format and as CSV; one capture, since every one is alike."""
    columns = [capture.time_s(), *(capture.records[role].values() for role in ROLES)]
    found = {}
    forms: tuple[tuple[str, Callable[[Path], None]], ...] = (
        ("float64 .npy", lambda p: np.save(p, np.array(columns[1:]))),
        ("CSV", lambda p: np.savetxt(p, np.array(columns).T, delimiter=",", fmt="%.6g")),
    )
    for name, write in forms:
        path = folder / f"dump{'.npy' if 'npy' in name else '.csv'}"
        ms = median_ms(partial(write, path), 3)
        found[name] = {"bytes per sample": path.stat().st_size / (3 * capture.points), "write a capture, ms": ms}
    return found


def main() -> None:
    """Print the figures, each format beside the others, and hold ours against the limits."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--captures", type=int, default=1000, help="captures of 100 000 samples (default: 1000)")
    parser.add_argument("--many", type=int, default=0, metavar="N", help="files of N captures too (say 10000)")
    parser.add_argument("--only", choices=("long", "short"), help="of --many, and nothing else")
    parser.add_argument("--bits", choices=("8", "12"), help="of this resolution alone")
    parser.add_argument("--lab", type=Path, default=Path("lab.yaml"))
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    table: dict[str, dict[str, float]] = {}
    if options.only and not options.many:
        parser.error("--only says which of --many: give both")
    gate_bit = lab_yaml.load(options.lab).wiring.gate.digital
    for name, sample in realistic_captures(options.lab).items():
        if options.bits and not name.startswith(options.bits):
            continue
        with tempfile.TemporaryDirectory() as folder:
            kinds = {"long": sample, "short": every(sample, 10, gate_bit)} if options.many else {}
            for kind, one in kinds.items():
                if options.only in (None, kind):
                    table[f"{options.many} {kind} captures, {name}"] = many(Path(folder), one, options.many)
            if options.only:
                continue
            table[f"trace file, {name}"] = ours(Path(folder), sample, options.captures)
            table[f"the filter alone, {name}"] = {"read, Msamples/s": filter_alone(sample.capture)}
            capture = sample.capture
            theirs = jls(Path(folder), capture, options.captures)
            if theirs is not None:
                table[f"JLS float32, {name}"] = theirs
            table |= {f"{form}, {name}": figures for form, figures in dump(Path(folder), capture).items()}
    if options.json:
        print(json.dumps(table))
        return
    for form, figures in table.items():
        print(form)
        for what, value in figures.items():
            limit = LIMITS.get(what, LIMITS.get(f"{what}, {form.rpartition(', ')[2]}"))
            judged = "" if limit is None or not form.startswith("trace") else f"  (limit {limit:g})"
            print(f"    {what:38s} {value:10.3f}{judged}")


if __name__ == "__main__":
    main()
