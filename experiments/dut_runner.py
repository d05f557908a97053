"""What the agent runs: networks in torch, or a spin of known length.

Python 3.6 and torch 1.10. torch is imported when the first network is asked for.
"""

import contextlib
import gc
import math
from collections import OrderedDict
from typing import Any, Dict, List, Optional, Tuple

from experiments import dut_host, networks
from instruments.marker_line import monotonic_ns

BUSY = "busy:MILLISECONDS"
MAX_BATCH = 65536


class RefusedError(Exception):
    """What was asked cannot be done; `code` is one of `dut_protocol.REFUSALS`."""

    def __init__(self, code: str, reason: str) -> None:
        Exception.__init__(self, reason)
        self.code = code


class Runner:
    """One network at one batch size. `run` does one batch, to the end of the device's work."""

    name = ""
    batch = 0
    threads = 1
    device = "cpu"

    def run(self) -> None:
        """Run one batch."""
        raise NotImplementedError

    def session(self) -> Any:
        """Return the context in which batches are run."""
        return contextlib.ExitStack()

    def check_output(self) -> None:
        """Raise `RefusedError` unless the last batch gave finite numbers: NaN and Inf falsify time and power."""

    def reset_memory(self) -> None:
        """Start the peaks of `memory` anew."""

    def memory(self) -> Dict[str, Any]:
        """Return memory facts of this kind of runner, by their kind's name."""
        return {}


class BusyRunner(Runner):
    """Spins for a known time a batch, whatever the batch size: checks the bench without torch."""

    def __init__(self, name: str, batch: int) -> None:
        try:
            duration_ms = float(name.partition(":")[2])
        except ValueError:
            duration_ms = math.nan
        if not 0 < duration_ms <= 60000:
            raise RefusedError("unknown_network", "%r: write %s, above 0 and up to 60000" % (name, BUSY))
        self.name = name.lower()
        self.batch = batch
        self._duration_ns = int(duration_ms * 1e6)

    def run(self) -> None:
        clock_ns = monotonic_ns
        end = clock_ns() + self._duration_ns
        while clock_ns() < end:
            pass


class TorchRunner(Runner):
    """A network on N(0, 1) inputs from a seeded generator, in evaluation mode, without gradients."""

    def __init__(self, model: Any, name: str, shape: List[int], seed: int, device: str) -> None:
        import torch

        self._torch = torch
        self.name, self.batch, self.device = name, shape[0], device
        generator = torch.Generator().manual_seed(seed)
        self._model = model
        self._input = torch.randn(shape, generator=generator).to(device)
        self._output: Any = None
        self._wait = torch.cuda.synchronize if device == "cuda" else None
        self.threads = torch.get_num_threads()

    def session(self) -> Any:
        return getattr(self._torch, "inference_mode", self._torch.no_grad)()

    def run(self) -> None:
        self._output = self._model(self._input)
        if self._wait is not None:
            self._wait()

    def check_output(self) -> None:
        if not bool(self._torch.isfinite(self._output).all()):
            raise RefusedError("failed", "%s gives numbers that are not finite" % self.name)

    def reset_memory(self) -> None:
        if self.device == "cuda":
            self._torch.cuda.reset_peak_memory_stats()

    def memory(self) -> Dict[str, Any]:
        if self.device != "cuda":
            return {}
        return {
            "cuda_allocated_peak_bytes": self._torch.cuda.max_memory_allocated(),
            "cuda_reserved_peak_bytes": self._torch.cuda.max_memory_reserved(),
        }


def _is_busy(name: str) -> bool:
    return name.strip().lower().partition(":")[0] == "busy"


def _find(name: str) -> networks.Network:
    try:
        return networks.get(name)
    except networks.UnknownNetworkError as error:
        raise RefusedError("unknown_network", "%s, or %s" % (error.args[0], BUSY)) from None


