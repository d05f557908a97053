"""An open bench at work on a plan: sets it up, takes records in which nothing runs, stores and checks captures.

Every step leaves the file consistent; signals are held back while it writes.
"""

from __future__ import annotations

import functools
import logging
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace

from calibration.choice import NO_RECORDS, Records
from calibration.model import Calibration
from experiments.capture_data import CaptureData, ReductionError, wires
from experiments.checked import Checks, checks_of
from experiments.energy import results
from experiments.flags import with_code
from experiments.measure import Measured
from experiments.plan import Plan
from experiments.plausible import BENCH_FAULTS, SETTINGS_CHANGED
from experiments.run_calibration import comparison_fault, find_calibration
from experiments.traces import CaptureRow, Reading, TraceWriter
from instruments import bench_steps, scope_facts
from instruments.bench import Bench
from instruments.clock import Clock
from instruments.dut import Dut
from instruments.errors import BenchError, CaptureError, ConfigError, DutError, InstrumentError
from instruments.interrupts import undisturbed
from instruments.lab import Lab
from instruments.scope_facts import (
    clamp,
    sources,
    unlike_the_plan,
)
from instruments.waveform import Capture

POINTS = scope_facts.POINTS
"""Points asked of the oscilloscope for each record; what came is in the preamble."""

FETCH_S, PRE_TRIGGER = bench_steps.FETCH_S, scope_facts.PRE_TRIGGER
"""Longest transfer of one capture, s; share of the record before the trigger."""

IDLE_READINGS = 3
"""Readings of the supply's current during a record of the idle board."""

DUT_STARTS = 3
"""Starts of a device that fail in a row before it is given up for the rest of the sweep."""

_log = logging.getLogger(__name__)


class Rejected(Exception):
    """A capture without a result; the text is the reason. `capture` is its row in the file, -1 without one.

    `retry` says whether the record was at fault, so that another try may succeed; `outcome` is the state in which
    the journal is to leave its cell, `code` sorts the reason (docs/flags.md).
    """

    def __init__(
        self,
        reason: str,
        capture: int = -1,
        *,
        retry: bool = False,
        outcome: str = "rejected",
        code: str = "rejected",
    ) -> None:
        super().__init__(reason)
        self.capture, self.retry, self.outcome, self.code = capture, retry, outcome, code

    @property
    def shouted(self) -> str:
        """The outcome in capitals and the reason; the outcome once, where the reason names it."""
        reason, loud = str(self), self.outcome.upper()
        return reason.replace(self.outcome, loud, 1) if self.outcome in reason else f"{loud}: {reason}"


class PowerLost(BenchError):
    """The supply no longer feeds the board, so that nothing can be measured until somebody has seen to it."""


