"""What stands in a trace file: groups, variables, types, units. Schema version 1.

Text is stored as characters in rows of fixed width. HDF5's strings of variable length live in a heap
that a killed program can leave out of step with the rows that point into it.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray

from experiments.journal import CaptureRow
from instruments.waveform import Codes, Units

SCHEMA = 1
ROLES = ("current", "voltage", "markers")
"""The three records of a capture, by what they show."""

RECORD_UNITS: Mapping[str, Units] = {"current": "A", "voltage": "V", "markers": "bits"}
CODE_TYPES = {"current": "u2", "voltage": "u2", "markers": "u1"}
LEVEL = 1
"""Level of deflate; see docs/decisions/0002-trace-compression.md."""

LONG_TEXT = 1024
"""Width from which a column of texts is compressed: most of it is padding."""

TEXTS = ("plan", "lab_yaml", "instruments", "environment", "summary", "settings", "calibrations")
"""Texts of /provenance."""

TRANSCRIPT = "transcript"
"""Text of /provenance that grows, of runs with a transcript alone: what the instruments were told and answered."""

COPIED = ("plan", "lab_yaml", "settings", "calibrations")
"""Texts of /provenance that results depend on: each stands there twice, the second time as NAME_copy."""

BLOBS = ("scope_setup_before", "scope_setup", "scope_screen")
"""Binary data of /provenance: the oscilloscope's learn string as it was found, and as it was used; its screen."""


@dataclass(frozen=True)
class Variable:
    """One variable along the dimension of its group. `kind` is a NumPy type, or `text` with a width."""

    kind: str
    units: str = ""
    note: str = ""

    @property
    def width(self) -> int:
        """Characters of a text; 0 for a number."""
        return int(self.kind.removeprefix("text")) if self.kind.startswith("text") else 0


PREAMBLE = {
    "format": Variable("i4", "", "0 BYTE, 1 WORD"),
    "type": Variable("i4", "", "how samples were made, as the oscilloscope codes it"),
    "points": Variable("i4", "", "samples of the record"),
    "count": Variable("i4", "", "averages"),
    "x_increment_s": Variable("f8", "s", "sampling period"),
    "x_origin_s": Variable("f8", "s", "time of sample x_reference, trigger at 0"),
    "x_reference": Variable("f8", "", "sample number of x_origin_s"),
    "y_increment": Variable("f8", "", "reading per code, in the unit of the source"),
    "y_origin": Variable("f8", "", "reading at code y_reference, in the unit of the source"),
    "y_reference": Variable("f8", "", "code of y_origin"),
}
"""Along (capture, source)."""

CHECKSUM = {"crc32": Variable("u4", "", "CRC-32 of the record's codes, little-endian")}
"""Along (capture, source)."""

SOURCE_NAME = Variable("text8", "", "current, voltage, markers")
"""Along (source)."""

CAPTURE = {
    "kind": Variable("text8", "", "zero, idle, gain or cell; of a calibration zero, load or marker"),
    "state": Variable("text16", "", "committed or rejected; empty: in flight when the program ended"),
    "reason": Variable("text1024", "", "why a rejected capture is not used"),
    "cell": Variable("i4", "", "position in the cell table, -1 for zero, idle and gain"),
    "network": Variable("text128", "", "what ran, empty where nothing ran"),
    "batch": Variable("i4", "", "images in one batch, 0 where nothing ran"),
    "repeat": Variable("i4", "", "number of the repeat, from 0"),
    "run_id": Variable("text64", "", "name of the run that the device was told"),
    "method": Variable("text16", "", "long, consecutive or steady; empty: one record holds the whole measured loop"),
    "part": Variable("i4", "", "number of the capture among those of its run, from 0"),
    "gap_before_s": Variable("f8", "s", "between the end of the part before and the start of this one, by the host"),
    "gate_moving_s": Variable("f8", "s", "what both moves of the gate took by the device's clock"),
    "gate_jitter_s": Variable("f8", "s", "how much the latency of a marker line differs, as the agent measured it"),
    "batches": Variable("i4", "", "batches that the device logged, -1 where nothing ran"),
    "images": Variable("i4", "", "images that the device logged, -1 where nothing ran"),
    "session": Variable("i4", "", "row of /sessions: which start of the bench, with a zero and a gain of its own"),
    "host_s": Variable("f8", "s", "bench's monotonic clock when the acquisition was started"),
    "settled_s": Variable("f8", "s", "bench's monotonic clock when the capture was committed or rejected"),
    "utc_s": Variable("f8", "seconds since 1970-01-01T00:00:00Z", "time of day when the acquisition was started"),
    "window_asked_s": Variable("f8", "s", "length of record asked for"),
    "gate_rise_ns": Variable("i8", "ns", "device's clock just after the gate was raised"),
    "gate_fall_ns": Variable("i8", "ns", "device's clock just before the gate was lowered"),
    "clock_offset_s": Variable("f8", "s", "device's clock minus host's"),
    "clock_bound_s": Variable("f8", "s", "half the shortest round trip: bound of the offset"),
    "clock_offset_after_s": Variable("f8", "s", "device's clock minus host's after the run: the difference is drift"),
    "clock_bound_after_s": Variable("f8", "s", "bound of the offset after the run"),
    "start_frame": Variable("i4", "", "run's number that the batch line told before the gate, -1 where none was sent"),
    "start_frame_edges": Variable("i4", "", "toggles of the batch line before the gate, by the device"),
    "device_busy_s": Variable("f8", "s", "how long before the gate's rise the device began to act: not idle"),
    "quiet_after_s": Variable(
        "f8", "s", "how long after the gate's fall the device did nothing, 0 where it did not say"
    ),
    "ready_facts": Variable("text8192", "", "what the device said of the prepared network, as JSON"),
    "device_facts": Variable("text16384", "", "what the device said of this run, as JSON"),
    "flags": Variable("text256", "", "codes of what disturbed the device, with blanks between"),
    "edge_limit_s": Variable(
        "f8", "s", "by how much either end of the measured loop may be off, where no marker line told it"
    ),
    "true_energy_j": Variable("f8", "J", "simulated bench only: true energy while the gate was high"),
    "true_idle_power_w": Variable("f8", "W", "simulated bench only: true power of the idle board"),
}

