"""What a transcript has gained since it was last looked at, as a trace file keeps it; and that text by sessions.

The data of blocks stay away, with their length and hash in their place: the trace file has the records themselves.
"""

from __future__ import annotations

import json
from pathlib import Path

from instruments.errors import ConfigError
from instruments.wording import counted


class Said:
    """Gives, each time it is called, the whole lines that a transcript's file has gained since."""

    def __init__(self, path: Path) -> None:
        self.path, self._at = path, 0

    def __call__(self) -> str:
        """Read on; a file that is gone by now has gained nothing."""
        try:
            with self.path.open("rb") as file:
                file.seek(self._at)
                data = file.read()
        except OSError:
            return ""
        whole = data[: data.rfind(b"\n") + 1]
        self._at += len(whole)
        return "".join(_short(line) for line in whole.decode("utf-8", "replace").splitlines(keepends=True))


def _short(line: str) -> str:
    """A line without the data of its block."""
    if '"zlib":' not in line:
        return line
    entry = json.loads(line)
    if isinstance(entry.get("block"), dict):
        entry["block"].pop("zlib", None)
    return json.dumps(entry, separators=(",", ":")) + "\n"


def sessions(text: str) -> list[str]:
    """Cut a stored transcript where a new one begins: each has a first line of its own."""
    found: list[list[str]] = []
    for line in text.splitlines(keepends=True):
        if not found or line.startswith('{"transcript":'):
            found.append([])
        found[-1].append(line)
    return ["".join(lines) for lines in found]


def session_of(text: str, number: int | None, path: Path) -> str:
    """All of a stored transcript, or that of one session, from 1. Raises ConfigError where there is none."""
    parts = sessions(text)
    if not parts:
        raise ConfigError(f"{path}: holds no transcript: it was measured without --transcript")
    if number is None:
        return text
    if not 1 <= number <= len(parts):
        raise ConfigError(f"{path}: holds the transcripts of {counted(len(parts), 'session')}, and no session {number}")
    return parts[number - 1]
