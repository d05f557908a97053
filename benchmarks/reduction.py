"""How fast raw codes become mean, peak and energy, on one core and from memory.

    python -m benchmarks.reduction [--captures N] [--points N] [--json]

Reduces captures that no cache holds with the very function that sweeps and replays use (`experiments.moments.moments`:
exact sums, lowest and highest code, holes and clipping) over a gate's window of nine tenths of each, and gives the
mean power, the peak of the current and the energy of each. Beside it stands the rate at which one core reads the same
memory, so that it shows how far from that limit it is. The median of `--rounds`; time is the thread's own.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import time
from collections.abc import Callable
from typing import Any

os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

import numpy as np

from experiments.code_sums import code_sums, compiled
from experiments.moments import moments
from instruments.waveform import Codes, Preamble, Record

DT_S = 20e-6


def codes_of(kind: str, captures: int, points: int) -> tuple[Codes, Codes]:
    """Codes of a working board: a current that moves over most of the screen, a rail that moves by a few steps."""
    rng = np.random.default_rng(1)
    shape = (captures, points)
    if kind == "bytes":
        return rng.integers(30, 200, shape, dtype=np.uint8), rng.integers(205, 210, shape, dtype=np.uint8)
    current = rng.integers(500, 3500, shape, dtype=np.uint16)
    voltage = rng.integers(3300, 3304, shape, dtype=np.uint16)
    current <<= 4  # as the oscilloscope sends 12 bits
    voltage <<= 4
    return current, voltage


def record(role: str, codes: Codes, step: float) -> Record:
    """One capture's codes as a record."""
    middle = 0x80 if codes.dtype == np.uint8 else 0x8000
    return Record(role, Preamble(0, 0, len(codes), 1, DT_S, 0.0, 0, step, middle * step, middle), codes, "V")


def reduce(records: list[tuple[Record, Record]]) -> list[tuple[float, float, float]]:
    """Mean power (V A), peak current and energy of each capture's window."""
    results = []
    for current, voltage in records:
        n = len(current.codes)
        m = moments(current, voltage, n // 10, n)
        peak = m.scale_i.slope * m.highest_i + m.scale_i.intercept
        results.append((m.mean_vi, peak, m.mean_vi * m.duration_s))
    return results


def timed(work: Callable[[], object], rounds: int) -> float:
    """Median processor time of this thread, s."""
    found = []
    for _ in range(rounds):
        begun_s = time.thread_time()
        work()
        found.append(time.thread_time() - begun_s)
    return statistics.median(found)


def read_rate(array: Codes, rounds: int) -> float:
    """Bytes/s at which one core reads memory: the largest of 64-bit words, an operation that does next to nothing."""
    words = array.reshape(-1).view(np.uint64)
    return array.nbytes / timed(lambda: words.max(), rounds)


def main() -> None:
    """Measure both widths of codes."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--captures", type=int, default=200, metavar="N")
    parser.add_argument("--points", type=int, default=1_000_000, metavar="N")
    parser.add_argument("--rounds", type=int, default=5, metavar="N")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    options = parser.parse_args()
    found: dict[str, dict[str, Any]] = {}
    for kind in ("bytes", "words"):
        i, v = codes_of(kind, options.captures, options.points)
        rate = read_rate(i, options.rounds)
        records = [(record("current", a, 0.01), record("voltage", b, 0.1)) for a, b in zip(i, v, strict=True)]
        pairs = options.captures * (options.points - options.points // 10)
        seconds = timed(lambda records=records: reduce(records), options.rounds)  # type: ignore[misc]
        sums = timed(lambda i=i, v=v: code_sums(i.reshape(-1), v.reshape(-1)), options.rounds)  # type: ignore[misc]
        found[kind] = {
            "pairs_per_s": pairs / seconds,
            "bytes_per_s": pairs * 2 * i.itemsize / seconds,
            "read_bytes_per_s": rate,
            "share_of_read_bandwidth": pairs * 2 * i.itemsize / seconds / rate,
            "sums_alone_pairs_per_s": i.size / sums,
            "loops": "NumPy" if compiled is None else "compiled",
        }
    if options.json:
        print(json.dumps(found, indent=1))
        return
    for kind, f in found.items():
        print(
            f"{kind}: {f['pairs_per_s'] / 1e9:.2f}e9 pairs/s and core ({f['bytes_per_s'] / 1e9:.1f} GB/s), "
            f"{f['share_of_read_bandwidth'] * 100:.0f} % of the {f['read_bytes_per_s'] / 1e9:.1f} GB/s that one core "
            "reads; "
            f"the sums alone {f['sums_alone_pairs_per_s'] / 1e9:.2f}e9 ({f['loops']})"
        )


if __name__ == "__main__":
    main()
