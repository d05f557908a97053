"""Channel and digital-line commands of the simulated oscilloscope. Pure.

Limits are those of the guide and of public drivers; where only a sister model is known they are unconfirmed. How V/div
is stepped, how far the offset reaches and what becomes of a value out of range is switchable in `PanelQuirks`.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import TYPE_CHECKING

from instruments.simulated.mso_settings import VERTICAL_DIVISIONS, Channel, Digital, nr3, round_to
from instruments.simulated.scpi_params import quoted
from instruments.simulated.scpi_tree import Call

if TYPE_CHECKING:
    from instruments.simulated.mso_x2024a import SimulatedMsoX2024A

DIV_MIN_V, DIV_MAX_V = 1e-3, 5.0
PROBE_RATIOS = (0.1, 1000.0)
THRESHOLDS = {"TTL": 1.4, "CMOS": 2.5, "ECL": -1.3}


def next_step(value: float) -> float:
    """Smallest 1-2-5 step that is not below `value`."""
    decade = 10.0 ** math.floor(math.log10(value) + 1e-9)
    return next(m for m in (1 * decade, 2 * decade, 5 * decade, 10 * decade) if m >= value * (1 - 1e-9))


class ChannelCommands:
    """:CHANnel<n>, :DIGital<d> and :POD1; a change that shapes the samples restarts a running scope."""

    def __init__(self, scope: SimulatedMsoX2024A) -> None:
        self._scope = scope
        self._channels()
        self._digital()

    # --- channels -------------------------------------------------------------------------------

    def _channel(self, call: Call) -> Channel:
        return self._scope.settings.channels[f"CHAN{call.suffix[0]}"]

    def _channels(self) -> None:
        add, head, chan = self._scope.add, f":CHANnel<1-{self._scope.model.analog}>", self._channel
        add(head, query=lambda c: self._channel_line(c))
        add(f"{head}:DISPlay", self._edit("display", lambda c, ch: c.boolean()), lambda c: f"{chan(c).display:d}")
        add(f"{head}:BWLimit", self._edit("bwlimit", lambda c, ch: c.boolean()), lambda c: f"{chan(c).bwlimit:d}")
        add(f"{head}:INVert", self._edit("invert", lambda c, ch: c.boolean()), lambda c: f"{chan(c).invert:d}")
        add(f"{head}:VERNier", self._edit("vernier", lambda c, ch: c.boolean()), lambda c: f"{chan(c).vernier:d}")
        add(f"{head}:COUPling", self._edit("coupling", lambda c, ch: c.choice("AC", "DC")), lambda c: chan(c).coupling)
        add(f"{head}:IMPedance", lambda c: _ignore(c.choice("ONEMeg")), lambda c: "ONEM")
        add(f"{head}:UNITs", self._edit("units", lambda c, ch: c.choice("VOLT", "AMPere")), lambda c: chan(c).units)
        add(
            f"{head}:LABel", self._edit("label", lambda c, ch: c.string()[:10].upper()), lambda c: quoted(chan(c).label)
        )
        add(f"{head}:PROBe", self._edit("probe", self._probe_ratio), lambda c: nr3(chan(c).probe))
        add(
            f"{head}:PROBe:SKEW",
            self._edit("skew_s", lambda c, ch: c.number("S", low=-1e-7, high=1e-7)),
            lambda c: nr3(chan(c).skew_s),
        )
        add(
            f"{head}:PROBe:STYPe",
            self._edit("head", lambda c, ch: c.choice("DIFFerential", "SINGle")),
            lambda c: chan(c).head,
        )
        add(f"{head}:PROBe:ID", query=lambda c: '"NONE"')
        add(
            f"{head}:RANGe",
            self._edit("div_v", lambda c, ch: self._per_div(c, ch, VERTICAL_DIVISIONS)),
            lambda c: nr3(chan(c).range),
        )
        add(
            f"{head}:SCALe",
            self._edit("div_v", lambda c, ch: self._per_div(c, ch, 1)),
            lambda c: nr3(chan(c).range / VERTICAL_DIVISIONS),
        )
        add(f"{head}:OFFSet", self._edit("offset_v", self._offset), lambda c: nr3(chan(c).offset_v * chan(c).probe))

    def _edit(self, name: str, read: Callable[[Call, Channel], object]) -> Callable[[Call], None]:
        """A setter of one field of a channel."""

        def change(call: Call) -> None:
            channel = self._channel(call)
            setattr(channel, name, read(call, channel))
            self._scope.touch()

        return change

    def _probe_ratio(self, call: Call, channel: Channel) -> float:
        low, high = PROBE_RATIOS
        return call.number(low=low, high=high, default=10.0)

    def _per_div(self, call: Call, channel: Channel, divisions: int) -> float:
        unit = channel.probe * divisions
        asked = call.number("V|A", low=DIV_MIN_V * unit, high=DIV_MAX_V * unit, default=DIV_MAX_V * unit)
        per_div = asked / unit
        exact = channel.vernier or self._scope.quirks.vertical_steps == "exact"
        return round_to(per_div) if exact else round_to(next_step(per_div))

    def _offset(self, call: Call, channel: Channel) -> float:
        quirks = self._scope.quirks
        limit_v = (quirks.small_offset_v if channel.div_v < 0.2 else quirks.large_offset_v) * channel.probe
        return call.number("V|A", low=-limit_v, high=limit_v, default=0.0) / channel.probe

    def _channel_line(self, call: Call) -> str:
        ch = self._channel(call)
        return (
            f":CHAN{call.suffix[0]}:RANG {nr3(ch.range)};OFFS {nr3(ch.offset_v * ch.probe)};COUP {ch.coupling};"
            f"IMP ONEM;DISP {ch.display:d};BWL {ch.bwlimit:d};INV {ch.invert:d};LAB {quoted(ch.label)};"
            f"UNIT {ch.units};PROB {nr3(ch.probe)};PROB:SKEW {nr3(ch.skew_s)};STYP {ch.head}"
        )

    # --- digital lines --------------------------------------------------------------------------

    def _digital(self) -> None:
        """:DIGital<d> and :POD<n>, as many as the model has; one threshold for a pod (PG2000 p.249, p.415)."""
        add, model = self._scope.add, self._scope.model
        if not model.digital:
            return

        def line(call: Call) -> tuple[Digital, int]:
            return self._scope.settings.line(call.suffix[0])

        def pod(call: Call) -> Digital:
            return self._scope.settings.pod(f"POD{call.suffix[0]}")

        one, all_of = f":DIGital<0-{model.digital - 1}>", f":POD<1-{len(model.pods)}>"
        add(f"{one}:DISPlay", lambda c: self._show_line(*line(c), c.boolean()), lambda c: _shown(*line(c)))
        add(f"{all_of}:DISPlay", lambda c: self._show_pod(pod(c), c.boolean()), lambda c: f"{pod(c).on:d}")
        self._shared(one, lambda c: line(c)[0])
        self._shared(all_of, pod)
        add(
            f"{one}:LABel",
            lambda c: line(c)[0].labels.__setitem__(line(c)[1], c.string()[:10].upper()),
            lambda c: quoted(line(c)[0].labels[line(c)[1]]),
        )
        add(
            f"{one}:POSition",
            lambda c: line(c)[0].positions.__setitem__(line(c)[1], c.integer(low=0, high=model.digital - 1)),
            lambda c: f"{line(c)[0].positions[line(c)[1]]:+d}",
        )

    def _shared(self, head: str, pod: Callable[[Call], Digital]) -> None:
        """What a line and its pod set alike."""
        add = self._scope.add
        add(f"{head}:THReshold", lambda c: self._set_threshold(pod(c), c), lambda c: nr3(pod(c).threshold_v))
        add(
            f"{head}:SIZE",
            lambda c: setattr(pod(c), "size", c.choice("SMALl", "MEDium", "LARGe")),
            lambda c: pod(c).size,
        )

    def _show_line(self, pod: Digital, place: int, on: bool) -> None:
        pod.display[place] = on
        self._scope.touch()

    def _show_pod(self, pod: Digital, on: bool) -> None:
        pod.display = [on] * 8
        self._scope.touch()

    def _set_threshold(self, pod: Digital, call: Call) -> None:
        word = call.params[0].text.upper()
        pod.threshold_v = THRESHOLDS[word] if word in THRESHOLDS else call.number("V", low=-8.0, high=8.0)
        self._scope.touch()


def _shown(pod: Digital, place: int) -> str:
    return f"{pod.display[place]:d}"


def _ignore(word: str) -> None:
    """A keyword that is checked and has no effect here."""
