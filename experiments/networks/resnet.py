"""ResNets (He et al., arXiv 1512.03385) with projection shortcuts (type B) and, in bottlenecks, the stride in the 3x3.

That place of the stride is fb.resnet.torch's, and the paper's; Caffe's original has it in the first 1x1.
"""

from typing import List, Optional

from torch import Tensor, nn


def _conv_bn(inputs: int, outputs: int, kernel: int, stride: int = 1) -> List[nn.Module]:
    return [
        nn.Conv2d(inputs, outputs, kernel, stride, padding=kernel // 2, bias=False),
        nn.BatchNorm2d(outputs),
    ]


class Residual(nn.Module):
    """relu(branch(x) + shortcut(x)); `shortcut` None is the identity."""

    def __init__(self, branch: List[nn.Module], shortcut: Optional[nn.Module]) -> None:
        super().__init__()
        self.branch = nn.Sequential(*branch)
        self.shortcut = shortcut
        self.relu = nn.ReLU(inplace=True)

    def forward(self, x: Tensor) -> Tensor:
        skip = x if self.shortcut is None else self.shortcut(x)
        out: Tensor = self.branch(x)
        out += skip
        out = self.relu(out)
        return out


def _basic(inputs: int, width: int, stride: int) -> List[nn.Module]:
    return _conv_bn(inputs, width, 3, stride) + [nn.ReLU(inplace=True)] + _conv_bn(width, width, 3)


def _bottleneck(inputs: int, width: int, stride: int) -> List[nn.Module]:
    layers = _conv_bn(inputs, width, 1) + [nn.ReLU(inplace=True)]
    layers += _conv_bn(width, width, 3, stride) + [nn.ReLU(inplace=True)]
    return layers + _conv_bn(width, 4 * width, 1)


def _resnet(blocks: List[int], bottleneck: bool) -> nn.Module:
    """Build a ResNet for 3x224x224 with `blocks` residual blocks in its four stages."""
    layers = _conv_bn(3, 64, 7, 2) + [nn.ReLU(inplace=True), nn.MaxPool2d(3, 2, 1)]
    inputs = 64
    for stage, count in enumerate(blocks):
        width = 64 << stage
        outputs = 4 * width if bottleneck else width
        for index in range(count):
            stride = 2 if stage > 0 and index == 0 else 1
            branch = (_bottleneck if bottleneck else _basic)(inputs, width, stride)
            project = stride > 1 or inputs != outputs
            shortcut = nn.Sequential(*_conv_bn(inputs, outputs, 1, stride)) if project else None
            layers.append(Residual(branch, shortcut))
            inputs = outputs
    layers += [nn.AvgPool2d(7), nn.Flatten(), nn.Linear(inputs, 1000)]
    return nn.Sequential(*layers)


def resnet18() -> nn.Module:
    """ResNet-18."""
    return _resnet([2, 2, 2, 2], False)


def resnet34() -> nn.Module:
    """ResNet-34."""
    return _resnet([3, 4, 6, 3], False)


def resnet50() -> nn.Module:
    """ResNet-50."""
    return _resnet([3, 4, 6, 3], True)


def resnet101() -> nn.Module:
    """ResNet-101."""
    return _resnet([3, 4, 23, 3], True)


def resnet152() -> nn.Module:
    """ResNet-152."""
    return _resnet([3, 8, 36, 3], True)
