"""What a window will cost in rate and points, and what can be done where the memory is too short for it.

Pure. Memory and rates are rules derived from sister models and observations (PG2000; User's Guide
3000 X p.191, 270): help for planning. What was really acquired is in the preamble alone.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

from instruments.errors import ConfigError

from .capabilities import MSO_X_2024A, UPGRADED_MEMORY_POINTS, Capabilities

_RATE_STEPS = (1.0, 2.0, 2.5, 4.0, 5.0)


@dataclass(frozen=True)
class Choice:
    """One way to deal with a window that the memory cannot hold at the rate that is wanted.

    ``acquisitions`` records of ``time_range_s`` each, ``points`` in each, at ``rate_hz``.
    """

    kind: Literal["slower", "consecutive", "memory"]
    text: str
    time_range_s: float
    acquisitions: int
    points: int
    rate_hz: float


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
        wanted_points: what was wanted of the whole window, None for as many as fit.
        choices: what can be done where fewer than wanted will come.
    """

    time_range_s: float
    acquired_rate_hz: float
    acquired_points: int
    points: int
    rate_hz: float
    notes: tuple[str, ...]
    wanted_points: int | None = None
    choices: tuple[Choice, ...] = ()

    @property
    def short(self) -> bool:
        """Whether fewer points than wanted will come."""
        return self.wanted_points is not None and self.points < self.wanted_points

    def lines(self) -> list[str]:
        """Say it in lines of text: what will come, the notes, the choices."""
        first = (
            f"{self.time_range_s:g} s on the screen: {self.points} points at {_rate(self.rate_hz)} expected "
            f"({self.acquired_points} at {_rate(self.acquired_rate_hz)} in memory)"
        )
        lines = [first, *(f"note: {note}" for note in self.notes)]
        return lines + [f"choice: {choice.text}" for choice in self.choices]


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


def _rate(rate_hz: float) -> str:
    for factor, unit in ((1e9, "GSa/s"), (1e6, "MSa/s"), (1e3, "kSa/s")):
        if rate_hz >= factor * (1 - 1e-9):
            return f"{rate_hz / factor:g} {unit}"
    return f"{rate_hz:g} Sa/s"


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
        for mantissa in _RATE_STEPS:
            if mantissa * 10.0**exponent <= rate_hz * (1 + 1e-9):
                best = max(best, mantissa * 10.0**exponent)
    return best


