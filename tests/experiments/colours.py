"""A network whose right answers are known: it names the colour that fills an image. Imported as a factory."""

from __future__ import annotations

import torch
from torch import nn

from experiments.pictures import MEAN, STD

CLASSES = {
    "n01_black": (0, 0, 0),
    "n02_blue": (0, 0, 255),
    "n03_green": (0, 255, 0),
    "n04_red": (255, 0, 0),
    "n05_white": (255, 255, 255),
    "n06_yellow": (255, 255, 0),
}
"""In the order of their names, which is that of the network's outputs."""


class Colours(nn.Module):
    """The score of a class is minus the squared distance of the image's mean colour from the class's."""

    def __init__(self) -> None:
        super().__init__()
        shades = torch.tensor(list(CLASSES.values())) / 255
        shades = (shades - torch.tensor(MEAN)) / torch.tensor(STD)
        self.colour = nn.Linear(3, len(CLASSES))
        with torch.no_grad():
            self.colour.weight.copy_(2 * shades)
            self.colour.bias.copy_(-(shades**2).sum(1))

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return self.colour(images.mean((2, 3)))


def network() -> nn.Module:
    return Colours()


def broken() -> nn.Module:
    """One that gives no numbers."""
    model = Colours()
    with torch.no_grad():
        model.colour.bias.fill_(float("nan"))
    return model


def undecided() -> nn.Module:
    """One to which all classes are alike."""
    model = Colours()
    with torch.no_grad():
        model.colour.weight.zero_()
        model.colour.bias.zero_()
    return model
