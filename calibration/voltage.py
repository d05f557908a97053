"""Calibrate the voltage's channel against the supply's read-back, and find what the leads drop.

`python -m calibration.voltage` takes a zero, several voltages upwards and downwards with nothing connected, so that
no lead drops anything, and, where sense is local, several currents through a resistor at the board's end: the
read-back less the channel's voltage is then what the leads drop. It writes one record.
"""

from __future__ import annotations

import argparse
import itertools
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from calibration.at_bench import Common, Session, Steady, add_options, calibrate, check_options, refuse
from calibration.choice import Setup
from calibration.in_situ import SCOPE_GAIN_LIMIT
from calibration.line import Line, fit_line
from calibration.records import Estimate, Point, Record, Reference, Span, VoltageRecord
from calibration.reference import read_back_of
from instruments import bench_steps
from instruments.command import leave, run
from instruments.e3645a.ratings import RANGE_LIMITS
from instruments.errors import ConfigError, InstrumentError
from instruments.lab import Lab

SHARES = (0.25, 0.5, 0.75, 1.0)
"""Voltages, as shares of what feeds the board."""

LEAD_SHARES = (0.25, 0.5, 0.75, 1.0)
"""Currents for the leads, as shares of the largest."""

STABILITY = 0.003
"""How far the vertical gain may move within its record's life, as a limit (unconfirmed)."""

BEYOND = 1.05
LEAST_READINGS = 2
SERIALS = ("scope", "supply")


def parser() -> argparse.ArgumentParser:
    """Describe the command line."""
    p = argparse.ArgumentParser(
        prog="python -m calibration.voltage",
        description="Calibrate the voltage's channel and the leads' drop against the supply's read-back.",
        epilog="exit codes: 0 good, 1 the figures contradict each other, 2 usage, 3 instrument, 130 interrupted",
    )
    add_options(p, window_s=2.0, valid_days=30.0)
    p.add_argument("--load-ohm", type=float, metavar="R", help="the resistor for the leads (default: computed)")
    p.add_argument(
        "--stability",
        type=float,
        default=STABILITY,
        metavar="SHARE",
        help=f"limit of how far the gain may move until the record expires (default: {STABILITY:g}, unconfirmed)",
    )
    return p


def main(argv: Sequence[str] | None = None) -> int:
    """Calibrate; returns the exit code."""
    args = parser().parse_args(argv)
    return run(lambda: _calibrate(args))


def _calibrate(args: argparse.Namespace) -> int:
    lab = check_options(args)
    most_a = min(lab.supply.limits.current_a, RANGE_LIMITS[lab.supply.range][1], 0.93 * lab.wiring.current.high_a)
    load_ohm = args.load_ohm if args.load_ohm is not None else float(f"{0.8 * lab.supply.voltage_v / most_a:.2g}")
    if not 0 < load_ohm <= 0.95 * lab.supply.voltage_v / most_a:
        raise ConfigError(
            f"--load-ohm {load_ohm:g}: at most {0.95 * lab.supply.voltage_v / most_a:.3g} ohm let {most_a:.3g} A "
            "through"
        )
    if not 0 <= args.stability < 1:
        raise ConfigError(f"--stability {args.stability:g}: a share from 0 to below 1, such as {STABILITY:g}")
    plan = Plan(tuple(round(s * lab.supply.voltage_v, 3) for s in SHARES), most_a, load_ohm, args.stability)
    return calibrate(args, "voltage", lab.scope.serial, lambda session: _procedure(session, plan, args), _summary)


@dataclass(frozen=True)
class Plan:
    """Voltages in V, upwards; the largest current for the leads, A, and the resistor for it."""

    volts: tuple[float, ...]
    most_a: float
    load_ohm: float
    stability: float


@dataclass(frozen=True)
class Known:
    """One state of the output: the channel meanwhile, and the supply's read-back with its u by scatter and step."""

    direction: Any
    steady: Steady
    volts: float
    u_volts: float
    amps: float = 0.0
    u_amps: float = 0.0


def _procedure(session: Session, plan: Plan, args: argparse.Namespace) -> VoltageRecord:
    """Zero, voltages up and down without load, then currents for the leads; the output is off before and after."""
    session.set_up()
    supply = session.bench.supply
    session.load(
        "open", "take the board off its leads; leave the oscilloscope's probe at their ends, nothing else there"
    )
    zero = session.steady("zero")
    known = []
    for direction, volts in _sweep(plan.volts):
        supply.set_voltage(volts)
        if not supply.output_is_on():
            supply.output(True)
        supply.wait_settled(5.0)
        known.append(_known(session, direction))
        session.say(
            f"{direction}, {volts:g} V asked for: {known[-1].volts:.4f} V read back by the supply, "
            f"{known[-1].steady.voltage.mean:.4f} V on the oscilloscope, its zero included"
        )
    bench_steps.switch_off(session.bench)
    loaded = _leads(session, plan) if session.lab.supply.sense == "local" else []
    session.load("board", "put the board back on its leads")
    return evaluate(zero, known, loaded, plan, session.lab, Common.of(session, args, parser().prog, *SERIALS))


def _sweep(volts: Sequence[float]) -> Iterator[tuple[Any, float]]:
    """Upwards, then downwards half-way between, so that the read-back's steps do not make the same errors twice."""
    yield from (("up", v) for v in volts)
    yield from (("down", (low + high) / 2) for low, high in itertools.pairwise(reversed(volts)))


