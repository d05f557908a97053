"""Words around numbers. Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable


def counted(count: int, noun: str, plural: str = "") -> str:
    """A count and its noun, in the plural where it is not one."""
    return f"{count} {noun if count == 1 else plural or noun + 's'}"


def span(least: int | str, most: int | str) -> str:
    """A range of counts, or of numbers as they are shown; one where both are the same."""
    return f"{least}" if least == most else f"{least} to {most}"


def folded(lines: Iterable[str]) -> list[str]:
    """Equal lines once, where the first of them stands, with how often they were said."""
    return [f"{line} ({count} times)" if count > 1 else line for line, count in Counter(lines).items()]
