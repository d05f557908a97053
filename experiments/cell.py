"""The steps of a sweep at the bench: prepare, arm, go, fetch, check, commit or reject with a reason.

One `Station` holds the open bench, the trace file and what the captures have in common. Every step
leaves the file consistent; signals are held back while it writes.
"""

from __future__ import annotations

import json
import logging
import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace

from experiments.energy import CaptureData, Measured, ReductionError, measure, results
from experiments.plan import Cell, Plan
from experiments.reduction import find_calibration, wires
from experiments.traces import CaptureRow, Reading, TraceWriter
from instruments.bench import Bench
from instruments.dut import Done, Dut, DutRefusedError, Ready
from instruments.errors import CaptureError, DutError, InstrumentError, LinkError
from instruments.interrupts import undisturbed
from instruments.lab import Lab
from instruments.mso_x2024a import ChannelSettings, EdgeTrigger, next_full_scale
from instruments.probe_1146b import Probe1146B
from instruments.waveform import Capture

POINTS = 100_000
"""Points asked of the oscilloscope for each record; what came is in the preamble."""

PRE_TRIGGER = 0.1
"""Share of the record before the trigger, with the time reference one division from the left."""

FILL = 0.75
"""Share of the record that the measured loop is to fill; the rest is idle before and a margin after."""

MARGIN = 0.04
"""Share of the record kept free at its end when a loop that turns out slow is cut short."""

OFF_V = 0.1
"""What the supply may still read with its output off before a zero is taken."""

SETTLE_S = 0.3
"""Wait after the output has changed: longer than the supply's 90 ms to settle and the board's capacitors."""

ATTEMPTS = 2
"""How often a cell is tried when its record, not its device, was at fault."""

DUT_STARTS = 3
"""Starts of a device that fail in a row before it is given up for the rest of the sweep."""

_log = logging.getLogger(__name__)


