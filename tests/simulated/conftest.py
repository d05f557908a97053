"""Machines on a stand-in world, served on loopback with real time."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
import pyvisa

from instruments.simulated.e3645a import SimulatedE3645A
from instruments.simulated.mso_x2024a import SimulatedMsoX2024A
from instruments.simulated.servers import Served
from tests.simulated.standin import StandIn


@pytest.fixture
def world() -> StandIn:
    return StandIn()


@pytest.fixture
def scope(world: StandIn) -> SimulatedMsoX2024A:
    machine = SimulatedMsoX2024A(world, seed=3)
    machine.feed(b":STOP\n*CLS\n")
    return machine


@pytest.fixture
def supply(world: StandIn) -> SimulatedE3645A:
    machine = SimulatedE3645A(world, seed=5)
    machine.feed(b"*CLS\n")
    return machine


@pytest.fixture
def started() -> Iterator[Callable[[Any], Any]]:
    """Start a server; it is stopped at the end."""
    running: list[Any] = []

    def start(server: Any) -> Any:
        server.start()
        running.append(server)
        return server

    yield start
    for server in reversed(running):
        server.stop()


@pytest.fixture
def visa() -> Iterator[Callable[..., Any]]:
    """Open a VISA resource with pyvisa-py; closed at the end, latest first."""
    manager = pyvisa.ResourceManager("@py")
    opened: list[Any] = []

    def open_one(name: str, **options: Any) -> Any:
        resource = manager.open_resource(name, **options)
        opened.append(resource)
        return resource

    yield open_one
    for resource in reversed(opened):
        resource.close()
    manager.close()


@pytest.fixture
def served_scope(scope: SimulatedMsoX2024A) -> Served:
    return Served(scope)


@pytest.fixture
def served_supply(supply: SimulatedE3645A) -> Served:
    return Served(supply)
