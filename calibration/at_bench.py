"""A calibration at a bench, real or simulated: options, the person, zeros and records, the files it leaves.

Everything captured is in the trace file before it is judged; the supply's output is off on every way out.
"""

from __future__ import annotations

import argparse
import contextlib
import math
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from calibration import raw, records
from calibration.records import Raw, Record
from calibration.statistics import MeanOfRecord, mean_of_record
from instruments import bench_steps
from instruments import lab as lab_yaml
from instruments.bench import Bench, open_bench, open_transcript
from instruments.command import complain, say
from instruments.dut import Done
from instruments.errors import BenchError, CalibrationError, CaptureError, ConfigError
from instruments.interrupts import undisturbed
from instruments.lab import Lab
from instruments.lab_checks import read_bench
from instruments.scope_facts import beyond_the_clamp, clamp, sources
from instruments.waveform import Capture

FOLDER = Path("calibration/records")
"""Where records go without --out."""


def add_options(p: argparse.ArgumentParser, *, window_s: float, valid_days: float) -> None:
    """Add what every calibration takes."""
    p.add_argument("--lab", type=Path, default=Path("lab.yaml"), metavar="FILE", help="the bench (default: lab.yaml)")
    p.add_argument("--out", type=Path, metavar="PLACE", help=f"record.yaml, or the folder for it (default: {FOLDER})")
    p.add_argument("--window", type=float, default=window_s, metavar="S", help=f"of a record (default: {window_s:g})")
    p.add_argument(
        "--valid-days", type=float, default=valid_days, metavar="N", help=f"until it expires (default: {valid_days:g})"
    )
    p.add_argument("--temperature", type=float, metavar="C", help="of the room, written into the record")
    p.add_argument("--seed", type=int, metavar="N", help="of a simulated bench's errors (default: simulation.seed)")
    p.add_argument("--unattended", action="store_true", help="nobody is there: every step is taken as done")
    p.add_argument(
        "--answers", type=Path, metavar="FILE", help="one line for each question asked, instead of a terminal"
    )
    p.add_argument("--transcript", type=Path, metavar="FILE", help="write every message to and from the instruments")
    p.add_argument("--quiet", action="store_true", help="show no progress: only results, warnings and errors")


class Person:
    """Whoever stands at the bench: does steps and reads off numbers.

    At a simulated bench a step's `hand` does it. Otherwise a terminal is asked; where there is none, and nothing says
    --unattended, the calibration is refused before anything is switched on.
    """

    def __init__(self, *, simulated: bool, unattended: bool, answers: Path | None, quiet: bool) -> None:
        self._simulated, self._unattended, self._quiet = simulated, unattended, quiet
        self._answers = iter(_lines(answers)) if answers is not None else None
        self.skipped: list[str] = []
        if not (simulated or unattended or answers or _terminal()):
            raise ConfigError(
                "a calibration asks for steps at the bench and here is no terminal: give --unattended when all is "
                "wired and will not change, or --answers FILE"
            )

    def tell(self, text: str) -> None:
        """Show a line."""
        if not self._quiet:
            complain(text)

    def does(self, steps: Sequence[str], hand: Callable[[], None] | None = None) -> None:
        """Have steps done before anything goes on."""
        if self._simulated:
            if hand is not None:
                hand()
            self.tell(f"simulated hands: {'; '.join(steps)}")
            return
        for number, step in enumerate(steps, 1):
            self.tell(f"  {number}. {step}")
        if self._unattended:
            self.skipped += steps
            return
        self._reply("press Enter when this is done (Ctrl-C ends the program) ")

    def reads(self, question: str, unit: str, instrument: Callable[[], float] | None = None) -> float:
        """Ask for a number that is read off an instrument; raises ConfigError where nobody can say it."""
        if self._simulated and self._answers is None and instrument is not None:
            return instrument()
        if self._unattended and self._answers is None:
            raise ConfigError(f"{question}: nobody is there to say (--unattended); give --answers FILE")
        while True:
            text = self._reply(f"{question} [{unit}]: ").strip()
            try:
                value = float(text)
            except ValueError:
                value = math.nan
            if math.isfinite(value):
                return value
            if self._answers is not None:
                raise ConfigError(f"--answers: {text!r} is no answer to {question!r}: a number in {unit} is expected")
            self.tell(f"{text!r} is no number")

    def _reply(self, text: str) -> str:
        if self._answers is not None:
            answer = next(self._answers, None)
            if answer is None:
                raise ConfigError(f"--answers: the file has no line left for: {text.strip()}")
            self.tell(f"{text}{answer}")
            return answer
        print(text, end="", file=sys.stderr, flush=True)
        line = sys.stdin.readline()
        if not line:
            raise ConfigError("the terminal has gone while a step was to be done; nothing was calibrated")
        return line


