"""The oscilloscope driver over a link in memory."""

from __future__ import annotations

import numpy as np
import pytest

from instruments.errors import (
    CaptureError,
    ConfigError,
    IdentityError,
    LimitError,
    LinkTimeout,
    ProtocolError,
    ScpiError,
    SettingError,
)
from instruments.mso_x2024a import ChannelSettings, EdgeTrigger, MsoX2024A

from .scripted_instruments import FakeLink

IDLE, RUNNING, ARMED = "+0", "+8", "+40"
PREAMBLE = "+1,+3,+4,+1,+2.0E-05,-2.0E-01,+0,+1.0E-03,+0.0E+00,+32768"
POD_PREAMBLE = PREAMBLE.replace("+1,+3", "+0,+3")


class ScopeLink(FakeLink):
    """A scope that arms at the second poll, triggers, and has records of four points."""

    def __init__(self) -> None:
        super().__init__()
        self.conditions = [RUNNING, ARMED, ARMED, RUNNING, IDLE]
        self.triggers = ["0", "1", "0"]
        self.preambles: dict[str, list[str]] = {}
        self.data = {
            "CHANnel1": np.array([1, 2, 3, 4], dtype="<u2").tobytes(),
            "CHANnel3": np.array([5, 6, 7, 8], dtype="<u2").tobytes(),
            "POD1": bytes([0, 1, 3, 2]),
        }
        self.answers[":OPERegister:CONDition?"] = self.conditions
        self.answers[":TER?"] = self.triggers
        self.answers[":WAVeform:TYPE?"] = "HRES"
        self.answers[":WAVeform:POINts?"] = "+4"
        self.answers[":WAVeform:POINts:MODE?"] = "MAX"
        self.answers[":WAVeform:PREamble?"] = self.preamble
        self.blocks[":WAVeform:DATA?"] = lambda: self.data[self.store[":WAVeform:SOURce"]]
        self.answers["*IDN?"] = "AGILENT TECHNOLOGIES,MSO-X 2024A,MY00000001,02.65.2021102830"
        for source in ("CHANnel1", "CHANnel3", "POD1"):
            self.store[f":{source}:DISPlay"] = "1"
            self.store[f":{source}:UNITs"] = "VOLT"
        self.store[":CHANnel1:UNITs"] = "AMP"

    def preamble(self) -> str:
        source = self.store[":WAVeform:SOURce"]
        special = self.preambles.get(source)
        if special:
            return special.pop(0)
        return POD_PREAMBLE if source == "POD1" else PREAMBLE


@pytest.fixture
def link():
    return ScopeLink()


@pytest.fixture
def scope(link):
    now = [0.0]

    def sleep(seconds: float) -> None:
        now[0] += max(seconds, 1e-3)

    return MsoX2024A(link, clock=lambda: now[0], sleep=sleep)


def finished(scope):
    scope.arm()
    scope.wait_done(5.0)
    return scope


def test_making_a_driver_sends_nothing(link, scope):
    assert link.sent == []


def test_identity(scope):
    assert scope.expect_identity(serial="MY00000001").firmware == "02.65.2021102830"
    assert scope.capabilities().digital_channels == 8
    with pytest.raises(IdentityError, match=r"MY2.*found AGILENT.*MY00000001"):
        scope.expect_identity(serial="MY2")
    with pytest.raises(IdentityError, match="E3645A"):
        scope.expect_identity(model="E3645A")


# -- settings ---------------------------------------------------------------------------------------


def test_channel_sends_probe_before_range_and_reads_all_back(link, scope):
    settings = ChannelSettings(full_scale=4.0, offset=1.0, units="A", probe_ratio=10.0, label="current")
    assert scope.configure_channel(1, settings) == settings
    command = link.sent[0]
    order = [command.index(word) for word in ("UNITs", "PROBe", "RANGe", "OFFSet")]
    assert order == sorted(order)
    assert ':CHANnel1:LABel "current"' in command
    assert len(link.sent) == 2


