"""Calibrate both channels of a run against the supply's read-back, from records of the run itself. Pure.

The zero is taken with the output off, the gain while the board does steady work and the supply
reports its output. What the supply promises of these readings (`BenchTerms.read_back`) is the reference.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from calibration.model import Calibration, Channel, Gain, GainTerm, Noise, Offset, ZeroPoint
from calibration.statistics import MeanOfRecord
from instruments.e3645a.ratings import READ_BACK
from instruments.readback import ReadBack
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

LEAST_READINGS = 2
"""Readings of each quantity below which a comparison says nothing about its own scatter."""

RANGE = 3.0
"""Currents up to this many times that of the comparison may be corrected with its gain."""


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
    offset_i = Offset(
        tuple(ZeroPoint(z.t_s, z.current.mean, z.current.u) for z in zeros), terms.drift_u_a, terms.unbracketed_u_a
    )
    offset_v = Offset(tuple(ZeroPoint(z.t_s, z.voltage.mean, z.voltage.u) for z in zeros), 0.0, 0.0)
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


def _specified(limit: float, *others: GainTerm) -> Gain:
    u = limit / math.sqrt(3.0)
    return Gain(1.0, u, 0.0, math.inf, math.inf, -math.inf, math.inf, "makers' limits", others)


def _gains(
    comparisons: Sequence[Comparison], zi: Offset, zv: Offset, noise: Noise, terms: BenchTerms
) -> tuple[Gain, Gain]:
    ratios_i, ratios_v, at_a, at_v, noise_i, noise_v = [], [], [], [], [], []
    for c in comparisons:
        amps, u_amps = _mean(c.reference_a)
        terminal, u_terminal = _mean(c.reference_v)
        volts = terminal - terms.lead_ohm * amps
        if amps <= 0 or volts <= 0:
            raise ValueError(
                f"the supply reads {terminal:.4g} V and {amps:.4g} A while the board works: nothing to compare with"
            )
        ratios_i.append((c.current.mean - zi.at(c.t_s)) / amps)
        ratios_v.append((c.voltage.mean - zv.at(c.t_s)) / volts)
        # The work's own ups and downs are in the scatter of the readings, and in the record no error at all.
        u_i = math.sqrt(noise.current_a2s / c.current.duration_s)
        u_v = math.sqrt(noise.voltage_v2s / c.voltage.duration_s)
        noise_i.append(math.hypot(u_i, u_amps) / amps)
        noise_v.append(math.hypot(u_v, u_terminal) / volts)
        at_a.append(amps)
        at_v.append(volts)
    n = len(comparisons)
    moved_i, moved_v = _moved(ratios_i, noise_i), _moved(ratios_v, noise_v)
    current_a, voltage_v = float(np.mean(at_a)), float(np.mean(at_v))
    u_i = terms.read_back.current.of(current_a) / math.sqrt(3.0) / current_a
    drift = GainTerm("drift of the zero", zi.u_drift / current_a, distribution="normal")
    u_v = terms.read_back.voltage.of(voltage_v) / math.sqrt(3.0) / voltage_v
    leads = (GainTerm(LEADS, terms.lead_u_ohm * current_a / voltage_v, distribution="normal"),)
    dof = float(max(sum(len(c.reference_a) for c in comparisons) - n, 1))
    readings = sum(len(c.reference_a) for c in comparisons)
    of = f"{counted(readings, 'reading')} in {counted(n, 'run')}"
    source = f"supply read-back at {current_a:.3f} A, {voltage_v:.3f} V ({of})"
    root_n = math.sqrt(n)
    return (
        Gain(
            float(np.mean(ratios_i)),
            u_i,
            float(np.mean(noise_i)) / root_n,
            dof,
            current_a,
            -current_a,
            RANGE * current_a,
            source,
            (drift, *moved_i),
            terms.read_back.current,
        ),
        Gain(
            float(np.mean(ratios_v)),
            u_v,
            float(np.mean(noise_v)) / root_n,
            dof,
            voltage_v,
            0.9 * voltage_v,
            1.1 * voltage_v,
            source,
            (*leads, *moved_v),
            terms.read_back.voltage,
        ),
    )


def _moved(ratios: Sequence[float], noise: Sequence[float]) -> tuple[GainTerm, ...]:
    """What a gain did between the comparisons of a run, beyond their own noise: half of it as a limit."""
    half = (max(ratios) - min(ratios)) / 2
    limit_squared = half**2 - float(np.mean(np.square(noise))) / 2
    if limit_squared <= 0:
        return ()
    return (GainTerm("change during the run", math.sqrt(limit_squared / 3) / float(np.mean(ratios))),)


def _mean(readings: Sequence[float]) -> tuple[float, float]:
    values = np.array(readings, dtype=np.float64)
    return float(values.mean()), float(values.std(ddof=1)) / math.sqrt(len(values))
