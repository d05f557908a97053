"""Compare two runs: same context? then for each row the difference, its uncertainty, and a verdict.

`python -m experiments.compare A B`. Runs of unlike contexts are refused, with a line for each difference, unless
`--anyway` is given. docs/compare.md explains the verdicts and the keys of `--json`.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from experiments.command import complain, leave, run, tell
from instruments.wording import counted

if TYPE_CHECKING:
    from experiments.comparison.context import Difference
    from experiments.comparison.sides import Side
    from experiments.comparison.verdicts import ComparedRow

JSON_SCHEMA = 1
MARGIN = "2%"

CONTEXT_UNKNOWN = (
    "A and B are tables alone, which tell no bench, instruments, settings or calibration: whether they were made in "
    "the same context is not known; name the runs' folders or their trace.h5 instead"
)

NAMED = 6
"""Rows of one run alone that a note names."""


def parser() -> argparse.ArgumentParser:
    """Describe the command line."""
    p = argparse.ArgumentParser(
        prog="python -m experiments.compare",
        description="Compare two runs row by row: difference with its 95 % interval, Welch's test, equivalence.",
        epilog="exit codes: 0 compared, whatever the verdict, 2 usage, nothing in common or unlike contexts, "
        "3 unreadable file, 130 interrupted",
    )
    for name in ("A", "B"):
        p.add_argument(name.lower(), type=Path, metavar=name, help="a run's folder, a trace.h5 or a results.csv")
    p.add_argument("--anyway", action="store_true", help="compare runs of unlike contexts too")
    p.add_argument(
        "--margin",
        default=MARGIN,
        metavar="2%",
        help="differences within this part of A count as none (default: 2%%)",
    )
    p.add_argument("--json", action="store_true", help="print one JSON object instead of a table")
    return p


def main(argv: list[str] | None = None) -> int:
    """Compare; returns the exit code."""
    args = parser().parse_args(argv)
    return run(lambda: _compare(args))


def _compare(args: argparse.Namespace) -> int:
    from experiments.comparison import context, sides, verdicts
    from experiments.progress import at_work
    from instruments.errors import ConfigError

    margin = margin_of(args.margin)
    with at_work() as show:
        show(f"reducing A, {args.a}")
        a = sides.load(args.a)
        show(f"reducing B, {args.b}")
        b = sides.load(args.b)
    if a.path.resolve() == b.path.resolve():
        raise ConfigError(f"A and B are both {a.path}: there is nothing to compare")
    found = context.differences(a.facts, b.facts) + context.apart(a.began_utc_s, b.began_utc_s)
    unlike = [d for d in found if d.decisive]
    if unlike and not args.anyway:
        complain("error: A and B were not made in the same context; --anyway compares them all the same:")
        for difference in unlike:
            complain(difference.line)
        for side in (a, b):
            if not side.context_known:
                complain(f"{side.path} tells little of its context: name the run's folder or its trace.h5 instead")
        return ConfigError.exit_code
    if not any(key in b.rows for key in a.rows):
        raise ConfigError(f"no network and batch has a result in both: A has {_keys(a)}; B has {_keys(b)}")
    shared = context.shared(a.facts, b.facts, simulated=a.simulated or b.simulated)
    with at_work() as show:
        show("comparing the rows of both")
        rows = verdicts.compare(a, b, shared, margin)
    notes = notes_of(a, b, rows, found)
    if not _known(a, b) and not any(d.decisive for d in found):
        complain(f"warning: {CONTEXT_UNKNOWN}")
    if args.json:
        tell(json.dumps(_tree(a, b, rows, found, vars(shared), margin, notes), indent=1))
    else:
        tell(_text(a, b, rows, found, margin, notes))
    return 0


def margin_of(text: str) -> float:
    """Read 2% or 0.02. Raises ConfigError."""
    from instruments.errors import ConfigError

    try:
        value = float(text.rstrip().removesuffix("%")) * (0.01 if text.rstrip().endswith("%") else 1.0)
    except ValueError:
        value = -1.0
    if not 0 < value < 1:
        raise ConfigError(f"--margin {text!r}: write a part of A above 0 and below 100 %, such as 2% or 0.02")
    return value


def _keys(side: Side) -> str:
    return ", ".join(f"{network} at batch {batch}" for network, batch in side.rows) or "none"


def notes_of(a: Side, b: Side, rows: Sequence[ComparedRow], found: Sequence[Difference]) -> list[str]:
    """What is to be said beside the table: differences of the contexts, rows of one side alone, what is not known."""
    notes = [d.line for d in found]
    if not _known(a, b) and not any(d.decisive for d in found):
        notes.append(CONTEXT_UNKNOWN)
    for name, mine, other in (("A", a, b), ("B", b, a)):
        lacking: dict[str, list[str]] = {}
        for key in mine.rows:
            if key not in other.rows:
                lacking.setdefault(other.empty.get(key, "not asked for"), []).append(f"{key[0]} at batch {key[1]}")
        for why, labels in lacking.items():
            more = f" and {len(labels) - NAMED} more" if len(labels) > NAMED else ""
            notes.append(f"only {name} has a result ({why} in the other): {', '.join(labels[:NAMED])}{more}")
        if mine.calibration is None:
            notes.append(f"{name} is a table alone: {_not_known(mine)}")
    together = next((s for row in rows if (s := row.quantities["energy_per_image_j"].scatter) is not None), None)
    if together is not None:
        notes.append(
            f"repeats of the rows scatter alike, by {together.relative * 100:.2g} % ({together.dof:g} degrees of "
            "freedom): taken for each row, so that ± of A and B are not those of results.csv, where each row stands "
            "for itself"
        )
    if single := sum(min(row.repeats) < 2 for row in rows):
        notes.append(
            f"one repeat only: {counted(single, 'row')}; nothing is known of the scatter, so nothing is concluded"
        )
    if flagged := [row for row in rows if row.flags]:
        codes = ", ".join(dict.fromkeys(code for row in flagged for code in row.flags))
        notes.append(f"flagged in A or B (docs/flags.md): {counted(len(flagged), 'row')}, {codes}")
    return notes


def _not_known(side: Side) -> str:
    """What a table does not tell, and what is made of that."""
    from experiments.comparison.sides import TABLE

    if any(c.name == TABLE for row in side.rows.values() for budget in row.budgets.values() for c in budget.components):
        return (
            "its repeats and the parts of its uncertainty are not known, so that each interval is taken for that of "
            "the distribution that proves least; put its budgets.json beside it, or name its trace.h5"
        )
    return "its repeats are not known, nor what its errors have in common with the other's"


def table_lines(rows: Sequence[ComparedRow]) -> list[list[str]]:
    """The rows as a table of text, the header first."""
    from experiments.report import with_uncertainty

    header = ["network", "batch", "n", "A [mJ/image]", "B [mJ/image]", "B - A [mJ/image]", "[%]", "power [%]"]
    lines = [[*header, "time [%]", "p different", "p equivalent", "p Welch", "verdict"]]
    for row in rows:
        energy = row.quantities["energy_per_image_j"]
        percent = [
            with_uncertainty(c.relative * 100, c.difference.expanded() / abs(c.a.value) * 100)
            for c in (row.quantities[name] for name in ("energy_per_image_j", "power_w", "time_per_image_s"))
        ]
        lines.append(
            [
                row.network,
                str(row.batch),
                "/".join(map(str, row.repeats)),
                *(with_uncertainty(x.value * 1e3, x.expanded() * 1e3) for x in (energy.a, energy.b, energy.difference)),
                *percent,
                _p(energy.p_different),
                _p(energy.p_equivalent),
                _p(energy.welch.p_holm) if energy.welch else "unknown",
                row.verdict,
            ]
        )
    return lines


def _text(
    a: Side, b: Side, rows: Sequence[ComparedRow], found: Sequence[Difference], margin: float, notes: Sequence[str]
) -> str:
    from experiments.report import plain_table
    from instruments.plain_text import one_line

    counts = {verdict: sum(row.verdict == verdict for row in rows) for verdict in ("equivalent", "different")}
    counts["inconclusive"] = len(rows) - sum(counts.values())
    return "\n".join(
        [
            f"A: {a.path}",
            f"B: {b.path}",
            "",
            plain_table(table_lines(rows)),
            "",
            f"± is the half-width of the 95 % interval. Equivalent: within {margin * 100:g} % of A. p-values are",
            f"corrected for {counted(len(rows), 'row')} (Holm); Welch's is of the repeats alone.",
            ", ".join(f"{count} {verdict}" for verdict, count in counts.items()),
            *(["", "A AND B WERE NOT MADE IN THE SAME CONTEXT."] if any(d.decisive for d in found) else []),
            *(f"note: {one_line(note)}" for note in notes),
        ]
    )


def _known(a: Side, b: Side) -> bool:
    """Whether the contexts of both were compared."""
    return a.context_known and b.context_known


def _p(value: float) -> str:
    return "<0.0001" if value < 1e-4 else f"{value:.4f}"


def _tree(
    a: Side,
    b: Side,
    rows: Sequence[ComparedRow],
    found: Sequence[Difference],
    shared: dict[str, bool],
    margin: float,
    notes: Sequence[str],
) -> dict[str, Any]:
    return {
        "schema": JSON_SCHEMA,
        "a": str(a.path),
        "b": str(b.path),
        "margin": margin,
        "level": 0.05,
        "correction": "holm",
        "alike": False if any(d.decisive for d in found) else (True if _known(a, b) else None),
        "context": {
            "different": [d.as_dict() for d in found if d.decisive],
            "noted": [d.as_dict() for d in found if not d.decisive],
        },
        "shared": shared,
        "rows": [
            {
                "network": row.network,
                "batch": row.batch,
                "repeats": list(row.repeats),
                "verdict": row.verdict,
                "flags": list(row.flags),
                **{name: compared.as_dict() for name, compared in row.quantities.items()},
            }
            for row in rows
        ],
        "notes": list(notes),
    }


if __name__ == "__main__":
    leave(main())
