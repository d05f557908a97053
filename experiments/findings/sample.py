"""What the findings are judged by: one line for each run of a network, taken from trace files."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pandas as pd

from experiments.device import DeviceRow
from experiments.findings.verdict import MIN_REPEATS, listed
from experiments.outcome import Outcome
from experiments.reduction import reduce_run
from experiments.traces import TraceReader
from experiments.traces.agreement import require_agreement
from instruments.errors import ConfigError
from instruments.wording import counted

RUN_COLUMNS = ("network", "batch", "session", "repeat", "power_w", "net_power_w", "time_s", "energy_j", "net_energy_j")
"""Of each run: mean power while it ran, gross and net of idle; time and energy per image."""

NETWORK_COLUMNS = ("operations", "parameters", "activations", "weights_mb", "top1")
"""Of each network, one image: operations (two a multiply-accumulate), elements that layers write, MB (1e6 bytes) of
weights in the number type that ran, cited top-1 in %."""

_BYTES = {"fp16": 2, "bf16": 2, "int8": 1}


@dataclass(frozen=True)
class Sample:
    """One device's runs: `runs` with RUN_COLUMNS, `networks` with NETWORK_COLUMNS by name, and memory.

    `memory` has the columns network, batch and memory_mb, the highest of the repeats, all of `memory_kind`.
    """

    device: str
    source: str
    runs: pd.DataFrame
    networks: pd.DataFrame
    memory: pd.DataFrame = field(default_factory=lambda: pd.DataFrame(columns=["network", "batch", "memory_mb"]))
    memory_kind: str = ""
    notes: tuple[str, ...] = ()

    @property
    def usable(self) -> pd.DataFrame:
        """The runs of cells (network and batch) that were repeated at least MIN_REPEATS times."""
        count = self.runs.groupby(["network", "batch"])["repeat"].transform("size")
        return self.runs[count >= MIN_REPEATS]

    @property
    def cells(self) -> pd.DataFrame:
        """Means over the repeats of each usable cell, with what is known of its network."""
        means = self.usable.drop(columns=["session", "repeat"]).groupby(["network", "batch"], as_index=False).mean()
        return means.join(self.networks, on="network")

    def common(self, column: str) -> pd.DataFrame:
        """The usable cells of networks of which `column` is known, at the batch sizes where all of these were measured.

        Where memory ran out for some, the rest are no sample of the same networks.
        """
        cells = self.cells
        cells = cells[cells[column].notna()]
        everywhere = cells.groupby("batch")["network"].transform("nunique") == cells["network"].nunique()
        found: pd.DataFrame = cells[everywhere].sort_values(["batch", "network"], ignore_index=True)
        return found

    @property
    def repeats_text(self) -> str:
        """Least and greatest number of repeats of a cell, with their noun."""
        counts = self.runs.groupby(["network", "batch"]).size()
        low, high = (int(counts.min()), int(counts.max())) if len(counts) else (0, 0)
        return counted(low, "repeat") if low == high else f"{low} to {high} repeats"


def batches_of(cells: pd.DataFrame) -> tuple[int, ...]:
    """The batch sizes of a table, in order."""
    return tuple(int(b) for b in sorted(cells["batch"].unique()))


def paper_pair(batches: Sequence[int]) -> tuple[int, ...]:
    """The paper's batch sizes 1 and 16 where both are there, else the least and the greatest; each once."""
    if {1, 16} <= set(batches):
        return (1, 16)
    return tuple(dict.fromkeys((min(batches), max(batches)))) if batches else ()


def load(paths: Sequence[Path]) -> Sample:
    """Reduce trace files, or those in run folders, to one sample.

    Raises ConfigError for a folder without a trace file, a file named twice, or runs of unlike devices; TraceError for
    a file that cannot be read.
    """
    files = [path / "trace.h5" if path.is_dir() else path for path in paths]
    for path, file in zip(paths, files, strict=True):
        if not file.is_file():
            raise ConfigError(f"{path}: there is no trace file: name run folders or the trace.h5 of a run")
    resolved = [file.resolve() for file in files]
    doubled = [str(p) for k, p in enumerate(paths) if resolved[k] in resolved[:k]]
    if doubled:
        raise ConfigError(f"{doubled[0]} is named twice: its runs would count twice")
    with ExitStack() as stack:
        readers = [stack.enter_context(TraceReader(file)) for file in files]
        for reader in readers:
            require_agreement(reader)
        outcomes = [reduce_run(reader) for reader in readers]
        return sample_of(list(zip(map(str, paths), outcomes, strict=True)))


