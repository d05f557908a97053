"""RUN, STOP, SINGle and DIGitize of the simulated oscilloscope: when it arms, triggers and is done. Pure.

The pre-trigger part of the screen is filled before a trigger is accepted; edges before that are lost.
Sample rate is memory over time range, stepped down to 1, 2, 2.5, 4 or 5 times a power of ten (facts: PD3's
table and PD1's counts), so that what is on the screen is often less than the memory.

RUN has half the memory of SINGle (UG3000 p.270), both channels of a pair halve it, and so does a pod (unconfirmed:
`Options.run_halves`, `pair_halves`, `pod_halves`).
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Literal

import numpy as np

from instruments.simulated.interfaces import Surroundings
from instruments.simulated.mso_settings import Settings
from instruments.simulated.mso_trigger import TriggerFinder

Mode = Literal["STOP", "RUN", "SING", "DIG"]
Phase = Literal["IDLE", "FILL", "WAIT", "POST"]

RATE_STEPS = (1.0, 2.0, 2.5, 4.0, 5.0)
MEASUREMENT_POINTS = 62_500
REARM_S = 20e-6
"""From the end of one segment to the start of the next (data sheets of the family, unconfirmed)."""


@dataclass(frozen=True)
class Options:
    """How the acquisition behaves where it differs between units or is not known."""

    memory_points: int = 1_000_000
    run_halves: bool = True
    pair_halves: bool = True
    pod_halves: bool = True
    screen_fraction: float = 1.0
    """Below 1: this part of the memory is on the screen and the rate is not stepped (480 000 of 500 000)."""
    arm_s: float = 0.005
    process_s: float = 0.005
    auto_trigger_s: float = 0.05
    single_forces_normal: bool = False
    """PG4000 p.1603 says that SINGle forces NORMal sweep, PD1 that AUTO still triggers by itself."""
    untriggered: Literal["empty", "stale", "zeros"] = "empty"
    """What a SINGle that was stopped before its trigger leaves to be read."""
    logic_low_v: float = 0.0
    logic_high_v: float = 3.3
    ext_bit: int | None = None
    """The digital line that is also wired to EXT TRIG IN; None: nothing is connected."""
    line_hz: float = 50.0
    adc_hz: float = 1e9
    """Rate of each channel when both of a pair are on; twice that alone."""
    aperture_s: float = 1.75e-9
    """What one sample smears over: the rise time that belongs to the bandwidth."""
    single_pends: bool = False
    """Whether *OPC, *OPC? and *WAI wait for the end of a SINGle."""
    single_averages: bool = False
    """Whether SINGle waits for :ACQuire:COUNt triggers with AVERage, as DIGitize does (PG2000 p.631)."""
    most_averaged: int = 16
    """Of the acquisitions that AVERage counts, so many are computed, evenly spread; the noise is that of all."""


@dataclass(frozen=True)
class Timing:
    """Sampling of one acquisition."""

    rate_hz: float
    acquired: int
    on_screen: int


@dataclass(frozen=True)
class Record:
    """One finished acquisition: which samples it holds, under which settings; values come on demand."""

    number: int
    trigger_s: float
    start_s: float
    """First sample, relative to the trigger."""
    timing: Timing
    settings: Settings
    blank: bool = False
    triggers: tuple[float, ...] = ()
    """Of an average: when each of its acquisitions was triggered; `trigger_s` is the last."""

    @property
    def step_s(self) -> float:
        """Time between samples."""
        return 1.0 / self.timing.rate_hz


def timing_of(settings: Settings, options: Options, running: bool) -> Timing:
    """Sample rate and counts for these settings."""
    memory = options.memory_points
    pods = settings.digital.on or settings.digital2.on
    for halves in (
        settings.paired and options.pair_halves,
        pods and options.pod_halves,
        running and options.run_halves,
    ):
        memory //= 2 if halves else 1
    if settings.acquire.mode == "SEGM" and not running:
        memory //= settings.acquire.segments
    range_s = settings.timebase.range_s
    fastest = options.adc_hz * (1 if settings.paired else 2)
    if options.screen_fraction < 1.0:
        rate = min(options.screen_fraction * memory / range_s, fastest)
    else:
        rate = min(_step_down(memory / range_s), fastest)
    return Timing(rate, memory, max(1, min(memory, round(rate * range_s))))


def _step_down(rate: float) -> float:
    decade = 10.0 ** math.floor(math.log10(rate) + 1e-9)
    step = max((s for s in RATE_STEPS if s * decade <= rate * (1 + 1e-9)), default=1.0)
    return step * decade


@dataclass
class Acquisition:
    """The state machine. `advance` brings it to a time; it remembers what of the past it has not seen yet."""

    world: Surroundings
    options: Options
    seed: int
    mode: Mode = "STOP"
    phase: Phase = "IDLE"
    record: Record | None = None
    segments: list[Record] = field(default_factory=list)
    """Of segmented memory: what the acquisition has filled so far; `record` is the one that is read."""
    triggered: bool = False
    """TER: a trigger came since it was last read."""
    armed: bool = False
    """AER: the instrument armed since it was last read."""
    _settings: Settings = field(default_factory=Settings)
    _averaged: list[float] = field(default_factory=list)
    _number: int = 0
    _armed_s: float = 0.0
    _trigger_s: float = 0.0
    _done_s: float = 0.0
    _force_s: float | None = None

    def __post_init__(self) -> None:
        self._finder = TriggerFinder(self.world, self.options)

    def start(self, mode: Mode, settings: Settings, now_s: float) -> None:
        """Begin: forget the last record unless free-running, fill the pre-trigger."""
        self.mode = mode
        self.segments = []
        self._averaged = []
        if mode in ("SING", "DIG") and self.options.untriggered != "stale":
            self.record = None
        self._begin(settings, now_s)

    def _begin(self, settings: Settings, start_s: float) -> None:
        self._settings = settings.copy()
        self._number += 1
        self.phase = "FILL"
        before_s = max(0.0, -self._settings.timebase.window_s[0])
        self._armed_s = start_s + self.options.arm_s + before_s
        self._force_s = None
        self._finder.begin(self._settings, self._number)

    def stop(self) -> None:
        """:STOP. A single acquisition that has not triggered leaves what `untriggered` says."""
        if self.mode in ("SING", "DIG") and self.options.untriggered == "zeros" and self.record is None:
            self.record = self._finish(self._armed_s, blank=True)
        self.mode, self.phase = "STOP", "IDLE"

    def settings_changed(self, settings: Settings, now_s: float) -> None:
        """Anything that changes the samples makes a running acquisition begin again."""
        if self.mode != "STOP":
            self._averaged = []
            self._begin(settings, now_s)

    def force(self, now_s: float) -> None:
        """:TRIGger:FORCe; taken as soon as the pre-trigger is filled."""
        if self.mode != "STOP" and self._force_s is None:
            self._force_s = now_s

    @property
    def next_s(self) -> float:
        """When to look again: an event known in advance, or soon while a trigger is waited for."""
        if self.phase == "FILL":
            return self._armed_s
        if self.phase == "POST":
            return self._done_s
        return -math.inf

    def advance(self, now_s: float) -> None:
        """Let everything happen that happens up to now_s."""
        while self.mode != "STOP":
            if self.phase == "FILL":
                if now_s < self._armed_s:
                    return
                self.phase, self.armed = "WAIT", True
            elif self.phase == "WAIT":
                trigger_s = self._find_trigger(now_s)
                if trigger_s is None:
                    return
                self.phase, self.triggered, self._trigger_s = "POST", True, trigger_s
                after_s = max(0.0, self._settings.timebase.window_s[1])
                self._done_s = trigger_s + after_s + self.options.process_s
            else:
                if now_s < self._done_s:
                    return
                if self._next_average():
                    continue
                self.record = self._finish(self._trigger_s)
                if self._next_segment():
                    continue
                if self.mode != "RUN":
                    self.mode, self.phase = "STOP", "IDLE"
                    return
                # A long sleep must not replay thousands of screens that nobody saw.
                again_s = max(self._done_s, self._trigger_s + self._settings.trigger.holdoff_s)
                cycle_s = self._settings.timebase.range_s + self.options.arm_s + self.options.auto_trigger_s
                self._begin(self._settings, max(again_s, now_s - 2 * cycle_s))

    def _next_average(self) -> bool:
        """Count an acquisition of an average; begin the next one, if there is one."""
        acquire, counting = self._settings.acquire, ("DIG", "SING") if self.options.single_averages else ("DIG",)
        if acquire.type != "AVER" or self.mode not in counting:
            self._averaged = []
            return False
        self._averaged.append(self._trigger_s)
        if len(self._averaged) >= acquire.count:
            return False
        self._begin(self._settings, max(self._done_s, self._trigger_s + self._settings.trigger.holdoff_s))
        return True

    def _next_segment(self) -> bool:
        """Keep what was acquired as a segment; begin the next one, if there is one."""
        acquire = self._settings.acquire
        if acquire.mode != "SEGM" or self.mode not in ("SING", "DIG") or self.record is None:
            return False
        self.segments.append(self.record)
        if len(self.segments) >= acquire.segments:
            return False
        before_s, after_s = self._settings.timebase.window_s
        end_s = self._trigger_s + max(0.0, after_s)
        self._begin(self._settings, end_s)
        self._armed_s = end_s + REARM_S + max(0.0, -before_s)
        return True

    def _finish(self, trigger_s: float, blank: bool = False) -> Record:
        timing = timing_of(self._settings, self.options, self.mode == "RUN")
        phase = float(np.random.default_rng([self.seed, 0x5C0E, abs(int(trigger_s * 1e9))]).uniform(0, 1))
        start_s = self._settings.timebase.window_s[0] + phase / timing.rate_hz
        start_s = float(f"{start_s:.8E}")
        return Record(self._number, trigger_s, start_s, timing, self._settings, blank, tuple(self._averaged))

    def preview(self, settings: Settings) -> Record:
        """What the next acquisition would look like; for a preamble without data."""
        start_s = settings.timebase.window_s[0]
        return Record(0, 0.0, start_s, timing_of(settings, self.options, False), settings, True)

    # --- trigger --------------------------------------------------------------------------------

    def _find_trigger(self, now_s: float) -> float | None:
        """Earliest of edge, force and automatic trigger in [armed, now]."""
        times = []
        trigger = self._settings.trigger
        if self._force_s is not None:
            times.append(max(self._force_s, self._armed_s))
        forced_normal = self.options.single_forces_normal and self.mode == "SING"
        if trigger.sweep == "AUTO" and not forced_normal:
            times.append(self._armed_s + self.options.auto_trigger_s)
        latest_s = min([now_s, *times])
        signal_s = self._finder.find(self._armed_s, latest_s)
        times += [signal_s] if signal_s is not None else []
        times = [t for t in times if t <= now_s]
        return min(times, default=None)
