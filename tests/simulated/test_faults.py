"""Faults by script: each kind on streams and on message transports, reproducible by seed."""

from __future__ import annotations

import json
import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from instruments import lab as lab_yaml
from instruments.errors import ConfigError
from instruments.simulated.e3645a import SimulatedE3645A
from instruments.simulated.faults import (
    EdgeFault,
    EdgeFaults,
    Fault,
    FaultScript,
    leave_errors,
    script_of,
    wrong_identity,
)
from instruments.simulated.leads import Leads
from instruments.simulated.prologix import AdapterSettings, Prologix
from instruments.simulated.servers import Served, StreamServer
from instruments.simulated.world import BATCH, GATE

IDN = b"Agilent Technologies,E3645A,0,1.4-5.0-1.0\n"


def faulty(supply: SimulatedE3645A, *faults: Fault, seed: int = 0) -> FaultScript:
    script = FaultScript(faults, seed)
    supply.reply_filter = script
    return script


def test_drop_strikes_as_often_as_asked(supply: SimulatedE3645A) -> None:
    script = faulty(supply, Fault("drop", r"\*idn", skip=1, times=2))
    assert supply.feed(b"*IDN?\n" * 4 + b"VOLT?\n") == IDN + IDN + b"+0.00000000E+00\n"
    assert script.log == [("drop", "*IDN?")] * 2


def test_delay_and_trickle(supply: SimulatedE3645A) -> None:
    faulty(supply, Fault("delay", r"VOLT", delay_s=0.5), Fault("trickle", r"IDN", at_byte=20, delay_s=0.1))
    assert supply.feed(b"VOLT?\n") == b""
    assert supply.wake_s == 0.5
    assert supply.tick(0.5) == b"+0.00000000E+00\n"
    assert supply.feed(b"*IDN?\n") == b""
    assert [supply.tick(0.5 + 0.1 * k) for k in (1, 2, 3, 4)] == [IDN[:20], IDN[20:40], IDN[40:], b""]


@pytest.mark.parametrize("k", [0, 1, 20, len(IDN) - 1])
def test_cut_at_byte_k_then_nothing_until_cleared(supply: SimulatedE3645A, k: int) -> None:
    faulty(supply, Fault("cut", at_byte=k))
    assert supply.feed(b"*IDN?\nVOLT?\n") == IDN[:k]
    supply.clear()
    assert supply.feed(b"VOLT?\n") == b"+0.00000000E+00\n"


def test_cut_on_a_message_transport_has_no_end_and_is_no_420(supply: SimulatedE3645A) -> None:
    faulty(supply, Fault("cut", at_byte=4))
    supply.write(b"*IDN?")
    assert supply.read(100) == (IDN[:4], False)
    assert supply.read(100) == (b"", False)
    assert not supply.errors
    supply.clear()
    supply.write(b"*IDN?")
    assert supply.read(100) == (IDN, True)


def test_double_garbage_and_replace(supply: SimulatedE3645A) -> None:
    faulty(supply, Fault("double", "VOLT"), Fault("garbage", "CURR", data=b"\x00#9"), wrong_identity("A,B,C,D"))
    assert supply.feed(b"VOLT?\n") == b"+0.00000000E+00\n" * 2
    assert supply.feed(b"CURR?\n") == b"\x00#9+2.20000000E+00\n"
    assert supply.feed(b"*IDN?\n*IDN?\n") == b"A,B,C,D\n" * 2


def test_stall_holds_one_port_only(supply: SimulatedE3645A) -> None:
    faulty(supply, Fault("stall"))
    other = supply.open_port()
    assert supply.feed(b"*IDN?\n*IDN?\n") == b""
    assert other.feed(b"*IDN?\n") == IDN
    assert supply.tick(1000.0) == b""


def test_reset_of_a_connection_mid_reply(
    supply: SimulatedE3645A, served_supply: Served, started: Callable[[Any], Any]
) -> None:
    faulty(supply, Fault("reset", at_byte=10))
    server = started(StreamServer(served_supply, lambda: supply.open_port("stream")))
    with socket.create_connection(("127.0.0.1", server.port), 2) as client:
        client.sendall(b"*IDN?\n")
        assert client.recv(100) == IDN[:10]
        with pytest.raises(ConnectionResetError):
            client.recv(100)
    with socket.create_connection(("127.0.0.1", server.port), 2) as client:
        client.sendall(b"*IDN?\n")
        assert client.recv(100) == IDN


