"""The oscilloscope gets its settings back on every way out, also over a link that broke; else the user is told how."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Iterator
from pathlib import Path

import pytest

from instruments.bench import Bench, open_bench
from instruments.errors import BenchError, LinkError
from instruments.interrupts import Interrupted
from instruments.link import Link
from instruments.link.ports import StreamPort
from instruments.mso_x2024a import ChannelSettings, MsoX2024A, driver
from instruments.simulated.faults import Fault
from tests.faults.benches import FaultyBench, capture, faulty_bench, set_up


@pytest.fixture
def hurt(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[FaultyBench]:
    monkeypatch.setattr(StreamPort, "recovery_s", 20.0)
    with faulty_bench(tmp_path) as bench:
        yield bench


def settings(hurt: FaultyBench, *, prepare: bool = False) -> tuple[dict[str, str], bool]:
    """What the oscilloscope is set to, and whether it runs."""
    with Link.open("scope", hurt.resources("scope")) as link:
        scope = MsoX2024A(link)
        if prepare:
            scope.stop()
            scope.errors()
            scope.configure_channel(2, ChannelSettings(1.6, 0.3))
            scope.configure_timebase(0.05, "CENTer")
            scope.run()
        return scope.settings(), scope.state().running


def changed(hurt: FaultyBench, bench: Bench) -> None:
    """Set the oscilloscope up for a capture, as a sweep does, and make one."""
    bench.scope_changed = True
    set_up(bench.scope)
    capture(hurt, bench.scope)


@pytest.mark.parametrize("way_out", [None, BenchError("the zero cannot be used"), Interrupted(), ValueError("a bug")])
def test_settings_come_back_whatever_ends_the_work(hurt: FaultyBench, way_out: BaseException | None) -> None:
    before = settings(hurt, prepare=True)
    with (
        contextlib.suppress(BenchError, Interrupted, ValueError),
        open_bench(hurt.lab, hurt.lab_path) as bench,
    ):
        changed(hurt, bench)
        if way_out is not None:
            raise way_out
    assert settings(hurt) == before
    assert before[1]


def test_settings_come_back_over_a_new_connection_when_the_old_one_broke(hurt: FaultyBench) -> None:
    before = settings(hurt, prepare=True)

    def work() -> None:
        with open_bench(hurt.lab, hurt.lab_path) as bench:
            changed(hurt, bench)
            hurt.hurt("scope", Fault("reset", "WAVeform:DATA", at_byte=17))
            capture(hurt, bench.scope)

    with pytest.raises(LinkError, match="broken"):
        work()
    assert settings(hurt) == before


def test_what_cannot_be_put_back_is_told_with_the_command_that_does(
    hurt: FaultyBench, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    with caplog.at_level(logging.WARNING), open_bench(hurt.lab, hurt.lab_path) as bench:
        changed(hurt, bench)
        monkeypatch.setattr(driver, "SETUP_S", 0.3)
        hurt.hurt("scope", Fault("drop", r"\*OPC", times=0))
    assert "settings could not be put back" in caplog.text
    assert "python -m experiments.restore_scope TRACE" in caplog.text
