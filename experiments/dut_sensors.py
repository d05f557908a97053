"""What the board's own sensors say, before and after a run: a cross-check of the bench, never its result.

Python 3.6, standard library. A sensor that is not there, or may not be read, is absent: it is never 0. Read outside
the measured loop only; `read` takes up to tenths of a second, `counters` well under a millisecond.

- hwmon and the older iio paths of L4T's kernels: rails of an INA3221 and other power monitors;
- powercap (RAPL): energy counters, which most kernels show to root alone;
- NVML through libnvidia-ml: power, energy counter, temperature, clock and throttle reasons of each GPU;
- thermal zones, cpufreq, and the power mode that ``nvpmodel -q`` tells;
- what `OWN_SENSORS` adds (docs/adding.md).
"""

import ctypes
import glob
import math
import os
import re
import subprocess
import sys
import threading
import time
from collections import OrderedDict
from typing import Any, Callable, Dict, List, Optional, Tuple

from instruments.marker_line import monotonic_ns

Sensors = Dict[str, Dict[str, Any]]

OWN_SENSORS: List[Callable[[Sensors], None]] = []
"""A board's own sensors, put here by the program that starts the agent: each adds what it reads, by `put`."""

_MANY_CLOCKS = 4
_NVPMODEL_S = 3.0


def _text(path: str) -> Optional[str]:
    try:
        with open(path, encoding="utf-8", errors="replace") as file:
            return file.read().strip("\0\n ")
    except OSError:
        return None


def _number(path: str, scale: float) -> Optional[float]:
    try:
        return float(_text(path) or "") * scale
    except ValueError:
        return None


def put(found: Sensors, name: str, quantity: str, value: Any, unit: str, source: str, **more: Any) -> None:
    """Add a sensor under a name that is still free; one whose value is None is absent."""
    if value is None:
        return
    if isinstance(value, float):
        value = float("%.12g" % value)
    entry = {"quantity": quantity, "value": value, "unit": unit, "source": source}
    entry.update(more)
    key, count = name, 1
    while key in found:
        count += 1
        key = "%s #%d" % (name, count)
    found[key] = entry


def read(
    root: str = "/",
    nvml: Optional["Nvml"] = None,
    run: Callable[..., bytes] = subprocess.check_output,
    clock: Callable[[], float] = time.monotonic,
) -> Sensors:
    """Return {name: {quantity, value, unit, source}} of every sensor; `root` stands before /sys.

    Units: W, V, A, J (a counter, with `wraps_at` where it is known), degC, MHz, s, and "" for texts.
    """
    found = counters(root, nvml, clock)
    _hwmon(found, root)
    _iio(found, root)
    for zone in _sorted(root, "sys/class/thermal/thermal_zone*"):
        name = _text(zone + "/type") or os.path.basename(zone)
        put(found, name, "temperature", _number(zone + "/temp", 1e-3), "degC", _source(zone, root))
    _clocks(found, root)
    (nvml or _NVML).state(found)
    mode = _power_mode(root, run)
    put(found, "power mode", "mode", mode, "", "nvpmodel -q")
    for add in OWN_SENSORS:
        add(found)
    return found


def counters(root: str = "/", nvml: Optional["Nvml"] = None, clock: Callable[[], float] = time.monotonic) -> Sensors:
    """Return the energy counters alone, and the time."""
    found: Sensors = OrderedDict()
    for zone in _sorted(root, "sys/class/powercap/*rapl*:*"):
        if os.path.basename(zone).startswith("intel-rapl-mmio"):  # the same counters once more
            continue
        parent = os.path.join(os.path.dirname(zone), os.path.basename(zone).rpartition(":")[0], "name")
        names = [_text(parent), _text(zone + "/name") or os.path.basename(zone)]
        name = "/".join(part for part in names if part)
        more = {}
        wraps_at = _number(zone + "/max_energy_range_uj", 1e-6)
        if wraps_at:
            more["wraps_at"] = wraps_at
        put(found, name, "energy", _number(zone + "/energy_uj", 1e-6), "J", _source(zone, root), **more)
    (nvml or _NVML).energy(found)
    put(found, "time", "time", clock(), "s", "CLOCK_MONOTONIC")
    return found


