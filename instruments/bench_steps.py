"""Steps at an open bench that sweeps and calibrations share: set up the oscilloscope, feed the board, record.

Nothing is stored here. Each step leaves the bench safe to leave; the output ends off with `open_bench`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict
from typing import Any

from instruments.bench import Bench
from instruments.errors import InstrumentError
from instruments.lab import Lab
from instruments.mso_x2024a import EdgeTrigger
from instruments.scope_facts import POINTS, PRE_TRIGGER, acquisition_plan, channel_settings, sources
from instruments.waveform import Capture

FETCH_S = 15.0
"""Longest that the transfer of one capture may take."""

OFF_V = 0.1
"""What the supply may still read with its output off before a zero is taken."""

ACQUISITION = "HRES"
"""How the oscilloscope makes samples: averaged to more bits."""

SETTLE_S = 0.3
"""Wait after the output has changed: longer than the supply's 90 ms to settle and the board's capacitors."""


def set_up_scope(bench: Bench, window_s: float, say: Callable[[str], None]) -> dict[str, str]:
    """Set the channels, the pod, the trigger and the acquisition; each is read back.

    Warns before the first capture, not after, when the memory will not give the usual rate. Returns the settings as
    the oscilloscope reports them.
    """
    scope, w, lab = bench.scope, bench.lab.wiring, bench.lab
    current, voltage = channel_settings(lab)
    bench.scope_changed = True
    has = scope.capabilities(lab.scope.memory_points, like=lab.scope.like)
    if more := has.more_memory(scope.options()):
        say(f"oscilloscope: its memory option promises {more} points: write that as scope.memory_points")
    scope.stop()
    for n in range(1, has.analog_channels + 1):
        if n not in (w.current.channel, w.voltage.channel):
            scope.switch_off_channel(n)
    scope.configure_channel(w.current.channel, current)
    scope.configure_channel(w.voltage.channel, voltage)
    scope.configure_digital((w.gate.digital, w.batch.digital), w.marker_threshold_v)
    scope.configure_acquisition(ACQUISITION)
    scope.configure_trigger(_trigger(lab))
    set_window(bench, window_s)
    planned = acquisition_plan(lab, window_s)
    if planned.short:
        for line in planned.lines():
            say(f"oscilloscope: {line}")
    return dict(scope.settings())


def _trigger(lab: Lab) -> EdgeTrigger:
    return EdgeTrigger(source=f"DIG{lab.wiring.gate.digital}", slope="POS", sweep="NORM")


def asked(lab: Lab, window_s: float) -> dict[str, dict[str, Any]]:
    """What `set_up_scope` and `feed_board` ask of the instruments, as numbers and names; None: left alone."""
    w, supply = lab.wiring, lab.supply
    current, voltage = channel_settings(lab)
    return {
        "scope": {
            "current": {"channel": w.current.channel, **asdict(current)},
            "voltage": {"channel": w.voltage.channel, **asdict(voltage)},
            "digital": {"lines": [w.gate.digital, w.batch.digital], "threshold_v": w.marker_threshold_v},
            "acquisition": ACQUISITION,
            "trigger": asdict(_trigger(lab)),
            "timebase": {"window_s": window_s, "reference": "LEFT", "position_s": 0.0},
        },
        "supply": {
            "range": supply.range,
            "voltage_v": supply.voltage_v,
            "current_limit_a": supply.current_limit_a,
            "ovp_v": supply.ovp_v,
        },
    }


OF_A_CHANNEL = ("UNITs", "PROBe", "COUPling", "BWLimit", "INVert", "RANGe", "OFFSet")
"""Settings of a channel that make a record another one, or other numbers of it."""


def of_a_record(lab: Lab) -> list[str]:
    """Names of the oscilloscope's settings on which every record of a bench rests; few enough for one message."""
    channels = lab.wiring.current.channel, lab.wiring.voltage.channel
    return [
        *(f"CHANnel{number}:{name}" for number in channels for name in OF_A_CHANNEL),
        "ACQuire:TYPE",
        "POD1:THReshold",
    ]


def strayed(bench: Bench, asked: Mapping[str, str]) -> list[str]:
    """Say which settings of the oscilloscope are others than those that it told when it was set up.

    To be asked after a record was fetched, so that what was changed before it or during it is seen.
    """
    if not asked:  # a driver of another family names its settings otherwise
        return []
    found = bench.scope.read_back(list(asked))
    return [f"{name} is {found[name]}, not {value}" for name, value in asked.items() if found[name] != value]


def set_window(bench: Bench, window_s: float) -> None:
    """Set the length of the record, with the trigger one division from its left end."""
    bench.scope.configure_timebase(window_s, reference="LEFT", position_s=0.0)


def feed_board(bench: Bench, say: Callable[[str], None]) -> None:
    """Prepare the supply in the order that is safe: OVP, range, current limit, voltage; output still off."""
    facts, supply = bench.lab.supply, bench.supply
    supply.remote()
    if supply.output_is_on():
        say("the supply's output was on: it is switched off to take the zero")
    switch_off(bench)
    supply.set_ovp(facts.ovp_v)
    supply.set_range(facts.range)
    supply.set_current_limit(facts.current_limit_a)
    supply.set_voltage(facts.voltage_v)


def switch_off(bench: Bench) -> None:
    """Switch the output off and wait until the board's capacitors have followed it to 0 V."""
    supply = bench.supply
    supply.output(False)
    until = bench.clock.monotonic() + 5.0
    while (volts := supply.measure_voltage_v()) > OFF_V:
        if bench.clock.monotonic() > until:
            raise InstrumentError(
                f"the output is off and still at {volts:g} V after 5 s: does another source feed the board?",
                instrument="supply",
            )
    bench.clock.sleep(SETTLE_S)


def arm_deadline_s(window_s: float) -> float:
    """How long arming may take: the pre-trigger and what a slow network adds."""
    return PRE_TRIGGER * window_s + 5.0


def forced_record(bench: Bench, window_s: float, during: Callable[[float], None] = lambda until_s: None) -> Capture:
    """Take a record of whatever happens now; `during` is called while it runs, with the bench's time of its end.

    Raises CaptureError when there is none.
    """
    scope = bench.scope
    scope.arm(deadline_s=arm_deadline_s(window_s))
    scope.force_trigger()
    # In virtual time the oscilloscope takes that before a slow answer of the supply moves the bench on.
    bench.clock.sleep(0.0)
    during(bench.clock.monotonic() + (1 - PRE_TRIGGER) * window_s)
    scope.wait_done(deadline_s=window_s + 5.0)
    return scope.fetch(list(sources(bench.lab).values()), points=POINTS, deadline_s=FETCH_S)
