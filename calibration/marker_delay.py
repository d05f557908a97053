"""Measure how much later than the work a gate edge is seen: constant and jitter, per device and kind of line.

`python -m calibration.marker_delay` lets the device run a busy load many times for a moment and compares the edges of
the gate line with the steps of the current, which begin when work begins and ends. The same runs check the start
frames, and say how far off marks would be that clocks alone set.
"""

from __future__ import annotations

import argparse
import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from calibration.at_bench import Common, Session, add_options, calibrate, check_options, refuse
from calibration.choice import line_kind
from calibration.records import Estimate, MarkerDelayRecord, Record, StartFrames
from calibration.steps import Onset, onset
from instruments import bench_steps, markers
from instruments.command import leave, run
from instruments.dut import ClockBound, Done, Dut
from instruments.errors import CaptureError, ConfigError, DutError
from instruments.lab import Lab
from instruments.scope_facts import POINTS, PRE_TRIGGER, sources
from instruments.waveform import Capture

Floats = NDArray[np.float64]

LOAD = "busy:5"
GATE_SHARE = 0.5
"""Part of the record during which the gate is high."""

LOOK_SHARE = 0.08
"""Part of the record that is looked at before and after an edge."""

FRAME_RUNS = 4
"""Runs with a start frame: these keep the device busy before the gate, so that their steps tell nothing."""

SERIALS = ("scope",)


def parser() -> argparse.ArgumentParser:
    """Describe the command line."""
    p = argparse.ArgumentParser(
        prog="python -m calibration.marker_delay",
        description="Compare gate edges with steps of the current; writes one record of delay and jitter.",
        epilog="exit codes: 0 good, 1 the figures contradict each other, 2 usage, 3 instrument, 130 interrupted",
    )
    add_options(p, window_s=0.1, valid_days=90.0)
    p.add_argument("--runs", type=int, default=24, metavar="N", help="steps of load (default: 24)")
    return p


def main(argv: Sequence[str] | None = None) -> int:
    """Calibrate; returns the exit code."""
    args = parser().parse_args(argv)
    return run(lambda: _calibrate(args))


def _calibrate(args: argparse.Namespace) -> int:
    lab = check_options(args)
    if not 4 <= args.runs <= 1000:
        raise ConfigError(f"--runs {args.runs}: 4 to 1000")
    if line_kind(lab) == "none":
        raise ConfigError(f"{args.lab}: dut.marker is none: there is no line whose delay could be measured")
    return calibrate(
        args, "marker_delay", f"{lab.dut.name} {line_kind(lab)}", lambda session: _procedure(session, args), _summary
    )


@dataclass(frozen=True)
class Run:
    """One run: its record, what the device logged, and how its clock stood to the bench's."""

    capture: Capture
    done: Done
    clock: ClockBound


def _procedure(session: Session, args: argparse.Namespace) -> MarkerDelayRecord:
    """Feed the board, let it run, switch it off; the current needs no calibration, its steps are enough."""
    session.set_up()
    session.prepare_clamp()
    bench, facts = session.bench, session.lab.dut
    bench.supply.output(True)
    bench.supply.wait_settled(5.0)
    dut = _start(session)
    dut.prepare(
        LOAD, 1, run_s=GATE_SHARE * session.window_s, warmup_s=0.5, threads=facts.threads, device=facts.device,
        deadline_s=facts.prepare_timeout_s,
    )  # fmt: skip
    rng = np.random.default_rng(args.seed)
    steps = [_run(session, dut, f"delay-{k}", rng, framed=False) for k in range(args.runs)]
    framed = [_run(session, dut, f"frame-{k}", rng, framed=True) for k in range(FRAME_RUNS)]
    bench.stop_dut()
    bench_steps.switch_off(bench)
    return evaluate(steps, framed, session.lab, Common.of(session, args, parser().prog, *SERIALS))


def _start(session: Session) -> Dut:
    """Start the device's agent, again and again while the board may still boot."""
    bench, until_s = session.bench, session.bench.clock.monotonic() + session.lab.dut.boot_s
    while True:
        try:
            return bench.start_dut()
        except DutError:
            if bench.clock.monotonic() > until_s:
                raise
            bench.clock.sleep(1.0)


