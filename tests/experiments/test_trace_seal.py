"""A file that was closed: whatever bit of it flips, nothing false is read, and what no checksum guards is put back."""

from __future__ import annotations

import random
import resource
import shutil
import subprocess
import sys
from pathlib import Path

import h5py
import pytest

from experiments import power_sweep
from experiments.begun import alone
from experiments.traces import TraceReader, TraceWriter, seal_whole
from experiments.traces.__main__ import main
from experiments.traces.checking import check
from experiments.traces.recovery import recover
from instruments.errors import TraceError
from tests.sweeps import ROOT
from tests.trace_files import cut, length, without_seal, write_run


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_run(tmp_path_factory.mktemp("whole") / "trace.h5", dt_s=1e-3)


def contents(path: Path) -> object:
    """All that a file says, as programs read it."""
    with TraceReader(path) as reader:
        log = reader.host_log()
        return (
            [list(table) for table in (reader.cells(), reader.captures(), reader.sessions())],
            {index: log[index].tolist() for index in log},
            [reader.readings(index) for index in range(len(reader.captures()))],
            [{name: r.codes.tobytes() for name, r in d.capture.records.items()} for d in reader.data()],
            [reader.text(name) for name in ("plan", "lab_yaml")],
            (reader.source, reader.complete, [dict(reader.file[f"captures/{n}"].attrs) for n in ("host_s", "batch")]),
        )


def said(path: Path) -> str:
    """The same as a text: numbers that are not known are not equal to themselves."""
    return repr(contents(path))


def flipped(whole: Path, path: Path, at: int, bit: int) -> Path:
    raw = bytearray(whole.read_bytes())
    raw[at] ^= 1 << bit
    path.write_bytes(raw)
    return path


def outside_of_chunks(path: Path) -> list[int]:
    """Bytes of HDF5's structure that are in use, if most of them are zero."""
    taken: set[int] = set()
    with h5py.File(path) as file:

        def look(_name: str, thing: object) -> None:
            if isinstance(thing, h5py.Dataset) and thing.chunks:
                thing.id.chunk_iter(
                    lambda chunk: taken.update(range(chunk.byte_offset, chunk.byte_offset + chunk.size))
                )

        file.visititems(look)
    raw = path.read_bytes()
    return [at for at in range(length(path)) if raw[at] and at not in taken]


def test_no_flipped_bit_changes_what_is_read(whole: Path, tmp_path: Path) -> None:
    rng, expected = random.Random(11), said(whole)
    places = [*rng.sample(outside_of_chunks(whole), 40), *(rng.randrange(whole.stat().st_size) for _ in range(60))]
    for at in places:
        path = flipped(whole, tmp_path / "t.h5", at, rng.randrange(8))
        try:
            assert said(path) == expected, at
        except TraceError:
            assert at < length(whole)


def test_every_bit_of_the_structure_is_guarded_before_hdf5_follows_it(whole: Path, tmp_path: Path) -> None:
    rng = random.Random(12)
    for at in rng.sample(outside_of_chunks(whole), 300):
        path = flipped(whole, tmp_path / "t.h5", at, rng.randrange(8))
        with pytest.raises(TraceError, match=rf"structure is not what was written \(bytes {at}\).*recover"):
            TraceReader(path)


@pytest.mark.parametrize("seed", range(3))
def test_what_structure_lost_is_put_back_and_nothing_else_is_lost(
    whole: Path, tmp_path: Path, seed: int, capsys: pytest.CaptureFixture[str]
) -> None:
    rng = random.Random(seed)
    places = rng.sample(outside_of_chunks(whole), 20)
    raw = bytearray(whole.read_bytes())
    for at in (*places, 40, 41, 42):  # the length of the file among them
        raw[at] ^= 1 << rng.randrange(8)
    path = tmp_path / "t.h5"
    path.write_bytes(raw)
    assert main(["check", str(path)]) == 1
    assert "file: HDF5's own structure is not what was written (bytes " in capsys.readouterr().out
    assert check(path).good == [0, 1, 2, 3]
    assert recover(path, tmp_path / "new.h5") == (4, 0, 0, 0)
    assert check(tmp_path / "new.h5").sound
    assert said(tmp_path / "new.h5") == said(whole)
    assert path.read_bytes() == bytes(raw)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["new.h5", "t.h5"]


