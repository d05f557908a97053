"""Links over real sockets on loopback: deadlines, recovery, blocks, opening."""

from __future__ import annotations

import contextlib
import itertools
import logging
import socket
import statistics
import threading
import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from instruments.errors import ConfigError, LinkError, LinkTimeout, ProtocolError
from instruments.ieee488 import write_block
from instruments.link import Link
from instruments.link.ports import StreamPort

from .scripted_instruments import SPOKEN_TO, await_input, serving, standard


@pytest.fixture(autouse=True)
def long_recovery(monkeypatch):
    """What comes back may take its time on a machine that others use."""
    monkeypatch.setattr(StreamPort, "recovery_s", 20.0)


@pytest.fixture
def short_recovery(monkeypatch, long_recovery):
    """For what never comes back."""
    monkeypatch.setattr(StreamPort, "recovery_s", 0.5)


@pytest.fixture
def refusing():
    """A port that nobody listens at, and nobody else can get meanwhile."""
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        yield bound.getsockname()[1]


def echo_and(extra):
    def handle(line: bytes):
        if line in extra:
            answer = extra[line]
            return answer() if callable(answer) else answer
        return standard(line)

    return handle


def test_nothing_is_sent_on_opening_and_closing():
    with serving(standard) as server:
        with Link.open("scope", [server.resource]):
            time.sleep(0.05)
        assert server.received == []


def test_query_and_write():
    with serving(standard) as server, Link.open("scope", [server.resource]) as link:
        link.write(":RUN")
        assert link.query("*IDN?") == "MAKER,MODEL,SERIAL,1.0"
        link.write(b":SET \x01\x02")
        assert link.query("*IDN?") == "MAKER,MODEL,SERIAL,1.0"
        assert server.received == [b":RUN", b"*IDN?", b":SET \x01\x02", b"*IDN?"]
        assert link.resource == server.resource
        assert link.backend == "@py"


@pytest.mark.parametrize("data", [b"", b"\n", b"\n" * 70_000, bytes(200_000), bytes(range(256)) * 2000], ids=len)
def test_block_is_exact_whatever_the_bytes(data):
    handle = echo_and({b"D?": write_block(data) + b"\n"})
    with serving(handle) as server, Link.open("scope", [server.resource]) as link:
        assert link.query_block("D?") == data
        assert link.query("*IDN?").startswith("MAKER")


def test_block_cut_anywhere_arrives_whole():
    wire = write_block(b"a\nb") + b"\n"
    for cut in range(1, len(wire)):
        handle = echo_and({b"D?": [wire[:cut], 0.002, wire[cut:]]})
        with serving(handle) as server, Link.open("scope", [server.resource]) as link:
            assert link.query_block("D?") == b"a\nb"


def test_line_and_block_queries_do_not_stall_for_acknowledgements():
    with serving(standard) as server, Link.open("scope", [server.resource]) as link:
        link.query("*IDN?")
        took_s = []
        for _ in range(20):
            started = time.monotonic()
            link.write(":NOTHING")
            link.query("*IDN?")
            took_s.append(time.monotonic() - started)
        assert statistics.median(took_s) < 0.02  # 40 ms each with Nagle and delayed acknowledgement


def test_timeout_recovers_and_a_late_answer_is_never_given_to_the_next_query():
    handle = echo_and({b"SLOW?": [SPOKEN_TO, b"late\n"]})
    with serving(handle) as server, Link.open("scope", [server.resource]) as link:
        with pytest.raises(LinkTimeout) as caught:
            link.query("SLOW?", 0.1)
        assert 0.1 <= caught.value.elapsed_s < 5.0
        assert link.query("*IDN?") == "MAKER,MODEL,SERIAL,1.0"
        text = str(caught.value)
        assert "scope" in text
        assert server.resource in text
        assert "SLOW?" in text
        assert "in step again" in text


