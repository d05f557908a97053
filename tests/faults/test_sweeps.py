"""What a fault at the bench does to a sweep: the cell is rejected with the reason or tried again; the file opens."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from experiments.traces import TraceReader
from instruments.simulated.faults import EdgeFault, EdgeFaults, Fault
from instruments.simulated.mso_record import FrontEnd
from instruments.simulated.world import BATCH, GATE
from tests.sweeps import QUICK, rows, run

from .benches import faulty_bench


@dataclass
class Case:
    """A fault, and what becomes of a sweep of one cell."""

    code: int
    said: str
    changes: tuple[tuple[str, str], ...] = ()
    edges: tuple[EdgeFault, ...] = ()
    scope: dict[str, Any] = field(default_factory=dict)
    faults: dict[str, Fault] = field(default_factory=dict)


CASES = {
    "the supply in constant current": Case(
        1, r"the supply .* raise current_limit_a", changes=(("current_limit_a: 2.0", "current_limit_a: 0.6"),)
    ),
    "clipped": Case(1, "samples of the current are clipped", changes=(("high_a: 1.4", "high_a: 0.6"),)),
    "a bouncing gate": Case(
        1, r"the gate has \d+ edges where 2 were expected", edges=(EdgeFault("bounce", GATE, skip=2, times=0),)
    ),
    "batch edges that are not seen": Case(
        1, r"missing batch edges: the record shows \d+", edges=(EdgeFault("lose", BATCH, skip=100, times=0),)
    ),
    "holes": Case(3, "samples of the current are holes", scope={"front": FrontEnd(hole_fraction=0.01)}),
    "the scope's connection reset in a block": Case(
        0, "tried again, since scope .*the link is broken", faults={"scope": Fault("reset", "DATA", skip=9, at_byte=50)}
    ),
    "the adapter's connection reset": Case(
        0, "tried again, since supply .*the link is broken", faults={"supply": Fault("reset", "MEAS.*CURR")}
    ),
}
ONE_THREAD = ("threads: 0", "threads: 1")


@dataclass
class Outcome:
    """What is left of a sweep."""

    done: subprocess.CompletedProcess[str]
    out: Path
    output_was_on: bool


def sweep(case: Case, folder: Path) -> Outcome:
    """One sweep of one cell at a bench with this fault."""
    edges = EdgeFaults(case.edges, seed=3)
    with faulty_bench(folder, ONE_THREAD, *case.changes, edge_filter=edges, scope=case.scope, timeout_s=2.0) as hurt:
        for instrument, fault in case.faults.items():
            hurt.hurt(instrument, fault)
        done = run("experiments.power_sweep", "--lab", hurt.lab_path, *QUICK, "--out", folder / "run")
        return Outcome(done, folder / "run", hurt.output_is_on)


@pytest.fixture(scope="module")
def outcomes(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Future[Outcome]]]:
    """All sweeps, a few at a time: each waits most of its time."""
    with ThreadPoolExecutor(4) as pool:
        yield {name: pool.submit(sweep, case, tmp_path_factory.mktemp("sweep")) for name, case in CASES.items()}


@pytest.mark.parametrize("name", CASES)
def test_a_sweep_at_a_bench_with_a_fault(outcomes: dict[str, Future[Outcome]], name: str) -> None:
    case, outcome = CASES[name], outcomes[name].result()
    done = outcome.done
    assert done.returncode == case.code, done.stderr
    assert "Traceback" not in done.stderr
    assert re.search(case.said, done.stderr, re.DOTALL), done.stderr
    assert not outcome.output_was_on
    with TraceReader(outcome.out / "trace.h5") as reader:
        (cell,) = reader.cells()
        captures = reader.captures()
        data = list(reader.data())
    assert captures[0]["kind"] == "zero"
    if case.code == 3:
        assert cell["state"] == "planned"
        assert re.search(case.said, captures[0]["reason"])
        return
    assert cell["state"] == ("committed" if case.code == 0 else "rejected")
    assert re.search(case.said, cell["reason"]) or case.code == 0
    assert rows(outcome.out / "results.csv")[0]["repeats"] == ("1" if case.code == 0 else "0")
    assert all(d.capture.points > 0 for d in data)