class CellRejected(Exception):
    """A cell without a result; the text is the reason. `capture` is its row in the file, -1 without one."""

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
    warmup_s: float = 1.0
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
        probe = Probe1146B(self.lab.probe.range_v_per_a, self.lab.probe.turns, -1 if self.lab.probe.reversed else 1)
        scope.stop()
        for n in range(1, 5):
            if n not in (w.current.channel, w.voltage.channel):
                scope.switch_off_channel(n)
        scope.configure_channel(
            w.current.channel,
            ChannelSettings(
                full_scale=next_full_scale(w.current.high_a - w.current.low_a, probe.probe_ratio),
                offset=(w.current.high_a + w.current.low_a) / 2,
                units="A",
                probe_ratio=probe.probe_ratio,
                invert=probe.invert,
                label="CURRENT",
            ),
        )
        scope.configure_channel(
            w.voltage.channel,
            ChannelSettings(
                full_scale=next_full_scale(w.voltage.high_v - w.voltage.low_v, w.voltage.probe_ratio),
                offset=(w.voltage.high_v + w.voltage.low_v) / 2,
                units="V",
                probe_ratio=w.voltage.probe_ratio,
                label="VOLTAGE",
            ),
        )
        scope.configure_digital((w.gate.digital, w.batch.digital), w.marker_threshold_v)
        scope.configure_acquisition("HRES")
        scope.configure_trigger(EdgeTrigger(source=f"DIG{w.gate.digital}", slope="POS", sweep="NORM"))
        self.set_window(self.plan.window_s)
        return dict(scope.settings())

    def set_window(self, window_s: float) -> None:
        """Set the length of the record, with the trigger one division from its left end."""
        self.bench.scope.configure_timebase(window_s, reference="LEFT", position_s=0.0)
        self._window_s = window_s

    _window_s: float = 0.0

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

    def leave_scope(self, before: bytes) -> None:
        """Put the oscilloscope back as it was found; a failure is logged, since the data are safe."""
        try:
            self.bench.scope.stop()
            self.bench.scope.restore(before)
        except InstrumentError as error:
            _log.warning("the oscilloscope's setup could not be put back: %s", error)

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
        """The device's agent, started if need be. Raises CellRejected when it does not start."""
        if self.failed_starts >= DUT_STARTS and not (self.bench.dut and self.bench.dut.alive):
            raise CellRejected(f"the device could not be started ({DUT_STARTS} tries in a row)")
        try:
            dut = self.bench.start_dut()
        except DutError as error:
            self.failed_starts += 1
            raise CellRejected(f"the device does not start: {error}") from error
        self.failed_starts = 0
        return dut

    # --- captures -----------------------------------------------------------------------------

    def steady_capture(self, kind: str) -> None:
        """Capture a record in which nothing runs: `zero` with the output off, `idle` with it on."""
        scope = self.bench.scope
        host_s, utc_s = time.monotonic(), time.time()
        scope.arm(deadline_s=self._arm_deadline_s)
        scope.force_trigger()
        scope.wait_done(deadline_s=self._window_s + 5.0)
        capture = scope.fetch(list(self.sources.values()), points=POINTS)
        row = CaptureRow(kind, host_s=host_s, utc_s=utc_s, window_asked_s=self._window_s)
        self._commit(row, capture, ())

    def _commit(self, row: CaptureRow, capture: Capture, readings: Sequence[Reading]) -> Measured:
        """Store a capture, check it by reducing it, and commit or reject it."""
        with undisturbed():
            index = self.writer.add(row, capture, self.sources)
            self.writer.readings(index, readings)
            try:
                measured = measure(self._data(index, row, capture), wires(self.lab))
            except ReductionError as error:
                self.writer.settle(index, str(error))
                raise CellRejected(str(error), index, retry=True) from error
            self.writer.settle(index)
        if row.kind != "cell":
            self.steady.append((measured, list(readings)))
        return measured

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

    # --- cells --------------------------------------------------------------------------------

    def measure_gain(self) -> None:
        """Capture steady work while the supply reports its output, to compare the channels with it.

        Raises CellRejected with the reason.
        """
        self._tried("gain", self._attempt_gain)

    def measure_cell(self, cell: Cell) -> Measured:
        """Measure one cell and commit it. Raises CellRejected with the reason; the journal holds it too."""
        try:
            return self._tried(cell.label, lambda shrink: self._attempt_cell(cell, shrink))
        except CellRejected as rejected:
            with undisturbed():
                self.writer.cell(cell.position, "rejected", str(rejected), rejected.capture)
            raise

    def _tried(self, label: str, attempt: Callable[[float], Measured]) -> Measured:
        """Try a measurement again where its record was at fault, with a shorter run each time."""
        for number in range(1, ATTEMPTS + 1):
            try:
                return attempt(0.8 ** (number - 1))
            except CellRejected as error:
                rejected = error
            except DutError as error:
                rejected = CellRejected(str(error))
            except LinkError as error:
                self._reconnect(error)
                rejected = CellRejected(str(error), retry=True)
            except InstrumentError as error:
                rejected = CellRejected(str(error), retry=True)
            if not rejected.retry:
                break
            if number < ATTEMPTS:
                self.say(f"{label}: tried again, since {rejected}")
        raise rejected

    def _attempt_gain(self, shrink: float) -> Measured:
        ready = self._prepare(self.plan.networks[0], self.plan.batches[0], shrink)
        return self._commit(*self._run("gain", ready, read_supply=True))

    def _reconnect(self, error: LinkError) -> None:
        """Open both links anew after one broke; raises the instrument's error when that fails."""
        _log.warning("a link failed, opening it again: %s", error)
        for instrument in (self.bench.scope, self.bench.supply):
            instrument.link.reopen()
        self.set_up_scope()

    def _attempt_cell(self, cell: Cell, shrink: float) -> Measured:
        ready = self._prepare(cell.network, cell.batch, shrink)
        with undisturbed():
            self.writer.cell(cell.position, "prepared")
        row, capture, _ = self._run("cell", ready, cell=cell)
        measured = self._commit(row, capture, ())
        with undisturbed():
            self.writer.cell(cell.position, "committed", capture=measured.data.index)
        return measured

    def _prepare(self, network: str, batch: int, shrink: float) -> Ready:
        """Load and warm up; choose a longer record where one batch does not fit the usual one."""
        dut = self.device()
        try:
            ready = dut.prepare(
                network,
                batch,
                run_s=FILL * self.plan.window_s * shrink,
                seed=self.plan.seed,
                threads=self.lab.dut.threads,
                warmup_s=self.warmup_s,
                deadline_s=self.lab.dut.prepare_timeout_s,
            )
        except DutRefusedError as error:
            raise CellRejected(str(error)) from error
        needed_s = max(ready.batches, 1.5) * ready.batch_time_s / (1 - PRE_TRIGGER - MARGIN)
        window_s = self.plan.window_s if needed_s <= self.plan.window_s else _longer(needed_s)
        if window_s != self._window_s:
            self.set_window(window_s)
        return ready

    def _run(
        self, kind: str, ready: Ready, *, cell: Cell | None = None, read_supply: bool = False
    ) -> tuple[CaptureRow, Capture, list[Reading]]:
        """Arm, go, wait, fetch. What was captured of a run that failed is stored as rejected."""
        scope, dut = self.bench.scope, self.device()
        clock = dut.clock_bound()
        host_s, utc_s = time.monotonic(), time.time()
        run_id = f"{kind}-{cell.position if cell else 0}-{int(utc_s)}"
        scope.arm(deadline_s=self._arm_deadline_s)
        self._journal(cell, "armed")
        room_s = (1 - PRE_TRIGGER - MARGIN) * self._window_s - 1.5 * ready.batch_time_s
        dut.go(run_id, limit_s=max(room_s, 1e-3))
        self._journal(cell, "running")
        slack_s = 3.0 + self._window_s
        try:
            readings = self._read_supply(slack_s) if read_supply else []
            self._await_record(dut, slack_s)
        except CaptureError as error:
            scope.stop()
            raise CellRejected(self._why_no_record(dut, error)) from error
        capture = scope.fetch(list(self.sources.values()), points=POINTS)
        self._journal(cell, "fetched")
        row = CaptureRow(
            kind,
            cell.position if cell else -1,
            ready.network,
            ready.batch,
            cell.repeat if cell else 0,
            run_id,
            host_s=host_s,
            utc_s=utc_s,
            window_asked_s=self._window_s,
            clock_offset_s=clock.offset_s,
            clock_bound_s=clock.bound_s,
        )
        try:
            done = dut.wait_done(deadline_s=slack_s)
            mode = self.bench.supply.mode()
            if mode != "CV":
                raise CellRejected(f"the supply ended the run in mode {mode}, not CV: raise current_limit_a")
        except (DutError, CellRejected) as error:
            with undisturbed():
                index = self.writer.add(row, capture, self.sources)
                self.writer.settle(index, str(error))
            raise CellRejected(str(error), index) from error
        return self._with_log(row, done, host_s), capture, readings

    def _journal(self, cell: Cell | None, state: str) -> None:
        if cell is not None:
            with undisturbed():
                self.writer.cell(cell.position, state)

    @property
    def _arm_deadline_s(self) -> float:
        return PRE_TRIGGER * self._window_s + 5.0

    def _await_record(self, dut: Dut, within_s: float) -> None:
        """Wait for the record to end, and no longer than there is a device that could start it."""
        until = time.monotonic() + within_s
        while True:
            try:
                self.bench.scope.wait_done(deadline_s=min(0.25, within_s))
                return
            except CaptureError as error:
                waiting = error.reason == "no-trigger" and dut.alive
                if time.monotonic() > until or not (waiting or error.reason == "not-finished"):
                    raise

    def _why_no_record(self, dut: Dut, error: CaptureError) -> str:
        if error.reason != "no-trigger":
            return str(error)
        try:
            dut.wait_done(deadline_s=0.5)
        except DutError as dut_error:
            return f"the gate line never rose: {dut_error}"
        return (
            "the gate line never rose although the device ran: check the wire from its gate line to "
            f"D{self.lab.wiring.gate.digital}, marker_threshold_v, and dut.marker"
        )

    def _read_supply(self, within_s: float) -> list[Reading]:
        """Read the supply's current and voltage while the board works, from the trigger on.

        The trigger came after the last poll that saw the oscilloscope still waiting: counted from
        there, a reading's age is never understated.
        """
        scope, supply = self.bench.scope, self.bench.supply
        until = time.monotonic() + within_s
        waiting_s = time.monotonic()
        while True:
            asked_s = time.monotonic()
            if not scope.state().armed:
                break
            waiting_s = asked_s
            if asked_s > until:
                return []
            time.sleep(0.002)
        time.sleep(0.1)
        readings = []
        end_s = waiting_s + FILL * self._window_s
        while time.monotonic() < end_s - 0.15:
            for quantity, ask in (("A", supply.measure_current_a), ("V", supply.measure_voltage_v)):
                value = ask()
                readings.append(Reading(quantity, value, time.monotonic() - waiting_s))
        return readings

    def _with_log(self, row: CaptureRow, done: Done, host_s: float) -> CaptureRow:
        """Add the device's log to a capture's row and, on a simulated bench, what was really true."""
        energy_j = idle_w = math.nan
        if self.bench.simulated is not None:
            windows = self.bench.simulated.true_windows(host_s)
            if windows:
                energy_j, idle_w = windows[-1]["energy_j"], windows[-1]["idle_power_w"]
        return replace(
            row,
            batches=done.batches,
            images=done.images,
            gate_rise_ns=done.gate_ns[1],
            gate_fall_ns=done.gate_ns[2],
            device_facts=json.dumps(dict(done.facts), default=str),
            batch_end_ns=done.batch_ns,
            true_energy_j=energy_j,
            true_idle_power_w=idle_w,
        )


def _longer(seconds: float) -> float:
    """The next 1-2-5 length of record that holds the seconds."""
    decade = 10.0 ** math.floor(math.log10(seconds))
    return next(m * decade for m in (1.0, 2.0, 5.0, 10.0) if m * decade >= seconds)
