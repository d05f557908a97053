"""What the agent runs: networks in torch or onnxruntime, programs that speak for themselves, or a spin of known length.

Python 3.6 and torch 1.10. torch is imported when the first network is asked for.
"""

import contextlib
import gc
import os
import sys
import time
from collections import OrderedDict
from typing import Any, Callable, Dict, List, NamedTuple, Optional, Tuple

from experiments import dut_host, networks
from experiments.networks import specs
from experiments.networks.errors import RefusedError, SpecError, is_out_of_memory
from experiments.networks.specs import Spec
from instruments.dut_protocol import Mode
from instruments.marker_line import monotonic_ns

__all__ = ["MAX_BATCH", "BusyRunner", "Order", "RefusedError", "Runner", "Workshop", "is_out_of_memory"]

MAX_BATCH = 65536
DEFAULT_MODE = Mode()

Order = NamedTuple(
    "Order",
    [
        ("spec", Spec),
        ("batch", int),
        ("seed", int),
        ("threads", int),  # 0 leaves the library's choice
        ("device", str),  # auto, cpu or cuda
        ("mode", Mode),
        ("weights", str),  # random, torchvision or a file
    ],
)


class Runner:
    """One network at one batch size. `run` does one batch, to the end of the device's work."""

    name = ""
    batch = 0
    threads = 1
    device = "cpu"
    weights_bytes = 0
    """Bytes of its weights among `Workshop.cached_bytes`."""

    def run(self) -> None:
        """Run one batch."""
        raise NotImplementedError

    def session(self) -> Any:
        """Return the context in which batches are run; entering it waits for work that still goes on."""
        return contextlib.ExitStack()

    def check_output(self) -> None:
        """Raise `RefusedError` unless the last batch gave finite numbers: NaN and Inf falsify time and power."""

    def facts(self) -> Dict[str, Any]:
        """Return what is known of the network, for the READY message: size, mode, weights and more."""
        return {}

    def memory(self) -> Dict[str, int]:
        """Return peaks in bytes, by the kinds of `dut_memory`, that are not those of the agent's own process."""
        return {}

    def close(self) -> None:
        """End what belongs to this runner alone. May be called again."""

    def tell_rests(self, resting: Callable[[bool], None]) -> None:
        """Have `resting` called with True when a batch begins to rest, and with False when the rest ends."""


class BusyRunner(Runner):
    """Spins for a known time a batch, whatever the batch size, and may rest for one: checks the bench without torch."""

    def __init__(self, name: str, batch: int, duration_ms: float, rest_ms: float = 0.0) -> None:
        self.name = name
        self.batch = batch
        self._duration_ns = int(duration_ms * 1e6)
        self._rest_ns = int(rest_ms * 1e6)
        self._resting: Callable[[bool], Any] = bool

    def tell_rests(self, resting: Callable[[bool], None]) -> None:
        self._resting = resting

    def run(self) -> None:
        clock_ns = monotonic_ns
        end = clock_ns() + self._duration_ns
        while clock_ns() < end:
            pass
        if self._rest_ns:
            self._resting(True)
            try:
                time.sleep(max(0, end + self._rest_ns - clock_ns()) * 1e-9)
            finally:
                self._resting(False)


def spec_of(text: str) -> Spec:
    """Read a network's spec; raises `RefusedError` where it is none."""
    try:
        return specs.parse(text)
    except SpecError as error:
        raise RefusedError("unknown_network", str(error)) from None


