"""What may disturb a run on the board: other work, stolen time, clocks, heat; and a piece of reference work.

Python 3.6, standard library, and torch where the agent has loaded it. What cannot be read is absent, never 0.
"""

import contextlib
import functools
import glob
import hashlib
import os
import re
import resource
import threading
from typing import Any, Callable, Dict, List, Optional

from experiments.dut_host import cpus, field_bytes, number, read_text
from instruments.marker_line import monotonic_ns

_REPEATS = 5
_HASHED_BYTES = 4 << 20
_MOST_THREADS = 16
_MATRIX = 1024
_PRODUCTS = 8
_PI_THROTTLED = 0xF  # under-voltage, frequency capped, throttled, soft temperature limit: now


def _files(root: str, pattern: str) -> List[str]:
    return sorted(glob.glob(os.path.join(root, pattern)))


def _read(root: str, path: str) -> Optional[str]:
    return read_text(os.path.join(root, path))


def _present(facts: Dict[str, Any]) -> Dict[str, Any]:
    return {name: value for name, value in facts.items() if value is not None and value != {}}


def counters(root: str = "/") -> Dict[str, Any]:
    """Return what only grows: `at_ns`, and seconds of processor time, each since some start of its own; and `cpus`.

    `root` is where /proc and /sys stand. `busy_s` of everybody on all `cpus` processors, `steal_s` taken by the
    hypervisor, `own_s` of this process and its children, `waited_s` that their threads were ready to run and had no
    processor. Takes well under a millisecond.
    """
    facts: Dict[str, Any] = {"at_ns": monotonic_ns()}
    stat = _read(root, "proc/stat") or ""
    line = re.match(r"cpu +(.+)", stat)
    ticks = [int(text) for text in line.group(1).split()] if line else []
    per_s = os.sysconf("SC_CLK_TCK")
    if len(ticks) >= 8:  # user, nice, system, idle, iowait, irq, softirq, steal
        facts["busy_s"] = (sum(ticks[0:3]) + ticks[5] + ticks[6]) / per_s
        facts["steal_s"] = ticks[7] / per_s
        facts["cpus"] = len(re.findall(r"^cpu\d+ ", stat, re.MULTILINE))
    used = resource.getrusage(resource.RUSAGE_SELF)
    own_s = used.ru_utime + used.ru_stime
    waited_ns: List[int] = _waits_ns(root, "self")
    for child in _descendants(root, "self"):
        fields = (_read(root, "proc/%s/stat" % child) or "").rpartition(")")[2].split()
        if len(fields) > 12:  # utime and stime, counted from the state
            own_s += (int(fields[11]) + int(fields[12])) / per_s
        waited_ns += _waits_ns(root, child)
    facts["own_s"] = own_s
    if waited_ns:
        facts["waited_s"] = sum(waited_ns) * 1e-9
    return facts


def _waits_ns(root: str, process: str) -> List[int]:
    """Return each thread's time on the run queue (schedstat: on the processor, waiting, slices)."""
    fields = [(read_text(path) or "").split() for path in _files(root, "proc/%s/task/*/schedstat" % process)]
    return [int(field[1]) for field in fields if len(field) == 3]


def _descendants(root: str, process: str) -> List[str]:
    found: List[str] = []
    for path in _files(root, "proc/%s/task/*/children" % process):
        for child in (read_text(path) or "").split():
            found += [child] + _descendants(root, child)
    return found


def state(root: str = "/") -> Dict[str, Any]:
    """Return what is so at the moment, as far as it is known here.

    `load1`; `cpu_mhz` {lowest, mean, highest} of the processors of this process; `governor`; `temperature_c` and
    `limit_c` {zone: °C}, the limit being the lowest trip point at which the kernel acts; `throttle` {what: value}:
    what ends in `_count` only grows, all else is 0 where nothing is held back; `available_bytes`; `oom_kills`, how
    often the kernel has killed a process for want of memory.
    """
    load = (_read(root, "proc/loadavg") or "").split()
    kills = re.search(r"^oom_kill (\d+)", _read(root, "proc/vmstat") or "", re.MULTILINE)
    governor = _read(root, "sys/devices/system/cpu/cpu0/cpufreq/scaling_governor")
    zones = _zones(root)
    heat = {name: number(read_text(path + "/temp"), 1e-3) for name, path in zones.items()}
    return _present(
        {
            "load1": number(load[0]) if load else None,
            "cpu_mhz": cpu_mhz(root),
            "governor": governor.strip() if governor else None,
            "temperature_c": _present(heat),
            "limit_c": _limits_c(root),
            "throttle": throttle(root),
            "available_bytes": field_bytes(os.path.join(root, "proc/meminfo"), "MemAvailable"),
            "oom_kills": int(kills.group(1)) if kills else None,
        }
    )


def condition(root: str = "/") -> Dict[str, Any]:
    """Return `counters` and `state` together."""
    facts = state(root)
    facts.update(counters(root))
    return facts


