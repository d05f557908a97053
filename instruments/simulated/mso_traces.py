"""What the simulated oscilloscope has on its screen, as numbers: for measurements and the screen's picture. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from instruments.simulated.interfaces import Floats
from instruments.simulated.mso_acquisition import MEASUREMENT_POINTS
from instruments.simulated.mso_record import MID

if TYPE_CHECKING:
    from instruments.simulated.mso_x2024a import SimulatedMsoX2024A


class Traces:
    """The latest record of one oscilloscope, source by source."""

    def __init__(self, scope: SimulatedMsoX2024A) -> None:
        self._scope = scope

    def values(self, source: str, most: int = MEASUREMENT_POINTS) -> tuple[Floats, Floats] | None:
        """(time, value) of up to `most` points in the probe's units, or None; a digital line has values 0 and 1."""
        record = self._scope.acquisition.record
        if record is None or record.blank or not self._was_shown(source):
            return None
        every = -(-record.timing.on_screen // most)
        count = record.timing.on_screen // every
        t = np.asarray(record.start_s + record.step_s * every * np.arange(count), dtype=np.float64)
        if source.startswith("DIG"):
            number = int(source[3:])
            codes = self._scope.synthesiser.codes(record, f"POD{number // 8 + 1}", every, count)
            return t, np.asarray((codes >> number % 8) & 1, dtype=np.float64)
        codes = self._scope.synthesiser.codes(record, source, every, count)
        scale = self._scope.synthesiser.scale(record.settings.channels[source])
        if codes.size != count:
            codes = codes[::2]
        return t, (codes.astype(np.float64) - MID) * scale.increment + scale.origin

    def number(self) -> int:
        """Number of the record, to tell one acquisition from another."""
        record = self._scope.acquisition.record
        return -1 if record is None else record.number

    def _was_shown(self, source: str) -> bool:
        record = self._scope.acquisition.record
        if record is None:
            return False
        if source.startswith("DIG"):
            pod, place = record.settings.line(int(source[3:]))
            return pod.display[place]
        return record.settings.shows(source)
