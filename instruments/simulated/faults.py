"""Faults by script and seed: what links and instruments do on bad days, put around any simulated machine. Pure.

    script = FaultScript([Fault("cut", matching=r":WAV:DATA", at_byte=17)], seed=7)
    machine.reply_filter = script

A fault acts on whole replies as they leave the machine, so that it looks the same on every transport. On a
stream a cut reply is followed by nothing; on a message transport it has no END. `stall` and `cut` last until
the link is closed or cleared; `reset` ends the connection (RST on a socket).
"""

from __future__ import annotations

import random
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal

from instruments.simulated.scpi_errors import Refused
from instruments.simulated.scpi_machine import ScpiMachine
from instruments.simulated.scpi_port import Part

FaultKind = Literal["drop", "delay", "cut", "double", "garbage", "stall", "reset", "replace", "trickle"]


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
    """For `cut` and `reset`: how many bytes still come; for `trickle`: the size of a piece."""
    data: bytes = b""
    """For `garbage`: what comes before the reply; for `replace`: what comes instead of it."""


@dataclass
class _Count:
    seen: int = 0
    struck: int = 0


class FaultScript:
    """A reply filter; the first fault of the list that is due strikes. `log` tells what was done."""

    def __init__(self, faults: Sequence[Fault], seed: int = 0) -> None:
        self._faults = [(fault, re.compile(fault.matching, re.IGNORECASE), _Count()) for fault in faults]
        self._random = random.Random(seed)
        self.log: list[tuple[str, str]] = []

    def __call__(self, command: str, reply: bytes) -> list[Part] | None:
        """What to send instead of `reply`, or None for the reply itself."""
        for fault, pattern, count in self._faults:
            if not pattern.search(command):
                continue
            count.seen += 1
            if count.seen <= fault.skip or (fault.times and count.struck >= fault.times):
                continue
            if self._random.random() >= fault.probability:
                continue
            count.struck += 1
            self.log.append((fault.kind, command))
            return _strike(fault, reply)
        return None


def _strike(fault: Fault, reply: bytes) -> list[Part]:
    kind = fault.kind
    if kind == "drop":
        return []
    if kind == "delay":
        return [Part(reply, delay_s=fault.delay_s)]
    if kind == "cut":
        return [Part(reply[: fault.at_byte], then="stall")]
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