def test_channel_gives_what_reads_back(link, scope):
    link.answers[":CHANnel2:OFFSet?"] = "+1.0050E+00"
    got = scope.configure_channel(2, ChannelSettings(full_scale=4.0, offset=1.0))
    assert got.offset == 1.005


@pytest.mark.parametrize(
    ("query", "answer", "setting"),
    [
        (":CHANnel1:RANGe?", "8.0", "full_scale"),
        (":CHANnel1:OFFSet?", "0.5", "offset"),
        (":CHANnel1:PROBe?", "1", "probe ratio"),
        (":CHANnel1:UNITs?", "VOLT", "units"),
        (":CHANnel1:BWLimit?", "0", "bandwidth"),
        (":CHANnel1:DISPlay?", "0", "display"),
        (":CHANnel1:INVert?", "1", "invert"),
        (":CHANnel1:COUPling?", "AC", "coupling"),
    ],
)
def test_channel_that_reads_back_otherwise_is_an_error(link, scope, query, answer, setting):
    link.answers[query] = answer
    with pytest.raises(SettingError, match=f"CHAN1 {setting}.*asked for.*reads back") as caught:
        scope.configure_channel(1, ChannelSettings(full_scale=4.0, units="A", probe_ratio=10.0))
    assert caught.value.instrument == "scope"
    assert ":CHANnel1:" in caught.value.command


def test_error_queue_is_raised_with_the_command_and_the_rest(link, scope):
    link.errors = ['-222,"Data out of range"', '-113,"Undefined header"']
    with pytest.raises(ScpiError) as caught:
        scope.configure_channel(1, ChannelSettings(full_scale=4.0))
    assert caught.value.code == -222
    assert caught.value.rest == ('-113,"Undefined header"',)
    assert ":CHANnel1:RANGe 4" in str(caught.value)
    assert link.errors == []


def test_endless_error_queue_is_an_error(link, scope):
    link.errors = ['-100,"x"'] * 100
    with pytest.raises(ProtocolError, match="not empty after 32"):
        scope.errors()


def test_unreadable_answers_give_the_error_queue_when_it_has_one(link, scope):
    link.answers[":ACQuire:TYPE?"] = "HRES;extra"
    with pytest.raises(ProtocolError, match="3 answers"):
        scope.configure_acquisition("HRES")
    link.answers[":ACQuire:TYPE?"] = lambda: link.errors.extend(['-113,"Undefined header"'] * 2) or "HRES;extra"
    with pytest.raises(ScpiError, match="Undefined header"):
        scope.configure_acquisition("HRES")


@pytest.mark.parametrize("number", [0, 5])
def test_no_such_channel(scope, number):
    with pytest.raises(ConfigError, match="1 to 4"):
        scope.configure_channel(number, ChannelSettings(full_scale=1.0))


def test_digital_lines_and_threshold(link, scope):
    assert scope.configure_digital([0, 1], 1.65).bits == (0, 1)
    assert link.store[":POD1:DISPlay"] == "1"
    assert [link.store[f":DIGital{bit}:DISPlay"] for bit in range(8)] == ["1", "1", *["0"] * 6]
    link.answers[":POD1:THReshold?"] = "+1.40E+00"
    with pytest.raises(SettingError, match=r"threshold_v.*1\.65.*1\.4"):
        scope.configure_digital([0])


def test_switching_off(link, scope):
    scope.switch_off_channel(2)
    scope.switch_off_digital()
    assert link.store[":CHANnel2:DISPlay"] == link.store[":POD1:DISPlay"] == "0"


def test_timebase(link, scope):
    got = scope.configure_timebase(2.0, "LEFT", 0.0)
    assert (got.range_s, got.reference) == (2.0, "LEFT")
    link.answers[":TIMebase:RANGe?"] = "+5.0E+00"
    with pytest.raises(SettingError, match="1-2-5 step"):
        scope.configure_timebase(2.0)


def test_acquisition_types(link, scope):
    assert scope.configure_acquisition("HRES").type == "HRESolution"
    assert scope.configure_acquisition("AVERage", 16).count == 16
    assert link.store[":ACQuire:COUNt"] == "16"
    with pytest.raises(ConfigError, match="AVERage needs one"):
        scope.configure_acquisition("AVER")


