"""What a model has, and what a window will cost in rate and points: said before the capture."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from instruments.errors import ConfigError
from instruments.mso_x2024a import MSO_X_2024A, Capabilities, EdgeTrigger, MsoX2024A, plan_acquisition
from instruments.mso_x2024a.plan import points_step

from .scripted_instruments import FakeLink

# -- models ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("model", "channels", "lines", "bandwidth_hz", "memory"),
    [
        ("MSO-X 2024A", 4, 8, 200e6, 100_000),
        ("mso-x 2024a", 4, 8, 200e6, 100_000),
        ("DSO-X 2012A", 2, 0, 100e6, 100_000),
        ("MSO-X 2002A", 2, 8, 70e6, 100_000),
        ("MSO-X 3024A", 4, 16, 200e6, 2_000_000),
        ("DSO-X 3034A", 4, 0, 350e6, 2_000_000),
        ("MSO-X 3102A", 2, 16, 1e9, 2_000_000),
        ("MSO-X 3054T", 4, 16, 500e6, 4_000_000),
        ("MSOX3104T", 4, 16, 1e9, 4_000_000),
    ],
)
def test_capabilities_by_model(model: str, channels: int, lines: int, bandwidth_hz: float, memory: int) -> None:
    found = Capabilities.of(model)
    assert (found.analog_channels, found.digital_channels) == (channels, lines)
    assert (found.bandwidth_hz, found.memory_points, found.hres_bits) == (bandwidth_hz, memory, 12)
    assert Capabilities.of(model, 1_000_000).memory_points == 1_000_000


@pytest.mark.parametrize(
    "model", ["MSO-X 4024A", "DSOX1204G", "MSO-X 2034A", "MSO-X 2024T", "MSO-X 2023A", "E3645A", ""]
)
def test_unknown_models_are_refused_with_the_known_ones_or_likened_to_one(model: str) -> None:
    with pytest.raises(ConfigError, match=r"not known.*2022A/2024A \(2000 X\).*3102T/3104T.*scope\.like"):
        Capabilities.of(model)
    alike = Capabilities.of(model, like="MSO-X 3024A")
    assert (alike.model, alike.digital_channels) == (model.upper(), 16)
    with pytest.raises(ConfigError, match="not known"):
        Capabilities.of(model, like="another")


def test_the_memory_option_is_seen_where_it_is_not_reckoned_with() -> None:
    options = ("MSO", "MEMUP", "SGM", "BW10")
    assert Capabilities.of("MSO-X 2024A").more_memory(options) == 1_000_000
    assert Capabilities.of("MSO-X 2024A", 1_000_000).more_memory(options) is None
    assert Capabilities.of("MSO-X 2024A").more_memory(("MSO", "0")) is None
    assert Capabilities.of("MSO-X 3024A").more_memory(options) is None


def scope_of(model: str) -> tuple[MsoX2024A, FakeLink]:
    link = FakeLink()
    link.answers["*IDN?"] = f"KEYSIGHT TECHNOLOGIES,{model},MY1,1.0"
    return MsoX2024A(link), link


def test_the_driver_holds_to_what_the_model_has() -> None:
    scope, link = scope_of("MSO-X 2002A")
    assert scope.capabilities().analog_channels == 2
    link.sent.clear()
    for refused in (
        lambda: scope.switch_off_channel(3),
        lambda: scope.configure_trigger(EdgeTrigger("CHAN3", level_v=0.0)),
        lambda: scope.fetch(["CHAN4"]),
        lambda: scope.configure_digital([8]),
    ):
        with pytest.raises(ConfigError, match="expected"):
            refused()
    assert link.sent == []
    assert not any("CHANnel3" in key for key in scope.settings())


def test_sixteen_lines_on_two_pods() -> None:
    scope, link = scope_of("MSO-X 3024A")
    with pytest.raises(ConfigError, match="0 to 7"):
        scope.configure_digital([9])  # not before it has said what it is
    scope.capabilities()
    link.store.update({":POD1:THReshold": "1.4", ":POD2:THReshold": "1.4"})
    assert scope.configure_digital([0, 9, 15], "TTL").bits == (0, 9, 15)
    shown = [bit for bit in range(16) if link.store[f":DIGital{bit}:DISPlay"] == "1"]
    assert shown == [0, 9, 15]
    scope.configure_digital([8])
    assert (link.store[":POD1:DISPlay"], link.store[":POD2:DISPlay"]) == ("0", "1")
    scope.configure_trigger(EdgeTrigger("DIG15"))
    assert link.store[":TRIGger:EDGE:SOURce"] == "DIGital15"
    scope.switch_off_digital()
    assert link.store[":POD2:DISPlay"] == "0"
    assert "POD2:THReshold" in scope.settings()


def test_a_model_without_digital_lines() -> None:
    scope, _ = scope_of("DSO-X 2024A")
    scope.capabilities()
    with pytest.raises(ConfigError, match="an MSO has"):
        scope.configure_digital([0])
    with pytest.raises(ConfigError, match="CHAN1 to CHAN4 is expected on this DSO-X 2024A"):
        scope.fetch(["POD1"])


# -- plans --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("points", "step"),
    [(100, 100), (249, 200), (250, 250), (2500, 2000), (99_999, 50_000), (100_000, 100_000), (62_500, 50_000)],
)
def test_lengths_of_the_list(points: int, step: int) -> None:
    assert points_step(points) == step


def test_too_short_a_record() -> None:
    with pytest.raises(ConfigError, match="100 points"):
        points_step(99)


@pytest.mark.parametrize(
    ("sources", "memory", "acquired", "points", "rate_hz"),
    [
        (["CHAN1"], 100_000, 100_000, 100_000, 50e3),
        (["CHAN1", "CHAN3"], 100_000, 100_000, 100_000, 50e3),
        (["CHAN1", "CHAN2"], 100_000, 50_000, 50_000, 25e3),
        (["CHAN1", "CHAN3", "POD1"], 100_000, 50_000, 50_000, 25e3),
        (["CHAN1"], 1_000_000, 1_000_000, 100_000, 50e3),
        (["CHAN1", "CHAN3", "POD1"], 1_000_000, 500_000, 100_000, 50e3),
    ],
)
def test_two_seconds_at_50_kilosamples(
    sources: list[str], memory: int, acquired: int, points: int, rate_hz: float
) -> None:
    plan = plan_acquisition(2.0, sources, memory, points=100_000)
    assert (plan.time_range_s, plan.acquired_points, plan.points) == (2.0, acquired, points)
    assert plan.rate_hz == pytest.approx(rate_hz)
    assert any("halved" in note for note in plan.notes) is (acquired in (50_000, 500_000))
    assert any("can vanish" in note for note in plan.notes) is (acquired > points)
    assert any("were wanted" in note for note in plan.notes) is plan.short is (points < 100_000)
    assert bool(plan.choices) is plan.short
    assert plan_acquisition(2.0, sources, memory, rate_hz=50e3).points == points


def test_as_many_points_as_fit() -> None:
    assert plan_acquisition(1.7, ["CHAN1"], 1_000_000).points == 1_000_000
    assert plan_acquisition(1e-6, ["CHAN1"], 1_000_000).acquired_rate_hz == 2e9
    big = Capabilities.of("MSO-X 3024A")
    assert plan_acquisition(2.0, ["CHAN1", "POD2"], capabilities=big).points == 1_000_000


def test_what_can_be_done_where_the_memory_is_short() -> None:
    plan = plan_acquisition(2.0, ["CHAN1", "CHAN3", "POD1"], 100_000, rate_hz=50e3)
    kinds = {choice.kind: choice for choice in plan.choices}
    assert (kinds["slower"].rate_hz, kinds["slower"].points) == (25e3, 50_000)
    assert (kinds["consecutive"].acquisitions, kinds["consecutive"].time_range_s) == (2, 1.0)
    assert kinds["consecutive"].points * 2 == plan.wanted_points
    assert (kinds["memory"].points, kinds["memory"].rate_hz) == (100_000, 50e3)
    pair = plan_acquisition(2.0, ["CHAN1", "CHAN2"], 100_000, rate_hz=50e3)
    assert "one channel of each pair" in pair.lines()[-2]
    alone = plan_acquisition(2.0, ["CHAN1", "POD1"], 100_000, rate_hz=50e3)
    assert any("free analogue channels" in choice.text for choice in alone.choices)


def test_a_minute_without_a_gap_longer_than_a_transfer() -> None:
    plan = plan_acquisition(60.0, ["CHAN1", "CHAN3", "POD1"], 1_000_000, rate_hz=50e3)
    (parts,) = (choice for choice in plan.choices if choice.kind == "consecutive")
    assert (parts.acquisitions, parts.time_range_s, parts.points) == (6, 10.0, 500_000)


@pytest.mark.parametrize(
    ("window_s", "sources", "wanted"),
    [
        (0.0, ["CHAN1"], {}),
        (1.0, [], {}),
        (501.0, ["CHAN1"], {}),
        (5e-8, ["POD1"], {}),
        (1.0, ["CHAN5"], {}),
        (1.0, ["POD2"], {}),
        (1.0, ["CHAN1"], {"rate_hz": 3e9}),
        (1.0, ["CHAN1"], {"rate_hz": 0.0}),
        (1.0, ["CHAN1"], {"rate_hz": 1e3, "points": 1000}),
        (float("nan"), ["CHAN1"], {}),
    ],
)
def test_windows_that_cannot_be(window_s: float, sources: list[str], wanted: dict[str, float]) -> None:
    with pytest.raises(ConfigError):
        plan_acquisition(window_s, sources, 100, **wanted)  # type: ignore[arg-type]


@given(
    st.floats(1e-6, 500.0),
    st.sampled_from([100_000, 1_000_000]),
    st.sampled_from([("CHAN1",), ("CHAN1", "POD1"), ("CHAN1", "CHAN2", "CHAN3"), ("CHAN3", "DIG0")]),
    st.one_of(st.none(), st.floats(100.0, 2e9)),
)
def test_plans_hold_their_window_and_memory(
    window_s: float, memory: int, sources: tuple[str, ...], rate_hz: float | None
) -> None:
    try:
        plan = plan_acquisition(window_s, sources, memory, rate_hz=rate_hz)
    except ConfigError:
        assert rate_hz is not None  # fewer than 100 points at that rate
        assert rate_hz * window_s < 250
        return
    assert plan.time_range_s >= window_s * (1 - 1e-6)
    assert plan.points <= plan.acquired_points <= memory
    assert plan.rate_hz == pytest.approx(plan.points / plan.time_range_s)
    for choice in plan.choices:
        covered_s = choice.acquisitions * choice.time_range_s
        assert covered_s >= window_s * (1 - 1e-6)
        assert choice.points <= MSO_X_2024A.memory_points * 10
        assert choice.rate_hz == pytest.approx(choice.points / choice.time_range_s, rel=0.01)
        if choice.kind == "consecutive":
            assert choice.rate_hz == pytest.approx(plan.wanted_points / plan.time_range_s)  # type: ignore[operator]


# -- the command --------------------------------------------------------------------------------------------------


def plan_command(*args: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "instruments.mso_x2024a", *args], capture_output=True, text=True, timeout=200
    )


def test_the_command_says_what_will_come_and_what_to_do() -> None:
    short = plan_command("--memory", "100000", "--rate", "50000")
    assert short.returncode == 1, short.stderr
    assert short.stdout.splitlines()[0].startswith("2 s on the screen: 50000 points at 25 kSa/s expected")
    assert sum(line.startswith("choice: ") for line in short.stdout.splitlines()) == 3
    good = plan_command("--memory", "1000000", "--json")
    assert good.returncode == 0, good.stderr
    assert json.loads(good.stdout)["points"] == 100_000
    unknown = plan_command("--model", "DPO 7000")
    assert (unknown.returncode, unknown.stdout) == (2, "")
    assert unknown.stderr.startswith("error: model 'DPO 7000' is not known")
