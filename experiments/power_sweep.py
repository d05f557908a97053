"""Measure energy per image of networks over batch sizes: plan, measure, store, reduce, report.

`python -m experiments.power_sweep` without options measures on the bench of ./lab.yaml. Exit codes:
0 good, 1 some cells rejected or nothing measured, 2 usage or configuration, 3 instrument, 130 interrupted.
"""

from __future__ import annotations

import argparse
import contextlib
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

from experiments.command import complain, leave, run, say
from experiments.sweep_options import parser, plan_of, refuse_with_resume
from instruments.wording import counted

if TYPE_CHECKING:
    from calibration.choice import Records
    from experiments.plan import Plan
    from experiments.progress import Progress
    from experiments.session import Earlier
    from experiments.traces import TraceWriter
    from instruments.bench import Bench
    from instruments.lab import Lab

TRACE = "trace.h5"


def main(argv: list[str] | None = None) -> int:
    """Run the sweep; returns the exit code."""
    args = parser().parse_args(argv)
    return run(lambda: _sweep(args))


def _sweep(args: argparse.Namespace) -> int:
    from experiments.forecast import plan_text
    from experiments.modelled import check_modelled
    from instruments.errors import ConfigError
    from instruments.lab_checks import read_bench, warnings_of

    if args.resume is not None:
        return _resume(args)
    lab, lab_text = read_bench(args.lab)
    plan = plan_of(args, lab)
    check_modelled(lab, plan)
    records = _records(args, lab)
    if args.dry_run:
        for line in warnings_of(lab, lab_text, str(args.lab)):
            complain(f"warning: {line}")
        say(plan_text(plan, lab))
        return 0
    out: Path = args.out if args.out is not None else Path("runs") / _utc("%Y%m%dT%H%M%SZ")
    if os.path.exists(out / TRACE):
        raise ConfigError(f"{out} already holds a run ({TRACE}): name another folder with --out, or --resume {out}")
    return _measure(args, lab, lab_text, plan, out, records)


def _resume(args: argparse.Namespace) -> int:
    """Go on with a run that ended early, with its own plan and its own bench file."""
    from datetime import UTC, datetime

    from experiments.begun import alone, forget
    from experiments.calibrations import records_of, still_fit
    from experiments.session import Earlier
    from experiments.traces import TraceReader, seal_whole
    from experiments.traces.recovery import mend
    from instruments.errors import ConfigError
    from instruments.lab_checks import check_without_instruments

    refuse_with_resume(args)
    out: Path = args.resume
    if not os.path.exists(out / TRACE):
        if out.is_file():
            raise ConfigError(f"--resume {out}: is a file: name the folder of the run, in which it is called {TRACE}")
        return _begin_again(args, out)
    with alone(out):
        mend(out / TRACE, lambda said: complain(f"warning: {said}"))
    with TraceReader(out / TRACE) as reader:
        plan, lab, lab_text = reader.plan, reader.lab(), reader.text("lab_yaml")
        earlier, complete, records = Earlier.of(reader), reader.complete, records_of(reader)
        chosen = reader.json("summary").get("options", {})
        args.require_calibration = bool(chosen.get("require_calibration"))
        if not complete:
            records, said = still_fit(reader, datetime.now(UTC), require=args.require_calibration)
            for line in said:
                complain(f"warning: {line}")
    forget(out)
    if complete:
        if not args.quiet:
            complain(
                f"{out}: all was measured already ({counted(len(plan.cells), 'cell')}); its results are written again"
            )
        seal_whole(out / TRACE)
        return _conclude(args, out)
    check_without_instruments(lab, lab_text, f"{out / TRACE}:/provenance/lab_yaml")
    if not args.quiet:
        complain(f"{out}: going on after {len(earlier.ended)} of {counted(len(plan.cells), 'cell')}")
    return _measure_with(args, lab, lab_text, plan, out, records, earlier)


