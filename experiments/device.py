"""What a run says of the device besides its power: times by its own clock, memory, size, outcome, flags. Pure.

Facts are trees that came from the device; what they lack, or hold in a form of their own, is unknown here.
"""

from __future__ import annotations

import functools
import json
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from experiments import clock_fit, networks
from experiments.capture_data import changed
from experiments.clock_fit import ClockFit
from experiments.flags import Facts, in_order, number, numbers, of_clocks, of_repeats
from experiments.measure import Measured
from experiments.shape import Shape

Floats = NDArray[np.float64]

COLUMNS = (
    "device_time_per_image_s",
    "device_time_difference_s",
    "batch_p50_s",
    "batch_p95_s",
    "batch_p99_s",
    "batch_cv",
    "peak_memory_bytes",
    "peak_memory_kind",
    "parameters",
    "macs",
    "operations",
    "operations_per_s",
    "top1",
    "top1_source",
    "device",
    "dtype",
    "mode",
    "outcome",
    "flags",
    "peak_power_w",
    "crest_factor",
    "steady_from_s",
    "settling_s",
)
"""Columns of results.csv that come from here."""

MEMORY_KINDS: Mapping[str, str] = {
    "process_peak_rss": "resident peak of the process",
    "system_used_net": "most taken of the system's memory",
    "allocator_peak": "most given out by the GPU's allocator",
    "allocator_reserved": "most reserved by the GPU's allocator",
    "device_used": "in use on the GPU, by anybody",
}
"""Kinds of memory and what they are."""

_CPU_FIRST = ("process_peak_rss", "system_used_net", "allocator_peak", "device_used", "allocator_reserved")
_GPU_FIRST = ("allocator_peak", "device_used", "system_used_net", "process_peak_rss", "allocator_reserved")

SIZE_FIELDS = ("parameters", "macs", "operations", "operations_opcounter2016", "activations")

TRUSTED_SAMPLES = 50
"""Samples that a batch must last before its length by the markers is told: each edge is known to half of one."""

_SWITCHES = ("channels_last", "compile", "cuda_graphs")


class Told(Mapping[str, Any]):
    """What a device told of a run, as a tree; empty where its text cannot be read, which it is when asked for."""

    def __init__(self, text: str) -> None:
        self._text = text

    def __reduce__(self) -> tuple[type[Told], tuple[str]]:
        return Told, (self._text,)

    def __getitem__(self, name: str) -> Any:
        return _tree(self._text)[name]

    def __iter__(self) -> Iterator[str]:
        return iter(_tree(self._text))

    def __len__(self) -> int:
        return len(_tree(self._text))


@functools.lru_cache(maxsize=64)
def _tree(text: str) -> dict[str, Any]:
    try:
        tree = json.loads(text)
    except (ValueError, RecursionError):  # nested without end
        return {}
    return tree if isinstance(tree, dict) else {}


@dataclass(frozen=True)
class Durations:
    """Whole numbers of a unit of time, (n,), in as few bytes as they need."""

    counts: NDArray[np.integer[Any]]
    unit_s: float

    @classmethod
    def of(cls, counts: NDArray[np.int64], unit_s: float) -> Durations:
        """Keep durations."""
        low, high = (int(np.minimum.reduce(counts)), int(np.maximum.reduce(counts))) if counts.size else (0, 0)
        kinds: tuple[type[np.integer[Any]], ...] = (np.uint16, np.uint32)
        kind = next((k for k in kinds if low >= 0 and high <= np.iinfo(k).max), np.int64)
        return cls(counts.astype(kind), unit_s)

    @property
    def s(self) -> Floats:
        """The durations in seconds."""
        return np.asarray(self.counts * np.float64(self.unit_s))


@dataclass(frozen=True)
class DeviceRun:
    """One committed run. Times in s; `marker_batches` is empty where the samples are too few to trust."""

    repeat: int
    images: int
    marker_s: float
    device_s: float
    batches: Durations
    marker_batches: Durations
    ready: Facts
    done: Facts
    flags: tuple[str, ...]
    fit: ClockFit | None = None
    """How the marker edges of the batches follow the device's log; None where there are too few to tell."""

    def with_flags(self, codes: Sequence[str]) -> DeviceRun:
        """The same run with more flags."""
        return changed(self, flags=in_order((*self.flags, *codes))) if codes else self