def test_late_numbers_are_not_taken_for_the_answer_of_the_resynchronisation():
    for numbers, pause_s in itertools.product(range(1, 12), (0.0, 0.02)):  # together with the true answer, and before
        late = b";".join([b"0"] * numbers) + b"\n"
        handle = echo_and({b"SLOW?": [SPOKEN_TO, late, pause_s]})
        with serving(handle) as server, Link.open("scope", [server.resource]) as link:
            with pytest.raises(LinkTimeout):
                link.query("SLOW?", 0.02)
            assert link.query("*IDN?") == "MAKER,MODEL,SERIAL,1.0"


def test_timeout_reports_bytes_and_error_queue():
    errors = itertools.chain([b'-113,"Undefined header"\n'], itertools.repeat(b'+0,"No error"\n'))
    handle = echo_and({b"BAD?": b"12345", b":SYSTem:ERRor?": lambda: next(errors)})
    with serving(handle) as server, Link.open("scope", [server.resource]) as link:
        with pytest.raises(LinkTimeout) as caught:
            link.query("BAD?", 0.4)
        assert caught.value.bytes_got == 5
        assert caught.value.queue == ('-113,"Undefined header"',)
        assert "Undefined header" in str(caught.value)


@pytest.mark.usefixtures("short_recovery")
def test_one_deadline_over_all_chunks():
    drops = [part for _ in range(100) for part in (b"x", 0.02)]
    handle = echo_and({b"D?": [b"#3100", *drops]})
    with serving(handle) as server, Link.open("scope", [server.resource]) as link:
        started = time.monotonic()
        with pytest.raises((LinkTimeout, LinkError)):
            link.query_block("D?", 0.1)
        assert time.monotonic() - started < 3.0


@pytest.mark.usefixtures("short_recovery")
def test_no_recovery_means_broken_until_reopened():
    silent = threading.Event()

    def handle(line: bytes):
        return None if silent.is_set() else standard(line)

    with serving(handle) as server, Link.open("scope", [server.resource]) as link:
        silent.set()
        with pytest.raises(LinkError, match="broken") as caught:
            link.query("*IDN?", 0.05)
        assert not isinstance(caught.value, LinkTimeout)
        with pytest.raises(LinkError, match="reopen"):
            link.write("*CLS")
        silent.clear()
        link.reopen()
        assert link.query("*IDN?").startswith("MAKER")
        assert server.connections == 2


@pytest.mark.usefixtures("short_recovery")
def test_reopening_that_fails_can_be_tried_again():
    with serving(standard) as server:
        link = Link.open("scope", [server.resource])
        assert link.query("*IDN?").startswith("MAKER")
    with pytest.raises(LinkError, match=r"closed the connection|failed"):
        link.query("*IDN?")
    for _ in range(2):
        with pytest.raises(LinkError, match="could not connect"):
            link.reopen()
        with pytest.raises(LinkError, match="reopen"):
            link.query("*IDN?")
    link.close()


def test_closed_link_can_be_reopened_for_the_way_out():
    with serving(standard) as server:
        link = Link.open("scope", [server.resource])
        link.close()
        link.reopen()
        with link.transaction():
            assert link.query("*IDN?").startswith("MAKER")
        assert not link.to_local()
        link.close()


@pytest.mark.usefixtures("short_recovery")
def test_sending_to_an_instrument_that_does_not_read_keeps_the_deadline():
    with socket.create_server(("127.0.0.1", 0)) as listener:
        resource = f"TCPIP::127.0.0.1::{listener.getsockname()[1]}::SOCKET"
        with Link.open("scope", [resource]) as link:
            started = time.monotonic()
            with pytest.raises(LinkError):
                link.write(bytes(1 << 24), 0.1)
            assert time.monotonic() - started < 20.0