def test_trigger_sets_the_sweep_explicitly(link, scope):
    scope.configure_trigger(EdgeTrigger("DIG0", "POS"))
    assert link.sent[0].startswith(":TRIGger:MODE EDGE;:TRIGger:SWEep NORMal;:TRIGger:EDGE:SOURce DIGital0")
    link.answers[":TRIGger:EDGE:LEVel? CHANnel1"] = "+1.0E+00"
    scope.configure_trigger(EdgeTrigger("CHAN1", "NEG", 1.0, "LFR", holdoff_s=1e-3, noise_reject=True, hf_reject=False))
    assert ":TRIGger:EDGE:COUPling LFReject;:TRIGger:EDGE:LEVel 1,CHANnel1;:TRIGger:HOLDoff 0.001" in link.sent[2]
    link.answers[":TRIGger:SWEep?"] = "AUTO"
    with pytest.raises(SettingError, match="sweep"):
        scope.configure_trigger(EdgeTrigger("DIG0"))


# -- acquisition -------------------------------------------------------------------------------------


def test_arm_wait_fetch(link, scope):
    assert scope.arm() == 1
    assert ":STOP;:DISPlay:CLEar;:SINGle" in link.sent
    scope.wait_done(5.0)
    capture = scope.fetch(["CHAN1", "CHAN3", "POD1"], points=100)
    assert capture["CHAN1"].codes.tolist() == [1, 2, 3, 4]
    assert capture["CHAN1"].units == "A"
    assert capture["CHAN3"].units == "V"
    assert capture["POD1"].codes.tolist() == [0, 1, 3, 2]
    assert capture["POD1"].units == "bits"
    assert (capture.number, capture.requested_points, capture.points) == (1, 100, 4)
    assert capture["CHAN1"].settings["CHANnel1:UNITs"] == "AMP"
    scope.wait_done(5.0)  # again: nothing to wait for
    assert scope.fetch(["CHAN1"], points=None)["CHAN1"] == capture["CHAN1"]
    assert ":WAVeform:POINts MAXimum" in link.sent[-3]


def test_hot_path_takes_few_messages(link, scope):
    for extra in (1, 0):  # the number of points that the memory holds is asked once
        link.conditions[:] = [ARMED, IDLE]
        link.triggers[:] = ["0", "1", "0"]
        link.sent.clear()
        finished(scope).fetch(["CHAN1", "CHAN3", "POD1"])
        assert len(link.sent) <= 13 + extra


def test_arm_refuses_a_queue_that_is_not_empty(link, scope):
    link.errors = ['-222,"Data out of range"']
    with pytest.raises(ScpiError, match="before :SINGle"):
        scope.arm()


def test_arm_that_never_arms(link, scope):
    link.conditions[:] = [RUNNING]
    with pytest.raises(CaptureError, match=r"not armed 1 s.*pre-trigger") as caught:
        scope.arm(1.0)
    assert caught.value.reason == "not-armed"


def test_trigger_while_arming(link, scope):
    link.conditions[:] = [RUNNING]
    link.answers[":AER?"] = ["0", "0", "1"]
    with pytest.raises(CaptureError, match="while arming") as caught:
        scope.arm(1.0)
    assert caught.value.reason == "early-trigger"


@pytest.mark.parametrize(("condition", "reason"), [(ARMED, "no-trigger"), (RUNNING, "not-finished")])
def test_waiting_in_vain(link, scope, condition, reason):
    link.conditions[:] = [ARMED, condition]
    scope.arm()
    with pytest.raises(CaptureError) as caught:
        scope.wait_done(0.5)
    assert caught.value.reason == reason
    assert "0.5 s" in str(caught.value)
    with pytest.raises(CaptureError):
        scope.fetch(["CHAN1"])