@dataclass
class Station:
    """An open bench at work on a plan.

    `prompt` shows steps to a person and tells how that went; `clamp_ready` is what it told of the clamp. With
    `read_supply` the supply is read during every cell too, and `watch` names a sensor that the board then reads. With
    `require_calibration` a record that the run's own comparison contradicts ends the sweep.
    """

    bench: Bench
    writer: TraceWriter
    plan: Plan
    say: Callable[[str], None]
    failed_starts: int = 0
    powered_s: float = -math.inf
    window_s: float = 0.0
    prompt: Callable[[Sequence[str]], str] | None = None
    clamp_ready: str = "not asked"
    screen_kept: bool = False
    read_supply: bool = False
    watch: str = ""
    require_calibration: bool = False
    session: int = 0
    records: Records = NO_RECORDS
    steady: list[tuple[Measured, list[Reading]]] = field(default_factory=list)
    _asked: dict[str, str] = field(default_factory=dict)

    @property
    def lab(self) -> Lab:
        """The bench's facts."""
        return self.bench.lab

    @property
    def clock(self) -> Clock:
        """The bench's time."""
        return self.bench.clock

    @property
    def sources(self) -> dict[str, str]:
        """Which source of the oscilloscope plays which role."""
        return sources(self.lab)

    # --- setting up ---------------------------------------------------------------------------

    def set_up_scope(self) -> dict[str, str]:
        """Set the channels, the pod, the trigger and the acquisition; each is read back.

        Returns the settings as the oscilloscope reports them.
        """
        self.window_s = self.plan.window_s
        found = bench_steps.set_up_scope(self.bench, self.plan.window_s, self.say)
        self._asked = {name: found[name] for name in bench_steps.of_a_record(self.lab) if name in found}
        return found

    def require_settings(self) -> None:
        """Raise ReductionError where somebody has set the oscilloscope otherwise since it was set up."""
        try:
            changed = bench_steps.strayed(self.bench, self._asked)
        except InstrumentError as error:
            _log.warning("whether the oscilloscope's settings are still those of the sweep is not known: %s", error)
            return
        if changed:
            raise ReductionError(
                f"the oscilloscope's settings were changed during the sweep, at its front panel or by another program: "
                f"{', '.join(changed)}; leave them alone while a sweep runs",
                SETTINGS_CHANGED,
            )

    def set_window(self, window_s: float) -> None:
        """Set the length of the record, with the trigger one division from its left end."""
        bench_steps.set_window(self.bench, window_s)
        self.window_s = window_s

    def feed_board(self) -> None:
        """Prepare the supply in the order that is safe: OVP, range, current limit, voltage; output still off."""
        bench_steps.feed_board(self.bench, self.say)

    @functools.cached_property
    def checks(self) -> Checks:
        """What is checked about each capture."""
        return checks_of(self.lab, self.records, live=True)

    def switch_off(self) -> None:
        """Switch the output off and wait until the board's capacitors have followed it to 0 V."""
        bench_steps.switch_off(self.bench)

    def switch_on(self) -> None:
        """Switch the output on and wait until it regulates the voltage that was asked for.

        Raises SettingError when it limits the current or does not settle in 5 s.
        """
        self.bench.supply.output(True)
        self.powered_s = self.clock.monotonic()
        self.bench.supply.wait_settled(5.0)
        self.clock.sleep(bench_steps.SETTLE_S)

    def supply_settings(self) -> dict[str, str]:
        """Read back what the supply is set to."""
        supply = self.bench.supply
        return {
            "range": supply.range(),
            "voltage_v": f"{supply.voltage_v():g}",
            "current_limit_a": f"{supply.current_limit_a():g}",
            "ovp_v": f"{self.lab.supply.ovp_v:g}",
        }

    def provisional(self, measured: Measured, begun_with: Calibration | None = None) -> str:
        """One cell's energy per image with the calibration known so far, for the progress display.

        `begun_with` is that of an earlier part of this session, of which nothing was taken anew.
        """
        calibration = find_calibration(self.lab, self.steady, self.records) or begun_with
        if calibration is None:
            return "measured"
        try:
            (row,) = results([measured], calibration)
        except ReductionError as error:
            return f"measured, but {error}"
        values = (row.energy_per_image_j.value * 1e3, row.power_w.value, row.time_per_image_s.value * 1e3)
        energy, power, time = (f"{value:#.4g}".rstrip(".") for value in values)
        return f"{energy} mJ/image, {power} W, {time} ms"

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
                if self.clock.monotonic() < self.powered_s + self.lab.dut.boot_s:
                    self.clock.sleep(1.0)
                    continue
                self.failed_starts += 1
                raise Rejected(f"the device does not start: {error}") from error
            self.failed_starts = 0
            return dut

    # --- captures -----------------------------------------------------------------------------

    @property
    def arm_deadline_s(self) -> float:
        """How long arming may take: the pre-trigger and what a slow network adds."""
        return bench_steps.arm_deadline_s(self.window_s)

    def steady_capture(self, kind: str) -> Measured:
        """Capture a record in which nothing runs: `zero` with the output off, `idle` with it on.

        Raises Rejected when the record cannot be used, CaptureError when there is none.
        """
        if self.window_s != self.plan.window_s:
            self.set_window(self.plan.window_s)
        host_s, utc_s = self.clock.monotonic(), self.clock.time()
        readings: list[Reading] = []

        def read_current(until_s: float) -> None:
            """What the supply reads of the idle board, against which it is seen to follow the one at work."""
            began_s = self.clock.monotonic()
            while len(readings) < IDLE_READINGS and self.clock.monotonic() < until_s:
                amps = self.bench.supply.measure_current_a()
                readings.append(Reading("A", amps, self.clock.monotonic() - began_s))

        if kind == "idle":
            capture = bench_steps.forced_record(self.bench, self.window_s, read_current)
        else:
            capture = bench_steps.forced_record(self.bench, self.window_s)
        row = CaptureRow(kind, host_s=host_s, utc_s=utc_s, window_asked_s=self.window_s)
        return self.commit(row, capture, readings)

    def first_zero(self) -> None:
        """Take the zero without which nothing can be reduced; raises CaptureError when it cannot be used."""
        if self.prompt is not None:
            self.clamp_ready = self.prompt(clamp(self.lab).before_zero())
        try:
            first = self.steady_capture("zero").data.capture
        except Rejected as rejected:
            if rejected.code in BENCH_FAULTS:
                raise ConfigError(
                    f"the zero with the output off: {rejected.code}: {rejected}; nothing was measured"
                ) from rejected
            raise CaptureError(
                f"the zero with the output off cannot be used: {rejected}", reason="zero", instrument="scope"
            ) from rejected
        for line in unlike_the_plan(self.lab, self.window_s, first, POINTS):
            self.say(f"oscilloscope: {line}")

    def _keep_screen(self) -> None:
        """Store a picture of the screen, once; a failure is said and nothing more."""
        self.screen_kept = True
        try:
            picture = self.bench.scope.screenshot()
            with undisturbed():
                self.writer.blob("scope_screen", picture)
        except BenchError as error:
            self.say(f"no picture of the oscilloscope's screen: {error}")

    def commit(self, row: CaptureRow, capture: Capture, readings: Sequence[Reading]) -> Measured:
        """Store a capture, check it by reducing it, and commit it. Raises Rejected when it cannot be used."""
        with undisturbed():
            row = replace(row, session=self.session)
            index = self.writer.add(row, capture, self.sources)
            self.writer.readings(index, readings)
            try:
                if capture.duration_s < 0.99 * row.window_asked_s:
                    raise ReductionError(
                        f"the record is short: {capture.duration_s:g} s of the {row.window_asked_s:g} s asked for"
                    )
                self.require_settings()
                measured = self.checks.measure(
                    self.data_of(index, row, capture),
                    wires(self.lab),
                    row.batch_end_ns,
                    [r.value for r in readings if r.quantity == "A"],
                )
                self._require_right_gain(measured, readings)
            except ReductionError as error:
                self.writer.settle(index, str(error), self.clock.monotonic(), flags=with_code(row.flags, error.code))
                retry = error.code not in BENCH_FAULTS
                raise Rejected(str(error), index, retry=retry, code=error.code) from error
            self.writer.settle(index, at_s=self.clock.monotonic())
        if row.kind != "cell":
            self.steady.append((measured, list(readings)))
        if row.kind in ("gain", "cell") and not self.screen_kept:
            self._keep_screen()
        return measured

    def _require_right_gain(self, measured: Measured, readings: Sequence[Reading]) -> None:
        """Refuse a comparison by which a channel is not scaled, or a line not wired, as lab.yaml has it.

        Raises ReductionError.
        """
        if measured.data.kind == "gain":
            fault = comparison_fault(self.lab, [*self.steady, (measured, list(readings))])
            if fault is not None:
                raise fault
            self.checks.require_related(measured.data, wires(self.lab))

    def keep_lines(self, row: CaptureRow, rejected: Rejected) -> None:
        """Store what the oscilloscope sees now, where a run triggered no record, with the reason and its code."""
        try:
            capture = bench_steps.forced_record(self.bench, self.window_s)
        except InstrumentError as error:
            _log.warning("no record of lines that do not trigger: %s", error)
            return
        self.reject(row, capture, str(rejected), rejected.code)

    def reject(self, row: CaptureRow, capture: Capture, reason: str, code: str = "rejected") -> Rejected:
        """Store a capture whose run failed, with the reason and its code; gives what to raise."""
        with undisturbed():
            index = self.writer.add(replace(row, session=self.session), capture, self.sources)
            self.writer.settle(index, reason, self.clock.monotonic(), flags=with_code(row.flags, code))
        return Rejected(reason, index, code=code)

    def data_of(self, index: int, row: CaptureRow, capture: Capture) -> CaptureData:
        """What the reduction is told of a capture, as a reader of the file tells it."""
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
            row.start_frame if row.start_frame >= 0 else None,
            row.start_frame_edges,
            row.device_busy_s,
            row.session,
            run_id=row.run_id,
            method=row.method,
            part=row.part,
            gap_before_s=row.gap_before_s,
            device_s=(row.gate_fall_ns - row.gate_rise_ns) * 1e-9,
            gate_moving_s=row.gate_moving_s,
            gate_jitter_s=row.gate_jitter_s,
            quiet_after_s=row.quiet_after_s,
        )
