"""Records that cannot be what lab.yaml says they are: dead, saturated, reversed, swapped, wrongly scaled. Pure.

Each mistake has a code of its own (docs/flags.md). What is found here is a mistake of the bench, not an error of
measurement that a calibration could take care of, so that it is refused and not corrected.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Sequence
from dataclasses import fields

import numpy as np

from experiments.capture_data import ReductionError, Wires
from experiments.check_signals import GAIN_LIMIT, LEAST_A, judge_current, judge_voltage, most_noise
from experiments.moments import Moments
from instruments.lab import Lab
from instruments.readback import Limits
from instruments.scope_facts import beyond_the_clamp, clamp
from instruments.waveform import Capture, Preamble, Record

SETTINGS_CHANGED = "settings-changed"
"""Code of a record for which the oscilloscope was set otherwise than the sweep had set it."""

STUCK = "stuck-read-back"
"""Code of a supply that reads the same current whatever flows, so that nothing can be compared with it."""

BENCH_FAULTS = ("flat-line", "wrong-attenuation", "reversed-probe", "swapped-channels", STUCK)
"""Codes that say that the bench is not wired as lab.yaml has it; another try will say the same."""

LINE_FAULTS = (
    "markers-cut",
    "markers-glitch",
    "markers-bounce",
    "markers-missing",
    "markers-extra",
    "wrong-run",
    "lines-unrelated",
)
"""Codes that say that a marker line does not do what the device did; where it was an accident, another try is good.

Not `markers-frame` and `markers-shifted`, which a device that is kept from its work makes too."""

WIRING_FAULTS = (*BENCH_FAULTS, *LINE_FAULTS)
"""Codes with which a sweep ends before its first cell: nothing can be measured until the bench is mended."""

LEAST_V = 0.1
"""A supply that reads less than this tells nothing about the voltage's lead."""

MOSTLY = 0.3
"""Share of a record that is clipped where the span is not just too narrow for some peaks: a run fills most of it."""

DEAD_SHARE = 0.05
"""Share of what the supply gives below which a lead sees nothing of it."""

SWAPPED_SHARE = 0.2
"""How near the record of the current must be to what the voltage's lead would show there."""

LEFT_SHARE = 0.25
"""Share of the set voltage that no zero shows: the board's capacitors have run down, and no offset is so large."""

VOLTAGE_LIMIT = 0.08
"""How far the voltage's channel may lie from what the supply reads: more than probe, oscilloscope and read-back leave
open together, and no jaws that a comparison could make up for."""

STILL_STEPS = 1.5
"""Steps of its display within which all readings of a supply are one and the same."""

MOVED_STEPS, MOVED_LIMITS = 10.0, 4.0
"""A current that moves by more than so many steps of the supply's display, and so many of its constant limits, cannot
leave that display as it is."""

FAR = 2.0
"""A gain further from 1 than this factor belongs to another switch, whatever its value."""


def line_advice(lab: Lab, code: str) -> str:
    """Which wire a code of `LINE_FAULTS` speaks of, and what to look for; empty for other codes."""
    w = lab.wiring
    gate, batch = (
        f"the gate line (wiring.gate, D{w.gate.digital})",
        f"the batch line (wiring.batch, D{w.batch.digital})",
    )
    contact = f"look for a loose contact, a missing ground or crosstalk, and at wiring.marker_threshold_v, on {gate}"
    return {
        "markers-cut": f"{gate} is inverted, or something else holds it high",
        "markers-glitch": f"{contact} and {batch}",
        "markers-bounce": f"{contact} and {batch}",
        "markers-missing": f"{gate} or {batch} is dead, on another input, or another board's",
        "markers-extra": f"{batch} bounces, comes late, or is another board's",
        "wrong-run": f"{gate} and {batch} are those of another board",
        "lines-unrelated": f"the lines are {gate} and {batch}",
    }.get(code, "")


