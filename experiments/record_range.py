"""Whether what a run measured lies where its calibration records hold: its comparison with the supply, and its cells.

A record's line says nothing beyond its points. One that does not hold at the run's own comparison is not weighed with
it (`calibration.combine`); where single cells lie outside, they are flagged, or refused where records are required.
Pure.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass

from calibration.choice import Records
from calibration.combine import beyond
from calibration.model import Calibration, Channel
from calibration.records import ProbeRecord, Span, VoltageRecord
from experiments.capture_data import CaptureData, ReductionError
from experiments.measure import Measured

RANGE, BEYOND = "calibration-range", "beyond-calibration"
"""Flag of a cell that lies where a record does not hold, and the code under which it is refused."""


@dataclass(frozen=True)
class Outside:
    """A mean current or voltage that lies where a calibration record does not hold; `unit` is A or V."""

    record: str
    kind: str
    valid: Span
    value: float
    unit: str

    def __str__(self) -> str:
        return (
            f"calibration record {self.record} ({self.kind}) holds from {self.valid.low:.4g} to {self.valid.high:.4g} "
            f"{self.unit}, and here are {self.value:.4g} {self.unit}"
        )

    @property
    def beyond(self) -> float:
        """By how much."""
        return max(self.valid.low - self.value, self.value - self.valid.high)

    @property
    def advice(self) -> str:
        """What is to be done about it."""
        option = " --currents" if self.kind == "probe" else ""
        return f"make a record that reaches so far (python -m calibration.{self.kind}{option})"


def of_comparison(own: Calibration, records: Records) -> tuple[Outside, ...]:
    """The records that do not hold where a run's own calibration was compared with the supply."""
    found = []
    for name, record, valid, unit in _used(records):
        if (at := beyond(record, _channel(own, record).gain)) is not None:
            found.append(Outside(name, record.kind, valid, at, unit))
    return tuple(found)


def of_cell(cell: Measured, calibration: Calibration, records: Records) -> tuple[Outside, ...]:
    """The records that do not hold for the mean current and voltage of a cell's work."""
    window, at_s, found = cell.window, cell.data.at_s, []
    if window is None:
        return ()
    for name, record, valid, unit in _used(records):
        mean = window.mean_i if unit == "A" else window.mean_v
        value = _channel(calibration, record).correct(mean, at_s)
        if not valid.low <= value <= valid.high:
            found.append(Outside(name, record.kind, valid, value, unit))
    return tuple(found)


def refused(
    cells: Iterable[Measured], calibrations: Mapping[int, Calibration], records: Records
) -> list[tuple[CaptureData, ReductionError]]:
    """The cells that lie where a record does not hold, with what to refuse them for."""
    found = []
    for cell in cells:
        known = calibrations.get(cell.data.session)
        for outside in of_cell(cell, known, records)[:1] if known is not None else ():
            found.append((cell.data, ReductionError(f"--require-calibration: {outside}; {outside.advice}", BEYOND)))
    return found


def notes(cells: Collection[Measured], calibrations: Mapping[int, Calibration], records: Records) -> list[str]:
    """One line for each record that does not hold for some of a run's cells, with the calibrations of its sessions."""
    counts: Counter[str] = Counter()
    farthest: dict[str, Outside] = {}
    for cell in cells if _used(records) else ():
        known = calibrations.get(cell.data.session)
        for one in of_cell(cell, known, records) if known is not None else ():
            counts[one.record] += 1
            farthest[one.record] = max(farthest.get(one.record, one), one, key=lambda found: found.beyond)
    return [
        f"{count} of {len(cells)} cells lie where {name} does not hold ({RANGE}); the farthest: {farthest[name]}; "
        f"{farthest[name].advice}"
        for name, count in counts.items()
    ]


def _used(records: Records) -> list[tuple[str, ProbeRecord | VoltageRecord, Span, str]]:
    """Name, record, where it holds and in which unit, of those that a run rests on."""
    names = {j.filed.record.kind: j.filed.name for j in records.judged if j.used}
    found: list[tuple[str, ProbeRecord | VoltageRecord, Span, str]] = []
    if records.probe is not None:
        found.append((names["probe"], records.probe, records.probe.valid_a, "A"))
    if records.voltage is not None:
        found.append((names["voltage"], records.voltage, records.voltage.valid_v, "V"))
    return found


def _channel(calibration: Calibration, record: ProbeRecord | VoltageRecord) -> Channel:
    return calibration.current if isinstance(record, ProbeRecord) else calibration.voltage