def test_stopped_at_the_front_panel(link, scope):
    link.conditions[:] = [ARMED, IDLE]
    link.triggers[:] = ["0"]
    scope.arm()
    with pytest.raises(CaptureError, match="STOP pressed") as caught:
        scope.wait_done(1.0)
    assert caught.value.reason == "stopped"


def test_wait_needs_arm(scope):
    with pytest.raises(CaptureError, match="call arm"):
        scope.wait_done(1.0)


@pytest.mark.parametrize(
    "spoil",
    [
        lambda scope: scope.configure_timebase(2.0),
        lambda scope: scope.configure_acquisition("HRES"),
        lambda scope: scope.configure_trigger(EdgeTrigger()),
        lambda scope: scope.configure_channel(1, ChannelSettings(full_scale=1.0)),
        lambda scope: scope.configure_digital([0]),
        lambda scope: scope.run(),
    ],
)
def test_settings_after_an_acquisition_make_it_stale(scope, spoil):
    finished(scope)
    spoil(scope)
    with pytest.raises(CaptureError) as caught:
        scope.fetch(["CHAN1"])
    assert caught.value.reason == "stale"


def test_stop_gives_up_what_is_armed_and_keeps_what_is_done(link, scope):
    scope.arm()
    scope.stop()
    with pytest.raises(CaptureError, match="no finished"):
        scope.fetch(["CHAN1"])
    link.conditions[:] = [ARMED, IDLE]
    link.triggers[:] = ["0", "1", "0"]
    finished(scope)
    scope.stop()
    assert scope.fetch(["CHAN1"]).number == 2


def test_running_again_or_triggered_again_is_stale(link, scope):
    finished(scope)
    link.conditions[:] = [RUNNING]
    with pytest.raises(CaptureError, match="is running") as caught:
        scope.fetch(["CHAN1"])
    assert caught.value.reason == "stale"
    link.conditions[:] = [ARMED, IDLE]
    link.triggers[:] = ["0", "1", "1"]
    finished(scope)
    with pytest.raises(CaptureError, match="triggered again"):
        scope.fetch(["CHAN1"])


def test_triggered_again_during_the_transfer_is_stale(link, scope):
    link.triggers[:] = ["0", "1", "0", "1"]
    with pytest.raises(CaptureError, match="triggered again"):
        finished(scope).fetch(["CHAN1"])


def test_channel_that_is_not_displayed(link, scope):
    finished(scope)
    link.store[":CHANnel3:DISPlay"] = "0"
    with pytest.raises(CaptureError, match="CHAN3 is not displayed") as caught:
        scope.fetch(["CHAN1", "CHAN3"])
    assert caught.value.reason == "not-displayed"


@pytest.mark.parametrize("first", ["+0", ""])
def test_bad_first_preamble_is_asked_for_once_more(link, scope, first):
    link.preambles["CHANnel1"] = [first]
    assert finished(scope).fetch(["CHAN1"]).points == 4
    link.preambles["CHANnel1"] = [first, first]
    with pytest.raises(ProtocolError, match="preamble"):
        scope.fetch(["CHAN1"])


def test_no_first_preamble_is_asked_for_once_more(link, scope):
    finished(scope)
    link.fail = [None, LinkTimeout("no answer")]
    assert scope.fetch(["CHAN1"]).points == 4


def test_points_may_come_as_nr3(link, scope):
    link.preambles["CHANnel1"] = [PREAMBLE.replace("+4,", "+4.00000E+00,")]
    assert finished(scope).fetch(["CHAN1"]).points == 4


@pytest.mark.parametrize(
    ("answers", "asked"),
    [
        (["+500000", "+100000"], "100000"),  # the list has it
        (["+500000", "+76800", "+153600"], "200000"),  # 76 800 for 100 000, as a DSO-X 2012A does it
        (["+120000", "+76800"], "MAXimum"),  # the next longer one is more than there is
        (["+480000", "+9.6E+04", "+1.6E+05"], "200000"),
        (["+50000"], "MAXimum"),  # less than wanted: asking for more would be -222
        (["+0", "+0"], "100000"),  # it says nothing: the preamble will tell
        (["", "+0"], "100000"),
        (["", "+500000", "+100000"], "100000"),
    ],
)
def test_points_are_asked_for_so_that_enough_come(link, scope, answers, asked):
    link.answers[":WAVeform:POINts?"] = answers
    finished(scope).fetch(["CHAN1", "CHAN3"], points=100_000)
    records = [m for m in link.sent if ":WAVeform:PREamble?" in m]
    assert all(f":WAVeform:POINts {asked}" in message for message in records)
    assert all(":WAVeform:POINts:MODE RAW" in message for message in records)


