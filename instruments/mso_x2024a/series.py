"""More than one record: consecutive acquisitions, and the segments of one (option SGM).

Consecutive acquisitions hold any length of time, with gaps; segmented memory divides one memory among triggers
that follow each other closely, each with a time tag, and holds no more samples than one record.
Sources: PG2000 and PG3000 (:ACQuire:MODE SEGMented, :ACQuire:SEGMented, :WAVeform:SEGMented); a DSO-X 2012A with
option SGM was seen to give segments in high resolution and normal mode, not in averaging.
"""

from __future__ import annotations

import time
from collections.abc import Generator, Iterator, Sequence
from typing import Protocol

from instruments import scpi
from instruments.dialogue import Dialogue
from instruments.errors import CaptureError, ConfigError, InstrumentError
from instruments.waveform import Capture

from .acquisition import Acquisition
from .capabilities import SEGMENTED_OPTION
from .transfer import TransferOptions

MOST_SEGMENTS = 1000
"""Of the 3000 X; the 2000 X has fewer and then says so."""


class _Scope(Protocol):
    def arm(self, deadline_s: float | None = None) -> int: ...
    def force_trigger(self) -> None: ...
    def wait_done(self, deadline_s: float) -> None: ...
    def fetch(self, sources: Sequence[str], points: int | None = ..., *, deadline_s: float = ...) -> Capture: ...
    def stop(self) -> None: ...


def consecutive(
    scope: _Scope,
    names: Sequence[str],
    count: int | None,
    points: int | None,
    force: tuple[bool, bool],
    wait_s: float,
    fetch_s: float,
) -> Generator[Capture, None, None]:
    """Arm, wait, fetch, arm the next, give; see ``MsoX2024A.captures``."""

    def start(forced: bool) -> int:
        number = scope.arm()
        if forced:
            scope.force_trigger()
        return number

    given, going = 0, False
    try:
        going, number = True, start(force[0])
        while True:
            scope.wait_done(wait_s)
            capture = scope.fetch(names, points, deadline_s=fetch_s)
            if capture.number != number:
                raise CaptureError(
                    f"acquisition {capture.number} was made between two captures, {number} was expected: use the "
                    "scope for nothing else meanwhile",
                    reason="stale",
                )
            given += 1
            going = count is None or given < count
            if going:
                number = start(force[1])
            yield capture
            if not going:
                return
    except InstrumentError:
        going = False  # what went wrong is told; stopping might only hide it
        raise
    finally:
        if going:
            scope.stop()


def require_segments(options: Sequence[str]) -> None:
    """Raise ConfigError when the options do not hold segmented memory."""
    if not {SEGMENTED_OPTION, "ALL"} & {option.upper() for option in options}:
        installed = ", ".join(option for option in options if option not in ("", "0")) or "none"
        raise ConfigError(
            f"segmented memory is option {SEGMENTED_OPTION}, which this scope does not have (installed: {installed}); "
            "take consecutive captures instead"
        )


def segments(
    dialogue: Dialogue,
    acquisition: Acquisition,
    names: Sequence[str],
    points: int | None,
    options: TransferOptions,
    fetch_s: float,
) -> Iterator[Capture]:
    """Select, tag and fetch each segment that was acquired; see ``MsoX2024A.segments``."""
    acquired = dialogue.parsed(":WAVeform:SEGMented:COUNt?", scpi.parse_int)
    first_s: float | None = None
    for index in range(1, acquired + 1):
        deadline = time.monotonic() + fetch_s
        select = f":ACQuire:SEGMented:INDex {index}"
        at, tag = dialogue.set(select, ":ACQuire:SEGMented:INDex?", ":WAVeform:SEGMented:TTAG?")
        dialogue.confirm("segment", index, at, 0, select)
        tag_s = dialogue.read(tag, scpi.parse_float, ":WAVeform:SEGMented:TTAG?")
        first_s = tag_s if first_s is None else first_s
        yield acquisition.fetch(
            names, points, options, None, deadline - time.monotonic(), segment=index, tag_s=tag_s - first_s
        )
