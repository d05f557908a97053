"""Files that were edited, whose checksums are good and whose tables contradict each other, and single flipped bits.

Neither is ever taken for sound, and a bit in a small table costs no capture whose codes are whole.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import h5py
import numpy as np
import pytest

from calibration.records import save
from experiments import compare, power_sweep, replay
from experiments.report.__main__ import main as report_main
from experiments.traces import TraceReader
from experiments.traces.__main__ import main as traces_main
from experiments.traces.checking import check
from experiments.traces.recovery import recover
from tests.calibration.events import probe
from tests.sweeps import ROOT, rows
from tests.trace_files import without_seal

TX1 = str(ROOT / "docs/benches/simulated-tx1.yaml")


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The trace of two networks at one batch, twice; its cells begin with capture 3."""
    out = tmp_path_factory.mktemp("whole") / "run"
    plan = ["--networks", "AlexNet,ENet", "--batches", "2", "--repeats", "2", "--window", "0.4", "--seed", "5"]
    assert power_sweep.main(["--lab", TX1, *plan, "--out", str(out), "--quiet"]) == 0
    return out / "trace.h5"


def put(place: str, row: int, value: object) -> Callable[[h5py.File], None]:
    """An edit of one number or text, after which every checksum of HDF5 is right again."""

    def edit(file: h5py.File) -> None:
        dataset = file[place]
        if dataset.dtype.kind == "S":
            dataset[row] = np.frombuffer(str(value).encode().ljust(dataset.shape[1], b"\0"), "S1")
        else:
            dataset[row] = value

    return edit


def edited(whole: Path, path: Path, *edits: Callable[[h5py.File], None]) -> Path:
    shutil.copy(whole, path)
    with h5py.File(path, "r+") as file:
        for edit in edits:
            edit(file)
    return path


DECISIVE = [
    ([put("captures/cell", 3, 99)], "/captures row 3: its cell 99 lies outside the journal, which has 4"),
    ([put("captures/cell", 3, -1)], "/captures row 3: its cell -1 lies outside the journal"),
    ([put("captures/cell", 0, 2)], "/captures row 0: a zero capture belongs to no cell, and this names cell 2"),
    ([put("captures/network", 3, "Other")], "/captures row 3: its network is 'Other', that of its cell 0"),
    ([put("captures/repeat", 3, 1)], "/captures row 3: its repeat is 1, that of its cell 0 0"),
    ([put("captures/images", 3, 1)], "/captures row 3: 1 images are not"),
    ([put("captures/batches", 3, 7), put("captures/images", 3, 14)], "/captures row 3: 7 batches are not the"),
    ([put("captures/kind", 3, "call")], "/captures row 3: its kind is 'call'"),
    ([put("captures/state", 3, "comitted")], "/captures row 3: its state is 'comitted'"),
    ([put("captures/session", 3, 4)], "/captures row 3: its session 4 is none of the 1 of the file"),
    ([put("cells/network", 1, "Other")], "/cells row 1: its network is 'Other', that of the plan"),
    ([put("cells/batch", 1, 16)], "/cells row 1: its batch is 16, that of the plan 2"),
    ([put("cells/state", 1, "done")], "/cells row 1: its state is 'done', which is none"),
]


@pytest.mark.parametrize(("edits", "expected"), DECISIVE, ids=[text.split(":", 1)[1][:40] for _, text in DECISIVE])
def test_tables_that_contradict_each_other_are_told_by_row_and_replayed_by_nothing(
    whole: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], edits: list, expected: str
) -> None:
    path = edited(whole, tmp_path / "trace.h5", *edits)
    assert traces_main(["check", str(path)]) == 1
    assert expected in capsys.readouterr().out
    assert replay.main([str(path), "--out", str(tmp_path / "x"), "--results-only"]) == 3
    told = capsys.readouterr()
    assert told.out == ""
    assert told.err.startswith(f"error: {path}: {expected}")
    assert told.err.count("\n") == 1
    assert not (tmp_path / "x").exists()


def test_no_program_makes_results_of_an_edited_file(
    whole: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = edited(whole, tmp_path / "trace.h5", put("captures/cell", 3, 99))
    assert compare.main([str(whole), str(path)]) == 3
    assert report_main([str(path), "--out", str(tmp_path / "x.html")]) == 3
    assert capsys.readouterr().err.count("/captures row 3: its cell 99") == 2


@pytest.mark.parametrize(
    ("edit", "expected"),
    [
        (put("cells/capture", 1, 0), "/cells row 1: is committed by capture 0, which is of cell -1"),
        (put("cells/capture", 1, 90), "/cells row 1: is committed, its capture 90 is not"),
        (put("host_log/capture", -1, 90), "/host_log: has rows of capture 90, which is not there"),
        (put("readings/capture", -1, 90), "/readings: has rows of capture 90, which is not there"),
    ],
)
def test_what_changes_no_result_is_told_by_check(
    whole: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], edit: Callable, expected: str
) -> None:
    path = edited(whole, tmp_path / "trace.h5", edit)
    assert traces_main(["check", str(path)]) == 1
    assert expected in capsys.readouterr().out


