"""Say which trace used which calibration record, and whether it should have: `python -m calibration.check PLACE...`.

A trace holds the very text of the records that were offered to it. Each is checked against the file of that name where
there is one, and against the bench and the day of the trace: expired, foreign serial, another range or number of turns.
Of a record its raw data are checked: whether the trace file is there and is still the same.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from calibration import raw
from calibration.at_bench import FOLDER
from calibration.choice import Records, Setup
from calibration.records import ChannelAccuracyRecord, Filed, load, parse
from instruments import lab as lab_yaml
from instruments.command import leave, run, say
from instruments.errors import BenchError, ConfigError


def parser() -> argparse.ArgumentParser:
    """Describe the command line."""
    p = argparse.ArgumentParser(
        prog="python -m calibration.check",
        description="Check the calibration of traces, and the raw data of records.",
        epilog="exit codes: 0 all is well, 1 something is not, 2 usage, 3 a file cannot be read",
    )
    p.add_argument("place", type=Path, nargs="+", metavar="PLACE", help="traces, records, or folders of them")
    p.add_argument("--records", type=Path, default=FOLDER, metavar="DIR", help=f"the records here (default: {FOLDER})")
    p.add_argument("--json", action="store_true", help="print one JSON array instead of lines")
    return p


def main(argv: Sequence[str] | None = None) -> int:
    """Check; returns the exit code."""
    args = parser().parse_args(argv)
    return run(lambda: _check(args))


@dataclass
class Found:
    """One file: the records it rests on by name, and what is wrong with that."""

    path: Path
    what: str
    uses: list[str] = field(default_factory=list)
    wrong: list[str] = field(default_factory=list)


def _check(args: argparse.Namespace) -> int:
    code, rows = 0, []
    for path in _files(args.place):
        try:
            found = _record(path) if path.suffix == ".yaml" else _trace(path, args.records)
        except BenchError as error:
            found, code = Found(path, "unreadable", wrong=[str(error)]), max(code, 3)
        if found is None:
            continue
        code = max(code, 1 if found.wrong else 0)
        rows.append(found)
        if not args.json:
            used = ", ".join(found.uses) or ("no record" if found.what == "trace" else "")
            say(f"{found.path}: {found.what}" + (f", {used}" if used else ""))
            for text in found.wrong:
                say(f"  {text}")
    if args.json:
        say(
            json.dumps(
                [{"file": str(f.path), "what": f.what, "uses": f.uses, "wrong": f.wrong} for f in rows], indent=1
            )
        )
    elif not rows:
        say("no trace and no record there")
    return code


def _files(places: Sequence[Path]) -> Iterator[Path]:
    for place in places:
        if place.is_dir():
            yield from sorted(p for p in place.rglob("*") if p.suffix in (".h5", ".yaml") and p.is_file())
        elif place.exists():
            yield place
        else:
            raise ConfigError(f"{place}: there is no such file or folder")


def _record(path: Path) -> Found | None:
    """Check one record; None for a .yaml that is something else, such as a lab.yaml in a folder."""
    try:
        filed = load(path)
    except ConfigError as error:
        if "says no kind" in str(error):
            return None
        raise
    record = filed.record
    found = Found(path, f"record of kind {record.kind}")
    if record.expires is not None and record.expires < datetime.now(UTC):
        found.wrong.append(f"it expired {record.expires:%Y-%m-%d %H:%M} UTC")
    if isinstance(record, ChannelAccuracyRecord) or record.raw is None:
        return found
    data = path.with_name(record.raw.file)
    if not data.exists():
        found.wrong.append(f"its raw data {record.raw.file} are not beside it")
    elif raw.sha256(data) != record.raw.sha256:
        found.wrong.append(f"its raw data {record.raw.file} have changed since: the SHA-256 differs")
    return found


def _trace(path: Path, folder: Path) -> Found:
    told: dict[str, Any] = raw.uses(path)
    if told["what"]:
        return Found(path, f"raw data of a calibration ({told['what']})")
    found = Found(path, "trace")
    stored = [parse(entry["text"], f"{path}:/provenance/calibrations/{entry['name']}") for entry in told["records"]]
    for filed, entry in zip(stored, told["records"], strict=True):
        if filed.sha256 != entry["sha256"]:
            found.wrong.append(f"{filed.name}: the copy in the trace is damaged: the SHA-256 differs")
    when = datetime.fromtimestamp(told["when"], UTC) if told["when"] is not None else datetime.now(UTC)
    lab = lab_yaml.parse(told["lab"], f"{path}:/provenance/lab_yaml")
    judged = Records.choose(stored, Setup.of(lab, when, has_zero=told["has_zero"]))
    for one in judged.judged:
        if one.used:
            found.uses.append(one.filed.name)
            found.wrong += _against_file(one.filed, folder / one.filed.name)
        elif one.problems:
            found.wrong.append(one.complaint())
    return found


def _against_file(filed: Filed, path: Path) -> list[str]:
    """A record of that name here that says something else."""
    if path.exists() and path.read_bytes() != filed.text.encode("utf-8"):
        return [f"{filed.name}: {path} is not what the trace used: records are never edited"]
    return []


if __name__ == "__main__":
    leave(main())
