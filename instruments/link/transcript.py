"""The transcript: everything that passes between program and instruments, one JSON object per line; replayable.

First line: ``{"transcript": 1, "origin": ..., "started": ..., "utc_s": ...}``. Every other line has ``t_s`` (seconds
since the first line, monotonic), ``link`` (the instrument's name) and ``dir``:

- ``open``: a connection was made; with ``resource`` and ``backend``.
- ``out``, ``in``: a message of the driver and its answer, without terminator; one of ``text``, ``b64`` (what is not
  printable ASCII) or ``block`` (``bytes``, ``sha256`` and, unless only hashes are kept, ``zlib``: base64 of the
  deflated data).
- ``error``: how an operation failed: ``error`` (class), ``message``, ``command`` and what else the error carries.
- ``call``: the driver asked for ``clear``, ``reopen`` or ``local`` (with its ``answer``).
- ``note``: what happened besides, in words.

A line with ``of`` is what the link itself sent or heard, beyond the driver's messages: ``adapter`` (the ``++`` lines
of a GPIB adapter), ``recovery`` (coming back in step; ``dir`` may be ``clear``, a device clear), ``refused`` (what had
come of an answer that was cut or no answer) and ``dropped`` (what came although nobody had asked).
"""

from __future__ import annotations

import base64
import hashlib
import json
import logging
import threading
import time
import zlib
from pathlib import Path
from types import TracebackType
from typing import Any, Literal, TextIO

from instruments.errors import InstrumentError, LinkTimeout, ProtocolError

Origin = Literal["hardware", "simulated"]
VERSION = 1

_log = logging.getLogger(__name__)


def encode(data: bytes) -> dict[str, str]:
    """Write bytes as ``text`` where they are printable ASCII, else as ``b64``."""
    text = data.decode("ascii", "replace")
    if text.isascii() and text.isprintable():
        return {"text": text}
    return {"b64": base64.b64encode(data).decode("ascii")}


def decode(entry: Any) -> bytes:
    """Give the bytes that ``encode`` wrote."""
    return str(entry["text"]).encode("ascii") if "text" in entry else base64.b64decode(entry["b64"])


def encode_block(data: bytes, full: bool) -> dict[str, Any]:
    """Write a block as length and hash, with the data themselves when ``full``."""
    block: dict[str, Any] = {"bytes": len(data), "sha256": hashlib.sha256(data).hexdigest()}
    if full:
        block["zlib"] = base64.b64encode(zlib.compress(data, 1)).decode("ascii")
    return {"block": block}


class Transcript:
    """Writes what any number of links say and hear to one file; safe between threads.

    A file that can be written no longer, such as on a full disk, ends the transcript and nothing else.

    Args:
        path: the file, replaced if it exists; raises OSError when that cannot be done.
        origin: ``hardware`` or ``simulated``; it is written into the first line.
        full_blocks: keep the data of blocks, not only length and hash; replay needs them.
    """

    def __init__(self, path: Path | str, *, origin: Origin, full_blocks: bool = True) -> None:
        self.path = Path(path)
        self._full = full_blocks
        self._lock = threading.Lock()
        self._started = time.monotonic()
        self._file: TextIO | None = self.path.open("w", encoding="utf-8", newline="\n")
        utc_s = time.time()
        started = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(utc_s))
        try:
            self._write(self._file, {"transcript": VERSION, "origin": origin, "started": started, "utc_s": utc_s})
        except OSError:
            self._abandon(self._file)
            raise

    def put(self, link: str, direction: str, **fields: Any) -> None:
        """Write one line about a link."""
        with self._lock:
            if self._file is None:
                return
            t_s = round(time.monotonic() - self._started, 6)
            try:
                self._write(self._file, {"t_s": t_s, "link": link, "dir": direction, **fields})
            except OSError as error:
                _log.warning("the transcript %s ends here, it cannot be written any more: %s", self.path, error)
                self._abandon(self._file)

    def block(self, link: str, data: bytes) -> None:
        """Write one block that came in."""
        self.put(link, "in", **encode_block(data, self._full))

    def close(self) -> None:
        """Close the file; later lines are dropped, a second close does nothing."""
        with self._lock:
            if self._file is not None:
                self._file.close()
                self._file = None

    @staticmethod
    def _write(file: TextIO, entry: dict[str, Any]) -> None:
        file.write(json.dumps(entry, separators=(",", ":")) + "\n")
        file.flush()

    def _abandon(self, file: TextIO) -> None:
        self._file = None
        try:
            file.close()
        except OSError:
            return  # what could not be written is what we have said already

    def __enter__(self) -> Transcript:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


class Recorder:
    """One link's pen: writes to a transcript, or nowhere when there is none."""

    def __init__(self, name: str, transcript: Transcript | None) -> None:
        self._name = name
        self._transcript = transcript

    def put(self, direction: str, data: bytes = b"", **fields: Any) -> None:
        """Write one line with bytes."""
        if self._transcript is not None:
            self._transcript.put(self._name, direction, **encode(data), **fields)

    def call(self, what: str, **fields: Any) -> None:
        """Write that the driver asked for something that is no message."""
        self.put("call", what.encode("ascii"), **fields)

    def block(self, data: bytes) -> None:
        """Write a block that came."""
        if self._transcript is not None:
            self._transcript.block(self._name, data)

    def note(self, text: str) -> None:
        """Write words."""
        self.put("note", text.encode("ascii", "replace"))

    def opened(self, resource: str, backend: str) -> None:
        """Write that a connection was made."""
        if self._transcript is not None:
            self._transcript.put(self._name, "open", resource=resource, backend=backend)

    def failed(self, error: InstrumentError) -> None:
        """Write how an operation failed, so that a replay can fail in the same way."""
        if self._transcript is None:
            return
        fields: dict[str, Any] = {"error": type(error).__name__, "message": error.message, "command": error.command}
        if isinstance(error, LinkTimeout):
            fields |= {"elapsed_s": error.elapsed_s, "bytes_got": error.bytes_got, "queue": list(error.queue)}
        if isinstance(error, ProtocolError):
            fields["first_bytes"] = base64.b64encode(error.first_bytes).decode("ascii")
        self._transcript.put(self._name, "error", **fields)
