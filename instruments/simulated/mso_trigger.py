"""When a signal triggers the simulated oscilloscope: edges and pulse widths of inputs and lines. Pure.

PG2000's trigger chapter. Analogue inputs are scanned with 0.3 divisions of hysteresis, at a 20 000th of the screen,
coarser after a long time without a look, and interpolated. In other modes than EDGE and GLITch no trigger comes but a
forced or automatic one. Coupling and rejection are kept and do not filter.
"""

from __future__ import annotations

import itertools
import math
from typing import TYPE_CHECKING

import numpy as np

from instruments.simulated.interfaces import Surroundings
from instruments.simulated.mso_settings import Settings

if TYPE_CHECKING:
    from instruments.simulated.mso_acquisition import Options

Edges = list[tuple[float, int]]
_WANTED = {"POS": (1,), "NEG": (0,), "EITH": (0, 1)}


class TriggerFinder:
    """Looks for the first trigger of one acquisition after another."""

    def __init__(self, world: Surroundings, options: Options) -> None:
        self._world, self._options = world, options
        self._settings, self._number = Settings(), 0
        self._scan_s: float | None = None
        self._above = 0
        self._crossed: Edges = []

    def begin(self, settings: Settings, number: int) -> None:
        """A new acquisition, the `number`th, with these settings."""
        self._settings, self._number = settings, number
        self._scan_s, self._above, self._crossed = None, 0, []

    def find(self, armed_s: float, until_s: float) -> float | None:
        """First time in (armed_s, until_s] at which the signal triggers, as far as is known by now."""
        trigger = self._settings.trigger
        if trigger.mode == "GLIT":
            return self._pulse(armed_s, until_s)
        if trigger.mode != "EDGE":
            return None
        if trigger.source == "LINE":
            return math.ceil(armed_s * self._options.line_hz) / self._options.line_hz
        slope = trigger.slope
        if slope == "ALT":
            slope = "POS" if self._number % 2 else "NEG"
        edges = self._edges(trigger.source, armed_s, until_s)
        return next((t for t, level in edges if level in _WANTED[slope]), None)

    def _pulse(self, armed_s: float, until_s: float) -> float | None:
        """End of the first pulse that is wide or narrow enough (:TRIGger:GLITch)."""
        trigger = self._settings.trigger
        begins = 1 if trigger.glitch_polarity == "POS" else 0
        edges = self._edges(trigger.glitch_source, armed_s, until_s)
        for (start_s, level), (end_s, _) in itertools.pairwise(edges):
            width_s = end_s - start_s
            fits = {
                "LESS": width_s < trigger.glitch_less_s,
                "GRE": width_s > trigger.glitch_greater_s,
                "RANG": trigger.glitch_from_s < width_s < trigger.glitch_to_s,
            }[trigger.glitch_qualifier]
            if level == begins and fits:
                return end_s
        return None

    def _edges(self, source: str, armed_s: float, until_s: float) -> Edges:
        """Edges of a source since it was armed: (time, new level), oldest first."""
        trigger = self._settings.trigger
        if source.startswith("CHAN"):
            return self._scan(source, armed_s, until_s) if source in self._settings.channels else []
        if source == "EXT":
            bit, level_v = self._options.ext_bit, trigger.ext_level_v
        elif source.startswith("DIG"):
            bit = int(source[3:])
            level_v = self._settings.line(bit)[0].threshold_v
        else:
            return []
        if bit is None or bit > 7 or not self._options.logic_low_v < level_v < self._options.logic_high_v:
            return []
        # From the arming instant each time: an edge may become known later than it happened.
        return self._world.digital_edges(bit, armed_s, until_s)

    def _scan(self, source: str, armed_s: float, until_s: float) -> Edges:
        """Look at what an input did since the last look."""
        channel = self._settings.channels[source]
        level_v, guard_v = self._settings.trigger.levels_v[source], 0.15 * channel.div_v
        from_s = armed_s if self._scan_s is None else self._scan_s
        step_s = max(self._settings.timebase.range_s / 20_000, (until_s - from_s) / 10_000, 1e-9)
        count = int((until_s - from_s) / step_s)
        if count < 1:
            return self._crossed
        t = np.asarray(from_s + step_s * np.arange(count), dtype=np.float64)
        v = self._world.analog_v(int(source[4:]), t, step_s) * (-1 if channel.invert else 1)
        self._scan_s = float(t[-1]) + step_s
        states = np.where(v > level_v + guard_v, 1, np.where(v < level_v - guard_v, -1, 0))
        sure = np.flatnonzero(states)
        if sure.size == 0:
            return self._crossed
        path = np.concatenate(([self._above or states[sure[0]]], states[sure]))
        self._above = int(path[-1])
        for k in np.flatnonzero(path[1:] != path[:-1]).tolist():
            at = int(sure[k])
            back_s = 0.0
            if at > 0 and v[at] != v[at - 1]:
                back_s = step_s * min(max(float((v[at] - level_v) / (v[at] - v[at - 1])), 0.0), 1.0)
            self._crossed.append((max(armed_s, float(t[at]) - back_s), int(path[k + 1] > 0)))
        del self._crossed[:-1000]
        return self._crossed