def sample_of(outcomes: Sequence[tuple[str, Outcome]]) -> Sample:
    """Make one sample of runs that were made alike; raises ConfigError, naming two that were not."""
    identities = [(name, _identity(outcome)) for name, outcome in outcomes]
    for name, identity in identities[1:]:
        unlike = [a for a, b in zip(identity, identities[0][1], strict=True) if a != b]
        if unlike:
            other = [b for a, b in zip(identity, identities[0][1], strict=True) if a != b]
            raise ConfigError(
                f"{name} and {identities[0][0]} are not of one device run in one way: {', '.join(map(_said, unlike))} "
                f"here, {', '.join(map(_said, other))} there; a verdict is on one device: give them one at a time"
            )
    rows = [row for index, (_, outcome) in enumerate(outcomes) for row in _runs(index, outcome)]
    about = _about(row for _, outcome in outcomes for row in outcome.device)
    sized = about[about["operations"].notna()]
    runs = pd.DataFrame(rows, columns=list(RUN_COLUMNS))
    source, dut, device, dtype, mode = identities[0][1]
    ran = " ".join(filter(None, ("" if device in dut else device, dtype, "" if mode == "default" else mode)))
    kind, memory = _memory([row for _, outcome in outcomes for row in outcome.device])
    return Sample(
        device=f"{dut}, {ran}" if ran else dut,
        source=source,
        runs=runs[runs["network"].isin(sized.index)].reset_index(drop=True),
        networks=sized,
        memory=memory[memory["network"].isin(sized.index)].reset_index(drop=True),
        memory_kind=kind,
        notes=tuple(_notes(outcomes, about)),
    )


def _said(text: str) -> str:
    return text or "unknown"


def _identity(outcome: Outcome) -> tuple[str, str, str, str, str]:
    rows = [row for row in outcome.device if row.runs]
    told = ("/".join(dict.fromkeys(getattr(row, name) for row in rows)) for name in ("device", "dtype", "mode"))
    device, dtype, mode = told
    return outcome.source, outcome.lab.dut.name, device, dtype, mode


def _runs(index: int, outcome: Outcome) -> list[tuple[Any, ...]]:
    return [
        (
            one.result.network,
            one.result.batch,
            f"{index + 1}.{one.session + 1}",
            one.repeat,
            *(
                getattr(one.result, name).value
                for name in (
                    "power_w",
                    "net_power_w",
                    "time_per_image_s",
                    "energy_per_image_j",
                    "net_energy_per_image_j",
                )
            ),
        )
        for one in outcome.repeats
    ]


def _about(rows: Iterable[DeviceRow]) -> pd.DataFrame:
    """What is known of each network, from any of its rows."""
    found: dict[str, dict[str, float]] = {}
    for row in rows:
        size = row.size
        known: dict[str, float] = {name: float(size[name]) for name in NETWORK_COLUMNS[:3] if size.get(name)}
        if "parameters" in known:
            known["weights_mb"] = known["parameters"] * _BYTES.get(row.dtype, 4) / 1e6
        if row.cited is not None:
            known["top1"] = row.cited[0]
        found[row.network] = {**known, **found.get(row.network, {})}
    return pd.DataFrame.from_dict(found, orient="index", columns=list(NETWORK_COLUMNS)).astype(float)


def _memory(rows: Sequence[DeviceRow]) -> tuple[str, pd.DataFrame]:
    """The kind of memory that most rows show first, and its highest value in MB by network and batch."""
    kinds = Counter(row.peak_memory[1] for row in rows if row.peak_memory is not None)
    if not kinds:
        return "", pd.DataFrame(columns=["network", "batch", "memory_mb"])
    kind = kinds.most_common(1)[0][0]
    table = pd.DataFrame(
        [(row.network, row.batch, row.memory[kind] / 1e6) for row in rows if kind in row.memory],
        columns=["network", "batch", "memory_mb"],
    )
    return kind, table.groupby(["network", "batch"], as_index=False).max()


def _notes(outcomes: Sequence[tuple[str, Outcome]], about: pd.DataFrame) -> list[str]:
    notes = []
    if outcomes[0][1].lab.dut.simulated is not None:
        notes.append("times, currents and memory come from a model of a board: this says nothing about a real one")
    elif outcomes[0][1].source == "simulated":
        notes.append("currents come from a simulated bench, times from this computer: H1 and H3 say nothing real")
    unknown = about.index[about["operations"].isna()].tolist()
    if unknown:
        notes.append(f"left out, since their operations are not known: {', '.join(unknown)}")
    uncited = about.index[about["operations"].notna() & about["top1"].isna()].tolist()
    if uncited:
        notes.append(f"not in H2 and H3, since no top-1 accuracy is cited for them: {', '.join(uncited)}")
    for name, outcome in outcomes:
        prefix = f"{name}: " if len(outcomes) > 1 else ""
        lacking = [f"{row.network} batch {row.batch} ({row.outcome})" for row in outcome.device if not row.runs]
        if lacking:
            notes.append(f"{prefix}without a result: {', '.join(lacking)}")
        thin = [row for row in outcome.rows if row is not None and row.repeats < MIN_REPEATS]
        if thin and len(outcomes) == 1:
            notes.append(
                f"left out, since {MIN_REPEATS} repeats are the least that tell of scatter: "
                + ", ".join(f"{row.network} batch {row.batch}" for row in thin)
            )
        flagged = sum(bool(row.flags) for row in outcome.device)
        if flagged:
            notes.append(
                f"{prefix}flagged: {counted(flagged, 'row')}; what is said there may be disturbed (docs/flags.md)"
            )
    return notes


def batch_note(sample: Sample, common: pd.DataFrame, column: str) -> list[str]:
    """Say which batch sizes do not count where networks are compared, and why."""
    cells = sample.cells
    left = sorted(set(batches_of(cells[cells[column].notna()])) - set(batches_of(common)))
    return [f"batch {listed(left)} not counted, where networks are missing"] if left else []
