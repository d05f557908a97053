"""Faults by script and seed: what links and instruments do on bad days, put around any simulated machine. Pure.

    script = FaultScript([Fault("cut", matching=r":WAV:DATA", at_byte=17)], seed=7)
    machine.reply_filter = script

A fault acts on whole replies as they leave the machine, so that it looks the same on every transport. On a
stream a cut reply is followed by nothing; on a message transport it has no END. `stall` and `cut` last until
the link is closed or cleared, `wedge` until it is closed; after `short` and `drop` it goes on. `reset` ends the
connection (RST on a socket; behind an adapter, the adapter's). `stale` sends what answered the last matching
command (or the one `back` before) once more. `panel` leaves the answer alone and is a hand at the front panel
after it. `EdgeFaults` does to the marker lines' edges what bad wires do; what is plugged wrongly is in `leads`.
"""

from __future__ import annotations

import random
import re
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Literal

from instruments.fault_facts import InstrumentFault, MarkerFault, ReplyKind
from instruments.simulated.scpi_errors import Refused
from instruments.simulated.scpi_machine import ScpiMachine
from instruments.simulated.scpi_port import Part
from instruments.simulated.world import BATCH, GATE

FaultKind = Literal[ReplyKind, "panel"]
LINES = {"gate": GATE, "batch": BATCH}


@dataclass(frozen=True)
class Fault:
    """One fault and when it strikes."""

    kind: FaultKind
    matching: str = ""
    """Regular expression looked for in the command, case ignored; empty: every reply."""
    skip: int = 0
    """How many matching replies pass unharmed first."""
    times: int = 1
    """How many replies it strikes after that; 0: all."""
    probability: float = 1.0
    delay_s: float = 0.0
    """For `delay` and `garbage`: before the reply; for `trickle`: before each piece."""
    at_byte: int = 0
    """For `cut`, `short`, `wedge` and `reset`: how many bytes still come; for `trickle`: the size of a piece."""
    data: bytes = b""
    """For `garbage`: what comes before the reply; for `replace`: what comes instead of it; for `panel`: commands."""
    back: int = 1
    """For `stale`: the answer to which matching command before this one."""


@dataclass
class _Count:
    seen: int = 0
    struck: int = 0
    answers: deque[bytes] = field(default_factory=deque)


class FaultScript:
    """A reply filter; the first fault of the list that is due strikes. `log` holds (kind, command) of each.

    `panel` takes the commands of a hand at the front panel; `told` hears of each fault as it strikes.
    """

    def __init__(
        self,
        faults: Sequence[Fault],
        seed: int = 0,
        *,
        panel: Callable[[bytes], object] = lambda commands: None,
        told: Callable[[str], object] = lambda text: None,
    ) -> None:
        self._faults = [(fault, re.compile(fault.matching, re.IGNORECASE), _Count()) for fault in faults]
        self._random = random.Random(seed)
        self._panel, self._told = panel, told
        self.log: list[tuple[str, str]] = []

    def __call__(self, command: str, reply: bytes) -> list[Part] | None:
        """What to send instead of `reply`, or None for the reply itself."""
        for fault, pattern, count in self._faults:
            if not pattern.search(command):
                continue
            count.seen += 1
            older = _older(fault, count, reply)
            if not _is_due(fault, count) or (fault.kind == "stale" and older is None):
                continue
            if self._random.random() >= fault.probability:
                continue
            count.struck += 1
            self.log.append((fault.kind, command))
            self._told(f"{fault.kind}, {_how(fault)}answering {command[-80:]!r}")
            if fault.kind != "panel":
                return _strike(fault, reply, older)
            self._panel(fault.data)
        return None


def _older(fault: Fault, count: _Count, reply: bytes) -> bytes | None:
    """The answer to the command `back` before, if there was one; large answers are kept for `stale` alone."""
    if fault.kind != "stale":
        return None
    older = count.answers[0] if len(count.answers) == fault.back else None
    count.answers.append(reply)
    if len(count.answers) > fault.back:
        count.answers.popleft()
    return older


def _how(fault: Fault) -> str:
    if fault.kind in ("cut", "short", "wedge", "reset"):
        return f"after {fault.at_byte} bytes, "
    if fault.kind in ("delay", "trickle"):
        return f"{fault.delay_s:g} s, "
    return f"{fault.data[:40]!r}, " if fault.data else ""


def _is_due(fault: Fault | EdgeFault, count: _Count) -> bool:
    return count.seen > fault.skip and not (fault.times and count.struck >= fault.times)


def _strike(fault: Fault, reply: bytes, older: bytes | None) -> list[Part]:
    kind = fault.kind
    if kind == "drop":
        return []
    if kind == "delay":
        return [Part(reply, delay_s=fault.delay_s)]
    if kind == "cut":
        return [Part(reply[: fault.at_byte], then="stall")]
    if kind == "short":
        return [Part(reply[: fault.at_byte])]
    if kind == "wedge":
        return [Part(reply[: fault.at_byte], then="wedge")]
    if kind == "stale":
        return [Part(older or b"")]
    if kind == "double":
        return [Part(reply + reply)]
    if kind == "garbage":
        return [Part(fault.data + reply, delay_s=fault.delay_s)]
    if kind == "stall":
        return [Part(b"", then="stall")]
    if kind == "reset":
        return [Part(reply[: fault.at_byte], then="reset")]
    if kind == "trickle":
        size = max(1, fault.at_byte)
        return [Part(reply[k : k + size], delay_s=fault.delay_s) for k in range(0, len(reply), size)]
    return [Part(fault.data)]


