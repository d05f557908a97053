"""The trace file: what goes in comes out, other people's tools read it, and damage is named."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections import UserDict
from pathlib import Path

import h5py
import numpy as np
import pytest

from experiments.plan import make_plan
from experiments.traces import CaptureRow, Reading, TraceReader, TraceWriter, check_writable
from experiments.traces.checking import check
from instruments.errors import TraceError
from tests.trace_files import cut
from tests.worlds import Bench

SOURCES = {"current": "current", "voltage": "voltage", "markers": "markers"}
PLAN = make_plan(["AlexNet", "BN-NIN"], [1, 2], 1, 2.0, 5)


@pytest.fixture(scope="module")
def bench() -> Bench:
    bench = Bench.make(1)
    bench.points = 20_000
    bench.power(0.0, True)
    return bench


def write(path: Path, bench: Bench, cells: int = 3) -> list:
    captures = []
    with TraceWriter.create(path, PLAN, source="simulated", texts={"lab_yaml": "bench: ä"}) as writer:
        for k in range(cells):
            measured = bench.run("cell", 10.0 + 10 * bench.index, 10, 0.01)
            row = CaptureRow(
                "cell",
                cell=k,
                network="AlexNet",
                batch=4,
                repeat=0,
                run_id=f"r{k}",
                batches=10,
                images=40,
                host_s=12.5 + k,
                utc_s=1.8e9,
                true_energy_j=measured.data.true_energy_j,
                batch_end_ns=tuple(range(1000, 1010)),
            )
            index = writer.add(row, measured.data.capture, SOURCES)
            writer.readings(index, [Reading("A", 0.9, 0.2), Reading("V", 12.0, 0.3)])
            writer.settle(index, "broken" if k == 1 else "")
            writer.cell(k, "rejected" if k == 1 else "committed", "broken" if k == 1 else "", index)
            captures.append(measured.data)
        writer.blob("scope_setup", b"\x00\n\xff")
        writer.complete()
    return captures


def test_what_was_written_comes_back(tmp_path: Path, bench: Bench) -> None:
    written = write(tmp_path / "t.h5", bench)
    with TraceReader(tmp_path / "t.h5") as reader:
        assert reader.complete
        assert reader.source == "simulated"
        assert reader.plan == PLAN
        assert reader.text("lab_yaml") == "bench: ä"
        assert [c["state"] for c in reader.cells()] == ["committed", "rejected", "committed", "planned"]
        assert reader.cells()[1]["reason"] == "broken"
        found = list(reader.data())
        assert [d.index for d in found] == [0, 2]
        for data, original in zip(found, (written[0], written[2]), strict=True):
            assert data.capture.records == original.capture.records
            assert (data.batches, data.images, data.true_energy_j) == (10, 40, original.true_energy_j)
        assert [d.index for d in reader.data(("rejected",))] == [1]
        assert reader.readings(2) == [Reading("A", 0.9, 0.2), Reading("V", 12.0, 0.3)]


def test_records_of_other_lengths_fit_in(tmp_path: Path) -> None:
    bench = Bench.make(2)
    bench.power(0.0, True)
    captures = []
    with TraceWriter.create(tmp_path / "t.h5", PLAN, source="measured", texts={}) as writer:
        for points in (2000, 5000, 1000):
            bench.points = points
            capture = bench.capture(5.0)
            captures.append(capture)
            writer.settle(writer.add(CaptureRow("idle"), capture, SOURCES))
    with TraceReader(tmp_path / "t.h5") as reader:
        assert [d.capture.records for d in reader.data()] == [c.records for c in captures]
        assert all(d.batches is None for d in reader.data())


def test_xarray_opens_it_with_named_dimensions_and_units(tmp_path: Path, bench: Bench) -> None:
    import xarray

    written = write(tmp_path / "t.h5", bench)
    with xarray.open_datatree(tmp_path / "t.h5", engine="h5netcdf") as tree:
        captures = tree["captures"]
        assert captures["current_codes"].dims == ("capture", "sample")
        assert captures["current_codes"].dtype == np.uint16
        assert captures["x_increment_s"].attrs["units"] == "s"
        assert captures["x_increment_s"].dims == ("capture", "source")
        assert "source_name" in captures["y_increment"].coords
        for clock in (captures["gate_rise_ns"], tree["host_log"]["end_ns"]):  # numbers with a unit, and no durations
            assert (clock.attrs["units"], clock.dtype) == ("ns", np.int64)
        assert [str(name) for name in captures["source_name"].values] == ["current", "voltage", "markers"]
        assert [str(state) for state in captures["state"].values] == ["committed", "rejected", "committed"]
        assert captures["utc_s"].dtype.kind == "M"
        assert tree["cells"]["network"].dims == ("cell",)
        np.testing.assert_array_equal(captures["current_codes"][2].values, written[2].capture.records["current"].codes)


@pytest.mark.skipif(shutil.which("h5dump") is None, reason="needs Debian's hdf5-tools")
def test_types_and_filters_are_such_as_every_library_has(tmp_path: Path, bench: Bench) -> None:
    """Numbers, single characters, gzip and checksums: what MATLAB, Julia and netCDF read as they come."""
    path = tmp_path / "t.h5"
    write(path, bench)
    with TraceWriter.resume(path) as writer:
        said = iter(['{"transcript":1}\n'])
        writer.keep_transcript(lambda: next(said, ""))
    seen = []

    def look(name: str, thing: h5py.Dataset | h5py.Group) -> None:
        for key in thing.attrs.keys() - {"DIMENSION_LIST", "REFERENCE_LIST"}:  # netCDF-4 has those two no other way
            kind = thing.attrs.get_id(key).get_type()
            assert isinstance(kind, h5py.h5t.TypeIntegerID | h5py.h5t.TypeStringID), (name, key)
            assert not (isinstance(kind, h5py.h5t.TypeStringID) and kind.is_variable_str()), (name, key)
        if not isinstance(thing, h5py.Dataset):
            return
        seen.append(name)
        assert thing.dtype.kind in "iuf" or thing.dtype == "S1", name
        assert thing.dtype.itemsize in (1, 2, 4, 8), name
        filters = thing.id.get_create_plist()
        known = {h5py.h5z.FILTER_DEFLATE, h5py.h5z.FILTER_SHUFFLE, h5py.h5z.FILTER_FLETCHER32}
        assert {filters.get_filter(k)[0] for k in range(filters.get_nfilters())} <= known, name

    with h5py.File(path) as f:
        look("/", f)
        f.visititems(look)
    assert "provenance/transcript" in seen
    assert len(seen) > 60


def test_h5dump_reads_it(tmp_path: Path, bench: Bench) -> None:
    write(tmp_path / "t.h5", bench)
    done = subprocess.run(["h5dump", "-H", tmp_path / "t.h5"], capture_output=True, text=True, check=True)
    assert 'DATASET "current_codes"' in done.stdout
    values = subprocess.run(
        ["h5dump", "-d", "/captures/images", tmp_path / "t.h5"], capture_output=True, text=True, check=True
    )
    assert "(0): 40, 40, 40" in values.stdout


@pytest.mark.skipif(shutil.which("ncdump") is None, reason="needs Debian's netcdf-bin")
def test_ncdump_reads_it(tmp_path: Path, bench: Bench) -> None:
    write(tmp_path / "t.h5", bench)
    done = subprocess.run(["ncdump", "-h", tmp_path / "t.h5"], capture_output=True, text=True, check=True)
    assert "ushort current_codes(capture, sample)" in done.stdout
    done = subprocess.run(
        ["ncdump", "-g", "captures", "-v", "state,images", tmp_path / "t.h5"],
        capture_output=True,
        text=True,
        check=True,
    )
    assert re.search(r'state =\s+"committed",\s+"rejected",\s+"committed"', done.stdout)


def test_a_file_made_meanwhile_by_somebody_else_is_not_replaced(tmp_path: Path) -> None:
    path = tmp_path / "trace.h5"

    class Late(UserDict[str, str]):
        """Texts that are asked for while the file is laid out."""

        def keys(self):
            path.write_bytes(b"another run")
            return super().keys()

    with pytest.raises(TraceError, match="another program has just made a trace file"):
        TraceWriter.create(path, PLAN, source="simulated", texts=Late())
    assert path.read_bytes() == b"another run"
    assert os.listdir(tmp_path) == ["trace.h5"]


def test_a_file_is_never_overwritten(tmp_path: Path, bench: Bench) -> None:
    write(tmp_path / "t.h5", bench, cells=1)
    before = (tmp_path / "t.h5").read_bytes()
    with pytest.raises(TraceError, match="already"):
        TraceWriter.create(tmp_path / "t.h5", PLAN, source="simulated", texts={})
    assert (tmp_path / "t.h5").read_bytes() == before


def test_a_second_program_cannot_open_what_is_being_written(tmp_path: Path) -> None:
    with TraceWriter.create(tmp_path / "t.h5", PLAN, source="simulated", texts={}):
        code = (
            "import sys; from experiments.traces import TraceReader\n"
            "from instruments.errors import TraceError\n"
            "try: TraceReader(sys.argv[1])\n"
            "except TraceError as e: print(e)"
        )
        done = subprocess.run(
            [sys.executable, "-c", code, tmp_path / "t.h5"], capture_output=True, text=True, check=True
        )
    assert "another program is writing it" in done.stdout


def test_one_file_has_one_writer(tmp_path: Path) -> None:
    with TraceWriter.create(tmp_path / "t.h5", PLAN, source="simulated", texts={}):
        code = (
            "import sys; from experiments.traces import TraceWriter\n"
            "from instruments.errors import TraceError\n"
            "try: TraceWriter.resume(sys.argv[1])\n"
            "except TraceError as e: print(e)"
        )
        done = subprocess.run(
            [sys.executable, "-c", code, tmp_path / "t.h5"], capture_output=True, text=True, check=True
        )
    assert "another program is writing it" in done.stdout


def test_a_flipped_bit_is_noticed_and_only_that_row_is_lost(tmp_path: Path, bench: Bench) -> None:
    path = tmp_path / "t.h5"
    write(path, bench)
    with h5py.File(path) as f:
        chunk = f["captures/voltage_codes"].id.get_chunk_info_by_coord((2, 0))
    raw = bytearray(path.read_bytes())
    raw[chunk.byte_offset + chunk.size // 2] ^= 4
    path.write_bytes(raw)
    with TraceReader(path) as reader:
        good = reader.data()
        assert next(good).index == 0
        with pytest.raises(TraceError, match=r"voltage_codes row 2 is damaged"):
            next(good)


@pytest.mark.parametrize(
    ("make", "expected"),
    [
        (lambda p: None, "no such file"),
        (lambda p: p.write_bytes(b""), "cut off or not HDF5"),
        (lambda p: p.write_bytes(b"network,batch\n"), "cut off or not HDF5"),
        (lambda p: h5py.File(p, "w").close(), "not a joulebench trace"),
        (lambda p: _newer(p), "upgrade joulebench"),
    ],
)
def test_what_is_no_trace_is_named(tmp_path: Path, make, expected: str) -> None:
    path = tmp_path / "t.h5"
    make(path)
    with pytest.raises(TraceError, match=expected) as caught:
        TraceReader(path)
    assert "t.h5" in str(caught.value)


def _newer(path: Path) -> None:
    with h5py.File(path, "w") as f:
        f.attrs["joulebench_schema"] = 99


@pytest.mark.parametrize("share", [0.2, 0.5, 0.9, 0.999])
def test_a_truncated_file_is_named(tmp_path: Path, bench: Bench, share: float) -> None:
    path = tmp_path / "t.h5"
    write(path, bench)
    cut(path, share)
    with pytest.raises(TraceError, match="cut off"):
        TraceReader(path)


WRITE_FOR_EVER = """
import sys
from pathlib import Path
from experiments.plan import make_plan
from experiments.traces import CaptureRow, TraceWriter
from tests.worlds import Bench
bench = Bench.make(1); bench.points = 20_000; bench.power(0.0, True)
capture = bench.capture(5.0)
writer = TraceWriter.create(Path(sys.argv[1]), make_plan(["A"], [1], 1, 2.0, 1), source="simulated", texts={})
names = {"current": "current", "voltage": "voltage", "markers": "markers"}
while True:
    index = writer.add(CaptureRow("idle", batches=2, batch_end_ns=(1, 2)), capture, names)
    writer.settle(index)
    print(index, flush=True)
