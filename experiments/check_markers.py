"""Which marker line ended on which input of the oscilloscope, from one short run of the board. Pure.

The board's agent was started anew, so that both lines were low; it raised the gate, toggled the batch line after
each of an odd number of batches, and lowered the gate. So the gate has two edges, up first, and the batch line has
one for each batch, up first.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from experiments.check_findings import Finding
from instruments import markers
from instruments.lab import Wiring
from instruments.wording import counted

WHAT_INVERTS = (
    "a line driver or an RS-232 adapter's TTL pins invert: take the other output, or write ,invert after a "
    "serial port in dut.marker"
)


@dataclass(frozen=True)
class Seen:
    """What one input showed: the line that it fits ("" for none), whether upside down, edges, level at the start."""

    input: int
    line: str
    inverted: bool
    edges: int
    level: int

    def __str__(self) -> str:
        if not self.edges:
            return f"D{self.input} stays {'high' if self.level else 'low'}"
        return f"D{self.input} has {counted(self.edges, 'edge')}"


def seen(bits: NDArray[np.unsignedinteger[Any]], batches: int) -> list[Seen]:
    """Say what each of the eight inputs shows; `bits` has shape (n,), bit k = Dk; `batches` is odd and above 2."""
    found = []
    for number in range(8):
        at, _ = markers.edges(bits, number)
        line = {2: "gate", batches: "batch"}.get(len(at), "")
        start = int(bits[0] >> number) & 1 if len(bits) else 0
        found.append(Seen(number, line, bool(line) and start == 1, len(at), start))
    return found


def judge_lines(bits: NDArray[np.unsignedinteger[Any]], batches: int, wiring: Wiring) -> list[Finding]:
    """Prove the wiring of both lines, or name what is wrong with each."""
    inputs = seen(bits, batches)
    planned = {"gate": wiring.gate.digital, "batch": wiring.batch.digital}
    values = {"edges": {f"D{s.input}": s.edges for s in inputs}}
    if all(inputs[planned[line]].line == other for line, other in (("gate", "batch"), ("batch", "gate"))):
        return [
            Finding(
                f"markers.{line}",
                "wrong",
                f"{line} line",
                f"swapped with the {other} line: it is on D{planned[other]} and not on D{planned[line]}",
                "swap the two wires, or wiring.gate and wiring.batch in lab.yaml",
                {"swapped": True, "input": planned[other], **values},
            )
            for line, other in (("gate", "batch"), ("batch", "gate"))
        ]
    return [_judge(line, planned[line], inputs, 2 if line == "gate" else batches, values) for line in planned]


def _judge(line: str, planned: int, inputs: list[Seen], made: int, values: dict[str, Any]) -> Finding:
    here = inputs[planned]
    there = [s for s in inputs if s.line == line and s.input != planned]
    id, name = f"markers.{line}", f"{line} line"
    if here.line == line and not here.inverted:
        return Finding(id, "good", name, f"{counted(made, 'edge')} on D{planned}, as many as were made", "", values)
    if here.line == line:
        found = f"inverted: D{planned} is high while the line is low"
        return Finding(id, "wrong", name, found, WHAT_INVERTS, {"inverted": True, **values})
    if there:
        upside_down = ", and inverted there" if there[0].inverted else ""
        found = f"not on D{planned} but on {' and '.join(f'D{s.input}' for s in there)}{upside_down}"
        advice = f"correct wiring.{line} in lab.yaml, or move the wire"
        return Finding(id, "wrong", name, found, advice, {"input": there[0].input, **values})
    if not here.edges:
        found = f"dead: {here} and no input shows it"
        advice = "check the wire, the ground between board and oscilloscope, marker_threshold_v, and dut.marker"
        return Finding(id, "wrong", name, found, advice, {"dead": True, **values})
    found = f"{counted(here.edges, 'edge')} on D{planned} where {made} were made"
    more = here.edges > made
    advice = (
        "it bounces or rings: check the ground and the contact, and marker_threshold_v"
        if more
        else "edges are lost: check the contact and marker_threshold_v"
    )
    return Finding(id, "wrong", name, found, advice, {"bounces": more, **values})
