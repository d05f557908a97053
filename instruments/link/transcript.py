"""The transcript: every message with its time, one JSON object per line; replayable.

First line: ``{"transcript": 1, "origin": ..., "started": ...}``. Then, per message, ``t_s`` (seconds
since the first line, monotonic), ``link`` (the instrument's name), ``dir`` (``out``, ``in``,
``timeout``, ``note``) and one of ``text``, ``b64`` (what is not printable ASCII) or ``block``
(``bytes``, ``sha256`` and, in a full transcript, ``b64``).
"""

from __future__ import annotations

import base64
import hashlib
import json
import threading
import time
from pathlib import Path
from types import TracebackType
from typing import Any, Literal, TextIO

Direction = Literal["out", "in", "timeout", "note"]
VERSION = 1


def encode(data: bytes) -> dict[str, str]:
    """Write bytes as ``text`` where they are printable ASCII, else as ``b64``."""
    text = data.decode("ascii", "replace")
    if text.isascii() and text.isprintable():
        return {"text": text}
    return {"b64": base64.b64encode(data).decode("ascii")}


def encode_block(data: bytes, full: bool) -> dict[str, Any]:
    """Write a block as length and hash, with the data themselves when ``full``."""
    block: dict[str, Any] = {"bytes": len(data), "sha256": hashlib.sha256(data).hexdigest()}
    if full:
        block["b64"] = base64.b64encode(data).decode("ascii")
    return {"block": block}


class Transcript:
    """Writes the messages of any number of links to one file; safe between threads.

    Args:
        path: the file, replaced if it exists.
        origin: ``hardware`` or ``simulated``; it is written into the first line.
        full_blocks: keep the data of blocks, not only length and hash; replay needs them.
    """

    def __init__(
        self, path: Path | str, *, origin: Literal["hardware", "simulated"], full_blocks: bool = False
    ) -> None:
        self.path = Path(path)
        self._full = full_blocks
        self._lock = threading.Lock()
        self._started = time.monotonic()
        self._file: TextIO | None = self.path.open("w", encoding="utf-8", newline="\n")
        started = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
        self._put({"transcript": VERSION, "origin": origin, "started": started})

    def message(self, link: str, direction: Direction, data: bytes) -> None:
        """Write one message without its terminator."""
        self._put({"t_s": self._now_s(), "link": link, "dir": direction, **encode(data)})

    def block(self, link: str, data: bytes) -> None:
        """Write one block that came in."""
        self._put({"t_s": self._now_s(), "link": link, "dir": "in", **encode_block(data, self._full)})

    def close(self) -> None:
        """Close the file; later messages are dropped, a second close does nothing."""
        with self._lock:
            if self._file is not None:
                self._file.close()
                self._file = None

    def _now_s(self) -> float:
        return round(time.monotonic() - self._started, 6)

    def _put(self, entry: dict[str, Any]) -> None:
        line = json.dumps(entry, separators=(",", ":")) + "\n"
        with self._lock:
            if self._file is not None:
                self._file.write(line)
                self._file.flush()

    def __enter__(self) -> Transcript:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
