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

from instruments.fault_facts import FaultFacts
from instruments.lab import Lab, SimulationFacts, WorldFacts
from instruments.marker_ring import RingOverrunError, RingReader, create_ring
from instruments.simulated.board_models import MODELS
from instruments.simulated.dut import SimulatedBoard
from instruments.simulated.e3645a import SimulatedE3645A
from instruments.simulated.faults import EdgeFaults, script_of
from instruments.simulated.hislip import HislipServer
from instruments.simulated.leads import Leads
from instruments.simulated.mso_waveform import TransferQuirks
from instruments.simulated.mso_x2024a import SimulatedMsoX2024A
from instruments.simulated.portmapper import WELL_KNOWN_PORT, Portmapper, try_portmapper
from instruments.simulated.prologix import Prologix
from instruments.simulated.servers import SerialServer, Served, StreamServer
from instruments.simulated.truth import TruthServer
from instruments.simulated.virtual_time import START_S, BoardServer, VirtualTime
from instruments.simulated.vxi11 import CORE_PROGRAM, VERSION, Vxi11Server
from instruments.simulated.world import TrueWindow, World

log = logging.getLogger(__name__)

RING_NAME = "markers.ring"
GPIB_ADDRESS = 5

LAUNCH_SHARE, TAIL_SHARE = 0.9, 0.03
"""A simulated board's current just after a batch begins, and the part that fades slowly, of its current at work."""


