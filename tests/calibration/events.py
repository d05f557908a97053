"""Calibration records as tests need them: each field may be changed."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

from calibration.choice import Setup
from calibration.records import (
    ChannelAccuracyRecord,
    Estimate,
    Filed,
    MarkerDelayRecord,
    Point,
    ProbeRecord,
    Record,
    Reference,
    Serials,
    Span,
    StartFrames,
    VoltageRecord,
    text_of,
)
from instruments.lab import Lab

MADE = datetime(2026, 11, 1, 12, 0, tzinfo=UTC)
READBACK = Reference(kind="read-back", relative_limit=0.0015, offset_limit=0.005, resolution=0.001)
SHUNT = Reference(kind="shunt", relative_limit=0.0004, offset_limit=0.0001)
POINTS = [
    Point(direction="up", reference=a, u_reference=3e-4, reading=1.01 * a, u_reading=1e-4, residual=0.0)
    for a in (0.2, 0.6, 1.3)
]


def event(lab: Lab, **changes: Any) -> dict[str, Any]:
    """The fields that all records of a bench share."""
    fields = {
        "made": MADE,
        "expires": MADE + timedelta(days=7),
        "source": "simulated",
        "bench": lab.bench,
        "program": "a test",
        "serials": Serials(scope=lab.scope.serial, probe=lab.probe.serial, supply=lab.supply.serial),
    }
    return {**fields, **{name: value for name, value in changes.items() if name in fields or name == "temperature_c"}}


def probe(lab: Lab, gain: float = 1.01, u: float = 3e-4, **changes: Any) -> ProbeRecord:
    """A record of the clamp."""
    fields: dict[str, Any] = {
        "setting": Setup.of(lab, MADE).current,
        "reference": READBACK,
        "gain": Estimate(value=gain, u=u, dof=7.0),
        "stability": 0.005,
        "intercept_a": Estimate(value=0.002, u=2e-4, dof=7.0),
        "covariance_a": None,
        "linearity": 5e-4,
        "hysteresis_a": 1e-4,
        "zero_a": Estimate(value=0.01, u=6e-4, dof=39.0),
        "drift_a": 1e-4,
        "noise_a2s": 4e-8,
        "valid_a": Span(low=-1.3, high=1.365),
        "points": POINTS,
    }
    return ProbeRecord(**event(lab, **changes), **{**fields, **{k: v for k, v in changes.items() if k in fields}})


def voltage(lab: Lab, gain: float = 0.995, lead_ohm: Estimate | None = None, **changes: Any) -> VoltageRecord:
    """A record of the voltage's channel."""
    return VoltageRecord(
        **event(lab, **changes),
        setting=Setup.of(lab, MADE).voltage,
        reference=Reference(kind="read-back", relative_limit=0.0005, offset_limit=0.005, resolution=0.005),
        gain=Estimate(value=gain, u=1e-4, dof=5.0),
        stability=0.003,
        intercept_v=Estimate(value=0.002, u=1e-3, dof=5.0),
        zero_v=Estimate(value=0.02, u=2e-5, dof=39.0),
        noise_v2s=1e-9,
        sense=lab.supply.sense,
        lead_ohm=lead_ohm,
        valid_v=Span(low=0.0, high=1.05 * lab.supply.voltage_v),
        points=POINTS,
    )


def marker_delay(lab: Lab, rise_s: float = 2e-4, fall_s: float = 2e-4, **changes: Any) -> MarkerDelayRecord:
    """A record of the marker lines."""
    return MarkerDelayRecord(
        **event(lab, **changes),
        dut=lab.dut.name,
        line="simulated",
        rise_s=Estimate(value=rise_s, u=5e-6, dof=23.0),
        fall_s=Estimate(value=fall_s, u=8e-6, dof=23.0),
        jitter_rise_s=2e-5,
        jitter_fall_s=3e-5,
        start_frames=StartFrames(sent=4, read=4),
        software_bound_s=3e-3,
        runs=24,
    )


def filed(record: Record, name: str = "record.yaml") -> Filed:
    """A record as if read from a file."""
    return Filed(name, text_of(record), record)


__all__ = ["MADE", "READBACK", "SHUNT", "ChannelAccuracyRecord", "event", "filed", "marker_delay", "probe", "voltage"]
