"""Pieces that the Inception families share: parallel branches joined by channel, and convolution + norm + ReLU."""

from typing import List, Tuple, Union

import torch
from torch import Tensor, nn

Size = Union[int, Tuple[int, int]]


class Branches(nn.Module):
    """Run each branch on the same input and concatenate the outputs along the channels."""

    def __init__(self, *branches: nn.Module) -> None:
        super().__init__()
        self.branches = nn.ModuleList(branches)

    def forward(self, x: Tensor) -> Tensor:
        return torch.cat([branch(x) for branch in self.branches], 1)


def conv_bn(inputs: int, outputs: int, kernel: Size, stride: int = 1, padding: Size = 0) -> nn.Module:
    """Convolution without bias, batch normalisation (eps 1e-3), ReLU."""
    return nn.Sequential(
        nn.Conv2d(inputs, outputs, kernel, stride, padding, bias=False),
        nn.BatchNorm2d(outputs, eps=1e-3),
        nn.ReLU(inplace=True),
    )


def chain(inputs: int, *steps: Tuple[int, Size]) -> List[nn.Module]:
    """Return `conv_bn`s in a row, each (outputs, kernel), that keep the picture's size."""
    layers: List[nn.Module] = []
    for outputs, kernel in steps:
        rows, columns = (kernel, kernel) if isinstance(kernel, int) else kernel
        layers.append(conv_bn(inputs, outputs, kernel, padding=(rows // 2, columns // 2)))
        inputs = outputs
    return layers


def branch(inputs: int, *steps: Tuple[int, Size]) -> nn.Module:
    """Return `chain` as one module."""
    return nn.Sequential(*chain(inputs, *steps))


def pooled(inputs: int, outputs: int, count_include_pad: bool = True) -> nn.Module:
    """Average pool 3x3 that keeps the size, then a 1x1 `conv_bn`."""
    pool = nn.AvgPool2d(3, 1, 1, count_include_pad=count_include_pad)
    return nn.Sequential(pool, conv_bn(inputs, outputs, 1))


def split(inputs: int, outputs: int, *before: Tuple[int, Size]) -> nn.Module:
    """Return a chain that ends in two parallel convolutions, 1x3 and 3x1, of `outputs` channels each."""
    layers = chain(inputs, *before)
    width = before[-1][0]
    return nn.Sequential(*layers, Branches(branch(width, (outputs, (1, 3))), branch(width, (outputs, (3, 1)))))


def shrink(inputs: int, *steps: Tuple[int, Size]) -> nn.Module:
    """Return a chain whose last step is a 3x3 of stride 2 without padding: steps, then (outputs, 3)."""
    layers = chain(inputs, *steps[:-1])
    width = steps[-2][0] if len(steps) > 1 else inputs
    return nn.Sequential(*layers, conv_bn(width, steps[-1][0], steps[-1][1], stride=2))