"""


@pytest.mark.parametrize("delay_s", [0.0, 0.003, 0.007, 0.011, 0.02])
def test_a_killed_writer_leaves_every_committed_capture(tmp_path: Path, delay_s: float) -> None:
    path = tmp_path / "t.h5"
    with subprocess.Popen([sys.executable, "-c", WRITE_FOR_EVER, path], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        for _ in range(5):
            process.stdout.readline()
        time.sleep(delay_s)
        process.send_signal(signal.SIGKILL)
        committed = [int(line) for line in process.stdout.read().split()]
    last = committed[-1] if committed else 4
    with TraceReader(path) as reader:
        found = list(reader.data())
        assert [d.index for d in found][: last + 1] == list(range(last + 1))
        assert len({d.capture.records["current"].codes.tobytes() for d in found}) == 1
        assert sum(c["state"] == "" for c in reader.captures()) <= 1
    before = [d.capture.records for d in found]
    with TraceWriter.resume(path) as writer:
        index = writer.add(CaptureRow("idle", batches=2, batch_end_ns=(1, 2)), found[0].capture, SOURCES)
        writer.settle(index)
    with TraceReader(path) as reader:
        after = list(reader.data())
        assert [d.capture.records for d in after] == [*before, before[0]]
        assert after[-1].index == index >= len(before)
    assert [p for p in check(path).problems if "lab_yaml" not in p.place] == []


def test_a_folder_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    with pytest.raises(TraceError, match="--out"):
        check_writable(tmp_path / "file" / "run")
    check_writable(tmp_path / "new" / "run")
    assert list((tmp_path / "new" / "run").iterdir()) == []
