"""What a device said in the course of a sweep: facts to store, flags, and why a cell has no result."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Callable, Mapping
from typing import Any

from experiments import flags
from experiments.station import Rejected
from experiments.traces import CAPTURE
from instruments.dut import Done, Dut, DutRefusedError, Hello, Ready
from instruments.errors import DutError

_ELSEWHERE = ("type", "batch_ns")
"""Fields of the device's messages that are not stored with its facts: the log has a table of its own."""

_WHO = ("agent_sha256", "archive_sha256", "python", "torch", "host", "marker")
"""Fields of the hello that say what a run was made by; stored with each run, for another agent may answer the next."""

_WARMUP_BLOCKS = 64
"""How many of the last blocks of a warm-up are stored."""


def facts_json(variable: str, facts: Mapping[str, Any]) -> str:
    """The device's facts as JSON that fits the variable: the longest are left out, by name, where they do not."""
    kept = {name: value for name, value in facts.items() if name not in _ELSEWHERE}
    if isinstance(blocks := kept.get("warmup_batch_s"), list):
        kept["warmup_batch_s"] = blocks[-_WARMUP_BLOCKS:]
    left_out: list[str] = []
    while len(text := json.dumps({**kept, "left_out": left_out} if left_out else kept)) > CAPTURE[variable].width:
        left_out.append(max(kept, key=lambda name: len(json.dumps(kept[name]))))
        del kept[left_out[-1]]
    return text


def agent_facts(hello: Hello) -> dict[str, Any]:
    """Who ran it: check sums of the agent, versions, machine and marker lines, as far as it said."""
    return {name: hello.facts[name] for name in _WHO if name in hello.facts}


def because(error: DutError, said: str = "") -> Rejected:
    """A device's error as the reason of a rejection, which keeps it as its cause."""
    rejected = Rejected(f"{said}{error}")
    rejected.__cause__ = error
    return rejected


class DeviceSaid:
    """Keeps of a sweep what later runs are compared with."""

    def __init__(self) -> None:
        self._known: Dut | None = None
        self._oom_kills: float | None = None

    def met(self, dut: Dut) -> None:
        """Take note of a device before it is asked for anything."""
        if dut is not self._known:
            self._known = dut
            self._kills(dut.hello().facts.get("condition"))

    def flags_of(self, ready: Ready, done: Done) -> str:
        """Flags of a run that has ended, with blanks between."""
        self._kills(done.facts.get("condition_after"))
        return " ".join(flags.of_run(ready.facts, done.facts))

    def judged(self, rejected: Rejected, start: Callable[[], Dut]) -> Rejected:
        """Say what became of a cell: whether the device refused it, or had no memory for it.

        A device that was killed is started anew by `start`, which may raise Rejected: its kernel counts whom it
        killed for want of memory.
        """
        cause, outcome, reason = rejected.__cause__, "rejected", str(rejected)
        code = cause.code if isinstance(cause, DutError) else ""
        if code == "out_of_memory":
            outcome = "out of memory"
        elif isinstance(cause, DutRefusedError):
            outcome = "refused"
        elif code == "killed":
            before = self._oom_kills
            with contextlib.suppress(Rejected):
                now = self._kills(start().hello().facts.get("condition"))
                if before is None or now is None or now > before:
                    outcome = "out of memory"
                    reason = f"likely out of memory, where the device's system kills a program: {reason}"
        return Rejected(reason, rejected.capture, outcome=outcome, code=rejected.code)

    def _kills(self, condition: object) -> float | None:
        """Note how many processes the device's kernel has killed for want of memory, and give it."""
        found = flags.number(condition, "oom_kills")
        if found is not None:
            self._oom_kills = found
        return found
