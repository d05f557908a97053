"""What one image costs in each of the 14 networks, as counted by `counting`: known without torch. A test compares."""

from typing import Dict, NamedTuple

Size = NamedTuple(
    "Size",
    [
        ("parameters", int),
        ("macs", int),  # multiply-accumulates of convolutions and linear layers
        ("operations_opcounter2016", int),  # by the rule of the paper's counter, see `counting`
        ("activations", int),  # elements that layers write
    ],
)

SIZES: Dict[str, Size] = {
    "AlexNet": Size(60965224, 724406816, 1451233352, 1917032),
    "BN-AlexNet": Size(60541992, 649646624, 1301712968, 2098280),
    "BN-NIN": Size(8655336, 1259939840, 2524992360, 5791080),
    "ENet": Size(5861508, 779341568, 1564203496, 10990568),
    "GoogLeNet": Size(6998552, 1582671872, 3184604488, 8674632),
    "ResNet-18": Size(11689512, 1814073344, 3632287208, 7477736),
    "VGG-16": Size(138357544, 15470264320, 30973762536, 28642792),
    "VGG-19": Size(143667240, 19632062464, 39299967976, 31251944),
    "ResNet-34": Size(21797672, 3663761408, 7332917736, 11240936),
    "ResNet-50": Size(25557032, 4089184256, 8189884904, 32040424),
    "ResNet-101": Size(44549160, 7801405440, 15619445224, 47394280),
    "ResNet-152": Size(60192808, 11513626624, 23050209768, 66360808),
    "Inception-v3": Size(23834568, 5713216096, 11459931112, 29616552),
    "Inception-v4": Size(42679816, 12253974624, 24568145224, 50270920),
}
