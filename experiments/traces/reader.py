"""Reads the trace file of one run, whatever state its writer left it in."""

from __future__ import annotations

import functools
import json
from collections.abc import Collection, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import TracebackType
from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray

from calibration.records import Filed
from experiments.capture_data import CaptureData
from experiments.journal import Reading
from experiments.plan import Plan
from experiments.traces import overview, schema, unsealed
from experiments.traces.agreement import may_have_log
from experiments.traces.damage import DamageError, chunks_there, reading, require_stored, tells_damage
from experiments.traces.host_log import HostLog
from experiments.traces.overview import Overview
from experiments.traces.schema import PREAMBLE, RECORD_UNITS, ROLES
from experiments.traces.seal import Seal
from experiments.traces.tables import Column, Table, Texts, numbers
from experiments.windows import AnalogueMarkers, Bits, WindowSource
from instruments import lab as lab_yaml
from instruments.errors import ConfigError, TraceError
from instruments.lab import Lab
from instruments.waveform import Capture, Preamble, Record

TEXTS_AT_ONCE = 64
"""Long texts that are read together: one by one they take longer than the codes of a short capture."""


INDEX_BYTES = 1 << 18
"""What HDF5 may hold of its own index of a file."""

ROWS_AT_ONCE = 1024
"""Rows of a table's texts that are read together."""


