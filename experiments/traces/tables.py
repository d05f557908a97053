"""The tables of a trace file as they are held in memory: by column, since a file may have very many rows. Pure."""

from __future__ import annotations

from array import array
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, overload

from numpy.typing import NDArray

Row = dict[str, Any]
Column = Sequence[Any]

_CODES = {"i4": "i", "i8": "q", "u4": "I", "f8": "d"}


class Table(Sequence[Row]):
    """Rows, each made when it is asked for; columns are all as long as the shortest.

    A program that died may have left the last row half written.
    """

    def __init__(self, columns: Mapping[str, Column]) -> None:
        self._columns = dict(columns)
        self._length = min(map(len, self._columns.values()), default=0)

    def __len__(self) -> int:
        return self._length

    def column(self, name: str) -> Column:
        """One column."""
        return self._columns[name][: self._length]

    @overload
    def __getitem__(self, key: int) -> Row: ...
    @overload
    def __getitem__(self, key: slice) -> list[Row]: ...
    def __getitem__(self, key: int | slice) -> Row | list[Row]:
        if isinstance(key, slice):
            return [self[k] for k in range(*key.indices(self._length))]
        k = key + self._length if key < 0 else key
        if not 0 <= k < self._length:
            raise IndexError(f"row {key} of {self._length}")
        return {name: column[k] for name, column in self._columns.items()}

    def __iter__(self) -> Iterator[Row]:
        names = tuple(self._columns)
        for values in zip(*self._columns.values(), strict=False):
            yield dict(zip(names, values, strict=True))

    def __eq__(self, other: object) -> bool:
        return list(self) == (list(other) if isinstance(other, Table) else other)

    __hash__ = None  # type: ignore[assignment]


def numbers(values: NDArray[Any]) -> array[Any]:
    """A column of numbers, (n,), as small as they are stored."""
    column = array(_CODES[values.dtype.str[1:]])
    column.frombytes(values.astype(values.dtype.newbyteorder("=")).tobytes())
    return column


class Texts:
    """Gathers a column of texts: most are alike, and each is held once."""

    def __init__(self) -> None:
        self.column: list[str] = []
        self._known: dict[str, str] = {}

    def add(self, texts: list[str]) -> None:
        """Add the next rows."""
        self.column += [self._known.setdefault(text, text) for text in texts]
