"""Say in words what calibration records hold: `python -m calibration.show RECORD...`."""

from __future__ import annotations

import argparse
import math
from collections.abc import Sequence
from pathlib import Path

from calibration.budget import student_t
from calibration.line import u_of_line
from calibration.records import (
    ChannelAccuracyRecord,
    Estimate,
    MarkerDelayRecord,
    Point,
    ProbeRecord,
    Record,
    Reference,
    Span,
    VoltageRecord,
    load,
    stamp,
)
from instruments.command import leave, run, say
from instruments.wording import counted


def parser() -> argparse.ArgumentParser:
    """Describe the command line."""
    p = argparse.ArgumentParser(
        prog="python -m calibration.show",
        description="Say in words what calibration records hold.",
        epilog="exit codes: 0 good, 2 usage or no record",
    )
    p.add_argument("record", type=Path, nargs="+", metavar="RECORD", help="a .yaml")
    p.add_argument("--points", action="store_true", help="each comparison too, with what the line leaves")
    return p


def main(argv: Sequence[str] | None = None) -> int:
    """Show; returns the exit code."""
    args = parser().parse_args(argv)
    return run(lambda: _show(args.record, points=args.points))


def _show(paths: Sequence[Path], *, points: bool) -> int:
    for path in paths:
        filed = load(path)
        say(f"{filed.name}: {filed.record.kind}")
        for line in lines(filed.record, points=points):
            say(f"  {line}")
    return 0


def relative_u(record: ProbeRecord | VoltageRecord, *, later: bool = False) -> float:
    """Half-width of the gain's 95 % interval, relative; `later`: until the record expires."""
    parts = [record.gain.u / record.gain.value, record.reference.relative_limit / math.sqrt(3.0)]
    if later:
        parts.append(record.stability / math.sqrt(3.0))
    u = math.hypot(*parts)
    dof = math.inf if parts[0] == 0 else max(1.0, record.gain.degrees * (u / parts[0]) ** 4)
    return student_t(0.95, dof) * u


def lines(record: Record, *, points: bool = False) -> list[str]:
    """A record in words."""
    if isinstance(record, ChannelAccuracyRecord):
        found = [f"{record.instrument}, by {record.specification}"]
        for name, unit, channel in (("current", "A", record.current), ("voltage", "V", record.voltage)):
            if channel is not None:
                found.append(
                    f"{name}: ±({channel.relative_limit * 100:.3g} % + {channel.offset_limit:g} {unit}), "
                    f"{channel.valid.low:g} to {channel.valid.high:g} {unit}"
                )
        return [*found, f"of {stamp(record.made)}" + (f", until {stamp(record.expires)}" if record.expires else "")]
    serials = ", ".join(f"{name} {serial}" for name, serial in record.serials if serial is not None)
    found = [f"{record.bench} ({record.source}): {serials or 'no serials'}"]
    if isinstance(record, MarkerDelayRecord):
        found += _marker_delay(record)
    else:
        found += _channel(record)
        if points:
            found += [_point(point, "A" if isinstance(record, ProbeRecord) else "V") for point in record.points]
    if record.temperature_c is not None:
        found.append(f"at {record.temperature_c:g} °C")
    found += record.notes
    found.append(f"of {stamp(record.made)}, expires {stamp(record.expires)}")
    if record.raw is not None:
        found.append(f"raw data: {record.raw.file}, SHA-256 {record.raw.sha256[:16]}…")
    return found


