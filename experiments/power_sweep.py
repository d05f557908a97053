"""Measure energy per image of networks over batch sizes: plan, measure, store, reduce, report.

`python -m experiments.power_sweep` without options measures on the bench of ./lab.yaml. Exit codes:
0 good, 1 some cells rejected, 2 usage or configuration, 3 instrument, 130 interrupted.
"""

from __future__ import annotations

import argparse
import contextlib
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

from experiments.command import complain, leave, run, say

if TYPE_CHECKING:
    from collections.abc import Callable

    from experiments.plan import Plan
    from experiments.progress import Progress
    from experiments.traces import TraceWriter
    from instruments.bench import Bench
    from instruments.lab import Lab

DEFAULT_NETWORKS = "AlexNet,BN-NIN,ResNet-18"
DEFAULT_BATCHES = "1,2,4,8"


def parser() -> argparse.ArgumentParser:
    """Describe the command line."""
    p = argparse.ArgumentParser(
        prog="python -m experiments.power_sweep",
        description="Measure energy per image of networks over batch sizes, with uncertainties.",
        epilog="exit codes: 0 good, 1 some cells rejected, 2 usage or configuration, 3 instrument, 130 interrupted",
    )
    p.add_argument("--lab", type=Path, default=Path("lab.yaml"), metavar="FILE", help="the bench (default: lab.yaml)")
    p.add_argument(
        "--networks",
        default=DEFAULT_NETWORKS,
        metavar="A,B",
        help=f"networks, 'paper' for all 14, or busy:MS, a load of MS ms a batch (default: {DEFAULT_NETWORKS})",
    )
    p.add_argument(
        "--batches", default=DEFAULT_BATCHES, metavar="1,2,4", help=f"batch sizes (default: {DEFAULT_BATCHES})"
    )
    p.add_argument("--repeats", type=int, default=3, metavar="N", help="repeats of each cell (default: 3)")
    p.add_argument("--window", type=float, default=2.0, metavar="S", help="length of a record in s (default: 2.0)")
    p.add_argument(
        "--seed",
        type=int,
        metavar="N",
        help="of the order of cells, weights, inputs and a simulated bench's errors "
        "(default: simulation.seed of the lab file, else 1)",
    )
    p.add_argument("--out", type=Path, metavar="DIR", help="where to write (default: runs/<UTC>)")
    p.add_argument("--dry-run", action="store_true", help="check everything that needs no instrument, print the plan")
    p.add_argument("--transcript", type=Path, metavar="FILE", help="write every message to and from the instruments")
    p.add_argument("--quiet", action="store_true", help="print nothing but errors")
    return p


def main(argv: list[str] | None = None) -> int:
    """Run the sweep; returns the exit code."""
    args = parser().parse_args(argv)
    return run(lambda: _sweep(args))


def _sweep(args: argparse.Namespace) -> int:
    from experiments.plan import make_plan
    from experiments.progress import shown
    from experiments.report import conclude
    from experiments.station import check_without_instruments
    from experiments.traces import TraceReader, TraceWriter, check_writable
    from instruments import lab as lab_yaml
    from instruments.bench import open_bench, open_transcript
    from instruments.errors import BenchError, ConfigError
    from instruments.interrupts import Interrupted

    lab_text = lab_yaml.read_text(args.lab)
    lab = lab_yaml.parse(lab_text, name=str(args.lab))
    seed = args.seed if args.seed is not None else lab.simulation.seed if lab.simulation is not None else 1
    plan = make_plan(_networks(args.networks), _batches(args.batches), args.repeats, args.window, seed)
    check_without_instruments(lab)
    if args.dry_run:
        if not args.quiet:
            say(_plan_text(plan, lab))
        return 0
    out: Path = args.out if args.out is not None else Path("runs") / _utc("%Y%m%dT%H%M%SZ")
    trace = out / "trace.h5"
    if os.path.exists(trace):
        raise ConfigError(f"{out} already holds a run (trace.h5): name another folder with --out")
    check_writable(out)
    failure: BenchError | None = None
    with shown(len(plan.cells), quiet=args.quiet) as progress:
        progress.step(f"{lab.bench}: opening the instruments")
        try:
            with contextlib.ExitStack() as stack:
                log = stack.enter_context(open_transcript(args.transcript, lab)) if args.transcript else None
                bench = stack.enter_context(open_bench(lab, args.lab, seed=seed, transcript=log))
                texts = _provenance(bench, lab_text)
                with TraceWriter.create(trace, plan, source=bench.source, texts=texts) as writer:
                    _measure(bench, writer, plan, progress)
        except Interrupted:
            if trace.exists():
                progress.say(f"what was measured is in {trace}: python -m experiments.replay {trace}")
            raise
        except BenchError as error:
            failure = error
    if failure is not None:
        if not trace.exists():
            raise failure
        complain(f"error: {failure}")
    try:
        with TraceReader(trace) as reader:
            code = conclude(reader, out, quiet=args.quiet)
    except Interrupted:
        complain(f"everything is in {trace}: python -m experiments.replay {trace}")
        raise
    return code if failure is None else failure.exit_code


