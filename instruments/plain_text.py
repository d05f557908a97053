"""Texts from elsewhere (boards, files, instruments) as they may be shown: on a terminal, in a page, in a table. Pure.

A terminal obeys control characters, a spreadsheet computes what begins as a formula, and marks of writing direction
turn what follows them round. All of them are shown instead, as escapes such as \\x1b.
"""

from __future__ import annotations

import re

_DIRECTIONS = "\u200e\u200f\u202a-\u202e\u2066-\u2069"
_NOT_SHOWN = re.compile(f"[\x00-\x08\x0b-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff{_DIRECTIONS}]")
_NOT_ON_A_LINE = re.compile(f"[\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff{_DIRECTIONS}]")
_FORMULA = re.compile(r"'*[=+\-@]")


def visible(text: str) -> str:
    """A text of several lines: line ends and tabs stay, other control characters become escapes."""
    return _NOT_SHOWN.sub(_escape, text)


def one_line(text: str) -> str:
    """A text that is to be a part of one line, such as a name: line ends and tabs become escapes too."""
    return _NOT_ON_A_LINE.sub(_escape, text)


def table_cell(text: str) -> str:
    """A text as a cell of a CSV file: on one line, and behind an apostrophe where a spreadsheet would compute it."""
    line = one_line(text)
    return f"'{line}" if _FORMULA.match(line) and not _is_number(line) else line


def of_table_cell(text: str) -> str:
    """The text that `table_cell` wrote, but for its escapes."""
    return text[1:] if text.startswith("'") and _FORMULA.match(text[1:]) else text


def _escape(match: re.Match[str]) -> str:
    return match.group().encode("unicode_escape").decode("ascii")


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True
