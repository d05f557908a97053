"""Root commands of the simulated oscilloscope: running, digitizing, showing sources, status registers. Pure.

PG2000's root commands. :AUToscale looks at what the inputs did just before; how long it takes is unconfirmed
(`PanelQuirks.autoscale_s`). :CDISplay is the old name of :DISPlay:CLEar.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from instruments.simulated.mso_channels import next_step
from instruments.simulated.mso_settings import HORIZONTAL_DIVISIONS, round_to
from instruments.simulated.scpi_tree import Call, Job

if TYPE_CHECKING:
    from instruments.simulated.mso_x2024a import SimulatedMsoX2024A

POLL_S = 0.002
LOOK_S, LOOK_POINTS = 0.05, 20_000
LEAST_V = 10e-3
"""Autoscale shows no input with less from peak to peak."""


class RootCommands:
    """Commands without a subsystem, bound to one oscilloscope."""

    def __init__(self, scope: SimulatedMsoX2024A) -> None:
        self._scope = scope
        none, add, acquisition = (0, 0), scope.add, scope.acquisition
        add(":RUN", lambda c: scope.start("RUN"), set_args=none)
        add(":STOP", lambda c: scope.stop(), set_args=none)
        add(":SINGle", lambda c: scope.start("SING"), set_args=none)
        add(":DIGitize", self._digitize, set_args=(0, 6))
        add(":AUToscale", self._autoscale, set_args=(0, 5))
        add(":CDISplay|:DISPlay:CLEar", lambda c: self._clear(), set_args=none)
        add(":TER", query=lambda c: self._read_flag("triggered"))
        add(":AER", query=lambda c: self._read_flag("armed"))
        add(":RSTate", query=lambda c: {"DIG": "SING"}.get(acquisition.mode, acquisition.mode))
        add(":VIEW", lambda c: self._show(c, True))
        add(":BLANk", lambda c: self._show(c, False), set_args=(0, 1))
        add(":STATus", query=self._shown, query_args=(1, 1))
        add(":SERial", query=lambda c: scope.identity.split(",")[2])
        self._registers()

    def _registers(self) -> None:
        scope, add, kept = self._scope, self._scope.add, {"mte": 0, "ovl": 0}
        add(":OPERegister:CONDition", query=lambda c: f"{scope.condition():+d}")
        add(":OPERegister[:EVENt]", query=lambda c: scope.read_oper())
        add(
            ":OPEE",
            lambda c: setattr(scope, "oper_enable", c.integer(low=0, high=65535)),
            lambda c: f"{scope.oper_enable:+d}",
        )
        add(":MTERegister[:EVENt]", query=lambda c: "+0")
        add(":MTEenable", lambda c: kept.update(mte=c.integer(low=0, high=65535)), lambda c: f"{kept['mte']:+d}")
        add(":OVLRegister", query=lambda c: "+0")
        add(":OVLenable", lambda c: kept.update(ovl=c.integer(low=0, high=65535)), lambda c: f"{kept['ovl']:+d}")

    def _read_flag(self, name: str) -> str:
        """:TER? and :AER? are cleared by reading (2024 ed. p.170, 200)."""
        value = bool(getattr(self._scope.acquisition, name))
        setattr(self._scope.acquisition, name, False)
        return f"{value:+d}"

    def _clear(self) -> None:
        """Erase what is displayed; a stopped instrument has no data after it."""
        acquisition = self._scope.acquisition
        acquisition.segments = []
        if acquisition.mode != "DIG":
            acquisition.record = None

    # --- acquiring ------------------------------------------------------------------------------

    def _digitize(self, call: Call) -> Job:
        """:DIGitize [source,...]: shows the listed sources and blocks until the acquisition is done."""
        scope, wanted = self._scope, []
        while call.more:
            wanted.append(self._source(call))
        for name in wanted:
            if name.startswith("CHAN"):
                scope.settings.channels[name].display = True
            elif name.startswith("DIG"):
                pod, place = scope.settings.line(int(name[3:]))
                pod.display[place] = True
            elif not scope.settings.pod(name).on:
                scope.settings.pod(name).display = [True] * 8
        scope.start("DIG")
        while scope.acquisition.mode == "DIG":
            yield max(scope.acquisition.next_s, scope.now_s + POLL_S)
        return None

    def _autoscale(self, call: Call) -> Job:
        """:AUToscale [source,...]: blocks, then runs with what has a signal on screen, triggered by its first edge."""
        scope, wanted = self._scope, []
        while call.more:
            wanted.append(self._source(call))
        until_s = scope.now_s + scope.quirks.autoscale_s
        while scope.now_s < until_s:
            yield until_s
        scope.world.advance(scope.now_s)
        t = np.asarray(scope.now_s - LOOK_S + np.arange(LOOK_POINTS) * (LOOK_S / LOOK_POINTS), dtype=np.float64)
        found = ""
        for number, (name, channel) in enumerate(scope.settings.channels.items(), 1):
            if wanted and name not in wanted:
                continue
            seen = scope.world.analog_v(number, t, LOOK_S / LOOK_POINTS)
            low_v, high_v = float(seen.min()), float(seen.max())
            channel.display = high_v - low_v >= LEAST_V
            if not channel.display:
                continue
            middle_v = round_to((low_v + high_v) / 2)
            channel.offset_v, channel.div_v = middle_v, min(max(next_step((high_v - low_v) / 4), 1e-3), 5.0)
            scope.settings.trigger.levels_v[name] = middle_v
            if not found:
                found = name
                scope.settings.timebase.range_s = self._screen_s(seen - middle_v)
        scope.settings.timebase.position_s = 0.0
        trigger = scope.settings.trigger
        trigger.mode, trigger.sweep, trigger.slope = "EDGE", "AUTO", "POS"
        trigger.source = found or trigger.source
        scope.start("RUN")
        return None

    @staticmethod
    def _screen_s(around: np.ndarray[tuple[int], np.dtype[np.float64]]) -> float:
        """About two periods of a signal around 0, else 1 ms."""
        rises = int(np.count_nonzero((around[1:] > 0) & (around[:-1] <= 0)))
        return HORIZONTAL_DIVISIONS * next_step(2 * LOOK_S / rises / HORIZONTAL_DIVISIONS) if rises > 1 else 1e-3

    # --- showing --------------------------------------------------------------------------------

    def _source(self, call: Call) -> str:
        model = self._scope.model
        return call.choice(*model.channels, *model.lines, *model.pods)

    def _show(self, call: Call, on: bool) -> None:
        settings, model = self._scope.settings, self._scope.model
        if not on and (not call.more or call.params[0].text.upper() == "ALL"):
            call.params.clear()
            names = [*settings.channels, *model.pods]
        else:
            names = [self._source(call)]
        for name in names:
            if name.startswith("CHAN"):
                settings.channels[name].display = on
            elif name.startswith("POD"):
                settings.pod(name).display = [on] * 8
            else:
                pod, place = settings.line(int(name[3:]))
                pod.display[place] = on
        self._scope.touch()

    def _shown(self, call: Call) -> str:
        name, settings = self._source(call), self._scope.settings
        if name.startswith("DIG"):
            pod, place = settings.line(int(name[3:]))
            return f"{pod.display[place]:d}"
        return f"{settings.shows(name):d}"
