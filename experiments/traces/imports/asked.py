"""What a person says of recordings to be imported: what ran, where the measured loops are, which channel is what."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from experiments.hand_windows import COUNTS, HandWindow
from experiments.traces.imports.roles import Choice
from instruments.errors import ConfigError

NETWORK = "imported"
NUMBERS = COUNTS[1:]


@dataclass(frozen=True)
class Counts:
    """What ran in each measured loop: `images` in all, in `batches`, or `batch` images in each of them."""

    network: str = NETWORK
    images: int | None = None
    batches: int | None = None
    batch: int | None = None

    def but(self, given: Mapping[str, Any], place: str) -> Counts:
        """Itself with some of it given elsewhere. Raises ConfigError, naming the place, for what is no count."""
        unknown = set(given) - {"network", *NUMBERS}
        if unknown:
            raise ConfigError(f"{place}: {sorted(unknown)[0]!r} is not known; network, {', '.join(NUMBERS)} are")
        for name in NUMBERS:
            value = given.get(name)
            if value is not None and (isinstance(value, bool) or not isinstance(value, int) or value < 1):
                raise ConfigError(f"{place}: {name} is {value!r}, a whole number of 1 or more was expected")
        network = given.get("network", self.network)
        if not isinstance(network, str) or not network:
            raise ConfigError(f"{place}: network is {network!r}, a name was expected")
        return Counts(network, *(given.get(name, getattr(self, name)) for name in NUMBERS))

    def beside(self, ran: Mapping[str, Any], place: str) -> Counts:
        """Itself with what the recording says of itself. Raises ConfigError, naming the place, where both differ."""
        if not ran:
            return self
        network, batch = str(ran["network"]), int(ran["batch"])
        asked = self.batch
        if asked is None and self.images is not None and self.batches is not None:
            asked = self.images // self.batches if self.images % self.batches == 0 else None
            if asked is None:
                raise ConfigError(
                    f"{place}: {self.images} images are no whole number for each of {self.batches} batches"
                )
        if asked not in (None, batch):
            raise ConfigError(
                f"{place}: {network} at batch {batch} by the file itself, and batch {asked} is asked for: leave out "
                "--images, --batches and --batch, it tells them"
            )
        if self.network != NETWORK and network not in (NETWORK, self.network):
            raise ConfigError(
                f"{place}: {network} by the file itself, and {self.network} is asked for: leave out --network"
            )
        return Counts(network if self.network == NETWORK else self.network, self.images, self.batches, batch)


@dataclass(frozen=True)
class Wanted:
    """Everything that is asked of an import. `windows` is "lines", "found", or those given by hand."""

    format: str = "auto"
    choice: Choice = field(default_factory=Choice)
    counts: Counts = field(default_factory=Counts)
    of_files: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    windows: str | Sequence[HandWindow] = "lines"


def read_facts(path: Path) -> tuple[dict[str, Any], dict[str, dict[str, Any]]]:
    """Read what ran from JSON: facts of every file at the top, and under `files` those of single ones.

    Raises ConfigError for what is no such file.
    """
    try:
        tree = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ConfigError(f"{path}: cannot be read as JSON ({error})") from error
    if not isinstance(tree, dict):
        raise ConfigError(f'{path}: an object such as {{"images": 100, "files": {{"run2.csv": {{...}}}}}} was expected')
    files = tree.pop("files", {})
    if not isinstance(files, dict) or not all(isinstance(facts, dict) for facts in files.values()):
        raise ConfigError(f"{path}: files: an object with a file's facts under its name was expected")
    return tree, files