def test_a_damaged_seal_costs_nothing_and_is_told(whole: Path, tmp_path: Path) -> None:
    size, end = whole.stat().st_size, length(whole)
    for at in (end, end + 50, (end + size) // 2, size - 30, size - 22, size - 4):
        path = flipped(whole, tmp_path / "t.h5", at, 2)
        assert said(path) == said(whole)
        assert [problem.place for problem in check(path).problems] == ["seal"], at - end
    shutil.copy(whole, path)
    cut(path, 1.0 + (size - end) / 2 / end)
    assert [problem.place for problem in check(path).problems] == ["seal"]
    assert said(path) == said(whole)


def test_a_file_without_a_seal_is_sound_and_gets_one(whole: Path, tmp_path: Path) -> None:
    path = without_seal(Path(shutil.copy(whole, tmp_path / "trace.h5")))
    assert check(path).sound
    assert said(path) == said(whole)
    assert power_sweep.main(["--resume", str(tmp_path), "--quiet"]) in (0, 1)  # all was measured
    assert path.read_bytes() == whole.read_bytes()


def test_whoever_edits_a_file_takes_its_seal_off(whole: Path, tmp_path: Path) -> None:
    path = Path(shutil.copy(whole, tmp_path / "t.h5"))
    with h5py.File(path, "r+") as file:
        file.attrs["note"] = "of somebody else"
    assert path.stat().st_size == length(path)
    assert said(path) == said(whole)


def test_a_file_that_is_gone_on_with_has_no_seal_until_it_is_closed(whole: Path, tmp_path: Path) -> None:
    path = Path(shutil.copy(whole, tmp_path / "t.h5"))
    with path.open("ab") as file:
        file.truncate(path.stat().st_size + 2**23)  # room that was set aside for what a killed writer never wrote
    shutil.copy(path, tmp_path / "killed.h5")
    with TraceWriter.resume(path) as writer:
        shutil.copy(path, tmp_path / "open.h5")
        writer.session(0.0, "{}", "{}")
    assert length(path) < path.stat().st_size < whole.stat().st_size + 2**16
    with TraceReader(path) as reader:
        assert reader.sealed
    with TraceReader(tmp_path / "open.h5") as reader:
        assert not reader.sealed
    assert said(tmp_path / "killed.h5") == said(whole)


def test_a_disk_without_room_for_the_seal_keeps_the_file(whole: Path, tmp_path: Path) -> None:
    path = without_seal(Path(shutil.copy(whole, tmp_path / "t.h5")))
    before, limits = path.read_bytes(), resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (len(before) + 100, limits[1]))
    try:
        seal_whole(path)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert path.read_bytes() == before


def test_a_folder_has_one_sweep_at_a_time(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "begun.json").write_text("of the other")
    lab = str(ROOT / "docs/benches/simulated-tx1.yaml")
    with alone(tmp_path):
        assert power_sweep.main(["--lab", lab, "--networks", "AlexNet", "--out", str(tmp_path), "--quiet"]) == 2
    assert "another sweep is measuring into this folder" in capsys.readouterr().err
    assert (tmp_path / "begun.json").read_text() == "of the other"
    assert [path.name for path in tmp_path.iterdir()] == ["begun.json"]


