"""Recompute everything from trace files alone, on the path that the live sweep takes from there on."""

from __future__ import annotations

import argparse
import os
from pathlib import Path

from experiments.command import leave, run


def parser() -> argparse.ArgumentParser:
    """Describe the command line."""
    p = argparse.ArgumentParser(
        prog="python -m experiments.replay",
        description="Recompute a run's results, figures and report from its trace file alone.",
        epilog="exit codes: 0 good, 1 some cells have no result, 2 usage, 3 unreadable file, 130 interrupted",
    )
    p.add_argument("trace", type=Path, metavar="FILE", help="a trace.h5")
    p.add_argument("--out", type=Path, metavar="DIR", help="where to write (default: replay/ beside the file)")
    p.add_argument("--quiet", action="store_true", help="print nothing but errors")
    return p


def main(argv: list[str] | None = None) -> int:
    """Replay; returns the exit code."""
    args = parser().parse_args(argv)
    return run(lambda: _replay(args))


def _replay(args: argparse.Namespace) -> int:
    from experiments.report import conclude
    from experiments.traces import TraceReader, check_writable
    from instruments.errors import ConfigError

    out: Path = args.out if args.out is not None else args.trace.parent / "replay"
    with TraceReader(args.trace) as reader:
        check_writable(out)
        if os.path.exists(out / "trace.h5"):
            raise ConfigError(f"{out} holds a run of its own: name another folder with --out")
        return conclude(reader, out, quiet=args.quiet, replayed=True)


if __name__ == "__main__":
    leave(main())
