"""`python -m experiments.traces check|recover|info|export|transcript|import FILE`: is it whole, what of it is good.

Exit codes: 0 good, 1 damage was found, 2 usage, 3 the file cannot be opened at all.
"""

from __future__ import annotations

import argparse
import json
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Any

from experiments.command import complain, leave, run, tell
from experiments.traces.imports.command import TEXT, add_options, run_import
from instruments.plain_text import one_line
from instruments.wording import counted

if TYPE_CHECKING:
    from experiments.traces import TraceReader

TRACE = "trace.h5"
"""Name of the trace file in a run's folder."""


def parser() -> argparse.ArgumentParser:
    """Describe the command line."""
    p = argparse.ArgumentParser(
        prog="python -m experiments.traces",
        description="Look after trace files: check them, save what is good of a damaged one, say what is in them.",
        epilog="exit codes: 0 good, 1 damage was found, 2 usage, 3 the file cannot be opened at all",
    )
    commands = p.add_subparsers(dest="command", required=True, metavar="check|recover|info|export|transcript|import")
    for name, text in (
        ("check", "read everything against its checksums; the file is not changed"),
        ("info", "say what is in the file: bench, plan, captures, instruments, versions"),
    ):
        c = commands.add_parser(name, help=text, description=text)
        c.add_argument("trace", type=Path, nargs="+", metavar="FILE")
        c.add_argument("--json", action="store_true", help="print one JSON object for each file")
    c.add_argument("--captures", action="store_true", help="list every capture with its number, too")
    c = commands.add_parser("recover", help="save every sound capture of a damaged file into a new one")
    c.add_argument("trace", type=Path, metavar="FILE")
    c.add_argument("--out", type=Path, metavar="NEW", help="the new file (default: FILE with .recovered before .h5)")
    c = commands.add_parser("export", help="write a trace, or part of it, as CSV, Parquet, netCDF or NumPy")
    c.add_argument("trace", type=Path, metavar="FILE")
    c.add_argument("--out", type=Path, required=True, metavar="NEW", help="ends in .csv, .parquet, .nc or .npz")
    c.add_argument("--captures", metavar="3,5-7", help="numbers of captures (default: all that were committed)")
    c.add_argument("--start", type=float, metavar="S", help="from this time on, the trigger is at 0")
    c.add_argument("--stop", type=float, metavar="S", help="up to this time")
    c.add_argument("--mean-of", type=int, default=1, metavar="N", help="means of N samples instead of each")
    c.add_argument("--calibrated", action="store_true", help="apply the run's own zero and gain")
    c = commands.add_parser("transcript", help="print what was said to and by the instruments, where it was kept")
    c.add_argument("trace", type=Path, metavar="FILE")
    c.add_argument("--session", type=int, metavar="N", help="of one start of the bench alone, from 1")
    c.add_argument("--out", type=Path, metavar="NEW", help="write it into a new file instead")
    add_options(commands.add_parser("import", help=TEXT, description=f"{TEXT[0].upper()}{TEXT[1:]}."))
    return p


def main(argv: list[str] | None = None) -> int:
    """Do what is asked; returns the exit code."""
    args = parser().parse_args(argv)
    if args.command != "import":
        args.trace = [_inside(path) for path in args.trace] if isinstance(args.trace, list) else _inside(args.trace)
    actions = {"check": _check, "info": _info, "recover": _recover, "export": _export}
    actions |= {"transcript": _transcript, "import": run_import}
    return run(lambda: actions[args.command](args))


def _inside(path: Path) -> Path:
    """The trace file of a run where its folder was named."""
    return path / TRACE if (path / TRACE).is_file() else path


def _check(args: argparse.Namespace) -> int:
    from experiments.progress import at_work
    from experiments.traces.checking import check
    from instruments.errors import TraceError

    code = 0
    for path in args.trace:
        try:
            with at_work() as show:
                show(f"checking every byte of {path}")
                found = check(path)
        except TraceError as error:
            complain(f"error: {error}")
            code = 3
            continue
        code = max(code, 0 if found.sound else 1)
        if args.json:
            tell(
                json.dumps(
                    {
                        "file": str(path),
                        "sound": found.sound,
                        "complete": found.complete,
                        "missing_bytes": found.missing_bytes,
                        "committed": found.good,
                        "rejected": found.rejected,
                        "damaged": found.damaged,
                        "contradicted": found.contradicted,
                        "in_flight": found.in_flight,
                        "problems": [{"place": p.place, "what": p.what} for p in found.problems],
                    }
                )
            )
            continue
        if found.sound:
            tell(f"{path}: sound, {'complete' if found.complete else 'the sweep ended early'}")
        else:
            tell(f"{path}: DAMAGED; the sweep {'had gone through all cells' if found.complete else 'ended early'}")
        good = counted(len(found.good), "committed capture is", "committed captures are")
        tell(f"  {good} as written; {counted(found.rejected, 'was', 'were')} rejected")
        if found.in_flight:
            tell(f"  {len(found.in_flight)} in flight when the program ended")
        for problem in found.problems:
            tell(f"  {problem}")
        if not found.sound:
            tell(f"  save what is good: python -m experiments.traces recover {path}")
    return code


def _recover(args: argparse.Namespace) -> int:
    from experiments.progress import at_work
    from experiments.traces.recovery import recover

    out: Path = args.out if args.out is not None else args.trace.with_suffix(f".recovered{args.trace.suffix}")
    with at_work() as show:
        show(f"saving what is good of {args.trace}")
        filled: list[str] = []
        found = recover(args.trace, out, filled.append)
    rejected = f" ({found.rejected} rejected, since the file contradicts itself)" if found.rejected else ""
    tell(
        f"{out}: {counted(found.saved, 'capture')} saved{rejected}, {found.lost} lost; "
        f"python -m experiments.replay {out} computes its results"
    )
    for line in filled:
        tell(f"  {line}")
    if found.in_flight:
        tell(f"  {found.in_flight} in flight when the program ended: never committed, so left out")
    return 0 if not (found.lost or found.rejected) else 1


