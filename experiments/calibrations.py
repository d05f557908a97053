"""The calibration records of a run: which a bench offers, which fit, how they are stored and read back."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Collection, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

from calibration.choice import Records, Setup
from calibration.combine import with_records
from calibration.model import Calibration
from calibration.records import Filed, load, load_folder, parse
from instruments.errors import ConfigError, TraceError
from instruments.lab import Lab

if TYPE_CHECKING:
    from experiments.traces import TraceReader


def offered(lab: Lab, lab_path: Path, named: Sequence[Path] = ()) -> list[Filed]:
    """Read the records that a bench file names, and those named by the user, which take the place of others of a kind.

    Raises ConfigError for what cannot be read, or is no record.
    """
    first = [load(path) for path in named]
    kinds = {filed.record.kind for filed in first}
    others: list[Filed] = []
    if lab.calibrations is not None:
        others += load_folder(lab_path.parent / lab.calibrations)
    if lab.probe.calibration is not None:
        others = [f for f in others if f.record.kind != "probe"]
        others.append(load(lab_path.parent / lab.probe.calibration))
    return [*first, *(f for f in others if f.record.kind not in kinds)]


def judge(
    lab: Lab, filed: Sequence[Filed], when: datetime, *, named: Sequence[str] = (), require: bool = False
) -> tuple[Records, list[str]]:
    """Choose the records that fit, and give what is to be said of the others.

    With `require` raises ConfigError where there is something to be said, or no record of the probe is used.
    """
    records = Records.choose(filed, Setup.of(lab, when)) if filed else Records()
    said = records.complaints(named)
    if require:
        _refuse(records, said)
    return records, [*said, *records.of_other_benches(lab.bench)]


def refuse_unfit(reader: TraceReader) -> None:
    """Raise ConfigError where a run's records, or those given in their place, do not fit, or none is of the probe.

    Also where one that fits contradicts the run's own comparison with the supply.
    """
    from experiments.run_calibration import require_agreement_of  # which imports this module

    records = records_of(reader)
    _refuse(records, records.complaints([filed.name for filed in reader.calibrations or ()]))
    require_agreement_of(reader)


def _refuse(records: Records, said: Sequence[str]) -> None:
    if said:
        raise ConfigError("--require-calibration: " + "\n".join(said))
    if records.probe is None and records.accuracy is None:
        raise ConfigError(
            "--require-calibration: no calibration record of the probe is there: name one with --calibration, or "
            "probe.calibration or calibrations in lab.yaml; python -m calibration.probe makes one"
        )


def still_fit(reader: TraceReader, now: datetime, *, require: bool = False) -> tuple[Records, list[str]]:
    """The records of a run that is gone on with now, and what is to be said of those that no longer fit, or never did.

    With `require` raises ConfigError as `judge` does.
    """
    records = records_of(reader, now)
    said = records.complaints()
    if require:
        _refuse(records, said)
    return records, said


def to_json(records: Records) -> str:
    """Write records, used or not, with their very texts, for /provenance/calibrations."""
    return json.dumps(
        [
            {
                "name": j.filed.name,
                "kind": j.filed.record.kind,
                "sha256": j.filed.sha256,
                "used": j.used,
                "problems": [p.code for p in j.problems],
                "text": j.filed.text,
            }
            for j in records.judged
        ],
        indent=1,
    )


def records_of(reader: TraceReader, now: datetime | None = None) -> Records:
    """The records that a run is to be reduced with: those stored in its file, less the kinds that `reader` was given.

    Judged by the bench and the day of the run, not by today: that on which its last session at the bench began, so that
    none outlives its expiry in a run that was gone on with; or by `now`, where it is about to be. Raises as
    `stored_records` does for those left.
    """
    given = list(reader.calibrations or ())
    kinds = {filed.record.kind for filed in given}
    filed = [*given, *stored_records(reader, kinds)]
    if not filed:
        return Records()
    captures = reader.captures()
    began: dict[int, float] = {}
    for row in captures:
        if row["utc_s"] == row["utc_s"]:
            began[row["session"]] = min(row["utc_s"], began.get(row["session"], math.inf))
    when = now or (datetime.fromtimestamp(max(began.values()), UTC) if began else datetime.now(UTC))
    has_zero = any(row["kind"] == "zero" and row["state"] == "committed" for row in captures)
    return Records.choose(filed, Setup.of(reader.lab(), when, has_zero=has_zero), given)


def stored_records(reader: TraceReader, less: Collection[str] = ()) -> list[Filed]:
    """The records that stand in a run's file, but for some kinds, which may be damaged: others take their place.

    Raises TraceError for one that is not that of the SHA-256 beside it, ConfigError for one that cannot be read.
    """
    stored = reader.json("calibrations")
    found = []
    for entry in stored if isinstance(stored, list) else []:
        if entry.get("kind") in less:
            continue
        place = f"{reader.path}:/provenance/calibrations/{entry['name']}"
        sha256 = hashlib.sha256(entry["text"].encode("utf-8")).hexdigest()
        if entry.get("sha256", sha256) != sha256:  # also of one that can no longer be read as a record
            raise TraceError(
                f"{place}: is not the record that was stored: its SHA-256 is {sha256[:16]}…, "
                f"{str(entry['sha256'])[:16]}… was noted; replay with --calibration and the record itself"
            )
        if (filed := parse(entry["text"], place)).record.kind not in less:
            found.append(filed)
    return found


def combined(calibration: Calibration, records: Records) -> tuple[Calibration, list[str]]:
    """A run's own calibration with its records; gives it, and notes for the reader."""
    found, notes = with_records(calibration, records.probe, records.voltage)
    if records.marker_delay is not None:
        delay = records.marker_delay.delay()
        found = replace(found, delay=delay)
        notes.append(
            f"marker lines: corrected for {delay.rise_s * 1e6:+.1f} µs at the rise and {delay.fall_s * 1e6:+.1f} µs at "
            f"the fall (jitter {delay.jitter_s * 1e6:.2g} µs)"
        )
    return found, notes


def promised(records: Records, volts: float) -> Calibration | None:
    """What a maker promises of the instruments of a run without a zero; None without such a record."""
    if records.accuracy is None:
        return None
    found = records.accuracy.calibration(volts)
    return found if records.marker_delay is None else replace(found, delay=records.marker_delay.delay())
