"""Everything the supply can do, against the simulated one behind each of its interfaces; and what never reaches it."""

from __future__ import annotations

import contextlib
import json
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from instruments.e3645a import E3645A, SupplyLimits
from instruments.errors import BenchError, ConfigError, LimitError, LinkTimeout, ScpiError, SettingError
from instruments.link import Link, Transcript, prologix
from instruments.simulated.servers import SerialServer, Served
from instruments.simulated.station import GPIB_ADDRESS, Station
from tests.worlds import shipped_lab

LIMITS = SupplyLimits(36.05, 2.266, 40.0)
WIDE = SupplyLimits(100.0, 10.0)
QUICK = {"measure_s": (0.005, 0.01), "measure_extra_s": 0.0}


@pytest.fixture(autouse=True)
def quick_adapter(monkeypatch: pytest.MonkeyPatch) -> None:
    """An adapter that gives up waiting for an answer after a tenth of its usual time."""
    monkeypatch.setattr(prologix, "READ_TMO_S", 0.3)


@pytest.fixture(scope="module")
def station() -> Iterator[Station]:
    """A bench whose adapter is also there as one for USB: its protocol on a pseudo-terminal."""
    station = Station(shipped_lab(), seed=4, supply_options=QUICK)
    usb = SerialServer(Served(station.prologix, station.changed), station.prologix.open_port)
    adapter = [f"PRLGX-ASRL::{usb.path}::INTFC", f"GPIB0::{GPIB_ADDRESS}::INSTR"]
    station.add(usb, "supply", "prologix-usb", adapter)
    with station:
        yield station


