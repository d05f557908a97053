"""The cells of a file, reduced: what is kept of each is set aside in a temporary file until its row is made."""

from __future__ import annotations

import math
from array import array
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import overload

import numpy as np
from numpy.typing import NDArray

from experiments.capture_data import changed
from experiments.long_runs import MeasuredRun, with_idle_records
from experiments.measure import Measured
from experiments.parts import STEADY, Part
from experiments.set_aside import SetAside
from experiments.shape import Look, RunLook

Pair = tuple[str, int]
Ints = NDArray[np.int64]
Floats = NDArray[np.float64]


class CellStore:
    """Takes the cells of a file in any order; `cells` gives them in the order of their captures.

    What a run that no single record holds has to know of others is given here once: the `idle_records` of the file, and
    `not_steady`, the records that were refused since the power in them is not steady.
    """

    def __init__(self) -> None:
        self.aside = SetAside()
        self.idle_records: Sequence[Measured] = ()
        self.not_steady: Sequence[Part] = ()
        self.pairs: dict[Pair, int] = {}
        self._items, self._indices, self._of_pair, self._sessions = (array("q") for _ in range(4))
        self._volts, self._put_together, self._silent = array("d"), array("b"), array("b")
        self._first_parts: dict[Pair, list[int]] = {}

    def add(self, cell: Measured, look: Look | RunLook | None) -> None:
        """Keep a cell, and what was seen of the shape of its power."""
        data = cell.data
        pair = data.network, data.batch
        if isinstance(cell, MeasuredRun):
            cell = changed(cell, look=None)
            if data.method == STEADY:
                self._first_parts.setdefault(pair, []).append(self.aside.put(cell.parts[0]))
        self._indices.append(data.index)
        self._of_pair.append(self.pairs.setdefault(pair, len(self.pairs)))
        self._sessions.append(data.session)
        self._volts.append(math.nan if cell.window is None else cell.window.mean_v)
        self._put_together.append(isinstance(cell, MeasuredRun))
        self._silent.append(data.start_frame is None)
        self._items.append(self.aside.put(cell))
        self.aside.put(look)

    def cells(self) -> Cells:
        """All that were added."""
        indices = np.array(self._indices)
        return Cells(
            self,
            np.array(self._items),
            indices,
            np.array(self._of_pair),
            np.array(self._sessions),
            np.array(self._volts),
            np.array(self._put_together, np.bool_),
            np.array(self._silent, np.bool_),
            np.full(len(indices), -1),
        ).only(np.argsort(indices, kind="stable"))

    def cell(self, item: int) -> Measured:
        """The cell that was set aside by a number."""
        cell: Measured = self.aside.get(item)
        if not isinstance(cell, MeasuredRun):
            return cell
        if cell.data.method == STEADY:
            mine = cell.parts[0].data
            others = [self.aside.get(item) for item in self._first_parts[mine.network, mine.batch]]
            others = [p for p in others if p.data.index != mine.index]
            others += [p for p in self.not_steady if (p.data.network, p.data.batch) == (mine.network, mine.batch)]
            cell = changed(cell, of_row=tuple(others))
        return with_idle_records([cell], self.idle_records)[0]


@dataclass(frozen=True, eq=False)
class Cells(Sequence[Measured]):
    """Some of the cells of a store, each made again when it is asked for.

    Of each, (n,): the number by which it is set aside, its capture's row in the file, its pair and session, the mean
    voltage at its work, whether it was put together from several records, whether these do not tell which run they
    show, and by which number its result is set aside (-1: none).
    """

    store: CellStore
    items: Ints
    indices: Ints
    pairs: Ints
    sessions: Ints
    volts: Floats
    put_together: NDArray[np.bool_]
    silent: NDArray[np.bool_]
    results: Ints

    def __len__(self) -> int:
        return len(self.items)

    @overload
    def __getitem__(self, key: int) -> Measured: ...
    @overload
    def __getitem__(self, key: slice) -> Cells: ...
    def __getitem__(self, key: int | slice) -> Measured | Cells:
        return self.only(key) if isinstance(key, slice) else self.store.cell(int(self.items[key]))

    def __iter__(self) -> Iterator[Measured]:
        return map(self.store.cell, self.items.tolist())

    def only(self, which: slice | Sequence[int] | Ints | NDArray[np.bool_]) -> Cells:
        """Those at some positions, or those for which a mask is true."""
        chosen = which if isinstance(which, slice | np.ndarray) else np.array(which, np.int64)
        columns = (getattr(self, name) for name in list(self.__dataclass_fields__)[1:])
        return Cells(self.store, *(column[chosen] for column in columns))

    def volts_of_sessions(self) -> dict[int, Floats]:
        """The mean voltages of those of each session."""
        return {int(session): self.volts[self.sessions == session] for session in np.unique(self.sessions)}

    def rows(self) -> dict[Pair, Cells]:
        """Those of each network and batch, in order of first appearance."""
        names = list(self.store.pairs)
        order = np.argsort(self.pairs, kind="stable")
        groups = np.split(order, np.flatnonzero(np.diff(self.pairs[order])) + 1) if len(self) else []
        return {names[self.pairs[mine[0]]]: self.only(mine) for mine in sorted(groups, key=lambda mine: int(mine[0]))}

    def look(self, k: int) -> Look | RunLook | None:
        """What was seen of the shape of the power of the `k`-th."""
        found: Look | RunLook | None = self.store.aside.get(int(self.items[k]) + 1)
        return found
