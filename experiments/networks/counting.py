"""Counts of a network: parameters, multiply-accumulates, operations, and the 2016 torch-opCounter rule.

Counted from the layers' shapes while one image runs through the network; on torch's meta device where torch has it,
so that nothing is computed. A layer that no rule knows is an error, never a silent 0.
"""

import contextlib
from collections import namedtuple
from typing import Any, Callable, Dict, Iterator, Tuple

import torch
from torch import nn

from experiments import networks
from experiments.networks import macs
from experiments.networks.errors import RefusedError, is_out_of_memory, one_line
from experiments.networks.specs import Spec

Counts = namedtuple("Counts", ["parameters", "macs", "operations", "operations_opcounter2016", "activations"])
Counts.__doc__ = """What one image costs.

parameters: all learnt numbers. macs: multiply-accumulates of convolutions and linear layers. operations: 2 a MAC.
operations_opcounter2016: the rule that the paper's authors counted by (apaszke/torch-opCounter), with grouped
convolutions counted right: 2 a MAC, 1 a bias, 1 a ReLU or PReLU, the window's area an output of a pool, and 0 for
normalisation, dropout, joining and padding. Additions of branches are left out (0.1-0.2 % of a ResNet); see
docs/networks.md. activations: elements that layers write, in place or not; dropout and flattening,
which write nothing when a network is measured, do not count.
"""


class UnknownLayerError(TypeError):
    """A layer that no counting rule knows."""