def test_two_captures_of_one_cell_count_once_or_not_at_all(whole: Path, tmp_path: Path) -> None:
    with TraceReader(whole) as reader:
        cells = [row for row in reader.captures() if row["kind"] == "cell"]
    twin = next(k for k, row in enumerate(cells) if k and row["network"] == cells[0]["network"])
    path = edited(whole, tmp_path / "t.h5", put("captures/cell", 3 + twin, 0), put("captures/repeat", 3 + twin, 0))
    assert any("2 captures are committed for it" in str(p) for p in check(path).problems)
    assert replay.main([str(path), "--out", str(tmp_path / "x"), "--results-only"]) == 3


def test_recovering_an_edited_file_keeps_what_contradicts_it_as_rejected_and_plans_its_cell_anew(
    whole: Path, tmp_path: Path
) -> None:
    path = edited(whole, tmp_path / "trace.h5", put("captures/cell", 3, 99), put("cells/network", 1, "Other"))
    found, out = check(path), tmp_path / "run" / "trace.h5"
    out.parent.mkdir()
    assert found.contradicted == [3]
    assert 3 not in found.good
    saved = recover(path, out)
    assert (saved.lost, saved.rejected) == (0, 1)
    assert check(out).sound
    with TraceReader(out) as reader:
        assert "its cell 99 lies outside the journal" in reader.captures()[3]["reason"]
        assert [row["state"] for row in reader.cells()].count("planned") == 1
    assert replay.main([str(out), "--out", str(tmp_path / "x"), "--results-only", "--quiet"]) == 1
    assert sorted(row["repeats"] for row in rows(tmp_path / "x" / "results.csv")) == ["1", "2"]


def test_an_overview_of_other_codes_is_told_and_made_again(whole: Path, tmp_path: Path) -> None:
    path = edited(whole, tmp_path / "t.h5", lambda f: f["overview/blocks_of_256"].__setitem__((3, 0, 2, 5), 9))
    (told,) = check(path).problems
    assert str(told) == "/overview/blocks_of_256: row 3 is not that of its codes; recover makes it again from the codes"
    recover(path, tmp_path / "new.h5")
    assert check(tmp_path / "new.h5").sound


def test_what_was_rejected_says_why_after_a_recovery(whole: Path, tmp_path: Path) -> None:
    """The journal's codes go into results.csv: a recovered file gives the same bytes."""
    edits = [put("captures/state", 3, "rejected"), put("captures/reason", 3, "the record is clipped")]
    edits += [put("captures/flags", 3, "clipped"), put("cells/state", 0, "rejected"), put("cells/capture", 0, 3)]
    edits += [put("cells/reason", 0, "the record is clipped"), put("cells/flags", 0, "clipped")]
    path, out = edited(whole, tmp_path / "t.h5", *edits), tmp_path / "new.h5"
    assert recover(path, out)[1:] == (0, 0, 0)
    tables = []
    for number, file in enumerate((path, out)):
        assert replay.main([str(file), "--out", str(tmp_path / str(number)), "--results-only", "--quiet"]) == 1
        tables.append((tmp_path / str(number) / "results.csv").read_bytes())
    assert b"clipped" in tables[0]
    assert tables[0] == tables[1]


@pytest.mark.parametrize("column", ["cell", "network", "state", "kind", "session", "method"])
def test_a_lost_column_is_filled_up_where_the_file_tells_it_elsewhere(whole: Path, tmp_path: Path, column: str) -> None:
    """The recovered file gives the results of the whole one, or of fewer captures; never others."""
    path, out = (
        edited(whole, tmp_path / "t.h5", lambda f: f["captures"].move(column, f"{column[:-1]}~")),
        tmp_path / "n.h5",
    )
    found = check(path)
    assert any(str(p).startswith(f"/captures/{column}: is lost") for p in found.problems)
    recover(path, out)
    assert check(out).sound
    assert replay.main([str(out), "--out", str(tmp_path / "x"), "--results-only", "--quiet"]) in (0, 1)
    assert replay.main([str(whole), "--out", str(tmp_path / "y"), "--results-only", "--quiet"]) == 0
    for mine, all_of_it in zip(rows(tmp_path / "x" / "results.csv"), rows(tmp_path / "y" / "results.csv"), strict=True):
        if mine["repeats"] == "2":
            assert mine["time_per_image_s"] == all_of_it["time_per_image_s"]
            assert mine["power_w"] == all_of_it["power_w"]


