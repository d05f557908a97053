"""The networks that can be measured: names, inputs, cited accuracies, and where each one is built.

Importable without torch (a network's module is imported when it is built) and on the board (Python 3.6,
torch 1.10). A new network is one `Network` here and one factory in a module of this package.
"""

import difflib
import importlib
from collections import OrderedDict
from typing import Any, Dict, Iterable, List, NamedTuple, Tuple

from experiments.networks import sizes

_PAPER = "Canziani, Paszke, Culurciello, arXiv 1605.07678, figs 1 and 2"
_ZAGORUYKO = "; the value of Zagoruyko's imagenet-validation.torch table"
_FB_RESNET = "; the single-crop value of fb.resnet.torch"

Network = NamedTuple(
    "Network",
    [
        ("name", str),
        ("input_px", int),  # side of the square, 3-channel input
        ("family", str),
        ("colour", str),  # of its points in figures, "#rrggbb", as in the paper
        ("factory", str),  # "module:function", within this package
        ("top1", float),  # cited top-1 accuracy [%], ImageNet validation, one centre crop
        # How the cited figure was had: V exact from the authors' vector figure, P measured off their bitmap
        # (±0.03 %), D by arithmetic from another figure.
        ("top1_flag", str),
        ("top1_source", str),
        ("notes", Tuple[str, ...]),  # where the paper's own figures for this network do not hold
    ],
)


class UnknownNetworkError(LookupError):
    """There is no network of that name; the message lists those there are."""


def _network(
    name: str,
    input_px: int,
    family: str,
    colour: str,
    factory: str,
    top1: float,
    flag: str,
    source: str,
    notes: Tuple[str, ...] = (),
) -> Network:
    return Network(name, input_px, family, "#" + colour, factory, top1, flag, _PAPER + source, notes)


_ALL = [
    _network(
        "AlexNet", 227, "AlexNet", "fd8d3c", "alexnet:alexnet", 54.61, "V", _ZAGORUYKO,
        ("the paper plots 2.26 G-Ops, counted as if its grouped convolutions were dense; the true count is 1.45",),
    ),
    _network("BN-AlexNet", 224, "AlexNet", "fecc5c", "alexnet:bn_alexnet", 56.60, "V", _ZAGORUYKO),
    _network("BN-NIN", 224, "NIN", "de2d26", "nin:bn_nin", 62.62, "V", _ZAGORUYKO),
    _network("ENet", 224, "ENet", "000000", "enet:enet", 68.4, "P", "; Culurciello's ImageNet variant V12"),
    _network(
        "GoogLeNet", 224, "Inception", "08519c", "googlenet:googlenet", 68.70, "V", "; BVLC GoogLeNet",
        ("the paper plots 3.00 G-Ops, those of a variant with 3x3 for 5x5; this network has 3.18",),
    ),
    _network("ResNet-18", 224, "ResNet", "7a0177", "resnet:resnet18", 69.57, "V/D", _FB_RESNET),
    _network("VGG-16", 224, "VGG", "006d2c", "vgg:vgg16", 70.62, "V", _ZAGORUYKO),
    _network("VGG-19", 224, "VGG", "74c476", "vgg:vgg19", 70.74, "V", _ZAGORUYKO),
    _network(
        "ResNet-34", 224, "ResNet", "c51b8a", "resnet:resnet34", 73.27, "V/D", _FB_RESNET,
        ("2.5 % above VGG-19: below the 7 % that the paper's text claims for the newest networks",),
    ),
    _network(
        "ResNet-50", 224, "ResNet", "f768a1", "resnet:resnet50", 75.99, "V/D", _FB_RESNET,
        ("5.3 % above VGG-19: below the 7 % that the paper's text claims for the newest networks",),
    ),
    _network(
        "ResNet-101", 224, "ResNet", "fa9fb5", "resnet:resnet101", 77.56, "V/D", _FB_RESNET,
        (
            "6.8 % above VGG-19: below the 7 % that the paper's text claims for the newest networks",
            "the paper's 44.60 M parameters count convolution biases, which this network does not have",
        ),
    ),
    _network(
        "ResNet-152", 224, "ResNet", "fcc5c0", "resnet:resnet152", 77.84, "P/D", _FB_RESNET,
        ("the paper's 60.27 M parameters count convolution biases, which this network does not have",),
    ),
    _network("Inception-v3", 299, "Inception", "6baed6", "inception_v3:inception_v3", 78.53, "V", _ZAGORUYKO),
    _network(
        "Inception-v4", 299, "Inception", "c6dbef", "inception_v4:inception_v4", 80.12, "P/D", "",
        ("the paper plots 31.58 M parameters and 18.43 G-Ops; the network has 42.68 M and 24.57",),
    ),
]  # fmt: skip

NETWORKS: Dict[str, Network] = OrderedDict((network.name, network) for network in _ALL)

# What of the paper's own findings its figures do not bear out.
NOTES: Dict[str, Tuple[str, ...]] = {
    "paper": (
        "its text puts the newest ResNets and Inceptions at least 7 % above the rest (VGG-19, 70.74 %); by its own "
        "figures that holds from ResNet-152 up (+7.1), not for ResNet-34 (+2.5), -50 (+5.3) and -101 (+6.8)",
    ),
}

# Named groups, in the paper's order (by accuracy).
SETS: Dict[str, Tuple[str, ...]] = {"paper": tuple(NETWORKS)}


def get(name: str) -> Network:
    """Return the network called `name`, in upper or lower case; raises `UnknownNetworkError`."""
    by_lower = {known.lower(): network for known, network in NETWORKS.items()}
    network = by_lower.get(name.strip().lower())
    if network is not None:
        return network
    near = difflib.get_close_matches(name.strip().lower(), by_lower, 1, 0.5)
    hint = "; did you mean %s?" % by_lower[near[0]].name if near else ""
    raise UnknownNetworkError("unknown network %r%s (known: %s)" % (name, hint, ", ".join(NETWORKS)))


def resolve(names: Iterable[str]) -> List[str]:
    """Return the proper names of networks and sets (such as "paper"), each once, in the order given."""
    found: Dict[str, None] = OrderedDict()
    for name in names:
        for member in SETS.get(name.strip().lower(), (name,)):
            found[get(member).name] = None
    return list(found)


def size(name: str) -> Dict[str, int]:
    """Return parameters, macs, operations (2 a MAC), operations_opcounter2016 and activations, per image; no torch.

    Raises `UnknownNetworkError`.
    """
    row = sizes.SIZES[get(name).name]
    return dict(row._asdict(), operations=2 * row.macs)


def notes(names: Iterable[str]) -> List[Tuple[str, str]]:
    """Return (name, note) for the networks among `names` of which the paper's figures do not hold, in their order.

    What concerns the findings of a whole set comes last, where all its members are named.
    """
    named = [name for name in names if name in NETWORKS]
    found = [(name, note) for name in named for note in NETWORKS[name].notes]
    whole = [name for name, members in SETS.items() if set(members) <= set(named)]
    return found + [(name, note) for name in whole for note in NOTES.get(name, ())]


def build(name: str) -> Any:
    """Return a new torch module of the network, with torch's default random weights. Imports torch."""
    module, _, function = get(name).factory.partition(":")
    return getattr(importlib.import_module(__name__ + "." + module), function)()
