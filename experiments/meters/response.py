"""What kind of meter a sensor is, from what it told while the power moved in steps that we recorded too. Pure.

A reading at time t is taken for g times the mean power over [t - delay - window, t - delay], plus an offset. Delay and
window are those with which the readings of all trains agree best with our record; g and the offset come from a
straight line at each. For an energy counter the readings are the mean powers between its renewals, and the window is
the time between these.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from experiments.meters.pollers import Power

Floats = NDArray[np.float64]

FEWEST = 8
"""Readings below which nothing is concluded."""

_DELAYS_S = np.concatenate((np.arange(0.0, 0.3, 0.002), np.arange(0.3, 1.2, 0.01)))
_FINELY = np.linspace(0.93, 1.07, 29)
_WINDOWS_S = np.concatenate((np.array([1e-4]), np.geomspace(2e-3, 1.5, 90)))


@dataclass(frozen=True)
class Series:
    """What a sensor told during one record: times by the record's clock (s) and values (W, or J of a counter).

    `reads` counts how often it was asked; where equal values were dropped there are more of these than values.
    """

    power: Power
    t_s: Floats
    values: Floats
    reads: int


@dataclass(frozen=True)
class Response:
    """What a sensor turned out to be; times in s, the offset in W.

    `renewal_s` is the usual time between new values, `delay_s` how old the end of what a value stands for is when it
    is first seen, `window_s` over how long it is averaged, `unseen` the part of the time that no value stands for,
    `stale_s` how old the middle of what is read is on average. `gain` and `offset_w` compare it with our record;
    `residual_w` is what the model leaves unexplained, of `swing_w`, the scatter of the readings.
    """

    readings: int
    renewal_s: float
    delay_s: float
    window_s: float
    unseen: float
    stale_s: float
    gain: float
    offset_w: float
    residual_w: float
    swing_w: float

    @property
    def explained(self) -> float:
        """Part of the readings' variance that the model explains."""
        return 1 - (self.residual_w / self.swing_w) ** 2 if self.swing_w > 0 else math.nan


def respond(series: Sequence[Series], *, is_counter: bool = False) -> Response | None:
    """Find out what a sensor is; None where it told too little, or never moved.

    What is no reading is left out: no numbers, times that do not go forward, and a counter that fell, as one that began
    anew.
    """
    usable = [s for s in map(_sound, series) if s.t_s.size > 1]
    if not usable:
        return None
    renewals = np.concatenate([_renewals(s) for s in usable])
    if not renewals.size:
        return None
    renewal_s = float(np.median(renewals))
    if is_counter:
        values = np.concatenate([(np.diff(s.values) / np.diff(s.t_s))[_counts(s)] for s in usable])
    else:
        values = np.concatenate([s.values for s in usable])
    swing_w = float(values.std())
    if values.size < FEWEST or swing_w == 0:
        return None
    best: tuple[float, float, float, float, float] | None = None
    windows_s = np.zeros(1) if is_counter else _WINDOWS_S
    while windows_s.size:
        for window_s in windows_s:
            found = _best_line(_models(usable, float(window_s), is_counter), values)
            if found is not None and (best is None or found[2] < best[2]):
                gain, offset_w, residual_w, at = found
                best = gain, offset_w, residual_w, float(_DELAYS_S[at]), float(window_s)
        if best is None:
            return None
        # Once more, finely, about the best of the coarse steps.
        windows_s = best[4] * _FINELY if windows_s is _WINDOWS_S else np.zeros(0)
    assert best is not None
    gain, offset_w, residual_w, delay_s, window_s = best
    if is_counter:
        window_s = renewal_s
    return Response(
        int(values.size),
        renewal_s,
        delay_s,
        window_s,
        max(0.0, 1 - window_s / renewal_s) if renewal_s > 0 else 0.0,
        delay_s + window_s / 2 + renewal_s / 2,
        gain,
        offset_w,
        residual_w,
        swing_w,
    )


def _sound(series: Series) -> Series:
    """The readings that are numbers and came after those before."""
    kept = np.isfinite(series.t_s) & np.isfinite(series.values)
    t_s = series.t_s[kept]
    forward = np.diff(np.maximum.accumulate(t_s), prepend=-np.inf) > 0 if t_s.size else np.zeros(0, bool)
    return replace(series, t_s=t_s[forward], values=series.values[kept][forward])


def _counts(series: Series) -> NDArray[np.bool_]:
    """Between which of its readings a counter went on, (readings - 1,)."""
    return np.asarray(np.diff(series.values) >= 0)


def _renewals(series: Series) -> Floats:
    """Times between values that differ."""
    new = np.concatenate(([True], np.diff(series.values) != 0))
    return np.asarray(np.diff(series.t_s[new]))


def _models(series: Sequence[Series], window_s: float, is_counter: bool) -> Floats:
    """What readings would be without gain and offset, for each delay; (delays, readings)."""
    late = _DELAYS_S[:, None]
    parts = []
    for s in series:
        ends = s.t_s[1:][_counts(s)] if is_counter else s.t_s
        begins = s.t_s[:-1][_counts(s)] if is_counter else s.t_s - window_s
        parts.append(s.power.mean(begins - late, ends - late))
    return np.concatenate(parts, axis=1)


def _best_line(models: Floats, values: Floats) -> tuple[float, float, float, int] | None:
    """Straight line of the values over the model that fits best: slope, intercept, residual scatter, which model.

    None where no model rises with the values.
    """
    x = models - models.mean(axis=1, keepdims=True)
    y = values - values.mean()
    spread = (x * x).mean(axis=1)
    slopes = np.divide((x * y).mean(axis=1), spread, out=np.zeros_like(spread), where=spread > 0)
    residuals = np.where(slopes > 0, np.sqrt(((y - slopes[:, None] * x) ** 2).mean(axis=1)), np.inf)
    at = int(np.argmin(residuals))
    if not np.isfinite(residuals[at]):
        return None
    slope = float(slopes[at])
    return slope, float(values.mean() - slope * models[at].mean()), float(residuals[at]), at
