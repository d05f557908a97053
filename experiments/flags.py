"""Codes of what disturbed a cell, which keeps its result, and of why one has none; when the former are given. Pure.

docs/flags.md says what each code means and why its limit is where it is.
"""

from __future__ import annotations

import math
from array import array
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from calibration.statistics import lower_quartile, median

Facts = Mapping[str, Any]

NO_CODE = "rejected"
"""Code of a rejection that has none of its own."""

FLAGS: Mapping[str, str] = {
    "warmup-unsettled": "batch times still changed when the warm-up reached its limit",
    "busy-host": "other programs took processor time that the network wanted",
    "steal": "the hypervisor gave processor time to other machines",
    "throttled": "the device held its clocks back",
    "hot": "the device was about to hold its clocks back for heat",
    "freq-changed": "the processors' clock was not the same after the run",
    "slow-reference": "the reference work took longer than it usually did in the sweep",
    "spread": "the repeats of time per image scatter",
    "clock-mismatch": "the device's clock and the marker lines disagree on how long the run was",
    "lines-unchecked": "the current moves too little to tell whether it follows the marker lines",
    "lines-late": "the current rises before the gate: the marker lines lag behind the work",
    "lines-early": "the current follows the gate late at both ends: the marker lines move before the work",
    "baseline-not-idle": "the board took more or less around its runs than at rest",
    "other-voltage": "the board was fed with another voltage than lab.yaml says",
    "gain-unlikely": "a channel's gain is further from 1 than twice its makers' limits",
    "gain-drifted": "the supply's read-back during the run or the sweep contradicts the gain",
    "calibration-disagrees": "a calibration record and the run's own comparison contradict each other",
    "calibration-range": "the current or voltage lies where a calibration record does not hold",
    "long-record": "a batch did not fit the usual record, and a longer one was taken",
    "consecutive-records": "a batch did not fit the record, and consecutive ones were put together",
    "steady-power": "a batch did not fit the record, and its steady power was taken for the rest of it",
    "window-by-hand": "the measured loop's begin and end were given by hand, not told by marker lines",
    "window-part": "the window by hand holds some of the run's batches, whose images alone count",
    "window-found": "the measured loop's begin and end were found in the current, not told by marker lines",
    "markers-cut": "refused: the gate's window is cut by the record's start or end",
    "markers-glitch": "refused: a pulse on a marker line that no run makes",
    "markers-bounce": "refused: an edge of a marker line that came several times",
    "markers-missing": "refused: fewer edges on a marker line than the device made",
    "markers-extra": "refused: more edges on a marker line than the device made",
    "markers-shifted": "refused: as many batch edges as the device logged, but not at those times",
    "markers-frame": "refused: a start frame that cannot be read",
    "wrong-run": "refused: the marker lines are those of another run",
    "lines-unrelated": "refused: the current does not follow the marker lines",
    "stale-record": "refused: the record of an earlier acquisition, or of another time",
    "flat-line": "refused: a channel that shows nothing",
    "saturated": "refused: the clamp was beyond its range",
    "clipped": "refused: a channel was beyond its span",
    "holes": "refused: samples that were never acquired",
    "wrong-attenuation": "refused: a probe whose range, turns or attenuation is not that of lab.yaml",
    "reversed-probe": "refused: a probe that is the wrong way round",
    "swapped-channels": "refused: current and voltage on each other's channel",
    "not-steady": "refused: the power within the record is not steady, so that it tells nothing of what is outside",
    "settings-changed": "refused: somebody set the oscilloscope otherwise during the sweep",
    "stuck-read-back": "refused: a supply that reads the same current whatever flows",
    "supply-limited": "refused: the supply did not hold its voltage",
    "beyond-calibration": "refused: a current or voltage where the required calibration record does not hold",
    "no-zero": "refused: there is no zero to reduce it with",
    "window-cuts-run": "refused: a window by hand that holds part of a run, nobody knows how much",
    "not-a-number": "refused: readings or scales that are no numbers",
    NO_CODE: "refused: for a reason without a code of its own; the reason says it",
}
"""Every code in the order in which they are written, with what it says."""

WAITED_SHARE = 0.1
"""Share of the processor time that the device's process wanted and did not get."""

OTHERS_SHARE = 0.5
"""Processors' worth of work by other programs, counted only where hardly any processor was left idle."""

IDLE_SHARE = 0.05
"""Share of all processor time below which hardly any was left idle."""

STEAL_SHARE = 0.01
"""Share of all processor time that went to other machines."""

GPU_HELD_BACK = 0x4 | 0x8 | 0x20 | 0x40 | 0x80
"""NVML's reasons: power cap, slow-down by hardware, heat by software and by hardware, power brake."""

HOT_MARGIN_C = 5.0
"""How near a zone may come to the limit that it states."""

CLOCK_SHARE = 0.05
"""Relative change of the processors' mean clock."""

SLOW_SHARE = 0.15
"""How much longer the reference work may take than it usually does."""

SPREADS = 5.0
"""Scatters from run to run that it may take longer where that is more."""

