"""What a sweep will measure: networks x batches x repeats as ordered cells. Pure.

Each repeat is a round that visits every pair of network and batch once, in an order of its own drawn
from the seed, so that drift and warm-up do not fall on one network, and a sweep that is cut short
has whole rounds.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from instruments.errors import ConfigError

MAX_BATCH = 65536
MAX_CELLS = 100_000


@dataclass(frozen=True)
class Cell:
    """One measurement to be made: `position` counts from 0 in the order of the sweep."""

    position: int
    network: str
    batch: int
    repeat: int

    @property
    def label(self) -> str:
        """Name for messages."""
        return f"{self.network} batch {self.batch} repeat {self.repeat + 1}"


@dataclass(frozen=True)
class Plan:
    """A sweep before it starts; `window_s` is the length of each record."""

    networks: tuple[str, ...]
    batches: tuple[int, ...]
    repeats: int
    window_s: float
    seed: int
    cells: tuple[Cell, ...]

    def to_json(self) -> str:
        """Write as JSON, cells included."""
        return json.dumps(asdict(self))

    @staticmethod
    def from_json(text: str) -> Plan:
        """Read what `to_json` wrote."""
        tree: dict[str, Any] = json.loads(text)
        return Plan(
            tuple(tree["networks"]),
            tuple(tree["batches"]),
            tree["repeats"],
            tree["window_s"],
            tree["seed"],
            tuple(Cell(**cell) for cell in tree["cells"]),
        )


def make_plan(networks: Sequence[str], batches: Sequence[int], repeats: int, window_s: float, seed: int) -> Plan:
    """Order the cells of a sweep.

    Raises ConfigError for an empty or repeated choice, a batch or repeat below 1, or a window that no
    oscilloscope timebase covers (20 ms to 500 s).
    """
    for what, values in (("network", networks), ("batch", batches)):
        if not values:
            raise ConfigError(f"no {what} was named: give at least one")
        doubled = sorted({str(v) for v in values if list(values).count(v) > 1})
        if doubled:
            raise ConfigError(f"{what} {', '.join(doubled)} is named twice: name each once and raise --repeats instead")
    bad = [b for b in batches if not 1 <= b <= MAX_BATCH]
    if bad:
        raise ConfigError(f"batch {bad[0]} is not a number of images: give 1 to {MAX_BATCH}")
    if repeats < 1:
        raise ConfigError(f"repeats {repeats} measures nothing: give 1 or more")
    if not 0.02 <= window_s <= 500.0:
        raise ConfigError(f"window {window_s:g} s: the timebase covers 0.02 s to 500 s; 2.0 is the usual choice")
    if not 0 <= seed < 2**63:
        raise ConfigError(f"seed {seed}: give 0 to 2^63 - 1")
    count = len(networks) * len(batches) * repeats
    if count > MAX_CELLS:
        raise ConfigError(f"{count} cells are more than {MAX_CELLS}: lower --repeats")
    rng = np.random.default_rng(seed)
    pairs = [(network, batch) for network in networks for batch in batches]
    cells: list[Cell] = []
    for repeat in range(repeats):
        for k in rng.permutation(len(pairs)):
            network, batch = pairs[int(k)]
            cells.append(Cell(len(cells), network, batch, repeat))
    return Plan(tuple(networks), tuple(batches), repeats, window_s, seed, tuple(cells))
