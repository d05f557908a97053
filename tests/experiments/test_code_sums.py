"""Sums of codes against whole numbers of any size."""

from __future__ import annotations

import functools
import itertools
import operator
import os
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import astuple

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from experiments import code_sums as module
from experiments.code_sums import LARGEST_BLOCK, code_sums, scatter, sums_between, sums_of_blocks
from instruments.waveform import Codes


@pytest.fixture(params=["compiled", "numpy"], autouse=True, scope="module")
def loops(request: pytest.FixtureRequest) -> Iterator[None]:
    """Every test sums with the compiled loops, and with what stands in for them."""
    if module.compiled is None and os.environ.get("CI", "").lower() in ("1", "true"):
        pytest.fail("the loops were not compiled")
    if request.param == "compiled" and module.compiled is None:
        pytest.skip("the loops were not compiled: this needs a C compiler when the toolkit is installed")
    with pytest.MonkeyPatch.context() as patch:
        if request.param == "numpy":
            patch.setattr(module, "compiled", None)
        yield


def exactly(i: Codes, v: Codes) -> tuple[int, int, int, int, int, int, int, int]:
    """What `code_sums` must find, in whole numbers of any size."""
    a, b = [int(c) for c in i], [int(c) for c in v]
    products = sum(x * y for x, y in zip(a, b, strict=True))
    return len(a), sum(a), sum(b), products, min(a), max(a), min(b), max(b)


@st.composite
def stretches(draw: st.DrawFn) -> tuple[Codes, Codes]:
    """Codes of both widths: any range of any height, low bits that are never used, and lone extremes."""
    n = draw(st.integers(1, 300))
    pair = []
    for _ in range(2):
        dtype = draw(st.sampled_from([np.uint8, np.uint16]))
        top = int(np.iinfo(dtype).max)
        shift = draw(st.integers(0, 6))
        low, high = sorted(draw(st.tuples(st.integers(0, top), st.integers(0, top))))
        if draw(st.booleans()):
            high = min(high, low + draw(st.integers(0, 20)) * 2**shift)
        rng = np.random.default_rng(draw(st.integers(0, 2**32)))
        codes = rng.integers(low, high, n, dtype=dtype, endpoint=True) >> shift << shift
        for at, extreme in draw(st.lists(st.tuples(st.integers(0, n - 1), st.sampled_from([0, top])), max_size=2)):
            codes[at] = extreme
        pair.append(codes.astype(dtype))
    return pair[0], pair[1]


@given(stretches(), st.integers(1, 320))
def test_sums_of_codes_are_exact_whatever_the_codes_and_the_block(pair: tuple[Codes, Codes], block: int) -> None:
    assert astuple(code_sums(*pair)) == astuple(code_sums(*pair, block)) == exactly(*pair)


@given(stretches(), st.lists(st.floats(0, 1), max_size=12))
def test_sums_between_cuts_are_exact(pair: tuple[Codes, Codes], places: list[float]) -> None:
    n = len(pair[0])
    cuts = np.unique([0, *(int(place * n) for place in places), n])
    found = list(zip(*sums_between(*pair, cuts), strict=True))
    assert found == [exactly(*(codes[a:b] for codes in pair))[1:4] for a, b in itertools.pairwise(cuts.tolist())]


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
@pytest.mark.parametrize("n", [1, (1 << 15) + 1, (1 << 16) - 1, 1 << 16, LARGEST_BLOCK + 5])
def test_the_largest_codes_are_summed_exactly_however_many(dtype: type, n: int) -> None:
    top = int(np.iinfo(dtype).max)
    low, full = np.full(n, top - 1, dtype=dtype), np.full(n, top, dtype=dtype)
    low[0] = 0
    sums = (n - 1) * (top - 1), n * top, (n - 1) * (top - 1) * top
    assert astuple(code_sums(low, full))[1:4] == sums
    assert astuple(code_sums(full, low))[1:4] == (sums[1], sums[0], sums[2])
    assert tuple(float(x[0]) for x in sums_between(low, full, np.array([0, n]))) == sums
    assert tuple(float(x[0]) for x in sums_between(full, low, np.array([0, n]))) == (sums[1], sums[0], sums[2])


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
@pytest.mark.parametrize("span_v", [0, 3, 40, 1 << 16])
def test_sums_of_codes_are_exact_for_whole_blocks_and_any_cut(dtype: type, span_v: int) -> None:
    rng, top = np.random.default_rng(9), int(np.iinfo(dtype).max)
    n = 2 * LARGEST_BLOCK + 77
    i = rng.integers(0, top, n, dtype=dtype, endpoint=True)
    v = rng.integers(max(0, top - span_v), top, n, dtype=dtype, endpoint=True)
    whole = code_sums(i, v)
    wide = i.astype(np.uint64), v.astype(np.uint64)
    assert (whole.sum_i, whole.sum_v, whole.sum_vi) == (wide[0].sum(), wide[1].sum(), wide[0] @ wide[1])
    for block in (999, 1 << 16):
        assert code_sums(i, v, block) == whole
    cut = int(rng.integers(1, n))
    assert code_sums(i[:cut], v[:cut]) + code_sums(i[cut:], v[cut:]) == whole


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_the_largest_sums_of_a_block_do_not_overflow(dtype: type) -> None:
    top = int(np.iinfo(dtype).max)
    full = np.full(LARGEST_BLOCK, top, dtype=dtype)
    assert code_sums(full, full).sum_vi == LARGEST_BLOCK * top**2
    full[-1] = 0  # now the codes are summed as far above the lowest as they can be
    assert code_sums(full, full).sum_vi == (LARGEST_BLOCK - 1) * top**2
    assert code_sums(full, full).sum_v == (LARGEST_BLOCK - 1) * top
    with pytest.raises(ValueError, match="block holds"):
        code_sums(full, full, LARGEST_BLOCK + 1)
    with pytest.raises(ValueError, match="do not make pairs"):
        code_sums(full, full[1:])


