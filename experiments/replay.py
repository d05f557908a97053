"""Recompute everything from trace files alone, on the path that the live sweep takes from there on."""

from __future__ import annotations

import argparse
import os
from pathlib import Path
from typing import TYPE_CHECKING

from experiments.command import leave, run

if TYPE_CHECKING:
    from experiments.replay_jobs import Options


def parser() -> argparse.ArgumentParser:
    """Describe the command line."""
    p = argparse.ArgumentParser(
        prog="python -m experiments.replay",
        description="Recompute a run's results, figures and report from its trace file alone.",
        epilog="exit codes: 0 good, 1 some cells have no result or some files none, 2 usage, 3 unreadable file, "
        "130 interrupted",
    )
    p.add_argument(
        "trace", type=Path, nargs="+", metavar="FILE", help="a trace.h5; several, or folders of them, are done at once"
    )
    p.add_argument("--out", type=Path, metavar="DIR", help="where to write (default: replay/ beside a single file)")
    p.add_argument(
        "--calibration",
        type=Path,
        action="append",
        default=[],
        metavar="REC",
        help="a calibration record, instead of the one of its kind that the run used; may be given again",
    )
    p.add_argument(
        "--require-calibration",
        action="store_true",
        help="refuse a record that had expired on the day of the run or is of another instrument, range or turns, or "
        "that disagrees with the run's own comparison with the supply or does not reach it, a run without any, and the "
        "cells beyond its range",
    )
    where = p.add_argument_group("where the measured loops are, if not by the file's own markers")
    where.add_argument(
        "--markers",
        metavar="analog:3[:LEVEL]",
        help="decode them from an analogue channel that the file holds: one level is the gate, three are both lines",
    )
    where.add_argument(
        "--windows",
        metavar="FILE|found",
        help="by hand: CSV with capture,start_s,stop_s (and file); or found in the current",
    )
    p.add_argument("--budget", action="store_true", help="print the uncertainty budget of every result")
    p.add_argument("--quiet", action="store_true", help="show no progress: only results, warnings and errors")
    many = p.add_argument_group("several files")
    many.add_argument("--jobs", type=int, metavar="N", help="processes (default: one for each processor)")
    many.add_argument("--dask", metavar="ADDRESS", help="on a Dask cluster that runs there, instead of processes here")
    many.add_argument("--results-only", action="store_true", help="write results.csv alone: no figures, no report")
    scope = p.add_argument_group("through an oscilloscope")
    scope.add_argument(
        "--through-scope",
        action="store_true",
        help="serve the captures from the simulated oscilloscope until SIGTERM; prints its addresses",
    )
    scope.add_argument("--capture", type=int, metavar="K", help="serve this capture alone, again and again")
    scope.add_argument(
        "--from-scope",
        metavar="RESOURCE",
        help="take the records from an oscilloscope that --through-scope serves there, all else from FILE",
    )
    return p


def main(argv: list[str] | None = None) -> int:
    """Replay; returns the exit code."""
    args = parser().parse_args(argv)
    # The sums of a capture are too short to be shared among threads, which would wait for each other on a busy machine.
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
    return run(lambda: _replay(args))


def _replay(args: argparse.Namespace) -> int:
    from instruments.errors import ConfigError

    single = len(args.trace) == 1 and not args.trace[0].is_dir()
    alone = {"--through-scope": args.through_scope, "--from-scope": args.from_scope, "--budget": args.budget}
    for option in (name for name, given in alone.items() if given and not single):
        raise ConfigError(f"{option} is of one file: name a single one")
    if args.results_only and args.budget:
        raise ConfigError("--results-only writes results.csv alone: leave out --budget")
    if args.capture is not None and not args.through_scope:
        raise ConfigError("--capture says what --through-scope serves: give both")
    if args.through_scope:
        from experiments.through_scope import serve

        return serve(args.trace[0], args.capture)
    options = _options(args)
    return _one(args.trace[0], args, options) if single else _many(args, options)


def _options(args: argparse.Namespace) -> Options:
    from experiments.replay_jobs import Options
    from experiments.window_choice import choice_of

    records = tuple(path.resolve() for path in args.calibration)
    return Options(records, args.require_calibration, choice_of(args.markers, args.windows), args.results_only)


def _one(trace: Path, args: argparse.Namespace, options: Options) -> int:
    from experiments.command import complain, say
    from experiments.replay_jobs import Job, opened, replay

    out: Path = args.out if args.out is not None else trace.parent / "replay"
    if args.from_scope is not None:
        from experiments.through_scope import fetched

        trace = fetched(trace, args.from_scope, out, quiet=args.quiet)
    if args.results_only:
        from experiments.progress import at_work

        with at_work(quiet=args.quiet) as show:
            show(f"reducing {trace}")
            done = replay(Job(0, trace, out), options)
        if done.code > 1:
            complain(f"error: {done.said}")
        else:
            say("\n".join([done.said, *(f"  {line}" for line in done.reasons), f"written to {out}: results.csv"]))
        return done.code
    from experiments.report import conclude

    with opened(trace, out, options) as reader:
        return conclude(reader, out, quiet=args.quiet, replayed=True, budget=args.budget)


def _many(args: argparse.Namespace, options: Options) -> int:
    from experiments import replay_workers
    from experiments.replay_many import find_files, replay_many
    from instruments.errors import ConfigError

    if args.out is None:
        raise ConfigError("several files: name a folder for their results with --out DIR")
    if args.jobs is not None and not 1 <= args.jobs <= 1024:
        raise ConfigError(f"--jobs {args.jobs}: give 1 to 1024")
    files = find_files(args.trace)
    out: Path = args.out
    if args.dask is not None:
        if args.jobs is not None:
            raise ConfigError("--jobs is of processes here, --dask of a cluster: give one")
        cluster = replay_workers.Dask(args.dask)
        absolute = [(path.resolve(), folder) for path, folder in files]
        return replay_many(absolute, out.resolve(), options, cluster.workers, cluster, quiet=args.quiet)
    count = min(args.jobs or len(os.sched_getaffinity(0)), len(files))
    workers = replay_workers.here if count == 1 else replay_workers.Processes(count)
    return replay_many(files, out, options, count, workers, quiet=args.quiet)


if __name__ == "__main__":
    leave(main())
