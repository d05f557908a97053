"""How every figure looks: colours, sheets of panels, the line that says where values come from, files.

matplotlib is imported only when drawing.
"""

from __future__ import annotations

import contextlib
import io
import math
import os
import textwrap
import warnings
from collections.abc import Iterator, Sequence
from typing import Any

from experiments.networks import NETWORKS
from instruments.plain_text import one_line

FALLBACK_COLOURS = ("#4477aa", "#ee6677", "#228833", "#ccbb44", "#66ccee", "#aa3377", "#777777")
FAMILY_MARKERS = {"AlexNet": "o", "NIN": "s", "ENet": "D", "Inception": "^", "ResNet": "v", "VGG": "P"}
OTHER_MARKERS = ("X", "p", "h", "<", ">", "*", "d")

GREY = "#8a8a8a"
"""Of what is no network's own: fits, fronts, notes."""

RESIDUE = "#e9e9e9"
"""Of areas and bands behind the data."""

DPI = 150
LEGEND_IN, LEGEND_ROWS = 1.7, 22
SMALL = 7.5
_CHARACTERS_PER_INCH = 17.0
_LINE_IN = 0.145
LONGEST_NAME = 26

STYLE: dict[Any, Any] = {
    "font.family": "DejaVu Sans",
    "font.size": 9.0,
    "axes.titlesize": 9.5,
    "axes.titlelocation": "left",
    "axes.labelsize": 9.0,
    "axes.edgecolor": "0.35",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.linestyle": ":",
    "grid.color": "0.82",
    "xtick.color": "0.25",
    "ytick.color": "0.25",
    "legend.frameon": False,
    "legend.fontsize": 8.0,
    "text.parse_math": False,  # names of networks and benches are not formulas
    "pdf.fonttype": 42,
    "svg.hashsalt": "joulebench",
}


def colours(networks: Sequence[str]) -> dict[str, str]:
    """Colour of each network: the paper's where it has one, another by its place where not."""
    return {
        name: NETWORKS[name].colour if name in NETWORKS else FALLBACK_COLOURS[k % len(FALLBACK_COLOURS)]
        for k, name in enumerate(networks)
    }


def markers(networks: Sequence[str]) -> dict[str, str]:
    """Shape of each network's points in lines: one for a family, by its place for what is not the paper's."""
    return {
        name: FAMILY_MARKERS[NETWORKS[name].family] if name in NETWORKS else OTHER_MARKERS[k % len(OTHER_MARKERS)]
        for k, name in enumerate(networks)
    }


def short(name: str) -> str:
    """A network's name as it fits into a figure."""
    name = one_line(name)
    if len(name) <= LONGEST_NAME:
        return name
    half = (LONGEST_NAME - 1) // 2
    return f"{name[:half]}…{name[-half:]}"


@contextlib.contextmanager
def styled() -> Iterator[None]:
    """Draw or save in here: with this style, whatever the user's own settings of matplotlib are."""
    os.environ["MPLBACKEND"] = "agg"  # a name that matplotlib does not know would stop its import
    import matplotlib

    with warnings.catch_warnings(), matplotlib.rc_context():
        _names_in_any_letters()
        matplotlib.rcdefaults()
        matplotlib.rcParams.update(STYLE)
        yield


