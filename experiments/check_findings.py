"""What a check of the bench found, as lines for people and keys for programs. Pure."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

Verdict = Literal["good", "note", "wrong"]


@dataclass(frozen=True)
class Finding:
    """One check. `id` stays the same from release to release; `advice` says what to do where it is wrong."""

    id: str
    verdict: Verdict
    name: str
    found: str
    advice: str = ""
    values: dict[str, Any] = field(default_factory=dict)

    def line(self) -> str:
        """One line of text."""
        mark = "WRONG" if self.verdict == "wrong" else self.verdict
        return f"{mark:5s} {self.name}: {self.found}" + (f"; {self.advice}" if self.advice else "")

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        return asdict(self)


class Findings:
    """Collects findings in the order in which they are made; `show` sees each at once."""

    def __init__(self, show: Callable[[Finding], None] = lambda finding: None) -> None:
        self.all: list[Finding] = []
        self._show = show

    def good(self, id: str, name: str, found: str, **values: Any) -> None:
        """Nothing is wrong with this."""
        self._add(Finding(id, "good", name, found, values=values))

    def note(self, id: str, name: str, found: str, **values: Any) -> None:
        """Something that cannot be right or wrong."""
        self._add(Finding(id, "note", name, found, values=values))

    def wrong(self, id: str, name: str, found: str, advice: str, **values: Any) -> None:
        """Something is to be put right."""
        self._add(Finding(id, "wrong", name, found, advice, values))

    def judge(self, good: bool, id: str, name: str, found: str, advice: str, **values: Any) -> bool:
        """Good or wrong; gives which."""
        self._add(Finding(id, "good" if good else "wrong", name, found, "" if good else advice, values))
        return good

    def take(self, findings: list[Finding]) -> bool:
        """Take findings over; gives whether nothing of them is wrong."""
        for finding in findings:
            self._add(finding)
        return all(finding.verdict != "wrong" for finding in findings)

    @property
    def clean(self) -> bool:
        """Whether nothing is wrong so far."""
        return all(finding.verdict != "wrong" for finding in self.all)

    def _add(self, finding: Finding) -> None:
        self.all.append(finding)
        self._show(finding)
