"""Exact sums over the integer codes of two records: the innermost loop of the reduction. Pure.

Whole numbers add up to the same in any order, so that no result depends on how a stretch was cut or who summed it.

A processor sums narrow numbers several times as fast as wide ones. A piece's codes therefore lose the low bits that
are zero in all of them (an oscilloscope's 12 bits arrive as words whose last four are zero), and are taken above their
lowest: what is left of a steady supply's voltage is a few steps, so that its product with the current fits into 16 bits
again. Whether it does is known beforehand from the lowest and highest codes; where it does not, doubles hold the
products.
"""

from __future__ import annotations

import functools
import operator
import threading
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from instruments.waveform import Codes

LARGEST_BLOCK = 1 << 17
"""Fewer pairs cost more calls, more leave a processor's cache; of so many, sums of words fit into 33 bits, and sums of
products of two words into the 53 bits of a double."""

WORD = 0xFFFF
"""Largest number of 16 bits."""

ROWS = 16
"""Words added onto each other before they are widened: more gains nothing."""

DOUBLES = 1 << 13
"""Products held as doubles at once."""

Words = npt.NDArray[np.uint16]


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
    scratch = _scratch()
    pieces = [_piece(i[at : at + block], v[at : at + block], scratch) for at in range(0, len(i), block)]
    return functools.reduce(operator.add, pieces)


class _Scratch(threading.local):
    """Room for what a piece needs besides its codes, kept: to get it from the system can take as long as the sums."""

    def __init__(self) -> None:
        self.narrow = np.empty(LARGEST_BLOCK, np.uint8)
        self.words = np.empty((2, LARGEST_BLOCK), np.uint16)
        self.doubles = np.empty((2, DOUBLES))


@functools.cache
def _scratch() -> _Scratch:
    """Each thread's own."""
    return _Scratch()


def _piece(i: Codes, v: Codes, scratch: _Scratch) -> CodeSums:
    """Sum at most `LARGEST_BLOCK` pairs: of a = (i - base) / 2^shift, of b likewise, and of a b."""
    n = len(i)
    lowest_i, highest_i, lowest_v, highest_v = int(i.min()), int(i.max()), int(v.min()), int(v.max())
    shift_i, shift_v = _idle_bits(i), _idle_bits(v)
    top_a, top_b = highest_i >> shift_i, (highest_v - lowest_v) >> shift_v
    base_i, base_v = 0, lowest_v
    if top_a * top_b > WORD:
        base_i, top_a = lowest_i, (highest_i - lowest_i) >> shift_i
    a = _reduced(i, base_i, shift_i, scratch.words[0, :n], scratch.narrow[:n])
    b = _reduced(v, base_v, shift_v, scratch.words[1, :n], scratch.narrow[:n])
    sum_a, sum_b = _total(a, top_a), _total(b, top_b)
    if top_a * top_b <= WORD:
        sum_ab = _total(np.multiply(a, b, out=a), top_a * top_b)
    else:
        sum_ab = 0
        for at in range(0, n, DOUBLES):
            x, y = scratch.doubles[:, : min(DOUBLES, n - at)]
            np.copyto(x, a[at : at + DOUBLES])
            np.copyto(y, b[at : at + DOUBLES])
            sum_ab += int(np.dot(x, y))
    sum_i, sum_v = n * base_i + (sum_a << shift_i), n * base_v + (sum_b << shift_v)
    sum_vi = (sum_ab << (shift_i + shift_v)) + base_i * sum_v + base_v * sum_i - n * base_i * base_v
    return CodeSums(n, sum_i, sum_v, sum_vi, lowest_i, highest_i, lowest_v, highest_v)


def _idle_bits(codes: Codes) -> int:
    """How many low bits are zero in all codes; 0 for bytes, and for zeros."""
    if codes.dtype == np.uint8:
        return 0
    used = int(np.bitwise_or.reduce(codes))
    return max((used & -used).bit_length() - 1, 0)


def _reduced(codes: Codes, base: int, shift: int, out: Words, narrow: npt.NDArray[np.uint8]) -> Words:
    """Put (codes - base) / 2^shift into `out`; `base` is one of the codes or 0."""
    if codes.dtype == np.uint8:
        np.copyto(out, np.subtract(codes, np.uint8(base), out=narrow) if base else codes)
        return out
    np.right_shift(codes, np.uint16(shift), out=out)
    return np.subtract(out, np.uint16(base >> shift), out=out) if base else out


def _total(words: Words, top: int) -> int:
    """Sum of words none of which is above `top`: first as many onto each other as 16 bits hold."""
    rows = min(ROWS, WORD // max(top, 1))
    whole = len(words) - len(words) % rows
    columns = np.add.reduce(words[:whole].reshape(rows, -1), axis=0, dtype=np.uint16) if rows > 1 else words
    rest: int = sum(words[whole:].tolist())
    wide = np.uint32 if len(columns) <= WORD else np.uint64
    return int(np.add.reduce(columns, dtype=wide)) + rest
