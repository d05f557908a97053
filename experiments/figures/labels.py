"""Names beside the points of a cloud, none on another where there is room. The placing itself is pure."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from experiments.figures import style

DIRECTIONS = 24
GAPS = (2.0, 6.0, 11.0, 17.0, 24.0, 32.0, 42.0, 54.0, 68.0)
"""Distances from a point's edge at which its name is tried, in points of type."""

PASSES = 3
LEADER = 5.0
"""Distance from which a line leads from the point to its name; where points hide each other, it does from any."""

FONT = 7.5
STROKE = 1.8
"""Width of the stroke below a name that repeats its colour, in points of type."""

_POINTS_PER_INCH = 72.0
_STEPS = np.linspace(0.0, 1.0, 9)

# What each fault of a place costs. Areas count as shares of the name's own.
ON_NAME, ON_DISC, OUTSIDE = 4.0, 1.0, 20.0
LINE_OVER_NAME, NAME_OVER_LINE, LINE_OVER_DISC = 0.5, 0.5, 0.12
NAME_OVER_CURVE = 0.25
NEARER_TO_ANOTHER, AWAY, ABOVE = 0.5, 0.008, 0.003

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Disc:
    """A point of a cloud: centre and radius, all lengths in one unit."""

    x: float
    y: float
    radius: float


@dataclass(frozen=True)
class Box:
    """A rectangle by its centre."""

    x: float
    y: float
    width: float
    height: float


def place(
    discs: Sequence[Disc],
    sizes: Sequence[tuple[float, float]],
    area: Box,
    *,
    circles: Sequence[Disc] = (),
    taken: Sequence[Box] = (),
    curves: Sequence[Floats] = (),
    unit: float = 1.0,
) -> list[Box]:
    """Give each disc's name (width, height) a place in the area, near its disc.

    Names keep off one another, all discs, the nameless `circles`, `taken`, and the points of `curves` (n, 2), which
    stand closer than a name is high. `unit` is the length of one point of type. They are placed one after the other,
    the crowded ones first, and then moved again with all the others in place; what cannot be avoided overlaps as
    little as can be.
    """
    placed: dict[int, Box] = {}
    every = _array([(d.x, d.y, d.radius) for d in (*discs, *circles)], 3)
    crowd = [sum(1 / (1 + math.hypot(d.x - e.x, d.y - e.y)) for e in discs) for d in discs]
    order = sorted(range(len(discs)), key=lambda k: (-crowd[k], k))
    for k in order * PASSES:
        others = {j: box for j, box in placed.items() if j != k}
        boxes = _array([(b.x, b.y, b.width, b.height) for b in (*others.values(), *taken)], 4)
        lines = [_way(discs[j], _array([(b.x, b.y)], 2), (b.width, b.height))[0] for j, b in others.items()]
        centres = _centres(discs[k], sizes[k], unit)
        cost = _costs(centres, sizes[k], every, k, len(discs), boxes, area, unit)
        for line in lines:
            cost += NAME_OVER_LINE * _in_boxes(line[None, :, :], centres, _array([sizes[k]], 2))[0]
        for curve in curves:
            cost += NAME_OVER_CURVE * _in_boxes(curve[None, :, :], centres, _array([sizes[k]], 2))[0]
        x, y = centres[int(np.argmin(cost))]
        placed[k] = Box(float(x), float(y), *sizes[k])
    return [placed[k] for k in range(len(discs))]


def _array(rows: Sequence[tuple[float, ...]], width: int) -> Floats:
    return np.asarray(rows, dtype=np.float64).reshape(-1, width)


