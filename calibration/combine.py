"""A run's own comparison with the supply and a calibration record, weighed into one correction. Pure.

The zero is always the run's own. Of the gain there are two estimates: that of the run, through its own zero at one
load, and the record's, a slope over many. The constant part of the read-back's limit is in the first alone: a slope
knows nothing of its reference's zero. Where both were found against a supply's read-back they share the relative part,
which no weighing makes smaller; what they do not share decides the weights and the test whether they agree. That is
E_n <= 1 (ISO/IEC 17043) for each of the run's comparisons, with a U that holds 99.9 % by propagating the distributions:
of limits, which two sigma of their sum would exceed in 3 of 100 honest cases. Where one does not, something has changed
since the record was made, and the run's own comparisons stand alone; so they do where a comparison lies beyond what
the record was found for. Where both hold, the correction may be used as far as either of them. What the gain did
between the comparisons (`CHANGE`) is no part of the test, nor of the weights, and stays in the sum whole, and the more
so the more a record weighs (`_kept`).

What the supply's leads drop is in a run's comparison of the voltage, and not in the record's slope, which was found
with nothing connected: its uncertainty stays in the sum by the run's share. But the leads' resistance may come from
that very record, which divided by its slope: through a resistor a slope that is too high by a share d makes the leads'
drop too high by d of the voltage, and the run's gain too high by as much times the ratio of both loads. That ratio is
not in the record; the part of the drop's uncertainty that comes from the slope cannot exceed the whole, so that both
count as fully correlated: 2 share rest u(leads) u(slope) is added to the sum of squares. The test of agreement leaves
it out and so is milder by less than u(slope). The relative limit of the current's read-back is in the resistance and,
the other way round, in the current that it is multiplied with: it is counted once too often, which does no harm. Where
no record is weighed the run's own term stands as it is; where a record stands alone, no leads are in it.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import NamedTuple

from calibration.in_situ import CERTAIN, CHANGE, LEADS, ZERO_OF_READBACK, chance, rectangular, scattered
from calibration.model import Calibration, Channel, Gain, GainTerm
from calibration.propagation import half_width
from calibration.records import ProbeRecord, VoltageRecord


@dataclass(frozen=True)
class Weighed:
    """A gain, and what the weighing had to say."""

    gain: Gain
    note: str
    agrees: bool = True


@dataclass(frozen=True)
class Disagreement:
    """A record of a channel whose gain and a run's own comparison contradict each other: E_n > 1."""

    channel: str
    record: float
    own: float
    e_n: float
    which: str = ""
    """Of several comparisons, the one that contradicts the record most."""

    def __str__(self) -> str:
        return (
            f"gain {self.record:.5f} of the {self.channel} by the record and {self.own:.5f} by this run's own "
            f"comparison with the supply{self.which} are {(self.own / self.record - 1) * 100:+.2f} % apart, "
            f"E_n = {self.e_n:.2f}"
        )


def disagreements(
    calibration: Calibration, probe: ProbeRecord | None, voltage: VoltageRecord | None
) -> dict[str, Disagreement]:
    """The records, by their kind, that a run's own calibration contradicts, so that they are not used."""
    found: dict[str, Disagreement] = {}
    for name, channel, record in (  # one that does not hold there cannot be contradicted there
        ("current", calibration.current, probe),
        ("voltage", calibration.voltage, voltage),
    ):
        own = channel.gain
        if record is None or own.limits is None or beyond(record, own) is not None:
            continue
        compared = _worst(own, record)
        if compared.e_n > 1:
            which = f" ({own.each.index(compared.own) + 1} of {len(own.each)})" if len(own.each) > 1 else ""
            found[record.kind] = Disagreement(name, record.gain.value, compared.own.value, compared.e_n, which)
    return found


def beyond(record: ProbeRecord | VoltageRecord, own: Gain) -> float | None:
    """Where a run compared its channel and a record does not hold: the first such value; None where it always holds."""
    if own.limits is None:
        return None
    valid = record.valid_a if isinstance(record, ProbeRecord) else record.valid_v
    return next((one.at for one in own.each or (own,) if not valid.low <= one.at <= valid.high), None)


def with_records(
    calibration: Calibration, probe: ProbeRecord | None, voltage: VoltageRecord | None
) -> tuple[Calibration, list[str]]:
    """Let records take part in a run's calibration; gives it, and notes for the reader."""
    notes = []
    current, volts = calibration.current, calibration.voltage
    linearity, linear_to_a = calibration.linearity, calibration.linear_to_a
    if probe is not None:
        weighed = _weigh(current, probe, probe.valid_a.low, probe.valid_a.high)
        notes.append(f"current: {weighed.note}")
        current = replace(current, gain=weighed.gain)
        if weighed.agrees:
            linearity, linear_to_a = probe.linearity, probe.valid_a.high
    if voltage is not None:
        weighed = _weigh(volts, voltage, voltage.valid_v.low, voltage.valid_v.high)
        notes.append(f"voltage: {weighed.note}")
        volts = replace(volts, gain=weighed.gain)
    changed = replace(calibration, current=current, voltage=volts, linearity=linearity, linear_to_a=linear_to_a)
    return changed, notes


