"""What an oscilloscope of this family can do, and what a window will cost in rate and points.

Pure. Memory and rates are rules derived from sister models and observations (PG2000; User's Guide
3000 X p.191, 270): help for planning. What was really acquired is in the preamble alone.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from instruments.errors import ConfigError

from .settings import source_name

_MODEL = re.compile(r"([MD])SO-X ?20([0-2])([24])A", re.IGNORECASE)
_BANDWIDTH_HZ = {"0": 70e6, "1": 100e6, "2": 200e6}


@dataclass(frozen=True)
class Capabilities:
    """What a model has. Memory is in points of one channel when its pair partner is off."""

    model: str
    analog_channels: int
    digital_channels: int
    bandwidth_hz: float
    max_rate_hz: float = 2e9
    memory_points: int = 100_000

    @classmethod
    def of(cls, model: str, memory_points: int = 100_000) -> Capabilities:
        """Read them off a model string such as ``MSO-X 2024A``; raises ConfigError for another family.

        Units with later firmware seem to carry 1 Mpt; which option unlocks it is not known, so the
        caller says how much the unit has.
        """
        match = _MODEL.fullmatch(model.strip())
        if match is None:
            raise ConfigError(f"model {model!r} is no InfiniiVision 2000 X; this driver knows MSO-X/DSO-X 20xxA")
        return cls(
            model.strip().upper(),
            int(match[3]),
            8 if match[1].upper() == "M" else 0,
            _BANDWIDTH_HZ[match[2]],
            memory_points=memory_points,
        )


@dataclass(frozen=True)
class AcquisitionPlan:
    """What to ask for, and what to expect.

    Attributes:
        time_range_s: the window on the screen, a 1-2-5 step (10 divisions).
        acquired_rate_hz: expected rate in memory, in hertz.
        acquired_points: expected points of the window in memory.
        points: what to ask for with ``:WAVeform:POINts``.
        rate_hz: expected rate after that decimation, in hertz.
        notes: what a careful engineer would point out.
    """

    time_range_s: float
    acquired_rate_hz: float
    acquired_points: int
    points: int
    rate_hz: float
    notes: tuple[str, ...]


def points_step(points: float) -> int:
    """Give the largest length of the 1-2-5 list (from 100) that is not above ``points`` (PG2000 p.629)."""
    if points < 100:
        raise ConfigError(f"{points:g} points: the shortest record is 100 points")
    best = 100
    for exponent in range(2, 9):
        for mantissa in (1, 2, 2.5, 5):
            step = int(mantissa * 10**exponent)
            if step <= points * (1 + 1e-9) and (mantissa != 2.5 or exponent == 2):  # 250, but not 2500
                best = max(best, step)
    return best


def _step_up(value: float) -> float:
    exponent = -8
    while True:
        for mantissa in (1.0, 2.0, 5.0):
            if mantissa * 10.0**exponent >= value * (1 - 1e-9):
                return float(f"{mantissa}e{exponent}")
        exponent += 1


def _rate_down(rate_hz: float) -> float:
    best = 0.0
    for exponent in range(10):
        for mantissa in (1.0, 2.0, 2.5, 5.0):
            if mantissa * 10.0**exponent <= rate_hz * (1 + 1e-9):
                best = max(best, mantissa * 10.0**exponent)
    return best


def plan_acquisition(
    window_s: float,
    sources: Sequence[str],
    memory_points: int = 100_000,
    *,
    points: int | None = None,
    max_rate_hz: float = 2e9,
) -> AcquisitionPlan:
    """Say which rate and how many points a window of these sources will give.

    Args:
        window_s: what must fit on the screen, in seconds.
        sources: ``CHAN1`` ... ``CHAN4``, ``POD1``.
        memory_points: memory of one channel alone (100 000 on stock units, 1 000 000 on later ones).
        points: wanted length of the record; None asks for as many as fit.
        max_rate_hz: highest rate of one channel of a pair.

    Raises:
        ConfigError: no source, an unknown one, or a window that the time base cannot show.
    """
    names = {source_name(source) for source in sources}
    if not names:
        raise ConfigError("a plan needs at least one source")
    if not 50e-9 <= window_s <= 500.0:
        raise ConfigError(f"a window of {window_s!r} s: 50 ns to 500 s is possible")
    time_range_s = _step_up(window_s)
    notes: list[str] = []
    shared = {"CHAN1", "CHAN2"} <= names or {"CHAN3", "CHAN4"} <= names
    digital = any(not name.startswith("CHAN") for name in names)
    memory, rate_limit = memory_points, max_rate_hz
    if shared or digital:
        memory, rate_limit = memory // 2, rate_limit / 2
        why = "both channels of a pair" if shared else "the digital pod"
        notes.append(f"memory is halved by {why}")
    acquired_rate_hz = min(rate_limit, _rate_down(memory / time_range_s))
    acquired = int(acquired_rate_hz * time_range_s * (1 + 1e-9))
    if acquired < 100:
        raise ConfigError(f"{memory} points of memory give fewer than 100 points in {time_range_s:g} s")
    asked = points_step(min(points or acquired, acquired))
    if points is not None and asked < points:
        notes.append(f"{points} points were wanted; {asked} is the next length that memory and the list allow")
    if asked < acquired:
        notes.append(
            f"decimated from {acquired} to {asked} points: one in {acquired / asked:g} is kept, so pulses shorter "
            f"than {time_range_s / asked:g} s can vanish"
        )
    return AcquisitionPlan(time_range_s, acquired_rate_hz, acquired, asked, asked / time_range_s, tuple(notes))
