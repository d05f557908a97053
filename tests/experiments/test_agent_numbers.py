"""Numbers of an agent that nobody can have measured are refused with a reason, and never reach what is stored."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from instruments.dut import Dut
from instruments.errors import DutError

ROOT = Path(__file__).resolve().parents[2]
AGENT = """
import json, sys
from experiments import dut_agent
from instruments import dut_protocol
real = dut_protocol.encode
def encode(message):
    if message["type"] == {when!r}:
        {deed}
        dut_protocol.json.dumps, keep = lambda tree, **_: json.JSONEncoder().encode(tree), dut_protocol.json.dumps
        try:
            return real(message)
        finally:
            dut_protocol.json.dumps = keep
    return real(message)
dut_protocol.encode = encode
sys.exit(dut_agent.main(["--marker", "none"]))
"""


@pytest.mark.parametrize(
    ("when", "deed", "said"),
    [
        ("done", "message['gate_ns'] = [t + 10**30 for t in message['gate_ns']]", "no time stamp"),
        ("done", "message['batch'] += 1", "was to run batches of 1 and says 2"),
        ("done", "message['woke_ns'] = -10**25", "done.woke_ns is -1"),
        ("ready", "message['batch_time_s'] = float('inf')", "not JSON|batch_time_s"),
        ("ready", "message['batch_time_s'] = 0.0", "was asked for batch 1 and is ready with"),
        ("ready", "message['batches'] = 10**9", "was asked for batch 1 and is ready with"),
    ],
)
def test_a_number_that_cannot_be_is_refused(when: str, deed: str, said: str) -> None:
    code = AGENT.format(when=when, deed=deed)
    with Dut.start([sys.executable, "-c", code], {"PYTHONPATH": str(ROOT)}) as dut, pytest.raises(DutError, match=said):
        a_run(dut)


def a_run(dut: Dut) -> None:
    """Prepare and run a load."""
    dut.prepare("busy:1", 1, warmup_s=0.01, deadline_s=20.0)
    dut.go("r", 2)
    dut.wait_done(20.0)