def _sorted(root: str, pattern: str) -> List[str]:
    def key(path: str) -> List[Any]:
        return [int(part) if part.isdigit() else part for part in re.split(r"(\d+)", path)]

    return sorted(glob.glob(os.path.join(root, pattern)), key=key)


def _source(path: str, root: str) -> str:
    return "/" + os.path.relpath(path, root)


def _hwmon(found: Sensors, root: str) -> None:
    """Power monitors: power and energy as they are told, or current times voltage of one channel."""
    for chip in _sorted(root, "sys/class/hwmon/hwmon*"):
        kind = _text(chip + "/name") or os.path.basename(chip)
        source = "%s (%s)" % (_source(chip, root), kind)

        def label(part: str, chip: str = chip, kind: str = kind) -> str:
            return _text("%s/%s_label" % (chip, part)) or "%s %s" % (kind, part)

        powered = False
        for path in _sorted(chip, "power*_input") + _sorted(chip, "power*_average"):
            powered = True
            part = os.path.basename(path).rpartition("_")[0]
            put(found, label(part), "power", _number(path, 1e-6), "W", source)
        for path in _sorted(chip, "curr*_input"):
            number = re.sub(r"\D", "", os.path.basename(path))
            volts, amps = _number("%s/in%s_input" % (chip, number), 1e-3), _number(path, 1e-3)
            if volts is None or amps is None:
                continue
            powered = True
            name = label("in" + number)
            put(found, name + " voltage", "voltage", volts, "V", source)
            put(found, name + " current", "current", amps, "A", source)
            put(found, name + " power", "power", volts * amps, "W", source + ": voltage times current")
        for path in _sorted(chip, "temp*_input") if powered else []:
            part = os.path.basename(path).rpartition("_")[0]
            put(found, "%s temperature" % label(part), "temperature", _number(path, 1e-3), "degC", source)


def _iio(found: Sensors, root: str) -> None:
    """The INA3221 as L4T's 3.10 to 4.9 kernels show it; the TX1's input rail is VDD_IN at 1-0040."""
    for chip in _sorted(root, "sys/bus/i2c/drivers/ina3221x/*/iio:device*"):
        for path in _sorted(chip, "in_voltage*_input"):
            number = re.sub(r"\D", "", os.path.basename(path))
            name = _text("%s/rail_name_%s" % (chip, number)) or "rail " + number
            source = _source(chip, root) + " (ina3221x)"
            put(found, name + " voltage", "voltage", _number(path, 1e-3), "V", source)
            for quantity, unit in (("current", "A"), ("power", "W")):
                value = _number("%s/in_%s%s_input" % (chip, quantity, number), 1e-3)
                put(found, "%s %s" % (name, quantity), quantity, value, unit, source)


def _clocks(found: Sensors, root: str) -> None:
    """The processors' clocks by group that shares one; the lowest and highest alone where there are many."""
    clocks: List[Tuple[float, str, str]] = []
    for policy in _sorted(root, "sys/devices/system/cpu/cpufreq/policy*"):
        value = _number(policy + "/scaling_cur_freq", 1e-3)
        if value is not None:
            cpus = _text(policy + "/affected_cpus") or os.path.basename(policy)[len("policy") :]
            clocks.append((value, "cpu " + cpus, _source(policy, root)))
    if len(clocks) > _MANY_CLOCKS:
        clocks = [(min(clocks)[0], "cpu lowest", "cpufreq"), (max(clocks)[0], "cpu highest", "cpufreq")]
    for value, name, source in clocks:
        put(found, name + " clock", "clock", value, "MHz", source)


def _power_mode(root: str, run: Callable[..., bytes]) -> Optional[str]:
    """Return what the line ``NV Power Mode: NAME`` of nvpmodel says."""
    program = os.path.join(root, "usr/sbin/nvpmodel")
    if not os.path.exists(program):
        return None
    try:
        said = run([program, "-q"], stderr=subprocess.DEVNULL, timeout=_NVPMODEL_S).decode("utf-8", "replace")
    except (OSError, subprocess.SubprocessError):
        return None
    found = re.search(r"Power Mode:\s*(\S.*)", said)
    return found.group(1).strip() if found else None