def _provenance(bench: Bench, lab_text: str) -> dict[str, str]:
    probe = bench.lab.probe
    instruments = {
        "identities": bench.identities,
        "resources": {"scope": bench.scope.link.resource, "supply": bench.supply.link.resource},
        "probe": f"{probe.model} {probe.serial}, {probe.range_v_per_a:g} V/A, {probe.turns} turn(s)",
    }
    return {
        "lab_yaml": lab_text,
        "instruments": _json(instruments),
        "environment": _json(_environment()),
        "summary": _json({"started_utc": _utc("%Y-%m-%d %H:%M:%S UTC")}),
    }


def _measure(bench: Bench, writer: TraceWriter, plan: Plan, progress: Progress) -> None:
    """The sequence at the bench: zero, idle, gain, every cell, then gain, idle and zero again."""
    from experiments.cell import CellWork
    from experiments.station import Rejected, Station
    from instruments.errors import InstrumentError
    from instruments.interrupts import undisturbed

    station = Station(bench, writer, plan, progress.say)
    work = CellWork(station)

    def attempt(step: str, action: Callable[[], object]) -> None:
        """Take a step without which the cells can still be reduced, if with a larger uncertainty."""
        progress.step(step)
        try:
            action()
        except (Rejected, InstrumentError) as error:
            progress.say(f"{step}: {error}")

    for name, entries in bench.leftovers.items():
        if entries:
            progress.say(f"{name}: somebody left in its error queue: {'; '.join(entries)}")
    with undisturbed():
        writer.blob("scope_setup_before", bench.scope_setup_before)
    settings = station.set_up_scope()
    progress.step("supply: OVP, range, current limit, voltage; output still off")
    station.feed_board()
    progress.step("zero of both channels, output off")
    station.first_zero()
    progress.step("output on")
    station.switch_on()
    with undisturbed():
        writer.text("settings", _json({"scope": settings, "supply": station.supply_settings()}))
        writer.blob("scope_setup", bench.scope.setup())
    attempt("the device starts", station.device)
    attempt("idle baseline", lambda: work.steady("idle"))
    attempt("gain of both channels against the supply's read-back", work.measure_gain)
    for cell in plan.cells:
        progress.cell_begins(cell.label)
        try:
            measured = work.measure_cell(cell)
            progress.cell_done(f"{cell.label}: {station.provisional(measured)}")
        except Rejected as rejected:
            progress.cell_done(f"{cell.label}: REJECTED: {rejected}")
    attempt("gain again", work.measure_gain)
    attempt("idle again", lambda: work.steady("idle"))
    bench.stop_dut()
    station.switch_off()
    attempt("zero again, output off", lambda: work.steady("zero"))
    with undisturbed():
        writer.complete()


def _networks(text: str) -> list[str]:
    from experiments.networks import UnknownNetworkError, resolve
    from instruments.errors import ConfigError

    names = [name.strip() for name in text.split(",") if name.strip()]
    known = [name for name in names if not _is_load(name)]
    try:
        proper = dict(zip(known, [resolve([name]) for name in known], strict=True))
    except UnknownNetworkError as error:
        raise ConfigError(f"--networks: {error.args[0]}") from error
    return [n for name in names for n in proper.get(name, [name])]


def _is_load(name: str) -> bool:
    """Whether a name stands for a load of known duration, `busy:MILLISECONDS`; checks it."""
    from instruments.errors import ConfigError

    kind, _, duration = name.partition(":")
    if kind.lower() != "busy":
        return False
    try:
        if 0 < float(duration) <= 60_000:
            return True
    except ValueError:
        pass
    raise ConfigError(f"--networks {name}: busy:MILLISECONDS takes a duration above 0 and up to 60000")


def _batches(text: str) -> list[int]:
    from instruments.errors import ConfigError

    try:
        return [int(part) for part in text.split(",") if part.strip()]
    except ValueError as error:
        raise ConfigError(f"--batches {text!r}: whole numbers with commas between are expected, as 1,2,4,8") from error


def _plan_text(plan: Plan, lab: Lab) -> str:
    lines = [
        f"bench: {lab.bench} ({'simulated' if lab.simulation else 'measured'})",
        f"supply: {lab.supply.voltage_v:g} V, limit {lab.supply.current_limit_a:g} A, OVP {lab.supply.ovp_v:g} V",
        f"{len(plan.cells)} cells of {plan.window_s:g} s, seed {plan.seed}:",
        *(f"{cell.position + 1:4d}  {cell.label}" for cell in plan.cells),
    ]
    return "\n".join(lines)


def _environment() -> dict[str, str]:
    import platform
    from importlib.metadata import PackageNotFoundError, version

    found = {"python": platform.python_version(), "host": platform.platform(), "machine": platform.node()}
    for package in ("joulebench", "numpy", "h5py", "pyvisa", "pyvisa-py", "torch"):
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            found[package] = "not installed"
    return found


def _json(value: Any) -> str:
    import json

    return json.dumps(value, indent=1)


def _utc(form: str) -> str:
    import time

    return time.strftime(form, time.gmtime())


if __name__ == "__main__":
    leave(main())
