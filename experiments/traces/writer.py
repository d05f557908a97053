"""Writes the trace file of one run so that a program that dies leaves a file that opens.

Everything is laid out before the first capture. A capture is written and flushed first, its state set
and flushed last: a row without a state is what was in flight.
"""

from __future__ import annotations

import contextlib
import errno
import math
import os
import resource
import zlib
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from types import TracebackType
from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray

from experiments.journal import CaptureRow, Reading
from experiments.plan import Plan
from experiments.traces import overview, schema
from experiments.traces.agreement import may_have_log
from experiments.traces.damage import damage_told
from experiments.traces.reader import TraceReader
from experiments.traces.schema import CAPTURE, CHECKSUM, PREAMBLE, ROLES
from instruments.errors import TraceError
from instruments.waveform import Capture, Record

RESERVE_BYTES = 2 * 2**20
"""Kept free beyond what a capture may take, for the journal and the file's own tables."""

UNFINISHED = ".unfinished"
"""Ending of a file that is still being laid out."""

_UNSET = {"settled_s": math.nan}
"""What stands in a column until the capture is settled, where it is no text."""


class CannotWriteError(TraceError):
    """A trace file that cannot be created, or a disk that is full; `why` tells it without advice."""

    def __init__(self, why: str, message: str) -> None:
        super().__init__(message)
        self.why = why


_ChunkJob = tuple[h5py.Dataset, tuple[int, int], "Future[bytes]"]


