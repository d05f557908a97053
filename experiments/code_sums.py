"""Exact sums over the integer codes of two records: the innermost loop of the reduction. Pure.

Whole numbers add up to the same in any order, so that no result depends on how a stretch was cut or who summed it.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from instruments.waveform import Codes

BLOCK_OF_BYTES, BLOCK_OF_WORDS = 1 << 16, 1 << 15
"""Pairs summed at once: what they need of scratch space stays in a processor's cache."""

LARGEST_BLOCK = 1 << 16
"""Sums of so many products of bytes still fit into 32 bits, and of words into the 53 bits of a double."""


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


def code_sums(i: Codes, v: Codes, block: int | None = None) -> CodeSums:
    """Sum two stretches of codes (n,), uint8 or uint16, n at least 1, in pieces of `block` pairs (None: what is fast).

    Raises ValueError for a block outside 1 .. 65 536, and for stretches that are empty or not as long as each other.
    """
    bytes_only = i.dtype == np.uint8 and v.dtype == np.uint8
    if block is None:
        block = BLOCK_OF_BYTES if bytes_only else BLOCK_OF_WORDS
    if not 1 <= block <= LARGEST_BLOCK:
        raise ValueError(f"a block holds 1 to {LARGEST_BLOCK} pairs, not {block}")
    if len(i) != len(v) or not len(i):
        raise ValueError(f"{len(i)} and {len(v)} codes do not make pairs")
    size = min(block, len(i))
    products = np.empty(size, np.uint16) if bytes_only else None
    doubles = None if bytes_only else np.empty((3, size))
    if doubles is not None:
        doubles[2] = 1.0
    sum_i = sum_v = sum_vi = 0
    lowest_i = lowest_v = 0xFFFF
    highest_i = highest_v = 0
    for at in range(0, len(i), size):
        part_i, part_v = i[at : at + size], v[at : at + size]
        n = len(part_i)
        if products is not None:
            product = np.multiply(part_i, part_v, out=products[:n], dtype=np.uint16)
            sum_i += int(part_i.sum(dtype=np.uint32))
            sum_v += int(part_v.sum(dtype=np.uint32))
            sum_vi += int(product.sum(dtype=np.uint32))
        else:
            assert doubles is not None
            a, b, ones = doubles[0, :n], doubles[1, :n], doubles[2, :n]
            np.copyto(a, part_i)
            np.copyto(b, part_v)
            sum_i += int(np.dot(a, ones))
            sum_v += int(np.dot(b, ones))
            sum_vi += int(np.dot(a, b))
        lowest_i, highest_i = min(lowest_i, int(part_i.min())), max(highest_i, int(part_i.max()))
        lowest_v, highest_v = min(lowest_v, int(part_v.min())), max(highest_v, int(part_v.max()))
    return CodeSums(len(i), sum_i, sum_v, sum_vi, lowest_i, highest_i, lowest_v, highest_v)
