"""Names and reasons come from boards and files that somebody else may have made: shown everywhere, obeyed nowhere."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import h5py
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from experiments import compare, replay
from experiments.figures.__main__ import main as figures_main
from experiments.progress import Progress
from experiments.report.__main__ import main as report_main
from experiments.traces import schema
from experiments.traces.__main__ import main as traces_main
from instruments.command import say
from instruments.plain_text import of_table_cell, one_line, table_cell, visible
from tests.trace_files import write_run

NAME = '=HYPERLINK("x")\x1b[31m\nnote: forged\x00\u202e<script>alert(1)</script>😀'
LONG = "</td><img src=x onerror=alert(1)>\x1b]0;t\x07\r\n" + "A" * 10_000
FORBIDDEN = ("\x1b", "\x00", "\x07", "\r", "\u202e")


@pytest.fixture(scope="module")
def hostile(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run whose network, device and reason of a rejection are hostile."""
    path = write_run(tmp_path_factory.mktemp("hostile") / "trace.h5", dt_s=100e-6)
    with h5py.File(path, "r+") as f:
        plan = json.loads(f["provenance/plan"][:].tobytes())
        plan["networks"] = [NAME]
        for cell in plan["cells"]:
            cell["network"] = NAME
        text = json.dumps(plan)
        f["provenance/plan_length"].resize((len(text),))
        f["provenance/plan"].resize((len(text),))
        f["provenance/plan"][:] = schema.characters(text, len(text))
        del f["captures/row_copy"]
        f["cells/network"][:] = schema.characters(NAME, 128)
        f["captures/network"][1:] = schema.characters(NAME, 128)
        f["captures/ready_facts"][2] = schema.characters(json.dumps({"device": "@" + LONG[:2000]}), 8192)
        for table, row in (("captures", 3), ("cells", 1)):
            f[table]["state"][row] = schema.characters("rejected", 16)
            f[table]["reason"][row] = schema.characters(LONG, 1024)
    return path


def clean(text: str) -> bool:
    return not any(mark in text for mark in FORBIDDEN)


def test_no_terminal_obeys_them(hostile: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert traces_main(["info", str(hostile)]) == 0
    assert replay.main([str(hostile), "--out", str(tmp_path / "x"), "--budget"]) == 1
    assert compare.main([str(hostile), str(tmp_path / "x" / "results.csv"), "--anyway"]) == 0
    assert figures_main([str(hostile), "--out", str(tmp_path / "figures"), "--only", "1,3"]) == 1
    told = capsys.readouterr()
    assert clean(told.out + told.err)
    assert r"\x1b[31m\nnote: forged\x00\u202e" in told.out
    assert not [line for line in told.out.splitlines() if line.startswith("note: forged")]


def test_no_page_holds_them_as_markup(hostile: Path, tmp_path: Path) -> None:
    assert report_main([str(hostile), "--out", str(tmp_path / "x.html"), "--quiet"]) == 0
    page = (tmp_path / "x.html").read_text()
    assert clean(page)
    assert "<script>alert" not in page
    assert "<img src=x" not in page
    assert "&lt;script&gt;alert(1)&lt;/script&gt;😀" in page


def test_no_spreadsheet_computes_them(hostile: Path, tmp_path: Path) -> None:
    assert replay.main([str(hostile), "--out", str(tmp_path / "x"), "--results-only"]) == 1
    text = (tmp_path / "x" / "results.csv").read_text()
    assert clean(text)
    assert len(text.splitlines()) == 2
    (row,) = csv.DictReader(text.splitlines())
    assert row["network"].startswith("'=HYPERLINK")
    assert row["device"].startswith("'@</td>")
    assert traces_main(["export", str(hostile), "--out", str(tmp_path / "x.csv"), "--mean-of", "1000"]) == 0
    assert clean((tmp_path / "x.csv").read_text())
    assert "\"'=HYPERLINK" in (tmp_path / "x.csv").read_text()


@settings(deadline=None)
@given(st.text())
def test_any_text_is_shown_on_its_line_and_told_apart(text: str) -> None:
    shown = one_line(text)
    assert len(shown.splitlines()) <= 1
    assert shown.isprintable() or not clean(text) or any(not c.isprintable() for c in text)
    assert visible(text).count("\n") == text.count("\n")
    cell = table_cell(text)
    assert of_table_cell(cell) == shown
    assert cell[:1] not in ("=", "+", "-", "@") or float(cell) is not None


def test_numbers_stay_numbers() -> None:
    assert [table_cell(text) for text in ("-1.5", "+3e-7", "-inf", "12", "")] == ["-1.5", "+3e-7", "-inf", "12", ""]


def test_what_is_said_while_a_program_runs_is_shown_too(capsys: pytest.CaptureFixture[str]) -> None:
    Progress(1).say(NAME)
    say(NAME)
    told = capsys.readouterr()
    assert clean(told.out + told.err)
