"""Exact sums over one stretch of a capture, and the mean power that they and a calibration give. Pure."""

from __future__ import annotations

import functools
import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from calibration.model import Channel
from experiments.capture_data import ReductionError
from experiments.code_sums import LARGEST_BLOCK, code_sums, scatter
from instruments.waveform import Codes, Preamble, Record

SAMPLED = 4096
"""Samples of a stretch from which the distance of codes is judged, and how well noise spreads them."""


@dataclass(frozen=True)
class Scale:
    """Affine scale of integer codes: reading = slope x code + intercept."""

    slope: float
    intercept: float


@dataclass(frozen=True)
class Moments:
    """Exact sums over the codes of one stretch of a capture: n, sum i, sum v, sum v i; distances of codes.

    `ripple_i`, `ripple_v` say how much codes scatter from sample to sample (standard deviation, codes), 0 with the
    distances where that was not looked at; `highest_i` is the current's highest code.
    """

    n: int
    sum_i: int
    sum_v: int
    sum_vi: int
    dt_s: float
    scale_i: Scale
    scale_v: Scale
    step_i: int
    step_v: int
    ripple_i: float = 0.0
    ripple_v: float = 0.0
    highest_i: int = 0

    @property
    def duration_s(self) -> float:
        """Length of the stretch."""
        return self.n * self.dt_s

    @property
    def mean_i(self) -> float:
        """Mean current reading, A, uncorrected."""
        return self.scale_i.slope * (self.sum_i / self.n) + self.scale_i.intercept

    @property
    def mean_v(self) -> float:
        """Mean voltage reading, V, uncorrected."""
        return self.scale_v.slope * (self.sum_v / self.n) + self.scale_v.intercept

    @property
    def mean_vi(self) -> float:
        """Mean of the product of both readings, V A, uncorrected."""
        i, v, vi = self.sum_i / self.n, self.sum_v / self.n, self.sum_vi / self.n
        a, b = self.scale_i.slope, self.scale_i.intercept
        c, d = self.scale_v.slope, self.scale_v.intercept
        return a * c * vi + a * d * i + b * c * v + b * d


def moments(
    current: Record, voltage: Record, start: int, stop: int, block: int = LARGEST_BLOCK, *, rounded: bool = True
) -> Moments:
    """Sum the codes of samples [start, stop) exactly, in pieces of at most `block` samples.

    With `rounded` it is also looked at how well noise spreads the codes (`Moments.step_i` and so on). The sums are
    whole numbers, so that they are the same for any block. Raises ReductionError on holes or clipped codes, and
    ValueError for a block outside 1 .. 131 072.
    """
    if stop <= start:
        raise ReductionError("the window holds no samples")
    i, v = current.codes[start:stop], voltage.codes[start:stop]
    sums = code_sums(i, v, block)
    for name, record, lowest, highest in (
        ("current", current, sums.lowest_i, sums.highest_i),
        ("voltage", voltage, sums.lowest_v, sums.highest_v),
    ):
        unit = 0x100 if record.codes.dtype == np.uint16 else 1
        if unit < lowest and highest < 0xFF * unit:
            continue
        holes = int(record.holes()[start:stop].sum())
        clipped = int(record.clipped()[start:stop].sum())
        if holes:
            raise ReductionError(f"{holes} samples of the {name} are holes that the oscilloscope did not fill", "holes")
        if clipped:
            raise ReductionError(
                f"{clipped} samples of the {name} are clipped: widen its span in lab.yaml (wiring.{name})", "clipped"
            )
    return Moments(
        stop - start,
        sums.sum_i,
        sums.sum_v,
        sums.sum_vi,
        current.preamble.x_increment_s,
        scale(current),
        scale(voltage),
        *(_spread(i, v) if rounded else (0, 0, 0.0, 0.0)),
        sums.highest_i,
    )


def joined(stretches: Sequence[Moments]) -> Moments:
    """Add the sums of stretches on one scale: whole numbers, so that nothing is lost."""
    first = stretches[0]
    return replace(
        first,
        n=sum(m.n for m in stretches),
        sum_i=sum(m.sum_i for m in stretches),
        sum_v=sum(m.sum_v for m in stretches),
        sum_vi=sum(m.sum_vi for m in stretches),
        highest_i=max(m.highest_i for m in stretches),
    )


def scale(record: Record) -> Scale:
    """Give the affine scale of a record's codes from its preamble."""
    return _scale(record.preamble)


@functools.lru_cache(maxsize=64)
def _scale(p: Preamble) -> Scale:
    """Preambles of one run are nearly all alike."""
    return Scale(p.y_increment, p.y_origin - p.y_reference * p.y_increment)


def code_step(codes: Codes) -> int:
    """Distance of neighbouring codes: HRES and 8-bit data leave low bits of a word at zero.

    The largest power of two of which all differences are multiples; 1 for a flat line.
    """
    return _lowest_bit(codes) or 1


def _spread(i: Codes, v: Codes) -> tuple[int, int, float, float]:
    """Distances of codes, and their scatter from sample to sample; by a stretch's start."""
    (step_i, ripple_i), (step_v, ripple_v) = _spread_of(i), _spread_of(v)
    return step_i, step_v, ripple_i, ripple_v


def _spread_of(codes: Codes) -> tuple[int, float]:
    """The distance is by all of a stretch whose start does not move, and of a flat line the most that its only code
    allows: words of an 8-bit converter are 256 apart. Slower changes of the signal count little in the scatter."""
    start = codes[:SAMPLED]
    varied, squares = scatter(start)
    ripple = math.sqrt(squares / (len(start) - 1) / 2) if len(start) > 1 else 0.0
    return varied & -varied or _lowest_bit(codes) or _of_flat(codes), ripple


def _of_flat(codes: Codes) -> int:
    code = int(codes[0])
    return min(code & -code, 0x100) or 1 if codes.dtype == np.uint16 else 1


def _lowest_bit(codes: Codes) -> int:
    """Lowest bit in which codes differ; 0 where none does."""
    varied = int(np.bitwise_or.reduce(codes ^ codes[0]))
    return varied & -varied


def corrected_power_w(m: Moments, current: Channel, voltage: Channel, at_s: float) -> float:
    """Mean power over a stretch with both channels corrected, W."""
    zi, zv = current.offset.at(at_s), voltage.offset.at(at_s)
    product = m.mean_vi - zi * m.mean_v - zv * m.mean_i + zi * zv
    return product / (current.gain.value * voltage.gain.value)