TRANSFER_BYTES_PER_S = 2e6
"""Speed of a transfer while a board works in virtual time: 500 kB of a capture in a quarter of a second, about what the
family gives over LAN (unconfirmed). At rest nothing happens meanwhile, and no time is spent on it."""

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

    With `dut.simulated` in the lab it is a bench in virtual time (`time`): `clock` and the ring are not used.

    `scope_options` and `supply_options` are keyword arguments of the simulated instruments; `edge_filter`
    stands between the marker lines and the world (see `faults.EdgeFaults`); `told` hears of each fault
    of `simulation.faults` as it strikes; `portmapper` counts instead of `simulation.ports.portmapper` (0: nowhere).
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
        told: Callable[[str], object] = lambda text: None,
        portmapper: int | None = None,
    ) -> None:
        if lab.simulation is None:
            raise ValueError("this lab has no `simulation:` section")
        facts = lab.simulation
        self.seed = facts.seed if seed is None else seed
        lock = threading.RLock()
        self.changed = threading.Condition(lock)
        self.time: VirtualTime | None = None
        self._state_dir = state_dir
        self._ring: RingReader | None = None
        self._edge_filter = edge_filter
        edges: Callable[[], Sequence[tuple[int, int]]] = lambda: ()  # noqa: E731
        world_facts = facts.world
        if lab.dut.simulated is not None:
            board = SimulatedBoard(lab.dut.simulated, seed=self.seed, now_s=START_S)
            self.time = VirtualTime(board, lock)
            if state_dir is not None:
                self.time.show(state_dir)
            clock, edges = self.time.clock, self._read_board
            quirks = TransferQuirks(bytes_per_s=TRANSFER_BYTES_PER_S, takes_time=lambda: board.at_work)
            scope_options = {"transfer": quirks, **(scope_options or {})}
            world_facts = _board_facts(facts.world, lab.dut.simulated, lab.supply.voltage_v)
        elif state_dir is not None:
            path = state_dir / RING_NAME
            if not path.exists():
                create_ring(str(path))
            self._ring = RingReader(str(path), from_start=False)
            edges = self._read_ring
        self.world = World(world_facts, lab.wiring, lab.probe, lab.supply, seed=self.seed, edges=edges, start_s=clock())
        self.leads = Leads(self.world, lab.wiring, lab.probe, self.seed)
        self.scope = SimulatedMsoX2024A(
            self.leads,
            seed=self.seed,
            identity=f"{facts.scope.vendor},{facts.scope.model},{facts.scope.serial},{facts.scope.firmware}",
            **{"memory_points": facts.scope.memory_points, **(scope_options or {})},
        )
        self.supply = SimulatedE3645A(
            self.world,
            seed=self.seed,
            identity=f"{facts.supply.vendor},{facts.supply.model},{facts.supply.serial},{facts.supply.firmware}",
            **(supply_options or {}),
        )
        self.prologix = Prologix({GPIB_ADDRESS: self.supply})
        for machine in (self.scope, self.supply):
            machine.advance(clock())
        self._told = told
        self._portmapper = facts.ports.portmapper if portmapper is None else portmapper
        self._feed_v = lab.supply.voltage_v
        if facts.faults != FaultFacts():
            self.hurt(facts.faults)
        self.servers: list[Server] = []
        self.addresses: dict[str, dict[str, list[str]]] = {"scope": {}, "supply": {}}
        self._clock = clock
        if self.time is not None:
            self.time.heard = {"scope": lambda: self.scope.taken, "supply": lambda: self.supply.taken}
            self.time.moved = self._follow_board
        try:
            self._build(facts)
            if state_dir is not None:
                self.servers.append(
                    Heartbeat(self.changed, self.world, clock, 0.1)
                    if self.time is None
                    else BoardServer(state_dir, self.time, lock)
                )
        except BaseException:
            self.stop()
            raise

    def _build(self, facts: SimulationFacts) -> None:
        host, ports = facts.host, facts.ports
        scope = Served(self.scope, self.changed, self._clock, self.time)
        raw = StreamServer(scope, lambda: self.scope.open_port("stream"), host, ports.socket, "scope-socket")
        self.add(raw, "scope", "socket", [f"TCPIP::{host}::{raw.port}::SOCKET"])
        vxi11 = Vxi11Server(scope, lambda: self.scope.open_port("message"), host, ports.vxi11)
        self.add(vxi11, "scope", "vxi11", [f"TCPIP::{host},{vxi11.port}::inst0::INSTR"])
        self._map(scope, vxi11.port, host, self._portmapper)
        hislip = HislipServer(scope, lambda: self.scope.open_port("message"), host, ports.hislip)
        self.add(hislip, "scope", "hislip", [f"TCPIP::{host}::hislip0,{hislip.port}::INSTR"])
        adapter = StreamServer(
            Served(self.prologix, self.changed, self._clock, self.time),
            self.prologix.open_port, host, ports.prologix, "prologix",
        )  # fmt: skip
        bus = [f"PRLGX-TCPIP::{host}::{adapter.port}::INTFC", f"GPIB0::{GPIB_ADDRESS}::INSTR"]
        self.add(adapter, "supply", "prologix", bus)
        direct = Served(self.supply, self.changed, self._clock, self.time)
        serial = SerialServer(direct, lambda: self.supply.open_port("serial"))
        self.add(serial, "supply", "serial", [f"ASRL{serial.path}::INSTR"])

    def _map(self, scope: Served, port: int, host: str, at: int | None) -> None:
        """Tell clients that know no port where VXI-11 is: at 111 if that can be had, elsewhere in any case."""
        if not at:
            return
        known = {(CORE_PROGRAM, VERSION): port}
        if at != WELL_KNOWN_PORT:
            self.servers.append(Portmapper(scope, known, host, at))
        elif (mapper := try_portmapper(scope, known, host)) is not None:
            self.add(mapper, "scope", "vxi11-portmapper", [f"TCPIP::{host}::inst0::INSTR"])

    def hurt(self, faults: FaultFacts) -> None:
        """From now on this goes wrong, and nothing else; `FaultFacts()` heals."""
        with self.changed:
            self.scope.reply_filter = script_of(self.scope, faults.scope, faults.seed, self._teller("scope"))
            self.supply.reply_filter = script_of(self.supply, faults.supply, faults.seed, self._teller("supply"))
            self.scope.synthesiser.hole_fraction = max(
                (f.share for f in faults.scope if f.kind == "holes"), default=0.0
            )
            self.leads.faults = faults.leads
            edges = EdgeFaults.of(faults.markers, faults.seed, self._teller("markers"))
            self._edge_filter = edges if faults.markers else None

    def _teller(self, who: str) -> Callable[[str], object]:
        return lambda text: self._told(f"{who}: {text}")

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

    def _read_board(self) -> Sequence[tuple[int, int]]:
        """New edges of the simulated board's lines."""
        assert self.time is not None
        edges = self.time.board.take_edges()
        return edges if self._edge_filter is None else self._edge_filter(edges)

    def _follow_board(self) -> None:
        """Take the board's edges in up to now, and what its work draws from now on."""
        assert self.time is not None
        self.world.advance(self.time.now_s)
        board = self.time.board
        self.world.set_work((board.model.idle_w + board.net_power_w) / self._feed_v)

    def connect(self, load_ohm: float | None) -> None:
        """Put a resistor (infinite: nothing) in the board's place, or None: the board again."""
        with self.changed:
            self.world.advance(self._clock())
            self.world.connect(self._clock(), load_ohm)

    def mean_current_a(self, from_s: float, to_s: float) -> float:
        """True mean current through the wire over a stretch of time, A."""
        with self.changed:
            self.world.advance(self._clock())
            return self.world.supply(from_s, to_s).amps

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
            moves = self.time.request if self.time is not None else None
            self.servers.append(TruthServer(self._state_dir, self._windows_after, moves, self))
        for server in self.servers:
            server.start()

    def stop(self) -> None:
        """Stop all servers, latest first; may be called again."""
        with contextlib.ExitStack() as stack:
            if self._ring is not None:
                ring, self._ring = self._ring, None
                stack.callback(ring.close)
            if self.time is not None:
                stack.callback(self.time.hide)
            servers, self.servers = self.servers, []
            for server in servers:
                stack.callback(server.stop)

    def __enter__(self) -> Station:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()


def _board_facts(facts: WorldFacts, kind: str, volts: float) -> WorldFacts:
    """The physics with a simulated board's currents at its supply voltage."""
    model = MODELS[kind]
    active_a = (model.idle_w + model.full_w) / volts
    currents = {"active_a": active_a, "launch_a": LAUNCH_SHARE * active_a, "tail_a": TAIL_SHARE * active_a}
    return facts.model_copy(update={"idle_a": model.idle_w / volts, **currents})