class Workshop:
    """Makes runners, and keeps loaded networks up to `cache_bytes` of parameters (least recently used go first).

    `cache_bytes` None means a quarter of the machine's memory.
    """

    def __init__(self, cache_bytes: Optional[int] = None) -> None:
        if cache_bytes is None:
            cache_bytes = (dut_host.total_bytes() or 4 << 30) // 4
        self._cache_bytes = cache_bytes
        self._models: Dict[Tuple[str, int, str], Tuple[Any, int]] = OrderedDict()
        self._baseline_rss_bytes = dut_host.rss_bytes()
        self._default_threads = 0

    def names(self) -> List[str]:
        """Return what can be asked for."""
        return [*networks.NETWORKS, BUSY]

    def cached_bytes(self) -> int:
        """Return the parameters' bytes of all networks in memory, the one in use included."""
        return sum(size for _, size in self._models.values())

    def device(self, name: str, device: str) -> str:
        """Return the device, "cpu" or "cuda", that "auto" stands for; a named one is taken or refused."""
        if _is_busy(name):
            return "cpu"
        torch = self._torch()
        if device == "auto":
            return "cuda" if torch.cuda.is_available() else "cpu"
        if device == "cuda" and not torch.cuda.is_available():
            raise RefusedError("bad_request", "torch %s finds no CUDA device here" % torch.__version__)
        return device

    def make(self, name: str, batch: int, seed: int, threads: int, device: str) -> Tuple[Runner, bool]:
        """Return the runner and whether its network was loaded before. Raises `RefusedError`."""
        if _is_busy(name):
            return BusyRunner(name, batch), False
        network = _find(name)
        torch = self._torch()
        shape = [batch, 3, network.input_px, network.input_px]
        self._check_memory(4 * batch * 3 * network.input_px**2)
        torch.set_num_threads(threads or self._default_threads)
        model, cached = self._model(torch, network.name, seed, device)
        return TorchRunner(model, network.name, shape, seed, device), cached

    def _torch(self) -> Any:
        try:
            import torch
        except ImportError as error:
            raise RefusedError("failed", "torch cannot be imported on the DUT: %s" % error) from None
        if not self._default_threads:
            self._default_threads = torch.get_num_threads()
            self._baseline_rss_bytes = dut_host.rss_bytes()
        return torch

    @staticmethod
    def _check_memory(input_bytes: int) -> None:
        free = dut_host.available_bytes()
        if free is not None and 2 * input_bytes > free:
            raise RefusedError(
                "out_of_memory", "the input alone takes %d MB and %d MB are free" % (input_bytes >> 20, free >> 20)
            )

    def _model(self, torch: Any, name: str, seed: int, device: str) -> Tuple[Any, bool]:
        key = (name, seed, device)
        if key in self._models:
            self._models[key] = self._models.pop(key)
            return self._models[key][0], True
        torch.manual_seed(seed)
        model = networks.build(name).eval().to(device)
        for parameter in model.parameters():
            parameter.requires_grad_(False)
        size = sum(parameter.numel() * parameter.element_size() for parameter in model.parameters())
        self._models[key] = (model, size)
        while len(self._models) > 1 and self.cached_bytes() > self._cache_bytes:
            del self._models[next(iter(self._models))]
        return model, False

    def memory(self, runner: Runner, peak_reset: bool) -> Dict[str, Any]:
        """Return memory facts by kind, in bytes; None where it cannot be known.

        The peak is that since the warm-up began if `peak_reset`, else since the agent's start. The baseline is this
        process with its libraries loaded and no network; the peak holds every cached network, not only the one in use.
        """
        facts: Dict[str, Any] = {
            "process_rss_peak_bytes": dut_host.rss_peak_bytes(),
            "process_rss_baseline_bytes": self._baseline_rss_bytes,
            "cached_models_bytes": self.cached_bytes(),
            "peak_reset": peak_reset,
        }
        facts.update(runner.memory())
        return facts

    def forget(self) -> None:
        """Drop all networks, to have their memory back."""
        self._models.clear()
        gc.collect()


def is_out_of_memory(error: BaseException) -> bool:
    """Whether torch or Python ran out of memory: torch says so in the text of a RuntimeError only."""
    if isinstance(error, MemoryError):
        return True
    text = str(error).lower()
    return isinstance(error, RuntimeError) and any(
        mark in text for mark in ("out of memory", "can't allocate memory", "bad_alloc", "could not create a memory")
    )