# --------------------------------------------------------------------------------------------- NVML


def _load_nvml() -> Any:
    return ctypes.CDLL("libnvidia-ml.so.1")


class Nvml:
    """The GPUs as NVML shows them (NVIDIA's nvml.h); loaded at the first question, and none where it cannot be."""

    def __init__(self, load: Callable[[], Any] = _load_nvml) -> None:
        self._load = load
        self._library: Any = None
        self._handles: Optional[List[Any]] = None

    def _gpus(self) -> List[Any]:
        if self._handles is None:
            self._handles = []
            try:
                library = self._load()
                if library.nvmlInit_v2() == 0:
                    self._library = library
                    self._handles = self._find()
            except (OSError, AttributeError):
                self._handles = []
        return self._handles

    def _find(self) -> List[Any]:
        count = ctypes.c_uint()
        if self._library.nvmlDeviceGetCount_v2(ctypes.byref(count)) != 0:
            return []
        handles = []
        for index in range(count.value):
            handle = ctypes.c_void_p()
            if self._library.nvmlDeviceGetHandleByIndex_v2(ctypes.c_uint(index), ctypes.byref(handle)) == 0:
                handles.append(handle)
        return handles

    def _ask(self, function: str, handle: Any, answer: Any, *arguments: Any) -> Optional[int]:
        """Call a function whose last argument takes the answer; None where it fails or is not there."""
        try:
            code = getattr(self._library, function)(handle, *(arguments + (ctypes.byref(answer),)))
        except AttributeError:
            return None
        return int(answer.value) if code == 0 else None

    def energy(self, found: Sensors) -> None:
        """Add each GPU's energy counter, since the driver was loaded."""
        for index, handle in enumerate(self._gpus()):
            value = self._ask("nvmlDeviceGetTotalEnergyConsumption", handle, ctypes.c_ulonglong())
            put(found, "gpu%d energy" % index, "energy", _scaled(value, 1e-3), "J", "NVML")

    def state(self, found: Sensors) -> None:
        """Add each GPU's power, temperature, clock, and the mask of reasons why it is throttled."""
        for index, handle in enumerate(self._gpus()):
            name = "gpu%d " % index
            value = self._ask("nvmlDeviceGetPowerUsage", handle, ctypes.c_uint())
            put(found, name + "power", "power", _scaled(value, 1e-3), "W", "NVML, averaged by the driver")
            value = self._ask("nvmlDeviceGetTemperature", handle, ctypes.c_uint(), ctypes.c_int(0))
            put(found, name + "temperature", "temperature", _scaled(value, 1.0), "degC", "NVML")
            value = self._ask("nvmlDeviceGetClockInfo", handle, ctypes.c_uint(), ctypes.c_int(1))
            put(found, name + "clock", "clock", _scaled(value, 1.0), "MHz", "NVML, SM clock")
            value = self._ask("nvmlDeviceGetCurrentClocksThrottleReasons", handle, ctypes.c_ulonglong())
            put(found, name + "throttle", "throttle", None if value is None else "0x%x" % value, "", "NVML")


def _scaled(value: Optional[int], scale: float) -> Optional[float]:
    return None if value is None else value * scale


_NVML = Nvml()


# ------------------------------------------------------------------------- one sensor all the while

_KINDS = {"nvml": "nvml", "rapl": "powercap", "ina3221": "ina3221"}
_WATCH_S = 0.002
_MOST_CHANGES = 600


def find_meter(
    wanted: str, root: str = "/", nvml: Optional[Nvml] = None
) -> Optional[Tuple[str, str, str, Callable[[], Optional[float]]]]:
    """Return name, unit (W or J), source and a function that reads a sensor; None where there is none of the kind.

    `wanted` is nvml, rapl, ina3221 or a name as `read` tells it. Power comes before an energy counter.
    """
    gpus = nvml or _NVML
    collectors: List[Callable[[Sensors], None]] = [
        lambda found: _hwmon(found, root),
        lambda found: _iio(found, root),
        gpus.state,
        *OWN_SENSORS,
        lambda found: found.update(counters(root, gpus)),
    ]
    for collect in collectors:
        found: Sensors = OrderedDict()
        collect(found)
        for name, entry in found.items():
            kind = _KINDS.get(wanted.lower())
            of_kind = kind is not None and kind in str(entry["source"]).lower()
            if entry["unit"] in ("W", "J") and (name == wanted or of_kind):
                return name, entry["unit"], entry["source"], _reader(collect, name)
    return None