def _begin_again(args: argparse.Namespace, out: Path) -> int:
    """Begin a sweep that was killed before its trace file was there, with its own plan and its own bench file."""
    from experiments.begun import Begun
    from instruments import lab as lab_yaml
    from instruments.lab_checks import check_without_instruments

    begun, plan = Begun.read(out)
    name = f"{out}: {begun.lab} as it was read"
    lab = lab_yaml.parse(begun.lab_yaml, name=name)
    check_without_instruments(lab, begun.lab_yaml, name)
    args.lab, args.calibration = Path(begun.lab), [Path(path) for path in begun.calibration]
    args.require_calibration = begun.require_calibration
    records = _records(args, lab)
    if not args.quiet:
        complain(f"{out}: nothing was measured yet; beginning the same {counted(len(plan.cells), 'cell')}")
    return _measure_with(args, lab, begun.lab_yaml, plan, out, records, None)


def _measure_with(
    args: argparse.Namespace,
    lab: Lab,
    lab_text: str,
    plan: Plan,
    out: Path,
    records: Records,
    earlier: Earlier | None,
) -> int:
    """Measure on the bench of a text, wherever the file is now from which it was read."""
    import tempfile

    with tempfile.TemporaryDirectory(prefix="joulebench-") as folder:
        bench_file = Path(folder) / "lab.yaml"
        bench_file.write_text(lab_text, encoding="utf-8")
        return _measure(args, lab, lab_text, plan, out, records, earlier, bench_file)


def _measure(
    args: argparse.Namespace,
    lab: Lab,
    lab_text: str,
    plan: Plan,
    out: Path,
    records: Records,
    earlier: Earlier | None = None,
    bench_file: Path | None = None,
) -> int:
    """Measure as the only program that does so into its folder."""
    from experiments.begun import alone
    from experiments.traces import check_writable
    from instruments.errors import ConfigError

    check_writable(out)
    with alone(out):
        if earlier is None and os.path.exists(out / TRACE):
            raise ConfigError(f"{out}: another sweep has just measured into this folder: name another with --out")
        return _measure_alone(args, lab, lab_text, plan, out, records, earlier, bench_file)


def _measure_alone(
    args: argparse.Namespace,
    lab: Lab,
    lab_text: str,
    plan: Plan,
    out: Path,
    records: Records,
    earlier: Earlier | None,
    bench_file: Path | None,
) -> int:
    """Open the bench, measure what is left of the plan, and report all of it."""
    from experiments.begun import Begun, forget
    from experiments.calibrations import to_json
    from experiments.environment import environment
    from experiments.progress import shown
    from experiments.session import instruments_of
    from experiments.traces import TraceWriter
    from experiments.traces.said import Said
    from instruments.bench import open_bench, open_transcript
    from instruments.errors import BenchError
    from instruments.interrupts import Interrupted, undisturbed

    if earlier is None:
        named = [str(path.resolve()) for path in args.calibration]
        Begun(plan.to_json(), lab_text, str(args.lab.resolve()), named, args.require_calibration).write(out)
    trace = out / TRACE
    failure: BenchError | None = None
    ours = earlier is not None
    left = len(plan.cells) - (len(earlier.ended) if earlier else 0)
    with shown(left, quiet=args.quiet) as progress:
        progress.step(f"{lab.bench}: opening the instruments")
        try:
            # Closed after the bench, the file has all that was said in its transcript.
            with contextlib.ExitStack() as kept, contextlib.ExitStack() as stack:
                if bench_file is None:  # else it is the second try, and there may be a third
                    kept.callback(forget, out)
                log = stack.enter_context(open_transcript(args.transcript, lab)) if args.transcript else None
                bench = stack.enter_context(open_bench(lab, bench_file or args.lab, seed=plan.seed, transcript=log))
                session = {"instruments": _json(instruments_of(bench)), "environment": _json(environment())}
                if earlier is None:
                    summary = _json({"started_utc": _utc("%Y-%m-%d %H:%M:%S UTC"), "options": _chosen(args)})
                    texts = {"lab_yaml": lab_text, "summary": summary, "calibrations": to_json(records), **session}
                    writer = TraceWriter.create(trace, plan, source=bench.source, texts=texts)
                    forget(out)
                else:
                    writer = TraceWriter.resume(trace)
                ours = True
                kept.enter_context(writer)
                if log is not None:
                    with undisturbed():
                        writer.keep_transcript(Said(log.path))
                _run_session(args, bench, writer, plan, progress, session, records, earlier)
        except Interrupted:
            if ours:
                progress.say(f"what was measured is in {trace}: {_going_on(out)}")
            raise
        except BenchError as error:
            failure = error
    if failure is not None:
        if not ours:
            raise failure
        complain(f"error: {failure}")
        if getattr(failure, "abandoned", False):  # which this process can read no more
            return failure.exit_code
        if not args.quiet:
            once = "no cell is left to measure" if _complete(trace) else f"once the bench is right: {_going_on(out)}"
            complain(f"what was measured is in {trace}; {once}")
    code = _conclude(args, out)
    return code if failure is None else failure.exit_code


