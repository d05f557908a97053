"""The runs of a trace file that no single record holds: which captures belong to which, and what to say of them."""

from __future__ import annotations

import contextlib
import functools
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from calibration.model import Delay
from experiments.capture_data import CaptureData, ReductionError, Wires, facts_of
from experiments.checked import Checks
from experiments.long_runs import CLOCK_RATE_LIMIT, MeasuredRun, RunCollector
from experiments.measure import Measured
from experiments.parts import CONSECUTIVE, LONG, LONG_RECORD, STEADY, Part, measure_part
from experiments.reduced_cells import Cells
from experiments.set_aside import SetAside
from experiments.steady_power import NOT_STEADY, NotSteadyError
from experiments.traces import Reading, TraceReader
from instruments.wording import counted, span


def log_s(rise_ns: int, ends_ns: Sequence[int] | NDArray[np.int64]) -> NDArray[np.float64]:
    """The device's log of a run: the gate's rise, at 0, and the end of each batch, s."""
    ends = np.asarray(ends_ns, dtype=np.int64)
    return np.concatenate(([0], ends - rise_ns)) * 1e-9


class Runs:
    """Puts the runs of a file together from their captures, in whatever order they are given."""

    def __init__(self, reader: TraceReader, checks: Checks, wires: Wires, delay: Delay | None) -> None:
        self._rows, self._reader, self._checks, self._wires = reader.captures(), reader, checks, wires
        self._delay = delay
        self.not_steady: list[Part] = []
        """The records that were refused since the power in them is not steady; known once all is `finished`."""
        self._collector = functools.partial(RunCollector, checks, wires, delay, shape=True)
        # The first capture of a run is settled last: until it is, a program that was killed had not come to an end.
        # A run that was begun again after that may have the same name.
        self._first = {
            row["run_id"]: index
            for index, row in enumerate(self._rows)
            if row["method"] and row["kind"] == "cell" and row["part"] == 0 and row["state"]
        }
        self._left = Counter(
            row["run_id"]
            for index, row in enumerate(self._rows)
            if index >= self._first.get(row["run_id"], len(self._rows)) and row["state"] == "committed"
        )
        self._open: dict[str, tuple[CaptureData, RunCollector]] = {}
        self._done: dict[str, int] = {}
        self._failed: dict[str, tuple[CaptureData, ReductionError]] = {}
        self._aside = SetAside()

    def captures(
        self, kinds: Sequence[str], log: Mapping[int, NDArray[np.int64]]
    ) -> Iterator[tuple[CaptureData, Measured | ReductionError | None, list[Reading]]]:
        """Go through a file's committed captures: each reduced, or why it cannot be, and what the supply read.

        `log` has the ends of batches by the device's clock. Of what is part of a run nothing is known before all of
        its parts are (None): `finished` gives the runs.
        """
        for data in self._reader.data(kinds=kinds):
            if data.method:
                self.add(data)
                yield data, None, []
                continue
            readings = self._reader.readings(data.index)
            read_a = [r.value for r in readings if r.quantity == "A"]
            found: Measured | ReductionError
            try:
                found = self._checks.measure(data, self._wires, log.get(data.index, ()), read_a)
            except ReductionError as error:
                found = error
            yield data, found, readings

    def add(self, data: CaptureData) -> None:
        """Take one committed capture of a run, which is put together once all of them are there."""
        run_id = data.run_id
        if data.index < self._first.get(run_id, len(self._rows)):
            return
        if run_id not in self._open:
            self._open[run_id] = facts_of(data), self._collector()
        self._open[run_id][1].add(data)
        self._left[run_id] -= 1
        if not self._left[run_id]:
            self._finish(run_id)

    def finished(self) -> tuple[Iterator[MeasuredRun], list[tuple[CaptureData, ReductionError]]]:
        """Give every run; of those that cannot be put together the facts of a capture, and why.

        `not_steady` is then known, and has yet to be told to those runs of which one record stands for the whole
        (`long_runs.with_others`).
        """
        for run_id in [*self._open]:
            self._finish(run_id)
        failed = [self._failed[run_id] for run_id in sorted(self._failed, key=self._first.__getitem__)]
        if any(self._rows[self._first[run_id]]["method"] == STEADY for run_id in self._done):
            self.not_steady = [*self._refused(), *(e.part for _, e in failed if isinstance(e, NotSteadyError))]
        ordered = sorted(self._done, key=self._first.__getitem__)
        return (self._aside.get(self._done[run_id]) for run_id in ordered), failed

    def _refused(self) -> list[Part]:
        """The records that were refused when they were taken because the power in them is not steady."""
        refused = {
            index
            for index, row in enumerate(self._rows)
            if row["state"] == "rejected" and row["method"] == STEADY and NOT_STEADY in row["flags"].split()
        }
        found = []
        for data in self._reader.data(states=("rejected",), kinds=("cell",)) if refused else ():
            if data.index in refused:
                with contextlib.suppress(ReductionError):
                    found.append(measure_part(data, self._wires, self._delay))
        return found

    def _finish(self, run_id: str) -> None:
        """Put one run together: a file may hold many, and what their captures left is not kept for all of them."""
        data, collector = self._open.pop(run_id)
        mine = range(self._first[run_id], len(self._rows))
        lead = next((i for i in mine if i in self._logs and self._rows[i]["run_id"] == run_id), None)
        ends = self._logs[lead] if lead is not None else np.empty(0, np.int64)
        try:
            self._done[run_id] = self._aside.put(collector.finish(log_s(self._rows[data.index]["gate_rise_ns"], ends)))
        except ReductionError as error:
            self._failed[run_id] = data, error

    @functools.cached_property
    def _logs(self) -> Mapping[int, NDArray[np.int64]]:
        return self._reader.host_log()

    def notes(self, runs: Iterable[Measured]) -> list[str]:
        """Say which captures of usable runs do not count, and how much of long runs was recorded."""
        notes = []
        steady: dict[tuple[str, int], None] = {}
        long: list[tuple[float, float, int]] = []
        of_run: dict[str, list[int]] = {}
        for index, (run_id, kind) in enumerate(zip(*map(self._rows.column, ("run_id", "kind")), strict=True)):
            if kind == "cell" and index >= self._first.get(run_id, len(self._rows)):
                of_run.setdefault(run_id, []).append(index)
        for run in runs:
            if not isinstance(run, MeasuredRun):
                continue
            if run.data.method == STEADY:
                steady[run.data.network, run.data.batch] = None
            if run.data.method == LONG:
                long.append((run.run_s, run.captured_s, len(run.parts)))
            mine = [self._rows[index] for index in of_run[run.data.run_id]]
            unused = [*(row["reason"] for row in mine if row["state"] == "rejected"), *run.unused]
            if unused:
                d = run.data
                notes.append(
                    f"{d.network} batch {d.batch} repeat {d.repeat + 1}: {len(unused)} of {len(mine)} captures are "
                    f"not used, the others count: {'; '.join(dict.fromkeys(unused))}"
                )
            if run.data.method == LONG and (run.after is None or run.before is None):
                which = "after" if run.after is None else "before"
                d = run.data
                notes.append(
                    f"{d.network} batch {d.batch} repeat {d.repeat + 1}: the idle power {which} the run is not known, "
                    "so that its drift is not taken off"
                )
        unsteady = Counter((part.data.network, part.data.batch) for part in self.not_steady)
        for network, batch in steady:
            if n := unsteady[network, batch]:
                notes.append(
                    f"{network} batch {batch}: {counted(n, 'repeat')} not steady, so that the power outside the "
                    "records of the others may be as far off as theirs goes: choose another --long-batch"
                )
        if long:
            lengths_s, captured_s, parts = zip(*long, strict=True)
            shares = [seen_s / run_s for seen_s, run_s in zip(captured_s, lengths_s, strict=True)]
            single = sum(n == 1 for n in parts)
            notes.append(
                f"long mode: {counted(len(long), 'run')} of "
                f"{span(f'{min(lengths_s):.4g}', f'{max(lengths_s):.4g}')} s in "
                f"{span(min(parts), max(parts))} captures each, which hold "
                f"{span(f'{min(shares) * 100:.0f}', f'{max(shares) * 100:.0f}')} % of their time"
            )
            least_s = self._reader.plan.method.long_s or 0.0
            if short := [run_s for run_s in lengths_s if run_s < least_s]:
                notes.append(f"{counted(len(short), 'long run')} ended before the {least_s:g} s that were asked for")
            if single:
                notes.append(
                    f"{counted(single, 'long run')} with a single usable capture: what the power did otherwise is a "
                    "limit, not a scatter"
                )
        return notes


