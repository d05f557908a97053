"""The reference of a bench: what its supply promises of the readings that both channels are compared with. Pure."""

from __future__ import annotations

from instruments.e3645a.ratings import READ_BACK
from instruments.lab import Lab
from instruments.readback import ReadBack


def read_back_of(lab: Lab) -> ReadBack:
    """What lab.yaml says of the supply's readings (`supply.read_back`), else what the E364xA family promises."""
    own = lab.supply.read_back
    return READ_BACK if own is None else ReadBack(own.voltage.limits, own.current.limits)