def check_records(capture: Capture, wires: Wires, kind: str, lab: Lab | None, *, regulated: bool = False) -> None:
    """Refuse records that show a mistake of the bench; `lab` is None where another bench recorded them.

    `regulated` says that the supply gives the voltage of lab.yaml, so that the voltage's record can be judged by it.
    Raises ReductionError with one of the codes not-a-number, stale-record, saturated, swapped-channels,
    wrong-attenuation, reversed-probe, flat-line.
    """
    current, voltage = capture.records[wires.current], capture.records[wires.voltage]
    for name, record in (("current", current), ("voltage", voltage)):
        if bad := _not_finite(record.preamble):
            raise ReductionError(f"the {name}'s scale is not a number ({', '.join(bad)})", "not-a-number")
    if lab is not None and kind in ("zero", "idle"):
        _check_rest(lab, kind, voltage, capture.records[wires.markers], wires.gate_bit)
    if kind == "zero":
        if lab is not None:
            _check_zero(lab, current)
        return
    if lab is not None:
        if regulated and (fault := voltage_fault(lab, current, voltage)):
            raise fault
        _check_current(lab, current)
    if kind in ("gain", "cell") and len(current) and current.span[0] == current.span[1]:
        raise ReductionError(
            f"the current is a flat line at {_mean(current):.4g} A, without any noise: is the clamp switched on, its "
            "battery good, and its cable on the channel of wiring.current?",
            "flat-line",
        )


@functools.lru_cache(maxsize=64)
def _not_finite(preamble: Preamble) -> list[str]:
    """Fields that are no numbers; the preambles of one run are nearly all alike."""
    return [f.name for f in fields(preamble) if not math.isfinite(getattr(preamble, f.name))]


def _check_rest(lab: Lab, kind: str, voltage: Record, lines: Record, gate_bit: int) -> None:
    """Refuse a zero that shows the supply's voltage, and an idle record that shows a run: they are other records."""
    volts = _mean(voltage)
    if kind == "zero" and abs(volts) > LEFT_SHARE * lab.supply.voltage_v:
        raise ReductionError(
            f"the voltage is {volts:.4g} V in a zero, with the output off: this is the record of another acquisition, "
            "or something else feeds the board",
            "stale-record",
        )
    if kind == "idle" and lines.units == "bits" and np.any((lines.codes >> gate_bit) & 1):
        raise ReductionError(
            "the gate is high in a record in which nothing runs: this is the record of another acquisition, or the "
            "gate line is inverted or held high",
            "stale-record",
        )


def _check_zero(lab: Lab, current: Record) -> None:
    """Refuse a zero whose noise alone fills the span: a clamp that is scaled too high shows all of itself too large."""
    if _share(current, low=True) == _share(current, low=False) == 0.0:
        return
    noise_a, most_a = float(np.nanstd(current.values())), most_noise(lab)[0]
    if noise_a > most_a:
        w, probe = lab.wiring.current, lab.probe
        raise ReductionError(
            f"the current is clipped at the ends of its span, {w.low_a:g} to {w.high_a:g} A, with the output off: its "
            f"noise is {noise_a:.2g} A rms, where clamp and converter leave {most_a:.2g} A. The clamp's range switch "
            f"or its turns are not those of probe.range_v_per_a ({probe.range_v_per_a:g}) and probe.turns "
            f"({probe.turns}) in lab.yaml; or a transformer is near it",
            "wrong-attenuation",
        )


def _check_current(lab: Lab, current: Record) -> None:
    if _share(current, low=True) > MOSTLY:
        raise ReductionError(
            f"the current lies below {lab.wiring.current.low_a:g} A for most of the record, and a board takes no "
            "negative current: turn the clamp round, or change probe.reversed in lab.yaml",
            "reversed-probe",
        )
    if reason := beyond_the_clamp(lab, current):
        raise ReductionError(reason, "saturated")


