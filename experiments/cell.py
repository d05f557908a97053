"""One cell of a sweep: prepare, arm, go, wait, fetch, check, commit or reject with a reason."""

from __future__ import annotations

import json
import logging
import math
import time
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np

from experiments.energy import Measured
from experiments.plan import Cell
from experiments.station import FETCH_S, POINTS, PRE_TRIGGER, Rejected, Station
from experiments.traces import CAPTURE, CaptureRow, Reading
from instruments.dut import Done, Dut, DutRefusedError, Ready
from instruments.errors import CaptureError, DutError, InstrumentError, LinkError
from instruments.interrupts import undisturbed
from instruments.waveform import Capture

FILL = 0.75
"""Share of the record that the measured loop is to fill; the rest is idle before and a margin after."""

MARGIN = 0.04
"""Share of the record kept free at its end when a loop that turns out slow is cut short."""

WARMUP_S = 1.0
"""Longest warm-up; most networks settle sooner."""

GAIN_WINDOW_S = 2.0
"""Shortest record for the comparison with the supply, whose readings take 0.1 s each."""

VOLTAGE_SHARE = 0.08
"""How far the mean voltage reading of a run may lie from the set-point before it is no regulated voltage."""

ATTEMPTS = 3
"""How often a cell is tried when its record, not its device, was at fault."""

_log = logging.getLogger(__name__)


