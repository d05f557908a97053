"""A trace from SCPI up: served from the simulated oscilloscope, and fetched from there by our own driver.

`serve` lets any VISA client fetch the committed captures of a file, in their order. `fetched` makes a new trace file of
which every record came through an oscilloscope so served, all else from the file itself; it is then reduced as any.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from experiments.command import complain, say, tell
from experiments.progress import Progress, shown
from experiments.traces import CAPTURE, ROLES, CaptureRow, TraceReader, TraceWriter, check_writable
from experiments.traces.schema import BLOBS, ON_DEMAND, TEXTS
from instruments.errors import ConfigError, TraceError
from instruments.interrupts import Interrupted
from instruments.mso_x2024a import MsoX2024A
from instruments.waveform import FORMAT_BYTE, Capture, Record
from instruments.wording import counted

FETCHED = "fetched.h5"
PEAK = 1
"""Type of a preamble whose record holds pairs of minima and maxima (PG2000 p.644)."""

DEADLINE_S = 60.0


class CommittedCaptures:
    """The committed captures of an open file, each under the names of the oscilloscope's sources."""

    def __init__(self, reader: TraceReader) -> None:
        self._reader = reader
        self.sources = sources_of(reader)
        self.rows = [k for k, row in enumerate(reader.captures()) if row["state"] == "committed"]

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, number: int) -> Mapping[str, Record]:
        capture = self._reader.capture(self.rows[number])
        records = {self.sources[role]: capture[role] for role in ROLES}
        if (line := self.sources["markers"]).startswith("CHAN"):
            records[line] = replace(records[line], units="V")
        return records


def sources_of(reader: TraceReader) -> dict[str, str]:
    """Which source of the oscilloscope each role is; an analogue marker record is a channel that nothing else is on."""
    wiring = reader.lab().wiring
    sources = {"current": f"CHAN{wiring.current.channel}", "voltage": f"CHAN{wiring.voltage.channel}"}
    if reader.analogue_markers() is None:
        return {**sources, "markers": "POD1"}
    return {**sources, "markers": next(f"CHAN{k}" for k in range(1, 5) if f"CHAN{k}" not in sources.values())}


def serve(path: Path, only: int | None) -> int:
    """Serve a file's captures until SIGTERM or Ctrl-C; `only` is the row of one. Prints the addresses as JSON."""
    from instruments.recorded_scope import served

    with TraceReader(path) as reader:
        captures = CommittedCaptures(reader)
        if only is not None and only not in captures.rows:
            raise ConfigError(f"--capture {only}: {path} has committed captures {_spoken(captures.rows)}")
        if not captures.rows:
            raise TraceError(f"{path}: no capture was committed: there is nothing to serve")
        if np.any(reader.preambles()["type"] == PEAK):
            raise TraceError(f"{path}: holds records of peak detection, whose pairs are not served")
        number = None if only is None else captures.rows.index(only)
        said = reader.json("instruments")
        identity = said.get("identities", {}).get("scope") if isinstance(said, dict) else None

        def told(which: int) -> None:
            complain(f"oscilloscope: capture {captures.rows[which]} ({which + 1} of {len(captures)})")

        try:
            with served(captures, identity=identity, only=number, told=told) as addresses:
                tell(json.dumps(addresses))
                _sleep()
        except Interrupted:
            return 0
        except OSError as error:
            raise ConfigError(f"no port can be had on this computer ({error})") from error
    return 0


def _sleep() -> None:
    ended = threading.Event()
    while not ended.wait(3600.0):
        pass


def _spoken(rows: list[int]) -> str:
    return f"{rows[0]} to {rows[-1]}" if len(rows) > 1 and rows[-1] - rows[0] == len(rows) - 1 else str(rows)


def fetched(path: Path, resource: str, out: Path, *, quiet: bool = False) -> Path:
    """Fetch every committed capture of a file from the oscilloscope at a VISA address into `out`/fetched.h5.

    Raises LinkError and the driver's errors, TraceError where a record comes other than it is stored.
    """
    from instruments.link import Link

    with TraceReader(path) as reader:
        check_writable(out)
        new = out / FETCHED
        count = sum(row["state"] == "committed" for row in reader.captures())
        with (
            Link.open("scope", [resource], visa=reader.lab().visa, timeout_s=10.0) as link,
            shown(count, quiet=quiet) as progress,
        ):
            _copy(reader, new, MsoX2024A(link), progress)
    if not quiet:
        say(f"{counted(count, 'capture')} came through the oscilloscope as they are stored: {new}")
    return new


def _copy(reader: TraceReader, new: Path, scope: MsoX2024A, progress: Progress) -> None:
    rows, log, sources = reader.captures(), reader.host_log(), sources_of(reader)
    texts = {name: reader.text(name) for name in TEXTS if name != "plan" and _written(reader, name)}
    points = int(reader.preambles()["points"].max(initial=1))
    with TraceWriter.create(new, reader.plan, source=reader.source, texts=texts, points=min(points, 100_000)) as writer:
        for name in BLOBS:
            writer.blob(name, reader.blob(name))
        for session in reader.sessions():
            writer.session(session["began_utc_s"], session["instruments"], session["environment"])
        for index, row in enumerate(rows):
            capture = reader.capture(index)
            if row["state"] == "committed":
                capture = _fetch(scope, sources, capture, f"{reader.path}: capture {index}")
                progress.cell_done(f"capture {index}: {row['kind']}")
            facts: dict[str, Any] = {
                name: row[name] for name in CAPTURE if name in CaptureRow.__dataclass_fields__ and name in row
            }
            facts |= {name: reader.long_text(name, index) for name in ON_DEMAND}
            stored = CaptureRow(**facts, batch_end_ns=tuple(log.get(index, np.empty(0, np.int64)).tolist()))
            writer.add(stored, capture, {role: role for role in ROLES})
            writer.readings(index, reader.readings(index))
            if row["state"]:
                writer.settle(index, row["reason"], row["settled_s"])
        for position, cell in enumerate(reader.cells()):
            told = {"at_s": cell["ended_s"], "flags": cell["flags"]}
            writer.cell(position, cell["state"], cell["reason"], cell["capture"], **told)
        if reader.complete:
            writer.complete()


def _written(reader: TraceReader, name: str) -> bool:
    g = reader.file["provenance"]
    return name in g and g[name].shape != (0,)


def _fetch(scope: MsoX2024A, sources: Mapping[str, str], stored: Capture, place: str) -> Capture:
    """One acquisition of the served oscilloscope, its records under their roles; they must be as stored."""
    scope.arm()
    scope.force_trigger()
    scope.wait_done(DEADLINE_S)
    small = [role for role in ROLES if stored[role].preamble.format == FORMAT_BYTE and sources[role] != "POD1"]
    records: dict[str, Record] = {}
    for roles, form in (([role for role in ROLES if role not in small], "WORD"), (small, "BYTE")):
        if roles:
            names = [sources[role] for role in roles]
            found = scope.fetch(names, None, "BYTE" if form == "BYTE" else "WORD", deadline_s=DEADLINE_S)
            records |= {role: found[sources[role]] for role in roles}
    for role, record in records.items():
        if record.preamble != stored[role].preamble or not np.array_equal(record.codes, stored[role].codes):
            raise TraceError(
                f"{place}: the {role} did not come as it is stored: the oscilloscope shows another capture, or another "
                "file; start python -m experiments.replay FILE --through-scope anew"
            )
    return Capture({role: records[role] for role in ROLES})