def sheet(
    title: str,
    rows: int,
    columns: int,
    panel_in: tuple[float, float],
    *,
    right_in: float = 0.0,
    **shared: Any,
) -> tuple[Any, list[list[Any]]]:
    """Make a figure of rows x columns panels, each (width, height); `right_in` is for a legend at its right."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    width, height = columns * panel_in[0] + right_in, rows * panel_in[1] + 0.4
    figure = Figure(figsize=(width, height), layout="constrained")
    FigureCanvasAgg(figure)
    figure.suptitle("\n".join(textwrap.wrap(title, int(width * 11.5))), x=0.01, ha="left", fontsize=11.5)
    return figure, figure.subplots(rows, columns, squeeze=False, **shared).tolist()


def panel_title(axes: Any, parts: Sequence[str], width_in: float, **options: Any) -> None:
    """Head a panel, on several lines where it is narrow."""
    width, given = int(width_in * 12.0), [part for part in parts if part]
    lines = [" · ".join(given)]
    if len(lines[0]) > width:
        lines = [line for part in given for line in textwrap.wrap(part, width)]
    axes.set_title("\n".join(lines), **options)


def sign(figure: Any, *notes: str, room_in: float = 0.0) -> float:
    """Write below a figure where its values come from, and what else is to be known.

    Keeps a strip of the height `room_in` free above that, and gives the height in inches at which it begins.
    """
    width, height = figure.get_size_inches()
    lines = [part for note in notes for part in textwrap.wrap(note, int(width * _CHARACTERS_PER_INCH))]
    text_in = _LINE_IN * len(lines) + 0.08
    foot_in = text_in + room_in
    figure.set_size_inches(width, height + foot_in)
    share = foot_in / (height + foot_in)
    figure.get_layout_engine().set(rect=(0, share, 1, 1 - share))
    figure.text(0.01, 0.05 / (height + foot_in), "\n".join(lines), fontsize=SMALL, color="0.3", va="bottom")
    return text_in


def settle(figure: Any) -> None:
    """Lay a figure out for good, so that what is placed by its pixels from now on stays in place."""
    from matplotlib.layout_engine import PlaceHolderLayoutEngine

    engine = figure.get_layout_engine()
    if not isinstance(engine, PlaceHolderLayoutEngine):
        engine.execute(figure)
        figure.set_layout_engine("none")
        for axes in figure.axes:  # the layout's solver leaves noise in the last digits, and that a name in an SVG
            axes.set_position([round(share, 9) for share in axes.get_position(original=True).bounds])


_SUBDIVISIONS = (
    (1.0,),
    (1.0, 2.0, 5.0),
    (1.0, 1.5, 2.0, 3.0, 5.0, 7.0),
    (1.0, 1.2, 1.5, 2.0, 2.5, 3.0, 4.0, 5.0, 6.0, 7.0, 8.0, 9.0),
)
LEAST_TICKS = 4


def log_ticks(low: float, high: float) -> list[float]:
    """Where a logarithmic axis is labelled: at powers of ten, and between them as often as it takes to be read."""
    found: list[float] = []
    for parts in _SUBDIVISIONS:
        tens = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
        values = [part * 10.0**ten for ten in tens for part in parts]
        found = [value for value in values if low * 0.999 <= value <= high * 1.001]
        if len(found) >= LEAST_TICKS:
            return found
    from matplotlib.ticker import MaxNLocator

    even = [float(value) for value in MaxNLocator(5).tick_values(low, high) if low <= value <= high]
    return even if len(even) > len(found) else found


def plain_log(axis: Any) -> None:
    """Tick a logarithmic axis where `log_ticks` says, in plain numbers; ticks without a number stand between them."""
    from matplotlib.ticker import FixedLocator, FuncFormatter, LogLocator, NullFormatter

    low, high = sorted(axis.get_view_interval())
    if not 0 < low < high:
        return
    axis.set_major_locator(FixedLocator(log_ticks(low, high)))
    axis.set_minor_locator(LogLocator(subs=range(2, 10), numticks=30))
    axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:.6g}"))
    axis.set_minor_formatter(NullFormatter())


def network_legend(figure: Any, networks: Sequence[str], *, lines: bool) -> None:
    """Name every network's colour (and shape) at the figure's right."""
    from matplotlib.lines import Line2D

    colour, marker = colours(networks), markers(networks)
    handles = [
        Line2D(
            [],
            [],
            color=colour[name],
            marker=marker[name] if lines else "o",
            linestyle="-" if lines else "",
            markersize=5 if lines else 7,
            markeredgecolor="0.3",
            markeredgewidth=0.4,
            label=short(name),
        )
        for name in networks
    ]
    figure.legend(handles=handles, loc="outside right upper", ncols=_legend_columns(networks))


def legend_in(networks: Sequence[str]) -> float:
    """Width that the legend takes."""
    return LEGEND_IN * _legend_columns(networks)


def _legend_columns(networks: Sequence[str]) -> int:
    return max(1, -(-len(networks) // LEGEND_ROWS))


def png(figure: Any, dpi: int = 130) -> bytes:
    """Render a figure as PNG bytes, the same for the same figure."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    buffer = io.BytesIO()
    usual = figure.dpi
    with warnings.catch_warnings():
        _names_in_any_letters()
        figure.dpi = dpi
        try:  # as savefig does it, without the drawing beforehand that only finds the renderer
            canvas: Any = FigureCanvasAgg(figure)
            canvas.print_png(buffer, metadata={"Software": None})
        finally:
            figure.dpi = usual
    return buffer.getvalue()


def pdf(figure: Any) -> bytes:
    """Render a figure as PDF bytes, the same for the same figure."""
    buffer = io.BytesIO()
    with warnings.catch_warnings():
        _names_in_any_letters()
        figure.savefig(buffer, format="pdf", dpi=DPI, metadata={"CreationDate": None, "Creator": None})
    return buffer.getvalue()


def svg(figure: Any) -> bytes:
    """Render a figure as SVG bytes, letters as shapes, the same for the same figure."""
    from matplotlib.backends.backend_svg import FigureCanvasSVG

    buffer = io.BytesIO()
    canvas: Any = FigureCanvasSVG(figure)
    # As savefig does it, without the drawing beforehand that only finds the renderer.
    canvas.print_svg(buffer, metadata={"Date": None, "Creator": None, "Format": None, "Type": None})
    return buffer.getvalue()


def _names_in_any_letters() -> None:
    """Names may be in letters that the font lacks: boxes stand for them."""
    warnings.filterwarnings("ignore", "Glyph .* missing from")