@dataclass(frozen=True)
class DeviceRow:
    """One network and batch over its repeats; `outcome` is what became of it, `batch` counts images.

    `shape` is that of power over all repeats; None where no repeat's could be looked at.
    """

    network: str
    batch: int
    outcome: str
    flags: tuple[str, ...]
    runs: Sequence[DeviceRun] = ()
    shape: Shape | None = None

    def _mean(self, value: Callable[[DeviceRun], float]) -> float:
        return float(np.mean([value(run) for run in self.runs])) if self.runs else math.nan

    @property
    def device_time_per_image_s(self) -> float:
        """Mean over the repeats, by the device's clock; NaN without a run."""
        return self._mean(lambda run: run.device_s / run.images)

    @property
    def device_time_difference_s(self) -> float:
        """Time per image by the device's clock minus that by the markers."""
        return self._mean(lambda run: (run.device_s - run.marker_s) / run.images)

    @property
    def clock_difference(self) -> float:
        """Relative difference of both times: rate of the clocks and latency of the lines."""
        marker_s = self._mean(lambda run: run.marker_s / run.images)
        return self.device_time_difference_s / marker_s

    @property
    def batches_s(self) -> Floats:
        """Duration of every batch of every repeat, by the device's log."""
        return _joined([run.batches.s for run in self.runs])

    @property
    def marker_batches_s(self) -> Floats:
        """The same by the marker edges; empty where any run's cannot be trusted."""
        if any(not run.marker_batches.counts.size for run in self.runs):
            return np.empty(0)
        return _joined([run.marker_batches.s for run in self.runs])

    @property
    def batch_cv(self) -> float:
        """Coefficient of variation of the batches' durations; NaN below two."""
        times = self.batches_s
        return float(np.std(times, ddof=1) / np.mean(times)) if times.size > 1 else math.nan

    @property
    def memory(self) -> dict[str, int]:
        """Bytes by kind: the highest of the repeats."""
        found: dict[str, int] = {}
        for run in self.runs:
            for kind, value in numbers(run.done, "memory").items():
                if kind in MEMORY_KINDS and value > 0:
                    found[kind] = max(found.get(kind, 0), int(value))
        return found

    @property
    def peak_memory(self) -> tuple[int, str] | None:
        """The kind that says most of the device in use, and its bytes; None where no kind is known."""
        found = self.memory
        on_gpu = "cuda" in self.device
        kind = next((k for k in (_GPU_FIRST if on_gpu else _CPU_FIRST) if k in found), None)
        return (found[kind], kind) if kind is not None else None

    @property
    def size(self) -> dict[str, int]:
        """Parameters, macs, operations and so on of one image, as the device counted them or our table says."""
        for run in self.runs:
            told = numbers(run.ready, "size")
            if told:
                return {name: int(told[name]) for name in SIZE_FIELDS if name in told}
        try:
            return networks.size(self.network)
        except networks.UnknownNetworkError:
            return {}

    @property
    def cited(self) -> tuple[float, str] | None:
        """Cited top-1 accuracy in % and its source; None for a network without one."""
        try:
            known = networks.get(self.network)
        except networks.UnknownNetworkError:
            return None
        return known.top1, f"cited: {known.top1_source}"

    @property
    def device(self) -> str:
        """What the network ran on, as the device calls it."""
        return self._told(lambda run: str(run.ready.get("device", "")))

    @property
    def dtype(self) -> str:
        """Number type, such as fp32; empty where the device did not say."""
        return self._told(lambda run: str(_mode(run).get("dtype", "")))

    @property
    def mode(self) -> str:
        """What is switched on, such as `channels_last compile`, or `default`; empty where the device did not say."""
        return self._told(lambda run: " ".join(n for n in _SWITCHES if _mode(run).get(n) is True) or "default", _mode)

    def _told(self, say: Callable[[DeviceRun], str], where: Callable[[DeviceRun], object] = bool) -> str:
        return "/".join(dict.fromkeys(text for run in self.runs if where(run) and (text := say(run))))

    def columns(self, time_per_image_s: float) -> list[str]:
        """Give the row's texts for `COLUMNS`; what is unknown is empty. The time is that by the markers, or NaN."""
        times, size, cited, peak = self.batches_s, self.size, self.cited, self.peak_memory
        p50, p95, p99 = np.percentile(times, (50, 95, 99)) if times.size else (math.nan,) * 3
        operations = size.get("operations", math.nan)
        return [
            *map(
                text,
                (
                    self.device_time_per_image_s,
                    self.device_time_difference_s,
                    float(p50),
                    float(p95),
                    float(p99),
                    self.batch_cv,
                ),
            ),
            *((str(peak[0]), peak[1]) if peak else ("", "")),
            *(str(size[name]) if name in size else "" for name in ("parameters", "macs", "operations")),
            text(operations / time_per_image_s),
            *((f"{cited[0]:g}", cited[1]) if cited else ("", "")),
            self.device,
            self.dtype,
            self.mode,
            self.outcome,
            " ".join(self.flags),
            *self._shape_columns(),
        ]

    def _shape_columns(self) -> list[str]:
        found = self.shape
        if found is None:
            return ["", "", "", ""]
        return [text(x) for x in (found.peak_w, found.crest, found.steady_from_s, found.settling.tau_s)]


