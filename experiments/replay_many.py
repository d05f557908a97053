"""Many trace files at once: which, into which folders, in which processes; their results in one table.

Results come as they are ready and are written in the order of the files, so that nothing but what waits for an
earlier file is held.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path

from experiments.command import complain, say
from experiments.outcome import COLUMNS, TRUTH_COLUMN
from experiments.progress import shown
from experiments.replay_jobs import Done, Job, Options
from experiments.traces import check_writable
from instruments.errors import BenchError, ConfigError
from instruments.plain_text import table_cell
from instruments.wording import counted

TABLE = "results.csv"
Batches = Sequence[Sequence[Job]]
Run = Callable[[Batches, Options], Iterator[list[Done]]]


class WorkersLostError(BenchError):
    """Nobody is left who replays; what came until then is kept."""


def find_files(named: Iterable[Path]) -> list[tuple[Path, Path]]:
    """Give every trace file, those of folders recursively, with the name of its folder of results.

    Raises ConfigError where a folder holds none, or a file is named twice.
    """
    found: dict[Path, Path] = {}
    seen: set[Path] = set()
    for path in named:
        files = sorted(p for p in path.rglob("*.h5") if p.is_file()) if path.is_dir() else [path]
        if not files:
            raise ConfigError(f"{path}: holds no .h5 file")
        for file in files:
            whole = file.resolve()
            if whole in seen:
                raise ConfigError(f"{file} is named twice")
            seen.add(whole)
            found[file] = _folder(file.relative_to(path) if path.is_dir() else Path(file.name), file)
    return _distinct(found)


def _folder(inside: Path, file: Path) -> Path:
    """A run's own trace.h5 is called as its folder, any other file by its own name."""
    if inside.stem != "trace":
        return inside.with_suffix("")
    return inside.parent if inside.parent.name else Path(file.resolve().parent.name or "trace")


def _distinct(found: dict[Path, Path]) -> list[tuple[Path, Path]]:
    taken: set[Path] = set()
    distinct = []
    for file, folder in found.items():
        name, number = folder, 2
        while name in taken:
            name, number = folder.with_name(f"{folder.name}-{number}"), number + 1
        taken.add(name)
        distinct.append((file, name))
    return distinct


def batches_of(jobs: Sequence[Job], workers: int, results_only: bool) -> list[Sequence[Job]]:
    """Cut the jobs into batches: large enough that handing them out costs little, small enough to share evenly."""
    most = 50 if results_only else 4
    size = max(1, min(most, len(jobs) // (8 * workers)))
    return [jobs[at : at + size] for at in range(0, len(jobs), size)]


def replay_many(
    files: Sequence[tuple[Path, Path]], out: Path, options: Options, workers: int, run: Run, *, quiet: bool
) -> int:
    """Replay every file into its folder below `out`, and write the table of all; gives the exit code."""
    check_writable(out)
    jobs = [Job(number, path, out / folder) for number, (path, folder) in enumerate(files)]
    came = bad = incomplete = 0
    with (out / TABLE).open("w", encoding="utf-8", newline="") as file, shown(len(jobs), quiet=quiet) as progress:
        table = Table(file)
        progress.cell_begins("replaying")
        try:
            for batch in run(batches_of(jobs, workers, options.results_only), options):
                for done in batch:
                    table.add(done)
                    came += 1
                    bad += done.code > 1
                    incomplete += done.code == 1
                    line = f"error: {done.said}" if done.code > 1 else done.said
                    if quiet and done.code:
                        complain(line)
                    progress.cell_done(line)
        except WorkersLostError as error:
            complain(f"error: {error}: {len(jobs) - came} of {counted(len(jobs), 'file')} are not replayed")
        finally:
            table.finish()
    whole = came - bad - incomplete
    bad += len(jobs) - came
    all_files = counted(len(jobs), "file")
    text = f"{all_files}: {whole} whole, {incomplete} with results missing, {bad} not replayed"
    say(f"{text}\nwritten to {out}: {TABLE} of all, and a folder for each file")
    return 1 if bad or incomplete else 0


class Table:
    """The rows of all results.csv, each with its file in front, in the order of the files."""

    def __init__(self, file: io.TextIOBase) -> None:
        self._file, self._writer = file, csv.writer(file, lineterminator="\n")
        self._writer.writerow(("file", *COLUMNS, TRUTH_COLUMN))
        self._waiting: dict[int, Done] = {}
        self._next = 0

    def add(self, done: Done) -> None:
        """Take one result; write it and those that waited for it."""
        self._waiting[done.number] = done
        while (ready := self._waiting.pop(self._next, None)) is not None:
            self._write(ready)
            self._next += 1
        self._file.flush()

    def finish(self) -> None:
        """Write what waits for files that will not come: the user has interrupted."""
        for number in sorted(self._waiting):
            self._write(self._waiting[number])

    def _write(self, done: Done) -> None:
        for row in csv.DictReader(io.StringIO(done.csv)):
            self._writer.writerow(
                (table_cell(str(done.path)), *(row.get(name, "") for name in (*COLUMNS, TRUTH_COLUMN)))
            )
