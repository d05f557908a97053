"""HiSLIP as bytes: both modes, interrupted queries, locks, service requests, device clear, refusals."""

from __future__ import annotations

import struct
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from instruments.simulated.hislip import HislipServer
from instruments.simulated.mso_x2024a import SimulatedMsoX2024A
from instruments.simulated.servers import Served
from tests.simulated.wire import Hislip, Hs

IDN = b"AGILENT TECHNOLOGIES,MSO-X 2024A,MY00000001,02.65.2021102830\n"


@pytest.fixture
def server(scope: SimulatedMsoX2024A, served_scope: Served, started: Callable[[Any], Any]) -> HislipServer:
    server: HislipServer = started(HislipServer(served_scope, lambda: scope.open_port("message"), max_clients=3))
    return server


@pytest.fixture
def hs(server: HislipServer) -> Iterator[Hislip]:
    with Hislip(server.port) as client:
        yield client


def test_it_prefers_synchronized_mode_of_version_1_0(hs: Hislip) -> None:
    assert (hs.opened.kind, hs.opened.control, hs.opened.parameter >> 16) == (1, 0, 0x0100)


def test_replies_are_cut_to_the_clients_size_and_carry_the_message_id(hs: Hislip) -> None:
    assert hs.ask(15, payload=struct.pack(">Q", 16 + 7)) == Hs(16, 0, 0, struct.pack(">Q", 1 << 20))
    number = hs.write(b"*IDN?")
    parts = [hs.receive(hs.sync)]
    while parts[-1].kind == 6:
        parts.append(hs.receive(hs.sync))
    assert {p.parameter for p in parts} == {number}
    assert all(len(p.payload) <= 7 for p in parts)
    assert b"".join(p.payload for p in parts) == IDN


def test_a_message_over_several_packets(hs: Hislip) -> None:
    hs.write(b"*ID", kind=6)
    number = hs.write(b"N?")
    assert hs.read() == Hs(7, 0, number, IDN)


def test_an_unread_response_is_interrupted_on_both_channels(hs: Hislip, scope: SimulatedMsoX2024A) -> None:
    hs.write(b"*IDN?")
    assert hs.read().payload == IDN
    number = hs.write(b"*OPC?", rmt=0)  # the client did not say that it took the first
    assert hs.receive(hs.other) == Hs(14, 0, number, b"")
    assert hs.receive(hs.sync) == Hs(13, 0, number, b"")
    assert hs.read() == Hs(7, 0, number, b"1\n")
    assert [code for code, _ in scope.errors] == [-410]
    number = hs.write(b":SYST:ERR?", rmt=1)
    assert hs.read() == Hs(7, 0, number, b'-410,"Query INTERRUPTED"\n')


def test_a_query_that_is_overtaken_while_it_works_is_interrupted(hs: Hislip, scope: SimulatedMsoX2024A) -> None:
    hs.write(b":TRIG:SWE AUTO;:TIM:RANG 0.5;:DIG;*OPC?")
    number = hs.write(b"*IDN?", rmt=1)
    assert hs.receive(hs.other).kind == 14
    assert hs.receive(hs.sync) == Hs(13, 0, number, b"")
    assert hs.read() == Hs(7, 0, number, IDN)
    assert [code for code, _ in scope.errors] == [-410]


def test_overlapped_mode_queues_responses_by_message_id(hs: Hislip, scope: SimulatedMsoX2024A) -> None:
    assert hs.ask(19).kind == 23
    hs.send(hs.sync, 8, 1)
    assert hs.receive(hs.sync)[:2] == (9, 1)
    first, second = hs.write(b"*IDN?"), hs.write(b"*OPC?")
    assert hs.read() == Hs(7, 0, first, IDN)
    assert hs.read() == Hs(7, 0, second, b"1\n")
    assert not scope.errors


def test_status_has_mav_until_the_response_was_delivered(hs: Hislip) -> None:
    hs.write(b"*IDN?")
    hs.read()
    assert hs.ask(21, 0).control & 16
    assert not hs.ask(21, 1).control & 16
    number = hs.write(b"*OPC?", rmt=0)  # delivery was told with the status query
    assert hs.read() == Hs(7, 0, number, b"1\n")


