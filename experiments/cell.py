"""One cell of a sweep: prepare, arm, go, wait, fetch, check, commit or reject with a reason."""

from __future__ import annotations

import functools
import logging
import math
from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np

from experiments.device_said import DeviceSaid, agent_facts, because, facts_json
from experiments.energy import Measured
from experiments.flags import NO_CODE, with_code
from experiments.modelled import known_size
from experiments.parts import CONSECUTIVE, LONG, LONG_RECORD, STEADY
from experiments.plan import Cell, Method
from experiments.plausible import voltage_fault
from experiments.station import FETCH_S, POINTS, PRE_TRIGGER, Rejected, Station
from experiments.traces import CaptureRow, Reading
from instruments.dut import Done, Dut, DutRefusedError, Ready
from instruments.errors import CaptureError, DutError, InstrumentError, LinkError
from instruments.interrupts import undisturbed
from instruments.waveform import Capture

FILL = 0.75
"""Share of the record that the measured loop is to fill; the rest is idle before and a margin after."""

MARGIN = 0.04
"""Share of the record kept free at its end when a loop that turns out slow is cut short."""

WARMUP_S = 5.0
"""Longest warm-up: most networks settle in half a second; three batches may take three times as long."""

GAIN_WINDOW_S = 2.0
"""Shortest record for the comparison with the supply, whose readings take 0.1 s each."""

VOLTAGE_SHARE = 0.08
"""How far the mean voltage reading of a run may lie from the set-point before it is no regulated voltage."""

TELL_S = 10.0
"""What a device may take after its record to tell of it: its sensors and the reference work come first."""

ATTEMPTS = 3
"""How often a cell is tried when its record, not its device, was at fault."""

_log = logging.getLogger(__name__)


LEAST_BATCHES = 3.2
"""Batches that a record of a long run must hold, so that there is a whole one wherever it begins."""


@dataclass(frozen=True)
class Begun:
    """A run that the device was told to do, with what is known of it so far; it should end within `slack_s`."""

    dut: Dut
    row: CaptureRow
    slack_s: float