def test_chance_is_drawn_from_the_seed(world: Any) -> None:
    def pattern(seed: int) -> bytes:
        supply = SimulatedE3645A(world)
        faulty(supply, Fault("drop", times=0, probability=0.5), seed=seed)
        return b"".join(b"1" if supply.feed(b"OUTP?\n") else b"0" for _ in range(64))

    assert pattern(1) == pattern(1)
    assert pattern(1) != pattern(2)
    assert 10 < pattern(1).count(b"1") < 54


def test_errors_left_by_somebody_else(supply: SimulatedE3645A) -> None:
    leave_errors(supply, [(-113, "Undefined header"), (511, "RS-232 framing error")])
    assert supply.feed(b"SYST:ERR?;ERR?;ERR?\n") == (
        b'-113,"Undefined header";+511,"RS-232 framing error";+0,"No error"\n'
    )


def test_short_goes_on_and_wedge_ends_with_the_connection_alone(supply: SimulatedE3645A) -> None:
    faulty(supply, Fault("short", at_byte=4), Fault("wedge", at_byte=2))
    assert supply.feed(b"*IDN?\n") == IDN[:4]
    assert supply.feed(b"*IDN?\n*IDN?\n") == IDN[:2]
    supply.clear()
    assert supply.feed(b"*IDN?\n") == b""
    supply.port.reconnect()
    assert supply.feed(b"*IDN?\n") == IDN


def test_a_new_client_of_the_adapter_ends_a_wedge_although_the_old_one_still_closes(supply: SimulatedE3645A) -> None:
    adapter = Prologix({5: supply}, settings=AdapterSettings(eos=3))
    faulty(supply, Fault("wedge", at_byte=2))
    old = adapter.open_port()
    assert old.feed(b"*IDN?\n++read eoi\n") == IDN[:2]
    new = adapter.open_port()
    old.close()
    assert new.feed(b"*IDN?\n++read eoi\n") == IDN


def test_stale_sends_what_answered_last(supply: SimulatedE3645A) -> None:
    faulty(supply, Fault("stale", "VOLT", skip=1))
    assert supply.feed(b"VOLT?\nVOLT 5\nVOLT?\nVOLT?\n") == b"+0.00000000E+00\n" * 2 + b"+5.00000000E+00\n"


def test_bytes_of_one_conversation_do_not_overtake_each_other(supply: SimulatedE3645A) -> None:
    faulty(supply, Fault("delay", "IDN", delay_s=0.5), Fault("trickle", "CURR", at_byte=8, delay_s=0.1))
    assert supply.feed(b"*IDN?\nVOLT?\n") == b""
    assert supply.tick(0.5) == IDN + b"+0.00000000E+00\n"
    assert supply.feed(b"CURR?\nVOLT?\n") == b""
    assert supply.tick(0.6) == b"+2.20000"
    assert supply.tick(0.7) == b"000E+00\n" + b"+0.00000000E+00\n"


def test_a_reset_behind_an_adapter_is_the_adapters(supply: SimulatedE3645A) -> None:
    adapter = Prologix({5: supply})
    faulty(supply, Fault("reset", at_byte=3), Fault("wedge"))
    client = adapter.open_port()
    assert client.feed(b"++eos 2\n*IDN?\n++read eoi\n") == IDN[:3]
    assert client.broken
    client.close()
    again = adapter.open_port()
    assert again.feed(b"*IDN?\n++clr\n++read_tmo_ms 1\n*IDN?\n++read eoi\n") == b""
    again.close()
    third = adapter.open_port()
    assert third.feed(b"*IDN?\n++read eoi\n") == IDN


def test_edges_are_lost_and_bounce_by_line() -> None:
    script = EdgeFaults([EdgeFault("lose", GATE, skip=1), EdgeFault("bounce", BATCH, bounces=1, within_s=1e-3)], seed=4)
    sent = [(0, GATE), (10_000_000, GATE | BATCH), (20_000_000, GATE), (30_000_000, 0), (40_000_000, GATE)]
    seen = script(sent[:3]) + script(sent[3:])
    bounced = [lines for t, lines in seen if 10_000_000 < t <= 11_000_000]
    assert bounced == [GATE, GATE | BATCH]
    assert [edge for edge in seen if edge[0] in (0, 10_000_000, 20_000_000)] == sent[:3]
    assert [edge for edge in seen if edge[0] > 20_000_000] == [(40_000_000, GATE)]
    assert script.log == [("bounce", 10_000_000), ("lose", 30_000_000)]
    assert EdgeFaults([])(sent) == sent


