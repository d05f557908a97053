"""Message transports: chunks, END, exact multiples of the chunk size, time-outs; over a VISA in memory."""

from __future__ import annotations

import pytest
from pyvisa import errors
from pyvisa.constants import StatusCode

from instruments.errors import LinkError, LinkTimeout
from instruments.ieee488 import write_block
from instruments.link.conversation import Link
from instruments.link.message_port import CHUNK, MessagePort
from instruments.link.visa import Opened

from .scripted_instruments import standard


class Visa:
    """A VISA library with one session, whose status tells the end of a message; or loses it, as 0.8.1 does."""

    def __init__(self) -> None:
        self.issue_warning_on = {StatusCode.success_max_count_read}
        self.answers: dict[bytes, bytes] = {}
        self.output = b""
        self.sizes: list[int] = []
        self.clears = 0
        self.loses_end = False
        self.fault: Exception | None = None
        self.attributes: dict[object, object] = {}

    def write(self, session: int, data: bytes) -> tuple[int, StatusCode]:
        self.output = b""
        line = data.rstrip(b"\n")
        self.output += self.answers.get(line) or standard(line) or b""
        return len(data), StatusCode.success

    def read(self, session: int, count: int) -> tuple[bytes, StatusCode]:
        if self.fault is not None:
            fault, self.fault = self.fault, None
            raise fault
        self.sizes.append(count)
        if not self.output:
            raise errors.VisaIOError(StatusCode.error_timeout)
        data, self.output = self.output[:count], self.output[count:]
        ended = not self.output and not (self.loses_end and len(data) == count)
        return data, StatusCode.success if ended else StatusCode.success_max_count_read

    def clear(self, session: int) -> StatusCode:
        self.clears += 1
        self.output = b""
        return StatusCode.success

    def gpib_control_ren(self, session: int, mode: object) -> None:
        raise NotImplementedError


class Resource:
    session = 1
    timeout = 0

    def __init__(self, visa: Visa) -> None:
        self.visalib = visa
        self.closed = False

    def set_visa_attribute(self, name: object, value: object) -> None:
        self.visalib.attributes[name] = value

    def close(self) -> None:
        self.closed = True
        raise errors.InvalidSession


@pytest.fixture
def visa():
    return Visa()


def link_over(visa, text="TCPIP::h::inst0::INSTR"):
    import threading

    def opener() -> Opened:
        return Opened(MessagePort(Resource(visa), text), threading.RLock(), "@fake", None)

    return Link("scope", text, opener)


@pytest.mark.parametrize("loses_end", [False, True])
@pytest.mark.parametrize(
    "total", [20, 20480, 40960, CHUNK - 1, CHUNK, CHUNK + 1, 2 * CHUNK, 1 << 20, (1 << 20) + CHUNK]
)
def test_blocks_of_any_size(visa, total, loses_end):
    visa.loses_end = loses_end
    data = b"\n" * (total - 11)
    wire = write_block(data) + b"\n"
    assert len(wire) == total
    visa.answers[b"D?"] = wire
    link = link_over(visa)
    assert link.query_block("D?") == data
    assert link.query("*IDN?") == "MAKER,MODEL,SERIAL,1.0"


@pytest.mark.parametrize("total", [CHUNK - 1, CHUNK, CHUNK + 1])
def test_lines_of_any_size(visa, total):
    visa.loses_end = True
    visa.answers[b"Q?"] = b"x" * (total - 1) + b"\n"
    assert link_over(visa).query("Q?") == "x" * (total - 1)


def test_end_without_line_feed(visa):
    visa.answers[b"Q?"] = b"1"
    visa.answers[b"D?"] = write_block(b"ab")
    link = link_over(visa)
    assert link.query("Q?") == "1"
    assert link.query_block("D?") == b"ab"


def test_timeout_clears_the_device(visa):
    link = link_over(visa)
    with pytest.raises(LinkTimeout):
        link.query("SILENT?", 0.05)
    assert visa.clears == 1
    assert link.query("*IDN?").startswith("MAKER")


@pytest.mark.parametrize("fault", [TimeoutError(), errors.VisaIOError(StatusCode.error_timeout)])
def test_what_counts_as_timeout(visa, fault):
    link = link_over(visa)
    visa.fault = fault
    with pytest.raises(LinkTimeout):
        link.query("*IDN?")


@pytest.mark.parametrize(
    "fault", [OSError("gone"), RuntimeError("lost"), errors.VisaIOError(StatusCode.error_connection_lost)]
)
def test_anything_else_breaks_the_link(visa, fault):
    link = link_over(visa)
    visa.fault = fault
    with pytest.raises(LinkError, match="receiving failed"):
        link.query("*IDN?")
    with pytest.raises(LinkError, match="reopen"):
        link.query("*IDN?")
    link.reopen()
    assert link.query("*IDN?").startswith("MAKER")
    link.close()


def test_sockets_of_other_backends_use_the_termination_character_for_text_only(visa):
    link = link_over(visa, "TCPIP::h::5025::SOCKET")
    visa.answers[b"D?"] = write_block(b"a\nb") + b"\n"
    assert link.query("*IDN?").startswith("MAKER")
    assert list(visa.attributes.values()) == [True]


def test_front_panel_where_the_transport_cannot(visa):
    assert not link_over(visa).to_local()