def _weigh(channel: Channel, record: ProbeRecord | VoltageRecord, low: float, high: float) -> Weighed:
    own, slope = channel.gain, record.gain
    u_fit, u_stable = slope.u / slope.value, record.stability / math.sqrt(3.0)
    stability = GainTerm("stability since its calibration", u_stable)
    shares_leads = isinstance(record, VoltageRecord) and record.lead_ohm is not None
    shares_reference = record.reference.kind == "read-back"
    u_of_record = record.reference.relative_limit / math.sqrt(3.0)
    made = f"calibration of {record.made:%Y-%m-%d}"
    if own.limits is None:
        alone = Gain(slope.value, u_of_record, u_fit, slope.degrees, math.inf, low, high, made, (stability,))
        return Weighed(alone, f"no comparison in this run; {made} alone, gain {slope.value:.5f}")
    if (at := beyond(record, own)) is not None:
        unit = "A" if isinstance(record, ProbeRecord) else "V"
        return Weighed(
            own,
            f"{made} holds from {low:.4g} to {high:.4g} {unit}, and this run was compared with the supply at "
            f"{at:.4g} {unit}: it is not used",
            agrees=False,
        )
    compared = _worst(own, record)
    at_most = "at most " if len(own.each) > 1 else ""
    apart = f"{at_most}{compared.apart * 100:+.2f} % apart, E_n = {compared.e_n:.2f}"
    found = f"{made} {slope.value:.5f}, this run {own.value:.5f}: {apart}"
    if compared.e_n > 1:
        return Weighed(
            own, f"{found}: they do not agree, so that the record is not used; has the clamp moved?", agrees=False
        )
    u_offset, u_own, u_record = _unshared(own, record)
    share = u_record**2 / (u_own**2 + u_record**2) if u_own or u_record else 0.5
    rest = 1 - share
    others = [
        GainTerm(ZERO_OF_READBACK, share * u_offset),
        *(_kept(term, share, rest * u_fit if shares_leads and term.name == LEADS else 0.0) for term in own.others),
        replace(stability, u=rest * u_stable),
    ]
    if shares_reference:
        reference = max(own.limits.relative, record.reference.relative_limit) / math.sqrt(3.0)
    else:
        reference = share * own.limits.relative / math.sqrt(3.0)
        others.append(GainTerm("reference of its calibration", rest * u_of_record))
    parts = ((share * own.u_noise, own.dof), (rest * u_fit, slope.degrees))
    noise = math.hypot(*(u for u, _ in parts))
    spread = sum(u**4 / dof for u, dof in parts if u > 0)
    gain = Gain(
        share * own.value + rest * slope.value,
        reference,
        noise,
        noise**4 / spread if spread > 0 else math.inf,
        own.at / share if share > 0 else math.inf,
        min(low, own.low),
        max(high, own.high),
        f"{own.source}, weight {share * 100:.0f} %, and {made}",
        tuple(others),
        own.limits,
        own.each,
    )
    return Weighed(gain, f"{found}; weights {share * 100:.0f} % of this run and {rest * 100:.0f} % of the record")


class _Compared(NamedTuple):
    """A comparison of a run beside a record's gain: which, how far they are apart, relative, and E_n."""

    own: Gain
    apart: float
    e_n: float


def _worst(own: Gain, record: ProbeRecord | VoltageRecord) -> _Compared:
    """Test whether each of a run's comparisons with the supply agrees with a record; the one that does so least.

    One by one: in their mean a clamp that moved between them is half as far off, and what moved would excuse itself.
    """
    return max((_compare(one, record) for one in own.each or (own,)), key=lambda compared: compared.e_n)


def _compare(own: Gain, record: ProbeRecord | VoltageRecord) -> _Compared:
    assert own.limits is not None
    slope, reference = record.gain, record.reference
    parts = [
        *chance(own),
        scattered(slope.u / slope.value, slope.degrees),
        rectangular(own.limits.absolute / own.at),
        rectangular(record.stability),
    ]
    if reference.kind != "read-back":
        parts += [rectangular(own.limits.relative), rectangular(reference.relative_limit)]
    apart = own.value / slope.value - 1
    u = half_width(parts, CERTAIN)
    return _Compared(own, apart, abs(apart) / u if u > 0 else math.inf if apart else 0.0)


def _unshared(own: Gain, record: ProbeRecord | VoltageRecord) -> tuple[float, float, float]:
    """What a run's gain and a record's do not share: relative u of the read-back's constant, of the run, of the record.

    What the gain did during the run makes neither of them worse than the other.
    """
    assert own.limits is not None
    u_offset = own.limits.absolute / math.sqrt(3.0) / own.at
    u_own = math.hypot(u_offset, own.u_noise, *(term.u for term in own.others if term.name != CHANGE))
    u_record = math.hypot(record.gain.u / record.gain.value, record.stability / math.sqrt(3.0))
    if record.reference.kind != "read-back":
        u_own = math.hypot(u_own, own.limits.relative / math.sqrt(3.0))
        u_record = math.hypot(u_record, record.reference.relative_limit / math.sqrt(3.0))
    return u_offset, u_own, u_record


def _kept(term: GainTerm, share: float, with_other: float) -> GainTerm:
    """What is left of a term that counts by its share; of what is `with_other` it counts as fully correlated.

    What the gain did during the run stays whole: no weight makes it smaller. It is half of the way from the first to
    the last comparison, about their middle; a record may tell one of the ends, so that what is weighed with it lies off
    the middle by its share of the same half.
    """
    if term.name == CHANGE:
        return replace(term, u=term.u * (2.0 - share))
    u = share * term.u
    return replace(term, u=math.sqrt(u * (u + 2 * with_other)) if with_other else u)
