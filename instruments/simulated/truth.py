"""The back door of the simulated bench: what was really true, asked over a Unix socket in the state folder.

One JSON line asks, one answers: {"after_s": T} gives {"windows": [{"rise_s", "fall_s", "energy_j",
"idle_power_w", "batches"}, ...]}, every whole gate-high stretch that began after monotonic time T.
No instrument of a real bench could answer this; results carry it under a name that begins with `true_`.
"""

from __future__ import annotations

import dataclasses
import json
import socketserver
import threading
from collections.abc import Callable
from pathlib import Path

from instruments.simulated.world import TrueWindow

SOCKET_NAME = "truth.sock"


class TruthServer:
    """Serves true windows to any number of clients until `stop`."""

    def __init__(self, folder: Path, windows_after: Callable[[float], list[TrueWindow]]) -> None:
        class Handler(socketserver.StreamRequestHandler):
            def handle(self) -> None:
                for line in self.rfile:
                    self.wfile.write(_answer(line, windows_after))

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
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()
        Path(str(self._server.server_address)).unlink(missing_ok=True)


def _answer(line: bytes, windows_after: Callable[[float], list[TrueWindow]]) -> bytes:
    try:
        after_s = float(json.loads(line)["after_s"])
    except (ValueError, KeyError, TypeError) as error:
        return (json.dumps({"error": f'expected {{"after_s": seconds}}: {error}'}) + "\n").encode()
    return (json.dumps({"windows": [dataclasses.asdict(w) for w in windows_after(after_s)]}) + "\n").encode()
