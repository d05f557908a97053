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
from instruments.dut_protocol import DTYPES

if TYPE_CHECKING:
    from calibration.choice import Records
    from experiments.plan import Method, Plan, RunOptions
    from experiments.progress import Progress
    from experiments.session import Earlier
    from experiments.traces import TraceWriter
    from instruments.bench import Bench
    from instruments.lab import Lab

DEFAULT_NETWORKS = "AlexNet,BN-NIN,ResNet-18"
DEFAULT_BATCHES = "1,2,4,8"
TRACE = "trace.h5"
DEVICES = ("auto", "cpu", "cuda")
LONG_S = 60.0
LONG_BATCH = ("longer-record", "consecutive", "steady")


def parser() -> argparse.ArgumentParser:
    """Describe the command line."""
    p = argparse.ArgumentParser(
        prog="python -m experiments.power_sweep",
        description="Measure energy per image of networks over batch sizes, with uncertainties.",
        epilog="exit codes: 0 good, 1 some cells rejected or nothing measured, 2 usage or configuration, 3 instrument, "
        "130 interrupted",
    )
    p.add_argument("--lab", type=Path, default=Path("lab.yaml"), metavar="FILE", help="the bench (default: lab.yaml)")
    p.add_argument(
        "--networks",
        default=DEFAULT_NETWORKS,
        metavar="A,B",
        help="networks, 'paper' for all 14, package.module:factory, torchvision:NAME, timm:NAME, FILE.pt, FILE.pt2, "
        "FILE.onnx, 'command:PROGRAM ARGS', or busy:MS, a load of MS ms a batch; see docs/any-network.md "
        f"(default: {DEFAULT_NETWORKS})",
    )
    p.add_argument(
        "--batches", default=DEFAULT_BATCHES, metavar="1,2,4", help=f"batch sizes (default: {DEFAULT_BATCHES})"
    )
    p.add_argument("--repeats", type=int, default=3, metavar="N", help="repeats of each cell (default: 3)")
    p.add_argument(
        "--target-u",
        type=float,
        metavar="PERCENT",
        help="repeat each network and batch until the type-A 95 %% interval of its energy per image is within so many "
        "%% of it; --repeats are the least",
    )
    p.add_argument("--max-repeats", type=int, metavar="N", help="the most repeats with --target-u")
    p.add_argument("--window", type=float, default=2.0, metavar="S", help="length of a record in s (default: 2.0)")
    p.add_argument(
        "--seed",
        type=int,
        metavar="N",
        help="of the order of cells, weights, inputs and a simulated bench's errors "
        "(default: simulation.seed of the lab file, else 1)",
    )
    record = p.add_argument_group("how a run is recorded; see docs/long-runs.md")
    record.add_argument(
        "--mode",
        choices=("paper", "long"),
        default="paper",
        help="one record a cell, or runs of --long-s seconds in consecutive captures (default: paper)",
    )
    record.add_argument(
        "--long-s", type=float, metavar="S", help=f"least length of a run in long mode (default: {LONG_S:g})"
    )
    record.add_argument(
        "--long-batch",
        choices=LONG_BATCH,
        default="longer-record",
        help="what is done with a batch that is longer than the record (default: longer-record)",
    )
    how = p.add_argument_group("how networks are run on the board")
    how.add_argument("--device", choices=DEVICES, help="(default: dut.device of the lab file, else auto: a GPU if any)")
    how.add_argument("--dtype", choices=DTYPES, default="fp32", help="of weights and inputs (default: fp32)")
    how.add_argument("--channels-last", action="store_true", help="images and weights with channels innermost")
    how.add_argument("--compile", action="store_true", help="with torch.compile")
    how.add_argument("--cuda-graphs", action="store_true", help="each batch as one replay of a CUDA graph")
    how.add_argument(
        "--threads", type=int, metavar="N", help="of the CPU; 0: the library's choice (default: dut.threads)"
    )
    how.add_argument(
        "--weights",
        default="random",
        metavar="FILE",
        help="a state_dict's file on the board, torchvision, or random (default)",
    )
    p.add_argument("--out", type=Path, metavar="DIR", help="where to write (default: runs/<UTC>)")
    p.add_argument(
        "--resume",
        type=Path,
        metavar="DIR",
        help="go on with the run in DIR, which ended early, at its first open cell",
    )
    p.add_argument(
        "--calibration",
        type=Path,
        action="append",
        default=[],
        metavar="REC",
        help="a calibration record, instead of those of its kind that the lab file names; may be given again",
    )
    p.add_argument(
        "--require-calibration",
        action="store_true",
        help="refuse a record that is expired or of another instrument, range or turns, or that disagrees with this "
        "run's own comparison with the supply, and a run without any",
    )
    p.add_argument("--dry-run", action="store_true", help="check everything that needs no instrument, print the plan")
    p.add_argument("--transcript", type=Path, metavar="FILE", help="write every message to and from the instruments")
    p.add_argument(
        "--unattended",
        action="store_true",
        help="nobody is there to prepare the current clamp: ask nothing before its zero",
    )
    p.add_argument(
        "--gain-check",
        action="store_true",
        help="read the supply during every cell too and compare the gain of the current with it; see "
        "docs/calibration.md",
    )
    p.add_argument("--budget", action="store_true", help="print the uncertainty budget of every result")
    p.add_argument("--quiet", action="store_true", help="print nothing but errors, and the budgets with --budget")
    return p


