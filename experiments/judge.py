"""A network as a judge of images: crops in, a score for each class out. Imports torch when one is loaded."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from experiments.networks import specs
from experiments.networks.errors import RefusedError, SpecError, is_out_of_memory, one_line
from instruments.errors import ConfigError
from instruments.wording import counted

Floats = NDArray[np.float32]
Judge = Callable[[Floats], Floats]
"""Crops (n, 3, height, width) to the network's answers (n, classes)."""


@dataclass(frozen=True)
class Network:
    """A network that is loaded: how it judges, what it takes and gives, and its weights' source."""

    name: str
    judge: Judge
    size_px: tuple[int, int]
    outputs: int
    weights: Any
    device: str


def load(name: str, weights: str, device: str) -> Network:
    """Load a network of any form that `--networks` takes and torch runs.

    Raises ConfigError, one line, for what is no such network, weights that do not fit, an input that it refuses.
    """
    try:
        spec = specs.parse(name)
    except SpecError as error:
        raise ConfigError(f"--network {error}") from error
    if spec.kind in ("busy", "command", "onnx"):
        raise ConfigError(f"--network {spec.text}: accuracy is measured of networks in torch")
    try:
        from experiments.networks import sources
    except ImportError as error:
        raise ConfigError(f"torch cannot be imported: {error}") from error
    device = _device(device)
    try:
        loaded = sources.load(spec, weights, 0)
    except RefusedError as error:
        raise ConfigError(f"--network {spec.text}: {error}") from error
    if len(loaded.shape) != 3 or loaded.shape[0] != 3:
        raise ConfigError(f"--network {spec.text} takes {'x'.join(map(str, loaded.shape))}, no image of 3 colours")
    judge = _judge(spec.text, loaded.model, loaded.dtype, device)
    try:
        answers = judge(np.zeros((1, *loaded.shape), np.float32))
    except (RuntimeError, TypeError, AttributeError, ValueError, IndexError) as error:
        shape = "x".join(map(str, loaded.shape))
        raise ConfigError(f"--network {spec.text} does not take an input of {shape}: {one_line(error)}") from error
    if answers.ndim != 2 or len(answers) != 1:
        raise ConfigError(f"--network {spec.text} gives {answers.shape}, not one row of classes for an image")
    source = loaded.weights
    if spec.kind == "factory" and source == "random":
        source = {"source": f"as {spec.text} makes them"}
    return Network(spec.text, judge, (loaded.shape[1], loaded.shape[2]), answers.shape[1], source, device)


def _device(device: str) -> str:
    import torch

    if device == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    if device == "cuda" and not torch.cuda.is_available():
        raise ConfigError(f"--device cuda: torch {torch.__version__} finds no CUDA device here")
    return device


def _judge(name: str, model: Any, dtype: Any, device: str) -> Judge:
    import torch

    def judge(crops: Floats) -> Floats:
        try:
            with torch.inference_mode():
                answers = placed(torch.from_numpy(crops).to(device, dtype or torch.float32))
        except Exception as error:
            if is_out_of_memory(error):
                raise ConfigError(
                    f"--network {name}: no memory for {counted(len(crops), 'crop')}: lower --batch"
                ) from error
            raise
        answers = answers[0] if isinstance(answers, tuple | list) else answers
        if answers.dim() > 2:
            answers = answers.flatten(1)
        if not bool(torch.isfinite(answers).all()):
            raise ConfigError(f"--network {name} gives numbers that are not finite: do its weights fit it?")
        return answers.float().cpu().numpy()  # type: ignore[no-any-return]

    placed = model.to(device)
    return judge