def test_a_file_that_another_program_has_open_is_not_called_damaged(whole: Path, tmp_path: Path) -> None:
    path = tmp_path / "t.h5"
    shutil.copy(whole, path)
    program = f"import h5py, sys; f = h5py.File({str(path)!r}, 'r+'); print(1, flush=True); sys.stdin.read()"
    with subprocess.Popen([sys.executable, "-c", program], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as other:
        assert other.stdout is not None
        other.stdout.readline()
        with pytest.raises(TraceError, match="another program is writing it"):
            TraceReader(path)
        other.kill()
    assert said(path) == said(whole)  # a program that was killed leaves the file marked as open
    TraceWriter.resume(path).close()
    assert check(path).sound


def test_rows_in_flight_that_were_not_written_yet_are_no_damage(whole: Path, tmp_path: Path) -> None:
    path = without_seal(Path(shutil.copy(whole, tmp_path / "t.h5")))
    with h5py.File(path, "r+") as file:
        log = file["host_log"]
        rows, step = log["capture"].shape[0], log["capture"].chunks[0]
        for name in ("event", "capture", "batch_index", "end_ns"):
            log[name].resize((rows + 2 * step,))
        for name in ("capture", "batch_index", "end_ns"):
            log[name][rows:step] = 4  # the chunk that was begun is full, the next are not there
    assert said(path) == said(whole)


def test_what_somebody_put_beside_the_tables_is_left_alone(whole: Path, tmp_path: Path) -> None:
    path = without_seal(Path(shutil.copy(whole, tmp_path / "t.h5")))
    with h5py.File(path, "r+") as file:
        del file["captures/quiet_after_s"]  # as an earlier release wrote it
        del file["captures/row_copy"]
        file["captures"].create_dataset("my_power", data=[1.0, 2.0, 3.0, 4.0])
    with TraceReader(path) as reader:
        assert len(reader.captures()) == 4


@pytest.mark.parametrize("bit", range(4, 8))
def test_a_length_that_is_none_is_that_of_the_file(whole: Path, tmp_path: Path, bit: int) -> None:
    path = flipped(without_seal(Path(shutil.copy(whole, tmp_path / "bare.h5"))), tmp_path / "t.h5", 45, bit)
    assert check(path).good == [0, 1, 2, 3]
    recover(path, tmp_path / "new.h5")
    assert said(tmp_path / "new.h5") == said(whole)


def test_a_seal_holds_for_its_own_file_alone(whole: Path, tmp_path: Path) -> None:
    one, other = without_seal(Path(shutil.copy(whole, tmp_path / "one.h5"))), tmp_path / "other.h5"
    write_run(other, dt_s=8e-4)
    one.write_bytes(one.read_bytes() + other.read_bytes())
    assert said(one) == said(whole)


@pytest.mark.skipif(shutil.which("nccopy") is None, reason="no nccopy: apt-get install netcdf-bin")
def test_a_file_that_nccopy_wrote_is_recovered(whole: Path, tmp_path: Path) -> None:
    subprocess.run(["nccopy", str(whole), str(tmp_path / "t.h5")], check=True)
    recover(tmp_path / "t.h5", tmp_path / "new.h5")
    assert check(tmp_path / "new.h5").good == [0, 1, 2, 3]


def test_no_compressed_chunk_is_written_twice(whole: Path) -> None:
    """HDF5 may put it where the old one was, so that a program that is killed then loses rows that were committed."""
    with h5py.File(whole) as file:
        found = []
        file.visititems(lambda name, thing: found.append(thing) if isinstance(thing, h5py.Dataset) else None)
        compressed = [d for d in found if d.compression and d.maxshape[0] is None]
        assert len(compressed) > 5
        assert {d.name: d.chunks[0] for d in compressed} == {d.name: 1 for d in compressed}


@pytest.mark.parametrize("bit", range(8))
def test_no_flag_of_an_open_file_but_the_open_ones_is_left_alone(whole: Path, tmp_path: Path, bit: int) -> None:
    path = flipped(whole, tmp_path / "t.h5", 20, bit)
    if bit < 3:
        assert said(path) == said(whole)
    else:
        recover(path, tmp_path / "new.h5")
        assert said(tmp_path / "new.h5") == said(whole)


@pytest.mark.parametrize("table", ["readings", "host_log"])
def test_rows_whose_capture_was_lost_are_not_taken_for_those_of_the_first(
    whole: Path, tmp_path: Path, table: str
) -> None:
    path = without_seal(Path(shutil.copy(whole, tmp_path / "t.h5")))
    with h5py.File(path, "r+") as file:
        group = file[table]
        scales, kind = [scale.name for scale in group["capture"].dims[0].values()], group["capture"].dtype
        shape, chunks = group["capture"].shape, group["capture"].chunks
        del group["capture"]
        lost = group.create_dataset("capture", shape, kind, chunks=chunks, maxshape=(None,), fletcher32=True)
        lost.dims[0].attach_scale(file[scales[0]])
    assert not check(path).sound
    with TraceReader(path) as reader, pytest.raises(TraceError, match=f"{table}/capture"):
        reader.readings(0) if table == "readings" else reader.host_log()


def test_codes_that_are_in_no_chunks_are_an_error_that_names_them(whole: Path, tmp_path: Path) -> None:
    path = without_seal(Path(shutil.copy(whole, tmp_path / "t.h5")))
    with h5py.File(path, "r+") as file:
        codes = file["captures/current_codes"][:]
        del file["captures/current_codes"]
        file["captures/current_codes"] = codes
    with TraceReader(path) as reader, pytest.raises(TraceError, match=r"current_codes row 0 is damaged.*in chunks"):
        next(reader.data())
    recover(path, tmp_path / "new.h5")
    assert said(tmp_path / "new.h5") == said(whole)
