"""Say which calibration records there are and when they expire: `python -m calibration.list [FOLDER|RECORD...]`."""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from pathlib import Path

from calibration.at_bench import FOLDER
from calibration.choice import Records, Setup
from calibration.records import ChannelAccuracyRecord, Filed, MarkerDelayRecord, Record, load, load_folder, stamp
from calibration.show import relative_u
from instruments.command import leave, run, say

SOON_DAYS = 7.0
"""What expires within this time is said to expire soon."""


def parser() -> argparse.ArgumentParser:
    """Describe the command line."""
    p = argparse.ArgumentParser(
        prog="python -m calibration.list",
        description="Say which calibration records there are, what they are of, and when they expire.",
        epilog="exit codes: 0 good, 2 usage or a file that is no record",
    )
    p.add_argument(
        "place", type=Path, nargs="*", default=[FOLDER], metavar="PLACE", help=f"records or folders (default: {FOLDER})"
    )
    p.add_argument("--lab", type=Path, metavar="FILE", help="say of each whether it fits this bench today")
    p.add_argument("--json", action="store_true", help="print one JSON array instead of lines")
    return p


def main(argv: Sequence[str] | None = None) -> int:
    """List; returns the exit code."""
    args = parser().parse_args(argv)
    return run(lambda: _list(args))


def gather(places: Iterable[Path]) -> list[Filed]:
    """Read records by name and every record of folders, oldest first; raises ConfigError."""
    found: list[Filed] = []
    for place in places:
        found += load_folder(place) if place.is_dir() else [load(place)]
    return sorted(found, key=lambda filed: (filed.record.made, filed.name))


def state(record: Record, now: datetime) -> str:
    """Whether a record still holds: valid, expires soon, expired, or has no end."""
    if record.expires is None:
        return "no end"
    left_days = (record.expires - now).total_seconds() / 86400
    if left_days < 0:
        return "expired"
    return f"{left_days:.1f} days left" if left_days < SOON_DAYS else "valid"


def what(record: Record) -> str:
    """What a record is of and how good it is, in a few words."""
    if isinstance(record, ChannelAccuracyRecord):
        return record.instrument
    if isinstance(record, MarkerDelayRecord):
        return (
            f"{record.dut}, {record.line} lines: {record.rise_s.value * 1e6:+.0f}, {record.fall_s.value * 1e6:+.0f} µs"
        )
    serials = ", ".join(f"{name} {serial}" for name, serial in record.serials if serial is not None)
    return f"{serials}: gain {record.gain.value:.5f} ± {relative_u(record, later=True) * 100:.2g} %"


def _list(args: argparse.Namespace) -> int:
    now = datetime.now(UTC)
    found = gather(args.place)
    judged = None
    if args.lab is not None:
        from instruments.lab import load as load_lab

        judged = Records.choose(found, Setup.of(load_lab(args.lab), now))
    fits = {j.filed.name: j for j in judged.judged} if judged is not None else {}
    rows = []
    for filed in found:
        record = filed.record
        row = {
            "file": filed.name,
            "kind": record.kind,
            "made": stamp(record.made),
            "expires": stamp(record.expires) if record.expires is not None else None,
            "state": state(record, now),
            "what": what(record),
        }
        if filed.name in fits:
            one = fits[filed.name]
            row["fits"] = "used" if one.used else "a later one is used" if one.later else one.problems[0].code
        rows.append(row)
    if args.json:
        say(json.dumps(rows, indent=1))
        return 0
    if not rows:
        say(f"no records in {', '.join(str(p) for p in args.place)}")
    for row in rows:
        fit = f"  [{row['fits']}]" if "fits" in row else ""
        until = f", until {row['expires']}" if row["expires"] else ""
        say(f"{row['file']}  {row['kind']}  {row['state']}{until}  {row['what']}{fit}")
    return 0


if __name__ == "__main__":
    leave(main())