def _centres(disc: Disc, size: tuple[float, float], unit: float) -> Floats:
    """Centres of places around a disc (m, 2), the nearest first, to its right first."""
    steps = np.arange(DIRECTIONS)
    angle = 2 * math.pi * ((steps + 1) // 2) * np.where(steps % 2, 1, -1) / DIRECTIONS
    cos, sin = np.cos(angle), np.sin(angle)
    c, s = np.maximum(abs(cos), 1e-9), np.maximum(abs(sin), 1e-9)
    w, h = size[0] / 2, size[1] / 2
    # How far to go for the nearest point of the box, on one of its sides or at a corner, to be at this distance.
    reach = disc.radius + np.asarray(GAPS)[:, None] * unit
    beside, above = (reach + w) / c, (reach + h) / s
    along = c * w + s * h
    at_corner = along + np.sqrt(np.maximum(along**2 - w**2 - h**2 + reach**2, 0.0))
    far = np.where(beside * s <= h, beside, np.where(above * c <= w, above, at_corner))
    return np.stack([(disc.x + far * cos).ravel(), (disc.y + far * sin).ravel()], axis=1)


def _costs(
    centres: Floats,
    size: tuple[float, float],
    discs: Floats,
    own: int,
    named: int,
    boxes: Floats,
    area: Box,
    unit: float,
) -> Floats:
    """What each place (m, 2) costs; discs (n, 3), of which the first `named` have names, boxes (l, 4)."""
    mine = Disc(*discs[own])
    squares = np.column_stack([discs[:, :2], np.repeat(discs[:, 2:] * math.sqrt(math.pi), 2, axis=1)])
    cost = ON_NAME * _shared(centres, size, boxes).sum(axis=1) + ON_DISC * _shared(centres, size, squares).sum(axis=1)
    whole = _array([(area.x, area.y, area.width, area.height)], 4)
    cost += OUTSIDE * (1 - _shared(centres, size, whole)[:, 0])
    away = np.hypot(*_offsets(centres, size, discs))  # (m, n), to centres
    cost += AWAY * np.maximum(away[:, own] - mine.radius, 0.0) / unit
    reach = away[:, :named] - 0.7 * discs[:named, 2]
    nearer: NDArray[np.bool_] = reach < reach[:, own : own + 1] - unit
    cost += NEARER_TO_ANOTHER * nearer.any(axis=1)
    cost += ABOVE * abs(np.sin(np.arctan2(centres[:, 1] - mine.y, centres[:, 0] - mine.x)))
    way = _way(mine, centres, size)
    cost += LINE_OVER_NAME * _in_boxes(way, boxes[:, :2], boxes[:, 2:]).sum(axis=1)
    gap = np.hypot(way[:, :, None, 0] - discs[:, 0], way[:, :, None, 1] - discs[:, 1]) < discs[:, 2]
    crossed = gap.any(axis=1) & ~gap[:, 0, :]
    crossed[:, own] = False
    return np.asarray(cost + LINE_OVER_DISC * crossed.sum(axis=1))


def _shared(centres: Floats, size: tuple[float, float], boxes: Floats) -> Floats:
    """Share of a box of this size at each centre (m, 2) that lies on each of the boxes (n, 4); (m, n)."""
    shares = np.ones((len(centres), len(boxes)))
    for axis in (0, 1):
        at, side = centres[:, None, axis], size[axis]
        other, other_side = boxes[:, axis], boxes[:, 2 + axis]
        shares *= np.clip(
            np.minimum(at + side / 2, other + other_side / 2) - np.maximum(at - side / 2, other - other_side / 2),
            0.0,
            None,
        )
    return shares / (size[0] * size[1])


def _offsets(centres: Floats, size: tuple[float, float], discs: Floats) -> tuple[Floats, Floats]:
    """From each disc's centre to the nearest point of a box at each of the places; twice (m, n)."""
    x, y = (
        np.clip(discs[:, a], centres[:, None, a] - size[a] / 2, centres[:, None, a] + size[a] / 2) - discs[:, a]
        for a in (0, 1)
    )
    return x, y


def _way(disc: Disc, centres: Floats, size: tuple[float, float]) -> Floats:
    """Points on the way from a disc to its name at each of the places; (m, steps, 2)."""
    x, y = _offsets(centres, size, _array([(disc.x, disc.y, 0.0)], 3))
    return np.stack([disc.x + x * _STEPS, disc.y + y * _STEPS], axis=2)


def _in_boxes(ways: Floats, centres: Floats, sizes: Floats) -> NDArray[np.bool_]:
    """Whether ways (m, steps, 2) lead through boxes, by centres (n, 2) and sizes (n or 1, 2); (m, n)."""
    inside: NDArray[np.bool_] = np.abs(ways[:, :, None, :] - centres) < sizes / 2
    return np.asarray(np.any(np.all(inside, axis=3), axis=1))


def write(
    axes: Any,
    names: Sequence[str],
    colours: Sequence[str],
    xy: Sequence[tuple[float, float]],
    radii_pt: Sequence[float],
    around: Sequence[tuple[float, float, float]] = (),
) -> None:
    """Write names, underlined in their colours, beside points of settled axes, which must not change after this.

    They keep off the circles `around` (x and y in the units of the axes, radius in points of type), off error
    bars, and off grey lines: fits and fronts.
    """
    if not names:
        return
    from matplotlib.patheffects import withStroke

    halo = [withStroke(linewidth=1.8, foreground="white", alpha=0.8)]
    figure = axes.figure
    unit = figure.dpi / _POINTS_PER_INCH
    discs = _discs(axes, xy, radii_pt, unit)
    circles = _discs(axes, [(x, y) for x, y, _ in around], [r for _, _, r in around], unit)
    texts = [
        axes.text(0, 0, name, fontsize=FONT, ha="center", va="center", zorder=6, path_effects=halo) for name in names
    ]
    renderer = figure.canvas.get_renderer()
    extents = [text.get_window_extent(renderer) for text in texts]
    sizes = [(e.width + 2 * unit, e.height + (1 + STROKE) * unit) for e in extents]
    area = _box(axes.get_window_extent(renderer))
    legend = axes.get_legend()
    others = [text for text in axes.texts if text not in texts and text.get_text()] + ([legend] if legend else [])
    taken = [_box(other.get_window_extent(renderer)) for other in others]
    grey = [line for line in axes.lines if line.get_color() == style.GREY]
    curves = [_dense(_corners(line), area, unit) for line in grey]
    bars = [bar for container in axes.containers for bars in container[2] for bar in bars.get_segments()]
    curves += [_dense(axes.transData.transform(bar), area, unit) for bar in bars if len(bar)]
    boxes = place(discs, sizes, area, circles=circles, taken=taken, curves=curves, unit=unit)
    back = axes.transData.inverted()
    axes.autoscale(False)
    for text, colour, disc, box in zip(texts, colours, discs, boxes, strict=True):
        text.set_position(back.transform((box.x, box.y + STROKE / 2 * unit)))
        low = box.y - box.height / 2 + unit
        ends = back.transform([(box.x + side * (box.width / 2 - unit), low) for side in (-1, 1)])
        axes.plot(
            ends[:, 0], ends[:, 1], color=colour, linewidth=STROKE, solid_capstyle="butt", zorder=6, clip_on=False
        )
        x, y = _offsets(_array([(box.x, box.y)], 2), (box.width, box.height), _array([(disc.x, disc.y, 0.0)], 3))
        dx, dy = float(x[0, 0]), float(y[0, 0])
        if math.hypot(dx, dy) - disc.radius > LEADER * unit or _shares_its_place(disc, discs):
            start, end = back.transform((disc.x, disc.y)), back.transform((disc.x + dx, disc.y + dy))
            axes.plot(*zip(start, end, strict=True), color="0.5", linewidth=0.6, zorder=5)


def _shares_its_place(disc: Disc, discs: Sequence[Disc]) -> bool:
    """Whether a disc and another hide each other's middle, so that the name alone does not tell whose it is."""
    return any(
        other is not disc and math.hypot(other.x - disc.x, other.y - disc.y) < max(disc.radius, other.radius)
        for other in discs
    )


def _corners(line: Any) -> Floats:
    """The corners of a line as it is drawn, in pixels."""
    at: Floats = np.asarray(line.get_transform().transform_path(line.get_path()).vertices)
    if line.get_drawstyle() != "steps-post":
        return at
    twice = at.repeat(2, axis=0)
    return np.column_stack([twice[1:, 0], twice[:-1, 1]])


def _dense(corners: Any, area: Box, unit: float) -> Floats:
    """Points along straight pieces between corners, within the area, nearer to each other than half a name is high."""
    w, h = area.width / 2, area.height / 2
    inside = np.clip(corners, (area.x - w, area.y - h), (area.x + w, area.y + h))
    pieces = [
        np.linspace(a, b, max(2, int(math.dist(a, b) / (FONT / 2 * unit)))) for a, b in itertools.pairwise(inside)
    ]
    return np.concatenate(pieces) if pieces else _array([], 2)


def _discs(axes: Any, xy: Sequence[tuple[float, float]], radii_pt: Sequence[float], unit: float) -> list[Disc]:
    at = axes.transData.transform(_array(list(xy), 2))
    return [Disc(float(x), float(y), r * unit) for (x, y), r in zip(at, radii_pt, strict=True)]


def _box(extent: Any) -> Box:
    return Box((extent.x0 + extent.x1) / 2, (extent.y0 + extent.y1) / 2, extent.width, extent.height)
