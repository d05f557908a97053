"""The stored summary of every record, and a look at any span of a channel through it.

Each record is cut into blocks of 256 and of 8192 samples, and the smallest, mean and largest code of each block is
stored. A look at a whole sweep then reads some thousand numbers instead of all its samples.
"""

from __future__ import annotations

import zlib
from collections.abc import Mapping
from concurrent.futures import Executor
from dataclasses import dataclass
from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray

from experiments.traces import schema
from experiments.traces.schema import ROLES
from instruments.waveform import Codes

Floats = NDArray[np.float64]

BLOCKS = (256, 8192)
"""Samples in one block of each level."""

STATISTICS = ("minimum", "mean", "maximum")
_ROWS = {256: 16, 8192: 128}
"""Captures in one chunk of each level: small enough to write, large enough to read quickly."""


def name_of(block: int) -> str:
    """Name of a level's variable in /overview."""
    return f"blocks_of_{block}"


def lay_out(file: h5py.File, points: int) -> dict[int, h5py.Dataset]:
    """Make the group /overview for records of usually `points` samples; gives the variable of each level."""
    g = file.create_group("overview")
    capture = schema.dimension(g, "capture", 0, index=False)
    source = schema.dimension(g, "source", len(ROLES), index=False, fixed=True)
    statistic = schema.dimension(g, "statistic", len(STATISTICS), index=False, fixed=True)
    levels = {}
    for block in BLOCKS:
        along = schema.dimension(g, f"block_of_{block}", 0, index=False)
        d = g.create_dataset(
            name_of(block),
            shape=(0, len(ROLES), len(STATISTICS), 0),
            maxshape=(None, len(ROLES), len(STATISTICS), None),
            dtype="u2",
            chunks=(_ROWS[block], len(ROLES), len(STATISTICS), -(-points // block)),
            fletcher32=True,
        )
        schema.describe(
            d,
            long_name=f"smallest, mean and largest code of {block} samples, 0 without one; "
            "of the markers: bits always set, 0, bits ever set",
        )
        for axis, scale in enumerate((capture, source, statistic, along)):
            d.dims[axis].attach_scale(scale)
        levels[block] = d
    return levels


def summarise(codes: Codes, block: int, *, bits: bool = False) -> NDArray[np.uint16]:
    """Smallest, mean and largest code of each block; (3, blocks), the last block may be shorter.

    Holes count in none of them. With `bits` it is the bits set in all samples, 0, and the bits set in any.
    """
    starts = np.arange(0, len(codes), block)
    if bits:
        always, ever = np.bitwise_and.reduceat(codes, starts), np.bitwise_or.reduceat(codes, starts)
        return np.stack([always, np.zeros_like(always), ever]).astype(np.uint16)
    whole = len(codes) // block
    if whole * block == len(codes) or not whole:
        return _of_table(codes.reshape(-1, block) if whole else codes[None, :])
    return np.concatenate(
        [_of_table(codes[: whole * block].reshape(-1, block)), _of_table(codes[None, whole * block :])], axis=1
    )


def _of_table(table: NDArray[Any]) -> NDArray[np.uint16]:
    least, most, sums = table.min(axis=1), table.max(axis=1), table.sum(axis=1, dtype=np.uint32)
    counts: Any = table.shape[1]
    if not least.all():
        counts = np.maximum(np.count_nonzero(table, axis=1), 1)
        top = np.iinfo(table.dtype).max
        least = np.where(most > 0, np.where(table == 0, top, table).min(axis=1), 0)
    return np.stack([least, np.rint(sums / counts), most]).astype(np.uint16)


@dataclass(frozen=True)
class Overview:
    """A channel at a glance: smallest, mean and largest reading of each stretch that begins at `sample`.

    `sample` counts through the captures, each as long as the longest: capture = sample // row_samples. Readings are in
    the channel's unit, NaN where there is no record; of the markers, the bits that were always and ever set, and no
    mean. Arrays have the shape (points,).
    """

    sample: NDArray[np.int64]
    row_samples: int
    minimum: Floats
    mean: Floats
    maximum: Floats


def look(
    file: h5py.File,
    preambles: Mapping[str, NDArray[np.float64]],
    role: str,
    span: tuple[int, int],
    points: int,
    pool: Executor,
) -> Overview:
    """Summarise samples span[0] to span[1] of a channel in `points` stretches whose ends are rounded to blocks.

    Reads the coarsest stored level that still has a block for each stretch, or the codes themselves.
    """
    group = file["captures"]
    row_samples = int(group["sample"].shape[0])
    start, stop = span
    block = max((b for b in BLOCKS if b <= (stop - start) // points), default=1)
    first, last = start // row_samples, -(-stop // row_samples)
    column = ROLES.index(role)
    slope = preambles["y_increment"][first:last, column]
    intercept = preambles["y_origin"][first:last, column] - preambles["y_reference"][first:last, column] * slope
    samples_of = preambles["points"][first:last, column].astype(np.int64)
    if block == 1:
        low = mean = high = _codes(group[f"{role}_codes"], start, stop, pool)
        cuts = _cuts(stop - start, points)
        at = start + cuts
    else:
        stored = file["overview"][name_of(block)][first:last, column]
        inside = np.arange(stored.shape[2]) * block
        places = (np.arange(first, last)[:, None] * row_samples + inside).ravel()
        begin, end = (int(k) for k in np.searchsorted(places, (start - block + 1, stop)))
        low, mean, high = (stored[:, k].ravel()[begin:end] for k in range(3))
        # The last block of a record may be shorter.
        weight = np.clip(samples_of[:, None] - inside, 0, block).ravel()[begin:end].astype(np.float64)
        cuts = _cuts(end - begin, points)
        places = places[begin:end]
        at = places[cuts]
    if role == "markers":
        always, ever = np.bitwise_and.reduceat(low, cuts), np.bitwise_or.reduceat(high, cuts)
        return Overview(at, row_samples, always.astype(float), np.full(len(cuts), np.nan), ever.astype(float))
    if np.all(slope == slope[:1]) and np.all(intercept == intercept[:1]) and low.all():
        # One scale and no holes: the codes are reduced as they are, several times faster.
        if block == 1:
            means = np.add.reduceat(low, cuts, dtype=np.uint32) / np.diff(cuts, append=len(low))
        else:
            means = np.add.reduceat(mean * weight, cuts) / np.add.reduceat(weight, cuts)
        ends = [f.reduceat(x, cuts) * slope[0] + intercept[0] for f, x in ((np.minimum, low), (np.maximum, high))]
        return Overview(at, row_samples, np.minimum(*ends), means * slope[0] + intercept[0], np.maximum(*ends))
    if block == 1:
        places = np.arange(start, stop)
        weight = (places % row_samples < samples_of[places // row_samples - first]).astype(np.float64)
    row = places // row_samples - first
    empty = high == 0
    low, mean, high = (np.where(empty, np.nan, x * slope[row] + intercept[row]) for x in (low, mean, high))
    weight[np.isnan(mean)] = 0
    with np.errstate(invalid="ignore", divide="ignore"):
        means = np.add.reduceat(np.where(weight > 0, mean * weight, 0.0), cuts) / np.add.reduceat(weight, cuts)
    # A negative scale (an inverted channel) turns smallest into largest.
    lowest = np.fmin.reduceat(np.fmin(low, high), cuts)
    return Overview(at, row_samples, lowest, means, np.fmax.reduceat(np.fmax(low, high), cuts))


def _cuts(count: int, points: int) -> NDArray[np.int64]:
    """Where `points` stretches of `count` things begin, none of them empty."""
    stretches = min(points, count)
    return np.arange(stretches) * count // max(stretches, 1)


def _codes(dataset: h5py.Dataset, start: int, stop: int, pool: Executor) -> NDArray[Any]:
    """Codes from one sample to another, counted through the rows.

    Inflated in threads where a row is one chunk, as usual; shuffled bytes are put together where they are wanted alone.
    """
    width = dataset.shape[1]
    first, last = start // width, -(-stop // width)
    raw = []
    if dataset.chunks == (1, width):
        raw = [dataset.id.read_direct_chunk((row, 0)) for row in range(first, last)]
    if not raw or any(mask for mask, _ in raw):
        return np.asarray(dataset[first:last]).ravel()[start - first * width : stop - first * width]
    size = dataset.dtype.itemsize
    codes = np.empty(stop - start, dataset.dtype.newbyteorder("<"))
    cells = codes.view(np.uint8).reshape(-1, size)

    def inflate(row: int, data: bytes) -> None:
        begin, end = max(start - row * width, 0), min(stop - row * width, width)
        raw = zlib.decompress(data)
        for k in range(size):  # plane by plane: several times faster than to transpose them
            at = row * width - start
            cells[at + begin : at + end, k] = np.frombuffer(raw, np.uint8, end - begin, k * width + begin)

    list(pool.map(inflate, range(first, last), (data for _, data in raw)))
    return codes
