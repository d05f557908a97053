"""Exact sums over the integer codes of two records: the innermost loop of the reduction. Pure.

Whole numbers add up to the same in any order, so that no result depends on how a stretch was cut or who summed it.

A processor sums narrow numbers several times as fast as wide ones. A piece's codes therefore lose the low bits that
are zero in all of them (an oscilloscope's 12 bits arrive as words whose last four are zero), and are taken above their
lowest: what is left of a steady supply's voltage is a few steps, so that its product with the current fits into 16 bits
again. Whether it does is known beforehand from the lowest and highest codes; where it does not, words of 32 bits
hold the products.
"""

from __future__ import annotations

import functools
import threading
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from instruments.waveform import Codes

LARGEST_BLOCK = 1 << 17
"""Fewer pairs cost more calls, more leave a processor's cache."""

WORD = 0xFFFF
"""Largest number of 16 bits."""

ROWS = 16
"""Words added onto each other before they are widened: more gains nothing."""

FEW = 1 << 14
"""Pairs up to which the plain sums are the quickest; they fit into 32 bits, those of products into 64."""

FOURS = 64
"""Sums into which small words are summed at once, four in each number of 64 bits."""

CACHE_LINE = 64
"""Bytes of a line of the cache."""

Words = npt.NDArray[np.uint16]
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
    if len(i) <= min(FEW, block):
        return _of_few(i, v)
    scratch = _scratch()
    pieces = [_piece(i[at : at + block], v[at : at + block], scratch) for at in range(0, len(i), block)]
    *sums, lowest_i, highest_i, lowest_v, highest_v = zip(*pieces, strict=True)
    n, sum_i, sum_v, sum_vi = map(sum, sums)
    return CodeSums(n, sum_i, sum_v, sum_vi, min(lowest_i), max(highest_i), min(lowest_v), max(highest_v))


def _of_few(i: Codes, v: Codes) -> CodeSums:
    """The same of at most `FEW` pairs, where calls count more than how quickly each adds."""
    ends = [int(end(x)) for x in (i, v) for end in (np.minimum.reduce, np.maximum.reduce)]
    sum_i, sum_v = (int(np.add.reduce(x, dtype=np.uint32)) for x in (i, v))
    sum_vi = int(np.einsum("i,i->", i, v, dtype=np.uint64, casting="safe"))
    return CodeSums(len(i), sum_i, sum_v, sum_vi, *ends)


def sums_between(i: Codes, v: Codes, cuts: npt.NDArray[np.int64]) -> tuple[Floats, Floats, Floats]:
    """Sums of codes and of their products, i, v and i v, between each two of the rising sample numbers `cuts`.

    `cuts` has shape (k + 1,); the sums, (k,) each, are whole numbers below 2^53 as doubles.
    """
    whole, starts = slice(int(cuts[0]), int(cuts[-1])), cuts[:-1] - cuts[0]
    i, v, lengths = i[whole], v[whole], np.diff(cuts)
    if int(lengths.max()) > WORD:
        sum_i, sum_v = (np.add.reduceat(x, starts, dtype=np.float64) for x in (i, v))
        return sum_i, sum_v, np.add.reduceat(np.multiply(i, v, dtype=np.float64), starts)
    base_v = int(np.minimum.reduce(v))
    above = v - v.dtype.type(base_v)
    used_i, used_v = int(np.bitwise_or.reduce(i)), int(np.bitwise_or.reduce(above))
    shift_i, shift_v = _zero_bits(used_i), _zero_bits(used_v)
    sum_i, sum_v = (np.add.reduceat(x, starts, dtype=np.uint32).astype(np.float64) for x in (i, above))
    if (used_i >> shift_i) * (used_v >> shift_v) <= WORD:
        products = (i >> shift_i).astype(np.uint16, copy=False)
        products *= above >> shift_v
        sum_vi = np.add.reduceat(products, starts, dtype=np.uint32).astype(np.float64) * 2.0 ** (shift_i + shift_v)
    else:
        sum_vi = np.add.reduceat(np.multiply(i, above, dtype=np.uint32), starts, dtype=np.float64)
    return sum_i, sum_v + base_v * lengths, sum_vi + base_v * sum_i


