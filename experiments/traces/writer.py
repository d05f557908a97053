"""Writes the trace file of one run so that a program that dies leaves a file that opens.

Everything is laid out before the first capture. A capture is written and flushed first, its state set
and flushed last: a row without a state is what was in flight.
"""

from __future__ import annotations

import contextlib
import functools
import math
import os
import zlib
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from types import TracebackType
from typing import Any, Concatenate, ParamSpec, TypeVar

import h5py
import numpy as np
from numpy.typing import NDArray

from experiments.journal import CaptureRow, Reading
from experiments.plan import Plan
from experiments.traces import layout, overview, schema, seal
from experiments.traces.agreement import require_agreement
from experiments.traces.columns import chunk
from experiments.traces.damage import damage_told
from experiments.traces.layout import Variables
from experiments.traces.reader import TraceReader
from experiments.traces.room import (
    JOURNAL_BYTES,
    RESERVE_BYTES,
    CannotWriteError,
    abandon,
    release,
    require_room,
    reserve,
    why_of,
)
from experiments.traces.schema import CAPTURE, PREAMBLE, ROLES
from instruments.errors import TraceError
from instruments.waveform import Capture, Record

UNFINISHED = ".unfinished"
"""Ending of a file that is still being laid out."""

_UNSET = {"settled_s": math.nan}
"""What stands in a column until the capture is settled, where it is no text."""

_ChunkJob = tuple[h5py.Dataset, tuple[int, int], "Future[bytes]"]


_Arguments = ParamSpec("_Arguments")
_Result = TypeVar("_Result")


def _writes(
    method: Callable[Concatenate[TraceWriter, _Arguments], _Result],
) -> Callable[Concatenate[TraceWriter, _Arguments], _Result]:
    """Set aside what a step of the journal takes before a method writes, and give the file up where HDF5 fails.

    The method then raises CannotWriteError.
    """

    @functools.wraps(method)
    def writing(self: TraceWriter, /, *args: _Arguments.args, **kwargs: _Arguments.kwargs) -> _Result:
        reserve(self.path, self._file, JOURNAL_BYTES)
        try:
            return method(self, *args, **kwargs)
        except (OSError, RuntimeError) as error:
            raise self._abandon(error) from error

    return writing


