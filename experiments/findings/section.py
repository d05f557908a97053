"""All findings of a sample, as text, as a tree for JSON, and as a section of a report."""

from __future__ import annotations

from dataclasses import dataclass

from experiments.findings import energy_bound, hyperbola, operations, others, power
from experiments.findings.others import Told
from experiments.findings.power import PAPER_MARGIN
from experiments.findings.sample import Sample
from experiments.findings.verdict import Finding, Tree, plain

TITLE = "The paper's findings on this device"
METHOD = "docs/findings.md says what is tested and why; a verdict is on one device, these networks, n and margin."


@dataclass(frozen=True)
class Findings:
    """The four findings, what else is told, and what must be said of the data."""

    device: str
    source: str
    findings: tuple[Finding, ...]
    told: tuple[Told, ...]
    notes: tuple[str, ...]

    def tree(self) -> Tree:
        """For JSON: H1 to H4 and the rest by name; what is unknown is null."""
        found: Tree = plain(
            {
                "device": self.device,
                "source": self.source,
                **{finding.key: finding.tree() for finding in self.findings},
                "memory": self.told[0].numbers,
                "gain": self.told[1].numbers,
                "notes": list(self.notes),
            }
        )
        return found


@dataclass(frozen=True)
class Part:
    """One heading of a section with its verdict, empty where there is none, and its sentences."""

    heading: str
    verdict: str
    sentences: tuple[str, ...]


@dataclass(frozen=True)
class Section:
    """A section of a report as data: `table` has its header first."""

    title: str
    table: tuple[tuple[str, ...], ...]
    parts: tuple[Part, ...]
    notes: tuple[str, ...]


def judge(sample: Sample, margin: float = PAPER_MARGIN, seed: int = 1) -> Findings:
    """Put all four findings to a sample; `margin` is power's, relative; `seed` that of bootstrap and permutations."""
    return Findings(
        sample.device,
        sample.source,
        (
            power.judge(sample, margin, seed),
            hyperbola.judge(sample, seed),
            energy_bound.judge(sample, margin, seed),
            operations.judge(sample, seed),
        ),
        (others.memory(sample, seed), others.gain(sample)),
        sample.notes,
    )


def section(found: Findings) -> Section:
    """Give what a report shows: a table of the verdicts, then each finding with its sentence and reasons."""
    rows = [("finding", "claim", "verdict"), *((f.key, f.claim, f.verdict) for f in found.findings)]
    parts = [Part(f"{f.key}: {f.claim}", f.verdict, (f.sentence, *f.reasons)) for f in found.findings]
    parts += [Part(told.title, "", told.sentences) for told in found.told]
    return Section(TITLE, tuple(rows), tuple(parts), (*found.notes, METHOD))


def text(found: Findings) -> str:
    """Write the section for a terminal."""
    content = section(found)
    lines = [f"{content.title}: {found.device} ({found.source})", ""]
    for part in content.parts:
        lines.append(f"{part.heading}: {part.verdict.upper()}" if part.verdict else part.heading)
        lines += [f"  {sentence}" for sentence in part.sentences]
        lines.append("")
    return "\n".join([*lines, *(f"note: {note}" for note in content.notes)])
