"""Runs beside each other: where their contexts differ, all results in one table, differences where these mean much."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from experiments.figures.rows import Run, all_networks
from experiments.report import markup
from experiments.report.text import SHOWN, shown
from instruments.wording import counted

if TYPE_CHECKING:
    from experiments.comparison.context import Difference
    from experiments.comparison.sides import Side

MARGIN = 0.02
MOST_NOTES = 6


@dataclass(frozen=True)
class Pair:
    """A later run against the first."""

    first: Run
    other: Run
    sides: tuple[Side, Side]
    differences: tuple[Difference, ...]

    @property
    def alike(self) -> bool:
        """Whether both were made in the same context."""
        return not any(d.decisive for d in self.differences)

    def said(self, difference: Difference) -> list[str]:
        """One difference of the contexts as cells of a table."""
        return [difference.name, difference.a, difference.b]


def pairs(runs: Sequence[Run]) -> list[Pair]:
    """Hold the context of each run against that of the first."""
    if len(runs) < 2:
        return []
    from experiments.comparison import context, sides

    all_sides = [sides.of_run(run.reader.path, run.reader, run.outcome) for run in runs]
    found = []
    for run, side in zip(runs[1:], all_sides[1:], strict=True):
        first = all_sides[0]
        told = context.differences(first.facts, side.facts) + context.apart(first.began_utc_s, side.began_utc_s)
        found.append(Pair(runs[0], run, (first, side), tuple(told)))
    return found


def contexts(found: Sequence[Pair]) -> str:
    """What differs between the circumstances of the runs: first what forbids a comparison, then the rest."""
    parts = []
    for pair in found:
        parts.append(f"<h3>{markup.text(f'{pair.other.label} against {pair.first.label}')}</h3>")
        head = ["circumstance", pair.first.label, pair.other.label]
        unlike = [pair.said(d) for d in pair.differences if d.decisive]
        noted = [pair.said(d) for d in pair.differences if not d.decisive]
        if unlike:
            parts += [
                markup.paragraph("Not made in the same context: any of these may be why their results differ.", "bad"),
                markup.table([head, *unlike], "facts"),
            ]
        else:
            parts.append(markup.paragraph("Made in the same context."))
        if noted:
            parts.append(
                markup.details(f"{len(noted)} more that are only noted", markup.table([head, *noted], "facts"))
            )
    return markup.section("context", "Were these runs made alike?", *parts)


def beside(runs: Sequence[Run]) -> str:
    """Every network and batch of any run, with the results of each run in columns of its own."""
    names = all_networks(runs)
    keys = sorted({pair for run in runs for pair in run.outcome.pairs}, key=lambda key: (names.index(key[0]), key[1]))
    rows = [dict(zip(run.outcome.pairs, run.outcome.rows, strict=True)) for run in runs]
    columns = (f"{label} [{unit}], {run.label}" for _, label, unit, _ in SHOWN for run in runs)
    lines = [["network", "batch", "n", *columns]]
    for key in keys:
        repeats = ["–" if key not in mine else "0" if (row := mine[key]) is None else str(row.repeats) for mine in rows]
        cells = [key[0], str(key[1]), "/".join(repeats)]
        for name, _, _, factor in SHOWN:
            for mine in rows:
                row = mine.get(key)
                cells.append(shown(row, name, factor) if row is not None else "no result" if key in mine else "–")
        lines.append(cells)
    return markup.table(lines, of_rows=[{"data-network": network} for network, _ in keys])


def differences(found: Sequence[Pair], *, anyway: bool, margin: float = MARGIN) -> list[str]:
    """The table of differences with verdicts for each pair of like contexts; a line for each other pair."""
    from experiments import compare
    from experiments.comparison import context, verdicts

    parts = []
    for pair in found:
        a, b = pair.sides
        parts.append(f"<h3>{markup.text(f'{pair.other.label} (B) against {pair.first.label} (A)')}</h3>")
        if not pair.alike and not anyway:
            parts.append(markup.paragraph("Not compared: the contexts are not alike; --anyway compares them.", "bad"))
            continue
        if not any(key in b.rows for key in a.rows):
            parts.append(markup.paragraph("Not compared: no network and batch has a result in both."))
            continue
        same = context.shared(a.facts, b.facts, simulated=a.simulated or b.simulated)
        rows = verdicts.compare(a, b, same, margin)
        if not pair.alike:
            parts.append(markup.paragraph("Compared although the contexts are not alike.", "bad"))
        attributes = [{"data-network": row.network} for row in rows]
        parts.append(markup.table(compare.table_lines(rows), of_rows=attributes))
        parts.append(
            markup.paragraph(
                f"± is the half-width of the 95 % interval. Equivalent: within {margin * 100:g} % of A. p-values "
                f"are corrected for {counted(len(rows), 'row')} (Holm); Welch's is of the repeats alone. docs/"
                "compare.md explains it."
            )
        )
        notes = compare.notes_of(a, b, rows, ())
        said = markup.bullets(notes, "hint")
        parts.append(said if len(notes) <= MOST_NOTES else markup.details(f"{len(notes)} notes", said))
    return parts
