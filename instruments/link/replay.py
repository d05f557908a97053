"""A link that serves a recorded transcript, strictly: the same messages in the same order.

What was answered is answered, what failed fails with the same error. Anything unsent, unread or left over is a
ProtocolError that says what was expected; an error raised in the body of ``with`` is never hidden by it. What the link
itself did while it was recorded (recovery, the adapter's lines) is skipped. No instrument, clock or socket is involved.
"""

from __future__ import annotations

import base64
import json
import zlib
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Any

from instruments.errors import InstrumentError, LinkError, LinkTimeout, ProtocolError
from instruments.wording import counted

from .transcript import VERSION, decode, encode

_DRIVERS = ("out", "in", "error", "call")


def read_transcript(source: Path | str | Iterable[str]) -> list[dict[str, Any]]:
    """Read a transcript (a path, or its lines) into its entries, header first; raises ProtocolError."""
    if isinstance(source, Path | str):
        source = Path(source).read_text(encoding="utf-8").splitlines()
    entries: list[dict[str, Any]] = []
    for number, line in enumerate(source, 1):
        if not line.strip():
            continue
        try:
            entry = json.loads(line)
        except ValueError as error:
            raise ProtocolError(f"line {number} of the transcript is no JSON: {error}") from None
        if not isinstance(entry, dict):
            raise ProtocolError(f"line {number} of the transcript is no object")
        entries.append({**entry, "line": number})
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
        header, *entries = read_transcript(transcript)
        mine = [entry for entry in entries if entry.get("link") == name]
        self.name = name
        self.resource = str(next((e["resource"] for e in mine if e["dir"] == "open"), "replay"))
        self.origin = str(header.get("origin", ""))
        self._entries = [entry for entry in mine if entry["dir"] in _DRIVERS and "of" not in entry]
        self._at = 0
        self._blocks = dict(blocks or {})
        self._closed = False

    def write(self, command: str | bytes, deadline_s: float | None = None) -> None:
        """Expect this command next; raises the recorded error, if it failed."""
        self._send(command)

    def query(self, command: str, deadline_s: float | None = None) -> str:
        """Expect this query next and give the recorded answer, or raise the recorded error."""
        entry = self._answer(command)
        if "block" in entry:
            raise self._wrong(f"read the answer to {command!r} as text", entry)
        return decode(entry).decode("ascii")

    def query_block(self, command: str, deadline_s: float | None = None) -> bytes:
        """Expect this query next and give the recorded block, or raise the recorded error."""
        entry = self._answer(command)
        block = entry.get("block")
        if block is None:
            raise self._wrong(f"read the answer to {command!r} as a block", entry)
        if "zlib" in block:
            return zlib.decompress(base64.b64decode(block["zlib"]))
        if block["sha256"] in self._blocks:
            return self._blocks[block["sha256"]]
        raise ProtocolError(
            f"the transcript keeps only the hash of a block of {block['bytes']} bytes; record it with full_blocks",
            instrument=self.name,
            command=command,
        )

    def clear(self) -> None:
        """Expect that the link is cleared next."""
        self._call("clear")

    def reopen(self) -> None:
        """Expect that the link is reopened next."""
        self._call("reopen")

    def to_local(self) -> bool:
        """Expect that the front panel is given back next, and say whether it could be."""
        return bool(self._call("local").get("answer", False))

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

    # -- inside -------------------------------------------------------------------------------

    def _send(self, command: str | bytes) -> None:
        data = command.encode("ascii") if isinstance(command, str) else command
        shown = command if isinstance(command, str) else f"{command[:40]!r} ({counted(len(command), 'byte')})"
        self._fail_if_recorded(shown)  # a link that was broken sent nothing
        self._next("out", f"sent {data!r}", encode(data))
        self._fail_if_recorded(shown)

    def _answer(self, command: str) -> Mapping[str, Any]:
        self._send(command)
        return self._next("in", f"read the answer to {command.encode()!r}")

    def _call(self, what: str) -> Mapping[str, Any]:
        self._fail_if_recorded(what)
        entry = self._next("call", f"asked to {what}", {"text": what})
        self._fail_if_recorded(what)
        return entry

    def _fail_if_recorded(self, command: str) -> None:
        """Raise the recorded failure of this operation, if the next entry is one."""
        if self._at >= len(self._entries):
            return
        entry = self._entries[self._at]
        if entry["dir"] != "error" or entry.get("command") != command:
            return
        self._at += 1
        message = str(entry["message"])
        error: InstrumentError
        if entry["error"] == "LinkTimeout":
            elapsed_s, got = float(entry["elapsed_s"]), int(entry["bytes_got"])
            error = LinkTimeout(message, elapsed_s=elapsed_s, bytes_got=got, queue=entry["queue"])
        elif entry["error"] == "ProtocolError":
            error = ProtocolError(message, first_bytes=base64.b64decode(entry["first_bytes"]))
        else:
            error = LinkError(message)
        error.within(instrument=self.name, resource=self.resource, command=command)
        raise error

    def _next(self, direction: str, did: str, content: Mapping[str, str] | None = None) -> Mapping[str, Any]:
        """Give the next entry, if it is the right one; else it stays the next one."""
        if self._at >= len(self._entries):
            raise ProtocolError(
                f"{did}, but the transcript is over",
                instrument=self.name,
                resource=self.resource,
            )
        entry = self._entries[self._at]
        found = {key: entry[key] for key in ("text", "b64") if key in entry}
        if entry["dir"] != direction or (content is not None and found != content):
            raise self._wrong(did, entry)
        self._at += 1
        return entry

    def _wrong(self, did: str, entry: Mapping[str, Any]) -> ProtocolError:
        content = {key: entry[key] for key in ("text", "b64", "block", "error", "command") if key in entry}
        if "block" in content:
            content["block"] = {key: content["block"][key] for key in ("bytes", "sha256") if key in content["block"]}
        return ProtocolError(
            f"{did}, but line {entry['line']} of the transcript is {entry['dir']} {content}",
            instrument=self.name,
            resource=self.resource,
        )
