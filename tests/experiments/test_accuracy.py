"""Accuracy over small folders of images, by a network whose right answers are known."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from experiments import accuracy, pictures
from experiments.accuracy import Share, ranks
from tests.experiments.colours import CLASSES
from tests.sweeps import run

NETWORK = "tests.experiments.colours:network@3x8x8"
NAMES = list(CLASSES)


def paint(path: Path, colour: tuple[int, int, int], size: tuple[int, int] = (24, 32)) -> Path:
    """A picture of one colour, (height, width)."""
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", size[::-1], colour).save(path)
    return path


@pytest.fixture
def folders(tmp_path: Path) -> Path:
    """Three images of each class; one red is filed as green, and one of the whites is a light grey."""
    data = tmp_path / "val"
    for name, colour in CLASSES.items():
        for k in range(3):
            paint(data / name / f"{k}.{('png', 'jpeg', 'bmp')[k]}", colour, (20 + 9 * k, 40 - 7 * k))
    (data / "n04_red" / "0.png").rename(data / "n03_green" / "0red.png")
    paint(data / "n05_white" / "3.png", (200, 200, 200))
    (data / "n01_black" / ".hidden").write_text("not an image")
    return data


@dataclass
class Said:
    code: int
    out: str
    err: str


class Program:
    """The program's own main in this process: torch is imported once for all."""

    def __init__(self, capture: pytest.CaptureFixture[str]) -> None:
        self._capture = capture

    def run(self, *args: str | Path) -> Said:
        code = accuracy.main(list(map(str, args)))
        said = self._capture.readouterr()
        return Said(code, said.out, said.err)

    def measured(self, *args: str | Path) -> dict[str, Any]:
        said = self.run("--json", "--quiet", *args)
        assert said.code == 0, said.err
        found: dict[str, Any] = json.loads(said.out)
        return found

    def refused(self, *args: str | Path) -> str:
        said = self.run(*args)
        assert said.code == 2, said.err
        lines = said.err.strip().splitlines()
        assert len(lines) == 1, said.err
        return lines[0]


