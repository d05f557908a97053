"""HTML from values: whatever comes from files is escaped here, and nowhere else."""

from __future__ import annotations

import base64
import html
import json
from collections.abc import Mapping, Sequence
from typing import Any

from instruments.plain_text import visible


def text(value: object) -> str:
    """A value as text between tags or in a quoted attribute; control characters become visible."""
    return html.escape(visible(str(value)))


def attributes(given: Mapping[str, object]) -> str:
    """Attributes of a tag, with a blank before each."""
    return "".join(f" {name}='{text(value)}'" for name, value in given.items())


def paragraph(value: str, style: str = "") -> str:
    """One paragraph of text."""
    return f"<p{attributes({'class': style}) if style else ''}>{text(value)}</p>"


def bullets(values: Sequence[str], style: str = "") -> str:
    """A list of texts; nothing where there are none."""
    items = "".join(f"<li>{text(value)}</li>" for value in values)
    return f"<ul{attributes({'class': style}) if style else ''}>{items}</ul>" if values else ""


def section(key: str, title: str, *parts: str) -> str:
    """One numbered section of the report, reachable as #key."""
    return f"<section id='{text(key)}'><h2>{text(title)}</h2>\n" + "\n".join(parts) + "\n</section>"


def badge(verdict: str) -> str:
    """A verdict in its colour."""
    return f"<b class='verdict {text(verdict.replace(' ', '-'))}'>{text(verdict)}</b>"


def details(title: str, *parts: str) -> str:
    """What is shown when its title is opened."""
    return f"<details><summary>{text(title)}</summary>" + "".join(parts) + "</details>"


def table(
    lines: Sequence[Sequence[str]], style: str = "", of_rows: Sequence[Mapping[str, object]] | None = None
) -> str:
    """A table that may scroll sideways; `lines` has its header first, `of_rows` gives attributes of each row."""
    head = "".join(f"<th scope='col'>{text(cell)}</th>" for cell in lines[0])
    given = of_rows or [{}] * (len(lines) - 1)
    body = "".join(
        f"<tr{attributes(row)}>" + "".join(f"<td>{text(cell)}</td>" for cell in line) + "</tr>"
        for line, row in zip(lines[1:], given, strict=True)
    )
    kind = attributes({"class": style}) if style else ""
    return f"<div class='scroll'><table{kind}><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>"


def picture(data: bytes, kind: str, alt: str, width_px: int | None = None) -> str:
    """A picture in the file itself, as wide as it says itself or as asked; `kind` is image/png or image/svg+xml."""
    size = attributes({"width": width_px}) if width_px else ""
    return f"<img alt='{text(alt)}'{size} src='data:{kind};base64,{base64.b64encode(data).decode()}'>"


def data_block(key: str, tree: Any) -> str:
    """Data for the report's own script. No text in it can end the block, or begin a comment in it."""
    safe = json.dumps(tree, allow_nan=False, separators=(",", ":"))
    for sign in "<>&":
        safe = safe.replace(sign, f"\\u{ord(sign):04x}")
    return f"<script type='application/json' id='{text(key)}'>{safe}</script>"
