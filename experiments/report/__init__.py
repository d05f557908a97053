"""The report of a run: tables for the terminal and one self-contained HTML file; `python -m experiments.report`."""

from experiments.report.outputs import OUTPUTS, SCREEN, conclude, write_outputs
from experiments.report.text import closing_text, plain_table, table, with_uncertainty

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