@pytest.fixture(params=["prologix", "prologix-usb", "serial"])
def transport(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def supply(station: Station, transport: str) -> Iterator[E3645A]:
    with opened(station, transport) as supply:
        yield supply


@contextlib.contextmanager
def opened(station: Station, transport: str, limits: SupplyLimits = LIMITS) -> Iterator[E3645A]:
    """The supply as after power-on, behind one interface."""
    with station.changed:
        station.supply.advance(time.monotonic())
        station.supply.feed(b"*RST;*CLS\n")
    with Link.open("supply", station.addresses["supply"][transport]) as link:
        supply = E3645A(link, limits)
        supply.remote()
        yield supply
        supply.safe_off()
        assert supply.errors() == []


def panel(station: Station, commands: bytes) -> None:
    """Turn the knobs of the supply past every link."""
    with station.changed:
        station.supply.advance(time.monotonic())
        station.supply.feed(commands)


def holds(station: Station) -> dict[str, Any]:
    """What the supply itself holds."""
    with station.changed:
        station.supply.advance(time.monotonic())
        return station.supply.snapshot()


def test_a_day_behind_each_interface(station: Station, supply: E3645A) -> None:
    supply.expect_identity(serial="0")
    assert supply.version().startswith("199")
    assert supply.set_ovp(38.0) == supply.ovp_v() == 38.0
    for name, volts, amperes in (("P60V", 36.05, 1.339), ("P35V", 36.05, 2.266)):
        assert supply.set_range(name) == name
        least, most = supply.span("current")
        assert (least, most) == (0.0, pytest.approx(amperes))
        assert supply.span("voltage")[1] >= volts
        assert supply.apply(volts, amperes) == pytest.approx((volts, amperes))
    supply.set_voltage(12.0)
    supply.set_current_limit(2.0)
    supply.output(True)
    assert supply.wait_settled() == pytest.approx(12.0, abs=0.03)
    assert supply.mode() == "CV"
    assert 0 <= supply.measure_current_a() < 0.5
    assert supply.ramp(13.0, step_v=0.4, dwell_s=0.0) == pytest.approx(13.0)
    supply.beep()
    supply.display_text("IT'S A TEST")
    assert supply.displayed_text() == holds(station)["text"] == "IT'S A TEST"
    supply.display_text(None)
    assert supply.displayed_text() == ""
    supply.display(False)
    supply.display(True)
    supply.output(False)
    assert supply.mode() == "OFF"
    assert supply.measure_voltage_v() < 13.0


def test_behind_an_adapter_each_line_for_it_is_in_the_transcript(station: Station, tmp_path: Path) -> None:
    for transport in ("prologix", "prologix-usb"):
        path = tmp_path / f"{transport}.jsonl"
        with (
            Transcript(path, origin="simulated") as transcript,
            Link.open("supply", station.addresses["supply"][transport], transcript=transcript) as link,
        ):
            link.query("*IDN?")
            with pytest.raises(LinkTimeout):
                link.query("NONSENSE?", 0.1)
            link.reopen()
            link.to_local()
            link.query("*IDN?")
        entries = [json.loads(line) for line in path.read_text().splitlines()[1:]]
        lines = [e["text"] for e in entries if e.get("of") == "adapter"]
        assert lines[:3] == ["++savecfg 0", "++mode 1", "++auto 0"]
        assert lines.count("++read_tmo_ms 300") == 2, "once for each connection"
        assert "++clr" in lines
        assert lines[lines.index("++loc") - 1] == "++addr 5"
        asked = [i for i, e in enumerate(entries) if e["dir"] == "out" and e.get("text") == "*IDN?"]
        for i in asked:
            around = [e["text"] for e in entries[i : i + 3] if e.get("of") == "adapter"]
            assert around == ["++addr 5", "++read eoi"]
        assert any(e["dir"] == "clear" for e in entries)
        assert [e["error"] for e in entries if e["dir"] == "error"] == ["LinkTimeout"]


def test_remote_lock_and_local(station: Station) -> None:
    with opened(station, "serial") as supply:
        supply.identity()
        assert holds(station)["remote"] is True
        assert supply.local()
        supply.identity()
        assert holds(station)["remote"] is False
        with pytest.raises(ScpiError, match=r"550|local"):
            supply.set_voltage(1.0)
        supply.remote(lock=True)
        supply.identity()
        assert holds(station)["remote"] is True
        assert supply.set_voltage(1.0) == 1.0


def test_the_relay_lines_are_those_of_the_serial_connector(station: Station) -> None:
    with opened(station, "prologix") as supply:
        supply.set_relay(True)
        supply.set_relay(False)
    with opened(station, "serial") as supply, pytest.raises(ConfigError, match="need GPIB"):
        supply.set_relay(True)


def test_apply_is_refused_as_a_whole_by_the_supply_too(station: Station, monkeypatch: pytest.MonkeyPatch) -> None:
    """The driver is told an old range, as when somebody turns the knob between its question and its command."""
    with opened(station, "prologix") as supply:
        supply.apply(5.0, 1.0)
        panel(station, b"VOLT:RANG P60V\n")
        monkeypatch.setattr(supply, "range", lambda: "P35V")
        with pytest.raises(ScpiError, match=r"-222.*APPLy 6,2\]") as caught:
            supply.apply(6.0, 2.0)
        assert caught.value.code == -222
        assert supply.applied() == (5.0, 1.0)


def test_a_range_changed_at_the_panel_counts(station: Station, transport: str) -> None:
    with opened(station, transport) as supply:
        supply.set_current_limit(2.0)
        panel(station, b"VOLT:RANG P60V\n")
        with pytest.raises(LimitError, match=r"P60V 1\.339 A"):
            supply.set_current_limit(2.0)
        assert holds(station)["current_a"] == pytest.approx(1.339)


def test_set_points_at_a_bus_trigger_after_a_delay(station: Station, supply: E3645A) -> None:
    supply.apply(5.0, 1.0)
    with pytest.raises(ScpiError, match=r"-211.*\*TRG"):
        supply.trigger()
    supply.set_triggered(7.0, 1.5, delay_s=0.3)
    assert supply.triggered() == (7.0, 1.5)
    assert supply.applied() == (5.0, 1.0)
    with pytest.raises(SettingError, match="no trigger took effect"):
        supply.wait_triggered(0.05)
    started = time.monotonic()
    supply.trigger()
    assert supply.wait_triggered(30.0) == (7.0, 1.5)
    assert time.monotonic() - started >= 0.3
    supply.set_triggered(6.0, 1.25, source="IMM")
    assert supply.wait_triggered() == (6.0, 1.25)


def test_steps_up_and_down_stay_within_the_limits(station: Station, supply: E3645A) -> None:
    supply.apply(35.0, 0.5)
    assert supply.set_step("voltage", 0.5) == 0.5
    assert supply.set_step("current", 0.25) == 0.25
    assert [supply.step("voltage", True) for _ in range(2)] == [35.5, 36.0]
    with pytest.raises(LimitError, match=r"36\.5 V"):
        supply.step("voltage", True)
    assert supply.step("current", False) == 0.25
    assert supply.step("current", False) == 0.0
    with pytest.raises(LimitError, match=r"-0\.25"):
        supply.step("current", False)
    with pytest.raises(LimitError, match="step"):
        supply.set_step("voltage", 0.0)
    assert supply.applied() == (36.0, 0.0)


def test_memories(station: Station, supply: E3645A) -> None:
    for memory in range(1, 6):
        supply.apply(float(memory), 0.1 * memory)
        supply.save_state(memory)
    for memory in (3, 1, 5):
        supply.recall_state(memory)
        assert supply.applied() == pytest.approx((memory, 0.1 * memory))
    for memory in (0, 6, -1):
        with pytest.raises(ConfigError, match="1 to 5"):
            supply.recall_state(memory)
    panel(station, b"VOLT 20;:VOLT:PROT 50;:OUTP ON;*SAV 4;:OUTP OFF;VOLT 1;:VOLT:PROT 30\n")
    with opened_limits(supply, SupplyLimits(13.0, 2.2, 14.0)), pytest.raises(LimitError, match="20 V"):
        supply.recall_state(4)
    assert (holds(station)["voltage_v"], holds(station)["ovp_v"], holds(station)["output"]) == (0.0, 14.0, False)


@contextlib.contextmanager
def opened_limits(supply: E3645A, limits: SupplyLimits) -> Iterator[None]:
    """Other limits for a while."""
    before, supply.limits = supply.limits, limits
    try:
        yield
    finally:
        supply.limits = before


def test_over_voltage_trips_and_is_cleared(station: Station, supply: E3645A) -> None:
    supply.set_ovp(10.0)
    supply.set_voltage(5.0)
    supply.output(True)
    assert not supply.ovp_tripped()
    supply.set_voltage(11.0)
    until = time.monotonic() + 30.0
    while not supply.ovp_tripped() and time.monotonic() < until:
        time.sleep(0.01)
    assert supply.ovp_tripped()
    assert supply.mode() == "FAULT"
    with pytest.raises(SettingError, match="still tripped"):
        supply.clear_ovp()
    supply.set_voltage(5.0)
    supply.clear_ovp()
    assert not supply.ovp_tripped()
    assert supply.wait_settled() == pytest.approx(5.0, abs=0.03)
    assert supply.set_ovp(None) is None
    assert supply.ovp_v() is None


@pytest.mark.parametrize("text", ["TWELVE CHARS", "µW", "two\nlines", 'say "hi"'])
def test_texts_that_the_display_cannot_show(supply: E3645A, text: str) -> None:
    with pytest.raises(LimitError, match="11 characters"):
        supply.display_text(text)


# -- what never leaves the host -------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def watched(station: Station, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[E3645A, Path]]:
    """A supply of a narrow bench, and the transcript of all that leaves the host for it."""
    path = tmp_path_factory.mktemp("watched") / "all.jsonl"
    with (
        Transcript(path, origin="simulated") as transcript,
        Link.open("supply", station.addresses["supply"]["prologix"], transcript=transcript) as link,
    ):
        yield E3645A(link, WIDE), path


ANY = st.one_of(st.floats(-100, 100), st.floats(), st.sampled_from([36.05, 36.06, 61.8, 61.81, 2.266, 2.267, 1.34]))
NARROW = SupplyLimits(13.0, 1.5, 14.0)


@given(range_name=st.sampled_from(["P35V", "P60V"]), volts=ANY, amperes=ANY, narrow=st.booleans(), delay_s=ANY)
@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_set_points_beyond_any_limit_never_leave_the_host(
    station: Station, watched: tuple[E3645A, Path], range_name: str, volts: float, amperes: float, narrow: bool,
    delay_s: float,
) -> None:  # fmt: skip
    """Whatever is asked: what left the host holds no number beyond the limits, and only what is refused is not sent."""
    supply, path = watched
    supply.limits = NARROW if narrow else WIDE
    panel(station, b"*RST;:VOLT:RANG " + range_name.encode() + b"\n")
    most_v, most_a = {"P35V": (36.05, 2.266), "P60V": (61.8, 1.339)}[range_name]
    most_v, most_a = min(most_v, supply.limits.voltage_v), min(most_a, supply.limits.current_a)
    fits_v, fits_a, fits_ovp = 0 <= volts <= most_v, 0 <= amperes <= most_a, 0 < volts <= min(66.0, supply.limits.ovp_v)
    for fits, act in (
        (fits_v, lambda: supply.set_voltage(volts)),
        (fits_a, lambda: supply.set_current_limit(amperes)),
        (fits_v and fits_a, lambda: supply.apply(volts, amperes)),
        (fits_v, lambda: supply.ramp(volts, step_v=50.0, dwell_s=0.0)),
        (fits_ovp, lambda: supply.set_ovp(volts)),
        (fits_v and fits_a and 0 <= delay_s <= 3600, lambda: supply.set_triggered(volts, amperes, delay_s=delay_s)),
    ):
        start = path.stat().st_size
        refused = False
        try:
            act()
        except LimitError as error:
            refused = "nothing was sent" in str(error)
        except BenchError:
            assert fits, "only a number that fits may reach the supply, which may have its own reasons"
        with path.open("rb") as file:
            file.seek(start)
            entries = [json.loads(line) for line in file]
        sent = [e["text"] for e in entries if e["dir"] == "out" and "of" not in e]
        assert refused is not fits
        if refused:
            assert [text for text in sent if not text.endswith("?")] == []
    held = holds(station)
    assert 0 <= held["voltage_v"] <= most_v
    assert 0 <= held["current_a"] <= max(most_a, {"P35V": 2.2, "P60V": 1.3}[range_name])  # *RST sets full scale
    panel(station, b"*RST;*CLS\n")


# -- one lock per bus ------------------------------------------------------------------------------------------------


def test_two_threads_on_one_adapter_get_their_own_answers(station: Station) -> None:
    resources = station.addresses["supply"]["prologix"]
    wrong: list[object] = []

    def work(header: str, value: float) -> None:
        with Link.open("supply", resources) as link:
            for _ in range(15):
                with link.transaction():
                    link.write(f"{header} {value}")
                    answer = float(link.query(f"{header}?"))
                if answer != value:
                    wrong.append((header, answer))

    panel(station, b"*RST;*CLS\n")
    threads = [threading.Thread(target=work, args=pair) for pair in (("VOLT", 1.25), ("VOLT", 2.5), ("CURR", 0.5))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []
