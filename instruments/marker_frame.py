"""The start frame: a run's number, told by the batch line before the gate rises. Python 3.6, standard library.

A record then says of itself which run it shows. The frame is a start interval of 4 units and 20 intervals of one
unit (bit 0) or two (bit 1) between toggles: the number's 16 bits, highest first, then a CRC of 4 bits. It has 22
toggles, so the line ends as it began, and lasts 24 to 44 units; a pause of 8 units follows. The reader
(`markers.start_frame`) takes the unit from the start interval. A try that the machine spoils by being late is left
to pass out of what the record will hold; then comes the next.
"""

import contextlib
import os
import time
import zlib
from typing import Any, Callable, Dict, Iterator, List, Optional

from instruments.marker_base import MarkerLine
from instruments.marker_ring import monotonic_ns

NUMBER_BITS = 16
CHECK_BITS = 4
START_UNITS = 4
EDGES = 2 + NUMBER_BITS + CHECK_BITS
PAUSE_UNITS = 8
LONGEST_UNITS = START_UNITS + 2 * (NUMBER_BITS + CHECK_BITS) + PAUSE_UNITS

_SHORTEST_UNIT_S = 100e-6
_SAMPLES = 6  # of a record in one unit: the shorter a frame, the less often a busy machine spoils it
# Where a frame then takes little of what is recorded before the gate, this unit: machines are late with an edge by some
# 20 us at times, which 120 us forgive in 8 frames of 10 and 240 us in 19 of 20, and no longer unit in more.
_FORGIVING_UNIT_S = 240e-6
_LITTLE = 0.1
_JITTERS = 4  # of the line in one unit
_LATE = 10  # the part of a unit by which an edge may be off
_MOST = 0.8  # of what is recorded before the gate
_TRIES = (2, 10)
_TRYING_S = 2.0


def number_of(run_id: str) -> int:
    """Return the number, 0 to 65535, that stands for a run's name."""
    return zlib.crc32(run_id.encode("utf-8")) & 0xFFFF


def check_bits(number: int) -> int:
    """Return the CRC of a number: polynomial x^4 + x + 1, started at 15 so that no steady rhythm is a frame."""
    crc = 0xF
    for bit in range(NUMBER_BITS - 1, -1, -1):
        carry = crc >> 3 ^ number >> bit & 1
        crc = crc << 1 & 0xF ^ (3 if carry else 0)
    return crc


def intervals(number: int) -> List[int]:
    """Return the units between the toggles of a number's frame."""
    word = number << CHECK_BITS | check_bits(number)
    return [START_UNITS] + [1 + (word >> bit & 1) for bit in range(NUMBER_BITS + CHECK_BITS - 1, -1, -1)]


def plan(dt_s: float, before_s: float, jitter_s: float) -> Optional[Dict[str, Any]]:
    """Return unit_s, pause_s between tries and tries of a frame in a record, None where none fits.

    `dt_s` is the record's sampling period, `before_s` what it holds before the gate, `jitter_s` that of the line.
    """
    unit_s = max(_SHORTEST_UNIT_S, _SAMPLES * dt_s, _JITTERS * jitter_s)
    if unit_s * LONGEST_UNITS > _MOST * before_s:
        return None
    if _LITTLE * before_s >= _FORGIVING_UNIT_S * LONGEST_UNITS:
        unit_s = max(unit_s, _FORGIVING_UNIT_S)
    pause_s = 1.1 * before_s
    return {"unit_s": unit_s, "pause_s": pause_s, "tries": max(_TRIES[0], min(_TRIES[1], int(_TRYING_S / pause_s)))}


def send(
    line: MarkerLine,
    number: int,
    unit_s: float,
    pause_s: float,
    tries: int,
    clock_ns: Callable[[], int] = monotonic_ns,
    sleep: Callable[[float], None] = time.sleep,
) -> Dict[str, Any]:
    """Send a frame on the batch line, again where the machine was late with an edge; return once the gate may rise.

    Returns the number, `good` (whether a frame was sent in time), `edges` (toggles of it, 0 without one), how many
    `tries` that took, `unit_s`, and `began_ns`, when the last of all this began.
    """
    units = intervals(number)
    unit_ns = int(unit_s * 1e9)
    good, tried, began_ns = False, 0, clock_ns()
    while not good and tried < tries:
        tried += 1
        began_ns = clock_ns()
        line.working(True)
        with _first_in_line():
            good = _send_once(line.batch, units, unit_ns, clock_ns)
        line.working(False)
        sleep(PAUSE_UNITS * unit_s if good else pause_s)
    if not good:
        began_ns = clock_ns()
    edges = EDGES if good else 0
    return {"number": number, "good": good, "edges": edges, "tries": tried, "unit_s": unit_s, "began_ns": began_ns}


def _send_once(toggle: Callable[[], None], units: List[int], unit_ns: int, clock_ns: Callable[[], int]) -> bool:
    """Toggle at the frame's times until done, or until an edge is too far off; return whether done."""
    slack = unit_ns // _LATE
    due = clock_ns()
    toggle()
    expected = clock_ns()  # after a toggle, so that its own cost cancels
    for count in units:
        due += count * unit_ns
        expected += count * unit_ns
        while clock_ns() < due:
            pass
        toggle()
        if abs(clock_ns() - expected) > slack:
            return False
    return True


@contextlib.contextmanager
def _first_in_line() -> Iterator[None]:
    """Let no ordinary process go first on this processor, where we may ask for that; afterwards all is as before."""
    try:
        policy, priority = os.sched_getscheduler(0), os.sched_getparam(0)
        os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(1))
    except (AttributeError, OSError):
        yield
        return
    try:
        yield
    finally:
        os.sched_setscheduler(0, policy, priority)
