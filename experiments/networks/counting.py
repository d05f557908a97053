"""Counts of a network: parameters, multiply-accumulates, operations, and the 2016 torch-opCounter rule.

Counted from the layers' shapes while one image runs through the network; on torch's meta device where torch has it,
so that nothing is computed. A layer that no rule knows is an error, never a silent 0.
"""

from collections import namedtuple
from typing import Any, Callable, Dict, List, Tuple

import torch
from torch import nn

from experiments import networks

Counts = namedtuple("Counts", ["parameters", "macs", "operations", "operations_opcounter2016"])
Counts.__doc__ = """What one image costs.

parameters: all learnt numbers. macs: multiply-accumulates of convolutions and linear layers. operations: 2 a MAC.
operations_opcounter2016: the rule that the paper's authors counted by (apaszke/torch-opCounter), with grouped
convolutions counted right: 2 a MAC, 1 a bias, 1 a ReLU or PReLU, the window's area an output of a pool, and 0 for
normalisation, dropout, joining and padding. Additions of branches are left out (0.1-0.2 % of a ResNet).
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


def count(model: nn.Module, input_shape: Tuple[int, ...]) -> Counts:
    """Run one forward pass of `model` (shape without the batch) and count it, for one image.

    Raises `UnknownLayerError` for a layer without a rule, also when it does not run.
    """
    for layer in model.modules():
        if _is_leaf(layer) and type(layer) not in RULES:
            raise UnknownLayerError(
                "no counting rule for %s: add one to experiments.networks.counting.RULES" % type(layer).__name__
            )
    totals = [0, 0]

    def on_forward(layer: nn.Module, _: Any, output: torch.Tensor) -> None:
        macs, operations = RULES[type(layer)](layer, output)
        totals[0] += macs
        totals[1] += operations

    hooks = [layer.register_forward_hook(on_forward) for layer in model.modules() if _is_leaf(layer)]
    training = model.training
    try:
        parameters = list(model.parameters())
        device = parameters[0].device if parameters else torch.device("cpu")
        with torch.no_grad():
            model.eval()(torch.zeros((1, *input_shape), device=device))
    finally:
        model.train(training)
        for hook in hooks:
            hook.remove()
    return Counts(sum(p.numel() for p in parameters), totals[0], 2 * totals[0], totals[1])


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


def table() -> List[Dict[str, Any]]:
    """Return name, input, counts and the cited accuracy of every network, as plain values."""
    rows = []
    for network in networks.NETWORKS.values():
        counts = count_network(network.name)
        row: Dict[str, Any] = {"name": network.name, "input": network.input_px}
        row.update(counts._asdict())
        row.update(top1=network.top1, top1_source="%s [%s]" % (network.top1_source, network.top1_flag))
        row.update(notes=list(network.notes))
        rows.append(row)
    return rows
