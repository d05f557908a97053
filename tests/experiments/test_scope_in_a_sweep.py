"""What a sweep does with the oscilloscope beyond its captures: plan, picture, settings put back, the clamp's prompt."""

from __future__ import annotations

import os
import pty
import select
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from experiments.traces import TraceReader
from instruments import lab as lab_yaml
from instruments import scope_facts
from instruments.errors import ConfigError
from instruments.link import Link
from instruments.mso_x2024a import ChannelSettings, EdgeTrigger, MsoX2024A
from instruments.waveform import Preamble, Record
from tests.sweeps import QUICK, ROOT, lab_file, run, run_undrawn, served_bench, start

# --- before it ------------------------------------------------------------------------------------


def test_a_dry_run_says_what_the_oscilloscope_will_give(tmp_path: Path) -> None:
    good = run("experiments.power_sweep", "--dry-run", *QUICK)
    assert "oscilloscope: 0.5 s on the screen: 100000 points at 200 kSa/s expected" in good.stdout
    assert "choice" not in good.stdout
    short = lab_file(tmp_path, ("memory_points: 1000000 ", "memory_points: 100000 "))
    found = run("experiments.power_sweep", "--dry-run", "--lab", short, "--networks", "busy:4").stdout
    assert "oscilloscope: 2 s on the screen: 50000 points at 25 kSa/s expected" in found
    assert "oscilloscope: choice: 2 consecutive acquisitions of 1 s, 50000 points each at 50 kSa/s" in found


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        (("model: MSO-X 2024A", "model: DSO-X 2024A"), "scope.model: source 'POD1': CHAN1 to CHAN4 is expected"),
        (("model: MSO-X 2024A", "model: MSO-X 2002A"), "wiring.voltage.channel: source 'CHAN3': CHAN1 to CHAN2"),
        (("model: MSO-X 2024A", "model: MSO-X 6004A"), "scope.model: model 'MSO-X 6004A' is not known"),
    ],
)
def test_a_model_that_cannot_do_it_is_refused_first(tmp_path: Path, change: tuple[str, str], complaint: str) -> None:
    done = run("experiments.power_sweep", "--dry-run", "--lab", lab_file(tmp_path, change), *QUICK)
    assert done.returncode == 2
    assert complaint in done.stderr
    assert "Traceback" not in done.stderr


def test_an_unknown_model_may_be_like_a_known_one(tmp_path: Path) -> None:
    lab = lab_yaml.load(lab_file(tmp_path, ("model: MSO-X 2024A", "model: MSO-X 6004A\n  like: MSO-X 3024A")))
    has = scope_facts.capabilities(lab)
    assert (has.model, has.digital_channels, has.memory_points) == ("MSO-X 6004A", 16, 1_000_000)
    with pytest.raises(ConfigError, match="not known"):
        scope_facts.capabilities(
            lab_yaml.load(lab_file(tmp_path, ("model: MSO-X 2024A", "model: X\n  like: Y"), name="other.yaml"))
        )


def test_a_current_beyond_the_clamp_is_told_though_the_channel_shows_it(tmp_path: Path) -> None:
    lab = lab_yaml.load(lab_file(tmp_path, ("turns: 1", "turns: 10"), ("high_a: 1.4", "high_a: 0.9")))
    preamble = Preamble(1, 3, 3, 1, 2e-5, 0.0, 0.0, 1e-4, 0.0, 32768.0)
    for peak_a, beyond in ((0.99, 0), (1.01, 1)):
        codes = np.array([32768, 32768 + round(peak_a / 1e-4), 32768], dtype=np.uint16)
        reason = scope_facts.beyond_the_clamp(lab, Record("CHAN1", preamble, codes, "A"))
        assert reason.startswith(f"{beyond} samples of the current are beyond the 1 A") is bool(beyond)
        assert bool(reason) is bool(beyond)


# --- during and after it ----------------------------------------------------------------------------


def found_settings(scope: MsoX2024A) -> dict[str, str]:
    """Leave the oscilloscope as somebody else would, running; give its settings."""
    scope.stop()
    scope.errors()
    scope.configure_channel(2, ChannelSettings(1.6, 0.3, label="mine"))
    scope.configure_timebase(0.05, "CENTer")
    scope.configure_trigger(EdgeTrigger("CHAN2", level_v=0.5))
    scope.run()
    return scope.settings()


def test_the_screen_is_kept_and_the_settings_come_back(tmp_path: Path) -> None:
    out = tmp_path / "run"
    with served_bench(tmp_path) as (lab, addresses):
        with Link.open("scope", addresses["scope"]["vxi11"]) as link:
            before = found_settings(MsoX2024A(link))
        done = run_undrawn("experiments.power_sweep", "--lab", lab, *QUICK, "--out", out)
        assert done.returncode == 0, done.stderr
        with Link.open("scope", addresses["scope"]["vxi11"]) as link:
            scope = MsoX2024A(link)
            assert scope.settings() == before
            assert scope.state().running
    with TraceReader(out / "trace.h5") as reader:
        picture = reader.blob("scope_screen")
        assert reader.json("settings")["clamp"]["before_zero"] == "skipped: simulated bench"
    assert picture.startswith(b"\x89PNG")
    assert (out / "scope_screen.png").read_bytes() == picture
    again = run_undrawn("experiments.replay", out / "trace.h5", "--out", tmp_path / "again")
    assert again.returncode == 0, again.stderr
    assert (tmp_path / "again" / "scope_screen.png").read_bytes() == picture


def until(process: subprocess.Popen[str], text: str) -> str:
    """Read its standard error until a text has come."""
    assert process.stderr is not None
    seen = ""
    while text not in seen:
        line = process.stderr.readline()
        assert line, seen
        seen += line
    return seen


