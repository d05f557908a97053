"""What docs/adding.md adds to a board, driven through the doors it uses."""

from __future__ import annotations

import os
import pty
import select
import tty
from pathlib import Path
from types import ModuleType

import pytest

from experiments import dut_sensors
from instruments import marker_line
from tests.docs.pages import blocks
from tests.sweeps import ROOT


@pytest.fixture
def board(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """The page's my_board.py, imported; what it has registered is taken back."""
    (text,) = [b.text for b in blocks(ROOT / "docs/adding.md") if b.file == "my_board.py"]
    monkeypatch.setattr(marker_line, "OWN_KINDS", kinds := dict[str, object]())
    monkeypatch.setattr(dut_sensors, "OWN_SENSORS", sensors := list[object]())
    monkeypatch.chdir(tmp_path)
    module = ModuleType("my_board")
    exec(compile(text, "my_board.py", "exec"), module.__dict__)
    assert list(kinds) == ["letters"]
    assert len(sensors) == 1
    return module


def test_the_pages_line_writes_its_letters(board: ModuleType) -> None:
    ours, theirs = pty.openpty()
    tty.setraw(theirs)
    line = marker_line.open_line(f"letters:{os.ttyname(theirs)}")
    line.gate(True)
    for _ in range(3):
        line.batch()
    line.gate(False)
    line.close()
    line.close()
    expected = b"gb" + b"G" + b"BbB" + b"g" + b"gb"
    written = b""
    while len(written) < len(expected):  # a terminal gives what has come through so far
        assert select.select([ours], [], [], 5.0)[0], written
        written += os.read(ours, 100)
    assert written == expected
    assert not select.select([ours], [], [], 0.05)[0]
    os.close(ours)
    os.close(theirs)


def test_the_pages_line_says_what_it_cannot_open(board: ModuleType) -> None:
    with pytest.raises(marker_line.MarkerError, match="/nowhere cannot be opened"):
        marker_line.open_line("letters:/nowhere")


def test_an_unknown_kind_is_still_refused(board: ModuleType) -> None:
    with pytest.raises(marker_line.MarkerError, match="is not understood"):
        marker_line.open_line("ledders:/dev/null")


def test_the_pages_sensor_is_read_and_can_be_watched(board: ModuleType, tmp_path: Path) -> None:
    assert "fan power" not in dut_sensors.read()
    assert dut_sensors.find_meter("fan power") is None
    (tmp_path / "fan_mw").write_text("730\n")
    assert dut_sensors.read()["fan power"] == {
        "quantity": "power", "value": 0.73, "unit": "W", "source": "the fan's monitor",
    }  # fmt: skip
    found = dut_sensors.find_meter("fan power")
    assert found is not None
    assert found[:2] == ("fan power", "W")
    (tmp_path / "fan_mw").write_text("810\n")
    assert found[3]() == 0.81
