"""Which format a file has, and its reader."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

from experiments.traces.imports import joulescope, own_csv, plain_csv, powersensor, scope_bin, scope_csv, scope_h5
from experiments.traces.imports.recording import Recording
from experiments.traces.imports.roles import Choice, default_columns
from instruments.errors import ConfigError, TraceError
from instruments.lab import Lab

FORMATS = tuple(m.FORMAT for m in (scope_csv, scope_bin, scope_h5, joulescope, powersensor, own_csv, plain_csv))

_READERS: dict[str, Callable[[Path], Iterator[Recording]]] = {
    scope_csv.FORMAT: scope_csv.read,
    scope_bin.FORMAT: scope_bin.read,
    scope_h5.FORMAT: scope_h5.read,
    joulescope.FORMAT: joulescope.read,
    powersensor.FORMAT: powersensor.read,
    own_csv.FORMAT: own_csv.read,
}
_BEGINNINGS: dict[str, Callable[[bytes], bool]] = {
    scope_csv.FORMAT: scope_csv.looks_like,
    scope_bin.FORMAT: scope_bin.looks_like,
    joulescope.FORMAT: joulescope.looks_like,
    powersensor.FORMAT: powersensor.looks_like,
    own_csv.FORMAT: own_csv.looks_like,
}


def read(path: Path, format: str, choice: Choice, lab: Lab) -> Iterator[Recording]:
    """Read a file in its format, "auto" to tell it. Raises ConfigError, TraceError as the readers do."""
    if not path.is_file():
        raise TraceError(f"{path}: there is no such file")
    format = format if format != "auto" else format_of(path)
    if format in _READERS:
        yield from _READERS[format](path)
        return
    columns = {**default_columns(plain_csv.FORMAT, lab), **choice.columns}
    if choice.constant_v is not None and "voltage" not in choice.columns:
        del columns["voltage"]
    yield from plain_csv.read(path, columns, choice.dt_s)


def format_of(path: Path) -> str:
    """Tell a file's format by how it begins. Raises ConfigError for one that is not known."""
    with path.open("rb") as file:
        first = file.read(64)
    for format, looks_like in _BEGINNINGS.items():
        if looks_like(first):
            return format
    if first.startswith(b"\x89HDF") and scope_h5.looks_like(path):
        return scope_h5.FORMAT
    if path.suffix.lower() in (".csv", ".tsv", ".txt") and b"\0" not in first:
        return plain_csv.FORMAT
    raise ConfigError(f"{path}: its format is not known: name it with --format ({', '.join(FORMATS)})")
