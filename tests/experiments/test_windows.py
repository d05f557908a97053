"""Windows that no marker line on the pod tells: analogue lines, by hand, found in the current."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from experiments.found_work import NoWorkError, find_work
from experiments.reduction import reduce_run
from experiments.replay import main
from experiments.traces import CaptureRow, TraceReader, TraceWriter
from experiments.window_choice import choice_of
from experiments.windows import Bits, HandWindows
from instruments import markers
from instruments.waveform import Capture, Preamble, Record
from tests.sweeps import rows
from tests.trace_files import PLAN, SOURCES, write_run
from tests.worlds import LAB, Bench


def both_lines(n: int, start: int, stop: int, batches: int) -> tuple[np.ndarray, np.ndarray, list[int]]:
    """Gate and batch line as bits 0 and 1, as volts of both on one line, and the batch ends."""
    gate, batch = np.zeros(n, int), np.zeros(n, int)
    gate[start:stop] = 1
    ends = np.linspace(start, stop, batches + 1).astype(int)[1:].tolist()
    for end in ends:
        batch[end:] ^= 1
    return gate | batch << 1, (2 * gate + batch) * 1.1, ends


@settings(max_examples=60, deadline=None)
@given(
    st.integers(0, 2**32 - 1),
    st.integers(1, 9),
    st.floats(0.0, 0.06),
    st.sampled_from([1, 2, 3]),
)
def test_lines_on_an_analogue_channel_are_those_of_the_pod(seed: int, batches: int, noise: float, smear: int) -> None:
    rng = np.random.default_rng(seed)
    start = int(rng.integers(200, 500))
    stop = start + batches * int(rng.integers(20, 90))
    bits, volts, _ = both_lines(stop + 300, start, stop, batches)
    seen = np.convolve(np.pad(volts, smear, mode="edge"), np.ones(smear) / smear, "same")[smear:-smear]
    seen = seen + rng.normal(0, noise, len(seen))
    expected = markers.decode(bits.astype(np.uint8), 0, 1).window
    found = markers.lines_of(markers.levels(seen, [0.55, 1.65, 2.75], 0.4), 0, 1, 3)
    window = markers.decode(found, 0, 1).window
    assert expected is not None
    assert window is not None
    assert abs(window.start - expected.start) <= 1
    assert abs(window.stop - expected.stop) <= 1
    assert np.abs(np.subtract(window.batch_ends, expected.batch_ends)).max() <= 2
    gate = markers.decode(markers.lines_of(markers.levels(seen, [1.65], 0.4), 0, 1, 1), 0, 1).window
    assert gate is not None
    assert gate.batch_ends == ()
    assert abs(gate.start - expected.start) <= 1


def test_noise_within_the_hysteresis_moves_no_line() -> None:
    rng = np.random.default_rng(3)
    slow = 3.3 / (1 + np.exp(-np.linspace(-8, 8, 4000)))  # an edge of a thousand samples
    noisy = slow + rng.uniform(-0.1, 0.1, slow.size)
    assert len(np.flatnonzero(np.diff(markers.levels(noisy, [1.4], 0.0)))) > 3
    assert len(np.flatnonzero(np.diff(markers.levels(noisy, [1.4], 0.3)))) == 1
    with pytest.raises(ValueError, match="do not rise"):
        markers.levels(noisy, [1.4, 1.5, 1.6], 0.3)


@pytest.mark.parametrize(("batches", "batch_s", "runs"), [(20, 0.05, 1), (60, 0.005, 2), (3, 0.15, 3)])
def test_work_is_found_in_the_current_within_what_is_said(batches: int, batch_s: float, runs: int) -> None:
    bench = Bench.make(9)
    bench.power(0.0, True)
    marks = []
    for k in range(runs):
        at_s = 0.25 + k * (batches * batch_s + 0.2)
        bench.world.mark(at_s, 1)
        bench.world.mark(at_s + batches * batch_s, 0)
        marks.append((at_s, at_s + batches * batch_s))
    t = np.arange(int((marks[-1][1] + 0.2) * 50_000)) * 20e-6
    amps = bench.world.analog_v(1, t, 4e-6) / 0.1
    found = find_work(amps, 20e-6)
    assert len(found) == runs
    for stretch, (begin_s, end_s) in zip(found, marks, strict=True):
        assert 0.5e-3 <= stretch.edge_s < 0.03
        assert abs(stretch.start * 20e-6 - begin_s) <= stretch.edge_s
        assert abs(stretch.stop * 20e-6 - end_s) <= stretch.edge_s


@pytest.mark.parametrize(
    ("shape", "why"),
    [
        (lambda t: np.full(t.size, 0.1), "cannot be told apart"),
        (lambda t: 0.1 + 0.05 * t, "cannot be told apart"),
        (lambda t: np.where(t < 0.5, 1.0, 0.1), "begun before"),
        (lambda t: np.where(t > 0.5, 1.0, 0.1), "goes on beyond"),
    ],
)
def test_where_no_whole_work_is_there_none_is_found(shape, why: str) -> None:
    t = np.arange(50_000) * 20e-6
    amps = shape(t) + np.random.default_rng(1).normal(0, 0.02, t.size)
    with pytest.raises(NoWorkError, match=why):
        find_work(amps, 20e-6)


# --- through the command ------------------------------------------------------------------------


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_run(tmp_path_factory.mktemp("run") / "trace.h5")


def replayed(run: Path, out: Path, *options: str) -> dict[str, str]:
    """The one row of a replay's results."""
    assert main([str(run), "--out", str(out), "--results-only", "--quiet", *options]) == 0
    (row,) = rows(out / "results.csv")
    return row


