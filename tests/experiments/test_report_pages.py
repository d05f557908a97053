"""The report as a file: whole, of nothing but itself, the same for the same trace, and right where data are missing."""

from __future__ import annotations

import base64
import html
import json
import re
import shutil
import zlib
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest

from experiments.replay import main as replay
from experiments.report import pictures, viewer
from experiments.report.__main__ import main
from experiments.report.viewer import STRETCHES, _packed
from experiments.traces import TraceReader
from experiments.traces.__main__ import main as traces
from experiments.traces.schema import texts_of
from tests import foreign_files as foreign
from tests.experiments.test_compare import Made, write
from tests.sweeps import run, virtual_lab_file
from tests.trace_files import write_run

GOLDEN = Path(__file__).parent.parent / "golden"
EVIL = "</script><script>alert(1)</script><img src=x onerror=alert(2)>"
SECTIONS = [
    "summary", "results", "against-batch", "waveforms", "figures", "findings", "budget", "device", "flags",
    "identities", "calibration", "environment", "reproduce", "screen",
]  # fmt: skip
SWEEP = ["--networks", "AlexNet,ENet,BN-NIN", "--batches", "1,4", "--repeats", "2", "--window", "0.4", "--seed", "11"]


def sections(text: str) -> list[str]:
    return re.findall(r"<section id='([\w-]+)'>", text)


def block(text: str, key: str) -> Any:
    """The data that the report's script is given."""
    found = re.search(rf"<script type='application/json' id='{key}'>(.*?)</script>", text, re.DOTALL)
    assert found is not None
    return json.loads(found[1])


def without_data(text: str) -> str:
    """The page without pictures, data and script."""
    text = re.sub(r"<script.*?</script>", "", text, flags=re.DOTALL)
    return re.sub(r"src='data:image/[\w+]+;base64,[A-Za-z0-9+/=]*'", "src=''", text)


def report(out: Path, *args: str | Path) -> str:
    """The page of some runs, by the command."""
    assert main([*map(str, args), "--out", str(out), "--quiet"]) == 0
    return out.read_text(encoding="utf-8")