def test_late_edges_keep_their_distances() -> None:
    script = EdgeFaults([EdgeFault("late", GATE, delay_s=0.5), EdgeFault("lose", BATCH)])
    sent = [(0, GATE), (1000, GATE | BATCH), (2000, GATE), (3000, 0)]
    assert script(sent) == [(500_000_000, GATE), (500_002_000, GATE), (500_003_000, 0)]


# --- the script as a file --------------------------------------------------------------------------


def facts(text: str) -> Any:
    return lab_yaml.parse_faults(text)


def test_a_hand_at_the_front_panel_comes_after_the_answer(supply: SimulatedE3645A) -> None:
    told: list[str] = []
    script = facts('supply: [{kind: panel, matching: "volt\\\\?", skip: 1, commands: "VOLT 3;CURR 1"}]').supply
    supply.reply_filter = script_of(supply, script, 1, told.append)
    heard = [supply.feed(asked) for asked in (b"VOLT 5;VOLT?\n", b"VOLT?\n", b"VOLT?;CURR?\n")]
    assert heard == [b"+5.00000000E+00\n", b"+5.00000000E+00\n", b"+3.00000000E+00;+1.00000000E+00\n"]
    assert told == ["panel, b'VOLT 3;CURR 1', answering 'VOLT?'"]


def test_what_came_back_before_comes_again(supply: SimulatedE3645A) -> None:
    supply.reply_filter = script_of(supply, facts("supply: [{kind: stale, matching: VOLT, back: 2}]").supply)
    asked = b"VOLT 1;VOLT?\nVOLT 2;VOLT?\nVOLT 3;VOLT?\nVOLT 4;VOLT?\n"
    assert [float(line) for line in supply.feed(asked).split()] == [1, 2, 1, 4]


def test_identity_and_errors_of_a_script(supply: SimulatedE3645A) -> None:
    text = """
supply:
  - {kind: identity, text: "A,B,C,D"}
  - {kind: error, code: -222, text: Data out of range}
"""
    supply.reply_filter = script_of(supply, facts(text).supply)
    assert supply.feed(b"*IDN?\nSYST:ERR?\nSYST:ERR?\n") == b'A,B,C,D\n-222,"Data out of range"\n+0,"No error"\n'


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("scope:\n  - {kind: cot}\n", r"f:2: scope\.0\.kind: input should be 'drop', .* or 'holes', got 'cot'"),
        ("scope:\n  - {kind: cut, at_bite: 3}\n", r"f:2: scope\.0\.at_bite: unknown key, did you mean at_byte\?"),
        ("scope: [{kind: delay}]", "f:1: scope.0: a fault of kind delay needs delay_s"),
        ("scope: [{kind: error, text: x}]", "a fault of kind error needs code"),
        ("scope: [{kind: drop, data: x}]", "data mean nothing to a fault of kind drop; it takes matching, skip"),
        ("scope: [{kind: drop, matching: '('}]", r"matching '\(' is no regular expression"),
        ("scope: [{kind: replace, data: €}]", "beyond one byte each"),
        ("scope: [{kind: cut, at_byte: -1}]", "greater than or equal to 0"),
        ("supply: [{kind: holes, share: 0.1}]", "holes are in records, which the scope alone has"),
        ("markers: [{kind: lose, line: gat}]", "input should be 'gate' or 'batch', got 'gat'"),
        ("leads: [{kind: gain, lead: gate, factor: 2}]", "the gate lead cannot be of kind gain"),
        ("leads: [{kind: moved, lead: current, to: 5}]", "moves to a channel, 1 to 4, not to 5"),
        ("leads: [{kind: moved, lead: gate, to: 8}]", "less than or equal to 7"),
        ("knots: []", "unknown key, known keys: seed, scope, supply, markers, leads"),
        ("- a", "a mapping with seed, scope, supply, markers, ... was expected"),
    ],
)
def test_mistakes_in_a_script_are_named(text: str, complaint: str) -> None:
    with pytest.raises(ConfigError, match=complaint):
        lab_yaml.parse_faults(text, name="f")


