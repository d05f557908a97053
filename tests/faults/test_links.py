"""Every fault of an answer, seen through the real links: named, and the next transaction is right."""

from __future__ import annotations

import time
from collections.abc import Iterator

import pytest

from instruments.errors import LinkError, LinkTimeout, ProtocolError
from instruments.link import Link
from instruments.simulated.faults import Fault

from .benches import FaultyBench, says

DEADLINE_S = 0.1
SOME_S, LONG_S = 0.5, 20.0
"""Until the bytes of an answer that is cut have come; for an answer that comes."""
IDN = {"scope": "AGILENT TECHNOLOGIES,MSO-X 2024A", "supply": "Agilent Technologies,E3645A"}


@pytest.fixture(params=["scope", "supply"])
def link(request: pytest.FixtureRequest, hurt: FaultyBench) -> Iterator[Link]:
    """The scope over a raw socket, the supply over Prologix."""
    with Link.open(request.param, hurt.resources(request.param)) as link:
        assert link.query("*IDN?").startswith(IDN[request.param])
        yield link


def is_right(link: Link) -> bool:
    """Whether the next transactions give the right answers."""
    return link.query("*ESE?") == "+0" and link.query("*IDN?").startswith(IDN[link.name])


@pytest.mark.parametrize(
    ("fault", "deadline_s", "kind", "message"),
    [
        (Fault("drop"), DEADLINE_S, LinkTimeout, "0 bytes had come"),
        (Fault("delay", delay_s=0.8), DEADLINE_S, LinkTimeout, "0 bytes had come"),
        (Fault("delay", delay_s=0.02), LONG_S, None, ""),
        (Fault("short", at_byte=11), SOME_S, LinkTimeout, "11 bytes had come"),
        (Fault("trickle", at_byte=1, delay_s=0.02), DEADLINE_S, LinkTimeout, "bytes had come"),
        (Fault("double"), LONG_S, ProtocolError, "behind one line"),
        (Fault("garbage", data=b"+0\n"), LONG_S, ProtocolError, "behind one line"),
        (Fault("garbage", data=b"\xff\x00"), LONG_S, ProtocolError, "beyond ASCII"),
        (Fault("replace", data=b"\n\n"), LONG_S, ProtocolError, "behind one line"),
    ],
    ids=lambda value: value.kind if isinstance(value, Fault) else "",
)
def test_the_link_comes_back_in_step(
    hurt: FaultyBench,
    link: Link,
    fault: Fault,
    deadline_s: float,
    kind: type[LinkError | ProtocolError] | None,
    message: str,
) -> None:
    script = hurt.hurt(link.name, fault)
    if kind is None:
        assert link.query("*IDN?", deadline_s).startswith(IDN[link.name])
    else:
        with pytest.raises(kind, match=message) as caught:
            link.query("*IDN?", deadline_s)
        assert says(caught.value, link.name, "*IDN?")
    assert script.log == [(fault.kind, "*IDN?")]
    assert is_right(link)
    assert is_right(link)


@pytest.mark.parametrize("fault", [Fault("stall"), Fault("cut", at_byte=5), Fault("wedge"), Fault("wedge", at_byte=5)])
def test_silence_until_cleared_or_reconnected(
    hurt: FaultyBench, link: Link, fault: Fault, request: pytest.FixtureRequest
) -> None:
    """A device clear ends a stall over GPIB; a raw socket has none, and nothing but a new link ends a wedge."""
    hurt.hurt(link.name, fault)
    cleared = link.name == "supply" and fault.kind != "wedge"
    if not cleared:
        request.getfixturevalue("short_recovery")
    with pytest.raises(LinkError, match="in step again" if cleared else "broken") as caught:
        link.query("*IDN?", SOME_S if fault.at_byte else DEADLINE_S)
    assert isinstance(caught.value, LinkTimeout) is cleared
    assert f"{fault.at_byte} bytes" in str(caught.value)
    assert says(caught.value, link.name, "*IDN?")
    if not cleared:
        with pytest.raises(LinkError, match="reopen it"):
            link.query("*IDN?")
        link.reopen()
    assert is_right(link)


@pytest.mark.parametrize("at_byte", [0, 7])
def test_a_reset_breaks_the_link_at_once_until_it_is_reopened(hurt: FaultyBench, link: Link, at_byte: int) -> None:
    hurt.hurt(link.name, Fault("reset", at_byte=at_byte))
    started_s = time.monotonic()
    with pytest.raises(LinkError, match=r"broken: receiving failed|broken: the instrument closed") as caught:
        link.query("*IDN?", 60.0)
    assert time.monotonic() - started_s < 30.0
    assert not isinstance(caught.value, LinkTimeout)
    assert says(caught.value, link.name, "*IDN?")
    with pytest.raises(LinkError, match="reopen it"):
        link.write("*CLS")
    link.reopen()
    assert is_right(link)


def test_an_answer_that_comes_during_recovery_is_never_given_to_the_next_query(hurt: FaultyBench, link: Link) -> None:
    for delay_s in (DEADLINE_S, DEADLINE_S + 0.01, DEADLINE_S + 0.05):
        hurt.hurt(link.name, Fault("delay", r"\*IDN", delay_s=delay_s))
        try:
            heard = link.query("*IDN?", DEADLINE_S)
        except LinkTimeout:
            heard = IDN[link.name]
        assert heard.startswith(IDN[link.name])
        assert is_right(link)


# --- blocks, which only the scope sends ---------------------------------------------------------------


@pytest.fixture
def scope_link(hurt: FaultyBench) -> Iterator[Link]:
    with Link.open("scope", hurt.resources("scope")) as link:
        yield link


@pytest.mark.parametrize(
    ("fault", "message"),
    [
        (Fault("double", "SYST:SET"), "behind a block"),
        (Fault("garbage", "SYST:SET", data=b"+0\n"), "starts with '#'"),
        (Fault("garbage", "SYST:SET", data=b"\n"), "starts with '#'"),
        (Fault("garbage", "SYST:SET", data=b"\x00\xff"), "starts with '#'"),
        (Fault("garbage", "SYST:SET", data=b"#"), "digit"),
        (Fault("garbage", "SYST:SET", data=b"#0"), "indefinite"),
        (Fault("garbage", "SYST:SET", data=b"#13abc"), "line feed after"),
        (Fault("replace", "SYST:SET", data=b"+0\n"), "starts with '#'"),
    ],
    ids=lambda value: f"{value.kind} {value.data!r}" if isinstance(value, Fault) else "",
)
def test_bytes_around_a_block_are_refused(hurt: FaultyBench, scope_link: Link, fault: Fault, message: str) -> None:
    hurt.hurt("scope", fault)
    with pytest.raises(ProtocolError, match=message) as caught:
        scope_link.query_block(":SYST:SET?", LONG_S)
    assert says(caught.value, "scope", ":SYST:SET?")
    assert is_right(scope_link)
    assert len(scope_link.query_block(":SYST:SET?")) > 100
