"""What the procedures make of their records, against the simulated world, whose errors are known."""

from __future__ import annotations

import argparse
import itertools
import math
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import numpy as np
import pytest

from calibration import probe as probe_command
from calibration import voltage as voltage_command
from calibration.at_bench import Common, Steady
from calibration.budget import student_t
from calibration.probe import Known, Plan
from calibration.records import ProbeRecord, Serials, VoltageRecord
from calibration.show import relative_u
from calibration.statistics import mean_of_record
from instruments.errors import CalibrationError, ConfigError
from tests.worlds import Bench, shipped_lab

LAB = shipped_lab()
POINTS, DT_S = 20_000, 40e-6
OHM = 8.0


def common() -> Common:
    made = datetime(2026, 11, 1, tzinfo=UTC)
    return Common(
        {
            "made": made,
            "expires": made.replace(year=2027),
            "source": "simulated",
            "bench": "a world",
            "program": "a test",
            "temperature_c": None,
            "serials": Serials(scope="S", probe="P", supply="0"),
            "notes": [],
        }
    )


def options(*args: str) -> argparse.Namespace:
    return probe_command.parser().parse_args(list(args))


class Session:
    """A world with a resistor in the board's place and a supply whose read-back is off within its limits."""

    def __init__(self, seed: int, **physics: Any) -> None:
        self.bench = Bench.make(seed, **physics)
        self.bench.dt_s, self.bench.points = DT_S, POINTS
        self.rng = np.random.default_rng([seed, 7])
        self.relative = {"A": 0.0015 * self.rng.uniform(-1, 1), "V": 0.0005 * self.rng.uniform(-1, 1)}
        self.constant = {unit: 0.005 * self.rng.uniform(-1, 1) for unit in "AV"}
        self.t_s = 1.0
        self.load(OHM)

    def load(self, ohm: float) -> None:
        self.bench.world.connect(self.t_s, ohm)

    def steady(self, volts: float, amps: float, on: bool = True) -> Steady:
        """A record 3 s later, the output as given."""
        self.t_s += 3.0
        self.bench.world.set_supply(self.t_s - 2.0, volts, amps, on)
        capture = self.bench.capture(self.t_s)
        means = [mean_of_record(capture[role].values(), DT_S) for role in ("current", "voltage")]
        return Steady(self.t_s, means[0], means[1])

    def read(self, unit: str, step: float) -> tuple[float, float]:
        """What the supply reads now: always the same, so that only its step scatters. Value and u."""
        truth = self.bench.world.supply(self.t_s, self.t_s + 0.1)
        true = truth.amps if unit == "A" else truth.volts
        seen = true * (1 + self.relative[unit]) + self.constant[unit]
        return round(seen / step) * step, step / math.sqrt(12.0)


def calibrated(seed: int, plan: Plan | None = None, **physics: Any) -> tuple[ProbeRecord, Session]:
    session = Session(seed, **physics)
    plan = plan or Plan.of(LAB, options("--load-ohm", str(OHM)))
    first = session.steady(12.0, 2.0, on=False)
    known = []
    for direction, amps in probe_command._sweep(plan.currents_a):
        steady = session.steady(12.0, amps)
        known.append(Known(direction, steady, *session.read("A", 0.001)))
    last = session.steady(12.0, 2.0, on=False)
    return probe_command.evaluate((first, last), known, plan, LAB, common()), session


def test_the_gain_covers_the_worlds() -> None:
    """Over many worlds the true gain lies within the record's interval, the true zero within that of its zero."""
    of_gain, of_zero = [], []
    for seed in range(16):
        record, session = calibrated(seed)
        world = session.bench.world
        of_gain.append((record.gain.value / world.probe_gain - 1) / relative_u(record))
        truth = float(world.probe_offset_at(np.array([4.0]))[0]) + world.output_off_a
        k = student_t(0.95, record.zero_a.degrees)
        of_zero.append((record.zero_a.value - truth) / (k * record.zero_a.u))
        assert record.linearity < 0.005
        highest = max(p.reference for p in record.points)
        assert record.valid_a.low == 0.0  # nothing was sent the other way round
        assert highest <= record.valid_a.high <= 1.1 * highest
    assert np.mean(np.abs(of_gain) < 1) > 0.85
    assert np.abs(of_gain).max() < 1.5
    assert np.mean(np.abs(of_zero) < 1) > 0.85


def test_a_zero_of_the_readback_is_taken_out() -> None:
    """5 mA of a read-back's own zero would be 0.6 % at 0.8 A; the slope does not see it, the intercept does."""
    session_of: dict[float, ProbeRecord] = {}
    for constant in (-0.005, 0.005):
        session = Session(3)
        session.constant["A"] = constant
        plan = Plan.of(LAB, options("--load-ohm", str(OHM)))
        first = session.steady(12.0, 2.0, on=False)
        known = [
            Known(direction, session.steady(12.0, amps), *session.read("A", 1e-6))
            for direction, amps in probe_command._sweep(plan.currents_a)
        ]
        session_of[constant] = probe_command.evaluate((first, first), known, plan, LAB, common())
    low, high = session_of[-0.005], session_of[0.005]
    assert low.gain.value == pytest.approx(high.gain.value, rel=1e-4)
    assert low.intercept_a.value - high.intercept_a.value == pytest.approx(0.01, abs=1e-4)