def _terminal() -> bool:
    try:
        return sys.stdin.isatty() and sys.stderr.isatty()
    except (AttributeError, ValueError):
        return False


def _lines(path: Path) -> list[str]:
    return lab_yaml.read_text(path, "a file of answers with --answers FILE").splitlines()


@dataclass(frozen=True)
class Steady:
    """Both analogue channels over one record in which nothing changes, at the bench's time t_s; readings meanwhile."""

    t_s: float
    current: MeanOfRecord
    voltage: MeanOfRecord
    amps: tuple[float, ...] = ()
    volts: tuple[float, ...] = ()


@dataclass
class Session:
    """An open bench, the person at it and the file that takes what is captured."""

    bench: Bench
    person: Person
    store: raw.RawStore
    window_s: float
    made: datetime = field(default_factory=lambda: datetime.now(UTC).replace(microsecond=0))
    _asked: dict[str, str] = field(default_factory=dict)

    @property
    def lab(self) -> Lab:
        """The bench's facts."""
        return self.bench.lab

    def say(self, text: str) -> None:
        """Show a line."""
        self.person.tell(text)

    def set_up(self) -> None:
        """Set the oscilloscope as a sweep does; feed nothing yet."""
        found = bench_steps.set_up_scope(self.bench, self.window_s, self.say)
        self._asked = {name: found[name] for name in bench_steps.of_a_record(self.lab) if name in found}
        bench_steps.feed_board(self.bench, self.say)

    def prepare_clamp(self, *more: str, hand: Callable[[], None] | None = None) -> None:
        """Have the clamp degaussed and closed, and whatever else is to be done with the output off."""
        self.person.does([*clamp(self.lab).before_zero(), *more], hand)

    def load(self, kind: float | str, step: str) -> None:
        """Have another load connected: ohms, "open" or "board"."""
        simulated = self.bench.simulated
        self.person.does([step], None if simulated is None else lambda: simulated.connect(kind))  # type: ignore[arg-type]

    def steady(self, kind: str, during: Callable[[float], Iterable[tuple[str, float]]] = lambda until_s: ()) -> Steady:
        """Take, store and average one record; `during` reads the supply until the record ends.

        Raises CaptureError for a record that cannot be averaged.
        """
        clock = self.bench.clock
        host_s, utc_s = clock.monotonic(), clock.time()
        read: list[tuple[str, float, float]] = []

        def look(until_s: float) -> None:
            forced_s = clock.monotonic()
            read.extend((quantity, value, clock.monotonic() - forced_s) for quantity, value in during(until_s))

        capture = bench_steps.forced_record(self.bench, self.window_s, look)
        self.store.add(
            kind,
            capture,
            sources(self.lab),
            host_s=host_s,
            utc_s=utc_s,
            window_s=self.window_s,
            readings=read,
        )
        self._require_settings()
        current, voltage = self._averaged(capture, kind)
        return Steady(
            host_s,
            current,
            voltage,
            tuple(value for quantity, value, _ in read if quantity == "A"),
            tuple(value for quantity, value, _ in read if quantity == "V"),
        )

    def keep(self, kind: str, capture: Capture, host_s: float, utc_s: float, done: Done) -> None:
        """Store a record of a run of the device."""
        self.store.add(
            kind, capture, sources(self.lab), host_s=host_s, utc_s=utc_s, window_s=self.window_s, done=done
        )  # fmt: skip
        self._require_settings()

    def _require_settings(self) -> None:
        """Refuse what was recorded at other settings than those for which the record is to hold."""
        if changed := bench_steps.strayed(self.bench, self._asked):
            raise refuse(
                "the oscilloscope's settings were changed meanwhile, at its front panel or by another program: "
                f"{', '.join(changed)}; leave them alone and begin anew"
            )

    def _averaged(self, capture: Capture, kind: str) -> tuple[MeanOfRecord, MeanOfRecord]:
        found = []
        if capture.duration_s < 0.99 * self.window_s:
            raise CaptureError(
                f"the record is short: {capture.duration_s:g} s of {self.window_s:g} s",
                reason="short",
                instrument="scope",
            )
        for role in ("current", "voltage"):
            record = capture[sources(self.lab)[role]]
            bad = int(record.clipped().sum()), int(record.holes().sum())
            if any(bad):
                lead = "range, turns and direction of the clamp" if role == "current" else "probe of the voltage"
                raise CaptureError(
                    f"{kind}: {bad[0]} samples of the {role} are clipped and {bad[1]} missing: widen wiring.{role} in "
                    f"lab.yaml, or calibrate at less; where the span should hold what is there, look at the {lead}",
                    reason="clipped",
                    instrument="scope",
                )
            found.append(mean_of_record(record.values(), capture.dt_s))
        if reason := beyond_the_clamp(self.lab, capture[sources(self.lab)["current"]]):
            raise CaptureError(reason, reason="clipped", instrument="scope")
        return found[0], found[1]