SMALL = (
    "y_increment", "y_origin", "y_reference", "x_increment_s", "x_origin_s", "x_reference", "points", "count", "format",
    "type", "crc32", "host_s", "batches", "images", "kind", "cell", "row_copy",
)  # fmt: skip
"""Columns of /captures of which each once cost captures whose codes are whole."""


def flipped(whole: Path, path: Path, *places: str, at: bytes = b"", bit: int = 2) -> Path:
    """A copy of a run's file with one bit of each dataset changed on the disk: behind a text, or in the middle."""
    raw = bytearray(whole.read_bytes())
    with h5py.File(whole) as file:
        for place in places:
            dataset = file[place]
            start = dataset[()].tobytes().index(at) + len(at) if at else 0
            chunk = dataset.id.get_chunk_info(start // dataset.chunks[0] if at else 0)
            offset = start % dataset.chunks[0] if at else chunk.size // 2
            raw[chunk.byte_offset + offset] ^= 1 << bit
    path.write_bytes(raw)
    return path


@pytest.mark.parametrize(
    ("name", "behind"),
    [
        ("lab_yaml", b"voltage_v: "),
        ("plan", b'"window_s": '),
        ("settings", b"scope"),
        ("calibrations", b""),
        ("instruments", b""),
        ("environment", b""),
        ("summary", b""),
        ("scope_setup", b""),
    ],
)
def test_a_flipped_bit_of_a_text_is_told_by_name(
    whole: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], name: str, behind: bytes
) -> None:
    path = flipped(whole, tmp_path / "t.h5", f"provenance/{name}", at=behind)
    assert any(f"/provenance/{name}: cannot be read" in str(problem) for problem in check(path).problems)
    if name in ("lab_yaml", "plan", "calibrations"):  # which results depend on
        assert replay.main([str(path), "--out", str(tmp_path / "x"), "--results-only"]) == 3
        said = capsys.readouterr().err
        assert f"{path}: /provenance/{name} is damaged (" in said
        assert "recover" in said


