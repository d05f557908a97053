"""Facts of the machine that the agent runs on: who it is, its memory, its clocks. Python 3.6, standard library.

What cannot be read is None, never 0. Linux's /proc and /sys are used where they are there.
"""

import contextlib
import ctypes
import hashlib
import importlib.util
import os
import pkgutil
import platform
import re
import resource
import time
from typing import Any, Dict, Iterator, Optional

_NETWORKS = (
    "__init__ alexnet branches counting enet errors googlenet inception_v3 inception_v4 macs nin resnet sizes sources "
    "specs vgg weights"
)
_AGENT = "agent command condition host loop memory onnx runner sensors torch"
_MARKERS = "base frame gpio line ring serial"

# All that the agent runs from, by package.
SOURCES = [
    ("experiments", ["dut_%s.py" % name for name in _AGENT.split()]),
    ("experiments.networks", [name + ".py" for name in _NETWORKS.split()]),
    ("instruments", ["dut_protocol.py", *("marker_%s.py" % name for name in _MARKERS.split())]),
]


def read_text(path: str) -> Optional[str]:
    """Return a file's text, None where it cannot be read."""
    try:
        with open(path, encoding="utf-8", errors="replace") as file:
            return file.read()
    except OSError:
        return None


def number(text: Optional[str], scale: float = 1.0) -> Optional[float]:
    """Return a text's number times `scale`, None where it is none."""
    try:
        return float(text) * scale if text is not None else None
    except ValueError:
        return None


def field_bytes(path: str, field: str) -> Optional[int]:
    """Return a ``Field:  n kB`` line of a /proc file in bytes."""
    found = re.search(r"^%s:\s*(\d+) kB" % field, read_text(path) or "", re.MULTILINE)
    return int(found.group(1)) * 1024 if found else None


def sources_sha256() -> str:
    """Return the SHA-256 over all files that the agent runs from, also out of a zip archive."""
    digest = hashlib.sha256()
    for package, names in SOURCES:
        for name in names:
            digest.update(("%s/%s\n" % (package, name)).encode())
            with contextlib.suppress(OSError, ImportError):
                digest.update(pkgutil.get_data(package, name) or b"")
    return digest.hexdigest()


def archive_sha256() -> Optional[str]:
    """Return the SHA-256 of the archive that this program runs from, None where it runs from a folder."""
    path = getattr(globals().get("__loader__"), "archive", None)
    if path is None:
        return None
    try:
        with open(path, "rb") as file:
            return hashlib.sha256(file.read()).hexdigest()
    except OSError:
        return None


def torch_version() -> Optional[str]:
    """Return torch's version without importing it (which takes most of a second), None without torch."""
    try:
        spec = importlib.util.find_spec("torch")
    except (ImportError, ValueError):
        return None
    if spec is None or not spec.origin:
        return None
    text = read_text(os.path.join(os.path.dirname(spec.origin), "version.py")) or ""
    found = re.search(r"^__version__\s*=\s*['\"]([^'\"]+)", text, re.MULTILINE)
    return found.group(1) if found else "unknown"


def identity() -> Dict[str, Any]:
    """Return what the machine is; read once."""
    model = re.search(r"^(?:model name|Model|Hardware)\s*:\s*(.+)$", read_text("/proc/cpuinfo") or "", re.MULTILINE)
    board = read_text("/proc/device-tree/model")
    boot = read_text("/proc/sys/kernel/random/boot_id")
    return {
        "hostname": platform.node(),
        "machine": platform.machine(),
        "system": platform.system() + " " + platform.release(),
        "board": board.strip("\0\n ") if board else None,
        "cpu": model.group(1).strip() if model else None,
        "cpus": cpus(),
        "memory_bytes": total_bytes(),
        "boot_id": boot.strip() if boot else None,
        "clock": "CLOCK_MONOTONIC",
        "utc_ns": int(time.time() * 1e9),
    }


def cpus() -> int:
    """Return the number of processors this process may use."""
    try:
        return len(os.sched_getaffinity(0))
    except AttributeError:
        return os.cpu_count() or 1


def usage() -> Dict[str, float]:
    """Return this process's user and system time [s] and its context switches, so far."""
    now = resource.getrusage(resource.RUSAGE_SELF)
    return {
        "user_s": now.ru_utime,
        "system_s": now.ru_stime,
        "voluntary_switches": now.ru_nvcsw,
        "involuntary_switches": now.ru_nivcsw,
    }


def available_bytes() -> Optional[int]:
    """Return the memory that can still be had without swapping."""
    return field_bytes("/proc/meminfo", "MemAvailable")


def total_bytes() -> Optional[int]:
    """Return the machine's memory."""
    return field_bytes("/proc/meminfo", "MemTotal")


def is_tegra() -> bool:
    """Return whether the GPU shares the processors' memory, as on a Jetson."""
    return "tegra" in (read_text("/proc/device-tree/compatible") or "")


def rss_bytes() -> Optional[int]:
    """Return the resident memory of this process."""
    return field_bytes("/proc/self/status", "VmRSS")


def rss_peak_bytes() -> Optional[int]:
    """Return the highest resident memory since the start or the last `reset_rss_peak`."""
    return field_bytes("/proc/self/status", "VmHWM")


def reset_rss_peak() -> bool:
    """Start the peak anew (writing 5 to clear_refs); False where the kernel does not let us."""
    try:
        with open("/proc/self/clear_refs", "w", encoding="ascii") as file:
            file.write("5")
    except OSError:
        return False
    return True


_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3  # glibc, malloc.h


def steady_allocator() -> bool:
    """Fix glibc's allocation thresholds where they end up anyway in a long-lived process; False elsewhere.

    Left alone they rise with what was freed before, so that a network's time depends on which ones ran earlier:
    until then every batch hands its buffers back to the kernel and faults them in again.
    """
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (OSError, AttributeError):
        return False
    return bool(mallopt(_M_MMAP_THRESHOLD, 32 << 20) and mallopt(_M_TRIM_THRESHOLD, 0x7FFFFFFF))


def trim_memory() -> None:
    """Give freed memory back to the kernel, so that one network's peak does not hold another's leavings."""
    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL(None).malloc_trim(0)


@contextlib.contextmanager
def memory_guard(reserve_bytes: int = 64 * 1024 * 1024) -> Iterator[None]:
    """Make an allocation beyond the memory that is left fail, where the kernel would kill the process for it."""
    free = available_bytes()
    mapped = field_bytes("/proc/self/status", "VmSize")
    soft, hard = resource.getrlimit(resource.RLIMIT_AS)
    if free is None or mapped is None:
        yield
        return
    limit = mapped + max(0, free - reserve_bytes)
    if hard != resource.RLIM_INFINITY:
        limit = min(limit, hard)
    resource.setrlimit(resource.RLIMIT_AS, (limit, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_AS, (soft, hard))
