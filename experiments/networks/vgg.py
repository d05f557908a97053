"""VGG-16 and VGG-19: configurations D and E of Simonyan and Zisserman, arXiv 1409.1556."""

from typing import List

from torch import nn


def _vgg(convolutions: List[int]) -> nn.Module:
    """Build a VGG for 3x224x224 with so many 3x3 convolutions before each of the five pools."""
    layers: List[nn.Module] = []
    inputs = 3
    for stage, count in enumerate(convolutions):
        width = min(64 << stage, 512)
        for _ in range(count):
            layers += [nn.Conv2d(inputs, width, 3, padding=1), nn.ReLU(inplace=True)]
            inputs = width
        layers.append(nn.MaxPool2d(2, 2))
    layers.append(nn.Flatten())
    inputs = 512 * 7 * 7
    for _ in range(2):
        layers += [nn.Linear(inputs, 4096), nn.ReLU(inplace=True), nn.Dropout(0.5)]
        inputs = 4096
    layers.append(nn.Linear(inputs, 1000))
    return nn.Sequential(*layers)


def vgg16() -> nn.Module:
    """VGG-16 (configuration D)."""
    return _vgg([2, 2, 3, 3, 3])


def vgg19() -> nn.Module:
    """VGG-19 (configuration E)."""
    return _vgg([2, 2, 4, 4, 4])