def test_peer_closing_is_noticed_at_once():
    def handle(line: bytes):
        if line == b"BYE?":
            raise ConnectionError
        return standard(line)

    with serving(handle) as server, Link.open("scope", [server.resource]) as link:
        started = time.monotonic()
        with pytest.raises(LinkError, match="closed the connection"):
            link.query("BYE?", 30.0)
        assert time.monotonic() - started < 20.0
        link.reopen()
        assert link.query("*IDN?").startswith("MAKER")


@pytest.mark.parametrize(
    ("answer", "message"),
    [
        (b"#0abc\n", "indefinite"),
        (b"stale\n", "starts with '#'"),
        (b"#15ab\n", "no complete answer"),
        (b"#12ab#12cd\n", "line feed after 2 bytes"),
        (b"#12ab\nstale\n", "behind a block"),
        (b"#1xab\n", "1 digit of"),
    ],
)
def test_bad_blocks_are_refused_and_the_link_stays_usable(answer, message):
    with serving(echo_and({b"D?": answer})) as server, Link.open("scope", [server.resource]) as link:
        with pytest.raises((ProtocolError, LinkTimeout), match=message):
            link.query_block("D?", 0.1)
        assert link.query("*IDN?") == "MAKER,MODEL,SERIAL,1.0"


def test_two_answers_to_one_query_are_refused():
    with serving(echo_and({b"Q?": b"1\n2\n"})) as server, Link.open("scope", [server.resource]) as link:
        with pytest.raises(ProtocolError, match="behind one line"):
            link.query("Q?")
        assert link.query("*IDN?").startswith("MAKER")


def test_bytes_beyond_ascii_are_no_text():
    with serving(echo_and({b"Q?": b"\xff\xfe\n"})) as server, Link.open("scope", [server.resource]) as link:
        with pytest.raises(ProtocolError, match="beyond ASCII") as caught:
            link.query("Q?")
        assert caught.value.command == "Q?"


@given(
    answer=st.binary(max_size=40) | st.binary(max_size=20).map(lambda data: b"#" + data) | st.from_regex(rb"[0-9;+]*"),
    end=st.sampled_from([b"", b"\n", b"\r\n"]),
    at=st.integers(0, 40),
    block=st.booleans(),
)
@settings(max_examples=40, deadline=None)
def test_whatever_is_answered_is_an_answer_or_an_error_and_the_next_one_is_right(answer, end, at, block):
    wire = answer + end
    handle = echo_and({b"Q?": [wire[:at], 0.001, wire[at:]]})
    with serving(handle) as server, Link.open("scope", [server.resource]) as link:
        with contextlib.suppress(ProtocolError, LinkTimeout):
            got = link.query_block("Q?", 0.03) if block else link.query("Q?", 0.03).encode()
            assert got in wire
        server.await_silence()  # what nobody has asked for can be told from an answer only if it comes before
        assert link.query("*IDN?") == "MAKER,MODEL,SERIAL,1.0"


@pytest.mark.parametrize("command", ["µ?", "A\nB?", "\x00"])
def test_commands_that_are_no_line_of_ascii_never_leave_the_host(command):
    with serving(standard) as server, Link.open("scope", [server.resource]) as link:
        for act in (link.write, link.query, link.query_block):
            with pytest.raises(ConfigError, match="nothing was sent"):
                act(command)
        assert link.query("*IDN?").startswith("MAKER")
        assert server.received == [b"*IDN?"]


def test_unread_bytes_are_dropped_before_a_command(caplog):
    with (
        serving(echo_and({b"NOISE": b"nobody asked\n"})) as server,
        Link.open("scope", [server.resource]) as link,
        caplog.at_level(logging.WARNING),
    ):
        link.write("NOISE")
        await_input(link)
        assert link.query("*IDN?").startswith("MAKER")
        assert "dropped 13 unread bytes" in caplog.text


