"""Two instruments behind one GPIB adapter on loopback: addressing, slow answers, the shared lock."""

from __future__ import annotations

import contextlib
import socket
import statistics
import threading
import time
from collections.abc import Iterator

import pytest

from instruments.errors import ConfigError, LinkError, LinkTimeout
from instruments.ieee488 import write_block
from instruments.link import Link

from .scripted_instruments import standard


class Adapter:
    """An adapter with two instruments; an answer is a pair of delay and bytes, and is given on ++read only."""

    def __init__(self) -> None:
        self.log: list[bytes] = []
        self.answers: dict[bytes, tuple[float, bytes]] = {}
        self.read_tmo_s = 0.05
        self.pending: dict[bytes, list[tuple[float, bytes]]] = {}
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._listener.settimeout(0.02)
        self.port = self._listener.getsockname()[1]
        self._stop = threading.Event()
        self._connection: socket.socket | None = None
        self._thread = threading.Thread(target=self._serve)
        self._thread.start()

    @property
    def resources(self) -> list[str]:
        return [f"PRLGX-TCPIP3::127.0.0.1::{self.port}::INTFC", "GPIB3::5::INSTR"]

    def drop(self) -> None:
        """Cut the connection."""
        assert self._connection is not None
        self._connection.shutdown(socket.SHUT_RDWR)

    def _serve(self) -> None:
        while not self._stop.is_set():
            with contextlib.suppress(TimeoutError):
                connection, _ = self._listener.accept()
                with connection:
                    self._connection = connection
                    self._talk(connection)

    def _talk(self, connection: socket.socket) -> None:
        connection.settimeout(0.02)
        address, line, escaped = b"", b"", False
        while not self._stop.is_set():
            try:
                data = connection.recv(4096)
            except TimeoutError:
                continue
            except OSError:
                return
            if not data:
                return
            for byte in data:
                if escaped:
                    line, escaped = line + bytes([byte]), False
                elif byte == 0x1B:
                    escaped = True
                elif byte in b"\r\n":
                    if line:
                        self.log.append(line)
                        address = self._do(connection, address, line)
                    line = b""
                else:
                    line += bytes([byte])

    def _do(self, connection: socket.socket, address: bytes, line: bytes) -> bytes:
        if line.startswith(b"++addr "):
            return line[7:]
        if line.startswith(b"++read_tmo_ms "):
            self.read_tmo_s = int(line[14:]) / 1000
        elif line == b"++clr":
            self.pending.pop(address, None)
        elif line == b"++read eoi":
            queue = self.pending.get(address, [])
            limit = time.monotonic() + self.read_tmo_s
            while not queue or queue[0][0] > time.monotonic():
                if time.monotonic() > limit or self._stop.is_set():
                    return address
                time.sleep(0.005)
            connection.sendall(queue.pop(0)[1])
        elif not line.startswith(b"++"):
            delay_s, answer = self.answers.get(line, (0.0, standard(line)))
            if answer is None and line.endswith(b"?"):
                answer = b"from " + address + b": " + line + b"\n"
            if answer is not None:
                self.pending.setdefault(address, []).append((time.monotonic() + delay_s, answer))
        return address

    def close(self) -> None:
        self._stop.set()
        self._thread.join()
        self._listener.close()


@pytest.fixture
def adapter() -> Iterator[Adapter]:
    adapter = Adapter()
    yield adapter
    adapter.close()


def test_opening_sets_the_adapter_and_sends_nothing_to_the_instrument(adapter):
    with Link.open("supply", adapter.resources):
        time.sleep(0.05)
    assert adapter.log[0] == b"++savecfg 0"  # before any setting that would wear the EEPROM
    assert set(adapter.log) == {
        b"++savecfg 0", b"++mode 1", b"++auto 0", b"++eos 3", b"++eoi 1", b"++eot_enable 0", b"++read_tmo_ms 3000",
    }  # fmt: skip


def test_query_is_escaped_read_once_and_fast(adapter):
    with Link.open("supply", adapter.resources) as link:
        assert link.query("VOLT +1.2E+01?") == "from 5: VOLT +1.2E+01?"
        took_s = []
        for _ in range(20):
            started = time.monotonic()
            link.query("*IDN?")
            took_s.append(time.monotonic() - started)
        assert statistics.median(took_s) < 0.02  # 44 ms each with Nagle
        link.write("OUTP OFF")
        assert link.query("*IDN?") == "MAKER,MODEL,SERIAL,1.0"
    assert adapter.log.count(b"++read eoi") == 22
    assert b"OUTP OFF" in adapter.log


