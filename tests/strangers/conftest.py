"""A simulated bench in this process, and programs of other people in processes of their own."""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NoReturn

import pytest

from instruments import lab as lab_yaml
from instruments.simulated.station import Station
from tests.sweeps import lab_file

CLIENTS = Path(__file__).parent / "clients"
QUIET = ("simulation:\n", "simulation:\n  scope: {memory_points: 100000}\n  world: {ripple_relative: 0.0}\n")
"""One point in memory per point asked for, and a load whose mean does not depend on when it is measured."""

Client = Callable[..., Any]


def needs(package: str) -> None:
    """Skip without a package; where tests run for everybody it must be there."""
    if importlib.util.find_spec(package) is None:
        cannot(f"{package} is not installed: pip install -e '.[dev]'")


def cannot(reason: str) -> NoReturn:
    """Skip with a reason; where tests run for everybody that is a failure."""
    if os.environ.get("CI", "").lower() in ("1", "true"):
        pytest.fail(reason)
    pytest.skip(reason)


@pytest.fixture
def station(tmp_path: Path) -> Iterator[Station]:
    """The simulated bench on free ports."""
    with Station(lab_yaml.load(lab_file(tmp_path, QUIET)), seed=5) as station:
        yield station


@pytest.fixture
def client() -> Client:
    """Run a script of `clients` with its arguments; gives what its last line of output says in JSON."""

    def run(name: str, *args: str | Path) -> Any:
        environment = {**os.environ, "PYVISA_LIBRARY": "@py", "MPLBACKEND": "Agg", "PYTHONWARNINGS": "ignore"}
        done = subprocess.run(
            [sys.executable, str(CLIENTS / f"{name}.py"), *map(str, args)],
            capture_output=True,
            text=True,
            timeout=200,
            env=environment,
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return json.loads(done.stdout.splitlines()[-1])

    return run