def record_notes(reader: TraceReader, cells: Cells) -> list[str]:
    """Say openly for which networks and batches a batch is longer than the record, and what was done about it."""
    rows, usual_s = reader.captures(), reader.plan.window_s
    found: dict[str, dict[str, set[int]]] = {LONG_RECORD: {}, CONSECUTIVE: {}, STEADY: {}}
    longer = np.array(rows.column("window_asked_s"))[cells.indices] > usual_s
    for cell in cells.only(longer | cells.put_together):
        what = cell.data.method
        if isinstance(cell, MeasuredRun) and cell.timed_by_scope:
            what = ""
        if what in ("", LONG) and rows[cell.data.index]["window_asked_s"] > usual_s:
            what = LONG_RECORD
        if what in found:
            found[what].setdefault(cell.data.network, set()).add(cell.data.batch)
    ppm = f"{CLOCK_RATE_LIMIT * 1e6:.0f} ppm"
    said = {
        LONG_RECORD: "a longer record with fewer samples a second",
        CONSECUTIVE: f"consecutive records, and the time by the device's clock (good to {ppm})",
        STEADY: f"the steady power of one record for the rest of the time by the device's clock (good to {ppm})",
    }
    return [
        f"batches that did not fit the usual record of {usual_s:g} s, taken with {said[what]}: "
        + "; ".join(f"{name} batch {', '.join(map(str, sorted(batches)))}" for name, batches in sorted(those.items()))
        for what, those in found.items()
        if those
    ]
