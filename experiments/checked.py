"""Reducing a capture with all that can be checked about it: the one way of the live sweep and of the replay.

Knows no file and no instrument; remembers which records it has seen, so that none is taken twice.
"""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from calibration.choice import Records
from experiments import clock_fit
from experiments.capture_data import CaptureData, ReductionError, Wires, changed
from experiments.measure import Measured, measure
from experiments.plausible import SETTINGS_CHANGED, check_comparison, check_records, check_sign
from experiments.related import EARLY_S, Relation, relate
from instruments import markers
from instruments.lab import Lab
from instruments.wording import counted

Log = Sequence[int] | NDArray[np.int64]

UNCHECKED = "lines-unchecked"
LATE, EARLY = "lines-late", "lines-early"


@dataclass
class Checks:
    """Checks the captures of one run. With `imported` another bench recorded them, and its wiring is not known.

    `live` says that they are just being measured, with the supply regulating its voltage; `delay_s` is a known delay of
    the marker lines.
    """

    lab: Lab
    imported: bool = False
    live: bool = False
    delay_s: float = 0.0
    _seen: dict[tuple[int, int, int], int] = field(default_factory=dict)
    _scales: dict[tuple[int, str], tuple[float, float, float]] = field(default_factory=dict)

    def measure(self, data: CaptureData, wires: Wires, log_ns: Log = (), readings_a: Sequence[float] = ()) -> Measured:
        """Reduce a capture as `measure.measure` does, once it has passed every check; flags are added to its own.

        `log_ns` are the ends of its batches by the device's clock, `readings_a` what the supply read during a
        comparison. Raises ReductionError with the code of what is wrong.
        """
        self.before(data, wires, readings_a)
        try:
            measured = measure(data, wires)
        except ReductionError as error:
            raise self.explained(error, data, wires) from error
        return self.after(measured, log_ns)

    def before(self, data: CaptureData, wires: Wires, readings_a: Sequence[float] = ()) -> None:
        """Check the records alone."""
        check_records(data.capture, wires, data.kind, None if self.imported else self.lab, regulated=self.live)
        if not self.imported:
            self._same_scale(data, wires)
        self._once(data, wires)
        if data.kind == "gain" and not self.imported:
            check_comparison(self.lab, data.capture.records[wires.current], list(readings_a))

    def _same_scale(self, data: CaptureData, wires: Wires) -> None:
        """Refuse a record whose channel was scaled otherwise than in its session's first, as no sweep does.

        The zero and the gain were found at that scale, and an error of scale and offset belongs to it.
        """
        for role in (wires.current, wires.voltage):
            p = data.capture.records[role].preamble
            scale = p.y_increment, p.y_origin, p.y_reference
            first = self._scales.setdefault((data.session, role), scale)
            if scale != first:
                raise ReductionError(
                    f"the {role}'s scale is {scale[0]:.4g} a step about {scale[1]:.4g}, in the session's first record "
                    f"{first[0]:.4g} about {first[1]:.4g}: somebody changed it at the oscilloscope",
                    SETTINGS_CHANGED,
                )

    def _once(self, data: CaptureData, wires: Wires) -> None:
        """Refuse a record that came before in its session: noise never repeats (a simulated bench begun anew does)."""
        current = data.capture.records[wires.current]
        codes = current.codes
        if not len(codes) or current.span[0] == current.span[1]:
            return
        key = data.session, zlib.crc32(np.ascontiguousarray(codes).data), len(codes)
        first = self._seen.setdefault(key, data.index)
        if first != data.index:
            raise ReductionError(
                f"the current has the very codes of capture {first}: this is the record of an earlier acquisition",
                "stale-record",
            )

    @staticmethod
    def explained(error: ReductionError, data: CaptureData, wires: Wires) -> ReductionError:
        """Say that gate and batch line are swapped, where only that explains what the markers show."""
        if not error.code.startswith("markers-") or data.problem is not None:
            return error
        bits = data.capture.records[wires.markers].codes
        framed = data.start_frame is not None
        if markers.swapped(bits, wires.gate_bit, wires.batch_bit, data.batches or 0, framed=framed):
            return ReductionError(
                f"gate and batch line are swapped: D{wires.batch_bit} shows one run of "
                f"{counted(data.batches or 0, 'batch')}, if it is the gate: swap the two wires, or "
                f"wiring.gate and wiring.batch in lab.yaml ({error})",
                "lines-unrelated",
            )
        return error

    def after(self, measured: Measured, log_ns: Log = ()) -> Measured:
        """Check a measured loop against the device's log and the current."""
        data, loop, wires = measured.data, measured.loop, measured.wires
        if measured.window is not None:
            check_sign(self.lab, measured.window)
        if loop is None or wires is None or data.edge_s is not None or data.method:
            return measured
        dt_s = data.capture.dt_s
        fitted = clock_fit.fit(np.array(loop.batch_ends) * dt_s, np.array(log_ns) * 1e-9, dt_s)
        if fitted is not None and (problem := fitted.problem):
            raise ReductionError(problem[1], problem[0])
        related = self.relation(data, loop, wires)
        if related.problem:
            raise ReductionError(related.problem, "lines-unrelated")
        if not related.checkable:
            data = changed(data, flags=(*data.flags, UNCHECKED))
        elif related.late:
            data = changed(data, flags=(*data.flags, LATE))
        elif related.early and related.stayed_s > EARLY_S + max(0.0, -self.delay_s):
            data = changed(data, flags=(*data.flags, EARLY))
        return changed(measured, data=data, clock=fitted)

    def require_related(self, data: CaptureData, wires: Wires) -> None:
        """Refuse a comparison with the supply whose current does not follow the gate. Raises ReductionError."""
        codes = data.capture.records[wires.markers].codes
        window = markers.decode(codes, wires.gate_bit, wires.batch_bit, framed=data.start_frame is not None).window
        if window is not None and (problem := self.relation(data, window, wires).problem):
            raise ReductionError(problem, "lines-unrelated")

    def relation(self, data: CaptureData, loop: markers.Window, wires: Wires) -> Relation:
        """How the current of a capture and its gate belong together."""
        codes = data.capture.records[wires.current].codes
        n = len(loop.batch_ends)
        rest_s = data.quiet_after_s
        return relate(codes, data.capture.dt_s, loop.start, loop.stop, n, data.device_busy_s, self.delay_s, rest_s)


def checks_of(lab: Lab, records: Records, *, imported: bool = False, live: bool = False) -> Checks:
    """What is checked about the captures of a run; see `Checks`."""
    delay = records.marker_delay.delay() if records.marker_delay is not None else None
    return Checks(lab, imported, live, delay.rise_s if delay is not None else 0.0)
