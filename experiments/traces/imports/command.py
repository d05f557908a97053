"""`python -m experiments.traces import FILE... --out NEW.h5`: its options, and what they mean."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from experiments.command import say
from instruments.wording import counted, folded

if TYPE_CHECKING:
    from experiments.traces.imports.asked import Wanted
    from experiments.traces.imports.roles import Choice

FORMATS = ("auto", "scope-csv", "scope-bin", "scope-h5", "jls", "powersensor", "joulebench-csv", "csv")
TEXT = "make a trace file of recordings of other instruments and programs"


def add_options(p: argparse.ArgumentParser) -> None:
    """Describe the options of the sub-command."""
    p.add_argument(
        "recordings", type=Path, nargs="+", metavar="FILE", help="one or more recordings, each with one run or more"
    )
    p.add_argument("--out", type=Path, required=True, metavar="NEW.h5", help="the new trace file")
    p.add_argument("--format", choices=FORMATS, default="auto", help="(default: told by how each file begins)")
    p.add_argument("--lab", type=Path, default=Path("lab.yaml"), metavar="FILE", help="the bench (default: lab.yaml)")
    what = p.add_argument_group("which channel is what")
    what.add_argument(
        "--columns",
        metavar="current=A,voltage=B,...",
        help="names of the channels: time, current, voltage, gate, batch, images (a counter)",
    )
    what.add_argument(
        "--scale", action="append", default=[], metavar="ROLE=FACTOR", help="such as current=10, in A per V"
    )
    what.add_argument("--voltage", type=float, metavar="V", help="a constant voltage that was not recorded")
    what.add_argument("--dt", type=float, metavar="S", help="sampling period of a table without a time")
    what.add_argument(
        "--threshold",
        metavar="V[,V,V]",
        help="of analogue marker lines: one level, or three where one channel is both lines (default: the bench's "
        "marker_threshold_v)",
    )
    what.add_argument("--hysteresis", type=float, metavar="V", help="(default: a fifth of the signal's span)")
    what.add_argument("--marks", metavar="A,B", help="letters at which a measured loop begins and ends (PowerSensor3)")
    ran = p.add_argument_group("what ran, in each measured loop")
    ran.add_argument("--network", metavar="NAME", help="(default: imported)")
    ran.add_argument("--images", type=int, metavar="N")
    ran.add_argument("--batches", type=int, metavar="M")
    ran.add_argument("--batch", type=int, metavar="B", help="images in a batch")
    ran.add_argument("--facts", type=Path, metavar="JSON", help="a file with these, also for single files")
    ran.add_argument(
        "--windows",
        metavar="FILE|found",
        help="where the measured loops are: CSV with file,start_s,stop_s, or found in the current (default: the gate)",
    )
    p.add_argument(
        "--zero", type=Path, action="append", default=[], metavar="FILE", help="a recording without current and voltage"
    )


def run_import(args: argparse.Namespace) -> int:
    """Do it; gives the exit code."""
    from experiments.traces import TraceReader
    from experiments.traces.imports.writing import import_files
    from instruments import lab as lab_yaml

    text = lab_yaml.read_text(args.lab)
    lab = lab_yaml.parse(text, str(args.lab))
    wanted, said = _wanted(args), list[str]()
    try:
        count = import_files(args.recordings, args.out, lab, text, wanted, args.zero, said.append)
    finally:  # segments of one recording say the same
        for line in folded(said):
            say(line)
    with TraceReader(args.out) as reader:
        without = "" if any(row["kind"] == "zero" for row in reader.captures()) else " --calibration REC"
    made = counted(count, "capture")
    say(f"{args.out}: {made}; python -m experiments.replay {args.out}{without} computes the results")
    return 0


def _wanted(args: argparse.Namespace) -> Wanted:
    from experiments.hand_windows import read_windows
    from experiments.traces.imports.asked import Counts, Wanted, read_facts

    of_all, of_files = read_facts(args.facts) if args.facts is not None else ({}, {})
    given = {name: getattr(args, name) for name in ("network", "images", "batches", "batch")}
    counts = Counts().but(of_all, str(args.facts)).but({k: v for k, v in given.items() if v is not None}, "the options")
    windows = args.windows or "lines"
    return Wanted(
        args.format,
        _choice(args),
        counts,
        of_files,
        windows if windows in ("lines", "found") else read_windows(Path(windows)),
    )


def _choice(args: argparse.Namespace) -> Choice:
    from experiments.traces.imports.roles import ROLES, Choice
    from instruments.errors import ConfigError

    columns = dict(_pair(part, "--columns", ROLES) for part in args.columns.split(",")) if args.columns else {}
    scales = {}
    for text in args.scale:
        role, factor = _pair(text, "--scale", ("current", "voltage", "gate", "batch"))
        scales[role] = _number(factor, f"--scale {text}")
    thresholds = None
    if args.threshold is not None:
        thresholds = tuple(_number(part, f"--threshold {args.threshold}") for part in args.threshold.split(","))
        if len(thresholds) not in (1, 3):
            raise ConfigError(f"--threshold {args.threshold}: one level, or three rising ones, were expected")
    marks = None
    if args.marks is not None:
        begin, _, end = args.marks.partition(",")
        if len(begin) != 1 or len(end) != 1 or begin == end:
            raise ConfigError(f"--marks {args.marks}: two different letters were expected, such as A,B")
        marks = (begin, end)
    for name, value in (("--dt", args.dt), ("--hysteresis", args.hysteresis)):
        if value is not None and not value > 0:
            raise ConfigError(f"{name} {value:g}: a number above 0 was expected")
    return Choice(columns, scales, args.voltage, args.dt, thresholds, args.hysteresis, marks)


def _pair(text: str, option: str, known: tuple[str, ...]) -> tuple[str, str]:
    from instruments.errors import ConfigError

    role, equals, name = text.partition("=")
    if not equals or not name or role.strip() not in known:
        raise ConfigError(f"{option} {text}: ROLE=... was expected, with a role of {', '.join(known)}")
    return role.strip(), name.strip()


def _number(text: str, option: str) -> float:
    from math import isfinite

    from instruments.errors import ConfigError

    try:
        value = float(text)
    except ValueError as error:
        raise ConfigError(f"{option}: {text!r} is no number") from error
    if not isfinite(value) or (option.startswith("--scale") and value == 0):
        raise ConfigError(f"{option}: {text!r} is no number that can be used")
    return value
