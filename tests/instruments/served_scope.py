"""A simulated oscilloscope in this process, served on a raw socket, for tests of the driver."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from instruments.link import Link
from instruments.mso_x2024a import MsoX2024A
from instruments.simulated.mso_acquisition import Options, Record
from instruments.simulated.mso_x2024a import SimulatedMsoX2024A
from instruments.simulated.servers import Served, StreamServer
from tests.simulated.standin import Floats, StandIn


class World(StandIn):
    """The stand-in with its ramp on CHAN3 starting at `begin_s`, so that it is on the screen."""

    begin_s = 0.0

    def analog_v(self, channel: int, t_s: Floats, aperture_s: float) -> Floats:
        """See `StandIn`."""
        return super().analog_v(channel, t_s - (self.begin_s if channel == 3 else 0.0), aperture_s)


@dataclass
class ServedScope:
    """The driver, the machine that it talks to, and the world around that."""

    driver: MsoX2024A
    machine: SimulatedMsoX2024A
    served: Served
    world: World
    finished: list[Record]
    """Every record that the machine has acquired, with the true time of its trigger on this computer's clock."""

    def edge(self, bit: int = 0, level: int = 1, in_s: float = 0.0) -> float:
        """Move a digital line, now or in a while; gives when."""
        with self.served.changed:
            at_s = time.monotonic() + in_s
            self.world.edges.append((at_s, bit, level))
            return at_s

    @contextlib.contextmanager
    def edge_once_armed(self) -> Iterator[list[float]]:
        """Raise the trigger's line once the driver knows that it is waited for; gives a list that will hold when."""
        rises: list[float] = []
        over = threading.Event()

        def watch() -> None:
            while not over.is_set():
                with self.served.changed:
                    if self.driver._acquisition._phase == "armed":
                        rises.append(time.monotonic())
                        self.world.edges.append((rises[0], 0, 1))
                        return
                over.wait(0.002)

        thread = threading.Thread(target=watch)
        thread.start()
        try:
            yield rises
        finally:
            over.set()
            thread.join()

    def begin_ramp(self) -> None:
        """Let the ramp on CHAN3 start now."""
        with self.served.changed:
            self.world.begin_s = time.monotonic()

    def press(self, commands: str) -> None:
        """Do something behind the driver's back, as at the front panel."""
        with self.served.changed:
            self.served.advance()
            self.machine.feed(commands.encode() + b"\n")


def _kept(machine: SimulatedMsoX2024A) -> list[Record]:
    kept: list[Record] = []
    finish = machine.acquisition._finish

    def finish_and_keep(*args: Any) -> Record:
        kept.append(finish(*args))
        return kept[-1]

    machine.acquisition._finish = finish_and_keep  # type: ignore[method-assign]
    return kept


@contextlib.contextmanager
def served_scope(**options: Any) -> Iterator[ServedScope]:
    """Serve an oscilloscope with these options, stopped and with an empty queue."""
    world = World()
    world.begin_s = time.monotonic()
    options.setdefault("acquisition", Options(arm_s=1e-3, process_s=1e-3))
    machine = SimulatedMsoX2024A(world, seed=3, **options)
    served = Served(machine)
    server = StreamServer(served, lambda: machine.open_port("stream"))
    server.start()
    try:
        with Link.open("scope", [f"TCPIP::127.0.0.1::{server.port}::SOCKET"], timeout_s=60.0) as link:
            driver = MsoX2024A(link)
            driver.stop()
            driver.errors()
            yield ServedScope(driver, machine, served, world, _kept(machine))
    finally:
        server.stop()
