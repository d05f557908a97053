"""The command tree of a simulated instrument: short and long forms, optional nodes, numeric suffixes. Pure.

Patterns are written as in the manuals: `:CHANnel<1-4>:PROBe`, `MEASure[:SCALar]:VOLTage[:DC]`, `*RST`.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Generator
from dataclasses import dataclass, field

from instruments.simulated.scpi_errors import Refused
from instruments.simulated.scpi_params import keyword_forms, match_choice, parse_number
from instruments.simulated.scpi_syntax import Param, Unit

Job = Generator[float | None, None, "str | bytes | None"]
"""A command that takes time: yields the time at which to be resumed, or None to wait for a device clear."""

Reply = str | bytes | None
Handler = Callable[["Call"], "Reply | Job"]


@dataclass
class Call:
    """One execution of a command: its suffixes and parameters, read one after the other by the handler."""

    suffix: tuple[int, ...]
    params: list[Param]
    now_s: float
    kind: str = "stream"
    clips: bool = False
    """A number out of range becomes the nearest limit instead of an error."""

    def _take(self) -> Param:
        if not self.params:
            raise Refused(-109)
        return self.params.pop(0)

    @property
    def more(self) -> bool:
        """Whether parameters are left."""
        return bool(self.params)

    def number(
        self,
        unit: str = "",
        *,
        low: float | None = None,
        high: float | None = None,
        default: float | None = None,
    ) -> float:
        """Read a number within [low, high], or MIN, MAX, DEF where these have a meaning."""
        param = self._take()
        if param.kind == "string":
            raise Refused(-158)
        if param.kind == "block":
            raise Refused(-168)
        bound = {"MIN": low, "MAX": high, "DEF": default}
        if (word := _BOUND_WORDS.get(param.text.upper())) is not None:
            if (value := bound[word]) is None:
                raise Refused(-224)
            return value
        value = parse_number(param.text, unit)
        if self.clips:
            value = value if low is None else max(value, low)
            return value if high is None else min(value, high)
        if (low is not None and value < low - 1e-12 * abs(low)) or (
            high is not None and value > high + 1e-12 * abs(high)
        ):
            raise Refused(-222)
        return value

    def integer(self, *, low: int, high: int, default: int | None = None) -> int:
        """Read a number and round it, as 488.2 instruments do."""
        return round(self.number(low=low, high=high, default=default))

    def choice(self, *choices: str) -> str:
        """Read a keyword; its short form, upper case."""
        param = self._take()
        if param.kind != "text":
            raise Refused(-104)
        return match_choice(param.text, choices)

    def boolean(self) -> bool:
        """Read ON, OFF or a number (not 0 is on)."""
        param = self._take()
        if param.kind != "text":
            raise Refused(-104)
        word = param.text.upper()
        if word in ("ON", "OFF"):
            return word == "ON"
        try:
            return round(parse_number(param.text)) != 0
        except Refused as error:
            raise Refused(-224 if error.code == -104 else error.code) from None

    def string(self) -> str:
        """Read a quoted string."""
        param = self._take()
        if param.kind != "string":
            raise Refused(-104)
        return param.text

    def word(self) -> str:
        """Read an unquoted word as it stands, upper case."""
        param = self._take()
        if param.kind != "text":
            raise Refused(-104)
        return param.text.upper()

    def block(self) -> bytes:
        """Read a block's bytes."""
        param = self._take()
        if param.kind != "block":
            raise Refused(-104)
        return param.data


@dataclass(frozen=True)
class Command:
    """What one header can do; argument counts are (least, most)."""

    pattern: str
    set: Handler | None = None
    query: Handler | None = None
    set_args: tuple[int, int] = (1, 1)
    query_args: tuple[int, int] = (0, 0)


@dataclass
class Node:
    """One mnemonic's place in the tree. Children are keyed by spelling, with and without a suffix."""

    plain: dict[str, Node] = field(default_factory=dict)
    numbered: dict[str, tuple[Node, int, int]] = field(default_factory=dict)
    command: Command | None = None


