"""Faults by script: each kind on streams and on message transports, reproducible by seed."""

from __future__ import annotations

import socket
from collections.abc import Callable
from typing import Any

import pytest

from instruments.simulated.e3645a import SimulatedE3645A
from instruments.simulated.faults import EdgeFault, EdgeFaults, Fault, FaultScript, leave_errors, wrong_identity
from instruments.simulated.prologix import Prologix
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
