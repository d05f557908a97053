"""What can be told of the tables of a file without a seal: of one whose writer was killed, or of an earlier program.

HDF5 keeps no checksum of how long a variable is, nor of where its chunks are. What it does not find reads as zeros, or
is not there at all. So each table is held against what was committed, which tells how many of its rows must be there.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Mapping
from typing import Any

import h5py
import numpy as np

from experiments.traces import schema
from experiments.traces.agreement import may_have_log
from experiments.traces.damage import chunks_there, reading, require_stored

Row = Mapping[str, Any]

ROWS_AT_ONCE = 1 << 14

_WRITTEN = {
    "cells": ("network", "state"),
    "captures": ("kind",),
    "sessions": ("instruments", "environment"),
    "readings": ("quantity",),
}
"""Texts that no row of a table goes without; numbers are written always."""

_CODES = [f"{role}_codes" for role in schema.ROLES]
_BESIDE = {*schema.PREAMBLE, *schema.CHECKSUM, *_CODES, "source", "source_name", "sample"}
"""What stands in /captures beside its variables."""


def strangers(group: h5py.Group) -> set[str]:
    """Names in the group of a table that no program gives: what was called otherwise before."""
    along, variables = schema.GROUPS[group.name.lstrip("/")]
    known = {along, *variables, *_BESIDE} if "kind" in variables else {along, *variables}
    return {name for name in group if name not in known and not re.fullmatch(r"text\d+", name)}


def require_names(group: h5py.Group) -> None:
    """Raise OSError where a variable has another name now: without one, an earlier program had not written it."""
    _, variables = schema.GROUPS[group.name.lstrip("/")]
    lacking = sorted(variables.keys() - set(group))
    others = [group[name] for name in sorted(strangers(group))] if lacking else []
    for name in lacking:
        kind, deep = _kind(variables[name]), 1 + bool(variables[name].width)
        for other in others:
            if not isinstance(other, h5py.Dataset) or not other.fletcher32 or other.ndim != deep:
                continue  # somebody else's
            if other.id.get_type().equal(kind):
                with reading(f"{group.name}/{name}"):
                    raise OSError(f"it is not there, and {other.name.rpartition('/')[2][:40]!r} is")


def _kind(spec: schema.Variable) -> h5py.h5t.TypeID:
    return h5py.h5t.py_create(np.dtype("S1" if spec.width else spec.kind))


def require_cells(group: h5py.Group) -> None:
    """Raise OSError where rows of the journal are not in the file: it is written whole before anything is measured."""
    columns = _columns(group, "cells")
    require_rows(group, columns, max(group[name].shape[0] for name in ("cell", *columns)))


def require_captures(group: h5py.Group) -> None:
    """Raise OSError where rows of /captures up to the last that was settled, or their states, are not in the file."""
    state, settled = group["state"], -1
    for first in range(0, state.shape[0], ROWS_AT_ONCE):
        told = np.flatnonzero((state[first : first + ROWS_AT_ONCE] != b"").any(axis=1))
        settled = first + int(told[-1]) if len(told) else settled
    scales = [name for name in (*schema.PREAMBLE, *schema.CHECKSUM) if name in group]
    require_rows(group, [*_columns(group, "captures"), *scales], settled + 1)
    if "settled_s" not in group:
        return  # an earlier program did not write it
    # It is written just before the state: of the last row it may be there alone, where the program was killed between.
    ended = np.flatnonzero(np.isfinite(group["settled_s"][:]))
    with reading("/captures/state"):
        if len(ended) and ended[-1] >= state.shape[0]:
            raise OSError(f"it has {state.shape[0]} rows, and {ended[-1] + 1} captures were settled")
        before = ended[ended < group["settled_s"].shape[0] - 1]
        require_stored(chunks_there(state)[np.unique(before // state.chunks[0])])


def require_sessions(group: h5py.Group, captures: Iterable[Row]) -> None:
    """Raise OSError where a session in which something was committed is not in the file."""
    last = max((row["session"] for row in captures if row["state"] == "committed"), default=-1)
    columns = _columns(group, "sessions")
    noted = max(group[name].shape[0] for name in ("session", *columns))  # of what is no sweep there may be none
    require_rows(group, columns, min(1 + last, noted))


def require_of_captures(group: h5py.Group, name: str, committed: Collection[int]) -> None:
    """Raise OSError where rows of /host_log or /readings up to the last of a committed capture are not in the file."""
    with reading(f"/{name}/capture"):
        captures = group["capture"]
        there, step = chunks_there(captures), captures.chunks[0]
        for column in _columns(group, name):
            beside = chunks_there(group[column])
            begins = np.flatnonzero(beside.any(axis=tuple(range(1, beside.ndim)))) * group[column].chunks[0] // step
            if (begins >= len(there)).any() or not there[begins].all():
                raise OSError("a part of it is not there, and would read as of capture 0")
        # What was in flight has rows without values where the program was killed: they read as of capture 0.
        length = (int(np.flatnonzero(there)[-1]) + 1) * step if there.any() else 0
        mine = np.flatnonzero(np.isin(captures[:length], list(committed)))
    require_rows(group, _columns(group, name), int(mine[-1]) + 1 if len(mine) else 0)


def require_logs(group: h5py.Group, captures: Iterable[Row], logged: Mapping[int, int]) -> None:
    """Raise OSError where a committed capture is without its log, and rows of /host_log are of no capture.

    `logged` is how many rows each capture has. Imported captures have none, nor those whose log could not be recovered.
    """
    if max(group[name].shape[0] for name in ("event", *_columns(group, "host_log"))) <= sum(logged.values()):
        return
    for index, row in enumerate(captures):
        ran = row["state"] == "committed" and may_have_log(row) and row["batches"] > 0 and not row["method"]
        if ran and index not in logged:
            with reading("/host_log"):
                raise OSError(f"it has no rows of capture {index}, whose device logged {row['batches']} batches")


def require_rows(group: h5py.Group, names: Iterable[str], rows: int) -> None:
    """Raise OSError where some of the first rows of a variable are not in the file, or not as its schema has them."""
    _, variables = schema.GROUPS[group.name.lstrip("/")]
    specs = {**variables, **schema.PREAMBLE, **schema.CHECKSUM} if "kind" in variables else variables
    for name in names:
        dataset, kind = group[name], _kind(specs[name])
        with reading(f"{group.name}/{name}"):
            if dataset.shape[0] < rows:
                raise OSError(f"it has {dataset.shape[0]} rows, and {rows} were written")
            if not dataset.id.get_type().equal(kind):
                raise OSError("its type is not that of its schema")
            if not dataset.fletcher32:
                raise OSError("it has no checksum any more, as where another program wrote the file anew")
            require_stored(chunks_there(dataset)[: -(-rows // dataset.chunks[0])])


def _columns(group: h5py.Group, name: str) -> list[str]:
    """The variables of a table of which every row was written; an earlier program did not have all of them."""
    _, variables = schema.GROUPS[name]
    always = _WRITTEN.get(name, ())
    return [column for column, spec in variables.items() if (not spec.width or column in always) and column in group]
