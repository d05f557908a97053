"""A record and a run's own comparison, weighed: known truths must lie within what comes out."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest

from calibration.budget import Budget, Component
from calibration.combine import disagreements, with_records
from calibration.in_situ import CHANGE, changes
from calibration.model import Calibration, Channel, Gain, GainTerm, Noise, Offset, ZeroPoint
from calibration.records import Estimate, ProbeRecord, Span
from instruments.e3645a.ratings import READ_BACK
from tests.worlds import shipped_lab

from .events import SHUNT, probe, voltage

LAB = shipped_lab()
AT_A = 0.8


def own(value: float, at_a: float = AT_A, noise: float = 2e-4, drift: float = 1e-3) -> Calibration:
    """What a run found against the supply at a load; `drift` is relative."""
    relative, absolute, _ = READ_BACK.current
    u = (relative * at_a + absolute) / math.sqrt(3.0) / at_a
    offset = Offset((ZeroPoint(0.0, 0.0, 1e-4),), 0.0, 0.0)
    terms = (GainTerm("drift of the zero", drift, distribution="normal"),)
    gain = Gain(value, u, noise, 9.0, at_a, -at_a, 3 * at_a, "supply read-back", terms, READ_BACK.current)
    volts = Gain(1.0, 5e-4, 1e-5, 9.0, 12.0, 10.8, 13.2, "supply read-back", (), READ_BACK.voltage)
    return Calibration(
        Channel("current", "A", offset, gain),
        Channel("voltage", "V", offset, volts),
        Noise(0, 0, 9.0),
        1e-3,
        5e-5,
        1e-3,
    )


def interval(gain: Gain) -> float:
    """Half-width of the gain's 95 % interval, relative."""
    parts = [
        Component("reference", gain.u_reference, 1.0, "1", distribution="rectangular"),
        Component("noise", gain.u_noise, 1.0, "1", gain.dof),
        *(Component(t.name, t.u, 1.0, "1", t.dof, t.distribution) for t in gain.others),
    ]
    return Budget("gain", gain.value, "1", tuple(parts)).expanded()


def test_without_records_nothing_changes() -> None:
    assert with_records(own(1.0), None, None) == (own(1.0), [])


@pytest.mark.parametrize("at_a", [0.15, 0.8, 1.3])
def test_together_they_know_more_than_either(at_a: float) -> None:
    record = probe(LAB, gain=1.010)
    alone = own(1.011, at_a)
    found, (note,) = with_records(alone, record, None)
    gain = found.current.gain
    assert 1.010 < gain.value < 1.011
    assert interval(gain) < interval(alone.current.gain)
    of_record = with_records(replace(alone, current=replace(alone.current, gain=specified())), record, None)[0]
    assert interval(gain) < 1.02 * interval(of_record.current.gain)  # of a flat distribution 95 % lie closer
    assert "E_n = " in note
    # The smaller the load, the less the read-back's 5 mA let the run say.
    assert (gain.value < 1.0105) is (at_a < 1)
    assert gain.at > at_a
    assert (found.linearity, found.linear_to_a) == (record.linearity, record.valid_a.high)


def specified() -> Gain:
    return Gain(1.0, 0.02, 0.0, math.inf, math.inf, -math.inf, math.inf, "makers' limits")


def test_what_both_share_is_never_weighed_away() -> None:
    """The read-back's relative limit is in both: a perfect record and a perfect run still have it."""
    record = probe(LAB, gain=1.0, u=1e-9, stability=0.0, valid_a=Span(low=0.0, high=200.0))
    gain = with_records(own(1.0, 100.0, noise=1e-9, drift=0.0), record, None)[0].current.gain
    assert gain.u_reference == pytest.approx(0.0015 / math.sqrt(3.0), rel=0.02)
    by_shunt = probe(LAB, gain=1.0, u=1e-9, stability=0.0, reference=SHUNT)
    assert interval(with_records(own(1.0), by_shunt, None)[0].current.gain) < 0.0005


def test_a_record_that_contradicts_the_run_is_not_used() -> None:
    alone = own(1.05)
    found, (note,) = with_records(alone, probe(LAB, gain=1.0), None)
    assert found.current == alone.current
    assert found.linear_to_a is None
    assert "do not agree" in note


def shares_refused(moved: float, seed: int, trials: int = 2000) -> float:
    """Share of runs that refuse a record, every error drawn from what is stated for it and the clamp then moved."""
    rng, refused, record = np.random.default_rng(seed), 0, probe(LAB)
    for _ in range(trials):
        b, noise, drift = 0.005 * rng.uniform(-1, 1), 2e-4 * rng.standard_normal(), 1e-3 * rng.standard_normal()
        then = 1 + record.stability * rng.uniform(-1, 1)
        in_run = own((1 + moved) * AT_A / (AT_A + b) * (1 + noise + drift))
        slope = with_gain(record, then + 3e-4 * rng.standard_normal())
        refused += bool(disagreements(in_run, slope, None))
    return refused / trials