@dataclass(frozen=True)
class Common:
    """Fields that the records of all calibrations of this bench share."""

    fields: dict[str, Any]

    @classmethod
    def of(cls, session: Session, args: argparse.Namespace, program: str, *serials: str) -> Common:
        """Say when, where, with what, until when."""
        lab = session.lab
        known = {"scope": lab.scope.serial, "probe": lab.probe.serial, "supply": lab.supply.serial}
        notes = [f"taken as done, nobody was there: {step}" for step in session.person.skipped]
        return cls(
            {
                "made": session.made,
                "expires": records.after(session.made, args.valid_days),
                "source": session.bench.source,
                "bench": lab.bench,
                "program": program,
                "temperature_c": args.temperature,
                "serials": records.Serials(**{name: known[name] for name in serials}),
                "notes": notes,
            }
        )


def check_options(args: argparse.Namespace) -> Lab:
    """Read the lab.yaml and check what needs no instrument; raises ConfigError."""
    if not 0.02 <= args.window <= 500:
        raise ConfigError(f"--window {args.window:g} s: the timebase covers 0.02 s to 500 s")
    if not 0 < args.valid_days <= 3660:
        raise ConfigError(f"--valid-days {args.valid_days:g}: more than 0 and at most 3660")
    if args.temperature is not None and not -100 <= args.temperature <= 200:
        raise ConfigError(f"--temperature {args.temperature:g}: is in degrees Celsius")
    lab, _ = read_bench(args.lab)
    return lab


def calibrate(
    args: argparse.Namespace,
    what: str,
    names: str,
    procedure: Callable[[Session], Record],
    summary: Callable[[Record], list[str]],
) -> int:
    """Open the bench, follow the procedure, leave a record and its raw data; returns the exit code.

    `names` ends the files' names. Raises BenchError; what was captured by then is in the trace file.
    """
    lab = check_options(args)
    seed = args.seed if args.seed is not None else lab.simulation.seed if lab.simulation is not None else 1
    person = Person(
        simulated=lab.simulation is not None, unattended=args.unattended, answers=args.answers, quiet=args.quiet
    )
    path = _place(args.out, what, names)
    trace = path.with_suffix(".h5")
    for there in (path, trace):
        if there.exists():
            raise ConfigError(f"{there}: is there already, and none is ever overwritten: name another with --out")
    try:
        with contextlib.ExitStack() as stack:
            log = stack.enter_context(open_transcript(args.transcript, lab)) if args.transcript else None
            bench = stack.enter_context(open_bench(lab, args.lab, seed=seed, transcript=log))
            instruments = {"identities": bench.identities, "probe": f"{lab.probe.model} {lab.probe.serial}"}
            store = stack.enter_context(
                _stored(trace, bench, lab_yaml.read_text(args.lab), instruments, what, args.window, seed)
            )
            record = procedure(Session(bench, person, store, args.window))
    except BenchError:
        if trace.exists():
            complain(f"no record was made; what was captured is in {trace}")
        raise
    with undisturbed():
        reference = Raw(file=trace.name, sha256=raw.sha256(trace))
        records.save(record.model_copy(update={"raw": reference}), path)
    for line in [*summary(record), f"written to {path}, raw data in {trace}"]:
        say(line)
    return 0


@contextlib.contextmanager
def _stored(
    trace: Path, bench: Bench, lab_text: str, instruments: dict[str, Any], what: str, window_s: float, seed: int
) -> Iterator[raw.RawStore]:
    store = raw.create(
        trace, source=bench.source, lab_text=lab_text, instruments=instruments, what=what, window_s=window_s, seed=seed
    )
    whole = False
    try:
        yield store
        whole = True
    finally:
        store.close(whole)


def _place(out: Path | None, what: str, names: str) -> Path:
    """The record's path: as named, or in a folder under its time, kind and serial."""
    if out is not None and out.suffix == ".yaml":
        return out
    moment = f"{datetime.now(UTC):%Y%m%dT%H%M%SZ}"
    word = "".join(c if c.isalnum() else "-" for c in names).strip("-")
    return (out if out is not None else FOLDER) / f"{moment}-{what.replace('_', '-')}-{word}.yaml"


def refuse(text: str) -> CalibrationError:
    """A comparison that shows that something is wrong at the bench."""
    return CalibrationError(f"this cannot be a calibration: {text}")
