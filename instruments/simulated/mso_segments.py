"""Segmented memory of the simulated oscilloscope (option SGM): one memory divided among triggers in a row. Pure.

From the family's guides: :ACQuire:MODE SEGMented, :ACQuire:SEGMented, :WAVeform:SEGMented (3000T guide p.1380 ff.;
the 2000 X guide's pages were not seen). That a 2000 X has it with high resolution, and not with averaging, was
seen on a DSO-X 2012A. Unconfirmed and fixed: without the option, or with averaging, the mode is refused with -241 or
-221; INDex selects what :WAVeform reads; time tags count from the first trigger; 20 µs pass before the next
segment fills.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from instruments.simulated.mso_settings import nr3
from instruments.simulated.scpi_errors import Refused
from instruments.simulated.scpi_tree import Call

if TYPE_CHECKING:
    from instruments.simulated.mso_x2024a import SimulatedMsoX2024A

OPTION = "SGM"
MOST = 250


class SegmentCommands:
    """:ACQuire:MODE and the commands of segmented memory, bound to one oscilloscope."""

    def __init__(self, scope: SimulatedMsoX2024A, installed: str) -> None:
        self._scope, self._has = scope, OPTION in installed.split(",")
        scope.add(":ACQuire:MODE", self._set_mode, lambda c: scope.settings.acquire.mode)
        scope.add(":ACQuire:SEGMented:COUNt", self._set_count, lambda c: f"{scope.settings.acquire.segments:+d}")
        scope.add(":ACQuire:SEGMented:INDex", self._select, lambda c: f"{self._index():+d}")
        scope.add(":WAVeform:SEGMented:COUNt", query=lambda c: f"{len(scope.acquisition.segments):+d}")
        scope.add(":WAVeform:SEGMented:TTAG", query=lambda c: self._tag())

    def _set_mode(self, call: Call) -> None:
        mode = call.choice("RTIMe", "SEGMented")
        acquire = self._scope.settings.acquire
        if mode == "SEGM" and not self._has:
            raise Refused(-241)
        if mode == "SEGM" and acquire.type == "AVER":
            raise Refused(-221)
        acquire.mode = mode
        self._scope.touch()

    def _set_count(self, call: Call) -> None:
        if not self._has:
            raise Refused(-241)
        self._scope.settings.acquire.segments = call.integer(low=2, high=MOST)
        self._scope.touch()

    def _select(self, call: Call) -> None:
        segments = self._scope.acquisition.segments
        if not segments:
            raise Refused(-221)
        self._scope.acquisition.record = segments[call.integer(low=1, high=len(segments)) - 1]

    def _index(self) -> int:
        acquisition = self._scope.acquisition
        numbers = [segment.number for segment in acquisition.segments]
        number = acquisition.record.number if acquisition.record is not None else None
        return numbers.index(number) + 1 if number in numbers else 0

    def _tag(self) -> str:
        acquisition = self._scope.acquisition
        if not acquisition.segments or acquisition.record is None:
            raise Refused(-230)
        return nr3(acquisition.record.trigger_s - acquisition.segments[0].trigger_s, 11)
