"""The sixteen figures as pictures of a report, each in the form that is smaller and prints well."""

from __future__ import annotations

import io
from collections.abc import Sequence
from typing import Any

from experiments.figures import style
from experiments.figures.catalogue import FIGURES, Figure
from experiments.figures.rows import NothingToDrawError, Run
from experiments.report import markup

LARGEST_SVG = 320_000
"""Bytes above which a figure's shapes are so many that a picture of pixels is smaller."""

PRINT_DPI, SCREEN_DPI = 170, 96
"""Of pictures of pixels on paper; and what browsers take an inch of shapes for, so that letters are of one size."""

FEWEST_ROWS = 3
"""Results below which a figure says less than the table does."""

FEWEST_NETWORKS = 3
"""Networks below which there is no relation between them to be seen."""

OF_NETWORKS, OF_BATCHES, OF_ANY = (1, 2, 6, 7, 8, 9, 10, 12, 16), (3, 4, 5, 11), (14,)
"""Figures that set networks beside each other, those that set batch sizes, and that which needs one result alone."""


def figures(runs: Sequence[Run]) -> list[str]:
    """Every figure with its title; a line for each reason why these runs do not hold enough for others."""
    parts: list[str] = []
    lacking: dict[str, list[str]] = {}
    for figure in FIGURES:
        try:
            _enough(figure, runs)
            parts.append(_figure(figure, runs))
        except NothingToDrawError as error:
            lacking.setdefault(str(error), []).append(f"{figure.number}, {figure.title}")
    told = [f"Not drawn ({why}): figure {'; '.join(those)}" for why, those in lacking.items()]
    return [*parts, markup.bullets(told, "lacking")]


def _enough(figure: Figure, runs: Sequence[Run]) -> None:
    """Raise NothingToDrawError for a figure that would say less than the table; `experiments.figures` draws it."""
    found = [(run, row) for run in runs for row in run.outcome.rows if row is not None]
    if figure.number in OF_ANY:
        return
    if len(found) < FEWEST_ROWS:
        raise NothingToDrawError(f"fewer than {FEWEST_ROWS} results")
    networks, batches = {(id(run), row.network) for run, row in found}, {row.batch for _, row in found}
    if figure.number in OF_NETWORKS and len(networks) < FEWEST_NETWORKS:
        raise NothingToDrawError(f"results of fewer than {FEWEST_NETWORKS} networks")
    if figure.number in OF_BATCHES and len(batches) < 2:
        raise NothingToDrawError("results of one batch size alone")


def _figure(figure: Figure, runs: Sequence[Run]) -> str:
    drawn = figure.draw(runs)
    title = f"Figure {figure.number}: {figure.title}"
    data = _svg(drawn.picture)
    shown = markup.picture(data, "image/svg+xml", title) if len(data) <= LARGEST_SVG else _pixels(drawn.picture, title)
    return f"<figure id='{markup.text(figure.file)}'>{shown}<figcaption>{markup.text(title)}</figcaption></figure>"


def _svg(picture: Any) -> bytes:
    """A figure as shapes, letters too, the same for the same figure."""
    with style.styled():
        return style.svg(picture)


def _pixels(picture: Any, title: str) -> str:
    """A figure as PNG of 256 colours: a third of the size, and nobody sees it."""
    from PIL import Image

    with style.styled(), Image.open(io.BytesIO(style.png(picture, PRINT_DPI))) as full:
        few = full.convert("RGB").quantize(256, method=Image.Quantize.FASTOCTREE, dither=Image.Dither.NONE)
    out = io.BytesIO()
    few.save(out, "PNG", optimize=False, compress_level=9)
    return markup.picture(out.getvalue(), "image/png", title, round(few.width * SCREEN_DPI / PRINT_DPI))