def test_a_served_bench_with_a_file_of_faults(tmp_path: Path) -> None:
    """The program serves as told, and says when a fault strikes; a bad file ends it with 2."""
    path = tmp_path / "faults.yaml"
    command = [sys.executable, "-m", "instruments.simulated", "--lab", "lab.yaml", "--faults", str(path)]
    path.write_text("scope:\n  - {kind: cat}\n")
    done = subprocess.run(command, capture_output=True, text=True, timeout=200)
    assert done.returncode == 2
    assert f"{path}:2: scope.0.kind: input should be" in done.stderr
    path.write_text("scope: [{kind: short, matching: IDN, at_byte: 7}]\nsupply: [{kind: error, code: 5, text: x}]\n")
    process = subprocess.Popen(
        [*command, "--until-stdin-closes"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        assert process.stdout is not None
        addresses = json.loads(process.stdout.readline())
        _, host, port, _ = addresses["scope"]["socket"][0].split("::")
        with socket.create_connection((host, int(port)), 30) as client:
            client.sendall(b"*IDN?\n*ESE?\n")
            heard = b""
            while not heard.endswith(b"+0\n"):
                heard += client.recv(100)
        assert heard == b"AGILENT+0\n"
    finally:
        _, said = process.communicate("", timeout=200)
    assert process.returncode == 0
    assert said == "fault: scope: short, after 7 bytes, answering '*IDN?'\n"


# --- leads -------------------------------------------------------------------------------------------


class OfTests:
    """A world of two lines on D0 and D1, 1 V on channel 1 and 2 V on channel 3."""

    def digital(self, t_s: Any) -> Any:
        return (np.asarray(t_s) >= 1.0).astype(np.uint8) | ((np.asarray(t_s) >= 2.0).astype(np.uint8) << 1)

    def digital_edges(self, bit: int, after_s: float, until_s: float) -> list[tuple[float, int]]:
        return [(t, 1) for t in (1.0 + bit,) if bit < 2 and after_s < t <= until_s]

    def analog_v(self, channel: int, t_s: Any, aperture_s: float) -> Any:
        return np.full(len(t_s), {1: 1.0, 3: 2.0}.get(channel, 0.0))


@pytest.fixture
def leads() -> Leads:
    lab = lab_yaml.load("lab.yaml")
    return Leads(OfTests(), lab.wiring, lab.probe, seed=3)  # type: ignore[arg-type]


def hurt(leads: Leads, text: str) -> Leads:
    leads.faults = facts(f"leads: [{text}]").leads
    return leads


TIMES = np.array([0.5, 1.5, 2.5])


@pytest.mark.parametrize(
    ("text", "levels", "edges"),
    [
        ("", [0, 1, 3], {0: [(1.0, 1)], 1: [(2.0, 1)]}),
        ("{kind: dead, lead: gate}", [0, 0, 2], {0: [], 1: [(2.0, 1)]}),
        ("{kind: inverted, lead: gate}", [1, 0, 2], {0: [(1.0, 0)], 1: [(2.0, 1)]}),
        ("{kind: moved, lead: batch, to: 6}", [0, 1, 65], {0: [(1.0, 1)], 1: [], 6: [(2.0, 1)]}),
        (
            "{kind: moved, lead: gate, to: 1}, {kind: moved, lead: batch, to: 0}",
            [0, 2, 3],
            {0: [(2.0, 1)], 1: [(1.0, 1)]},
        ),
        ("{kind: moved, lead: gate, to: 1}", [0, 2, 2], {0: [], 1: [(1.0, 1)]}),
        ("{kind: shifted, lead: gate, delay_s: 1.25}", [0, 0, 3], {0: [(2.25, 1)], 1: [(2.0, 1)]}),
    ],
)
def test_lines_as_they_are_wired(leads: Leads, text: str, levels: list[int], edges: dict[int, Any]) -> None:
    hurt(leads, text)
    assert leads.digital(TIMES).tolist() == levels
    assert {bit: leads.digital_edges(bit, 0.0, 9.0) for bit in edges} == edges


def test_signals_as_they_are_plugged(leads: Leads) -> None:
    def seen(text: str) -> list[float]:
        hurt(leads, text)
        return [float(leads.analog_v(channel, TIMES, 0.0)[0]) for channel in (1, 2, 3)]

    assert seen("") == [1, 0, 2]
    assert seen("{kind: gain, lead: current, factor: -3}") == [-3, 0, 2]
    assert seen("{kind: moved, lead: voltage, to: 2}") == [1, 2, 0]
    assert seen("{kind: dead, lead: voltage}") == [1, 0, 0]
    hurt(leads, "{kind: noise, lead: current, rms: 2}")
    noisy = leads.analog_v(1, np.linspace(0, 1, 10_000), 0.0)
    assert noisy.std() == pytest.approx(0.2, rel=0.1)  # 2 A at 0.1 V/A
    assert np.array_equal(noisy, leads.analog_v(1, np.linspace(0, 1, 10_000), 0.0))
