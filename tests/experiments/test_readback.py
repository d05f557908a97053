"""The limits of another supply's read-back, as lab.yaml gives them, are the reference of a run and of its file."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pytest

from calibration import probe
from calibration.reference import read_back_of
from experiments import power_sweep
from experiments.reduction import reduce_run
from experiments.traces import TraceReader
from instruments.e3645a import READ_BACK
from instruments.errors import ConfigError
from instruments.lab import parse
from tests.sweeps import run_undrawn, virtual_lab_file

OWN = """\
  read_back:
    voltage: {relative: 0.004, absolute: 0.1, step: 0.01}
    current: {relative: 0.02, absolute: 0, step: 0.01}
"""


def components(folder: Path) -> dict[str, Any]:
    """The components of the one row's power, by name."""
    (power,) = (b for b in json.loads((folder / "budgets.json").read_text()) if b["quantity"] == "power_w")
    return {c["name"]: c for c in power["components"]}


def test_a_supply_of_its_own_has_limits_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    lab = virtual_lab_file(tmp_path)
    assert read_back_of(parse(lab.read_text())) == READ_BACK
    lab.write_text(lab.read_text().replace("\nsupply:\n", f"\nsupply:\n{OWN}"))
    options = ["--networks", "AlexNet", "--batches", "4", "--repeats", "1", "--window", "0.5"]
    done = run_undrawn("experiments.power_sweep", "--lab", lab, *options, "--out", tmp_path / "run")
    assert done.returncode == 0, done.stderr
    quietly = ["--quiet", "--budget"]
    done = run_undrawn("experiments.replay", tmp_path / "run/trace.h5", "--out", tmp_path / "again", *quietly)
    assert done.returncode == 0, done.stderr
    assert "current gain, reference" in done.stdout
    assert f"written to {tmp_path / 'again'}: " in done.stdout
    assert done.stderr == ""
    with TraceReader(tmp_path / "run/trace.h5") as reader:  # as if of a day on which such a bench was taken
        lab_of_run = reader.lab()
        other = lab_of_run.supply.model_copy(update={"model": "PSU 9000", "read_back": None})
        monkeypatch.setattr(reader, "lab", lambda: lab_of_run.model_copy(update={"supply": other}))
        assert any("how well the PSU 9000 reads its own output" in note for note in reduce_run(reader).notes)
    for folder in ("run", "again"):
        found = components(tmp_path / folder)
        assert found["current gain, reference"]["u_input"] == pytest.approx(0.02 / math.sqrt(3), rel=1e-9)
        of_voltage = (0.004 + 0.1 / parse(lab.read_text()).supply.voltage_v) / math.sqrt(3)
        assert found["voltage gain, reference"]["u_input"] == pytest.approx(of_voltage, rel=0.01)


@pytest.mark.parametrize(
    "change",
    [("model: E3645A", "model: E3634A"), ("instruments.e3645a:E3645A", "tests.experiments.test_readback:OtherSupply")],
)
def test_a_supply_of_which_nothing_is_promised_is_refused(
    tmp_path: Path, change: tuple[str, str], capsys: pytest.CaptureFixture[str]
) -> None:
    lab = virtual_lab_file(tmp_path, change)
    for program in (power_sweep, probe):
        assert program.main(["--lab", str(lab), "--out", str(tmp_path / "run")]) == 2
        said = capsys.readouterr().err
        assert "reads its own output is not known" in said
        assert "give supply.read_back in lab.yaml" in said
    lab.write_text(lab.read_text().replace("\nsupply:\n", f"\nsupply:\n{OWN}"))
    assert power_sweep.main(["--lab", str(lab), "--dry-run", "--quiet"]) == 0


class OtherSupply:
    """A driver of another supply."""

    safe_off = set_voltage = None


def test_half_of_the_limits_is_a_mistake(tmp_path: Path) -> None:
    lab = virtual_lab_file(tmp_path)
    half = OWN[: OWN.index("    current")]
    with pytest.raises(ConfigError, match=r"supply\.read_back"):
        parse(lab.read_text().replace("\nsupply:\n", f"\nsupply:\n{half}"))
