"""python -m experiments.findings RUN...: verdicts on the paper's four findings, from measured runs alone."""

from __future__ import annotations

import argparse
import json
from pathlib import Path

from experiments.command import leave, run, say


def parser() -> argparse.ArgumentParser:
    """Describe the command line."""
    p = argparse.ArgumentParser(
        prog="python -m experiments.findings",
        description="Put the paper's four findings to the runs of one device. A verdict can be no.",
        epilog="exit codes: 0 judged, whatever the verdicts; 2 usage, unlike runs; 3 unreadable file; 130 interrupted",
    )
    p.add_argument("runs", nargs="+", type=Path, metavar="RUN", help="a run's folder, or its trace.h5")
    p.add_argument("--json", action="store_true", help="a JSON object with H1 to H4 instead of text")
    p.add_argument(
        "--margin",
        type=_percentage,
        default=6.0,
        metavar="PERCENT",
        help="how far from the mean net power counts as the same (default: 6, the paper's own scatter)",
    )
    p.add_argument("--seed", type=_seed, default=1, metavar="N", help="of bootstrap and permutations (default: 1)")
    return p


def _percentage(text: str) -> float:
    value = float(text)
    if not 0 < value < 100:
        raise argparse.ArgumentTypeError(f"{text} is no percentage between 0 and 100")
    return value


def _seed(text: str) -> int:
    value = int(text)
    if not 0 <= value < 2**63:
        raise argparse.ArgumentTypeError(f"{text} is no seed: give 0 to 2^63 - 1")
    return value


def main(argv: list[str] | None = None) -> int:
    """Judge and print; returns the exit code."""
    args = parser().parse_args(argv)
    return run(lambda: _judge(args))


def _judge(args: argparse.Namespace) -> int:
    from experiments.findings import sample, section

    found = section.judge(sample.load(args.runs), args.margin / 100, args.seed)
    say(json.dumps(found.tree(), indent=2) if args.json else section.text(found))
    return 0


if __name__ == "__main__":
    leave(main())
