"""The back door of the simulated bench, a Unix socket in the state folder: what was really true, and its time.

One JSON line asks, one answers. {"after_s": T} gives {"windows": [{"rise_s", "fall_s", "energy_j", "idle_power_w",
"batches"}, ...]}, every whole gate-high stretch that began after monotonic time T. On a bench in virtual time
{"clock": "now" | "sleep" | "move_to" | "run_on", "s": seconds, "sent": {instrument: messages}, "board": [links, sent,
heard]} gives {"now_s", "said"}, see `virtual_time`. {"load": ohms | "open" | "board"} is a hand at the bench: a
resistor in the board's place, nothing, or the board again; it gives that back. {"current": [from_s, to_s]} gives
{"amps"}, the mean that flowed. What is not understood gives {"error": text}. No instrument of a real bench could answer
any of this; results carry the truth under a name that begins with `true_`.
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import math
import socket
import socketserver
import threading
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Protocol

from instruments.simulated.world import TrueWindow

SOCKET_NAME = "truth.sock"

ClockRequest = Callable[[Mapping[str, Any]], dict[str, Any]]


class Hands(Protocol):
    """What a person at the bench could do with the load's wire."""

    def connect(self, load_ohm: float | None) -> None:
        """Put a resistor (infinite: nothing) in the board's place, or None: the board again."""

    def mean_current_a(self, from_s: float, to_s: float) -> float:
        """Look at a perfect ammeter in the wire."""
        ...


class TruthServer:
    """Serves true windows, and the clock of a bench in virtual time, to any number of clients until `stop`."""

    def __init__(
        self,
        folder: Path,
        windows_after: Callable[[float], list[TrueWindow]],
        clock: ClockRequest | None = None,
        hands: Hands | None = None,
    ) -> None:
        connections = self._connections = set[socket.socket]()

        class Handler(socketserver.StreamRequestHandler):
            def handle(self) -> None:
                connections.add(self.connection)
                try:
                    for line in self.rfile:
                        self.wfile.write((json.dumps(_answer(line, windows_after, clock, hands)) + "\n").encode())
                except OSError:
                    pass  # whoever asked has gone
                finally:
                    connections.discard(self.connection)

        path = folder / SOCKET_NAME
        path.unlink(missing_ok=True)
        self._server = socketserver.ThreadingUnixStreamServer(str(path), Handler)
        self._server.daemon_threads = True
        self._server.block_on_close = False
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True)

    def start(self) -> None:
        """Begin to serve."""
        self._thread.start()

    def stop(self) -> None:
        """Stop serving and remove the socket."""
        for connection in list(self._connections):
            with contextlib.suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()
        Path(str(self._server.server_address)).unlink(missing_ok=True)


def _answer(
    line: bytes,
    windows_after: Callable[[float], list[TrueWindow]],
    clock: ClockRequest | None,
    hands: Hands | None,
) -> dict[str, Any]:
    try:
        request = json.loads(line)
        if hands is not None and "load" in request:
            hands.connect(_ohms(request["load"]))
            return {"load": request["load"]}
        if hands is not None and "current" in request:
            from_s, to_s = request["current"]
            return {"amps": hands.mean_current_a(float(from_s), float(to_s))}
        if "clock" not in request:
            return {"windows": [dataclasses.asdict(w) for w in windows_after(float(request["after_s"]))]}
        if clock is None:
            return {"error": "this bench runs in the computer's own time"}
        return clock(request)
    except (ValueError, KeyError, TypeError) as error:
        return {"error": f'expected {{"after_s": seconds}} or a clock request: {type(error).__name__}: {error}'}


def _ohms(load: object) -> float | None:
    """What a load request means: ohms, infinite for nothing, None for the board. Raises ValueError."""
    if load in ("board", "open"):
        return None if load == "board" else math.inf
    if isinstance(load, bool) or not isinstance(load, int | float) or not 0 < load < math.inf:
        raise ValueError(f"load {load!r}: ohms above 0, open or board")
    return float(load)
