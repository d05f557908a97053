"""Words around numbers. Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable


def counted(count: int, noun: str, plural: str = "") -> str:
    """A count and its noun, in the plural where it is not one."""
    return f"{count} {noun if count == 1 else plural or noun + ('es' if noun.endswith('ch') else 's')}"


def span(least: int | str, most: int | str) -> str:
    """A range of counts, or of numbers as they are shown; one where both are the same."""
    return f"{least}" if least == most else f"{least} to {most}"


def folded(lines: Iterable[str]) -> list[str]:
    """Equal lines once, where the first of them stands, with how often they were said."""
    return [f"{line} ({count} times)" if count > 1 else line for line, count in Counter(lines).items()]


def duration_text(seconds: float) -> str:
    """Two or three digits of seconds, minutes, hours or days."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    if seconds < 5400:
        return f"{seconds / 60:.3g} min"
    return f"{seconds / 3600:.3g} h" if seconds < 172_800 else f"{round(seconds / 86_400)} days"
