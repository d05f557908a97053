"""One cell of a sweep: prepare, arm, go, wait, fetch, check, commit or reject with a reason."""

from __future__ import annotations

import functools
import logging
import math
from collections.abc import Callable
from dataclasses import replace

from experiments.cell_run import RunOfCell
from experiments.device_said import because
from experiments.flags import NO_CODE
from experiments.journal import CaptureRow, Reading
from experiments.measure import Measured
from experiments.modelled import known_size
from experiments.plan import Cell, Method
from experiments.plausible import LINE_FAULTS, SETTINGS_CHANGED
from experiments.record_choice import FILL, GAIN_WINDOW_S, MARGIN, record_for
from experiments.run_steps import TELL_S, RunSteps
from experiments.station import POINTS, PRE_TRIGGER, Rejected, Station
from experiments.watched import require_sensor
from instruments.dut import DutRefusedError, Ready
from instruments.errors import CaptureError, DutError, InstrumentError, LinkError
from instruments.interrupts import undisturbed
from instruments.waveform import Capture

WARMUP_S = 5.0
"""Longest warm-up: most networks settle in half a second; three batches may take three times as long."""

ATTEMPTS = 3
"""How often a cell is tried when its record, not its device, was at fault."""

MOVED = (SETTINGS_CHANGED, "markers-cut", NO_CODE)
"""Codes of what somebody may have moved at the oscilloscope: a timebase or a trigger makes short and cut records."""

_log = logging.getLogger(__name__)


QUICK = 4.0
"""Samples below which a batch is too short for its edges to be told apart for sure."""


class CellWork:
    """Measures cells, and the gain of both channels, at one station."""

    def __init__(self, station: Station) -> None:
        self.station = station
        self.bench, self.writer, self.plan = station.bench, station.writer, station.plan
        self.clock, self.steps = station.clock, RunSteps(station)
        self._batch_samples = math.inf
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
                rejected = self.steps.said.judged(error, self.station.device)
                left = [(n, b) for n, b in self._loads[1:] if rejected.outcome == "out of memory" or n != network]
                quick = rejected.code in LINE_FAULTS and self._batch_samples < QUICK
                if (rejected.outcome == "rejected" and not quick) or not left:
                    if quick:  # nothing is wrong with the lines
                        raise Rejected(str(rejected), rejected.capture) from error
                    self._keep_lines(network, batch, rejected)
                    raise rejected from error
                self._loads = left
                why = f"batches of {self._batch_samples:.2g} samples" if quick else rejected.outcome
                self.station.say(f"gain: {network} batch {batch}: {why}; {left[0][0]} batch {left[0][1]} instead")
            else:
                return

    def _keep_lines(self, network: str, batch: int, rejected: Rejected) -> None:
        """Store what the oscilloscope sees of lines that never triggered it."""
        if rejected.capture < 0 and rejected.code in LINE_FAULTS:
            host_s, utc_s = self.clock.monotonic(), self.clock.time()
            row = CaptureRow("gain", network=network, batch=batch, host_s=host_s, utc_s=utc_s)
            self.station.keep_lines(replace(row, window_asked_s=self.station.window_s), rejected)

    def measure_cell(self, cell: Cell) -> Measured:
        """Measure one cell and commit it. Raises Rejected with the reason; the journal holds it too."""
        try:
            return self._tried(cell.label, lambda shrink: self._attempt_cell(cell, shrink), still_open=cell.label)
        except Rejected as error:
            rejected = self.steps.said.judged(error, self.station.device)
            with undisturbed():
                at_s = self.clock.monotonic()
                code = rejected.code if rejected.outcome == "rejected" else ""
                self.writer.cell(
                    cell.position, rejected.outcome, str(rejected), rejected.capture, at_s=at_s, flags=code
                )
            raise rejected from error

    def _tried(
        self, label: str, attempt: Callable[[float], Measured], *, fed: bool = True, still_open: str = ""
    ) -> Measured:
        """Try a measurement again where its record was at fault, with a shorter run each time.

        `fed` says that the board is to have power; raises PowerLost where it has none, naming the cell `still_open`.
        """
        for number in range(1, ATTEMPTS + 1):
            lost = False  # the oscilloscope's settings, as somebody's *RST or a restart makes of them
            try:
                return attempt(0.8 ** (number - 1))
            except Rejected as error:
                rejected = error
                lost = error.capture < 0 or error.code in MOVED
            except DutError as error:
                rejected = because(error)
            except LinkError as error:
                self._reconnect(error)
                rejected = Rejected(str(error), retry=True)
            except InstrumentError as error:
                rejected = Rejected(str(error), retry=True, code=_code_of(error))
                lost = True
            if fed:
                self.steps.require_power(still_open)
            if not rejected.retry:
                break
            if number < ATTEMPTS:
                self.station.say(f"{label}: tried again, since {rejected}")
                if lost:
                    self._set_up_again()
        raise rejected

    def _attempt_gain(self, network: str, batch: int, shrink: float) -> Measured:
        # A heavy load is the better comparison: the read-back's 5 mA weigh less.
        ready, _ = self._prepare(network, batch, shrink, max(GAIN_WINDOW_S, self.plan.window_s), Method())
        self._batch_samples = ready.batch_time_s * POINTS / self.station.window_s
        row, capture, readings = self._run("gain", ready, read_supply=True)
        measured = self.station.commit(row, capture, readings)
        if self.station.watch:
            require_sensor(self.station.watch, row.device_facts)
        return measured

    def steady(self, kind: str) -> None:
        """Take a zero or an idle record, with a second try. Raises Rejected with the reason."""
        self._tried(kind, lambda shrink: self.station.steady_capture(kind), fed=kind != "zero")

    def _reconnect(self, error: LinkError) -> None:
        """Open both links anew after one broke; raises the instrument's error when that fails."""
        _log.warning("a link failed, opening it again: %s", error)
        for instrument in (self.bench.scope, self.bench.supply):
            instrument.link.reopen()
        self.station.set_up_scope()

    def _set_up_again(self) -> None:
        """Set the oscilloscope once more, which may have lost its settings; what fails will fail in the next try."""
        try:
            self.station.set_up_scope()
        except LinkError as error:
            self._reconnect(error)
        except InstrumentError as error:
            _log.warning("the oscilloscope could not be set up again: %s", error)

    def _attempt_cell(self, cell: Cell, shrink: float) -> Measured:
        ready, method = self._prepare(cell.network, cell.batch, shrink, self.plan.window_s, self.plan.method)
        with undisturbed():
            self.writer.cell(cell.position, "prepared")
        measured: Measured
        if method:
            measured = RunOfCell(self.steps, cell, ready, method).measure()
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
        self.steps.said.met(dut)
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
        begun = self.steps.begin(kind, ready, cell, None, (1 - PRE_TRIGGER - MARGIN) * window_s, 3.0 + window_s)
        capture, readings = self.steps.first_record(begun, read_supply)
        self.steps.journal(cell, "fetched")
        try:
            done = begun.dut.wait_done(deadline_s=begun.slack_s + TELL_S)
            self.steps.require_voltage(capture)
        except (DutError, Rejected) as error:
            code = error.code if isinstance(error, Rejected) else NO_CODE
            raise self.station.reject(begun.row, capture, str(error), code) from error
        return self.steps.with_log(begun, ready, done), capture, readings


def _code_of(error: InstrumentError) -> str:
    """The code under which an instrument's error is listed in docs/flags.md."""
    return "stale-record" if isinstance(error, CaptureError) and error.reason == "stale" else NO_CODE
