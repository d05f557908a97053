"""Exact sums over the integer codes of two records: the innermost loop of the reduction. Pure.

Whole numbers add up to the same in any order, so that no result depends on how a stretch was cut or who summed it. The
loops are compiled (`_code_sums.c`), one pass over both records. Where there was no compiler to install them with, NumPy
sums in several passes, some times slower and to the same numbers.
"""

from __future__ import annotations

from dataclasses import dataclass
from types import ModuleType

import numpy as np
import numpy.typing as npt

from instruments.waveform import Codes

compiled: ModuleType | None
try:
    from experiments import _code_sums
except ImportError:
    compiled = None
else:
    compiled = _code_sums

LARGEST_BLOCK = 1 << 17
"""Of so many pairs NumPy's passes stay in a processor's cache."""

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True)
class CodeSums:
    """Sums of codes and of their products over n pairs, and the lowest and highest code of each record."""

    n: int
    sum_i: int
    sum_v: int
    sum_vi: int
    lowest_i: int
    highest_i: int
    lowest_v: int
    highest_v: int

    def __add__(self, other: CodeSums) -> CodeSums:
        return CodeSums(
            self.n + other.n,
            self.sum_i + other.sum_i,
            self.sum_v + other.sum_v,
            self.sum_vi + other.sum_vi,
            min(self.lowest_i, other.lowest_i),
            max(self.highest_i, other.highest_i),
            min(self.lowest_v, other.lowest_v),
            max(self.highest_v, other.highest_v),
        )


def code_sums(i: Codes, v: Codes, block: int = LARGEST_BLOCK) -> CodeSums:
    """Sum two stretches of codes (n,), uint8 or uint16, n at least 1, in pieces of `block` pairs.

    Raises ValueError for a block outside 1 .. 131 072, and for stretches that are empty or not as long as each other.
    """
    if not 1 <= block <= LARGEST_BLOCK:
        raise ValueError(f"a block holds 1 to {LARGEST_BLOCK} pairs, not {block}")
    if len(i) != len(v) or not len(i):
        raise ValueError(f"{len(i)} and {len(v)} codes do not make pairs")
    i, v = _alike(i, v)
    whole = _whole if compiled is None else compiled.whole
    found = CodeSums(len(i[:block]), *whole(i[:block], v[:block]))
    for at in range(block, len(i), block):
        piece = i[at : at + block]
        found += CodeSums(len(piece), *whole(piece, v[at : at + block]))
    return found


def sums_between(i: Codes, v: Codes, cuts: npt.NDArray[np.int64]) -> tuple[Floats, Floats, Floats]:
    """Sums of codes and of their products, i, v and i v, between each two of the rising sample numbers `cuts`.

    `cuts` has shape (k + 1,); the sums, (k,) each, are whole numbers as doubles, exact below 2^53. Raises ValueError
    for cuts that do not rise or lie outside the records.
    """
    if len(i) != len(v):
        raise ValueError(f"{len(i)} and {len(v)} codes do not make pairs")
    i, v = _alike(i, v)
    cuts = np.ascontiguousarray(cuts, np.int64)
    sums = np.empty((3, len(cuts) - 1))
    between = _between if compiled is None else compiled.between
    between(i, v, cuts, sums)
    return sums[0], sums[1], sums[2]


def sums_of_blocks(codes: Codes, size: int) -> Floats:
    """Sums of neighbouring blocks of `size` codes, (n // size,): whole numbers as doubles, exact below 2^53."""
    count = len(codes) // size
    sums = np.empty(count)
    if compiled is None:
        sums[:] = np.add.reduce(codes[: count * size].reshape(count, size), axis=1, dtype=np.uint64)
    else:
        compiled.blocks(_in_one_piece(codes), size, sums)
    return sums


def scatter(codes: Codes) -> tuple[int, int]:
    """The bits in which any codes of a stretch, (n,), differ, and the sum of squares of the steps between them.

    There must be one code at least.
    """
    if compiled is not None:
        varied, squares = compiled.scatter(_in_one_piece(codes))
        return varied, squares
    exact = codes.astype(np.int64)
    steps = exact[1:] - exact[:-1]
    return int(np.bitwise_or.reduce(codes ^ codes[0])), int(steps @ steps)


def _in_one_piece(codes: Codes) -> Codes:
    return codes if codes.flags.c_contiguous and codes.flags.aligned else codes.copy()


def _alike(i: Codes, v: Codes) -> tuple[Codes, Codes]:
    """Both in one piece of memory each, and of the same width."""
    if i.dtype != v.dtype:
        return i.astype(np.uint16), v.astype(np.uint16)
    return _in_one_piece(i), _in_one_piece(v)


def _whole(i: Codes, v: Codes) -> tuple[int, int, int, int, int, int, int]:
    sum_i, sum_v = (int(np.add.reduce(x, dtype=np.uint64)) for x in (i, v))
    sum_vi = int(np.einsum("i,i->", i, v, dtype=np.uint64, casting="safe"))
    return sum_i, sum_v, sum_vi, int(i.min()), int(i.max()), int(v.min()), int(v.max())


def _between(i: Codes, v: Codes, cuts: npt.NDArray[np.int64], sums: Floats) -> None:
    if np.any(np.diff(cuts) <= 0) or cuts[0] < 0 or cuts[-1] > len(i):
        raise ValueError("cuts do not rise, or lie outside the records")
    i, v, starts = i[cuts[0] : cuts[-1]], v[cuts[0] : cuts[-1]], cuts[:-1] - cuts[0]
    for x, out in zip((i, v, np.multiply(i, v, dtype=np.uint64)), sums, strict=True):
        out[:] = np.add.reduceat(x, starts, dtype=np.uint64)
