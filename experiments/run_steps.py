"""The steps that every measured run of the device has, however its record is made: begin, first record, log."""

from __future__ import annotations

import logging
import math
from dataclasses import dataclass, replace

import numpy as np

from experiments.device_said import DeviceSaid, agent_facts, because, facts_json
from experiments.flags import with_code
from experiments.journal import CaptureRow, Reading
from experiments.parts import LONG_RECORD
from experiments.plan import Cell
from experiments.plausible import VOLTAGE_LIMIT, voltage_fault, voltage_unlike_the_supply
from experiments.record_choice import FILL
from experiments.station import FETCH_S, POINTS, PRE_TRIGGER, PowerLost, Rejected, Station
from instruments.dut import Done, Dut, Ready
from instruments.errors import CaptureError, DutError, InstrumentError
from instruments.interrupts import undisturbed
from instruments.waveform import Capture

QUIET = 1.0 - PRE_TRIGGER - FILL
"""Share of the record that the loop leaves at its end: so long the board is to rest after it, and be seen idle."""

SETTLES_S = 0.2
"""So long the board is to rest after a run whose end lies anywhere in a record, or between two, for its power to settle
undisturbed."""

MOST_QUIET_S = 1.0
"""The longest such rest, s: the idle stretch before the loop is no longer in a record of 10 s."""

HELD_SHARE = 0.01
"""How far the supply's reading may lie from its set-point while it holds its voltage."""

TELL_S = 10.0
"""What a device may take after its record to tell of it: its sensors and the reference work come first."""

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Begun:
    """A run that the device was told to do, with what is known of it so far; it should end within `slack_s`."""

    dut: Dut
    row: CaptureRow
    slack_s: float


class RunSteps:
    """Arms the oscilloscope, sets the device going, waits and fetches, at one station."""

    def __init__(self, station: Station) -> None:
        self.station, self.bench, self.clock = station, station.bench, station.clock
        self.said = DeviceSaid()

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
            quiet_after_s=_quiet_s(window_s, batches) if kind == "cell" else 0.0,
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
        if mode == "OFF":
            raise Rejected("the supply's output went off during the run", code="supply-limited")
        if limited or mode != "CV":
            raise Rejected(
                f"the supply did not stay in constant voltage during the run (mode {'CC' if limited else mode}): "
                f"raise current_limit_a above {facts.current_limit_a:g} A",
                code="supply-limited",
            )
        roles = self.station.sources
        if fault := voltage_fault(self.station.lab, capture[roles["current"]], capture[roles["voltage"]]):
            raise Rejected(str(fault), code=fault.code)
        if abs(volts - facts.voltage_v) > VOLTAGE_LIMIT * facts.voltage_v:
            read_v = supply.measure_voltage_v()
            if abs(read_v - facts.voltage_v) <= HELD_SHARE * facts.voltage_v:
                other = voltage_unlike_the_supply(self.station.lab, volts, read_v)
                raise Rejected(str(other), code=other.code)
            raise Rejected(
                f"the voltage was {volts:.4g} V during the run and the supply reads {read_v:.4g} V, not "
                f"{facts.voltage_v:g} V: check the supply's mode, its sense leads and wiring.voltage",
                code="supply-limited",
            )

    def require_power(self, still_open: str = "") -> None:
        """Raise PowerLost where the supply tripped or is off, as a look at it after a failure tells.

        `still_open` names the cell that was being measured, if one was.
        """
        try:
            mode = self.bench.supply.mode()
        except InstrumentError as error:
            _log.warning("whether the supply feeds the board is not known: %s", error)
            return
        if mode in ("FAULT", "OFF"):
            what = "has tripped" if mode == "FAULT" else "was switched off, at its front panel or by itself"
            raise PowerLost(
                f"the supply's output {what}, and the board has no power: find the cause and clear it at the supply"
                + (f"; {still_open} is still open" if still_open else "")
            )

    def let_end(self, dut: Dut, within_s: float) -> None:
        """Take the device out of a run whose record is lost: in a run it accepts nothing else."""
        try:
            dut.wait_done(deadline_s=within_s)
        except DutError as error:
            _log.warning("the device is started anew: %s", error)
            self.bench.stop_dut()

    def journal(self, cell: Cell | None, state: str) -> None:
        """Write down how far a cell has come."""
        if cell is not None:
            with undisturbed():
                self.station.writer.cell(cell.position, state)

    def with_log(self, begun: Begun, ready: Ready, done: Done) -> CaptureRow:
        """Add the device's log to a run's row, its clock once more and, on a simulated bench, what was really true."""
        row = self._with_drift(begun.row, begun.dut)
        energy_j = idle_w = math.nan
        if self.bench.simulated is not None:
            windows = self.bench.simulated.true_windows(row.host_s)
            if windows:
                energy_j, idle_w = windows[-1]["energy_j"], windows[-1]["idle_power_w"]
        flags = self.said.flags_of(ready, done)
        if row.kind == "cell" and row.window_asked_s > self.station.plan.window_s:
            flags = with_code(flags, LONG_RECORD)
        return replace(
            row.with_log(done),
            device_facts=facts_json("device_facts", done.facts),
            flags=flags,
            true_energy_j=energy_j,
            true_idle_power_w=idle_w,
        )

    def _with_drift(self, row: CaptureRow, dut: Dut) -> CaptureRow:
        """Bound the device's clock once more; a run that is told whole does not fail for it."""
        try:
            clock = dut.clock_bound(10)
        except DutError as error:
            _log.warning("the device's clock is not known after the run: %s", error)
            return row
        return replace(row, clock_offset_after_s=clock.offset_s, clock_bound_after_s=clock.bound_s)

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
            retry=True,
            code="markers-missing",
        )

    def _read_supply(self, within_s: float) -> list[Reading]:
        """Read the supply's current and voltage while the board works, from the trigger on.

        The trigger came after the last poll that saw the oscilloscope still waiting: counted from
        there, a reading's age is never understated.
        """
        scope, supply = self.bench.scope, self.bench.supply
        until = self.clock.monotonic() + within_s
        waiting_s = began_s = self.clock.monotonic()
        while True:
            asked_s = self.clock.monotonic()
            if not scope.state().armed:
                break
            waiting_s = asked_s
            if asked_s > until:
                return []
            self.clock.sleep(min(0.02, max(0.002, 0.01 * (asked_s - began_s))))
        self.clock.sleep(0.1)
        readings = []
        end_s = waiting_s + FILL * self.station.window_s - 0.15
        while self.clock.monotonic() < end_s:
            for quantity, ask in (("A", supply.measure_current_a), ("V", supply.measure_voltage_v)):
                value = ask()
                readings.append(Reading(quantity, value, self.clock.monotonic() - waiting_s))
        return readings


def _quiet_s(window_s: float, batches: int | None) -> float:
    """How long the board is to rest after a run; one without a number of batches ends within its record."""
    return SETTLES_S if batches is not None else min(MOST_QUIET_S, QUIET * window_s)
