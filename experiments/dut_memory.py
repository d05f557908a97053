"""How much memory a network takes on the board, by kind. Python 3.6; torch where the agent has loaded it.

- process_peak_rss: most that was resident of the agent's process, less the weights of other networks it keeps;
- system_used_net: most by which the machine's available memory fell below what it was without the network;
- allocator_peak: most that torch had given out on the GPU, less what it had given out for anything else before;
- allocator_reserved: what torch had taken from the driver; device_used: what the driver says is in use, by anybody.

A kind that cannot be known here is absent, never 0.
"""

import gc
import sys
import threading
from typing import Any, Callable, Dict, Optional

from experiments import dut_host

KINDS = ("process_peak_rss", "allocator_peak", "allocator_reserved", "device_used", "system_used_net")

_POLL_S = 0.001
_SWITCH_S = 0.0002  # a network that is busy in Python lets the poller in only so often, several times a look


class MemoryWatch:
    """The memory of one network: make it before the network is loaded, and tell it what happens.

    Available memory has no high-water mark: it is polled during the first batch of the warm-up, which
    counts for nothing else, and read after the warm-up and after each run.
    """

    def __init__(self, device: str, torch: Any, kept_bytes: int) -> None:
        """`kept_bytes`: weights of the networks in memory. Frees what nobody uses any more, and takes the baseline."""
        self._cuda = torch.cuda if device == "cuda" and torch is not None and torch.cuda.is_available() else None
        self._kept_bytes = kept_bytes
        self._others_bytes = 0
        self._host_freed_bytes = 0
        self._peaks: Dict[str, int] = {}
        self.context: Dict[str, Any] = {}
        """How the figures were come by."""
        gc.collect()
        if self._cuda is not None:
            self._cuda.empty_cache()
        dut_host.trim_memory()
        self._allocated_bytes = self._cuda.memory_allocated() if self._cuda is not None else 0
        self._available_bytes = dut_host.available_bytes()
        self._shared = self._cuda is None or dut_host.is_tegra()
        self._lowest_bytes: Optional[int] = None
        self._highest_rss: Optional[int] = None
        self._reset = False

    def loaded(self, kept_bytes: int, own_bytes: int, captured: bool = False) -> None:
        """Start the peaks anew, the network being loaded: weights in memory now, and how much of them are its own.

        `captured` says that a CUDA graph holds the batch: replays allocate nothing, its peak was when it was captured.
        """
        self._others_bytes = kept_bytes - own_bytes
        # What was in memory before and is now either gone or this network's own was no part of its baseline.
        freed = self._kept_bytes - self._others_bytes
        self._allocated_bytes -= freed if self._cuda is not None else 0
        self._host_freed_bytes = freed if self._shared else 0
        dut_host.trim_memory()
        self._reset = dut_host.reset_rss_peak()
        if self._cuda is not None and not captured:
            self._cuda.reset_peak_memory_stats()
        self.context = {
            "process_peak": "reset before the warm-up" if self._reset else "polled during the first batch",
            "other_networks_bytes": self._others_bytes,
        }

    def first(self, run: Callable[[], None]) -> None:
        """Run a batch while the memory is polled."""
        stop = threading.Event()
        poller = threading.Thread(target=self._poll, args=(stop,))
        poller.daemon = True
        usual_s = sys.getswitchinterval()
        sys.setswitchinterval(_SWITCH_S)
        poller.start()
        try:
            run()
        finally:
            stop.set()
            poller.join()
            sys.setswitchinterval(usual_s)

    def _poll(self, stop: threading.Event) -> None:
        while True:
            self._look()
            if stop.wait(_POLL_S):
                return

    def _look(self) -> None:
        available = dut_host.available_bytes()
        if available is not None and (self._lowest_bytes is None or available < self._lowest_bytes):
            self._lowest_bytes = available
        if not self._reset:
            resident = dut_host.rss_bytes()
            if resident is not None and (self._highest_rss is None or resident > self._highest_rss):
                self._highest_rss = resident

    def note(self) -> Dict[str, int]:
        """Return bytes by kind, the highest of all calls so far."""
        self._look()
        now: Dict[str, Optional[int]] = {}
        peak = dut_host.rss_peak_bytes() if self._reset else self._highest_rss
        if peak is not None:
            now["process_peak_rss"] = peak - (self._others_bytes if self._cuda is None else 0)
        if self._available_bytes is not None and self._lowest_bytes is not None:
            # Where others freed more meanwhile than the network took, nothing is known of it.
            now["system_used_net"] = self._available_bytes + self._host_freed_bytes - self._lowest_bytes
        if self._cuda is not None:
            now["allocator_peak"] = self._cuda.max_memory_allocated() - self._allocated_bytes
            now["allocator_reserved"] = self._cuda.max_memory_reserved()
            now["device_used"] = _device_used(self._cuda)
        for kind, value in now.items():
            if value is not None and value > 0:
                self._peaks[kind] = max(value, self._peaks.get(kind, 0))
        return dict(self._peaks)


def _device_used(cuda: Any) -> Optional[int]:
    if not hasattr(cuda, "mem_get_info"):  # torch 1.11
        return None
    free, total = cuda.mem_get_info()
    return int(total) - int(free)
