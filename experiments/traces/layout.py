"""The variables of a trace file that is written: laid out in a new one, found again in one that is gone on with."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import h5py
import numpy as np

from experiments.plan import Plan
from experiments.traces import overview, schema
from experiments.traces.agreement import may_have_log
from experiments.traces.columns import Column
from experiments.traces.schema import CHECKSUM, PREAMBLE, ROLES


@dataclass(frozen=True)
class Variables:
    """The columns of each table by name, the codes of each role, each level of the overview by its block."""

    columns: dict[str, dict[str, Column]]
    codes: dict[str, h5py.Dataset]
    levels: dict[int, h5py.Dataset]

    def length(self, group: str) -> int:
        """How many rows a table has."""
        along, _ = schema.GROUPS[group]
        return int(self.columns[group][along].dataset.shape[0])

    def put(self, group: str, index: int, values: Mapping[str, Any]) -> None:
        """Write values into a row that is there."""
        for name, value in values.items():
            self.columns[group][name].put(index, value)

    def append(self, group: str, columns: Mapping[str, Any]) -> None:
        """Add rows to a table that grows; every column is of one length."""
        along, _ = schema.GROUPS[group]
        at, n = self.length(group), len(next(iter(columns.values())))
        for name, values in {**columns, along: np.arange(at, at + n)}.items():
            self.columns[group][name].append(at, values, n)


def lay_out(file: h5py.File, plan: Plan, source: str, points: int) -> Variables:
    """Make every group and variable in a new file, for records of usually `points` samples; flushed."""
    schema.describe(file, Conventions="CF-1.11", title="joulebench trace", source=source)
    file.attrs["joulebench_schema"] = np.int32(schema.SCHEMA)
    file.attrs["complete"] = np.int32(0)
    _provenance(file.create_group("provenance"))
    columns: dict[str, dict[str, Column]] = {}
    codes: dict[str, h5py.Dataset] = {}
    for group, (along, variables) in schema.GROUPS.items():
        g = file.create_group(group)
        length = len(plan.cells) if group == "cells" else 0
        made = {along: schema.dimension(g, along, length)}
        made |= {name: schema.variable(g, along, name, spec, length) for name, spec in variables.items()}
        if group == "captures":
            codes = _records(g, points)
            made |= {
                name: schema.variable(g, along, name, spec, across="source")
                for name, spec in {**PREAMBLE, **CHECKSUM}.items()
            }
        columns[group] = {name: Column(dataset) for name, dataset in made.items()}
    found = Variables(columns, codes, overview.lay_out(file, points))
    for cell in plan.cells:
        row = {"network": cell.network, "batch": cell.batch, "repeat": cell.repeat, "state": "planned"}
        found.put("cells", cell.position, {**row, "capture": -1, "ended_s": math.nan})
    file.flush()
    return found


def _provenance(group: h5py.Group) -> None:
    for name in (*schema.TEXTS, *(f"{name}_copy" for name in schema.COPIED), *schema.BLOBS):
        scale = schema.dimension(group, f"{name}_length", 0, index=False)
        is_text = name not in schema.BLOBS
        d = group.create_dataset(
            name, shape=(0,), maxshape=(None,), dtype="S1" if is_text else "u1", chunks=(4096,), fletcher32=True
        )
        if is_text:
            schema.describe(d, _Encoding="utf-8")
        d.dims[0].attach_scale(scale)


def _records(g: h5py.Group, points: int) -> dict[str, h5py.Dataset]:
    """The codes of each role, along (capture, sample)."""
    schema.dimension(g, "source", len(ROLES), index=False, fixed=True)
    Column(schema.variable(g, "source", "source_name", schema.SOURCE_NAME, len(ROLES))).put(0, ROLES, len(ROLES))
    sample = schema.dimension(g, "sample", 0, index=False)
    codes = {}
    for role in ROLES:
        dtype = np.dtype(schema.CODE_TYPES[role])
        dataset = g.create_dataset(
            f"{role}_codes",
            shape=(0, 0),
            maxshape=(None, None),
            dtype=dtype,
            chunks=(1, points),
            compression="gzip",
            compression_opts=schema.LEVEL,
            shuffle=dtype.itemsize > 1,
        )
        schema.describe(dataset, units="1", long_name=f"raw codes of the {role}; 0 is a hole or lies beyond points")
        dataset.dims[0].attach_scale(g["capture"])
        dataset.dims[1].attach_scale(sample)
        codes[role] = dataset
    return codes


def take_up(file: h5py.File) -> Variables:
    """Find every variable, and make the columns of each group as long as one another; flushed.

    A program that was killed while it added a row has lengthened some of them only. Captures keep such a row: its
    state is empty, and that says that it was in flight; rows of the other tables are dropped. So is what they hold
    of a capture that has no row, since the next one takes its place.
    """
    g = file["captures"]
    codes = {role: g[f"{role}_codes"] for role in ROLES}
    levels = {block: file["overview"][overview.name_of(block)] for block in overview.BLOCKS}
    columns: dict[str, dict[str, Column]] = {}
    for group, (along, variables) in schema.GROUPS.items():
        names = [along, *variables, *((*PREAMBLE, *CHECKSUM) if group == "captures" else ())]
        _add_new(file[group], along, variables)
        mine = columns[group] = {name: Column(file[group][name]) for name in names}
        if group == "cells":
            continue
        lengths = [column.dataset.shape[0] for column in mine.values()]
        length = max(lengths) if group == "captures" else min(lengths)
        if "capture" in variables:
            length = _belonging(g, group, mine["capture"], length)
        for column in mine.values():
            if column.dataset.shape[0] != length:
                column.dataset.resize(length, axis=0)
        mine[along].dataset[:] = np.arange(length)
    for dataset in (*codes.values(), *levels.values()):
        if dataset.shape[0] > g["capture"].shape[0]:
            dataset.resize(g["capture"].shape[0], axis=0)
    file.attrs.modify("complete", np.int32(0))
    file.flush()
    return Variables(columns, codes, levels)


def _belonging(captures: h5py.Group, group: str, of_capture: Column, length: int) -> int:
    """How many rows of a table there are without those at its end that are of no capture, or read as zeros."""
    kinds = schema.texts_of(captures["kind"][:])
    known = [k for k, kind in enumerate(kinds) if group != "host_log" or may_have_log({"kind": kind})]
    found = np.flatnonzero(np.isin(of_capture.dataset[:length], known))
    return int(found[-1]) + 1 if len(found) else 0


def _add_new(g: h5py.Group, along: str, variables: Mapping[str, schema.Variable]) -> None:
    """Give a file of an earlier program the variables that it does not have, with what stands for them."""
    for name, spec in variables.items():
        if name not in g:
            length = int(g[along].shape[0])
            column = Column(schema.variable(g, along, name, spec, length))
            for row in range(length):
                column.put(row, schema.unwritten(name, spec))