@dataclass(frozen=True)
class _Memory:
    """Points and rate that these sources leave to each channel."""

    points: int
    max_rate_hz: float
    shared: bool
    digital: bool

    @classmethod
    def of(cls, names: set[str], has: Capabilities) -> _Memory:
        shared = {"CHAN1", "CHAN2"} <= names or {"CHAN3", "CHAN4"} <= names
        digital = any(not name.startswith("CHAN") for name in names)
        halves = 2 if shared or digital else 1
        return cls(has.memory_points // halves, has.max_rate_hz / halves, shared, digital)

    def rate_hz(self, time_range_s: float) -> float:
        return min(self.max_rate_hz, _rate_down(self.points / time_range_s))


def plan_acquisition(
    window_s: float,
    sources: Sequence[str],
    memory_points: int | None = None,
    *,
    points: int | None = None,
    rate_hz: float | None = None,
    capabilities: Capabilities = MSO_X_2024A,
) -> AcquisitionPlan:
    """Say which rate and how many points a window of these sources will give.

    Args:
        window_s: what must fit on the screen, in seconds.
        sources: ``CHAN1`` ... ``CHAN4``, ``POD1``, as the model has them.
        memory_points: memory of one channel alone (100 000 on a stock 2000 X, 1 000 000 on later units); None
            takes what ``capabilities`` says.
        points: wanted length of the record; None asks for as many as fit.
        rate_hz: wanted rate instead of a length.
        capabilities: of the model; an MSO-X 2024A's unless given.

    Raises:
        ConfigError: no source, an unknown one, a window that the time base cannot show, a rate that none has.
    """
    has = capabilities
    if memory_points is not None:
        has = replace(has, memory_points=memory_points)
    names = {has.source(source) for source in sources}
    if not names:
        raise ConfigError("a plan needs at least one source")
    if not 50e-9 <= window_s <= 500.0:
        raise ConfigError(f"a window of {window_s!r} s: 50 ns to 500 s is possible")
    if points is not None and rate_hz is not None:
        raise ConfigError("points and rate_hz say the same: give one")
    time_range_s = _step_up(window_s)
    if rate_hz is not None:
        if not 0 < rate_hz <= has.max_rate_hz:
            raise ConfigError(f"a rate of {rate_hz!r} Hz: up to {_rate(has.max_rate_hz)} is possible")
        points = math.ceil(rate_hz * time_range_s * (1 - 1e-9))
    memory = _Memory.of(names, has)
    notes: list[str] = []
    if memory.shared or memory.digital:
        why = "both channels of a pair" if memory.shared else "the digital pod"
        notes.append(f"memory is halved by {why}")
    acquired_rate_hz = memory.rate_hz(time_range_s)
    acquired = int(acquired_rate_hz * time_range_s * (1 + 1e-9))
    if acquired < 100:
        raise ConfigError(f"{memory.points} points of memory give fewer than 100 points in {time_range_s:g} s")
    asked = points_step(min(points or acquired, acquired))
    choices: tuple[Choice, ...] = ()
    if points is not None and asked < points:
        notes.append(f"{points} points were wanted; {asked} is the next length that memory and the list allow")
        if acquired < points:
            choices = tuple(_choices(window_s, time_range_s, points, asked, names, memory, has))
    if asked < acquired:
        notes.append(
            f"decimated from {acquired} to {asked} points: one in {acquired / asked:g} is kept, so pulses shorter "
            f"than {time_range_s / asked:g} s can vanish"
        )
    return AcquisitionPlan(
        time_range_s, acquired_rate_hz, acquired, asked, asked / time_range_s, tuple(notes), points, choices
    )


def _choices(
    window_s: float,
    time_range_s: float,
    wanted: int,
    asked: int,
    names: set[str],
    memory: _Memory,
    has: Capabilities,
) -> list[Choice]:
    """What can be done where the memory holds fewer points than wanted."""
    wanted_hz, slower_hz = wanted / time_range_s, asked / time_range_s
    found = [
        Choice(
            "slower",
            f"a longer sampling period: {1e6 / slower_hz:g} µs instead of {1e6 / wanted_hz:g} µs in one record",
            time_range_s,
            1,
            asked,
            slower_hz,
        )
    ]
    part_s = _longest_part(time_range_s, wanted_hz, memory)
    if part_s is not None:
        count, length = math.ceil(window_s / part_s * (1 - 1e-9)), round(wanted_hz * part_s)
        text = (
            f"{count} consecutive acquisitions of {part_s:g} s, {length} points each at {_rate(wanted_hz)}; nothing is "
            "recorded while one is transferred and the next arms"
        )
        found.append(Choice("consecutive", text, part_s, count, length, wanted_hz))
    for text, other in _more_memory(names, memory, has):
        rate_hz = other.rate_hz(time_range_s)
        length = points_step(max(min(wanted, rate_hz * time_range_s), 100))
        if length > asked:
            text = f"{text}: {length} points at {_rate(length / time_range_s)}"
            found.append(Choice("memory", text, time_range_s, 1, length, length / time_range_s))
    return found


def _longest_part(time_range_s: float, wanted_hz: float, memory: _Memory) -> float | None:
    """The longest time range that the memory holds at a rate; None where there is none of 100 points."""
    part_s = time_range_s
    while part_s * wanted_hz >= 100:
        if memory.rate_hz(part_s) >= wanted_hz * (1 - 1e-9):
            return part_s
        part_s = _step_up(part_s / 2.5)
    return None


def _more_memory(names: set[str], memory: _Memory, has: Capabilities) -> list[tuple[str, _Memory]]:
    """Ways to more memory: fewer inputs that share it, or the option."""
    found = []
    channels = {name for name in names if name.startswith("CHAN")}
    if memory.digital:
        text = "marker lines on free analogue channels instead of the pod, none of them the partner of a used one"
        if len(channels) < has.analog_channels // 2:
            found.append((text, _Memory(has.memory_points, has.max_rate_hz, False, False)))
    if memory.shared and has.analog_channels == 4 and len(channels) == 2:
        text = "one channel of each pair instead of both of one"
        found.append((text, _Memory.of({"CHAN1", "CHAN3"} | (names - channels), has)))
    if has.family == "2000 X" and has.memory_points < UPGRADED_MEMORY_POINTS:
        more = replace(has, memory_points=UPGRADED_MEMORY_POINTS)
        found.append(("the memory option (MEMUP in *OPT?)", _Memory.of(names, more)))
    return found
