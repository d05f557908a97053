"""One cell whose run no single record holds: consecutive captures while it goes on, stored as parts of one run."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Iterator
from dataclasses import dataclass, replace

from experiments.capture_data import ReductionError, wires
from experiments.flags import NO_CODE, with_code
from experiments.journal import CaptureRow
from experiments.long_runs import MeasuredRun, RunCollector
from experiments.parts import FLAGS, LONG, STEADY
from experiments.plan import Cell
from experiments.plausible import BENCH_FAULTS
from experiments.record_choice import RESERVE
from experiments.run_files import log_s
from experiments.run_steps import TELL_S, Begun, RunSteps
from experiments.station import FETCH_S, POINTS, Rejected
from experiments.steady_power import NOT_STEADY
from instruments import bench_steps
from instruments.dut import Done, Ready
from instruments.dut_protocol import MAX_BATCHES
from instruments.errors import CaptureError, DutError, InstrumentError
from instruments.interrupts import undisturbed
from instruments.waveform import Capture

PATIENCE = 2.0
"""How many times as long, or as many batches, as the warm-up tells a run is allowed."""


@dataclass
class _Taken:
    """One capture of the run: its row in the file, what is stored beside its codes, and the codes."""

    index: int
    row: CaptureRow
    capture: Capture


class RunOfCell:
    """Measures one cell by a run that is put together by `method` (`parts`)."""

    def __init__(self, steps: RunSteps, cell: Cell, ready: Ready, method: str) -> None:
        self.steps, self.cell, self.ready, self.method = steps, cell, ready, method
        self.station, self.bench, self.clock = steps.station, steps.bench, steps.clock
        self.taken: list[_Taken] = []

    def measure(self) -> MeasuredRun:
        """Run, capture, store, reduce, settle. Raises Rejected with the reason, the captures kept."""
        batches, limit_s = self._length()
        begun = self.steps.begin("cell", self.ready, self.cell, batches, limit_s, limit_s + 3.0)
        begun = replace(begun, row=replace(begun.row, method=self.method))
        capture, _ = self.steps.first_record(begun, False)
        first_s = begun.row.host_s
        try:
            self._keep(begun.row, capture)
            if self.method != STEADY and self._at_work(capture):
                for following in self._others(first_s + begun.slack_s):
                    gap = self._gap(following)
                    number = len(self.taken)
                    row = replace(begun.row, part=number, gap_before_s=gap, host_s=_begin_s(following), ready_facts="")
                    self._keep(replace(row, utc_s=self.clock.time()), following)
            self.steps.journal(self.cell, "fetched")
            done = begun.dut.wait_done(deadline_s=begun.slack_s + TELL_S)
            self.steps.require_voltage(self.taken[0].capture)
        except (DutError, Rejected) as error:
            code = error.code if isinstance(error, Rejected) else NO_CODE
            raise self._reject_all(str(error), code) from error
        except InstrumentError as error:
            self.steps.let_end(begun.dut, begun.slack_s + TELL_S)
            self._reject_all(str(error))
            raise
        facts = self._facts(begun, done)
        after = self._idle_after(facts) if self.method == LONG else None
        return self._commit(facts, after)

    def _length(self) -> tuple[int, float]:
        """How many batches the device is to run at most, and for how long; raises Rejected where that cannot be.

        A long run ends by its time: batches may be quicker or slower than those of the warm-up.
        """
        batch_s, long_s = self.ready.batch_time_s, self.station.plan.method.long_s
        if long_s is None:
            batches = max(1, self.ready.batches)
            return batches, PATIENCE * (batches + 1) * batch_s
        if long_s > MAX_BATCHES * batch_s:
            raise Rejected(
                f"{MAX_BATCHES} batches, the most that a run can have, of {batch_s * 1e3:.3g} ms do not last "
                f"{long_s:g} s: choose a shorter --long-s or a larger batch"
            )
        return min(MAX_BATCHES, math.ceil(PATIENCE * long_s / batch_s) + 1), RESERVE * long_s + 2 * batch_s

    # --- captures ---------------------------------------------------------------------------------

    def _others(self, until_s: float) -> Iterator[Capture]:
        """Forced captures, one after another, until one ends with the gate low."""
        names = list(self.station.sources.values())
        captures = self.bench.scope.captures(names, points=POINTS, force_first=True, fetch_s=FETCH_S)
        with contextlib.closing(captures):
            for capture in captures:
                yield capture
                if not self._at_work(capture):
                    return
                if self.clock.monotonic() > until_s:
                    raise CaptureError(
                        "the gate was still high when the run should long have ended: check the wire of the gate line",
                        reason="not-finished",
                    )

    def _at_work(self, capture: Capture) -> bool:
        """Whether the gate is high when a capture ends."""
        codes = capture[self.station.sources["markers"]].codes
        return bool((int(codes[-1]) >> self.station.lab.wiring.gate.digital) & 1)

    def _gap(self, capture: Capture) -> float:
        """Time between the capture before and this one, s; NaN where the host's polls do not tell."""
        between = capture.gap_after_s(self.taken[-1].capture)
        return max(0.0, sum(between) / 2) if all(math.isfinite(s) for s in between) else math.nan

    def _keep(self, row: CaptureRow, capture: Capture) -> None:
        """Store a capture at once; its state stays open until the run is known."""
        with undisturbed():
            row = replace(row, session=self.station.session)
            index = self.station.writer.add(row, capture, self.station.sources)
        self.taken.append(_Taken(index, row, capture))

    def _reject_all(self, reason: str, code: str = NO_CODE) -> Rejected:
        """Reject every capture of a run that failed; gives what to raise."""
        with undisturbed():
            for one in reversed(self.taken):
                flags = with_code(one.row.flags, code)
                self.station.writer.settle(one.index, reason, self.clock.monotonic(), flags=flags)
        return Rejected(reason, self.taken[0].index if self.taken else -1, code=code)

    def _facts(self, begun: Begun, done: Done) -> CaptureRow:
        """What is stored of the run beside its first capture."""
        rise_before, rise_after, fall_before, fall_after = done.gate_ns
        jitter_s = begun.dut.hello().marker.get("jitter_s")
        moving_s = (rise_after - rise_before + fall_after - fall_before) * 1e-9
        jitter = float(jitter_s) if isinstance(jitter_s, int | float) else math.nan
        row = self.steps.with_log(begun, self.ready, done)
        return replace(row, session=self.station.session, gate_moving_s=moving_s, gate_jitter_s=jitter)

    def _idle_after(self, facts: CaptureRow) -> _Taken | None:
        """Record the idle board once it has come to rest after the run; what goes wrong is said and no more."""
        self.clock.sleep(self.station.lab.dut.rest_s)
        host_s, utc_s = self.clock.monotonic(), self.clock.time()
        try:
            capture = bench_steps.forced_record(self.bench, self.station.window_s)
        except CaptureError as error:
            self.station.say(f"{self.cell.label}: no record of the idle board after the run: {error}")
            return None
        row = _without_log(replace(facts, kind="idle", part=len(self.taken), host_s=host_s, utc_s=utc_s))
        self._keep(replace(row, gap_before_s=math.nan), capture)
        return self.taken.pop()

    # --- the end ----------------------------------------------------------------------------------

    def _commit(self, facts: CaptureRow, after: _Taken | None) -> MeasuredRun:
        """Reduce the run and settle its captures, the first one last: until then the run is not whole."""
        rows = [facts, *(self._of_part(facts, one.row) for one in self.taken[1:])]
        for one, row in zip(self.taken, rows, strict=True):
            one.row = row
        everything = [*self.taken, after] if after is not None else self.taken
        collector = RunCollector(self.station.checks, wires(self.station.lab), self.station.records.delay)
        for one in everything:
            short = self._short(one)
            if short is not None:
                collector.problems[one.index] = short
            else:
                collector.add(self.station.data_of(one.index, one.row, one.capture))
        failure: ReductionError | None = None
        measured: MeasuredRun | None = None
        try:
            self.station.require_settings()
            measured = collector.finish(log_s(facts.gate_rise_ns, facts.batch_end_ns))
        except ReductionError as error:
            failure = error
        lead = measured.data.index if measured is not None else self.taken[0].index
        extra = FLAGS[self.method] if measured is not None and not measured.timed_by_scope else ""
        writer, at_s = self.station.writer, self.clock.monotonic()
        with undisturbed():
            for one in reversed(everything):
                problem = failure or collector.problems.get(one.index)
                row = replace(one.row, flags=with_code(one.row.flags, extra) if extra else one.row.flags)
                if one.index == lead:
                    row = replace(
                        row,
                        ready_facts=facts.ready_facts,
                        device_facts=facts.device_facts,
                        batch_end_ns=facts.batch_end_ns,
                    )
                elif row.batch_end_ns:
                    row = _without_log(row)
                writer.amend(one.index, row)
                if problem is None:
                    writer.settle(one.index, at_s=at_s)
                else:
                    writer.settle(one.index, str(problem), at_s, flags=with_code(row.flags, problem.code))
        if failure is not None:
            retry = failure.code not in (*BENCH_FAULTS, NOT_STEADY)
            raise Rejected(str(failure), lead, retry=retry, code=failure.code) from failure
        assert measured is not None
        if collector.problems:
            said = "; ".join(dict.fromkeys(str(p) for p in collector.problems.values()))
            self.station.say(
                f"{self.cell.label}: {len(collector.problems)} of {len(self.taken)} captures are not used: {said}"
            )
        return measured

    def _of_part(self, facts: CaptureRow, own: CaptureRow) -> CaptureRow:
        """What is stored beside a later capture: the run's facts but its log, and what is its own."""
        row = replace(facts, part=own.part, gap_before_s=own.gap_before_s, host_s=own.host_s, utc_s=own.utc_s)
        return _without_log(row)

    def _short(self, one: _Taken) -> ReductionError | None:
        if one.capture.duration_s >= 0.99 * one.row.window_asked_s:
            return None
        return ReductionError(
            f"the record is short: {one.capture.duration_s:g} s of the {one.row.window_asked_s:g} s asked for"
        )


def _without_log(row: CaptureRow) -> CaptureRow:
    """Long texts and the log stand beside one capture of a run."""
    return replace(row, ready_facts="", device_facts="", batch_end_ns=())


def _begin_s(capture: Capture) -> float:
    """When a capture's first sample was taken, by the bench's clock."""
    return capture.trigger_after_s + capture.start_s
