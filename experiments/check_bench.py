"""Ask a bench whether it is ready: who answers, how fast, whether each marker line ends where lab.yaml says.

`python -m experiments.check_bench [--lab FILE] [--json] [--no-power]`. One line for each check; what is wrong
says what to do. The output is switched on for the checks of current and gain, and off again; with `--no-power`
it stays off.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from experiments.command import leave, run

if TYPE_CHECKING:
    from experiments.bench_checks import Finding


def parser() -> argparse.ArgumentParser:
    """Describe the command line."""
    p = argparse.ArgumentParser(
        prog="python -m experiments.check_bench",
        description="Check a bench: identities, speed, marker wiring, zero, noise, headroom, gain.",
        epilog="exit codes: 0 all good, 1 something is wrong, 2 usage or configuration, 3 instrument, 130 interrupted",
    )
    p.add_argument("--lab", type=Path, default=Path("lab.yaml"), metavar="FILE", help="the bench (default: lab.yaml)")
    p.add_argument("--json", action="store_true", help="print one JSON object instead of lines")
    p.add_argument("--no-power", action="store_true", help="never switch the supply's output on")
    p.add_argument("--transcript", type=Path, metavar="FILE", help="write every message to and from the instruments")
    return p


def main(argv: list[str] | None = None) -> int:
    """Check; returns the exit code."""
    args = parser().parse_args(argv)
    return run(lambda: _check(args))


def _check(args: argparse.Namespace) -> int:
    import json

    from experiments import bench_checks

    def show(finding: Finding) -> None:
        if not args.json:
            print(finding.line(), flush=True)

    findings = bench_checks.check(args.lab, power=not args.no_power, transcript=args.transcript, show=show)
    good = all(f.verdict != "WRONG" for f in findings)
    if args.json:
        print(json.dumps({"good": good, "checks": [f.as_dict() for f in findings]}, indent=1))
    return 0 if good else 1


if __name__ == "__main__":
    leave(main())