def test_interrupted_operation_is_put_in_step_before_the_next(monkeypatch):
    with (
        serving(echo_and({b"SLOW?": [SPOKEN_TO, b"late\n"]})) as server,
        Link.open("scope", [server.resource]) as link,
    ):
        port = link._port()
        real = port.receive
        monkeypatch.setattr(port, "receive", lambda *a: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            link.query("SLOW?")
        monkeypatch.setattr(port, "receive", real)
        assert link.query("*IDN?") == "MAKER,MODEL,SERIAL,1.0"


def test_clear_brings_back_in_step():
    with (
        serving(echo_and({b"SLOW?": [SPOKEN_TO, b"late\n"]})) as server,
        Link.open("scope", [server.resource]) as link,
    ):
        link.write("SLOW?")
        link.clear()
        assert link.query("*IDN?").startswith("MAKER")


def test_refused_connection_names_resource_time_and_advice(refusing):
    resource = f"TCPIP::127.0.0.1::{refusing}::SOCKET"
    with pytest.raises(LinkError, match=r"could not connect after \d+\.\d s.*refused.*simulated") as caught:
        Link.open("scope", [resource])
    assert caught.value.resource == resource


@pytest.mark.parametrize(
    "resource",
    [
        "TCPIP::127.0.0.1::hislip0,{port}::INSTR",
        "TCPIP::127.0.0.1,{port}::inst0::INSTR",
        "ASRL/dev/does-not-exist::INSTR",
    ],
)
def test_other_transports_that_cannot_connect(resource, refusing):
    with pytest.raises(LinkError, match="could not connect"):
        Link.open("scope", [resource.format(port=refusing)])


def test_refused_adapter(refusing):
    with pytest.raises(LinkError, match=r"could not connect.*one client"):
        Link.open("supply", [f"PRLGX-TCPIP7::127.0.0.1::{refusing}::INTFC", "GPIB7::5::INSTR"])
    with pytest.raises(LinkError, match="INTFC"):
        Link.open("supply", ["GPIB7::5::INSTR"])


def test_open_keeps_its_own_deadline_on_a_server_that_never_answers():
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
        started = time.monotonic()
        with pytest.raises(LinkError, match="no answer"):
            Link.open("scope", [f"TCPIP::127.0.0.1::hislip0,{port}::INSTR"], open_timeout_s=0.3)
        assert time.monotonic() - started < 5.0
    for thread in threading.enumerate():
        if thread.name.startswith("open "):
            thread.join(20.0)  # the abandoned open fails when the listener is gone


def test_resources_that_cannot_be_right():
    with pytest.raises(ConfigError, match="0 resources"):
        Link.open("scope", [])
    with pytest.raises(ConfigError, match="an adapter is expected"):
        Link.open("scope", ["TCPIP::127.0.0.1::1::SOCKET", "GPIB0::5::INSTR"])


def test_one_string_is_one_resource():
    with serving(standard) as server, Link.open("scope", server.resource) as link:
        assert link.query("*IDN?").startswith("MAKER")


def test_environment_wins_over_the_argument(monkeypatch):
    monkeypatch.setenv("PYVISA_LIBRARY", "@py")
    with serving(standard) as server, Link.open("scope", [server.resource], visa="@ivi") as link:
        assert link.backend == "@py"


def test_closed_link_says_so_and_closes_again():
    with serving(standard) as server:
        link = Link.open("scope", [server.resource])
        link.close()
        link.close()
        with pytest.raises(LinkError, match="closed"):
            link.query("*IDN?")


def test_threads_do_not_mix_answers():
    handle = lambda line: b"answer " + line + b"\n"  # noqa: E731
    with serving(handle) as server, Link.open("scope", [server.resource]) as link:
        wrong: list[str] = []

        def work(tag: str) -> None:
            for i in range(50):
                answer = link.query(f"{tag}{i}?")
                if answer != f"answer {tag}{i}?":
                    wrong.append(answer)

        threads = [threading.Thread(target=work, args=(tag,)) for tag in "ab"]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert wrong == []