class CellWork:
    """Measures cells, and the gain of both channels, at one station."""

    def __init__(self, station: Station) -> None:
        self.station = station
        self.bench, self.writer, self.plan = station.bench, station.writer, station.plan
        self.clock = station.clock
        self._said = DeviceSaid()
        self._loads = [(n, b) for n in self.plan.networks for b in sorted(self.plan.batches, reverse=True)]

    def measure_gain(self) -> None:
        """Capture steady work while the supply reports its output, to compare the channels with it.

        A load that the device cannot do gives way to the next. Raises Rejected with the reason.
        """
        while True:
            network, batch = self._loads[0]
            try:
                self._tried("gain", functools.partial(self._attempt_gain, network, batch))
            except Rejected as error:
                rejected = self._said.judged(error, self.station.device)
                left = [(n, b) for n, b in self._loads[1:] if rejected.outcome == "out of memory" or n != network]
                if rejected.outcome == "rejected" or not left:
                    raise rejected from error
                self._loads = left
                self.station.say(
                    f"gain: {network} batch {batch}: {rejected.outcome}; {left[0][0]} batch {left[0][1]} instead"
                )
            else:
                return

    def measure_cell(self, cell: Cell) -> Measured:
        """Measure one cell and commit it. Raises Rejected with the reason; the journal holds it too."""
        try:
            return self._tried(cell.label, lambda shrink: self._attempt_cell(cell, shrink))
        except Rejected as error:
            rejected = self._said.judged(error, self.station.device)
            with undisturbed():
                at_s = self.clock.monotonic()
                code = rejected.code if rejected.outcome == "rejected" else ""
                self.writer.cell(
                    cell.position, rejected.outcome, str(rejected), rejected.capture, at_s=at_s, flags=code
                )
            raise rejected from error

    def _tried(self, label: str, attempt: Callable[[float], Measured]) -> Measured:
        """Try a measurement again where its record was at fault, with a shorter run each time."""
        for number in range(1, ATTEMPTS + 1):
            try:
                return attempt(0.8 ** (number - 1))
            except Rejected as error:
                rejected = error
            except DutError as error:
                rejected = because(error)
            except LinkError as error:
                self._reconnect(error)
                rejected = Rejected(str(error), retry=True)
            except InstrumentError as error:
                rejected = Rejected(str(error), retry=True, code=_code_of(error))
            if not rejected.retry:
                break
            if number < ATTEMPTS:
                self.station.say(f"{label}: tried again, since {rejected}")
        raise rejected

    def _attempt_gain(self, network: str, batch: int, shrink: float) -> Measured:
        # A heavy load is the better comparison: the read-back's 5 mA weigh less.
        ready, _ = self._prepare(network, batch, shrink, max(GAIN_WINDOW_S, self.plan.window_s), Method())
        return self.station.commit(*self._run("gain", ready, read_supply=True))

    def steady(self, kind: str) -> None:
        """Take a zero or an idle record, with a second try. Raises Rejected with the reason."""
        self._tried(kind, lambda shrink: self.station.steady_capture(kind))

    def _reconnect(self, error: LinkError) -> None:
        """Open both links anew after one broke; raises the instrument's error when that fails."""
        _log.warning("a link failed, opening it again: %s", error)
        for instrument in (self.bench.scope, self.bench.supply):
            instrument.link.reopen()
        self.station.set_up_scope()

    def _attempt_cell(self, cell: Cell, shrink: float) -> Measured:
        ready, method = self._prepare(cell.network, cell.batch, shrink, self.plan.window_s, self.plan.method)
        with undisturbed():
            self.writer.cell(cell.position, "prepared")
        measured: Measured
        if method:
            from experiments.cell_run import RunOfCell  # which works with this class

            measured = RunOfCell(self, cell, ready, method).measure()
        else:
            row, capture, readings = self._run("cell", ready, cell=cell, read_supply=self.station.read_supply)
            measured = self.station.commit(row, capture, readings)
        with undisturbed():
            at_s = self.clock.monotonic()
            self.writer.cell(cell.position, "committed", capture=measured.data.index, at_s=at_s)
        return measured

    def _prepare(self, network: str, batch: int, shrink: float, usual_s: float, method: Method) -> tuple[Ready, str]:
        """Load, warm up and rest; choose the record, and how a run is put together that it does not hold."""
        dut = self.station.device()
        self._said.met(dut)
        try:
            ready = dut.prepare(
                network,
                batch,
                run_s=FILL * usual_s * shrink,
                seed=self.plan.seed,
                threads=self.plan.run.threads,
                device=self.plan.run.device,
                mode=self.plan.run.mode,
                weights=self.plan.run.weights,
                warmup_s=WARMUP_S,
                size=known_size(network),
                deadline_s=self.station.lab.dut.prepare_timeout_s,
            )
        except DutRefusedError as error:
            raise because(error) from error
        window_s, how = record_for(method, ready.batches, ready.batch_time_s, usual_s)
        if window_s != self.station.window_s:
            self.station.set_window(window_s)
        self.clock.sleep(self.station.lab.dut.rest_s)
        return ready, how

    def _run(
        self, kind: str, ready: Ready, *, cell: Cell | None = None, read_supply: bool = False
    ) -> tuple[CaptureRow, Capture, list[Reading]]:
        """Arm, go, wait, fetch. What was captured of a run that failed is stored as rejected."""
        window_s = self.station.window_s
        begun = self.begin(kind, ready, cell, None, (1 - PRE_TRIGGER - MARGIN) * window_s, 3.0 + window_s)
        capture, readings = self.first_record(begun, read_supply)
        self.journal(cell, "fetched")
        try:
            done = begun.dut.wait_done(deadline_s=begun.slack_s + TELL_S)
            self.require_voltage(capture)
        except (DutError, Rejected) as error:
            code = error.code if isinstance(error, Rejected) else NO_CODE
            raise self.station.reject(begun.row, capture, str(error), code) from error
        return self.with_log(begun, ready, done), capture, readings

    def begin(
        self, kind: str, ready: Ready, cell: Cell | None, batches: int | None, limit_s: float, slack_s: float
    ) -> Begun:
        """Arm and go, for at most `limit_s`; within `slack_s` the run should have ended."""
        dut = self.bench.dut
        if dut is None:  # never started anew here: what it had prepared went with it
            raise Rejected("the device was lost between preparing and running")
        clock = dut.clock_bound()
        self.bench.supply.limited_since()
        host_s, utc_s = self.clock.monotonic(), self.clock.time()
        # By the bench's clock, not UTC: the lines tell this name, and in virtual time a run can be repeated to the bit.
        run_id = f"{kind}-{cell.position if cell else 0}-{int(host_s * 1000)}"
        self.bench.scope.arm(deadline_s=self.station.arm_deadline_s)
        self.journal(cell, "armed")
        window_s = self.station.window_s
        dut.go(
            run_id,
            batches,
            limit_s=limit_s,
            record=(window_s / POINTS, PRE_TRIGGER * window_s),
            watch=self.station.watch,
        )
        self.journal(cell, "running")
        row = CaptureRow(
            kind,
            cell.position if cell else -1,
            ready.network,
            ready.batch,
            cell.repeat if cell else 0,
            run_id,
            host_s=host_s,
            utc_s=utc_s,
            window_asked_s=window_s,
            clock_offset_s=clock.offset_s,
            clock_bound_s=clock.bound_s,
            ready_facts=facts_json("ready_facts", {**ready.facts, "agent": agent_facts(dut.hello())}),
        )
        return Begun(dut, row, slack_s)

    def first_record(self, begun: Begun, read_supply: bool) -> tuple[Capture, list[Reading]]:
        """Wait for the record that the gate's rise triggers, and fetch it; the supply is read meanwhile, or not."""
        scope, dut = self.bench.scope, begun.dut
        slack_s = 3.0 + self.station.window_s
        try:
            try:
                readings = self._read_supply(slack_s) if read_supply else []
                self._await_record(dut, slack_s)
            except CaptureError as error:
                scope.stop()
                raise self._no_record(dut, error)  # noqa: B904 - it knows its cause
            capture = scope.fetch(list(self.station.sources.values()), points=POINTS, deadline_s=FETCH_S)
        except InstrumentError:
            self.let_end(dut, begun.slack_s + TELL_S)
            raise
        return capture, readings

    def _with_drift(self, row: CaptureRow, dut: Dut) -> CaptureRow:
        """Bound the device's clock once more; a run that is told whole does not fail for it."""
        try:
            clock = dut.clock_bound(10)
        except DutError as error:
            _log.warning("the device's clock is not known after the run: %s", error)
            return row
        return replace(row, clock_offset_after_s=clock.offset_s, clock_bound_after_s=clock.bound_s)

    def require_voltage(self, capture: Capture) -> None:
        """Reject a run during which the supply did not hold its voltage."""
        supply, facts = self.bench.supply, self.station.lab.supply
        mode, limited = supply.mode(), supply.limited_since()
        volts = float(np.mean(capture[self.station.sources["voltage"]].values()))
        if mode == "FAULT":
            why = f"over-voltage protection at {facts.ovp_v:g} V" if supply.ovp_tripped() else "temperature or hardware"
            raise Rejected(
                f"the supply tripped during the run ({why}): find the cause, then clear it at the supply",
                code="supply-limited",
            )
        if limited or mode != "CV":
            raise Rejected(
                f"the supply did not stay in constant voltage during the run (mode {'CC' if limited else mode}): "
                f"raise current_limit_a above {facts.current_limit_a:g} A",
                code="supply-limited",
            )
        roles = self.station.sources
        if fault := voltage_fault(self.station.lab, capture[roles["current"]], capture[roles["voltage"]]):
            raise Rejected(str(fault), code=fault.code)
        if abs(volts - facts.voltage_v) > VOLTAGE_SHARE * facts.voltage_v:
            raise Rejected(
                f"the voltage was {volts:.3g} V during the run, not {facts.voltage_v:g} V: "
                "check the supply's mode and wiring.voltage",
                code="supply-limited",
            )

    def let_end(self, dut: Dut, within_s: float) -> None:
        """Take the device out of a run whose record is lost: in a run it accepts nothing else."""
        try:
            dut.wait_done(deadline_s=within_s)
        except DutError as error:
            _log.warning("the device is started anew: %s", error)
            self.bench.stop_dut()

    def journal(self, cell: Cell | None, state: str) -> None:
        if cell is not None:
            with undisturbed():
                self.writer.cell(cell.position, state)

    def _await_record(self, dut: Dut, within_s: float) -> None:
        """Wait for the record to end, and no longer than there is a device that could start it."""
        until = self.clock.monotonic() + within_s
        slice_s = min(0.25, within_s)
        while True:
            try:
                self.bench.scope.wait_done(deadline_s=slice_s)
                return
            except CaptureError as error:
                left_s = until - self.clock.monotonic()
                waiting = error.reason == "no-trigger" and dut.alive
                if left_s < 0 or not (waiting or error.reason == "not-finished"):
                    raise
                if not waiting:
                    slice_s = left_s  # it has begun: the device can no longer keep it from ending

    def _no_record(self, dut: Dut, error: CaptureError) -> Rejected:
        """Say why there is no record; the device's own error, where it has one, comes before the oscilloscope's."""
        if error.reason != "no-trigger":
            return Rejected(str(error))
        try:
            dut.wait_done(deadline_s=0.5)
        except DutError as dut_error:
            return because(dut_error, "the gate line never rose: ")
        return Rejected(
            "the gate line never rose although the device ran: check the wire from its gate line to "
            f"D{self.station.lab.wiring.gate.digital}, marker_threshold_v, and dut.marker",
            code="markers-missing",
        )

    def _read_supply(self, within_s: float) -> list[Reading]:
        """Read the supply's current and voltage while the board works, from the trigger on.

        The trigger came after the last poll that saw the oscilloscope still waiting: counted from
        there, a reading's age is never understated.
        """
        scope, supply = self.bench.scope, self.bench.supply
        until = self.clock.monotonic() + within_s
        waiting_s = self.clock.monotonic()
        while True:
            asked_s = self.clock.monotonic()
            if not scope.state().armed:
                break
            waiting_s = asked_s
            if asked_s > until:
                return []
            self.clock.sleep(0.002)
        self.clock.sleep(0.1)
        readings = []
        end_s = waiting_s + FILL * self.station.window_s - 0.15
        while self.clock.monotonic() < end_s:
            for quantity, ask in (("A", supply.measure_current_a), ("V", supply.measure_voltage_v)):
                value = ask()
                readings.append(Reading(quantity, value, self.clock.monotonic() - waiting_s))
        return readings

    def with_log(self, begun: Begun, ready: Ready, done: Done) -> CaptureRow:
        """Add the device's log to a run's row, its clock once more and, on a simulated bench, what was really true."""
        row = self._with_drift(begun.row, begun.dut)
        energy_j = idle_w = math.nan
        if self.bench.simulated is not None:
            windows = self.bench.simulated.true_windows(row.host_s)
            if windows:
                energy_j, idle_w = windows[-1]["energy_j"], windows[-1]["idle_power_w"]
        flags = self._said.flags_of(ready, done)
        if row.kind == "cell" and row.window_asked_s > self.plan.window_s:
            flags = with_code(flags, LONG_RECORD)
        return replace(
            row,
            batches=done.batches,
            images=done.images,
            gate_rise_ns=done.gate_ns[1],
            gate_fall_ns=done.gate_ns[2],
            start_frame=-1 if done.start_frame is None else done.start_frame,
            start_frame_edges=done.start_frame_edges,
            device_busy_s=done.busy_s,
            device_facts=facts_json("device_facts", done.facts),
            flags=flags,
            batch_end_ns=done.batch_ns,
            true_energy_j=energy_j,
            true_idle_power_w=idle_w,
        )