@pytest.fixture
def program(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Program:
    monkeypatch.setattr("instruments.interrupts.stop_on_signals", lambda: None)
    return Program(capsys)


def test_right_answers_are_counted_with_their_interval(program: Program, folders: Path) -> None:
    found = program.measured("--network", NETWORK, "--data", folders, "--resize", "16", "--batch", "4")
    assert (found["source"], found["images"], found["unreadable"], found["outputs"]) == ("measured", 19, 0, 6)
    assert found["top1"] == pytest.approx(100 * 18 / 19)
    assert found["top5"] == 100.0
    low, high = found["top1_low"], found["top1_high"]
    # (p + z²/2n ± z sqrt(p(1-p)/n + z²/4n²)) / (1 + z²/n) by hand for 18 of 19
    assert (low, high) == pytest.approx((75.36, 99.06), abs=0.01)
    assert found["weights"] == {"source": f"as {NETWORK} makes them"}


@pytest.mark.parametrize(
    ("right", "of", "low", "high"),
    [
        (81, 263, 25.53, 36.62),
        (15, 148, 6.24, 16.05),
        (0, 20, 0.0, 16.11),
        (1, 29, 0.61, 17.18),
        (29, 29, 88.30, 100.0),
    ],
)
def test_intervals_are_those_of_the_literature(right: int, of: int, low: float, high: float) -> None:
    """Newcombe, Statistics in Medicine 17 (1998) 857, table I, method 3."""
    assert Share(right, of).interval == pytest.approx((low, high), abs=0.006)


def test_the_order_of_batches_and_their_size_change_nothing(program: Program, folders: Path) -> None:
    found = [program.measured("--network", NETWORK, "--data", folders, "--batch", n) for n in ("1", "19")]
    assert found[0]["top1_right"] == found[1]["top1_right"] == 18


def test_a_flat_folder_with_a_list_of_truths(program: Program, folders: Path, tmp_path: Path) -> None:
    flat, lines, named = tmp_path / "flat", [], []
    flat.mkdir()
    for path in sorted(folders.glob("*/[0-9]*")):
        file = f"{path.parent.name} {path.name}"  # a blank within a name
        (flat / file).write_bytes(path.read_bytes())
        lines.append(f"{file} {NAMES.index(path.parent.name)}")
        named.append(f"{file} {path.parent.name}")
    (tmp_path / "val.txt").write_text("\n".join(lines) + "\n")
    (tmp_path / "named.txt").write_text("\n".join(reversed(named)))
    (tmp_path / "classes.txt").write_text("\n".join(NAMES))
    common = ("--network", NETWORK, "--data", flat)
    by_number = program.measured(*common, "--truth", tmp_path / "val.txt")
    by_name = program.measured(*common, "--truth", tmp_path / "named.txt", "--classes", tmp_path / "classes.txt")
    assert by_number["top1"] == by_name["top1"] == pytest.approx(100 * 18 / 19)
    assert "needs --classes FILE" in program.refused(*common, "--truth", tmp_path / "named.txt")
    (tmp_path / "val.txt").write_text("\n".join([*lines, lines[0]]))
    assert "names a file twice" in program.refused(*common, "--truth", tmp_path / "val.txt")
    (tmp_path / "val.txt").write_text(f"{lines[0]}\n490\n361\n")  # the development kit's own list
    assert re.search(
        r"val\.txt:2: '490' is not `FILE CLASS`", program.refused(*common, "--truth", tmp_path / "val.txt")
    )


def test_a_part_of_the_classes_needs_the_list_of_all(program: Program, folders: Path, tmp_path: Path) -> None:
    for path in (folders / "n01_black").iterdir():
        path.unlink()
    (folders / "n01_black").rmdir()
    args = ("--network", NETWORK, "--data", folders)
    assert "5 classes and the network 6 outputs" in program.refused(*args)
    (tmp_path / "classes.txt").write_text("\n".join(NAMES))
    assert program.measured(*args, "--classes", tmp_path / "classes.txt")["top1"] == pytest.approx(100 * 15 / 16)


def test_ten_crops_see_the_corners(program: Program, tmp_path: Path) -> None:
    """A red spot in the middle of blue: one crop sees the spot, ten see mostly blue."""
    data = tmp_path / "val"
    for name, colour in CLASSES.items():
        paint(data / name / "0.png", colour)
    pixels = np.zeros((24, 24, 3), np.uint8)
    pixels[..., 2] = 255
    pixels[8:16, 8:16] = (255, 0, 0)
    Image.fromarray(pixels).save(data / "n04_red" / "spot.png")
    args = ("--network", NETWORK, "--data", data, "--resize", "24")
    assert program.measured(*args)["top1_right"] == 7
    ten = program.measured(*args, "--crops", "10", "--batch", "3")
    assert (ten["top1_right"], ten["crops"]) == (6, 10)


def test_a_file_that_is_no_image_is_named_counted_and_left_out(program: Program, folders: Path) -> None:
    (folders / "n02_blue" / "thumbs.db").write_bytes(b"\x00" * 5000)
    whole = (folders / "n06_yellow" / "1.jpeg").read_bytes()
    (folders / "n06_yellow" / "1.jpeg").write_bytes(whole[: len(whole) // 2])
    done = run("experiments.accuracy", "--network", NETWORK, "--data", folders, "--quiet")
    assert done.returncode == 1
    lines = done.stderr.strip().splitlines()
    assert [re.search(r"n0\d_\w+/\S+: is no image", line) is not None for line in lines] == [True, True]
    assert "2 files could not be read and are left out" in done.stdout
    assert "18 images, 1 crop of 8x8" in done.stdout
    assert "top-1 94.44 % [" in done.stdout
    for path in folders.glob("*/*"):
        path.write_text("no image")
    said = program.run("--network", NETWORK, "--data", folders, "--quiet")
    assert said.code == 2
    assert "none of its 20 files is an image" in said.err


def test_weights_that_fit_are_loaded_and_others_are_one_line(program: Program, folders: Path, tmp_path: Path) -> None:
    import torch

    from tests.experiments import colours

    state = colours.network().state_dict()
    torch.save(state, tmp_path / "good.pth")
    blind = "tests.experiments.colours:undecided@3x8x8"
    args = ("--network", blind, "--data", folders)
    assert program.measured(*args)["top1"] == 0.0  # where all classes are alike no answer is right
    found = program.measured(*args, "--weights", tmp_path / "good.pth")
    assert found["top1_right"] == 18
    assert set(found["weights"]) == {"source", "sha256"}
    torch.save({"fc.weight": state["colour.weight"]}, tmp_path / "other.pth")
    assert "do not fit" in program.refused(*args, "--weights", tmp_path / "other.pth")
    (tmp_path / "text.pth").write_text("not weights")
    assert "text.pth" in program.refused(*args, "--weights", tmp_path / "text.pth")
    assert "cannot be read" in program.refused(*args, "--weights", tmp_path / "none.pth")


def test_mistakes_are_one_line_each(program: Program, folders: Path, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "twice.txt").write_text("n01_black\nn01_black\n")
    data = ("--data", folders)
    for args, said in (
        (("--network", "ResNet-18", *data), "random weights"),
        (("--network", "ResNet-19", *data), "did you mean ResNet-18"),
        (("--network", "busy:4", *data), "networks in torch"),
        (("--network", "tests.experiments.colours:broken@3x8x8", *data), "not finite"),
        (("--network", "tests.experiments.colours:network@1x8x8", *data), "no image of 3 colours"),
        (("--network", "tests.experiments.colours:network@3x8", *data), "no image of 3 colours"),
        (("--network", NETWORK, "--data", tmp_path / "none"), "is no folder"),
        (("--network", NETWORK, "--data", tmp_path / "empty"), "no folder for each class"),
        (("--network", NETWORK, *data, "--classes", tmp_path / "twice.txt"), "names 'n01_black' twice"),
        (("--network", NETWORK, *data, "--resize", "4"), "smaller than the input of 8"),
        (("--network", NETWORK, *data, "--std", "1,0,1"), "divided by 0"),
        (("--network", NETWORK), "is cited: measure it"),
    ):
        assert said in program.refused(*args), args


def test_without_data_the_cited_value_is_shown_as_such(program: Program) -> None:
    assert program.measured("--network", "resnet-18")["source"] == "cited"
    done = run("experiments.accuracy", "--network", "ResNet-18")
    assert done.returncode == 0
    assert re.match(r"ResNet-18: top-1 69\.57 %, cited from ", done.stdout)


def test_ties_count_against_the_network() -> None:
    scores = np.array([[1, 2, 2], [5, 5, 5], [3, 1, 2]], np.float32)
    assert ranks(scores, [1, 0, 0]) == [1, 2, 0]


def test_crops_lie_where_they_should(tmp_path: Path) -> None:
    """A ramp along x: the shorter side becomes 64, the crop of 32 is central, the mirror image is one."""
    ramp = np.broadcast_to(np.arange(192, dtype=np.uint8)[None, :, None], (128, 192, 3))
    Image.fromarray(np.ascontiguousarray(ramp)).save(tmp_path / "ramp.png")
    plain = {"mean": (0.0, 0.0, 0.0), "std": (1.0, 1.0, 1.0)}
    one = pictures.Crops(64, (32, 32), 1, **plain).of(tmp_path / "ramp.png")
    assert one.shape == (1, 3, 32, 32)
    expected = (2 * (32 + np.arange(32)) + 0.5) / 255  # of 96 columns the middle 32; two of the image's in each
    assert one[0, 0, 5] == pytest.approx(expected, abs=1.1 / 255)
    ten = pictures.Crops(64, (32, 32), 10, **plain).of(tmp_path / "ramp.png")
    assert np.array_equal(ten[0], one[0])
    assert np.array_equal(ten[5:], ten[:5, :, :, ::-1])
    assert ten[1, 0, 0, 0] < ten[0, 0, 0, 0] < ten[2, 0, 0, 0]
    assert [pictures.usual_resize(size) for size in ((224, 224), (227, 227), (299, 299))] == [256, 256, 342]


def test_progress_is_told_while_it_works(folders: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(accuracy, "SAY_EVERY_S", 0.0)
    data, notes = pictures.find(folders, None, None), []
    crops = pictures.Crops(16, (8, 8))
    counted = accuracy.count(
        data, crops, lambda found: np.eye(6, dtype=np.float32)[[0] * len(found)], 10, print, notes.append
    )
    assert (counted.images, counted.top1) == (19, 3)
    assert notes == ["10 of 19 images, top-1 30.00 % so far", "19 of 19 images, top-1 15.79 % so far"]


def test_help_says_what_the_exit_codes_mean(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        accuracy.main(["--help"])
    assert "exit codes: 0 good, 1 some files could not be read" in " ".join(capsys.readouterr().out.split())
