"""The edge trigger as a frozen value, with the commands that set and read it.

Pure. Sources: PG2000 (:TRIGger and :TRIGger[:EDGE] subsystems), 2024 ed. p.656 (force). The reach of the
external input (8 V either way) is that of its family; unconfirmed for the 2024A.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

from instruments import scpi
from instruments.errors import ConfigError, LimitError

from .inputs import MOST_ANALOG, MOST_DIGITAL, known_inputs, source_command, source_name

HOLDOFF_S = (40e-9, 10.0)
EXTERNAL_V = 8.0

_OTHERS = {"EXT": "EXTernal", "EXTERNAL": "EXTernal", "LINE": "LINE"}
_SLOPES = {"POS": "POSitive", "NEG": "NEGative", "EITH": "EITHer", "ALT": "ALTernate"}
_COUPLINGS = {"AC": "AC", "DC": "DC", "LFR": "LFReject"}
_SWEEPS = {"NORM": "NORMal", "AUTO": "AUTO"}


@dataclass(frozen=True)
class EdgeTrigger:
    """An edge of one source: a channel, a digital line, ``EXT`` (the rear input) or ``LINE`` (the mains).

    A digital line has no level of its own, the pod's threshold applies; the mains has neither level nor coupling.
    ``level_v`` is in the channel's unit. None leaves a setting as it is. With sweep AUTO the scope
    triggers by itself when nothing comes.
    """

    source: str = "DIG0"
    slope: Literal["POS", "NEG", "EITH", "ALT"] = "POS"
    level_v: float | None = None
    coupling: Literal["AC", "DC", "LFR"] | None = None
    holdoff_s: float | None = None
    noise_reject: bool | None = None
    hf_reject: bool | None = None
    sweep: Literal["NORM", "AUTO"] = "NORM"

    def __post_init__(self) -> None:
        for what, value, known in (
            ("slope", self.slope, _SLOPES),
            ("sweep", self.sweep, _SWEEPS),
            ("coupling", self.coupling, _COUPLINGS),
        ):
            if value is not None and value not in known:
                raise ConfigError(f"trigger {what} {value!r}: one of {', '.join(known)} is expected")
        if self.input is None:
            name = str(_OTHERS.get(self.source.strip().upper()))
        else:
            name = self.input
        if name.startswith("POD"):
            raise ConfigError(f"a trigger needs one line: DIG0 to DIG7 instead of {name}")
        if name.startswith("DIG") and (self.level_v is not None or self.coupling is not None):
            raise ConfigError(f"{name} has no trigger level or coupling; set the pod's threshold")
        if name == "LINE" and (self.level_v is not None or self.coupling is not None):
            raise ConfigError("a trigger on LINE, the mains, has no level or coupling")
        if name.startswith(("CHAN", "EXT")) and self.level_v is None:
            raise ConfigError(f"a trigger on {name} needs a level")
        if self.level_v is not None and not math.isfinite(self.level_v):
            raise LimitError(f"trigger level {self.level_v!r} V is no level")
        if name == "EXTernal" and abs(self.level_v or 0.0) > EXTERNAL_V:
            raise LimitError(f"trigger level {self.level_v!r} V: up to {EXTERNAL_V:g} V either way is possible")
        if self.holdoff_s is not None and not HOLDOFF_S[0] <= self.holdoff_s <= HOLDOFF_S[1]:
            raise LimitError(f"trigger hold-off {self.holdoff_s!r} s: 40 ns to 10 s is possible")

    @property
    def input(self) -> str | None:
        """The short name of the channel or digital line; None where the source is neither (EXT, LINE)."""
        if self.source.strip().upper() in _OTHERS:
            return None
        try:
            return source_name(self.source, MOST_ANALOG, MOST_DIGITAL)
        except ConfigError:
            raise ConfigError(
                f"trigger source {self.source!r}: {known_inputs().removesuffix(' or POD1')}, EXT or LINE is expected"
            ) from None

    @property
    def _command_source(self) -> str:
        return _OTHERS[self.source.strip().upper()] if self.input is None else source_command(self.input)

    def commands(self) -> str:
        """Give one message."""
        source = self._command_source
        parts = [
            ":TRIGger:MODE EDGE",
            f":TRIGger:SWEep {_SWEEPS[self.sweep]}",
            f":TRIGger:EDGE:SOURce {source}",
            f":TRIGger:EDGE:SLOPe {_SLOPES[self.slope]}",
        ]
        if self.coupling is not None:
            parts.append(f":TRIGger:EDGE:COUPling {_COUPLINGS[self.coupling]}")
        if self.level_v is not None:
            parts.append(f":TRIGger:EDGE:LEVel {scpi.format_number(self.level_v)},{source}")
        if self.holdoff_s is not None:
            parts.append(f":TRIGger:HOLDoff {scpi.format_number(self.holdoff_s)}")
        if self.noise_reject is not None:
            parts.append(f":TRIGger:NREJect {int(self.noise_reject)}")
        if self.hf_reject is not None:
            parts.append(f":TRIGger:HFReject {int(self.hf_reject)}")
        return ";".join(parts)

    def keywords(self) -> list[tuple[str, str, str]]:
        """Give (name, query, keyword) of every setting that reads back as a keyword."""
        found = [
            ("trigger mode", ":TRIGger:MODE?", "EDGE"),
            ("trigger sweep", ":TRIGger:SWEep?", _SWEEPS[self.sweep]),
            ("trigger source", ":TRIGger:EDGE:SOURce?", self._command_source),
            ("trigger slope", ":TRIGger:EDGE:SLOPe?", _SLOPES[self.slope]),
        ]
        if self.coupling is not None:
            found.append(("trigger coupling", ":TRIGger:EDGE:COUPling?", _COUPLINGS[self.coupling]))
        return found

    def switches(self) -> list[tuple[str, str, bool]]:
        """Give (name, query, position) of every switch that is set."""
        found = (
            ("trigger noise rejection", ":TRIGger:NREJect?", self.noise_reject),
            ("trigger high-frequency rejection", ":TRIGger:HFReject?", self.hf_reject),
        )
        return [(name, query, position) for name, query, position in found if position is not None]

    def numbers(self) -> list[tuple[str, str, float, float]]:
        """Give (name, query, value, tolerance) of every number that is set."""
        found: list[tuple[str, str, float, float]] = []
        if self.level_v is not None:
            query = f":TRIGger:EDGE:LEVel? {self._command_source}"
            found.append(("trigger level", query, self.level_v, max(0.02, 0.02 * abs(self.level_v))))
        if self.holdoff_s is not None:
            found.append(("trigger holdoff_s", ":TRIGger:HOLDoff?", self.holdoff_s, 0.01 * self.holdoff_s))
        return found