def _leads(session: Session, plan: Plan) -> list[Known]:
    """Several currents through a resistor at the board's end of the leads."""
    supply, clock = session.bench.supply, session.bench.clock
    watts = plan.most_a**2 * plan.load_ohm
    session.load(
        plan.load_ohm,
        f"put a resistor of {plan.load_ohm:g} ohm that bears {watts:.0f} W at the board's end of the leads",
    )
    supply.set_voltage(session.lab.supply.voltage_v)
    supply.set_current_limit(LEAD_SHARES[0] * plan.most_a)
    supply.output(True)
    known = []
    for share in LEAD_SHARES:
        supply.set_current_limit(share * plan.most_a)
        clock.sleep(bench_steps.SETTLE_S)
        known.append(_known(session, "up", amps=True))
        if supply.mode() != "CC":
            raise InstrumentError(
                f"{share * plan.most_a:.3g} A do not flow (mode {supply.mode()}): is the resistor connected?",
                instrument="supply",
            )
    bench_steps.switch_off(session.bench)
    supply.set_current_limit(session.lab.supply.current_limit_a)
    return known


def _known(session: Session, direction: Any, *, amps: bool = False) -> Known:
    supply, clock = session.bench.supply, session.bench.clock
    clock.sleep(bench_steps.SETTLE_S)

    def read(until_s: float) -> Iterator[tuple[str, float]]:
        while clock.monotonic() < until_s - 0.2 * session.window_s:
            yield "V", supply.measure_voltage_v()
            if amps:
                yield "A", supply.measure_current_a()

    steady = session.steady("load", read)
    if len(steady.volts) < LEAST_READINGS:
        raise refuse(f"{len(steady.volts)} readings of the supply in {session.window_s:g} s: take a longer --window")
    read_back = read_back_of(session.lab)
    volts, u_volts = _mean(steady.volts, read_back.voltage.step)
    current, u_current = _mean(steady.amps, read_back.current.step) if amps else (0.0, 0.0)
    return Known(direction, steady, volts, u_volts, current, u_current)


def _mean(readings: Sequence[float], step: float) -> tuple[float, float]:
    values = np.array(readings)
    scatter = float(values.std(ddof=1)) / math.sqrt(len(values))
    return float(values.mean()), math.hypot(scatter, step / math.sqrt(12.0))


def evaluate(
    zero: Steady, known: Sequence[Known], loaded: Sequence[Known], plan: Plan, lab: Lab, common: Common
) -> VoltageRecord:
    """Fit the lines and make the record; raises CalibrationError for figures that contradict each other."""
    read_back = read_back_of(lab)
    relative, absolute, step = read_back.voltage
    x, y = np.array([k.volts for k in known]), np.array([k.steady.voltage.mean - zero.voltage.mean for k in known])
    u_x, u_y = np.array([k.u_volts for k in known]), np.array([k.steady.voltage.u for k in known])
    line = fit_line(x, y, u_x, u_y)
    if not abs(line.slope - 1) <= 2 * SCOPE_GAIN_LIMIT:
        raise refuse(
            f"the gain is {line.slope:.4f}, further from 1 than twice the maker's limit: look at "
            "wiring.voltage.probe_ratio and at the switch on the probe"
        )
    beside_v = abs(line.crossing)
    if beside_v > absolute + 3 * math.hypot(line.u_crossing, zero.voltage.u):
        raise refuse(
            f"the line passes {beside_v * 1e3:.2f} mV beside zero, and the read-back's own zero may be off by "
            f"{absolute * 1e3:g} mV: is something still connected?"
        )
    return VoltageRecord(
        **common.fields,
        setting=Setup.of(lab, common.fields["made"]).voltage,
        reference=Reference(
            kind="read-back", relative_limit=relative, offset_limit=absolute, resolution=step
        ),
        gain=Estimate(value=line.slope, u=line.u_slope, dof=float(line.dof)),
        stability=plan.stability,
        intercept_v=Estimate(value=line.intercept, u=line.u_intercept, dof=float(line.dof)),
        covariance_v=line.shared,
        zero_v=Estimate(value=zero.voltage.mean, u=zero.voltage.u, dof=zero.voltage.dof),
        noise_v2s=zero.voltage.density,
        sense=lab.supply.sense,
        lead_ohm=_lead(loaded, line, zero, read_back.current.relative) if loaded else None,
        valid_v=Span(low=0.0, high=BEYOND * max(plan.volts)),
        points=[
            Point(
                direction=k.direction, reference=k.volts, u_reference=k.u_volts, reading=float(reading),
                u_reading=k.steady.voltage.u, residual=float(residual),
            )
            for k, reading, residual in zip(known, y, line.residuals, strict=True)
        ],
    )  # fmt: skip


def _lead(loaded: Sequence[Known], line: Line, zero: Steady, share_a: float) -> Estimate:
    """What the read-back has more than the board's end, per ampere.

    `share_a` limits the relative error of the current. Through a resistor voltage follows current, so that an error of
    the gain looks like resistance.
    """
    amps = np.array([k.amps for k in loaded])
    at_board = np.array([(k.steady.voltage.mean - zero.voltage.mean - line.intercept) / line.slope for k in loaded])
    drop = np.array([k.volts for k in loaded]) - at_board
    u_drop = np.array([math.hypot(k.u_volts, k.steady.voltage.u) for k in loaded])
    found = fit_line(amps, drop, np.array([k.u_amps for k in loaded]), u_drop)
    ohms = float(np.mean(at_board / amps))
    u_current = found.slope * share_a / math.sqrt(3.0)
    u = math.hypot(found.u_slope, ohms * line.u_slope / line.slope, u_current)
    if found.slope < -3 * u:
        raise refuse(
            f"the board's end has a higher voltage than the supply, by {-found.slope * 1e3:.3g} mohm: is the probe at "
            "the board's end, and sense really local?"
        )
    return Estimate(value=found.slope, u=u, dof=float(found.dof))


def _summary(record: Record) -> list[str]:
    from calibration.show import lines

    return lines(record)


if __name__ == "__main__":
    leave(main())
