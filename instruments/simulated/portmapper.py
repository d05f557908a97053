"""A portmapper for the simulated bench, over TCP and UDP: it tells where VXI-11's core channel listens. Loopback only.

RFC 1833: version 2's GETPORT and DUMP, and GETADDR of versions 3 and 4; nothing can be registered from outside. A
client that is given no port asks for it at port 111, which needs the right to bind it (`try_portmapper`); elsewhere it
can be tried with plain calls, or by clients that let choose the port.
"""

from __future__ import annotations

import contextlib
import socket
from collections.abc import Mapping

from instruments.simulated.rpc import Reader, RpcDatagrams, RpcListener, opaque, uints
from instruments.simulated.servers import Served

WELL_KNOWN_PORT = 111
PROGRAM, VERSIONS = 100_000, (2, 4)
TCP, UDP = 6, 17
SET, UNSET, GETPORT, DUMP = 1, 2, 3, 4
"""Of version 2; 3 is GETADDR and 4 DUMP in versions 3 and 4."""


class Portmapper(RpcListener):
    """Tells ports by (program, version); `program` and `versions` are its own."""

    program = PROGRAM
    versions = VERSIONS

    def __init__(
        self,
        served: Served,
        known: Mapping[tuple[int, int], int],
        host: str = "127.0.0.1",
        port: int = WELL_KNOWN_PORT,
    ) -> None:
        super().__init__(served, host, port, "portmapper")
        self._known = dict(known)
        try:
            self._datagrams = RpcDatagrams(self, host, self.port)
        except OSError:
            super().stop()
            raise

    def start(self) -> None:
        """Serve over TCP and UDP."""
        super().start()
        self._datagrams.start()

    def stop(self) -> None:
        """Stop both."""
        self._datagrams.stop()
        super().stop()

    def call(self, connection: socket.socket, version: int, procedure: int, arguments: Reader) -> bytes | None:
        """A call over TCP."""
        return self.answer_datagram(version, procedure, arguments)

    def answer_datagram(self, version: int, procedure: int, arguments: Reader) -> bytes | None:
        """Results of a procedure."""
        if procedure in (SET, UNSET):
            return uints(0)
        if procedure == GETPORT and version == 2:
            program, of, protocol, _ = (arguments.uint() for _ in range(4))
            return uints(self._known.get((program, of), 0) if protocol == TCP else 0)
        if procedure == GETPORT:
            program, of, network = arguments.uint(), arguments.uint(), arguments.opaque()
            port = self._known.get((program, of), 0) if network == b"tcp" else 0
            return opaque(self._address(port) if port else b"")
        if procedure == DUMP:
            return self._dump(version)
        return None

    def _dump(self, version: int) -> bytes:
        rows = [(PROGRAM, 2, TCP, self.port), (PROGRAM, 2, UDP, self.port)]
        rows += [(*key, TCP, port) for key, port in sorted(self._known.items())]
        out = b""
        for program, of, protocol, port in rows:
            out += uints(1, program, of)
            if version == 2:
                out += uints(protocol, port)
            else:
                out += opaque(b"tcp" if protocol == TCP else b"udp") + opaque(self._address(port)) + opaque(b"")
        return out + uints(0)

    def _address(self, port: int) -> bytes:
        """The universal address of a port of this host."""
        host = "127.0.0.1" if self.host == "localhost" else self.host
        return f"{host}.{port >> 8}.{port & 255}".encode("ascii")


def try_portmapper(
    served: Served, known: Mapping[tuple[int, int], int], host: str, port: int = WELL_KNOWN_PORT
) -> Portmapper | None:
    """The portmapper, or None where this process may not bind its port, or another one has it."""
    with contextlib.suppress(OSError):
        return Portmapper(served, known, host, port)
    return None