def test_service_request_comes_by_itself_unless_a_poll_is_first(hs: Hislip) -> None:
    hs.write(b"*CLS;*ESE 1;*SRE 32;:TRIG:SWE AUTO;:TIM:RANG 0.01;:DIG;*OPC")
    request = hs.receive(hs.other)
    assert request.kind == 20
    assert request.control & 96 == 96
    assert hs.ask(21).control & 96 == 96
    assert hs.ask(21).control & 96 == 32
    hs.write(b"*ESR?")
    hs.read()
    hs.write(b"*OPC;*OPC?", rmt=1)
    hs.read()
    assert hs.ask(21, 1).control & 96 == 96
    hs.other.settimeout(0.2)
    with pytest.raises(TimeoutError):
        hs.receive(hs.other)


def test_device_clear_ends_a_digitize_and_forgets_what_was_sent(hs: Hislip) -> None:
    hs.write(b":TRIG:SWE NORM;:DIG;*OPC?")
    time.sleep(0.02)
    assert hs.ask(19) == Hs(23, 0, 0, b"")
    hs.write(b"*IDN?")  # on its way before the client knew that it was cleared
    hs.send(hs.sync, 8, 0)
    assert hs.receive(hs.sync) == Hs(9, 0, 0, b"")
    hs.write(b":RST?")
    assert hs.read().payload == b"STOP\n"


def test_trigger_and_remote_local(hs: Hislip, scope: SimulatedMsoX2024A) -> None:
    hs.write(b":TRIG:SWE NORM;:TIM:RANG 1E-3;:SING")
    hs.write(b"", kind=12)
    hs.write(b"*OPC?")
    hs.read()
    until_s = time.monotonic() + 30
    while scope.acquisition.mode != "STOP":
        assert time.monotonic() < until_s
        hs.ask(21)
    for code in range(7):
        assert hs.ask(10, code).kind == 11
    assert hs.ask(10, 7)[:2] == (3, 2)


def test_exclusive_and_shared_locks(server: HislipServer, hs: Hislip) -> None:
    with Hislip(server.port) as other:
        assert hs.ask(4, 1)[:2] == (5, 1)
        assert hs.ask(24)[:3] == (25, 1, 1)
        start_s = time.monotonic()
        assert other.ask(4, 1, 100)[:2] == (5, 0)
        assert time.monotonic() - start_s >= 0.1
        other.write(b"*OPC?")
        other.sync.settimeout(0.1)
        with pytest.raises(TimeoutError):
            other.read()
        assert hs.ask(4, 0)[:2] == (5, 1)
        other.sync.settimeout(30)
        assert other.read().payload == b"1\n"
        assert hs.ask(4, 0)[:2] == (5, 3)
        assert hs.ask(4, 1, 0, b"together")[:2] == other.ask(4, 1, 0, b"together")[:2] == (5, 1)
        assert hs.ask(24)[:3] == (25, 0, 2)
        with Hislip(server.port) as third:
            assert third.ask(4, 1, 0, b"apart")[:2] == (5, 0)
            releasing = threading.Timer(0.05, lambda: [one.ask(4, 0) for one in (hs, other)])
            releasing.start()
            assert third.ask(4, 1, 30_000)[:2] == (5, 1)
            releasing.join()  # their answers come on the same connections as those to the next questions
    assert hs.ask(4, 1, 30_000)[:2] == (5, 1)  # whoever held it has gone


def test_what_the_server_refuses_and_goes_on(hs: Hislip) -> None:
    for kind, code in ((99, 1), (200, 3)):
        hs.send(hs.sync, kind)
        assert hs.receive(hs.sync)[:2] == (3, code)
        assert hs.ask(kind)[:2] == (3, code)
    assert hs.ask(15, payload=b"short")[:2] == (3, 0)
    assert hs.ask(4, 2)[:2] == (3, 2)
    hs.write(b"x" * ((1 << 20) + 1))
    assert hs.receive(hs.sync)[:2] == (3, 4)
    hs.write(b"*OPC?")
    assert hs.read().payload == b"1\n"


def test_what_ends_the_connection(server: HislipServer, hs: Hislip) -> None:
    with Hislip(server.port, join=False) as half:
        half.write(b"*IDN?")
        assert half.receive(half.sync)[:2] == (2, 2)
        assert half.sync.recv(1) == b""
        half.send(half.other, 17, parameter=0x7777)
        assert half.receive(half.other)[:2] == (2, 3)
    with Hislip(server.port, join=False, sub_address=b"hislip7") as nobody:
        assert nobody.opened[:2] == (2, 3)
    with Hislip(server.port), Hislip(server.port), Hislip(server.port, join=False) as fourth:
        assert fourth.opened[:2] == (2, 4)
    hs.sync.sendall(b"GET / HTTP/1.1\r\n")
    assert hs.receive(hs.sync)[:2] == (2, 1)
    assert hs.sync.recv(1) == b""
