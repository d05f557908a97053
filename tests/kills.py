"""`python -m tests.kills PLACE N OPTION...`: a power sweep that is killed the N-th time it comes to a named place.

Killed by itself, with SIGKILL, at that very line of the program and whatever the load of the machine: no cleaning up,
no flush, as if somebody had pulled the plug of the computer.
"""

from __future__ import annotations

import functools
import importlib
import os
import signal
import sys
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Place:
    """A call (module:object.method) before or after which the program dies; `counts` tells which calls do."""

    target: str
    after: bool = False
    counts: Callable[..., bool] = lambda *_args, **_options: True


WRITER = "experiments.traces.writer:TraceWriter"


def _journal(state: str, *, after: bool) -> Place:
    return Place(f"{WRITER}.cell", after, lambda _writer, _position, now, *_args, **_options: now == state)


def _of_cell(_writer: Any, row: Any, *_args: Any) -> bool:
    return bool(row.kind == "cell")


PLACES = {
    "plan being laid out": Place("experiments.traces.layout:lay_out", after=True),
    "plan written": Place(f"{WRITER}.create", after=True),
    "opening the instruments": Place("instruments.bench:open_bench"),
    "zero stored, not committed": Place(f"{WRITER}.settle"),
    "output on": Place("experiments.station:Station.switch_on", after=True),
    "preparing a network": Place("instruments.dut:Dut.prepare"),
    "prepared": _journal("prepared", after=True),
    "arming": Place("instruments.mso_x2024a.driver:MsoX2024A.arm"),
    "armed": _journal("armed", after=True),
    "running": _journal("running", after=True),
    "forced": Place("instruments.mso_x2024a.driver:MsoX2024A.force_trigger", after=True),
    "fetching": Place("instruments.mso_x2024a.driver:MsoX2024A.fetch"),
    "fetched": _journal("fetched", after=True),
    "codes being compressed": Place(f"{WRITER}._summarise"),
    "stored, not committed": Place(f"{WRITER}.add", after=True, counts=_of_cell),
    "committed, not in the journal": _journal("committed", after=False),
    "committed": _journal("committed", after=True),
    "every cell visited, not marked": Place(f"{WRITER}.complete"),
    "marked complete": Place(f"{WRITER}.complete", after=True),
    "sealing": Place("experiments.traces.seal:put_on"),
    "reducing": Place("experiments.report.outputs:reduce_run"),
    "results being written": Place("instruments.whole_file:os.replace"),
    "report": Place("experiments.report.page:of_run"),
    "outputs written": Place("experiments.report.outputs:write_outputs", after=True),
}


def die() -> None:
    """End this process as a loss of power does."""
    os.kill(os.getpid(), signal.SIGKILL)


def act_at(place: Place, number: int, deed: Callable[[], None] = die) -> None:
    """Arrange that a deed is done at the `number`-th call that counts."""
    module, _, path = place.target.partition(":")
    owner = importlib.import_module(module)
    *names, last = path.split(".")
    for name in names:
        owner = getattr(owner, name)
    function = getattr(owner, last)
    found = 0

    @functools.wraps(function)
    def watched(*args: Any, **options: Any) -> Any:
        nonlocal found
        counted = place.counts(*args, **options)
        found += counted
        here = counted and found == number
        if here and not place.after:
            deed()
        given = function(*args, **options)
        if here and place.after:
            deed()
        return given

    setattr(owner, last, watched)


if __name__ == "__main__":
    act_at(PLACES[sys.argv[1]], int(sys.argv[2]))
    from experiments.power_sweep import main

    sys.exit(main(sys.argv[3:]))