def voltage_fault(lab: Lab, current: Record, voltage: Record) -> ReductionError | None:
    """What is wrong with the voltage's lead while the supply regulates its voltage; None where nothing gross is."""
    set_v = lab.supply.voltage_v
    where = "correct wiring.voltage.probe_ratio in lab.yaml, and the switch on the probe"
    if _share(voltage, low=True) > 1 - MOSTLY:
        return ReductionError(_backwards(f"below {lab.wiring.voltage.low_v:g}"), "reversed-probe")
    if _share(voltage, low=False) > 1 - MOSTLY:
        text = f"the voltage lies beyond the {lab.wiring.voltage.high_v:g} V of its span where {set_v:g} V are set"
        return ReductionError(f"{text}: {where}", "wrong-attenuation")
    volts = _mean(voltage)
    ratio = volts / set_v
    if abs(ratio - 1) <= GAIN_LIMIT:
        return None
    if ratio < FAR / 4 and _shows_the_voltage(lab, current):
        return ReductionError(
            f"current and voltage are swapped: CHAN{lab.wiring.voltage.channel} shows {volts:.3g} V where {set_v:g} V "
            f"are set, and CHAN{lab.wiring.current.channel} what the voltage's lead would show there: swap the two "
            "cables, or the channels of wiring.current and wiring.voltage in lab.yaml",
            "swapped-channels",
        )
    if abs(ratio) <= DEAD_SHARE and not _is_step(ratio):
        return ReductionError(
            f"the voltage is {volts:.3g} V where {set_v:g} V are set: channel {lab.wiring.voltage.channel} sees no "
            "voltage: check the probe, and wiring.voltage.channel",
            "flat-line",
        )
    if ratio < 0:
        return ReductionError(_backwards(f"{volts:.3g}"), "reversed-probe")
    if _is_step(ratio) or not 1 / FAR <= ratio <= FAR:
        text = f"the voltage is {volts:.4g} V where {set_v:g} V are set, {ratio:.3g} times that"
        return ReductionError(f"{text}: {where}", "wrong-attenuation")
    return None


def _backwards(volts: str) -> str:
    return f"the voltage is {volts} V, negative: the tip and the ground of the voltage's probe are swapped"


def _shows_the_voltage(lab: Lab, current: Record) -> bool:
    """Whether the channel of the current shows what the lead of the voltage would give there."""
    amps = lab.supply.voltage_v / lab.wiring.voltage.probe_ratio * abs(clamp(lab).probe_ratio)
    amps = -amps if lab.probe.reversed else amps
    if _share(current, low=amps < 0) > 1 - MOSTLY:
        return not lab.wiring.current.low_a <= amps <= lab.wiring.current.high_a
    return abs(_mean(current) - amps) <= SWAPPED_SHARE * abs(amps)


def check_comparison(lab: Lab, current: Record, readings_a: list[float]) -> None:
    """Refuse a record that is clipped although what the supply read meanwhile lies well within its span."""
    high_a = lab.wiring.current.high_a
    if not readings_a or _share(current, low=False) <= MOSTLY:
        return
    read_a = float(np.mean(readings_a))
    if read_a < high_a / FAR:
        raise ReductionError(
            f"the current lies beyond the {high_a:g} A of its span for most of the run where the supply reads "
            f"{read_a:.3g} A: the clamp's range switch or its turns are not those of probe.range_v_per_a and "
            "probe.turns in lab.yaml",
            "wrong-attenuation",
        )


def gain_fault(lab: Lab, amps: float, volts: float, read_a: float, read_v: float) -> ReductionError | None:
    """Judge both channels, `amps` and `volts` above their zeros, by what the supply read of the same.

    None where their ratios may be gains of channels that are as lab.yaml has them, or where nothing flows.
    """
    if not math.isfinite(read_a + read_v):
        return ReductionError(f"the supply read {read_v:g} V and {read_a:g} A: no numbers", "not-a-number")
    for seen, read, least, judge in (
        (volts, read_v, LEAST_V, functools.partial(judge_voltage, clipped=False)),
        (amps, read_a, LEAST_A, judge_current),
    ):
        if read < least:
            continue
        ratio, finding = seen / read, judge(lab, seen, read)
        text = f"{finding.found}: {finding.advice}"
        if abs(ratio) <= DEAD_SHARE and not _is_step(ratio):
            return ReductionError(text, "flat-line")
        if ratio < 0:
            return ReductionError(text, "reversed-probe")
        if _is_step(ratio) or not 1 / FAR <= ratio <= FAR:
            return ReductionError(text, "wrong-attenuation")
    if read_v >= LEAST_V and abs(volts / read_v - 1) > VOLTAGE_LIMIT:
        return voltage_unlike_the_supply(lab, volts, read_v)
    return None


