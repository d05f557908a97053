"""Figures of runs, by the command line and by hand: what they show is what was reduced, and what is missing is told."""

from __future__ import annotations

import csv
import itertools
import math
import shutil
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from experiments import power_sweep
from experiments.figures import catalogue
from experiments.figures.__main__ import main, write
from experiments.figures.rows import NothingToDrawError, Run
from experiments.reduction import reduce_run
from experiments.traces import TraceReader
from tests.experiments.test_forecast import assert_foretold
from tests.sweeps import ROOT, rows

TX1 = ROOT / "docs" / "benches" / "simulated-tx1.yaml"
COUNTER = TX1.with_name("simulated-counter.yaml")
NETWORKS = ("AlexNet", "BN-NIN", "ENet", "ResNet-18", "VGG-16")


def sweep(out: Path, lab: Path, networks: str, batches: str) -> Path:
    code = power_sweep.main(
        [
            "--lab",
            str(lab),
            "--networks",
            networks,
            "--batches",
            batches,
            "--repeats",
            "1",
            "--out",
            str(out),
            "--quiet",
        ]
    )
    assert code in (0, 1)
    return out


@pytest.fixture(scope="module")
def tx1(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """VGG-16 has no memory for 64 images."""
    return sweep(tmp_path_factory.mktemp("runs") / "tx1", TX1, ",".join(NETWORKS), "1,16,64")


@pytest.fixture(scope="module")
def counter(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Another device, with a load of which neither size nor accuracy is known."""
    return sweep(tmp_path_factory.mktemp("runs") / "counter", COUNTER, "busy:5", "1")


@pytest.fixture(scope="module")
def run(tx1: Path) -> Iterator[Run]:
    with TraceReader(tx1 / "trace.h5") as reader:
        yield Run(reader, reduce_run(reader), "tx1")


@pytest.fixture(scope="module")
def pictures(run: Run) -> dict[int, catalogue.Drawn]:
    """All figures; how long that takes must not surprise anybody."""
    began_s = time.process_time()
    found = {wanted.number: wanted.draw([run]) for wanted in catalogue.FIGURES}
    assert time.process_time() - began_s < 30
    return found


@pytest.fixture(scope="module")
def drawn(pictures: dict[int, catalogue.Drawn], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """All files of all figures."""
    out = tmp_path_factory.mktemp("all")
    for wanted in catalogue.FIGURES:
        write(out, wanted, pictures[wanted.number])
    return out


def read(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def figure(number: int) -> catalogue.Figure:
    (found,) = catalogue.choose(str(number))
    return found


def test_every_figure_is_there_as_picture_page_and_table(drawn: Path) -> None:
    for wanted in catalogue.FIGURES:
        assert (drawn / f"{wanted.file}.png").read_bytes().startswith(b"\x89PNG")
        assert (drawn / f"{wanted.file}.pdf").read_bytes().startswith(b"%PDF")
        assert read(drawn / f"{wanted.file}.csv")


def test_the_sweep_took_as_long_as_was_foretold(tx1: Path) -> None:
    assert_foretold(tx1, TX1)


def test_the_pictures_beside_the_results_are_the_same(drawn: Path, tx1: Path) -> None:
    for name in ("figure_04_power_vs_batch", "figure_11_energy_vs_batch"):
        assert (tx1 / f"{name[10:]}.png").read_bytes() == (drawn / f"{name}.png").read_bytes()


@pytest.mark.parametrize(
    ("name", "columns"),
    [
        ("figure_03_time_vs_batch", ("time_per_image_s",)),
        ("figure_04_power_vs_batch", ("net_power_w", "idle_power_w")),
        ("figure_11_energy_vs_batch", ("energy_per_image_j", "net_energy_per_image_j")),
        ("figure_07_operations_vs_time", ("time_per_image_s",)),
        ("figure_08_operations_vs_power", ("net_power_w",)),
    ],
)
def test_the_data_are_those_of_the_results_to_the_last_digit(
    drawn: Path, tx1: Path, name: str, columns: tuple[str, ...]
) -> None:
    known = {(r["network"], r["batch"]): r for r in rows(tx1 / "results.csv")}
    found = read(drawn / f"{name}.csv")
    asked = {"1", "16"} if "operations" in name else {"1", "16", "64"}
    assert {(r["network"], r["batch"]) for r in found} == {key for key in known if key[1] in asked}
    for row in found:
        result = known[row["network"], row["batch"]]
        for column in (c for name in columns for c in (name, f"{name}_u")):
            assert row[column] == result[column]
        assert row["outcome"] == result["outcome"]
        assert row["source"] == "simulated"


def test_what_is_missing_is_shown_as_missing(drawn: Path, run: Run, pictures: dict[int, catalogue.Drawn]) -> None:
    for name, value in (("03_time_vs_batch", "time_per_image_s"), ("05_memory_vs_batch", "memory_bytes")):
        (row,) = [r for r in read(drawn / f"figure_{name}.csv") if (r["network"], r["batch"]) == ("VGG-16", "64")]
        assert (row["outcome"], row[value]) == ("out of memory", "")
    picture = pictures[3].picture
    crosses = [line for line in picture.axes[0].lines if line.get_marker() == "x"]
    assert [line.get_color() for line in crosses] == ["#006d2c"]
    assert float(crosses[0].get_xdata()[0]) == pytest.approx(64, rel=0.1)
    assert "× out of memory" in said(picture)
    # Where it belongs into a panel that has no place for it, it is named.
    late = replace(run, outcome=without(run, "ENet", 16))
    assert "ENet (not measured)" in said(figure(9).draw([late]).picture)


def said(picture: object) -> str:
    return " ".join(text.get_text() for text in picture.texts)  # type: ignore[attr-defined]


def without(run: Run, network: str, batch: int):
    """The run's outcome without one cell."""
    o, lost = run.outcome, run.outcome.pairs.index((network, batch))
    results, devices = list(o.rows), list(o.device)
    results[lost] = None
    devices[lost] = replace(devices[lost], outcome="not measured", runs=())
    return replace(o, rows=tuple(results), device=tuple(devices))


def test_a_line_goes_through_the_values_and_its_bars_are_as_long_as_u(
    run: Run, pictures: dict[int, catalogue.Drawn]
) -> None:
    axes = pictures[4].picture.axes[0]
    for container, name in zip(axes.containers, NETWORKS, strict=True):
        line, _, (bars,) = container.lines
        points = sorted((p for p in run.points if p.network == name), key=lambda p: p.batch)
        values = np.array([p.value("net_power_w") for p in points])
        np.testing.assert_array_equal(line.get_ydata(), values)
        there = [p for p in points if p.result is not None]
        ends = np.array([s[:, 1] for s in bars.get_segments() if len(s)])
        assert np.diff(ends, axis=1)[:, 0] / 2 == pytest.approx([p.half("net_power_w") for p in there])


def test_every_figure_says_where_its_values_come_from(run: Run, pictures: dict[int, catalogue.Drawn]) -> None:
    for wanted in catalogue.FIGURES:
        text = said(pictures[wanted.number].picture)
        if wanted.cited:
            assert "cited" in text
        else:
            assert "simulated" in text
            assert "model" in text
        assert ("accuracy: cited" in text) == (wanted.number in (1, 2, 9, 10, 12))
    measured = replace(run, outcome=replace(run.outcome, source="measured", lab=of_a_board(run)))
    text = said(figure(9).draw([measured]).picture)
    assert "time: measured on the board" in text
    assert "simulated" not in text


def of_a_board(run: Run):
    dut = run.outcome.lab.dut.model_copy(update={"simulated": None, "name": "the board"})
    return run.outcome.lab.model_copy(update={"dut": dut})


def test_the_fits_are_those_of_the_tables(drawn: Path) -> None:
    points = [r for r in read(drawn / "figure_07_operations_vs_time.csv") if r["batch"] == "16"]
    (fit,) = [r for r in read(drawn / "figure_07_operations_vs_time_fit.csv") if r["batch"] == "16"]
    gops = [float(p["operations_opcounter2016"]) / 1e9 for p in points]
    slope, at_zero = np.polyfit(gops, [float(p["time_per_image_s"]) * 1e3 for p in points], 1)
    assert (float(fit["slope_ms_per_gop"]), float(fit["at_zero_ms"])) == pytest.approx((slope, at_zero), rel=1e-6)
    (hinge,) = read(drawn / "figure_06_memory_vs_parameters_fit.csv")
    # The model's board: 200 MB up to 100 MB of parameters, 1.30 above; half a percent of scatter.
    assert float(hinge["floor_mb"]) == pytest.approx(200, rel=0.02)
    assert float(hinge["slope"]) == pytest.approx(1.3, rel=0.05)
    for row in read(drawn / "figure_09_top1_vs_images_per_second_fit.csv"):
        at = [r for r in read(drawn / "figure_09_top1_vs_images_per_second.csv") if r["batch"] == row["batch"]]
        room = [
            float(row["at_zero_percent"]) + float(row["slope_percent_per_hz"]) * float(r["images_per_second"])
            - float(r["top1"]) for r in at
        ]  # fmt: skip
        assert min(room) == pytest.approx(0, abs=1e-5)


def test_the_front_of_energy_is_told_by_panel(drawn: Path) -> None:
    table = read(drawn / "figure_12_top1_vs_energy.csv")
    assert {r["panel"] for r in table} == {"batch 1", "batch 16", "each network at its best batch"}
    best = {r["network"]: r for r in table if r["panel"].startswith("each")}
    energies = {n: [float(r["energy_per_image_j"]) for r in table if r["network"] == n] for n in best}
    assert all(float(best[n]["energy_per_image_j"]) == min(energies[n]) for n in best)
    assert best["VGG-16"]["pareto"] == "front"  # the most accurate one of these
    assert best["BN-NIN"]["pareto"] == "behind"  # ENet is better and takes less


def test_components_add_up(drawn: Path, tx1: Path) -> None:
    table = [
        r for r in read(drawn / "figure_13_uncertainty_budget.csv") if r["network"] == "ENet" and r["batch"] == "1"
    ]
    (result,) = [r for r in rows(tx1 / "results.csv") if (r["network"], r["batch"]) == ("ENet", "1")]
    for quantity in {r["quantity"] for r in table}:
        parts = {r["component"]: float(r["u"]) for r in table if r["quantity"] == quantity}
        combined = parts.pop("combined")
        assert parts.pop("U (95 %)") == float(result[f"{quantity}_u"])
        assert math.sqrt(sum(u * u for u in parts.values())) == pytest.approx(combined, rel=1e-6)


def test_a_component_that_most_budgets_lack_has_no_bar(run: Run) -> None:
    results, name = list(run.outcome.rows), "current gain, reference"
    first = next(row for row in results if row is not None)
    for k, row in enumerate(results):
        if row is not None and row is not first:
            net = row.net_energy_per_image_j
            net = replace(net, components=tuple(c for c in net.components if c.name != name))
            results[k] = replace(row, net_energy_per_image_j=net)
    few = replace(run, outcome=replace(run.outcome, rows=tuple(results)))
    labelled, axes = figure(13).draw([few]).picture.axes
    names = [text.get_text() for text in labelled.get_yticklabels()]
    ends = {round(-bar.get_y() - bar.get_height() / 2): bar.get_width() for bar in axes.patches}
    assert ends[names.index(name)] == axes.get_xlim()[0]
    assert ends[names.index("voltage gain, reference")] > 0.01


def test_what_is_not_drawn_has_no_caption_and_no_table(run: Run) -> None:
    for network in NETWORKS[2:]:
        for batch in (1, 16):
            run = replace(run, outcome=without(run, network, batch))
    for number in (7, 9):
        drawn = figure(number).draw([run])
        assert "dashed" not in said(drawn.picture)
        assert "shaded" not in said(drawn.picture)
        assert set(drawn.tables) == {""}


def test_error_bars_of_neighbouring_networks_are_set_apart(pictures: dict[int, catalogue.Drawn]) -> None:
    for number in (3, 4, 11):
        axes = pictures[number].picture.axes[0]
        at_one = [container.lines[0].get_xdata()[0] for container in axes.containers]
        assert len(set(at_one)) == len(NETWORKS)
        assert at_one == pytest.approx([1.0] * len(NETWORKS), rel=0.2)


def test_the_folded_batch_has_the_power_of_the_result_and_the_settling_of_the_board(drawn: Path, tx1: Path) -> None:
    folded = read(drawn / "figure_14_waveform.csv")
    cell = folded[0]["network"], folded[0]["batch"]
    (result,) = [r for r in rows(tx1 / "results.csv") if (r["network"], r["batch"]) == cell]
    mean = np.mean([float(r["power_w"]) for r in folded])
    # All but the first batch, which begins at rest and so takes less.
    assert 0 < mean - float(result["power_w"]) < 0.02 * mean
    one = read(drawn / "figure_14_waveform_batch.csv")
    assert {r["gate"] for r in one} == {"1"}
    turns = [float(b["time_s"]) for a, b in itertools.pairwise(one) if a["batch_line"] != b["batch_line"]]
    assert turns == pytest.approx([0.0, float(folded[0]["time_s"]) * 2 * len(folded)], abs=2e-3)


def test_the_settling_time_is_told_where_the_cell_is_chosen_by_hand(run: Run) -> None:
    drawn = figure(14).draw([run], catalogue.Options(cell=("BN-NIN", 1)))
    assert drawn.tables[""].rows[0][2:4] == ("BN-NIN", 1)
    # simulation.world.settling_s is 2 ms.
    assert any(f"{ms} ms: the board's capacitors" in said(drawn.picture) for ms in ("1.8", "1.9", "2", "2.1", "2.2"))
    with pytest.raises(NothingToDrawError, match="VGG-16 at batch 64"):
        figure(14).draw([run], catalogue.Options(cell=("VGG-16", 64)))


def test_drift_has_every_run_in_the_order_of_time(drawn: Path, run: Run) -> None:
    table = read(drawn / "figure_15_idle_and_drift.csv")
    times = [float(r["time_s"]) for r in table]
    assert times == sorted(times)
    assert times[0] >= 0
    cells = [(r["network"], int(r["batch"])) for r in table if r["kind"] == "cell"]
    assert sorted(cells) == sorted((r.result.network, r.result.batch) for r in run.outcome.repeats)
    at_rest = [float(r["idle_power_w"]) for r in table if r["kind"] == "idle"]
    assert at_rest == pytest.approx([1.30] * 2, abs=0.05)
    zeros = [r for r in read(drawn / "figure_15_idle_and_drift_zero.csv") if r["channel"] == "current"]
    assert len(zeros) == 2


def test_the_same_run_gives_the_same_bytes(drawn: Path, tx1: Path, tmp_path: Path) -> None:
    shutil.copy(tx1 / "trace.h5", tmp_path / "tx1.h5")
    assert main([str(tmp_path / "tx1.h5"), "--out", str(tmp_path / "again"), "--only", "7,14", "--quiet"]) == 0
    again = sorted((tmp_path / "again").iterdir())
    assert len(again) == 2 * 3 + 1 + 2
    for path in again:
        assert path.read_bytes() == (drawn / path.name).read_bytes(), path.name


def test_runs_stand_side_by_side_and_what_one_lacks_hides_nothing_of_the_other(
    tx1: Path, counter: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "both"
    assert main([str(tx1), str(counter), "--out", str(out), "--only", "1,7,15"]) == 0
    assert capsys.readouterr().err == ""
    table = read(out / "figure_07_operations_vs_time.csv")
    assert {(r["run"], r["batch"]) for r in table} == {("tx1", "1"), ("tx1", "16"), ("counter", "1")}
    (busy,) = [r for r in table if r["network"] == "busy:5"]
    assert busy["time_per_image_s"]
    assert busy["parameters"] == ""
    assert {r["run"] for r in read(out / "figure_15_idle_and_drift.csv")} == {"tx1", "counter"}
    assert {r["network"] for r in read(out / "figure_01_top1_by_network.csv") if not r["top1"]} == {"busy:5"}
    with TraceReader(tx1 / "trace.h5") as a, TraceReader(counter / "trace.h5") as b:
        runs = [Run(a, reduce_run(a), "tx1"), Run(b, reduce_run(b), "counter")]
        one, other = figure(3).draw(runs).picture.axes
        assert [axes.get_title(loc="left").split(" · ")[1] for axes in (one, other)] == ["tx1", "counter"]
        assert one.get_ylim() == other.get_ylim()
        assert "busy:5 (operations or parameters not known)" in said(figure(7).draw(runs).picture)


def test_figures_without_their_data_are_named_and_the_others_drawn(
    tmp_path: Path, counter: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = shutil.copytree(counter, tmp_path / "busy")
    assert main([str(out)]) == 0
    printed = capsys.readouterr().out
    assert (out / "figures" / "figure_03_time_vs_batch.png").is_file()
    for number in (1, 2, 5, 6, 7, 8, 9, 10, 12, 16):
        assert f"figure {number}, {figure(number).title}: not drawn: " in printed
        assert not list((out / "figures").glob(f"figure_{number:02d}_*"))
    assert main([str(out), "--only", "accuracy_density,4", "--quiet"]) == 1
    captured = capsys.readouterr()
    assert "figure 10, accuracy density: not drawn: no accuracy is known of busy:5" in captured.err
    assert captured.out.startswith(f"figure 4, {figure(4).title}: ")  # what was drawn, and nothing else
    assert main([str(out), "--only", "5", "--memory", "allocator_peak"]) == 1
    assert "no device told its allocator_peak; known here: none" in capsys.readouterr().err


def test_what_is_no_run_is_told(tmp_path: Path, tx1: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "notes.txt").write_text("hello")
    for args, code, text in (
        ([str(tmp_path)], 2, "holds no trace.h5"),
        ([str(tmp_path / "nowhere")], 3, "there is no such file"),
        ([str(tmp_path / "notes.txt")], 3, "cannot be opened as a trace file"),
        ([str(tx1), str(tx1 / "trace.h5")], 2, "named twice"),
    ):
        assert main([*args, "--out", str(tmp_path / "out")]) == code
        (line,) = capsys.readouterr().err.splitlines()
        assert text in line
