"""ONNX files on the board, through onnxruntime where it is installed. Python 3.6.

A file is run as it was exported: its number types and its fixed batch, if it has one, are its own.
"""

import importlib
from typing import Any, Dict, Tuple

from experiments.dut_runner import Runner
from experiments.networks import weights as weights_of
from experiments.networks.errors import RefusedError, is_out_of_memory, one_line
from experiments.networks.specs import USUAL_SHAPE, Spec

_PROVIDERS = {"cpu": "CPUExecutionProvider", "cuda": "CUDAExecutionProvider"}
_NUMPY_TYPES = {"tensor(float)": "float32", "tensor(float16)": "float16", "tensor(double)": "float64"}
_QUIET = 3  # errors only


def _library() -> Any:
    try:
        return importlib.import_module("onnxruntime")
    except ImportError as error:
        raise RefusedError("unknown_network", "onnxruntime cannot be imported on the DUT: %s" % error) from None


def device(asked: str) -> str:
    """Return the device, "cpu" or "cuda", that "auto" stands for; raises `RefusedError` where there is none."""
    has_cuda = _PROVIDERS["cuda"] in _library().get_available_providers()
    if asked == "cuda" and not has_cuda:
        raise RefusedError("bad_request", "this onnxruntime has no CUDA: it needs onnxruntime-gpu")
    return "cuda" if has_cuda and asked != "cpu" else "cpu"


class OnnxRunner(Runner):
    """One file on N(0, 1) inputs; its inputs and outputs stay on the device. Made with its first batch run."""

    def __init__(self, spec: Spec, batch: int, seed: int, threads: int, device: str) -> None:
        library = _library()
        import numpy

        self.name, self.batch, self.device, self.threads = spec.text, batch, device, threads
        self._weights = {"source": spec.target, "sha256": weights_of.file_sha256(spec.target)}
        options = library.SessionOptions()
        options.log_severity_level = _QUIET
        options.intra_op_num_threads = threads
        try:
            self._session = library.InferenceSession(spec.target, options, providers=[_PROVIDERS[device]])
        except Exception as error:
            if is_out_of_memory(error):
                raise
            text = "%s cannot be loaded by onnxruntime: %s"
            raise RefusedError("bad_request", text % (spec.target, one_line(error, 160))) from None
        if self._session.get_providers()[0] != _PROVIDERS[device]:
            text = "onnxruntime fell back from %s to the CPU: are its CUDA libraries there?"
            raise RefusedError("failed", text % _PROVIDERS[device])
        self._input_type, self._shape = self._one_input(spec)
        images = numpy.random.RandomState(seed & 0xFFFFFFFF).standard_normal((batch,) + self._shape)
        value = library.OrtValue.ortvalue_from_numpy(images.astype(_NUMPY_TYPES[self._input_type]), device, 0)
        self._binding = self._session.io_binding()
        self._binding.bind_ortvalue_input(self._session.get_inputs()[0].name, value)
        for output in self._session.get_outputs():
            self._binding.bind_output(output.name, device, 0)
        try:
            self.run()
        except Exception as error:
            if is_out_of_memory(error):
                raise
            size = "x".join(map(str, (batch,) + self._shape))
            text = "%s does not run on an input of %s: %s"
            raise RefusedError("failed", text % (spec.text, size, one_line(error))) from error

    def _one_input(self, spec: Spec) -> Tuple[str, Tuple[int, ...]]:
        """Return the type and shape of the network's only input."""
        inputs = self._session.get_inputs()
        if len(inputs) != 1:
            names = ", ".join(each.name for each in inputs) or "none"
            raise RefusedError("bad_request", "%s takes %d inputs (%s), not one" % (spec.target, len(inputs), names))
        kind, fixed = inputs[0].type, list(inputs[0].shape)
        if kind not in _NUMPY_TYPES:
            raise RefusedError("bad_request", "%s takes a %s, not a tensor of floats" % (spec.target, kind))
        if fixed and isinstance(fixed[0], int) and fixed[0] != self.batch:
            text = "%s was exported for batches of %d, not %d"
            raise RefusedError("bad_request", text % (spec.target, fixed[0], self.batch))
        if spec.shape is not None:
            return kind, spec.shape
        known = fixed[1:] and all(isinstance(size, int) and size > 0 for size in fixed[1:])
        return kind, tuple(fixed[1:]) if known else USUAL_SHAPE

    def run(self) -> None:
        self._session.run_with_iobinding(self._binding)
        self._binding.synchronize_outputs()

    def check_output(self) -> None:
        import numpy

        for output in self._binding.copy_outputs_to_cpu():
            if numpy.issubdtype(output.dtype, numpy.floating) and not numpy.isfinite(output).all():
                raise RefusedError("failed", "%s gives numbers that are not finite" % self.name)

    def facts(self) -> Dict[str, Any]:
        return {"input": list(self._shape), "input_type": self._input_type, "weights": self._weights}