def main(argv: list[str] | None = None) -> int:
    """Run the sweep; returns the exit code."""
    args = parser().parse_args(argv)
    return run(lambda: _sweep(args))


def _sweep(args: argparse.Namespace) -> int:
    from experiments.forecast import plan_text
    from experiments.modelled import check_modelled
    from experiments.station import check_without_instruments
    from instruments import lab as lab_yaml
    from instruments.errors import ConfigError

    if args.resume is not None:
        return _resume(args)
    lab_text = lab_yaml.read_text(args.lab)
    lab = lab_yaml.parse(lab_text, name=str(args.lab))
    plan = plan_of(args, lab)
    check_without_instruments(lab)
    check_modelled(lab, plan)
    records = _records(args, lab)
    if args.dry_run:
        if not args.quiet:
            say(plan_text(plan, lab))
        return 0
    out: Path = args.out if args.out is not None else Path("runs") / _utc("%Y%m%dT%H%M%SZ")
    if os.path.exists(out / TRACE):
        raise ConfigError(f"{out} already holds a run ({TRACE}): name another folder with --out, or --resume {out}")
    return _measure(args, lab, lab_text, plan, out, records)


def plan_of(args: argparse.Namespace, lab: Lab) -> Plan:
    """What the options ask for on a bench; raises ConfigError where that cannot be."""
    from experiments.plan import make_plan

    seed = args.seed if args.seed is not None else lab.simulation.seed if lab.simulation is not None else 1
    networks, batches = _networks(args.networks), _batches(args.batches)
    return make_plan(
        networks, batches, args.repeats, args.window, seed, _run_options(args, lab), _method(args), args.max_repeats
    )


def _resume(args: argparse.Namespace) -> int:
    """Go on with a run that ended early, with its own plan and its own bench file."""
    import tempfile

    from experiments.calibrations import records_of
    from experiments.session import Earlier
    from experiments.station import check_without_instruments
    from experiments.traces import TraceReader
    from instruments.errors import ConfigError

    _refuse_with_resume(args)
    out: Path = args.resume
    if not os.path.exists(out / TRACE):
        if out.is_file():
            raise ConfigError(f"--resume {out}: is a file: name the folder of the run, in which it is called {TRACE}")
        raise ConfigError(f"--resume {out}: there is no {TRACE}: nothing was measured, start the sweep anew")
    with TraceReader(out / TRACE) as reader:
        plan, lab, lab_text = reader.plan, reader.lab(), reader.text("lab_yaml")
        earlier, complete, records = Earlier.of(reader), reader.complete, records_of(reader)
        chosen = reader.json("summary").get("options", {})
        args.require_calibration = bool(chosen.get("require_calibration"))
    if complete:
        if not args.quiet:
            complain(f"{out}: all {len(plan.cells)} cells were measured already; its results are written again")
        return _conclude(args, out)
    check_without_instruments(lab)
    if not args.quiet:
        complain(f"{out}: {len(earlier.ended)} of {len(plan.cells)} cells were measured; going on with the next")
    with tempfile.TemporaryDirectory(prefix="joulebench-") as folder:
        args.lab = Path(folder) / "lab.yaml"
        args.lab.write_text(lab_text, encoding="utf-8")
        return _measure(args, lab, lab_text, plan, out, records, earlier)