def test_lost_answer_about_points_is_asked_for_once_more(link, scope):
    finished(scope)
    link.answers[":WAVeform:POINts?"] = ["+500000", "+100000"]
    link.fail = [None, LinkTimeout("no answer")]
    assert scope.fetch(["CHAN1"]).points == 4


def test_other_points_modes(link, scope):
    link.answers[":WAVeform:POINts:MODE?"] = "NORM"
    finished(scope).fetch(["CHAN1"], points=None, points_mode="NORMal")
    (message,) = [m for m in link.sent if ":WAVeform:PREamble?" in m]
    assert message.index(":WAVeform:POINts MAXimum") < message.index(":WAVeform:POINts:MODE NORMal")
    with pytest.raises(SettingError, match="points mode: asked for RAW, reads back as NORM"):
        scope.fetch(["CHAN1"])


def test_flat_records_say_nothing_about_their_age(link, scope):
    """Two records may be the same where no noise tells them apart: few steps are no proof."""
    for _ in range(2):
        link.conditions[:] = [ARMED, IDLE]
        link.triggers[:] = ["0", "1", "0"]
        assert finished(scope).fetch(["CHAN1"])["CHAN1"].codes.tolist() == [1, 2, 3, 4]


def test_block_that_does_not_fit_the_preamble(link, scope):
    link.data["CHANnel1"] += b"\0\0"
    with pytest.raises(CaptureError, match=r"4 points = 8 bytes, the block has 10") as caught:
        finished(scope).fetch(["CHAN1"])
    assert caught.value.command == ":WAVeform:DATA?"


def test_empty_record(link, scope):
    link.preambles["CHANnel1"] = [PREAMBLE.replace("+4,", "+0,")]
    with pytest.raises(CaptureError, match="empty"):
        finished(scope).fetch(["CHAN1"])


def test_short_record(link, scope):
    with pytest.raises(CaptureError, match="4 points came, at least 100") as caught:
        finished(scope).fetch(["CHAN1"], min_points=100)
    assert caught.value.reason == "short"


def test_sources_of_different_time_bases(link, scope):
    link.preambles["CHANnel3"] = [PREAMBLE.replace("+2.0E-05", "+4.0E-05")]
    with pytest.raises(CaptureError, match=r"CHAN1 and CHAN3.*sampling period") as caught:
        finished(scope).fetch(["CHAN1", "CHAN3"])
    assert caught.value.reason == "mismatch"


@pytest.mark.parametrize(
    ("query", "answer"),
    [
        (":WAVeform:SOURce?", "CHAN2"),
        (":WAVeform:FORMat?", "BYTE"),
        (":WAVeform:BYTeorder?", "MSBF"),
        (":WAVeform:UNSigned?", "0"),
    ],
)
def test_transfer_settings_are_read_back(link, scope, query, answer):
    link.answers[query] = answer
    with pytest.raises(SettingError):
        finished(scope).fetch(["CHAN1"])


def test_preamble_of_another_format(link, scope):
    link.preambles["CHANnel1"] = [POD_PREAMBLE]
    with pytest.raises(CaptureError, match="asked for WORD") as caught:
        finished(scope).fetch(["CHAN1"])
    assert caught.value.reason == "format"


def test_errors_during_the_transfer_are_raised(link, scope):
    finished(scope)
    link.blocks[":WAVeform:DATA?"] = lambda: link.errors.append('-222,"Data out of range"') or link.data["CHANnel1"]
    with pytest.raises(ScpiError, match="WAVeform:DATA"):
        scope.fetch(["CHAN1"])


