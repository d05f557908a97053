"""BN-NIN: network in network with batch normalisation, an average pool and a linear classifier (soumith's ninbn)."""

from typing import List

from torch import nn


def _block(inputs: int, outputs: int, kernel: int, stride: int, padding: int) -> List[nn.Module]:
    """A convolution and two 1x1 ones, each with bias, batch normalisation and ReLU."""
    layers: List[nn.Module] = []
    for conv in (
        nn.Conv2d(inputs, outputs, kernel, stride, padding),
        nn.Conv2d(outputs, outputs, 1),
        nn.Conv2d(outputs, outputs, 1),
    ):
        layers += [conv, nn.BatchNorm2d(outputs, eps=1e-3), nn.ReLU(inplace=True)]
    return layers


def bn_nin() -> nn.Module:
    """BN-NIN for 3x224x224."""
    layers = _block(3, 96, 11, 4, 5) + [nn.MaxPool2d(3, 2, 1)]
    layers += _block(96, 256, 5, 1, 2) + [nn.MaxPool2d(3, 2, 1)]
    layers += _block(256, 384, 3, 1, 1) + [nn.MaxPool2d(3, 2, 1)]
    layers += _block(384, 1024, 3, 1, 1) + [nn.AvgPool2d(7), nn.Flatten(), nn.Linear(1024, 1000)]
    return nn.Sequential(*layers)