def _channel(record: ProbeRecord | VoltageRecord) -> list[str]:
    s = record.setting
    if isinstance(record, ProbeRecord):
        unit, zero, intercept, valid = "A", record.zero_a, record.intercept_a, record.valid_a
        shared = record.covariance_a
        wired = f"{record.setting.range_v_per_a * 1e3:g} mV/A, {counted(record.setting.turns, 'turn')}"
        if record.setting.reversed:
            wired += ", reversed"
        scale = f"{record.setting.full_scale_a:g} A full scale"
    else:
        unit, zero, intercept, valid = "V", record.zero_v, record.intercept_v, record.valid_v
        shared = record.covariance_v
        wired = f"{record.setting.probe_ratio:g}:1, {record.sense} sense"
        scale = f"{record.setting.full_scale_v:g} V full scale"
    references = [p.reference for p in record.points]
    found = [
        f"channel {s.channel}: {wired}, {scale}",
        f"against {_reference(record.reference, unit)} at {counted(len(record.points), 'point')}, "
        f"{min(references):.4g} to {max(references):.4g} {unit}",
        f"may be used from {valid.low:.4g} to {valid.high:.4g} {unit}: {_why(valid, references)}",
        f"gain {record.gain.value:.5f}, U (95 %) {relative_u(record) * 100:.2g} %, until it expires "
        f"{relative_u(record, later=True) * 100:.2g} % (may move by {record.stability * 100:.2g} %)",
        f"zero {_estimate(zero, unit)}; the line passes {_estimate(intercept, unit)} beside it",
    ]
    if shared is not None:
        top = max(p.reference for p in record.points)
        u = u_of_line(top, intercept.u, record.gain.u, shared)
        found.append(
            f"gain and intercept are correlated by {_correlation(record.gain, intercept, shared):+.2f} (covariance "
            f"{shared:.3g} {unit}): at {top:.4g} {unit} the fit is known to u {u * 1e3:.2g} m{unit}"
        )
    residual = max(abs(p.residual) for p in record.points)
    if isinstance(record, ProbeRecord):
        found.append(
            f"largest residual {residual * 1e3:.2f} mA, bow within {record.linearity * 100:.2g} %, up and down "
            f"{record.hysteresis_a * 1e3:.2f} mA apart, zero moved by {record.drift_a * 1e3:+.2f} mA"
        )
    else:
        found.append(f"largest residual {residual * 1e3:.2f} mV")
        if record.lead_ohm is not None:
            found.append(f"leads {record.lead_ohm.value * 1e3:.2f} mohm, u {record.lead_ohm.u * 1e3:.2g} mohm")
    return found


def _why(valid: Span, references: Sequence[float]) -> str:
    """How a range follows from the points."""
    least, most = min(references), max(references)
    low = "from its zero" if valid.low == 0 else "from its points" if 0 < valid.low <= least else "by the record"
    beyond = valid.high / most - 1
    return (
        f"{low}, up to {beyond * 100:.2g} % beyond the highest point" if beyond > 0 else f"{low} to its highest point"
    )


def _correlation(gain: Estimate, intercept: Estimate, shared: float) -> float:
    return shared / (gain.u * intercept.u) if gain.u and intercept.u else 0.0


def _marker_delay(record: MarkerDelayRecord) -> list[str]:
    frames = record.start_frames
    return [
        f"{record.dut}, {record.line} lines, {counted(record.runs, 'run')}",
        f"gate's rise {_micro(record.rise_s)} after work begins, jitter {record.jitter_rise_s * 1e6:.2g} µs",
        f"gate's fall {_micro(record.fall_s)} after work ends, jitter {record.jitter_fall_s * 1e6:.2g} µs",
        f"start frames: {frames.read} of {frames.sent} read back",
        f"marks by clocks alone would be within {record.software_bound_s * 1e3:.2g} ms",
    ]


def _micro(estimate: Estimate) -> str:
    return f"{estimate.value * 1e6:+.1f} µs (u {estimate.u * 1e6:.2g} µs)"


def _reference(reference: Reference, unit: str) -> str:
    name = "the supply's read-back" if reference.kind == "read-back" else "a shunt"
    return f"{name} (±({reference.relative_limit * 100:.3g} % + {reference.offset_limit * 1e3:.3g} m{unit}))"


def _estimate(estimate: Estimate, unit: str) -> str:
    return f"{estimate.value * 1e3:+.3f} m{unit} (u {estimate.u * 1e3:.2g} m{unit})"


def _point(point: Point, unit: str) -> str:
    return (
        f"{point.direction:>4}: {point.reference:.5f} {unit} by the reference, {point.reading:.5f} {unit} by the "
        f"channel, {point.residual * 1e3:+.3f} m{unit} off the line"
    )


if __name__ == "__main__":
    leave(main())
