"""What a sweep will measure: networks x batches x repeats as ordered cells. Pure.

Each repeat is a round that visits every pair of network and batch once, in an order of its own drawn
from the seed, so that drift and warm-up do not fall on one network, and a sweep that is cut short
has whole rounds.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal, get_args

import numpy as np

from instruments.dut_protocol import DutProtocolError, Mode, mode_of
from instruments.errors import ConfigError

MAX_BATCH = 65536
MAX_CELLS = 100_000
MAX_THREADS = 1024
FP32 = Mode()

LongBatch = Literal["longer-record", "consecutive", "steady"]
LONG_BATCH: tuple[str, ...] = get_args(LongBatch)
"""What is done with a batch that is longer than the record; see docs/long-runs.md."""

LONG_S = 60.0
LONGEST_S = 600.0
"""Usual and longest run of long mode: all captures of a run are in memory until it ends."""


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
class Method:
    """How a cell is recorded and how often.

    With `long_s` the device runs at least that long and consecutive captures are taken of it (long mode; None: one
    record, as the paper). `target_u` is the half-width of the type-A 95 % interval of the energy per image, in % of
    its mean, that a pair of network and batch is repeated for (None: a fixed number of repeats). With `gain_check` the
    supply is read during every cell, to compare the gain of the current with it.
    """

    long_s: float | None = None
    long_batch: LongBatch = "longer-record"
    target_u: float | None = None
    gain_check: bool = False

    def lines(self, repeats: int, most: int) -> list[str]:
        """All of it in words, for a plan."""
        found = []
        if self.long_s is not None:
            found.append(f"long mode: runs of at least {self.long_s:g} s in consecutive captures")
        if self.long_batch != "longer-record":
            found.append(f"batches longer than the record: {self.long_batch}")
        if self.target_u is not None:
            found.append(f"{repeats} to {most} repeats, until the type-A interval is within {self.target_u:g} %")
        if self.gain_check:
            found.append("the supply is read during every cell: a running check of the current's gain")
        return found


@dataclass(frozen=True)
class Plan:
    """A sweep before it starts; `window_s` is the length of each record, `repeats` the least number of repeats."""

    networks: tuple[str, ...]
    batches: tuple[int, ...]
    repeats: int
    window_s: float
    seed: int
    cells: tuple[Cell, ...]
    run: RunOptions = RunOptions()
    method: Method = Method()

    @property
    def rounds(self) -> int:
        """The most repeats that a pair of network and batch can have."""
        return max((cell.repeat + 1 for cell in self.cells), default=self.repeats)

    @property
    def pairs(self) -> list[tuple[str, int]]:
        """Network and batch of each row of results, as the networks and batches were named."""
        planned = {(cell.network, cell.batch) for cell in self.cells}
        return [(n, b) for n in self.networks for b in self.batches if (n, b) in planned]

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
            Method(**tree.get("method", {})),
        )


def make_plan(
    networks: Sequence[str],
    batches: Sequence[int],
    repeats: int,
    window_s: float,
    seed: int,
    run: RunOptions | None = None,
    method: Method | None = None,
    max_repeats: int | None = None,
) -> Plan:
    """Order the cells of a sweep; with a target in `method` there are `max_repeats` rounds of them.

    Raises ConfigError for an empty or repeated choice, a batch or repeat below 1, a window that no oscilloscope
    timebase covers (20 ms to 500 s), or ways to run or to record that contradict each other.
    """
    run, method = run or RunOptions(), method or Method()
    rounds = _rounds(method, repeats, max_repeats)
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
    _check_method(method, window_s)
    count = len(networks) * len(batches) * rounds
    if count > MAX_CELLS:
        raise ConfigError(f"{count} cells are more than {MAX_CELLS}: lower --repeats or --max-repeats")
    rng = np.random.default_rng(seed)
    pairs = [(network, batch) for network in networks for batch in batches]
    cells: list[Cell] = []
    for repeat in range(rounds):
        for k in rng.permutation(len(pairs)):
            network, batch = pairs[int(k)]
            cells.append(Cell(len(cells), network, batch, repeat))
    return Plan(tuple(networks), tuple(batches), repeats, window_s, seed, tuple(cells), run, method)


def _rounds(method: Method, repeats: int, max_repeats: int | None) -> int:
    """How many repeats there are at most; raises ConfigError."""
    if method.target_u is None:
        if max_repeats is not None:
            raise ConfigError(
                f"--max-repeats {max_repeats} needs a target: give --target-u PERCENT, or --repeats alone"
            )
        return repeats
    if not 0.001 <= method.target_u <= 100:
        raise ConfigError(f"--target-u {method.target_u:g}: give 0.001 to 100, in % of the energy per image")
    if repeats < 2:
        raise ConfigError(f"--target-u needs a scatter to judge by: give --repeats 2 or more, not {repeats}")
    if max_repeats is None or max_repeats < repeats:
        raise ConfigError(f"--target-u needs --max-repeats N, at least the {repeats} of --repeats")
    return max_repeats


def _check_method(method: Method, window_s: float) -> None:
    if method.long_batch not in LONG_BATCH:
        raise ConfigError(f"--long-batch {method.long_batch!r}: give one of {', '.join(LONG_BATCH)}")
    if method.long_s is None:
        return
    if not 2 * window_s <= method.long_s <= LONGEST_S:
        raise ConfigError(
            f"--long-s {method.long_s:g}: give {2 * window_s:g} s (two records) to {LONGEST_S:g} s; all records of a "
            "run are held in memory until it ends"
        )
    if method.long_batch == "steady":
        raise ConfigError(
            "--long-batch steady takes one usual record, and --mode long takes many: choose --long-batch consecutive"
        )
