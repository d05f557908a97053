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

from instruments.dut_protocol import DutProtocolError, Mode, mode_of
from instruments.errors import ConfigError

MAX_BATCH = 65536
MAX_CELLS = 100_000
MAX_THREADS = 1024
FP32 = Mode()


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
class RunOptions:
    """How every network of a sweep is run. The device may refuse any of it, cell by cell.

    `device`: auto, cpu or cuda; `threads` 0 leaves the library's choice; `weights`: random, torchvision or a file on
    the board.
    """

    device: str = "auto"
    threads: int = 0
    mode: Mode = FP32
    weights: str = "random"

    @property
    def label(self) -> str:
        """All of it in words."""
        threads = f"threads: {self.threads}" if self.threads else "threads as the library chooses"
        return f"device {self.device}, {self.mode.label()}, {threads}, weights: {self.weights}"


@dataclass(frozen=True)
class Plan:
    """A sweep before it starts; `window_s` is the length of each record."""

    networks: tuple[str, ...]
    batches: tuple[int, ...]
    repeats: int
    window_s: float
    seed: int
    cells: tuple[Cell, ...]
    run: RunOptions = RunOptions()

    def to_json(self) -> str:
        """Write as JSON, cells included."""
        tree = asdict(self)
        tree["run"]["mode"] = self.run.mode.as_json()
        return json.dumps(tree)

    @staticmethod
    def from_json(text: str) -> Plan:
        """Read what `to_json` wrote."""
        tree: dict[str, Any] = json.loads(text)
        run = tree.get("run") or {
            "device": "auto",
            "threads": 0,
            "mode": RunOptions().mode.as_json(),
            "weights": "random",
        }
        try:
            mode = mode_of(run["mode"])
        except DutProtocolError as error:
            raise ValueError(f"run: {error}") from error
        return Plan(
            tuple(tree["networks"]),
            tuple(tree["batches"]),
            tree["repeats"],
            tree["window_s"],
            tree["seed"],
            tuple(Cell(**cell) for cell in tree["cells"]),
            RunOptions(run["device"], run["threads"], mode, run["weights"]),
        )


def make_plan(
    networks: Sequence[str],
    batches: Sequence[int],
    repeats: int,
    window_s: float,
    seed: int,
    run: RunOptions | None = None,
) -> Plan:
    """Order the cells of a sweep.

    Raises ConfigError for an empty or repeated choice, a batch or repeat below 1, a window that no oscilloscope
    timebase covers (20 ms to 500 s), or ways to run that contradict each other.
    """
    run = run or RunOptions()
    if run.mode.cuda_graphs and run.device == "cpu":
        raise ConfigError("CUDA graphs need a GPU: leave out --cuda-graphs or --device cpu")
    if not 0 <= run.threads <= MAX_THREADS:
        raise ConfigError(f"threads {run.threads}: give 0 (the library's own choice) to {MAX_THREADS}")
    if not run.weights.strip():
        raise ConfigError("--weights names nothing: give random, torchvision or a file on the board")
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
    return Plan(tuple(networks), tuple(batches), repeats, window_s, seed, tuple(cells), run)
