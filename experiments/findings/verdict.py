"""What is said of one finding, and the rules that all of them share. Pure."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

Verdict = Literal["supported", "not supported", "inconclusive"]

ALPHA = 0.05
"""Chance, for each finding, of calling supported what lies at the edge of its margin."""

MIN_REPEATS = 2
"""Runs of one network and batch below which nothing is known of their scatter; such cells are left out."""

MIN_NETWORKS = 8
"""Networks below which no relation between them is judged: of seven that have nothing to do with each other, one set
in twenty shows a correlation beyond 0.75, more than half of the variance."""

Tree = dict[str, Any]


@dataclass(frozen=True)
class Decision:
    """A verdict, the sentences that say why, and the numbers behind it as a tree."""

    verdict: Verdict
    reasons: tuple[str, ...]
    numbers: Tree


@dataclass(frozen=True)
class Finding:
    """One finding's verdict with what it rests on.

    `n` counts what was used, `margin` holds the thresholds, `numbers` is a tree that JSON can hold; `reasons` are
    sentences, the deciding ones first.
    """

    key: str
    claim: str
    verdict: Verdict
    reasons: tuple[str, ...]
    numbers: Tree
    n: Mapping[str, int]
    margin: Mapping[str, float]
    margin_text: str
    device: str
    batches: tuple[int, ...]

    @property
    def sentence(self) -> str:
        """The verdict, and for what it holds."""
        n = ", ".join(f"{count} {what.removesuffix('s') if count == 1 else what}" for what, count in self.n.items())
        at = f" at batch {listed(self.batches)}" if self.batches else ""
        return (
            f"{self.key} is {self.verdict} on this device, with these networks, n and margin: "
            f"{self.device}; {n}{at}; {self.margin_text}."
        )

    def tree(self) -> Tree:
        """Give it as JSON can hold it; what is unknown is null."""
        found: Tree = plain(
            {
                "claim": self.claim,
                "verdict": self.verdict,
                "sentence": self.sentence,
                "reasons": list(self.reasons),
                "n": dict(self.n),
                "batches": list(self.batches),
                "margin": dict(self.margin),
                "numbers": self.numbers,
            }
        )
        return found


def decided(supported: bool, refuted: bool) -> Verdict:
    """Supported or not where the data say so, else inconclusive; what is refuted is never supported."""
    if refuted:
        return "not supported"
    return "supported" if supported else "inconclusive"


def too_few(count: int, what: str, least: int) -> Decision:
    """Judge nothing, for want of data."""
    return Decision("inconclusive", (f"too few {what} to judge by: {count}, where {least} are the least",), {})


def percent(share: float, digits: int = 2) -> str:
    """Write a share as a percentage with so many significant digits."""
    if not math.isfinite(share):
        return "unknown"
    value = share * 100
    decimals = max(0, digits - 1 - math.floor(math.log10(abs(value)))) if value else 0
    return f"{value:.{decimals}f} %"


def listed(batches: Sequence[int]) -> str:
    """Write numbers as a list in words."""
    texts = [str(b) for b in batches]
    return texts[0] if len(texts) == 1 else f"{', '.join(texts[:-1])} and {texts[-1]}"


def plain(value: Any) -> Any:
    """Turn numbers, arrays and trees into what JSON holds; NaN and infinity become None."""
    if isinstance(value, Mapping):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(item) for item in value]
    if hasattr(value, "tolist"):
        return plain(value.tolist())
    if isinstance(value, float):
        return float(f"{value:.9g}") if math.isfinite(value) else None
    return value