class TraceWriter:
    """Writes one run; create it with `TraceWriter.create`, close it with `close` or as a context manager."""

    def __init__(self, path: Path, file: h5py.File) -> None:
        self.path, self._file = path, file
        self._columns: dict[str, dict[str, _Column]] = {}
        self._codes: dict[str, h5py.Dataset] = {}
        self._levels: dict[int, h5py.Dataset] = {}
        self._pool = ThreadPoolExecutor(2)
        self._said: Callable[[], str] | None = None
        self._unsaid = b""

    @classmethod
    def create(
        cls, path: str | Path, plan: Plan, *, source: str, texts: Mapping[str, str], points: int = 100_000
    ) -> TraceWriter:
        """Start a new file.

        `source` is "simulated" or "measured", `texts` goes to /provenance (see `schema.TEXTS`), `points` is
        the usual length of a record. Raises TraceError when the file exists already or cannot be created.
        """
        path = Path(path)
        if path.exists():
            raise TraceError(f"{path}: there is a trace file already: name another folder")
        unfinished = path.with_name(path.name + UNFINISHED)
        try:
            _require_room(path, path.parent, RESERVE_BYTES, 0)
            file = h5py.File(unfinished, "w")
        except (OSError, ValueError, CannotWriteError) as error:
            why = error.why if isinstance(error, CannotWriteError) else _why(error)
            raise CannotWriteError(why, f"{path}: a new trace file cannot be created here ({why})") from error
        writer = cls(path, file)
        try:
            writer._lay_out(plan, source, points)
            for name, text in {"plan": plan.to_json(), **texts}.items():
                writer.text(name, text)
            if path.exists():  # made meanwhile; from here on the lock of the unfinished file keeps others away
                raise TraceError(f"{path}: another program has just made a trace file here: name another folder")
            # Under its own name only once it opens: a file that was killed while it was laid out holds nothing.
            os.rename(unfinished, path)
        except BaseException:
            writer.close()
            unfinished.unlink(missing_ok=True)
            raise
        return writer

    @classmethod
    def resume(cls, path: str | Path) -> TraceWriter:
        """Open a run that ended early, to go on with it; what it holds is not touched.

        Raises TraceError when it is no trace file, another program is writing it, or it cannot be written.
        """
        path = Path(path)
        with TraceReader(path) as reader:
            if reader.schema != schema.SCHEMA:
                raise TraceError(f"{path}: has schema {reader.schema}; only {schema.SCHEMA} can be gone on with")
        try:
            file = h5py.File(path, "r+")
        except OSError as error:
            why = "another program is writing or reading it" if "lock" in str(error) else str(error)
            raise TraceError(f"{path}: cannot be gone on with: {why}") from error
        writer = cls(path, file)
        try:
            with damage_told(path):
                writer._take_up()
        except BaseException:
            writer.close()
            raise
        return writer

    def _take_up(self) -> None:
        """Find every variable, and make the columns of each group as long as one another.

        A program that was killed while it added a row has lengthened some of them only. Captures keep such a row: its
        state is empty, and that says that it was in flight; rows of the other tables are dropped. So is what they hold
        of a capture that has no row, since the next one takes its place.
        """
        g = self._file["captures"]
        self._codes = {role: g[f"{role}_codes"] for role in ROLES}
        self._levels = {block: self._file["overview"][overview.name_of(block)] for block in overview.BLOCKS}
        for group, (along, variables) in schema.GROUPS.items():
            names = [along, *variables, *((*PREAMBLE, *CHECKSUM) if group == "captures" else ())]
            self._add_new(group, along, variables)
            self._columns[group] = {name: _Column(self._file[group][name]) for name in names}
            if group == "cells":
                continue
            lengths = [column.dataset.shape[0] for column in self._columns[group].values()]
            length = max(lengths) if group == "captures" else min(lengths)
            if "capture" in variables:
                length = self._belonging(group, length)
            for column in self._columns[group].values():
                if column.dataset.shape[0] != length:
                    column.dataset.resize(length, axis=0)
            self._columns[group][along].dataset[:] = np.arange(length)
        for dataset in (*self._codes.values(), *self._levels.values()):
            if dataset.shape[0] > g["capture"].shape[0]:
                dataset.resize(g["capture"].shape[0], axis=0)
        self._file.attrs.modify("complete", np.int32(0))
        self._file.flush()

    def _belonging(self, group: str, length: int) -> int:
        """How many rows of a table there are without those at its end that are of no capture, or read as zeros."""
        kinds = schema.texts_of(self._file["captures/kind"][:])
        known = [k for k, kind in enumerate(kinds) if group != "host_log" or may_have_log({"kind": kind})]
        found = np.flatnonzero(np.isin(self._columns[group]["capture"].dataset[:length], known))
        return int(found[-1]) + 1 if len(found) else 0

    def _add_new(self, group: str, along: str, variables: Mapping[str, schema.Variable]) -> None:
        """Give a file of an earlier program the variables that it does not have, with what stands for them."""
        g = self._file[group]
        for name, spec in variables.items():
            if name not in g:
                length = int(g[along].shape[0])
                column = _Column(schema.variable(g, along, name, spec, length))
                for row in range(length):
                    column.put(row, schema.unwritten(name, spec))

    def _lay_out(self, plan: Plan, source: str, points: int) -> None:
        f = self._file
        schema.describe(f, Conventions="CF-1.11", title="joulebench trace", source=source)
        f.attrs["joulebench_schema"] = np.int32(schema.SCHEMA)
        f.attrs["complete"] = np.int32(0)
        provenance = f.create_group("provenance")
        for name in (*schema.TEXTS, *schema.BLOBS):
            scale = schema.dimension(provenance, f"{name}_length", 0, index=False)
            is_text = name in schema.TEXTS
            d = provenance.create_dataset(
                name, shape=(0,), maxshape=(None,), dtype="S1" if is_text else "u1", chunks=(4096,)
            )
            if is_text:
                schema.describe(d, _Encoding="utf-8")
            d.dims[0].attach_scale(scale)
        for group, (along, variables) in schema.GROUPS.items():
            g = f.create_group(group)
            length = len(plan.cells) if group == "cells" else 0
            made = {along: schema.dimension(g, along, length)}
            made |= {name: schema.variable(g, along, name, spec, length) for name, spec in variables.items()}
            if group == "captures":
                made |= self._lay_out_records(g, points)
            self._columns[group] = {name: _Column(dataset) for name, dataset in made.items()}
        self._levels = overview.lay_out(f, points)
        for cell in plan.cells:
            row = {"network": cell.network, "batch": cell.batch, "repeat": cell.repeat, "state": "planned"}
            self._set("cells", cell.position, {**row, "capture": -1, "ended_s": math.nan})
        f.flush()

    def _lay_out_records(self, g: h5py.Group, points: int) -> dict[str, h5py.Dataset]:
        schema.dimension(g, "source", len(ROLES), index=False, fixed=True)
        _Column(schema.variable(g, "source", "source_name", schema.SOURCE_NAME, len(ROLES))).put(0, ROLES, len(ROLES))
        sample = schema.dimension(g, "sample", 0, index=False)
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
            self._codes[role] = dataset
        along = {**PREAMBLE, **CHECKSUM}
        return {name: schema.variable(g, "capture", name, spec, across="source") for name, spec in along.items()}

    def add(self, row: CaptureRow, capture: Capture, sources: Mapping[str, str]) -> int:
        """Store one capture's codes and facts, flushed, its state still empty; returns its index.

        `sources` maps each role to the record that plays it, such as {"current": "CHAN1", ...}.
        """
        self._require_room(2 * sum(r.codes.nbytes for r in capture.records.values()))
        columns = self._columns["captures"]
        index = int(columns["capture"].dataset.shape[0])
        records = {role: capture.records[sources[role]] for role in ROLES}
        jobs = self._compress(index, records)
        values: dict[str, Any] = {name: getattr(row, name, _UNSET.get(name, "")) for name in CAPTURE}
        values |= {name: [getattr(records[r].preamble, name) for r in ROLES] for name in PREAMBLE}
        values["crc32"] = [zlib.crc32(schema.stored(r, records[r].codes).data) for r in ROLES]
        for name, value in {**values, "capture": index}.items():
            columns[name].append(index, value)
        self._log(index, row)
        self._summarise(index, records)
        for dataset, place, job in jobs:
            dataset.id.write_direct_chunk(place, job.result())
        self._file.flush()
        return index

    def amend(self, index: int, row: CaptureRow) -> None:
        """Write the facts of a capture anew that was added while its run went on, with the run's log; flushed."""
        self._set("captures", index, {name: getattr(row, name) for name in CAPTURE if hasattr(row, name)})
        self._log(index, row)
        self._file.flush()

    def _log(self, index: int, row: CaptureRow) -> None:
        ends = np.asarray(row.batch_end_ns, dtype=np.int64)
        if ends.size:
            capture_column = np.full(ends.size, index)
            self._rows("host_log", {"capture": capture_column, "batch_index": np.arange(ends.size), "end_ns": ends})

    def _require_room(self, n_bytes: int) -> None:
        """Refuse to write what may not fit; raises CannotWriteError."""
        _require_room(self.path, self.path.parent, n_bytes + RESERVE_BYTES, self.path.stat().st_size)

    def _compress(self, index: int, records: Mapping[str, Record]) -> list[_ChunkJob]:
        """Make room for the codes and start to compress them, in threads while the facts are written.

        The filters are HDF5's shuffle and deflate, so any reader undoes them; deflate carries a checksum.
        """
        sample = self._file["captures/sample"]
        longest = max(int(sample.shape[0]), *(len(r.codes) for r in records.values()))
        if longest > sample.shape[0]:
            sample.resize((longest,))
        jobs: list[_ChunkJob] = []
        for role, record in records.items():
            dataset = self._codes[role]
            dataset.id.set_extent((index + 1, longest))
            size = dataset.chunks[1]
            for at in range(0, len(record.codes), size):
                piece = schema.stored(role, record.codes[at : at + size])
                jobs.append((dataset, (index, at), self._pool.submit(_chunk, piece, size)))
        return jobs

    def _summarise(self, index: int, records: Mapping[str, Record]) -> None:
        """Add a capture's row to each level of the overview."""
        for block, dataset in self._levels.items():
            parts = [overview.summarise(records[r].codes, block, bits=r == "markers") for r in ROLES]
            longest = max(int(dataset.shape[3]), *(part.shape[1] for part in parts))
            dataset.id.set_extent((index + 1, *dataset.shape[1:3], longest))
            for k, part in enumerate(parts):
                dataset[index, k, :, : part.shape[1]] = part

    def _rows(self, group: str, columns: Mapping[str, Any]) -> None:
        """Add rows to a group that grows; every column is of one length."""
        along, _ = schema.GROUPS[group]
        place = self._columns[group]
        at = int(place[along].dataset.shape[0])
        n = len(next(iter(columns.values())))
        for name, values in {**columns, along: np.arange(at, at + n)}.items():
            place[name].append(at, values, n)

    def _set(self, group: str, index: int, values: Mapping[str, Any]) -> None:
        for name, value in values.items():
            self._columns[group][name].put(index, value)

    def readings(self, index: int, readings: Sequence[Reading]) -> None:
        """Store the supply's readings that belong to a capture."""
        for reading in readings:
            self._rows(
                "readings",
                {
                    "capture": [index],
                    "quantity": [reading.quantity],
                    "value": [reading.value],
                    "done_after_trigger_s": [reading.done_after_trigger_s],
                },
            )

    def session(self, began_utc_s: float, instruments: str, environment: str) -> int:
        """Note that the bench was opened (texts as JSON); gives the session's number. Flushed."""
        number = int(self._columns["sessions"]["session"].dataset.shape[0])
        self._rows(
            "sessions", {"began_utc_s": [began_utc_s], "instruments": [instruments], "environment": [environment]}
        )
        self._file.flush()
        return number

    def settle(self, index: int, reason: str = "", at_s: float = math.nan, *, flags: str = "") -> None:
        """Commit a capture, or reject it when a reason is given, at a time of the bench's clock; flushed.

        `flags` takes the place of the capture's own where it is given: with the code of the rejection.
        """
        self._set("captures", index, {"settled_s": at_s})
        if reason:
            self._set("captures", index, {"reason": reason, **({"flags": flags} if flags else {})})
            self._file.flush()
        self._set("captures", index, {"state": "rejected" if reason else "committed"})
        self._file.flush()
        # A disk that is full by now stops the sweep at its next capture; of this one nothing may be lost.
        with contextlib.suppress(TraceError):
            self._keep_said()
            self._file.flush()

    def cell(
        self,
        position: int,
        state: str,
        reason: str = "",
        capture: int = -1,
        *,
        at_s: float = math.nan,
        flags: str = "",
    ) -> None:
        """Move a cell of the journal to its next state, at a time of the bench's clock; flushed."""
        values: dict[str, Any] = {"reason": reason} if reason else {}
        if flags:
            values["flags"] = flags
        if not math.isnan(at_s):
            values["ended_s"] = at_s
        if capture >= 0:
            values["capture"] = capture
        self._set("cells", position, {**values, "state": state})
        self._file.flush()

    def text(self, name: str, text: str) -> None:
        """Write a text of /provenance; flushed."""
        raw = text.encode("utf-8")
        self._provenance(name, schema.characters(text, len(raw)))

    def blob(self, name: str, data: bytes) -> None:
        """Write binary data (a learn string) of /provenance; flushed."""
        self._provenance(name, np.frombuffer(data, dtype=np.uint8))

    def _provenance(self, name: str, data: NDArray[Any]) -> None:
        g = self._file["provenance"]
        g[f"{name}_length"].resize((len(data),))
        g[name].resize((len(data),))
        g[name][:] = data
        self._file.flush()

    def keep_transcript(self, said: Callable[[], str]) -> None:
        """Store in /provenance what `said` gives, now and whenever something was settled, and once more at the end.

        `said` gives what has come since it was last asked, in whole lines.
        """
        g, name = self._file["provenance"], schema.TRANSCRIPT
        if name not in g:
            schema.growing_text(g, name)
        self._said = said
        self._keep_said()
        self._file.flush()

    def _keep_said(self) -> None:
        """Store what was said since; raises TraceError where it does not fit, and stores it with what comes next."""
        self._unsaid += self._said().encode("utf-8") if self._said is not None else b""
        raw = self._unsaid
        if not raw:
            return
        self._require_room(len(raw))
        g, name = self._file["provenance"], schema.TRANSCRIPT
        at = int(g[name].shape[0])
        g[f"{name}_length"].resize((at + len(raw),))
        g[name].resize((at + len(raw),))
        g[name][at:] = schema.characters(raw.decode("utf-8"), len(raw))
        self._unsaid = b""

    def complete(self) -> None:
        """Mark the run as whole: every cell has been visited."""
        self._file.attrs.modify("complete", np.int32(1))
        self._file.flush()
        self._keep_said()
        self._file.flush()

    def close(self) -> None:
        """Close the file; may be called again. A disk that is full by then costs the end of the transcript alone."""
        self._pool.shutdown()
        if self._file:
            with contextlib.suppress(TraceError):
                self._keep_said()
        self._said = None
        self._file.close()

    def __enter__(self) -> TraceWriter:
        return self

    def __exit__(self, *_: type[BaseException] | BaseException | TracebackType | None) -> None:
        self.close()


