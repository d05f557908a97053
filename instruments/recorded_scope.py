"""Recorded captures behind a simulated oscilloscope, for any VISA client; stands beside the bench, and sees simulators.

with served(captures, identity) as addresses:
    addresses["scope"]["socket"]    # ["TCPIP::127.0.0.1::40001::SOCKET"]
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import astuple
from typing import Protocol

from instruments.waveform import Record

HOST = "127.0.0.1"


class Captures(Protocol):
    """Captures by number, read when they are needed; each maps the oscilloscope's sources to records."""

    def __len__(self) -> int: ...

    def __getitem__(self, number: int) -> Mapping[str, Record]: ...


@contextlib.contextmanager
def served(
    captures: Captures,
    *,
    identity: str | None = None,
    only: int | None = None,
    told: Callable[[int], object] = lambda number: None,
) -> Iterator[dict[str, dict[str, list[str]]]]:
    """Serve the captures on loopback over raw socket, VXI-11 and HiSLIP; gives the VISA strings of each transport.

    Every :SINGle and :DIGitize steps to the next, or to `only` each time; `told` hears which it is. `identity` is the
    answer to *IDN?. Raises OSError when no port can be had.
    """
    from instruments.simulated.hislip import HislipServer
    from instruments.simulated.mso_x2024a import IDENTITY
    from instruments.simulated.recorded import Recorded, RecordedScope, RecordedSource, Tape
    from instruments.simulated.servers import Served, StreamServer
    from instruments.simulated.vxi11 import Vxi11Server

    def read(number: int) -> Recorded:
        return {
            name: RecordedSource(record.codes, tuple(map(float, astuple(record.preamble))), record.units)
            for name, record in captures[number].items()
        }

    scope = RecordedScope(Tape(len(captures), read, only, told), identity or IDENTITY)
    engine = Served(scope)
    scope.advance(engine.clock())
    socket = StreamServer(engine, lambda: scope.open_port("stream"), HOST, 0, "scope-socket")
    vxi11 = Vxi11Server(engine, lambda: scope.open_port("message"), HOST, 0)
    hislip = HislipServer(engine, lambda: scope.open_port("message"), HOST, 0)
    with contextlib.ExitStack() as stack:
        for server in (socket, vxi11, hislip):
            server.start()
            stack.callback(server.stop)
        yield {
            "scope": {
                "socket": [f"TCPIP::{HOST}::{socket.port}::SOCKET"],
                "vxi11": [f"TCPIP::{HOST},{vxi11.port}::inst0::INSTR"],
                "hislip": [f"TCPIP::{HOST}::hislip0,{hislip.port}::INSTR"],
            }
        }
