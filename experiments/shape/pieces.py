"""Readings of pieces of two records: their sums, some of them, and the highest product. Pure."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from experiments.code_sums import sums_between
from experiments.moments import scale
from instruments.waveform import Record

Floats = NDArray[np.float64]
Indices = NDArray[np.int64]


def sums(current: Record, voltage: Record, cuts: Indices) -> tuple[Floats, Floats, Floats]:
    """Sums of the readings i v, i and v between each two of `cuts`, rising sample numbers, (k + 1,): (k,) each.

    Those over codes and their products are whole numbers below 2^53, and exact; the scales are applied to them.
    """
    sum_i, sum_v, sum_vi = sums_between(current.codes, voltage.codes, cuts)
    n = cuts[1:] - cuts[:-1]
    a, b = scale(current), scale(voltage)
    vi = (
        a.slope * b.slope * sum_vi
        + a.slope * b.intercept * sum_i
        + a.intercept * b.slope * sum_v
        + a.intercept * b.intercept * n
    )
    return vi, a.slope * sum_i + a.intercept * n, b.slope * sum_v + b.intercept * n


def values(record: Record, at: slice | Indices) -> Floats:
    """Readings of some samples, as `Record.values` gives those of all; none of them is a hole."""
    p = record.preamble
    found = record.codes[at].astype(np.float64)
    found -= p.y_reference
    found *= p.y_increment
    found += p.y_origin
    return found


def value(record: Record, code: int) -> float:
    """Reading of one code, to the bit as `values` gives it."""
    p = record.preamble
    return (code - p.y_reference) * p.y_increment + p.y_origin


def peak(current: Record, voltage: Record, start: int, stop: int) -> tuple[float, float]:
    """Readings of current and voltage in the sample of [start, stop) with the highest product of both.

    Only samples whose current could make it are looked at: with the highest voltage, the product of the highest
    current's sample.
    """
    i, v = current.codes[start:stop], voltage.codes[start:stop]
    top = int(i.argmax())
    a, b = scale(current), scale(voltage)
    reached = value(current, int(i[top])) * value(voltage, int(v[top]))
    most_v = b.slope * int(np.maximum.reduce(v)) + b.intercept
    if min(a.slope, b.slope, reached, most_v) > 0:
        least = (reached / most_v * (1 - 1e-9) - a.intercept) / a.slope  # below by more than doubles round
        at = (i >= min(max(int(least), 0), int(i[top]))).nonzero()[0]
    else:
        at = np.arange(stop - start)
    amps, volts = values(current, start + at), values(voltage, start + at)
    best = int((amps * volts).argmax())
    return float(amps[best]), float(volts[best])