MOST_SHARE = 0.9
"""And how much longer it may never take: with one more program on a processor it doubles."""

THIRD_SPREADS = 0.8615
"""Length of the shortest interval that holds a third of a normal distribution, in standard deviations."""

FIRST_RUNS = 3
"""Runs at the start of a sweep whose median tells how quick the device is."""

LEAST_RUNS = 6
"""Runs below which their scatter is not known."""

SLOW = "slow-reference"
"""Its flag, which only the whole of a sweep can give."""

SPREAD_SHARE = 0.05
"""Relative standard deviation of the repeats of time per image."""

MISMATCH_SHARE = 1e-3
"""Relative difference of device's clock and markers, beyond two samples and the time that moving the lines took."""


def number(facts: Any, *path: str) -> float | None:
    """Give the finite number at a path of a tree of facts, None where there is none: facts come from outside."""
    for name in path:
        facts = facts.get(name) if isinstance(facts, Mapping) else None
    if isinstance(facts, bool) or not isinstance(facts, int | float) or not math.isfinite(facts):
        return None
    return float(facts)


def numbers(facts: Any, *path: str) -> dict[str, float]:
    """Give the finite numbers of a mapping at a path."""
    for name in path:
        facts = facts.get(name) if isinstance(facts, Mapping) else None
    found = {str(k): number(facts, k) for k in facts} if isinstance(facts, Mapping) else {}
    return {name: value for name, value in found.items() if value is not None}


def is_refusal(code: str) -> bool:
    """Whether a code says why there is no result, rather than what may have disturbed one."""
    return FLAGS.get(code, "").startswith("refused")


def with_code(told: str, code: str) -> str:
    """The codes of a capture, with blanks between, and one more."""
    return " ".join(in_order((*told.split(), code)))


def in_order(codes: Iterable[str]) -> tuple[str, ...]:
    """Give each code once, in the order of `FLAGS`; unknown ones of a later release last."""
    found = set(codes)
    if not found:
        return ()
    return (*(code for code in FLAGS if code in found), *sorted(found - set(FLAGS)))


def reference_s(done: Facts) -> dict[str, dict[str, list[float]]]:
    """Give the times of each reference work before and after a run: {work: {"before": [s], "after": [s]}}."""
    found: dict[str, dict[str, list[float]]] = {}
    told = done.get("reference_s")
    for work, sides in told.items() if isinstance(told, Mapping) else ():
        for side in ("before", "after"):
            times = sides.get(side) if isinstance(sides, Mapping) else None
            known = [t for t in times if number({"t": t}, "t")] if isinstance(times, list) else []
            if known:
                found.setdefault(str(work), {})[side] = known
    return found


def slow_references(told: Sequence[Facts], *, shared: bool = False) -> list[bool]:
    """Judge the reference work of all runs of a sweep, in their order: which were slow before or after their run.

    As `References.slow` does.
    """
    references = References()
    for number, done in enumerate(told):
        references.add(number, done)
    slow = references.slow(range(len(told)), shared=shared)
    return [number in slow for number in range(len(told))]


class References:
    """Takes what devices told of their runs, and keeps of each how long the reference work took: the lower quartiles
    of its rounds before and after. A moment's disturbance slows some of them, other work and held clocks slow all."""

    def __init__(self) -> None:
        self._sides: dict[tuple[str, str], tuple[array[int], array[float]]] = {}

    def add(self, number: int, done: Facts) -> None:
        """Take a run; they are judged in the order of their numbers."""
        for work, times_s in reference_s(done).items():
            for side, rounds_s in times_s.items():
                numbers, seconds = self._sides.setdefault((work, side), (array("q"), array("d")))
                numbers.append(number)
                seconds.append(lower_quartile(rounds_s))

    def slow(self, runs: Collection[int], *, shared: bool = False) -> set[int]:
        """Which of these runs were slow before or after.

        Each side is held against the same side of the others: against the median of the first runs, or the lower
        quartile of all where that is quicker. It is slow beyond `SLOW_SHARE`, or `SPREADS` times the scatter from run
        to run where that is more, and beyond `MOST_SHARE` in any case. With `shared` the board's processors are the
        bench's own, which is at work itself after every run: there only `MOST_SHARE` counts after a run.
        """
        found: set[int] = set()
        for (_, side), (numbers, seconds) in self._sides.items():
            known = np.flatnonzero(np.isin(numbers, [*runs]))
            known = known[np.argsort(np.array(numbers)[known], kind="stable")]
            if not known.size:
                continue
            times = np.array(seconds)[known]
            ranked = np.sort(times)
            usual_s = min(median(times[:FIRST_RUNS]), lower_quartile(ranked.tolist()))
            share = MOST_SHARE
            if not (shared and side == "after"):
                share = min(max(SLOW_SHARE, SPREADS * _scatter(ranked)), MOST_SHARE)
            found.update(numbers[k] for k in known[times > usual_s * (1 + share)])
        return found