def stuck_fault(limits: Limits, idle_a: float, work_a: float, readings_a: Sequence[float]) -> ReductionError | None:
    """Whether a supply reads one and the same current for the idle board and for the one at work.

    `idle_a` and `work_a` are what the oscilloscope shows of both, `readings_a` all that the supply, which promises
    `limits`, read meanwhile. None where it does not, or where both loads are too much alike to tell.
    """
    span_a, moved_a = max(readings_a) - min(readings_a), abs(work_a - idle_a)
    if span_a > STILL_STEPS * limits.step or moved_a <= MOVED_STEPS * limits.step + MOVED_LIMITS * limits.absolute:
        return None
    return ReductionError(
        f"the supply reads {np.mean(readings_a):.4g} A for the idle board and for the one at work alike, between which "
        f"the current moves by {moved_a:.3g} A on the oscilloscope: its read-back stands still, and no gain can be "
        "found by it. Switch the supply off and on, look at its display while the load changes, and have it repaired "
        "if that stands still too",
        STUCK,
    )


def voltage_unlike_the_supply(lab: Lab, volts: float, read_v: float) -> ReductionError:
    """What to say of a voltage that is not the one that the supply reads at its output."""
    w = lab.wiring.voltage
    sense = "supply.sense and supply.lead_resistance_ohm, " if lab.supply.sense == "local" else ""
    return ReductionError(
        f"the voltage is {volts:.4g} V on CHAN{w.channel} where the supply reads {read_v:.4g} V, "
        f"{(volts / read_v - 1) * 100:+.1f} % off: more than probe, oscilloscope and supply leave open together "
        f"({VOLTAGE_LIMIT * 100:.0f} %). Look at the voltage's lead: its contact, its ground, its switch and "
        f"compensation, {sense}wiring.voltage.probe_ratio ({w.probe_ratio:g}) in lab.yaml; then measure both with a "
        "voltmeter",
        "wrong-attenuation",
    )


def _is_step(ratio: float) -> bool:
    """Whether a ratio is one of 1, 2 or 5 times a power of ten, but not 1: what switches and turns make of a signal."""
    return any(
        abs(ratio / (mantissa * 10.0**decade) - 1) <= GAIN_LIMIT
        for decade in range(-2, 3)
        for mantissa in (1, 2, 5)
        if (mantissa, decade) != (1, 0)
    )


def check_sign(lab: Lab, window: Moments) -> None:
    """Refuse a mean current that is more negative than any zero of the clamp, and a voltage below 0."""
    limit_a = clamp(lab).offset_limit_a
    if window.mean_i < -limit_a:
        raise ReductionError(
            f"the mean current is {window.mean_i:.4g} A, which no zero of the clamp explains (up to "
            f"{limit_a * 1e3:.3g} mA): turn the clamp round, or change probe.reversed in lab.yaml",
            "reversed-probe",
        )
    if window.mean_v < 0:
        raise ReductionError(_backwards(f"{window.mean_v:.4g}"), "reversed-probe")


def _share(record: Record, *, low: bool) -> float:
    """Share of a record that is clipped at one end."""
    codes = record.codes
    step = 0x100 if codes.dtype == np.uint16 else 1
    if len(codes) and (record.span[0] > step if low else record.span[1] < 0xFF * step):
        return 0.0
    clipped = record.clipped_low() if low else record.clipped_high()
    return float(np.mean(clipped)) if len(clipped) else 0.0


def _mean(record: Record) -> float:
    p = record.preamble
    return (float(np.mean(record.codes)) - p.y_reference) * p.y_increment + p.y_origin if len(record) else math.nan