def _complete(trace: Path) -> bool:
    from experiments.traces import TraceReader

    with TraceReader(trace) as reader:
        return reader.complete


def _going_on(out: Path) -> str:
    return f"python -m experiments.power_sweep --resume {out}"


def _conclude(args: argparse.Namespace, out: Path) -> int:
    """Compute and report what the run's file holds."""
    from experiments.report import conclude
    from experiments.run_calibration import require_agreement_of
    from experiments.traces import TraceReader
    from instruments.interrupts import Interrupted

    trace = out / TRACE
    try:
        with TraceReader(trace) as reader:
            code = conclude(reader, out, quiet=args.quiet, budget=args.budget)
            if args.require_calibration and reader.complete:  # also by the comparison after the last cell
                require_agreement_of(reader)
            return code
    except Interrupted:
        complain(f"everything is in {trace}: python -m experiments.replay {trace}")
        raise


def _run_session(
    args: argparse.Namespace,
    bench: Bench,
    writer: TraceWriter,
    plan: Plan,
    progress: Progress,
    texts: dict[str, str],
    records: Records,
    earlier: Earlier | None,
) -> None:
    from experiments.clamp_prompt import prompt_for
    from experiments.session import run_session
    from experiments.station import Station

    prompt = prompt_for(
        progress.say,
        progress.ask,
        simulated=bench.source == "simulated",
        unattended=args.unattended,
        quiet=args.quiet,
    )
    station = Station(bench, writer, plan, progress.say, prompt=prompt, records=records)
    station.read_supply = plan.method.gain_check
    station.require_calibration = args.require_calibration
    run_session(station, progress, texts, earlier)


def _records(args: argparse.Namespace, lab: Lab) -> Records:
    """Choose the calibration records before anything is switched on; what does not fit is said, or refused."""
    from datetime import UTC, datetime

    from experiments.calibrations import judge, offered

    names = [path.name for path in args.calibration]
    filed = offered(lab, args.lab, args.calibration)
    records, said = judge(lab, filed, datetime.now(UTC), named=names, require=args.require_calibration)
    for line in said:
        complain(f"warning: {line}")
    return records


def _chosen(args: argparse.Namespace) -> dict[str, Any]:
    """The options that choose calibration records, for whoever wants to measure the same again."""
    named = [str(path) for path in args.calibration]
    return {"calibration": named, "require_calibration": bool(args.require_calibration)}


def _json(value: Any) -> str:
    import json

    return json.dumps(value, indent=1)


def _utc(form: str) -> str:
    import time

    return time.strftime(form, time.gmtime())


if __name__ == "__main__":
    leave(main())
