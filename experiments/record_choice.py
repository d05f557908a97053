"""How long a record a run gets, and how a run is put together that no record holds. Pure."""

from __future__ import annotations

import math

from experiments.parts import CONSECUTIVE, LONG, STEADY
from experiments.plan import Method
from instruments.scope_facts import PRE_TRIGGER

GAIN_WINDOW_S = 2.0
"""Shortest record for the comparison with the supply, whose readings take 0.1 s each."""

FILL = 0.75
"""Share of the record that the measured loop is to fill; the rest is idle before and a margin after."""

MARGIN = 0.04
"""Share of the record kept free at its end when a loop that turns out slow is cut short."""

LEAST_BATCHES = 3.2
"""Batches that a record of a long run must hold, so that there is a whole one wherever it begins."""

RESERVE = 1.03
"""How much longer than asked for a long run is to last: it ends before a batch that might take it further."""


def record_for(method: Method, batches: int, batch_s: float, usual_s: float) -> tuple[float, str]:
    """The length of record for batches of a length, s, and how a run is put together that it does not hold.

    An empty text means that one record holds it.
    """
    needed_s = max(batches, 1.5) * batch_s / (1 - PRE_TRIGGER - MARGIN)
    if method.long_s is not None:
        needed_s = LEAST_BATCHES * batch_s
        if needed_s <= usual_s or method.long_batch == "longer-record":
            return (usual_s if needed_s <= usual_s else _longer(needed_s)), LONG
        return usual_s, CONSECUTIVE
    if needed_s <= usual_s:
        return usual_s, ""
    if method.long_batch == "longer-record":
        return _longer(needed_s), ""
    return usual_s, CONSECUTIVE if method.long_batch == "consecutive" else STEADY


def _longer(seconds: float) -> float:
    """The next 1-2-5 length of record that holds the seconds."""
    decade = 10.0 ** math.floor(math.log10(seconds))
    return next(m * decade for m in (1.0, 2.0, 5.0, 10.0) if m * decade >= seconds)