def _reader(collect: Callable[[Sensors], None], name: str) -> Callable[[], Optional[float]]:
    def read_it() -> Optional[float]:
        found: Sensors = OrderedDict()
        collect(found)
        return float(found[name]["value"]) if name in found else None

    return read_it


class Watch(threading.Thread):
    """Reads one sensor again and again while it is entered, and keeps each new value with its time.

    What it costs is not nothing: for tests of the meter, not for measurements.
    """

    def __init__(
        self, wanted: str, clock_ns: Callable[[], int] = monotonic_ns, root: str = "/", nvml: Optional[Nvml] = None
    ) -> None:
        super().__init__(daemon=True)
        self._wanted, self._clock_ns = wanted, clock_ns
        self._meter = find_meter(wanted, root, nvml)
        self._ended = threading.Event()
        self._reads = 0
        self._seen: List[Tuple[int, float]] = []

    def run(self) -> None:
        if self._meter is None:
            return
        read_it = self._meter[3]
        while not self._ended.wait(_WATCH_S) and len(self._seen) < _MOST_CHANGES:
            value = read_it()
            if value is None:
                continue
            self._reads += 1
            if not self._seen or value != self._seen[-1][1]:
                self._seen.append((self._clock_ns(), value))

    def __enter__(self) -> "Watch":
        self._interval_s = sys.getswitchinterval()
        sys.setswitchinterval(_WATCH_S / 10)  # a load that spins in Python lets us in only so often
        self.start()
        return self

    def __exit__(self, *_: Any) -> None:
        self._ended.set()
        self.join()
        sys.setswitchinterval(self._interval_s)

    def facts(self, zero_ns: int) -> Dict[str, Any]:
        """Return what was seen: times of new values in us since `zero_ns`, the values, and how often it was read."""
        if self._meter is None:
            return {"wanted": self._wanted, "missing": True}
        name, unit, source, _ = self._meter
        return {
            "wanted": self._wanted,
            "name": name,
            "unit": unit,
            "source": source,
            "reads": self._reads,
            "t_us": [(t - zero_ns) // 1000 for t, _ in self._seen],
            "values": [float("%.9g" % value) for _, value in self._seen],
        }


# ------------------------------------------------------------------------------------- cross-check


def cross_check(before: Sensors, after: Sensors) -> List[Tuple[str, str]]:
    """Say in words what each sensor told before and after a run; counters become a mean power between the two.

    Both as `read` gives them. The readings of power are of moments at which nothing is measured: only a counter
    speaks of the run, with the little before and after it.
    """
    span_s = _difference(before.get("time"), after.get("time"))
    lines = []
    for name, entry in after.items():
        first = before.get(name)
        text = _compared(first, entry, span_s) if first is not None and name != "time" else None
        if text is not None:
            lines.append((name, "%s (%s)" % (text, entry.get("source"))))
    return lines


def _compared(first: Dict[str, Any], last: Dict[str, Any], span_s: Optional[float]) -> Optional[str]:
    values, unit = (first.get("value"), last.get("value")), last.get("unit")
    if isinstance(values[0], str) and isinstance(values[1], str):
        return values[1] if values[0] == values[1] else "%s before, %s after" % values
    change = _difference(first, last)
    if change is None:
        return None
    if last.get("quantity") != "energy":
        return "%.4g %s before, %.4g %s after" % (float(values[0]), unit, float(values[1]), unit)  # type: ignore[arg-type]
    if change < 0:
        change += last.get("wraps_at", -math.inf)
    if not span_s or span_s < 0 or change < 0:
        return None
    return "%.4g W on average over %.3g s" % (change / span_s, span_s)


def _difference(first: Optional[Dict[str, Any]], last: Optional[Dict[str, Any]]) -> Optional[float]:
    try:
        return float(last["value"]) - float(first["value"])  # type: ignore[index]
    except (KeyError, TypeError, ValueError):
        return None
