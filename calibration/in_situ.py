"""Calibrate both channels of a run against the supply's read-back, from records of the run itself. Pure.

The zero is taken with the output off, the gain while the board does steady work and the supply
reports its output. What the supply promises of these readings (`BenchTerms.read_back`) is the reference.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np

from calibration.budget import student_t
from calibration.model import Calibration, Channel, Gain, GainTerm, Noise, Offset, ZeroPoint
from calibration.propagation import Part, half_width
from calibration.statistics import MeanOfRecord
from instruments.e3645a.ratings import READ_BACK
from instruments.readback import Limits, ReadBack
from instruments.wording import counted

PROBE_GAIN_LIMIT = {0.1: 0.03, 0.01: 0.04}
"""Limits of the 1146B's gain by range in V/A, after its zero is removed (1146B manual p.18, 21)."""

SCOPE_GAIN_LIMIT = 0.03
"""Limit of the vertical gain used where a channel was not compared with anything (unconfirmed)."""

TIMEBASE_LIMIT = 5.0e-5
"""Relative limit of the oscilloscope's timebase (unconfirmed)."""


ZERO_OF_READBACK = "zero of the read-back"
"""Name of the term of a weighed gain that the constant part of the read-back's limit leaves."""

LEADS = "leads"
"""Name of the term of the voltage's gain that what the leads drop leaves."""

CHANGE = "change during the run"
"""Name of the term that the difference of a run's comparisons leaves: what the channel did meanwhile."""

LEAST_READINGS = 2
"""Readings of each quantity below which a comparison says nothing about its own scatter."""

RANGE = 3.0
"""Currents up to this many times that of the comparison may be corrected with its gain."""

CHANGE_SHARE = 0.005
"""Relative change of a gain between the comparisons of a run below which it is no contradiction: a limit in the ± is
enough for what a calibration record allows a gain until it expires."""

TWO_SIGMA = 0.9545

CERTAIN = 0.999
"""Probability of the interval beyond which two gains contradict each other (docs/decisions/0030)."""


@dataclass(frozen=True)
class BenchTerms:
    """What lab.yaml says about the bench that the calibration needs.

    Currents in A, resistances in ohm. `lead_ohm` is the resistance between the supply's sense point
    and the board, 0 with remote sense.
    """

    probe_range_v_per_a: float
    drift_u_a: float
    unbracketed_u_a: float
    residual_a: float
    lead_ohm: float
    lead_u_ohm: float
    linearity: float
    read_back: ReadBack = READ_BACK


@dataclass(frozen=True)
class Zero:
    """Both channels with the output off, at host time t_s."""

    t_s: float
    current: MeanOfRecord
    voltage: MeanOfRecord


@dataclass(frozen=True)
class Comparison:
    """Both channels during steady work, at host time t_s, and what the supply read meanwhile."""

    t_s: float
    current: MeanOfRecord
    voltage: MeanOfRecord
    reference_a: tuple[float, ...]
    reference_v: tuple[float, ...]


def calibrate(zeros: Sequence[Zero], comparisons: Sequence[Comparison], terms: BenchTerms) -> Calibration:
    """Find offset and gain of both channels.

    Without a comparison the gains stand at 1 within the makers' limits, and the budget says so.
    Raises ValueError when there is no zero at all.
    """
    if not zeros:
        raise ValueError("no zero was taken: neither offset nor noise of the channels is known")
    offset_i = Offset(tuple(_point(z.t_s, z.current) for z in zeros), terms.drift_u_a, terms.unbracketed_u_a)
    offset_v = Offset(tuple(_point(z.t_s, z.voltage) for z in zeros), 0.0, 0.0)
    noise = Noise(
        float(np.mean([z.current.density for z in zeros])),
        float(np.mean([z.voltage.density for z in zeros])),
        sum(z.current.dof for z in zeros),
    )
    usable = [c for c in comparisons if min(len(c.reference_a), len(c.reference_v)) >= LEAST_READINGS]
    if usable:
        gain_i, gain_v = _gains(usable, offset_i, offset_v, noise, terms)
    else:
        oscilloscope = GainTerm("oscilloscope", SCOPE_GAIN_LIMIT / math.sqrt(3.0))
        gain_i = _specified(PROBE_GAIN_LIMIT[terms.probe_range_v_per_a], oscilloscope)
        gain_v = _specified(SCOPE_GAIN_LIMIT)
    return Calibration(
        Channel("current", "A", offset_i, gain_i),
        Channel("voltage", "V", offset_v, gain_v),
        noise,
        terms.residual_a,
        TIMEBASE_LIMIT,
        terms.linearity,
    )


def _point(t_s: float, seen: MeanOfRecord) -> ZeroPoint:
    return ZeroPoint(t_s, seen.mean, seen.u, seen.rounding)


def _specified(limit: float, *others: GainTerm) -> Gain:
    u = limit / math.sqrt(3.0)
    return Gain(1.0, u, 0.0, math.inf, math.inf, -math.inf, math.inf, "makers' limits", others)


