"""Zero, noise, headroom and gain of the analogue channels, and what a wrong one may come from. Pure.

Limits are those of the probe's and the supply's specifications, widened by what a good bench shows; they tell a
mistake from an error that the calibration takes care of.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from calibration.reference import read_back_of
from experiments.check_findings import Finding
from instruments.lab import Lab
from instruments.probe_1146b import OFFSET_LIMIT_A
from instruments.scope_facts import clamp
from instruments.waveform import Record
from instruments.wording import counted

GAIN_LIMIT = 0.06
"""A gain further from 1 than probe and channel together allow by their specifications is no gain but a mistake."""

HEADROOM = 0.03
"""Share of the span that must stay free at either end while the board works."""

NOISE_FACTOR = 3.0
"""Noise beyond this times what probe and converter explain is somebody else's."""

CONVERTER_STEPS = 199.0
"""Steps of 8 bits over the eight divisions of a channel."""

LEAST_A = 0.02
"""Less than this tells nothing about the clamp."""


@dataclass(frozen=True)
class Channel:
    """One analogue channel as lab.yaml has it."""

    signal: str
    unit: str
    low: float
    high: float

    @classmethod
    def both(cls, lab: Lab) -> tuple[Channel, Channel]:
        """Current and voltage."""
        c, v = lab.wiring.current, lab.wiring.voltage
        return cls("current", "A", c.low_a, c.high_a), cls("voltage", "V", v.low_v, v.high_v)

    @property
    def span(self) -> float:
        """Distance of its ends, in its unit."""
        return self.high - self.low


def mean(record: Record) -> float:
    """Mean of a record in its unit, whatever is missing."""
    values = record.values()
    return float(np.nanmean(values)) if np.isfinite(values).any() else math.nan


def fit(record: Record, channel: Channel, when: str) -> list[Finding]:
    """Find what makes a record useless: samples that are clipped or missing. Empty where nothing does."""
    n = len(record)
    low, high, holes = (
        int(mask.sum()) for mask in (record.clipped_low(), record.clipped_high(), record.holes())
    )  # fmt: skip
    found = []
    id, name = f"{channel.signal}.headroom", f"headroom of the {channel.signal}"
    if low or high:
        end = "both ends" if low and high else "its upper end" if high else "its lower end"
        found.append(
            Finding(
                id,
                "wrong",
                name,
                f"{low + high} of {n} samples are clipped at {end} of {channel.low:g} to {channel.high:g} "
                f"{channel.unit} {when}",
                f"widen wiring.{channel.signal} in lab.yaml, or look for a wrong attenuation",
                {"clipped_low": low, "clipped_high": high},
            )
        )
    if holes:
        advice = "let nobody else use the oscilloscope, and capture again"
        text = f"{holes} of {n} samples were never acquired {when}"
        found.append(Finding(f"{channel.signal}.record", "wrong", f"record of the {channel.signal}", text, advice))
    return found


def judge_zero(lab: Lab, current: Record, voltage: Record) -> list[Finding]:
    """Judge zero and noise of both channels from a record with the output off."""
    probe = clamp(lab)
    amps, volts = current.values(), voltage.values()
    zero_a, noise_a = mean(current), float(np.nanstd(amps))
    zero_v, noise_v = mean(voltage), float(np.nanstd(volts))
    limit_a = OFFSET_LIMIT_A / probe.turns
    most_a, most_v = most_noise(lab)
    return [
        _one(
            abs(zero_a) <= limit_a,
            "current.zero",
            "zero of the current",
            f"{zero_a * 1e3:.2f} mA with the output off",
            f"more than the probe's {limit_a * 1e3:g} mA: degauss it and turn its zero wheel",
            zero_a=zero_a,
            limit_a=limit_a,
        ),
        _noise("current", noise_a, most_a, "A"),
        _one(
            abs(zero_v) <= 0.02 * lab.supply.voltage_v,
            "voltage.zero",
            "zero of the voltage",
            f"{zero_v * 1e3:.1f} mV with the output off",
            "another source feeds the board, or the channel's offset is off",
            zero_v=zero_v,
            limit_v=0.02 * lab.supply.voltage_v,
        ),
        _noise("voltage", noise_v, most_v, "V"),
    ]


def most_noise(lab: Lab) -> tuple[float, float]:
    """The noise that probe and converter explain with the output off, A and V rms."""
    most_a, most_v = (
        NOISE_FACTOR * math.hypot(own, channel.span / CONVERTER_STEPS)
        for own, channel in zip((clamp(lab).noise_a, 0.002 * lab.supply.voltage_v), Channel.both(lab), strict=True)
    )
    return most_a, most_v


def _noise(signal: str, rms: float, most: float, unit: str) -> Finding:
    """Judge a noise; a quiet voltage may well show none in its steps, a clamp that is on never does."""
    id, name = f"{signal}.noise", f"noise of the {signal}"
    found = f"{rms * 1e3:.2f} m{unit} rms in one sample"
    values = {f"noise_{unit.lower()}": rms, f"limit_{unit.lower()}": most}
    if rms == 0 and signal == "current":
        advice = "is the clamp on, its battery good, its cable on this channel?"
        return Finding(id, "wrong", name, "none at all: a flat line", advice, values)
    advice = (
        f"more than {most * 1e3:.3g} m{unit}: move the {'clamp' if signal == 'current' else 'probe'} away from "
        + ("transformers and switching supplies, check its battery and the ground lead")
    )
    return _one(rms <= most, id, name, found, advice, **values)


