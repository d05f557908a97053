"""One file of a replay: how it is opened, what is written, and what is told of it. Runs in worker processes too."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from calibration.records import load
from experiments.calibrations import refuse_unfit
from experiments.outcome import Outcome, results_csv
from experiments.reduction import NO_ZERO, reduce_run
from experiments.traces import TraceReader, check_writable
from experiments.traces.agreement import require_agreement
from experiments.window_choice import WindowChoice
from instruments.errors import BenchError, ConfigError
from instruments.plain_text import one_line
from instruments.whole_file import write_whole
from instruments.wording import counted


@dataclass(frozen=True)
class Options:
    """What a replay changes: calibration records in the place of the run's own, other windows; how much it writes."""

    calibration: tuple[Path, ...] = ()
    require_calibration: bool = False
    windows: WindowChoice = field(default_factory=WindowChoice)
    results_only: bool = False


@dataclass(frozen=True)
class Job:
    """One of several files, and its folder."""

    number: int
    path: Path
    out: Path


@dataclass(frozen=True)
class Done:
    """What became of a job: its results.csv, "" without one, and a line about it; `code` as a program's exit code.

    `reasons` are notes and cells without a result, a line each, where some rows have none.
    """

    number: int
    path: Path
    code: int
    csv: str
    said: str
    reasons: tuple[str, ...] = ()


@contextlib.contextmanager
def opened(path: Path, out: Path, options: Options) -> Iterator[TraceReader]:
    """Open a trace as the options say, and see that its outputs can be written to a folder. Raises BenchError."""
    with TraceReader(path) as reader:
        require_agreement(reader)
        check_writable(out)
        if os.path.exists(out / "trace.h5"):
            raise ConfigError(f"{out} holds a run of its own: name another folder with --out")
        if options.calibration:
            reader.calibrations = [load(record) for record in options.calibration]
        if options.require_calibration:
            refuse_unfit(reader)
            reader.calibration_required = True
        reader.windows = options.windows.of(reader)
        yield reader


def replay_batch(jobs: Sequence[Job], options: Options) -> list[Done]:
    """Replay several files one after another; none that fails keeps the others from their results."""
    return [replay(job, options) for job in jobs]


def replay(job: Job, options: Options) -> Done:
    """Replay one file into its folder; whatever is wrong with it is told, not raised."""
    try:
        with opened(job.path, job.out, options) as reader:
            outcome = reduce_run(reader)
            text = results_csv(outcome, replayed=True)
            if options.results_only:
                write_whole(job.out / "results.csv", text.encode(), "name another folder with --out")
            else:
                from experiments.report import write_outputs  # matplotlib takes a while to import

                write_outputs(reader, outcome, job.out, replayed=True)
    except BenchError as error:
        return Done(job.number, job.path, error.exit_code, "", _on_one_line(error))
    except OSError as error:
        return Done(job.number, job.path, 3, "", f"{job.path}: {error.strerror or error}")
    except Exception as error:  # a fault of ours must not cost the other files either
        return Done(job.number, job.path, 3, "", f"{job.path}: {type(error).__name__}: {str(error)[:200]}")
    rows = sum(row is not None for row in outcome.rows)
    said = f"{job.path}: {rows} of {counted(len(outcome.rows), 'row')} with a result"
    if outcome.rejected:
        said += f"; {outcome.rejected[0].label}: {outcome.rejected[0].reason}"
        said += f" (and {len(outcome.rejected) - 1} more)" if len(outcome.rejected) > 1 else ""
    elif NO_ZERO in outcome.notes:
        said += f"; {NO_ZERO}"
    if outcome.missing:
        said += f"; the sweep ended early: {outcome.missing} of {counted(len(outcome.plan.cells), 'cell')} open"
    return Done(job.number, job.path, 0 if outcome.whole else 1, text, one_line(said), _reasons(outcome))


def _reasons(outcome: Outcome) -> tuple[str, ...]:
    """What a replay with its report says of rows without a result; nothing where all have one."""
    from experiments.report.text import without_result

    if all(row is not None for row in outcome.rows):
        return ()
    notes = [note for note in outcome.notes if note != NO_ZERO]  # which the line itself says
    return tuple([f"note: {one_line(note)}" for note in notes] + without_result(outcome))


def _on_one_line(error: BenchError) -> str:
    return one_line("; ".join(str(error).splitlines()))
