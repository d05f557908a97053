"""An open bench at work on a plan: sets it up, takes records in which nothing runs, stores and checks captures.

Every step leaves the file consistent; signals are held back while it writes.
"""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from experiments.energy import CaptureData, Measured, ReductionError, measure, results
from experiments.plan import Plan
from experiments.reduction import find_calibration, wires
from experiments.traces import CaptureRow, Reading, TraceWriter
from instruments.bench import Bench, load_drivers, supply_limits
from instruments.dut import Dut
from instruments.e3645a import check_set_points
from instruments.errors import CaptureError, ConfigError, DutError, InstrumentError
from instruments.interrupts import undisturbed
from instruments.lab import Lab
from instruments.mso_x2024a import ChannelSettings, EdgeTrigger, next_full_scale, plan_acquisition
from instruments.probe_1146b import Probe1146B
from instruments.waveform import Capture

POINTS = 100_000
"""Points asked of the oscilloscope for each record; what came is in the preamble."""

FETCH_S = 15.0
"""Longest that the transfer of one capture may take."""

USUAL_RATE_HZ = 50_000.0
"""The paper's sampling rate."""

PRE_TRIGGER = 0.1
"""Share of the record before the trigger, with the time reference one division from the left."""

OFF_V = 0.1
"""What the supply may still read with its output off before a zero is taken."""

SETTLE_S = 0.3
"""Wait after the output has changed: longer than the supply's 90 ms to settle and the board's capacitors."""

DUT_STARTS = 3
"""Starts of a device that fail in a row before it is given up for the rest of the sweep."""

_log = logging.getLogger(__name__)


class Rejected(Exception):
    """A capture without a result; the text is the reason. `capture` is its row in the file, -1 without one.

    `retry` says whether the record was at fault, so that another try may succeed.
    """

    def __init__(self, reason: str, capture: int = -1, *, retry: bool = False) -> None:
        super().__init__(reason)
        self.capture, self.retry = capture, retry


