"""A link that serves a recorded transcript, strictly: the same messages in the same order.

Anything unsent, unread or left over is a ProtocolError that says what was expected; an error raised
in the body of ``with`` is never hidden by it. No instrument, clock or socket is involved.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Any

from instruments.errors import LinkTimeout, ProtocolError

from .transcript import VERSION, encode


def read_transcript(source: Path | str | Iterable[str]) -> list[dict[str, Any]]:
    """Read a transcript (a path, or its lines) into its entries, header first; raises ProtocolError."""
    if isinstance(source, Path | str):
        source = Path(source).read_text(encoding="utf-8").splitlines()
    entries: list[dict[str, Any]] = [json.loads(line) for line in source if line.strip()]
    if not entries or entries[0].get("transcript") != VERSION:
        raise ProtocolError(f"this is no transcript of version {VERSION}: its first line does not say so")
    return entries


class ReplayLink:
    """Plays one instrument's part of a transcript.

    Args:
        transcript: a path, or the lines.
        name: the instrument's name in the transcript.
        blocks: data of blocks by their sha256, for transcripts that keep only hashes.
    """

    def __init__(
        self,
        transcript: Path | str | Iterable[str],
        name: str,
        *,
        blocks: Mapping[str, bytes] | None = None,
    ) -> None:
        entries = read_transcript(transcript)
        self.name = name
        self.resource = "replay"
        self.origin = str(entries[0].get("origin", ""))
        mine = [entry for entry in entries[1:] if entry.get("link") == name and entry.get("dir") != "note"]
        self._entries = [{**entry, "n": n} for n, entry in enumerate(mine, 1)]
        self._at = 0
        self._blocks = dict(blocks or {})
        self._closed = False

    def write(self, command: str | bytes, deadline_s: float | None = None) -> None:
        """Expect this command next."""
        data = command.encode("ascii") if isinstance(command, str) else command
        entry = self._next("out", data)
        if {key: entry.get(key) for key in ("text", "b64") if key in entry} != encode(data):
            raise self._wrong(f"sent {data!r}", entry)

    def query(self, command: str, deadline_s: float | None = None) -> str:
        """Expect this query next and give the recorded answer."""
        self.write(command)
        entry = self._answer(command)
        if "block" in entry:
            raise self._wrong(f"read the answer to {command!r} as text", entry)
        return _bytes_of(entry).decode("ascii")

    def query_block(self, command: str, deadline_s: float | None = None) -> bytes:
        """Expect this query next and give the recorded block."""
        self.write(command)
        entry = self._answer(command)
        block = entry.get("block")
        if block is None:
            raise self._wrong(f"read the answer to {command!r} as a block", entry)
        if "b64" in block:
            return base64.b64decode(block["b64"])
        if block["sha256"] in self._blocks:
            return self._blocks[block["sha256"]]
        raise ProtocolError(
            f"the transcript keeps only the hash of a block of {block['bytes']} bytes; record it with full_blocks",
            instrument=self.name,
            command=command,
        )

    def clear(self) -> None:
        """Do nothing: a transcript has no state to clear."""

    def reopen(self) -> None:
        """Do nothing: a transcript cannot be lost."""

    def to_local(self) -> bool:
        """Say that there is no front panel."""
        return False

    @contextmanager
    def transaction(self) -> Iterator[None]:
        """Group messages; nobody else can come between them anyway."""
        yield

    def close(self) -> None:
        """Close; raises ProtocolError when recorded messages are left over. A second close does nothing."""
        if not self._closed:
            self._closed = True
            if self._at < len(self._entries):
                raise self._wrong("closed", self._entries[self._at])

    def __enter__(self) -> ReplayLink:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is None:
            self.close()
        else:
            self._closed = True

    def _answer(self, command: str) -> dict[str, Any]:
        entry = self._next("in", command.encode())
        if entry["dir"] == "timeout":
            raise LinkTimeout("no answer (as recorded)", instrument=self.name, resource="replay", command=command)
        return entry

    def _next(self, direction: str, data: bytes) -> dict[str, Any]:
        if self._at >= len(self._entries):
            raise ProtocolError(
                f"the transcript is over, but {data!r} came next",
                instrument=self.name,
                resource=self.resource,
            )
        entry = self._entries[self._at]
        allowed = {"out"} if direction == "out" else {"in", "timeout"}
        if entry["dir"] not in allowed:
            raise self._wrong(f"{'sent' if direction == 'out' else 'read the answer to'} {data!r}", entry)
        self._at += 1
        return entry

    def _wrong(self, did: str, entry: Mapping[str, Any]) -> ProtocolError:
        content = {key: entry[key] for key in ("text", "b64", "block") if key in entry}
        return ProtocolError(
            f"{did}, but message {entry['n']} of {len(self._entries)} of the transcript is {entry['dir']} {content}",
            instrument=self.name,
            resource=self.resource,
        )


def _bytes_of(entry: Mapping[str, Any]) -> bytes:
    if "text" in entry:
        return str(entry["text"]).encode("ascii")
    return base64.b64decode(entry["b64"])
