"""Networks in torch on the board: loaded onto the device in a mode, and run batch by batch. Python 3.6, torch 1.10.

A mode that the device or the library lacks is refused in one line, never replaced by another.
"""

import contextlib
import importlib
import warnings
from typing import Any, Dict, List, NamedTuple, Optional, Tuple

import torch

from experiments.dut_runner import Runner
from experiments.networks import counting, sources
from experiments.networks.errors import RefusedError, is_out_of_memory, one_line
from experiments.networks.specs import Spec
from instruments.dut_protocol import Mode

_DTYPES = {"fp32": torch.float32, "fp16": torch.float16, "bf16": torch.bfloat16}
_CALIBRATION_IMAGES = 4
_BEFORE_CAPTURE = 3  # batches that a CUDA graph's libraries need to choose their kernels and buffers

LoadedModel = NamedTuple(
    "LoadedModel",
    [
        ("model", Any),  # on the device, in its number type and layout
        ("shape", Tuple[int, ...]),  # of one input
        ("weights", Any),
        ("size", Dict[str, int]),
        ("size_bytes", int),
        ("dtype", Any),  # of the input
        ("example_batch", Optional[int]),
        ("quantised", Optional[str]),
    ],
)


def check_mode(spec: Spec, mode: Mode, device: str) -> None:
    """Raise `RefusedError` for a mode that this kind of network or this device cannot have, as far as known before."""

    def refuse(reason: str) -> None:
        raise RefusedError("bad_request", "%s cannot run in mode %s: %s" % (spec.text, mode.label(), reason))

    if spec.kind == "export" and (mode.dtype != "fp32" or mode.channels_last):
        refuse("a torch.export file keeps the number type and layout that it was exported with")
    if spec.kind == "torchscript" and (mode.dtype == "int8" or mode.compile):
        refuse("a TorchScript file is compiled, and quantised, before it is saved")
    if mode.cuda_graphs and device != "cuda":
        refuse("CUDA graphs need a CUDA device, and this is %s" % device)
    if mode.compile and not hasattr(torch, "compile"):
        refuse("torch %s has no torch.compile, which came with 2.0" % torch.__version__)
    if mode.dtype == "int8" and device != "cpu":
        refuse("torch has int8 kernels for the CPU only")
    if mode.dtype == "int8" and mode.compile:
        refuse("a network that was quantised layer by layer is not compiled")
    if mode.dtype == "bf16" and device == "cuda" and not _has_bf16():
        refuse("%s has no bf16" % torch.cuda.get_device_name())


def _has_bf16() -> bool:
    try:
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    except TypeError:  # older torch, which knows no emulation
        return bool(torch.cuda.is_bf16_supported())


def load(spec: Spec, weights: str, seed: int, device: str, mode: Mode) -> LoadedModel:
    """Load a network onto the device in the mode's number type and layout, and count it. Raises `RefusedError`."""
    found = sources.load(spec, weights, seed)
    model = _to_device(spec, found.model, device)
    dtype = found.dtype  # of the input, where a file fixes it
    if dtype is None:
        dtype = _DTYPES.get(mode.dtype, torch.float32)
        model = model.to(dtype)
    if mode.channels_last:
        if len(found.shape) != 3:
            raise RefusedError("bad_request", "%s: channels_last is for inputs of CxHxW" % spec.text)
        model = model.to(memory_format=torch.channels_last)
    images = inputs((found.batch or 1,) + found.shape, seed, device, dtype, mode.channels_last)
    size = counting.size_of(spec, model, images, _in_words(mode))
    size_bytes = sum(parameter.numel() * parameter.element_size() for parameter in model.parameters())
    quantised = None
    if mode.dtype == "int8":
        images = inputs((_CALIBRATION_IMAGES,) + found.shape, seed, device, dtype, mode.channels_last)
        with counting.explained(spec, images):
            model, quantised = quantise(spec, model, images)
        size_bytes //= 4
    return LoadedModel(model, found.shape, found.weights, size, size_bytes, dtype, found.batch, quantised)


def inputs(shape: Tuple[int, ...], seed: int, device: str, dtype: Any, channels_last: bool = False) -> Any:
    """Return N(0, 1) numbers from `seed` on the device, the same on every device."""
    images = torch.randn(shape, generator=torch.Generator().manual_seed(seed)).to(device=device, dtype=dtype)
    return images.contiguous(memory_format=torch.channels_last) if channels_last else images


def _in_words(mode: Mode) -> str:
    return "" if mode.dtype in ("fp32", "int8") else " in " + mode.dtype


def _to_device(spec: Spec, model: Any, device: str) -> Any:
    if device == "cuda":  # fp32 means fp32: convolutions would be rounded to TF32's 10 bits where the GPU has it
        torch.backends.cudnn.allow_tf32 = torch.backends.cuda.matmul.allow_tf32 = False
    if spec.kind != "export" or device == "cpu":
        return model.to(device)
    raise RefusedError(
        "bad_request", "%s was exported for the CPU: run it with --device cpu, or its factory on the GPU" % spec.text
    )


