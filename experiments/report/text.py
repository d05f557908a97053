"""Results as text: a value with its uncertainty, the table of a run, and what a sweep prints at its end."""

from __future__ import annotations

import math
from collections.abc import Sequence

from calibration.budget import Budget
from experiments import report_device
from experiments.energy import RowResult
from experiments.outcome import Outcome, source_text
from instruments.plain_text import one_line
from instruments.wording import folded

SHOWN = (
    ("time_per_image_s", "time", "ms/image", 1e3),
    ("power_w", "power", "W", 1.0),
    ("net_power_w", "net power", "W", 1.0),
    ("energy_per_image_j", "energy", "mJ/image", 1e3),
    ("net_energy_per_image_j", "net energy", "mJ/image", 1e3),
)
"""Quantity, its name, the unit in which it is shown, and the factor to that."""


def with_uncertainty(value: float, half_width: float) -> str:
    """Write value and half-width with two significant digits of the half-width, such as `12.34 ± 0.56`."""
    if math.isnan(value) or math.isnan(half_width):
        return "unknown"
    if half_width <= 0:
        return f"{value:.6g}"
    digits = _digits(half_width)
    return f"{value:.{digits}f} ± {half_width:.{digits}f}"


def _digits(half_width: float) -> int:
    """Digits after the point that show two significant ones of a half-width."""
    return max(0, 1 - math.floor(math.log10(half_width)))


def truth(row: RowResult) -> str:
    """The simulated bench's own energy per image in mJ, to the digits of the result beside it."""
    half_width = row.energy_per_image_j.expanded() * 1e3
    known = 0 < half_width < math.inf
    return f"{row.true_energy_per_image_j * 1e3:.{_digits(half_width) if known else 2}f}"


def table(outcome: Outcome, *, replayed: bool = False) -> list[list[str]]:
    """Rows of text, the header first: what the terminal and the report show."""
    header = ["network", "batch", "n", *(f"{label} [{unit}]" for _, label, unit, _ in SHOWN), "source"]
    if outcome.source == "simulated":
        header.insert(-1, "truth [mJ/image]")
    lines = [header]
    for (network, batch), row in zip(outcome.pairs, outcome.rows, strict=True):
        if row is None:
            cells = [network, str(batch), "0", *(["no result"] * len(SHOWN))]
        else:
            cells = [network, str(batch), str(row.repeats), *(shown(row, name, f) for name, _, _, f in SHOWN)]
        if outcome.source == "simulated":
            cells.append("" if row is None else truth(row))
        lines.append([*cells, source_text(outcome, replayed)])
    return lines


def energy_table(outcome: Outcome) -> list[list[str]]:
    """Energy of a batch with its U, and of a whole run; the header first."""
    lines = [["network", "batch", "n", "energy [J/batch]", "energy [J/run]", "images/run"]]
    for (network, batch), row, seen in zip(outcome.pairs, outcome.rows, outcome.device, strict=True):
        if row is None:
            continue
        images = sum(run.images for run in seen.runs) / max(len(seen.runs), 1)
        per_batch = shown(row, "energy_per_image_j", batch)
        lines.append(
            [network, str(batch), str(row.repeats), per_batch, f"{row.energy_per_run_j:#.4g}", f"{images:.6g}"]
        )
    return lines


def shown(row: RowResult, quantity: str, factor: float) -> str:
    """One quantity of a row with its U, times a factor."""
    budget: Budget = getattr(row, quantity)
    return with_uncertainty(budget.value * factor, budget.expanded() * factor)


def percent(share: float) -> str:
    """A share in percent, with two digits."""
    return f"{share * 100:.2g} %" if share < 0.995 else f"{share * 100:.0f} %"


def plain_table(lines: Sequence[Sequence[str]]) -> str:
    """Align a table's columns with spaces; a unit in brackets goes below its name, which saves width."""
    names = [cell.partition(" [") for cell in lines[0]]
    lines = [lines[0], *([one_line(cell) for cell in line] for line in lines[1:])]
    lines = [[n for n, _, _ in names], [f"[{unit}" if unit else "" for _, _, unit in names], *lines[1:]]
    if not any(lines[1]):
        del lines[1]
    widths = [max(len(line[k]) for line in lines) for k in range(len(lines[0]))]
    return "\n".join("  ".join(c.ljust(w) for c, w in zip(line, widths, strict=True)).rstrip() for line in lines)


def without_result(outcome: Outcome) -> list[str]:
    """What has no result, and why: a line for each cell, with those of its repeats of which the same is said."""
    found: dict[tuple[str, str], list[str]] = {}
    for r in outcome.rejected:
        cell, _, repeat = r.label.rpartition(" repeat ")
        said = r.reason if f"{r.outcome}: " in r.reason else f"{r.outcome}: {r.reason}"
        found.setdefault((cell or r.label, said), []).append(repeat if cell else "")
    lines = []
    for (cell, said), repeats in found.items():
        each = list(dict.fromkeys(filter(None, repeats)))
        which = f" repeat{'s' if len(each) > 1 else ''} {', '.join(each)}" if each else ""
        times = f" ({len(repeats)} times)" if len(repeats) > max(len(each), 1) else ""
        lines.append(one_line(f"{cell}{which}: {said}{times}"))
    return lines


def closing_text(outcome: Outcome, where: str, names: Sequence[str], *, replayed: bool = False) -> str:
    """What a sweep or replay prints at its end; `names` are the files that it wrote to `where`."""
    lines = [plain_table(table(outcome, replayed=replayed)), "", "± is the half-width U of the 95 % interval.", ""]
    lines += [plain_table(report_device.device_table(outcome)), ""]
    lines += [f"note: {note}" for note in folded(one_line(note) for note in outcome.notes)]
    if outcome.rejected:
        lines.append(f"{len(outcome.rejected)} without a result:")
        lines += [f"  {line}" for line in without_result(outcome)]
    lines.append(f"written to {where}: " + ", ".join(names))
    return "\n".join(lines)
