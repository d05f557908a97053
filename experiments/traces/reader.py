"""Reads the trace file of one run, whatever state its writer left it in."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any

import h5py
import numpy as np

from experiments.energy import CaptureData
from experiments.plan import Plan
from experiments.traces import schema
from experiments.traces.schema import PREAMBLE, RECORD_UNITS, ROLES, Reading
from instruments.errors import TraceError
from instruments.waveform import Capture, Preamble, Record


class TraceReader:
    """Reads one run. Raises TraceError for what is no trace file, or of a newer schema."""

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        if self.path.exists() and not self.path.is_file():
            raise TraceError(f"{self.path}: is no file")
        try:
            self._file = h5py.File(self.path, "r")
        except FileNotFoundError as error:
            raise TraceError(f"{self.path}: there is no such file") from error
        except OSError as error:
            hint = "another program is writing it" if "lock file" in str(error) else "it is cut off or not HDF5"
            raise TraceError(f"{self.path}: cannot be opened as a trace file: {hint} ({error})") from error
        try:
            self._check()
        except BaseException:
            self._file.close()
            raise

    def _check(self) -> None:
        found = self._file.attrs.get("joulebench_schema")
        if found is None:
            raise TraceError(f"{self.path}: is HDF5 but not a joulebench trace (no joulebench_schema attribute)")
        if not isinstance(found, int | np.integer):
            raise TraceError(f"{self.path}: is damaged: its schema is {str(found)[:40]!r}, no number")
        if int(found) > schema.SCHEMA:
            raise TraceError(
                f"{self.path}: has trace schema {int(found)}, this program reads up to {schema.SCHEMA}: "
                "upgrade joulebench"
            )
        for group in ("provenance", *schema.GROUPS):
            if group not in self._file:
                raise TraceError(f"{self.path}: the group /{group} is missing: the file was cut before its first flush")

    @property
    def source(self) -> str:
        """Kind of the data: simulated or measured."""
        return str(self._file.attrs["source"])

    @property
    def complete(self) -> bool:
        """Whether the sweep visited every cell."""
        return bool(self._file.attrs["complete"])

    @property
    def plan(self) -> Plan:
        """The sweep's plan."""
        return Plan.from_json(self.text("plan"))

    def text(self, name: str) -> str:
        """Text of /provenance; raises TraceError when it was never written."""
        g = self._file["provenance"]
        if name not in g or g[name].shape == (0,):
            raise TraceError(f"{self.path}: /provenance/{name} is missing")
        return schema.text_of(g[name][:])

    def blob(self, name: str) -> bytes:
        """Binary data of /provenance; empty when it was never written."""
        g = self._file["provenance"]
        return bytes(g[name][:].tobytes()) if name in g else b""

    def json(self, name: str) -> Any:
        """Text of /provenance parsed as JSON; {} when it was never written."""
        try:
            return json.loads(self.text(name))
        except TraceError:
            return {}

    def cells(self) -> list[dict[str, Any]]:
        """The cell table: one mapping per cell, in the order of the plan."""
        return self._table("cells")

    def captures(self) -> list[dict[str, Any]]:
        """The capture table without codes: one mapping per capture."""
        return self._table("captures")

    def readings(self, index: int) -> list[Reading]:
        """The supply's readings that belong to a capture."""
        return [
            Reading(r["quantity"], r["value"], r["done_after_trigger_s"])
            for r in self._table("readings")
            if r["capture"] == index
        ]

    def _table(self, group: str) -> list[dict[str, Any]]:
        g = self._file[group]
        _, variables = schema.GROUPS[group]
        columns: dict[str, list[Any]] = {}
        for name, spec in variables.items():
            values = g[name][:]
            columns[name] = [schema.text_of(row) for row in values] if spec.width else values.tolist()
        # A program that died may have left the last row half written.
        length = min(len(column) for column in columns.values())
        return [{name: column[k] for name, column in columns.items()} for k in range(length)]

    def data(self, states: Sequence[str] = ("committed",)) -> Iterator[CaptureData]:
        """Every capture in one of the states, with its records, one at a time.

        Raises TraceError naming the dataset and row when codes cannot be read (a checksum that fails).
        """
        g = self._file["captures"]
        columns = {name: g[name][:] for name in PREAMBLE}
        for index, row in enumerate(self.captures()):
            if row["state"] in states:
                yield CaptureData(
                    index,
                    row["kind"],
                    row["network"],
                    row["batch"],
                    row["repeat"],
                    row["host_s"],
                    Capture({role: self._record(g, columns, role, index) for role in ROLES}),
                    row["batches"] if row["batches"] >= 0 else None,
                    row["images"] if row["images"] >= 0 else None,
                    row["true_energy_j"],
                    row["true_idle_power_w"],
                )

    def _record(self, g: h5py.Group, columns: Mapping[str, Any], role: str, index: int) -> Record:
        fields = {name: columns[name][index, ROLES.index(role)].item() for name in PREAMBLE}
        try:
            codes = g[f"{role}_codes"][index, : fields["points"]]
        except OSError as error:
            raise TraceError(
                f"{self.path}: /captures/{role}_codes row {index} is damaged ({error}); the other rows are not affected"
            ) from error
        return Record(role, Preamble(**fields), codes, RECORD_UNITS[role])

    def close(self) -> None:
        """Close the file; may be called again."""
        self._file.close()

    def __enter__(self) -> TraceReader:
        return self

    def __exit__(self, *_: type[BaseException] | BaseException | TracebackType | None) -> None:
        self.close()