def test_every_message_goes_to_its_own_address_even_when_somebody_else_has_changed_it(adapter):
    with Link.open("supply", adapter.resources) as link:
        link.query("Q?")
        with socket.create_connection(("127.0.0.1", adapter.port)) as stranger:
            stranger.sendall(b"++addr 9\n")
            adapter.drop()
        with pytest.raises(LinkError):
            link.query("Q?")
        link.reopen()
        link.write("OUTP OFF")
        assert link.query("Q?") == "from 5: Q?"
    after = adapter.log[adapter.log.index(b"++addr 9") :]
    assert after[after.index(b"OUTP OFF") - 1] == b"++addr 5"


def test_secondary_addresses_count_from_96(adapter):
    interface, _ = adapter.resources
    with Link.open("supply", [interface, "GPIB3::5::2::INSTR"]) as link:
        assert link.query("Q?") == "from 5 98: Q?"


@pytest.mark.parametrize("text", ["GPIB3::31::INSTR", "GPIB3::x::INSTR", "GPIB3::INTFC", "GPIB3::5::31::INSTR"])
def test_addresses_that_are_none(adapter, text):
    with pytest.raises(ConfigError, match="GPIB0::5::INSTR is expected"):
        Link.open("supply", [adapter.resources[0], text])


def test_escapes_are_the_adapters_own(adapter):
    with Link.open("supply", adapter.resources) as link:
        link.write(b"DATA \x1b\r\n++\n")
        link.query("*IDN?")
    assert b"DATA \x1b\r\n++\n" in adapter.log


def test_answers_slower_than_50_ms_come(adapter):
    adapter.answers[b"MEAS:VOLT?"] = (0.15, b"+1.2E+01\n")
    with Link.open("supply", adapter.resources) as link:
        assert link.query("MEAS:VOLT?") == "+1.2E+01"


def test_answers_slower_than_the_adapters_own_limit_come(adapter, monkeypatch):
    monkeypatch.setattr("instruments.link.prologix.READ_TMO_S", 0.1)
    adapter.answers[b"*TST?"] = (0.5, b"0\n")
    with Link.open("supply", adapter.resources) as link:
        assert link.query("*TST?", 30.0) == "0"
    assert adapter.log.count(b"++read eoi") > 1


def test_blocks_with_line_feeds(adapter):
    data = bytes(range(256)) * 40
    adapter.answers[b"D?"] = (0.0, write_block(data) + b"\n")
    with Link.open("scope", adapter.resources) as link:
        assert link.query_block("D?") == data


def test_timeout_clears_the_device_and_never_gives_the_late_answer(adapter):
    adapter.answers[b"SLOW?"] = (1.0, b"late\n")
    with Link.open("supply", adapter.resources) as link:
        with pytest.raises(LinkTimeout):
            link.query("SLOW?", 0.1)
        assert link.query("*IDN?") == "MAKER,MODEL,SERIAL,1.0"
    assert b"++clr" in adapter.log


def test_two_instruments_share_connection_and_lock(adapter):
    interface, _ = adapter.resources
    with (
        Link.open("one", [interface, "GPIB3::5::INSTR"]) as one,
        Link.open("two", [interface, "GPIB3::6::INSTR"]) as two,
    ):
        wrong: list[str] = []

        def work(link: Link, address: int) -> None:
            for i in range(40):
                answer = link.query(f"Q{i}?")
                if answer != f"from {address}: Q{i}?":
                    wrong.append(answer)

        threads = [threading.Thread(target=work, args=pair) for pair in ((one, 5), (two, 6))]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert wrong == []
        one.close()
        assert two.query("Q?") == "from 6: Q?"
    assert adapter.log.count(b"++mode 1") == 1


def test_lost_connection_is_noticed_and_reopened_for_all(adapter):
    interface, _ = adapter.resources
    with (
        Link.open("one", [interface, "GPIB3::5::INSTR"]) as one,
        Link.open("two", [interface, "GPIB3::6::INSTR"]) as two,
    ):
        one.query("Q?")
        adapter.drop()
        with pytest.raises(LinkError, match=r"closed the connection|failed"):
            one.query("Q?")
        one.reopen()
        assert one.query("Q?") == "from 5: Q?"
        assert two.query("Q?") == "from 6: Q?"


def test_panel_goes_back_to_local(adapter):
    with Link.open("supply", adapter.resources) as link:
        assert link.to_local()
        link.query("*IDN?")
    assert adapter.log.index(b"++addr 5") < adapter.log.index(b"++loc")


def test_boards_must_agree_and_be_different(adapter):
    interface, _ = adapter.resources
    with pytest.raises(ConfigError, match="GPIB3"):
        Link.open("supply", [interface, "GPIB0::5::INSTR"])
    with (
        Link.open("supply", adapter.resources),
        pytest.raises(ConfigError, match=r"both board 3.*PRLGX-TCPIP4"),
    ):
        Link.open("other", ["PRLGX-TCPIP3::127.0.0.1::1::INTFC", "GPIB3::5::INSTR"])
