"""GoogLeNet as in Caffe's bvlc_googlenet: 5x5 branches, local response normalisation, no auxiliary heads.

Szegedy et al., arXiv 1409.4842, table 1.
"""

from typing import List

from torch import nn

from experiments.networks.branches import Branches

# Inputs, then the widths of: 1x1 | 1x1 -> 3x3 | 1x1 -> 5x5 | pool -> 1x1; 0 marks a pool between the stages.
_MODULES = [
    (192, 64, 96, 128, 16, 32, 32),
    (256, 128, 128, 192, 32, 96, 64),
    (0,),
    (480, 192, 96, 208, 16, 48, 64),
    (512, 160, 112, 224, 24, 64, 64),
    (512, 128, 128, 256, 24, 64, 64),
    (512, 112, 144, 288, 32, 64, 64),
    (528, 256, 160, 320, 32, 128, 128),
    (0,),
    (832, 256, 160, 320, 32, 128, 128),
    (832, 384, 192, 384, 48, 128, 128),
]


def _conv(inputs: int, outputs: int, kernel: int, stride: int = 1) -> List[nn.Module]:
    return [nn.Conv2d(inputs, outputs, kernel, stride, kernel // 2), nn.ReLU(inplace=True)]


def _pool() -> nn.Module:
    return nn.MaxPool2d(3, 2, ceil_mode=True)


def _norm() -> nn.Module:
    return nn.LocalResponseNorm(5, alpha=1e-4, beta=0.75, k=1.0)


def _inception(inputs: int, one: int, three_in: int, three: int, five_in: int, five: int, pool: int) -> nn.Module:
    return Branches(
        nn.Sequential(*_conv(inputs, one, 1)),
        nn.Sequential(*_conv(inputs, three_in, 1), *_conv(three_in, three, 3)),
        nn.Sequential(*_conv(inputs, five_in, 1), *_conv(five_in, five, 5)),
        nn.Sequential(nn.MaxPool2d(3, 1, 1), *_conv(inputs, pool, 1)),
    )


def googlenet() -> nn.Module:
    """GoogLeNet for 3x224x224."""
    layers = _conv(3, 64, 7, 2) + [_pool(), _norm()]
    layers += _conv(64, 64, 1) + _conv(64, 192, 3) + [_norm(), _pool()]
    for widths in _MODULES:
        layers.append(_inception(*widths) if len(widths) == 7 else _pool())
    layers += [nn.AvgPool2d(7), nn.Flatten(), nn.Dropout(0.4), nn.Linear(1024, 1000)]
    return nn.Sequential(*layers)
