"""Ask a bench whether it is ready: who answers, how fast, whether each marker line ends where lab.yaml says.

`python -m experiments.check_bench [--lab FILE] [--json] [--no-power] [--list]`. One line for each check; what is
wrong says what to do. The output is switched on for the checks of current and gain, and off again; with
`--no-power` it stays off. `--list` asks who is there, and changes nothing. The keys of `--json` are told in
docs/check-bench.md.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from experiments.command import leave, run, say

JSON_SCHEMA = 1


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
    p.add_argument("--list", action="store_true", help="say who answers on this bench and what else VISA sees, no more")
    return p


def main(argv: list[str] | None = None) -> int:
    """Check; returns the exit code."""
    args = parser().parse_args(argv)
    return run(lambda: _list(args) if args.list else _check(args))


def _check(args: argparse.Namespace) -> int:
    from experiments import bench_checks
    from experiments.check_findings import Findings
    from instruments.errors import BenchError

    findings = Findings(lambda finding: None if args.json else say(finding.line()))
    failure: dict[str, Any] | None = {"kind": "Interrupted", "message": "interrupted", "exit_code": 130}
    try:
        bench_checks.check(args.lab, findings, power=not args.no_power, transcript=args.transcript)
        failure = None
    except BenchError as error:
        failure = {"kind": type(error).__name__, "message": str(error), "exit_code": error.exit_code}
        raise
    finally:
        if args.json:
            good = findings.clean and failure is None
            _print({"good": good, "checks": [f.as_dict() for f in findings.all], "error": failure})
    return 0 if findings.clean else 1


def _list(args: argparse.Namespace) -> int:
    from experiments.bench_list import entries

    found = entries(args.lab)
    right = all(entry.right is not False for entry in found)
    if args.json:
        _print({"good": right, "resources": [entry.as_dict() for entry in found]})
    else:
        for entry in found:
            say(entry.line())
    return 0 if right else 3


def _print(tree: dict[str, Any]) -> None:
    import json

    say(json.dumps({"schema": JSON_SCHEMA, **tree}, indent=1))


if __name__ == "__main__":
    leave(main())