class TraceReader:
    """Reads one run; `file` is the open HDF5 file. Raises TraceError for what is no trace, or of a newer schema.

    `sealed` says that the file was closed, and that its structure is known to be what was written (see `seal`).

    `windows` may be set to where the measured loops are, instead of what the file's own markers say; `calibrations` to
    records that take the place of the file's own of the same kinds. `calibration_required` says that what lies
    beyond the records is to be refused, as it is of a run that was measured so.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        self.windows: WindowSource | None = None
        self.calibrations: Sequence[Filed] | None = None
        self.calibration_required = False
        self._texts: dict[str, tuple[int, list[str]]] = {}
        if self.path.exists() and not self.path.is_file():
            raise TraceError(f"{self.path}: is no file")
        seal = Seal.of(self.path)  # before HDF5, which follows whatever its structure says
        self.sealed = seal is not None
        if seal is not None and seal.altered:
            raise DamageError(
                f"{self.path}: is damaged: {seal}; what belongs there is stored behind its end, and "
                f"python -m experiments.traces recover {self.path} puts it back"
            )
        try:
            self.file = h5py.File(self.path, "r")
        except FileNotFoundError as error:
            raise TraceError(f"{self.path}: there is no such file") from error
        except OSError as error:
            hint = f"it is cut off or not HDF5 ({error})"
            if "lock file" in str(error):
                hint = "another program is writing it"
            elif "truncated" in str(error):
                hint = f"it is cut off; python -m experiments.traces recover {self.path} saves what is left"
            elif isinstance(error, PermissionError):
                hint = "it may not be read"
            raise TraceError(f"{self.path}: cannot be opened as a trace file: {hint}") from error
        try:
            _hold_little(self.file)
            self._check()
        except (KeyError, RuntimeError, OSError, TypeError) as error:
            self.file.close()
            raise DamageError(
                f"{self.path}: is damaged ({str(error)[:160]}); python -m experiments.traces check tells what is left"
            ) from error
        except BaseException:
            self.file.close()
            raise

    def _check(self) -> None:
        found = schema.alone(self.file.attrs.get("joulebench_schema"))
        if found is None:
            raise TraceError(f"{self.path}: is HDF5 but not a joulebench trace (no joulebench_schema attribute)")
        if not isinstance(found, int | np.integer) or found < 1:
            raise TraceError(f"{self.path}: is damaged: its schema is {str(found)[:40]!r}, no version")
        if int(found) > schema.SCHEMA:
            raise TraceError(
                f"{self.path}: has trace schema {int(found)}, this program reads up to {schema.SCHEMA}: "
                "upgrade joulebench"
            )
        for group in ("provenance", "cells", "captures"):
            if group not in self.file:
                raise TraceError(f"{self.path}: the group /{group} is missing: the file was cut before its first flush")

    @property
    def schema(self) -> int:
        """Version of the file's schema."""
        return int(schema.alone(self.file.attrs["joulebench_schema"]))

    @property
    @tells_damage
    def source(self) -> str:
        """Kind of the data: simulated or measured."""
        return schema.attribute(self.file, "source")

    @property
    @tells_damage
    def complete(self) -> bool:
        """Whether the sweep visited every cell."""
        return bool(schema.alone(self.file.attrs["complete"]))

    @property
    @tells_damage
    def plan(self) -> Plan:
        """The sweep's plan."""
        text = self.text("plan")
        with reading("/provenance/plan"):
            return Plan.from_json(text)

    @tells_damage
    def text(self, name: str) -> str:
        """Text of /provenance; raises TraceError when it was never written."""
        g = self.file["provenance"]
        if name not in g or g[name].shape == (0,):
            raise TraceError(f"{self.path}: /provenance/{name} is missing")
        with reading(f"/provenance/{name}"):
            return schema.text_of(g[name][:])

    def transcript(self) -> str:
        """What the instruments were told and answered, as JSON lines without the data of blocks; empty without one."""
        try:
            return self.text(schema.TRANSCRIPT)
        except DamageError:
            raise
        except TraceError:
            return ""

    @tells_damage
    def blob(self, name: str) -> bytes:
        """Binary data of /provenance; empty when it was never written."""
        g = self.file["provenance"]
        with reading(f"/provenance/{name}"):
            return bytes(g[name][:].tobytes()) if name in g else b""

    @tells_damage
    def json(self, name: str) -> Any:
        """Text of /provenance parsed as JSON; {} when it was never written."""
        try:
            text = self.text(name)
        except DamageError:
            raise
        except TraceError:
            return {}
        with reading(f"/provenance/{name}"):
            return json.loads(text)

    def cells(self) -> Table:
        """The cell table: one mapping per cell, in the order of the plan."""
        return self._cells

    @functools.cached_property
    @tells_damage
    def _cells(self) -> Table:
        if not self.sealed:
            unsealed.require_cells(self.file["cells"])
        return self._table("cells")

    def captures(self) -> Table:
        """The capture table without codes and long texts (`schema.ON_DEMAND`): one mapping per capture."""
        return self._captures

    @functools.cached_property
    @tells_damage
    def _captures(self) -> Table:
        if not self.sealed:
            unsealed.require_captures(self.file["captures"])
        return self._table("captures", (*schema.ON_DEMAND, *schema.COPY))

    @tells_damage
    def long_text(self, name: str, index: int) -> str:
        """A long text (one of `schema.ON_DEMAND`, or the row's copy) of one capture; empty where there is none."""
        first = index - index % TEXTS_AT_ONCE
        if name not in self._texts or self._texts[name][0] != first:
            with reading(f"/captures/{name}"):
                group = self.file["captures"]
                there = name in group
                if there and not self.sealed and group[name].compression is None:
                    raise OSError("it is not compressed any more")
                texts = schema.texts_of(group[name][first : first + TEXTS_AT_ONCE]) if there else []
            self._texts[name] = first, texts
        texts = self._texts[name][1]
        return texts[index - first] if index - first < len(texts) else ""  # of a capture that was in flight

    def readings(self, index: int) -> list[Reading]:
        """The supply's readings that belong to a capture."""
        return list(self._readings.get(index, ())) if index < len(self.captures()) else []

    @functools.cached_property
    def _readings(self) -> dict[int, list[Reading]]:
        found: dict[int, list[Reading]] = {}
        table = self._table("readings")
        self._require_of_captures("readings")
        for r in table:
            found.setdefault(r["capture"], []).append(Reading(r["quantity"], r["value"], r["done_after_trigger_s"]))
        return found

    @tells_damage
    def host_log(self) -> HostLog:
        """The device's log: for each capture with one, the ends of its batches by the device's clock, ns, in order.

        The log of a capture whose own row was never written, since the program died, is left out, and what reads as
        that of one in which nothing ran.
        """
        ran = {index for index, row in enumerate(self.captures()) if may_have_log(row)}
        self._require_of_captures("host_log")
        with reading("/host_log"):
            g = self.file["host_log"]
            log = HostLog(self.path, g["capture"], g["end_ns"], ran)
        if not self.sealed:
            unsealed.require_logs(g, self.captures(), log.lengths())
        return log

    @tells_damage
    def sessions(self) -> Table:
        """Every start of the bench for this run: when, which instruments, which versions."""
        if not self.sealed and "sessions" in self.file:
            unsealed.require_sessions(self.file["sessions"], self.captures())
        return self._table("sessions")

    @tells_damage
    def _require_of_captures(self, name: str) -> None:
        """Raise DamageError where rows of a committed capture in another table are not in the file."""
        if not self.sealed and name in self.file:
            committed = [index for index, row in enumerate(self.captures()) if row["state"] == "committed"]
            unsealed.require_of_captures(self.file[name], name, committed)

    @tells_damage
    def preambles(self) -> dict[str, NDArray[Any]]:
        """The preambles as columns of shape (capture, source), sources in the order of `ROLES`."""
        g, found = self.file["captures"], {}
        for name in PREAMBLE:
            with reading(f"/captures/{name}"):
                found[name] = g[name][:]
        return found

    @tells_damage
    def overview(self, role: str, span: tuple[int, int] | None = None, points: int = 1000) -> Overview:
        """Look at a channel ("current", "voltage" or "markers") from one sample to another in `points` stretches.

        Samples count through all captures, each as long as the longest; without `span`, all of them.
        """
        scales = self._scales
        with reading(f"/overview or /captures/{role}_codes"):
            captures = self.file["captures"]
            span = span or (0, captures["capture"].shape[0] * captures["sample"].shape[0])
            return overview.look(self.file, scales, role, span, points, self._pool)

    @functools.cached_property
    def _pool(self) -> ThreadPoolExecutor:
        return ThreadPoolExecutor(4)

    @functools.cached_property
    def _scales(self) -> dict[str, NDArray[Any]]:
        return self.preambles()

    def lab(self) -> Lab:
        """The bench's facts as they were read; raises TraceError or ConfigError when they are lost."""
        text = self.text("lab_yaml")
        try:
            return _lab_of(text)
        except ConfigError:
            return lab_yaml.parse(text, name=f"{self.path}:/provenance/lab_yaml")

    def capture(self, index: int) -> Capture:
        """The records of one capture as they are stored. Raises TraceError as `data` does."""
        return Capture({role: self._record(role, index) for role in ROLES})

    def analogue_markers(self) -> AnalogueMarkers | None:
        """How the markers are read where an analogue record stands in their place (imported runs); None: bits."""
        settings = self.json("settings")
        said = settings.get("analogue_markers") if isinstance(settings, dict) else None
        if said is None:
            return None
        wiring = self.lab().wiring
        return AnalogueMarkers(
            "markers",
            tuple(said["thresholds"]),
            said["hysteresis"],
            Bits(wiring.gate.digital, wiring.batch.digital),
            said["named"],
        )

    @tells_damage
    def _table(self, group: str, without: Collection[str] = ()) -> Table:
        if group not in self.file:
            return Table({})
        g = self.file[group]
        if not self.sealed:
            unsealed.require_names(g)
        _, variables = schema.GROUPS[group]
        columns: dict[str, Column] = {}
        for name, spec in variables.items():
            if name not in without and name in g:
                with reading(f"/{group}/{name}"):
                    columns[name] = _texts(g[name]) if spec.width else numbers(g[name][:])
        length = min(len(column) for column in columns.values())
        for name in variables.keys() - columns.keys() - set(without):  # an earlier program did not write it
            columns[name] = [schema.unwritten(name, variables[name])] * length
        return Table(columns)

    def data(self, states: Sequence[str] = ("committed",), kinds: Sequence[str] | None = None) -> Iterator[CaptureData]:
        """Every capture in one of the states (and of one of the kinds), with its records, one at a time.

        Raises TraceError naming the dataset and row when codes cannot be read (a checksum that fails).
        """
        windows = self.windows or self.analogue_markers()
        for index, row in enumerate(self.captures()):
            if row["state"] in states and (kinds is None or row["kind"] in kinds):
                found = CaptureData(
                    index,
                    row["kind"],
                    row["network"],
                    row["batch"],
                    row["repeat"],
                    row["host_s"],
                    Capture({role: self._record(role, index) for role in ROLES}),
                    row["batches"] if row["batches"] >= 0 else None,
                    row["images"] if row["images"] >= 0 else None,
                    row["true_energy_j"],
                    row["true_idle_power_w"],
                    row["start_frame"] if row["start_frame"] >= 0 else None,
                    row["start_frame_edges"],
                    row["device_busy_s"],
                    row["session"],
                    edge_s=row["edge_limit_s"] if row["edge_limit_s"] == row["edge_limit_s"] else None,
                    run_id=row["run_id"],
                    method=row["method"],
                    part=row["part"],
                    gap_before_s=row["gap_before_s"],
                    device_s=(row["gate_fall_ns"] - row["gate_rise_ns"]) * 1e-9,
                    gate_moving_s=row["gate_moving_s"],
                    gate_jitter_s=row["gate_jitter_s"],
                    quiet_after_s=row["quiet_after_s"],
                )
                yield windows.apply(found) if windows is not None else found

    @functools.cached_property
    def _codes(self) -> dict[str, h5py.Dataset]:
        """The codes of each role: to find them again for every capture takes as long as to read a short one.

        HDF5 keeps none of their chunks, which are read once: to fill 8 MiB of memory for each role takes its time too.
        """
        access = h5py.h5p.create(h5py.h5p.DATASET_ACCESS)
        access.set_chunk_cache(1, 0, 1.0)
        group = self.file["captures"].id
        return {role: h5py.Dataset(h5py.h5d.open(group, f"{role}_codes".encode(), access)) for role in ROLES}

    @functools.cached_property
    def _rows_of_preambles(self) -> NDArray[np.void]:
        """The same by rows, (capture, source): one after another they are read several times faster."""
        columns = self.preambles()
        length = min(map(len, columns.values()))  # of the last row not all may have been written
        rows = np.empty((length, len(ROLES)), dtype=[(name, spec.kind) for name, spec in PREAMBLE.items()])
        for name, values in columns.items():
            rows[name] = values[:length]
        return rows

    @functools.cached_property
    def _codes_there(self) -> dict[str, NDArray[np.bool_]]:
        """Of each role, which chunks of its codes are there."""
        return {role: chunks_there(dataset) for role, dataset in self._codes.items()}

    def _record(self, role: str, index: int) -> Record:
        preamble = _preamble(*self._rows_of_preambles[index, ROLES.index(role)].item())
        try:
            dataset = self._codes[role]
            if not self.sealed:
                require_stored(self._codes_there[role][index, : -(-preamble.points // dataset.chunks[1])])
            codes = dataset[index, : preamble.points]
        except (OSError, IndexError) as error:
            raise TraceError(
                f"{self.path}: /captures/{role}_codes row {index} is damaged ({error}); the other rows are not affected"
            ) from error
        return Record(role, preamble, codes, RECORD_UNITS[role])

    def close(self) -> None:
        """Close the file; may be called again."""
        self.file.close()

    def __enter__(self) -> TraceReader:
        return self

    def __exit__(self, *_: type[BaseException] | BaseException | TracebackType | None) -> None:
        self.close()


def _hold_little(file: h5py.File) -> None:
    """Have HDF5 forget where the chunks of earlier captures lie: what it holds of that takes eight times as much memory
    as it counts, and a reader goes on from capture to capture."""
    config = file.id.get_mdc_config()
    config.set_initial_size = True
    config.initial_size = config.min_size = config.max_size = INDEX_BYTES
    file.id.set_mdc_config(config)


def _texts(dataset: h5py.Dataset) -> list[str]:
    """Some rows at a time: as characters they are many times as long."""
    texts = Texts()
    for first in range(0, dataset.shape[0], ROWS_AT_ONCE):
        texts.add(schema.texts_of(dataset[first : first + ROWS_AT_ONCE]))
    return texts.column


@functools.lru_cache(maxsize=64)
def _preamble(*fields: Any) -> Preamble:
    """Those of one run are nearly all alike."""
    return Preamble(**dict(zip(PREAMBLE, fields, strict=True)))


@functools.lru_cache(maxsize=16)
def _lab_of(text: str) -> Lab:
    """Files of one bench hold one text: reading it takes as long as reducing a capture or two."""
    return lab_yaml.parse(text)
