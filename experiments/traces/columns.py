"""Variables of a trace file as they are written: rows of a table, and chunks of codes, by HDF5's own calls."""

from __future__ import annotations

import zlib
from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray

from experiments.traces import schema


class Column:
    """A variable that grows row by row, written by HDF5's own calls: faster than by h5py's indexing."""

    __slots__ = ("_id", "_one", "_rest", "_text", "_wide", "dataset", "dtype")

    def __init__(self, dataset: h5py.Dataset) -> None:
        self.dataset, self.dtype, self._id = dataset, dataset.dtype, dataset.id
        self._wide: tuple[int, ...] = dataset.shape[1:]
        self._rest = (0,) * len(self._wide)
        self._one = h5py.h5s.create_simple((1, *self._wide))
        self._text = self.dtype.kind == "S"

    def append(self, index: int, value: Any, n: int = 1) -> None:
        """Add n rows from `index` on; a text that is never written reads as empty."""
        self._id.set_extent((index + n, *self._wide))
        if not (self._text and value == ""):
            self.put(index, value, n)

    def put(self, index: int, value: Any, n: int = 1) -> None:
        """Write n rows from `index` on."""
        if self._text:
            texts = [value] if isinstance(value, str) else value
            rows = np.array([schema.characters(text, self._wide[0]) for text in texts])
        else:
            rows = np.asarray(value, dtype=self.dtype).reshape((n, *self._wide))
        place = self._id.get_space()
        place.select_hyperslab((index, *self._rest), rows.shape)
        self._id.write(self._one if n == 1 else h5py.h5s.create_simple(rows.shape), place, rows)


def chunk(codes: NDArray[Any], size: int) -> bytes:
    """Give one chunk of `size` codes as HDF5's shuffle and deflate would; short records are padded with 0."""
    if len(codes) < size:
        codes = np.concatenate([codes, np.zeros(size - len(codes), codes.dtype)])
    width = codes.dtype.itemsize
    data = codes.view(np.uint8).reshape(-1, width).T.tobytes() if width > 1 else codes.tobytes()
    # Run lengths and Huffman codes alone: on noisy codes faster and smaller than looking for repeats.
    deflate = zlib.compressobj(schema.LEVEL, zlib.DEFLATED, 15, 9, zlib.Z_RLE)
    return deflate.compress(data) + deflate.flush()