class TraceWriter:
    """Writes one run; create it with `TraceWriter.create`, close it with `close` or as a context manager."""

    def __init__(self, path: Path, file: h5py.File, variables: Variables) -> None:
        self.path, self._file, self._variables = path, file, variables
        self._pool = ThreadPoolExecutor(2)
        self._said: Callable[[], str] | None = None
        self._unsaid = b""
        self._abandoned = False

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
            require_room(path, path.parent, RESERVE_BYTES, 0)
            file = h5py.File(unfinished, "w")
            try:
                reserve(path, file, RESERVE_BYTES)
            except CannotWriteError as error:
                unfinished.unlink(missing_ok=True)
                raise abandon(path, error.__cause__ or error, file) from error
        except (OSError, ValueError, CannotWriteError) as error:
            why = error.why if isinstance(error, CannotWriteError) else why_of(error)
            raise CannotWriteError(why, f"{path}: a new trace file cannot be created here ({why})") from error
        try:
            try:
                variables = layout.lay_out(file, plan, source, points)
            except (OSError, RuntimeError) as error:
                raise abandon(path, error, file) from error
            writer = cls(path, file, variables)
            for name, text in {"plan": plan.to_json(), **texts}.items():
                writer.text(name, text)
            if path.exists():  # made meanwhile; from here on the lock of the unfinished file keeps others away
                raise TraceError(f"{path}: another program has just made a trace file here: name another folder")
            # Under its own name only once it opens: a file that was killed while it was laid out holds nothing.
            os.rename(unfinished, path)
        except BaseException as error:
            if not (isinstance(error, CannotWriteError) and error.abandoned):
                file.close()
            unfinished.unlink(missing_ok=True)
            raise
        return writer

    @classmethod
    def resume(cls, path: str | Path) -> TraceWriter:
        """Open a run that ended early, to go on with it; what it holds is not touched.

        Raises TraceError when it is no trace file, its tables contradict each other, another program is writing it, or
        it cannot be written.
        """
        path = Path(path)
        with TraceReader(path) as reader:
            if reader.schema != schema.SCHEMA:
                raise TraceError(f"{path}: has schema {reader.schema}; only {schema.SCHEMA} can be gone on with")
            if not reader.sealed:
                require_agreement(reader)
        try:
            seal.take_off(path)
            file = h5py.File(path, "r+")
        except OSError as error:
            held = isinstance(error, BlockingIOError) or "lock" in str(error)
            why = "another program is writing or reading it" if held else str(error)
            raise TraceError(f"{path}: cannot be gone on with: {why}") from error
        try:
            with damage_told(path):
                return cls(path, file, layout.take_up(file))
        except BaseException:
            file.close()
            raise

    @_writes
    def add(self, row: CaptureRow, capture: Capture, sources: Mapping[str, str]) -> int:
        """Store one capture's codes and facts, flushed, its state still empty; returns its index.

        `sources` maps each role to the record that plays it, such as {"current": "CHAN1", ...}.
        """
        self._require_room(2 * sum(r.codes.nbytes for r in capture.records.values()) + 32 * len(row.batch_end_ns))
        columns, index = self._variables.columns["captures"], self._variables.length("captures")
        records = {role: capture.records[sources[role]] for role in ROLES}
        jobs = self._compress(index, records)
        values: dict[str, Any] = {name: getattr(row, name, _UNSET.get(name, "")) for name in CAPTURE}
        values |= {name: [getattr(records[r].preamble, name) for r in ROLES] for name in PREAMBLE}
        values["crc32"] = [zlib.crc32(schema.stored(r, records[r].codes).data) for r in ROLES]
        values[schema.ROW_COPY] = schema.row_copy(values)
        for name, value in {**values, "capture": index}.items():
            columns[name].append(index, value)
        self._log(index, row)
        self._summarise(index, records)
        for dataset, place, job in jobs:
            dataset.id.write_direct_chunk(place, job.result())
        self._file.flush()
        return index

    @_writes
    def amend(self, index: int, row: CaptureRow) -> None:
        """Write the facts of a capture anew that was added while its run went on, with the run's log; flushed."""
        values = {name: getattr(row, name) for name in CAPTURE if hasattr(row, name)}
        copied = schema.text_of(self._variables.columns["captures"][schema.ROW_COPY].dataset[index])
        values[schema.ROW_COPY] = schema.row_copy({**schema.from_copy(copied), **values})
        self._variables.put("captures", index, values)
        self._log(index, row)
        self._file.flush()

    def _log(self, index: int, row: CaptureRow) -> None:
        ends = np.asarray(row.batch_end_ns, dtype=np.int64)
        if ends.size:
            capture_column = np.full(ends.size, index)
            self._variables.append(
                "host_log", {"capture": capture_column, "batch_index": np.arange(ends.size), "end_ns": ends}
            )

    def _require_room(self, n_bytes: int) -> None:
        """Set aside what is to be written, and refuse what may not fit; raises CannotWriteError."""
        require_room(self.path, self.path.parent, n_bytes + RESERVE_BYTES, self._file.id.get_filesize())
        reserve(self.path, self._file, n_bytes + RESERVE_BYTES)

    def _abandon(self, error: Exception) -> CannotWriteError:
        self._abandoned = True
        return abandon(self.path, error, self._file, self._variables)

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
            dataset = self._variables.codes[role]
            dataset.id.set_extent((index + 1, longest))
            size = dataset.chunks[1]
            for at in range(0, len(record.codes), size):
                piece = schema.stored(role, record.codes[at : at + size])
                jobs.append((dataset, (index, at), self._pool.submit(chunk, piece, size)))
        return jobs

    def _summarise(self, index: int, records: Mapping[str, Record]) -> None:
        """Add a capture's row to each level of the overview."""
        for block, dataset in self._variables.levels.items():
            parts = [overview.summarise(records[r].codes, block, bits=r == "markers") for r in ROLES]
            longest = max(int(dataset.shape[3]), *(part.shape[1] for part in parts))
            dataset.id.set_extent((index + 1, *dataset.shape[1:3], longest))
            for k, part in enumerate(parts):
                dataset[index, k, :, : part.shape[1]] = part

    @_writes
    def readings(self, index: int, readings: Sequence[Reading]) -> None:
        """Store the supply's readings that belong to a capture."""
        for reading in readings:
            self._variables.append(
                "readings",
                {
                    "capture": [index],
                    "quantity": [reading.quantity],
                    "value": [reading.value],
                    "done_after_trigger_s": [reading.done_after_trigger_s],
                },
            )

    @_writes
    def session(self, began_utc_s: float, instruments: str, environment: str) -> int:
        """Note that the bench was opened (texts as JSON); gives the session's number. Flushed."""
        number = self._variables.length("sessions")
        self._variables.append(
            "sessions", {"began_utc_s": [began_utc_s], "instruments": [instruments], "environment": [environment]}
        )
        self._file.flush()
        return number

    @_writes
    def settle(self, index: int, reason: str = "", at_s: float = math.nan, *, flags: str = "") -> None:
        """Commit a capture, or reject it when a reason is given, at a time of the bench's clock; flushed.

        `flags` takes the place of the capture's own where it is given: with the code of the rejection.
        """
        self._variables.put("captures", index, {"settled_s": at_s})
        if reason:
            self._variables.put("captures", index, {"reason": reason, **({"flags": flags} if flags else {})})
            self._file.flush()
        self._variables.put("captures", index, {"state": "rejected" if reason else "committed"})
        self._file.flush()
        # A disk that is full by now stops the sweep at its next capture; of this one nothing may be lost.
        with contextlib.suppress(TraceError):
            self._keep_said()
            self._file.flush()

    @_writes
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
        self._variables.put("cells", position, {**values, "state": state})
        self._file.flush()

    @_writes
    def text(self, name: str, text: str) -> None:
        """Write a text of /provenance; flushed."""
        raw = text.encode("utf-8")
        self._provenance(name, schema.characters(text, len(raw)))
        if f"{name}_copy" in self._file["provenance"]:  # not in a file of an earlier program
            self._provenance(f"{name}_copy", schema.characters(text, len(raw)))

    @_writes
    def blob(self, name: str, data: bytes) -> None:
        """Write binary data (a learn string) of /provenance; flushed."""
        self._provenance(name, np.frombuffer(data, dtype=np.uint8))

    def _provenance(self, name: str, data: NDArray[Any]) -> None:
        reserve(self.path, self._file, len(data) + JOURNAL_BYTES)
        g = self._file["provenance"]
        g[f"{name}_length"].resize((len(data),))
        g[name].resize((len(data),))
        g[name][:] = data
        self._file.flush()

    @_writes
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

    @_writes
    def complete(self) -> None:
        """Mark the run as whole: every cell has been visited."""
        self._file.attrs.modify("complete", np.int32(1))
        self._file.flush()
        self._keep_said()
        self._file.flush()

    def close(self) -> None:
        """Close the file and seal it; may be called again.

        A disk that is full by then costs the end of the transcript and the seal alone.
        """
        self._pool.shutdown()
        if self._file and not self._abandoned:
            try:
                self._end_said()
            except CannotWriteError as error:
                if error.abandoned:
                    raise
        self._said = None
        self._close()

    def _close(self) -> None:
        if self._abandoned:
            return
        try:
            if not self._file:
                return
            self._file.flush()
            release(self._file)
            guarded = seal.guarded(self._file)
            self._file.close()
        except (OSError, RuntimeError) as error:
            raise self._abandon(error) from error
        seal.put_on(self.path, guarded)

    @_writes
    def _end_said(self) -> None:
        self._keep_said()
        self._file.flush()

    def __enter__(self) -> TraceWriter:
        return self

    def __exit__(self, *_: type[BaseException] | BaseException | TracebackType | None) -> None:
        self.close()


def seal_whole(path: Path) -> None:
    """Seal a file that is whole but for its seal: its writer was killed when all was written.

    Raises TraceError where its tables contradict each other.
    """
    with TraceReader(path) as reader:
        if reader.sealed:
            return
        require_agreement(reader)
        chunks = seal.guarded(reader.file)
    seal.put_on(path, chunks)
