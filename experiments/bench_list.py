"""Who is on the bench, and what else VISA sees: `python -m experiments.check_bench --list`. Changes nothing."""

from __future__ import annotations

import contextlib
from dataclasses import asdict, dataclass
from pathlib import Path

from instruments import lab as lab_yaml
from instruments.bench import roll_call
from instruments.dialogue import Dialogue
from instruments.errors import BenchError
from instruments.link import Link, may_be_asked, visible_resources

ASK_S = 2.0
"""How long a resource that is in no lab.yaml may take to open, and then to answer."""


@dataclass(frozen=True)
class Entry:
    """One resource: the instrument's name on the bench or "", what it says it is or "", and what is to be said.

    `right` is None where lab.yaml expects nothing.
    """

    resource: str
    name: str
    identity: str
    said: str
    right: bool | None

    def line(self) -> str:
        """One line of text."""
        mark = "note " if self.right is None else "good " if self.right else "WRONG"
        return f"{mark} {self.name or 'other'} {self.resource}: {'; '.join(t for t in (self.identity, self.said) if t)}"

    def as_dict(self) -> dict[str, object]:
        """For JSON."""
        return asdict(self)


def entries(lab_path: Path) -> list[Entry]:
    """Ask the bench's instruments, then what else is there to see. Raises ConfigError for a bad lab.yaml."""
    lab = lab_yaml.load(lab_path)
    expected = {"scope": (lab.scope.model, lab.scope.serial), "supply": (lab.supply.model, lab.supply.serial)}
    resources = {"scope": lab.scope.resource, "supply": lab.supply.resource}
    found = []
    for name, answer in roll_call(lab, lab_path).items():
        shown = ", ".join(resources[name])
        if isinstance(answer, BenchError):
            found.append(Entry(shown, name, "", str(answer), False))
            continue
        right = (answer.model, answer.serial) == expected[name]
        said = "" if right else "lab.yaml expects {} with serial {}: correct it, or the address".format(*expected[name])
        found.append(Entry(shown, name, str(answer), said, right))
    known = {resource.upper() for listed in resources.values() for resource in listed}
    for resource in visible_resources(lab.visa):
        if resource.upper() not in known:
            found.append(_other(resource, lab.visa))
    return found


def _other(resource: str, visa: str) -> Entry:
    if not may_be_asked(resource):
        return Entry(resource, "", "", "not asked, since opening a serial line can move what is connected to it", None)
    try:
        with contextlib.closing(
            Link.open("resource", resource, visa=visa, timeout_s=ASK_S, open_timeout_s=ASK_S)
        ) as link:
            return Entry(resource, "", str(Dialogue(link).identity()), "in no line of this lab.yaml", None)
    except BenchError as error:
        return Entry(resource, "", "", f"does not say who it is ({getattr(error, 'message', error)})", None)
