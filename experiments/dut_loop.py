"""The warm-up until batch times settle, and the measured loop between the gate's edges. Python 3.6.

Clock, lines and what is run are arguments.
"""

import gc
import math
import time
from typing import Any, Callable, Dict, List, Optional, Tuple

from instruments.marker_line import monotonic_ns

_MIN_WARMUP_S = 0.25
_BLOCK_S = 0.02
_SETTLED = 0.03
_FEWEST = 3
_BLOCKS_TOLD = 64

PROMPT_NS = 20000000
"""How soon after the gate's fall a rest must begin to count: what is done before, the bench keeps clear of."""


def _median(values: List[float]) -> float:
    ordered = sorted(values)
    middle = len(ordered) // 2
    return ordered[middle] if len(ordered) % 2 else (ordered[middle - 1] + ordered[middle]) / 2


def warm_up(
    run: Callable[[], None],
    limit_s: float,
    clock_ns: Callable[[], int] = monotonic_ns,
    first: Optional[Callable[[], None]] = None,
) -> Dict[str, Any]:
    """Run batches until their times settle, or until another one would pass `limit_s`; one at least.

    Three batches, without which nothing can settle, may take three times the limit.

    The first batch is slower and not counted; `first` runs it where it is given. Batches are taken in blocks of at
    least 20 ms; they have settled when the medians of the last two groups of blocks (a third of all each) agree within
    3 %, after at least 0.25 s and three blocks (two, where one batch takes 0.25 s). Returns batch_time_s (median of
    the last group), warmup_batches, warmup_s, settled, first_batch_s, and warmup_batch_s: seconds a batch in each of
    the last 64 blocks.
    """
    start = clock_ns()
    (first or run)()
    last = clock_ns()
    first_s = (last - start) * 1e-9
    blocks: List[float] = []
    batches = 1
    settled = False
    batch_s = first_s
    while True:
        begin, count = last, 0
        while (last - begin) * 1e-9 < _BLOCK_S:
            limit = limit_s if batches + count >= _FEWEST else 3 * limit_s
            if (last - start) * 1e-9 + batch_s > limit:
                break
            run()
            count += 1
            last = clock_ns()
        if count == 0:
            break
        batches += count
        blocks.append((last - begin) * 1e-9 / count)
        group = max(1, len(blocks) // 3)
        batch_s = _median(blocks[-group:])
        needed = 2 if batch_s >= _MIN_WARMUP_S else 3
        before = _median(blocks[-2 * group : -group]) if len(blocks) >= needed else math.inf
        if abs(batch_s - before) <= _SETTLED * batch_s and (last - start) * 1e-9 >= _MIN_WARMUP_S:
            settled = True
            break
    return {
        "batch_time_s": batch_s,
        "warmup_batches": batches,
        "warmup_s": (last - start) * 1e-9,
        "settled": settled,
        "first_batch_s": first_s,
        "warmup_batch_s": [round(seconds, 9) for seconds in blocks[-_BLOCKS_TOLD:]],
    }


def batches_for(run_s: float, batch_time_s: float, max_batches: int) -> int:
    """Return how many batches fit into `run_s`: at least one, at most `max_batches`."""
    return max(1, min(max_batches, int(run_s / batch_time_s)))


def run_measured(
    run: Callable[[], None],
    gate: Callable[[bool], None],
    toggle: Callable[[], None],
    log: Any,
    limit_s: float,
    clock_ns: Callable[[], int] = monotonic_ns,
) -> Tuple[List[int], int]:
    """Run a batch for each element of `log` (an array of int64) with the gate high, and stamp each one's end.

    Quiet: nothing is allocated, printed or collected in between. Returns the four gate stamps (before and after the
    rise, before and after the fall) and how many batches ran: fewer when another one, if as long as the longest so
    far, would pass `limit_s`. The gate falls on every way out.
    """
    collecting = gc.isenabled()
    gc.disable()
    try:
        rise_before = clock_ns()
        gate(True)
        rise_after = clock_ns()
        stop = rise_after + int(limit_s * 1e9)
        last, longest = rise_after, 0
        done = 0
        for done in range(1, len(log) + 1):
            run()
            stamp = clock_ns()
            toggle()
            log[done - 1] = stamp
            if stamp - last > longest:
                longest = stamp - last
            last = stamp
            if stamp + longest > stop:
                break
        fall_before = clock_ns()
    finally:
        gate(False)
        fall_after = clock_ns()
        if collecting:
            gc.enable()
    return [rise_before, rise_after, fall_before, fall_after], done


def rest(
    since_ns: int,
    quiet_s: float,
    clock_ns: Callable[[], int] = monotonic_ns,
    sleep: Callable[[float], None] = time.sleep,
) -> float:
    """Do nothing until `quiet_s` after `since_ns`, the gate's fall: the record's end shows the board idle.

    Returns how long that was; 0 where what had to be done first took too long to call it rest.
    """
    if quiet_s <= 0 or clock_ns() - since_ns > PROMPT_NS:
        return 0.0
    until_ns = since_ns + int(quiet_s * 1e9)
    while True:
        left_ns = until_ns - clock_ns()
        if left_ns <= 0:
            return quiet_s
        sleep(left_ns * 1e-9)
