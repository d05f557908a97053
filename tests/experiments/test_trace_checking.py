"""Damaged trace files: what is bad is named, what is good is saved, and nothing is taken for good that is not."""

from __future__ import annotations

import json
import os
import random
import shutil
from pathlib import Path

import h5py
import numpy as np
import pytest

from experiments import power_sweep, replay
from experiments.traces import TraceReader
from experiments.traces.__main__ import main
from experiments.traces.checking import check
from experiments.traces.recovery import recover
from instruments.errors import TraceError
from tests.trace_files import cut, write_run


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_run(tmp_path_factory.mktemp("whole") / "trace.h5")


def codes_of(path: Path) -> dict[float, list[bytes]]:
    """Codes of every committed capture, by the time at which it was taken."""
    with TraceReader(path) as reader:
        return {d.at_s: [r.codes.tobytes() for r in d.capture.records.values()] for d in reader.data()}


def test_a_whole_file_is_sound(whole: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = whole.read_bytes()
    assert main(["check", str(whole), "--json"]) == 0
    said = json.loads(capsys.readouterr().out)
    assert said["sound"] is True
    assert said["complete"] is True
    assert said["committed"] == [0, 1, 2, 3]
    assert whole.read_bytes() == before


def test_info_says_what_is_in_it(whole: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["info", str(whole), "--json"]) == 0
    said = json.loads(capsys.readouterr().out)
    assert said["captures"] == {"zero committed": 1, "gain committed": 1, "cell committed": 2}
    assert said["samples"] == 3 * (100_000 * 3 + 60_000)
    assert said["networks"] == ["net"]
    assert main(["info", str(whole)]) == 0
    assert "simulated demonstration bench" in capsys.readouterr().out


def test_info_counts_a_cell_whose_capture_was_committed_as_it_is_gone_on_with(
    whole: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A program that ends between both leaves the journal behind; nothing of it is measured again."""
    path = Path(shutil.copy(whole, tmp_path))
    with h5py.File(path, "r+") as file:
        states = file["cells/state"]
        states[1] = np.array([*b"fetched", *bytes(states.shape[1] - 7)], "u1").view("S1")
    with TraceReader(path) as reader:
        assert [row["state"] for row in reader.cells()] == ["committed", "fetched"]
    assert main(["info", str(path), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["cells"] == {"committed": 2}


def flip(path: Path, at: int, bit: int) -> None:
    with path.open("r+b") as file:
        file.seek(at)
        byte = file.read(1)[0]
        file.seek(at)
        file.write(bytes([byte ^ (1 << bit)]))


@pytest.mark.parametrize("role", ["current", "voltage", "markers"])
def test_a_flipped_bit_in_codes_costs_that_capture_alone(whole: Path, tmp_path: Path, role: str) -> None:
    path = tmp_path / "t.h5"
    shutil.copy(whole, path)
    with h5py.File(path) as f:
        chunk = f[f"captures/{role}_codes"].id.get_chunk_info_by_coord((2, 0))
    flip(path, chunk.byte_offset + chunk.size - 2, 3)  # in the checksum: not every bit of a short chunk matters
    found = check(path)
    assert (found.good, found.damaged) == ([0, 1, 3], [2])
    assert any("/captures row 2" in str(p) and role in str(p) for p in found.problems)
    with TraceReader(path) as reader, pytest.raises(TraceError, match="traces check"):
        reader.overview(role, (200_000, 210_000))  # of so few samples each is drawn from the codes
    out = tmp_path / "new.h5"
    assert recover(path, out) == (3, 1, 0, 0)
    good = codes_of(whole)
    del good[20.0]
    assert codes_of(out) == good
    with TraceReader(out) as reader:
        assert [c["state"] for c in reader.cells()] == ["planned", "committed"]
        assert not reader.complete
        assert len(reader.readings(1)) == 10


def left_in_flight(path: Path, row: int, cell: int) -> Path:
    """Make of a whole file that of a sweep which was killed when the capture of a cell was stored, not committed."""
    with h5py.File(path, "r+") as f:
        f.attrs.modify("complete", 0)
        f["captures/state"][row] = b""
        f["cells/state"][cell] = b""
        f["cells/state"][cell, :7] = [b"f", b"e", b"t", b"c", b"h", b"e", b"d"]
        f["cells/capture"][cell] = -1
    return path


def test_what_was_in_flight_when_the_program_was_killed_is_not_lost(
    whole: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path, out = left_in_flight(Path(shutil.copy(whole, tmp_path / "t.h5")), 3, 1), tmp_path / "new.h5"
    assert main(["check", str(path)]) == 0
    assert "1 in flight when the program ended" in capsys.readouterr().out
    assert main(["recover", str(path), "--out", str(out)]) == 0
    told = capsys.readouterr().out
    assert "3 captures saved, 0 lost" in told
    assert "1 in flight when the program ended: never committed" in told
    assert codes_of(out) == codes_of(path)
    with TraceReader(out) as reader:
        assert [c["state"] for c in reader.cells()] == ["committed", "planned"]
        assert not reader.complete


def test_a_capture_without_a_state_that_the_journal_calls_committed_is_lost(whole: Path, tmp_path: Path) -> None:
    path = tmp_path / "t.h5"
    shutil.copy(whole, path)
    with h5py.File(path, "r+") as f:
        f["captures/state"][3] = b""
    assert not check(path).sound
    assert main(["recover", str(path)]) == 1


def assert_good(recovered: Path) -> None:
    """A recovered file is sound, and a replay of it tells what it can."""
    assert check(recovered).problems == []
    done = replay.main([str(recovered), "--out", str(recovered.with_suffix("")), "--results-only", "--quiet"])
    assert done in (0, 1)


@pytest.mark.parametrize("seed", range(8))
def test_whatever_bits_are_flipped_nothing_false_is_saved(whole: Path, tmp_path: Path, seed: int) -> None:
    """Ten flips anywhere, tables and metadata included: every capture that is saved is as it was written."""
    rng, path, out = random.Random(seed), tmp_path / "t.h5", tmp_path / "new.h5"
    shutil.copy(whole, path)
    for _ in range(10):
        flip(path, rng.randrange(path.stat().st_size), rng.randrange(8))
    good = codes_of(whole)
    try:
        found = check(path)
        saved = recover(path, out).saved
    except TraceError:
        return
    assert saved >= len(found.good)
    assert_good(out)
    for at_s, codes in codes_of(out).items():
        assert codes == good.get(at_s, codes)


@pytest.mark.parametrize("share", [0.35, 0.6, 0.8, 0.95, 0.9999])
def test_a_truncated_file_gives_back_what_is_left(
    whole: Path, tmp_path: Path, share: float, capsys: pytest.CaptureFixture[str]
) -> None:
    path, out = tmp_path / "t.h5", tmp_path / "new.h5"
    shutil.copy(whole, path)
    cut(path, share)
    with pytest.raises(TraceError, match="recover"):
        TraceReader(path)
    found = check(path)
    assert found.missing_bytes > 0
    assert any("cut off" in str(p) for p in found.problems)
    assert main(["check", str(path)]) == 1
    assert "DAMAGED; the sweep" in capsys.readouterr().out
    saved = recover(path, out).saved
    good = codes_of(whole)
    assert saved == len(found.good) >= int(3.9 * share) - 1
    assert_good(out)
    assert all(good[at_s] == codes for at_s, codes in codes_of(out).items())
    assert not [p for p in tmp_path.iterdir() if p.name not in ("t.h5", "new.h5", "new")]


def test_what_is_no_trace_has_its_exit_code(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "a.h5").write_bytes(b"not HDF5")
    with h5py.File(tmp_path / "b.h5", "w") as f:
        f.create_group("somebody_elses")
    with h5py.File(tmp_path / "c.h5", "w") as f:
        f.attrs["joulebench_schema"] = 2
    for name, expected in (("a", "not HDF5"), ("b", "not a joulebench trace"), ("c", "upgrade"), ("d", "no such file")):
        path = str(tmp_path / f"{name}.h5")
        assert main(["check", path]) == 3
        assert expected in capsys.readouterr().err.lower().replace("hdf5", "HDF5")
        assert main(["recover", path]) == 3
        capsys.readouterr()


def test_recovering_never_overwrites(whole: Path, tmp_path: Path) -> None:
    (tmp_path / "new.h5").write_text("precious")
    assert main(["recover", str(whole), "--out", str(tmp_path / "new.h5")]) == 3
    assert (tmp_path / "new.h5").read_text() == "precious"


def spoil(path: Path, what: str) -> None:
    """Damage what every look at a run reads first."""
    if what == "a journal's chunk":
        with h5py.File(path) as f:
            chunk = f["cells/state"].id.get_chunk_info(0)
        flip(path, chunk.byte_offset + chunk.size - 2, 3)
    else:
        with h5py.File(path, "r+") as f:
            f["provenance/plan"][1:9] = b"?"


@pytest.fixture(params=["a journal's chunk", "the plan"])
def spoilt(request: pytest.FixtureRequest, whole: Path, tmp_path: Path) -> Path:
    path = Path(shutil.copy(whole, tmp_path / "trace.h5"))
    spoil(path, request.param)
    return path


def test_damage_met_on_the_way_is_one_line_with_advice(spoilt: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = spoilt.read_bytes()
    assert main(["info", str(spoilt)]) == 3
    said = capsys.readouterr().err
    assert len(said.splitlines()) == 1
    assert said.startswith(f"error: {spoilt}: ")
    assert "experiments.traces check" in said
    assert spoilt.read_bytes() == before


def test_a_damaged_run_that_is_gone_on_with_is_recovered_first(
    spoilt: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = spoilt.read_bytes()
    assert power_sweep.main(["--resume", str(spoilt.parent), "--quiet"]) == 0
    assert f"warning: {spoilt}: was damaged (" in capsys.readouterr().err
    assert check(spoilt).sound
    assert spoilt.with_name("trace.damaged-1.h5").read_bytes() == before


def test_what_is_cut_before_its_tables_is_named_and_given_up(
    whole: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "t.h5"
    path.write_bytes(whole.read_bytes()[:5000])
    for command in ("check", "recover"):
        assert main([command, str(path)]) == 3
        said = capsys.readouterr().err
        assert said.startswith(f"error: {path}: its tables are damaged (")
        assert "experiments.traces" not in said


def test_a_pipe_is_not_waited_for(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "t.h5"
    os.mkfifo(path)
    assert main(["check", str(path)]) == 3
    assert "is no file" in capsys.readouterr().err


def test_a_capture_of_no_known_state_is_not_saved_as_committed(whole: Path, tmp_path: Path) -> None:
    path = tmp_path / "t.h5"
    shutil.copy(whole, path)
    with h5py.File(path, "r+") as f:
        f["captures/state"][2, :2] = b"X"
    assert any("its state is 'XXmmitted'" in str(p) for p in check(path).problems)
    assert recover(path, tmp_path / "new.h5") == (3, 1, 0, 0)
