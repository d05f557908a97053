"""Calibrate the current's channel, clamp and oscilloscope together, against known currents.

`python -m calibration.probe` takes a zero, several known currents upwards and downwards, and the zero again, all with
the clamp's range and turns of lab.yaml, and writes one record. The currents come from the supply in constant current
through a resistor in the board's place. They are known by its own read-back, or by the voltage across a shunt that
somebody reads off a voltmeter.
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
from calibration.in_situ import PROBE_GAIN_LIMIT, SCOPE_GAIN_LIMIT
from calibration.line import bow, fit_line
from calibration.model import Offset, ZeroPoint
from calibration.records import Estimate, Point, ProbeRecord, Record, Reference, Span
from calibration.reference import read_back_of
from instruments import bench_steps
from instruments.command import leave, run
from instruments.e3645a.ratings import RANGE_LIMITS, programming_tolerance_a
from instruments.errors import ConfigError, InstrumentError
from instruments.lab import Lab
from instruments.readback import Limits
from instruments.scope_facts import clamp

SHARES = (0.1, 0.3, 0.5, 0.75, 1.0)
"""Currents, as shares of the largest that the channel, the clamp and the supply allow."""

HEADROOM = 0.93
"""Share of the channel's span that a steady current may fill: the clamp's noise needs the rest."""

STABILITY = 0.005
"""How far a clamp's gain may move within its record's life, as a limit (unconfirmed): how the wire lies in the jaw, its
battery, temperature."""

BEYOND = 1.05
"""The line is used from the zero, with which it is taken, up to this times the largest current."""

MOST_BOW = 0.02
"""A bow beyond this share is no clamp but a fault."""

LEAST_READINGS = 2


def parser() -> argparse.ArgumentParser:
    """Describe the command line."""
    p = argparse.ArgumentParser(
        prog="python -m calibration.probe",
        description="Calibrate clamp and oscilloscope at several known currents; writes one record.",
        epilog="exit codes: 0 good, 1 the figures contradict each other, 2 usage, 3 instrument, 130 interrupted",
    )
    add_options(p, window_s=2.0, valid_days=7.0)
    p.add_argument(
        "--currents",
        metavar="A,A",
        help="upwards, in A; downwards it is half-way between (default: five up to what the bench allows)",
    )
    p.add_argument("--load-ohm", type=float, metavar="R", help="the resistor in the board's place (default: computed)")
    p.add_argument("--reference", choices=("read-back", "shunt"), default="read-back", help="what knows the current")
    p.add_argument("--shunt-ohm", type=float, metavar="R", help="of the shunt")
    p.add_argument("--shunt-limit", type=float, metavar="SHARE", help="its relative limit, such as 0.001")
    p.add_argument(
        "--voltmeter", metavar="SHARE,V", help="limits of the voltmeter: share of reading, constant in V: 1e-4,5e-5"
    )
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
    plan = Plan.of(lab, args)
    return calibrate(args, "probe", lab.probe.serial, lambda session: _procedure(session, plan, args), _summary)


@dataclass(frozen=True)
class Plan:
    """Known currents in A, upwards; the resistor; what knows them."""

    currents_a: tuple[float, ...]
    load_ohm: float
    reference: Reference
    shunt_ohm: float | None
    stability: float

    @classmethod
    def of(cls, lab: Lab, args: argparse.Namespace) -> Plan:
        """Choose what can be had on a bench; raises ConfigError."""
        most_a = min(
            HEADROOM * lab.wiring.current.high_a,
            lab.supply.limits.current_a,
            RANGE_LIMITS[lab.supply.range][1],
            clamp(lab).peak_current_a,
        )
        currents = _currents(args.currents) if args.currents else tuple(round(share * most_a, 3) for share in SHARES)
        if len(currents) < 2 or max(currents) > most_a or min(currents) <= 0:
            raise ConfigError(
                f"--currents: two at least, above 0 and up to {most_a:.4g} A, which wiring.current, supply.limits and "
                "the clamp allow"
            )
        if not 0 <= args.stability < 1:
            raise ConfigError(f"--stability {args.stability:g}: a share from 0 to below 1, such as {STABILITY:g}")
        volts = lab.supply.voltage_v
        load_ohm = args.load_ohm if args.load_ohm is not None else float(f"{0.8 * volts / max(currents):.2g}")
        if not 0 < load_ohm <= 0.95 * volts / max(currents):
            raise ConfigError(
                f"--load-ohm {load_ohm:g}: at supply.voltage_v {volts:g} V at most "
                f"{0.95 * volts / max(currents):.3g} ohm let {max(currents):g} A through"
            )
        return cls(tuple(sorted(currents)), load_ohm, *_reference(args, lab), args.stability)


def _currents(text: str) -> tuple[float, ...]:
    try:
        found = {float(part) for part in text.split(",") if part.strip()}
    except ValueError as error:
        raise ConfigError(f"--currents {text!r}: numbers in A with commas between, as 0.2,0.5,1") from error
    if not all(map(math.isfinite, found)):
        raise ConfigError(f"--currents {text!r}: finite numbers are expected")
    return tuple(sorted(found))


def _reference(args: argparse.Namespace, lab: Lab) -> tuple[Reference, float | None]:
    if args.reference == "read-back":
        relative, absolute, step = read_back_of(lab).current
        known = Reference(
            kind="read-back", relative_limit=relative, offset_limit=absolute, resolution=step
        )  # fmt: skip
        return known, None
    try:
        share, constant = (float(part) for part in (args.voltmeter or "").split(","))
        if not (args.shunt_ohm > 0 and 0 <= args.shunt_limit < 0.5 and 0 <= share < 0.5 and constant >= 0):
            raise ValueError
    except (TypeError, ValueError):
        raise ConfigError(
            "--reference shunt needs --shunt-ohm R, --shunt-limit SHARE and --voltmeter SHARE,V, all by their makers"
        ) from None
    return (
        Reference(
            kind="shunt",
            relative_limit=args.shunt_limit + share,
            offset_limit=constant / args.shunt_ohm,
            resolution=0.0,
        ),
        args.shunt_ohm,
    )


@dataclass(frozen=True)
class Known:
    """One known current: both channels meanwhile, the reference and its standard uncertainty by scatter and step, A."""

    direction: Any
    steady: Steady
    amps: float
    u_amps: float


def _procedure(session: Session, plan: Plan, args: argparse.Namespace) -> ProbeRecord:
    """Zero, currents up and down, zero again; the output is off before and after."""
    session.set_up()
    watts = max(plan.currents_a) ** 2 * plan.load_ohm
    step = f"put a resistor of {plan.load_ohm:g} ohm that bears {watts:.0f} W in the board's place"
    if plan.shunt_ohm is not None:
        step += f", in series with the shunt of {plan.shunt_ohm:g} ohm, a voltmeter across the latter"
    session.prepare_clamp()
    session.load(plan.load_ohm, step)
    before = session.steady("zero")
    known = [_known(session, plan, *point) for point in _sweep(plan.currents_a)]
    bench_steps.switch_off(session.bench)
    after = session.steady("zero")
    session.load("board", "take the resistor away and put the board back")
    return evaluate((before, after), known, plan, session.lab, Common.of(session, args, parser().prog, *SERIALS))


SERIALS = ("scope", "probe", "supply")


def _sweep(currents_a: Sequence[float]) -> Iterator[tuple[Any, float]]:
    """Upwards, then downwards half-way between: what the clamp remembers shows in the difference.

    Not the same currents twice, since there the reference's steps would make the same error twice.
    """
    yield from (("up", amps) for amps in currents_a)
    yield from (("down", (low + high) / 2) for low, high in itertools.pairwise(reversed(currents_a)))


def _known(session: Session, plan: Plan, direction: Any, amps: float) -> Known:
    """Let one current flow and know it."""
    supply, clock = session.bench.supply, session.bench.clock
    supply.set_current_limit(amps)
    if not supply.output_is_on():
        supply.output(True)
    _wait_for_current(session, amps)
    clock.sleep(bench_steps.SETTLE_S)

    def read(until_s: float) -> Iterator[tuple[str, float]]:
        while clock.monotonic() < until_s - 0.2 * session.window_s:
            yield "A", supply.measure_current_a()

    steady = session.steady("load", read)
    if supply.mode() != "CC":
        raise InstrumentError(
            f"the current of {amps:g} A did not stay regulated (mode {supply.mode()})", instrument="supply"
        )
    back = f"{np.mean(steady.amps):.4f} A read back by the supply, " if steady.amps else ""
    session.say(
        f"{direction}, {amps:g} A asked for: {back}{steady.current.mean:.5f} A on the oscilloscope, its zero included"
    )
    if plan.shunt_ohm is None:
        if len(steady.amps) < LEAST_READINGS:
            raise refuse(f"{len(steady.amps)} readings of the supply in {session.window_s:g} s: take a longer --window")
        readings = np.array(steady.amps)
        scatter = float(readings.std(ddof=1)) / math.sqrt(len(readings))
        step = read_back_of(session.lab).current.step
        return Known(direction, steady, float(readings.mean()), math.hypot(scatter, step / math.sqrt(12.0)))
    simulated, shunt_ohm = session.bench.simulated, plan.shunt_ohm
    begin_s, end_s = steady.t_s, clock.monotonic()
    volts = session.person.reads(
        f"voltage across the shunt at {amps:g} A",
        "V",
        None if simulated is None else lambda: simulated.mean_current_a(begin_s, end_s) * shunt_ohm,
    )
    return Known(direction, steady, volts / shunt_ohm, 0.0)


def _wait_for_current(session: Session, amps: float) -> None:
    supply, clock = session.bench.supply, session.bench.clock
    tolerance_a = programming_tolerance_a(amps) + read_back_of(session.lab).current.of(amps)
    until_s = clock.monotonic() + 5.0
    while abs((got := supply.measure_current_a()) - amps) > tolerance_a or supply.mode() != "CC":
        if clock.monotonic() > until_s:
            raise InstrumentError(
                f"{amps:g} A were asked for and {got:g} A flow in mode {supply.mode()}: is the resistor connected and "
                "small enough, and nothing else?",
                instrument="supply",
            )
        clock.sleep(0.05)


def evaluate(zeros: tuple[Steady, Steady], known: Sequence[Known], plan: Plan, lab: Lab, common: Common) -> ProbeRecord:
    """Fit the line and make the record; raises CalibrationError for figures that contradict each other."""
    offset = Offset(tuple(ZeroPoint(z.t_s, z.current.mean, z.current.u) for z in zeros), 0.0, 0.0)
    reference, top_a = plan.reference, max(plan.currents_a)
    _require_same_current(known, reference, read_back_of(lab).current)
    x = np.array([k.amps for k in known])
    y = np.array([k.steady.current.mean - offset.at(k.steady.t_s) for k in known])
    u_x, u_y = np.array([k.u_amps for k in known]), np.array([k.steady.current.u for k in known])
    line = fit_line(x, y, u_x, u_y)
    limit = math.hypot(PROBE_GAIN_LIMIT[lab.probe.range_v_per_a], SCOPE_GAIN_LIMIT)
    if not abs(line.slope - 1) <= 2 * limit:
        raise refuse(
            f"the gain is {line.slope:.4f}, further from 1 than twice the makers' limits: look at probe.range_v_per_a, "
            "turns, direction, and at the wire through the jaw"
        )
    height, u_height = bow(x, y, u_x, u_y, top_a)
    linearity = (abs(height) + 2 * u_height) / top_a if math.isfinite(u_height) else lab.probe.linearity
    if linearity > MOST_BOW:
        raise refuse(f"the readings bow by {linearity * 100:.2g} % of {top_a:g} A: the clamp or the load heats up")
    beside_a = abs(line.crossing)
    residual_a = lab.supply.output_off_residual_a
    if beside_a > reference.offset_limit + residual_a + 3 * line.u_crossing:
        raise refuse(
            f"the line passes {beside_a * 1e3:.2f} mA beside zero, and the reference's own zero may be off by "
            f"{reference.offset_limit * 1e3:.3g} mA: was the jaw moved, or is the reference wrong?"
        )
    rising, falling = (
        float(np.mean([r for k, r in zip(known, line.residuals, strict=True) if k.direction == direction]))
        for direction in ("up", "down")
    )
    hysteresis_a = abs(rising - falling)
    if hysteresis_a > MOST_BOW * top_a:
        raise refuse(
            f"upwards and downwards the readings differ by {hysteresis_a * 1e3:.3g} mA, more than "
            f"{MOST_BOW * 100:g} % of {top_a:g} A: the jaw was moved, or somebody touched the supply"
        )
    # What is left of a memory of the clamp is no scatter: as a limit across the span it tilts the line.
    u_gain = math.hypot(line.u_slope, hysteresis_a / 2 / math.sqrt(3.0) / top_a)
    drift_a = zeros[1].current.mean - zeros[0].current.mean
    return ProbeRecord(
        **common.fields,
        setting=Setup.of(lab, common.fields["made"]).current,
        reference=reference,
        gain=Estimate(value=line.slope, u=u_gain, dof=float(line.dof)),
        stability=plan.stability,
        intercept_a=Estimate(value=line.intercept, u=line.u_intercept, dof=float(line.dof)),
        covariance_a=line.shared,
        linearity=linearity,
        hysteresis_a=hysteresis_a,
        zero_a=Estimate(
            value=zeros[0].current.mean,
            u=math.hypot(zeros[0].current.u, residual_a / math.sqrt(3.0)),
            dof=zeros[0].current.dof,
        ),
        drift_a=drift_a,
        noise_a2s=float(np.mean([z.current.density for z in zeros])),
        valid_a=Span(low=0.0, high=BEYOND * top_a),  # the zeros are points of it too
        points=[
            Point(
                direction=k.direction, reference=k.amps, u_reference=k.u_amps, reading=float(reading),
                u_reading=k.steady.current.u, residual=float(residual),
            )
            for k, reading, residual in zip(known, y, line.residuals, strict=True)
        ],
    )  # fmt: skip


def _require_same_current(known: Sequence[Known], reference: Reference, read_back: Limits) -> None:
    """Refuse a reference that the supply's own read-back of the same currents contradicts, by more than both promise.

    At each current, and in the slope over all, which is free of both their zeros. Where the read-back is the reference,
    it is its own.
    """
    read = [k for k in known if k.steady.amps]
    if reference.kind == "read-back" or len(read) < 2:
        return
    advice = "look at --shunt-ohm, at the voltmeter, and whether a reading was mistyped"
    means_a = np.array([float(np.mean(k.steady.amps)) for k in read])
    scatter_a = math.hypot(max(float(np.std(k.steady.amps)) for k in read), read_back.step / math.sqrt(12.0))
    for k, read_a in zip(read, means_a, strict=True):
        limit_a = read_back.of(read_a) + reference.relative_limit * abs(k.amps) + reference.offset_limit
        if (apart_a := abs(k.amps - read_a)) > limit_a + 3 * scatter_a:
            raise refuse(
                f"by the shunt {k.amps:.4f} A flow where the supply reads {read_a:.4f} A, {apart_a:.2g} A apart where "
                f"their makers allow {limit_a:.2g} A together: {advice}"
            )
    slope = float(np.polyfit(means_a, [k.amps for k in read], 1)[0])
    u_slope = scatter_a / math.sqrt(float(np.sum((means_a - means_a.mean()) ** 2)))
    limit = read_back.relative + reference.relative_limit
    if abs(slope - 1) > limit + 3 * u_slope:
        raise refuse(
            f"the shunt's currents rise by {(slope - 1) * 100:+.2f} % more than those that the supply reads, where "
            f"their makers allow {limit * 100:.2g} %: {advice}"
        )


def _summary(record: Record) -> list[str]:
    assert isinstance(record, ProbeRecord)
    from calibration.show import lines

    return lines(record)


if __name__ == "__main__":
    leave(main())