def test_windows_by_hand_give_what_the_markers_gave(run: Path, tmp_path: Path) -> None:
    markers_say = replayed(run, tmp_path / "a")
    lines = ["capture,start_s,stop_s"]
    with TraceReader(run) as reader:
        for data in reader.data(kinds=("cell",)):
            window = markers.decode(data.capture["markers"].codes, 0, 1).window
            assert window is not None
            edges = ((k - 0.5) * 20e-6 + data.capture.start_s for k in (window.start, window.stop))
            lines.append(",".join([str(data.index), *(f"{edge:.6f}" for edge in edges)]))
    (tmp_path / "hand.csv").write_text("\n".join(lines))
    by_hand = replayed(run, tmp_path / "b", "--windows", str(tmp_path / "hand.csv"))
    assert by_hand["flags"].split() == [*markers_say["flags"].split(), "window-by-hand"]
    for name in ("power_w", "energy_per_image_j", "idle_power_w", "power_w_u", "energy_per_image_j_u"):
        assert float(by_hand[name]) == pytest.approx(float(markers_say[name]), rel=1e-6)
    assert edge_u(run, tmp_path / "hand.csv") == pytest.approx(edge_u(run), rel=1e-3)
    # Half of the last digit is what is known of a time: a coarser one gives a larger component.
    parts = [line.split(",") for line in lines[1:]]
    coarse = [lines[0], *(f"{number},{float(a):.2f},{float(b):.2f}" for number, a, b in parts)]
    (tmp_path / "hand.csv").write_text("\n".join(coarse))
    assert edge_u(run, tmp_path / "hand.csv") == pytest.approx(500 * edge_u(run), rel=1e-3)


def test_the_mean_power_of_a_coarse_window_by_hand_is_as_unsure_as_the_idle_power_that_it_may_hold(
    run: Path, tmp_path: Path
) -> None:
    """Of a window that begins half of its last digit before the loop."""
    markers_say = replayed(run, tmp_path / "a")
    lines = ["capture,start_s,stop_s"]
    with TraceReader(run) as reader:
        for data in reader.data(kinds=("cell",)):
            window = markers.decode(data.capture["markers"].codes, 0, 1).window
            assert window is not None
            start_s, stop_s = ((k - 0.5) * 20e-6 + data.capture.start_s for k in (window.start, window.stop))
            assert stop_s == pytest.approx(round(stop_s, 1), abs=0.01)
            lines.append(f"{data.index},{start_s - 0.05:.6f},{stop_s:.1f}")
    (tmp_path / "hand.csv").write_text("\n".join(lines))
    by_hand = replayed(run, tmp_path / "b", "--windows", str(tmp_path / "hand.csv"))
    for name in ("power_w", "net_power_w"):
        off = abs(float(by_hand[name]) - float(markers_say[name]))
        added = math.sqrt(float(by_hand[f"{name}_u"]) ** 2 - float(markers_say[f"{name}_u"]) ** 2)
        assert 0.01 * float(markers_say[name]) < off < added


