"""What is exported is what is in the file, with its units, in formats that other programs read."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from experiments import traces
from experiments.traces.__main__ import main
from tests.trace_files import write_run


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_run(tmp_path_factory.mktemp("run") / "trace.h5")


def exported(run: Path, out: Path, *options: str) -> pd.DataFrame:
    """Export and read back as a table, whatever the format."""
    import xarray as xr

    assert main(["export", str(run), "--out", str(out), *options]) == 0
    if out.suffix == ".csv":
        return pd.read_csv(out, keep_default_na=False).rename(columns=lambda title: title.partition(" (")[0])
    if out.suffix == ".parquet":
        return pd.read_parquet(out)
    names = {"time_s": "time [s]", "current_a": "current [A]", "voltage_v": "voltage [V]", "power_w": "power [W]"}
    names["batch_line"] = "batch line"
    if out.suffix == ".npz":
        with np.load(out) as arrays:
            return pd.DataFrame({names.get(name, name): arrays[name] for name in arrays if arrays[name].ndim})
    with xr.open_dataset(out, engine="h5netcdf") as dataset:
        assert dataset["power_w"].attrs["units"] == "W"
        table = dataset.to_dataframe().reset_index().dropna(subset="time_s")
        return table.rename(columns=names)


@pytest.mark.parametrize("ending", ["csv", "parquet", "nc", "npz"])
def test_every_format_holds_the_same_samples(run: Path, tmp_path: Path, ending: str) -> None:
    table = exported(run, tmp_path / f"x.{ending}", "--captures", "2-3", "--start", "-0.001", "--stop", "0.01")
    with traces.open(run) as dataset:
        for capture in (2, 3):
            row = dataset.isel(capture=capture)
            inside = (row.time_s >= -0.001) & (row.time_s < 0.01)
            mine = table[table["capture"] == capture]
            np.testing.assert_allclose(mine["time [s]"], row.time_s[inside], atol=1e-9)
            np.testing.assert_allclose(mine["current [A]"], row.current_a[inside], rtol=1e-8)
            np.testing.assert_allclose(mine["power [W]"], row.power_w[inside], rtol=1e-8)
            np.testing.assert_array_equal(mine["gate"], row.gate[inside])
            assert set(mine["network"]) == {"net"}


def said_of(out: Path) -> dict[str, str]:
    """What a file says of its current: its unit, and whether it is corrected."""
    import pyarrow.parquet as pq
    import xarray as xr

    if out.suffix == ".csv":
        (title,) = (cell for cell in out.read_text().partition("\n")[0].split(",") if cell.startswith("current"))
        unit, _, readings = title.removeprefix("current [").partition("] ")
        return {"units": unit, "readings": readings.strip("()")}
    if out.suffix == ".npz":
        with np.load(out) as arrays:
            told = json.loads(str(arrays["attributes"]))
            assert told["readings"] == str(arrays["readings"])
            assert {"title", "source"} <= told.keys()
            return {"units": "A" if "current_a" in arrays else "", "readings": told["readings"]}
    if out.suffix == ".parquet":
        schema = pq.read_schema(out)
        return {
            "units": schema.field("current [A]").metadata[b"units"].decode(),
            "readings": schema.metadata[b"readings"].decode(),
        }
    with xr.open_dataset(out, engine="h5netcdf") as dataset:
        assert dataset.attrs["readings"] in dataset["power_w"].attrs["long_name"]
        return {"units": dataset["current_a"].attrs["units"], "readings": dataset.attrs["readings"]}


@pytest.mark.parametrize("ending", ["csv", "parquet", "nc", "npz"])
def test_every_file_says_whether_its_readings_are_corrected(run: Path, tmp_path: Path, ending: str) -> None:
    piece = ["--captures", "2", "--stop", "0.01", "--mean-of", "5"]
    exported(run, tmp_path / f"x.{ending}", *piece)
    raw = "as the oscilloscope scaled them; no calibration applied"
    assert said_of(tmp_path / f"x.{ending}") == {"units": "A", "readings": raw}
    exported(run, tmp_path / f"y.{ending}", *piece, "--calibrated")
    corrected = "corrected by the zero and gain of the run"
    assert said_of(tmp_path / f"y.{ending}") == {"units": "A", "readings": corrected}


def test_without_a_choice_every_committed_capture_is_there(run: Path, tmp_path: Path) -> None:
    table = exported(run, tmp_path / "x.parquet", "--calibrated")
    assert table["capture"].value_counts().to_dict() == {0: 100_000, 1: 100_000, 2: 100_000, 3: 60_000}
    assert abs(table[table["capture"] == 0]["current [A]"].mean()) < 1e-6


def test_means_keep_the_energy(run: Path, tmp_path: Path) -> None:
    full = exported(run, tmp_path / "full.npz", "--captures", "2")
    coarse = exported(run, tmp_path / "coarse.npz", "--captures", "2", "--mean-of", "100")
    assert len(coarse) == len(full) // 100
    assert coarse["power [W]"].mean() == pytest.approx(full["power [W]"].mean(), rel=1e-12)
    assert coarse["time [s]"][0] == pytest.approx(full["time [s]"][:100].mean(), abs=1e-12)


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        (["--out", "x.xlsx"], "the ending says the format"),
        (["--out", "x.csv", "--captures", "9"], "count from 0 to 3"),
        (["--out", "x.csv", "--captures", "one"], "3,5-7"),
        (["--out", "x.csv", "--mean-of", "0"], "1 or more"),
        (["--out", "x.csv", "--start", "5", "--stop", "6"], "no sample lies within --start and --stop: the captures"),
        (["--out", "x.nc", "--start", "5"], " s, by their own triggers"),
        (["--out", "x.npz", "--mean-of", "1000000"], "the longest stretch chosen has 100000"),
    ],
)
def test_a_choice_that_makes_no_sense_is_refused(
    run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys, options: list[str], expected: str
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["export", str(run), *options]) == 2
    assert expected in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


def test_an_existing_file_is_kept(run: Path, tmp_path: Path) -> None:
    (tmp_path / "x.csv").write_text("mine")
    assert main(["export", str(run), "--out", str(tmp_path / "x.csv")]) == 2
    assert (tmp_path / "x.csv").read_text() == "mine"
