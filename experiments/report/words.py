"""The summary at the head of a report: what was measured, on what, how sure it is, which findings hold."""

from __future__ import annotations

import statistics
from collections import Counter
from collections.abc import Sequence

from experiments.figures.rows import Run
from experiments.outcome import Outcome, source_text
from experiments.report import markup
from experiments.report.findings import Judged
from experiments.report.text import percent, shown
from instruments.wording import counted, folded

Lines = list[str]


def head(runs: Sequence[Run], replayed: bool) -> str:
    """Title, and a line for each run: bench, device, when, and where its numbers come from."""
    lines = []
    for run in runs:
        o = run.outcome
        name = f"{run.label}: " if len(runs) > 1 else ""
        told = " · ".join(
            filter(None, (o.lab.bench, f"device: {o.lab.dut.name}", str(_started(run) or "start unknown")))
        )
        source = markup.text(source_text(o, replayed))
        lines.append(f"<p>{markup.text(name + told)} · <span class='source'>{source}</span></p>")
    return "<header><h1>Energy per image</h1>" + "\n".join(lines) + "</header>"


def _started(run: Run) -> str:
    summary = run.outcome.summary
    return str(summary.get("started_utc", "")) if isinstance(summary, dict) else ""


def summary(runs: Sequence[Run], judged: Sequence[Judged]) -> str:
    """The whole summary as a section: sentences of each run, then the findings in a line each."""
    parts = []
    noted = [folded(run.outcome.notes) for run in runs]
    common = [note for note, count in Counter(note for notes in noted for note in notes).items() if count > 1]
    for run, notes in zip(runs, noted, strict=True):
        if len(runs) > 1:
            parts.append(f"<h3>{markup.text(run.title)}</h3>")
        parts.append(markup.paragraph(" ".join(_sentences(run))))
        parts.append(markup.bullets([note for note in notes if note not in common]))
    if common:
        parts.append(markup.paragraph("Noted of several runs:"))
        parts.append(markup.bullets([f"{note} ({_which(note, runs, noted)})" for note in common]))
    for one in judged:
        of = f" ({one.label})" if one.label else ""
        if one.section is None:
            parts.append(markup.paragraph(f"The paper's findings{of}: {one.reason}"))
        else:
            parts.append(markup.paragraph(f"The paper's findings{of}, with these networks, n and margin:"))
            parts.append(_verdicts(one))
    return markup.section("summary", "In short", *parts)


def _which(note: str, runs: Sequence[Run], noted: Sequence[Lines]) -> str:
    """The runs of which something is noted: by their names, where it is not all of them."""
    of = [run.label for run, notes in zip(runs, noted, strict=True) if note in notes]
    if len(of) == len(runs):
        return "both runs" if len(runs) == 2 else f"all {len(runs)} runs"
    return f"{len(of)} of {len(runs)} runs: {', '.join(of)}"


def _verdicts(one: Judged) -> str:
    assert one.section is not None
    items = "".join(
        f"<li>{markup.badge(verdict)} {markup.text(f'{key}: {claim}')}</li>"
        for key, claim, verdict in one.section.table[1:]
    )
    return f"<ul class='verdicts'>{items}</ul>"


def _sentences(run: Run) -> Lines:
    o = run.outcome
    rows = [row for row in o.rows if row is not None]
    said: Lines = []
    if o.lab.dut.simulated is not None:
        said.append("The bench is simulated, and times, currents and memory come from a model of a board.")
    elif o.source == "simulated":
        said.append("The bench and its currents are simulated; the inference is real.")
    networks, batches = len(o.plan.networks), _listed([str(batch) for batch in sorted(o.plan.batches)])
    said.append(
        f"Energy per image of {counted(networks, 'network')} at batch {batches}, with {_repeats(o)} "
        f"each, on {o.lab.dut.name}: current by {o.lab.probe.model} and {o.lab.scope.model} at "
        f"{o.lab.supply.voltage_v:g} V from {o.lab.supply.model}, between the marks that the device sets."
    )
    if not rows:
        return [*said, "No cell gave a result."]
    said.append(f"{len(rows)} of {counted(len(o.rows), 'combination')} of network and batch gave a result.")
    best = min(rows, key=lambda r: r.energy_per_image_j.value)
    worst = max(rows, key=lambda r: r.energy_per_image_j.value)
    energy = "energy_per_image_j"
    if best is not worst:
        said.append(
            f"Least energy per image: {best.network} at batch {best.batch}, {shown(best, energy, 1e3)} mJ; "
            f"most: {worst.network} at batch {worst.batch}, {shown(worst, energy, 1e3)} mJ."
        )
    else:
        said.append(f"Energy per image: {shown(best, energy, 1e3)} mJ.")
    relative = sorted(
        r.energy_per_image_j.expanded() / abs(r.energy_per_image_j.value) for r in rows if r.energy_per_image_j.value
    )
    if relative:
        middle = percent(statistics.median(relative))
        ends = [percent(relative[0]), percent(relative[-1])]
        spread = "" if ends[0] == ends[1] else f" in the median, {ends[0]} at best, {ends[1]} at worst"
        said.append(f"± is U, the half-width of the 95 % interval: {middle} of the energy{spread}.")
    single = sum(row.repeats == 1 for row in rows)
    if single:
        said.append(f"{counted(single, 'row')} of one repeat: of the scatter nothing is known, and it is not in U.")
    return said


def _repeats(outcome: Outcome) -> str:
    done = [row.repeats for row in outcome.rows if row is not None] or [outcome.plan.repeats]
    return counted(max(done), "repeat") if min(done) == max(done) else f"{min(done)} to {max(done)} repeats"


def _listed(words: Sequence[str]) -> str:
    return " and ".join(filter(None, (", ".join(words[:-1]), words[-1])))