@dataclass
class Station:
    """An open bench at work on a plan."""

    bench: Bench
    writer: TraceWriter
    plan: Plan
    say: Callable[[str], None]
    failed_starts: int = 0
    powered_s: float = -math.inf
    window_s: float = 0.0
    steady: list[tuple[Measured, list[Reading]]] = field(default_factory=list)

    @property
    def lab(self) -> Lab:
        """The bench's facts."""
        return self.bench.lab

    @property
    def sources(self) -> dict[str, str]:
        """Which source of the oscilloscope plays which role."""
        w = self.lab.wiring
        return {"current": f"CHAN{w.current.channel}", "voltage": f"CHAN{w.voltage.channel}", "markers": "POD1"}

    # --- setting up ---------------------------------------------------------------------------

    def set_up_scope(self) -> dict[str, str]:
        """Set the channels, the pod, the trigger and the acquisition; each is read back.

        Returns the settings as the oscilloscope reports them.
        """
        scope, w = self.bench.scope, self.lab.wiring
        current, voltage = channel_settings(self.lab)
        self.bench.scope_changed = True
        scope.stop()
        for n in range(1, 5):
            if n not in (w.current.channel, w.voltage.channel):
                scope.switch_off_channel(n)
        scope.configure_channel(w.current.channel, current)
        scope.configure_channel(w.voltage.channel, voltage)
        scope.configure_digital((w.gate.digital, w.batch.digital), w.marker_threshold_v)
        scope.configure_acquisition("HRES")
        scope.configure_trigger(EdgeTrigger(source=f"DIG{w.gate.digital}", slope="POS", sweep="NORM"))
        self.set_window(self.plan.window_s)
        self._say_rate()
        return dict(scope.settings())

    def _say_rate(self) -> None:
        """Warn before the first capture, not after, when the memory will not give the usual rate."""
        planned = plan_acquisition(
            self.plan.window_s, list(self.sources.values()), self.lab.scope.memory_points, points=POINTS
        )
        if planned.rate_hz < min(USUAL_RATE_HZ, POINTS / self.plan.window_s) * 0.99:
            self.say(
                f"expect {planned.rate_hz / 1e3:g} kSa/s instead of {USUAL_RATE_HZ / 1e3:g}: "
                f"{'; '.join(planned.notes) or 'the window is long'}"
            )

    def set_window(self, window_s: float) -> None:
        """Set the length of the record, with the trigger one division from its left end."""
        self.bench.scope.configure_timebase(window_s, reference="LEFT", position_s=0.0)
        self.window_s = window_s

    def feed_board(self) -> None:
        """Prepare the supply in the order that is safe: OVP, range, current limit, voltage; output still off."""
        facts, supply = self.lab.supply, self.bench.supply
        supply.remote()
        if supply.output_is_on():
            self.say("the supply's output was on: it is switched off to take the zero")
        self.switch_off()
        supply.set_ovp(facts.ovp_v)
        supply.set_range(facts.range)
        supply.set_current_limit(facts.current_limit_a)
        supply.set_voltage(facts.voltage_v)

    def switch_off(self) -> None:
        """Switch the output off and wait until the board's capacitors have followed it to 0 V."""
        supply = self.bench.supply
        supply.output(False)
        until = time.monotonic() + 5.0
        while (volts := supply.measure_voltage_v()) > OFF_V:
            if time.monotonic() > until:
                raise InstrumentError(
                    f"the output is off and still at {volts:g} V after 5 s: does another source feed the board?",
                    instrument="supply",
                )
        time.sleep(SETTLE_S)

    def switch_on(self) -> None:
        """Switch the output on and wait until it regulates the voltage that was asked for.

        Raises SettingError when it limits the current or does not settle in 5 s.
        """
        self.bench.supply.output(True)
        self.powered_s = time.monotonic()
        self.bench.supply.wait_settled(5.0)
        time.sleep(SETTLE_S)

    def supply_settings(self) -> dict[str, str]:
        """Read back what the supply is set to."""
        supply = self.bench.supply
        return {
            "range": supply.range(),
            "voltage_v": f"{supply.voltage_v():g}",
            "current_limit_a": f"{supply.current_limit_a():g}",
            "ovp_v": f"{self.lab.supply.ovp_v:g}",
        }

    def provisional(self, measured: Measured) -> str:
        """One cell's energy per image with the calibration known so far, for the progress display."""
        calibration = find_calibration(self.lab, self.steady)
        if calibration is None:
            return "measured"
        try:
            (row,) = results([measured], calibration)
        except ReductionError as error:
            return f"measured, but {error}"
        energy, power = row.energy_per_image_j, row.power_w
        return f"{energy.value * 1e3:.4g} mJ/image, {power.value:.4g} W, {row.time_per_image_s.value * 1e3:.4g} ms"

    def device(self) -> Dut:
        """The device's agent, started if need be. Raises Rejected when it does not start.

        A board that still boots (dut.boot_s after the output went on) is tried again and again.
        """
        if self.failed_starts >= DUT_STARTS and not (self.bench.dut and self.bench.dut.alive):
            raise Rejected(f"the device could not be started ({DUT_STARTS} tries in a row)")
        while True:
            try:
                dut = self.bench.start_dut()
            except DutError as error:
                if time.monotonic() < self.powered_s + self.lab.dut.boot_s:
                    time.sleep(1.0)
                    continue
                self.failed_starts += 1
                raise Rejected(f"the device does not start: {error}") from error
            self.failed_starts = 0
            return dut

    # --- captures -----------------------------------------------------------------------------

    @property
    def arm_deadline_s(self) -> float:
        """How long arming may take: the pre-trigger and what a slow network adds."""
        return PRE_TRIGGER * self.window_s + 5.0

    def steady_capture(self, kind: str) -> Measured:
        """Capture a record in which nothing runs: `zero` with the output off, `idle` with it on.

        Raises Rejected when the record cannot be used, CaptureError when there is none.
        """
        scope = self.bench.scope
        if self.window_s != self.plan.window_s:
            self.set_window(self.plan.window_s)
        host_s, utc_s = time.monotonic(), time.time()
        scope.arm(deadline_s=self.arm_deadline_s)
        scope.force_trigger()
        scope.wait_done(deadline_s=self.window_s + 5.0)
        capture = scope.fetch(list(self.sources.values()), points=POINTS, deadline_s=FETCH_S)
        row = CaptureRow(kind, host_s=host_s, utc_s=utc_s, window_asked_s=self.window_s)
        return self.commit(row, capture, ())

    def first_zero(self) -> None:
        """Take the zero without which nothing can be reduced; raises CaptureError when it cannot be used."""
        try:
            self.steady_capture("zero")
        except Rejected as rejected:
            raise CaptureError(
                f"the zero with the output off cannot be used: {rejected}", reason="zero", instrument="scope"
            ) from rejected

    def commit(self, row: CaptureRow, capture: Capture, readings: Sequence[Reading]) -> Measured:
        """Store a capture, check it by reducing it, and commit it. Raises Rejected when it cannot be used."""
        with undisturbed():
            index = self.writer.add(row, capture, self.sources)
            self.writer.readings(index, readings)
            try:
                if capture.duration_s < 0.99 * row.window_asked_s:
                    raise ReductionError(
                        f"the record is short: {capture.duration_s:g} s of the {row.window_asked_s:g} s asked for"
                    )
                measured = measure(self._data(index, row, capture), wires(self.lab))
            except ReductionError as error:
                self.writer.settle(index, str(error))
                raise Rejected(str(error), index, retry=True) from error
            self.writer.settle(index)
        if row.kind != "cell":
            self.steady.append((measured, list(readings)))
        return measured

    def reject(self, row: CaptureRow, capture: Capture, reason: str) -> Rejected:
        """Store a capture whose run failed, with the reason; gives what to raise."""
        with undisturbed():
            index = self.writer.add(row, capture, self.sources)
            self.writer.settle(index, reason)
        return Rejected(reason, index)

    def _data(self, index: int, row: CaptureRow, capture: Capture) -> CaptureData:
        records = {role: capture.records[source] for role, source in self.sources.items()}
        return CaptureData(
            index,
            row.kind,
            row.network,
            row.batch,
            row.repeat,
            row.host_s,
            Capture(records),
            row.batches if row.batches >= 0 else None,
            row.images if row.images >= 0 else None,
            row.true_energy_j,
            row.true_idle_power_w,
        )


