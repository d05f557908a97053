"""Whether the board was fed with the voltage of lab.yaml: a knob of the supply is turned in a moment. Pure.

Energy and power are those of the voltage that was there, which the oscilloscope records. But a board takes another
current at another voltage, and the run says of itself that it was fed with `supply.voltage_v`.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from calibration.model import Calibration
from experiments.measure import Measured
from instruments.lab import Lab
from instruments.wording import counted

OTHER = "other-voltage"
"""Flag of a cell whose board was fed with another voltage than lab.yaml says."""

SHARE = 0.01
"""How far it may lie from that, beyond what the reference promises: set-points are good to 0.05 % and 10 mV."""


def away(cell: Measured, calibration: Calibration, lab: Lab) -> float:
    """Relative distance of a cell's mean voltage from the one that was set, 0 where that tells nothing.

    Where the voltage was compared with no reference, its gain is open by more than what is looked for.
    """
    gain, window, supply = calibration.voltage.gain, cell.window, lab.supply
    if window is None or math.isinf(gain.at):
        return 0.0
    volts = calibration.voltage.correct(window.mean_v, cell.data.at_s)
    lead_ohm = supply.lead_resistance_ohm or 0.0 if supply.sense == "local" else 0.0
    set_v = supply.voltage_v - lead_ohm * calibration.current.correct(window.mean_i, cell.data.at_s)
    limit = SHARE + (gain.limits.of(gain.at) / gain.at if gain.limits is not None else 0.0)
    return volts / set_v - 1 if abs(volts / set_v - 1) > limit else 0.0


def notes(others: Sequence[float], cells: int, lab: Lab) -> list[str]:
    """Say how many of a run's cells, and how far, lay `away` from the voltage that was set."""
    if not others:
        return []
    volts = lab.supply.voltage_v * (1 + max(others, key=abs))
    return [
        f"{len(others)} of {counted(cells, 'cell')} ran at another voltage than the {lab.supply.voltage_v:g} V of "
        f"supply.voltage_v ({OTHER}), the farthest at {volts:.4g} V: was the supply set at its front panel? Their "
        "energy is that at this voltage"
    ]