@pytest.mark.parametrize("sources", [[], ["CHAN1", "CHANNEL1"], ["POD2"], ["DIG0"], ["CHAN5"]])
def test_sources_that_cannot_be_fetched(scope, sources):
    with pytest.raises(ConfigError):
        finished(scope).fetch(sources)


def test_format_without_codes(scope):
    with pytest.raises(ConfigError, match="fetch_values"):
        finished(scope).fetch(["CHAN1"], format="ASCii")


def test_peak_detection_gives_pairs(link, scope):
    link.answers[":WAVeform:TYPE?"] = "PEAK"
    link.data["CHANnel1"] = bytes(range(16))
    capture = finished(scope).fetch(["CHAN1"])
    assert capture["CHAN1"].pairs
    assert len(capture["CHAN1"]) == 8


def test_values_in_ascii(link, scope):
    link.preambles["CHANnel1"] = [PREAMBLE.replace("+1,+3", "+4,+3")]
    link.data["CHANnel1"] = b"1.0,2.0,3.0,9.9E+37"
    preamble, values = finished(scope).fetch_values("CHAN1")
    assert preamble.points == 4
    assert values[:3].tolist() == [1.0, 2.0, 3.0]


def test_digitize(link, scope):
    link.answers["*OPC?"] = "1"
    link.conditions[:] = [IDLE]
    link.triggers[:] = ["1", "0", "0"]
    assert scope.digitize(["CHAN1", "CHAN3"], 10.0) == 1
    assert ":DIGitize CHANnel1,CHANnel3" in link.sent
    assert scope.fetch(["CHAN1"]).number == 1


# -- the whole instrument ------------------------------------------------------------------------------


def test_measurement_without_value(link, scope):
    link.answers[":MEASure:VAVerage? CHANnel1"] = ["+1.5E+00", "+9.9E+37"]
    assert scope.measure("VAVerage", "CHAN1") == 1.5
    assert scope.measure("VAVerage", "CHAN1") is None


def test_learn_string_goes_back_as_a_block(link, scope):
    link.blocks[":SYSTem:SETup?"] = lambda: b"a\nb\0"
    link.answers["*OPC?"] = "1"
    scope.restore(scope.setup())
    assert link.raw == [b":SYSTem:SETup #800000004a\nb\0"]


def test_settings_are_named_by_their_query(link, scope):
    found = scope.settings()
    assert found["CHANnel1:UNITs"] == "AMP"
    assert {"TIMebase:RANGe", "ACQuire:TYPE", "TRIGger:SWEep", "POD1:THReshold"} <= set(found)
    some = ["CHANnel1:UNITs", "POD1:THReshold"]
    assert scope.read_back(some) == {name: found[name] for name in some}
    assert scope.read_back([]) == {}


def test_small_things(link, scope):
    link.answers["*OPT?"] = "MSO, 0"
    assert scope.options() == ("MSO", "0")
    scope.force_trigger()
    assert link.sent[-1] == ":TRIGger:FORCe"
    scope.check_errors("")
    assert not scope.state().overload
    scope.close()
    assert link.closed


def test_limits_leave_the_host_never(link):
    with pytest.raises(LimitError):
        ChannelSettings(full_scale=1000.0)
    assert link.sent == []


def test_unreadable_answer_names_instrument_and_query(link, scope):
    link.answers["*IDN?"] = "something"
    with pytest.raises(ProtocolError, match=r"scope \(TCPIP.*vendor.*command: \*IDN\?"):
        scope.identity()


def test_ascii_values_that_do_not_fit_the_preamble(link, scope):
    link.preambles["CHANnel1"] = [PREAMBLE.replace("+1,+3", "+4,+3")]
    link.data["CHANnel1"] = b"1.0,2.0"
    with pytest.raises(CaptureError, match="announces 4 values, 2 came") as caught:
        finished(scope).fetch_values("CHAN1")
    assert caught.value.command == ":WAVeform:DATA?"
