"""The transcript of a whole sweep is an instrument: the drivers do the same again over it, and nothing else."""

from __future__ import annotations

import dataclasses
import json
import os
import pickle
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from instruments import lab as lab_yaml
from instruments.bench import supply_limits
from instruments.e3645a import E3645A
from instruments.errors import ProtocolError
from instruments.link import ReplayLink
from instruments.mso_x2024a import MsoX2024A
from tests.sweeps import ROOT

from .recorded_drivers import plain

#: Nothing real runs at this bench: a whole sweep in seconds.
VIRTUAL = ROOT / "docs" / "benches" / "simulated-tx1.yaml"

Call = tuple[str, tuple[Any, ...], dict[str, Any], Any, Exception | None, list[float]]


@dataclasses.dataclass
class Recording:
    """A sweep's transcript, and what the program asked of each driver meanwhile."""

    transcript: Path
    calls: dict[str, list[Call]]


@pytest.fixture(scope="module")
def recording(tmp_path_factory: pytest.TempPathFactory) -> Recording:
    folder = tmp_path_factory.mktemp("sweep")
    lab, transcript = folder / "lab.yaml", folder / "transcript.jsonl"
    text = VIRTUAL.read_text()
    for old, driver in (("scope:\n", "RecordedScope"), ("supply:\n", "RecordedSupply")):
        assert text.count(f"\n{old}") == 1
        text = text.replace(f"\n{old}", f"\n{old}  driver: tests.instruments.recorded_drivers:{driver}\n")
    lab.write_text(text)
    command = ["--lab", lab, "--networks", "AlexNet,ENet", "--batches", "1,4", "--repeats", "1"]
    command += ["--out", folder / "run", "--transcript", transcript]
    done = subprocess.run(
        [sys.executable, "-m", "experiments.power_sweep", *map(str, command)],
        cwd=ROOT, capture_output=True, text=True, timeout=200,
        env={**os.environ, "RECORDED_CALLS": str(folder / "calls.")},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return Recording(transcript, {name: calls_of(folder / f"calls.{name}") for name in ("scope", "supply")})


def calls_of(path: Path) -> list[Call]:
    found = []
    with path.open("rb") as file:
        while file.peek(1):
            found.append(pickle.load(file))
    return found


def same(one: Any, other: Any) -> bool:
    """Equality of plain values that looks into arrays."""
    if isinstance(one, dict):
        return isinstance(other, dict) and one.keys() == other.keys() and all(same(one[k], other[k]) for k in one)
    if isinstance(one, list | tuple):
        return type(one) is type(other) and len(one) == len(other) and all(map(same, one, other))
    if isinstance(one, np.ndarray):
        return one.dtype == other.dtype and np.array_equal(one, other)
    return bool(one == other) or (one != one and other != other)


class Times:
    """A clock that reads what it read then."""

    def __init__(self) -> None:
        self.left: list[float] = []

    def __call__(self) -> float:
        return self.left.pop(0)


def replayed(name: str, link: ReplayLink, times: Times) -> Any:
    timing: dict[str, Callable[..., Any]] = {"clock": times, "sleep": lambda seconds: None}
    if name == "scope":
        return MsoX2024A(link, **timing)
    return E3645A(link, supply_limits(lab_yaml.load(VIRTUAL)), **timing)


@pytest.mark.parametrize("name", ["scope", "supply"])
def test_the_drivers_do_a_whole_sweep_again_over_its_transcript(recording: Recording, name: str) -> None:
    calls, times = recording.calls[name], Times()
    assert {"scope": 40, "supply": 20}[name] < len(calls)
    with ReplayLink(recording.transcript, name) as link:
        driver = replayed(name, link, times)
        for method, args, options, result, failure, read in calls:
            times.left = list(read)
            try:
                got, raised = getattr(driver, method)(*args, **options), None
            except Exception as error:
                got, raised = None, error
            assert (type(raised), str(raised)) == (type(failure), str(failure)), method
            assert same(plain(got), result), method
            assert not times.left, method
    assert link.origin == "simulated"


def test_the_transcript_holds_captures_and_the_adapters_lines(recording: Recording) -> None:
    header, *entries = [json.loads(line) for line in recording.transcript.read_text().splitlines()]
    assert header["origin"] == "simulated"
    assert {e["link"] for e in entries} == {"scope", "supply"}
    blocks = [e["block"] for e in entries if "block" in e]
    assert sum(block["bytes"] for block in blocks) > 5e5
    assert all(e["link"] == "supply" for e in entries if e.get("of") == "adapter")
    assert [e["text"] for e in entries if e.get("of") == "adapter"][-1] == "++loc"
    assert {"open", "out", "in", "call", "note"} >= {e["dir"] for e in entries if "of" not in e}


def test_another_order_is_named_by_its_line(recording: Recording) -> None:
    link = ReplayLink(recording.transcript, "supply")
    driver = replayed("supply", link, Times())
    driver.identity()
    with pytest.raises(ProtocolError, match=r"supply .*sent b'OUTPut\?', but line \d+ of the transcript is out"):
        driver.output_is_on()
