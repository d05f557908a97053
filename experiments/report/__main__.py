"""Write one report of one or several runs: each with its results, side by side, compared where they were made alike."""

from __future__ import annotations

import argparse
import contextlib
from dataclasses import replace
from pathlib import Path

from experiments.command import leave, run, say


def parser() -> argparse.ArgumentParser:
    """Describe the command line."""
    p = argparse.ArgumentParser(
        prog="python -m experiments.report",
        description="Write one self-contained HTML report of one or several runs, side by side.",
        epilog="exit codes: 0 written, 2 usage, 3 a file that cannot be read or written, 130 interrupted; "
        "docs/report.md describes the report",
    )
    p.add_argument("runs", nargs="+", type=Path, metavar="RUN", help="folder of a run, or a trace file")
    p.add_argument("--out", type=Path, required=True, metavar="FILE.html", help="where to write the report")
    p.add_argument("--anyway", action="store_true", help="compare runs of unlike contexts with the first run too")
    p.add_argument(
        "--margin", default="2%", metavar="2%", help="differences within this part count as none (default: 2%%)"
    )
    p.add_argument("--quiet", action="store_true", help="show no progress: only results, warnings and errors")
    return p


def main(argv: list[str] | None = None) -> int:
    """Write the report; returns the exit code."""
    args = parser().parse_args(argv)
    return run(lambda: _write(args))


def _write(args: argparse.Namespace) -> int:
    from experiments.compare import margin_of
    from experiments.figures.__main__ import open_runs
    from experiments.progress import at_work
    from experiments.report.page import ONE_RUN, page
    from experiments.traces import check_writable
    from instruments.errors import ConfigError
    from instruments.whole_file import write_whole

    out: Path = args.out
    margin = margin_of(args.margin)
    if out.is_dir():
        raise ConfigError(f"--out {out}: is a folder: name the file to write in it")
    if out.suffix.lower() not in (".html", ".htm"):
        raise ConfigError(f"--out {out}: name the file to write, such as report.html")
    check_writable(out.parent)
    with contextlib.ExitStack() as stack, at_work(quiet=args.quiet) as show:
        runs = open_runs(args.runs, stack, show)
        if len(runs) == 1:
            runs = [replace(runs[0], label=ONE_RUN)]
        show("drawing the figures and the report")
        text = page(runs, anyway=args.anyway, margin=margin).encode()
    write_whole(out, text, "name another file with --out")
    names = ", ".join(str(path) for path in args.runs)
    say(f"{out}: report of {names} ({len(text) / 1e6:.1f} MB)")
    return 0


if __name__ == "__main__":
    leave(main())
