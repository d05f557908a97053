"""What a sweep is going to do and how long that may take, in words, before it starts. Pure."""

from __future__ import annotations

from experiments.plan import Plan, captures_of
from instruments.lab import Lab
from instruments.scope_facts import acquisition_plan
from instruments.wording import counted

PREPARE_GUESS_S = 4.0
"""What loading and warming up a network takes, about, for a plan's forecast."""


def plan_text(plan: Plan, lab: Lab) -> str:
    """A plan in lines: the bench, how networks run and are recorded, how long it may take, every cell."""
    lines = [
        f"bench: {lab.bench} ({'simulated' if lab.simulation else 'measured'})",
        f"supply: {lab.supply.voltage_v:g} V, limit {lab.supply.current_limit_a:g} A, OVP {lab.supply.ovp_v:g} V",
        *(f"oscilloscope: {line}" for line in acquisition_plan(lab, plan.window_s).lines()),
        f"networks: {plan.run.label}",
        *plan.method.lines(plan.window_s, plan.repeats, plan.rounds),
        _expected(plan, lab),
        f"{counted(len(plan.cells), 'cell')} of {_length(plan)}, seed {plan.seed}:",
        *(f"{cell.position + 1:4d}  {cell.label}" for cell in plan.cells),
    ]
    return "\n".join(lines)


def _expected(plan: Plan, lab: Lab) -> str:
    """How many captures and minutes a plan's cells will take, about."""
    long_s = plan.method.long_s
    captures = 1 if long_s is None else captures_of(long_s, plan.window_s)
    each_s = PREPARE_GUESS_S + plan.window_s + lab.dut.rest_s + (0.0 if long_s is None else long_s + lab.dut.rest_s)
    least = len(plan.cells) // plan.rounds * plan.repeats
    minutes = [n * each_s / 60 for n in (least, len(plan.cells))]
    span = f"{minutes[0]:.3g}" + (f" to {minutes[1]:.3g}" if len(plan.cells) > least else "")
    kind = " of the model's virtual time, which passes much faster" if lab.dut.simulated is not None else ""
    more = "" if plan.method.long_batch == "longer-record" else "; more where a batch is longer than a record"
    return f"expected: {counted(captures, 'capture')} a cell, {span} minutes in all{kind}{more}"


def _length(plan: Plan) -> str:
    long_s = plan.method.long_s
    return f"{plan.window_s:g} s" if long_s is None else f"at least {long_s:g} s"
