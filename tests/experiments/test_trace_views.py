"""Looking into a trace file: lazy xarray objects, and overviews that agree with the samples themselves."""

from __future__ import annotations

import pickle
from pathlib import Path

import numpy as np
import pytest

from experiments import traces
from experiments.traces import CaptureRow, TraceReader, TraceWriter
from instruments.errors import TraceError
from instruments.waveform import Capture, Preamble, Record
from tests.trace_files import PLAN, SOURCES, write_run
from tests.worlds import LAB


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_run(tmp_path_factory.mktemp("run") / "trace.h5")


def test_values_are_those_of_the_records(run: Path) -> None:
    with traces.open(run) as dataset, TraceReader(run) as reader:
        for data in reader.data():
            current, voltage = (data.capture.records[role].values() for role in ("current", "voltage"))
            row = dataset.isel(capture=data.index, sample=slice(0, len(current)))
            np.testing.assert_allclose(row.current_a, current, rtol=1e-12, atol=1e-12)
            np.testing.assert_allclose(row.power_w, current * voltage, rtol=1e-9, atol=1e-9)
            np.testing.assert_allclose(
                row.time_s,
                data.capture.start_s + data.capture.records["current"].preamble.x_increment_s * np.arange(len(current)),
                atol=1e-12,
            )
            np.testing.assert_array_equal(row.gate, data.capture.records["markers"].codes & 1)
        assert np.isnan(dataset.current_a[3, 60_000:]).all()
        assert dataset.current_a.attrs["units"] == "A"
        assert list(dataset.kind.values) == ["zero", "gain", "cell", "cell"]
        assert dataset.attrs["source"] == "simulated"


@pytest.mark.parametrize("key", [(2, slice(5, 50, 7)), ([3, 0], 10), (slice(None, None, -1), [9, 2, 2]), (1, 1)])
def test_any_indexing_agrees_with_the_whole(run: Path, key: tuple[object, object]) -> None:
    with traces.open(run) as dataset:
        for name in ("current_a", "power_w", "gate", "voltage_codes", "time_s"):
            whole = dataset[name].values
            index = {"capture": key[0], "sample": key[1]}
            present = {axis: k for axis, k in index.items() if axis in dataset[name].dims}
            with traces.open(run) as fresh:
                expected = dataset[name].copy(data=whole).isel(present)
                np.testing.assert_array_equal(fresh[name].isel(present).values, expected.values)


def test_calibrated_values_are_near_the_truth_and_the_zero_is_zero(run: Path) -> None:
    with traces.open(run, calibrated=True) as dataset:
        assert abs(float(dataset.current_a[0].mean())) < 1e-6
        gated = dataset.isel(capture=2)
        power = float(gated.power_w.where(gated.gate == 1).mean())
        assert power == pytest.approx(12.0 * 1.0, rel=0.02)


def test_without_a_zero_there_is_nothing_to_calibrate_with(tmp_path: Path) -> None:
    with TraceWriter.create(tmp_path / "t.h5", PLAN, source="measured", texts={"lab_yaml": LAB.read_text()}):
        pass
    with pytest.raises(TraceError, match="no zero"):
        traces.open(tmp_path / "t.h5", calibrated=True)
    with traces.open(tmp_path / "t.h5") as dataset:
        assert dataset.sizes["capture"] == 0


def test_a_dataset_can_be_sent_to_another_process(run: Path) -> None:
    with traces.open(run) as dataset:
        copy = pickle.loads(pickle.dumps(dataset))
        np.testing.assert_array_equal(copy.power_w[2, :100].values, dataset.power_w[2, :100].values)


def record(codes: np.ndarray, role: str, slope: float) -> Record:
    preamble = Preamble(1, 0, len(codes), 1, 1e-5, 0.0, 0, slope, 0.5, 1000)
    return Record(role, preamble, codes, {"current": "A", "voltage": "V", "markers": "bits"}[role])


@pytest.fixture(scope="module")
def many(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[np.ndarray], list[np.ndarray], list[float]]:
    """Captures of random codes and lengths; every other one inverted, some with holes."""
    rng = np.random.default_rng(4)
    path = tmp_path_factory.mktemp("many") / "t.h5"
    all_codes, all_bits, slopes = [], [], []
    with TraceWriter.create(path, PLAN, source="measured", texts={}, points=30_000) as writer:
        for k, n in enumerate((30_000, 30_000, 20_001, 30_000, 12_345, 256, 30_000)):
            codes = rng.integers(300, 65_000, n).astype(np.uint16)
            if k in (2, 4):
                codes[rng.integers(0, n, 600)] = 0
                codes[512:768] = 0
            bits = rng.choice(np.array([1, 3, 5], dtype=np.uint8), n)
            slope = -1e-3 if k % 2 else 2e-3
            records = {role: record(codes, role, slope) for role in ("current", "voltage")}
            records["markers"] = record(bits, "markers", 1.0)
            writer.settle(writer.add(CaptureRow("cell"), Capture(records), SOURCES))
            all_codes.append(codes)
            all_bits.append(bits)
            slopes.append(slope)
    return path, all_codes, all_bits, slopes


@pytest.mark.parametrize(
    "span", [(0, 210_000), (0, 30_000), (31_000, 31_500), (25_000, 95_000), (59_999, 60_001), (123_457, 209_999)]
)
@pytest.mark.parametrize("points", [1000, 100, 7, 1])
def test_an_overview_agrees_with_the_samples(many, span: tuple[int, int], points: int) -> None:
    path, all_codes, _, slopes = many
    values = np.full((len(all_codes), 30_000), np.nan)
    for row, codes, slope in zip(values, all_codes, slopes, strict=True):
        row[: len(codes)] = np.where(codes == 0, np.nan, (codes - 1000.0) * slope + 0.5)
    flat = values.ravel()
    with TraceReader(path) as reader:
        seen = reader.overview("current", span, points)
    assert 1 <= len(seen.sample) <= points
    assert seen.row_samples == 30_000
    assert seen.sample[0] <= span[0] < seen.sample[0] + 8192
    ends = [*seen.sample[1:], None]
    for k, (start, stop) in enumerate(zip(seen.sample, ends, strict=True)):
        if stop is None:
            continue  # the last stretch ends with its last block, wherever that lies
        part = flat[start:stop]
        if np.isnan(part).all():
            assert np.isnan(seen.mean[k])
            continue
        assert seen.minimum[k] == pytest.approx(np.nanmin(part), abs=1e-9)
        assert seen.maximum[k] == pytest.approx(np.nanmax(part), abs=1e-9)
        if not np.isnan(part).any():
            assert seen.mean[k] == pytest.approx(np.mean(part), abs=2e-3)  # block means are rounded to a code


def test_an_overview_of_the_markers_tells_bits_never_and_ever_set(many) -> None:
    path, _, all_bits, _ = many
    with TraceReader(path) as reader:
        seen = reader.overview("markers", (0, 60_000), 10)
    assert set(seen.minimum) == {1.0}
    assert set(seen.maximum) == {7.0}
    assert np.bitwise_or.reduce(all_bits[0]) == 7