def _run(session: Session, dut: Dut, name: str, rng: np.random.Generator, *, framed: bool) -> Run:
    """One short run in one record. Whatever ripples on the board's current meets it at another phase each time."""
    bench, window_s = session.bench, session.window_s
    clock, scope = bench.clock, bench.scope
    clock.sleep(session.lab.dut.rest_s + float(rng.uniform(0, 0.01)))
    known = dut.clock_bound()
    host_s, utc_s = clock.monotonic(), clock.time()
    scope.arm(deadline_s=bench_steps.arm_deadline_s(window_s))
    before_s = PRE_TRIGGER * window_s
    dut.go(
        name,
        limit_s=(1 - PRE_TRIGGER - 2 * LOOK_SHARE) * window_s,
        record=(window_s / POINTS, before_s) if framed else None,
    )
    try:
        scope.wait_done(deadline_s=3.0 + window_s)
    except CaptureError as error:
        scope.stop()
        if error.reason == "no-trigger":
            raise CaptureError(
                "the gate line never rose although the device ran: python -m experiments.check_bench finds it",
                reason="no-trigger",
                instrument="scope",
            ) from error
        raise
    capture = scope.fetch(list(sources(session.lab).values()), points=POINTS, deadline_s=bench_steps.FETCH_S)
    done = dut.wait_done(deadline_s=3.0 + window_s)
    session.keep("marker", capture, host_s, utc_s, done)
    return Run(capture, done, known)


def evaluate(steps: Sequence[Run], framed: Sequence[Run], lab: Lab, common: Common) -> MarkerDelayRecord:
    """Find delay and jitter of both edges and make the record; raises CalibrationError where there are no steps."""
    rise, fall = (_edge(steps, lab, falling) for falling in (False, True))
    sent = [r for r in framed if r.done.start_frame is not None]
    w = lab.wiring
    read = sum(
        markers.start_frame(r.capture[sources(lab)["markers"]].codes, w.gate.digital, w.batch.digital).number
        == r.done.start_frame
        for r in sent
    )
    dt_s = steps[0].capture.dt_s
    if read < len(sent):
        common.fields["notes"].append(
            f"{len(sent) - read} of {len(sent)} start frames could not be read: the lines jitter more than the device "
            "says of them, so that sweeps will reject records"
        )
    return MarkerDelayRecord(
        **common.fields,
        dut=lab.dut.name,
        line=line_kind(lab),
        rise_s=_estimate(rise, dt_s),
        fall_s=_estimate(fall, dt_s),
        jitter_rise_s=rise.scatter_s,
        jitter_fall_s=fall.scatter_s,
        start_frames=StartFrames(sent=len(sent), read=read),
        software_bound_s=max(_software(r) for r in steps),
        runs=len(steps),
    )


def _estimate(found: Onset, dt_s: float) -> Estimate:
    """The line's edge is the axis' zero: it comes later than a step that begins before 0."""
    return Estimate(value=-found.at_s, u=math.hypot(found.u_s, dt_s / math.sqrt(12.0)), dof=found.dof)


def _edge(runs: Sequence[Run], lab: Lab, falling: bool) -> Onset:
    """Put the current around one edge of every run on one axis and find where the step begins."""
    w, roles = lab.wiring, sources(lab)
    repeats: list[Floats] = []
    t_s: Floats = np.zeros(0)
    for r in runs:
        decoded = markers.decode(r.capture[roles["markers"]].codes, w.gate.digital, w.batch.digital)
        if decoded.window is None:
            raise refuse(f"run {r.done.run_id}: {'; '.join(decoded.problems)}")
        at = decoded.window.stop if falling else decoded.window.start
        around = round(LOOK_SHARE * r.capture.points)
        if at < around or at + around > r.capture.points:
            raise refuse(f"run {r.done.run_id}: the gate's edge is too near the record's end; take a longer --window")
        if r.capture[roles["current"]].clipped().any():
            raise refuse(f"run {r.done.run_id}: the current is clipped: widen wiring.current in lab.yaml")
        repeats.append(r.capture[roles["current"]].values()[at - around : at + around])
        t_s = np.asarray(
            (np.arange(-around, around) + 0.5) * r.capture.dt_s
        )  # the edge lies half-way before its first sample
    try:
        return onset(t_s, np.array(repeats))
    except ValueError as error:
        span_ms = LOOK_SHARE * runs[0].capture.duration_s * 1e3
        raise refuse(
            f"no step of the current at the gate's {'fall' if falling else 'rise'}: {error}; the step of a line that "
            f"is late by more than {0.25 * span_ms:.2g} ms, or early by more than {0.75 * span_ms:.2g} ms, shows with "
            "a longer --window, up to 2"
        ) from error


def _software(r: Run) -> float:
    """How far off the clocks of board and bench would put the gate's rise: by the bounds of the one and of the trigger.

    A record knows its place on the bench's clock by the polls before and after the trigger alone.
    """
    told_s = r.done.gate_ns[1] * 1e-9 - r.clock.offset_s
    apart_s = max(abs(told_s - r.capture.trigger_after_s), abs(told_s - r.capture.trigger_before_s))
    return apart_s + r.clock.bound_s


def _summary(record: Record) -> list[str]:
    from calibration.show import lines

    return lines(record)


if __name__ == "__main__":
    leave(main())