def _export(args: argparse.Namespace) -> int:
    from experiments.progress import at_work
    from experiments.traces.export import Choice, export

    said: list[str] = []
    choice = Choice(_numbers(args.captures), args.start, args.stop, args.mean_of, args.calibrated)
    with at_work() as show:
        show(f"exporting {args.trace} to {args.out}")
        export(args.trace, args.out, choice, said.append)
    for line in said:
        tell(line)
    return 0


def _transcript(args: argparse.Namespace) -> int:
    from experiments.traces import TraceReader
    from experiments.traces.said import session_of
    from instruments.errors import ConfigError

    with TraceReader(args.trace) as reader:
        text = session_of(reader.transcript(), args.session, args.trace)
    if args.out is None:
        tell(text.rstrip("\n"))
        return 0
    try:
        with args.out.open("x", encoding="utf-8", newline="") as file:
            file.write(text)
    except FileExistsError as error:
        raise ConfigError(f"{args.out} exists: name another file") from error
    except OSError as error:
        raise ConfigError(f"{args.out}: cannot be written ({error.strerror})") from error
    tell(f"{args.out}: {counted(text.count(chr(10)), 'line')}")
    return 0


def _numbers(text: str | None) -> list[int] | None:
    """Read `3,5-7` as 3, 5, 6, 7."""
    from instruments.errors import ConfigError

    if text is None:
        return None
    numbers: list[int] = []
    try:
        for part in text.split(","):
            first, _, last = part.partition("-")
            numbers += range(int(first), int(last or first) + 1)
    except ValueError as error:
        raise ConfigError(f"--captures {text!r}: numbers and ranges are expected, as 3,5-7") from error
    return numbers


_LISTED = ("kind", "network", "batch", "repeat", "part", "state", "reason")
"""What is told of each capture, by the names of its variables."""


COUNTED = "listed below: capture, repeat and part count from 0, as in the file; other programs print repeats from 1"


def _info(args: argparse.Namespace) -> int:
    from experiments.report import plain_table
    from experiments.traces import TraceReader

    for path in args.trace:
        with TraceReader(path) as reader:
            facts = describe(reader)
            rows = [{"capture": k} | {n: row[n] for n in _LISTED} for k, row in enumerate(reader.captures())]
        if args.json:
            tell(json.dumps(facts | {"listed": rows} if args.captures else facts))
            continue
        tell(_as_text(facts) + (f"\n  {COUNTED}" if args.captures and rows else ""))
        if args.captures and rows:
            tell("\n" + plain_table([list(rows[0]), *([str(value) for value in row.values()] for row in rows)]))
    return 0


def describe(reader: TraceReader) -> dict[str, Any]:
    """What is in a trace file, as plain values."""
    plan, captures = reader.plan, reader.captures()
    preambles = reader.preambles()
    points = preambles["points"].sum()
    size = reader.path.stat().st_size
    lab = reader.lab()
    return {
        "file": str(reader.path),
        "schema": reader.schema,
        "source": reader.source,
        "complete": reader.complete,
        "bench": lab.bench,
        "device": lab.dut.name,
        "started_utc": reader.json("summary").get("started_utc", ""),
        "networks": list(plan.networks),
        "batches": list(plan.batches),
        "repeats": plan.repeats,
        "seed": plan.seed,
        "cells": dict(_states(reader)),
        "captures": dict(Counter(f"{row['kind']} {row['state'] or 'in flight'}" for row in captures)),
        "sampling_period_s": sorted({float(dt) for dt in preambles["x_increment_s"][:, 0]}),
        "samples": int(points),
        "bytes": size,
        "bytes_per_sample": round(size / points, 4) if points else None,
        "transcript": _sessions_of(reader.transcript()),
        "instruments": reader.json("instruments"),
        "environment": reader.json("environment"),
    }


def _states(reader: TraceReader) -> Counter[str]:
    """How many cells are in which state; one whose capture was committed and whose journal was not is committed."""
    from experiments.journal import ENDED, kept_cells

    kept = kept_cells(reader.captures())
    cells = enumerate(reader.cells())
    return Counter("committed" if row["state"] not in ENDED and k in kept else row["state"] for k, row in cells)


def _sessions_of(transcript: str) -> str:
    """How much of what was said is in the file."""
    from experiments.traces.said import sessions

    parts = sessions(transcript)
    lines = sum(part.count("\n") for part in parts)
    return f"{counted(lines, 'line')} in {counted(len(parts), 'session')}" if parts else "none"


def _as_text(facts: dict[str, Any]) -> str:
    lines = []
    for name, value in facts.items():
        if isinstance(value, dict):
            plain = [f"{k}: {v}" for k, v in value.items() if not isinstance(v, dict)]
            trees = {k: v for k, v in value.items() if isinstance(v, dict)}
            nested = [f"{k}: {', '.join(f'{n} {x}' for n, x in v.items())}" for k, v in trees.items()]
            text = "; ".join([", ".join(plain), *nested] if plain else nested)
        else:
            text = ", ".join(str(v) for v in value) if isinstance(value, list) else str(value)
        lines.append(one_line(f"{name.replace('_', ' ')}: {text}" if name != "file" else text))
    return "\n  ".join(lines)


if __name__ == "__main__":
    leave(main())
