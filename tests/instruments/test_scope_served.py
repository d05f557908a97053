"""Every method of the oscilloscope's driver over a real socket, against the simulated one."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest

from instruments.errors import CaptureError, ConfigError, LimitError, ProtocolError, ScpiError
from instruments.ieee488 import write_block
from instruments.mso_x2024a import ChannelSettings, EdgeTrigger, MsoX2024A
from instruments.simulated.faults import Fault, FaultScript
from instruments.simulated.mso_acquisition import Options
from instruments.simulated.mso_record import FrontEnd
from instruments.simulated.scpi_port import Part

from .served_scope import ServedScope, served_scope

WINDOW_S = 0.01


@pytest.fixture(scope="module")
def bench() -> Iterator[ServedScope]:
    with served_scope() as bench:
        yield bench


@pytest.fixture
def ready(bench: ServedScope) -> ServedScope:
    """CHAN1, CHAN3 and two lines, triggered by D0."""
    bench.press(":STOP;*RST;:STOP;*CLS")
    bench.machine.reply_filter = None
    bench.begin_ramp()
    scope = bench.driver
    scope.configure_channel(1, ChannelSettings(0.8))
    scope.configure_channel(3, ChannelSettings(8.0))
    scope.configure_digital([0, 1], 1.4)
    scope.configure_timebase(WINDOW_S)
    scope.configure_acquisition("HRES")
    scope.configure_trigger(EdgeTrigger("DIG0"))
    return bench


def captured(bench: ServedScope) -> None:
    bench.driver.arm()
    bench.driver.force_trigger()
    bench.driver.wait_done(30.0)


# -- settings -----------------------------------------------------------------------------------------


def test_a_channel_is_what_was_asked(ready: ServedScope) -> None:
    asked = ChannelSettings(
        4.0, 1.0, "A", 10.0, coupling="AC", bandwidth_limit=False, invert=True, label="jaw", skew_s=2e-8
    )
    ready.driver.configure_channel(2, asked)
    channel = ready.machine.settings.channels["CHAN2"]
    assert (channel.range, channel.offset_v, channel.units, channel.probe) == (4.0, 0.1, "AMP", 10.0)
    assert (channel.coupling, channel.bwlimit, channel.invert, channel.display) == ("AC", False, True, True)
    assert (channel.label, channel.skew_s) == ("JAW", pytest.approx(2e-8))
    assert ready.driver.configure_channel(2, asked).skew_s == pytest.approx(2e-8)


def test_another_probe_ratio_before_does_not_matter(ready: ServedScope) -> None:
    """PROBe rescales range and offset: what is set after it counts, whatever the ratio was."""
    for before in (0.1, 1.0, 1000.0):
        ready.press(f":CHANnel2:PROBe {before}")
        got = ready.driver.configure_channel(2, ChannelSettings(4.0, 1.0, "A", 10.0))
        assert (got.full_scale, got.offset, got.probe_ratio) == (4.0, 1.0, 10.0)


def test_a_scale_per_division(ready: ServedScope) -> None:
    ready.driver.configure_channel(2, ChannelSettings.per_division(0.5, units="A", probe_ratio=10.0))
    assert ready.machine.settings.channels["CHAN2"].range == 4.0


def test_thresholds_by_name(ready: ServedScope) -> None:
    for name, volts in (("TTL", 1.4), ("cmos", 2.5), ("ECL", -1.3), (-8.0, -8.0)):
        assert ready.driver.configure_digital([7], name).threshold_v == volts
        assert ready.machine.settings.digital.threshold_v == volts
    assert ready.machine.settings.digital.display == [False] * 7 + [True]
    with pytest.raises(ConfigError, match="TTL, CMOS, ECL"):
        ready.driver.configure_digital([0], "LVDS")
    ready.driver.switch_off_digital()
    assert not ready.machine.settings.digital.on


@pytest.mark.parametrize(("reference", "before"), [("LEFT", 0.1), ("CENTer", 0.5), ("RIGHt", 0.9)])
def test_the_trigger_stands_where_the_reference_is(ready: ServedScope, reference: str, before: float) -> None:
    got = ready.driver.configure_timebase(WINDOW_S, reference)  # type: ignore[arg-type]
    assert got.before_s == pytest.approx(before * WINDOW_S)
    captured(ready)
    assert ready.driver.fetch(["CHAN1"], 1000).start_s == pytest.approx(-before * WINDOW_S, abs=2e-5)


def test_position_moves_the_window(ready: ServedScope) -> None:
    got = ready.driver.configure_timebase(WINDOW_S, "LEFT", 0.004)
    assert (got.before_s, got.after_s) == (0.0, pytest.approx(0.013))
    captured(ready)
    assert ready.driver.fetch(["CHAN1"], 1000).start_s == pytest.approx(0.003, abs=2e-5)


@pytest.mark.parametrize(
    ("trigger", "expected"),
    [
        (EdgeTrigger("CHAN1", "NEG", 0.15, "LFR", holdoff_s=1e-3, noise_reject=True), ("CHAN1", "NEG", "LFR")),
        (EdgeTrigger("channel3", "EITH", 1.0, "AC", hf_reject=True), ("CHAN3", "EITH", "AC")),
        (EdgeTrigger("DIGital7", "ALT", sweep="AUTO"), ("DIG7", "ALT", "DC")),
        (EdgeTrigger("EXT", "POS", 1.2, "DC", hf_reject=False), ("EXT", "POS", "DC")),
        (EdgeTrigger("LINE", "POS"), ("LINE", "POS", "DC")),
    ],
)
def test_edge_triggers(ready: ServedScope, trigger: EdgeTrigger, expected: tuple[str, str, str]) -> None:
    got = ready.driver.configure_trigger(trigger)
    set_to = ready.machine.settings.trigger
    assert (set_to.source, set_to.slope, set_to.coupling) == expected
    assert set_to.sweep == trigger.sweep
    if trigger.level_v is not None:
        assert got.level_v == pytest.approx(trigger.level_v)
        levels = {"EXT": set_to.ext_level_v, **set_to.levels_v}
        assert levels[set_to.source] == pytest.approx(trigger.level_v)
    if trigger.holdoff_s is not None:
        assert set_to.holdoff_s == trigger.holdoff_s
    if trigger.noise_reject is not None:
        assert set_to.noise_reject is trigger.noise_reject
    if trigger.hf_reject is not None:
        assert set_to.reject == ("HFR" if trigger.hf_reject else "OFF")


def _arm_for_what_comes_by_itself(scope: MsoX2024A) -> None:
    """Until the first poll finds it armed: the mains do not wait for a busy host."""
    for _ in range(50):
        try:
            scope.arm()
            return
        except CaptureError as error:
            if error.reason != "early-trigger":
                raise
    pytest.fail("it triggered before each first poll")


def test_a_trigger_on_a_channel_a_line_and_the_mains_comes(ready: ServedScope) -> None:
    scope = ready.driver
    for trigger in (EdgeTrigger("CHAN1", "POS", 0.15), EdgeTrigger("DIG0"), EdgeTrigger("LINE")):
        ready.edge(0, 0)
        scope.configure_trigger(trigger)
        if trigger.source == "LINE":
            _arm_for_what_comes_by_itself(scope)
        else:
            scope.arm()
            ready.edge(0, 1)
        scope.wait_done(30.0)
        found = scope.fetch(["CHAN1", "POD1"], 1000)
        if trigger.source != "LINE":
            rise = int(np.argmax(found["POD1"].bit(0)))
            assert abs(found.time_s()[rise]) <= 2 * found.dt_s


def test_settings_that_cannot_be_never_leave_the_host(ready: ServedScope) -> None:
    scope = ready.driver
    sent = len(ready.machine.errors)
    before = ready.machine.settings.copy()
    for refused, make in (
        (ConfigError, lambda: scope.configure_channel(5, ChannelSettings(1.0))),
        (ConfigError, lambda: scope.configure_channel(0, ChannelSettings(1.0))),
        (ConfigError, lambda: scope.switch_off_channel(5)),
        (ConfigError, lambda: scope.configure_digital([8])),
        (ConfigError, lambda: scope.configure_trigger(EdgeTrigger("DIG8"))),
        (ConfigError, lambda: scope.configure_trigger(EdgeTrigger("WGEN", level_v=1.0))),
        (ConfigError, lambda: scope.configure_trigger(EdgeTrigger("DIG0", "RISE"))),  # type: ignore[arg-type]
        (ConfigError, lambda: scope.configure_acquisition("FAST")),
        (ConfigError, lambda: scope.configure_timebase(1.0, "MIDDle")),  # type: ignore[arg-type]
        (ConfigError, lambda: scope.configure_channel(1, ChannelSettings(1.0, coupling="GND"))),  # type: ignore[arg-type]
        (ConfigError, lambda: scope.configure_channel(1, ChannelSettings(1.0, units="W"))),  # type: ignore[arg-type]
        (LimitError, lambda: scope.configure_channel(1, ChannelSettings(1.0, skew_s=1e-6))),
        (LimitError, lambda: scope.configure_trigger(EdgeTrigger("EXT", level_v=9.0))),
        (ConfigError, lambda: scope.configure_trigger(EdgeTrigger("LINE", level_v=1.0))),
        (ConfigError, lambda: scope.fetch(["POD2"])),
        (ConfigError, lambda: scope.measure("VPP", "CHAN9")),
        (ConfigError, lambda: scope.digitize(["DIG9"], 1.0)),
    ):
        with pytest.raises(refused, match=r"expected|possible|has no level"):
            make()
    assert ready.machine.settings == before
    assert len(ready.machine.errors) == sent
    assert scope.errors() == []


# -- transfer ------------------------------------------------------------------------------------------


def test_points_modes(ready: ServedScope) -> None:
    captured(ready)
    scope = ready.driver
    raw = scope.fetch(["CHAN1"], 1000)
    assert scope.fetch(["CHAN1"], 1000, points_mode="MAXimum")["CHAN1"] == raw["CHAN1"]
    everything = scope.fetch(["CHAN1"], None)
    assert everything.points == ready.machine.acquisition.record.timing.on_screen  # type: ignore[union-attr]
    assert scope.fetch(["CHAN1"], None, points_mode="NORMal").points <= 62_500 < everything.points
    assert scope.errors() == []


@pytest.mark.parametrize("kind", ["NORM", "HRES", "PEAK", "AVER"])
def test_acquisition_types(ready: ServedScope, kind: str) -> None:
    ready.driver.configure_acquisition(kind, 16 if kind == "AVER" else None)
    captured(ready)
    found = ready.driver.fetch(["CHAN1", "CHAN3"], 1000)
    assert found["CHAN1"].pairs is (kind == "PEAK")
    assert found["CHAN1"].settings["WAVeform:TYPE"] == kind
    assert found["CHAN1"].resolution_bits == {"NORM": 8, "PEAK": 8, "HRES": 10, "AVER": 12}[kind]


def test_wanting_more_than_there_is_gives_what_there_is(ready: ServedScope) -> None:
    captured(ready)
    most = ready.driver.fetch(["CHAN1"], None).points
    found = ready.driver.fetch(["CHAN1"], 5_000_000)
    assert (found.points, found.requested_points) == (most, 5_000_000)
    assert ready.driver.errors() == []


def test_a_measurement_may_have_no_value(ready: ServedScope) -> None:
    captured(ready)
    assert ready.driver.measure("VPP", "CHAN3") == pytest.approx(WINDOW_S, abs=0.3)
    assert ready.driver.measure("VAVerage", "CHAN2") is None  # not displayed: 9.9E+37
    ready.driver.link.write(":MEASure:NOTHING")
    with pytest.raises(ScpiError, match="-113"):
        ready.driver.check_errors(":MEASure:NOTHING")


def test_digitize(ready: ServedScope) -> None:
    ready.driver.configure_trigger(EdgeTrigger("DIG0", sweep="AUTO"))
    number = ready.driver.digitize(["CHAN1", "POD1"], 30.0)
    found = ready.driver.fetch(["CHAN1", "POD1"], 1000)
    assert (found.number, found.points) == (number, 1000)
    assert found.trigger_after_s == -np.inf


# -- stale records ---------------------------------------------------------------------------------------


class OldBlocks:
    """Keeps the blocks of each fetch of `count` sources; once `of` is set, that source's of the fetch before come."""

    def __init__(self, count: int) -> None:
        self.of: int | None = None
        self._count, self._blocks = count, list[bytes]()

    def __call__(self, command: str, reply: bytes) -> list[Part] | None:
        if "WAVeform:DATA" not in command:
            return None
        self._blocks.append(reply)
        place = len(self._blocks) - 1
        return [Part(self._blocks[place - self._count])] if place % self._count == self.of else None


