"""Things set aside in a temporary file until they are asked for again, so that memory does not grow with a run.

The file has no name, and is gone with the program, however that ends. Little is held in memory and never gets there.
"""

from __future__ import annotations

import io
import os
import pickle
import tempfile
import weakref
from array import array
from collections.abc import Callable, Iterator, Sequence
from dataclasses import fields, is_dataclass
from typing import IO, Any, TypeVar, overload

import numpy as np
from numpy.typing import NDArray

from instruments.errors import OutputError
from instruments.waveform import Capture, Preamble, Record

Thing = TypeVar("Thing")

HELD = 1 << 20
"""Bytes that are held in memory before they are written, together: a short run is never in a file."""

AHEAD = 1 << 14
"""Bytes that are read at once: what was set aside together is mostly asked for together."""

NO_RECORDS = Capture(
    {"": Record("", Preamble(0, 0, 0, 0, 1.0, 0.0, 0.0, 1.0, 0.0, 0.0), np.empty(0, np.uint8), "bits")}
)
"""Stands for the records of a capture, which are never set aside."""


class SetAside:
    """Gives things back by their numbers, which count from 0: each time another object, with all that the first had.

    Raises OutputError where there is no room.
    """

    def __init__(self) -> None:
        self._ends = array("q", [0])
        self._new = bytearray()
        self._file: IO[bytes] | None = None
        self._read: tuple[int, bytes] = 0, b""
        self._together: tuple[Sequence[int], tuple[Any, ...]] = (), ()

    def put(self, thing: object) -> int:
        """Set a thing aside; returns its number."""
        packed = io.BytesIO()
        _Pickler(packed, pickle.HIGHEST_PROTOCOL).dump(thing)
        self._new += packed.getbuffer()
        self._ends.append(self._ends[-1] + packed.tell())
        if len(self._new) >= HELD:
            self._write()
        return len(self._ends) - 2

    def _write(self) -> None:
        try:
            if self._file is None:
                self._file = tempfile.TemporaryFile()  # noqa: SIM115 - open for as long as this is known
                weakref.finalize(self, self._file.close)
            self._file.write(self._new)
            self._file.flush()
        except OSError as error:
            raise OutputError(
                f"what is kept of each capture has no room among the temporary files ({error.strerror or error}): make "
                "some, or name another folder in the environment variable TMPDIR"
            ) from error
        self._new.clear()

    def get(self, number: int) -> Any:
        """Give a thing back."""
        start, stop = self._ends[number], self._ends[number + 1]
        written = self._ends[-1] - len(self._new)
        if start >= written:
            return pickle.loads(memoryview(self._new)[start - written : stop - written])
        begin, block = self._read
        if not begin <= start <= stop <= begin + len(block):
            assert self._file is not None
            begin, block = start, os.pread(self._file.fileno(), max(stop - start, AHEAD), start)
            self._read = begin, block
        return pickle.loads(memoryview(block)[start - begin : stop - begin])

    def together(self, numbers: Sequence[int]) -> tuple[Any, ...]:
        """Give several things back, and keep them until others are asked for."""
        if self._together[0] is not numbers:
            self._together = numbers, tuple(map(self.get, numbers))
        return self._together[1]


class Aside(Sequence[Thing]):
    """Things of a `SetAside` by their numbers, as a sequence."""

    def __init__(self, aside: SetAside, numbers: Sequence[int]) -> None:
        self._aside, self._numbers = aside, numbers

    def __len__(self) -> int:
        return len(self._numbers)

    @overload
    def __getitem__(self, key: int) -> Thing: ...
    @overload
    def __getitem__(self, key: slice) -> Sequence[Thing]: ...
    def __getitem__(self, key: int | slice) -> Thing | Sequence[Thing]:
        found: Thing | Sequence[Thing] = self._aside.together(self._numbers)[key]
        return found

    def __iter__(self) -> Iterator[Thing]:
        return iter(self._aside.together(self._numbers))


def _made(number: int, *values: Any) -> Any:
    kind, names = _KINDS[number]
    thing = object.__new__(kind)
    vars(thing).update(zip(names, values))  # noqa: B905 - as many, and in half the time
    return thing


def _no_records() -> Capture:
    return NO_RECORDS


def _numbers(values: bytes, kind: str, shape: tuple[int, ...]) -> NDArray[Any]:
    return np.frombuffer(values, kind).reshape(shape)


_KINDS: list[tuple[Any, tuple[str, ...]]] = []
"""Dataclasses of which anything was ever set aside, and their fields."""


class _Reducers(dict[type, Callable[[Any], tuple[Any, ...]]]):
    """Dataclasses are written as their values alone, with neither the names of the fields nor their own: the file does
    not outlive the program, and they take a third of the time."""

    def __missing__(self, kind: type) -> Callable[[Any], tuple[Any, ...]]:
        if not is_dataclass(kind):
            raise KeyError(kind)
        number, names = len(_KINDS), tuple(field.name for field in fields(kind))
        _KINDS.append((kind, names))

        def reduced(thing: Any) -> tuple[Any, ...]:
            values = vars(thing)
            return _made, (number, *(values[name] for name in names))

        return self.setdefault(kind, reduced)


class _Pickler(pickle.Pickler):
    dispatch_table = _Reducers(
        {
            Capture: lambda capture: (_no_records, ()),
            np.ndarray: lambda values: (_numbers, (values.tobytes(), values.dtype.str, values.shape)),
            array: lambda values: (array, (values.typecode, values.tobytes())),
        }
    )