def wrong_identity(identity: str) -> Fault:
    """Another instrument answers at the address."""
    return Fault("replace", matching=r"\*IDN\?", times=0, data=identity.encode("latin-1") + b"\n")


def leave_errors(machine: ScpiMachine, errors: Iterable[tuple[int, str]]) -> None:
    """Fill the error queue, as a program that ran before may have left it."""
    for code, text in errors:
        machine.log_error(Refused(code, text))


def script_of(
    machine: ScpiMachine,
    facts: Sequence[InstrumentFault],
    seed: int = 0,
    told: Callable[[str], object] = lambda text: None,
) -> FaultScript | None:
    """Make the reply filter of these facts, None for none; errors are left in the machine's queue at once."""
    leave_errors(machine, [(fact.code, fact.text) for fact in facts if fact.kind == "error"])
    faults = [fault for fault in map(_fault, facts) if fault is not None]
    if not faults:
        return None
    if all(fault.kind != "panel" for fault in faults):
        return FaultScript(faults, seed, told=told)
    panel = machine.open_port("stream", "front panel")

    def press(commands: bytes) -> None:
        machine.submit(panel, commands)
        panel.take()

    return FaultScript(faults, seed, panel=press, told=told)


def _fault(fact: InstrumentFault) -> Fault | None:
    if fact.kind in ("error", "holes"):
        return None
    if fact.kind == "identity":
        return wrong_identity(fact.text)
    text = fact.commands if fact.kind == "panel" else fact.data
    return Fault(
        fact.kind,  # type: ignore[arg-type]
        fact.matching,
        fact.skip,
        fact.times,
        fact.probability,
        fact.delay_s,
        fact.at_byte,
        text.encode("latin-1"),
        fact.back,
    )


@dataclass(frozen=True)
class EdgeFault:
    """What happens to an edge of one marker line on its way to the oscilloscope."""

    kind: Literal["lose", "bounce", "late"]
    """`lose`: the line keeps the level that it is seen at; `bounce`: it goes back and forth before it stays;
    `late`: every edge of both lines comes `delay_s` later."""
    bit: int
    """Which line of the board's states: `world.GATE` or `world.BATCH`."""
    skip: int = 0
    """How many edges of the line pass unharmed first."""
    times: int = 1
    """How many it strikes after that; 0: all."""
    bounces: int = 2
    within_s: float = 1e-3
    """How long a line bounces, at most."""
    delay_s: float = 0.0


class EdgeFaults:
    """Stands between the board and the world; edges are (monotonic ns, line states), as they come."""

    def __init__(
        self, faults: Sequence[EdgeFault], seed: int = 0, told: Callable[[str], object] = lambda text: None
    ) -> None:
        self._faults = [(fault, _Count()) for fault in faults if fault.kind != "late"]
        self._late_ns = int(1e9 * sum(fault.delay_s for fault in faults if fault.kind == "late"))
        self._random = random.Random(seed)
        self._told = told
        self._sent = self._seen = 0
        self.log: list[tuple[str, int]] = []

    @classmethod
    def of(
        cls, facts: Sequence[MarkerFault], seed: int = 0, told: Callable[[str], object] = lambda text: None
    ) -> EdgeFaults:
        """Make them from facts."""
        faults = [EdgeFault(f.kind, LINES[f.line], f.skip, f.times, f.bounces, f.within_s, f.delay_s) for f in facts]
        return cls(faults, seed, told)

    def __call__(self, edges: Iterable[tuple[int, int]]) -> list[tuple[int, int]]:
        """What arrives of these edges, and what else does."""
        moves: list[tuple[int, int, int]] = []
        for t_ns, lines in edges:
            for bit in _bits(self._sent ^ lines):
                moves += self._moves(t_ns, bit, lines & bit)
            self._sent = lines
        seen = []
        for t_ns, bit, level in sorted(moves):
            self._seen = (self._seen & ~bit) | level
            seen.append((t_ns + self._late_ns, self._seen))
        return seen

    def _moves(self, t_ns: int, bit: int, level: int) -> list[tuple[int, int, int]]:
        """(time, line, level from there) of one edge that was sent."""
        moves = [(t_ns, bit, level)]
        for fault, count in self._faults:
            if fault.bit != bit:
                continue
            count.seen += 1
            if not _is_due(fault, count):
                continue
            count.struck += 1
            self.log.append((fault.kind, t_ns))
            self._told(f"{fault.kind}, an edge of the {'gate' if bit == GATE else 'batch'} line")
            if fault.kind == "lose":
                return []
            times = sorted(self._random.uniform(0.1, 1.0) for _ in range(2 * fault.bounces))
            for k, share in enumerate(times):
                moves.append((t_ns + int(fault.within_s * 1e9 * share), bit, level if k % 2 else level ^ bit))
        return moves


def _bits(lines: int) -> list[int]:
    return [1 << k for k in range(lines.bit_length()) if lines >> k & 1]