def _scatter(ranked: NDArray[np.float64]) -> float:
    """Relative standard deviation of times in rising order; 0 where they are too few.

    From the third of them that lies closest together: what comes and goes, such as throttling, must not widen it,
    whether it slows few runs or half of them.
    """
    n = len(ranked)
    if n < LEAST_RUNS:
        return 0.0
    third = n // 3 + 1
    lengths = ranked[third - 1 :] - ranked[: n - third + 1]
    closest = int(np.argmin(lengths))
    middle = float(ranked[closest + third // 2])
    return float(lengths[closest]) / THIRD_SPREADS / middle if middle > 0 else 0.0


def same_machine(ready: Facts, environment: Any) -> bool:
    """Whether a device, by its own name, is the computer at which the bench's programs ran."""
    agent = ready.get("agent")
    host = agent.get("host") if isinstance(agent, Mapping) else None
    name = host.get("hostname") if isinstance(host, Mapping) else None
    return isinstance(environment, Mapping) and bool(name) and environment.get("machine") == name


def shares(done: Facts) -> dict[str, float]:
    """Give shares between the conditions before and after a run, as far as they are known.

    `waited`: of the processor time that the device's process wanted, what it waited for; `steal` and `idle`: of all
    processor time; `others`: processors' worth of work by other programs.
    """
    before, after = done.get("condition_before"), done.get("condition_after")

    def grown(name: str) -> float | None:
        first, last = number(before, name), number(after, name)
        return max(0.0, last - first) if first is not None and last is not None else None

    elapsed_ns, busy_s, steal_s, own_s, waited_s = map(grown, ("at_ns", "busy_s", "steal_s", "own_s", "waited_s"))
    cpus = number(after, "cpus")
    found: dict[str, float] = {}
    if waited_s is not None and own_s is not None and waited_s + own_s > 0:
        found["waited"] = waited_s / (waited_s + own_s)
    if not elapsed_ns:
        return found
    elapsed_s = elapsed_ns * 1e-9
    if busy_s is not None and own_s is not None:
        found["others"] = max(0.0, busy_s - own_s) / elapsed_s
    if cpus and busy_s is not None and steal_s is not None:
        found["steal"] = steal_s / (elapsed_s * cpus)
        found["idle"] = max(0.0, 1.0 - (busy_s + steal_s) / (elapsed_s * cpus))
    return found


def of_run(ready: Facts, done: Facts) -> tuple[str, ...]:
    """Say which codes a run gets for what the device told of it."""
    share = shares(done)
    crowded = share.get("others", 0.0) >= OTHERS_SHARE and share.get("idle", 1.0) <= IDLE_SHARE
    signs = {
        "warmup-unsettled": ready.get("settled") is False,
        "busy-host": share.get("waited", 0.0) >= WAITED_SHARE or crowded,
        "steal": share.get("steal", 0.0) >= STEAL_SHARE,
        "throttled": _throttled(done),
        "hot": _hot(done),
        "freq-changed": _clock_changed(done),
    }
    return in_order(code for code, given in signs.items() if given)


def _throttled(done: Facts) -> bool:
    before, after = (numbers(done, side, "throttle") for side in ("condition_before", "condition_after"))
    counted = [name for name in after if name.endswith("_count")]
    sensors = done.get("sensors_after")
    return (
        any(after[name] > before.get(name, after[name]) for name in counted)
        or any(value > 0 for side in (before, after) for name, value in side.items() if not name.endswith("_count"))
        or any(_gpu_held_back(sensor) for sensor in (sensors.values() if isinstance(sensors, Mapping) else ()))
    )


def _gpu_held_back(sensor: Any) -> bool:
    """Whether a sensor is NVML's mask of throttle reasons and names power or heat."""
    if not isinstance(sensor, Mapping) or sensor.get("quantity") != "throttle":
        return False
    try:
        return bool(int(str(sensor.get("value")), 16) & GPU_HELD_BACK)
    except ValueError:
        return False


def _hot(done: Facts) -> bool:
    zones = numbers(done, "condition_after", "temperature_c")
    limits = numbers(done, "condition_after", "limit_c")
    return any(zones[zone] >= limit - HOT_MARGIN_C for zone, limit in limits.items() if zone in zones)


def _clock_changed(done: Facts) -> bool:
    before, after = number(done, "reference_mhz", "before"), number(done, "reference_mhz", "after")
    return bool(before and after and abs(after - before) >= CLOCK_SHARE * before)


def of_clocks(device_s: float, marker_s: float, dt_s: float, moving_s: float) -> tuple[str, ...]:
    """Compare the length of a run by the device's clock with that by the markers, sampled every `dt_s`.

    `device_s` is from after the gate was raised until before it was lowered, `moving_s` what both moves took.
    """
    if not math.isfinite(device_s):
        return ()
    slack_s = 2 * dt_s + MISMATCH_SHARE * marker_s
    return () if device_s - slack_s <= marker_s <= device_s + moving_s + slack_s else ("clock-mismatch",)


def of_repeats(times_s: Sequence[float]) -> tuple[str, ...]:
    """Look at the scatter of a row's repeats of time per image."""
    if len(times_s) < 2 or np.std(times_s, ddof=1) <= SPREAD_SHARE * np.mean(times_s):
        return ()
    return ("spread",)