def _code_of(error: InstrumentError) -> str:
    """The code under which an instrument's error is listed in docs/flags.md."""
    return "stale-record" if isinstance(error, CaptureError) and error.reason == "stale" else NO_CODE


def record_for(method: Method, batches: int, batch_s: float, usual_s: float) -> tuple[float, str]:
    """The length of record for batches of a length, s, and how a run is put together that it does not hold.

    An empty text means that one record holds it.
    """
    needed_s = max(batches, 1.5) * batch_s / (1 - PRE_TRIGGER - MARGIN)
    if method.long_s is not None:
        needed_s = LEAST_BATCHES * batch_s
        if needed_s <= usual_s or method.long_batch == "longer-record":
            return (usual_s if needed_s <= usual_s else _longer(needed_s)), LONG
        return usual_s, CONSECUTIVE
    if needed_s <= usual_s:
        return usual_s, ""
    if method.long_batch == "longer-record":
        return _longer(needed_s), ""
    return usual_s, CONSECUTIVE if method.long_batch == "consecutive" else STEADY


def _longer(seconds: float) -> float:
    """The next 1-2-5 length of record that holds the seconds."""
    decade = 10.0 ** math.floor(math.log10(seconds))
    return next(m * decade for m in (1.0, 2.0, 5.0, 10.0) if m * decade >= seconds)
