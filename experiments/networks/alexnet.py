"""AlexNet (the BVLC reference: two groups, local response normalisation) and BN-AlexNet (two towers).

BN-AlexNet differs from the better known one-tower variants: grouped from the second convolution on, the third
included, and a batch normalisation after every layer but the last.
"""

from typing import List

from torch import nn

_CLASSES = 1000


def alexnet() -> nn.Module:
    """AlexNet for 3x227x227: Krizhevsky 2012 as in Caffe's bvlc_alexnet."""

    def norm() -> nn.Module:
        return nn.LocalResponseNorm(5, alpha=1e-4, beta=0.75, k=1.0)

    layers: List[nn.Module] = [
        nn.Conv2d(3, 96, 11, stride=4), nn.ReLU(inplace=True), norm(), nn.MaxPool2d(3, 2),
        nn.Conv2d(96, 256, 5, padding=2, groups=2), nn.ReLU(inplace=True), norm(), nn.MaxPool2d(3, 2),
        nn.Conv2d(256, 384, 3, padding=1), nn.ReLU(inplace=True),
        nn.Conv2d(384, 384, 3, padding=1, groups=2), nn.ReLU(inplace=True),
        nn.Conv2d(384, 256, 3, padding=1, groups=2), nn.ReLU(inplace=True), nn.MaxPool2d(3, 2),
        nn.Flatten(),
        nn.Linear(256 * 6 * 6, 4096), nn.ReLU(inplace=True), nn.Dropout(0.5),
        nn.Linear(4096, 4096), nn.ReLU(inplace=True), nn.Dropout(0.5),
        nn.Linear(4096, _CLASSES),
    ]  # fmt: skip
    return nn.Sequential(*layers)


def _conv(inputs: int, outputs: int, kernel: int, stride: int, padding: int, groups: int) -> List[nn.Module]:
    return [
        nn.Conv2d(inputs, outputs, kernel, stride, padding, groups=groups),
        nn.BatchNorm2d(outputs, eps=1e-3),
        nn.ReLU(inplace=True),
    ]


def _full(inputs: int, outputs: int) -> List[nn.Module]:
    return [
        nn.Dropout(0.5),
        nn.Linear(inputs, outputs),
        nn.BatchNorm1d(outputs, eps=1e-3),
        nn.ReLU(inplace=True),
    ]


def bn_alexnet() -> nn.Module:
    """BN-AlexNet for 3x224x224, in its grouped form."""
    layers = _conv(3, 96, 11, 4, 2, 1) + [nn.MaxPool2d(3, 2)]
    layers += _conv(96, 256, 5, 1, 2, 2) + [nn.MaxPool2d(3, 2)]
    layers += _conv(256, 384, 3, 1, 1, 2)
    layers += _conv(384, 384, 3, 1, 1, 2)
    layers += _conv(384, 256, 3, 1, 1, 2) + [nn.MaxPool2d(3, 2), nn.Flatten()]
    layers += _full(256 * 6 * 6, 4096) + _full(4096, 4096) + [nn.Linear(4096, _CLASSES)]
    return nn.Sequential(*layers)