def test_without_a_screen_a_sweep_goes_on(tmp_path: Path) -> None:
    fault = "simulation:\n  faults: {scope: [{kind: replace, matching: 'DISP.*DATA', data: \"#10\\n\", times: 0}]}\n"
    lab = lab_file(tmp_path, ("simulation:\n", fault))
    process = start("experiments.power_sweep", "--lab", lab, *QUICK, "--out", tmp_path / "run")
    until(process, "no picture of the oscilloscope's screen: scope (")
    assert "mJ/image" in until(process, "[1/1]")
    process.send_signal(signal.SIGINT)
    process.communicate(timeout=200)
    with TraceReader(tmp_path / "run" / "trace.h5") as reader:
        assert reader.blob("scope_screen") == b""
        assert [cell["state"] for cell in reader.cells()] == ["committed"]


def test_settings_are_put_back_when_a_sweep_is_ended_or_by_hand(tmp_path: Path) -> None:
    with served_bench(tmp_path) as (lab, addresses):

        def settings() -> dict[str, str]:
            with Link.open("scope", addresses["scope"]["vxi11"]) as link:
                return MsoX2024A(link).settings()

        with Link.open("scope", addresses["scope"]["vxi11"]) as link:
            before = found_settings(MsoX2024A(link))
        for number in (signal.SIGTERM, signal.SIGKILL):
            out = tmp_path / number.name
            process = start("experiments.power_sweep", "--lab", lab, *QUICK, "--out", out)
            until(process, "idle baseline")
            process.send_signal(number)
            process.communicate(timeout=200)
            assert (settings() == before) is (number == signal.SIGTERM)
        by_hand = run("experiments.restore_scope", out / "trace.h5", "--lab", lab)
        assert by_hand.returncode == 0, by_hand.stderr
        assert "bytes of settings put back" in by_hand.stdout
        assert settings() == before
        assert run("experiments.restore_scope", out / "trace.h5", "--lab", lab, "--used").returncode == 0
        assert settings()["TRIGger:EDGE:SOURce"] == "DIG0"
        text = lab.read_text()
        for spoilt, complaint, code in (
            (text.replace("model: MSO-X 2024A", "model: MSO-X 3024A"), "holds the settings of a MSO-X 2024A", 2),
            (text.replace("serial: MY00000001", "serial: MY2"), "serial MY2", 3),
        ):
            lab.write_text(spoilt)
            refused = run("experiments.restore_scope", out / "trace.h5", "--lab", lab)
            assert refused.returncode == code, refused.stderr
            assert complaint in refused.stderr
            assert "Traceback" not in refused.stderr


def test_a_simulated_oscilloscope_has_nothing_to_restore(tmp_path: Path) -> None:
    done = run("experiments.restore_scope", tmp_path / "trace.h5")
    assert done.returncode == 2
    assert "scope.resource is simulated" in done.stderr


# --- the person at the bench ----------------------------------------------------------------------


def as_measured(lab: Path) -> Path:
    """The lab file of a served bench as that of a real one: nothing in it says that it is simulated."""
    text = lab.read_text()
    lab.write_text(text[: text.index("simulation:")].replace("marker: simulated", "marker: none     "))
    return lab


def test_a_person_at_a_terminal_is_asked_to_prepare_the_clamp(tmp_path: Path) -> None:
    out = tmp_path / "run"
    with served_bench(tmp_path) as (lab, _):
        command = ["-m", "experiments.power_sweep", "--lab", str(as_measured(lab)), *QUICK, "--out", str(out)]
        controller, terminal = pty.openpty()
        process = subprocess.Popen(
            [sys.executable, *command], cwd=ROOT, stdin=terminal, stdout=terminal, stderr=terminal, close_fds=True
        )
        os.close(terminal)
        try:
            seen = read_until(controller, "press Enter")
            assert "degauss it by hand" in seen
            assert "within 50 mA" in seen
            assert not out.joinpath("results.csv").exists()
            os.write(controller, b"\n")
            read_until(controller, "idle baseline")
            process.send_signal(signal.SIGINT)
            assert process.wait(200) == 130
        finally:
            process.kill()
            os.close(controller)
    with TraceReader(out / "trace.h5") as reader:
        assert reader.json("settings")["clamp"]["before_zero"] == "confirmed at the terminal"


def read_until(controller: int, text: str) -> str:
    seen, deadline = b"", time.monotonic() + 200
    while text.encode() not in seen:
        ready, _, _ = select.select([controller], [], [], max(0.0, deadline - time.monotonic()))
        assert ready, seen
        seen += os.read(controller, 4096)
    return seen.decode("utf-8", "replace")


@pytest.mark.parametrize(("option", "why"), [(["--unattended"], "--unattended"), ([], "no terminal")])
def test_where_nobody_can_answer_the_steps_are_shown_and_taken_as_done(
    tmp_path: Path, option: list[str], why: str
) -> None:
    with served_bench(tmp_path) as (lab, _):
        process = start(
            "experiments.power_sweep", "--lab", as_measured(lab), *QUICK, "--out", tmp_path / "run", *option
        )
        seen = until(process, "zero of both channels") + until(process, "idle baseline")
        process.send_signal(signal.SIGINT)
        process.communicate(timeout=200)
    assert "degauss it by hand" in seen
    assert f"clamp: skipped: {why}; the steps are taken as done" in seen
    with TraceReader(tmp_path / "run" / "trace.h5") as reader:
        assert reader.json("settings")["clamp"]["before_zero"] == f"skipped: {why}"