def channel_settings(lab: Lab) -> tuple[ChannelSettings, ChannelSettings]:
    """Settings of the current's and the voltage's channel. Raises ConfigError naming the line of lab.yaml."""
    probe = Probe1146B(lab.probe.range_v_per_a, lab.probe.turns, -1 if lab.probe.reversed else 1)
    c, v = lab.wiring.current, lab.wiring.voltage
    try:
        current = ChannelSettings(
            full_scale=next_full_scale(c.high_a - c.low_a, probe.probe_ratio),
            offset=(c.high_a + c.low_a) / 2,
            units="A",
            probe_ratio=probe.probe_ratio,
            invert=probe.invert,
            label="CURRENT",
        )
    except ConfigError as error:
        raise ConfigError(f"wiring.current: {error}") from error
    if max(abs(c.low_a), abs(c.high_a)) > probe.peak_current_a:
        raise ConfigError(
            f"wiring.current: the span reaches beyond the {probe.peak_current_a:g} A that the probe shows at "
            f"{lab.probe.range_v_per_a:g} V/A with {lab.probe.turns} turn(s)"
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
        raise ConfigError(f"wiring.voltage: {error}") from error
    return current, voltage


def check_without_instruments(lab: Lab) -> None:
    """Find the mistakes of a lab.yaml that need no instrument to be found. Raises ConfigError."""
    channel_settings(lab)
    load_drivers(lab)
    facts, limits = lab.supply, supply_limits(lab)
    check_set_points("supply", facts.range, limits, facts.voltage_v, facts.current_limit_a)
    if facts.ovp_v > limits.ovp_v:
        raise ConfigError(f"supply: ovp_v {facts.ovp_v:g} is above the {limits.ovp_v:g} V that it can be set to")