@pytest.mark.parametrize("place", [0, 1])
def test_the_previous_capture_of_the_same_length_is_refused(ready: ServedScope, place: int) -> None:
    """One channel's block is that of the acquisition before, its preamble fits: only the codes can tell."""
    scope, names = ready.driver, ["CHAN1", "CHAN3", "POD1"]
    with ready.served.changed:
        old = ready.machine.reply_filter = OldBlocks(len(names))
    captured(ready)
    scope.fetch(names, 1000)
    old.of = place
    captured(ready)
    with pytest.raises(CaptureError, match=f"{names[place]} has the very codes of acquisition") as caught:
        scope.fetch(names, 1000)
    assert caught.value.reason == "stale"
    assert "[command: :WAVeform:DATA?]" in str(caught.value)
    with pytest.raises(CaptureError, match="no finished acquisition"):
        scope.fetch(names, 1000)
    old.of = None
    captured(ready)
    found = scope.fetch(names, 1000)
    assert scope.fetch(names, 1000)["CHAN1"] == found["CHAN1"]  # again: the same acquisition may be


def test_a_digital_record_may_be_the_same_twice(ready: ServedScope) -> None:
    captured(ready)
    first = ready.driver.fetch(["POD1"], 1000)
    captured(ready)
    again = ready.driver.fetch(["POD1"], 1000)
    assert np.array_equal(again["POD1"].codes, first["POD1"].codes)