_BOUND_WORDS = dict.fromkeys(("MIN", "MINIMUM"), "MIN") | dict.fromkeys(("MAX", "MAXIMUM"), "MAX")
_BOUND_WORDS |= dict.fromkeys(("DEF", "DEFAULT"), "DEF")
_Part = tuple[str, "int | None", "int | None", bool]
_NODE = re.compile(r"(\[)?:?([*]?[A-Za-z][A-Za-z0-9]*)(?:<(\d+)-(\d+)>)?(\])?")
_SPELT = re.compile(r"([A-Za-z_]+)(\d*)")


@dataclass(frozen=True)
class Place:
    """Where in the tree the next relative header begins, with the suffixes met on the way."""

    node: Node
    suffixes: tuple[int, ...] = ()


class Tree:
    """All headers of an instrument; `find` walks from the root or from where the last unit left off."""

    def __init__(self, suffix_error: int = -113) -> None:
        self.root, self.suffix_error = Node(), suffix_error
        self._common: dict[str, Command] = {}
        self._found: dict[tuple[int, tuple[int, ...], str], tuple[Command, tuple[int, ...], Place]] = {}

    def add(self, command: Command) -> None:
        """Register a command under its pattern, or several patterns with `|` between them."""
        for pattern in command.pattern.split("|"):
            if pattern.startswith("*"):
                self._common[pattern.upper()] = command
                continue
            parts = [
                (m[2], int(m[3]) if m[3] else None, int(m[4]) if m[4] else None, bool(m[1]))
                for m in _NODE.finditer(pattern)
            ]
            self._insert(self.root, parts, command)
        self._found.clear()

    def _insert(self, node: Node, parts: list[_Part], command: Command) -> None:
        if not parts:
            if node.command is None or node.command is command:
                node.command = command
            return
        (name, low, high, optional), rest = parts[0], parts[1:]
        if optional:
            self._insert(node, rest, command)
        forms = set(keyword_forms(name))
        if low is None or high is None:
            child = next((node.plain[f] for f in forms if f in node.plain), None) or Node()
            for form in forms:
                node.plain[form] = child
        else:
            known = next((node.numbered[f] for f in forms if f in node.numbered), None)
            child = known[0] if known else Node()
            for form in forms:
                node.numbered[form] = (child, low, high)
        self._insert(child, rest, command)

    def find(self, unit: Unit, path: Place) -> tuple[Command, tuple[int, ...], Place]:
        """Command, numeric suffixes and the path for the next unit; -113 where there is none.

        A suffix outside its range is `suffix_error`: what exactly the scope logs is unconfirmed, but it
        does not answer (PD3: D8 and above stay silent).
        """
        if unit.header.startswith("*"):
            common = self._common.get(unit.header.upper())
            if common is None:
                raise Refused(-113)
            return common, (), path
        start = Place(self.root) if unit.header.startswith(":") else path
        key = (id(start.node), start.suffixes, unit.header)
        if (known := self._found.get(key)) is not None:
            return known
        node, suffixes, parent = start.node, list(start.suffixes), start
        for name in unit.header.upper().removeprefix(":").split(":"):
            parent = Place(node, tuple(suffixes))
            if name in node.plain:
                node = node.plain[name]
                continue
            hit = _SPELT.fullmatch(name)
            if hit is None or hit[1] not in node.numbered:
                raise Refused(-113)
            child, low, high = node.numbered[hit[1]]
            number = int(hit[2]) if hit[2] else 1
            if not low <= number <= high:
                raise Refused(self.suffix_error)
            suffixes.append(number)
            node = child
        if node.command is None:
            raise Refused(-113)
        found = (node.command, tuple(suffixes), parent)
        if len(self._found) < 4096:
            self._found[key] = found
        return found