class CellWork:
    """Measures cells, and the gain of both channels, at one station."""

    def __init__(self, station: Station) -> None:
        self.station = station
        self.bench, self.writer, self.plan = station.bench, station.writer, station.plan

    def measure_gain(self) -> None:
        """Capture steady work while the supply reports its output, to compare the channels with it.

        Raises Rejected with the reason.
        """
        self._tried("gain", self._attempt_gain)

    def measure_cell(self, cell: Cell) -> Measured:
        """Measure one cell and commit it. Raises Rejected with the reason; the journal holds it too."""
        try:
            return self._tried(cell.label, lambda shrink: self._attempt_cell(cell, shrink))
        except Rejected as rejected:
            with undisturbed():
                self.writer.cell(cell.position, "rejected", str(rejected), rejected.capture)
            raise

    def _tried(self, label: str, attempt: Callable[[float], Measured]) -> Measured:
        """Try a measurement again where its record was at fault, with a shorter run each time."""
        for number in range(1, ATTEMPTS + 1):
            try:
                return attempt(0.8 ** (number - 1))
            except Rejected as error:
                rejected = error
            except DutError as error:
                rejected = Rejected(str(error))
            except LinkError as error:
                self._reconnect(error)
                rejected = Rejected(str(error), retry=True)
            except InstrumentError as error:
                rejected = Rejected(str(error), retry=True)
            if not rejected.retry:
                break
            if number < ATTEMPTS:
                self.station.say(f"{label}: tried again, since {rejected}")
        raise rejected

    def _attempt_gain(self, shrink: float) -> Measured:
        # A heavy load is the better comparison: the read-back's 5 mA weigh less.
        window_s = max(GAIN_WINDOW_S, self.plan.window_s)
        ready = self._prepare(self.plan.networks[0], max(self.plan.batches), shrink, window_s)
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
        ready = self._prepare(cell.network, cell.batch, shrink, self.plan.window_s)
        with undisturbed():
            self.writer.cell(cell.position, "prepared")
        row, capture, _ = self._run("cell", ready, cell=cell)
        measured = self.station.commit(row, capture, ())
        with undisturbed():
            self.writer.cell(cell.position, "committed", capture=measured.data.index)
        return measured

    def _prepare(self, network: str, batch: int, shrink: float, usual_s: float) -> Ready:
        """Load, warm up and rest; choose a longer record where one batch does not fit the usual one."""
        dut = self.station.device()
        try:
            ready = dut.prepare(
                network,
                batch,
                run_s=FILL * usual_s * shrink,
                seed=self.plan.seed,
                threads=self.station.lab.dut.threads,
                warmup_s=WARMUP_S,
                deadline_s=self.station.lab.dut.prepare_timeout_s,
            )
        except DutRefusedError as error:
            raise Rejected(str(error)) from error
        needed_s = max(ready.batches, 1.5) * ready.batch_time_s / (1 - PRE_TRIGGER - MARGIN)
        window_s = usual_s if needed_s <= usual_s else _longer(needed_s)
        if window_s != self.station.window_s:
            self.station.set_window(window_s)
        time.sleep(self.station.lab.dut.rest_s)
        return ready

    def _run(
        self, kind: str, ready: Ready, *, cell: Cell | None = None, read_supply: bool = False
    ) -> tuple[CaptureRow, Capture, list[Reading]]:
        """Arm, go, wait, fetch. What was captured of a run that failed is stored as rejected."""
        scope, dut = self.bench.scope, self.station.device()
        clock = dut.clock_bound()
        self.bench.supply.limited_since()
        host_s, utc_s = time.monotonic(), time.time()
        run_id = f"{kind}-{cell.position if cell else 0}-{int(utc_s)}"
        scope.arm(deadline_s=self.station.arm_deadline_s)
        self._journal(cell, "armed")
        dut.go(run_id, limit_s=(1 - PRE_TRIGGER - MARGIN) * self.station.window_s)
        self._journal(cell, "running")
        slack_s = 3.0 + self.station.window_s
        try:
            try:
                readings = self._read_supply(slack_s) if read_supply else []
                self._await_record(dut, slack_s)
            except CaptureError as error:
                scope.stop()
                raise Rejected(self._why_no_record(dut, error)) from error
            capture = scope.fetch(list(self.station.sources.values()), points=POINTS, deadline_s=FETCH_S)
        except InstrumentError:
            self._let_end(dut, slack_s)
            raise
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
            window_asked_s=self.station.window_s,
            clock_offset_s=clock.offset_s,
            clock_bound_s=clock.bound_s,
        )
        try:
            done = dut.wait_done(deadline_s=slack_s)
            self._require_voltage(capture)
        except (DutError, Rejected) as error:
            raise self.station.reject(row, capture, str(error)) from error
        return self._with_log(row, done, host_s), capture, readings

    def _require_voltage(self, capture: Capture) -> None:
        """Reject a run during which the supply did not hold its voltage."""
        supply, facts = self.bench.supply, self.station.lab.supply
        mode, limited = supply.mode(), supply.limited_since()
        volts = float(np.mean(capture[self.station.sources["voltage"]].values()))
        if limited or mode != "CV":
            raise Rejected(
                f"the supply did not stay in constant voltage during the run (mode {'CC' if limited else mode}): "
                f"raise current_limit_a above {facts.current_limit_a:g} A"
            )
        if abs(volts - facts.voltage_v) > VOLTAGE_SHARE * facts.voltage_v:
            raise Rejected(
                f"the voltage was {volts:.3g} V during the run, not {facts.voltage_v:g} V: "
                "check the supply's mode and wiring.voltage"
            )

    def _let_end(self, dut: Dut, within_s: float) -> None:
        """Take the device out of a run whose record is lost: in a run it accepts nothing else."""
        try:
            dut.wait_done(deadline_s=within_s)
        except DutError as error:
            _log.warning("the device is started anew: %s", error)
            self.bench.stop_dut()

    def _journal(self, cell: Cell | None, state: str) -> None:
        if cell is not None:
            with undisturbed():
                self.writer.cell(cell.position, state)

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
            f"D{self.station.lab.wiring.gate.digital}, marker_threshold_v, and dut.marker"
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
        end_s = waiting_s + FILL * self.station.window_s - 0.15
        while time.monotonic() < end_s:
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
            device_facts=_facts_json({k: v for k, v in done.facts.items() if k not in _LOGGED}),
            batch_end_ns=done.batch_ns,
            true_energy_j=energy_j,
            true_idle_power_w=idle_w,
        )


_LOGGED = ("type", "gate_ns", "batch_ns")
"""Fields of the device's message that are stored as variables of their own."""


def _facts_json(facts: dict[str, Any]) -> str:
    """The device's facts as JSON that fits its place in the file; whole, or said to be too long."""
    text = json.dumps(facts, ensure_ascii=True)
    room = CAPTURE["device_facts"].width
    return text if len(text) <= room else json.dumps({"left_out": f"{len(text)} characters, {room} fit"})


def _longer(seconds: float) -> float:
    """The next 1-2-5 length of record that holds the seconds."""
    decade = 10.0 ** math.floor(math.log10(seconds))
    return next(m * decade for m in (1.0, 2.0, 5.0, 10.0) if m * decade >= seconds)