def test_arming_erases_what_a_stopped_scope_holds(ready: ServedScope) -> None:
    captured(ready)
    ready.driver.arm()
    assert ready.machine.acquisition.record is None
    ready.press(":STOP")
    with pytest.raises(CaptureError, match="stopped without a trigger"):
        ready.driver.wait_done(30.0)


# -- the whole instrument -----------------------------------------------------------------------------------


def test_the_screen_is_a_whole_picture_or_refused(ready: ServedScope) -> None:
    captured(ready)
    picture = ready.driver.screenshot()
    assert picture.startswith(b"\x89PNG")
    for spoilt in (picture[:-1], picture[1:], b"BM" + picture[2:], b""):
        script = FaultScript([Fault("replace", "DISPlay:DATA", data=write_block(spoilt) + b"\n")])
        with ready.served.changed:
            ready.machine.reply_filter = script
        with pytest.raises(ProtocolError, match=r"no whole PNG.*DISPlay:DATA"):
            ready.driver.screenshot()
    assert ready.driver.screenshot() == picture


def test_settings_go_and_come_back(ready: ServedScope) -> None:
    scope = ready.driver
    scope.configure_channel(1, ChannelSettings(0.8, label="before;x"))
    before, setup = scope.settings(), scope.setup()
    assert before["CHANnel1:LABel"] == '"BEFORE;X"'
    scope.configure_channel(1, ChannelSettings(8.0, 1.0, "A", 2.0, label="after", skew_s=1e-8))
    scope.configure_timebase(0.2, "CENTer")
    scope.configure_trigger(EdgeTrigger("EXT", level_v=1.0))
    assert scope.settings() != before
    scope.restore(setup)
    assert scope.settings() == before
    with pytest.raises(ScpiError, match="SYSTem:SETup"):
        scope.restore(setup[:-20] + bytes(20))
    scope.restore(setup)
    assert scope.settings() == before
    assert "MSO" in scope.options()


