"""How a sweep shows that it lives: a bar on a terminal, plain lines elsewhere, nothing when quiet."""

from __future__ import annotations

import contextlib
import sys
import time
from collections.abc import Callable, Iterator
from typing import Any

from instruments.plain_text import one_line, visible
from instruments.wording import duration_text


class Progress:
    """Shows what happens on standard error."""

    def __init__(
        self,
        total: int,
        bar: Any = None,
        task: Any = None,
        *,
        quiet: bool = False,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._total, self._bar, self._task, self._quiet, self._clock = total, bar, task, quiet, clock
        self._done, self._began_s = 0, clock()

    def say(self, text: str) -> None:
        """Show a line, unless quiet."""
        if not self._quiet:
            self._show(text)

    def warn(self, text: str) -> None:
        """Show a warning, also when quiet."""
        self._show(f"warning: {text}")

    def _show(self, text: str) -> None:
        text = visible(text)
        # Nobody reading must never stop a measurement.
        with contextlib.suppress(OSError):
            if self._bar is not None:
                self._bar.console.print(text, highlight=False, markup=False, soft_wrap=True)
            else:
                print(text, file=sys.stderr, flush=True)

    def ask(self, text: str) -> bool:
        """Show a question and wait for Enter on standard input; False where the input has ended."""
        if self._bar is not None:
            self._bar.stop()
        try:
            print(text, end="", file=sys.stderr, flush=True)
            return sys.stdin.readline() != ""
        except (OSError, ValueError):
            return False
        finally:
            if self._bar is not None:
                self._bar.start()

    def step(self, text: str) -> None:
        """Show a step of the sequence; a bar shows it beside itself, plain output as a line."""
        if self._bar is not None:
            self._bar.update(self._task, description=one_line(text))
        else:
            self.say(text)

    def cell_begins(self, text: str) -> None:
        """Show which cell is being measured, where there is a bar to show it."""
        if not self._done:
            self._began_s = self._clock()  # what goes before the first cell comes once
        if self._bar is not None:
            self._bar.update(self._task, description=one_line(text))

    def cell_done(self, text: str) -> None:
        """Count one cell and show its line."""
        self._done += 1
        if self._bar is not None:
            self._bar.advance(self._task)
        left_s = (self._clock() - self._began_s) / self._done * (self._total - self._done)
        left = "" if self._bar is not None or self._done == self._total else f"  ({duration_text(left_s)} left)"
        self.say(f"[{self._done:>{len(str(self._total))}}/{self._total}] {text}{left}")


def _is_terminal() -> bool:
    try:
        return sys.stderr.isatty()
    except (AttributeError, ValueError):
        return False


@contextlib.contextmanager
def at_work(*, quiet: bool = False, lines: bool = False) -> Iterator[Callable[[str], None]]:
    """Show on a terminal what a program does that prints nothing meanwhile; gives what says so.

    With `lines` it is said elsewhere too, line by line.
    """
    if quiet or not _is_terminal():
        yield Progress(0, quiet=quiet or not lines).say
        return
    from rich.console import Console
    from rich.progress import Progress as Bar
    from rich.progress import SpinnerColumn, TextColumn, TimeElapsedColumn

    columns = (SpinnerColumn(), TextColumn("{task.description}", markup=False), TimeElapsedColumn())
    # Standard output stays what it is: it may go elsewhere.
    with Bar(
        *columns, console=Console(stderr=True), transient=True, redirect_stdout=False, redirect_stderr=False
    ) as bar:
        task = bar.add_task("starting", total=None)
        yield lambda text: bar.update(task, description=one_line(text))


@contextlib.contextmanager
def shown(total: int, *, quiet: bool = False) -> Iterator[Progress]:
    """Give a Progress that suits where standard error goes."""
    if quiet or not _is_terminal():
        yield Progress(total, quiet=quiet)
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn
    from rich.progress import Progress as Bar

    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Bar(*columns, console=Console(stderr=True), transient=True) as bar:
        yield Progress(total, bar, bar.add_task("starting", total=total))
