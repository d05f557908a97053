"""Reducing a file takes no more memory for many captures than for few, and gives back all that it set aside."""

from __future__ import annotations

import gc
import tempfile
import tracemalloc
from dataclasses import fields, replace
from pathlib import Path

import numpy as np
import pytest

from benchmarks.trace_reading import Sample, every, opened, unlike
from experiments import set_aside
from experiments.journal import CaptureRow
from experiments.plan import make_plan
from experiments.reduction import reduce_run
from experiments.set_aside import Aside, SetAside
from experiments.shape import Settling
from experiments.traces import TraceReader, TraceWriter, host_log, reader
from instruments.errors import OutputError

GOLDEN = Path("tests/golden/schema-1.h5")
CELL, NTH, GATE_BIT, REPEATS = 2, 5, 0, 80

PER_CAPTURE = 2000
"""Bytes, of which the tables of the file and its plan take more than half."""


@pytest.fixture(scope="module")
def sample() -> Sample:
    """A cell of the golden file with every fifth of its samples, and a long log."""
    with TraceReader(GOLDEN) as golden:
        known = {field.name for field in fields(CaptureRow)}
        row = CaptureRow(**{name: value for name, value in golden.captures()[CELL].items() if name in known})
        facts = {name: golden.long_text(name, CELL) for name in ("ready_facts", "device_facts")}
        row = replace(row, **facts, batch_end_ns=golden.host_log()[CELL].tolist())
        return every(Sample(golden.capture(CELL), row), NTH, GATE_BIT)


def written(path: Path, sample: Sample, captures: int) -> Path:
    """A file of so many captures, eighty of each network."""
    plan = make_plan([f"net{k}" for k in range(captures // REPEATS)], [sample.row.batch], REPEATS, 2.0, 1)
    with TraceReader(GOLDEN) as golden:
        texts = {"lab_yaml": golden.text("lab_yaml")}
    names = {role: role for role in sample.capture.records}
    with TraceWriter.create(path, plan, source="simulated", texts=texts, points=sample.capture.points) as writer:
        for k, cell in enumerate(plan.cells):
            row = replace(sample.row, cell=k, network=cell.network, repeat=cell.repeat, host_s=4.0 * k)
            index = writer.add(row, unlike(sample.capture, k), names)
            writer.settle(index, at_s=row.host_s + 3.0)
            writer.cell(k, "committed", capture=index, at_s=row.host_s + 3.0)
    return path


def taken(path: Path) -> tuple[int, int]:
    """Bytes that reducing a file takes at most, and those of them that its results keep."""
    with opened(path) as file:
        tracemalloc.start()
        try:
            outcome = reduce_run(file)
            gc.collect()
            kept, most = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
    assert all(outcome.rows)
    assert not outcome.rejected
    return most, kept


def test_memory_does_not_grow_with_the_captures(
    sample: Sample, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for module, name, most in ((set_aside, "HELD", 4096), (reader, "ROWS_AT_ONCE", 16), (host_log, "ROWS_AT_ONCE", 64)):
        monkeypatch.setattr(module, name, most)  # what is held until then would count as growth
    few, many = (written(tmp_path / f"{n}.h5", sample, n) for n in (80, 240))
    taken(few)  # what is made once
    for less, more in zip(taken(few), taken(many), strict=True):
        assert more - less < PER_CAPTURE * (240 - 80)


@pytest.mark.parametrize("held", [0, 1 << 10, 1 << 20])
def test_what_was_set_aside_comes_back(held: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(set_aside, "HELD", held)
    rng, aside = np.random.default_rng(1), SetAside()
    things = [(k, "x" * k, rng.normal(size=(k % 5, 3)), Settling(float(k), 0.0, 1.0)) for k in range(300)]
    numbers = [aside.put(thing) for thing in things]
    for found, thing in zip(map(aside.get, reversed(numbers)), reversed(things), strict=True):
        assert (*found[:2], found[3]) == (*thing[:2], thing[3])
        np.testing.assert_array_equal(found[2], thing[2])
    some = Aside[tuple[object, ...]](aside, numbers[7:9])
    assert [one[0] for one in some] == [7, 8]
    assert some[-1][0] == 8
    assert len(some) == 2


def test_no_room_for_what_is_set_aside_is_told(sample: Sample, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(set_aside, "HELD", 1 << 12)
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "nowhere"))
    with opened(written(tmp_path / "t.h5", sample, 80)) as file, pytest.raises(OutputError, match="TMPDIR"):
        reduce_run(file)
