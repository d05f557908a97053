"""A simulated oscilloscope that plays recorded captures: its samples and preambles are those of a file. Pure.

:SINGle and :DIGitize give the next capture, the first of all after power-on, and after the last the first again. No
time passes while a record is acquired: :DIGitize is done at once, :SINGle waits for :TRIGger:FORCe or two seconds, so
that a client sees it armed. RUN acquires nothing; the capture stays.

What the panel sets is kept and answered, and has no effect on a record: its scale, length and time base are those it
was recorded with. A record of 8 bits is given in WORD format in the upper byte, one of 16 bits in BYTE without its
lower one, as by the instrument (2024 ed. p.737).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from instruments.simulated.interfaces import Floats, SupplyReading, Surroundings
from instruments.simulated.mso_acquisition import Acquisition, Mode, Options, Record, Timing
from instruments.simulated.mso_models import Model
from instruments.simulated.mso_record import MID, FrontEnd, Scale, Synthesiser
from instruments.simulated.mso_settings import REFERENCE, VERTICAL_DIVISIONS, Channel, Settings, Timebase
from instruments.simulated.mso_waveform import FORMAT_CODES, TransferQuirks, WaveformCommands
from instruments.simulated.mso_x2024a import IDENTITY, SimulatedMsoX2024A
from instruments.simulated.scpi_errors import Refused

BYTE = 0
WAIT_S = 2.0
"""How long :SINGle waits for a forced trigger."""

_TYPES = {0: "NORM", 2: "AVER"}


@dataclass(frozen=True)
class RecordedSource:
    """One source (CHAN1 ..., POD1) of a capture: codes, (n,), and the ten numbers of its preamble (PG2000 p.644)."""

    codes: NDArray[np.uint8] | NDArray[np.uint16]
    preamble: tuple[float, ...]
    unit: Literal["V", "A", "bits"]

    @property
    def words(self) -> NDArray[np.uint16]:
        """Codes of 16 bits, left-justified; of a pod its lines."""
        wide = self.codes.astype(np.uint16)
        return wide if self.unit == "bits" or self.preamble[0] != BYTE else np.left_shift(wide, 8, dtype=np.uint16)

    @property
    def scale(self) -> tuple[float, float, float]:
        """Increment, origin and reference of `words`."""
        increment, origin, reference = self.preamble[7:10]
        if self.unit == "bits" or self.preamble[0] != BYTE:
            return increment, origin, reference
        return increment / 256, origin, reference * 256


Recorded = Mapping[str, RecordedSource]


class Tape:
    """The captures in their order, read one at a time; with `only` that one, again and again."""

    def __init__(
        self, count: int, read: Callable[[int], Recorded], only: int | None, told: Callable[[int], object]
    ) -> None:
        self._order: Sequence[int] = range(count) if only is None else (only,)
        self._read, self._told, self._next = read, told, 0
        self.capture = read(self._order[0])

    def step(self) -> Recorded:
        """Go on to the next capture and give it."""
        number = self._order[self._next % len(self._order)]
        if self._next:
            self.capture = self._read(number)
        self._told(number)
        self._next += 1
        return self.capture


class Still:
    """Surroundings in which nothing happens."""

    def advance(self, now_s: float) -> None:
        """See `interfaces.Surroundings`."""

    def digital(self, t_s: Floats) -> NDArray[np.uint8]:
        """See `interfaces.Surroundings`."""
        return np.zeros(t_s.size, dtype=np.uint8)

    def digital_edges(self, bit: int, after_s: float, until_s: float) -> list[tuple[float, int]]:
        """See `interfaces.Surroundings`."""
        return []

    def analog_v(self, channel: int, t_s: Floats, aperture_s: float) -> Floats:
        """See `interfaces.Surroundings`."""
        return np.zeros(t_s.size)

    def set_supply(self, now_s: float, volts: float, amps: float, on: bool) -> None:
        """See `interfaces.Surroundings`."""

    def supply(self, from_s: float, to_s: float) -> SupplyReading:
        """There is no supply."""
        raise NotImplementedError


class RecordedScope(SimulatedMsoX2024A):
    """The oscilloscope; at power-on it is stopped, with the first capture on its screen."""

    def __init__(self, tape: Tape, identity: str = IDENTITY) -> None:
        self.tape = tape
        super().__init__(Still(), identity=identity)
        self._show_capture()

    def reset(self) -> None:
        """A client that begins with *RST finds the capture that is on, as at power-on."""
        super().reset()
        self._show_capture()

    def _show_capture(self) -> None:
        self.acquisition.stop()
        self.acquisition.record = record = _record(self.tape.capture, self.model, 0, 0.0)
        self.settings = record.settings.copy()

    def make_acquisition(self, options: Options, seed: int) -> Acquisition:
        """See `SimulatedMsoX2024A`."""
        return _Playing(self.world, options, seed, self.tape, self.model)

    def make_synthesiser(self, front: FrontEnd, options: Options, seed: int) -> Synthesiser:
        """See `SimulatedMsoX2024A`."""
        return _Played(self.world, front, options, seed, self.tape)

    def make_waveform(self, transfer: TransferQuirks) -> WaveformCommands:
        """See `SimulatedMsoX2024A`."""
        return _Transfer(self, transfer)


class _Playing(Acquisition):
    """Steps through the captures instead of acquiring."""

    def __init__(self, world: Surroundings, options: Options, seed: int, tape: Tape, model: Model) -> None:
        super().__init__(world, options, seed)
        self._tape, self._model = tape, model

    def start(self, mode: Mode, settings: Settings, now_s: float) -> None:
        """What shapes a real acquisition in time is left out of the settings."""
        kept = settings.copy()
        kept.timebase, kept.acquire.type, kept.acquire.mode = Timebase(range_s=0.0), "NORM", "RTIM"
        record = self.record
        super().start(mode, kept, now_s)
        if mode == "RUN":
            self.record = record

    def settings_changed(self, settings: Settings, now_s: float) -> None:
        """A record is what it is."""

    def advance(self, now_s: float) -> None:
        """Free running acquires nothing."""
        if self.mode != "RUN":
            super().advance(now_s)

    def _find_trigger(self, now_s: float) -> float | None:
        at_s = self._armed_s + (WAIT_S if self.mode == "SING" else 0.0)
        if self._force_s is not None:
            at_s = max(self._force_s, self._armed_s)
        return at_s if at_s <= now_s else None

    def _finish(self, trigger_s: float, blank: bool = False) -> Record:
        return _record(self._tape.step(), self._model, self._number, trigger_s)


class _Played(Synthesiser):
    """Gives the samples of the capture that is on."""

    def __init__(self, world: Surroundings, front: FrontEnd, options: Options, seed: int, tape: Tape) -> None:
        super().__init__(world, front, options, seed)
        self._tape = tape

    def codes(self, record: Record, source: str, every: int, count: int) -> NDArray[np.uint16]:
        """One in `every` of the recorded codes."""
        return self._tape.capture[source].words[::every][:count]

    def scale(self, channel: Channel) -> Scale:
        """That which `_record` put into the channel's settings; exact in the preamble alone."""
        return Scale(channel.range / (FrontEnd.screen_steps * 256), channel.offset_v * channel.probe)


