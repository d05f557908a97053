"""What is written at the end of a sweep or replay: results.csv, two pictures, the report, the budgets."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from experiments import budgets
from experiments.command import say
from experiments.figures.rows import Run
from experiments.figures.summary import BESIDE, beside
from experiments.outcome import Outcome, results_csv
from experiments.progress import at_work
from experiments.reduction import reduce_run
from experiments.report.text import closing_text, plain_table
from experiments.traces import TraceReader
from instruments.whole_file import write_whole
from instruments.wording import counted

AGAIN = "python -m experiments.replay makes it anew from the trace file, with --out elsewhere"
"""What to do about an output that cannot be written."""

OUTPUTS = ("results.csv", *(f"{name}.png" for name in BESIDE), "report.html", budgets.FILE)
SCREEN = "scope_screen.png"
"""Written too where the trace holds a picture of the oscilloscope's screen."""


def conclude(reader: TraceReader, out: Path, *, quiet: bool, replayed: bool = False, budget: bool = False) -> int:
    """Reduce a file, write every output, print the table; 1 when a cell has no result.

    `budget` prints every result's budget first; `quiet` shows no progress.
    """
    with at_work(quiet=quiet, lines=not replayed) as show:  # after a sweep's own lines
        show(f"reducing {counted(len(reader.captures()), 'capture')}")
        outcome = reduce_run(reader)
        write_outputs(reader, outcome, out, replayed=replayed, show=show)
    if budget:
        say(budgets.budgets_text(outcome, plain_table))
    names = OUTPUTS if replayed else ("trace.h5", *OUTPUTS)
    names = (*names, SCREEN) if (out / SCREEN).is_file() else names
    say(closing_text(outcome, str(out), names, replayed=replayed))
    return 0 if outcome.whole else 1


def write_outputs(
    reader: TraceReader,
    outcome: Outcome,
    out: Path,
    *,
    replayed: bool = False,
    show: Callable[[str], None] = lambda _: None,
) -> list[Path]:
    """Write results.csv, both pictures, budgets.json and report.html into a folder; returns their paths.

    `show` is told what is being done.
    """
    from experiments.report.page import ONE_RUN, of_run

    show("writing the results, drawing two pictures")
    paths = [out / name for name in OUTPUTS]
    write_whole(paths[0], results_csv(outcome, replayed=replayed).encode(), AGAIN)
    for name, picture in beside(Run(reader, outcome, ONE_RUN)).items():
        write_whole(out / name, picture, AGAIN)
    write_whole(paths[4], budgets.budgets_json(outcome, replayed=replayed).encode(), AGAIN)
    if screen := reader.blob("scope_screen"):
        paths.append(out / SCREEN)
        write_whole(paths[-1], screen, AGAIN)
    show("drawing the figures, writing the report")
    write_whole(paths[3], of_run(reader, outcome, replayed=replayed).encode(), AGAIN)
    return paths