class Workshop:
    """Makes runners, and keeps loaded networks up to `cache_bytes` of parameters (least recently used go first).

    `cache_bytes` None means a quarter of the machine's memory.
    """

    def __init__(self, cache_bytes: Optional[int] = None) -> None:
        if cache_bytes is None:
            cache_bytes = (dut_host.total_bytes() or 4 << 30) // 4
        self._cache_bytes = cache_bytes
        self._models: Dict[Tuple[Any, ...], Any] = OrderedDict()
        self._default_threads = 0

    def names(self) -> List[str]:
        """Return what can be asked for."""
        return [*networks.NETWORKS, *specs.FOREIGN, specs.BUSY]

    def cached_bytes(self) -> int:
        """Return the parameters' bytes of all networks in memory, the one in use included."""
        return sum(loaded.size_bytes for loaded in self._models.values())

    def device(self, order: Order) -> str:
        """Return the device, "cpu" or "cuda", that "auto" stands for; a named one is taken or refused.

        A program's device is "program": it is its own affair.
        """
        kind = order.spec.kind
        if kind in ("busy", "command"):
            if order.device == "cuda" and kind == "busy":
                raise RefusedError("bad_request", "%s runs on the CPU only" % order.spec.text)
            return "cpu" if kind == "busy" else "program"
        if kind == "onnx":
            from experiments import dut_onnx

            return dut_onnx.device(order.device)
        torch = self._torch()
        if order.device == "auto":
            return "cuda" if torch.cuda.is_available() else "cpu"
        if order.device == "cuda" and not torch.cuda.is_available():
            raise RefusedError("bad_request", "torch %s finds no CUDA device here" % torch.__version__)
        return order.device

    def make(self, order: Order, device: str) -> Runner:
        """Return a runner that has run at least once. Raises `RefusedError`, and what torch raises without memory."""
        spec = order.spec
        if spec.kind in ("busy", "command", "onnx"):
            _require_plain(order)
        if spec.kind == "busy":
            return BusyRunner(spec.text, order.batch, *(float(part) for part in spec.target.split(":")))
        if spec.kind == "command":
            from experiments.dut_command import CommandRunner

            return CommandRunner(spec, order.batch, order.threads)
        if spec.kind == "onnx":
            from experiments.dut_onnx import OnnxRunner

            return OnnxRunner(spec, order.batch, order.seed, order.threads, device)
        return self._torch_runner(order, device)

    def _torch_runner(self, order: Order, device: str) -> Runner:
        torch = self._torch()
        from experiments import dut_torch

        torch.set_num_threads(order.threads or self._default_threads)
        dut_torch.check_mode(order.spec, order.mode, device)
        shape = order.spec.shape
        if shape is None and order.spec.kind == "ours":
            shape = (3,) + 2 * (networks.get(order.spec.target).input_px,)
        if shape is not None:
            self._check_memory(order.batch, shape)
        # What changes the weights in memory is part of the key; what compiles or captures is made anew each time.
        layout = (order.mode.dtype, order.mode.channels_last)
        key = (order.spec, order.weights, _stamp(order), order.seed, device, *layout)
        cached = key in self._models
        if cached:
            self._models[key] = self._models.pop(key)
        else:
            self._models[key] = dut_torch.load(order.spec, order.weights, order.seed, device, order.mode)
        loaded = self._models[key]
        while len(self._models) > 1 and self.cached_bytes() > self._cache_bytes:
            del self._models[next(iter(self._models))]
        self._check_memory(order.batch, loaded.shape)
        return dut_torch.TorchRunner(order.spec, order.batch, order.seed, loaded, order.mode, device, cached)

    def _torch(self) -> Any:
        try:
            import torch
        except ImportError as error:
            raise RefusedError("failed", "torch cannot be imported on the DUT: %s" % error) from None
        if not self._default_threads:
            self._default_threads = torch.get_num_threads()
        return torch

    @staticmethod
    def _check_memory(batch: int, shape: Tuple[int, ...]) -> None:
        input_bytes = 4 * batch
        for size in shape:
            input_bytes *= size
        free = dut_host.available_bytes()
        if free is not None and 2 * input_bytes > free:
            raise RefusedError(
                "out_of_memory", "the input alone takes %d MB and %d MB are free" % (input_bytes >> 20, free >> 20)
            )

    def forget(self) -> None:
        """Drop all networks, to have their memory back."""
        self._models.clear()
        gc.collect()
        torch = sys.modules.get("torch")
        if torch is not None and torch.cuda.is_initialized():
            torch.cuda.empty_cache()


def _require_plain(order: Order) -> None:
    """Refuse a mode or weights for what has its own."""
    kind = order.spec.kind
    name = order.spec.text if kind != "command" else "a program"
    how = {
        "busy": "it only keeps the processor busy",
        "command": "give them to the program as arguments",
        "onnx": "an ONNX file is run as it was exported",
    }[kind]
    if order.mode != DEFAULT_MODE:
        raise RefusedError("bad_request", "%s takes no mode (%s was asked for): %s" % (name, order.mode.label(), how))
    if order.weights != "random":
        raise RefusedError("bad_request", "%s takes no --weights: %s" % (name, how))


def _stamp(order: Order) -> Tuple[Any, ...]:
    """Return what tells a changed file of a network or of weights from the one that was loaded before."""
    paths = [order.weights] if order.weights not in ("random", "torchvision") else []
    if order.spec.kind in ("torchscript", "export"):
        paths.append(order.spec.target)
    stamps = []
    for path in paths:
        try:
            found = os.stat(path)
        except OSError as error:
            text = "%s cannot be read on the device: %s" % (path, error.strerror)
            raise RefusedError("bad_request", text) from None
        stamps.append((found.st_mtime, found.st_size, found.st_ino))
    return tuple(stamps)