def _require_room(path: Path, folder: Path, n_bytes: int, size: int) -> None:
    """Refuse to write `n_bytes` that may not fit, in a file of a `size`: HDF5 does not survive a disk that fills.

    Raises CannotWriteError.
    """
    room = os.statvfs(folder)
    free = room.f_bavail * room.f_frsize
    limit, _ = resource.getrlimit(resource.RLIMIT_FSIZE)
    if limit != resource.RLIM_INFINITY:
        free = min(free, limit - size)
    if free < n_bytes:
        why = f"the disk is full ({free // 1024} KiB are free)"
        raise CannotWriteError(
            why,
            f"{path}: {why}; what was committed is safe. "
            f"Make room, then go on: python -m experiments.power_sweep --resume {folder}",
        )


def _why(error: Exception) -> str:
    """What the system said, without what HDF5 tells of itself."""
    number = getattr(error, "errno", None)
    if number == errno.EWOULDBLOCK:
        return "another program is writing it"
    return os.strerror(number) if number else str(error)


class _Column:
    """A variable that grows row by row, written by HDF5's own calls: faster than by h5py's indexing."""

    __slots__ = ("_id", "_one", "_rest", "_text", "_wide", "dataset", "dtype")

    def __init__(self, dataset: h5py.Dataset) -> None:
        self.dataset, self.dtype, self._id = dataset, dataset.dtype, dataset.id
        self._wide: tuple[int, ...] = dataset.shape[1:]
        self._rest = (0,) * len(self._wide)
        self._one = h5py.h5s.create_simple((1, *self._wide))
        self._text = self.dtype.kind == "S"

    def append(self, index: int, value: Any, n: int = 1) -> None:
        """Add n rows from `index` on; a text that is never written reads as empty."""
        self._id.set_extent((index + n, *self._wide))
        if not (self._text and value == ""):
            self.put(index, value, n)

    def put(self, index: int, value: Any, n: int = 1) -> None:
        """Write n rows from `index` on."""
        if self._text:
            texts = [value] if isinstance(value, str) else value
            rows = np.array([schema.characters(text, self._wide[0]) for text in texts])
        else:
            rows = np.asarray(value, dtype=self.dtype).reshape((n, *self._wide))
        place = self._id.get_space()
        place.select_hyperslab((index, *self._rest), rows.shape)
        self._id.write(self._one if n == 1 else h5py.h5s.create_simple(rows.shape), place, rows)


