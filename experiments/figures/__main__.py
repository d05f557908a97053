"""Draw the paper's ten figures and six more from one or several runs."""

from __future__ import annotations

import argparse
import contextlib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from experiments.command import complain, leave, run, say
from instruments.plain_text import one_line

if TYPE_CHECKING:
    from experiments.figures.catalogue import Drawn, Figure
    from experiments.figures.rows import Run


def parser() -> argparse.ArgumentParser:
    """Describe the command line."""
    p = argparse.ArgumentParser(
        prog="python -m experiments.figures",
        description="Draw the paper's ten figures and six more as PNG and PDF, with the data behind each as CSV.",
        epilog="exit codes: 0 good, 1 a figure that was asked for cannot be drawn of these runs, 2 usage, "
        "3 unreadable file, 130 interrupted; docs/figures.md describes the figures",
    )
    p.add_argument(
        "runs", nargs="*", type=Path, metavar="RUN", help="folder of a run, or a trace file; several: side by side"
    )
    p.add_argument("--cited", action="store_true", help="draw 1, 2 and 10 as the paper has them, without any run")
    p.add_argument(
        "--out", type=Path, metavar="DIR", help="where to write (default: figures/ in the first run's folder)"
    )
    p.add_argument("--only", metavar="LIST", help="numbers or names of figures with commas between")
    p.add_argument("--memory", metavar="KIND", help="kind of memory in figures 5 and 6 (default: that of results.csv)")
    p.add_argument("--cell", metavar="NETWORK:BATCH", help="whose batches figure 14 shows (default: about 50 a record)")
    p.add_argument("--quiet", action="store_true", help="show no progress: only results, warnings and errors")
    return p


def main(argv: list[str] | None = None) -> int:
    """Draw; returns the exit code."""
    args = parser().parse_args(argv)
    return run(lambda: _draw(args))


def _draw(args: argparse.Namespace) -> int:
    from experiments.figures.catalogue import Options, choose
    from experiments.figures.rows import NothingToDrawError
    from experiments.progress import at_work
    from experiments.traces import check_writable

    options = Options(_kind(args.memory), _cell(args.cell))
    figures = _cited_only(choose(args.only), args)
    with contextlib.ExitStack() as stack:
        with at_work(quiet=args.quiet) as show:
            runs = open_runs(args.runs, stack, show)
        out: Path = args.out or (_folder(args.runs[0]) / "figures" if args.runs else Path("figures"))
        check_writable(out)
        wanting = []
        for figure in figures:
            try:
                with at_work(quiet=args.quiet) as show:
                    show(f"drawing figure {figure.number}, {figure.title}")
                    names = write(out, figure, figure.draw(runs, options))
            except NothingToDrawError as error:
                wanting.append(one_line(f"figure {figure.number}, {figure.title}: not drawn: {error}"))
                continue
            endings = ", ".join(name.removeprefix(figure.file) for name in names)
            say(f"figure {figure.number}, {figure.title}: {out / figure.file}: {endings}")
    if args.only is not None or len(wanting) == len(figures):
        for line in wanting:
            complain(line)
        return 1 if wanting else 0
    for line in wanting:
        say(line)
    return 0


def write(out: Path, figure: Figure, drawn: Drawn) -> list[str]:
    """Write a figure as PNG and PDF, and its tables as CSV, into a folder; returns the names of the files.

    Raises TraceError where the folder cannot be written.
    """
    from instruments.errors import TraceError

    files = {f"{figure.file}.png": drawn.png(), f"{figure.file}.pdf": drawn.pdf()}
    for end, table in drawn.tables.items():
        files[f"{figure.file}{'_' + end if end else ''}.csv"] = table.csv().encode("utf-8")
    for name, data in files.items():
        try:
            (out / name).write_bytes(data)
        except OSError as error:
            raise TraceError(
                f"{out / name}: cannot be written ({error.strerror}); name another folder with --out"
            ) from error
    return list(files)


def _kind(asked: str | None) -> str | None:
    from experiments.device import MEMORY_KINDS
    from instruments.errors import ConfigError

    if asked is not None and asked not in MEMORY_KINDS:
        raise ConfigError(f"--memory: {asked!r} is no kind of memory; there are {', '.join(MEMORY_KINDS)}")
    return asked


def _cell(asked: str | None) -> tuple[str, int] | None:
    from instruments.errors import ConfigError

    if asked is None:
        return None
    network, _, batch = asked.rpartition(":")
    if not network or not batch.isascii() or not batch.isdigit():
        raise ConfigError(f"--cell: {asked!r} is not NETWORK:BATCH, such as ResNet-50:4")
    return network, int(batch)


def _cited_only(figures: list[Figure], args: argparse.Namespace) -> list[Figure]:
    """The figures to draw: of no run those that need none. Raises ConfigError where the options contradict this."""
    from instruments.errors import ConfigError

    if args.cited and args.runs:
        raise ConfigError("--cited draws the paper's own values: name no run with it, or leave it out")
    if args.runs:
        return figures
    if not args.cited:
        raise ConfigError("name the folder of a run or a trace file, or give --cited for the paper's own values")
    needing = [str(figure.number) for figure in figures if not figure.cited]
    if args.only is not None and needing:
        raise ConfigError(f"--cited: figure {', '.join(needing)} shows what is measured: name a run")
    return [figure for figure in figures if figure.cited]


def _folder(path: Path) -> Path:
    return path if path.is_dir() else path.parent


def open_runs(
    paths: Sequence[Path], stack: contextlib.ExitStack, show: Callable[[str], None] = lambda _: None
) -> list[Run]:
    """Open and reduce every run, and `show` which.

    Raises ConfigError for a folder without a run, TraceError for a damaged file.
    """
    from experiments.figures.rows import Run
    from experiments.reduction import reduce_run
    from experiments.traces import TraceReader
    from experiments.traces.agreement import require_agreement
    from instruments.errors import ConfigError

    files = [path / "trace.h5" if path.is_dir() else path for path in paths]
    for path, file in zip(paths, files, strict=True):
        if path.is_dir() and not file.is_file():
            raise ConfigError(f"{path}: holds no trace.h5: name the folder of a run, or a trace file")
    resolved = [file.resolve() for file in files]
    if len(set(resolved)) < len(resolved):
        raise ConfigError("a run is named twice: name each once")
    runs = []
    for file, label in zip(files, labels(resolved), strict=True):
        reader = stack.enter_context(TraceReader(file))
        show(f"reducing {file}")
        require_agreement(reader)
        runs.append(Run(reader, reduce_run(reader), label))
    return runs


def labels(files: Sequence[Path]) -> list[str]:
    """Name runs by their folders, or files where these are not called trace.h5, as much of them as tells them apart."""
    parts = [(*f.parent.parts, f.stem) if f.name != "trace.h5" else f.parent.parts for f in files]
    for depth in range(1, max(map(len, parts), default=0) + 1):
        found = ["/".join(p[-depth:]) for p in parts]
        if len(set(found)) == len(found):
            return found
    return [str(f) for f in files]


if __name__ == "__main__":
    leave(main())
