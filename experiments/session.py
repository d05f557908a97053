"""One session at the bench: zero, idle, gain, every cell that is left, then gain, idle and zero again.

A run usually has one session. One that was cut short is gone on with in another, which takes a zero and a gain of its
own. At a simulated bench in virtual time nothing happens between the two: there the first session goes on.
"""

from __future__ import annotations

import contextlib
import json
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from calibration.model import Calibration
from experiments.calibrations import records_of
from experiments.capture_data import ReductionError, wires
from experiments.cell import CellWork
from experiments.checked import checks_of
from experiments.enough import Enough
from experiments.journal import kept_cells
from experiments.long_runs import with_others
from experiments.measure import Measured, without_codes
from experiments.plan import Cell
from experiments.plausible import WIRING_FAULTS, line_advice
from experiments.progress import Progress
from experiments.run_calibration import contradictions, find_calibration, outside, require_agreement
from experiments.run_files import Runs
from experiments.station import PowerLost, Rejected, Station
from experiments.traces import ENDED, NOT_NEEDED, Reading, TraceReader
from instruments import bench_steps
from instruments.bench import Bench
from instruments.clock import VirtualClock
from instruments.errors import ConfigError, InstrumentError
from instruments.interrupts import undisturbed
from instruments.lab import Lab
from instruments.wording import counted


@dataclass(frozen=True)
class Earlier:
    """What a run held before: the number of its last session, cells that have ended, and when the last one did.

    `closed` are the kinds of capture (gain, idle, zero) that the last session committed after its last cell;
    `settled_s` is the bench's clock at the last of all. `unjournalled` are cells whose capture (its row, and when)
    was committed and whose journal was not: the program was killed in between. `enough` has counted the repeats, and
    `calibration` is that with which the last session began.
    """

    session: int
    ended: frozenset[int]
    ended_s: float | None
    closed: frozenset[str]
    settled_s: float
    unjournalled: Mapping[int, tuple[int, float]]
    enough: Enough
    calibration: Calibration | None

    @staticmethod
    def of(reader: TraceReader) -> Earlier:
        """Read it from a run's file."""
        captures = reader.captures()
        last = max((row["session"] for row in captures), default=-1)
        kept = kept_cells(captures)
        ended: set[int] = set()
        times: list[float] = []
        unjournalled: dict[int, tuple[int, float]] = {}
        for position, cell in enumerate(reader.cells()):
            if cell["state"] in ENDED:
                times.append(cell["ended_s"])
            elif position in kept:
                unjournalled[position] = kept[position]
                times.append(kept[position][1])
            else:
                continue
            ended.add(position)
        mine = [row for row in captures if row["session"] == last and row["state"] == "committed"]
        began_s = min((row["host_s"] for row in mine), default=float("inf"))
        times = [t for t in times if t >= began_s]
        ended_s = max(times, default=None)
        after = [row for row in mine if ended_s is not None and row["kind"] != "cell" and row["host_s"] >= ended_s]
        settled_s = max((row["settled_s"] for row in after), default=ended_s if ended_s is not None else 0.0)
        enough, calibration = _counted(reader, last)
        return Earlier(
            last,
            frozenset(ended),
            ended_s,
            frozenset(row["kind"] for row in after),
            settled_s,
            unjournalled,
            enough,
            calibration,
        )


def _counted(reader: TraceReader, session: int) -> tuple[Enough, Calibration | None]:
    """Count a file's committed repeats as the sweep did, each with what its session of the bench began with."""
    plan, lab = reader.plan, reader.lab()
    enough = Enough(plan, reader.cells())
    kinds = ("zero", "gain") if plan.method.target_u is None else ("zero", "idle", "gain", "cell")
    records = records_of(reader)
    runs = Runs(reader, checks_of(lab, records), wires(lab), records.delay)
    began: dict[int, list[tuple[Measured, list[Reading]]]] = {}
    cells: list[Measured] = []
    at_work: set[int] = set()
    for data, measured, readings in runs.captures(kinds, reader.host_log()):
        if data.kind == "cell":
            at_work.add(data.session)
        if not isinstance(measured, Measured):
            continue
        if data.kind == "cell":
            with contextlib.suppress(ReductionError):
                cells.append(without_codes(measured, records.delay))
        elif data.session not in at_work:
            began.setdefault(data.session, []).append((without_codes(measured), readings))
    known = {number: find_calibration(lab, steady, records) for number, steady in began.items()}
    cells += with_others(list(runs.finished()[0]), runs.not_steady)
    for cell in sorted(cells, key=lambda cell: cell.data.index):
        enough.add(cell, known.get(cell.data.session))
    return enough, known.get(session)