def _chunk(codes: NDArray[Any], size: int) -> bytes:
    """Give one chunk of `size` codes as HDF5's shuffle and deflate would; short records are padded with 0."""
    if len(codes) < size:
        codes = np.concatenate([codes, np.zeros(size - len(codes), codes.dtype)])
    width = codes.dtype.itemsize
    data = codes.view(np.uint8).reshape(-1, width).T.tobytes() if width > 1 else codes.tobytes()
    # Run lengths and Huffman codes alone: on noisy codes faster and smaller than looking for repeats.
    deflate = zlib.compressobj(schema.LEVEL, zlib.DEFLATED, 15, 9, zlib.Z_RLE)
    return deflate.compress(data) + deflate.flush()


def check_writable(folder: Path) -> None:
    """Raise TraceError when a run of usual size cannot be written in a folder; creates the folder."""
    probe = folder / ".joulebench-probe"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        probe.write_bytes(bytes(RESERVE_BYTES))
        probe.unlink()
    except OSError as error:
        with contextlib.suppress(OSError):
            probe.unlink(missing_ok=True)
        raise TraceError(f"{folder}: cannot be written ({error.strerror}); name another folder with --out") from error
    room = os.statvfs(folder)
    if room.f_bavail * room.f_frsize < 64 * 2**20:
        raise TraceError(f"{folder}: less than 64 MiB of disk is free; name another folder with --out")
