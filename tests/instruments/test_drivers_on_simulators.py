"""Drivers against the simulated bench as a program of its own, over each transport it serves."""

from __future__ import annotations

import contextlib
import json
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from instruments.e3645a import E3645A, SupplyLimits
from instruments.errors import CaptureError, LimitError, LinkError, LinkTimeout, ScpiError, SettingError
from instruments.link import Link, ReplayLink, Transcript
from instruments.marker_line import SimulatedLine
from instruments.mso_x2024a import ChannelSettings, EdgeTrigger, MsoX2024A, next_full_scale

LAB = Path(__file__).parents[2] / "lab.yaml"
WINDOW_S = 0.05


@pytest.fixture(scope="module")
def bench(tmp_path_factory) -> Iterator[tuple[dict, Path]]:
    folder = tmp_path_factory.mktemp("bench")
    command = [sys.executable, "-m", "instruments.simulated", "--lab", str(LAB), "--seed", "7"]
    with subprocess.Popen(
        [*command, "--state-dir", str(folder), "--until-stdin-closes"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        try:
            yield json.loads(process.stdout.readline()), folder
        finally:
            process.stdin.close()
            process.wait(200)


@pytest.fixture
def marker(bench) -> Iterator[SimulatedLine]:
    line = SimulatedLine(str(bench[1] / "markers.ring"))
    line.gate(False)
    yield line
    line.gate(False)
    line.close()


@pytest.fixture(params=["socket", "vxi11", "hislip"])
def scope(request, bench) -> Iterator[MsoX2024A]:
    with Link.open("scope", bench[0]["scope"][request.param]) as link:
        yield prepared(link)


@pytest.fixture
def socket_scope(bench) -> Iterator[MsoX2024A]:
    with Link.open("scope", bench[0]["scope"]["socket"]) as link:
        yield prepared(link)


@pytest.fixture(params=["prologix", "serial"])
def supply(request, bench) -> Iterator[E3645A]:
    with Link.open("supply", bench[0]["supply"][request.param]) as link:
        supply = E3645A(link, SupplyLimits(13.0, 2.2, 14.0))
        supply.remote()
        supply.errors()
        yield supply
        supply.safe_off()


def prepared(link: Link) -> MsoX2024A:
    scope = MsoX2024A(link)
    scope.stop()
    scope.errors()
    scope.expect_identity()
    scope.configure_channel(1, ChannelSettings(next_full_scale(2.0, 10.0), 0.5, units="A", probe_ratio=10.0))
    scope.configure_channel(3, ChannelSettings(next_full_scale(14.0, 10.0), 6.0, probe_ratio=10.0))
    scope.switch_off_channel(2)
    scope.switch_off_channel(4)
    scope.configure_digital([0, 1], 1.65)
    scope.configure_timebase(WINDOW_S)
    scope.configure_acquisition("HRES")
    scope.configure_trigger(EdgeTrigger("DIG0", "POS"))
    return scope


def test_capture_follows_the_marker_lines(scope, marker):
    for _ in range(20):
        number = scope.arm()
        risen = time.monotonic()
        marker.gate(True)
        time.sleep(0.01)
        marker.batch()
        took_s = time.monotonic() - risen
        scope.wait_done(30.0)
        capture = scope.fetch(["CHAN1", "CHAN3", "POD1"], points=10_000, min_points=5000)
        marker.gate(False)
        if took_s < 0.8 * WINDOW_S:  # else others have used the machine, and the window was over
            break
    assert capture.number == number
    assert capture.duration_s == pytest.approx(WINDOW_S, rel=0.1)
    gate = capture["POD1"].bit(0)
    at_trigger = int(np.searchsorted(capture.time_s(), 0.0))
    assert abs(int(np.argmax(gate)) - at_trigger) <= 2
    assert int(np.count_nonzero(np.diff(capture["POD1"].bit(1).astype(np.int8)))) == 1
    assert (capture["CHAN1"].units, capture["CHAN3"].units) == ("A", "V")
    assert not capture["CHAN1"].clipped().any()
    assert np.isfinite(capture["CHAN3"].values()).all()
    assert scope.errors() == []


def test_no_capture_returns_an_older_record(scope, marker):
    scope.arm()
    scope.force_trigger()
    scope.wait_done(30.0)
    first = scope.fetch(["CHAN1"], points=1000)
    scope.arm()
    with pytest.raises(CaptureError, match="no trigger") as caught:
        scope.wait_done(0.05)
    assert caught.value.reason == "no-trigger"
    with pytest.raises(CaptureError, match="no finished"):
        scope.fetch(["CHAN1"], points=1000)
    scope.force_trigger()
    with pytest.raises(CaptureError, match="no finished"):
        scope.fetch(["CHAN1"], points=1000)
    scope.wait_done(30.0)
    second = scope.fetch(["CHAN1"], points=1000)
    assert (first.number, second.number) == (1, 2)
    assert first["CHAN1"] != second["CHAN1"]
    assert scope.fetch(["CHAN1"], points=1000)["CHAN1"] == second["CHAN1"]


def test_stop_and_run_behind_our_back(scope, bench):
    with Link.open("panel", bench[0]["scope"]["socket"]) as panel:
        scope.arm()
        panel.write(":STOP")
        panel.query("*OPC?")
        with pytest.raises(CaptureError) as caught:
            scope.wait_done(30.0)
        assert caught.value.reason == "stopped"
        scope.arm()
        scope.force_trigger()
        scope.wait_done(30.0)
        panel.write(":RUN")
        panel.query("*OPC?")
        with pytest.raises(CaptureError) as caught:
            scope.fetch(["CHAN1"])
        assert caught.value.reason == "stale"
        panel.write(":STOP")


def test_all_formats_agree(scope):
    scope.arm()
    scope.force_trigger()
    scope.wait_done(30.0)
    word = scope.fetch(["CHAN1", "POD1"], points=1000)
    big = scope.fetch(["CHAN1", "POD1"], points=1000, byte_order="MSBFirst")
    assert (big["CHAN1"], big["POD1"]) == (word["CHAN1"], word["POD1"])
    signed = scope.fetch(["CHAN1"], points=1000, unsigned=False)
    assert np.array_equal(signed["CHAN1"].values(), word["CHAN1"].values())
    byte = scope.fetch(["CHAN1"], points=1000, format="BYTE")
    step_a = byte["CHAN1"].preamble.y_increment
    assert np.abs(byte["CHAN1"].values() - word["CHAN1"].values()).max() <= step_a
    preamble, values = scope.fetch_values("CHAN1", 1000)
    assert preamble.points == 1000
    assert np.abs(values - word["CHAN1"].values()).max() < 1e-3 * step_a + 1e-5


def test_settings_survive_as_a_learn_string(scope):
    setup = scope.setup()
    before = scope.settings()
    scope.configure_timebase(0.2)
    scope.restore(setup)
    assert scope.settings() == before


def test_errors_name_the_command(scope):
    scope.link.write(":NONSENSE 1")
    with pytest.raises(ScpiError, match="NONSENSE") as caught:
        scope.check_errors(":NONSENSE 1")
    assert caught.value.code == -113
    with pytest.raises(LinkTimeout) as late:
        scope.link.query(":NONSENSE?", 0.1)
    assert any("-113" in entry for entry in late.value.queue)
    assert scope.errors() == []


def test_scale_between_the_steps_is_refused_or_taken_exactly(scope):
    with contextlib.suppress(SettingError):
        got = scope.configure_channel(3, ChannelSettings(full_scale=13.0))
        assert got.full_scale == pytest.approx(13.0, rel=0.01)


def test_digitize_without_trigger_is_cleared_where_the_transport_can(bench):
    for transport in ("vxi11", "hislip"):
        with Link.open("scope", bench[0]["scope"][transport]) as link:
            scope = prepared(link)
            with pytest.raises(LinkTimeout):
                scope.digitize(["CHAN1"], 0.2)
            assert scope.errors() == []
    with Link.open("scope", bench[0]["scope"]["socket"]) as link:
        scope = prepared(link)
        with pytest.raises(LinkError, match="broken"):
            scope.digitize(["CHAN1"], 0.2)
        link.reopen()
        scope.stop()
        scope.errors()
        assert scope.identity().model == "MSO-X 2024A"


def test_transcript_of_a_capture_replays(bench, tmp_path):
    path = tmp_path / "capture.jsonl"

    def capture(link):
        scope = prepared(link)
        scope.arm(5.0, poll_s=0.1)
        scope.force_trigger()
        time.sleep(2 * WINDOW_S)
        scope.wait_done(30.0, poll_s=0.1)
        return scope.fetch(["CHAN1", "CHAN3", "POD1"], points=1000)

    with (
        Transcript(path, origin="simulated", full_blocks=True) as transcript,
        Link.open("scope", bench[0]["scope"]["socket"], transcript=transcript) as link,
    ):
        live = capture(link)
    with ReplayLink(path, "scope") as link:
        replayed = capture(link)
    assert dict(live.records) == dict(replayed.records)


def test_supply_in_order(supply):
    supply.expect_identity(serial="0")
    supply.set_ovp(13.5)
    supply.set_range("P35V")
    supply.set_current_limit(2.0)
    supply.set_voltage(12.0)
    supply.output(True)
    assert supply.wait_settled() == pytest.approx(12.0, abs=0.03)
    assert supply.mode() == "CV"
    assert 0 <= supply.measure_current_a() < 2.0
    assert supply.apply(11.5, 1.9) == pytest.approx((11.5, 1.9), abs=0.01)
    assert supply.ramp(12.0, dwell_s=0.0) == pytest.approx(12.0, abs=0.01)
    supply.display_text("MEASURING")
    supply.display_text(None)
    supply.set_triggered(11.0, 1.0)
    supply.trigger()
    assert supply.voltage_v() == pytest.approx(11.0, abs=0.01)
    supply.save_state(2)
    supply.output(False)
    supply.recall_state(2)
    assert supply.mode() == "OFF"
    assert not supply.ovp_tripped()
    assert supply.errors() == []


def test_supply_refuses_before_sending(supply):
    supply.set_range("P60V")
    with pytest.raises(LimitError):
        supply.set_voltage(13.1)
    with pytest.raises(LimitError, match="P60V"):
        supply.set_current_limit(1.5)
    supply.set_range("P35V")
    assert supply.errors() == []


def test_supply_after_a_lost_answer(supply):
    supply.set_voltage(5.0)
    supply.output(True)
    with pytest.raises(LinkTimeout):
        supply.link.query("NONSENSE?", 0.1)
    assert supply.output_is_on()
    with pytest.raises(LinkTimeout):
        supply.link.query("MEASure:VOLTage?", 0.005)
    assert supply.output_is_on()
    supply.safe_off()
    assert not supply.output_is_on()


def test_scope_and_supply_from_two_threads(socket_scope, bench):
    failures: list[BaseException] = []

    def watch() -> None:
        try:
            with Link.open("supply", bench[0]["supply"]["prologix"]) as link:
                for _ in range(5):
                    E3645A(link, SupplyLimits(13.0, 2.2)).measure_voltage_v()
        except BaseException as error:
            failures.append(error)

    thread = threading.Thread(target=watch)
    thread.start()
    for _ in range(3):
        socket_scope.arm()
        socket_scope.force_trigger()
        socket_scope.wait_done(30.0)
        socket_scope.fetch(["CHAN1"], points=1000)
    thread.join()
    assert failures == []
