"""Put our reduction, emulated pollers and a power sensor of yours to the test with pulse trains of known duty.

`python -m experiments.meter_check [--lab FILE] [--sensor NAME]`. docs/meter-check.md tells what the columns mean.
"""

from __future__ import annotations

import argparse
import contextlib
import html
import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from experiments.command import complain, leave, run, say
from instruments.wording import counted

if TYPE_CHECKING:
    from experiments.meters.trains import MeterCheck

JSON_SCHEMA = 1
TRACE = "trace.h5"


def parser() -> argparse.ArgumentParser:
    """Describe the command line."""
    p = argparse.ArgumentParser(
        prog="python -m experiments.meter_check",
        description="Measure pulse trains of known duty; compare our energy with what pollers make of the same record.",
        epilog="exit codes: 0 good, 1 a train without a result, a truth outside our interval or a sensor that told "
        "nothing, 2 usage or configuration, 3 instrument or file, 130 interrupted",
    )
    p.add_argument("--lab", type=Path, default=Path("lab.yaml"), metavar="FILE", help="the bench (default: lab.yaml)")
    p.add_argument(
        "--sensor",
        default="",
        metavar="NAME",
        help="find out how a sensor responds: supply, or on the board nvml, rapl, ina3221 or a name as told by "
        "python -m experiments.dut_agent --check",
    )
    p.add_argument(
        "--trains",
        metavar="A,B",
        help="pulse trains, busy:MS:MS of work and of rest; steady work, busy:20, runs in any case, for the gains "
        "(default: ten of 7 to 500 ms)",
    )
    p.add_argument("--repeats", type=int, default=1, metavar="N", help="records of each train (default: 1)")
    p.add_argument("--seed", type=int, metavar="N", help="of the order and of a simulated bench's errors")
    p.add_argument("--trace", type=Path, metavar="FILE", help="judge the trace.h5 of an earlier check, measure nothing")
    p.add_argument("--out", type=Path, metavar="DIR", help="where trace.h5 and the report go (default: nowhere)")
    p.add_argument("--unattended", action="store_true", help="nobody is there to prepare the current clamp")
    p.add_argument("--json", action="store_true", help="print one JSON object instead of tables")
    p.add_argument("--quiet", action="store_true", help="show no progress: only results, warnings and errors")
    return p


def main(argv: list[str] | None = None) -> int:
    """Check; returns the exit code."""
    args = parser().parse_args(argv)
    return run(lambda: _check(args))


def _check(args: argparse.Namespace) -> int:
    import tempfile

    from experiments.meters import trains
    from experiments.traces import TraceReader

    with contextlib.ExitStack() as stack:
        trace = args.trace
        if trace is None:
            folder = args.out or Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="joulebench-")))
            trace = folder / TRACE
            _measure(args, folder)
        with TraceReader(trace) as reader:
            found = trains.check(reader, args.sensor)
    tree = json.dumps({"schema": JSON_SCHEMA, **found.as_dict()}, indent=1)
    if args.out is not None:
        args.out.mkdir(parents=True, exist_ok=True)
        for name, text in (("txt", _text(found) + "\n"), ("json", tree + "\n"), ("html", _html(found))):
            (args.out / f"meter_check.{name}").write_text(text, encoding="utf-8")
    say(tree if args.json else _text(found))
    if args.out is not None and not args.json:
        names = [*([TRACE] if args.trace is None else []), *(f"meter_check.{name}" for name in ("txt", "json", "html"))]
        say(f"written to {args.out}: {', '.join(names)}")
    answered = found.sensor is None or found.sensor.response is not None
    return 0 if found.within and answered else 1


def _measure(args: argparse.Namespace, folder: Path) -> None:
    """Record every train; the supply's output is off when this returns, whatever happens."""
    import platform

    from experiments.clamp_prompt import prompt_for
    from experiments.meters import trains
    from experiments.plan import RunOptions
    from experiments.progress import shown
    from experiments.session import instruments_of, run_session
    from experiments.station import Station
    from experiments.traces import TraceWriter, check_writable
    from instruments.bench import open_bench
    from instruments.errors import BenchError, ConfigError
    from instruments.lab_checks import read_bench

    lab, lab_text = read_bench(args.lab)
    seed = args.seed if args.seed is not None else lab.simulation.seed if lab.simulation is not None else 1
    device = "auto" if lab.dut.simulated is not None else "cpu"
    plan = trains.plan(
        args.trains.split(",") if args.trains else trains.TRAINS, args.repeats, seed, RunOptions(device=device)
    )
    if os.path.exists(folder / TRACE):
        raise ConfigError(f"{folder} already holds a run ({TRACE}): name another folder with --out")
    check_writable(folder)
    quiet = args.quiet or args.json
    try:
        with shown(len(plan.cells), quiet=quiet) as progress, open_bench(lab, args.lab, seed=seed) as bench:
            session = {
                "instruments": json.dumps(instruments_of(bench)),
                "environment": json.dumps({"python": platform.python_version(), "host": platform.platform()}),
            }
            texts = {"lab_yaml": lab_text, **session}
            prompt = prompt_for(
                progress.say,
                progress.ask,
                simulated=bench.source == "simulated",
                unattended=args.unattended,
                quiet=quiet,
            )
            with TraceWriter.create(folder / TRACE, plan, source=bench.source, texts=texts) as writer:
                station = Station(bench, writer, plan, progress.say, prompt=prompt)
                station.read_supply = args.sensor == "supply"
                station.watch = args.sensor if args.sensor != "supply" else ""
                run_session(station, progress, session)
    except BenchError as error:
        if args.out is not None and (folder / TRACE).exists():
            complain(f"what was measured is in {folder / TRACE}: python -m experiments.meter_check --trace FILE")
        raise error