def cpu_mhz(root: str = "/") -> Optional[Dict[str, float]]:
    """Return the lowest, mean and highest clock of the processors that this process may use, in MHz."""
    allowed = os.sched_getaffinity(0) if hasattr(os, "sched_getaffinity") else range(os.cpu_count() or 1)
    paths = ["sys/devices/system/cpu/cpu%d/cpufreq/scaling_cur_freq" % cpu for cpu in allowed]
    clocks = [number(_read(root, path), 1e-3) for path in paths]
    found = [clock for clock in clocks if clock is not None]
    if not found:
        told = re.findall(r"^cpu MHz\s*:\s*([\d.]+)", _read(root, "proc/cpuinfo") or "", re.MULTILINE)
        found = [float(mhz) for mhz in told]
    if not found:
        return None
    return {"lowest": min(found), "mean": round(sum(found) / len(found), 3), "highest": max(found)}


def throttle(root: str = "/") -> Dict[str, int]:
    """Return what holds the processors back: counters of x86, cooling devices at work, the Raspberry Pi's flags."""
    found: Dict[str, int] = {}
    for kind in ("core", "package"):
        paths = _files(root, "sys/devices/system/cpu/cpu*/thermal_throttle/%s_throttle_count" % kind)
        counts = [number(read_text(path)) for path in paths]
        known = [int(count) for count in counts if count is not None]
        if known:
            found[kind + "_throttle_count"] = sum(known)
    for device in _files(root, "sys/class/thermal/cooling_device*"):
        kind = (read_text(device + "/type") or "").strip()
        level = number(read_text(device + "/cur_state"))
        # A fan cools; idle injection and the like have no level to speak of (-1).
        if kind and "fan" not in kind.lower() and level is not None and level >= 0:
            found[kind] = max(found.get(kind, 0), int(level))
    flags = _read(root, "sys/devices/platform/soc/soc:firmware/get_throttled")
    if flags:
        with contextlib.suppress(ValueError):
            found["firmware"] = int(flags, 16) & _PI_THROTTLED
    return found


@functools.lru_cache(maxsize=None)
def _zones(root: str) -> Dict[str, str]:
    """Return the path of each thermal zone by its name; numbered where two have the same."""
    found: Dict[str, str] = {}
    for path in _files(root, "sys/class/thermal/thermal_zone*"):
        kind = name = (read_text(path + "/type") or os.path.basename(path)).strip()
        count = 1
        while name in found:
            count += 1
            name = "%s #%d" % (kind, count)
        found[name] = path
    return found


@functools.lru_cache(maxsize=None)
def _limits_c(root: str) -> Dict[str, float]:
    """Return the lowest temperature at which the kernel slows down or switches off, by zone."""
    limits: Dict[str, float] = {}
    for name, zone in _zones(root).items():
        for path in sorted(glob.glob(zone + "/trip_point_*_type")):
            if (read_text(path) or "").strip() not in ("passive", "hot", "critical"):
                continue
            limit = number(read_text(path[: -len("type")] + "temp"), 1e-3)
            if limit is not None and limit > 0:
                limits[name] = min(limit, limits.get(name, limit))
    return limits


class Reference:
    """Work that is always the same, to see whether this machine is as fast as it was: a few milliseconds each time.

    SHA-256 over 4 MiB on every processor at once, so that it is slow where one of them is busy or all are slow; with a
    GPU in use, for which `prepare` was called, products of matrices on it too.
    """

    def __init__(self) -> None:
        self._data = os.urandom(_HASHED_BYTES)
        self._threads = max(1, min(cpus(), _MOST_THREADS))
        self._matrices: Any = None

    def times_s(self, device: str, torch: Any = None) -> Dict[str, List[float]]:
        """Return the times of five rounds, by what the work is."""
        name = "sha256 of %d MiB on each of %d processors" % (_HASHED_BYTES >> 20, self._threads)
        times = {name: [self._timed(self._hash_everywhere) for _ in range(_REPEATS)]}
        if self._matrices is not None and device == "cuda":
            name = "%d matrix products of %d on the GPU" % (_PRODUCTS, _MATRIX)
            times[name] = [self._timed(lambda: self._multiply(torch)) for _ in range(_REPEATS)]
        return times

    def prepare(self, device: str, torch: Any = None) -> None:
        """Take the GPU's memory once, and before anybody counts it."""
        if device == "cuda" and torch is not None and torch.cuda.is_available() and self._matrices is None:
            self._matrices = [torch.ones(_MATRIX, _MATRIX, device="cuda") for _ in range(3)]
            self._multiply(torch)

    @staticmethod
    def _timed(work: Callable[[], None]) -> float:
        start_ns = monotonic_ns()
        work()
        return (monotonic_ns() - start_ns) * 1e-9

    def _hash_everywhere(self) -> None:
        threads = [threading.Thread(target=self._hash) for _ in range(self._threads - 1)]
        for thread in threads:
            thread.start()
        self._hash()
        for thread in threads:
            thread.join()

    def _hash(self) -> None:
        hashlib.sha256(self._data).digest()  # Python lets the other threads run meanwhile

    def _multiply(self, torch: Any) -> None:
        a, b, c = self._matrices
        with torch.no_grad():
            for _ in range(_PRODUCTS):
                torch.mm(a, b, out=c)
        torch.cuda.synchronize()