def edge_u(run: Path, windows: Path | None = None) -> float:
    """The contribution of the window's begin to the uncertainty of the time."""
    with TraceReader(run) as reader:
        reader.windows = choice_of(None, str(windows) if windows else None).of(reader)
        (row,) = reduce_run(reader).rows
    assert row is not None
    (component,) = (c for c in row.time_per_image_s.components if c.name == "edge at the gate's rise")
    return component.u


def test_windows_found_in_the_current_say_so_and_agree_within_their_interval(run: Path, tmp_path: Path) -> None:
    markers_say = replayed(run, tmp_path / "a")
    found = replayed(run, tmp_path / "b", "--windows", "found")
    assert "window-found" in found["flags"].split()
    assert float(found["power_w"]) == pytest.approx(float(markers_say["power_w"]), rel=0.01)
    apart = abs(float(found["time_per_image_s"]) - float(markers_say["time_per_image_s"]))
    assert apart <= float(found["time_per_image_s_u"])


def with_gate_on_the_voltage(path: Path) -> Path:
    """A run whose voltage channel shows gate and batch line as levels 0, 2, 4, 6 V, and whose pod shows nothing."""
    bench = Bench.make(4)
    with TraceWriter.create(path, PLAN, source="measured", texts={"lab_yaml": LAB.read_text()}) as writer:
        writer.settle(writer.add(CaptureRow("zero", host_s=1.0), bench.steady("zero", 1.0).data.capture, SOURCES))
        bench.power(2.0, True)
        for k in range(2):
            data = bench.run("cell", 10.0 * (k + 1), 20, 0.05).data
            bits = data.capture["markers"].codes.astype(float)
            volts = 4.0 * (bits.astype(int) & 1) + 2.0 * ((bits.astype(int) >> 1) & 1)
            volts += np.random.default_rng(k).normal(0, 0.1, len(volts))
            p = data.capture["voltage"].preamble
            codes = np.round((volts - p.y_origin) / p.y_increment + p.y_reference).astype(np.uint16)
            records = {
                **data.capture.records,
                "voltage": Record("voltage", p, codes, "V"),
                "markers": Record(
                    "markers", Preamble(0, 0, len(codes), 1, p.x_increment_s, p.x_origin_s, 0, 1.0, 0.0, 0),
                    np.zeros(len(codes), np.uint8), "bits",
                ),
            }  # fmt: skip
            row = CaptureRow("cell", k, "net", 4, k, batches=20, images=80, host_s=10.0 * (k + 1))
            index = writer.add(row, Capture(records), SOURCES)
            writer.settle(index)
            writer.cell(k, "committed", capture=index)
        writer.complete()
    return path