@pytest.fixture
def undrawn(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without the figures, which take their time, where nothing is said of them."""
    monkeypatch.setattr(pictures, "FIGURES", ())


@pytest.fixture(scope="module")
def swept(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A sweep of a bench whose name is an attack on whoever reads its report."""
    folder = tmp_path_factory.mktemp("report")
    lab = virtual_lab_file(folder, ("bench: ", f"bench: {json.dumps(EVIL)}  # "))
    done = run("experiments.power_sweep", "--lab", lab, *SWEEP, "--out", folder / "run", "--quiet")
    assert done.returncode == 0, done.stderr
    return folder / "run"


def test_the_page_is_whole_and_asks_nothing_of_others(swept: Path) -> None:
    text = (swept / "report.html").read_text()
    assert sections(text) == SECTIONS
    policy = re.search(r'Content-Security-Policy\' content="([^"]*)"', text)
    assert policy is not None
    assert "default-src 'none'" in policy[1]
    assert "http" not in policy[1]
    page = without_data(text)
    assert not re.search(r"<[^>]*\s(src|href)=(?!''|'#)", page)
    assert "://" not in page.replace("TCPIP::", "")
    assert not re.search(r"url\(|@import", page)
    assert len(re.findall(r"<figure id='figure_\d\d_\w+'>", text)) == 16
    for words in ("±", "trace.h5 --out DIR", "--networks AlexNet,ENet,BN-NIN --batches 1,4 --repeats 2", "MSO-X 2024A"):
        assert words in page
    assert text.isascii() or "charset='utf-8'" in text
    assert (swept / "report.html").stat().st_size < 6_000_000


@pytest.mark.usefixtures("undrawn")
def test_nothing_from_a_file_becomes_markup(swept: Path, tmp_path: Path) -> None:
    trace = tmp_path / "trace.h5"
    shutil.copy(swept / "trace.h5", trace)
    with h5py.File(trace, "r+") as file:
        width = file["cells"]["reason"].shape[1]
        refused = np.frombuffer(EVIL.encode().ljust(width, b"\0")[:width], dtype="S1")
        file["cells"]["reason"][0] = refused
        file["cells"]["state"][0] = np.frombuffer(b"refused".ljust(file["cells"]["state"].shape[1], b"\0"), dtype="S1")
        assert texts_of(file["cells"]["reason"][:])[0] == EVIL
    text = report(tmp_path / "report.html", trace)
    assert html.escape(EVIL) in text
    for bad in ("<script>alert", "<img src=x", "</script><script>alert"):
        assert bad not in text
    assert text.count("<script") == text.count("</script>") == 3


@pytest.mark.usefixtures("undrawn")
def test_network_names_end_no_script(swept: Path, tmp_path: Path) -> None:
    trace = tmp_path / "trace.h5"
    shutil.copy(swept / "trace.h5", trace)
    with h5py.File(trace, "r+") as file:
        del file["captures/row_copy"]
        for table in ("cells", "captures"):
            names = texts_of(file[table]["network"][:])
            width = file[table]["network"].shape[1]
            for k, name in enumerate(names):
                if name == "ENet":
                    file[table]["network"][k] = np.frombuffer(EVIL.encode().ljust(width, b"\0")[:width], dtype="S1")
        plan = file["provenance"]["plan"]
        text = bytes(plan[:].tobytes()).decode().replace('"ENet"', json.dumps(EVIL))
        length = file["provenance"]["plan_length"].attrs if "plan_length" in file["provenance"] else None
        assert length is not None
        del file["provenance"]["plan"]
        file["provenance"]["plan"] = np.frombuffer(text.encode(), dtype="S1")
    page = report(tmp_path / "report.html", trace)
    names = [network["name"] for network in block(page, "chart-data")["networks"]]
    assert names == ["AlexNet", EVIL, "BN-NIN"]
    assert "<script>alert" not in page
    assert page.count("</script>") == 3


def test_the_same_trace_gives_the_same_bytes_wherever_it_lies(swept: Path, tmp_path: Path) -> None:
    moved = tmp_path / "elsewhere" / "trace.h5"
    moved.parent.mkdir()
    shutil.copy(swept / "trace.h5", moved)
    assert replay([str(moved), "--out", str(tmp_path / "again"), "--quiet"]) == 0
    replayed = (tmp_path / "again" / "report.html").read_text()
    assert replayed.replace("simulated (replayed)", "simulated") == (swept / "report.html").read_text()


def test_the_viewers_codes_are_those_of_the_trace(swept: Path) -> None:
    data = block((swept / "report.html").read_text(), "viewer-data")
    shown = [c for c in data["captures"] if "samples" in c]
    assert data["captures"][data["default"]]["samples"]
    with TraceReader(swept / "trace.h5") as reader:
        assert len(data["captures"]) == len(reader.captures())
        for one in shown:
            records = reader.capture(one["index"]).records
            for role in ("current", "voltage"):
                np.testing.assert_array_equal(unpacked(one["samples"][role], one["points"]), records[role].codes)
        for one in data["captures"]:
            lines = reader.capture(one["index"])["markers"]
            gate = np.zeros(one["points"], dtype=bool)
            gate[one["gate"]["changes"]] = True
            np.testing.assert_array_equal(np.logical_xor.accumulate(gate) ^ one["gate"]["high"], lines.bit(0))


def unpacked(packed: dict[str, Any], count: int) -> np.ndarray:
    """What the viewer's script makes of packed codes, in the words of the format."""
    planes = np.frombuffer(zlib.decompress(base64.b64decode(packed["packed"])), dtype=np.uint8)
    folded = planes[:count].astype(np.int64) + 256 * planes[count:].astype(np.int64)
    moved = np.where(folded % 2, -(folded + 1) // 2, folded // 2)
    return (np.cumsum(moved) % 65536 * packed["step"] + packed["base"]).astype(np.uint16)


@pytest.mark.parametrize("kind", ["full", "coarse", "flat", "one", "bytes"])
def test_any_codes_come_back(kind: str) -> None:
    rng = np.random.default_rng(5)
    codes = {
        "full": rng.integers(0, 65536, 5000).astype(np.uint16),
        "coarse": (rng.integers(0, 4096, 5000) * 16 + 7).astype(np.uint16),
        "flat": np.full(100, 513, dtype=np.uint16),
        "one": np.array([65535], dtype=np.uint16),
        "bytes": rng.integers(0, 256, 300).astype(np.uint8),
    }[kind]
    np.testing.assert_array_equal(unpacked(_packed(codes), len(codes)), codes)


def test_of_a_long_record_the_samples_around_the_trigger_are_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(viewer, "SAMPLES_BYTES", 24_000)
    trace = write_run(tmp_path / "trace.h5", dt_s=1e-4)
    data = block(report(tmp_path / "r.html", trace), "viewer-data")
    one = data["captures"][data["default"]]
    samples = one["samples"]
    assert samples["count"] == 8000 < one["points"]
    trigger = round(-one["start_s"] / one["dt_s"])
    assert samples["first"] < trigger < samples["first"] + samples["count"]
    with TraceReader(trace) as reader:
        codes = reader.capture(one["index"])["voltage"].codes[samples["first"] :][:8000]
    np.testing.assert_array_equal(unpacked(samples["voltage"], 8000), codes)


def test_glances_hold_every_sample(swept: Path) -> None:
    data = block((swept / "report.html").read_text(), "viewer-data")
    one = data["captures"][data["default"]]
    with TraceReader(swept / "trace.h5") as reader:
        codes = reader.capture(one["index"])["current"].codes
    size = one["current"]["size"]
    low, mean, high = np.frombuffer(base64.b64decode(one["current"]["stretches"]), dtype="<u2").reshape(3, -1)
    assert len(low) <= STRETCHES
    for k in range(len(low)):
        part = codes[k * size : (k + 1) * size]
        assert (low[k], high[k]) == (part.min(), part.max())
        assert mean[k] == pytest.approx(part.mean(), abs=0.51)


@pytest.mark.usefixtures("undrawn")
def test_runs_of_one_context_are_compared_and_others_only_shown(tmp_path: Path) -> None:
    a, b = write(tmp_path / "monday", Made()), write(tmp_path / "tuesday", Made(seed=2))
    other = write(tmp_path / "fp16", Made(seed=3, told=("threads", 4)))
    page = without_data(report(tmp_path / "all.html", a, b, other))
    assert sections(page) == [*SECTIONS[:1], "context", "results", "differences", *SECTIONS[2:]]
    context = page[page.index("<section id='context'>") : page.index("<section id='results'>")]
    assert "Made in the same context." in context
    assert re.search(r"<td>threads</td><td>2</td><td>4</td>", context)
    differences = page[page.index("<section id='differences'>") : page.index("<section id='against-batch'>")]
    like, unlike = differences.split("<h3>")[1:]
    assert like.count("<tr") == 5  # a header, four rows
    assert "Not compared" in unlike
    assert "<table" not in unlike
    results = page[page.index("<section id='results'>") : page.index("<section id='differences'>")]
    for label in ("monday", "tuesday", "fp16"):
        for column in ("time [ms/image]", "power [W]", "net power [W]", "energy [mJ/image]", "net energy [mJ/image]"):
            assert f">{column}, {label}<" in results
    assert "<th scope='col'>n</th>" in results
    assert "<td>3/3/3</td>" in results
    environment = page[page.index("<section id='environment'>") : page.index("<section id='reproduce'>")]
    assert "(3 runs, the same of each)" in environment  # what is equal is told once
    assert environment.count("<table") == 1
    assert page.count("not judged: they compare networks") == 1
    anyway = without_data(report(tmp_path / "anyway.html", a, other, "--anyway"))
    assert "Compared although the contexts are not alike." in anyway
    assert anyway.count("<td>threads</td>") == 1


def test_a_run_without_a_zero_says_that_nothing_could_be_reduced(tmp_path: Path) -> None:
    trace = write_run(tmp_path / "trace.h5", dt_s=1e-4)
    with h5py.File(trace, "r+") as file:
        del file["captures/row_copy"]
        width = file["captures"]["kind"].shape[1]
        file["captures"]["kind"][0] = np.frombuffer(b"idle".ljust(width, b"\0"), dtype="S1")
    text = report(tmp_path / "report.html", trace)
    page = without_data(text)
    assert sections(text) == SECTIONS
    for said in (
        "No cell gave a result.",
        "No cell has a result: there is nothing to draw",
        "No cell has a result, and so no budget.",
        "without a zero nothing can be reduced",
        "not judged: they compare networks",
        "14, power within a batch",
        "no picture of the oscilloscope",
    ):
        assert said in page
    assert not any(capture["corrected"] for capture in block(text, "viewer-data")["captures"])
    assert "nan" not in page.lower().split()


def test_one_network_of_one_batch_is_not_drawn_against_others(tmp_path: Path) -> None:
    page = without_data(report(tmp_path / "report.html", write_run(tmp_path / "trace.h5", dt_s=1e-4)))
    assert re.findall(r"<figure id='(\w+)'>", page) == ["figure_14_waveform"]
    assert page.count("fewer than 3 results") == 1
    assert "Not drawn (fewer than 3 results): figure 1, top-1 accuracy by network; 2, " in page
    assert "not judged: they compare networks, and of 1 alone there is a result" in page


def test_files_of_earlier_releases_have_a_report(tmp_path: Path) -> None:
    for path in GOLDEN.glob("*.h5"):
        text = report(tmp_path / f"{path.stem}.html", path)
        assert sections(text) == SECTIONS
        assert block(text, "chart-data")["points"]


def test_imported_recordings_have_a_report(tmp_path: Path) -> None:
    signal = foreign.signal(runs=2, batches=5, batch_s=0.04, rate_hz=20_000.0)
    source = foreign.write_scope_csv(tmp_path / "a.csv", signal)
    trace = tmp_path / "trace.h5"
    assert traces(["import", str(source), "--batch", "4", "--network", "AlexNet", "--out", str(trace)]) == 0
    record = foreign.accuracy_record(tmp_path / "maker.yaml")
    assert replay([str(trace), "--out", str(tmp_path / "out"), "--calibration", str(record), "--quiet"]) == 0
    text = (tmp_path / "out" / "report.html").read_text()
    assert sections(text) == SECTIONS
    for one in block(text, "viewer-data")["captures"]:
        assert len(one["gate"]["changes"]) == 2
    assert "maker.yaml" in text


def test_mistakes_are_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    trace = write_run(tmp_path / "trace.h5", dt_s=1e-4)
    for args, code, said in (
        ([trace, "--out", tmp_path], 2, "is a folder"),
        ([trace, "--out", tmp_path / "report.pdf"], 2, "name the file to write, such as report.html"),
        ([trace, trace, "--out", tmp_path / "r.html"], 2, "named twice"),
        ([tmp_path / "nothing.h5", "--out", tmp_path / "r.html"], 3, "there is no such file"),
        ([tmp_path / "no", "--out", tmp_path / "r.html"], 3, "there is no such file"),
        ([trace, "--margin", "150%", "--out", tmp_path / "r.html"], 2, "--margin"),
    ):
        assert main([*map(str, args)]) == code
        assert said in capsys.readouterr().err
    assert not (tmp_path / "r.html").exists()
    with h5py.File(trace, "r+") as file:
        summary = np.frombuffer(json.dumps({"calibration": "probe"}).encode(), dtype="S1")
        if "summary" in file["provenance"]:
            del file["provenance"]["summary"]
        file["provenance"]["summary"] = summary
    assert main([str(trace), "--out", str(tmp_path / "r.html")]) == 3
    assert "holds the raw data of a calibration (probe)" in capsys.readouterr().err


def shown_in(page: str) -> float:
    """Inches of its only figure on a screen, where 96 pixels make one."""
    width, kind, data = re.findall(r"<figure.*?<img alt='[^']*'(.*?) src='data:image/([\w+]+);base64,([^']*)'", page)[0]
    if kind == "png":
        return float(re.findall(r"width='(\d+)'", width)[0]) / 96
    return float(re.findall(r'<svg[^>]* width="([\d.]+)pt"', base64.b64decode(data).decode())[0]) / 72


def test_letters_are_of_one_size_in_pictures_of_shapes_and_of_pixels(
    swept: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pictures, "FIGURES", pictures.FIGURES[3:4])
    shapes = report(tmp_path / "shapes.html", swept)
    monkeypatch.setattr(pictures, "LARGEST_SVG", 0)
    pixels = report(tmp_path / "pixels.html", swept)
    assert ("image/svg+xml" in shapes, "image/png" in pixels) == (True, True)
    assert shown_in(pixels) == pytest.approx(shown_in(shapes), rel=2e-3)
