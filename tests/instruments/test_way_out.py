"""However a session ends, the supply's output is off and was seen off; where it could not be, that is said aloud."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from instruments.bench import Bench, open_bench
from instruments.errors import BenchError, LinkError
from instruments.interrupts import Interrupted
from instruments.link import prologix
from instruments.link.ports import StreamPort
from instruments.simulated.faults import Fault
from instruments.simulated.servers import Served, StreamServer
from tests.faults.benches import FaultyBench, faulty_bench, feed, hurried


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """An adapter looks again sooner than a real one; what comes back may take its time."""
    monkeypatch.setattr(prologix, "READ_TMO_S", 0.25)
    monkeypatch.setattr(StreamPort, "recovery_s", 20.0)
    monkeypatch.setattr(prologix.PrologixPort, "recovery_s", 20.0)


@pytest.fixture(params=["prologix", "serial"])
def hurt(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[FaultyBench]:
    """A bench whose supply is behind an adapter, or on a serial line."""
    with faulty_bench(tmp_path) as bench:
        if request.param == "serial":
            facts = bench.lab.supply.model_copy(update={"resource": bench.station.addresses["supply"]["serial"]})
            bench.lab = bench.lab.model_copy(update={"supply": facts})
        yield bench


def leave_by(hurt: FaultyBench, deed: Callable[[Bench], object], alarms: list[str] | None = None) -> list[str]:
    """Feed the board, do a deed, leave; gives what was said aloud."""
    alarms = [] if alarms is None else alarms
    with open_bench(hurt.lab, hurt.lab_path, alarm=alarms.append) as bench:
        bench.supply.remote()
        feed(bench)
        assert hurt.output_is_on
        deed(bench)
    return alarms


def fail(error: BaseException) -> Callable[[Bench], object]:
    def deed(bench: Bench) -> None:
        raise error

    return deed


def test_return(hurt: FaultyBench) -> None:
    assert leave_by(hurt, lambda bench: None) == []
    assert not hurt.output_is_on
    until = time.monotonic() + 20.0
    while hurt.station.supply.remote:
        assert time.monotonic() < until, "the front panel is given back"
        time.sleep(0.01)


@pytest.mark.parametrize("error", [ValueError(), KeyboardInterrupt(), Interrupted(), SystemExit(1), MemoryError()])
def test_anything_raised(hurt: FaultyBench, error: BaseException) -> None:
    with pytest.raises(type(error)):
        leave_by(hurt, fail(error))
    assert not hurt.output_is_on


def test_an_interruption_in_the_middle_of_an_answer(hurt: FaultyBench, monkeypatch: pytest.MonkeyPatch) -> None:
    def deed(bench: Bench) -> None:
        link = bench.supply.link
        port = link._port()  # type: ignore[attr-defined]
        real = port.receive

        def interrupted(*args: object) -> object:
            monkeypatch.setattr(port, "receive", real)
            time.sleep(0.05)
            raise Interrupted

        monkeypatch.setattr(port, "receive", interrupted)
        bench.supply.measure_current_a()

    with pytest.raises(Interrupted):
        leave_by(hurt, deed)
    assert not hurt.output_is_on
    assert hurt.feed("supply", b"SYST:ERR?\n").startswith(b"+0")


def test_an_answer_lost_on_the_way_out(hurt: FaultyBench) -> None:
    with hurried(hurt, comes_back=True):
        assert leave_by(hurt, lambda bench: hurt.hurt("supply", Fault("drop", "OUTP", times=1))) == []
    assert not hurt.output_is_on


@contextlib.contextmanager
def adapter_gone(hurt: FaultyBench) -> Iterator[Callable[[], StreamServer]]:
    """The adapter loses power; the function given plugs it in again, at the same port."""
    station = hurt.station
    port = int(station.addresses["supply"]["prologix"][0].split("::")[2])
    (server,) = [s for s in station.servers if isinstance(s, StreamServer) and s.port == port]
    server.stop()
    again: list[StreamServer] = []

    def plug_in() -> StreamServer:
        served = Served(station.prologix, station.changed)
        again.append(StreamServer(served, station.prologix.open_port, "127.0.0.1", port, "prologix"))
        again[-1].start()
        return again[-1]

    try:
        yield plug_in
    finally:
        for server in again:
            server.stop()


@pytest.mark.parametrize("hurt", ["prologix"], indirect=True)
def test_an_adapter_that_comes_back_is_connected_anew(hurt: FaultyBench) -> None:
    with contextlib.ExitStack() as stack:

        def deed(bench: Bench) -> None:
            stack.enter_context(adapter_gone(hurt))()
            with pytest.raises(LinkError):
                bench.supply.measure_current_a()

        assert leave_by(hurt, deed) == []
        assert not hurt.output_is_on


@pytest.mark.parametrize("hurt", ["prologix"], indirect=True)
@pytest.mark.parametrize("how", ["return", "exception"])
def test_an_adapter_that_is_gone_for_good_is_said_aloud(hurt: FaultyBench, how: str) -> None:
    alarms: list[str] = []
    with contextlib.ExitStack() as stack:

        def deed(bench: Bench) -> None:
            stack.enter_context(adapter_gone(hurt))
            if how == "exception":
                bench.supply.measure_current_a()

        started = time.monotonic()
        with pytest.raises(BenchError, match="VERIFIED TO BE OFF" if how == "return" else "broken"):
            leave_by(hurt, deed, alarms)
        assert time.monotonic() - started < 60.0
    (said,) = alarms
    assert said.startswith("THE SUPPLY'S OUTPUT COULD NOT BE VERIFIED TO BE OFF. Switch it off at its front panel now.")
    assert "supply (GPIB0::5::INSTR)" in said
    assert "3 attempts" in said
    assert hurt.output_is_on, "nobody could reach it"


def test_a_supply_that_stays_on_is_said_aloud(hurt: FaultyBench) -> None:
    alarms: list[str] = []
    stuck = Fault("replace", r"OUTP.*\?", data=b"1\n", times=0)
    with pytest.raises(BenchError, match="VERIFIED"):
        leave_by(hurt, lambda bench: hurt.hurt("supply", stuck), alarms)
    assert "asked for off, reads back as on" in alarms[0]