@pytest.mark.parametrize(
    ("top_i", "top_v"), [(255, 257), (256, 256), (257, 256), (2, 32_768), (1, 65_535), (3, 21_846)]
)
def test_sums_are_exact_where_products_just_fit_into_words_and_where_they_just_do_not(top_i: int, top_v: int) -> None:
    i, v = (np.tile(np.array([0, top], np.uint16), 500) for top in (top_i, top_v))
    for block in (len(i), len(i) - 1):  # at once, and in pieces
        assert astuple(code_sums(i, v, block)) == exactly(i, v)


def test_threads_sum_side_by_side() -> None:
    rng = np.random.default_rng(4)
    pairs = [tuple(rng.integers(low, low + 900, 50_000, dtype=np.uint16) for low in (k, 2 * k)) for k in range(8)]
    with ThreadPoolExecutor(4) as pool:
        assert list(pool.map(lambda pair: code_sums(*pair), pairs * 8)) == [code_sums(*pair) for pair in pairs] * 8


def test_every_nth_sample_and_records_of_unlike_widths_are_summed() -> None:
    rng = np.random.default_rng(5)
    i, v = rng.integers(0, 65_536, 3000, dtype=np.uint16), rng.integers(0, 256, 1000, dtype=np.uint8)
    assert astuple(code_sums(i[::3], v)) == exactly(i[::3], v)
    assert [float(x[0]) for x in sums_between(i[::3], v, np.array([1, 999]))] == [
        float(x) for x in exactly(i[::3][1:999], v[1:999])[1:4]
    ]


@pytest.mark.parametrize("cuts", [[0, 5, 5, 9], [0, 7, 3], [-1, 4], [0, 11]])
def test_cuts_that_do_not_rise_or_lie_outside_are_refused(cuts: list[int]) -> None:
    codes = np.arange(10, dtype=np.uint8)
    with pytest.raises(ValueError, match="cuts do not rise, or lie outside the records"):
        sums_between(codes, codes, np.array(cuts))


@given(stretches(), st.integers(1, 40))
def test_sums_of_blocks_and_steps_are_exact(pair: tuple[Codes, Codes], size: int) -> None:
    codes = pair[0]
    whole = [int(c) for c in codes]
    sums = [sum(whole[at : at + size]) for at in range(0, len(whole) - size + 1, size)]
    assert sums_of_blocks(codes, size).tolist() == sums
    varied, squares = scatter(codes)
    assert varied == functools.reduce(operator.or_, (c ^ whole[0] for c in whole))
    assert squares == sum((b - a) ** 2 for a, b in itertools.pairwise(whole))


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_the_largest_block_and_steps_do_not_overflow(dtype: type) -> None:
    top, n = int(np.iinfo(dtype).max), (1 << 17) + 6
    full = np.full(n, top, dtype)
    assert sums_of_blocks(full, n).tolist() == [n * top]
    full[::2] = 0
    assert scatter(full) == (top, (n - 1) * top**2)


def test_the_compiled_loops_refuse_what_they_cannot_sum() -> None:
    compiled = pytest.importorskip("experiments._code_sums", reason="the loops were not compiled")
    codes, out = np.arange(10, dtype=np.uint16), np.empty((3, 1))
    with pytest.raises(TypeError, match="8 or 16 bits"):
        compiled.whole(codes.astype(np.int16), codes)
    with pytest.raises(TypeError, match="8 or 16 bits"):
        compiled.whole(codes.astype(">u2"), codes)
    for other in (codes[1:], codes.astype(np.uint8), np.zeros(20, np.uint8)):
        with pytest.raises(ValueError, match="same width and length"):
            compiled.whole(codes, other)
    with pytest.raises(ValueError, match="contiguous"):
        compiled.whole(codes[::2], codes[::2])
    with pytest.raises(ValueError, match="room for"):
        compiled.between(codes, codes, np.array([0, 4, 9]), out)
    with pytest.raises(ValueError, match="so many blocks"):
        compiled.blocks(codes, 4, out)
    with pytest.raises(ValueError, match="so many blocks"):
        compiled.blocks(codes, 0, out)
    with pytest.raises(TypeError, match="one row of 8 or 16 bits"):
        compiled.scatter(codes.reshape(2, 5))


def test_codes_that_do_not_begin_at_a_whole_word_are_summed() -> None:
    rng = np.random.default_rng(6)
    codes = np.frombuffer(rng.bytes(2001), np.uint8)[1:].view(np.uint16)
    assert astuple(code_sums(codes, codes[::-1])) == exactly(codes, codes[::-1])
    with pytest.raises(ValueError, match="do not make pairs"):
        sums_between(codes, codes[1:], np.array([0, 9]))
