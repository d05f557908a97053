"""What is written at the end of a sweep or replay: results.csv, two pictures, the report, the budgets."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path

from experiments import budgets, figures
from experiments.command import complain, say
from experiments.outcome import Outcome, results_csv
from experiments.progress import at_work
from experiments.reduction import reduce_run
from experiments.report.text import closing_text, plain_table
from experiments.traces import TraceReader
from instruments.errors import TraceError
from instruments.plain_text import one_line

OUTPUTS = ("results.csv", "power_vs_batch.png", "energy_vs_batch.png", "report.html", budgets.FILE)
SCREEN = "scope_screen.png"
"""Written too where the trace holds a picture of the oscilloscope's screen."""


def conclude(reader: TraceReader, out: Path, *, quiet: bool, replayed: bool = False, budget: bool = False) -> int:
    """Reduce a file, write every output, print the table; 1 when a cell has no result.

    `budget` prints every result's budget first. Where nothing else may be printed, what has no result still is, on
    standard error.
    """
    with at_work(quiet=quiet) as show:
        show(f"reducing {len(reader.captures())} captures")
        outcome = reduce_run(reader)
        show("drawing the figures and the report")
        write_outputs(reader, outcome, out, replayed=replayed)
    if budget:  # which was asked for, whatever else is not to be printed
        say(budgets.budgets_text(outcome, plain_table))
    if quiet:
        for r in outcome.rejected:
            complain(one_line(f"{r.outcome}: {r.label}: {r.reason}"))
    else:
        names = OUTPUTS if replayed else ("trace.h5", *OUTPUTS)
        names = (*names, SCREEN) if (out / SCREEN).is_file() else names
        say(closing_text(outcome, str(out), names, replayed=replayed))
    return 0 if outcome.whole else 1


def write_outputs(reader: TraceReader, outcome: Outcome, out: Path, *, replayed: bool = False) -> list[Path]:
    """Write results.csv, both pictures, budgets.json and report.html into a folder; returns their paths."""
    from experiments.report.page import of_run

    paths = [out / name for name in OUTPUTS]
    write_whole(paths[0], results_csv(outcome, replayed=replayed).encode())
    write_whole(paths[1], figures.png(figures.power_vs_batch(outcome)))
    write_whole(paths[2], figures.png(figures.energy_vs_batch(outcome)))
    write_whole(paths[4], budgets.budgets_json(outcome, replayed=replayed).encode())
    if screen := reader.blob("scope_screen"):
        paths.append(out / SCREEN)
        write_whole(paths[-1], screen)
    write_whole(paths[3], of_run(reader, outcome, replayed=replayed).encode())
    return paths


def write_whole(path: Path, data: bytes) -> None:
    """Write a file whole or not at all: a program that dies meanwhile leaves what was there before.

    Raises TraceError where it cannot be written, such as on a full disk.
    """
    partial = path.with_name(path.name + ".unfinished")
    try:
        partial.write_bytes(data)
        os.replace(partial, path)
    except OSError as error:
        with contextlib.suppress(OSError):
            partial.unlink(missing_ok=True)
        raise TraceError(
            f"{path}: cannot be written ({error.strerror}); python -m experiments.replay makes it anew from the trace "
            "file, with --out elsewhere"
        ) from error
