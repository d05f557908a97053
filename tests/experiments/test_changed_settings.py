"""Somebody sets the oscilloscope otherwise while a sweep runs: what was recorded then is refused as what it is."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

import h5py
import pytest

from experiments import power_sweep, replay
from experiments.traces import TraceReader
from tests.sweeps import rows, virtual_lab_file

HANDS = {
    10: (":CHANnel1:SCALe 0.02", r"CHANnel1:RANGe is \S+, not \S+"),
    16: (":CHANnel1:INVert ON", "CHANnel1:INVert is 1, not 0"),
    22: (":CHANnel3:COUPling AC", "CHANnel3:COUPling is AC, not DC"),
    28: (":ACQuire:TYPE PEAK", "ACQuire:TYPE is PEAK, not HRES"),
}
"""What a hand sets, after how many blocks of codes, and what is told of it."""


def test_settings_that_are_changed_at_the_front_panel(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    faults = ", ".join(
        f'{{kind: panel, matching: "WAV.*DATA", skip: {skip}, commands: "{commands}"}}'
        for skip, (commands, _) in HANDS.items()
    )
    lab = virtual_lab_file(tmp_path, ("  seed: 1\n", f"  seed: 1\n  faults: {{scope: [{faults}]}}\n"))
    plan = ["--networks", "AlexNet", "--batches", "2", "--repeats", "5", "--window", "0.4"]
    assert power_sweep.main(["--lab", str(lab), *plan, "--out", str(tmp_path / "run")]) == 0
    said = capsys.readouterr().err
    with TraceReader(tmp_path / "run" / "trace.h5") as reader:
        refused = [row for row in reader.captures() if row["state"] == "rejected"]
    assert [row["flags"] for row in refused] == ["settings-changed"] * len(HANDS)
    for row, (_, told) in zip(refused, HANDS.values(), strict=True):
        assert re.search(f"changed during the sweep, at its front panel or by another program: .*{told}", row["reason"])
        assert row["reason"] in said
    for row in rows(tmp_path / "run" / "results.csv"):
        assert (row["outcome"], row["repeats"]) == ("measured", "5")
        assert "settings-changed" not in row["flags"]  # measured again, as it should be
        energy, truth = float(row["energy_per_image_j"]), float(row["true_energy_per_image_j"])
        assert abs(energy - truth) < float(row["energy_per_image_j_u"])


def test_a_timebase_and_a_trigger_that_are_moved_at_the_front_panel_cost_one_try_each(tmp_path: Path) -> None:
    """They are set anew before the next try, and not left as they are for all cells to come."""
    hands = {10: ":TIMebase:SCALe 0.01", 19: ":TRIGger:EDGE:SLOPe NEGative"}
    faults = ", ".join(
        f'{{kind: panel, matching: "WAV.*DATA", skip: {skip}, commands: "{commands}"}}'
        for skip, commands in hands.items()
    )
    lab = virtual_lab_file(tmp_path, ("  seed: 1\n", f"  seed: 1\n  faults: {{scope: [{faults}]}}\n"))
    plan = ["--networks", "AlexNet", "--batches", "2", "--repeats", "4", "--window", "0.4", "--quiet"]
    assert power_sweep.main(["--lab", str(lab), *plan, "--out", str(tmp_path / "run")]) == 0
    with TraceReader(tmp_path / "run" / "trace.h5") as reader:
        refused = [row["flags"] for row in reader.captures() if row["state"] == "rejected"]
    assert refused == ["rejected", "markers-cut"]
    (row,) = rows(tmp_path / "run" / "results.csv")
    assert (row["outcome"], row["repeats"]) == ("measured", "4")


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The trace of two repeats that nobody disturbed."""
    folder = tmp_path_factory.mktemp("whole")
    plan = ["--networks", "AlexNet", "--batches", "2", "--repeats", "2", "--window", "0.4", "--quiet"]
    assert power_sweep.main(["--lab", str(virtual_lab_file(folder)), *plan, "--out", str(folder / "run")]) == 0
    return folder / "run" / "trace.h5"


@pytest.mark.parametrize(("role", "field", "factor"), [(0, "y_increment", 1.002), (1, "y_origin", 1.001)])
def test_a_replay_refuses_a_record_that_was_scaled_otherwise_than_its_sessions_first(
    whole: Path, tmp_path: Path, role: int, field: str, factor: float
) -> None:
    """Too little to be told by the values themselves, as a hand at the panel makes it where no settings are kept."""
    path = Path(shutil.copy(whole, tmp_path / "trace.h5"))
    with TraceReader(path) as reader:
        last = max(k for k, row in enumerate(reader.captures()) if row["kind"] == "cell")
    with h5py.File(path, "r+") as file:
        file[f"captures/{field}"][last, role] *= factor
        del file["captures/row_copy"]  # which would tell of it
    assert replay.main([str(path), "--out", str(tmp_path / "x"), "--results-only", "--quiet"]) == 1
    (row,) = rows(tmp_path / "x" / "results.csv")
    assert (row["repeats"], row["flags"]) == ("1", "settings-changed")
