"""What the figures of Canziani, Paszke and Culurciello (arXiv 1605.07678) show, network by network. Pure.

No file of data was published with the paper. These are figures 1, 2 and 10 as the authors drew them, read back from
pictures in the history of their web site: V exact, from a vector figure; P measured off a bitmap (±0.05 G-Ops,
±0.03 %); D by arithmetic from another figure. Top-1 accuracies stand in `experiments.networks`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from experiments import networks

ARXIV = "arXiv 1605.07678"

MARGIN = 7.0
"""By how many percent, the text says, the newest ResNets and Inceptions lie above the rest, at least."""

BEST_OF_THE_REST = "VGG-19"
NEWEST = ("ResNet-34", "ResNet-50", "ResNet-101", "ResNet-152", "Inception-v3", "Inception-v4")
"""What may be meant by the newest: ResNet-18 lies below VGG-19."""

SAME = 0.02
"""What is plotted and what the network has are another network's where they differ by more, relatively."""


@dataclass(frozen=True)
class Plotted:
    """One network in figures 2 and 10: G-Ops, parameters in millions, density in % per million, how they were had."""

    gops: float
    mparams: float
    density: float
    flag: str


PLOTTED: Mapping[str, Plotted] = {
    "AlexNet": Plotted(2.26, 60.97, 0.8957, "V"),
    "BN-AlexNet": Plotted(1.3, 60.54, 0.9349, "V"),
    "BN-NIN": Plotted(2.52, 8.64, 7.2477, "V"),
    "ENet": Plotted(1.56, 5.86, 11.6724, "P(gops,top1) V(density) D(mparams)"),
    "GoogLeNet": Plotted(3.0, 6.99, 9.8283, "V"),
    "ResNet-18": Plotted(3.63, 11.69, 5.9512, "V/D"),
    "VGG-16": Plotted(30.97, 138.36, 0.5104, "V"),
    "VGG-19": Plotted(39.29, 143.67, 0.4924, "V"),
    "ResNet-34": Plotted(7.34, 21.8, 3.361, "V/D"),
    "ResNet-50": Plotted(8.21, 25.56, 2.973, "V/D"),
    "ResNet-101": Plotted(15.65, 44.6, 1.739, "V/D"),
    "ResNet-152": Plotted(23.1, 60.27, 1.2915, "P/D"),
    "Inception-v3": Plotted(11.45, 23.85, 3.2927, "V"),
    "Inception-v4": Plotted(18.43, 31.58, 2.5372, "P/D"),
}


def odd_operations(name: str) -> str:
    """Say where the operations or parameters that the paper plots are not the network's; empty where they are."""
    if name not in PLOTTED:
        return ""
    plotted, size = PLOTTED[name], networks.size(name)
    odd = [
        f"{shown:.2f} {unit} plotted, {counted:.2f} counted"
        for shown, counted, unit in (
            (plotted.gops, size["operations_opcounter2016"] * 1e-9, "G-Ops"),
            (plotted.mparams, size["parameters"] * 1e-6, "M parameters"),
        )
        if abs(counted / shown - 1) > SAME
    ]
    return "; ".join(odd)


def odd_density(name: str) -> str:
    """The same of the density."""
    if name not in PLOTTED:
        return ""
    shown, true = PLOTTED[name].density, networks.get(name).top1 / (networks.size(name)["parameters"] * 1e-6)
    return f"{shown:.2f} %/M plotted, {true:.2f} by its parameters" if abs(true / shown - 1) > SAME else ""


def margin(name: str) -> float | None:
    """By how many percent one of the newest networks lies above the best of the rest; None for any other."""
    if name not in NEWEST:
        return None
    return networks.get(name).top1 - networks.get(BEST_OF_THE_REST).top1


def odd_margin(name: str) -> str:
    """Say where the text's margin does not hold; empty where it does."""
    above = margin(name)
    return f"{above:+.2f} % on {BEST_OF_THE_REST}, not {MARGIN:g}" if above is not None and above < MARGIN else ""
