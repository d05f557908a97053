"""Uncertainty budgets: for each result a bar of its components' shares of the variance, and the table behind it."""

from __future__ import annotations

from collections.abc import Sequence

from calibration.budget import Budget
from experiments.budgets import budget_lines
from experiments.figures.rows import Run
from experiments.report import markup
from experiments.report.text import percent, shown
from instruments.wording import counted

COLOURS = (
    "#4477aa", "#ee6677", "#228833", "#ccbb44", "#66ccee", "#aa3377", "#e08214", "#5e4fa2", "#7f7f7f", "#8c564b",
)  # fmt: skip
REST = "#d0d0d0"
SHOWN = (("energy_per_image_j", "energy per image"), ("net_energy_per_image_j", "net energy per image"))


def bars(runs: Sequence[Run]) -> list[str]:
    """One table for each run: value, U, bar of energy and of net energy; the budgets' tables below."""
    found = [(run, row) for run in runs for row in run.outcome.rows if row is not None]
    if not found:
        return [markup.paragraph("No cell has a result, and so no budget.")]
    colour = _colours([getattr(row, name) for _, row in found for name, _ in SHOWN])
    parts = [
        markup.paragraph(
            "Each bar is the combined variance of one result, shared out among its components; what they are is in "
            "the tables below and in budgets.json."
        ),
        _legend(colour),
    ]
    for run in runs:
        rows = [row for row in run.outcome.rows if row is not None]
        if len(runs) > 1:
            parts.append(f"<h3>{markup.text(run.title)}</h3>")
        if not rows:
            parts.append(markup.paragraph("No cell has a result, and so no budget."))
            continue
        body = []
        for row in rows:
            cells = [markup.text(row.network), str(row.batch)]
            for name, _ in SHOWN:
                budget: Budget = getattr(row, name)
                cells += [markup.text(shown(row, name, 1e3)), _relative(budget), _bar(budget, colour)]
            body.append(
                f"<tr data-network='{markup.text(row.network)}'>" + "".join(f"<td>{c}</td>" for c in cells) + "</tr>"
            )
        names = ["network", "batch"]
        for _, label in SHOWN:
            names += [f"{label} [mJ]", "U", "of what"]
        head = "".join(f"<th scope='col'>{markup.text(name)}</th>" for name in names)
        parts.append(
            f"<div class='scroll'><table class='bars'><thead><tr>{head}</tr></thead>"
            f"<tbody>{''.join(body)}</tbody></table></div>"
        )
        tables = [
            markup.details(
                f"{row.network}, batch {row.batch}: {label} {shown(row, name, 1e3)} mJ",
                markup.table(budget_lines(getattr(row, name), 1e3, "mJ")),
            )
            for row in rows
            for name, label in SHOWN
        ]
        parts.append(markup.details(f"{counted(len(tables), 'budget')}, component by component", *tables))
    return parts


def _relative(budget: Budget) -> str:
    return markup.text(percent(budget.expanded() / abs(budget.value))) if budget.value else "–"


def _colours(budgets: Sequence[Budget]) -> dict[str, str]:
    """The components that matter most somewhere get a colour of their own, in the order of their greatest share."""
    most: dict[str, float] = {}
    for budget in budgets:
        for c in budget.components:
            most[c.name] = max(most.get(c.name, 0.0), budget.share(c))
    names = sorted(most, key=lambda name: -most[name])
    return dict(zip(names, COLOURS, strict=False))


def _bar(budget: Budget, colour: dict[str, str]) -> str:
    """Shapes, not backgrounds: paper shows them too."""
    at, shapes, said = 0.0, [], []
    rest = 1.0
    for c in sorted(budget.components, key=lambda c: (list(colour).index(c.name) if c.name in colour else 99, c.name)):
        share = budget.share(c)
        if c.name not in colour or share <= 0:
            continue
        shapes.append(f"<rect x='{at * 200:.2f}' width='{share * 200:.2f}' height='14' fill='{colour[c.name]}'/>")
        at, rest = at + share, rest - share
        if share >= 0.01:
            said.append(f"{c.name} {share * 100:.0f} %")
    if rest > 1e-3 and budget.u > 0:
        shapes.append(f"<rect x='{at * 200:.2f}' width='{rest * 200:.2f}' height='14' fill='{REST}'/>")
    title = markup.text(", ".join(said) or "no uncertainty")
    return (
        f"<svg class='bar' viewBox='0 0 200 14' preserveAspectRatio='none' role='img' aria-label='{title}'>"
        f"<title>{title}</title>{''.join(shapes)}</svg>"
    )


def _legend(colour: dict[str, str]) -> str:
    def entry(name: str, paint: str) -> str:
        square = f"<rect width='10' height='10' fill='{paint}'/>"
        patch = f"<svg class='patch' viewBox='0 0 10 10' aria-hidden='true'>{square}</svg>"
        return f"<li>{patch} {markup.text(name)}</li>"

    items = "".join(entry(name, paint) for name, paint in [*colour.items(), ("others", REST)])
    return f"<ul class='legend'>{items}</ul>"
