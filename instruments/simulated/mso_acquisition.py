"""RUN, STOP, SINGle and DIGitize of the simulated oscilloscope: when it arms, triggers and is done. Pure.

The pre-trigger part of the screen is filled before a trigger is accepted; edges before that are lost.
Sample rate is memory over time range, stepped down to 1, 2, 2.5, 4 or 5 times a power of ten (facts: PD3's
table and PD1's counts), so that what is on the screen is often less than the memory.

Unconfirmed: RUN has half the memory of SINGle; both channels of a pair, and POD1, each halve it.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Literal

import numpy as np

from instruments.simulated.interfaces import Surroundings
from instruments.simulated.mso_settings import Settings

Mode = Literal["STOP", "RUN", "SING", "DIG"]
Phase = Literal["IDLE", "FILL", "WAIT", "POST"]

ADC_HZ = 1e9
RATE_STEPS = (1.0, 2.0, 2.5, 4.0, 5.0)
MEASUREMENT_POINTS = 62_500


@dataclass(frozen=True)
class Options:
    """How the acquisition behaves where it differs between units or is not known."""

    memory_points: int = 1_000_000
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

    @property
    def step_s(self) -> float:
        """Time between samples."""
        return 1.0 / self.timing.rate_hz


def timing_of(settings: Settings, options: Options, running: bool) -> Timing:
    """Sample rate and counts for these settings."""
    shown = [settings.channels[f"CHAN{n}"].display for n in range(1, 5)]
    memory = options.memory_points
    for halves in ((shown[0] and shown[1]) or (shown[2] and shown[3]), settings.digital.on, running):
        memory //= 2 if halves else 1
    range_s = settings.timebase.range_s
    fastest = ADC_HZ * (1 if (shown[0] and shown[1]) or (shown[2] and shown[3]) else 2)
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
    triggered: bool = False
    """TER: a trigger came since it was last read."""
    armed: bool = False
    """AER: the instrument armed since it was last read."""
    _settings: Settings = field(default_factory=Settings)
    _number: int = 0
    _armed_s: float = 0.0
    _trigger_s: float = 0.0
    _done_s: float = 0.0
    _force_s: float | None = None
    _scan_s: float = 0.0
    _above: int = 0

    def start(self, mode: Mode, settings: Settings, now_s: float) -> None:
        """Begin: forget the last record unless free-running, fill the pre-trigger."""
        self.mode = mode
        if mode in ("SING", "DIG") and self.options.untriggered != "stale":
            self.record = None
        self._begin(settings, now_s)

    def _begin(self, settings: Settings, start_s: float) -> None:
        self._settings = settings.copy()
        self._number += 1
        self.phase = "FILL"
        before_s = max(0.0, -self._settings.timebase.window_s[0])
        self._armed_s = start_s + self.options.arm_s + before_s
        self._scan_s, self._above, self._force_s = self._armed_s, 0, None

    def stop(self) -> None:
        """:STOP. A single acquisition that has not triggered leaves what `untriggered` says."""
        if self.mode in ("SING", "DIG") and self.options.untriggered == "zeros" and self.record is None:
            self.record = self._finish(self._armed_s, blank=True)
        self.mode, self.phase = "STOP", "IDLE"

    def settings_changed(self, settings: Settings, now_s: float) -> None:
        """Anything that changes the samples makes a running acquisition begin again."""
        if self.mode != "STOP":
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
                self.record = self._finish(self._trigger_s)
                if self.mode != "RUN":
                    self.mode, self.phase = "STOP", "IDLE"
                    return
                # A long sleep must not replay thousands of screens that nobody saw.
                again_s = max(self._done_s, self._trigger_s + self._settings.trigger.holdoff_s)
                cycle_s = self._settings.timebase.range_s + self.options.arm_s + self.options.auto_trigger_s
                self._begin(self._settings, max(again_s, now_s - 2 * cycle_s))

    def _finish(self, trigger_s: float, blank: bool = False) -> Record:
        timing = timing_of(self._settings, self.options, self.mode == "RUN")
        phase = float(np.random.default_rng([self.seed, 0x5C0E, self._number]).uniform(0, 1))
        start_s = self._settings.timebase.window_s[0] + phase / timing.rate_hz
        return Record(self._number, trigger_s, float(f"{start_s:.8E}"), timing, self._settings, blank)

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
        if trigger.mode == "EDGE":
            edge_s = self._edge(trigger.source, trigger.slope, latest_s)
            times += [edge_s] if edge_s is not None else []
        times = [t for t in times if t <= now_s]
        return min(times, default=None)

    def _edge(self, source: str, slope: str, now_s: float) -> float | None:
        if slope == "ALT":
            slope = "POS" if self._number % 2 else "NEG"
        if source == "LINE":
            return math.ceil(self._armed_s * self.options.line_hz) / self.options.line_hz
        if source == "EXT":
            bit = self.options.ext_bit
            level_v = self._settings.trigger.ext_level_v
        elif source.startswith("DIG"):
            bit, level_v = int(source[3:]), self._settings.digital.threshold_v
        elif source.startswith("CHAN"):
            return self._analogue_edge(source, slope, now_s)
        else:
            return None
        if bit is None or not self.options.logic_low_v < level_v < self.options.logic_high_v:
            return None
        wanted = {"POS": (1,), "NEG": (0,), "EITH": (0, 1)}[slope]
        # From the arming instant each time: an edge may become known later than it happened.
        edges = self.world.digital_edges(bit, self._armed_s, now_s)
        return next((t for t, level in edges if level in wanted), None)

    def _analogue_edge(self, source: str, slope: str, now_s: float) -> float | None:
        """Scan what has become known since the last look, with 0.3 divisions of hysteresis.

        Resolution: a 20 000th of the screen, coarser after a long time without a look; interpolated.
        """
        channel = self._settings.channels[source]
        level_v, guard_v = self._settings.trigger.levels_v[source], 0.15 * channel.div_v
        step_s = max(self._settings.timebase.range_s / 20_000, (now_s - self._scan_s) / 10_000, 1e-9)
        count = int((now_s - self._scan_s) / step_s)
        if count < 1:
            return None
        t = np.asarray(self._scan_s + step_s * np.arange(count), dtype=np.float64)
        v = self.world.analog_v(int(source[4:]), t, step_s) * (-1 if channel.invert else 1)
        self._scan_s = float(t[-1]) + step_s
        states = np.where(v > level_v + guard_v, 1, np.where(v < level_v - guard_v, -1, 0))
        sure = np.flatnonzero(states)
        if sure.size == 0:
            return None
        path = np.concatenate(([self._above or states[sure[0]]], states[sure]))
        wanted = {"POS": (1,), "NEG": (-1,), "EITH": (1, -1)}[slope]
        crossed = np.flatnonzero((path[1:] != path[:-1]) & np.isin(path[1:], wanted))
        self._above = int(path[-1])
        if crossed.size == 0:
            return None
        at = sure[crossed[0]]
        self._above = int(states[at])
        self._scan_s = float(t[at]) + step_s
        if at == 0 or v[at] == v[at - 1]:
            return float(t[at])
        part = (v[at] - level_v) / (v[at] - v[at - 1])
        return max(self._armed_s, float(t[at] - step_s * min(max(part, 0.0), 1.0)))
