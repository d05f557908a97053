"""Inception-v4 (Szegedy et al., arXiv 1602.07261, figs 3 to 9) for 3x299x299."""

from typing import List

from torch import nn

from experiments.networks.branches import Branches, branch, chain, conv_bn, pooled, shrink, split

_ROW, _COLUMN = (1, 7), (7, 1)


def _stem() -> List[nn.Module]:
    return [
        conv_bn(3, 32, 3, stride=2),
        conv_bn(32, 32, 3),
        conv_bn(32, 64, 3, padding=1),
        Branches(nn.MaxPool2d(3, 2), conv_bn(64, 96, 3, stride=2)),
        Branches(
            nn.Sequential(*chain(160, (64, 1)), conv_bn(64, 96, 3)),
            nn.Sequential(*chain(160, (64, 1), (64, _ROW), (64, _COLUMN)), conv_bn(64, 96, 3)),
        ),
        Branches(conv_bn(192, 192, 3, stride=2), nn.MaxPool2d(3, 2)),
    ]


def _a() -> nn.Module:
    return Branches(
        branch(384, (96, 1)),
        branch(384, (64, 1), (96, 3)),
        branch(384, (64, 1), (96, 3), (96, 3)),
        pooled(384, 96, count_include_pad=False),
    )


def _b() -> nn.Module:
    return Branches(
        branch(1024, (384, 1)),
        branch(1024, (192, 1), (224, _ROW), (256, _COLUMN)),
        branch(1024, (192, 1), (192, _COLUMN), (224, _ROW), (224, _COLUMN), (256, _ROW)),
        pooled(1024, 128, count_include_pad=False),
    )


def _c() -> nn.Module:
    return Branches(
        branch(1536, (256, 1)),
        split(1536, 256, (384, 1)),
        split(1536, 256, (384, 1), (448, (3, 1)), (512, (1, 3))),
        pooled(1536, 256, count_include_pad=False),
    )


def inception_v4() -> nn.Module:
    """Inception-v4."""
    layers = _stem() + [_a() for _ in range(4)]
    layers.append(Branches(shrink(384, (384, 3)), shrink(384, (192, 1), (224, 3), (256, 3)), nn.MaxPool2d(3, 2)))
    layers += [_b() for _ in range(7)]
    layers.append(
        Branches(
            shrink(1024, (192, 1), (192, 3)),
            shrink(1024, (256, 1), (256, _ROW), (320, _COLUMN), (320, 3)),
            nn.MaxPool2d(3, 2),
        )
    )
    layers += [_c() for _ in range(3)]
    layers += [nn.AvgPool2d(8), nn.Flatten(), nn.Dropout(0.2), nn.Linear(1536, 1000)]
    return nn.Sequential(*layers)