def test_flipped_bits_of_small_tables_cost_no_capture(
    whole: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Every such column but the copy itself, and the texts that results depend on, in one file."""
    places = [f"captures/{name}" for name in SMALL[:-1]]
    places += [f"provenance/{name}" for name in ("plan", "lab_yaml", "settings", "calibrations")]
    path, out = flipped(whole, tmp_path / "t.h5", *places), tmp_path / "new" / "trace.h5"
    out.parent.mkdir()
    problems = "\n".join(map(str, check(path).problems))
    assert all(f"/{place}: " in problems for place in places)
    assert traces_main(["recover", str(path), "--out", str(out)]) == 0
    said = capsys.readouterr().out
    assert "0 lost" in said
    assert "y_increment, y_origin, y_reference where damaged: from the second copy of each row" in said
    assert check(out).problems == []
    assert replay.main([str(out), "--out", str(tmp_path / "x"), "--results-only", "--quiet"]) == 0
    assert (tmp_path / "x" / "results.csv").read_bytes().replace(b" (replayed)", b"") == (
        whole.parent / "results.csv"
    ).read_bytes()


@pytest.mark.parametrize("name", ["crc32", "count", "format", "type", "host_s", "batches", "images"])
def test_without_the_copy_what_no_result_needs_and_what_the_log_tells_costs_no_capture(
    whole: Path, tmp_path: Path, name: str
) -> None:
    """As in files of an earlier program, which have no copies."""
    path, out = flipped(whole, tmp_path / "t.h5", f"captures/{name}", "captures/row_copy"), tmp_path / "new.h5"
    assert recover(path, out).lost == 0
    assert check(out).sound


def test_a_damaged_column_is_named_by_replay(whole: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = flipped(whole, tmp_path / "t.h5", "captures/y_increment")
    assert replay.main([str(path), "--out", str(tmp_path / "x"), "--results-only"]) == 3
    assert f"{path}: /captures/y_increment is damaged (" in capsys.readouterr().err


def stored(whole: Path, path: Path, *entries: dict[str, object]) -> Path:
    """A copy of a run's file in which these records stand."""
    common = {"name": "probe.yaml", "used": True, "problems": []}
    raw = np.frombuffer(json.dumps([common | entry for entry in entries]).encode(), "S1")
    shutil.copy(whole, path)
    with h5py.File(path, "r+") as file:
        for name in ("calibrations", "calibrations_copy"):
            file[f"provenance/{name}"].resize(raw.shape)
            file[f"provenance/{name}"][:] = raw
    return path


def test_a_stored_record_of_another_hash_is_refused(
    whole: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """In a file whose texts have no checksum of HDF5's, or were written anew with one that is right."""
    record = (ROOT / "calibration/records/makers-limits-1146b-100mv.yaml").read_text()
    path = stored(whole, tmp_path / "t.h5", {"kind": "probe", "sha256": "0" * 64, "text": record})
    assert any("/provenance/calibrations" in str(p) and "SHA-256" in str(p) for p in check(path).problems)
    assert replay.main([str(path), "--out", str(tmp_path / "x"), "--results-only"]) == 3
    assert "/provenance/calibrations/probe.yaml: is not the record that was stored" in capsys.readouterr().err


@pytest.mark.parametrize(("old", "new"), [("value: 1.01", "value: 1.03"), ("gain:", "gain")])
def test_with_the_record_itself_a_file_whose_copy_of_it_was_changed_is_replayed(
    whole: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], old: str, new: str
) -> None:
    """As the refusal advises; whether what stands there can still be read as a record makes no difference."""
    with TraceReader(whole) as reader:
        lab, day = reader.lab(), datetime.fromtimestamp(reader.captures()[0]["utc_s"], UTC).replace(microsecond=0)
    of_clamp = probe(lab, gain=1.01, made=day - timedelta(days=1), expires=day + timedelta(days=1))
    record = save(of_clamp, tmp_path / "probe.yaml")
    entry = {"kind": "probe", "sha256": record.sha256, "text": record.text}
    assert old in record.text
    sound = stored(whole, tmp_path / "sound.h5", entry)
    path = stored(whole, tmp_path / "t.h5", entry | {"text": record.text.replace(old, new)})
    options = ["--results-only", "--quiet", "--out"]
    assert replay.main([str(sound), *options, str(tmp_path / "sound")]) == 0
    assert replay.main([str(path), *options, str(tmp_path / "x")]) == 3
    assert "replay with --calibration and the record itself" in capsys.readouterr().err
    again = [str(path), *options, str(tmp_path / "again"), "--calibration", str(tmp_path / "probe.yaml")]
    assert replay.main(again) == 0
    assert replay.main([*again, "--require-calibration"]) == 0
    for mine, its in zip(*(rows(tmp_path / name / "results.csv") for name in ("again", "sound")), strict=True):
        assert mine == its | {"source": "simulated (replayed, calibration probe)"}
    assert any("SHA-256" in str(problem) for problem in check(path).problems)  # all the same


@pytest.mark.parametrize(
    "place",
    [
        *("captures/y_reference", "captures/host_s", "captures/network", "captures/settled_s", "captures/state"),
        *("cells/capture", "cells/ended_s", "cells/state", "host_log/capture", "host_log/end_ns"),
        *("readings/quantity", "readings/value", "sessions/began_utc_s", "sessions/environment"),
    ],
)
def test_a_chunk_that_hdf5_does_not_find_any_more_is_told_and_gives_no_results(
    whole: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], place: str
) -> None:
    """HDF5's index of the chunks has no check sum, and what it does not list reads as zeros without a word.

    So in a file whose writer was killed: one that was closed has a seal.
    """
    raw = bytearray(without_seal(Path(shutil.copy(whole, tmp_path / "t.h5"))).read_bytes())
    with h5py.File(whole) as file:
        address, dimensions = file[place].id.get_chunk_info(0).byte_offset, file[place].ndim
    # An entry of a node: the chunk's size and filters, its offset along each dimension and in an element, its address.
    offsets = bytes(8 * (dimensions + 1))
    entry = raw.index(offsets + address.to_bytes(8, "little"))
    raw[entry] ^= 0x40
    path = tmp_path / "t.h5"
    path.write_bytes(raw)
    assert not check(path).sound
    assert replay.main([str(path), "--out", str(tmp_path / "x"), "--results-only"]) == 3
    assert str(path) in capsys.readouterr().err


@pytest.mark.parametrize("name", ["edge_limit_s", "quiet_after_s", "done_after_trigger_s", "ended_s"])
def test_a_variable_whose_name_changed_is_not_taken_for_one_that_was_never_written(
    whole: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], name: str
) -> None:
    path = without_seal(Path(shutil.copy(whole, tmp_path / "t.h5")))
    raw = bytearray(path.read_bytes())
    raw[raw.index(b"\0" + name.encode() + b"\0") + 3] ^= 1
    path.write_bytes(raw)
    assert not check(path).sound
    assert replay.main([str(path), "--out", str(tmp_path / "x"), "--results-only"]) == 3
    assert f"{name} is damaged" in capsys.readouterr().err