def quantise(spec: Spec, model: Any, images: Any) -> Tuple[Any, str]:
    """Quantise weights and activations to int8 after a look at `images`; only linear layers where that fails.

    Returns the network and what was done. Uses torch's own quantisation for the CPU, with the engine that it has.
    """
    engines = torch.backends.quantized.supported_engines
    engine = next((name for name in ("x86", "fbgemm", "onednn", "qnnpack") if name in engines), None)
    if engine is None:
        raise RefusedError("bad_request", "%s: this torch was built without int8 kernels" % spec.text)
    torch.backends.quantized.engine = engine
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            static = _static(model, images, engine)
        except ImportError:
            text = "%s: torch %s has no quantisation of its own: quantise the network first, and give its file"
            raise RefusedError("bad_request", text % (spec.text, torch.__version__)) from None
        except Exception as error:  # what cannot be traced, mostly: control flow in Python
            if is_out_of_memory(error):
                raise
            static, reason = None, one_line(error, 120)
        if static is not None and _quantised_layers(static):
            return static, "static, %s" % engine
        quantisation = getattr(torch, "ao", torch).quantization
        dynamic = quantisation.quantize_dynamic(model, {torch.nn.Linear}, dtype=torch.qint8)
    if not _quantised_layers(dynamic):
        why = reason if static is None else "it has no layer that torch can quantise"
        raise RefusedError("bad_request", "%s cannot run in int8: %s" % (spec.text, why))
    return dynamic, "dynamic, linear layers only, %s" % engine


def _static(model: Any, images: Any, engine: str) -> Any:
    try:
        from torch.ao.quantization import get_default_qconfig_mapping
        from torch.ao.quantization.quantize_fx import convert_fx, prepare_fx

        prepared = prepare_fx(model, get_default_qconfig_mapping(engine), (images,))
    except ImportError:  # before torch 1.13
        old: Any = importlib.import_module("torch.quantization")
        fx: Any = importlib.import_module("torch.quantization.quantize_fx")
        prepared, convert_fx = fx.prepare_fx(model, {"": old.get_default_qconfig(engine)}), fx.convert_fx
    with torch.no_grad():
        prepared(images)
    return convert_fx(prepared)


def _quantised_layers(model: Any) -> List[str]:
    return [name for name, layer in model.named_modules() if ".quantized" in type(layer).__module__]


class TorchRunner(Runner):
    """A network on N(0, 1) inputs from a seeded generator, in evaluation mode, without gradients.

    Made with its first batches run: what compiles, compiles then. Each `run` waits for the device at its end, so that
    a marker's edge after it comes when the batch is really done.
    """

    def __init__(
        self, spec: Spec, batch: int, seed: int, loaded: LoadedModel, mode: Mode, device: str, cached: bool
    ) -> None:
        self.name, self.batch, self.device = spec.text, batch, device
        self.threads = torch.get_num_threads()
        self.weights_bytes = loaded.size_bytes
        self._loaded, self._mode, self._cached = loaded, mode, cached
        self._input = inputs((batch,) + loaded.shape, seed, device, loaded.dtype, mode.channels_last)
        self._model = loaded.model
        self._graph: Any = None
        self._output: Any = None
        self._wait = torch.cuda.synchronize if device == "cuda" else None
        hint = ""
        if loaded.example_batch not in (None, batch):
            hint = " (it was exported with batches of %d)" % loaded.example_batch
        with self.session():
            with counting.explained(spec, self._input, _in_words(mode), hint):
                self.run()
            if mode.compile:
                # One cache of compiled code serves all networks, and past its limit they run uncompiled.
                compiler: Any = getattr(torch, "compiler", None) or importlib.import_module("torch._dynamo")
                compiler.reset()
                self._model = torch.compile(self._model, dynamic=False)
                with counting.explained(spec, self._input, " with torch.compile"):
                    self.run()
            if mode.cuda_graphs:
                with counting.explained(spec, self._input, " in a CUDA graph"):
                    self._capture()

    def session(self) -> Any:
        stack = contextlib.ExitStack()
        stack.enter_context(getattr(torch, "inference_mode", torch.no_grad)())
        if self._wait is not None:
            self._wait()
        return stack

    def run(self) -> None:
        if self._graph is not None:
            self._graph.replay()
        else:
            self._output = self._model(self._input)
        if self._wait is not None:
            self._wait()

    def _capture(self) -> None:
        """Record one batch as a CUDA graph, after some on a stream of its own; replays use the same memory."""
        new_stream: Any = torch.cuda.Stream  # without types in torch
        aside = new_stream()
        aside.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(aside):
            for _ in range(_BEFORE_CAPTURE):
                self._model(self._input)
        torch.cuda.current_stream().wait_stream(aside)
        torch.cuda.reset_peak_memory_stats()  # replays allocate nothing: the peak is that of the capture
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph):
            self._output = self._model(self._input)
        self._graph = graph
        self.run()

    def check_output(self) -> None:
        for tensor in _tensors(self._output):
            if tensor.is_floating_point() and not bool(torch.isfinite(tensor).all()):
                hint = ": fp16 ends at 65504, try bf16" if self._mode.dtype == "fp16" else ""
                raise RefusedError("failed", "%s gives numbers that are not finite%s" % (self.name, hint))

    def facts(self) -> Dict[str, Any]:
        loaded = self._loaded
        facts: Dict[str, Any] = {
            "cached": self._cached,
            "input": list(loaded.shape),
            "mode": self._mode._replace(dtype=self._dtype()).as_json(),
            "weights": loaded.weights,
            "size": loaded.size,
        }
        if loaded.quantised is not None:
            facts["quantised"] = loaded.quantised
        if self.device == "cuda":
            facts["device_name"] = torch.cuda.get_device_name()
        return facts

    def _dtype(self) -> str:
        """Return the number type as run: a file of torch.export has its own."""
        given = [name for name, dtype in _DTYPES.items() if dtype is self._loaded.dtype]
        return given[0] if given and self._mode.dtype != "int8" else self._mode.dtype

    def close(self) -> None:
        self._graph = self._output = None


def _tensors(output: Any) -> List[Any]:
    """Return all tensors of an output, which may be nested in lists, tuples and dictionaries."""
    if isinstance(output, torch.Tensor):
        return [output]
    if isinstance(output, dict):
        output = list(output.values())
    if isinstance(output, (list, tuple)):
        return [tensor for part in output for tensor in _tensors(part)]
    return []
