"""Labelled images in a folder, and the crops of them that a network sees. Knows no network and no torch.

Two layouts: a folder for each class, named as the class is; or one flat folder with a list of file and class. The
index of a class is its place among the class names in the order of their characters, as in everybody's ImageNet
(n01440764, the tench, is 0), or its line in a list of classes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from instruments.errors import ConfigError

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
"""Of ImageNet's training images, red green blue, in shares of full scale: what most networks were trained with."""

PAPER_RESIZE_PX, PAPER_CROP_PX = 256, 224

Floats = NDArray[np.float32]


@dataclass(frozen=True)
class Labelled:
    """One image and the index of its true class."""

    path: Path
    index: int


@dataclass(frozen=True)
class DataSet:
    """Images in the order of their names; `classes` is how many there are, None where only indices are known."""

    images: tuple[Labelled, ...]
    classes: int | None

    def check(self, outputs: int) -> None:
        """Raise ConfigError where the indices cannot be those of a network with so many outputs."""
        if self.classes is not None and self.classes != outputs:
            raise ConfigError(
                f"the data has {self.classes} classes and the network {outputs} outputs, so that the index of a class "
                "is not known: name all classes in their order with --classes FILE"
            )
        highest = max(self.images, key=lambda image: image.index)
        if highest.index >= outputs:
            raise ConfigError(f"{highest.path} is of class {highest.index} and the network has {outputs} outputs")


class UnreadableError(Exception):
    """A file that is no image; one line."""


def find(data: Path, truth: Path | None, classes: Path | None) -> DataSet:
    """Find the images below a folder. Raises ConfigError naming folder, file and line."""
    if not data.is_dir():
        raise ConfigError(f"--data {data}: is no folder")
    names = _lines(classes, "--classes") if classes is not None else None
    if names is not None and len(set(names)) < len(names):
        twice = next(name for name in names if names.count(name) > 1)
        raise ConfigError(f"--classes {classes}: names {twice!r} twice")
    folders = sorted(path for path in data.iterdir() if path.is_dir() and not path.name.startswith("."))
    if truth is not None:
        found = _listed(data, truth, names)
    elif folders:
        found = _in_folders(data, folders, names)
    else:
        raise ConfigError(
            f"--data {data}: has no folder for each class; for a flat folder give --truth FILE with lines `FILE CLASS`"
        )
    if not found.images:
        raise ConfigError(f"--data {data}: holds no files")
    return found


def _in_folders(data: Path, folders: list[Path], names: list[str] | None) -> DataSet:
    known = {name: index for index, name in enumerate(names or [folder.name for folder in folders])}
    images = []
    for folder in folders:
        if folder.name not in known:
            raise ConfigError(f"--data {data}: the folder {folder.name} is none of the classes of --classes")
        files = (path for path in folder.iterdir() if path.is_file() and not path.name.startswith("."))
        images += [Labelled(path, known[folder.name]) for path in sorted(files)]
    return DataSet(tuple(images), len(known))


def _listed(data: Path, truth: Path, names: list[str] | None) -> DataSet:
    known = {name: index for index, name in enumerate(names or ())}
    images, numbers = [], set()
    for number, line in enumerate(_lines(truth, "--truth"), 1):
        file, _, name = line.rpartition(" ")
        file, name = file.strip(), name.strip()
        if not file:
            raise ConfigError(f"{truth}:{number}: {line!r} is not `FILE CLASS`")
        if name in known:
            index = known[name]
        elif name.isascii() and name.isdigit():
            index = int(name)
        else:
            known_by = "is none of the classes of --classes" if names else "needs --classes FILE, or a number from 0"
            raise ConfigError(f"{truth}:{number}: class {name!r} {known_by}")
        numbers.add(file)
        images.append(Labelled(data / file, index))
    if len(numbers) < len(images):
        raise ConfigError(f"--truth {truth}: names a file twice")
    return DataSet(tuple(sorted(images, key=lambda image: image.path)), len(names) if names else None)


def _lines(path: Path, option: str) -> list[str]:
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{option} {path}: cannot be read ({error})") from error
    return [line.strip() for line in text.splitlines() if line.strip()]


@dataclass(frozen=True)
class Crops:
    """How an image becomes what a network sees: shorter side, crop (height, width), how many, and the scale.

    1 crop is the centre, 10 are the centre and the corners, each with its mirror image.
    """

    resize_px: int
    size_px: tuple[int, int]
    count: int = 1
    mean: tuple[float, float, float] = MEAN
    std: tuple[float, float, float] = STD

    def of(self, path: Path) -> Floats:
        """Read an image; (count, 3, height, width). Raises UnreadableError."""
        pixels = _pixels(path, self.resize_px)
        height, width = self.size_px
        down, right = pixels.shape[0] - height, pixels.shape[1] - width
        corners = [(round(down / 2), round(right / 2))]
        if self.count > 1:
            corners += [(0, 0), (0, right), (down, 0), (down, right)]
        views = [pixels[y : y + height, x : x + width] for y, x in corners]
        if self.count > 1:
            views += [view[:, ::-1] for view in views]
        mean, std = (np.array(three, np.float32) for three in (self.mean, self.std))
        scaled = (np.stack(views).astype(np.float32) / np.float32(255) - mean) / std
        return np.ascontiguousarray(scaled.transpose(0, 3, 1, 2), dtype=np.float32)


def usual_resize(size_px: Sequence[int]) -> int:
    """The shorter side before the crop: 256 as in the paper, for larger inputs in the same proportion as 256 to 224."""
    largest = max(size_px)
    return PAPER_RESIZE_PX if largest <= PAPER_RESIZE_PX else round(largest * PAPER_RESIZE_PX / PAPER_CROP_PX)


def _pixels(path: Path, resize_px: int) -> NDArray[np.uint8]:
    """Read an image as (height, width, 3) with its shorter side resized."""
    from PIL import Image

    try:
        with Image.open(path) as image:
            colour = image.convert("RGB")
        short = min(colour.size)
        width, height = (max(resize_px, round(side * resize_px / short)) for side in colour.size)
        return np.asarray(colour.resize((width, height), Image.Resampling.BILINEAR))
    except FileNotFoundError as error:
        raise UnreadableError(f"{path}: there is no such file") from error
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        said = " ".join(str(error).split())[:200] or type(error).__name__
        raise UnreadableError(f"{path}: is no image that can be read ({said})") from error