def test_run_and_state(ready: ServedScope) -> None:
    ready.driver.run()
    assert ready.driver.state().running
    ready.driver.stop()
    assert not ready.driver.state().running


# -- other memories and front ends ---------------------------------------------------------------------------


def test_samples_of_single_conversions_can_be_told(ready: ServedScope) -> None:
    captured(ready)
    assert ready.driver.fetch(["CHAN1"], 1000)["CHAN1"].resolution_bits > 8
    assert ready.driver.fetch(["CHAN1"], 1000, format="BYTE")["CHAN1"].resolution_bits <= 8


def test_off_screen_points_never_come() -> None:
    """480 000 of 500 000 acquired, and a stock memory that the pod halves."""
    odd = Options(memory_points=500_000, screen_fraction=0.96, arm_s=1e-3, process_s=1e-3)
    stock = Options(memory_points=100_000, arm_s=1e-3, process_s=1e-3)
    for options, pod, most, part in ((odd, False, 480_000, 96_000), (stock, True, 50_000, 50_000)):
        with served_scope(acquisition=options) as bench:
            scope = bench.driver
            scope.configure_channel(1, ChannelSettings(0.8))
            scope.configure_timebase(WINDOW_S)
            scope.configure_trigger(EdgeTrigger("DIG0"))
            if pod:
                scope.configure_digital([0])
            captured(bench)
            everything = scope.fetch(["CHAN1"], None)
            assert everything.points == most
            assert everything.duration_s == pytest.approx(WINDOW_S, rel=1e-3)
            found = scope.fetch(["CHAN1"], 100_000)
            assert found.points == (part if part == most else 160_000)  # every fifth would be 96 000: every third
            assert found.duration_s == pytest.approx(WINDOW_S, rel=1e-3)
            assert scope.errors() == []


def test_holes_have_no_value() -> None:
    with served_scope(front=FrontEnd(hole_fraction=0.1)) as bench:
        bench.driver.configure_timebase(WINDOW_S)
        bench.driver.configure_trigger(EdgeTrigger("CHAN1", level_v=0.0))
        captured(bench)
        record = bench.driver.fetch(["CHAN1"], 1000)["CHAN1"]
        assert 0.02 < record.holes().mean() < 0.2
        assert np.array_equal(np.isnan(record.values()), record.holes())
        _, values = bench.driver.fetch_values("CHAN1", 1000)
        assert np.array_equal(np.isnan(values), record.holes())
