"""The device's log of a run as it is read from a trace file: each run's rows when they are asked for."""

from __future__ import annotations

import itertools
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
        starts: list[int] = []
        numbers: list[int] = []
        for first in range(0, length, ROWS_AT_ONCE):
            block = capture[first : min(first + ROWS_AT_ONCE, length)]
            at = np.flatnonzero(np.diff(block, prepend=last))  # each run's rows were written at once
            starts += (first + at).tolist()
            numbers += block[at].tolist()
            last = block[-1]
        self._rows = {
            number: rows
            for number, rows in zip(numbers, itertools.pairwise([*starts, length]), strict=True)
            if number in ran
        }

    def __getitem__(self, index: int) -> NDArray[np.int64]:
        start, stop = self._rows[index]
        if not self._first <= start <= stop <= self._first + len(self._kept):
            with damage_told(self._path), reading("/host_log/end_ns"):
                self._kept = self._ends[start : max(stop, start + ROWS_AT_ONCE)].astype(np.int64)
            self._first = start
        return self._kept[start - self._first : stop - self._first].copy()

    def __iter__(self) -> Iterator[int]:
        return iter(self._rows)

    def __len__(self) -> int:
        return len(self._rows)

    def lengths(self) -> dict[int, int]:
        """How many batches each capture's log has."""
        return {number: stop - start for number, (start, stop) in self._rows.items()}
