"""Words around numbers. Pure."""

from __future__ import annotations


def counted(count: int, noun: str, plural: str = "") -> str:
    """A count and its noun, in the plural where it is not one."""
    return f"{count} {noun if count == 1 else plural or noun + 's'}"


def span(least: int, most: int) -> str:
    """A range of counts; one number where both are the same."""
    return f"{least}" if least == most else f"{least} to {most}"