def _mode(run: DeviceRun) -> Facts:
    mode = run.ready.get("mode")
    return mode if isinstance(mode, Mapping) else {}


def _joined(parts: Sequence[Floats]) -> Floats:
    return np.concatenate(parts) if parts else np.empty(0)


def text(value: float) -> str:
    """Write a number for results.csv; empty where it is unknown."""
    return f"{value:.9g}" if math.isfinite(value) else ""


def run_of(
    measured: Measured, row: Mapping[str, Any], ends_ns: NDArray[np.int64], ready: Facts, done: Facts
) -> DeviceRun:
    """Give one committed run from its capture's `row`, the log's batch ends and what the device told.

    Raises ValueError where there is no measured loop in it.
    """
    window, loop, data = measured.window, measured.loop, measured.data
    if window is None or loop is None or not data.images:
        raise ValueError("the capture holds no measured loop")
    rise_ns, fall_ns = row["gate_rise_ns"], row["gate_fall_ns"]
    timed = fall_ns > rise_ns and data.images == row["images"]  # not imported runs, nor part of one
    device_s = (fall_ns - rise_ns) * 1e-9 if timed else math.nan
    ends = np.array(loop.batch_ends, dtype=np.int64)
    samples = _steps(loop.start, ends)
    if not samples.size or (ends[-1] - loop.start) / samples.size < TRUSTED_SAMPLES:
        samples = samples[:0]
    fitted = measured.clock
    if fitted is None and measured.whole_s is None:
        fitted = clock_fit.fit(np.asarray(ends * window.dt_s), np.asarray(ends_ns * 1e-9), window.dt_s)
    gate = done.get("gate_ns")
    whole_s = device_s
    if isinstance(gate, Sequence) and len(gate) == 4 and all(number({"t": t}, "t") is not None for t in gate):
        whole_s = (gate[3] - gate[0]) * 1e-9
    return DeviceRun(
        data.repeat,
        data.images,
        measured.whole_s or window.duration_s,
        device_s,
        Durations.of(_steps(rise_ns, ends_ns), 1e-9),
        Durations.of(samples, window.dt_s),
        ready,
        done,
        in_order(
            (
                *row["flags"].split(),
                *data.flags,
                *(() if measured.whole_s else of_clocks(device_s, window.duration_s, window.dt_s, whole_s - device_s)),
            )
        ),
        fitted,
    )


def _steps(start: int, ends: NDArray[np.int64]) -> NDArray[np.int64]:
    """From one end to the next, (n,), the first from `start`: `np.diff` takes several times as long to prepare."""
    steps = ends.copy()
    steps[:1] -= start
    steps[1:] -= ends[:-1]
    return steps


def row_of(
    network: str,
    batch: int,
    runs: Sequence[DeviceRun],
    states: Sequence[str],
    codes: Sequence[str] = (),
    shape: Shape | None = None,
) -> DeviceRow:
    """Put a row together from its committed runs, and from the states in which its other cells ended.

    `codes` are those of its repeats without a result, and of the row as a whole, `shape` is that of its runs' power.
    """
    flags = {*codes}
    times_s = []
    for run in runs:
        flags.update(run.flags)
        times_s.append(run.marker_s / run.images)
    flags.update(of_repeats(times_s))
    outcome = "measured"
    if not runs:
        outcome = next((o for o in ("out of memory", "refused", "rejected") if o in states), "not measured")
    return DeviceRow(network, batch, outcome, in_order(flags), runs, shape)
