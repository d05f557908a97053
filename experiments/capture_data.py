"""One capture with what the reduction must know about it, and what it says where it cannot use one. Pure."""

from __future__ import annotations

import functools
import math
from dataclasses import dataclass, replace
from typing import Any, TypeVar

import numpy as np

from instruments.lab import Lab
from instruments.waveform import Capture, Preamble, Record, Units

Frozen = TypeVar("Frozen")


def changed(one: Frozen, **fields: Any) -> Frozen:
    """As `dataclasses.replace`, of what computes nothing when it is made: several times as quick for many fields.

    Field by field, so that what is kept of every capture shares its names with the others.
    """
    other = object.__new__(type(one))
    for name in one.__dataclass_fields__:  # type: ignore[attr-defined]
        object.__setattr__(other, name, fields[name] if name in fields else getattr(one, name))
    return other


class ReductionError(ValueError):
    """A capture that cannot become a number; the text is the reason of its rejection, `code` sorts it (flags.md)."""

    def __init__(self, reason: str, code: str = "rejected") -> None:
        super().__init__(reason)
        self.code = code


@dataclass(frozen=True)
class CaptureData:
    """One capture with what the reduction needs to know about it; times are the host's monotonic clock.

    `batches` and `images` are what the device logged for the measured loop, None where none ran. `start_frame` is the
    run's number that the record must show before the gate, None where none was sent, with its count of edges;
    `device_busy_s` says how long before the gate's rise the device was no longer idle; `session` counts the starts of
    the bench in one run, each with a zero and a gain of its own. Where the window is not that of the marker lines
    (`windows`), `flags` say so, `edge_s` limits the error of each edge (None: half a sample), and `problem` is the
    reason why there is none, with `problem_code`. Where no single record holds the measured loop, `method` says how the
    captures of the run `run_id` are put together (`parts`), `part` counts them, `gap_before_s` is what lies between,
    and the loop lasted `device_s` by the device's clock, whose moves of the gate took `gate_moving_s` and scatter by
    `gate_jitter_s`.
    After the gate's fall the device did nothing for `quiet_after_s`; 0 where it did not say.
    """

    index: int
    kind: str
    network: str
    batch: int
    repeat: int
    at_s: float
    capture: Capture
    batches: int | None
    images: int | None
    true_energy_j: float = math.nan
    true_idle_power_w: float = math.nan
    start_frame: int | None = None
    start_frame_edges: int = 0
    device_busy_s: float = 0.0
    session: int = 0
    flags: tuple[str, ...] = ()
    edge_s: float | None = None
    problem: str | None = None
    problem_code: str = "rejected"
    run_id: str = ""
    method: str = ""
    part: int = 0
    gap_before_s: float = math.nan
    device_s: float = math.nan
    gate_moving_s: float = math.nan
    gate_jitter_s: float = math.nan
    quiet_after_s: float = 0.0


@dataclass(frozen=True)
class Wires:
    """Which records hold current, voltage and markers, and which bits the marker lines are."""

    current: str
    voltage: str
    markers: str
    gate_bit: int
    batch_bit: int


def wires(lab: Lab) -> Wires:
    """Say which stored record plays which role, and which bits are the marker lines."""
    return Wires("current", "voltage", "markers", lab.wiring.gate.digital, lab.wiring.batch.digital)


def facts_of(data: CaptureData) -> CaptureData:
    """A capture's facts, with records that hold no codes."""
    records = data.capture.records.items()
    return changed(data, capture=_without_codes(tuple((n, r.preamble, r.codes.dtype, r.units) for n, r in records)))


@functools.lru_cache(maxsize=64)
def _without_codes(records: tuple[tuple[str, Preamble, np.dtype[Any], Units], ...]) -> Capture:
    """Records without codes: those of one run are nearly all alike."""
    return Capture(
        {
            name: Record(name, replace(preamble, points=0), np.empty(0, dtype), units)
            for name, preamble, dtype, units in records
        }
    )
