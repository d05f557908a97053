"""What h5py and the parsers of stored texts raise over a damaged file, told as what it is."""

from __future__ import annotations

import contextlib
import functools
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Concatenate, ParamSpec, Protocol, TypeVar

import h5py
import numpy as np
from numpy.typing import NDArray

from instruments.errors import TraceError

DAMAGE = (
    OSError,
    KeyError,
    RuntimeError,
    ValueError,
    TypeError,
    IndexError,
    AttributeError,
    OverflowError,
    MemoryError,
    zlib.error,
)
"""What h5py, and zlib where a chunk is inflated here, raise where a file is damaged."""

_Result = TypeVar("_Result")
_Arguments = ParamSpec("_Arguments")


class _OfFile(Protocol):
    path: Path


_Self = TypeVar("_Self", bound=_OfFile)


class DamageError(TraceError):
    """A file that opens, and of which a part cannot be read; its cause is what h5py or a parser said."""


@contextlib.contextmanager
def damage_told(path: Path, then: str | None = None) -> Iterator[None]:
    """Raise DamageError for damage met while the file is read; `then` is what to do about it."""
    try:
        yield
    except DAMAGE as error:
        then = then or (
            f"python -m experiments.traces check {path} tells what is left, and recover instead of check saves it"
        )
        what = next(iter(getattr(error, "__notes__", ())), "")
        what = f"{what} is damaged" if what else "its tables are damaged"
        raise DamageError(f"{path}: {what} ({type(error).__name__}: {str(error)[:160]}): {then}") from error


@contextlib.contextmanager
def reading(place: str) -> Iterator[None]:
    """Have `damage_told` name a group or variable where what is read of it is damaged."""
    try:
        yield
    except DAMAGE as error:
        error.add_note(place)
        raise


def tells_damage(
    method: Callable[Concatenate[_Self, _Arguments], _Result],
) -> Callable[Concatenate[_Self, _Arguments], _Result]:
    """Make a method that reads a file raise DamageError with the file's `path`."""

    @functools.wraps(method)
    def told(self: _Self, /, *args: _Arguments.args, **kwargs: _Arguments.kwargs) -> _Result:
        with damage_told(self.path):
            return method(self, *args, **kwargs)

    return told


def chunks_there(dataset: h5py.Dataset) -> NDArray[np.bool_]:
    """Which chunks of a variable are in the file as its filters left them, by their place among its chunks.

    The others read as zeros, since no checksum guards HDF5's index of the chunks. It is gone through once: to look up a
    chunk alone takes HDF5 as long.
    """
    size = dataset.chunks
    if size is None:
        raise OSError("it is not in chunks any more, as where another program wrote the file anew")
    there = np.zeros([-(-n // c) for n, c in zip(dataset.shape, size, strict=True)], np.bool_)

    def note(chunk: h5py.h5d.StoreInfo) -> None:
        place = tuple(at // c for at, c in zip(chunk.chunk_offset, size, strict=True))
        if not chunk.filter_mask and all(k < n for k, n in zip(place, there.shape, strict=True)):
            there[place] = True

    dataset.id.chunk_iter(note)
    return there


def require_stored(there: NDArray[np.bool_]) -> None:
    """Raise OSError where one of some chunks is not in the file, as `chunks_there` tells."""
    if not there.all():
        raise OSError("a part of it is not there, and would read as zeros")