def run_session(station: Station, progress: Progress, texts: dict[str, str], earlier: Earlier | None = None) -> None:
    """Measure what is left of the plan; whatever happens, what was committed is in the file."""
    bench, writer, plan = station.bench, station.writer, station.plan
    with undisturbed():
        number = writer.session(time.time(), texts["instruments"], texts["environment"])
        for position, (capture, at_s) in (earlier.unjournalled if earlier else {}).items():
            writer.cell(position, "committed", capture=capture, at_s=at_s)
    goes_on = earlier is not None and earlier.ended_s is not None and isinstance(bench.clock, VirtualClock)
    station.session = earlier.session if goes_on and earlier is not None else number
    work = CellWork(station)
    attempt = _Attempts(station.lab, progress, goes_on=bool(earlier and earlier.ended))

    for name, entries in bench.leftovers.items():
        if entries:
            progress.say(f"{name}: somebody left in its error queue: {'; '.join(entries)}")
    if earlier is None:
        with undisturbed():
            writer.blob("scope_setup_before", bench.scope_setup_before)
    settings = station.set_up_scope()
    progress.step("supply: OVP, range, current limit, voltage; output still off")
    station.feed_board()
    if not goes_on:
        progress.step("zero of both channels, output off")
        station.first_zero()
    progress.step("output on")
    station.switch_on()
    with undisturbed():
        writer.text("settings", json.dumps(_settings(station, settings), indent=1))
        writer.blob("scope_setup", bench.scope.setup())
    attempt("the device starts", station.device)
    closed: frozenset[str] = frozenset()
    if goes_on and earlier is not None and isinstance(bench.clock, VirtualClock):
        bench.clock.move_to(earlier.settled_s)
        closed = earlier.closed
    else:
        attempt("idle baseline", lambda: work.steady("idle"))
        attempt("gain of both channels against the supply's read-back", work.measure_gain, wired=True)
    calibration = find_calibration(station.lab, station.steady, station.records)
    if station.require_calibration:
        require_agreement(station.lab, station.steady, station.records)
    for find in (contradictions, outside):
        for session in find(station.lab, station.steady, station.records).values():
            for one in session:
                progress.warn(f"{one}; the record is not used")
    if goes_on and earlier is not None:
        calibration = earlier.calibration
    enough = earlier.enough if earlier is not None else Enough(plan)
    left = [c for c in plan.cells if earlier is None or c.position not in earlier.ended]
    _cells(work, progress, left, enough, calibration)
    lost: PowerLost | None = None
    try:
        if "gain" not in closed:
            attempt("gain again", work.measure_gain)
        if "idle" not in closed:
            attempt("idle again", lambda: work.steady("idle"))
    except PowerLost as error:  # the cells want their second zero, and a zero needs no power
        lost = error
    bench.stop_dut()
    station.switch_off()
    if "zero" not in closed:
        attempt("zero again, output off", lambda: work.steady("zero"))
    with undisturbed():
        writer.complete()
    if lost is not None:
        raise lost


class _Attempts:
    """Takes steps without which the cells can still be reduced, if with a larger uncertainty."""

    def __init__(self, lab: Lab, progress: Progress, *, goes_on: bool) -> None:
        """`goes_on` says that the run holds cells of an earlier session."""
        self._lab, self._progress, self._goes_on = lab, progress, goes_on

    def __call__(self, step: str, action: Callable[[], object], *, wired: bool = False) -> None:
        """Take a step; with `wired` one that tells whether the bench is as lab.yaml says. Raises ConfigError then."""
        self._progress.step(step)
        try:
            action()
        except (Rejected, InstrumentError) as error:
            if wired and isinstance(error, Rejected) and error.code in WIRING_FAULTS:
                measured = "no further cell was measured" if self._goes_on else "nothing was measured"
                said = [str(error), line_advice(self._lab, error.code), measured]
                raise ConfigError(f"{step}: {error.code}: {'; '.join(filter(None, said))}") from error
            self._progress.say(f"{step}: {error}")


def _cells(
    work: CellWork, progress: Progress, cells: Sequence[Cell], enough: Enough, calibration: Calibration | None
) -> None:
    """Measure cells in order, but those whose network and batch have been measured often enough."""
    spared = 0
    for cell in cells:
        if reason := enough.spares(cell):
            with undisturbed():
                at_s = work.clock.monotonic()
                work.writer.cell(cell.position, NOT_NEEDED, reason, at_s=at_s)
            spared += 1
            progress.cell_done(f"{cell.label}: not needed, since {reason} ({spared} spared)")
            continue
        progress.cell_begins(cell.label)
        try:
            measured = work.measure_cell(cell)
            enough.add(measured, calibration)
            progress.cell_done(f"{cell.label}: {work.station.provisional(measured, calibration)}")
        except Rejected as rejected:
            enough.failed(cell.network, cell.batch)
            progress.cell_done(f"{cell.label}: {rejected.shouted}")


def _settings(station: Station, scope: dict[str, str]) -> dict[str, Any]:
    """What the instruments read back, what was asked of them, and whether somebody prepared the clamp."""
    return {
        "scope": scope,
        "supply": station.supply_settings(),
        "asked": bench_steps.asked(station.lab, station.plan.window_s),
        "clamp": {"before_zero": station.clamp_ready},
    }


def instruments_of(bench: Bench) -> dict[str, Any]:
    """Who stands on the bench, and where each answers."""
    probe = bench.lab.probe
    return {
        "identities": bench.identities,
        "resources": {"scope": bench.scope.link.resource, "supply": bench.supply.link.resource},
        "probe": f"{probe.model} {probe.serial}, {probe.range_v_per_a:g} V/A, {counted(probe.turns, 'turn')}",
    }