def _gains(
    comparisons: Sequence[Comparison], zi: Offset, zv: Offset, noise: Noise, terms: BenchTerms
) -> tuple[Gain, Gain]:
    currents, voltages = [], []
    for c in comparisons:
        amps, u_amps = _mean(c.reference_a)
        terminal, u_terminal = _mean(c.reference_v)
        volts = terminal - terms.lead_ohm * amps
        if amps <= 0 or volts <= 0:
            raise ValueError(
                f"the supply reads {terminal:.4g} V and {amps:.4g} A while the board works: nothing to compare with"
            )
        # The work's own ups and downs are in the scatter of the readings, and in the record no error at all.
        u_i = math.hypot(math.sqrt(noise.current_a2s / c.current.duration_s), u_amps)
        u_v = math.hypot(math.sqrt(noise.voltage_v2s / c.voltage.duration_s), u_terminal)
        currents.append(_Found((c.current.mean - zi.at(c.t_s)) / amps, u_i / amps, amps, len(c.reference_a)))
        voltages.append(_Found((c.voltage.mean - zv.at(c.t_s)) / volts, u_v / volts, volts, len(c.reference_v)))
    current_a = float(np.mean([f.at for f in currents]))
    voltage_v = float(np.mean([f.at for f in voltages]))
    readings = sum(f.readings for f in currents)
    of = f"{counted(readings, 'reading')} in {counted(len(comparisons), 'run')}"
    source = f"supply read-back at {current_a:.3f} A, {voltage_v:.3f} V ({of})"

    def drift(at_a: float) -> GainTerm:
        return GainTerm("drift of the zero", zi.u_drift / at_a, distribution="normal")

    def leads(at_v: float) -> GainTerm:
        return GainTerm(LEADS, terms.lead_u_ohm * current_a / at_v, distribution="normal")

    return (
        _averaged(currents, terms.read_back.current, drift, (-1.0, RANGE), source),
        _averaged(voltages, terms.read_back.voltage, leads, (0.9, 1.1), source),
    )


class _Found(NamedTuple):
    """One comparison of a channel: reading over reference, relative u of its scatter, the reference, its readings."""

    ratio: float
    u_noise: float
    at: float
    readings: int


def _averaged(
    found: Sequence[_Found], limits: Limits, term: Callable[[float], GainTerm], valid: tuple[float, float], source: str
) -> Gain:
    """The mean of comparisons, and beside it each of them; `valid` is where it may be used, over the mean reference."""

    def gain(value: float, u_noise: float, dof: float, at: float) -> Gain:
        u = limits.of(at) / math.sqrt(3.0) / at
        return Gain(value, u, u_noise, dof, at, valid[0] * at, valid[1] * at, source, (term(at),), limits)

    n, ratios, noise = len(found), [f.ratio for f in found], [f.u_noise for f in found]
    dof = float(max(sum(f.readings for f in found) - n, 1))
    whole = gain(
        float(np.mean(ratios)), float(np.mean(noise)) / math.sqrt(n), dof, float(np.mean([f.at for f in found]))
    )
    each = tuple(gain(f.ratio, f.u_noise, float(f.readings - 1), f.at) for f in found)
    return replace(whole, others=(*whole.others, *_moved(ratios, noise)), each=each)


def _moved(ratios: Sequence[float], noise: Sequence[float]) -> tuple[GainTerm, ...]:
    """What a gain did between the comparisons of a run, beyond their own noise: half of it as a limit."""
    half = (max(ratios) - min(ratios)) / 2
    limit_squared = half**2 - float(np.mean(np.square(noise))) / 2
    if limit_squared <= 0:
        return ()
    return (GainTerm(CHANGE, math.sqrt(limit_squared / 3) / float(np.mean(ratios))),)


def _mean(readings: Sequence[float]) -> tuple[float, float]:
    values = np.array(readings, dtype=np.float64)
    return float(values.mean()), float(values.std(ddof=1)) / math.sqrt(len(values))


@dataclass(frozen=True)
class Changed:
    """A channel whose comparisons in one run contradict each other: gains at first and at last, and the U of that."""

    channel: str
    first: float
    last: float
    u: float

    def __str__(self) -> str:
        return (
            f"the gain of the {self.channel} went from {self.first:.5f} to {self.last:.5f} "
            f"({(self.last / self.first - 1) * 100:+.2f} %, of which {self.u * 100:.2f} % may be chance) between this "
            "run's own comparisons with the supply"
        )


def changes(calibration: Calibration) -> list[Changed]:
    """The channels whose gain changed during a run by more than its comparisons leave unsure, and enough to matter.

    What two comparisons share with the same read-back cancels: the relative part of its limit, and the constant part
    as far as both loads are alike.
    """
    found = []
    for channel in (calibration.current, calibration.voltage):
        gain, each = channel.gain, channel.gain.each
        if gain.limits is None or len(each) < 2:
            continue
        a, b = (pick(each, key=lambda one: one.value) for pick in (min, max))
        apart = abs(1 / a.at - 1 / b.at)
        limits = [gain.limits.step / 2 / a.at, gain.limits.step / 2 / b.at, gain.limits.absolute * apart]
        if channel is calibration.current:
            limits += [calibration.bow_a(one.at) / one.at for one in (a, b)]
        parts = [*chance(a), *chance(b), *(rectangular(one) for one in limits)]
        u = half_width(parts, CERTAIN)
        if b.value / a.value - 1 > max(u, CHANGE_SHARE):
            first, last = (a, b) if each.index(a) < each.index(b) else (b, a)
            found.append(Changed(channel.name, first.value, last.value, u))
    return found


def chance(gain: Gain) -> list[Part]:
    """What a comparison finds anew each time: its scatter, and the terms beside it but for the change of the run."""
    terms: list[Part] = [(t.distribution, t.u, math.inf) for t in gain.others if t.name != CHANGE]
    return [scattered(gain.u_noise, gain.dof), *terms]


def scattered(u: float, dof: float) -> Part:
    """A normal error as wide as the t of few degrees of freedom at two sigma.

    Its far tails would excuse everything: of one degree of freedom 99.9 % lie within 637 u.
    """
    return "normal", u * student_t(TWO_SIGMA, dof) / 2.0, math.inf


def rectangular(limit: float) -> Part:
    """An error anywhere within a limit."""
    return "rectangular", limit / math.sqrt(3.0), math.inf