class _Transfer(WaveformCommands):
    """Gives the preambles as they were recorded."""

    def _preamble(self) -> str:
        scope, wave = self._scope, self._scope.settings.waveform
        assert isinstance(scope, RecordedScope)
        try:
            every, count = self._decimation(self._record())
        except Refused as error:
            if error.code != -230:
                raise
            return super()._preamble()
        source = scope.tape.capture[wave.source]
        _, kind, _, averages, step_s, origin_s, reference = source.preamble[:7]
        if every > 1:
            origin_s, reference = origin_s - reference * step_s, 0.0
        x = (step_s * every, origin_s, reference)
        increment, origin, y_reference = source.scale if source.unit != "bits" else source.preamble[7:10]
        if source.unit != "bits" and wave.format == "BYTE":
            increment, y_reference = increment * 256, y_reference / 256
        if source.unit != "bits" and not wave.unsigned and self._quirks.signed_yreference == "zero":
            y_reference -= MID // 256 if wave.format == "BYTE" else MID
        head = f"{FORMAT_CODES[wave.format]:+d},{int(kind):+d},{count:+d},{int(averages):+d}"
        return ",".join([head, *map(_number, (*x, increment, origin, y_reference))])


def _number(value: float) -> str:
    """A number with the instrument's digits where they are enough, else with all."""
    if value == int(value) and abs(value) < 1e6:
        return f"{int(value):+d}"
    text = f"{value:+.8E}"
    return text if float(text) == value else f"{value:+.16E}"


def _record(capture: Recorded, model: Model, number: int, trigger_s: float) -> Record:
    """What a capture is as an acquisition of the oscilloscope, with the settings that it must have had."""
    first = next(iter(capture.values()))
    _, kind, points, _, step_s, origin_s, reference = first.preamble[:7]
    settings = Settings.fresh(model)
    for name, channel in settings.channels.items():
        channel.display = name in capture
        if channel.display:
            _show(channel, capture[name])
    settings.digital.display = ["POD1" in capture] * 8
    settings.acquire.type, settings.acquire.count = _TYPES.get(int(kind), "HRES"), 1
    start_s, range_s = origin_s - reference * step_s, points * step_s
    settings.timebase = Timebase(range_s=range_s, position_s=start_s + REFERENCE["LEFT"] * range_s, reference="LEFT")
    timing = Timing(1.0 / step_s, int(points), int(points))
    return Record(number, trigger_s, start_s, timing, settings)


def _show(channel: Channel, source: RecordedSource) -> None:
    """Set a channel so that its range and offset are those of the record, at 1:1."""
    increment, origin, reference = source.scale
    channel.units = "AMP" if source.unit == "A" else "VOLT"
    channel.probe = 1.0
    channel.div_v = abs(increment) * FrontEnd.screen_steps * 256 / VERTICAL_DIVISIONS
    channel.offset_v = origin + (MID - reference) * increment
    if not math.isfinite(channel.div_v) or channel.div_v == 0:
        channel.div_v = 1e-3