def test_markers_on_an_analogue_channel_are_decoded_from_its_record(tmp_path: Path, capsys) -> None:
    run = with_gate_on_the_voltage(tmp_path / "trace.h5")
    assert main([str(run), "--out", str(tmp_path / "a")]) == 1
    assert "the gate line never moves" in capsys.readouterr().out
    assert main([str(run), "--out", str(tmp_path / "b"), "--markers", "analog:3:1,3,5"]) == 0
    said = capsys.readouterr().out
    assert "decoded from channel 3, the voltage at 1, 3, 5" in said
    (row,) = rows(tmp_path / "b" / "results.csv")
    assert float(row["time_per_image_s"]) == pytest.approx(20 * 0.05 / 80, rel=2e-4)
    assert "clock-mismatch" not in row["flags"]
    # The gate alone cannot count batches, and says so.
    alone = replayed(run, tmp_path / "c", "--markers", "analog:3:3")
    assert float(alone["time_per_image_s"]) == pytest.approx(float(row["time_per_image_s"]), rel=1e-4)


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        (
            ["--markers", "analog:2"],
            "channel 2 was not stored as markers; the file holds channel 1 (current), channel 3",
        ),
        (["--markers", "analog"], "an analogue channel was not stored as markers"),
        (["--markers", "analog:1"], "give the level of its gate in A"),
        (["--markers", "pod"], "own, or analog[:CHANNEL"),
        (["--markers", "analog:3:1,2"], "one level (the gate), or three"),
        (["--markers", "analog:3:1,2,3:1.5"], "do not rise by more than the hysteresis"),
        (["--markers", "analog:3", "--windows", "found"], "give one"),
        (["--windows", "none.csv"], "none.csv: cannot be read"),
        (["--windows", "bad.csv"], "bad.csv:3: start_s 0.5 is not before stop_s 0.1"),
        (["--windows", "zero.csv"], "zero.csv:2: capture 0"),
        (["--windows", "comma.csv"], "comma.csv:2: has more cells than the header has names"),
        (["--windows", "far.csv"], "far.csv:2: '1e308' is no number of seconds on the axis of a record"),
    ],
)
def test_what_cannot_be_is_refused_with_what_to_do(
    run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys, options: list[str], expected: str
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("bad.csv").write_text("capture,start_s,stop_s\n2,0.0,0.4\n3,0.5,0.1\n")
    Path("zero.csv").write_text("capture,start_s,stop_s\n0,0.0,0.4\n")
    Path("comma.csv").write_text("capture,start_s,stop_s\n2,0,01,0,4\n")
    Path("far.csv").write_text("capture,start_s,stop_s\n2,0.0,1e308\n")
    assert main([str(run), "--out", "out", *options]) == 2
    assert expected in capsys.readouterr().err


def test_a_window_by_hand_that_cuts_a_run_counts_the_images_within(run: Path, tmp_path: Path) -> None:
    """A batch costs what it costs, whatever part of its run is looked at; the idle power stays that before the run."""
    markers_say = replayed(run, tmp_path / "a")
    whole, cut, short = (["capture,start_s,stop_s"] for _ in range(3))
    with TraceReader(run) as reader:
        for data in reader.data(kinds=("cell",)):
            window = markers.decode(data.capture["markers"].codes, 0, 1).window
            assert window is not None
            at_s = [(k - 0.5) * 20e-6 + data.capture.start_s for k in (window.start, *window.batch_ends, window.stop)]
            batch_s = at_s[3] - at_s[2]
            whole.append(f"{data.index},{at_s[0] - 3 * batch_s / 10:.6f},{at_s[-1] + 0.001:.6f}")
            cut.append(f"{data.index},{at_s[5] + 0.4 * batch_s:.6f},{at_s[-6] - 0.4 * batch_s:.6f}")
            short.append(f"{data.index},{at_s[5] + 0.1 * batch_s:.6f},{at_s[5] + 0.9 * batch_s:.6f}")
    for name, lines in (("whole", whole), ("cut", cut), ("short", short)):
        (tmp_path / f"{name}.csv").write_text("\n".join(lines))
    part = replayed(run, tmp_path / "b", "--windows", str(tmp_path / "cut.csv"))
    assert {"window-by-hand", "window-part"} <= set(part["flags"].split())
    assert "clock-mismatch" not in part["flags"]
    assert float(part["time_per_image_s"]) == pytest.approx(float(markers_say["time_per_image_s"]), rel=0.01)
    assert float(part["energy_per_image_j"]) == pytest.approx(float(markers_say["energy_per_image_j"]), rel=0.03)
    assert float(part["idle_power_w"]) == pytest.approx(float(markers_say["idle_power_w"]), rel=0.01)
    all_of_it = replayed(run, tmp_path / "c", "--windows", str(tmp_path / "whole.csv"))
    assert "window-part" not in all_of_it["flags"]
    assert main([str(run), "--out", str(tmp_path / "d"), "--quiet", "--windows", str(tmp_path / "short.csv")]) == 1
    (row,) = rows(tmp_path / "d" / "results.csv")
    assert (row["energy_per_image_j"], row["flags"]) == ("", "window-cuts-run")


def test_a_window_that_is_shorter_than_the_run_is_refused_where_no_line_counts_its_batches(run: Path) -> None:
    with TraceReader(run) as reader:
        data = next(reader.data(kinds=("cell",)))
    lines = data.capture["markers"]
    window = markers.decode(lines.codes, 0, 1).window
    assert window is not None
    run_s, dt_s = window.samples * data.capture.dt_s, data.capture.dt_s
    begin_s = data.capture.start_s + (window.start - 0.5) * dt_s
    dead = replace(data, capture=Capture({**data.capture.records, "markers": replace(lines, codes=lines.codes & 1)}))
    for share, timed_s, code in ((1.0, run_s, None), (0.7, run_s, "window-cuts-run"), (0.7, 0.0, None)):
        by_hand = HandWindows({data.index: (begin_s, begin_s + share * run_s, 1e-4)}, Bits(0, 1))
        found = by_hand.apply(replace(dead, device_s=timed_s))
        assert (found.problem_code if found.problem else None) == code
        assert found.images == data.images