def compare_idle(
    lab: Lab, zero: tuple[float, float], idle: tuple[Record, Record], supply_v: float, supply_a: float
) -> list[Finding]:
    """Compare both channels with the supply's own reading while nothing runs; names gross mistakes.

    `zero` are the means (A, V) with the output off. What is clipped is compared as far as it goes.
    """
    amps, volts = (mean(record) - z for record, z in zip(idle, zero, strict=True))
    found = [judge_voltage(lab, volts, supply_v, clipped=int(idle[1].clipped_high().sum()) > 0)]
    if abs(supply_a) < LEAST_A:
        text = f"the supply reads {supply_a * 1e3:.0f} mA: too little to compare the clamp with"
        return [*found, Finding("current.idle", "note", "idle current", text)]
    return [*found, judge_current(lab, amps, supply_a)]


def judge_voltage(lab: Lab, volts: float, supply_v: float, *, clipped: bool) -> Finding:
    """Judge a voltage above zero by what the supply reads; names what a gross difference may come from."""
    id, name = "voltage.idle", "idle voltage"
    ratio = volts / supply_v if supply_v else math.nan
    values = {"scope_v": volts, "supply_v": supply_v}
    attenuation = lab.wiring.voltage.probe_ratio
    where = "wiring.voltage.probe_ratio in lab.yaml, and the switch on the probe"
    if clipped:
        found = f"beyond the {lab.wiring.voltage.high_v:g} V of its span where the supply reads {supply_v:.3f} V"
        advice = f"the probe attenuates less than {attenuation:g}:1: correct {where}"
        return Finding(id, "wrong", name, found, advice, values)
    found = f"{volts:.3f} V on the oscilloscope, {supply_v:.3f} V by the supply"
    if abs(ratio - 1) <= GAIN_LIMIT:
        return Finding(id, "good", name, found, "", values)
    if ratio < -0.05:
        advice = "the probe's tip and ground are swapped"
    elif abs(ratio) <= 0.05:
        advice = f"channel {lab.wiring.voltage.channel} sees no voltage: check the probe, and wiring.voltage.channel"
    else:
        advice = f"the probe attenuates {attenuation / ratio:.3g}:1 and not {attenuation:g}:1: correct {where}"
    return Finding(id, "wrong", name, found, advice, values)


def judge_current(lab: Lab, amps: float, supply_a: float) -> Finding:
    """Judge a current above zero by what the supply reads; names what a gross difference may come from."""
    id, name = "current.idle", "idle current"
    ratio = amps / supply_a
    slack = GAIN_LIMIT + (read_back_of(lab).current.of(supply_a) + LEAST_A / 4) / abs(supply_a)
    values = {"scope_a": amps, "supply_a": supply_a}
    found = f"{amps * 1e3:.1f} mA above zero on the oscilloscope, {supply_a * 1e3:.1f} mA by the supply"
    if abs(ratio - 1) <= slack:
        return Finding(id, "good", name, found, "", values)
    size = abs(ratio)
    if abs(ratio) <= 0.05:
        advice = (
            f"the clamp sees no current: is it around the supply's lead, switched on, and on channel "
            f"{lab.wiring.current.channel}?"
        )
    elif ratio < 0 and abs(size - 1) <= slack:
        advice = "the clamp is reversed: turn it round, or change probe.reversed in lab.yaml"
    elif abs(size - 10) <= 10 * slack or abs(10 * size - 1) <= slack:
        advice = "the clamp's range switch is not at probe.range_v_per_a of lab.yaml"
    else:
        turns = max(1, round(size * lab.probe.turns))
        if turns == lab.probe.turns or abs(size * lab.probe.turns - turns) > turns * slack:
            advice = "is the clamp closed, zeroed, and around this lead alone?"
        else:
            advice = (
                f"about {counted(turns, 'turn')} through the clamp where lab.yaml has probe.turns: {lab.probe.turns}"
            )
    if ratio < -0.05 and "reversed" not in advice:
        advice += "; and it is reversed"
    return Finding(id, "wrong", name, found, advice, values)


def judge_gain(channel: Channel, gain: float, source: str) -> Finding:
    """Judge the gain that was found against the supply's read-back under load."""
    return _one(
        abs(gain - 1) <= GAIN_LIMIT,
        f"{channel.signal}.gain",
        f"gain of the {channel.signal}",
        f"{gain:.4f} against the {source}",
        "probe range, attenuation, turns or direction differ from lab.yaml",
        gain=gain,
        limit=GAIN_LIMIT,
    )


def judge_headroom(channel: Channel, record: Record) -> Finding:
    """Judge how much of the span the working board leaves free."""
    least, most = float(np.nanmin(record.values())), float(np.nanmax(record.values()))
    free = min(least - channel.low, channel.high - most) / channel.span
    return _one(
        free >= HEADROOM,
        f"{channel.signal}.headroom",
        f"headroom of the {channel.signal}",
        f"{least:.3f} to {most:.3f} {channel.unit} in a span of {channel.low:g} to {channel.high:g}",
        f"widen wiring.{channel.signal} in lab.yaml: a stronger load will clip",
        least=least,
        most=most,
        free=free,
    )


def _one(good: bool, id: str, name: str, found: str, advice: str, **values: float) -> Finding:
    return Finding(id, "good" if good else "wrong", name, found, "" if good else advice, dict(values))
