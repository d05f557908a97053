"""Say before a capture which rate and how many points the oscilloscope will give for a window.

`python -m instruments.mso_x2024a --window 2 --rate 50000 --sources CHAN1,CHAN3,POD1 --memory 100000`. Nothing is
sent to an instrument. Exit codes: 0 as wanted, 1 fewer points than wanted, 2 usage.
"""

from __future__ import annotations

import argparse
import json
from dataclasses import asdict

from instruments.command import leave, run, say

from .capabilities import Capabilities
from .plan import plan_acquisition


def parser() -> argparse.ArgumentParser:
    """Describe the command line."""
    p = argparse.ArgumentParser(
        prog="python -m instruments.mso_x2024a",
        description="Say which rate and how many points the oscilloscope will give for a window.",
        epilog="exit codes: 0 as wanted, 1 fewer points than wanted, 2 usage",
    )
    p.add_argument("--model", default="MSO-X 2024A", metavar="M", help="model as *IDN? gives it (default: MSO-X 2024A)")
    p.add_argument(
        "--memory", type=int, metavar="N", help="points of one channel alone (default: the family's without an option)"
    )
    p.add_argument(
        "--sources",
        default="CHAN1,CHAN3,POD1",
        metavar="A,B",
        help="inputs that are on (default: CHAN1,CHAN3,POD1, as a sweep has them)",
    )
    p.add_argument("--window", type=float, default=2.0, metavar="S", help="length of the record in s (default: 2.0)")
    wanted = p.add_mutually_exclusive_group()
    wanted.add_argument("--rate", type=float, metavar="HZ", help="wanted rate in samples per second")
    wanted.add_argument(
        "--points", type=int, metavar="N", help="wanted points (default: 100000 unless a rate is given)"
    )
    p.add_argument("--json", action="store_true", help="print one JSON object instead of lines")
    return p


def main(argv: list[str] | None = None) -> int:
    """Plan; returns the exit code."""
    args = parser().parse_args(argv)
    return run(lambda: _plan(args))


def _plan(args: argparse.Namespace) -> int:
    points = args.points if args.points is not None or args.rate is not None else 100_000
    plan = plan_acquisition(
        args.window,
        [source for source in args.sources.split(",") if source.strip()],
        points=points,
        rate_hz=args.rate,
        capabilities=Capabilities.of(args.model, args.memory),
    )
    say(json.dumps({"short": plan.short, **asdict(plan)}, indent=1) if args.json else "\n".join(plan.lines()))
    return 1 if plan.short else 0


if __name__ == "__main__":
    leave(main())
