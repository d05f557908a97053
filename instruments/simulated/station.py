"""A whole simulated bench of a lab.yaml: one world, its instruments, and the servers in front of them.

    station = Station(lab, state_dir=folder)
    station.start()
    station.addresses   # {"scope": {"socket": [...], ...}, "supply": {...}}
    station.stop()

Hold `station.changed` while touching `world`, `scope` or `supply` from outside: servers use it too.
"""

from __future__ import annotations

import contextlib
import logging
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

from instruments.lab import Lab, SimulationFacts
from instruments.marker_ring import RingOverrunError, RingReader, create_ring
from instruments.simulated.e3645a import SimulatedE3645A
from instruments.simulated.hislip import HislipServer
from instruments.simulated.mso_x2024a import SimulatedMsoX2024A
from instruments.simulated.prologix import Prologix
from instruments.simulated.servers import SerialServer, Served, StreamServer
from instruments.simulated.truth import TruthServer
from instruments.simulated.vxi11 import Vxi11Server
from instruments.simulated.world import TrueWindow, World

log = logging.getLogger(__name__)

RING_NAME = "markers.ring"
GPIB_ADDRESS = 5


EdgeFilter = Callable[[Sequence[tuple[int, int]]], Sequence[tuple[int, int]]]


class Server(Protocol):
    """Anything that serves until it is stopped."""

    def start(self) -> None: ...

    def stop(self) -> None: ...


class Heartbeat:
    """Takes marker edges in while no client talks, so that the ring never overflows."""

    def __init__(self, changed: threading.Condition, world: World, clock: Callable[[], float], every_s: float) -> None:
        self._changed, self._world, self._clock, self._every_s = changed, world, clock, every_s
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._beat, name="heartbeat", daemon=True)

    def _beat(self) -> None:
        while not self._ended.wait(self._every_s):
            with self._changed:
                self._world.advance(self._clock())

    def start(self) -> None:
        """Begin."""
        self._thread.start()

    def stop(self) -> None:
        """End."""
        self._ended.set()
        if self._thread.is_alive():
            self._thread.join()


class Station:
    """Builds and serves the bench; `state_dir` gets the ring of marker edges and the truth socket.

    `scope_options` and `supply_options` are keyword arguments of the simulated instruments; `edge_filter`
    stands between the marker lines and the world (see `faults.EdgeFaults`).
    """

    def __init__(
        self,
        lab: Lab,
        *,
        state_dir: Path | None = None,
        seed: int | None = None,
        clock: Callable[[], float] = time.monotonic,
        scope_options: Mapping[str, Any] | None = None,
        supply_options: Mapping[str, Any] | None = None,
        edge_filter: EdgeFilter | None = None,
    ) -> None:
        if lab.simulation is None:
            raise ValueError("this lab has no `simulation:` section")
        facts = lab.simulation
        self.seed = facts.seed if seed is None else seed
        self.changed = threading.Condition()
        self._state_dir = state_dir
        self._ring: RingReader | None = None
        self._edge_filter = edge_filter
        edges: Callable[[], Sequence[tuple[int, int]]] = lambda: ()  # noqa: E731
        if state_dir is not None:
            path = state_dir / RING_NAME
            if not path.exists():
                create_ring(str(path))
            self._ring = RingReader(str(path), from_start=False)
            edges = self._read_ring
        self.world = World(facts.world, lab.wiring, lab.probe, lab.supply, seed=self.seed, edges=edges, start_s=clock())
        self.scope = SimulatedMsoX2024A(
            self.world,
            seed=self.seed,
            identity=f"AGILENT TECHNOLOGIES,{facts.scope.model},{facts.scope.serial},{facts.scope.firmware}",
            **{"memory_points": facts.scope.memory_points, **(scope_options or {})},
        )
        self.supply = SimulatedE3645A(
            self.world,
            seed=self.seed,
            identity=f"Agilent Technologies,{facts.supply.model},{facts.supply.serial},{facts.supply.firmware}",
            **(supply_options or {}),
        )
        self.prologix = Prologix({GPIB_ADDRESS: self.supply})
        for machine in (self.scope, self.supply):
            machine.advance(clock())
        self.servers: list[Server] = []
        self.addresses: dict[str, dict[str, list[str]]] = {"scope": {}, "supply": {}}
        self._clock = clock
        try:
            self._build(facts)
            if state_dir is not None:
                self.servers.append(Heartbeat(self.changed, self.world, clock, 0.1))
        except BaseException:
            self.stop()
            raise

    def _build(self, facts: SimulationFacts) -> None:
        host, ports = facts.host, facts.ports
        scope = Served(self.scope, self.changed, self._clock)
        raw = StreamServer(scope, lambda: self.scope.open_port("stream"), host, ports.socket, "scope-socket")
        self.add(raw, "scope", "socket", [f"TCPIP::{host}::{raw.port}::SOCKET"])
        vxi11 = Vxi11Server(scope, lambda: self.scope.open_port("message"), host, ports.vxi11)
        self.add(vxi11, "scope", "vxi11", [f"TCPIP::{host},{vxi11.port}::inst0::INSTR"])
        hislip = HislipServer(scope, lambda: self.scope.open_port("message"), host, ports.hislip)
        self.add(hislip, "scope", "hislip", [f"TCPIP::{host}::hislip0,{hislip.port}::INSTR"])
        adapter = StreamServer(
            Served(self.prologix, self.changed, self._clock),
            self.prologix.open_port, host, ports.prologix, "prologix",
        )  # fmt: skip
        bus = [f"PRLGX-TCPIP::{host}::{adapter.port}::INTFC", f"GPIB0::{GPIB_ADDRESS}::INSTR"]
        self.add(adapter, "supply", "prologix", bus)
        serial = SerialServer(Served(self.supply, self.changed, self._clock), lambda: self.supply.open_port("serial"))
        self.add(serial, "supply", "serial", [f"ASRL{serial.path}::INSTR"])

    def _read_ring(self) -> Sequence[tuple[int, int]]:
        """New marker edges; after an overrun the lost ones are reported and the newest go on."""
        if self._ring is None:
            return ()
        try:
            edges = self._ring.read_new()
        except RingOverrunError as error:
            log.error("marker edges were lost: %s", error)
            return ()
        return edges if self._edge_filter is None else self._edge_filter(edges)

    def _windows_after(self, after_s: float) -> list[TrueWindow]:
        with self.changed:
            self.world.advance(self._clock())
            return self.world.true_windows(after_s)

    def add(self, server: Server, instrument: str, transport: str, resources: list[str]) -> None:
        """One more server, stopped with the others; its VISA strings in the order in which to open them."""
        self.servers.append(server)
        self.addresses.setdefault(instrument, {})[transport] = resources

    def start(self) -> None:
        """Begin to serve."""
        if self._state_dir is not None:
            self.servers.append(TruthServer(self._state_dir, self._windows_after))
        for server in self.servers:
            server.start()

    def stop(self) -> None:
        """Stop all servers, latest first; may be called again."""
        with contextlib.ExitStack() as stack:
            if self._ring is not None:
                ring, self._ring = self._ring, None
                stack.callback(ring.close)
            servers, self.servers = self.servers, []
            for server in servers:
                stack.callback(server.stop)

    def __enter__(self) -> Station:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()