def _weights_macs(layer: Any, output: torch.Tensor) -> int:
    """Each output element takes as many MACs as one output channel has weights."""
    return output.numel() * int(layer.weight.numel() // layer.weight.shape[0])


def _conv_like(layer: Any, output: torch.Tensor) -> Tuple[int, int]:
    macs = _weights_macs(layer, output)
    return macs, 2 * macs + (output.numel() if layer.bias is not None else 0)


def _relu(layer: Any, output: torch.Tensor) -> Tuple[int, int]:
    return 0, output.numel()


def _pool(layer: Any, output: torch.Tensor) -> Tuple[int, int]:
    size = layer.kernel_size
    rows, columns = size if isinstance(size, tuple) else (size, size)
    return 0, output.numel() * rows * columns


def _free(layer: Any, output: torch.Tensor) -> Tuple[int, int]:
    return 0, 0


Rule = Callable[[Any, torch.Tensor], Tuple[int, int]]

# Layer type -> rule giving (MACs, operations by torch-opCounter). A subclass needs an entry of its own. The counter
# of 2016 knew no LocalResponseNorm, PReLU or BatchNorm1d; counted like this the totals agree with the paper's plot.
RULES: Dict[type, Rule] = {
    nn.Conv2d: _conv_like,
    nn.Linear: _conv_like,
    nn.ReLU: _relu,
    nn.PReLU: _relu,
    nn.MaxPool2d: _pool,
    nn.AvgPool2d: _pool,
    nn.BatchNorm1d: _free,
    nn.BatchNorm2d: _free,
    nn.Dropout: _free,
    nn.Dropout2d: _free,
    nn.Flatten: _free,
    nn.LocalResponseNorm: _free,
}


WRITE_NOTHING = (nn.Dropout, nn.Dropout2d, nn.Flatten, nn.Identity)


def count(model: nn.Module, input_shape: Tuple[int, ...]) -> Counts:
    """Run one forward pass of `model` (shape without the batch) and count it, for one image.

    Raises `UnknownLayerError` for a layer without a rule, also when it does not run.
    """
    for layer in model.modules():
        if _is_leaf(layer) and type(layer) not in RULES:
            raise UnknownLayerError(
                "no counting rule for %s: add one to experiments.networks.counting.RULES" % type(layer).__name__
            )
    totals = [0, 0, 0]

    def on_forward(layer: nn.Module, _: Any, output: torch.Tensor) -> None:
        macs, operations = RULES[type(layer)](layer, output)
        totals[0] += macs
        totals[1] += operations
        totals[2] += 0 if isinstance(layer, WRITE_NOTHING) else output.numel()

    hooks = [layer.register_forward_hook(on_forward) for layer in model.modules() if _is_leaf(layer)]
    training = model.training
    try:
        parameters = list(model.parameters())
        like = parameters[0] if parameters else torch.zeros(())
        with torch.no_grad():
            model.eval()(torch.zeros((1,) + tuple(input_shape), device=like.device, dtype=like.dtype))
    finally:
        model.train(training)
        for hook in hooks:
            hook.remove()
    return Counts(sum(p.numel() for p in parameters), totals[0], 2 * totals[0], totals[1], totals[2])


def estimate(model: Any, example: torch.Tensor) -> Dict[str, int]:
    """Return what can be known of any module from one pass of `example` (a batch) through it; the rest is absent.

    parameters; macs and operations of convolutions, products of matrices and attention, as `macs` sees them called, or
    (before torch 1.13) by the rules here where they know every layer; activations where layers are modules of
    Python. The paper's rule is not applied: what is called as a function, not as a layer, would be left out of it.
    """
    found: Dict[str, int] = {}
    parameters = sum(parameter.numel() for parameter in model.parameters())
    scripted = isinstance(model, torch.jit.ScriptModule)
    if parameters or not scripted:  # a frozen script holds its numbers as constants
        found["parameters"] = parameters
    batch = example.shape[0]
    written = [0]

    def on_forward(layer: nn.Module, _: Any, output: Any) -> None:
        if isinstance(output, torch.Tensor) and not isinstance(layer, WRITE_NOTHING):
            written[0] += output.numel()

    leaves = [] if scripted else [layer for layer in model.modules() if _is_leaf(layer)]
    hooks = [layer.register_forward_hook(on_forward) for layer in leaves]
    try:
        with torch.no_grad():
            model(example)
    finally:
        for hook in hooks:
            hook.remove()
    total = _macs(model, example)
    if total:
        found.update(macs=total // batch, operations=2 * (total // batch))
    if written[0]:
        found["activations"] = written[0] // batch
    return found


def size_of(spec: Spec, model: Any, example: torch.Tensor, how: str = "") -> Dict[str, int]:
    """Return what is known of the loaded network of `spec`: from the table, by the rules here, or `estimate`.

    Raises `RefusedError` where it does not run (`how`, in words) on `example`, and what torch raises without memory.
    """
    if spec.kind == "ours" and spec.shape is None:
        return networks.size(spec.target)
    with explained(spec, example, how):
        if spec.kind == "ours":
            return dict(count(model, tuple(example.shape[1:]))._asdict())
        return estimate(model, example)


@contextlib.contextmanager
def explained(spec: Spec, example: Any, how: str = "", hint: str = "") -> Iterator[None]:
    """Turn an error of a network's first run into a refusal that names the input; no memory stays what it is."""
    try:
        yield
    except RefusedError:
        raise
    except Exception as error:
        if is_out_of_memory(error):
            raise
        text = "%s does not run%s on an input of %s" % (spec.text, how, "x".join(map(str, example.shape)))
        if not hint and spec.shape is None and not how:
            hint = " (its input's size is written after it, as @3x32x32)"
        raise RefusedError("failed", "%s: %s%s" % (text, one_line(error), hint)) from error


def _macs(model: Any, example: torch.Tensor) -> int:
    """Return the multiply-accumulates of `example`'s way through `model`, 0 where they cannot be counted."""
    try:
        found = macs.count(model, example)
        if found is None:
            found = int(count(model, tuple(example.shape[1:])).macs) * int(example.shape[0])
    except Exception as error:  # what ran without a counter does not run with it: then nothing is known
        if is_out_of_memory(error):
            raise
        return 0
    return found


def _is_leaf(layer: nn.Module) -> bool:
    return next(layer.children(), None) is None


def count_network(name: str) -> Counts:
    """Count a network of the registry."""
    network = networks.get(name)
    shape = (3, network.input_px, network.input_px)
    if not hasattr(torch.device, "__enter__"):  # before torch 2.0
        return count(networks.build(name), shape)
    with torch.device("meta"):
        return count(networks.build(name), shape)