ON_DEMAND = ("ready_facts", "device_facts")
"""Texts of /captures so long that a reader gets them row by row."""

ROW_COPY = "row_copy"
COPY = {ROW_COPY: Variable("text2048", "", "the numbers of this row and what ran once more, as JSON: for recovery")}
"""A second copy of what a capture means nothing without, where a damaged column would else cost every capture."""

CELL = {
    "network": Variable("text128"),
    "batch": Variable("i4"),
    "repeat": Variable("i4"),
    "state": Variable(
        "text16", "", "from planned to fetched; at the end committed, rejected, refused, out of memory or not needed"
    ),
    "reason": Variable("text1024", "", "why a cell has no result"),
    "flags": Variable("text64", "", "code of why a cell has no result"),
    "capture": Variable("i4", "", "row of its capture, -1 without one"),
    "ended_s": Variable("f8", "s", "bench's monotonic clock when the cell got its last state"),
}

SESSION = {
    "began_utc_s": Variable("f8", "seconds since 1970-01-01T00:00:00Z", "when the bench was opened"),
    "instruments": Variable("text4096", "", "identities and resources, as JSON"),
    "environment": Variable("text4096", "", "versions of programs, as JSON"),
}

HOST_LOG = {
    "capture": Variable("i4"),
    "batch_index": Variable("i4"),
    "end_ns": Variable("i8", "ns", "device's clock at the end of a batch"),
}

READINGS = {
    "capture": Variable("i4"),
    "quantity": Variable("text4", "", "V or A at the supply's sense point"),
    "value": Variable("f8", "", "in the unit that quantity names"),
    "done_after_trigger_s": Variable("f8", "s", "latest time after the trigger at which the reading had ended"),
}

GROUPS: Mapping[str, tuple[str, Mapping[str, Variable]]] = {
    "cells": ("cell", CELL),
    "captures": ("capture", {**CAPTURE, **COPY}),
    "host_log": ("event", HOST_LOG),
    "readings": ("reading", READINGS),
    "sessions": ("session", SESSION),
}
"""Group -> the dimension along which it grows, and its variables."""


def unwritten(name: str, spec: Variable) -> Any:
    """What stands for a variable that the file of an earlier program does not have."""
    default = getattr(CaptureRow, name, None)
    if default is not None:
        return default
    return "" if spec.width else math.nan if spec.kind.startswith("f") else 0


_NOT_COPIED = {"state", "reason", "settled_s", "flags", *ON_DEMAND}
"""Columns that come later than the row, or that no result needs."""


def row_copy(values: Mapping[str, Any]) -> str:
    """Give the second copy of a row of /captures, without numbers that are not known (NaN); empty if it is too long."""
    copied = {name: value for name, value in values.items() if name not in _NOT_COPIED and value == value}
    text = json.dumps(copied, separators=(",", ":"), ensure_ascii=False, default=lambda number: number.item())
    return text if len(text.encode("utf-8")) <= COPY[ROW_COPY].width else ""


def from_copy(text: str) -> dict[str, Any]:
    """Read it back; nothing where there is none. Raises ValueError for what is no row."""
    if not text:
        return {}
    found = json.loads(text)
    if not isinstance(found, dict):
        raise ValueError("is no row")
    unknown = {name: math.nan for name, spec in CAPTURE.items() if spec.kind == "f8" and name not in _NOT_COPIED}
    return {**unknown, **found}


