"""`--markers` and `--windows` of a replay: what they say, and what that is for a file."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from experiments.hand_windows import HandWindow, read_windows
from experiments.traces import TraceReader
from experiments.windows import KINDS, AnalogueMarkers, Bits, FoundWindows, HandWindows, WindowSource
from instruments.errors import ConfigError

OWN = "own"
_FORM = "own, or analog[:CHANNEL[:LEVEL[,LEVEL,LEVEL][:HYSTERESIS]]], was expected"


@dataclass(frozen=True)
class Analogue:
    """Marker lines on an analogue channel; without a number that which the file holds in their place."""

    channel: int | None = None
    thresholds: tuple[float, ...] = ()
    hysteresis: float | None = None


@dataclass(frozen=True)
class WindowChoice:
    """Where the measured loops are, if not by the file's own markers: `windows` is "found", or those by hand."""

    markers: Analogue | None = None
    windows: str | Sequence[HandWindow] | None = None

    def of(self, reader: TraceReader) -> WindowSource | None:
        """What that is for one file; None: by its own markers.

        Raises ConfigError for a channel that the file does not hold, or a capture that it has not.
        """
        if self.markers is None and self.windows is None:
            return None
        wiring = reader.lab().wiring
        bits = Bits(wiring.gate.digital, wiring.batch.digital)
        if self.markers is not None:
            return _analogue(self.markers, reader, bits)
        if self.windows is None or isinstance(self.windows, str):
            return FoundWindows(bits)
        captures = reader.captures()
        chosen: dict[int, tuple[float, float, float]] = {}
        for window in self.windows:
            if not window.of(reader.path):
                continue
            number = window.capture
            if not 0 <= number < len(captures) or captures[number]["kind"] not in KINDS:
                raise ConfigError(
                    f"{window.place}: capture {number} of {reader.path} is none in which something ran; "
                    "python -m experiments.traces info tells which there are"
                )
            if number in chosen:
                raise ConfigError(f"{window.place}: capture {number} has a window already")
            chosen[number] = (window.start_s, window.stop_s, window.edge_s)
        return HandWindows(chosen, bits, reader.analogue_markers()) if chosen else None


def choice_of(markers: str | None, windows: str | None) -> WindowChoice:
    """Read both options. Raises ConfigError for what they cannot be."""
    if markers is not None and markers != OWN and windows is not None:
        raise ConfigError("--markers and --windows both say where the windows are: give one")
    analogue = None if markers in (None, OWN) else _parsed(str(markers))
    if windows is None or windows == "found":
        return WindowChoice(analogue, windows)
    return WindowChoice(analogue, tuple(read_windows(Path(windows))))


def _parsed(text: str) -> Analogue:
    kind, *rest = text.split(":")
    if kind not in ("analog", "analogue") or len(rest) > 3:
        raise ConfigError(f"--markers {text}: {_FORM}")
    try:
        channel = int(rest[0]) if rest else None
        thresholds = tuple(float(part) for part in rest[1].split(",")) if len(rest) > 1 else ()
        hysteresis = float(rest[2]) if len(rest) > 2 else None
    except ValueError as error:
        raise ConfigError(f"--markers {text}: {_FORM}") from error
    finite = all(math.isfinite(value) for value in (*thresholds, hysteresis or 0.0))
    if len(thresholds) not in (0, 1, 3) or not finite or (hysteresis is not None and hysteresis < 0):
        raise ConfigError(f"--markers {text}: one level (the gate), or three (gate and batch line), were expected")
    if any(b - a <= (hysteresis or 0.0) for a, b in itertools.pairwise(thresholds)):
        raise ConfigError(f"--markers {text}: the levels do not rise by more than the hysteresis")
    return Analogue(channel, thresholds, hysteresis)


def _analogue(choice: Analogue, reader: TraceReader, bits: Bits) -> AnalogueMarkers:
    wiring, own = reader.lab().wiring, reader.analogue_markers()
    held = {wiring.current.channel: "current", wiring.voltage.channel: "voltage"}
    if choice.channel in held:
        role = held[choice.channel]
        if role == "current" and not choice.thresholds:
            raise ConfigError(
                f"--markers analog:{choice.channel} is the current: give the level of its gate in A, "
                f"as analog:{choice.channel}:0.5"
            )
        default: tuple[float, ...] = (wiring.marker_threshold_v,)
        named = f"channel {choice.channel}, the {role}"
    elif own is not None and choice.channel in (None, _number(own.named)):
        role, default, named = "markers", own.thresholds, own.named
    else:
        what = own.named if own is not None else "the digital lines"
        wanted = "an analogue channel" if choice.channel is None else f"channel {choice.channel}"
        stored = ", ".join(f"channel {number} ({role})" for number, role in sorted(held.items()))
        raise ConfigError(
            f"{reader.path}: {wanted} was not stored as markers; the file holds {stored} and {what} (markers)"
        )
    return AnalogueMarkers(role, choice.thresholds or default, choice.hysteresis, bits, named)


def _number(named: str) -> int | None:
    """The channel that a column of an oscilloscope's file was."""
    last = named.rpartition(" ")[2]
    return int(last) if last.isdecimal() else None