def test_honest_records_are_hardly_ever_refused_and_a_clamp_that_moved_is() -> None:
    """Limits are rectangular: two sigma of their sum, which 3 % of honest records exceed, are no contradiction."""
    assert shares_refused(0.0, 7) < 0.005
    assert shares_refused(0.02, 8, 500) > 0.9
    assert disagreements(own(1.015), probe(LAB, gain=1.0), None)  # by 1.5 %, whatever else is right
    assert not disagreements(own(1.010), probe(LAB, gain=1.0), None)


def comparisons(*values: float, at_a: float = AT_A) -> Calibration:
    """A run with several comparisons with the supply, and what they differ by as a limit."""
    mean = own(float(np.mean(values)), at_a)
    change = GainTerm(CHANGE, (max(values) - min(values)) / 2 / math.sqrt(3.0))
    each = tuple(own(value, at_a).current.gain for value in values)
    gain = replace(mean.current.gain, others=(*mean.current.gain.others, change), each=each)
    return replace(mean, current=replace(mean.current, gain=gain))


def test_each_comparison_of_a_run_is_held_against_a_record_and_what_moved_does_not_excuse_itself() -> None:
    record = probe(LAB, gain=1.0)
    assert disagreements(comparisons(1.0, 1.0), record, None) == {}
    (found,) = disagreements(comparisons(1.001, 1.03), record, None).values()
    assert (found.own, found.which) == (1.03, " (2 of 2)")
    assert with_records(comparisons(1.001, 1.03), record, None)[0].current == comparisons(1.001, 1.03).current


def test_a_comparison_beyond_a_record_is_told_and_not_the_mean_of_all() -> None:
    """The mean of both may lie where the record holds."""
    run = comparisons(1.0, 1.0)
    each = tuple(replace(one, at=at) for one, at in zip(run.current.gain.each, (0.75, 0.85), strict=True))
    run = replace(run, current=replace(run.current, gain=replace(run.current.gain, each=each)))
    found, (note,) = with_records(run, probe(LAB, gain=1.0, valid_a=Span(low=0.78, high=2.0)), None)
    assert found.current == run.current
    assert "holds from 0.78 to 2 A, and this run was compared with the supply at 0.75 A: it is not used" in note


def test_what_a_gain_did_during_a_run_stays_in_the_interval_whatever_a_record_weighs() -> None:
    still, moved = (
        with_records(run, probe(LAB, gain=1.0), None)[0].current.gain
        for run in (comparisons(1.0, 1.0), comparisons(0.996, 1.004))
    )
    assert moved.value == still.value
    (change,) = (term for term in moved.others if term.name == CHANGE)
    assert 0.004 / math.sqrt(3.0) < change.u < 2 * 0.004 / math.sqrt(3.0)
    assert interval(moved) > max(0.95 * 0.004, interval(still))
    assert moved.each


@pytest.mark.parametrize("went", [-0.01, 0.008])
def test_a_record_that_tells_one_end_of_a_change_does_not_hide_the_other(went: float) -> None:
    """At 0.2 A a record has nearly all the weight: its gain is that before the change, and the work came after it."""
    away = comparisons(1.0, 1.0 + went, at_a=0.2)
    assert disagreements(away, probe(LAB, gain=1.0), None) == {}
    gain = with_records(away, probe(LAB, gain=1.0), None)[0].current.gain
    assert abs(gain.value - 1.0) < 0.15 * abs(went)
    for truth in (1.0, 1.0 + went / 2, 1.0 + 0.95 * went):
        assert abs(gain.value / truth - 1) < interval(gain)


def test_comparisons_of_a_run_contradict_each_other_beyond_chance_and_what_matters() -> None:
    assert changes(comparisons(1.0)) == changes(comparisons(1.0, 1.004)) == []
    (found,) = changes(comparisons(1.01, 1.0))
    assert (found.channel, found.first, found.last) == ("current", 1.01, 1.0)
    noisy = comparisons(1.0, 1.01)
    each = tuple(replace(one, u_noise=3e-3) for one in noisy.current.gain.each)
    noisy = replace(noisy, current=replace(noisy.current, gain=replace(noisy.current.gain, each=each)))
    assert changes(noisy) == []