@pytest.mark.parametrize(
    ("fault", "said"),
    [("twice", "further from 1"), ("moved", "beside zero"), ("heated", "bow by")],
)
def test_figures_that_contradict_each_other_make_no_record(fault: str, said: str) -> None:
    session = Session(1)
    plan = Plan.of(LAB, options("--load-ohm", str(OHM)))
    first = session.steady(12.0, 2.0, on=False)
    known = []
    for direction, amps in probe_command._sweep(plan.currents_a):
        steady, (read, u) = session.steady(12.0, amps), session.read("A", 0.001)
        mean = steady.current.mean
        changed = {"twice": 2 * mean, "moved": mean + 0.02, "heated": mean + 0.1 * mean * (1.3 - mean)}[fault]
        known.append(Known(direction, replace(steady, current=replace(steady.current, mean=changed)), read, u))
    with pytest.raises(CalibrationError, match=said):
        probe_command.evaluate((first, first), known, plan, LAB, common())


def test_currents_are_what_the_bench_allows() -> None:
    plan = Plan.of(LAB, options())
    assert max(plan.currents_a) == pytest.approx(0.93 * LAB.wiring.current.high_a, abs=1e-3)
    assert max(plan.currents_a) * plan.load_ohm < LAB.supply.voltage_v
    assert plan.reference.kind == "read-back"
    shunt = Plan.of(
        LAB, options("--reference", "shunt", "--shunt-ohm", "0.1", "--shunt-limit", "0.001", "--voltmeter", "1e-4,5e-5")
    )
    assert shunt.reference.relative_limit == pytest.approx(0.0011)
    assert shunt.reference.offset_limit == pytest.approx(5e-4)
    for wrong, said in (
        (("--currents", "0.2,9"), "--currents: two at least, above 0 and up to 1.302 A"),
        (("--currents", "0.2,x"), "numbers in A"),
        (("--load-ohm", "100"), "--load-ohm 100: at supply.voltage_v 12 V at most"),
        (("--reference", "shunt"), "needs --shunt-ohm"),
        (("--reference", "shunt", "--shunt-ohm", "0.1", "--shunt-limit", "2", "--voltmeter", "1e-4,0"), "needs"),
        (("--stability", "2"), "--stability 2"),
    ):
        with pytest.raises(ConfigError, match=said):
            Plan.of(LAB, options(*wrong))


def test_the_voltages_gain_and_the_leads_cover_the_worlds() -> None:
    local = LAB.model_copy(
        update={"supply": LAB.supply.model_copy(update={"sense": "local", "lead_resistance_ohm": 0.06})}
    )
    of_gain, of_leads = [], []
    for seed in range(10):
        session = Session(seed)
        world = type(session.bench.world)(
            session.bench.world.facts, local.wiring, local.probe, local.supply, seed=seed
        )  # the same errors, another way of sensing
        session.bench.world = world
        record = of_voltage(session, local)
        of_gain.append((record.gain.value / world.voltage_gain - 1) / relative_u(record))
        assert record.lead_ohm is not None
        k = student_t(0.95, record.lead_ohm.degrees)
        of_leads.append((record.lead_ohm.value - 0.06) / (k * record.lead_ohm.u))
        assert record.lead_ohm.u < 0.006
    for found in (of_gain, of_leads):
        assert np.mean(np.abs(found) < 1) > 0.8
        assert np.abs(found).max() < 1.7


def of_voltage(session: Session, lab: Any) -> VoltageRecord:
    plan = voltage_command.Plan((3.0, 6.0, 9.0, 12.0), 1.3, OHM, 0.003)
    session.load(math.inf)
    zero = session.steady(0.0, 2.0, on=False)
    known = []
    for direction, volts in voltage_command._sweep(plan.volts):
        steady = session.steady(volts, 2.0)
        known.append(voltage_command.Known(direction, steady, *session.read("V", 0.005)))
    session.load(OHM)
    loaded = []
    for share in voltage_command.LEAD_SHARES:
        steady = session.steady(12.0, share * plan.most_a)
        loaded.append(
            voltage_command.Known("up", steady, *session.read("V", 0.005), *session.read("A", 0.001))
        )  # fmt: skip
    return voltage_command.evaluate(zero, known, loaded, plan, lab, common())


def test_downwards_lies_between_upwards() -> None:
    """The same current twice would make the same error of the read-back's step twice."""
    points = list(probe_command._sweep((0.1, 0.5, 1.0)))
    assert points == [("up", 0.1), ("up", 0.5), ("up", 1.0), ("down", 0.75), ("down", 0.3)]
    assert len({amps for _, amps in points}) == len(points)
    assert all(a != b for (_, a), (_, b) in itertools.pairwise(points))
