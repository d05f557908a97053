"""ENet for ImageNet: variant V12 of Culurciello's note (20 Jun 2016, revised 18 Nov 2016), for 3x224x224."""

from typing import List

import torch
from torch import Tensor, nn
from torch.nn import functional


def _norm(channels: int) -> nn.Module:
    return nn.BatchNorm2d(channels, eps=1e-3)


class Initial(nn.Module):
    """A 3x3 convolution to 13 channels beside a pool of the image's own 3."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 13, 3, 2, 1)
        self.pool = nn.MaxPool2d(2, 2)
        self.after = nn.Sequential(_norm(16), nn.PReLU(16))

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.after(torch.cat([self.conv(x), self.pool(x)], 1))
        return out


class Bottleneck(nn.Module):
    """Squeeze, 3x3, expand; added to the input, which is pooled when `down` and padded with empty channels."""

    def __init__(self, inputs: int, outputs: int, inner: int, down: bool, dilation: int, dropout: float) -> None:
        super().__init__()
        first = nn.Conv2d(inputs, inner, 2, 2, bias=False) if down else nn.Conv2d(inputs, inner, 1, bias=False)
        self.main = nn.Sequential(
            first,
            _norm(inner),
            nn.PReLU(inner),
            nn.Conv2d(inner, inner, 3, padding=dilation, dilation=dilation),
            _norm(inner),
            nn.PReLU(inner),
            nn.Conv2d(inner, outputs, 1, bias=False),
            _norm(outputs),
            nn.Dropout2d(dropout),
        )
        self.pool = nn.MaxPool2d(2, 2) if down else None
        self.extra = outputs - inputs
        self.after = nn.PReLU(outputs)

    def forward(self, x: Tensor) -> Tensor:
        skip = x if self.pool is None else self.pool(x)
        if self.extra:
            skip = functional.pad(skip, (0, 0, 0, 0, 0, self.extra))
        out: Tensor = self.after(self.main(x) + skip)
        return out


# (outputs, whether it halves the picture, dilation) of the blocks after the first two stages' input of 16 channels.
_BLOCKS = [
    (64, True, 1),
    (128, False, 1),
    (128, False, 1),
    (256, True, 1),
    (256, False, 1),
    (256, False, 2),
    (512, True, 1),
    (512, False, 1),
    (512, False, 4),
    (1024, True, 1),
    (1024, False, 1),
    (1024, False, 8),
]


def enet() -> nn.Module:
    """ENet V12: twelve bottlenecks, the first of which does not squeeze its 16 inputs by four as the others do."""
    layers: List[nn.Module] = [Initial()]
    inputs = 16
    for index, (outputs, down, dilation) in enumerate(_BLOCKS):
        inner = outputs if index == 0 else outputs // 4
        layers.append(Bottleneck(inputs, outputs, inner, down, dilation, 0.01 if index < 5 else 0.1))
        inputs = outputs
    layers += [nn.AvgPool2d(7), nn.Flatten(), nn.Linear(1024, 1000)]
    return nn.Sequential(*layers)
