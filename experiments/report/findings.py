"""The paper's findings, judged for a report: all runs together where they are of one device run in one way."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from experiments.figures.rows import Run
from experiments.report import markup
from instruments.errors import ConfigError

if TYPE_CHECKING:
    from experiments.findings.section import Section

FEWEST_NETWORKS = 3


@dataclass(frozen=True)
class Judged:
    """The findings of some runs, or the reason why there are none; `label` names the runs where there are others."""

    label: str
    section: Section | None
    reason: str = ""


def judge(runs: Sequence[Run]) -> list[Judged]:
    """Judge runs: together if they were made alike, else each by itself."""
    if len(runs) > 1 and all(_reason(run) == "" for run in runs):
        from experiments.findings.sample import sample_of

        try:
            sample_of([(run.label, run.outcome) for run in runs])
        except ConfigError:
            pass
        else:
            return [_judge(runs, "all runs together")]
    return _together([_judge([run], run.title if len(runs) > 1 else "") for run in runs])


def _together(judged: Sequence[Judged]) -> list[Judged]:
    """Runs that are not judged for one and the same reason together, where the first of them stands."""
    found: dict[object, Judged] = {}
    for one in judged:
        key = one.reason or id(one)
        found[key] = replace(found[key], label=f"{found[key].label}, {one.label}") if key in found else one
    return list(found.values())


def _judge(runs: Sequence[Run], label: str) -> Judged:
    if reason := _reason(runs[0]):
        return Judged(label, None, reason)
    # pandas and statsmodels take as long to import as a small run takes to reduce.
    from experiments.findings.sample import sample_of
    from experiments.findings.section import judge, section

    return Judged(label, section(judge(sample_of([(run.label, run.outcome) for run in runs]))))


def _reason(run: Run) -> str:
    """Why nothing can be judged at all; empty where the findings' own tests may say."""
    networks = {row.network for row in run.outcome.rows if row is not None}
    if len(networks) >= FEWEST_NETWORKS:
        return ""
    count = "none" if not networks else f"{len(networks)} alone"
    return f"not judged: they compare networks, and of {count} there is a result."


def sections(judged: Sequence[Judged]) -> list[str]:
    """Every finding with its verdict, its sentence and reasons."""
    parts: list[str] = []
    for one in judged:
        if one.label:
            parts.append(f"<h3>{markup.text(one.label)}</h3>")
        if one.section is None:
            parts.append(markup.paragraph(f"{one.reason[:1].upper()}{one.reason[1:]}"))
            continue
        for part in one.section.parts:
            parts.append(_part(part.heading, part.verdict, part.sentences))
        parts.append(markup.bullets(one.section.notes, "hint"))
    return parts


def _part(heading: str, verdict: str, sentences: Sequence[str]) -> str:
    badge = f" {markup.badge(verdict)}" if verdict else ""
    first = markup.paragraph(sentences[0]) if sentences else ""
    return f"<article><h4>{markup.text(heading)}{badge}</h4>{first}{markup.bullets(sentences[1:])}</article>"