def _tables(found: MeterCheck) -> list[tuple[str, list[list[str]]]]:
    """The report's tables with their headings."""
    from experiments.meters.pollers import POLLERS

    header = ["train", "period [ms]", "duty [%]", "found [%]", "ours [J]", "U [%]", "our error [%]"]
    lines = [[*header, *(f"{name} [%]" for name in POLLERS)]]
    for t in found.trains:
        lines.append(
            [
                t.train,
                f"{t.period_s * 1e3:g}",
                f"{t.duty * 100:.1f}",
                f"{t.duty_found * 100:.1f}",
                f"{t.energy_j:.4f}",
                f"{t.relative_u * 100:.2f}",
                f"{t.our_error * 100:+.3f}" if t.our_error == t.our_error else "no truth",
                *(f"{e.rms * 100:.1f}, worst {e.worst * 100:+.1f}" for e in t.pollers.values()),
            ]
        )
    tables = [("Errors of energy over the window: ours, and of pollers over all phases (rms, worst)", lines)]
    if found.sensor is not None:
        tables.append((f"Sensor {found.sensor.sensor}", _sensor_rows(found)))
    return tables


def _sensor_rows(found: MeterCheck) -> list[list[str]]:
    sensor = found.sensor
    assert sensor is not None
    r = sensor.response
    if r is None:
        return [["what", "found"], ["nothing", sensor.why]]
    return [
        ["what", "found"],
        ["sensor", sensor.name],
        ["readings", str(r.readings)],
        ["a new value every", f"{r.renewal_s * 1e3:.1f} ms"],
        ["averaging window", f"{r.window_s * 1e3:.1f} ms"],
        ["dead time: no value stands for", f"{r.unseen * 100:.0f} % of the time"],
        ["delay of a new value", f"{r.delay_s * 1e3:.1f} ms"],
        ["staleness: age of what is read, on average", f"{r.stale_s * 1e3:.1f} ms"],
        ["gain against ours", f"{r.gain:.4f}"],
        ["offset", f"{r.offset_w:+.3f} W"],
        ["explained by this", f"{r.explained * 100:.1f} % of the readings' variance, rest {r.residual_w:.3g} W"],
    ]


def _text(found: MeterCheck) -> str:
    from experiments.report import plain_table

    parts = [f"{title}\n\n{plain_table(rows)}\n" for title, rows in _tables(found)]
    return "\n".join([*parts, *_closing(found)])


def _closing(found: MeterCheck) -> Sequence[str]:
    lines = ["Errors are against the true energy." if found.source == "simulated" else "Errors are against ours."]
    if found.source == "simulated":
        inside = sum(abs(t.our_error) <= t.relative_u for t in found.trains)
        lines.append(
            f"The truth lies in our 95 % interval in {inside} of {counted(len(found.trains), 'record')} (simulated)."
        )
    if found.sensor is None:
        lines.append(
            "No sensor was checked: none was read while the trains ran; --sensor NAME, when measuring, reads one."
        )
    return [*lines, *(f"note: {note}" for note in found.notes)]


def _html(found: MeterCheck) -> str:
    """One self-contained page."""
    style = (
        "body{font:15px/1.5 system-ui,sans-serif;margin:2rem auto;max-width:72rem;padding:0 1rem}"
        "table{border-collapse:collapse;font-variant-numeric:tabular-nums;font-size:.86rem}"
        "th,td{padding:.25rem .6rem;text-align:right;border-bottom:1px solid #ddd}"
        "th:first-child,td:first-child{text-align:left}"
    )

    def row(cells: Sequence[str], tag: str) -> str:
        return "<tr>" + "".join(f"<{tag}>{html.escape(cell)}</{tag}>" for cell in cells) + "</tr>"

    def table(rows: list[list[str]]) -> str:
        head, *body = rows
        return f"<table><thead>{row(head, 'th')}</thead>{''.join(row(r, 'td') for r in body)}</table>"

    parts: list[Any] = [f"<h2>{html.escape(title)}</h2>{table(rows)}" for title, rows in _tables(found)]
    parts += [f"<p>{html.escape(line)}</p>" for line in _closing(found)]
    return (
        f'<!doctype html><html lang="en"><meta charset="utf-8"><title>Meter check</title><style>{style}</style>'
        f"<h1>Meter check ({html.escape(found.source)})</h1>{''.join(parts)}</html>\n"
    )


if __name__ == "__main__":
    leave(main())
