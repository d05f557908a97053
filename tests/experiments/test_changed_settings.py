"""Somebody sets the oscilloscope otherwise while a sweep runs: what was recorded then is refused as what it is."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from experiments import power_sweep
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
