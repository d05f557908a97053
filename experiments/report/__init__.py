"""The report of a run: tables for the terminal and one self-contained HTML file; `python -m experiments.report`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from experiments.report.outputs import OUTPUTS, SCREEN, conclude, write_outputs
    from experiments.report.text import closing_text, plain_table, table, with_uncertainty

_OUTPUTS = ("OUTPUTS", "SCREEN", "conclude", "write_outputs")

__all__ = [
    "OUTPUTS",
    "SCREEN",
    "closing_text",
    "conclude",
    "plain_table",
    "table",
    "with_uncertainty",
    "write_outputs",
]


def __getattr__(name: str) -> Any:
    """Import a name when it is asked for: `--help` of this package needs none of what a reduction does."""
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module(f"{__name__}.{'outputs' if name in _OUTPUTS else 'text'}"), name)
