"""The running check of the current's gain over the cells of a run: what was compared, what departs, how it is shown.

Cells have readings of the supply where a sweep was asked for them (`--gain-check`, docs/calibration.md). Pure.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from calibration.choice import Records
from calibration.model import Calibration
from calibration.running import Departure, Stretch, departure
from experiments.capture_data import CaptureData
from experiments.journal import Reading
from experiments.measure import Measured
from instruments.readback import Limits
from instruments.wording import counted

READING_S = 0.1
"""What one reading of the supply takes, and is taken to be the mean over."""

DRIFTED = "gain-drifted"
"""Flag of a cell whose gain departs from the one used."""

HEADER = ("cell", "minute", "current [A]", "departs [%]", "U [%]", "E_n", "")


@dataclass(frozen=True)
class CellGain:
    """One cell's running check; `index` is its capture, `at_s` counts from the first cell's that was checked."""

    index: int
    label: str
    at_s: float
    found: Departure

    @property
    def drifted(self) -> bool:
        """Whether the gain departs by more than both uncertainties."""
        return not self.found.reason and self.found.e_n > 1


def stretch(measured: Measured, readings: Sequence[Reading]) -> Stretch | None:
    """The part of a cell's work in which the supply's current was read; None where it was not, or without codes.

    The readings' ages are never understated (they count from before the trigger), so that the stretch begins early
    enough and may end a few ms late.
    """
    loop, wires, data = measured.loop, measured.wires, measured.data
    if loop is None or wires is None or measured.window is None:
        return None
    record = data.capture[wires.current]
    dt_s, length = record.preamble.x_increment_s, len(record.codes)
    inside = [r for r in readings if r.quantity == "A" and r.done_after_trigger_s < measured.window.duration_s]
    if not inside or not length:
        return None
    start = loop.start + max(0, round((inside[0].done_after_trigger_s - READING_S) / dt_s))
    stop = min(loop.start + round(inside[-1].done_after_trigger_s / dt_s), loop.stop, length)
    samples = max(1, round(READING_S / dt_s))
    if stop - start < samples:
        return None
    amps = record.values()[start:stop]
    blocks = amps[: len(amps) // samples * samples].reshape(-1, samples).mean(axis=1)
    return Stretch(
        data.at_s,
        len(amps) * dt_s,
        float(amps.mean()),
        float(blocks.max() - blocks.min()) / 2,
        tuple(r.value for r in inside),
    )


def check(
    cells: Iterable[tuple[CaptureData, str]],
    stretches: Mapping[int, Stretch],
    calibrations: Mapping[int, Calibration],
    records: Records,
    read_back: Limits,
) -> tuple[CellGain, ...]:
    """Compare every cell that has a stretch with the gain of its session; cells come with their labels.

    `read_back` are the limits of the supply's current.
    """
    by_record = records.probe is not None and records.probe.reference.kind == "read-back"
    found = []
    for data, label in cells:
        if data.index not in stretches or (calibration := calibrations.get(data.session)) is None:
            continue
        by_readback = by_record or math.isfinite(calibration.current.gain.at)
        departs = departure(stretches[data.index], calibration, read_back, by_readback=by_readback)
        found.append(CellGain(data.index, label, data.at_s, departs))
    begun_s = min((c.at_s for c in found), default=0.0)
    return tuple(replace(c, at_s=c.at_s - begun_s) for c in sorted(found, key=lambda c: c.at_s))


def notes(checks: Sequence[CellGain]) -> list[str]:
    """One line for the reader; nothing where the supply was not read."""
    if not checks:
        return []
    compared = [c for c in checks if not c.found.reason]
    if not compared:
        return [
            f"running gain check: none of {counted(len(checks), 'cell')} could be compared: {checks[0].found.reason}"
        ]
    departs = [c.found.departs * 100 for c in compared]
    worst = max(compared, key=lambda c: c.found.e_n)
    drifted = [c for c in checks if c.drifted]
    said = (
        f"running gain check: {len(compared)} of {counted(len(checks), 'cell')} against the supply's read-back, "
        f"{min(departs):+.2f} to {max(departs):+.2f} % from the gain used, largest E_n {worst.found.e_n:.2f}"
    )
    if drifted:
        more = f" and {len(drifted) - 1} more" if len(drifted) > 1 else ""
        said += (
            f"; {DRIFTED}: {drifted[0].label}{more}: more than both uncertainties; did the clamp move or warm up? "
            "Do not use these cells' power before you know"
        )
    return [said]


def table(checks: Sequence[CellGain]) -> tuple[tuple[str, ...], ...]:
    """Rows for a report, the header first; empty where the supply was not read."""
    if not checks:
        return ()
    rows = [HEADER]
    for c in checks:
        at = (c.label, f"{c.at_s / 60:.1f}", _text(c.found.amps, "{:.3f}"))
        if c.found.reason:
            rows.append((*at, "", "", "", f"not compared: {c.found.reason}"))
        else:
            u = 2 * c.found.u * 100
            said = DRIFTED if c.drifted else ""
            rows.append((*at, f"{c.found.departs * 100:+.2f}", f"{u:.2f}", f"{c.found.e_n:.2f}", said))
    return tuple(rows)


def _text(value: float, form: str) -> str:
    return form.format(value) if np.isfinite(value) else ""