def _refuse_with_resume(args: argparse.Namespace) -> None:
    from instruments.errors import ConfigError

    usual = parser()
    fixed = ["lab", "networks", "batches", "repeats", "window", "seed", "out", "dry_run", "device", "threads", "dtype"]
    fixed += ["channels_last", "compile", "cuda_graphs", "weights", "calibration", "require_calibration"]
    fixed += ["mode", "long_s", "long_batch", "target_u", "max_repeats", "gain_check"]
    given = [name for name in fixed if getattr(args, name) != usual.get_default(name)]
    if given:
        raise ConfigError(f"--resume goes on with the plan that the run has: leave out --{given[0].replace('_', '-')}")


def _measure(
    args: argparse.Namespace,
    lab: Lab,
    lab_text: str,
    plan: Plan,
    out: Path,
    records: Records,
    earlier: Earlier | None = None,
) -> int:
    """Open the bench, measure what is left of the plan, and report all of it."""
    from experiments.calibrations import to_json
    from experiments.environment import environment
    from experiments.progress import shown
    from experiments.session import instruments_of
    from experiments.traces import TraceWriter, check_writable
    from experiments.traces.said import Said
    from instruments.bench import open_bench, open_transcript
    from instruments.errors import BenchError
    from instruments.interrupts import Interrupted, undisturbed

    check_writable(out)
    trace = out / TRACE
    failure: BenchError | None = None
    ours = earlier is not None
    left = len(plan.cells) - (len(earlier.ended) if earlier else 0)
    with shown(left, quiet=args.quiet) as progress:
        progress.step(f"{lab.bench}: opening the instruments")
        try:
            # Closed after the bench, the file has all that was said in its transcript.
            with contextlib.ExitStack() as kept, contextlib.ExitStack() as stack:
                log = stack.enter_context(open_transcript(args.transcript, lab)) if args.transcript else None
                bench = stack.enter_context(open_bench(lab, args.lab, seed=plan.seed, transcript=log))
                session = {"instruments": _json(instruments_of(bench)), "environment": _json(environment())}
                if earlier is None:
                    summary = _json({"started_utc": _utc("%Y-%m-%d %H:%M:%S UTC"), "options": _chosen(args)})
                    texts = {"lab_yaml": lab_text, "summary": summary, "calibrations": to_json(records), **session}
                    writer = TraceWriter.create(trace, plan, source=bench.source, texts=texts)
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
    if not args.quiet:
        for line in said:
            complain(f"warning: {line}")
    return records


def _networks(text: str) -> list[str]:
    from experiments.networks.errors import SpecError
    from experiments.networks.specs import parse_list
    from instruments.errors import ConfigError

    try:
        return [spec.text for spec in parse_list(text)]
    except SpecError as error:
        raise ConfigError(f"--networks: {error}") from error


def _run_options(args: argparse.Namespace, lab: Lab) -> RunOptions:
    """What the options say, and where they say nothing, the lab file."""
    from experiments.plan import RunOptions
    from instruments.dut_protocol import Mode

    return RunOptions(
        device=args.device or lab.dut.device,
        threads=lab.dut.threads if args.threads is None else args.threads,
        mode=Mode(args.dtype, args.channels_last, args.compile, args.cuda_graphs),
        weights=args.weights,
    )


def _method(args: argparse.Namespace) -> Method:
    """How a cell is recorded and how often."""
    from experiments.plan import Method
    from instruments.errors import ConfigError

    if args.mode != "long" and args.long_s is not None:
        raise ConfigError("--long-s is the length of runs in long mode: give --mode long with it")
    if args.gain_check and (args.mode == "long" or args.long_batch != "longer-record"):
        raise ConfigError(
            "--gain-check compares the supply with the one record of a cell: leave it out, or --mode and --long-batch"
        )
    long_s = (LONG_S if args.long_s is None else args.long_s) if args.mode == "long" else None
    return Method(long_s, args.long_batch, args.target_u, args.gain_check)


def _batches(text: str) -> list[int]:
    from instruments.errors import ConfigError

    try:
        return [int(part) for part in text.split(",") if part.strip()]
    except ValueError as error:
        raise ConfigError(f"--batches {text!r}: whole numbers with commas between are expected, as 1,2,4,8") from error


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