def describe(thing: h5py.Group | h5py.Dataset, **texts: str) -> None:
    """Give a group or variable attributes; empty ones are left out.

    As strings of fixed length: those of variable length lie in a heap that all share, where one flipped bit costs all.
    """
    for name, text in texts.items():
        if text:
            thing.attrs[name] = np.bytes_(text.encode("ascii"))


def alone(value: Any) -> Any:
    """The value of an attribute that netCDF's tools have copied: they make a row of every number and text."""
    return value.ravel()[0] if isinstance(value, np.ndarray) and value.size == 1 else value


def attribute(thing: h5py.Group | h5py.Dataset, name: str) -> str:
    """A text attribute, also of the strings of variable length of earlier files. Raises KeyError without it."""
    value = alone(thing.attrs[name])
    return value.decode("utf-8", "replace") if isinstance(value, bytes) else str(value)


def dimension(group: h5py.Group, name: str, length: int, *, index: bool = True, fixed: bool = False) -> h5py.Dataset:
    """Make a netCDF dimension; with `index` a coordinate that counts from 0, else a bare dimension."""
    dataset = group.create_dataset(
        name,
        shape=(length,),
        maxshape=None if fixed else (None,),
        dtype="i4" if index else ">f4",
        chunks=None if fixed else (max(length, 256),),
    )
    if index:
        dataset[:] = np.arange(length)
        dataset.make_scale(name)
    else:
        dataset.make_scale(f"This is a netCDF dimension but not a netCDF variable. {length:9d}")
    return dataset


def growing_text(group: h5py.Group, name: str) -> h5py.Dataset:
    """Make a text that can be added to; not compressed, so that a chunk is written again where it is."""
    scale = dimension(group, f"{name}_length", 0, index=False)
    dataset = group.create_dataset(
        name,
        shape=(0,),
        maxshape=(None,),
        dtype="S1",
        chunks=(65_536,),
        fletcher32=True,
    )
    describe(dataset, _Encoding="utf-8")
    dataset.dims[0].attach_scale(scale)
    return dataset


def variable(
    group: h5py.Group, along: str, name: str, spec: Variable, length: int = 0, across: str = ""
) -> h5py.Dataset:
    """Make a variable along one dimension of its group, and across a second one for texts and tables."""
    if spec.width:
        across = f"text{spec.width}"
        if across not in group:
            dimension(group, across, spec.width, index=False, fixed=True)
    wide = (int(group[across].shape[0]),) if across else ()
    packed = spec.width >= LONG_TEXT
    # A compressed chunk is never written twice: HDF5 may put it where the old one was, and a program that is killed
    # before the index follows would lose rows that were there.
    rows = 1 if packed else max(min(64, 32_768 // max(spec.width, 1)), min(length, 64), 1)
    limit = group[along].maxshape[0]
    dataset = group.create_dataset(
        name,
        shape=(length, *wide),
        maxshape=(limit, *wide),
        dtype="S1" if spec.width else spec.kind,
        chunks=(limit or rows, *wide),
        compression="gzip" if packed else None,
        compression_opts=LEVEL if packed else None,
        fletcher32=True,
    )
    if spec.width:
        describe(dataset, _Encoding="utf-8")
    describe(dataset, units=spec.units, long_name=spec.note)
    if across == "source":
        describe(dataset, coordinates="source_name")
    dataset.dims[0].attach_scale(group[along])
    if across:
        dataset.dims[1].attach_scale(group[across])
    return dataset


def stored(role: str, codes: Codes) -> NDArray[Any]:
    """Give codes in the type, and byte order, in which those of a role are stored."""
    return np.ascontiguousarray(codes, dtype=np.dtype(CODE_TYPES[role]).newbyteorder("<"))


def characters(text: str, width: int) -> NDArray[np.bytes_]:
    """Turn a text into (width,) characters, cut at a whole one where it is too long."""
    raw = text.encode("utf-8")
    if len(raw) > width:
        raw = raw[:width].decode("utf-8", "ignore").encode("utf-8")
    return np.frombuffer(raw.ljust(width, b"\0"), dtype="S1")


def text_of(row: NDArray[Any]) -> str:
    """Turn characters back into a text."""
    return row.tobytes().rstrip(b"\0").decode("utf-8", "replace")


def texts_of(rows: NDArray[Any]) -> list[str]:
    """Turn rows of characters, (n, width), back into texts."""
    whole = np.ascontiguousarray(rows).view(f"S{rows.shape[1]}").ravel()
    return [raw.decode("utf-8", "replace") for raw in whole.tolist()]