class _Scratch(threading.local):
    """Room for what a piece needs besides its codes, kept: to get it from the system can take as long as the sums."""

    def __init__(self) -> None:
        self.narrow = _room(LARGEST_BLOCK, np.uint8)
        self.words = _room(2 * LARGEST_BLOCK, np.uint16).reshape(2, -1)
        self.columns = _room(LARGEST_BLOCK // 2, np.uint16)

    @functools.cached_property
    def products(self) -> npt.NDArray[np.uint32]:
        """Few records need them."""
        return _room(LARGEST_BLOCK, np.uint32)


def _room(n: int, dtype: type) -> npt.NDArray[Any]:
    """An array (n,) that begins where a line of the cache does: else every access of a whole line touches two."""
    size = n * np.dtype(dtype).itemsize
    raw = np.empty(size + CACHE_LINE, np.uint8)
    start = -raw.ctypes.data % CACHE_LINE
    return raw[start : start + size].view(dtype)


@functools.cache
def _scratch() -> _Scratch:
    """Each thread's own."""
    return _Scratch()


def _piece(i: Codes, v: Codes, scratch: _Scratch) -> tuple[int, ...]:
    """The fields of `CodeSums` of at most `LARGEST_BLOCK` pairs: of a = (i - base) / 2^shift, b likewise, and a b.

    What no cache holds is read twice; the other passes are over what was made of it.
    """
    n = len(i)
    words = scratch.words[:, :n]
    a, b = words
    shift_i = _idle_bits(i)
    if shift_i:
        np.right_shift(i, np.uint16(shift_i), out=a)
    else:
        np.copyto(a, i)
    base_v, shift_v = int(np.minimum.reduce(v)), 0
    if v.dtype == np.uint8:
        np.copyto(b, np.subtract(v, np.uint8(base_v), out=scratch.narrow[:n]))
    else:
        np.subtract(v, np.uint16(base_v), out=b)
        shift_v = _idle_bits(b)
        if shift_v:
            np.right_shift(b, np.uint16(shift_v), out=b)
    top_a, top_b = np.maximum.reduce(words, axis=1).tolist()
    lowest_a, base_a = int(np.minimum.reduce(a)), 0
    lowest_i, highest_i, highest_v = lowest_a << shift_i, top_a << shift_i, base_v + (top_b << shift_v)
    if top_a * top_b > WORD and lowest_a:
        base_a, top_a = lowest_a, top_a - lowest_a
        np.subtract(a, np.uint16(base_a), out=a)
    sum_a, sum_b = _total(a, top_a, scratch.columns), _total(b, top_b, scratch.columns)
    if top_a * top_b <= WORD:
        sum_ab = _total(np.multiply(a, b, out=a), top_a * top_b, scratch.columns)
    else:
        products = np.multiply(a, b, out=scratch.products[:n], dtype=np.uint32)
        sum_ab = int(np.add.reduce(products, dtype=np.uint64))
    base_i = base_a << shift_i
    sum_i, sum_v = n * base_i + (sum_a << shift_i), n * base_v + (sum_b << shift_v)
    sum_vi = (sum_ab << (shift_i + shift_v)) + base_i * sum_v + base_v * sum_i - n * base_i * base_v
    return n, sum_i, sum_v, sum_vi, lowest_i, highest_i, base_v, highest_v


def _idle_bits(codes: Codes) -> int:
    """How many low bits are zero in all codes; 0 for bytes, and for zeros."""
    if codes.dtype == np.uint8:
        return 0
    return _zero_bits(int(np.bitwise_or.reduce(codes)))


def _zero_bits(used: int) -> int:
    return max((used & -used).bit_length() - 1, 0)


def _total(words: Words, top: int, columns: Words) -> int:
    """Sum of words none of which is above `top`; `columns` is room for sums."""
    n = len(words)
    if n // FOURS * top <= WORD:  # four neighbours are summed as one number of 64 bits: none reaches into the next
        whole = n - n % FOURS
        fours = np.add.reduce(words[:whole].view(np.uint64).reshape(FOURS // 4, -1), axis=1)
        return int(np.add.reduce(fours.view(np.uint16), dtype=np.uint64)) + _widened(words[whole:])
    rows = min(ROWS, WORD // top)  # as many onto each other as 16 bits hold
    width = n // rows // CACHE_LINE * CACHE_LINE
    if rows == 1 or not width:
        return _widened(words)
    out = columns[:width]
    np.add.reduce(words[: rows * width].reshape(rows, width), axis=0, dtype=np.uint16, out=out)
    return _widened(out) + _widened(words[rows * width :])


def _widened(words: Words) -> int:
    """Sum of any words, as many at once as 32 bits hold."""
    total = 0
    for at in range(0, len(words), WORD):
        total += int(np.add.reduce(words[at : at + WORD], dtype=np.uint32))
    return total
