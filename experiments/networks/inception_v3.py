"""Inception-v3 (Szegedy et al., arXiv 1512.00567) without the auxiliary head, for 3x299x299."""

from torch import nn

from experiments.networks.branches import Branches, branch, conv_bn, pooled, shrink, split


def _grid_35(inputs: int, pool: int) -> nn.Module:
    return Branches(
        branch(inputs, (64, 1)),
        branch(inputs, (48, 1), (64, 5)),
        branch(inputs, (64, 1), (96, 3), (96, 3)),
        pooled(inputs, pool),
    )


def _grid_17(width: int) -> nn.Module:
    row, column = (1, 7), (7, 1)
    return Branches(
        branch(768, (192, 1)),
        branch(768, (width, 1), (width, row), (192, column)),
        branch(768, (width, 1), (width, column), (width, row), (width, column), (192, row)),
        pooled(768, 192),
    )


def _grid_8(inputs: int) -> nn.Module:
    return Branches(
        branch(inputs, (320, 1)),
        split(inputs, 384, (384, 1)),
        split(inputs, 384, (448, 1), (384, 3)),
        pooled(inputs, 192),
    )


def inception_v3() -> nn.Module:
    """Inception-v3."""
    return nn.Sequential(
        conv_bn(3, 32, 3, stride=2),
        conv_bn(32, 32, 3),
        conv_bn(32, 64, 3, padding=1),
        nn.MaxPool2d(3, 2),
        conv_bn(64, 80, 1),
        conv_bn(80, 192, 3),
        nn.MaxPool2d(3, 2),
        _grid_35(192, 32),
        _grid_35(256, 64),
        _grid_35(288, 64),
        Branches(shrink(288, (384, 3)), shrink(288, (64, 1), (96, 3), (96, 3)), nn.MaxPool2d(3, 2)),
        _grid_17(128),
        _grid_17(160),
        _grid_17(160),
        _grid_17(192),
        Branches(
            shrink(768, (192, 1), (320, 3)),
            shrink(768, (192, 1), (192, (1, 7)), (192, (7, 1)), (192, 3)),
            nn.MaxPool2d(3, 2),
        ),
        _grid_8(1280),
        _grid_8(2048),
        nn.AvgPool2d(8),
        nn.Flatten(),
        nn.Dropout(0.5),
        nn.Linear(2048, 1000),
    )
