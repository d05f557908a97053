"""What lab.yaml makes the oscilloscope and the clamp be, found out and checked without an instrument. Pure."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from instruments.errors import ConfigError, LabError
from instruments.lab import Lab
from instruments.mso_x2024a import AcquisitionPlan, Capabilities, ChannelSettings, next_full_scale, plan_acquisition
from instruments.probe_1146b import Probe1146B
from instruments.waveform import Capture, Record
from instruments.wording import counted

POINTS = 100_000
"""Points asked of the oscilloscope for each record; what came is in the preamble."""

PRE_TRIGGER = 0.1
"""Share of the record before the trigger, with the time reference one division from the left."""

USUAL_RATE_HZ = 50_000.0
"""The paper's sampling rate."""

CONVERTER_BITS = 8
"""Of one conversion; samples of high resolution have more."""


def sources(lab: Lab) -> dict[str, str]:
    """Which input of the oscilloscope plays which role."""
    w = lab.wiring
    return {"current": f"CHAN{w.current.channel}", "voltage": f"CHAN{w.voltage.channel}", "markers": "POD1"}


def capabilities(lab: Lab) -> Capabilities:
    """What the oscilloscope of a bench has; raises ConfigError where the wiring needs more, or the model is unknown."""
    try:
        has = Capabilities.of(lab.scope.model, lab.scope.memory_points, like=lab.scope.like)
    except ConfigError as error:
        raise LabError(str(error), "scope", "model") from error
    for role, source in sources(lab).items():
        try:
            has.source(source)
        except ConfigError as error:
            instead = ": the marker lines need an MSO" if role == "markers" else ""
            where = ("scope", "model") if role == "markers" else ("wiring", role, "channel")
            raise LabError(f"{error}{instead}", *where) from error
    return has


def acquisition_plan(lab: Lab, window_s: float) -> AcquisitionPlan:
    """What the oscilloscope will give for a record of this length; raises ConfigError.

    It is short of what is wanted where its rate is below the usual one, or below what the usual length would give.
    """
    plan = plan_acquisition(window_s, list(sources(lab).values()), points=POINTS, capabilities=capabilities(lab))
    if plan.rate_hz >= 0.99 * min(USUAL_RATE_HZ, POINTS / plan.time_range_s):
        return replace(plan, wanted_points=min(plan.points, POINTS), choices=())
    return plan


def unlike_the_plan(lab: Lab, window_s: float, capture: Capture, points: int = POINTS) -> list[str]:
    """Say in what a first record, its current under `current`, is not what was planned for such a window."""
    found = []
    planned = acquisition_plan(lab, window_s)
    if capture.rate_hz < 0.99 * min(planned.rate_hz, points / window_s):
        found.append(
            f"{capture.points} points at {capture.rate_hz / 1e3:g} kSa/s came, {planned.points} at "
            f"{planned.rate_hz / 1e3:g} were expected: is scope.memory_points right?"
        )
    record = capture["current"]
    if record.codes.dtype.itemsize > 1 and 0 < record.resolution_bits <= CONVERTER_BITS:
        found.append(
            f"the record has steps of {record.resolution_bits} bits: its samples are single conversions although high "
            "resolution is set, so they are noisier, and what is faster than the sampling rate is aliased"
        )
    return found


def clamp(lab: Lab) -> Probe1146B:
    """The clamp as it is set and threaded."""
    return Probe1146B(lab.probe.range_v_per_a, lab.probe.turns, -1 if lab.probe.reversed else 1)


def beyond_the_clamp(lab: Lab, current: Record) -> str:
    """Why a record of the current cannot be trusted: the clamp was beyond its range, though the channel showed it.

    Empty where it was not.
    """
    probe = clamp(lab)
    if not len(current) or not np.any(probe.over_range(_ends(current))):
        return ""
    beyond = int(np.count_nonzero(probe.over_range(current.values())))
    if not beyond:
        return ""
    return (
        f"{beyond} samples of the current are beyond the {probe.peak_current_a:g} A of the clamp: lead the wire "
        "through it fewer times, or switch it to 10 mV/A (probe.range_v_per_a)"
    )


def _ends(record: Record) -> NDArray[np.float64]:
    """The lowest and highest reading of a record, holes counted: quickly told of a record without a fault."""
    ends = np.array(record.span, dtype=np.float64)
    p = record.preamble
    return np.asarray((ends - p.y_reference) * p.y_increment + p.y_origin)


def channel_settings(lab: Lab) -> tuple[ChannelSettings, ChannelSettings]:
    """Settings of the current's and the voltage's channel. Raises ConfigError naming the line of lab.yaml."""
    probe = clamp(lab)
    c, v = lab.wiring.current, lab.wiring.voltage
    try:
        current = ChannelSettings(
            full_scale=next_full_scale(c.high_a - c.low_a, probe.probe_ratio),
            offset=(c.high_a + c.low_a) / 2,
            units=probe.units,
            probe_ratio=probe.probe_ratio,
            invert=probe.invert,
            label="CURRENT",
        )
    except ConfigError as error:
        raise LabError(str(error), "wiring", "current") from error
    if max(abs(c.low_a), abs(c.high_a)) > probe.peak_current_a:
        raise LabError(
            f"the span reaches beyond the {probe.peak_current_a:g} A that the probe shows at "
            f"{lab.probe.range_v_per_a:g} V/A with {counted(lab.probe.turns, 'turn')}: narrow it, or change "
            "probe.range_v_per_a or probe.turns",
            "wiring",
            "current",
        )
    try:
        voltage = ChannelSettings(
            full_scale=next_full_scale(v.high_v - v.low_v, v.probe_ratio),
            offset=(v.high_v + v.low_v) / 2,
            units="V",
            probe_ratio=v.probe_ratio,
            label="VOLTAGE",
        )
    except ConfigError as error:
        raise LabError(str(error), "wiring", "voltage") from error
    return current, voltage