def test_a_run_without_a_comparison_stands_on_the_record() -> None:
    bare = own(1.0)
    bare = replace(
        bare, current=replace(bare.current, gain=specified()), voltage=replace(bare.voltage, gain=specified())
    )
    record, of_volts = probe(LAB, gain=1.01), voltage(LAB, gain=0.99)
    found, notes = with_records(bare, record, of_volts)
    assert (found.current.gain.value, found.voltage.gain.value) == (1.01, 0.99)
    assert 0.003 < interval(found.current.gain) < 0.006
    assert math.isinf(found.current.gain.at)
    assert (found.current.gain.low, found.current.gain.high) == (-1.3, 1.365)
    assert found.bow_a(0.6825) == pytest.approx(record.linearity * record.valid_a.high)
    assert all("no comparison in this run" in note for note in notes)


def test_the_interval_covers_the_truth() -> None:
    """Errors drawn from what the limits say: 95 in 100 intervals hold the true gain, at loads large and small."""
    rng = np.random.default_rng(5)
    held, record = [], probe(LAB)
    for _ in range(1500):
        at_a, truth = float(rng.uniform(0.1, 1.3)), 1 + 0.02 * float(rng.uniform(-1, 1))
        a, b = 0.0015 * rng.uniform(-1, 1), 0.005 * rng.uniform(-1, 1)
        read = (1 + a) * at_a + b
        noise, drift = 2e-4 * rng.standard_normal(), 1e-3 * rng.standard_normal()
        in_run = own(truth * at_a / read * (1 + noise + drift), at_a)
        then = truth * (1 + record.stability * rng.uniform(-1, 1))
        slope = then / (1 + a) + 3e-4 * rng.standard_normal()
        gain = with_records(in_run, with_gain(record, slope), None)[0].current.gain
        held.append(abs(truth / gain.value - 1) < interval(gain))
    assert 0.93 < np.mean(held) < 0.985


def with_leads(value: float, u_leads: float) -> Calibration:
    """What a run found of its voltage over leads whose resistance is not well known."""
    relative, absolute, _ = READ_BACK.voltage
    u = (relative * 12.0 + absolute) / math.sqrt(3.0) / 12.0
    leads = GainTerm("leads", u_leads, distribution="normal")
    gain = Gain(value, u, 1e-5, 9.0, 12.0, 10.8, 13.2, "supply read-back", (leads,), READ_BACK.voltage)
    found = own(1.0)
    return replace(found, voltage=replace(found.voltage, gain=gain))


@pytest.mark.parametrize("lead_ohm", [None, Estimate(value=0.05, u=0.02, dof=3.0)])
def test_leads_stay_in_a_weighed_gain_by_its_own_share(lead_ohm: Estimate | None) -> None:
    """The record was made with nothing connected: it knows no leads, and cannot take away what the run's have."""
    shares = []
    for u_leads in (1e-3, 3e-3):
        gain = with_records(with_leads(0.996, u_leads), None, voltage(LAB, lead_ohm=lead_ohm))[0].voltage.gain
        share = 12.0 / gain.at
        (leads,) = (term for term in gain.others if term.name == "leads")
        assert leads.u >= share * u_leads > 0
        assert (leads.u > share * u_leads) is (lead_ohm is not None)
        assert leads.distribution == "normal"
        shares.append(share)
    assert 0 < shares[1] < shares[0] < 1  # the less the leads are known, the less the run's comparison weighs
    apart = with_records(with_leads(1.05, 1e-3), None, voltage(LAB, lead_ohm=lead_ohm))[0].voltage.gain
    assert apart == with_leads(1.05, 1e-3).voltage.gain
    bare = replace(with_leads(1.0, 0.0), voltage=replace(with_leads(1.0, 0.0).voltage, gain=specified()))
    alone = with_records(bare, None, voltage(LAB, lead_ohm=lead_ohm))[0].voltage.gain
    assert all(term.name != "leads" for term in alone.others)


def test_an_error_that_the_leads_have_from_the_record_is_not_averaged_away() -> None:
    """A slope that is off makes the leads off, which a run's comparison then is too: by as much, at the same load."""
    rng, held = np.random.default_rng(6), []
    record = voltage(LAB, lead_ohm=Estimate(value=0.05, u=0.015, dof=3.0))
    for _ in range(1500):
        slope, a, b, moved = rng.normal(0, 1e-3), 0.0005 * rng.uniform(-1, 1), 0.005 * rng.uniform(-1, 1), 0.003
        then = (1 + moved * rng.uniform(-1, 1)) * (1 + slope)
        in_run = with_leads(12.0 / ((1 + a) * 12.0 + b) * (1 + slope), 1e-3)
        gain = Estimate(value=then / (1 + a), u=1e-3, dof=1e6)
        found = with_records(in_run, None, record.model_copy(update={"gain": gain}))[0].voltage.gain
        held.append(abs(1 / found.value - 1) < interval(found))
    assert 0.93 < np.mean(held) < 0.985


def with_gain(record: ProbeRecord, value: float) -> ProbeRecord:
    return record.model_copy(update={"gain": Estimate(value=value, u=3e-4, dof=7.0)})
