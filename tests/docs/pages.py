"""The project's Markdown pages as blocks: what is a command, a program, a piece of YAML, and what is marked.

A block is fenced or indented by four spaces. Fenced blocks say what they are (`sh`, `python`, `yaml`, `text`, ...); of
indented ones the first word tells. A comment on the line before a block marks it: `<!-- not run in tests: REASON -->`
says why its commands cannot be run here, `<!-- as printed -->` that it is what the commands before it print. A first
line `# file: NAME` makes a block a file that the page's commands find.
"""

from __future__ import annotations

import re
import shlex
from dataclasses import dataclass
from pathlib import Path

from tests.sweeps import ROOT

PAGES = [ROOT / "README.md", ROOT / "CHANGELOG.md", *sorted((ROOT / "docs").rglob("*.md"))]
GUIDES = [page for page in PAGES if page.name != "CHANGELOG.md" and page.parent.name != "decisions"]

PROGRAMS = (
    *("python", "python3", "pip", "make", "git", "ssh", "scp", "sudo"),
    *("cp", "cat", "echo", "ls", "mkdir", "sed", ".", "source"),
)
_MARK = re.compile(r"^<!-- (?:not run in tests: (.+)|(as printed)) -->$")
_YAML = "bench|visa|scope|supply|probe|wiring|dut|calibrations|simulation|kind|seed|markers|leads"
_FILE = re.compile(r"^(?:#|//) file: (\S+)$")


@dataclass(frozen=True)
class Block:
    """One block of a page; `line` is its first line, from 1; `mark` the reason why it is not run, or empty."""

    page: str
    line: int
    kind: str
    text: str
    mark: str = ""

    @property
    def place(self) -> str:
        return f"{self.page}:{self.line}"

    @property
    def file(self) -> str | None:
        """The name of the file that this block is, if it is one."""
        found = _FILE.match(self.text.splitlines()[0])
        return found[1] if found else None

    def commands(self) -> list[str]:
        """Its commands, one a line, without comments; lines that end in a backslash go on."""
        whole = self.text.replace("\\\n", " ")
        if "<<" in whole or re.search(r"^(while|for|if) ", whole, re.M):
            return [whole]
        return [line.strip() for line in whole.splitlines() if shlex.split(line, comments=True)]


def blocks(page: Path) -> list[Block]:
    """The blocks of a page in their order."""
    name = str(page.relative_to(ROOT))
    lines = page.read_text().splitlines()
    found: list[Block] = []
    mark, at = "", 0
    while at < len(lines):
        line = lines[at]
        marked = _MARK.match(line)
        if marked:
            mark = marked[1] or marked[2]
            at += 1
            continue
        fence = re.match(r"^(```+)(\w*)\s*$", line)
        if fence:
            end = next(n for n in range(at + 1, len(lines)) if lines[n].strip() == fence[1])
            text = "\n".join(lines[at + 1 : end])
            found.append(Block(name, at + 2, fence[2] or "text", text, mark))
            mark, at = "", end + 1
            continue
        if line.startswith("    ") and (at == 0 or not lines[at - 1].strip() or _MARK.match(lines[at - 1])):
            end = at
            while end < len(lines) and lines[end].startswith("    "):
                end += 1
            text = "\n".join(part[4:] for part in lines[at:end])
            found.append(Block(name, at + 1, _kind(text), text, mark))
            mark, at = "", end
            continue
        if line.strip():
            mark = ""
        at += 1
    return found


def _kind(text: str) -> str:
    first = text.splitlines()[0].split()
    word = next((w for w in first if not re.match(r"^[A-Z_]+=", w)), "")
    if Path(word).name in PROGRAMS:
        return "sh"
    return "yaml" if re.match(rf"^({_YAML}):( |$)", text, re.M) else "text"


def prose(page: Path) -> str:
    """A page without its blocks."""
    text = re.sub(r"^(```+).*?^\1$", "", page.read_text(), flags=re.M | re.S)
    return "\n".join(line for line in text.splitlines() if not line.startswith("    "))


def inline_commands(page: Path) -> list[str]:
    """What stands in backquotes and begins with `python -m`; a table's `\\|` becomes `|`."""
    found = re.findall(r"`(python -m [^`]+)`", page.read_text().replace("\n", " "))
    return [re.sub(r"\s+", " ", text.replace("\\|", "|")) for text in found]


def spread(command: str) -> list[str]:
    """A synopsis as the commands it stands for: `check|info FILE` is two."""
    choice = re.search(r"(?<![\w-])((?:[\w.]+\|)+[\w.]+)(?![\w-])", command)
    if choice is None or choice.start() < len("python -m "):
        return [command]
    return [command[: choice.start(1)] + one + command[choice.end(1) :] for one in choice[1].split("|")]


def option_names(command: str) -> list[str]:
    """The long options that a command names, optional ones too."""
    return re.findall(r"(?<![\w-])--[a-z][\w-]*", command.split(" -- ")[0])
