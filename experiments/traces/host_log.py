"""The device's log of a run as it is read from a trace file: each run's rows when they are asked for."""

from __future__ import annotations

import bisect
from array import array
from collections.abc import Collection, Iterator, Mapping
from pathlib import Path

import h5py
import numpy as np
from numpy.typing import NDArray

from experiments.traces.damage import damage_told, reading

ROWS_AT_ONCE = 1 << 16
"""Rows that are read together, and kept until others are asked for."""


class HostLog(Mapping[int, NDArray[np.int64]]):
    """Captures with a log, and the ends of their batches by the device's clock, ns, in order.

    `capture` and `end_ns` are the columns of the table; of captures that are not among `ran` there is none. The rows
    stay in the file, which `path` names: all of them would take more memory than what results need of a run.
    """

    def __init__(self, path: Path, capture: h5py.Dataset, end_ns: h5py.Dataset, ran: Collection[int]) -> None:
        self._path, self._ends = path, end_ns
        self._first, self._kept = 0, np.empty(0, np.int64)
        length, last = min(capture.shape[0], end_ns.shape[0]), -1
        starts, numbers = array("q"), array("q")
        for first in range(0, length, ROWS_AT_ONCE):
            block = capture[first : min(first + ROWS_AT_ONCE, length)].astype(np.int64)
            at = np.flatnonzero(np.diff(block, prepend=last))  # each run's rows were written at once
            starts.extend((first + at).tolist())
            numbers.extend(block[at].tolist())
            last = block[-1]
        # In the order of the captures; of one that is there twice the later rows, which come first from behind.
        known, at = np.unique(np.array(numbers)[::-1], return_index=True)
        there = np.isin(known, [*ran])
        at = len(numbers) - 1 - at[there]
        starts.append(length)
        edges = np.array(starts)
        self._numbers, self._starts, self._stops = (
            array("q", x.tobytes()) for x in (known[there], edges[at], edges[at + 1])
        )

    def _rows(self, index: int) -> tuple[int, int]:
        at = bisect.bisect_left(self._numbers, index)
        if at == len(self._numbers) or self._numbers[at] != index:
            raise KeyError(index)
        return self._starts[at], self._stops[at]

    def __getitem__(self, index: int) -> NDArray[np.int64]:
        start, stop = self._rows(index)
        if not self._first <= start <= stop <= self._first + len(self._kept):
            with damage_told(self._path), reading("/host_log/end_ns"):
                self._kept = self._ends[start : max(stop, start + ROWS_AT_ONCE)].astype(np.int64)
            self._first = start
        return self._kept[start - self._first : stop - self._first].copy()

    def __iter__(self) -> Iterator[int]:
        return iter(self._numbers)

    def __len__(self) -> int:
        return len(self._numbers)

    def lengths(self) -> dict[int, int]:
        """How many batches each capture's log has."""
        return {
            number: stop - start for number, start, stop in zip(self._numbers, self._starts, self._stops, strict=True)
        }
