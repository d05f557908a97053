"""A block cut after each of its bytes, over each transport of the oscilloscope: never data, and then in step again."""

from __future__ import annotations

import re
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest

from instruments.errors import InstrumentError, LinkError, LinkTimeout, ProtocolError
from instruments.link import Link
from instruments.simulated.faults import Fault
from instruments.simulated.scpi_syntax import encode_block

from .benches import FaultyBench

PAYLOAD = b"\n#12\x00\xff"  # a line feed, what looks like a header, and no text
REPLY = encode_block(PAYLOAD) + b"\n"
DEADLINE_S, LONG_S = 0.8, 30.0


@pytest.fixture(scope="module")
def small(served: FaultyBench) -> FaultyBench:
    """The served scope, with a query whose block is small."""
    with served.station.changed:
        served.station.scope.add(":DIAGnostic:BLOCk", query=lambda call: encode_block(PAYLOAD), query_args=(1, 1))
    return served


@pytest.fixture(params=["socket", "vxi11", "hislip"])
def links(request: pytest.FixtureRequest, small: FaultyBench, hurt: FaultyBench) -> Iterator[list[Link]]:
    """As many links as there are places to cut."""
    opened: list[Link] = []
    try:
        for _ in REPLY:
            opened.append(Link.open("scope", hurt.station.addresses["scope"][request.param]))
        yield opened
    finally:
        for link in opened:
            link.close()


def ask(link: Link, k: int, deadline_s: float = LONG_S) -> bytes:
    return link.query_block(f":DIAG:BLOC? {k}", deadline_s)


def what_came_of(link: Link, k: int) -> InstrumentError | bytes:
    try:
        return ask(link, k, DEADLINE_S)
    except InstrumentError as error:
        return error


@pytest.mark.parametrize("kind", ["short", "cut", "reset"])
def test_cut_after_every_byte(hurt: FaultyBench, links: list[Link], kind: str, request: pytest.FixtureRequest) -> None:
    """`short`: the rest is missing; `cut`: and silence until cleared or reconnected; `reset`: the link dies."""
    if kind == "cut" and links[0].resource.endswith("SOCKET"):
        request.getfixturevalue("short_recovery")
    assert len(REPLY) == len(links) == 17
    script = hurt.hurt("scope", *(Fault(kind, rf"BLOC\? {k}$", at_byte=k) for k in range(len(REPLY))))  # type: ignore[arg-type]
    with ThreadPoolExecutor(len(links)) as pool:
        came = list(pool.map(what_came_of, links, range(len(links))))
        assert len(script.log) == len(REPLY)
        hurt.heal()
        for k, (link, error) in enumerate(zip(links, came, strict=True)):
            if error == PAYLOAD:
                assert (kind, k) == ("short", len(REPLY) - 1), "all of the data, and END in place of the line feed"
                assert not link.resource.endswith("SOCKET")
                continue
            assert isinstance(error, InstrumentError)
            is_named(error, link, kind, k)
            if not isinstance(error, LinkTimeout | ProtocolError):
                with pytest.raises(LinkError, match="reopen it"):
                    link.query("*ESE?")
                link.reopen()
        assert list(pool.map(ask, links, range(len(links)))) == [PAYLOAD] * len(REPLY)
        assert list(pool.map(lambda link: link.query("*ESE?"), links)) == ["+0"] * len(REPLY)


def is_named(error: InstrumentError, link: Link, kind: str, k: int) -> None:
    """Class by kind and transport; instrument, command and the number of bytes in the text."""
    text = str(error)
    assert text.startswith(f"scope ({link.resource}): ")
    assert f"[command: :DIAG:BLOC? {k}]" in text
    streamed = link.resource.endswith("SOCKET")
    if kind == "reset" or (kind == "cut" and streamed):
        assert type(error) is LinkError, text
        assert kind == "reset" or re.search(rf"\({k} bytes? of the answer had come\)", text)
    elif kind == "short" and not streamed and k:  # the transport says that this was the end
        assert type(error) is ProtocolError, text
        assert re.search(rf"ended after {k} bytes?\b", text)
        assert "[first bytes: b'#" in text
    else:
        assert type(error) is LinkTimeout, text
        assert re.search(rf" {k} bytes? had come", text)
