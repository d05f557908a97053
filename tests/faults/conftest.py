"""Benches that can be hurt, with short recoveries."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from instruments.link import prologix
from instruments.link.message_port import MessagePort
from instruments.link.ports import StreamPort

from .benches import FaultyBench, faulty_bench


@pytest.fixture(autouse=True)
def long_recovery(monkeypatch: pytest.MonkeyPatch) -> None:
    """What comes back may take its time on a machine that others use; an adapter looks again sooner than a real one."""
    monkeypatch.setattr(prologix, "READ_TMO_S", 0.25)
    monkeypatch.setattr(StreamPort, "recovery_s", 20.0)
    monkeypatch.setattr(prologix.PrologixPort, "recovery_s", 20.0)
    monkeypatch.setattr(MessagePort, "recovery_s", 20.0)


@pytest.fixture
def short_recovery(monkeypatch: pytest.MonkeyPatch, long_recovery: None) -> None:
    """For what never comes back."""
    monkeypatch.setattr(StreamPort, "recovery_s", 0.2)
    monkeypatch.setattr(prologix.PrologixPort, "recovery_s", 0.6)


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[FaultyBench]:
    """The shipped bench, quick and in this process, for all tests of a module."""
    with faulty_bench(tmp_path_factory.mktemp("bench")) as bench:
        yield bench


@pytest.fixture
def hurt(served: FaultyBench) -> Iterator[FaultyBench]:
    """The module's bench as after power-on, without faults."""
    served.heal()
    for instrument in ("scope", "supply"):
        served.feed(instrument, b"*RST;*CLS\n")
    served.gate(False)
    yield served
    served.heal()
