"""What is written down beside the records of a run: states of cells, facts of captures, the supply's readings. Pure."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from instruments.dut import Done

UNMEASURED = ("rejected", "refused", "out of memory")
"""States in which a cell ends without a result; `reason` says why."""

NOT_NEEDED = "not needed"
"""State of a repeat that was spared: its network and batch had reached the target."""

ENDED = ("committed", NOT_NEEDED, *UNMEASURED)
"""States in which a cell ends."""


@dataclass(frozen=True)
class CaptureRow:
    """What is stored beside the codes of one capture; `CAPTURE` in `traces.schema` says what each field means."""

    kind: str
    cell: int = -1
    network: str = ""
    batch: int = 0
    repeat: int = 0
    run_id: str = ""
    method: str = ""
    part: int = 0
    gap_before_s: float = math.nan
    gate_moving_s: float = math.nan
    gate_jitter_s: float = math.nan
    batches: int = -1
    images: int = -1
    session: int = 0
    host_s: float = math.nan
    utc_s: float = math.nan
    window_asked_s: float = math.nan
    gate_rise_ns: int = 0
    gate_fall_ns: int = 0
    clock_offset_s: float = math.nan
    clock_bound_s: float = math.nan
    clock_offset_after_s: float = math.nan
    clock_bound_after_s: float = math.nan
    start_frame: int = -1
    start_frame_edges: int = 0
    device_busy_s: float = 0.0
    quiet_after_s: float = 0.0
    ready_facts: str = ""
    device_facts: str = ""
    flags: str = ""
    edge_limit_s: float = math.nan
    true_energy_j: float = math.nan
    true_idle_power_w: float = math.nan
    batch_end_ns: Sequence[int] = field(default_factory=tuple)

    def with_log(self, done: Done) -> CaptureRow:
        """Add what the device told of its run: batches, its own times, the run's number on the lines."""
        return replace(
            self,
            batches=done.batches,
            images=done.images,
            gate_rise_ns=done.gate_ns[1],
            gate_fall_ns=done.gate_ns[2],
            start_frame=-1 if done.start_frame is None else done.start_frame,
            start_frame_edges=done.start_frame_edges,
            device_busy_s=done.busy_s,
            quiet_after_s=done.quiet_s,
            batch_end_ns=done.batch_ns,
        )


@dataclass(frozen=True)
class Reading:
    """One reading of the supply during a capture."""

    quantity: str
    value: float
    done_after_trigger_s: float


def kept_cells(captures: Sequence[Mapping[str, Any]]) -> dict[int, tuple[int, float]]:
    """Row and time of each cell's capture that was committed; of a run's captures once its first one is settled."""
    kept: dict[int, tuple[int, float]] = {}
    whole: dict[str, tuple[int, float]] = {}
    for index, row in enumerate(captures):
        if row["kind"] == "cell" and row["method"] and row["part"] == 0 and row["state"]:
            whole[row["run_id"]] = index, row["settled_s"]
    for index, row in enumerate(captures):
        if row["kind"] != "cell" or row["state"] != "committed":
            continue
        if not row["method"]:
            kept[row["cell"]] = index, row["settled_s"]
        elif row["run_id"] in whole and index >= whole[row["run_id"]][0]:
            kept.setdefault(row["cell"], (index, whole[row["run_id"]][1]))
    return kept
